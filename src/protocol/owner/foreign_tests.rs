//! Adopted jobs, whose authors may be hostile.

use super::*;
use crate::protocol::keeping::Keepers;

const AUTHOR: u8 = 200;
const UNITS: u32 = 40;

fn saved(units: u32, votes: Vec<Vote>, verdicts: Vec<(UnitIndex, Verdict)>) -> SavedJob {
    SavedJob {
        id: JOB,
        manifest: Manifest { owner: key(AUTHOR), ..manifest(units, Policy::Standard) },
        secret: SECRET.0,
        state: JobState::Running,
        votes,
        verdicts,
        failures: vec![],
        findings: None,
        keepers: (1, Keepers { version: 1, peers: vec![key(ME)] }),
    }
}

/// A vote that the author says it has collected.
fn copied(worker: u8, unit: u32, position: u32, said: u8) -> Vote {
    let (attempt, origin) = (Attempt(position), Origin::Collected { output: true });
    let (unit, platform, proof) = (UnitIndex(unit), Platform::X86_64, Arc::from([1]));
    let (worker, value, rests_on) = (key(worker), value(said), crate::protocol::checkpoint::Authors::NONE);
    Vote { unit, worker, attempt, ordinal: position, position, platform, value, output_bytes: 4, origin, rests_on, proof }
}

fn verified(unit: u32, said: u8) -> (UnitIndex, Verdict) {
    (UnitIndex(unit), Verdict::Verified { value: value(said), by_owner: true })
}

fn adopt(mut desk: Desk, saved: SavedJob) -> Desk {
    assert!(desk.owner.adopt(desk.now, saved));
    desk.take();
    // Nothing is leased while workers may still hand in what they have.
    desk.pass(Duration::from_secs(10));
    desk
}

fn strikes(desk: &Desk, worker: u8) -> u32 {
    desk.owner.trust().standing(key(worker)).strikes
}

/// Lets whoever holds a lease answer, until nobody holds one.
fn work(desk: &mut Desk, said: impl Fn(u8, u32) -> u8) {
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, said(worker, lease.unit.0));
    }
}

#[test]
fn what_the_author_decided_stands_and_only_the_rest_is_leased() {
    let verdicts = (0..30).map(|unit| verified(unit, 7)).chain([(UnitIndex(30), Verdict::Failed)]).collect();
    let votes = (0..35).flat_map(|unit| [copied(1, unit, 0, 7), copied(2, unit, 1, 6)]).collect();
    let mut desk = adopt(Desk::new(&[]), saved(UNITS, votes, verdicts));
    let view = desk.job();
    assert_eq!((view.author, view.counts.verified, view.counts.by_owner, view.counts.failed), (Some(key(AUTHOR)), 30, 0, 1));
    assert_eq!([1, 2].map(|worker| strikes(&desk, worker)), [0, 0], "no vote is held against anybody where the author decided");
    desk.worker(ME, 4);
    let mut seen = BTreeSet::new();
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        assert!(seen.insert(lease.unit.0));
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(seen, (31..UNITS).collect());
    assert_eq!((desk.job().counts.verified, desk.job().state), (UNITS - 1, JobState::Failed));
    assert_eq!([1, 2].map(|worker| strikes(&desk, worker)), [0, 0], "the author may have run another engine");
    desk.worker(3, 4);
    assert!(desk.leases.is_empty());
}

#[test]
fn a_hostile_authors_friends_cannot_have_an_honest_peer_convicted() {
    // Proven in this job, since they know what its units are, two of them say the same wrong thing where the honest newcomer was right.
    let mut desk = adopt(Desk::new(&[]), saved(400, vec![], vec![]));
    desk.worker(ME, 1);
    for worker in [11, 12, 13] {
        desk.worker(worker, 8);
    }
    let victim = 20;
    for _ in 0..200 {
        let Some(at) = desk.leases.iter().position(|_| true) else { break };
        let (worker, lease) = desk.leases.remove(at);
        desk.answer(worker, &lease, 7);
    }
    desk.worker(victim, 400);
    let lies = |worker: u8, unit: u32| if worker != ME && worker != victim && unit % 2 == 1 { 6 } else { 7 };
    desk.owner.window(key(ME), 0);
    work(&mut desk, lies);
    let view = desk.job();
    println!("{:?} {:?}", view.counts, view.waiting);
    assert_eq!(strikes(&desk, victim), 0);
    assert_eq!((11..14).map(|worker| desk.owner.trust().standing(key(worker)).verified_units).sum::<u64>(), 0, "no record grows");
    let barred = desk.owner.jobs[&JOB].bars(key(victim), Platform::X86_64);
    assert!(barred, "they outvote it in this job, which is their author's");
}

#[test]
fn whoever_this_machine_leased_itself_and_found_wrong_itself_is_convicted_everywhere() {
    let mut desk = adopt(Desk::new(&[1]), saved(2, vec![copied(2, 1, 0, 6)], vec![]));
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 5);
    desk.worker(ME, 2);
    while let Some(at) = desk.leases.iter().position(|(to, _)| *to == ME) {
        let (_, lease) = desk.leases.remove(at);
        desk.answer(ME, &lease, 7);
    }
    assert_eq!((strikes(&desk, 1), strikes(&desk, 2)), (1, 0), "the other vote is only said to be one");
    assert!(desk.owner.jobs[&JOB].bars(key(2), Platform::X86_64), "it gets nothing more of this job all the same");
}

#[test]
fn workers_prove_themselves_in_an_adopted_job_for_that_job_and_after_a_restart_too() {
    let mut desk = adopt(Desk::new(&[]), saved(300, vec![], vec![]));
    desk.worker(ME, 1);
    for worker in [11, 12, 13, 14] {
        desk.worker(worker, 4);
    }
    work(&mut desk, |_, _| 7);
    assert_eq!(desk.job().state, JobState::Done);
    let by_owner = desk.job().counts.by_owner;
    assert!((20..250).contains(&by_owner), "{by_owner} of 300 by this machine");
    assert!(desk.facts.iter().all(|fact| !matches!(fact, Fact::Standing(_, standing) if standing.verified_units > 0)));
    let proven = |desk: &Desk| (11..15).filter(|worker| desk.owner.is_proven_for(key(*worker), JOB)).count();
    assert_eq!(proven(&desk), 4);
    let facts = desk.facts.len();
    let mut again = desk.saved(facts, 300);
    let job = &mut again.jobs[0];
    job.manifest.owner = key(AUTHOR);
    let desk = Desk::restored(again);
    assert_eq!((proven(&desk), desk.job().author, desk.job().counts.verified), (4, Some(key(AUTHOR)), 300));
}

#[test]
fn what_an_author_says_of_its_units_devalues_nobodys_record_in_own_jobs() {
    let mut desk = Desk::new(&[1]);
    let huge = Value { gas: u64::MAX / 4, ..value(7) };
    let verdicts = vec![(UnitIndex(0), Verdict::Verified { value: huge, by_owner: false })];
    desk = adopt(desk, saved(3, vec![], verdicts));
    let own = JobId([8; 32]);
    desk.owner.submit(own, Arc::new(manifest(3, Policy::Standard)), SECRET);
    assert!(desk.owner.attach(key(1), "v1", Platform::X86_64, 1));
    desk.owner.window(key(1), 1);
    let leased: Vec<_> =
        desk.owner.take_actions(desk.now).into_iter().filter(|action| matches!(action, OwnerAction::Lease { .. })).collect();
    assert!(matches!(leased[..], [OwnerAction::Lease { job, .. }] if job == own), "own jobs first: {leased:?}");
    assert_eq!(desk.owner.roster.proven_at_last(), 1);
}

#[test]
fn an_adopted_job_that_is_handed_back_leaves_nothing_behind() {
    let mut desk = adopt(Desk::new(&[1]), saved(20, vec![], vec![]));
    desk.worker(1, 4);
    assert!(!desk.leases.is_empty() && desk.owner.has_open_units());
    let begun = desk.leases[0].1.clone();
    let shown = desk.show(1, &begun, 500);
    assert!(!desk.owner.adopt(desk.now, saved(20, vec![], vec![])), "it is here already");
    assert!(desk.owner.forsake(JOB) && !desk.owner.forsake(JOB));
    desk.take();
    assert_eq!((&*desk.revoked, desk.owner.leased(), desk.owner.has_open_units()), (&[1][..], 0, false));
    assert_eq!(desk.dropped, [shown], "nor a checkpoint");
    let late = desk.leases.remove(0).1;
    assert!(desk.owner.job_view(JOB).is_none() && desk.owner.unit_views(JOB, late.unit, 1).is_empty());
    assert!(!desk.owner.adopt(desk.now, SavedJob { state: JobState::Done, ..saved(20, vec![], vec![]) }), "it has ended");
    let mut desk = desk.submit(5);
    assert!(!desk.owner.forsake(JOB), "its own");
    desk.take();
}

#[test]
fn what_others_leased_is_taken_from_workers_where_a_keeper_may_have_been() {
    let foreign = LeaseToken([9; 16]);
    let receipt = |unit: u32| Recovered {
        unit: UnitIndex(unit),
        attempt: Attempt(0),
        ordinal: 0,
        token: foreign,
        rests_on: crate::protocol::checkpoint::Authors::NONE,
        value: value(7),
        output_bytes: 4,
        output: Output::Held,
        platform: Platform::X86_64,
        proof: Arc::from([1]),
    };
    let recover = |desk: &mut Desk| desk.owner.recover(desk.now, key(1), JOB, vec![receipt(0), receipt(1)]);
    let refused = |reason| Merged { refused: [(reason, 2)].into(), ..Merged::default() };
    let mut desk = Desk::new(&[1]).submit(5);
    assert_eq!(recover(&mut desk), refused(MergeRejected::NotLeased));
    desk.owner.begin_recovery(desk.now, JOB);
    assert_eq!(recover(&mut desk), refused(MergeRejected::NotLeased));
    desk.owner.begin_recovery_from_elsewhere(desk.now, JOB);
    assert_eq!(recover(&mut desk).taken, 2);
    assert_eq!(recover(&mut desk).known, 2);
    let mut desk = adopt(Desk::new(&[1]), saved(5, vec![], vec![verified(0, 7)]));
    assert_eq!(recover(&mut desk), Merged { taken: 1, known: 1, ..Merged::default() }, "where the author decided nothing is wanted");
}
