//! Reading the results of somebody else's job by the author's permission: its author or any of its keepers answers.

use super::{
    bounds::{BATCH_INLINE_BYTES_MAX, BATCH_MAX, Rejection, SIGNATURE_BYTES, at_most, few, fixed, job_id},
    input::{check_inline, inline_from},
    kept::{value_from, value_to},
    manifest, peer as pb, progress, signing,
};
use crate::protocol::{
    fact::JobState,
    ids::{JobId, PeerId, UnitIndex},
    job::{Manifest, UNIT_NAME_BYTES_MAX},
    outcome::Value,
};
use iroh::SecretKey;
use std::sync::Arc;

/// What the author signs before the job's name.
const CONTEXT: &[u8] = b"manyhands.read.v1";
const WHAT: &str = "permission to read";

/// The author's permission to read a job's results.
pub fn permit(author: &SecretKey, job: JobId) -> [u8; SIGNATURE_BYTES] {
    signing::sign(author, &[CONTEXT, job.as_bytes()])
}

/// Checks a permission.
pub fn check_permission(author: PeerId, job: JobId, permission: &[u8; SIGNATURE_BYTES]) -> Result<(), Rejection> {
    signing::verify(WHAT, author, &[CONTEXT, job.as_bytes()], permission)
}

/// What somebody asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// The job.
    pub job: JobId,
    /// The author's permission; whoever knows the author checks it.
    pub permission: [u8; SIGNATURE_BYTES],
    /// Units before it are left out.
    pub first_unit: UnitIndex,
    /// Nothing but the head.
    pub head_only: bool,
}

impl TryFrom<pb::ReadJobRequest> for ReadRequest {
    type Error = Rejection;

    fn try_from(request: pb::ReadJobRequest) -> Result<Self, Rejection> {
        let permission = fixed(WHAT, &request.permission)?;
        let (job, first_unit) = (job_id(&request.job)?, UnitIndex(request.first_unit));
        Ok(Self { job, permission, first_unit, head_only: request.head_only })
    }
}

impl From<ReadRequest> for pb::ReadJobRequest {
    fn from(request: ReadRequest) -> Self {
        Self {
            job: request.job.0.to_vec().into(),
            permission: request.permission.to_vec().into(),
            first_unit: request.first_unit.0,
            head_only: request.head_only,
        }
    }
}

/// Whose word it is that is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Word {
    /// The author's own.
    Author,
    /// The author's, as a keeper has copied it.
    Copy,
    /// That of a keeper that coordinates the job while its author is away.
    Keeper,
}

/// What is said of a job first.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadHead {
    /// Its name.
    pub job: JobId,
    /// What it is; its author's signature has been checked.
    pub manifest: Manifest,
    /// The same, as signed.
    pub encoded: Vec<u8>,
    /// The author's signature.
    pub signature: [u8; SIGNATURE_BYTES],
    /// Counts; bounded.
    pub progress: pb::JobProgress,
    /// Where it stands.
    pub state: JobState,
    /// Whose word that is.
    pub word: Word,
}

/// The result of a verified unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadUnit {
    /// Which.
    pub unit: UnitIndex,
    /// Its name.
    pub name: String,
    /// What was agreed on.
    pub value: Value,
    /// The size of its output.
    pub output_bytes: u64,
    /// The author's (or keeper's) own machine computed or checked it.
    pub by_owner: bool,
    /// The output when it is small; checked against its digest.
    pub output: Option<Arc<[u8]>>,
}

/// A part of the answer.
#[derive(Clone, PartialEq, Debug)]
pub enum ReadPart {
    /// The first.
    Head(Box<ReadHead>),
    /// At most [`BATCH_MAX`].
    Units(Vec<ReadUnit>),
}

impl TryFrom<pb::ReadJobPart> for ReadPart {
    type Error = Rejection;

    fn try_from(part: pb::ReadJobPart) -> Result<Self, Rejection> {
        use pb::read_job_part::Part;
        match part.part.ok_or(Rejection::Missing { what: "part" })? {
            Part::Head(head) => head_from(head).map(|head| Self::Head(Box::new(head))),
            Part::Units(units) => {
                few("units", units.units.len(), BATCH_MAX)?;
                at_most("outputs", units.units.iter().map(|unit| unit.output.len()).sum(), BATCH_INLINE_BYTES_MAX)?;
                Ok(Self::Units(units.units.into_iter().map(unit_from).collect::<Result<_, _>>()?))
            }
        }
    }
}

fn head_from(head: pb::ReadJobHead) -> Result<ReadHead, Rejection> {
    let (encoded, signature) = (head.manifest.to_vec(), fixed("signature", &head.signature)?);
    let manifest = manifest::decode(&encoded)?;
    manifest::verify(manifest.owner, &encoded, &signature)?;
    let progress = head.progress.ok_or(Rejection::Missing { what: "progress" })?;
    let state = progress::check(&progress)?;
    let word = match head.standing {
        1 => Word::Author,
        2 => Word::Copy,
        3 => Word::Keeper,
        found => return Err(Rejection::UnknownNumber { what: "standing", found }),
    };
    Ok(ReadHead { job: manifest::job_id(&encoded), manifest, encoded, signature, progress, state, word })
}

fn unit_from(unit: pb::ReadUnit) -> Result<ReadUnit, Rejection> {
    at_most("name of a unit", unit.name.len(), UNIT_NAME_BYTES_MAX)?;
    let (value, output_bytes) = value_from(unit.value)?;
    let output = inline_from("output", unit.output_is_inline, &unit.output)?;
    check_inline("output", output, output_bytes, value.output)?;
    let output = output.map(Arc::from);
    Ok(ReadUnit { unit: UnitIndex(unit.unit), name: unit.name, value, output_bytes, by_owner: unit.by_owner, output })
}

impl From<ReadPart> for pb::ReadJobPart {
    fn from(part: ReadPart) -> Self {
        use pb::read_job_part::Part;
        let part = match part {
            ReadPart::Head(head) => Part::Head(pb::ReadJobHead {
                manifest: head.encoded.into(),
                signature: head.signature.to_vec().into(),
                progress: Some(head.progress),
                standing: match head.word {
                    Word::Author => 1,
                    Word::Copy => 2,
                    Word::Keeper => 3,
                },
            }),
            ReadPart::Units(units) => Part::Units(pb::ReadJobUnits {
                units: units
                    .into_iter()
                    .map(|unit| pb::ReadUnit {
                        unit: unit.unit.0,
                        name: unit.name,
                        value: Some(value_to(unit.value, unit.output_bytes)),
                        by_owner: unit.by_owner,
                        output_is_inline: unit.output.is_some(),
                        output: unit.output.map_or_else(bytes::Bytes::new, |output| output.to_vec().into()),
                    })
                    .collect(),
            }),
        };
        Self { part: Some(part) }
    }
}
