//! The wire format, for ever: golden files of every kind of message, and random bytes at every decoder.
//!
//! A golden file is written once, with `MANYHANDS_GOLDEN=write` for a new kind of message, and never changed: peers of older
//! versions have only that.
#![cfg(feature = "net")]

use manyhands::{
    protocol::{
        announce::{Announcement, Capacity, JobOpen, Subject},
        chain::{FINEST_INTERVAL, Link, Links},
        checkpoint::{Authors, Checkpoint},
        fraud::{Accusation, Evidence, Receipt},
        ids::{Attempt, Digest, GridId, JobId, PeerId, UnitIndex},
        job::{Inputs, Manifest, Policy, Reduce, UnitRange},
        outcome::{AttemptFailure, Exit, Outcome, Trap, UnitLimits, Value},
        owner::{LeaseToken, Offer},
        worker::Kept,
    },
    wire::{
        accusation as wire_accusation,
        announce::SignedAnnouncement,
        kept::{self, ReceiptPage},
        manifest, peer as pb,
        receipt::{self, Claim, Receipts},
        signing,
        work::{CoordinatorMessage, JobDescription, Lease, OutcomeBatch, UnitInput, UnitOutcome, WorkerHello, WorkerMessage},
    },
};
use prost::Message;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use std::{path::PathBuf, sync::Arc, time::Duration};

const JOB: JobId = JobId([7; 32]);
const GRID: GridId = GridId([8; 32]);

fn key() -> iroh::SecretKey {
    iroh::SecretKey::from_bytes(&[42; 32])
}

/// The file's bytes, which are `encoded` when it is written now.
fn golden(name: &str, encoded: &[u8]) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.bin")].iter().collect();
    if std::env::var_os("MANYHANDS_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, encoded).expect("the golden file can be written");
    }
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; see the head of this file", path.display()));
    assert!(bytes == encoded, "{name}: what is written today differs from the golden file");
    bytes
}

fn manifest_of(inputs: Inputs, reduce: Reduce) -> Manifest {
    Manifest {
        owner: signing::peer_of(&key()),
        name: "primes".into(),
        module: Digest([2; 32]),
        module_bytes: 1000,
        args: vec!["{start}".into(), "--to={end}".into()],
        inputs,
        limits: UnitLimits { gas: 10_000_000_000_000, ..UnitLimits::default() },
        policy: Policy::Strict,
        priority: -3,
        tags: vec!["maths".into(), "number-theory".into()],
        purpose: "to count primes".into(),
        reduce,
        nonce: vec![9, 9],
    }
}

fn manifests() -> [(&'static str, Manifest); 2] {
    let reduce = Reduce::Module { module: Digest([3; 32]), args: vec!["-".into()] };
    [
        ("manifest-range", manifest_of(Inputs::Range(UnitRange { start: 1, end: 1000, per_unit: 7 }), Reduce::Concat)),
        ("manifest-table", manifest_of(Inputs::Table { units: 3, digest: Digest([4; 32]) }, reduce)),
    ]
}

fn value(unit: u32, exit: Exit, output: &[u8]) -> UnitOutcome {
    UnitOutcome {
        unit: UnitIndex(unit),
        attempt: Attempt(unit + 1),
        token: [3; 16],
        ordinal: 1,
        outcome: Outcome::Value(Value { exit, output: Digest::of(output), gas: 123_456_789_012, chain: None }),
        output_bytes: output.len() as u64,
        inline_output: Some(output.to_vec()),
        log: b"a warning".to_vec(),
        wall: Duration::from_millis(1234),
        rests_on: Authors::NONE,
    }
}

fn with_chain() -> UnitOutcome {
    let plain = value(4, Exit::Code(0), b"long");
    let Outcome::Value(value) = plain.outcome else { panic!("a value") };
    UnitOutcome { outcome: Outcome::Value(Value { chain: Some(Digest([6; 32])), ..value }), ..plain }
}

/// One that rests on others.
fn shared() -> UnitOutcome {
    UnitOutcome { rests_on: authors(), ..with_chain() }
}

fn authors() -> Authors {
    Authors::new(&[PeerId([1; 32]), PeerId([2; 32])]).expect("in order")
}

fn checkpoint() -> Arc<Checkpoint> {
    let links = Links::new(0, vec![Link { gas: FINEST_INTERVAL + 7, state: Digest([5; 32]) }]).expect("a chain");
    Arc::new(Checkpoint { gas: FINEST_INTERVAL + 9, state: Digest([6; 32]), bytes: 70_000, links: Arc::new(links), rests_on: authors() })
}

fn offer() -> Offer {
    Offer { unit: UnitIndex(300), attempt: Attempt(2), ordinal: 1, token: LeaseToken([4; 16]), checkpoint: checkpoint() }
}

fn from_workers() -> [(&'static str, WorkerMessage); 9] {
    let fetched = UnitOutcome { inline_output: None, output_bytes: 1 << 20, ..value(2, Exit::Trap(Trap::Unreachable), b"far") };
    let failed = UnitOutcome {
        outcome: Outcome::Failed(AttemptFailure::OutOfMemory),
        output_bytes: 0,
        inline_output: None,
        ..value(3, Exit::OutOfGas, b"")
    };
    let outcomes = vec![value(0, Exit::Code(0), b"some output"), value(1, Exit::Code(u32::MAX), b""), fetched, failed];
    let claims: Vec<Claim> = outcomes.iter().filter_map(|outcome| Claim::of_outcome(outcome, None)).collect();
    let signature = Receipts::new(JOB, "wasmtime-48/1", "x86_64", &claims).expect("a small batch").sign(&key());
    let link = |number: u64| Link { gas: number * FINEST_INTERVAL + 7, state: Digest([5; 32]) };
    let links = Links::new(0, vec![link(1), link(2)]).expect("a chain");
    let stepped = with_chain();
    let claims = [Claim::of_outcome(&stepped, None).expect("a value")];
    let signature_of_stepped = Receipts::new(JOB, "wasmtime-48/1", "x86_64", &claims).expect("a small batch").sign(&key());
    let claims = [Claim::of_outcome(&shared(), None).expect("a value")];
    let signature_of_shared = Receipts::new(JOB, "wasmtime-48/1", "x86_64", &claims).expect("a small batch").sign(&key());
    let hello = WorkerHello { validation_class: "wasmtime-48/1".into(), instruction_set: "x86_64".into(), slots: 8, memory_bytes: 8 << 30 };
    [
        ("worker-hello", WorkerMessage::Hello(hello)),
        ("worker-credits", WorkerMessage::Credits(65_536)),
        ("worker-receipts", WorkerMessage::Receipts(receipt_page())),
        ("worker-links", WorkerMessage::Links { job: JOB, unit: UnitIndex(300), links: Some(links) }),
        ("worker-state", WorkerMessage::State { job: JOB, unit: UnitIndex(300), bytes: 5 << 20 }),
        ("worker-checkpoint", WorkerMessage::Offer { job: JOB, offer: offer() }),
        (
            "worker-outcome-on-others",
            WorkerMessage::Outcomes(OutcomeBatch { job: JOB, outcomes: vec![shared()], signature: signature_of_shared }),
        ),
        (
            "worker-outcome-with-chain",
            WorkerMessage::Outcomes(OutcomeBatch { job: JOB, outcomes: vec![stepped], signature: signature_of_stepped }),
        ),
        ("worker-outcomes", WorkerMessage::Outcomes(OutcomeBatch { job: JOB, outcomes, signature })),
    ]
}

fn receipt_page() -> ReceiptPage {
    let value = Value { exit: Exit::Code(0), output: Digest::of(b"42"), gas: 123_456_789_012, chain: None };
    let (unit, attempt, token) = (UnitIndex(7), Attempt(2), LeaseToken([3; 16]));
    let short = Kept {
        unit,
        attempt,
        ordinal: 1,
        token,
        input: Some(Digest([7; 32])),
        rests_on: Authors::NONE,
        value,
        output_bytes: 2,
        output: Some(b"42"[..].into()),
    };
    let long = Kept { unit: UnitIndex(8), output_bytes: 1 << 20, output: None, ..short.clone() };
    ReceiptPage { job: JOB, receipts: vec![short, long], signature: [5; 64], next: Some(300) }
}

fn from_coordinators() -> [(&'static str, CoordinatorMessage); 9] {
    let [(_, manifest), _] = manifests();
    let encoded = manifest::encode(&manifest);
    let signature = manifest::sign(&key(), &encoded);
    let description = JobDescription { job: manifest::job_id(&encoded), manifest, encoded, signature, keepers: None };
    let lease = |unit, input| Lease {
        unit: UnitIndex(unit),
        attempt: Attempt(2),
        token: [4; 16],
        ordinal: 1,
        duration: Duration::from_secs(90),
        input,
        from: None,
        rests_on: Authors::NONE,
    };
    let input = |inline: &[u8]| UnitInput {
        name: "a.fa".into(),
        digest: Digest::of(inline),
        size: inline.len() as u64,
        inline: Some(inline.into()),
    };
    let fetched = UnitInput { inline: None, size: 1 << 20, ..input(b"far") };
    let resumed = Lease { from: Some(checkpoint()), rests_on: authors(), ..lease(300, None) };
    let leases = vec![lease(0, None), lease(1, Some(input(b"ACGT"))), lease(2, Some(input(b""))), lease(3, Some(fetched))];
    [
        ("coordinator-job", CoordinatorMessage::Job(Box::new(description))),
        ("coordinator-leases", CoordinatorMessage::Leases { job: JOB, leases }),
        ("coordinator-lease-from-checkpoint", CoordinatorMessage::Leases { job: JOB, leases: vec![resumed] }),
        ("coordinator-checkpoint-taken", CoordinatorMessage::CheckpointTaken { job: JOB, unit: UnitIndex(300), state: Digest([6; 32]) }),
        ("coordinator-receipts", CoordinatorMessage::AskReceipts { job: JOB, after: 300 }),
        ("coordinator-links-wanted", CoordinatorMessage::LinksWanted { job: JOB, unit: UnitIndex(300) }),
        (
            "coordinator-state-wanted",
            CoordinatorMessage::StateWanted { job: JOB, unit: UnitIndex(300), gas: 1 << 40, input: Some(input(b"ACGT")) },
        ),
        ("coordinator-revoke", CoordinatorMessage::Revoke { job: JOB, units: vec![] }),
        ("coordinator-acknowledged", CoordinatorMessage::Acknowledged { job: JOB, units: vec![UnitIndex(0), UnitIndex(300)] }),
    ]
}

fn announcements() -> [(&'static str, Announcement); 5] {
    let open = JobOpen {
        job: JOB,
        generation: 2,
        module: Digest([3; 32]),
        purpose: "to count primes".into(),
        tags: vec!["maths".into()],
        memory_bytes: 1 << 30,
        open_units: 99,
        priority: -4,
        contact: vec![1, 2, 3],
    };
    let capacity = Capacity { slots: 8, memory_bytes: 8 << 30, validation_class: "wasmtime-48/1".into(), idle_slots: 3 };
    let announcement = |subject| Announcement { sequence: 17, lifetime: Duration::from_secs(600), subject };
    [
        ("announcement-open", announcement(Subject::JobOpen(open))),
        ("announcement-closed", announcement(Subject::JobClosed { job: JOB, generation: 2 })),
        ("announcement-capacity", announcement(Subject::Capacity(capacity))),
        ("announcement-fraud", announcement(Subject::Accusation(accusation(false).into()))),
        ("announcement-equivocation", announcement(Subject::Accusation(accusation(true).into()))),
    ]
}

fn accusation(twice: bool) -> Accusation {
    let [(_, manifest), _] = manifests();
    let encoded = manifest::encode(&manifest);
    let job = manifest::job_id(&encoded);
    let signed = |gas: u64| {
        let value = Value { exit: Exit::Trap(Trap::Unreachable), output: Digest([6; 32]), gas, chain: None };
        let claim =
            Claim { unit: UnitIndex(5), attempt: Attempt(1), ordinal: 1, value, output_bytes: 7, input: None, rests_on: Authors::NONE };
        let receipts = Receipts::new(job, "wasmtime-48/1", "x86_64", &[claim, claim]).expect("a small batch");
        Receipt { attempt: Attempt(1), ordinal: 1, value, output_bytes: 7, proof: receipts.proof(1, &receipts.sign(&key())) }
    };
    let evidence = if twice { Evidence::Equivocation(signed(1), signed(2)) } else { Evidence::Wrong(signed(1)) };
    Accusation { accused: signing::peer_of(&key()), job, manifest: encoded.into(), unit: UnitIndex(5), evidence }
}

#[test]
fn golden_files_are_what_is_written_and_read_today() {
    for (name, manifest) in manifests() {
        assert_eq!(manifest::decode(&golden(name, &manifest::encode(&manifest))), Ok(manifest));
    }
    for (name, message) in from_workers() {
        let bytes = golden(name, &pb::WorkerMessage::from(message.clone()).encode_to_vec());
        let read = pb::WorkerMessage::decode(&*bytes).expect("protobuf");
        assert_eq!(WorkerMessage::try_from(read), Ok(message));
    }
    for (name, message) in from_coordinators() {
        let bytes = golden(name, &pb::CoordinatorMessage::from(message.clone()).encode_to_vec());
        let read = pb::CoordinatorMessage::decode(&*bytes).expect("protobuf");
        assert_eq!(CoordinatorMessage::try_from(read), Ok(message));
    }
    for (name, announcement) in announcements() {
        let signed = SignedAnnouncement::sign(&key(), GRID, &announcement).expect("a sensible announcement");
        let bytes = golden(name, &pb::SignedAnnouncement::from(&signed).encode_to_vec());
        let read = SignedAnnouncement::try_from(pb::SignedAnnouncement::decode(&*bytes).expect("protobuf")).expect("an announcement");
        assert_eq!(read.verify(GRID), Ok(()));
        assert_eq!(read.decode(), Ok(announcement.clone()));
        if let Subject::Accusation(accusation) = &announcement.subject {
            assert!(wire_accusation::check(accusation, "wasmtime-48/1", "x86_64").is_ok_and(|checked| checked.comparable));
        }
    }
}

#[test]
fn golden_receipts_still_prove_their_claims() {
    let [.., (_, WorkerMessage::Outcomes(batch))] = from_workers() else { panic!("outcomes come last") };
    let claims: Vec<Claim> = batch.outcomes.iter().filter_map(|outcome| Claim::of_outcome(outcome, None)).collect();
    let receipts = Receipts::new(batch.job, "wasmtime-48/1", "x86_64", &claims).expect("a small batch");
    let older = |name: &str| std::fs::read(format!("{}/tests/golden/{name}.bin", env!("CARGO_MANIFEST_DIR"))).expect("a golden file");
    for proof in [golden("receipt", &receipts.proof(2, &batch.signature)), older("receipt-1")] {
        assert_eq!(receipt::check(&proof, signing::peer_of(&key()), JOB, &claims[2]), Ok(()));
    }
    let claims = [Claim::of_outcome(&with_chain(), None).expect("a value")];
    let receipts = Receipts::new(JOB, "wasmtime-48/1", "x86_64", &claims).expect("a small batch");
    for proof in [golden("receipt-with-chain", &receipts.proof(0, &receipts.sign(&key()))), older("receipt-with-chain-1")] {
        assert_eq!(receipt::check(&proof, signing::peer_of(&key()), JOB, &claims[0]), Ok(()));
    }
    let claims = [Claim::of_outcome(&shared(), None).expect("a value")];
    let receipts = Receipts::new(JOB, "wasmtime-48/1", "x86_64", &claims).expect("a small batch");
    let proof = golden("receipt-on-others", &receipts.proof(0, &receipts.sign(&key())));
    assert_eq!(receipt::check(&proof, signing::peer_of(&key()), JOB, &claims[0]), Ok(()));
    let alone = Claim { rests_on: Authors::NONE, ..claims[0] };
    assert!(receipt::check(&proof, signing::peer_of(&key()), JOB, &alone).is_err(), "whom it rests on is signed");
}

/// Gives every decoder these bytes; none may panic.
fn read_all(bytes: &[u8]) {
    drop(manifest::decode(bytes));
    drop(kept::decode(bytes));
    drop(pb::WorkerMessage::decode(bytes).map(WorkerMessage::try_from));
    drop(pb::CoordinatorMessage::decode(bytes).map(CoordinatorMessage::try_from));
    drop(pb::SignedAnnouncement::decode(bytes).map(SignedAnnouncement::try_from));
    drop(SignedAnnouncement { author: signing::peer_of(&key()), body: bytes.into(), signature: [0; 64] }.decode());
    let claim = Claim {
        unit: UnitIndex(0),
        attempt: Attempt(0),
        ordinal: 0,
        value: Value { exit: Exit::Code(0), output: Digest([0; 32]), gas: 0, chain: None },
        output_bytes: 0,
        rests_on: Authors::NONE,
        input: None,
    };
    // Whoever is not the signer cannot be made to look like it.
    assert!(receipt::check(bytes, signing::peer_of(&key()), JOB, &claim).is_err());
}

#[test]
fn no_decoder_panics_whatever_the_bytes() {
    let seed = 1;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |bound: usize| random.next_u64() as usize % bound;
    let mut samples: Vec<Vec<u8>> = manifests().map(|(_, manifest)| manifest::encode(&manifest)).to_vec();
    samples.extend(from_workers().map(|(_, message)| pb::WorkerMessage::from(message).encode_to_vec()));
    samples.extend(from_coordinators().map(|(_, message)| pb::CoordinatorMessage::from(message).encode_to_vec()));
    for (_, announcement) in announcements() {
        let signed = SignedAnnouncement::sign(&key(), GRID, &announcement).expect("a sensible announcement");
        samples.extend([signed.body.to_vec(), pb::SignedAnnouncement::from(&signed).encode_to_vec()]);
    }
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = match round % 4 {
            0 => (0..below(200)).map(|_| below(256) as u8).collect(),
            _ => samples[below(samples.len())].clone(),
        };
        for _ in 0..below(5) {
            match (below(4), bytes.is_empty()) {
                (_, true) => bytes.push(below(256) as u8),
                (0, false) => bytes.truncate(below(bytes.len())),
                (1, false) => drop(bytes.remove(below(bytes.len()))),
                (2, false) => bytes.insert(below(bytes.len()), below(256) as u8),
                (_, false) => {
                    let index = below(bytes.len());
                    bytes[index] = [0, 0xff, 0x7f, 0x80, below(256) as u8][below(5)];
                }
            }
        }
        read_all(&bytes);
    }
}
