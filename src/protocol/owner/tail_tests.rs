//! When nothing more is leased, for now or at all: the last units are backed up, what comes late may open a job again, and keepers that are
//! behind hold it up.

use super::*;

#[test]
fn a_slow_last_unit_is_backed_up_and_the_first_answer_counts() {
    let mut desk = Desk::new(&[2, 3]).submit(1);
    desk.worker(1, 1);
    let slow = desk.lease(1);
    desk.worker(2, 1);
    desk.worker(3, 1);
    assert_eq!(desk.leases, []);
    desk.pass(Duration::from_secs(6));
    let (backup, lease) = desk.leases.pop().expect("a backup");
    assert_ne!(backup, 1);
    assert_eq!(lease.ordinal, 0);
    desk.answer(backup, &lease, 7);
    let (third, lease) = desk.leases.pop().expect("the second vote");
    assert_eq!((third, lease.ordinal), (5 - backup, 1));
    desk.answer(third, &lease, 7);
    assert_eq!(desk.job().state, JobState::Done);
    desk.answer(1, &slow, 8);
    assert_eq!(desk.owner.trust().standing(key(1)).strikes, 1, "a late lie is compared with what two proven ones said");
    assert_eq!(desk.job().state, JobState::Done);
    desk.nothing_else();
}

#[test]
fn a_stopped_job_that_a_late_vote_lets_go_on_leases_again_what_was_out() {
    let mut desk = Desk::new(&[]).submit(10);
    desk.worker(ME, 8);
    let late = desk.leases[0].1.clone();
    while desk.job().state == JobState::Running {
        let at = desk.leases.iter().position(|(_, lease)| lease.unit.0 < 3).expect("one of the first three");
        let (_, lease) = desk.leases.remove(at);
        desk.fail(ME, &lease);
    }
    assert_eq!((desk.job().state, desk.revoked.as_slice()), (JobState::Stopped, [ME].as_slice()));
    let out: Vec<_> = desk.leases.drain(..).map(|(_, lease)| lease.unit.0).collect();
    assert!(!out.is_empty());
    desk.answer(ME, &late, 7);
    assert_eq!((desk.job().state, desk.job().counts.verified), (JobState::Running, 1));
    let again: BTreeSet<_> = desk.leases.drain(..).map(|(_, lease)| lease.unit.0).collect();
    assert_eq!(again, (3..10).collect(), "with {out:?}, which were revoked");
    desk.nothing_else();
}

#[test]
fn while_keepers_are_far_behind_nothing_is_leased_and_what_is_out_counts() {
    let mut desk = Desk::new(&[]).submit(10);
    desk.worker(ME, 2);
    let canary = desk.lease(ME);
    desk.answer(ME, &canary, 7);
    let (first, second) = (desk.lease(ME), desk.lease(ME));
    desk.owner.set_pace(JOB, true);
    desk.take();
    desk.answer(ME, &first, 7);
    desk.pass(Duration::from_secs(20));
    assert_eq!((desk.job().counts.verified, desk.leases.len()), (2, 0), "neither a new one nor a backup");
    desk.answer(ME, &second, 7);
    desk.owner.set_pace(JOB, false);
    desk.take();
    assert_eq!((desk.job().counts.verified, desk.leases.len()), (3, 2));
    desk.leases.clear();
    desk.nothing_else();
}
