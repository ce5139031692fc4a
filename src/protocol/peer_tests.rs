//! A whole peer alone: what it does with itself as its only worker, and how fast.

use super::*;
use crate::protocol::{
    checkpoint::Authors,
    fact::Fact,
    ids::Digest,
    job::{Inputs, Manifest, Policy, Reduce, UnitRange},
    outcome::{Exit, Outcome, UnitLimits, Value},
    owner::{Lease, ReportRejected},
    verify::JobSecret,
    worker::RunId,
};

#[path = "peer_keeping_tests.rs"]
mod keeping;

fn config(slots: u32) -> PeerConfig {
    PeerConfig {
        me: gossip::Contact::bare(PeerId([1; 32])),
        validation_class: "v1".into(),
        platform: Platform::X86_64,
        slots,
        memory_bytes: 1 << 30,
        gossip: gossip::Config::default(),
        keeper_silence: crate::protocol::keeping::SILENCE,
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
    let value = Value { exit: Exit::Code(0), output: Digest([unit.0 as u8; 32]), gas: 1000, chain: None };
    Finished { outcome: Outcome::Value(value), output_bytes: 4, output: None, log: Arc::from([]), wall: Duration::from_micros(100) }
}

/// Runs a job of so many units on the peer's own slots. Returns how many events it took.
fn run_alone(units: u32) -> (Peer, u64) {
    let mut now = Instant(1_000_000);
    let mut peer = Peer::new(now, config(8), Saved::default(), 1).unwrap();
    let job = JobId([3; 32]);
    peer.handle(now, Event::Submitted { job, manifest: manifest(units), secret: JobSecret([5; 32]), keep: 0 });
    let mut events = 1;
    let mut runs: VecDeque<RunId> = VecDeque::new();
    loop {
        runs.extend(peer.take_actions(now).into_iter().filter_map(|action| match action {
            Action::Run { run, .. } => Some(run),
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

/// The events of a worker's life with this coordinator, up to its first lease.
fn first_lease(peer: &mut Peer, now: Instant, worker: PeerId) -> Lease {
    peer.handle(now, Event::Met { peer: worker, prefix: None, lineage: None, own: false });
    peer.handle(now, Event::WorkerOpened { peer: worker, class: "v1".into(), platform: Platform::X86_64, slots: 1 });
    peer.handle(now, Event::WorkerWindow { peer: worker, window: 1 });
    let leases = peer.take_actions(now).into_iter().find_map(|action| match action {
        Action::SendLeases { to, leases, .. } if to == worker => Some(leases),
        _ => None,
    });
    leases.expect("the job has units")[0].clone()
}

#[test]
fn a_vote_is_durable_before_it_is_acknowledged_and_before_anything_rests_on_it() {
    let (now, job, worker) = (Instant(1_000_000), JobId([3; 32]), PeerId([2; 32]));
    let mut peer = Peer::new(now, config(0), Saved::default(), 1).unwrap();
    peer.handle(now, Event::Submitted { job, manifest: manifest(10), secret: JobSecret([5; 32]), keep: 0 });
    let lease = first_lease(&mut peer, now, worker);
    let finished = finished(lease.unit);
    let Lease { unit, attempt, ordinal, token, rests_on, .. } = lease;
    let report = own_report(Outgoing { unit, attempt, ordinal, token, input: None, rests_on, finished }, Platform::X86_64);
    peer.handle(now, Event::Reported { from: worker, job, report });
    let order: Vec<_> = peer
        .take_actions(now)
        .into_iter()
        .filter_map(|action| match action {
            Action::Persist(Fact::Vote(..)) => Some("vote"),
            Action::SendAcknowledged { .. } => Some("acknowledged"),
            Action::SendLeases { .. } => Some("leases"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["vote", "leases", "acknowledged"]);
}

#[test]
fn a_worker_of_another_class_is_refused_and_a_bad_report_is_acknowledged() {
    let (now, job, worker) = (Instant(1_000_000), JobId([3; 32]), PeerId([2; 32]));
    let mut peer = Peer::new(now, config(0), Saved::default(), 1).unwrap();
    peer.take_actions(now);
    peer.handle(now, Event::WorkerOpened { peer: worker, class: "v2".into(), platform: Platform::X86_64, slots: 1 });
    assert!(matches!(peer.take_actions(now)[..], [Action::Refuse(refused)] if refused == worker));
    let (attempt, token) = (crate::protocol::ids::Attempt(0), crate::protocol::owner::LeaseToken([0; 16]));
    let report = own_report(
        Outgoing { unit: UnitIndex(0), attempt, ordinal: 0, token, input: None, rests_on: Authors::NONE, finished: finished(UnitIndex(0)) },
        Platform::X86_64,
    );
    peer.handle(now, Event::Reported { from: worker, job, report });
    let actions = peer.take_actions(now);
    assert!(matches!(
        &actions[..],
        [Action::Rejected { reason: ReportRejected::UnknownJob, .. }, Action::SendAcknowledged { units, .. }] if units == &[UnitIndex(0)]
    ));
}

/// `cargo test --release --no-default-features -- --ignored --nocapture throughput`
#[test]
#[ignore = "a measurement, for the release profile"]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures real time")]
fn throughput_of_the_core_alone() {
    let begun = std::time::Instant::now();
    let (peer, events) = run_alone(100_000);
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(peer.owner().job_view(JobId([3; 32])).unwrap().counts.verified, 100_000);
    println!("{events} events, 100000 units in {seconds:.3} s: {:.0} a second", f64::from(100_000) / seconds);
}

/// One coordinator and 1,000 remote workers, which answer at once.
#[test]
#[ignore = "a measurement, for the release profile"]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures real time")]
fn throughput_of_a_coordinator_with_a_thousand_workers() {
    let (mut now, job) = (Instant(1_000_000), JobId([3; 32]));
    let key = |number: u32| PeerId(Digest::of(&number.to_le_bytes()).0);
    let standing = super::super::fact::Standing { verified_units: 1000, verified_gas: 1_000_000_000, ..Default::default() };
    let standings = (0..1000).map(|number| (key(number), standing)).collect();
    let mut peer = Peer::new(now, config(0), Saved { standings, ..Saved::default() }, 1).unwrap();
    peer.handle(now, Event::Submitted { job, manifest: manifest(100_000), secret: JobSecret([5; 32]), keep: 0 });
    for number in 0..1000 {
        peer.handle(now, Event::WorkerOpened { peer: key(number), class: "v1".into(), platform: Platform::X86_64, slots: 4 });
        peer.handle(now, Event::WorkerWindow { peer: key(number), window: 8 });
    }
    let begun = std::time::Instant::now();
    let mut held: VecDeque<(PeerId, Lease)> = VecDeque::new();
    let mut reports = 0u32;
    loop {
        for action in peer.take_actions(now) {
            if let Action::SendLeases { to, leases, .. } = action {
                held.extend(leases.into_iter().map(|lease| (to, lease)));
            }
        }
        let Some((from, lease)) = held.pop_front() else { break };
        now = now.after(Duration::from_micros(10));
        let Lease { unit, attempt, ordinal, token, rests_on, .. } = lease;
        let report =
            own_report(Outgoing { unit, attempt, ordinal, token, input: None, rests_on, finished: finished(unit) }, Platform::X86_64);
        peer.handle(now, Event::Reported { from, job, report });
        reports += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let view = peer.owner().job_view(job).unwrap();
    assert_eq!((view.state, view.counts.verified), (JobState::Done, 100_000));
    println!("{reports} reports in {seconds:.3} s: {:.0} a second", f64::from(reports) / seconds);
}
