//! Both sides of keeping alone.

use super::*;
use crate::protocol::{
    announce::{Announcement, JobOpen, Subject},
    fact::{JobState, Saved, Standing},
    ids::Digest,
    job::{Inputs, Policy, Reduce, UnitRange},
    outcome::UnitLimits,
    owner::Owner,
    platform::Platform,
    time::Instant,
    trust::Prefix,
    verify::JobSecret,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const ME: PeerId = PeerId([1; 32]);
const AUTHOR: PeerId = PeerId([2; 32]);
const OTHER: PeerId = PeerId([3; 32]);
const JOB: JobId = JobId([9; 32]);
const NOW: Instant = Instant(1_000_000);

fn key(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn manifest(owner: PeerId, units: u32) -> Arc<Manifest> {
    Arc::new(Manifest {
        owner,
        name: "job".into(),
        module: Digest([1; 32]),
        module_bytes: 100,
        args: vec![],
        inputs: Inputs::Range(UnitRange { start: 0, end: u64::from(units), per_unit: 1 }),
        limits: UnitLimits::default(),
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    })
}

fn kept(id: JobId, author: PeerId, peers: &[PeerId]) -> KeptJob {
    let keepers = Keepers { version: 1, peers: peers.to_vec() };
    KeptJob { id, manifest: manifest(author, 10), keepers, adopted: false, ended: false }
}

fn numbered(number: u16) -> JobId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    JobId(id)
}

fn open(sequence: u64, open_units: u32) -> Announcement {
    let open = JobOpen {
        job: JOB,
        generation: 0,
        module: Digest([0; 32]),
        purpose: String::new(),
        tags: vec![],
        memory_bytes: 0,
        open_units,
        priority: 0,
        contact: vec![],
    };
    Announcement { sequence, lifetime: Duration::from_secs(120), subject: Subject::JobOpen(open) }
}

fn closed(sequence: u64) -> Announcement {
    Announcement { subject: Subject::JobClosed { job: JOB, generation: 0 }, ..open(sequence, 0) }
}

fn keeper(peers: &[PeerId]) -> Keeper {
    Keeper::restore(NOW, ME, SILENCE, true, vec![kept(JOB, AUTHOR, peers)])
}

fn adopts(keeper: &mut Keeper, now: Instant) -> bool {
    !keeper.due(now, |_| false).is_empty()
}

#[test]
fn a_keeper_adopts_after_a_silence_for_each_that_comes_before_it() {
    for (peers, silences) in [(&[ME, OTHER][..], 1), (&[OTHER, ME], 2)] {
        let mut keeper = keeper(peers);
        let due = NOW.after(SILENCE * silences);
        assert_eq!(keeper.deadline(), Some(due));
        assert!(!adopts(&mut keeper, Instant(due.0 - 1)) && adopts(&mut keeper, due));
        assert!(keeper.adopt(JOB) && keeper.deadline().is_none());
        assert_eq!(keeper.generation(JOB), silences, "each has a number of its own");
        keeper.hand_back(due, JOB);
        assert_eq!(keeper.deadline(), Some(due.after(SILENCE * silences)), "it listens anew");
    }
}

#[test]
fn whoever_is_heard_is_not_replaced_and_what_is_said_again_is_not_heard() {
    let later = NOW.after(SILENCE / 2);
    let due_after = |hear: &dyn Fn(&mut Keeper)| {
        let mut keeper = keeper(&[ME, OTHER]);
        hear(&mut keeper);
        keeper.deadline().unwrap().since(NOW)
    };
    let (on_time, put_off) = (SILENCE, SILENCE + SILENCE / 2);
    assert_eq!(due_after(&|keeper| keeper.hear_author(later, AUTHOR)), put_off);
    assert_eq!(due_after(&|keeper| keeper.hear_author(later, OTHER)), on_time);
    assert_eq!(due_after(&|keeper| _ = keeper.hear(later, AUTHOR, &open(5, 3))), put_off);
    assert_eq!(due_after(&|keeper| _ = keeper.hear(later, OTHER, &open(5, 3))), put_off, "another keeper goes on with it");
    assert_eq!(due_after(&|keeper| _ = keeper.hear(later, OTHER, &open(5, 0))), on_time, "it has stepped down");
    assert_eq!(due_after(&|keeper| _ = keeper.hear(later, key(7), &open(5, 3))), on_time, "a stranger");
    let again = |keeper: &mut Keeper| {
        keeper.hear(NOW, AUTHOR, &open(5, 3));
        keeper.hear(later, AUTHOR, &open(5, 3));
        keeper.hear(later, AUTHOR, &open(4, 3));
    };
    assert_eq!(due_after(&again), on_time, "somebody repeats what the author said when it lived");
    assert!(due_after(&|keeper| _ = keeper.hear(later, OTHER, &closed(6))) > SILENCE * 100, "another keeper has finished it");
    let back = |keeper: &mut Keeper| {
        keeper.hear(NOW, OTHER, &closed(6));
        keeper.hear_author(later, AUTHOR);
    };
    assert_eq!(due_after(&back), put_off, "its author knows better");
    let mut ended = keeper(&[ME]);
    assert_eq!(ended.hear(NOW, AUTHOR, &closed(6)), Heard::Author(JOB));
    assert_eq!(ended.deadline(), None);
    ended.hear(NOW, AUTHOR, &open(7, 1));
    assert!(ended.deadline().is_some(), "it goes on after all");
}

#[test]
fn another_keeper_that_announces_and_decides_nothing_holds_nothing_up_for_ever() {
    let mut keeper = keeper(&[OTHER, ME]);
    let mut now = NOW;
    for number in 1.. {
        now = now.after(SILENCE);
        keeper.hear(now, OTHER, &open(number, 100));
        if adopts(&mut keeper, now) {
            break;
        }
        assert!(number < 100);
    }
    assert!(now.since(NOW) > SILENCE * 20);
}

/// Hours until a job is adopted although another keeper says this, each time with a higher number.
fn hours_held_up(say: impl Fn(u64) -> Announcement) -> u64 {
    let mut keeper = keeper(&[OTHER, ME]);
    let (mut now, mut number) = (NOW, 0);
    while !adopts(&mut keeper, now) {
        number += 1;
        keeper.hear(now, OTHER, &say(number));
        now = now.after(SILENCE);
        assert!(number < 100_000);
    }
    now.since(NOW).as_secs() / 3600
}

#[test]
fn nothing_that_another_keeper_says_holds_a_job_up_for_longer_than_a_week() {
    assert_eq!(hours_held_up(closed), 24, "that it has ended, again and again");
    assert_eq!(hours_held_up(|number| open(number, u32::MAX - number as u32)), 7 * 24, "that it has decided one unit more");
}

#[test]
fn an_author_that_is_back_before_the_job_is_loaded_keeps_it() {
    let mut keeper = keeper(&[ME]);
    let due = NOW.after(SILENCE);
    assert!(adopts(&mut keeper, due));
    assert!(!adopts(&mut keeper, due.after(SILENCE / 2)), "it is asked for once");
    keeper.hear_author(due.after(SILENCE / 2), AUTHOR);
    assert!(!keeper.adopt(JOB) && !keeper.get(JOB).unwrap().adopted);
    let next = keeper.deadline().unwrap();
    assert!(adopts(&mut keeper, next) && keeper.adopt(JOB));
    assert!(!keeper.adopt(numbered(1)), "nobody asked");
}

#[test]
fn what_is_kept_and_adopted_is_bounded_and_fair_per_author() {
    let mut keeper = Keeper::restore(NOW, ME, SILENCE, true, vec![]);
    let mut number = 0;
    for author in 10..=255 {
        while keeper.may_keep(key(author), numbered(number)).is_ok() {
            keeper.keep(NOW, kept(numbered(number), key(author), &[ME]));
            number += 1;
        }
        let expected = if usize::from(number) < KEPT_JOBS_MAX { KeepRefused::TooManyOfAuthor } else { KeepRefused::TooMany };
        assert_eq!(keeper.may_keep(key(author), numbered(number)), Err(expected));
    }
    assert_eq!(keeper.kept().count(), KEPT_JOBS_MAX);
    assert_eq!(keeper.may_keep(key(10), numbered(0)), Ok(()), "a new list of one that is kept");
    assert_eq!(keeper.may_keep(ME, numbered(0)), Err(KeepRefused::OwnJob));
    let due = NOW.after(SILENCE);
    assert_eq!(keeper.due(due, |_| false).len(), ADOPTED_JOBS_MAX);
    keeper.set_lending(false);
    assert_eq!(keeper.may_keep(key(9), numbered(9999)), Err(KeepRefused::NotLending));
    assert!(keeper.due(due.after(SILENCE * 2), |_| false).is_empty(), "it lends nothing now");
    let mut one = Keeper::restore(NOW, ME, SILENCE, true, (0..32).map(|job| kept(numbered(job), AUTHOR, &[ME])).collect());
    assert_eq!(one.due(due, |_| false).len(), ADOPTED_JOBS_PER_AUTHOR_MAX);
    let large = |number| KeptJob { manifest: manifest(key(number as u8), ADOPTED_UNITS_MAX), ..kept(numbered(number), AUTHOR, &[ME]) };
    let mut two = Keeper::restore(NOW, ME, SILENCE, true, vec![large(20), large(21)]);
    assert_eq!(two.due(due, |_| false).len(), 1);
}

/// An author with workers of these records attached; the job is submitted.
fn bench(workers: &[(u8, u64)]) -> Owner {
    let standing = |units| Standing { verified_units: units, verified_gas: units * 1000, ..Standing::default() };
    let standings = workers.iter().map(|(number, units)| (key(*number), standing(*units))).collect();
    let mut owner = Owner::new(NOW, ME, "v1".into(), Saved { standings, ..Saved::default() }, ChaCha8Rng::seed_from_u64(1));
    owner.submit(JOB, manifest(ME, 10), JobSecret([5; 32]));
    assert!(owner.attach(ME, "v1", Platform::X86_64, 4));
    for (number, _) in workers {
        assert!(owner.attach(key(*number), "v1", Platform::X86_64, 4));
    }
    owner
}

fn asked(steps: &[Step]) -> Vec<u8> {
    let keep = |step: &Step| match step {
        Step::Keep { to, .. } => Some(to.0[0]),
        _ => None,
    };
    steps.iter().filter_map(keep).collect()
}

#[test]
fn keepers_are_friends_then_those_with_the_longest_record_and_newcomers_last() {
    let mut owner = bench(&[(10, 0), (11, 30), (12, 90), (13, 60), (14, 0)]);
    owner.befriend(NOW, key(14), true);
    owner.meet(key(13), Some(Prefix(5)), None, false);
    owner.meet(key(12), Some(Prefix(5)), None, false);
    let mut author = Author::default();
    author.submitted(NOW, JOB, 9);
    let steps = author.take_steps(NOW, &owner);
    let list = |version, peers: &[u8]| Keepers { version, peers: peers.iter().map(|number| key(*number)).collect() };
    let persisted = |keepers: &Keepers| Step::Persist(Fact::Keepers(JOB, KEEPERS_MAX, keepers.clone()));
    let chosen = list(1, &[14, 12, 11]);
    assert_eq!(steps[..2], [persisted(&Keepers::default()), persisted(&chosen)], "durable before anybody is asked");
    assert_eq!(asked(&steps), [14, 12, 11], "the third is independent of the second, though its record is shorter");
    author.answered(NOW, key(14), JOB, true);
    assert_eq!(author.keepers(JOB), [(key(14), true), (key(12), false), (key(11), false)]);
    author.answered(NOW, key(12), JOB, false);
    let steps = author.take_steps(NOW, &owner);
    assert_eq!(asked(&steps).last(), Some(&13), "somebody else");
    assert!(steps.contains(&persisted(&list(3, &[14, 11, 13]))));
    owner.convict(NOW, key(11));
    author.attached(key(10));
    let steps = author.take_steps(NOW, &owner);
    assert!(steps.contains(&Step::Dismiss { to: key(11), job: JOB }), "{steps:?}");
    let later = NOW.after(Duration::from_secs(3));
    assert_eq!(asked(&author.take_steps(later, &owner)), [14, 13, 10], "newcomers a little later, when nobody better has come");
    author.attached(key(10));
    author.state(JOB, Some(JobState::Cancelled));
    let steps = author.take_steps(later, &owner);
    assert!(steps.contains(&Step::Dismiss { to: key(14), job: JOB }) && author.keepers(JOB).is_empty());
}

#[test]
fn who_lets_an_ended_job_go_costs_the_others_nothing() {
    let owner = bench(&[(11, 30), (12, 90)]);
    let mut author = Author::default();
    author.submitted(NOW, JOB, 2);
    assert_eq!(asked(&author.take_steps(NOW, &owner)), [12, 11]);
    for keeper in [11, 12] {
        author.answered(NOW, key(keeper), JOB, true);
    }
    author.state(JOB, Some(JobState::Done));
    author.answered(NOW, key(12), JOB, false);
    let steps = author.take_steps(NOW, &owner);
    assert!(steps.len() == 1 && asked(&steps).is_empty(), "the list alone: {steps:?}");
    author.state(JOB, Some(JobState::Running));
    assert_eq!(asked(&author.take_steps(NOW, &owner)), [11], "the new list, when it runs again");
}

#[test]
fn a_keeper_that_is_lost_may_come_back_and_else_is_replaced() {
    let owner = bench(&[(11, 30), (12, 90)]);
    let mut author = Author::default();
    author.submitted(NOW, JOB, 1);
    assert_eq!(asked(&author.take_steps(NOW, &owner)), [12]);
    author.answered(NOW, key(12), JOB, true);
    author.lost(NOW, key(12));
    assert_eq!((author.take_steps(NOW, &owner), author.keepers(JOB)), (vec![], vec![(key(12), false)]));
    author.attached(key(12));
    assert_eq!(author.take_steps(NOW, &owner), [Step::Recall { to: key(12), job: JOB }], "it may have gone on alone");
    author.handed_back(key(12), JOB);
    assert_eq!(asked(&author.take_steps(NOW, &owner)), [12]);
    author.answered(NOW, key(12), JOB, true);
    assert_eq!(author.keepers(JOB), [(key(12), true)]);
    // It is attached and cannot be asked, each time anew.
    let mut now = NOW;
    let mut recalls = 0;
    author.lost(now, key(12));
    loop {
        author.take_steps(now, &owner);
        now = author.deadline().expect("it is not given up");
        let steps = author.take_steps(now, &owner);
        if !asked(&steps).is_empty() {
            assert_eq!(asked(&steps), [11]);
            break;
        }
        assert_eq!(steps, [Step::Recall { to: key(12), job: JOB }]);
        recalls += 1;
        author.lost(now, key(12));
    }
    assert!((1..10).contains(&recalls), "{recalls}");
    author.attached(key(12));
    assert!(author.take_steps(now, &owner).contains(&Step::Recall { to: key(12), job: JOB }), "it may still have something");
    author.handed_back(key(12), JOB);
    assert_eq!(author.take_steps(now, &owner), [Step::Dismiss { to: key(12), job: JOB }]);
}

#[test]
fn after_a_restart_keepers_are_asked_before_anything_is_leased() {
    let owner = bench(&[(11, 30), (12, 90)]);
    let list = Keepers { version: 4, peers: vec![key(11), key(12)] };
    let restore = || Author::restore(NOW, [(JOB, 2, list.clone(), true)]);
    let recall = |number| Step::Recall { to: key(number), job: JOB };
    let (mut author, held) = restore();
    let until = held[0].1;
    assert_eq!(author.take_steps(NOW, &owner), [recall(11), recall(12)]);
    author.handed_back(key(12), JOB);
    assert_eq!(asked(&author.take_steps(NOW, &owner)), [12]);
    author.lost(NOW, key(11));
    assert_eq!(author.take_steps(NOW, &owner), [Step::AskWorkers(JOB), Step::Lease(JOB)]);
    // Those who answer nothing are waited for so long, and no longer.
    let (mut author, _) = restore();
    author.take_steps(NOW, &owner);
    assert_eq!(author.deadline(), Some(until));
    assert_eq!(author.take_steps(until, &owner), [Step::Lease(JOB)]);
    author.handed_back(key(11), JOB);
    assert_eq!(asked(&author.take_steps(until, &owner)), [11], "late is not too late");
    let (mut author, held) = Author::restore(NOW, [(JOB, 2, list.clone(), false)]);
    assert_eq!((author.take_steps(NOW, &owner), held), (vec![], vec![]), "it has ended");
}
