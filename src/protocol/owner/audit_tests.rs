//! What a conviction leads to: re-opened units, a higher audit rate, and what of it outlives a restart.

use super::*;
use crate::protocol::verify::{AUDIT_RATE, AuditState};

impl Desk {
    fn submit_with(mut self, units: u32, policy: Policy) -> Self {
        self.owner.submit(JOB, Arc::new(manifest(units, policy)), SECRET);
        self.take();
        self
    }

    /// Everybody answers everything, `said` as it may be, until no lease is out.
    fn run(&mut self, said: impl Fn(u8, u32) -> u8) {
        while let Some((worker, lease)) = self.leases.pop() {
            self.answer(worker, &lease, said(worker, lease.unit.0));
        }
    }

    /// So many proven peers are convicted of something else, as far as this job knows. Returns the units that are re-opened.
    fn raise(&mut self, convicted: u32) -> Vec<u32> {
        self.owner.jobs.get_mut(&JOB).unwrap().audit.convicted = convicted;
        self.owner.judge_all(self.now, VecDeque::from([(JOB, UnitIndex(0))]));
        self.units_in(UnitState::Rechecking)
    }

    pub(super) fn units_in(&self, state: UnitState) -> Vec<u32> {
        (0..self.job().counts.units).filter(|&unit| self.state(unit) == state).collect()
    }

    pub(super) fn strikes(&self, worker: u8) -> u32 {
        self.owner.trust().standing(key(worker)).strikes
    }
}

#[test]
fn a_higher_audit_rate_selects_exactly_the_units_between_the_old_and_the_new() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(400);
    (1..=3).for_each(|worker| desk.worker(worker, 50));
    desk.run(|_, _| 7);
    assert_eq!((desk.job().state, desk.job().counts.verified), (JobState::Done, 400));
    let audited = |unit: &u32| SECRET.audit_number(UnitIndex(*unit)) < AUDIT_RATE;
    assert_eq!(desk.job().clean_audits as usize, (0..400).filter(audited).count(), "three votes each, all alike");
    let reopened = desk.raise(4);
    let rate = desk.job().audit_rate;
    assert!((0.19..0.2).contains(&rate), "{rate}: twice doubled, and calmed by 400 units");
    let between = |unit: &u32| (AUDIT_RATE..rate).contains(&SECRET.audit_number(UnitIndex(*unit)));
    assert_eq!(reopened, (0..400).filter(between).collect::<Vec<_>>());
    assert!(reopened.len() > 30);
    desk.take();
    desk.run(|_, _| 7);
    assert_eq!((desk.job().state, desk.job().counts.verified), (JobState::Done, 400));
    assert_eq!(desk.raise(4), [0; 0], "once");
}

#[test]
fn under_the_economy_policy_it_selects_by_the_number_that_decides_on_second_votes() {
    let rich = Standing { verified_units: 100_000, verified_gas: 100_000 * GAS, ..Standing::default() };
    let standings = vec![(key(1), rich), (key(2), rich)];
    let mut desk = Desk::restored(Saved { jobs: vec![], standings, ..Saved::default() }).submit_with(400, Policy::Economy);
    (1..=2).for_each(|worker| desk.worker(worker, 50));
    desk.run(|_, _| 7);
    let second = |unit: &u32, rate| SECRET.lottery_number(UnitIndex(*unit)) < rate;
    let executions = 400 + (0..400).filter(|unit| second(unit, AUDIT_RATE)).count() as u64;
    assert_eq!((desk.job().state, desk.job().counts.executions), (JobState::Done, executions));
    let reopened = desk.raise(4);
    let rate = desk.job().audit_rate;
    let between = |unit: &u32| second(unit, rate) && !second(unit, AUDIT_RATE);
    assert_eq!(reopened, (0..400).filter(between).collect::<Vec<_>>());
}

#[test]
fn all_singles_of_a_caught_peer_are_reopened_and_none_of_them_is_shown_as_verified() {
    let mut desk = Desk::new(&[1]).submit_with(60, Policy::Economy);
    desk.worker(1, 50);
    // One of the units that get a second vote is its undoing.
    desk.run(|_, unit| if desk_second(unit) { 6 } else { 7 });
    let singles = desk.units_in(UnitState::Verified);
    assert!(singles.len() >= 50, "{singles:?}");
    desk.worker(ME, 1);
    let lease = desk.lease(ME);
    assert!(desk_second(lease.unit.0), "what wants a second vote goes first");
    desk.answer(ME, &lease, 7);
    assert_eq!(desk.strikes(1), 1);
    assert_eq!(desk.units_in(UnitState::Rechecking), singles);
}

fn desk_second(unit: u32) -> bool {
    SECRET.lottery_number(UnitIndex(unit)) < AUDIT_RATE
}

#[test]
fn a_caught_conspirator_gives_away_those_it_conspired_with() {
    let mut desk = Desk::new(&[1, 2, 3, 4]).submit(3);
    // 1 and 2 lie on the first unit, 1 and 3 on the second, and 1 alone on the third.
    for (unit, voters) in [(0, [1, 2]), (1, [1, 3]), (2, [1, 4])] {
        for worker in voters {
            desk.worker(worker, 3);
            desk.leases.retain(|(_, lease)| lease.unit.0 == unit);
            let lease = desk.lease_of(worker, unit);
            desk.answer(worker, &lease, if worker == 4 { 7 } else { 6 });
            desk.owner.detach(desk.now, key(worker));
            desk.take();
            desk.leases.clear();
        }
    }
    assert_eq!([0, 1, 2].map(|unit| desk.state(unit)), [UnitState::Verified, UnitState::Verified, UnitState::Disputed]);
    desk.worker(ME, 1);
    let judged = desk.lease(ME);
    assert_eq!(judged.unit, UnitIndex(2));
    desk.answer(ME, &judged, 7);
    assert_eq!([1, 2, 3, 4].map(|worker| desk.strikes(worker)), [1, 0, 0, 0]);
    desk.run(|_, _| 7);
    assert_eq!([1, 2, 3, 4].map(|worker| desk.strikes(worker)), [1, 1, 1, 0], "the cascade");
    assert_eq!((desk.job().state, desk.job().findings.audit), (JobState::Done, AuditState { convicted: 3, collusion: true }));
}

#[test]
fn collusion_audits_everything_and_ends_what_is_provisional() {
    let mut desk = Desk::new(&[]).submit(12);
    (1..=5).for_each(|worker| desk.worker(worker, 4));
    let liar = |worker: u8, unit: u32| if unit == 0 && worker < 6 { 6 } else { 7 };
    desk.run(liar);
    let provisional = desk.units_in(UnitState::Provisional);
    assert!(provisional.len() >= 10 && provisional.contains(&0), "{provisional:?}");
    desk.worker(ME, 1);
    let mut mine = desk.lease(ME);
    while mine.unit != UnitIndex(0) {
        desk.answer(ME, &mine, 7);
        mine = desk.lease(ME);
    }
    assert!(!desk.units_in(UnitState::Provisional).is_empty(), "some are left to be ended");
    desk.answer(ME, &mine, 7);
    let audit = desk.job().findings.audit;
    assert!(audit.collusion, "two said the same wrong thing");
    assert!((desk.job().audit_rate - 1.0).abs() < 1e-9);
    assert_eq!(desk.units_in(UnitState::Provisional), [0; 0]);
    let kept = desk.facts.iter().rev().find_map(|fact| match fact {
        Fact::Findings(_, findings) => Some(findings.audit),
        _ => None,
    });
    assert_eq!(kept, Some(audit), "it is durable");
    let again = Desk::restored(desk.saved(desk.facts.len(), 12));
    assert_eq!((again.job().findings, again.job().audit_rate), (desk.job().findings, desk.job().audit_rate));
}

#[test]
fn who_was_proven_by_a_convicts_word_alone_vouches_for_nothing_any_more() {
    let nearly = Standing { verified_units: 19, verified_gas: 19 * GAS, ..Standing::default() };
    let mut desk =
        Desk::restored(Saved { jobs: vec![], standings: vec![(key(1), proven()), (key(3), nearly)], ..Saved::default() }).submit(2);
    for (unit, voters) in [(0, [3, 1]), (1, [3, 5])] {
        for worker in voters {
            desk.worker(worker, 2);
            desk.leases.retain(|(_, lease)| lease.unit.0 == unit);
            let lease = desk.lease_of(worker, unit);
            desk.answer(worker, &lease, 7);
            desk.owner.detach(desk.now, key(worker));
            desk.take();
            desk.leases.clear();
        }
    }
    assert_eq!(desk.units_in(UnitState::Verified), [0, 1]);
    assert_eq!(desk.owner.trust().standing(key(3)).verified_units, 20);
    let mut queue = VecDeque::new();
    let consequences = Consequences { convict: BTreeSet::from([key(1)]), ..Consequences::default() };
    desk.owner.apply(desk.now, JOB, consequences, &mut queue);
    desk.owner.judge_all(desk.now, queue);
    assert_eq!(desk.owner.trust().standing(key(3)).verified_units, 19);
    let states = [UnitState::Rechecking, UnitState::Provisional];
    assert_eq!([0, 1].map(|unit| desk.state(unit)), states, "the second has two votes of newcomers now");
}

#[test]
fn findings_outlive_a_restart_exactly() {
    let mut desk = Desk::new(&[1, 2]).submit(1);
    for worker in [1, 2] {
        desk.worker(worker, 1);
        let lease = desk.lease(worker);
        desk.answer(worker, &lease, 5 + worker);
    }
    desk.worker(ME, 1);
    let mine = desk.lease(ME);
    desk.answer(ME, &mine, 7);
    // It voted on one unit only, so that its votes do not show that it was proven.
    assert_eq!(desk.job().findings.audit, AuditState { convicted: 1, collusion: false });
    let again = Desk::restored(desk.saved(desk.facts.len(), 1));
    assert_eq!(again.job().findings, desk.job().findings);
    assert!(again.facts.iter().all(|fact| !matches!(fact, Fact::Findings(..))), "and nothing is said twice: {:?}", again.facts);
}
