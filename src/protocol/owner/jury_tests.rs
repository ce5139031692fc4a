//! Disputes that are decided by many proven workers instead of the owner.

use super::*;
use crate::protocol::verify::JURY_LEAD;

const RIGHT: u8 = 7;
const WRONG: u8 = 6;
/// Who starts each quarrel: one lies, the other does not.
const LIAR: u8 = 1;
const HONEST: u8 = 2;
/// So many proven workers that one jury at a time may be asked.
const OTHERS: core::ops::Range<u8> = 10..80;

/// A coordinator with this many slots of its own, and proven voters who disagree on all of so many units.
fn quarrels(units: u32, own_slots: u32, others: core::ops::Range<u8>) -> Desk {
    let known: Vec<u8> = [LIAR, HONEST].into_iter().chain(OTHERS).collect();
    let mut desk = Desk::new(&known).submit(units);
    for (worker, said) in [(LIAR, WRONG), (HONEST, RIGHT)] {
        desk.worker(worker, 64);
        while let Some(at) = desk.leases.iter().position(|(to, _)| *to == worker) {
            let lease = desk.leases.remove(at).1;
            desk.answer(worker, &lease, said);
        }
        desk.owner.window(key(worker), 0);
        desk.take();
    }
    assert_eq!(desk.job().counts.disputed, units);
    if own_slots > 0 {
        assert!(desk.owner.attach(key(ME), "v1", Platform::X86_64, own_slots));
        desk.owner.window(key(ME), own_slots);
        desk.take();
    }
    for worker in others {
        assert!(desk.owner.attach(key(worker), "v1", Platform::X86_64, 1));
        desk.owner.window(key(worker), 1);
    }
    desk.pass(Duration::from_secs(1));
    desk
}

/// The next lease of a unit to anybody but the owner, after some seconds if need be.
fn next_juror(desk: &mut Desk, unit: u32) -> Option<(u8, Lease)> {
    for _ in 0..3 {
        if let Some(at) = desk.leases.iter().position(|(to, lease)| *to != ME && lease.unit.0 == unit) {
            return Some(desk.leases.remove(at));
        }
        desk.pass(Duration::from_secs(1));
    }
    None
}

#[test]
fn where_the_owner_lends_no_slots_a_jury_is_asked_at_once_and_the_liar_convicted() {
    let mut desk = quarrels(1, 0, OTHERS);
    // One spoke for each side already.
    assert_eq!((desk.leases.len(), desk.job().juries), (JURY_LEAD + 2, 1));
    for voted in 1..=JURY_LEAD {
        assert_eq!((desk.state(0), desk.owner.trust().standing(key(LIAR)).strikes), (UnitState::Disputed, 0), "{voted}");
        let (juror, lease) = desk.leases.remove(0);
        desk.answer(juror, &lease, RIGHT);
    }
    assert_eq!(desk.verdicts(), [(0, Verdict::Verified { value: value(RIGHT), by_owner: false })]);
    let view = &desk.owner.unit_views(JOB, UnitIndex(0), 1)[0];
    assert_eq!(view.votes.iter().filter(|vote| vote.counted).count(), JURY_LEAD + 1, "though they were asked at once");
    assert_eq!((desk.owner.trust().standing(key(LIAR)).strikes, desk.job().juries), (1, 0));
    assert_eq!(desk.owner.trust().standing(key(HONEST)).strikes, 0);
    assert_eq!((desk.leases.drain(..).count(), desk.job().state), (2, JobState::Done), "the spare jurors are told to stop");
    desk.nothing_else();
}

#[test]
fn each_juror_who_sides_with_the_liar_takes_one_more_and_is_convicted_as_well() {
    let mut desk = quarrels(1, 0, OTHERS);
    let (mut said, mut bought) = (0, Vec::new());
    while desk.state(0) == UnitState::Disputed {
        let (juror, lease) = next_juror(&mut desk, 0).unwrap();
        if said % 5 == 4 {
            bought.push(juror);
        }
        desk.answer(juror, &lease, if said % 5 == 4 { WRONG } else { RIGHT });
        said += 1;
    }
    assert_eq!((desk.state(0), said, bought.len()), (UnitState::Verified, 24, 4), "21 against 5, with the two before");
    assert!(bought.iter().all(|juror| desk.owner.trust().standing(key(*juror)).strikes == 1));
}

#[test]
fn a_juror_who_goes_is_replaced_by_two_and_where_none_is_left_the_owner_decides() {
    let mut desk = quarrels(1, 0, OTHERS);
    let juror = desk.leases[0].0;
    let asked = desk.leases.len();
    desk.owner.detach(desk.now, key(juror));
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.leases.len(), asked + 2, "one in its place, and one against whom it might have sided with");
    // All who are left are of one network, and so have one vote.
    OTHERS.for_each(|worker| desk.owner.meet(key(worker), Some(Prefix(5)), None, false));
    for (juror, lease) in core::mem::take(&mut desk.leases) {
        desk.answer(juror, &lease, RIGHT);
    }
    assert_eq!((desk.state(0), desk.job().juries, desk.leases.len()), (UnitState::Disputed, 1, 0));
    desk.worker(ME, 1);
    let mine = desk.lease(ME);
    desk.answer(ME, &mine, RIGHT);
    assert_eq!((desk.state(0), desk.job().juries), (UnitState::Verified, 0), "then the owner decides after all");
}

/// So many jurors who have not answered.
fn let_them_wait(desk: &mut Desk) {
    desk.pass(Duration::from_secs(70));
    desk.pass(Duration::from_secs(1));
}

#[test]
fn whoever_makes_room_is_not_for_that_a_juror_and_a_jury_that_most_are_absent_from_leaves_it_to_the_owner() {
    let mut desk = quarrels(1, 0, OTHERS);
    let jurors: BTreeSet<u8> = desk.leases.iter().map(|(to, _)| *to).collect();
    assert_eq!(jurors.len(), JURY_LEAD + 2);
    OTHERS.filter(|worker| !jurors.contains(worker)).for_each(|worker| desk.owner.window(key(worker), 5));
    desk.pass(Duration::from_secs(1));
    assert_eq!((desk.leases.len(), desk.job().juries), (JURY_LEAD + 2, 1), "all seats are taken");
    let_them_wait(&mut desk);
    assert_eq!((desk.leases.len(), desk.job().juries), (JURY_LEAD + 2, 0), "eighteen do not come");
    // Those who come late are one too few for the lead that it takes now.
    for (juror, lease) in core::mem::take(&mut desk.leases) {
        desk.answer(juror, &lease, if jurors.first() == Some(&juror) { WRONG } else { RIGHT });
    }
    assert_eq!((desk.state(0), desk.job().juries), (UnitState::Verified, 0), "they come late: eighteen against two");
}

#[test]
fn each_juror_who_does_not_answer_takes_one_more_and_nothing_is_won_by_being_there_sooner() {
    let mut desk = quarrels(1, 0, OTHERS);
    let slow: Vec<(u8, Lease)> = desk.leases.drain(..4).collect();
    for (juror, lease) in core::mem::take(&mut desk.leases) {
        desk.answer(juror, &lease, WRONG);
    }
    // Fourteen have said so, with the first, and one contradicts.
    assert_eq!((desk.state(0), desk.job().juries), (UnitState::Disputed, 1));
    let_them_wait(&mut desk);
    assert_eq!(desk.leases.len(), 2 + 4 + 2, "two were missing, four more are for the absent, and two to spare");
    for (juror, lease) in core::mem::take(&mut desk.leases).into_iter().take(5) {
        desk.answer(juror, &lease, WRONG);
    }
    assert_eq!(desk.state(0), UnitState::Disputed, "nineteen against one and four who are not there");
    for (juror, lease) in slow {
        desk.answer(juror, &lease, RIGHT);
    }
    assert_eq!((desk.state(0), desk.owner.trust().standing(key(HONEST)).strikes), (UnitState::Disputed, 0));
}

#[test]
fn jurors_who_conspire_to_fail_make_no_unit_fail_when_the_dispute_ends_otherwise() {
    let mut desk = quarrels(2, 0, OTHERS);
    let (tried, other) = (desk.leases[0].1.unit.0, 1 - desk.leases[0].1.unit.0);
    for _ in 0..3 {
        let (juror, lease) = next_juror(&mut desk, tried).unwrap();
        desk.fail(juror, &lease);
    }
    let late: Vec<_> = (0..3).map(|_| next_juror(&mut desk, tried).unwrap()).collect();
    // The liar is caught by what another unit shows.
    let found = OwnRun { unit: UnitIndex(other), value: value(RIGHT), output_bytes: 4, output: None, wall: Duration::from_millis(1) };
    assert!(desk.owner.checked(desk.now, JOB, found, Platform::X86_64));
    desk.take();
    assert_eq!(desk.owner.trust().standing(key(LIAR)).strikes, 1);
    assert_ne!((desk.state(tried), desk.job().counts.failed), (UnitState::Failed, 1));
    for (juror, lease) in late {
        desk.fail(juror, &lease);
    }
    assert_eq!((desk.job().counts.failed, desk.job().juries), (0, 0));
    let (juror, lease) = next_juror(&mut desk, tried).unwrap();
    desk.answer(juror, &lease, RIGHT);
    assert_eq!(desk.state(tried), UnitState::Verified);
}

#[test]
fn jurors_who_fail_make_no_unit_fail_and_many_of_them_leave_it_to_the_owner() {
    let mut desk = quarrels(1, 0, OTHERS);
    for failed in 1..=12 {
        assert_eq!((desk.state(0), desk.job().juries), (UnitState::Disputed, 1), "{failed}");
        let (juror, lease) = next_juror(&mut desk, 0).unwrap();
        desk.fail(juror, &lease);
    }
    assert_eq!((desk.state(0), desk.job().juries), (UnitState::Disputed, 0));
    desk.leases.clear();
    desk.pass(Duration::from_secs(1000));
    desk.pass(Duration::from_secs(1));
    assert_eq!((desk.leases.len(), desk.job().juries), (0, 0), "no other jury is asked");
    desk.worker(ME, 1);
    let mine = desk.lease_of(ME, 0);
    desk.answer(ME, &mine, RIGHT);
    assert_eq!((desk.state(0), desk.owner.trust().standing(key(LIAR)).strikes), (UnitState::Verified, 1));
}

#[test]
fn the_owner_decides_what_it_can_and_a_jury_that_cannot_agree_leaves_it_to_the_owner() {
    let mut desk = quarrels(10, 1, OTHERS);
    assert_eq!(desk.job().juries, 1, "the owner has one, and eight may wait for its slot");
    let unit = desk.leases.iter().find(|(to, _)| *to != ME).unwrap().1.unit.0;
    let mut said = 0;
    while desk.job().juries == 1 {
        let (juror, lease) = next_juror(&mut desk, unit).unwrap();
        desk.answer(juror, &lease, if said % 2 == 0 { RIGHT } else { WRONG });
        said += 1;
    }
    assert_eq!((desk.state(unit), said), (UnitState::Disputed, VOTES_PER_UNIT_MAX - 2));
    // The spare jurors never answer, and their leases run out.
    let mine = desk.lease(ME);
    desk.answer(ME, &mine, RIGHT);
    desk.leases.clear();
    desk.pass(Duration::from_secs(100));
    for _ in 0..10 {
        let mine = desk.lease(ME);
        desk.answer(ME, &mine, RIGHT);
        if mine.unit.0 == unit {
            break;
        }
    }
    assert_eq!(desk.state(unit), UnitState::Verified);
}

#[test]
fn few_disputes_wait_for_the_owner_and_so_do_all_where_few_are_proven_or_it_lends_slots_no_more() {
    let mut desk = quarrels(9, 1, OTHERS);
    assert_eq!((desk.job().juries, desk.leases.len()), (0, 1), "the owner's");
    desk.owner.window(key(ME), 0);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.job().juries, 1, "its slots count while it lends them");
    // With the two who disagree these are 63.
    let mut desk = quarrels(20, 0, 10..71);
    assert_eq!((desk.job().juries, desk.leases.len()), (0, 0));
    desk.worker(71, 1);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.job().juries, 1);
}
