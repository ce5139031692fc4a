//! What is believed of accusations, and what a flood of them costs.

use super::{accuser::*, *};
use crate::protocol::{
    ids::Digest,
    outcome::{Exit, Value},
};

const HOUR: Duration = Duration::from_secs(3600);
const START: Instant = Instant(1_000_000);
const KNOWN: Circumstances = Circumstances { accused_is_known: true, accuser_is_known: false, reproducible: true };

fn key(number: u32) -> PeerId {
    PeerId(Digest::of(&number.to_le_bytes()).0)
}

fn value(said: u8) -> Value {
    Value { exit: Exit::Code(0), output: Digest([said; 32]), gas: 1000, chain: None }
}

fn receipt(said: u8) -> Receipt {
    Receipt { attempt: Attempt(0), ordinal: 0, value: value(said), output_bytes: 4, proof: Arc::from([1]) }
}

fn accusation(accused: u32, unit: u32, evidence: Evidence) -> Arc<Accusation> {
    Arc::new(Accusation { accused: key(accused), job: JobId([9; 32]), manifest: Arc::from([]), unit: UnitIndex(unit), evidence })
}

fn wrong(accused: u32, unit: u32) -> Arc<Accusation> {
    accusation(accused, unit, Evidence::Wrong(receipt(6)))
}

#[test]
fn an_equivocation_convicts_without_anything_being_run() {
    let mut fraud = Fraud::default();
    let twice = accusation(1, 0, Evidence::Equivocation(receipt(6), receipt(7)));
    let no_slots = Circumstances { reproducible: false, ..KNOWN };
    assert_eq!(fraud.hear(START, key(50), twice.clone(), no_slots), Hearing::Guilty);
    assert_eq!((fraud.start(START), fraud.deadline()), (None, None));
    let stranger = Circumstances { accused_is_known: false, ..KNOWN };
    assert_eq!(fraud.hear(START, key(50), twice, stranger), Hearing::Ignored(Ignored::Stranger));
    let same = accusation(1, 0, Evidence::Equivocation(receipt(6), receipt(6)));
    assert_eq!(same.check(), Err(AnnouncementError::NoContradiction));
}

#[test]
fn a_wrong_receipt_convicts_after_the_unit_was_run_here() {
    let mut fraud = Fraud::default();
    assert_eq!(fraud.hear(START, key(50), wrong(1, 0), KNOWN), Hearing::Waits);
    assert_eq!(fraud.hear(START, key(51), wrong(1, 0), KNOWN), Hearing::Ignored(Ignored::Known));
    assert_eq!(fraud.hear(START, key(51), wrong(1, 1), KNOWN), Hearing::Waits);
    assert_eq!(fraud.start(START), Some((key(50), wrong(1, 0))));
    assert_eq!(fraud.start(START), None, "one at a time");
    assert_eq!(fraud.rechecked(START, Some(value(7))), Some(Finding::Guilty { accused: key(1) }));
    assert_eq!(fraud.waiting(), (0, false), "what else it is accused of need not be checked");
    assert_eq!(fraud.rechecked(START, Some(value(7))), None, "nobody asked");
}

#[test]
fn a_forged_accusation_clears_the_accused_and_its_author_is_not_heard_for_a_week() {
    let mut fraud = Fraud::default();
    fraud.hear(START, key(50), wrong(1, 0), KNOWN);
    fraud.hear(START, key(50), wrong(2, 0), KNOWN);
    fraud.hear(START, key(51), wrong(3, 0), KNOWN);
    fraud.start(START).unwrap();
    let cleared = Finding::Cleared { accused: key(1), accuser: key(50) };
    assert_eq!(fraud.rechecked(START, Some(value(6))), Some(cleared));
    assert_eq!(fraud.accused(), [key(3)].into(), "what else its author said is dropped");
    assert_eq!(fraud.hear(START, key(50), wrong(2, 1), KNOWN), Hearing::Ignored(Ignored::LiedBefore));
    assert_eq!(fraud.hear(START, key(52), wrong(1, 0), KNOWN), Hearing::Ignored(Ignored::Cleared), "nothing is run twice");
    assert!(fraud.is_ignored(START, key(52)), "it lied as well");
    let later = START.after(IGNORED_FOR);
    assert_eq!(fraud.hear(later, key(50), wrong(2, 1), KNOWN), Hearing::Waits);
}

#[test]
fn a_unit_that_cannot_be_run_proves_nothing_for_anybody() {
    let mut fraud = Fraud::default();
    fraud.hear(START, key(50), wrong(1, 0), KNOWN);
    fraud.start(START).unwrap();
    assert_eq!(fraud.rechecked(START, None), Some(Finding::Unknown { accused: key(1) }));
    assert!(!fraud.is_ignored(START, key(50)));
    let other_engine = Circumstances { reproducible: false, ..KNOWN };
    assert_eq!(fraud.hear(START, key(50), wrong(1, 0), other_engine), Hearing::Ignored(Ignored::NotReproducible));
}

#[test]
fn a_flood_is_bounded_in_number_in_time_and_for_those_who_are_known() {
    let mut fraud = Fraud::default();
    for unit in 0..10 {
        let heard = fraud.hear(START, key(50), wrong(1, unit), KNOWN);
        assert_eq!(heard == Hearing::Waits, unit < WAITING_PER_ACCUSER_MAX as u32, "{heard:?}");
    }
    for swarm in 0..10_000 {
        fraud.hear(START, key(1000 + swarm), wrong(1, 100 + swarm), KNOWN);
        assert!(fraud.waiting().0 <= WAITING_MAX && fraud.accusers.len() <= ACCUSERS_MAX);
    }
    assert_eq!(fraud.waiting().0, WAITING_MAX);
    let friend = Circumstances { accuser_is_known: true, ..KNOWN };
    assert_eq!(fraud.hear(START, key(60), wrong(1, 99_999), friend), Hearing::Waits);
    assert_eq!(fraud.start(START), Some((key(60), wrong(1, 99_999))), "whoever has a record is heard before strangers");
    assert_eq!(fraud.waiting().0, WAITING_MAX - 1);
    // A minute on each: within an hour six are run, which is a tenth of the time.
    let (mut now, mut run) = (START, 0);
    while now < START.after(HOUR) {
        now = now.after(Duration::from_secs(60));
        run += u32::from(fraud.rechecked(now, None).is_some());
        now = fraud.deadline().unwrap().max(now);
        fraud.start(now).unwrap();
    }
    assert_eq!(run, 6);
}

#[test]
fn one_accuser_gets_so_many_checks_in_an_hour() {
    let mut fraud = Fraud::default();
    let mut now = START;
    let mut checked = 0;
    for unit in 0..100 {
        match fraud.hear(now, key(50), wrong(1, unit), KNOWN) {
            Hearing::Waits => {
                fraud.start(now).unwrap();
                fraud.rechecked(now, None);
                checked += 1;
            }
            heard => assert_eq!(heard, Hearing::Ignored(Ignored::TooOften)),
        }
        now = now.after(Duration::from_secs(10));
    }
    assert_eq!(checked, CHECKS_PER_HOUR);
    assert_eq!(fraud.hear(START.after(HOUR), key(50), wrong(1, 0), KNOWN), Hearing::Waits);
}

#[test]
fn a_peer_accuses_a_few_at_once_and_then_one_in_a_while() {
    let mut fraud = Fraud::default();
    let made = |fraud: &mut Fraud, now: Instant| (0..1000).filter(|_| fraud.may_accuse(now)).count();
    assert_eq!(made(&mut fraud, START), OWN_AT_ONCE as usize);
    assert_eq!(made(&mut fraud, START.after(OWN_EVERY - Duration::from_secs(1))), 0);
    assert_eq!(made(&mut fraud, START.after(OWN_EVERY)), 1);
    assert_eq!(made(&mut fraud, START.after(2 * OWN_AT_ONCE * OWN_EVERY)), OWN_AT_ONCE as usize, "what was not used is not saved up");
}
