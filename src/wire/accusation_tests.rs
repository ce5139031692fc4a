//! What an accusation must show before anybody listens.

use super::*;
use crate::{
    protocol::{
        announce::{ANNOUNCEMENT_BYTES_MAX, Announcement, Subject},
        fraud::MANIFEST_BYTES_MAX,
        ids::{Digest, GridId, PeerId},
        job::{Inputs, Policy, Reduce, UnitRange},
        outcome::{Exit, UnitLimits, Value},
    },
    wire::{announce::SignedAnnouncement, receipt::Receipts, signing},
};
use core::time::Duration;
use iroh::SecretKey;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

fn manifest_of(inputs: Inputs, args: Vec<String>) -> Vec<u8> {
    manifest::encode(&Manifest {
        owner: signing::peer_of(&key(9)),
        name: "primes".into(),
        module: Digest([2; 32]),
        module_bytes: 1000,
        args,
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

fn range() -> Vec<u8> {
    manifest_of(Inputs::Range(UnitRange { start: 0, end: 10, per_unit: 1 }), vec!["{start}".into()])
}

/// What the worker of this key signed in a batch of so many.
fn signed(worker: u8, encoded: &[u8], class: &str, said: u8, batch: u32) -> Receipt {
    let claim = |unit: u32| Claim {
        unit: UnitIndex(unit),
        attempt: Attempt(1),
        ordinal: 1,
        value: Value { exit: Exit::Code(0), output: Digest([said; 32]), gas: u64::MAX, chain: None },
        output_bytes: 1 << 28,
        rests_on: crate::protocol::checkpoint::Authors::NONE,
        input: None,
    };
    let claims: Vec<Claim> = (0..batch).map(claim).collect();
    let receipts = Receipts::new(manifest::job_id(encoded), class, "x86_64", &claims).unwrap();
    let Claim { attempt, ordinal, value, output_bytes, .. } = claims[3];
    Receipt { attempt, ordinal, value, output_bytes, proof: receipts.proof(3, &receipts.sign(&key(worker))) }
}

fn accusation(encoded: &[u8], evidence: Evidence) -> Accusation {
    let (accused, job) = (signing::peer_of(&key(1)), manifest::job_id(encoded));
    Accusation { accused, job, manifest: encoded.into(), unit: UnitIndex(3), evidence }
}

#[test]
fn whoever_has_an_accusation_can_check_it_alone() {
    let encoded = range();
    let wrong = Evidence::Wrong(signed(1, &encoded, "v1", 6, 1024));
    let twice = Evidence::Equivocation(signed(1, &encoded, "v1", 6, 1024), signed(1, &encoded, "v1", 7, 5));
    for evidence in [wrong, twice] {
        let accusation = accusation(&encoded, evidence);
        let announced = Announcement { sequence: 1, lifetime: Duration::from_secs(60), subject: Subject::Accusation(accusation.into()) };
        let arrived = SignedAnnouncement::sign(&key(5), GridId([0; 32]), &announced).unwrap().decode().unwrap();
        assert_eq!(arrived, announced);
        let Subject::Accusation(accusation) = arrived.subject else { panic!("it was one") };
        let checked = check(&accusation, "v1", "x86_64").unwrap();
        assert!(checked.comparable);
        assert!(!check(&accusation, "v1", "aarch64").unwrap().comparable);
        assert!(!check(&accusation, "v2", "x86_64").unwrap().comparable);
    }
}

#[test]
fn nobody_can_be_accused_of_what_it_did_not_sign() {
    let encoded = range();
    let genuine = signed(1, &encoded, "v1", 6, 9);
    let forged = Receipt { value: Value { gas: 5, ..genuine.value }, ..genuine.clone() };
    let bad = Err(AccusationError::Receipt(ReceiptError::BadSignature));
    assert_eq!(check(&accusation(&encoded, Evidence::Wrong(forged.clone())), "v1", "x86_64"), bad);
    assert_eq!(check(&accusation(&encoded, Evidence::Equivocation(genuine.clone(), forged)), "v1", "x86_64"), bad);
    let others = signed(2, &encoded, "v1", 7, 9);
    assert_eq!(check(&accusation(&encoded, Evidence::Equivocation(genuine.clone(), others)), "v1", "x86_64"), bad);
    let elsewhere = Accusation { unit: UnitIndex(4), ..accusation(&encoded, Evidence::Wrong(genuine.clone())) };
    assert_eq!(check(&elsewhere, "v1", "x86_64"), bad);
    let absent = Accusation { unit: UnitIndex(10), ..accusation(&encoded, Evidence::Wrong(genuine.clone())) };
    assert_eq!(check(&absent, "v1", "x86_64"), Err(AccusationError::NoSuchUnit(UnitIndex(10))));
    let job = JobId([1; 32]);
    let of_another = Accusation { job, ..accusation(&encoded, Evidence::Wrong(genuine.clone())) };
    assert_eq!(check(&of_another, "v1", "x86_64"), Err(AccusationError::WrongJob(job)));
    let upgraded = Evidence::Equivocation(genuine, signed(1, &encoded, "v2", 7, 9));
    assert_eq!(check(&accusation(&encoded, upgraded), "v1", "x86_64"), Err(AccusationError::DifferentEngines));
    let table = manifest_of(Inputs::Table { units: 10, digest: Digest([4; 32]) }, vec![]);
    let given_something = Evidence::Wrong(signed(1, &table, "v1", 6, 9));
    assert_eq!(check(&accusation(&table, given_something), "v1", "x86_64"), Err(AccusationError::OwnInputs));
}

#[test]
fn the_largest_equivocation_fits_an_announcement() {
    let class = "c".repeat(64);
    let mut args = "x".to_owned();
    let encode = |args: &str| manifest_of(Inputs::Range(UnitRange { start: 0, end: 10, per_unit: 1 }), vec![args.to_owned()]);
    while encode(&args).len() < MANIFEST_BYTES_MAX {
        args.push('x');
    }
    let encoded = encode(&args);
    let twice = Evidence::Equivocation(signed(1, &encoded, &class, 6, 1024), signed(1, &encoded, &class, 7, 1024));
    let accused = PeerId([1; 32]);
    let accusation = Accusation { accused, ..accusation(&encoded, twice) };
    let subject = Subject::Accusation(accusation.into());
    let announced = Announcement { sequence: u64::MAX, lifetime: crate::protocol::announce::LIFETIME_MAX, subject };
    let body = SignedAnnouncement::sign(&key(5), GridId([0; 32]), &announced).unwrap().body.len();
    println!("{body} bytes");
    assert!(body <= ANNOUNCEMENT_BYTES_MAX);
}
