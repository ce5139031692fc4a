//! Tests of [`super`].

use super::*;
use crate::{
    protocol::{
        ids::PeerId,
        job::{INPUT_BYTES_MAX, Inputs, Policy, Reduce, UnitRange},
        outcome::{AttemptFailure, Exit},
    },
    wire::signing,
};
use iroh::SecretKey;

const JOB: JobId = JobId([7; 32]);

fn value(unit: u32, output: &[u8]) -> UnitOutcome {
    UnitOutcome {
        unit: UnitIndex(unit),
        attempt: Attempt(1),
        token: [3; 16],
        ordinal: 1,
        outcome: Outcome::Value(Value { exit: Exit::Code(0), output: Digest::of(output), gas: 5, chain: None }),
        output_bytes: output.len() as u64,
        inline_output: Some(output.to_vec()),
        log: b"log".to_vec(),
        wall: Duration::from_millis(12),
        rests_on: Authors::NONE,
    }
}

fn failure(unit: u32) -> UnitOutcome {
    let outcome = Outcome::Failed(AttemptFailure::TimeOut);
    UnitOutcome { outcome, output_bytes: 0, inline_output: None, ..value(unit, b"") }
}

fn batch(outcomes: Vec<UnitOutcome>) -> WorkerMessage {
    WorkerMessage::Outcomes(OutcomeBatch { job: JOB, outcomes, signature: [9; 64] })
}

fn lease(unit: u32, input: Option<UnitInput>) -> Lease {
    Lease {
        unit: UnitIndex(unit),
        attempt: Attempt(2),
        token: [4; 16],
        ordinal: 0,
        duration: Duration::from_secs(60),
        input,
        from: None,
        rests_on: Authors::NONE,
    }
}

fn input(bytes: &[u8]) -> UnitInput {
    UnitInput { name: "a.fa".into(), digest: Digest::of(bytes), size: bytes.len() as u64, inline: Some(Arc::from(bytes)) }
}

fn leases(leases: Vec<Lease>) -> CoordinatorMessage {
    CoordinatorMessage::Leases { job: JOB, leases }
}

fn from_worker(message: WorkerMessage, change: impl Fn(&mut pb::OutcomeBatch)) -> Result<WorkerMessage, Rejection> {
    let mut message = pb::WorkerMessage::from(message);
    match &mut message.kind {
        Some(pb::worker_message::Kind::Outcomes(batch)) => change(batch),
        Some(
            pb::worker_message::Kind::Hello(_)
            | pb::worker_message::Kind::Credits(_)
            | pb::worker_message::Kind::Receipts(_)
            | pb::worker_message::Kind::Links(_)
            | pb::worker_message::Kind::State(_)
            | pb::worker_message::Kind::Checkpoint(_),
        )
        | None => {}
    }
    message.try_into()
}

fn from_coordinator(message: CoordinatorMessage, change: impl Fn(&mut pb::LeaseBatch)) -> Result<CoordinatorMessage, Rejection> {
    let mut message = pb::CoordinatorMessage::from(message);
    if let Some(pb::coordinator_message::Kind::Leases(batch)) = &mut message.kind {
        change(batch);
    }
    message.try_into()
}

#[test]
fn what_a_worker_says_arrives() {
    let hello = WorkerHello { validation_class: "w/1".into(), instruction_set: "x86_64".into(), slots: 4, memory_bytes: 1 << 30 };
    let unsigned = OutcomeBatch { job: JOB, outcomes: vec![failure(0)], signature: [0; 64] };
    let fetched = UnitOutcome { inline_output: None, ..value(2, b"some") };
    for message in [
        WorkerMessage::Hello(hello),
        WorkerMessage::Credits(CREDITS_MAX),
        batch(vec![value(0, b"some"), failure(1), fetched, value(3, b"")]),
        WorkerMessage::Outcomes(unsigned),
        WorkerMessage::Links { job: JOB, unit: UnitIndex(3), links: None },
        WorkerMessage::State { job: JOB, unit: UnitIndex(3), bytes: 1 << 20 },
    ] {
        assert_eq!(from_worker(message.clone(), |_| {}), Ok(message));
    }
}

#[test]
fn what_a_coordinator_says_arrives() {
    let owner = SecretKey::from_bytes(&[1; 32]);
    let manifest = Manifest {
        owner: signing::peer_of(&owner),
        name: "job".into(),
        module: Digest([2; 32]),
        module_bytes: 100,
        args: vec![],
        inputs: Inputs::Range(UnitRange { start: 0, end: 10, per_unit: 1 }),
        limits: UnitLimits::default(),
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    };
    let encoded = manifest::encode(&manifest);
    let signature = manifest::sign(&owner, &encoded);
    let description = JobDescription { job: manifest::job_id(&encoded), manifest: manifest.clone(), encoded, signature, keepers: None };
    let forged = JobDescription { signature: [1; 64], ..description.clone() };
    let stranger = Manifest { owner: PeerId([9; 32]), ..manifest };
    let stolen = JobDescription { encoded: manifest::encode(&stranger), ..description.clone() };
    let fetched = UnitInput { inline: None, ..input(b"bytes") };
    for message in [
        CoordinatorMessage::Job(Box::new(description)),
        CoordinatorMessage::LinksWanted { job: JOB, unit: UnitIndex(3) },
        CoordinatorMessage::StateWanted { job: JOB, unit: UnitIndex(3), gas: 1 << 40, input: None },
        CoordinatorMessage::StateWanted { job: JOB, unit: UnitIndex(3), gas: 0, input: Some(input(b"bytes")) },
        leases(vec![lease(0, None), lease(1, Some(input(b"bytes"))), lease(2, Some(fetched)), lease(3, Some(input(b"")))]),
        CoordinatorMessage::Revoke { job: JOB, units: vec![] },
        CoordinatorMessage::Acknowledged { job: JOB, units: vec![UnitIndex(1), UnitIndex(0)] },
    ] {
        assert_eq!(from_coordinator(message.clone(), |_| {}), Ok(message));
    }
    for bad in [forged, stolen] {
        let refused = from_coordinator(CoordinatorMessage::Job(Box::new(bad)), |_| {});
        assert_eq!(refused, Err(Rejection::BadSignature { what: "manifest" }));
    }
}

#[test]
fn each_breach_by_a_worker_is_named() {
    let good = || batch(vec![value(0, b"some"), failure(1)]);
    let refuse = |change: &dyn Fn(&mut pb::OutcomeBatch)| from_worker(good(), change).expect_err("a breach");
    let inline = "inline output";
    assert_eq!(refuse(&|batch| batch.outcomes[1].unit = 0), Rejection::Repeated { unit: 0 });
    assert_eq!(refuse(&|batch| batch.outcomes[0].inline_output = vec![0; 4].into()), Rejection::WrongDigest { what: inline });
    assert_eq!(
        refuse(&|batch| batch.outcomes[0].inline_output = vec![0; 5].into()),
        Rejection::Inconsistent { what: inline, with: "its size" }
    );
    assert_eq!(refuse(&|batch| batch.outcomes[1].output_is_inline = true), Rejection::Inconsistent { what: inline, with: "failure" });
    assert!(matches!(refuse(&|batch| batch.outcomes[0].output_is_inline = false), Rejection::Inconsistent { .. }));
    assert!(matches!(
        refuse(&|batch| batch.outcomes[0].inline_output = vec![0; crate::wire::bounds::INLINE_BYTES_MAX + 1].into()),
        Rejection::TooLong { .. }
    ));
    assert!(matches!(refuse(&|batch| batch.outcomes[0].log = vec![0; LOG_BYTES_MAX + 1].into()), Rejection::TooLong { what: "log", .. }));
    assert_eq!(refuse(&|batch| batch.outcomes[0].ended = None), Rejection::Missing { what: "outcome" });
    assert_eq!(
        refuse(&|batch| batch.outcomes[1].ended = Some(pb::unit_outcome::Ended::Failure(99))),
        Rejection::UnknownNumber { what: "failure", found: 99 }
    );
    assert!(matches!(refuse(&|batch| batch.outcomes[0].token = vec![].into()), Rejection::WrongLength { what: "token", .. }));
    assert!(matches!(refuse(&|batch| batch.signature = vec![].into()), Rejection::WrongLength { what: "signature", .. }));
    assert!(matches!(refuse(&|batch| drop(batch.outcomes.remove(0))), Rejection::Inconsistent { what: "signature", .. }));
    assert!(matches!(refuse(&|batch| batch.job = vec![1].into()), Rejection::WrongLength { what: "job", .. }));
    let many = |count| move |batch: &mut pb::OutcomeBatch| batch.outcomes = vec![batch.outcomes[1].clone(); count];
    assert_eq!(refuse(&many(1025)), Rejection::TooMany { what: "outcomes", found: 1025, max: 1024 });
    let heavy = |batch: &mut pb::OutcomeBatch| {
        batch.outcomes =
            (0..65).map(|unit| pb::UnitOutcome { unit, log: vec![0; LOG_BYTES_MAX].into(), ..batch.outcomes[1].clone() }).collect();
    };
    assert!(matches!(refuse(&heavy), Rejection::TooLong { what: "inline output and log of a batch", .. }));
    let greedy = pb::WorkerMessage { kind: Some(pb::worker_message::Kind::Credits(pb::Credits { units: CREDITS_MAX + 1 })) };
    assert!(matches!(WorkerMessage::try_from(greedy), Err(Rejection::OutOfRange { .. })));
    let silent = WorkerMessage::try_from(pb::WorkerMessage { kind: None });
    assert_eq!(silent, Err(Rejection::Missing { what: "kind of message" }));
}

#[test]
fn each_breach_by_a_coordinator_is_named() {
    let good = || leases(vec![lease(0, Some(input(b"bytes"))), lease(1, None)]);
    let refuse = |change: &dyn Fn(&mut pb::UnitInput)| {
        let changed = |batch: &mut pb::LeaseBatch| change(batch.leases[0].input.as_mut().expect("the first has an input"));
        from_coordinator(good(), changed).expect_err("a breach")
    };
    assert_eq!(refuse(&|input| input.inline = vec![1; 5].into()), Rejection::WrongDigest { what: "inline input" });
    assert!(matches!(refuse(&|input| input.size = 6), Rejection::Inconsistent { .. }));
    assert!(matches!(refuse(&|input| input.size = INPUT_BYTES_MAX + 1), Rejection::TooLong { what: "input", .. }));
    assert!(matches!(refuse(&|input| input.name = "x".repeat(1025)), Rejection::TooLong { what: "name of a unit", .. }));
    let same = from_coordinator(good(), |batch| batch.leases[1].unit = 0);
    assert_eq!(same, Err(Rejection::Repeated { unit: 0 }));
    let units: Vec<UnitIndex> = (0..1025).map(UnitIndex).collect();
    let many = from_coordinator(CoordinatorMessage::Revoke { job: JOB, units }, |_| {});
    assert_eq!(many, Err(Rejection::TooMany { what: "revoked units", found: 1025, max: 1024 }));
}

#[test]
fn the_largest_batch_fits_a_message() {
    use prost::Message as _;
    let share = BATCH_INLINE_BYTES_MAX / BATCH_MAX;
    let outcomes = (0..1024).map(|unit| UnitOutcome { log: vec![0; share - 4], ..value(u32::MAX - unit, b"some") }).collect();
    let message = pb::WorkerMessage::from(batch(outcomes));
    assert!(message.encoded_len() < super::super::bounds::WORK_MESSAGE_BYTES_MAX, "{}", message.encoded_len());
    assert!(WorkerMessage::try_from(message).is_ok());
}
