//! Who is convicted, who is asked for a vote, and what a liar can do to others.

use super::*;

#[test]
fn a_caught_liar_gets_nothing_more_and_what_it_vouched_for_is_judged_again_even_when_the_job_had_ended() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 7);
    desk.worker(2, 1);
    let lease = desk.lease(2);
    desk.answer(2, &lease, 7);
    assert_eq!(desk.job().state, JobState::Done);
    // It is caught in another job.
    let other = JobId([8; 32]);
    desk.owner.submit(other, Arc::new(manifest(1, Policy::Standard)), SECRET);
    let consequences = Consequences { convict: BTreeSet::from([key(2)]), ..Consequences::default() };
    let mut queue = VecDeque::new();
    desk.owner.apply(desk.now, other, consequences, &mut queue);
    assert_eq!(queue, [(JOB, UnitIndex(0))]);
    desk.owner.cancel(other);
    desk.owner.judge_all(desk.now, queue);
    desk.take();
    assert_eq!((desk.job().state, desk.state(0)), (JobState::Running, UnitState::Rechecking));
    assert_eq!(desk.verdicts().last(), Some(&(0, Verdict::Open)));
    assert_eq!(desk.owner.trust().standing(key(2)).strikes, 1);
    desk.owner.window(key(2), 5);
    desk.take();
    assert!(desk.leases.is_empty(), "neither the liar nor who voted already");
    desk.worker(3, 1);
    let lease = desk.lease(3);
    desk.answer(3, &lease, 7);
    assert_eq!(desk.job().state, JobState::Done);
    desk.nothing_else();
}

#[test]
fn proven_against_proven_is_decided_by_the_owner_and_the_liar_convicted() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let first = desk.lease(1);
    desk.answer(1, &first, 6);
    desk.worker(2, 1);
    let second = desk.lease(2);
    desk.answer(2, &second, 7);
    assert_eq!(desk.state(0), UnitState::Disputed);
    desk.worker(ME, 1);
    let mine = desk.lease(ME);
    desk.answer(ME, &mine, 7);
    assert_eq!(desk.verdicts(), [(0, Verdict::Verified { value: value(7), by_owner: true })]);
    let standing = |worker| desk.owner.trust().standing(key(worker));
    assert_eq!((standing(1).strikes, standing(1).verified_units), (1, 0));
    assert_eq!((standing(2).strikes, standing(2).verified_units), (0, 101));
    desk.nothing_else();
}

#[test]
fn whoever_shares_a_network_or_a_lineage_is_not_asked_for_the_second_vote() {
    let mut desk = Desk::new(&[1, 2, 3, 4]).submit(1);
    desk.owner.meet(key(1), Some(Prefix(5)), Some(key(77)), false);
    desk.owner.meet(key(2), Some(Prefix(5)), None, false);
    desk.owner.meet(key(3), Some(Prefix(6)), Some(key(77)), false);
    desk.owner.meet(key(4), Some(Prefix(6)), Some(key(1)), false);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 7);
    for worker in [2, 3, 4] {
        desk.worker(worker, 1);
    }
    assert_eq!(desk.leases, []);
    desk.worker(5, 1);
    let lease = desk.lease(5);
    desk.answer(5, &lease, 7);
    assert_eq!(desk.job().state, JobState::Done);
    desk.nothing_else();
}

#[test]
fn a_liars_claim_of_work_devalues_nobodys_record() {
    let mut desk = Desk::new(&[1, 2]).submit(10);
    desk.worker(3, 1);
    let lease = desk.lease(3);
    let greedy = Value { gas: u64::MAX, ..value(7) };
    desk.try_report(3, &lease, Outcome::Value(greedy)).unwrap();
    desk.leases.clear();
    desk.worker(1, 1);
    let lease = desk.lease_of(1, 0);
    desk.answer(1, &lease, 7);
    let view = &desk.owner.unit_views(JOB, UnitIndex(0), 1)[0];
    assert!(view.votes[1].proven && !view.votes[0].proven);
    desk.worker(2, 1);
    desk.leases.retain(|(to, _)| *to == 2);
    let lease = desk.lease_of(2, 0);
    desk.answer(2, &lease, 7);
    assert_eq!(desk.state(0), UnitState::Verified);
    assert_eq!(desk.owner.trust().standing(key(3)).strikes, 1);
}

#[test]
fn one_proven_worker_that_always_fails_makes_no_unit_fail_which_others_can_run() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(8);
    (1..=3).for_each(|worker| desk.worker(worker, 2));
    for _ in 0..1000 {
        while let Some((worker, lease)) = desk.leases.pop() {
            match worker {
                3 => desk.try_report(3, &lease, Outcome::Failed(AttemptFailure::Killed)).unwrap(),
                _ => desk.answer(worker, &lease, 7),
            }
        }
        if desk.job().state.has_ended() {
            break;
        }
        desk.pass(Duration::from_secs(1));
    }
    assert_eq!((desk.job().state, desk.job().counts.verified), (JobState::Done, 8));
    desk.nothing_else();
}

#[test]
fn a_unit_with_which_a_single_worker_always_fails_ends() {
    for (worker, failure, attempts) in [
        (1, AttemptFailure::TimeOut, 12),
        (1, AttemptFailure::Killed, 12),
        (5, AttemptFailure::TimeOut, 12),
        (ME, AttemptFailure::TimeOut, 3),
        (ME, AttemptFailure::Killed, 12),
    ] {
        let mut desk = Desk::new(&[1]).submit(1);
        desk.worker(worker, 1);
        for _ in 0..attempts {
            assert_eq!(desk.job().state, JobState::Running, "{worker} {failure:?}");
            let lease = desk.lease(worker);
            desk.try_report(worker, &lease, Outcome::Failed(failure)).unwrap();
        }
        assert_eq!(desk.job().state, JobState::Failed, "{worker} {failure:?}");
        desk.nothing_else();
    }
}

#[test]
fn a_unit_that_is_handed_back_is_leased_again_at_once_and_has_not_failed() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    // Killed for another reason, it counts.
    desk.try_report(1, &lease, Outcome::Failed(AttemptFailure::Killed)).unwrap();
    let once = Failures { count: 1, last: AttemptFailure::Killed };
    assert_eq!(desk.facts, [Fact::Failures(JOB, UnitIndex(0), once)]);
    let lease = desk.lease(1);
    desk.owner.window(key(1), 0);
    desk.worker(2, 1);
    assert!(desk.leases.is_empty(), "it is out");
    for _ in 0..2 {
        desk.try_report(1, &lease, Outcome::Failed(AttemptFailure::Killed)).unwrap();
    }
    assert_eq!(desk.lease(2).unit, lease.unit);
    assert_eq!(desk.facts.len(), 1, "nothing more is held against the unit");
    assert_eq!(desk.state(0), UnitState::Running);
    desk.nothing_else();
}

/// Workers with records of many small units, in this many of a size.
fn of_small_units(workers: core::ops::Range<u8>, size: u64) -> Desk {
    let standing = Standing { verified_gas: 100 * size, ..proven() };
    Desk::restored(Saved { standings: workers.map(|worker| (key(worker), standing)).collect(), ..Saved::default() })
}

/// Everybody votes who is asked; returns how many did.
fn all_vote(desk: &mut Desk, gas: u64) -> usize {
    let mut votes = 0;
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        desk.try_report(worker, &lease, Outcome::Value(Value { gas, ..value(7) })).unwrap();
        votes += 1;
    }
    votes
}

#[test]
fn where_units_are_much_larger_than_those_of_all_records_newcomers_agree_provisionally_and_not_everybody_is_asked() {
    let mut desk = of_small_units(1..41, GAS / 20).submit(1);
    (1..41).for_each(|worker| desk.worker(worker, 1));
    let first = all_vote(&mut desk, GAS);
    desk.pass(Duration::from_secs(10));
    assert_eq!(first + all_vote(&mut desk, GAS), 2);
    assert_eq!(desk.state(0), UnitState::Provisional);
    desk.worker(ME, 1);
    assert_eq!(all_vote(&mut desk, GAS), 1);
    assert_eq!(desk.state(0), UnitState::Verified);
}

#[test]
fn for_a_unit_much_larger_than_the_others_whoever_is_proven_for_that_is_asked_and_not_everybody_else() {
    let mut desk = of_small_units(1..41, GAS).submit(12);
    desk.worker(1, 12);
    while let Some(at) = desk.leases.iter().position(|(_, lease)| lease.unit.0 != 5) {
        let (worker, lease) = desk.leases.remove(at);
        desk.answer(worker, &lease, 7);
    }
    let huge = desk.lease(1);
    desk.worker(2, 12);
    all_vote(&mut desk, GAS);
    (3..6).for_each(|worker| desk.worker(worker, 1));
    all_vote(&mut desk, GAS);
    // One who lies about what it takes keeps nobody from saying otherwise.
    desk.try_report(1, &huge, Outcome::Value(Value { gas: u64::MAX, ..value(6) })).unwrap();
    (6..41).for_each(|worker| desk.worker(worker, 1));
    let asked = all_vote(&mut desk, 1000 * GAS);
    assert!((2..=3).contains(&asked) && desk.state(5) == UnitState::AwaitingVote, "{asked} {:?}", desk.state(5));
    desk.worker(ME, 1);
    all_vote(&mut desk, 1000 * GAS);
    assert_eq!(desk.state(5), UnitState::Verified);
}
