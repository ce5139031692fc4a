//! A whole peer alone: what it does with itself as its only worker, and how fast.

use super::*;
use crate::protocol::{
    ids::Digest,
    job::{Inputs, Policy, Reduce, UnitRange},
    outcome::{Exit, Outcome, UnitLimits, Value},
};

fn config(slots: u32) -> PeerConfig {
    PeerConfig {
        me: gossip::Contact::bare(PeerId([1; 32])),
        validation_class: "v1".into(),
        slots,
        memory_bytes: 1 << 30,
        gossip: gossip::Config::default(),
        seed: [7; 32],
    }
}

fn manifest(units: u32) -> Arc<Manifest> {
    let inputs = Inputs::Range(UnitRange { start: 0, end: u64::from(units), per_unit: 1 });
    Arc::new(Manifest {
        owner: PeerId([1; 32]),
        name: "job".into(),
        module: Digest([1; 32]),
        module_bytes: 100,
        args: vec![],
        inputs,
        limits: UnitLimits::default(),
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    })
}

fn finished(unit: UnitIndex) -> Finished {
    let value = Value { exit: Exit::Code(0), output: Digest([unit.0 as u8; 32]), gas: 1000 };
    Finished { outcome: Outcome::Value(value), output_bytes: 4, output: None, log: Arc::from([]), wall: Duration::from_micros(100) }
}

/// Runs a job of so many units on the peer's own slots. Returns how many events it took.
fn run_alone(units: u32) -> (Peer, u64) {
    let mut now = Instant(1_000_000);
    let mut peer = Peer::new(now, config(8), Saved::default(), 1).unwrap();
    let job = JobId([3; 32]);
    peer.handle(now, Event::Submitted { job, manifest: manifest(units), secret: JobSecret([5; 32]) });
    let mut events = 1;
    let mut runs: VecDeque<RunId> = VecDeque::new();
    loop {
        runs.extend(peer.take_actions(now).into_iter().filter_map(|action| match action {
            Action::Run(run) => Some(run),
            _ => None,
        }));
        let Some(run) = runs.pop_front() else { break };
        now = now.after(Duration::from_micros(12));
        peer.handle(now, Event::Finished { run, finished: finished(run.unit) });
        if peer.deadline() <= now {
            peer.handle(now, Event::Timer);
        }
        events += 1;
    }
    (peer, events)
}

#[test]
fn a_peer_alone_finishes_its_own_job_on_its_own_slots() {
    let (peer, events) = run_alone(500);
    let view = peer.owner().job_view(JobId([3; 32])).unwrap();
    assert_eq!((view.state, view.counts.verified, view.counts.by_owner), (JobState::Done, 500, 500));
    assert_eq!(events, 501);
    assert_eq!(peer.worker().running(), 0);
}

/// `cargo test --release --no-default-features -- --ignored --nocapture throughput`
#[test]
#[ignore = "a measurement, for the release profile"]
fn throughput_of_the_core_alone() {
    let begun = std::time::Instant::now();
    let (peer, events) = run_alone(100_000);
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(peer.owner().job_view(JobId([3; 32])).unwrap().counts.verified, 100_000);
    println!("{events} units in {seconds:.3} s: {:.0} a second", f64::from(100_000) / seconds);
}
