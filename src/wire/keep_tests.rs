//! Tests of [`super`].

use super::*;
use crate::{
    protocol::{
        ids::Attempt,
        job::{Inputs, Manifest, Policy, Reduce, UnitRange},
        outcome::{AttemptFailure, Exit, UnitLimits, Value},
        platform::Platform,
    },
    wire::manifest,
};
use core::time::Duration;

const JOB: JobId = JobId([7; 32]);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn peer(seed: u8) -> PeerId {
    signing::peer_of(&key(seed))
}

fn description(list: impl FnOnce(JobId) -> Option<SignedKeepers>) -> JobDescription {
    let manifest = Manifest {
        owner: peer(1),
        name: "primes".into(),
        module: Digest([2; 32]),
        module_bytes: 1000,
        args: vec![],
        inputs: Inputs::Range(UnitRange { start: 0, end: 100, per_unit: 7 }),
        limits: UnitLimits { wall: Duration::from_secs(9), ..UnitLimits::default() },
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    };
    let encoded = manifest::encode(&manifest);
    let (job, signature) = (manifest::job_id(&encoded), manifest::sign(&key(1), &encoded));
    JobDescription { job, manifest, encoded, signature, keepers: list(job) }
}

fn list(peers: &[u8]) -> Keepers {
    Keepers { version: 3, peers: peers.iter().map(|seed| peer(*seed)).collect() }
}

fn vote(unit: u32, output: &[u8]) -> Vote {
    Vote {
        unit: UnitIndex(unit),
        worker: peer(5),
        attempt: Attempt(2),
        ordinal: 1,
        position: 1,
        platform: Platform::X86_64,
        value: Value { exit: Exit::Code(0), output: Digest::of(output), gas: 9, chain: Some(Digest([8; 32])) },
        output_bytes: output.len() as u64,
        origin: Origin::Collected { output: true },
        rests_on: crate::protocol::checkpoint::Authors::new(&[peer(6)]).unwrap(),
        proof: Arc::from(&[1, 2, 3][..]),
    }
}

fn records() -> Vec<Record> {
    let set = |platform| {
        let mut platforms = Platforms::default();
        platforms.insert(platform);
        platforms
    };
    let found = Nondeterminism { unit: UnitIndex(4), set_aside: set(Platform::X86_64), against: set(Platform::Aarch64) };
    let value = vote(0, b"x").value;
    vec![
        Record::Vote(vote(3, b"out")),
        Record::Vote(Vote { origin: Origin::Collected { output: false }, ..vote(4, b"") }),
        Record::Verdict(UnitIndex(1), Verdict::Open),
        Record::Verdict(UnitIndex(2), Verdict::Verified { value, by_owner: true }),
        Record::Verdict(UnitIndex(3), Verdict::Failed),
        Record::Failures(UnitIndex(9), Failures { count: 3, last: AttemptFailure::TimeOut }),
        Record::Findings(Findings { audit: AuditState { convicted: 2, collusion: true }, nondeterminism: Some(found) }),
        Record::Findings(Findings::default()),
        Record::Log(UnitIndex(1), Arc::from(&b"warning"[..])),
        Record::Blob(Arc::from(&b"bytes"[..])),
    ]
}

/// What a keeper reads at once.
fn at_once() -> Vec<Record> {
    vec![Record::State(JobState::Stopped), Record::Blob(Arc::from(&b"bytes"[..])), Record::LargeBlob(Digest([6; 32]))]
}

#[test]
fn records_survive_the_wire_in_sheaves_and_some_beside_them() {
    for record in records().into_iter().chain(at_once()) {
        assert_eq!(record_from(record_to(record.clone())), Ok(record));
    }
    let message = |record| KeepMessage::Facts { job: JOB, number: 1, records: vec![record], sheaf: Bytes::new() };
    let expected = Rejection::Inconsistent { what: "a record", with: "those that are read at once" };
    assert_eq!(refused(message(Record::Verdict(UnitIndex(1), Verdict::Open)), |_| {}), expected);
}

#[test]
fn what_an_author_says_survives_the_wire() {
    let input = UnitInput { name: "a".into(), digest: Digest::of(b"in"), size: 2, inline: Some(Arc::from(&b"in"[..])) };
    for message in [
        KeepMessage::Offer(Box::new(description(|job| Some(SignedKeepers::sign(&key(1), job, list(&[2, 3])))))),
        KeepMessage::Units { job: JOB, first: UnitIndex(7), units: vec![input] },
        KeepMessage::Facts { job: JOB, number: 12, records: at_once(), sheaf: Bytes::from_static(b"opaque here") },
        KeepMessage::Copied(JOB),
        KeepMessage::Alive,
        KeepMessage::Dismiss(JOB),
        KeepMessage::Recall(JOB),
    ] {
        assert_eq!(KeepMessage::try_from(pb::KeepMessage::from(message.clone())), Ok(message));
    }
}

#[test]
fn what_a_keeper_says_survives_the_wire() {
    let votes = vec![
        HandedVote { vote: vote(1, b"out"), output: Some(Arc::from(&b"out"[..])) },
        HandedVote { vote: vote(2, &[7; 20_000]), output: None },
    ];
    for message in [
        KeeperMessage::Accepted(JOB),
        KeeperMessage::Refused { job: JOB, reason: "no room".into() },
        KeeperMessage::Kept { job: JOB, number: 3 },
        KeeperMessage::HandBack { job: JOB, votes, done: true },
    ] {
        assert_eq!(KeeperMessage::try_from(pb::KeeperMessage::from(message.clone())), Ok(message));
    }
}

fn refused(message: KeepMessage, change: impl FnOnce(&mut pb::KeepMessage)) -> Rejection {
    let mut message = pb::KeepMessage::from(message);
    change(&mut message);
    KeepMessage::try_from(message).unwrap_err()
}

#[test]
fn only_the_author_names_keepers() {
    let offer = |list: &dyn Fn(JobId) -> Option<SignedKeepers>| refused(KeepMessage::Offer(Box::new(description(list))), |_| {});
    assert_eq!(offer(&|_| None), Rejection::Missing { what: WHAT });
    let bad = Rejection::BadSignature { what: WHAT };
    assert_eq!(offer(&|job| Some(SignedKeepers::sign(&key(2), job, list(&[2])))), bad, "signed by somebody else");
    assert_eq!(offer(&|_| Some(SignedKeepers::sign(&key(1), JOB, list(&[2])))), bad, "of another job");
    let changed = |job| SignedKeepers { keepers: list(&[2, 3]), ..SignedKeepers::sign(&key(1), job, list(&[2])) };
    assert_eq!(offer(&|job| Some(changed(job))), bad, "somebody was added");
    let newer = |job| SignedKeepers { keepers: Keepers { version: 4, ..list(&[2]) }, ..SignedKeepers::sign(&key(1), job, list(&[2])) };
    assert_eq!(offer(&|job| Some(newer(job))), bad, "made newer");
    let many = Rejection::TooMany { what: "keepers", found: 4, max: 3 };
    assert_eq!(offer(&|job| Some(SignedKeepers::sign(&key(1), job, list(&[2, 3, 4, 5])))), many);
    let twice = Rejection::Inconsistent { what: "a keeper", with: "another of the list" };
    assert_eq!(offer(&|job| Some(SignedKeepers::sign(&key(1), job, list(&[2, 2])))), twice);
}

#[test]
fn breaches_are_named() {
    let facts = |records| KeepMessage::Facts { job: JOB, number: 0, records, sheaf: Bytes::new() };
    let many = refused(facts(vec![Record::State(JobState::Done); RECORDS_MAX + 1]), |_| {});
    assert_eq!(many, Rejection::TooMany { what: "records", found: RECORDS_MAX + 1, max: RECORDS_MAX });
    let long = refused(facts(vec![Record::Blob(Arc::from([0; INLINE_BYTES_MAX + 1]))]), |_| {});
    assert_eq!(long, Rejection::TooLong { what: "small blob", found: INLINE_BYTES_MAX + 1, max: INLINE_BYTES_MAX });
    let bulky = refused(facts(vec![Record::Blob(Arc::from([0; INLINE_BYTES_MAX])); 65]), |_| {});
    assert!(matches!(bulky, Rejection::TooLong { what: "outputs and logs", .. }), "{bulky}");
    let log = refused(facts(vec![Record::Log(UnitIndex(0), Arc::from([0; LOG_BYTES_MAX + 1]))]), |_| {});
    assert!(matches!(log, Rejection::TooLong { what: "log", .. }), "{log}");
    let nothing = refused(KeepMessage::Alive, |message| message.kind = None);
    assert_eq!(nothing, Rejection::Missing { what: "kind of message" });
    let name = refused(KeepMessage::Copied(JOB), |message| {
        message.kind = Some(pb::keep_message::Kind::Copied(pb::KeepCopied { job: vec![1; 3].into() }));
    });
    assert_eq!(name, Rejection::WrongLength { what: "job", found: 3, expected: 32 });
    let wrong = HandedVote { vote: vote(1, b"out"), output: Some(Arc::from(&b"put"[..])) };
    let page = pb::KeeperMessage::from(KeeperMessage::HandBack { job: JOB, votes: vec![wrong], done: false });
    assert_eq!(KeeperMessage::try_from(page), Err(Rejection::WrongDigest { what: "output" }));
    let kind = pb::KeptVerdict { unit: 1, kind: 9, value: None, by_owner: false };
    assert_eq!(verdict_from(kind), Err(Rejection::UnknownNumber { what: "verdict", found: 9 }));
}
