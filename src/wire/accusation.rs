//! Accusations as bytes, and what can be checked of them by signatures and digests alone.

use super::{
    bounds::{Rejection, at_most, peer_id},
    kept::{value_from, value_to},
    manifest, peer as pb,
    receipt::{self, Claim, PROOF_BYTES_MAX, ReceiptError},
};
use crate::protocol::{
    checkpoint::Authors,
    fraud::{Accusation, Evidence, Receipt},
    ids::{Attempt, JobId, UnitIndex},
    job::Manifest,
};

/// Why an accusation says nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccusationError {
    /// The manifest is none.
    #[error("its manifest: {0}")]
    Manifest(#[from] Rejection),
    /// The manifest is that of another job.
    #[error("its manifest is that of another job than {0}")]
    WrongJob(JobId),
    /// The job has no such unit.
    #[error("its job has no unit {0}")]
    NoSuchUnit(UnitIndex),
    /// What the unit was given is not in the manifest, nor in the receipt: its coordinator may have lied.
    #[error("its units have inputs of their own, which no receipt names")]
    OwnInputs,
    /// The accused did not sign this.
    #[error("its receipt: {0}")]
    Receipt(#[from] ReceiptError),
    /// The two receipts were made by different engines or instruction sets, which may differ for other reasons.
    #[error("its receipts were made by different engines")]
    DifferentEngines,
}

/// What is known of an accusation whose signatures are genuine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The job.
    pub manifest: Manifest,
    /// A machine of the same engine and instruction set computes what the accused would.
    pub comparable: bool,
}

/// Checks that the accused signed what it is accused of, and that the unit depends on nothing but the manifest. `class` and
/// `instruction_set` are this machine's.
pub fn check(accusation: &Accusation, class: &str, instruction_set: &str) -> Result<Checked, AccusationError> {
    let Accusation { accused, job, manifest: encoded, unit, evidence } = accusation;
    let manifest = manifest::decode(encoded)?;
    if manifest::job_id(encoded) != *job {
        return Err(AccusationError::WrongJob(*job));
    }
    if manifest.has_table() {
        return Err(AccusationError::OwnInputs);
    }
    if unit.0 >= manifest.units() {
        return Err(AccusationError::NoSuchUnit(*unit));
    }
    let genuine = |signed: &Receipt| receipt::check(&signed.proof, *accused, *job, &claim(*unit, signed));
    let made_with = match evidence {
        Evidence::Wrong(receipt) => {
            genuine(receipt)?;
            receipt::made_with(&receipt.proof)
        }
        Evidence::Equivocation(first, second) => {
            genuine(first)?;
            genuine(second)?;
            let (first, second) = (receipt::made_with(&first.proof), receipt::made_with(&second.proof));
            if first != second {
                return Err(AccusationError::DifferentEngines);
            }
            first
        }
    };
    Ok(Checked { manifest, comparable: made_with == Some((class.as_bytes(), instruction_set.as_bytes())) })
}

fn claim(unit: UnitIndex, receipt: &Receipt) -> Claim {
    let Receipt { attempt, ordinal, value, output_bytes, proof: _ } = *receipt;
    // What rests on others accuses nobody.
    Claim { unit, attempt, ordinal, value, output_bytes, input: None, rests_on: Authors::NONE }
}

pub(super) fn to_pb(accusation: &Accusation) -> pb::Accusation {
    let Accusation { accused, job: _, manifest, unit, evidence } = accusation;
    let (claim, second) = match evidence {
        Evidence::Wrong(receipt) => (receipt, None),
        Evidence::Equivocation(first, second) => (first, Some(second)),
    };
    pb::Accusation {
        accused: accused.0.to_vec().into(),
        manifest: manifest.to_vec().into(),
        unit: unit.0,
        claim: Some(receipt_to(claim)),
        second: second.map(receipt_to),
    }
}

pub(super) fn from_pb(message: pb::Accusation) -> Result<Accusation, Rejection> {
    let first = receipt_from(message.claim.ok_or(Rejection::Missing { what: "claim of an accusation" })?)?;
    let evidence = match message.second {
        None => Evidence::Wrong(first),
        Some(second) => Evidence::Equivocation(first, receipt_from(second)?),
    };
    Ok(Accusation {
        accused: peer_id("accused", &message.accused)?,
        job: manifest::job_id(&message.manifest),
        manifest: message.manifest.to_vec().into(),
        unit: UnitIndex(message.unit),
        evidence,
    })
}

pub(super) fn receipt_to(receipt: &Receipt) -> pb::SignedClaim {
    let Receipt { attempt, ordinal, value, output_bytes, proof } = receipt;
    let value = Some(value_to(*value, *output_bytes));
    pb::SignedClaim { attempt: attempt.0, ordinal: *ordinal, value, proof: proof.to_vec().into() }
}

pub(super) fn receipt_from(message: pb::SignedClaim) -> Result<Receipt, Rejection> {
    at_most("proof", message.proof.len(), PROOF_BYTES_MAX)?;
    let (value, output_bytes) = value_from(message.value)?;
    let (attempt, ordinal) = (Attempt(message.attempt), message.ordinal);
    Ok(Receipt { attempt, ordinal, value, output_bytes, proof: message.proof.to_vec().into() })
}

#[cfg(test)]
#[path = "accusation_tests.rs"]
mod tests;
