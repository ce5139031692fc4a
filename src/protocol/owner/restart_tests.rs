//! What is rebuilt from facts, whenever the owner died and in whatever order they come.

use super::*;

#[test]
fn a_restart_leases_only_what_is_undecided_and_late_results_still_count() {
    let mut desk = Desk::new(&[1, 2]).submit(50);
    desk.worker(1, 4);
    desk.worker(2, 4);
    for _ in 0..60 {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, 7);
    }
    let verified: BTreeSet<_> = desk.verdicts().iter().map(|(unit, _)| *unit).collect();
    assert!(verified.len() > 20);
    let mut saved = desk.saved(desk.facts.len(), 50);
    saved.standings.extend([(key(1), proven()), (key(2), proven())]);
    let under_way = desk.leases.remove(0);
    let mut desk = Desk::restored(saved);
    assert_eq!(desk.job().counts.verified as usize, verified.len());
    assert!(desk.facts.is_empty(), "nothing new is to be made durable: {:?}", desk.facts);
    desk.answer(under_way.0, &under_way.1, 7);
    desk.worker(1, 4);
    desk.worker(2, 4);
    while !desk.leases.is_empty() {
        let (worker, lease) = desk.leases.remove(0);
        assert!(!verified.contains(&lease.unit.0), "{} is verified", lease.unit);
        desk.answer(worker, &lease, 7);
    }
    let mut open = (0..50).filter(|&unit| desk.state(unit) != UnitState::Verified);
    assert!(open.all(|unit| SECRET.audit_number(UnitIndex(unit)) < 0.05), "but for audits, which nobody is left for");
}

#[test]
fn a_job_whose_end_was_not_durable_ends_after_the_restart() {
    let mut desk = Desk::new(&[1]).submit(1);
    desk.worker(ME, 1);
    let lease = desk.lease(ME);
    desk.answer(ME, &lease, 7);
    let decided = desk.facts.iter().position(|fact| matches!(fact, Fact::Verdict(..))).unwrap();
    let desk = Desk::restored(desk.saved(decided + 1, 1));
    assert_eq!(desk.facts, [Fact::JobState(JOB, JobState::Done)]);
    assert_eq!(desk.announced, 1);
    desk.nothing_else();
}

#[test]
fn a_conviction_that_was_not_durable_is_found_again_whenever_the_owner_died() {
    let mut desk = Desk::new(&[1, 2]).submit(2);
    desk.worker(1, 1);
    let first = desk.lease_of(1, 0);
    desk.answer(1, &first, 6);
    desk.leases.clear();
    desk.worker(ME, 1);
    while let Some(at) = desk.leases.iter().position(|(to, _)| *to == ME) {
        let (_, lease) = desk.leases.remove(at);
        desk.answer(ME, &lease, 7);
    }
    assert_eq!(desk.owner.trust().standing(key(1)).strikes, 1);
    let voted =
        desk.facts.iter().position(|fact| matches!(fact, Fact::Vote(_, vote) if vote.worker == key(ME) && vote.unit.0 == 0)).unwrap();
    for facts in voted + 1..=desk.facts.len() {
        let again = Desk::restored(desk.saved(facts, 2));
        assert_eq!(again.owner.trust().standing(key(1)).strikes, 1, "after {facts} facts");
        assert_eq!(again.owner.unit_views(JOB, UnitIndex(0), 1)[0].value, Some(value(7)), "after {facts} facts");
    }
}

#[test]
fn receipts_in_any_order_and_repeated_rebuild_the_same_job() {
    let mut desk = Desk::new(&[1, 2]).submit(60);
    desk.worker(1, 4);
    desk.worker(2, 4);
    desk.worker(3, 4);
    for _ in 0..80 {
        let (worker, lease) = desk.leases.remove(0);
        desk.answer(worker, &lease, if worker == 3 && lease.unit.0 % 5 == 1 { 6 } else { 7 });
    }
    let shown =
        |desk: &Desk| -> Vec<_> { desk.owner.unit_views(JOB, UnitIndex(0), 60).iter().map(|view| (view.state, view.value)).collect() };
    let saved = desk.saved(desk.facts.len(), 60);
    let first = Desk::restored(saved.clone());
    let (expected, facts) = (shown(&first), first.facts.len());
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..50 {
        let mut again = saved.clone();
        let votes = &mut again.jobs[0].votes;
        votes.extend(votes.clone());
        let mut drawn: Vec<_> = votes.drain(..).map(|vote| (rand_chacha::rand_core::Rng::next_u32(&mut rng), vote)).collect();
        drawn.sort_by_key(|(number, _)| *number);
        votes.extend(drawn.into_iter().map(|(_, vote)| vote));
        let verdicts = &mut again.jobs[0].verdicts;
        verdicts.reverse();
        let again = Desk::restored(again);
        assert_eq!((shown(&again), again.facts.len()), (expected.clone(), facts));
    }
}

#[test]
fn what_a_worker_said_after_its_quarantine_stands_after_a_restart() {
    let pardoned = Standing { strikes: 1, ..proven() };
    let standings = vec![(key(1), pardoned), (key(2), proven())];
    let mut desk = Desk::restored(Saved { jobs: vec![], standings: standings.clone(), ..Saved::default() }).submit(1);
    desk.pass(crate::protocol::trust::QUARANTINE);
    for worker in [1, 2] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(desk.state(0), UnitState::Verified);
    let mut saved = desk.saved(desk.facts.len(), 1);
    saved.standings = standings;
    let desk = Desk::restored(saved);
    assert_eq!((desk.job().state, desk.state(0)), (JobState::Done, UnitState::Verified));
    assert_eq!(desk.facts, []);
    desk.nothing_else();
}

#[test]
fn a_voter_loses_nothing_after_a_restart_that_its_record_never_had() {
    let mut desk = Desk::new(&[1]).submit(1);
    desk.worker(3, 1);
    let late = desk.lease(3);
    desk.owner.detach(desk.now, key(3));
    for worker in [5, 1] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, 7);
    }
    let units = |desk: &Desk, worker| desk.owner.trust().standing(key(worker)).verified_units;
    assert_eq!((units(&desk, 5), units(&desk, 1)), (1, 100), "only the newcomer is backed by someone proven");
    let mut saved = desk.saved(desk.facts.len(), 1);
    saved.standings.push((key(1), proven()));
    let mut desk = Desk::restored(saved);
    assert_eq!((units(&desk, 5), units(&desk, 1)), (1, 100));
    desk.answer(3, &late, 6);
    assert_eq!((desk.state(0), units(&desk, 5), units(&desk, 1)), (UnitState::Rechecking, 0, 100));
    desk.nothing_else();
}
