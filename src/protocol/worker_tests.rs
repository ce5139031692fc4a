//! The worker's side alone: events in, actions out.

use super::*;
use crate::protocol::{
    chain::Links,
    checkpoint::{Authors, Checkpoint},
    ids::Digest,
    outcome::{Exit, Value},
    owner::LeaseToken,
};
use rand_chacha::rand_core::SeedableRng;
use std::sync::Arc;

const JOB: JobId = JobId([9; 32]);

fn key(peer: u8) -> PeerId {
    PeerId([peer; 32])
}

fn lease(unit: u32) -> Lease {
    Lease {
        unit: UnitIndex(unit),
        attempt: Attempt(0),
        ordinal: 0,
        token: LeaseToken([1; 16]),
        duration: Duration::from_secs(60),
        input: None,
        from: None,
        rests_on: Authors::NONE,
    }
}

fn run(coordinator: u8, unit: u32) -> RunId {
    RunId { coordinator: key(coordinator), job: JOB, unit: UnitIndex(unit), attempt: Attempt(0) }
}

fn finished(bytes: usize) -> Finished {
    let value = Value { exit: Exit::Code(0), output: Digest([1; 32]), gas: 1, chain: None };
    let output = (bytes > 0).then(|| Arc::from(vec![0; bytes]));
    Finished { outcome: Outcome::Value(value), output_bytes: bytes as u64, output, log: Arc::from([]), wall: Duration::from_secs(1) }
}

struct Bench {
    worker: Worker,
    now: Instant,
}

impl Bench {
    fn new(slots: u32) -> Self {
        Self { worker: Worker::new(slots, ChaCha8Rng::seed_from_u64(1)), now: Instant(1_000_000) }
    }

    /// With an open stream to coordinator 1.
    fn at_work(slots: u32) -> Self {
        let mut bench = Self::new(slots);
        bench.hear(&[1]);
        assert_eq!(bench.take(), [WorkerAction::Open(key(1))]);
        bench.worker.opened(key(1));
        assert_eq!(bench.take(), [WorkerAction::Window { to: key(1), window: 2 * slots }]);
        bench
    }

    fn hear(&mut self, coordinators: &[u8]) {
        self.worker.heard_of(self.now, coordinators.iter().map(|&peer| key(peer)).collect());
    }

    fn take(&mut self) -> Vec<WorkerAction> {
        self.worker.take_actions(self.now)
    }

    fn pass(&mut self, time: Duration) -> Vec<WorkerAction> {
        self.now = self.now.after(time);
        self.take()
    }

    fn nothing_else(mut self) {
        assert_eq!(self.take(), []);
    }
}

#[test]
fn a_state_that_nobody_is_said_to_stand_behind_is_not_gone_on_from() {
    let (links, state) = (Arc::new(Links::default()), Digest([3; 32]));
    let from = Some(Arc::new(Checkpoint { gas: 5, state, bytes: 9, links, rests_on: Authors::NONE }));
    let mut bench = Bench::at_work(2);
    let of_another = Lease { from: from.clone(), rests_on: Authors::NONE.with(key(7)).unwrap(), ..lease(4) };
    let of_nobody = Lease { from: from.clone(), ..lease(5) };
    bench.worker.leased(bench.now, key(1), JOB, &[of_another, of_nobody]);
    assert_eq!(bench.take(), [WorkerAction::Run { run: run(1, 4), from }, WorkerAction::Run { run: run(1, 5), from: None }]);
}

#[test]
fn what_is_leased_runs_is_reported_and_kept_until_acknowledged() {
    let mut bench = Bench::at_work(2);
    bench.worker.leased(bench.now, key(1), JOB, &[lease(4), lease(4), lease(5)]);
    assert_eq!(
        bench.take(),
        [WorkerAction::Run { run: run(1, 4), from: None }, WorkerAction::Run { run: run(1, 5), from: None }],
        "the same lease runs once"
    );
    bench.worker.finished(run(1, 4), finished(3));
    bench.worker.finished(run(1, 4), finished(3));
    let reported = |actions: &[WorkerAction]| match actions {
        [WorkerAction::Report { to, outcomes, .. }] => (to.0[0], outcomes.iter().map(|outgoing| outgoing.unit.0).collect::<Vec<_>>()),
        other => panic!("{other:?}"),
    };
    assert_eq!(reported(&bench.take()), (1, vec![4]));
    bench.worker.closed(bench.now, key(1));
    bench.worker.finished(run(1, 5), finished(3));
    assert_eq!(bench.take(), [], "nobody to report to");
    assert_eq!(bench.worker.deadline(), Some(bench.now.after(Duration::from_secs(5))));
    assert_eq!(bench.pass(Duration::from_secs(5)), [WorkerAction::Open(key(1))]);
    bench.worker.opened(key(1));
    let again = bench.take();
    assert_eq!(reported(&again[..1]), (1, vec![4, 5]), "everything that was not acknowledged");
    assert_eq!(again[1..], [WorkerAction::Window { to: key(1), window: 5 }]);
    bench.worker.acknowledged(key(1), JOB, &[UnitIndex(4), UnitIndex(5), UnitIndex(6)]);
    let kept = bench.take();
    let [WorkerAction::Keep { receipts, .. }] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(receipts.iter().map(|kept| (kept.unit.0, kept.output.is_some())).collect::<Vec<_>>(), [(4, true), (5, true)]);
    bench.hear(&[]);
    assert_eq!(bench.take(), [WorkerAction::Close(key(1))], "nothing is held any more");
    bench.nothing_else();
}

#[test]
fn revoking_stops_what_runs_and_forgets_the_results() {
    let mut bench = Bench::at_work(2);
    bench.worker.leased(bench.now, key(1), JOB, &[lease(1), lease(2)]);
    bench.worker.finished(run(1, 1), finished(3));
    bench.worker.revoked(key(1), JOB);
    assert_eq!(
        bench.take(),
        [
            WorkerAction::Run { run: run(1, 1), from: None },
            WorkerAction::Run { run: run(1, 2), from: None },
            WorkerAction::Cancel(run(1, 2))
        ]
    );
    bench.worker.finished(run(1, 2), finished(3));
    assert_eq!(bench.worker.running(), 0);
    bench.nothing_else();
}

#[test]
fn a_coordinator_that_cannot_be_reached_is_tried_less_and_less() {
    let mut bench = Bench::new(1);
    bench.hear(&[1]);
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(bench.take(), [WorkerAction::Open(key(1))]);
        bench.worker.closed(bench.now, key(1));
        let due = bench.worker.deadline().expect("it is tried again");
        waits.push(due.since(bench.now).as_secs());
        bench.now = due;
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn leases_far_beyond_the_window_are_not_taken() {
    let mut bench = Bench::at_work(2);
    let many: Vec<_> = (0..1000).map(lease).collect();
    bench.worker.leased(bench.now, key(1), JOB, &many);
    assert_eq!(bench.take().len(), 2 * 4 + WINDOW_SLACK);
    bench.nothing_else();
}

#[test]
fn leases_of_strangers_are_not_taken() {
    let mut bench = Bench::at_work(2);
    bench.worker.leased(bench.now, key(2), JOB, &[lease(1)]);
    bench.worker.opened(key(3));
    assert_eq!(bench.take(), [WorkerAction::Close(key(3))]);
    bench.nothing_else();
}

#[test]
fn pausing_takes_no_more_and_drops_nothing() {
    let mut bench = Bench::at_work(2);
    bench.worker.leased(bench.now, key(1), JOB, &[lease(1)]);
    bench.take();
    bench.worker.set_paused(bench.now, true);
    assert_eq!(bench.take(), [WorkerAction::Window { to: key(1), window: 0 }]);
    assert_eq!((bench.worker.running(), bench.worker.deadline()), (1, None));
    bench.worker.set_paused(bench.now, false);
    assert_eq!(bench.take(), [WorkerAction::Window { to: key(1), window: 4 }]);
    bench.nothing_else();
}

#[test]
fn a_worker_is_drained_when_nothing_runs_and_whoever_is_there_has_acknowledged() {
    let mut bench = Bench::at_work(2);
    assert!(bench.worker.is_drained());
    bench.worker.leased(bench.now, key(1), JOB, &[lease(1)]);
    bench.worker.set_paused(bench.now, true);
    bench.take();
    assert_eq!((bench.worker.runs(), bench.worker.is_drained()), (vec![run(1, 1)], false));
    bench.worker.finished(run(1, 1), finished(1));
    bench.take();
    assert!(!bench.worker.is_drained(), "it is not acknowledged");
    let mut gone = bench.worker.clone();
    gone.closed(bench.now, key(1));
    assert!(gone.is_drained(), "nobody is there to do it");
    bench.worker.acknowledged(key(1), JOB, &[UnitIndex(1)]);
    assert!(bench.worker.is_drained());
    assert!(matches!(bench.take()[..], [WorkerAction::Keep { .. }]), "its receipt is kept while the node ends, too");
    bench.nothing_else();
}

#[test]
fn no_new_leases_are_welcome_while_too_much_waits_for_acknowledgement() {
    let mut bench = Bench::at_work(2);
    bench.worker.leased(bench.now, key(1), JOB, &[lease(1), lease(2)]);
    bench.worker.finished(run(1, 1), finished(HELD_BYTES_MAX + 1));
    assert!(bench.take().contains(&WorkerAction::Window { to: key(1), window: 0 }));
    bench.worker.leased(bench.now, key(1), JOB, &[lease(3)]);
    assert_eq!(bench.worker.running(), 2, "one that was on its way is not lost");
    bench.worker.finished(run(1, 2), finished(HELD_BYTES_MAX));
    bench.take();
    bench.worker.leased(bench.now, key(1), JOB, &[lease(4)]);
    assert_eq!((bench.take(), bench.worker.running()), (vec![], 1), "but those of one that does not care are");
    bench.worker.acknowledged(key(1), JOB, &[UnitIndex(1), UnitIndex(2)]);
    let actions = bench.take();
    let [WorkerAction::Keep { receipts, .. }, WorkerAction::Window { window, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(*window > 0 && receipts[0].output.is_none(), "a long output is not kept");
    bench.nothing_else();
}

/// A lease that is not taken is missed until it runs out, so whoever keeps to the windows never sees that.
#[test]
fn fewer_leases_are_welcome_the_more_results_wait_and_none_that_was_welcome_is_lost() {
    let mut bench = Bench::at_work(2);
    let (mut window, mut leased, mut done) = (2, 0, 0);
    let mut smallest = u32::MAX;
    let mut fill = |bench: &mut Bench, window: u32| {
        let out = leased - done;
        let leases: Vec<Lease> = (leased..leased + window.saturating_sub(out)).map(lease).collect();
        bench.worker.leased(bench.now, key(1), JOB, &leases);
        leased += leases.len() as u32;
        assert_eq!(bench.worker.running(), (leased - done) as usize, "with {done} results that wait");
        for unit in done..leased {
            bench.worker.finished(run(1, unit), Finished { wall: Duration::from_micros(1), ..finished(1) });
        }
        done = leased;
    };
    for _ in 0..20 {
        // It does not hear of a new window before it has filled the old one once more.
        fill(&mut bench, window);
        let before = window;
        let said = bench
            .take()
            .into_iter()
            .filter_map(|action| if let WorkerAction::Window { window, .. } = action { Some(window) } else { None });
        window = said.last().unwrap_or(window);
        fill(&mut bench, before);
        smallest = smallest.min(window);
    }
    assert_eq!(smallest, 0, "it waits for acknowledgements");
}

#[test]
fn leases_under_way_are_taken_however_often_the_window_shrinks_meanwhile() {
    let mut bench = Bench::at_work(1);
    let said = |bench: &mut Bench| {
        let windows = bench
            .take()
            .into_iter()
            .filter_map(|action| if let WorkerAction::Window { window, .. } = action { Some(window) } else { None });
        windows.last()
    };
    // A hundred no-op units make it tell the largest window; some that take long make it shrink, step by step.
    let mut unit = 0;
    let mut run_one = |bench: &mut Bench, wall| {
        bench.worker.leased(bench.now, key(1), JOB, &[lease(unit)]);
        bench.worker.finished(run(1, unit), Finished { wall, ..finished(1) });
        bench.worker.acknowledged(key(1), JOB, &[UnitIndex(unit)]);
        unit += 1;
    };
    (0..200).for_each(|_| run_one(&mut bench, Duration::from_micros(1)));
    assert_eq!(said(&mut bench), Some(WINDOW_MAX));
    bench.now = bench.now.after(Duration::from_secs(100));
    let mut shrunk = Vec::new();
    for _ in 0..5 {
        run_one(&mut bench, Duration::from_millis(20));
        shrunk.extend(said(&mut bench));
    }
    assert!(shrunk.len() > 2 && shrunk.iter().all(|window| *window < WINDOW_MAX / 4), "{shrunk:?}");
    let under_way: Vec<Lease> = (1000..1000 + WINDOW_MAX).map(lease).collect();
    bench.worker.leased(bench.now, key(1), JOB, &under_way);
    assert_eq!(bench.worker.running(), WINDOW_MAX as usize);
    // Later it can only be somebody who does not care.
    bench.worker.revoked(key(1), JOB);
    bench.now = bench.now.after(Duration::from_secs(30));
    bench.worker.leased(bench.now, key(1), JOB, &under_way);
    assert!(bench.worker.running() < WINDOW_MAX as usize / 4);
}

#[test]
fn useless_coordinators_make_room_for_others() {
    let mut bench = Bench::new(1);
    let all: Vec<u8> = (1..=40).collect();
    bench.hear(&all);
    let opened = |actions: Vec<WorkerAction>| -> BTreeSet<PeerId> {
        actions.into_iter().filter_map(|action| if let WorkerAction::Open(peer) = action { Some(peer) } else { None }).collect()
    };
    let first = opened(bench.take());
    assert_eq!(first.len(), COORDINATORS_MAX);
    assert!(first.iter().any(|peer| peer.0[0] > 16), "not those with the lowest keys: {first:?}");
    first.iter().for_each(|peer| bench.worker.opened(*peer));
    let busy = *first.first().unwrap();
    bench.worker.leased(bench.now, busy, JOB, &[lease(1)]);
    assert_eq!(bench.worker.deadline(), Some(bench.now.after(USELESS_AFTER)));
    let mut seen = first;
    for _ in 0..20 {
        let more = opened(bench.pass(USELESS_AFTER));
        more.iter().for_each(|peer| bench.worker.opened(*peer));
        seen.extend(more);
        assert!(bench.worker.coordinators.len() <= COORDINATORS_MAX);
        assert!(bench.worker.coordinators.contains_key(&busy), "who gave work stays");
    }
    assert_eq!(seen.len(), 40, "everybody had a turn");
}

#[test]
fn outcomes_go_out_in_bounded_batches() {
    let mut bench = Bench::at_work(2000);
    let leases: Vec<_> = (0..3000).map(lease).collect();
    bench.worker.leased(bench.now, key(1), JOB, &leases);
    bench.take();
    (0..3000).for_each(|unit| bench.worker.finished(run(1, unit), finished(if unit < 10 { 300_000 } else { 0 })));
    for action in bench.take() {
        if let WorkerAction::Report { outcomes, .. } = action {
            assert!(outcomes.len() <= OUTCOME_BATCH_MAX);
            assert!(outcomes.iter().map(Outgoing::bytes).sum::<usize>() <= OUTCOME_BATCH_BYTES_MAX);
        }
    }
}

/// With open streams to coordinators 1 and 2, of which 1 gives something and 2 has given nothing for a while.
fn bench_of_two() -> Bench {
    let mut bench = Bench::new(4);
    bench.hear(&[1, 2]);
    bench.take();
    [1, 2].into_iter().for_each(|peer| bench.worker.opened(key(peer)));
    let told = |peer| WorkerAction::Window { to: key(peer), window: 4 };
    assert_eq!(bench.take(), [told(1), told(2)], "nobody has given anything, so all have the same share");
    bench.worker.leased(bench.now, key(1), JOB, &[lease(1), lease(2)]);
    assert_eq!(bench.take().len(), 2, "both run, and both shares are kept for now");
    bench
}

#[test]
fn the_share_of_a_coordinator_that_gives_nothing_goes_to_the_others() {
    let mut bench = bench_of_two();
    let told = |peer, window| WorkerAction::Window { to: key(peer), window };
    assert_eq!(bench.pass(Duration::from_secs(2)), [told(1, 8), told(2, 1)]);
    bench.worker.leased(bench.now, key(2), JOB, &[lease(7)]);
    assert_eq!(
        bench.take(),
        [WorkerAction::Run { run: run(2, 7), from: None }, told(1, 4), told(2, 4)],
        "and comes back with its first lease"
    );
    bench.nothing_else();
}

#[test]
fn whoever_is_favoured_gets_all_slots_for_as_long_as_it_gives_something() {
    let mut bench = bench_of_two();
    let told = |peer, window| WorkerAction::Window { to: key(peer), window };
    bench.worker.favour(Some(key(2)));
    assert_eq!(bench.pass(Duration::from_secs(2)), [told(1, 8), told(2, 1)], "it has given nothing");
    bench.worker.favour(Some(key(1)));
    assert_eq!(bench.take(), [told(2, 0)]);
    bench.worker.favour(None);
    assert_eq!(bench.take(), [told(2, 1)]);
    bench.nothing_else();
}
