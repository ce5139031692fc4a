//! The cases of `src/TRUST.md` that are about a single rule: 2 to 5, 7 to 10 and 21. Case 6 is
//! `judge_tests::proven_against_proven…`. Cases about whole populations are in `sim::trust_cases`.

use super::*;
use crate::protocol::verify::{AUDIT_RATE, AuditState};

const RIGHT: u8 = 7;
const WRONG: u8 = 6;

impl Desk {
    fn submit_as(mut self, units: u32, policy: Policy) -> Self {
        self.owner.submit(JOB, Arc::new(manifest(units, policy)), SECRET);
        self.take();
        self
    }

    /// The worker takes one unit, whichever it gets, says this about it, and takes nothing more. Returns the unit.
    fn says_once(&mut self, worker: u8, said: u8) -> u32 {
        self.worker(worker, 1);
        let lease = self.lease(worker);
        self.rests(worker);
        self.answer(worker, &lease, said);
        lease.unit.0
    }

    fn rests(&mut self, worker: u8) {
        self.owner.window(key(worker), 0);
        self.take();
    }

    /// These workers run all that they can get, and find what is right; then they take nothing more.
    fn work_honestly(&mut self, workers: &[u8]) {
        workers.iter().for_each(|&worker| self.worker(worker, 64));
        while let Some(at) = self.leases.iter().position(|(to, _)| workers.contains(to)) {
            let (to, lease) = self.leases.remove(at);
            self.answer(to, &lease, RIGHT);
        }
        workers.iter().for_each(|&worker| self.rests(worker));
    }

    fn counted(&self, unit: u32) -> usize {
        self.owner.unit_views(JOB, UnitIndex(unit), 1)[0].votes.iter().filter(|vote| vote.counted).count()
    }
}

/// Case 2: the same key, network or lineage offered twice for a unit gives no two counted votes, whether it is known when the second
/// lease is asked for or becomes known while that is out.
#[test]
fn case_2_one_key_network_or_lineage_has_one_counted_vote() {
    let no_network: Option<Prefix> = None;
    let joins = [
        ("network", (Some(Prefix(5)), None), (Some(Prefix(5)), None)),
        ("lineage", (no_network, Some(key(77))), (None, Some(key(77)))),
        ("guest and host", (None, None), (None, Some(key(1)))),
        ("host and guest", (None, Some(key(2))), (None, None)),
    ];
    for (what, first, second) in joins {
        for known_before in [true, false] {
            let mut desk = Desk::new(&[1, 2, 3]).submit(1);
            desk.owner.meet(key(1), first.0, first.1, false);
            desk.says_once(1, RIGHT);
            if known_before {
                desk.owner.meet(key(2), second.0, second.1, false);
            }
            desk.worker(2, 1);
            let invited_the_first = first.1 == Some(key(2));
            assert_eq!(desk.leases.is_empty(), known_before || invited_the_first, "{what}");
            if let Some((_, lease)) = desk.leases.pop() {
                desk.owner.meet(key(2), second.0, second.1, false);
                desk.answer(2, &lease, RIGHT);
            }
            assert_eq!(desk.state(0), UnitState::AwaitingVote, "{what}, {known_before}");
            desk.says_once(3, RIGHT);
            assert_eq!((desk.state(0), desk.counted(0)), (UnitState::Verified, 2), "{what}, {known_before}");
            desk.nothing_else();
        }
    }
    let mut desk = Desk::new(&[1]).submit(1);
    desk.worker(1, 8);
    let lease = desk.lease(1);
    desk.answer(1, &lease, RIGHT);
    desk.answer(1, &lease, RIGHT);
    assert_eq!((desk.state(0), desk.job().counts.executions), (UnitState::AwaitingVote, 1), "the same key");
    desk.nothing_else();
}

/// Case 3: the second vote's lease predates the first vote's commitment. They count as one, and a third is asked for.
#[test]
fn case_3_votes_out_of_sequence_count_as_one() {
    let mut desk = Desk::new(&[1, 2, 3]).submit(1);
    desk.worker(1, 1);
    let first = desk.lease(1);
    desk.pass(first.duration);
    desk.worker(2, 1);
    let second = desk.lease(2);
    assert_eq!((first.ordinal, second.ordinal), (0, 0));
    desk.answer(1, &first, RIGHT);
    desk.answer(2, &second, RIGHT);
    assert_eq!(desk.state(0), UnitState::AwaitingVote);
    assert_eq!(desk.says_once(3, RIGHT), 0);
    assert_eq!((desk.state(0), desk.counted(0)), (UnitState::Verified, 2));
    desk.nothing_else();
}

/// Case 4: a result that comes after its lease was given to somebody else is compared and has no weight.
#[test]
fn case_4_a_late_result_is_compared_and_has_no_weight() {
    for (late_says, then) in [(RIGHT, UnitState::AwaitingVote), (WRONG, UnitState::Disputed)] {
        let mut desk = Desk::new(&[1, 2, 3]).submit(1);
        desk.worker(1, 1);
        let late = desk.lease(1);
        desk.pass(late.duration);
        desk.says_once(2, RIGHT);
        desk.answer(1, &late, late_says);
        assert_eq!(desk.state(0), then, "{late_says}");
        match then {
            UnitState::Disputed => desk.says_once(ME, RIGHT),
            _ => desk.says_once(3, RIGHT),
        };
        assert_eq!(desk.state(0), UnitState::Verified);
        assert_eq!(desk.strikes(1), u32::from(late_says == WRONG));
        desk.nothing_else();
    }
}

/// Case 5: a newcomer against a proven peer. A second proven voter is asked, the newcomer convicted, and the owner's CPU not used.
#[test]
fn case_5_a_newcomer_against_the_proven_costs_one_more_proven_vote() {
    for newcomer_first in [true, false] {
        let mut desk = Desk::new(&[1, 2]).submit(1);
        if newcomer_first {
            desk.says_once(5, WRONG);
            desk.says_once(1, RIGHT);
        } else {
            desk.says_once(1, RIGHT);
            desk.says_once(5, WRONG);
        }
        assert_eq!((desk.state(0), desk.strikes(5)), (UnitState::AwaitingVote, 0), "one word against another");
        desk.worker(6, 1);
        assert_eq!(desk.leases, [], "no newcomer is asked");
        desk.says_once(2, RIGHT);
        assert_eq!((desk.state(0), desk.strikes(5), desk.job().counts.by_owner), (UnitState::Verified, 1, 0));
        assert_eq!((desk.strikes(1), desk.strikes(2)), (0, 0));
        desk.nothing_else();
    }
}

/// Case 7: a proven peer that has vouched alone for fifty units, by the economy policy, is caught. All are open again at once.
#[test]
fn case_7_all_that_the_caught_one_alone_vouched_for_is_open_again() {
    let known = [(1, 10_000), (2, 10_000), (3, 10_000)];
    let standing = |units: u64| Standing { verified_units: units, verified_gas: units * GAS, ..Standing::default() };
    let standings = known.iter().map(|&(worker, units)| (key(worker), standing(units))).collect();
    let mut desk = Desk::restored(Saved { standings, ..Saved::default() }).submit_as(60, Policy::Economy);
    desk.worker(1, 64);
    while let Some((_, lease)) = desk.leases.pop() {
        desk.answer(1, &lease, WRONG);
    }
    desk.rests(1);
    let single = desk.units_in(UnitState::Verified);
    assert!((50..60).contains(&single.len()), "{} of its word alone, the others by the lottery", single.len());
    desk.says_once(2, RIGHT);
    assert_eq!(desk.units_in(UnitState::Disputed).len(), 1);
    let before = desk.facts.len();
    desk.says_once(ME, RIGHT);
    assert_eq!(desk.strikes(1), 1);
    assert_eq!(desk.units_in(UnitState::Rechecking), single);
    assert_eq!(desk.job().counts.verified, 1, "what the owner has run");
    let reopened = |fact: &&Fact| matches!(fact, Fact::Verdict(_, _, Verdict::Open));
    assert_eq!(desk.facts[before..].iter().filter(reopened).count(), single.len(), "durable in the same turn");
    desk.work_honestly(&[2, 3]);
    assert_eq!(desk.job().state, JobState::Done);
    let right = |verdict: &(u32, Verdict)| matches!(verdict.1, Verdict::Verified { value: now, .. } if now == value(RIGHT));
    let newest: BTreeMap<u32, Verdict> = desk.verdicts().into_iter().collect();
    assert!(newest.into_iter().all(|verdict| right(&verdict)));
    desk.nothing_else();
}

/// Case 8: (A, B) and (A, C) have agreed on wrong values, and A is caught elsewhere. The cascade convicts B and C.
#[test]
fn case_8_the_mates_of_the_caught_one_are_caught_too() {
    let [a, b, c, honest, another] = [1, 2, 3, 4, 5];
    let mut desk = Desk::new(&[a, b, c, honest, another]).submit(3);
    desk.worker(a, 3);
    while let Some((_, lease)) = desk.leases.pop() {
        desk.answer(a, &lease, WRONG);
    }
    desk.rests(a);
    let with_b = desk.says_once(b, WRONG);
    let with_c = desk.says_once(c, WRONG);
    assert_eq!(desk.units_in(UnitState::Verified).len(), 2, "two who are proven agree");
    desk.says_once(honest, RIGHT);
    desk.says_once(ME, RIGHT);
    assert_eq!([a, b, c].map(|worker| desk.strikes(worker)), [1, 0, 0]);
    let mut again = [with_b, with_c];
    again.sort_unstable();
    assert_eq!(desk.units_in(UnitState::Rechecking), again);
    desk.work_honestly(&[honest, another]);
    assert_eq!(desk.units_in(UnitState::Disputed), again, "one proven voter against another");
    desk.work_honestly(&[ME]);
    assert_eq!([a, b, c, honest, another].map(|worker| desk.strikes(worker)), [1, 1, 1, 0, 0]);
    assert_eq!((desk.job().state, desk.job().counts.by_owner), (JobState::Done, 3));
    desk.nothing_else();
}

/// Case 9: the audit rate rises from 5 to 20 %. Exactly the units whose numbers lie between are open again.
#[test]
fn case_9_a_higher_audit_rate_opens_exactly_the_units_that_it_adds() {
    let liars = [11, 12, 13, 14];
    let mut desk = Desk::new(&[1, 2, 3, 11, 12, 13, 14]).submit(404);
    for (at, &liar) in liars.iter().enumerate() {
        let unit = desk.says_once(liar, 20 + at as u8);
        assert_eq!(desk.says_once(1, RIGHT), unit);
    }
    desk.work_honestly(&[1, 2, 3]);
    assert_eq!((desk.units_in(UnitState::Verified).len(), desk.units_in(UnitState::Disputed).len()), (400, 4));
    for caught in 1..=4 {
        desk.says_once(ME, RIGHT);
        assert_eq!(liars.map(|liar| desk.strikes(liar)).iter().sum::<u32>(), caught);
        let rate = AuditState { convicted: caught, collusion: false }.rate(desk.job().counts.decided());
        let number = |unit: &u32| SECRET.audit_number(UnitIndex(*unit));
        let owners = |unit: &u32| desk.owner.unit_views(JOB, UnitIndex(*unit), 1)[0].by_owner;
        let disputed = desk.units_in(UnitState::Disputed);
        let expected = (0..404).filter(|unit| (AUDIT_RATE..rate).contains(&number(unit)));
        let expected: Vec<u32> = expected.filter(|unit| !owners(unit) && !disputed.contains(unit)).collect();
        assert_eq!(desk.units_in(UnitState::Rechecking), expected, "{caught} caught, at {rate}");
        match caught {
            1 | 2 => assert!(expected.is_empty()),
            3 => assert!(rate > 0.09 && !expected.is_empty(), "{rate}"),
            _ => assert!((0.19..0.2).contains(&rate) && (40..90).contains(&expected.len()), "{rate} {}", expected.len()),
        }
    }
    desk.work_honestly(&[1, 2, 3]);
    assert_eq!(desk.job().state, JobState::Done);
    desk.nothing_else();
}

/// Case 10: two keys are proven to have signed the same wrong value. Everything is audited, and pairs of newcomers count for nothing.
#[test]
fn case_10_collusion_audits_everything_and_ends_provisional_results() {
    let mut desk = Desk::new(&[1, 2]).submit(12);
    for _ in 0..3 {
        let unit = desk.says_once(1, RIGHT);
        assert_eq!(desk.says_once(2, RIGHT), unit);
    }
    for (one, other, said) in [(5, 6, RIGHT), (5, 6, RIGHT), (5, 6, RIGHT), (7, 8, WRONG)] {
        let unit = desk.says_once(one, said);
        assert_eq!(desk.says_once(other, said), unit);
    }
    assert_eq!((desk.units_in(UnitState::Verified).len(), desk.units_in(UnitState::Provisional).len()), (3, 4));
    let proven_here = desk.units_in(UnitState::Verified);
    // The two who lie have no record either, so whose unit is looked at first is drawn.
    while desk.strikes(7) == 0 {
        desk.says_once(1, RIGHT);
        if desk.strikes(7) == 0 && !desk.units_in(UnitState::AwaitingVote).is_empty() {
            desk.says_once(2, RIGHT);
        }
    }
    assert_eq!((desk.strikes(7), desk.strikes(8)), (1, 1));
    assert!(desk.units_in(UnitState::Provisional).is_empty());
    let open = desk.units_in(UnitState::Rechecking);
    assert!(proven_here.iter().all(|unit| open.contains(unit)), "two proven votes are not enough any more: {open:?}");
    desk.work_honestly(&[1, 2, 5, 6]);
    desk.worker(9, 64);
    desk.work_honestly(&[9]);
    let views = desk.owner.unit_views(JOB, UnitIndex(0), usize::MAX);
    assert!(views.iter().filter(|view| view.state == UnitState::Verified).all(|view| view.votes.len() >= 3));
    assert!(desk.units_in(UnitState::Provisional).is_empty());
}

/// Case 21: whoever was caught and comes back with a new key begins at nothing.
#[test]
fn case_21_a_new_key_begins_at_nothing() {
    let mut desk = Desk::new(&[1, 2, 3, 4]).submit(40);
    desk.says_once(1, WRONG);
    desk.says_once(2, RIGHT);
    desk.says_once(ME, RIGHT);
    assert_eq!(desk.strikes(1), 1);
    desk.worker(1, 64);
    assert_eq!(desk.leases, [], "the old key gets nothing");
    desk.owner.meet(key(99), None, None, false);
    desk.worker(99, 64);
    let trust = desk.owner.trust();
    assert_eq!((trust.standing(key(99)), trust.is_proven(key(99), GAS)), (Standing::default(), false));
    assert_eq!(desk.leases.len(), NEWCOMER_PENDING_MAX as usize, "as little as any newcomer");
    let leases: Vec<_> = desk.leases.drain(..).collect();
    leases.iter().for_each(|(_, lease)| desk.answer(99, lease, WRONG));
    assert_eq!(desk.units_in(UnitState::AwaitingVote).len(), leases.len(), "its word alone carries nothing");
    desk.work_honestly(&[2, 3, 4]);
    assert_eq!((desk.job().state, desk.strikes(99), desk.job().counts.by_owner), (JobState::Done, 1, 1));
}
