//! Manifests as bytes: the one encoding whose SHA-256 names the job, and the owner's signature on it.

use super::{
    bounds::{MANIFEST_BYTES_MAX, Rejection, SIGNATURE_BYTES, at_most, digest, few, peer_id},
    number, peer as pb, signing,
};
use crate::protocol::{
    ids::{Digest, JobId, PeerId},
    job::{ARGS_MAX, Inputs, Manifest, Reduce, TAGS_MAX, UnitRange},
    outcome::UnitLimits,
};
use core::time::Duration;
use iroh::SecretKey;
use prost::Message as _;

/// What the owner signs before the manifest's bytes.
const CONTEXT: &[u8] = b"manyhands.manifest.v1";
const WHAT: &str = "manifest";

/// The canonical encoding. Time limits are kept to the millisecond.
pub fn encode(manifest: &Manifest) -> Vec<u8> {
    to_pb(manifest).encode_to_vec()
}

/// The name of the job that these bytes describe.
pub fn job_id(encoded: &[u8]) -> JobId {
    JobId(Digest::of(encoded).0)
}

/// Reads a manifest; refuses whatever [`encode`] would not have written, so that a job has one name only.
pub fn decode(encoded: &[u8]) -> Result<Manifest, Rejection> {
    at_most(WHAT, encoded.len(), MANIFEST_BYTES_MAX)?;
    let message = pb::Manifest::decode(encoded).map_err(|source| Rejection::Undecodable { what: WHAT, source })?;
    let manifest = from_pb(message)?;
    if encode(&manifest) == encoded { Ok(manifest) } else { Err(Rejection::NotCanonical { what: WHAT }) }
}

/// The owner's signature on an encoded manifest.
pub fn sign(owner: &SecretKey, encoded: &[u8]) -> [u8; SIGNATURE_BYTES] {
    signing::sign(owner, &[CONTEXT, encoded])
}

/// Checks the owner's signature on an encoded manifest.
pub fn verify(owner: PeerId, encoded: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Rejection> {
    signing::verify(WHAT, owner, &[CONTEXT, encoded], signature)
}

fn to_pb(manifest: &Manifest) -> pb::Manifest {
    let (reduce, reduce_module, reduce_args) = match &manifest.reduce {
        Reduce::Concat => (0, vec![], vec![]),
        Reduce::Separate => (1, vec![], vec![]),
        Reduce::Module { module, args } => (2, module.0.to_vec(), args.clone()),
    };
    let limits = &manifest.limits;
    pb::Manifest {
        owner: manifest.owner.0.to_vec().into(),
        name: manifest.name.clone(),
        module: manifest.module.0.to_vec().into(),
        module_bytes: manifest.module_bytes,
        args: manifest.args.clone(),
        memory_bytes: limits.memory_bytes,
        gas: limits.gas,
        wall_ms: u64::try_from(limits.wall.as_millis()).unwrap_or(u64::MAX),
        output_bytes: limits.output_bytes,
        log_bytes: limits.log_bytes,
        policy: number::of_policy(manifest.policy),
        priority: i32::from(manifest.priority),
        tags: manifest.tags.clone(),
        purpose: manifest.purpose.clone(),
        reduce,
        reduce_module: reduce_module.into(),
        reduce_args,
        nonce: manifest.nonce.clone().into(),
        inputs: Some(match manifest.inputs {
            Inputs::Range(UnitRange { start, end, per_unit }) => pb::manifest::Inputs::Range(pb::UnitRange { start, end, per_unit }),
            Inputs::Table { units, digest } => pb::manifest::Inputs::Table(pb::UnitTable { units, digest: digest.0.to_vec().into() }),
        }),
    }
}

fn from_pb(message: pb::Manifest) -> Result<Manifest, Rejection> {
    few("arguments", message.args.len(), ARGS_MAX)?;
    few("arguments of the reducer", message.reduce_args.len(), ARGS_MAX)?;
    few("tags", message.tags.len(), TAGS_MAX)?;
    let inputs = match message.inputs.ok_or(Rejection::Missing { what: "inputs" })? {
        pb::manifest::Inputs::Range(range) => Inputs::Range(UnitRange { start: range.start, end: range.end, per_unit: range.per_unit }),
        pb::manifest::Inputs::Table(table) => Inputs::Table { units: table.units, digest: digest("table digest", &table.digest)? },
    };
    let reduce = match message.reduce {
        0 => Reduce::Concat,
        1 => Reduce::Separate,
        2 => Reduce::Module { module: digest("reducer", &message.reduce_module)?, args: message.reduce_args },
        found => return Err(Rejection::UnknownNumber { what: "reduction", found }),
    };
    let manifest = Manifest {
        owner: peer_id("owner", &message.owner)?,
        name: message.name,
        module: digest("module", &message.module)?,
        module_bytes: message.module_bytes,
        args: message.args,
        inputs,
        limits: UnitLimits {
            memory_bytes: message.memory_bytes,
            gas: message.gas,
            wall: Duration::from_millis(message.wall_ms),
            output_bytes: message.output_bytes,
            log_bytes: bounded_log(message.log_bytes)?,
        },
        policy: number::to_policy(message.policy)?,
        priority: narrow_priority(message.priority)?,
        tags: message.tags,
        purpose: message.purpose,
        reduce,
        nonce: message.nonce.to_vec(),
    };
    manifest.check()?;
    Ok(manifest)
}

fn bounded_log(bytes: u64) -> Result<u64, Rejection> {
    let max = UnitLimits::MAX.log_bytes;
    let as_i64 = |value| i64::try_from(value).unwrap_or(i64::MAX);
    if bytes > max {
        return Err(Rejection::OutOfRange { what: "log limit", found: as_i64(bytes), min: 0, max: as_i64(max) });
    }
    Ok(bytes)
}

/// Reads a priority from -10 to 10.
pub(super) fn narrow_priority(priority: i32) -> Result<i8, Rejection> {
    i8::try_from(priority).ok().filter(|narrow| (-10..=10).contains(narrow)).ok_or(Rejection::OutOfRange {
        what: "priority",
        found: i64::from(priority),
        min: -10,
        max: 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::job::Policy;

    fn manifest() -> Manifest {
        Manifest {
            owner: PeerId([1; 32]),
            name: "primes".into(),
            module: Digest([2; 32]),
            module_bytes: 1000,
            args: vec!["{start}".into(), "{end}".into()],
            inputs: Inputs::Range(UnitRange { start: 0, end: 100, per_unit: 7 }),
            limits: UnitLimits::default(),
            policy: Policy::Standard,
            priority: -3,
            tags: vec!["maths".into()],
            purpose: "to count".into(),
            reduce: Reduce::Module { module: Digest([3; 32]), args: vec!["-".into()] },
            nonce: vec![9],
        }
    }

    fn changed(change: impl Fn(&mut pb::Manifest)) -> Result<Manifest, Rejection> {
        let mut message = to_pb(&manifest());
        change(&mut message);
        decode(&message.encode_to_vec())
    }

    #[test]
    fn a_manifest_survives_its_encoding() {
        for inputs in [Inputs::Range(UnitRange { start: 0, end: 1, per_unit: 1 }), Inputs::Table { units: 3, digest: Digest([4; 32]) }] {
            for reduce in [Reduce::Concat, Reduce::Separate, Reduce::Module { module: Digest([3; 32]), args: vec![] }] {
                let manifest = Manifest { inputs, reduce, ..manifest() };
                assert_eq!(decode(&encode(&manifest)), Ok(manifest));
            }
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let not_canonical = Err(Rejection::NotCanonical { what: "manifest" });
        let encoded = encode(&manifest());
        let unknown_field = [&encoded[..], &[0xf8, 0x01, 0x01]].concat();
        assert_eq!(decode(&unknown_field), not_canonical);
        let repeated_field = [&encoded[..], &encoded[..34]].concat();
        assert_eq!(decode(&repeated_field), not_canonical);
        assert_eq!(changed(|message| message.reduce = 0), not_canonical, "a reducer without a reduction");
    }

    #[test]
    fn each_breach_is_named() {
        assert_eq!(changed(|message| message.inputs = None), Err(Rejection::Missing { what: "inputs" }));
        assert_eq!(changed(|message| message.policy = 0), Err(Rejection::UnknownNumber { what: "policy", found: 0 }));
        assert_eq!(changed(|message| message.reduce = 9), Err(Rejection::UnknownNumber { what: "reduction", found: 9 }));
        let short = Rejection::WrongLength { what: "owner", found: 3, expected: 32 };
        assert_eq!(changed(|message| message.owner = vec![1; 3].into()), Err(short));
        assert!(matches!(changed(|message| message.priority = 300), Err(Rejection::OutOfRange { what: "priority", found: 300, .. })));
        assert!(matches!(changed(|message| message.log_bytes = u64::MAX), Err(Rejection::OutOfRange { what: "log limit", .. })));
        assert!(matches!(changed(|message| message.wall_ms = u64::MAX), Err(Rejection::Manifest(_))));
        assert!(matches!(changed(|message| message.args = vec![String::new(); 65]), Err(Rejection::TooMany { found: 65, max: 64, .. })));
        let long = changed(|message| message.args = vec!["x".repeat(4096); 17]);
        assert!(matches!(long, Err(Rejection::TooLong { what: "manifest", .. })));
    }

    #[test]
    fn only_the_owner_signs() {
        let (owner, other) = (SecretKey::from_bytes(&[1; 32]), SecretKey::from_bytes(&[2; 32]));
        let encoded = encode(&manifest());
        let signature = sign(&owner, &encoded);
        assert_eq!(verify(signing::peer_of(&owner), &encoded, &signature), Ok(()));
        let bad = Err(Rejection::BadSignature { what: "manifest" });
        assert_eq!(verify(signing::peer_of(&other), &encoded, &signature), bad);
        assert_eq!(verify(signing::peer_of(&owner), &encoded[1..], &signature), bad);
        assert_eq!(verify(PeerId([0xff; 32]), &encoded, &signature), bad, "no point on the curve");
    }
}
