//! Disputes about long stepped units: what the owner asks, what it runs, and whom it believes.

use super::super::bisect::{Bisection, Party, Step};
use super::*;
use crate::protocol::chain::{End, FINEST_INTERVAL, Link, Links, Segment};

const STEPS: u64 = 300;

/// A unit of long steps; what differs from `lies_from` on depends on the liar.
fn run(lies_from: Option<u64>, liar: u8) -> (Links, Value) {
    let mut links = Links::default();
    let state = |step: u64| {
        let mark = if lies_from.is_some_and(|from| step >= from) { liar } else { 0 };
        Digest::of(&[&step.to_le_bytes()[..], &[mark]].concat())
    };
    for step in 0..=STEPS {
        if links.is_due(step * FINEST_INTERVAL, 0) {
            links.record(Link { gas: step * FINEST_INTERVAL, state: state(step) });
        }
    }
    let value = Value { exit: Exit::Code(0), output: state(STEPS), gas: STEPS * FINEST_INTERVAL + 9, chain: links.head() };
    (links, value)
}

/// What an honest machine finds at the end of a segment.
fn honest_end(until: u64) -> End {
    let (links, value) = run(None, 0);
    links.as_slice().iter().find(|link| link.gas >= until).map_or(End::of(value), |link| End::Link(*link))
}

/// A job of one unit that these workers have voted on, one after the other; the owner's machine is there to judge.
fn disputed(votes: &[(u8, Value)], policy: Policy) -> Desk {
    // Proven by work of this size.
    let standing = Standing { verified_gas: 100 * STEPS * FINEST_INTERVAL, ..proven() };
    let standings = (1..=4).map(|worker| (key(worker), standing)).collect();
    let mut desk = Desk::restored(Saved { standings, ..Saved::default() });
    desk.owner.submit(JOB, Arc::new(manifest(1, policy)), SECRET);
    desk.take();
    for (worker, value) in votes {
        desk.worker(*worker, 1);
        let lease = desk.lease(*worker);
        if (*worker, *value) == *votes.last().unwrap() {
            desk.worker(ME, 1);
        }
        desk.try_report(*worker, &lease, Outcome::Value(*value)).unwrap();
    }
    desk
}

impl Desk {
    fn asked(&mut self) -> Vec<OwnerAction> {
        self.take();
        std::mem::take(&mut self.asked)
    }

    fn links(&mut self, worker: u8, links: &Links) {
        self.owner.links(self.now, key(worker), JOB, UnitIndex(0), Some(links.clone()));
        self.take();
    }

    fn ran(&mut self, found: Option<End>) {
        self.owner.segment_ran(self.now, JOB, UnitIndex(0), found);
        self.take();
    }

    fn is_convicted(&self, worker: u8) -> bool {
        self.owner.trust().standing(key(worker)).strikes > 0
    }
}

fn ask_links(to: u8) -> OwnerAction {
    OwnerAction::AskLinks { to: key(to), job: JOB, unit: UnitIndex(0) }
}

fn ask_state(to: u8, link: Link) -> OwnerAction {
    OwnerAction::AskState { to: key(to), job: JOB, unit: UnitIndex(0), link }
}

#[test]
fn the_owner_runs_one_segment_and_the_liar_is_convicted() {
    let ((honest, right), (lying, wrong)) = (run(None, 0), run(Some(200), 7));
    let mut desk = disputed(&[(1, wrong), (2, right)], Policy::Standard);
    assert_eq!(desk.state(0), UnitState::Disputed);
    let mut asked = desk.asked();
    asked.sort_by_key(|action| *action != ask_links(1));
    assert_eq!(asked, [ask_links(1), ask_links(2)]);
    desk.links(1, &lying);
    assert_eq!(desk.asked(), []);
    desk.links(2, &honest);
    let from = honest.as_slice()[198];
    let asked = desk.asked();
    assert!(asked.len() == 2 && asked.contains(&ask_state(1, from)) && asked.contains(&ask_state(2, from)));
    assert_eq!(desk.owner.wanted_state(key(1), JOB, UnitIndex(0)), Some(from));
    assert_eq!(desk.owner.wanted_state(key(3), JOB, UnitIndex(0)), None);
    // One party does not have it.
    desk.owner.state_ready(desk.now, key(1), JOB, UnitIndex(0), false);
    assert_eq!(desk.asked(), []);
    desk.owner.state_ready(desk.now, key(2), JOB, UnitIndex(0), true);
    let until = 200 * FINEST_INTERVAL;
    assert_eq!(desk.asked(), [OwnerAction::RunSegment { job: JOB, unit: UnitIndex(0), from: Some(from), until }]);
    desk.ran(Some(honest_end(until)));
    assert!(desk.is_convicted(1) && !desk.is_convicted(2));
    assert_eq!((desk.state(0), desk.job().state), (UnitState::Verified, JobState::Done));
    assert_eq!(desk.verdicts(), [(0, Verdict::Verified { value: right, by_owner: false })]);
    // What comes now changes nothing.
    desk.owner.state_ready(desk.now, key(1), JOB, UnitIndex(0), true);
    desk.ran(None);
    assert_eq!(desk.asked(), []);
    desk.nothing_else();
}

#[test]
fn a_difference_in_the_first_segment_needs_no_state() {
    let ((honest, right), (lying, wrong)) = (run(None, 0), run(Some(0), 7));
    let mut desk = disputed(&[(1, right), (2, wrong)], Policy::Standard);
    desk.asked();
    desk.links(1, &honest);
    desk.links(2, &lying);
    assert_eq!(desk.asked(), [OwnerAction::RunSegment { job: JOB, unit: UnitIndex(0), from: None, until: FINEST_INTERVAL }]);
    desk.ran(Some(honest_end(FINEST_INTERVAL)));
    assert!(desk.is_convicted(2) && !desk.is_convicted(1));
    desk.nothing_else();
}

#[test]
fn the_check_is_one_more_vote_and_no_more() {
    let ((honest, right), (lying, wrong)) = (run(None, 0), run(Some(200), 7));
    let mut desk = disputed(&[(1, wrong), (2, right)], Policy::Strict);
    desk.asked();
    desk.links(1, &lying);
    desk.links(2, &honest);
    desk.owner.state_ready(desk.now, key(1), JOB, UnitIndex(0), true);
    desk.ran(Some(honest_end(200 * FINEST_INTERVAL)));
    assert!(desk.is_convicted(1));
    assert_eq!(desk.state(0), UnitState::AwaitingVote, "three are needed");
    desk.leases.clear();
}

#[test]
fn whoever_says_the_same_on_another_instruction_set_is_not_convicted_by_one_segment() {
    let ((honest, right), (lying, wrong)) = (run(None, 0), run(Some(200), 7));
    let mut desk = disputed(&[(1, wrong), (2, right)], Policy::Standard);
    let vote = |worker: u8, platform: Platform| Vote {
        unit: UnitIndex(0),
        worker: key(worker),
        attempt: Attempt(u32::from(worker)),
        ordinal: 1,
        position: u32::from(worker),
        platform,
        value: wrong,
        output_bytes: 4,
        origin: Origin::Collected { output: true },
        rests_on: crate::protocol::checkpoint::Authors::NONE,
        proof: Arc::from([1]),
    };
    let also = [vote(3, Platform::Aarch64), vote(4, Platform::X86_64)].map(|vote| Collected { vote, output: Output::Held });
    assert_eq!(desk.owner.merge(desk.now, JOB, also.to_vec()).taken, 2);
    desk.asked();
    desk.links(1, &lying);
    desk.links(2, &honest);
    desk.owner.state_ready(desk.now, key(1), JOB, UnitIndex(0), true);
    desk.ran(Some(honest_end(200 * FINEST_INTERVAL)));
    assert_eq!([1, 2, 3, 4].map(|worker| desk.is_convicted(worker)), [true, false, false, true]);
    assert_eq!(desk.state(0), UnitState::Disputed, "the owner's machine says whether the other instruction set explains it");
    desk.leases.clear();
}

#[test]
fn two_liars_are_both_convicted_and_the_unit_begins_anew() {
    let ((one, first), (other, second)) = (run(Some(100), 7), run(Some(100), 8));
    let mut desk = disputed(&[(1, first), (2, second)], Policy::Standard);
    desk.asked();
    desk.links(1, &one);
    desk.links(2, &other);
    desk.owner.state_ready(desk.now, key(1), JOB, UnitIndex(0), true);
    desk.ran(Some(honest_end(100 * FINEST_INTERVAL)));
    assert!(desk.is_convicted(1) && desk.is_convicted(2));
    assert_ne!(desk.state(0), UnitState::Verified);
    // The owner's machine is the only one left.
    let lease = desk.lease(ME);
    let (_, right) = run(None, 0);
    desk.try_report(ME, &lease, Outcome::Value(right)).unwrap();
    assert_eq!(desk.state(0), UnitState::Verified);
    desk.nothing_else();
}

/// Whoever does not say what it signed, or nothing, or leaves, is not convicted for that: the owner runs the unit.
#[test]
fn where_bisecting_fails_the_owner_runs_the_whole_unit() {
    let ((honest, right), (lying, wrong)) = (run(None, 0), run(Some(200), 7));
    type Spoil<'a> = Box<dyn Fn(&mut Desk) + 'a>;
    let both = |desk: &mut Desk| {
        desk.links(1, &lying);
        desk.links(2, &honest);
    };
    let spoils: Vec<(&str, Spoil<'_>)> = vec![
        ("other links than it signed", Box::new(|desk| desk.links(1, &honest))),
        ("forgotten", Box::new(|desk| desk.owner.links(desk.now, key(1), JOB, UnitIndex(0), None))),
        ("no answer", Box::new(|desk| desk.pass(Duration::from_secs(31)))),
        ("gone", Box::new(|desk| desk.owner.detach(desk.now, key(2)))),
        (
            "no state",
            Box::new(|desk| {
                both(desk);
                desk.owner.state_ready(desk.now, key(1), JOB, UnitIndex(0), false);
                desk.owner.state_ready(desk.now, key(2), JOB, UnitIndex(0), false);
            }),
        ),
        (
            "no state in time",
            Box::new(|desk| {
                both(desk);
                desk.pass(UnitLimits::default().wall + Duration::from_secs(301));
            }),
        ),
        (
            "not to be run",
            Box::new(|desk| {
                both(desk);
                desk.owner.state_ready(desk.now, key(2), JOB, UnitIndex(0), true);
                desk.ran(None);
            }),
        ),
    ];
    for (what, spoil) in spoils {
        let mut desk = disputed(&[(1, wrong), (2, right)], Policy::Standard);
        desk.asked();
        assert_eq!(desk.leases, [], "{what}: the owner waits");
        spoil(&mut desk);
        desk.take();
        assert!(!desk.is_convicted(1) && !desk.is_convicted(2), "{what}");
        let lease = desk.lease(ME);
        desk.try_report(ME, &lease, Outcome::Value(right)).unwrap();
        assert!(desk.is_convicted(1) && !desk.is_convicted(2), "{what}");
        assert_eq!(desk.state(0), UnitState::Verified);
        desk.nothing_else();
    }
}

#[test]
fn short_units_and_those_without_a_chain_are_run_whole() {
    let ((_, right), (_, wrong)) = (run(None, 0), run(Some(200), 7));
    for change in [|value| Value { chain: None, ..value }, |value| Value { gas: 1 << 31, ..value }] {
        let mut desk = disputed(&[(1, change(wrong)), (2, change(right))], Policy::Standard);
        assert_eq!(desk.asked(), []);
        desk.lease(ME);
        desk.nothing_else();
    }
}

#[test]
fn a_third_opinion_is_bisected_against_the_one_that_was_upheld() {
    let ((lying, wrong), (other, too)) = (run(Some(200), 7), run(Some(250), 8));
    let (honest, right) = run(None, 0);
    let mut desk = disputed(&[(1, wrong), (2, too)], Policy::Strict);
    desk.asked();
    desk.links(1, &lying);
    desk.links(2, &other);
    desk.owner.state_ready(desk.now, key(2), JOB, UnitIndex(0), true);
    desk.ran(Some(honest_end(200 * FINEST_INTERVAL)));
    assert!(desk.is_convicted(1) && !desk.is_convicted(2), "2 was right as far as that");
    desk.asked();
    desk.leases.clear();
    let key_of = |worker: u8| desk.owner.trust().is_proven(key(worker), GAS);
    assert!(key_of(3));
    // The owner's lease of the third vote runs out; another takes it.
    desk.owner.detach(desk.now, key(ME));
    desk.worker(3, 1);
    let lease = desk.lease(3);
    desk.worker(ME, 1);
    desk.try_report(3, &lease, Outcome::Value(right)).unwrap();
    assert_eq!(desk.state(0), UnitState::Disputed);
    assert_eq!(desk.asked().len(), 2);
    desk.links(2, &other);
    desk.links(3, &honest);
    desk.owner.state_ready(desk.now, key(3), JOB, UnitIndex(0), true);
    desk.ran(Some(honest_end(250 * FINEST_INTERVAL)));
    assert!(desk.is_convicted(2) && !desk.is_convicted(3));
    desk.leases.clear();
}

/// Alone, for a liar that departs anywhere: one segment is run, and the liar is wrong about it.
#[test]
fn wherever_a_liar_departs_it_is_found() {
    let (honest, right) = run(None, 0);
    for from in 0..=STEPS {
        let (lying, wrong) = run(Some(from), 7);
        for liar in [0, 1] {
            let mut parties = [Party { peer: key(1), value: right }, Party { peer: key(2), value: right }];
            parties[liar].value = wrong;
            let links = |side: usize| Some(if side == liar { lying.clone() } else { honest.clone() });
            let mut bisection = Bisection::new(parties, Instant(0));
            assert_eq!(bisection.on_links(key(9), links(0)), Step::Wait, "a stranger");
            assert_eq!(bisection.on_links(key(1), links(0)), Step::Wait);
            let mut step = bisection.on_links(key(2), links(1));
            if let Step::AskState(link) = step {
                assert!(link.gas < from * FINEST_INTERVAL, "an agreed state is an honest one");
                step = bisection.on_state(key(1), true);
            }
            let Step::Run(Segment { until, .. }) = step else { panic!("{step:?}") };
            let step = bisection.on_run(Some(honest_end(until)));
            assert_eq!(step, Step::Decided { wrong: vec![wrong], upheld: Some(right) }, "{from}");
        }
    }
}
