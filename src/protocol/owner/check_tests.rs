//! What the owner's user had run here, beside all leases: it stands, as the own slots' values do.

use super::*;

fn run(unit: u32, said: u8) -> OwnRun {
    OwnRun { unit: UnitIndex(unit), value: value(said), output_bytes: 4, output: None, wall: Duration::from_millis(1) }
}

impl Desk {
    fn check(&mut self, run: OwnRun) -> bool {
        self.owner.checked(self.now, JOB, run, Platform::X86_64)
    }
}

#[test]
fn a_check_that_agrees_makes_a_unit_the_owners_own() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let first = desk.lease(1);
    desk.answer(1, &first, 7);
    desk.worker(2, 1);
    let second = desk.lease(2);
    desk.answer(2, &second, 7);
    assert_eq!((desk.job().counts.verified, desk.job().counts.by_owner), (1, 0));
    assert!(desk.check(run(0, 7)));
    desk.take();
    assert_eq!((desk.job().counts.verified, desk.job().counts.by_owner), (1, 1));
    assert_eq!(desk.verdicts().last(), Some(&(0, Verdict::Verified { value: value(7), by_owner: true })), "and it is durable");
    assert!(!desk.check(run(0, 8)), "said once");
    assert!(!desk.check(run(1, 8)), "no such unit");
    assert!([1, 2].iter().all(|worker| desk.owner.trust().standing(key(*worker)).strikes == 0));
}

#[test]
fn a_check_that_differs_convicts_and_reopens_what_rested_on_the_liars() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(2);
    for worker in [1, 2] {
        desk.worker(worker, 2);
        for unit in 0..2 {
            let lease = desk.lease_of(worker, unit);
            desk.answer(worker, &lease, 13);
        }
    }
    assert_eq!((desk.job().counts.verified, desk.job().state), (2, JobState::Done), "they lied alike");
    assert!(desk.check(run(0, 7)));
    desk.take();
    assert_eq!(desk.state(0), UnitState::Verified);
    assert_eq!(desk.state(1), UnitState::Rechecking, "both who vouched for it are caught");
    assert_eq!((desk.job().counts.by_owner, desk.job().state), (1, JobState::Running), "the job goes on");
    assert!([1, 2].iter().all(|worker| desk.owner.trust().standing(key(*worker)).strikes == 1));
    assert_eq!(desk.owner.trust().standing(key(3)).strikes, 0);
}

#[test]
fn a_check_settles_what_is_in_dispute_or_was_never_leased_and_a_late_vote_is_compared() {
    let mut desk = Desk::new(&[1, 2]).submit(2);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    assert!(desk.check(run(lease.unit.0, 7)), "while it is leased");
    assert!(desk.check(run(1 - lease.unit.0, 7)), "before it was leased");
    desk.take();
    assert_eq!((desk.job().counts.by_owner, desk.job().state), (2, JobState::Done));
    desk.answer(1, &lease, 9);
    assert_eq!(desk.owner.trust().standing(key(1)).strikes, 1, "it differs from what stands");
    assert_eq!(desk.job().counts.by_owner, 2);
}

#[test]
fn a_friend_made_later_carries_what_it_voted_on_and_a_restart_knows_it() {
    let mut desk = Desk::new(&[]).submit(1);
    for worker in [1, 2] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, 7);
    }
    assert_eq!(desk.state(0), UnitState::Provisional);
    assert!(desk.owner.befriend(desk.now, key(2), true));
    desk.take();
    assert_eq!((desk.state(0), desk.job().state), (UnitState::Verified, JobState::Done));
    let kept = desk.facts.iter().any(|fact| matches!(fact, Fact::Standing(peer, standing) if *peer == key(2) && standing.friend));
    assert!(kept, "{:?}", desk.facts);
    assert!(!desk.owner.befriend(desk.now, key(ME), true), "oneself needs no friend");
    assert!(desk.owner.befriend(desk.now, key(2), false));
    assert_eq!(desk.state(0), UnitState::Verified, "what was decided stays so");
}

#[test]
fn a_convicted_friend_is_no_anchor() {
    let mut desk = Desk::new(&[]).submit(1);
    assert!(desk.owner.befriend(desk.now, key(1), true));
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 9);
    assert!(desk.check(run(0, 7)));
    let standing = desk.owner.trust().standing(key(1));
    assert!(standing.friend && !standing.is_anchor(), "{standing:?}");
}
