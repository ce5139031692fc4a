//! Votes from elsewhere. There is no keeper yet: another coordinator with another secret takes its place, and lists are what it would
//! hand over.

use super::super::merge::ATTEMPT_MAX;
use super::*;
use crate::protocol::{checkpoint::Authors, trust::Prefix};

const UNITS: u32 = 400;
const WORKERS: [u8; 6] = [1, 2, 3, 4, 5, 6];

fn collected(vote: Vote) -> Collected {
    Collected { vote, output: Output::Held }
}

/// An honest worker's vote as a keeper hands it over, at this place.
fn vote(worker: u8, unit: u32, position: u32, said: u8) -> Vote {
    let (attempt, origin) = (Attempt(position), Origin::Leased);
    let (unit, platform, proof) = (UnitIndex(unit), Platform::X86_64, Arc::from([1]));
    Vote {
        unit,
        worker: key(worker),
        attempt,
        ordinal: position,
        position,
        platform,
        value: value(said),
        output_bytes: 4,
        origin,
        rests_on: Authors::NONE,
        proof,
    }
}

fn merge(desk: &mut Desk, votes: impl IntoIterator<Item = Vote>) -> Merged {
    let merged = desk.owner.merge(desk.now, JOB, votes.into_iter().map(collected).collect());
    desk.take();
    merged
}

fn verified(desk: &Desk, units: u32) -> BTreeMap<u32, Value> {
    let views = desk.owner.unit_views(JOB, UnitIndex(0), units as usize);
    views.iter().filter(|view| view.state == UnitState::Verified).map(|view| (view.unit.0, view.value.unwrap())).collect()
}

/// What a keeper collects of proven workers while the owner is away, up to so many votes. The last worker lies where it votes first.
fn keep(votes: usize) -> Vec<Vote> {
    let mut keeper = Desk::new(&WORKERS);
    keeper.owner.submit(JOB, Arc::new(manifest(UNITS, Policy::Standard)), JobSecret([77; 32]));
    keeper.take();
    for worker in WORKERS {
        keeper.worker(worker, 4);
    }
    for _ in 0..votes {
        if keeper.leases.is_empty() {
            break;
        }
        let (worker, lease) = keeper.leases.remove(0);
        keeper.answer(worker, &lease, if worker == 6 && lease.unit.0 % 7 == 3 { 6 } else { 7 });
    }
    let vote = |fact: Fact| match fact {
        Fact::Vote(_, vote) => Some(Vote { proof: Arc::from([1]), ..vote }),
        _ => None,
    };
    keeper.facts.into_iter().filter_map(vote).collect()
}

#[test]
fn case_18_after_keepers_that_lied_and_died_the_owner_accepts_what_it_would_have_accepted_itself() {
    let honest = keep(700);
    let died = honest[..honest.len() / 3].to_vec();
    // It withholds, repeats, speaks for others, moves votes to places that they never had and hands them over backwards.
    let mut lies: Vec<Vote> = honest.iter().skip(50).step_by(2).cloned().collect();
    lies.reverse();
    let bent: Vec<Vote> = honest[..40].iter().map(|vote| Vote { position: u32::MAX, ..vote.clone() }).collect();
    let in_own_name: Vec<Vote> = (0..20).map(|unit| vote(ME, unit, 0, 6)).collect();
    let unsigned: Vec<Vote> = (0..10).map(|unit| Vote { proof: Arc::from([]), ..vote(2, unit, 0, 6) }).collect();
    let nowhere = vote(1, UNITS, 0, 7);

    let away = |desk: &mut Desk| desk.pass(Duration::from_secs(12 * 3600));
    let mut desk = Desk::new(&WORKERS).submit(UNITS);
    away(&mut desk);
    let refused = merge(&mut desk, lies.clone().into_iter().chain(bent).chain(in_own_name).chain(unsigned).chain([nowhere])).refused;
    let expected = [(MergeRejected::UnknownUnit, 1), (MergeRejected::InOwnName, 20), (MergeRejected::Unsigned, 10)];
    assert_eq!(refused, expected.into_iter().chain([(MergeRejected::Implausible, 40)]).collect());
    merge(&mut desk, died.clone());
    let last = merge(&mut desk, honest.clone());
    assert_eq!(last.taken + last.known, honest.len() as u32);
    assert_eq!(merge(&mut desk, honest.clone()), Merged { known: honest.len() as u32, ..Merged::default() });
    let accepted = verified(&desk, UNITS);

    // The same votes, had the owner taken them itself.
    let mut alone = Desk::new(&WORKERS).submit(UNITS).saved(0, UNITS);
    alone.standings = WORKERS.map(|worker| (key(worker), proven())).to_vec();
    alone.jobs[0].votes = honest.clone();
    let alone = Desk::restored(alone);
    let alone = verified(&alone, UNITS);
    let votes_for = |unit: u32| honest.iter().filter(|vote| vote.unit.0 == unit && vote.value == value(7)).count();
    let audited_more = |unit: &u32| (0.05..0.10).contains(&SECRET.audit_number(UnitIndex(*unit))) && votes_for(*unit) < 3;
    assert!(alone.len() > 200 && alone.keys().any(audited_more), "{} verified", alone.len());
    let expected: BTreeMap<u32, Value> = alone.into_iter().filter(|(unit, _)| !audited_more(unit)).collect();
    assert_eq!(accepted, expected);
    assert!(accepted.values().all(|verified| *verified == value(7)));
    assert!(desk.job().counts.disputed > 0, "proven workers disagree where one lied");
    desk.worker(ME, 4);
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(desk.owner.trust().standing(key(6)).strikes, 1, "the worker that lied is found out all the same");
    assert_eq!((desk.job().state, verified(&desk, UNITS).len()), (JobState::Done, UNITS as usize));
}

#[test]
fn in_whatever_order_lists_come_the_same_is_accepted_in_the_end() {
    let honest = keep(600);
    let mut results = BTreeSet::new();
    for seed in 0..8 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut desk = Desk::new(&WORKERS).submit(UNITS);
        let mut drawn: Vec<_> = honest.iter().map(|vote| (rand_chacha::rand_core::Rng::next_u32(&mut rng), vote.clone())).collect();
        drawn.sort_by_key(|(number, _)| *number);
        for part in drawn.chunks(97) {
            merge(&mut desk, part.iter().map(|(_, vote)| vote.clone()));
        }
        results.insert(verified(&desk, UNITS).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(results.len(), 1);
}

#[test]
fn whatever_order_a_keeper_claims_votes_that_depend_on_one_another_count_once() {
    for (rule, prefix, lineage) in [("one network", Some(Prefix(5)), None), ("one lineage", None, Some(key(9)))] {
        let mut desk = Desk::new(&[1, 2]).submit(1);
        for worker in [1, 2] {
            desk.owner.meet(key(worker), prefix, lineage, false);
        }
        merge(&mut desk, [vote(1, 0, 0, 7), vote(2, 0, 1, 7)]);
        assert_eq!(desk.state(0), UnitState::AwaitingVote, "{rule}");
    }
    let mut desk = Desk::new(&[1]).submit(3);
    let twice = merge(&mut desk, [vote(1, 0, 0, 7), vote(1, 0, 1, 7)]);
    assert_eq!((twice.known, desk.state(0)), (1, UnitState::AwaitingVote), "one key");
    let same_place = [vote(1, 1, 0, 7), Vote { position: 0, ..vote(8, 1, 0, 7) }];
    merge(&mut desk, same_place);
    assert_eq!(desk.state(1), UnitState::AwaitingVote, "leased side by side");
    merge(&mut desk, [vote(8, 2, 0, 7), vote(9, 2, 1, 7)]);
    assert_ne!(desk.state(2), UnitState::Verified, "nobody proven");
    let backwards = Vote { ordinal: 3, position: 1, ..vote(1, 0, 1, 7) };
    assert_eq!(merge(&mut desk, [backwards]).refused, [(MergeRejected::Implausible, 1)].into());
}

#[test]
fn what_a_keeper_collected_adds_to_nobodys_record() {
    let mut desk = Desk::new(&[1, 2]).submit(30);
    merge(&mut desk, (0..30).flat_map(|unit| [vote(1, unit, 0, 7), vote(8, unit, 1, 7)]));
    assert_eq!(verified(&desk, 30).len(), 0, "a keeper could have made up the newcomer, and be the other one itself");
    desk.worker(2, 30);
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(verified(&desk, 30).len(), 30, "beside a vote that was taken here it counts");
    assert_eq!(desk.owner.trust().standing(key(8)).verified_units, 0, "a keeper could have told it what the other said");
}

#[test]
fn whoever_contradicts_itself_in_two_lists_is_convicted_and_shown_to_others() {
    let mut desk = Desk::new(&[1, 2]).submit(2);
    merge(&mut desk, [vote(1, 0, 0, 7), vote(1, 1, 0, 7)]);
    let again = merge(&mut desk, [vote(1, 0, 0, 6)]);
    assert_eq!(again.refused, [(MergeRejected::Contradicts, 1)].into());
    assert_eq!((desk.owner.trust().standing(key(1)).strikes, &*desk.accused), (1, &[(1, 0, true)][..]));
}

#[test]
fn no_vote_from_elsewhere_takes_the_numbers_of_later_attempts() {
    let mut desk = Desk::new(&[1, 2, 3, 4]).submit(1);
    let last = |number: u32| Vote { attempt: Attempt(number), ..vote(1, 0, 0, 7) };
    assert_eq!(merge(&mut desk, [last(u32::MAX)]).refused, [(MergeRejected::Implausible, 1)].into());
    desk.owner.begin_recovery_from_elsewhere(desk.now, JOB);
    let Vote { unit, ordinal, rests_on, platform, value, output_bytes, proof, .. } = last(0);
    let (attempt, token, output) = (Attempt(u32::MAX), LeaseToken([9; 16]), Output::Held);
    let receipt = Recovered { unit, attempt, ordinal, token, rests_on, value, output_bytes, output, platform, proof };
    let recovered = desk.owner.recover(desk.now, key(1), JOB, vec![receipt]);
    assert_eq!(recovered.refused, [(MergeRejected::Implausible, 1)].into());
    assert_eq!(merge(&mut desk, [last(ATTEMPT_MAX)]).taken, 1);
    // Two leases of the unit at once are two.
    desk.pass(Duration::from_secs(10));
    desk.worker(2, 1);
    desk.worker(3, 1);
    desk.pass(Duration::from_secs(3600));
    desk.pass(Duration::from_secs(3600));
    let attempts: BTreeSet<Attempt> = desk.leases.iter().map(|(_, lease)| lease.attempt).collect();
    assert!(desk.leases.len() > 1 && attempts.len() == desk.leases.len(), "{:?}", desk.leases);
}

#[test]
fn newcomers_whom_a_keeper_collected_are_not_convicted_by_whom_it_chose_to_show() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    merge(&mut desk, [vote(8, 0, 0, 7), vote(9, 0, 1, 7), vote(1, 0, 2, 6), vote(2, 0, 3, 6)]);
    let strikes = |desk: &Desk| [8, 9, 1, 2].map(|worker| desk.owner.trust().standing(key(worker)).strikes);
    assert_eq!(strikes(&desk), [0; 4]);
    let found = OwnRun { unit: UnitIndex(0), value: value(7), output_bytes: 4, output: None, wall: Duration::from_millis(1) };
    assert!(desk.owner.checked(desk.now, JOB, found, Platform::X86_64));
    desk.take();
    assert_eq!(strikes(&desk), [0, 0, 1, 1], "the owner knows");
    let mut desk = Desk::new(&[1, 2]).submit(1);
    merge(&mut desk, [vote(8, 0, 0, 6)]);
    let found = OwnRun { unit: UnitIndex(0), value: value(7), output_bytes: 4, output: None, wall: Duration::from_millis(1) };
    assert!(desk.owner.checked(desk.now, JOB, found, Platform::X86_64));
    desk.take();
    assert_eq!(strikes(&desk)[0], 1);
}

#[test]
fn made_up_keys_fill_no_memory() {
    let mut desk = Desk::new(&[1]).submit(1);
    let merged = merge(&mut desk, (10..200).map(|worker| vote(worker, 0, 0, worker)));
    assert_eq!((merged.taken as usize, merged.refused[&MergeRejected::TooMany] as usize), (VOTES_PER_UNIT_MAX, 190 - VOTES_PER_UNIT_MAX));
}

/// What the workers of a desk would say again of what they said.
fn receipts(desk: &Desk, output: &Output) -> BTreeMap<u8, Vec<Recovered>> {
    let mut receipts: BTreeMap<u8, Vec<Recovered>> = BTreeMap::new();
    for fact in &desk.facts {
        let Fact::Vote(_, vote) = fact else { continue };
        let Vote { unit, worker, attempt, ordinal, rests_on, platform, value, output_bytes, .. } = *vote;
        let token = LeaseToken::make(&SECRET, JOB, unit, attempt, ordinal, worker);
        let (output, proof) = (output.clone(), Arc::from([1]));
        let receipt = Recovered { unit, attempt, ordinal, token, rests_on, value, output_bytes, output, platform, proof };
        receipts.entry(worker.0[0]).or_default().push(receipt);
    }
    receipts
}

/// A job that two proven workers have nearly finished, and that its owner then forgets but for its manifest and secret.
fn forgotten() -> Desk {
    let mut desk = Desk::new(&[1, 2]).submit(100);
    desk.worker(1, 4);
    desk.worker(2, 4);
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, 7);
    }
    desk
}

#[test]
fn case_19_all_is_rebuilt_from_what_the_workers_signed() {
    let before = forgotten();
    let accepted = verified(&before, 100);
    assert!(accepted.len() > 90);
    let mut desk = Desk::new(&[1, 2]).submit(100);
    // The second worker answers first.
    for (worker, receipts) in receipts(&before, &Output::Held).into_iter().rev() {
        let merged = desk.owner.recover(desk.now, key(worker), JOB, receipts.clone());
        assert_eq!((merged.taken as usize, merged.refused.len()), (receipts.len(), 0));
        let stolen = desk.owner.recover(desk.now, key(3), JOB, receipts);
        assert_eq!(stolen.refused.keys().copied().collect::<Vec<_>>(), [MergeRejected::NotLeased], "nobody takes another's");
    }
    desk.take();
    let rebuilt = verified(&desk, 100);
    let audited_more = |unit: &u32| (0.05..0.10).contains(&SECRET.audit_number(UnitIndex(*unit)));
    assert_eq!(rebuilt, accepted.into_iter().filter(|(unit, _)| !audited_more(unit)).collect());
    // What is left needs a third voter.
    desk.worker(5, 100);
    let left: BTreeSet<u32> = desk.leases.iter().map(|(_, lease)| lease.unit.0).collect();
    assert_eq!(left, (0..100).filter(|unit| SECRET.audit_number(UnitIndex(*unit)) < 0.10).collect());
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(desk.job().state, JobState::Done);
}

#[test]
fn outputs_that_nobody_has_any_more_are_computed_once_more_by_anybody() {
    let before = forgotten();
    let mut desk = Desk::new(&[1, 2]).submit(100);
    for (worker, receipts) in receipts(&before, &Output::Missing) {
        desk.owner.recover(desk.now, key(worker), JOB, receipts);
    }
    desk.take();
    assert_eq!(verified(&desk, 100).len(), 0, "nothing is verified that cannot be shown");
    let mut executions = 0;
    desk.worker(1, 4);
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        assert_eq!(worker, 1);
        executions += 1;
        desk.answer(worker, &lease, 7);
    }
    let audited = (0..100).filter(|unit| SECRET.audit_number(UnitIndex(*unit)) < 0.10).count();
    assert_eq!((verified(&desk, 100).len(), executions), (100 - audited, 100 - audited), "one execution each");
    desk.nothing_else();
}
