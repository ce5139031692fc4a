//! Bundles: a job with the proof of its results in one file, for whoever wants to check them without a node.
//!
//! The form is described in `proto/manyhands/bundle/v1/bundle.proto`. A bundle is written and read as a stream, in constant memory
//! whatever its size. [`writer`] makes one, [`reader`] takes it apart, [`check`] says whether it proves what it claims. What a
//! bundle cannot show is the owner's trust: who is *proven* is what the owner has seen, and nobody else can check that.

use super::{
    bounds::{Rejection, SIGNATURE_BYTES, at_most, digest, few, fixed, peer_id},
    bundle_pb as pb,
    chain::{chain_from, chain_to},
    checkpoint::{authors_from, authors_to},
    manifest, number,
    receipt::{self, Claim},
};
use crate::protocol::{
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    job::{INPUT_BYTES_MAX, Manifest, ManifestError, UNIT_NAME_BYTES_MAX},
    outcome::{UnitLimits, Value},
};
use std::{io, sync::Arc};

pub mod check;

pub mod reader;

pub mod writer;

/// What a bundle begins with.
pub const MAGIC: [u8; 8] = *b"mhbundle";
/// The version that is written.
pub const VERSION: u32 = 1;
/// The most bytes of one record: a unit with [`VOTES_MAX`] votes, each with its receipt, takes less than half of it.
pub const RECORD_BYTES_MAX: usize = 512 << 10;
/// The most bytes of a module, an input or an output in one record.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// The most votes that a bundle holds of one unit: those that count come first, and are three in all policies.
pub const VOTES_MAX: usize = 256;
/// The most bytes of inputs and outputs of a whole bundle; what is larger is exported as digests.
pub const CONTENT_BYTES_MAX: u64 = 4 << 30;
/// The most bytes of the program's version.
const MADE_BY_BYTES_MAX: usize = 64;
/// Digest and signature at the end.
const SEAL_BYTES: usize = 32 + SIGNATURE_BYTES;
/// What the owner signs before a bundle's digest.
const SEAL: &[u8] = b"manyhands.bundle.v1";

/// What a bundle is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The job's description.
    pub manifest: Manifest,
    /// The same as it was signed.
    pub encoded: Vec<u8>,
    /// The owner's signature on it.
    pub signature: [u8; SIGNATURE_BYTES],
    /// Inputs and outputs are in the bundle; otherwise their digests alone.
    pub whole: bool,
    /// The version of the program that made it, for people; at most 64 bytes.
    pub made_by: String,
}

impl Header {
    /// The job's name.
    pub fn job(&self) -> JobId {
        manifest::job_id(&self.encoded)
    }
}

/// How a unit stands, says the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing is decided.
    Undecided,
    /// Verified, with success.
    Verified,
    /// Verified not to succeed.
    VerifiedFailure,
    /// It failed on enough machines without a value.
    Failed,
}

/// A unit in a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Which.
    pub unit: UnitIndex,
    /// Its name; empty for a unit of a range.
    pub name: String,
    /// SHA-256 of its input; that of nothing for a unit of a range.
    pub input: Digest,
    /// The input's size in bytes.
    pub input_bytes: u64,
    /// How it stands.
    pub standing: Standing,
    /// What was decided on; set if the standing is a verified one.
    pub value: Option<Value>,
    /// The output's size in bytes; zero without a value.
    pub output_bytes: u64,
    /// The owner's own machine computed or checked it.
    pub by_owner: bool,
    /// At most [`VOTES_MAX`], those that count first.
    pub votes: Vec<BundledVote>,
}

impl Unit {
    /// The votes for what was decided, of voters who were not caught; none where nothing was.
    pub fn backing(&self) -> impl Iterator<Item = &BundledVote> {
        let decided = self.value;
        self.votes.iter().filter(move |vote| !vote.struck && decided == Some(vote.claim.value))
    }

    /// Whether somebody who backs its value says to have computed it with an engine of this validation class on this instruction set.
    /// What comes out of another engine may differ, its gas alone already, and a difference is then nobody's fault.
    pub fn was_made_with(&self, class: &str, instruction_set: &str) -> bool {
        let here = Some((class.as_bytes(), instruction_set.as_bytes()));
        self.backing().any(|vote| receipt::made_with(&vote.proof) == here)
    }
}

/// A vote in a bundle, with what the owner says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundledVote {
    /// Who vouches.
    pub worker: PeerId,
    /// For what. Which input it covers is not said twice: it is the unit's.
    pub claim: Claim,
    /// The worker's receipt.
    pub proof: Arc<[u8]>,
    /// It counts for the value that was decided on.
    pub counted: bool,
    /// Its voter was proven when the bundle was made.
    pub proven: bool,
    /// Its voter was caught.
    pub struck: bool,
}

/// A bundle's last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// How many units were in it.
    pub units: u32,
    /// How many of them are verified.
    pub verified: u32,
}

/// A record of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// The first.
    Header(Box<Header>),
    /// A unit.
    Unit(Box<Unit>),
    /// Bytes of the module, an input or an output.
    Chunk(Vec<u8>),
    /// The last.
    End(End),
}

/// Why a file is not a bundle that can be judged.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error("the bundle cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error("this is not a bundle")]
    NotABundle,
    /// A newer program wrote it.
    #[error("the bundle is of version {0}, which this program does not know")]
    UnknownVersion(u32),
    /// It ends too early.
    #[error("the bundle is cut: {found} bytes are there, and a record goes on")]
    Truncated {
        /// Bytes that are there.
        found: u64,
    },
    /// Its bytes are not those that were written.
    #[error("the bundle is damaged: its bytes do not have the digest at its end")]
    Damaged,
    /// It was written to while it was read.
    #[error("the bundle changed while it was read")]
    Changed,
    /// The owner of the job did not sign the bundle.
    #[error("the bundle is not signed by the job's owner")]
    NotSealed,
    /// Something follows the seal or the last record.
    #[error("the bundle goes on behind its end")]
    GoesOn,
    /// A record is larger than any.
    #[error("a record of {found} bytes, at most {RECORD_BYTES_MAX} are allowed")]
    RecordTooLong {
        /// Its size.
        found: usize,
    },
    /// A record is none, or breaks a bound.
    #[error("a record is not acceptable: {0}")]
    Rejected(#[from] Rejection),
    /// A record comes where another one belongs.
    #[error("{found} where {expected} belongs")]
    OutOfPlace {
        /// What comes.
        found: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// More bytes come than were announced.
    #[error("more bytes than were announced for {what}")]
    TooManyBytes {
        /// Of what.
        what: &'static str,
    },
    /// A unit is missing, or there twice.
    #[error("unit {found} where unit {expected} belongs")]
    WrongUnit {
        /// Which comes.
        found: u32,
        /// Which belongs there.
        expected: u32,
    },
    /// Units are missing at the end, or more come than the job has.
    #[error("{found} units, the job has {expected}")]
    UnitsMissing {
        /// How many are there.
        found: u32,
        /// How many the manifest says.
        expected: u32,
    },
    /// The module is not the manifest's.
    #[error("the module is not the one that the manifest names")]
    WrongModule,
    /// The units are not those of the manifest.
    #[error("the units' names and inputs are not those that the manifest names")]
    WrongTable,
    /// The last record does not say what the bundle has.
    #[error("the bundle's last record counts {what} differently")]
    WrongCount {
        /// What.
        what: &'static str,
    },
}

impl From<&Header> for pb::Header {
    fn from(header: &Header) -> Self {
        Self {
            manifest: header.encoded.clone().into(),
            signature: header.signature.to_vec().into(),
            whole: header.whole,
            made_by: header.made_by.clone(),
        }
    }
}

impl TryFrom<pb::Header> for Header {
    type Error = Rejection;

    fn try_from(message: pb::Header) -> Result<Self, Rejection> {
        at_most("version of the program", message.made_by.len(), MADE_BY_BYTES_MAX)?;
        let encoded = message.manifest.to_vec();
        let manifest = manifest::decode(&encoded)?;
        let signature = fixed("signature", &message.signature)?;
        manifest::verify(manifest.owner, &encoded, &signature)?;
        Ok(Self { manifest, encoded, signature, whole: message.whole, made_by: message.made_by })
    }
}

impl From<&Unit> for pb::Unit {
    fn from(unit: &Unit) -> Self {
        let (exit_kind, exit_detail) = unit.value.map_or((0, 0), |value| number::of_exit(value.exit));
        Self {
            unit: unit.unit.0,
            name: unit.name.clone(),
            input: unit.input.0.to_vec().into(),
            input_bytes: unit.input_bytes,
            standing: of_standing(unit.standing),
            exit_kind,
            exit_detail,
            output: unit.value.map_or_else(Vec::new, |value| value.output.0.to_vec()).into(),
            gas: unit.value.map_or(0, |value| value.gas),
            output_bytes: unit.output_bytes,
            by_owner: unit.by_owner,
            votes: unit.votes.iter().map(pb::Vote::from).collect(),
            chain: chain_to(unit.value.and_then(|value| value.chain)),
        }
    }
}

impl TryFrom<pb::Unit> for Unit {
    type Error = Rejection;

    fn try_from(message: pb::Unit) -> Result<Self, Rejection> {
        at_most("name of a unit", message.name.len(), UNIT_NAME_BYTES_MAX)?;
        few("votes on a unit", message.votes.len(), VOTES_MAX)?;
        size("input", message.input_bytes, INPUT_BYTES_MAX)?;
        size("output", message.output_bytes, UnitLimits::MAX.output_bytes)?;
        let standing = to_standing(message.standing)?;
        let value = match standing {
            Standing::Verified | Standing::VerifiedFailure => Some(Value {
                exit: number::to_exit(message.exit_kind, message.exit_detail)?,
                output: digest("output", &message.output)?,
                gas: message.gas,
                chain: chain_from(&message.chain)?,
            }),
            Standing::Undecided | Standing::Failed => None,
        };
        let numbers = (message.exit_kind, message.exit_detail, message.gas, message.output_bytes);
        let plain = numbers == (0, 0, 0, 0) && message.output.is_empty() && message.chain.is_empty();
        let agree = match (standing, value) {
            (Standing::Verified, Some(value)) => value.exit.is_success(),
            (Standing::VerifiedFailure, Some(value)) => !value.exit.is_success(),
            (Standing::Undecided | Standing::Failed, _) => plain && !message.by_owner,
            (Standing::Verified | Standing::VerifiedFailure, None) => false,
        };
        if !agree {
            return Err(Rejection::Inconsistent { what: "value of a unit", with: "standing" });
        }
        let unit = UnitIndex(message.unit);
        let votes = message.votes.into_iter().map(|vote| to_vote(unit, vote)).collect::<Result<_, _>>()?;
        Ok(Self {
            unit,
            name: message.name,
            input: digest("input", &message.input)?,
            input_bytes: message.input_bytes,
            standing,
            value,
            output_bytes: message.output_bytes,
            by_owner: message.by_owner,
            votes,
        })
    }
}

impl From<&BundledVote> for pb::Vote {
    fn from(bundled: &BundledVote) -> Self {
        let Claim { unit: _, attempt, ordinal, value, output_bytes, input: _, rests_on } = bundled.claim;
        let (exit_kind, exit_detail) = number::of_exit(value.exit);
        Self {
            worker: bundled.worker.0.to_vec().into(),
            attempt: attempt.0,
            ordinal,
            exit_kind,
            exit_detail,
            output: value.output.0.to_vec().into(),
            gas: value.gas,
            output_bytes,
            proof: bundled.proof.to_vec().into(),
            counted: bundled.counted,
            proven: bundled.proven,
            struck: bundled.struck,
            chain: chain_to(value.chain),
            rests_on: authors_to(rests_on),
        }
    }
}

fn to_vote(unit: UnitIndex, message: pb::Vote) -> Result<BundledVote, Rejection> {
    let value = Value {
        exit: number::to_exit(message.exit_kind, message.exit_detail)?,
        output: digest("output", &message.output)?,
        gas: message.gas,
        chain: chain_from(&message.chain)?,
    };
    let (attempt, ordinal, output_bytes) = (Attempt(message.attempt), message.ordinal, message.output_bytes);
    Ok(BundledVote {
        worker: peer_id("worker", &message.worker)?,
        claim: Claim { unit, attempt, ordinal, value, output_bytes, input: None, rests_on: authors_from(&message.rests_on)? },
        proof: message.proof.to_vec().into(),
        counted: message.counted,
        proven: message.proven,
        struck: message.struck,
    })
}

fn of_standing(standing: Standing) -> u32 {
    match standing {
        Standing::Undecided => 1,
        Standing::Verified => 2,
        Standing::VerifiedFailure => 3,
        Standing::Failed => 4,
    }
}

fn to_standing(number: u32) -> Result<Standing, Rejection> {
    Ok(match number {
        1 => Standing::Undecided,
        2 => Standing::Verified,
        3 => Standing::VerifiedFailure,
        4 => Standing::Failed,
        found => return Err(Rejection::UnknownNumber { what: "standing", found }),
    })
}

fn size(what: &'static str, bytes: u64, max: u64) -> Result<(), Rejection> {
    let narrow = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes <= max { Ok(()) } else { Err(ManifestError::TooLong { what, found: narrow(bytes), max: narrow(max) }.into()) }
}
