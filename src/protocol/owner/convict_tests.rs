//! Convictions by evidence, and the evidence that is shown to others.

use super::*;

#[test]
fn a_wrong_receipt_is_shown_to_others() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(5, 1);
    let lease = desk.lease(5);
    desk.answer(5, &lease, 6);
    for worker in [1, 2] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, 7);
    }
    assert_eq!((desk.state(0), &*desk.accused), (UnitState::Verified, &[(5, 0, false)][..]));
    desk.nothing_else();
}

#[test]
fn what_depends_on_an_input_of_its_own_accuses_nobody_elsewhere() {
    let mut desk = Desk::new(&[1, 2]);
    let table = Manifest { inputs: Inputs::Table { units: 1, digest: Digest([4; 32]) }, ..manifest(1, Policy::Standard) };
    desk.owner.submit(JOB, Arc::new(table), SECRET);
    desk.take();
    for (worker, said) in [(5, 6), (1, 7), (2, 7)] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, said);
    }
    assert_eq!((desk.owner.trust().standing(key(5)).strikes, &*desk.accused), (1, &[][..]));
    desk.nothing_else();
}

#[test]
fn two_different_values_of_one_worker_for_one_unit_convict_it_whatever_the_truth_is() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    desk.worker(1, 1);
    let lease = desk.lease(1);
    desk.answer(1, &lease, 7);
    desk.answer(1, &lease, 7);
    assert_eq!(&*desk.accused, &[], "the same twice says nothing");
    desk.answer(1, &lease, 6);
    assert_eq!(&*desk.accused, &[(1, 0, true)]);
    assert_eq!(desk.owner.trust().standing(key(1)).strikes, 1);
    desk.answer(1, &lease, 5);
    assert_eq!(desk.owner.trust().standing(key(1)).strikes, 1, "its votes are struck already");
}

#[test]
fn a_conviction_from_elsewhere_reopens_what_the_convict_vouched_for_and_bars_it() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(2);
    for worker in [1, 2] {
        desk.worker(worker, 2);
        for unit in 0..2 {
            let at = desk.leases.iter().position(|(to, lease)| *to == worker && lease.unit.0 == unit);
            if let Some(at) = at {
                let (_, lease) = desk.leases.remove(at);
                desk.answer(worker, &lease, 7);
            }
        }
    }
    assert_eq!((desk.state(0), desk.state(1)), (UnitState::Verified, UnitState::Verified));
    assert!(desk.owner.could_convict(desk.now, key(1)) && !desk.owner.could_convict(desk.now, key(9)), "a stranger has nothing to lose");
    assert!(desk.owner.convict(desk.now, key(1)));
    desk.take();
    assert_eq!((desk.state(0), desk.state(1)), (UnitState::Rechecking, UnitState::Rechecking));
    assert!(!desk.owner.convict(desk.now, key(1)), "nothing more to lose");
    assert_eq!(&*desk.accused, &[], "what came from elsewhere is not said again");
    desk.worker(1, 4);
    assert!(desk.leases.iter().all(|(to, _)| *to != 1));
    let fact = desk.facts.iter().rev().find_map(|fact| match fact {
        Fact::Standing(peer, standing) if *peer == key(1) => Some(standing.strikes),
        _ => None,
    });
    assert_eq!(fact, Some(1), "and that is durable");
}

/// Two proven workers conspire against a newcomer; the owner's machine finds them out.
#[test]
fn whom_conspirators_had_convicted_is_acquitted_when_they_are_caught() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(1);
    for (worker, said) in [(5, 7), (1, 6), (2, 6)] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, said);
    }
    assert_eq!(desk.state(0), UnitState::Verified, "with what the conspirators say");
    assert_eq!(desk.owner.trust().standing(key(5)).strikes, 1);
    desk.owner.convict(desk.now, key(1));
    desk.take();
    desk.worker(3, 1);
    let lease = desk.lease(3);
    desk.answer(3, &lease, 7);
    desk.worker(ME, 1);
    let lease = desk.lease(ME);
    desk.answer(ME, &lease, 7);
    assert_eq!((desk.state(0), desk.owner.trust().standing(key(2)).strikes), (UnitState::Verified, 1));
    let standing = desk.owner.trust().standing(key(5));
    assert_eq!((standing.strikes, standing.verified_units), (0, 1), "and it is backed now");
    assert!(!desk.owner.trust().is_barred(key(5), desk.now));
}
