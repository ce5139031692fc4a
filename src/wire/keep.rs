//! The keep stream's messages: what the author of a job copies to its keepers, and what they answer.
//!
//! Votes are taken as the author states them: who adopts a job checks those receipts that it wants to count (`wire::kept`). Whether a
//! unit exists is the node's to check, which knows the job.

use super::{
    accusation::{receipt_from, receipt_to},
    bounds::{
        BATCH_INLINE_BYTES_MAX, BATCH_MAX, INLINE_BYTES_MAX, LOG_BYTES_MAX, Rejection, SIGNATURE_BYTES, at_most, digest, few, fixed,
        job_id, peer_id,
    },
    checkpoint::{authors_from, authors_to},
    input::{UnitInput, check_inline, inline_from, input_from, input_to},
    kept::{value_from, value_to},
    number, peer as pb, signing,
    work::{JobDescription, description_from, description_to},
};
use crate::protocol::{
    fact::{Failures, Findings, JobState, Nondeterminism, Origin, Verdict, Vote},
    fraud::Receipt,
    ids::{Digest, JobId, PeerId, UnitIndex},
    keeping::{KEEPERS_MAX, Keepers},
    platform::Platforms,
    verify::AuditState,
};
use bytes::Bytes;
use iroh::SecretKey;
use std::{collections::BTreeSet, sync::Arc};

/// The most votes and records of one message.
pub const RECORDS_MAX: usize = 4096;
/// The most bytes of a keeper's reason.
const REASON_BYTES_MAX: usize = 120;
/// What the author signs before a list of keepers.
const CONTEXT: &[u8] = b"manyhands.keepers.v1";
const WHAT: &str = "list of keepers";

/// A list of keepers with its author's signature, which has been checked where it came from a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedKeepers {
    /// The list.
    pub keepers: Keepers,
    /// The author's signature on it and the job.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl SignedKeepers {
    /// Signs a list for a job.
    pub fn sign(author: &SecretKey, job: JobId, keepers: Keepers) -> Self {
        let signature = signing::sign(author, &[CONTEXT, &body(job, &keepers)]);
        Self { keepers, signature }
    }

    /// Whether somebody is on the list.
    pub fn names(&self, peer: PeerId) -> bool {
        self.keepers.peers.contains(&peer)
    }
}

fn body(job: JobId, keepers: &Keepers) -> Vec<u8> {
    let mut body = job.as_bytes().to_vec();
    body.extend(keepers.version.to_le_bytes());
    keepers.peers.iter().for_each(|peer| body.extend(peer.as_bytes()));
    body
}

pub(super) fn list_to(signed: &SignedKeepers) -> pb::KeeperList {
    pb::KeeperList {
        version: signed.keepers.version,
        peers: signed.keepers.peers.iter().map(|peer| peer.0.to_vec().into()).collect(),
        signature: signed.signature.to_vec().into(),
    }
}

pub(super) fn list_from(list: &pb::KeeperList, job: JobId, author: PeerId) -> Result<SignedKeepers, Rejection> {
    few("keepers", list.peers.len(), usize::from(KEEPERS_MAX))?;
    let peers = list.peers.iter().map(|peer| peer_id("keeper", peer)).collect::<Result<Vec<_>, _>>()?;
    if peers.iter().collect::<BTreeSet<_>>().len() < peers.len() {
        return Err(Rejection::Inconsistent { what: "a keeper", with: "another of the list" });
    }
    let keepers = Keepers { version: list.version, peers };
    let signature = fixed("signature", &list.signature)?;
    signing::verify(WHAT, author, &[CONTEXT, &body(job, &keepers)], &signature)?;
    Ok(SignedKeepers { keepers, signature })
}

/// Something of a job that is durable at its author.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// A vote; read, its origin is [`Origin::Collected`].
    Vote(Vote),
    /// A decision.
    Verdict(UnitIndex, Verdict),
    /// Failed attempts.
    Failures(UnitIndex, Failures),
    /// What checks have brought to light.
    Findings(Findings),
    /// Where the job stands.
    State(JobState),
    /// Kept standard error, at most [`LOG_BYTES_MAX`].
    Log(UnitIndex, Arc<[u8]>),
    /// A blob that the job needs, at most [`INLINE_BYTES_MAX`].
    Blob(Arc<[u8]>),
    /// A larger one, to be fetched.
    LargeBlob(Digest),
}

impl Record {
    /// Bytes that it adds to a message beside its fixed parts.
    pub fn inline_bytes(&self) -> usize {
        match self {
            Self::Log(_, bytes) | Self::Blob(bytes) => bytes.len(),
            Self::Vote(_) | Self::Verdict(..) | Self::Failures(..) | Self::Findings(_) | Self::State(_) | Self::LargeBlob(_) => 0,
        }
    }

    /// The unit that it is about, if it is about one.
    pub fn unit(&self) -> Option<UnitIndex> {
        match self {
            Self::Vote(vote) => Some(vote.unit),
            Self::Verdict(unit, _) | Self::Failures(unit, _) | Self::Log(unit, _) => Some(*unit),
            Self::Findings(findings) => findings.nondeterminism.map(|found| found.unit),
            Self::State(_) | Self::Blob(_) | Self::LargeBlob(_) => None,
        }
    }
}

/// What the author says.
#[derive(Clone, PartialEq, Debug)]
pub enum KeepMessage {
    /// Keep this; the description has its keepers.
    Offer(Box<JobDescription>),
    /// Rows of its table of units.
    Units {
        /// The job.
        job: JobId,
        /// The first of them.
        first: UnitIndex,
        /// The rows, at most [`BATCH_MAX`].
        units: Vec<UnitInput>,
    },
    /// Facts.
    Facts {
        /// The job.
        job: JobId,
        /// Of what is sent together; 0 in the copy.
        number: u64,
        /// States and blobs.
        records: Vec<Record>,
        /// Everything else: an encoded [`Sheaf`](super::sheaf::Sheaf), or nothing. Together at most [`RECORDS_MAX`].
        sheaf: Bytes,
    },
    /// The copy is complete.
    Copied(JobId),
    /// It is there.
    Alive,
    /// Keep it no more.
    Dismiss(JobId),
    /// Hand back what was taken.
    Recall(JobId),
}

/// A vote that a keeper took, with its output where that is small.
#[derive(Clone, PartialEq, Debug)]
pub struct HandedVote {
    /// The vote.
    pub vote: Vote,
    /// Its output, checked against its digest.
    pub output: Option<Arc<[u8]>>,
}

/// What a keeper says.
#[derive(Clone, PartialEq, Debug)]
pub enum KeeperMessage {
    /// The whole copy is durable.
    Accepted(JobId),
    /// It does not keep the job.
    Refused {
        /// The job.
        job: JobId,
        /// Why, for people.
        reason: String,
    },
    /// Everything up to a number is durable.
    Kept {
        /// The job.
        job: JobId,
        /// The number.
        number: u64,
    },
    /// Votes that it took itself.
    HandBack {
        /// The job.
        job: JobId,
        /// At most [`BATCH_MAX`].
        votes: Vec<HandedVote>,
        /// That was all.
        done: bool,
    },
}

impl TryFrom<pb::KeepMessage> for KeepMessage {
    type Error = Rejection;

    fn try_from(message: pb::KeepMessage) -> Result<Self, Rejection> {
        use pb::keep_message::Kind;
        Ok(match message.kind.ok_or(Rejection::Missing { what: "kind of message" })? {
            Kind::Offer(offer) => {
                let description = description_from(&offer.job.ok_or(Rejection::Missing { what: "job" })?)?;
                if description.keepers.is_none() {
                    return Err(Rejection::Missing { what: WHAT });
                }
                Self::Offer(Box::new(description))
            }
            Kind::Units(message) => {
                few("rows", message.units.len(), BATCH_MAX)?;
                let inline = message.units.iter().map(|input| input.inline.len() + input.name.len()).sum();
                at_most("inline input and names", inline, BATCH_INLINE_BYTES_MAX)?;
                let units = message.units.into_iter().map(input_from).collect::<Result<_, _>>()?;
                Self::Units { job: job_id(&message.job)?, first: UnitIndex(message.first), units }
            }
            Kind::Facts(facts) => {
                few("records", facts.records.len(), RECORDS_MAX)?;
                let records = facts.records.into_iter().map(record_from).collect::<Result<Vec<_>, _>>()?;
                at_most("outputs and logs", records.iter().map(Record::inline_bytes).sum(), BATCH_INLINE_BYTES_MAX)?;
                if !records.iter().all(|record| matches!(record, Record::State(_) | Record::Blob(_) | Record::LargeBlob(_))) {
                    return Err(Rejection::Inconsistent { what: "a record", with: "those that are read at once" });
                }
                Self::Facts { job: job_id(&facts.job)?, number: facts.number, records, sheaf: facts.sheaf }
            }
            Kind::Copied(copied) => Self::Copied(job_id(&copied.job)?),
            Kind::Alive(pb::KeepAlive {}) => Self::Alive,
            Kind::Dismiss(dismiss) => Self::Dismiss(job_id(&dismiss.job)?),
            Kind::Recall(recall) => Self::Recall(job_id(&recall.job)?),
        })
    }
}

impl From<KeepMessage> for pb::KeepMessage {
    fn from(message: KeepMessage) -> Self {
        use pb::keep_message::Kind;
        let name = |job: JobId| job.0.to_vec().into();
        Self {
            kind: Some(match message {
                KeepMessage::Offer(description) => Kind::Offer(pb::KeepOffer { job: Some(description_to(*description)) }),
                KeepMessage::Units { job, first, units } => {
                    Kind::Units(pb::KeepUnits { job: name(job), first: first.0, units: units.into_iter().map(input_to).collect() })
                }
                KeepMessage::Facts { job, number, records, sheaf } => {
                    let records = records.into_iter().map(record_to).collect();
                    Kind::Facts(pb::KeepFacts { job: name(job), number, records, sheaf })
                }
                KeepMessage::Copied(job) => Kind::Copied(pb::KeepCopied { job: name(job) }),
                KeepMessage::Alive => Kind::Alive(pb::KeepAlive {}),
                KeepMessage::Dismiss(job) => Kind::Dismiss(pb::KeepDismiss { job: name(job) }),
                KeepMessage::Recall(job) => Kind::Recall(pb::KeepRecall { job: name(job) }),
            }),
        }
    }
}

impl TryFrom<pb::KeeperMessage> for KeeperMessage {
    type Error = Rejection;

    fn try_from(message: pb::KeeperMessage) -> Result<Self, Rejection> {
        use pb::keeper_message::Kind;
        Ok(match message.kind.ok_or(Rejection::Missing { what: "kind of message" })? {
            Kind::Accepted(accepted) => Self::Accepted(job_id(&accepted.job)?),
            Kind::Refused(refused) => {
                at_most("reason", refused.reason.len(), REASON_BYTES_MAX)?;
                Self::Refused { job: job_id(&refused.job)?, reason: refused.reason }
            }
            Kind::Kept(kept) => Self::Kept { job: job_id(&kept.job)?, number: kept.number },
            Kind::HandBack(page) => {
                few("votes", page.votes.len(), BATCH_MAX)?;
                at_most("outputs", page.votes.iter().map(|vote| vote.output.len()).sum(), BATCH_INLINE_BYTES_MAX)?;
                let votes = page.votes.into_iter().map(handed_from).collect::<Result<_, _>>()?;
                Self::HandBack { job: job_id(&page.job)?, votes, done: page.done }
            }
        })
    }
}

impl From<KeeperMessage> for pb::KeeperMessage {
    fn from(message: KeeperMessage) -> Self {
        use pb::keeper_message::Kind;
        let name = |job: JobId| job.0.to_vec().into();
        Self {
            kind: Some(match message {
                KeeperMessage::Accepted(job) => Kind::Accepted(pb::KeeperAccepted { job: name(job) }),
                KeeperMessage::Refused { job, mut reason } => {
                    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                    Kind::Refused(pb::KeeperRefused { job: name(job), reason })
                }
                KeeperMessage::Kept { job, number } => Kind::Kept(pb::KeeperKept { job: name(job), number }),
                KeeperMessage::HandBack { job, votes, done } => {
                    let handed = |handed: HandedVote| pb::HandedVote {
                        vote: Some(vote_to(&handed.vote)),
                        output_is_inline: handed.output.is_some(),
                        output: handed.output.map_or_else(Bytes::new, |output| output.to_vec().into()),
                    };
                    Kind::HandBack(pb::HandBack { job: name(job), votes: votes.into_iter().map(handed).collect(), done })
                }
            }),
        }
    }
}

fn handed_from(message: pb::HandedVote) -> Result<HandedVote, Rejection> {
    let vote = vote_from(message.vote.ok_or(Rejection::Missing { what: "vote" })?)?;
    let output = inline_from("output", message.output_is_inline, &message.output)?;
    check_inline("output", output, vote.output_bytes, vote.value.output)?;
    Ok(HandedVote { vote, output: output.map(Arc::from) })
}

fn vote_to(vote: &Vote) -> pb::KeptVote {
    pb::KeptVote {
        worker: vote.worker.0.to_vec().into(),
        unit: vote.unit.0,
        claim: Some(receipt_to(&Receipt::from(vote))),
        position: vote.position,
        platform: number::of_platform(vote.platform),
        has_output: vote.origin.has_output(),
        rests_on: authors_to(vote.rests_on),
    }
}

fn vote_from(message: pb::KeptVote) -> Result<Vote, Rejection> {
    let receipt = receipt_from(message.claim.ok_or(Rejection::Missing { what: "claim of a vote" })?)?;
    let Receipt { attempt, ordinal, value, output_bytes, proof } = receipt;
    Ok(Vote {
        unit: UnitIndex(message.unit),
        worker: peer_id("worker", &message.worker)?,
        attempt,
        ordinal,
        position: message.position,
        platform: number::to_platform(message.platform)?,
        value,
        output_bytes,
        origin: Origin::Collected { output: message.has_output },
        rests_on: authors_from(&message.rests_on)?,
        proof,
    })
}

pub(super) fn record_to(record: Record) -> pb::KeepRecord {
    use pb::keep_record::Record as Kind;
    pb::KeepRecord {
        record: Some(match record {
            Record::Vote(vote) => Kind::Vote(vote_to(&vote)),
            Record::Verdict(unit, verdict) => Kind::Verdict(verdict_to(unit, verdict)),
            Record::Failures(unit, Failures { count, last }) => {
                Kind::Failures(pb::KeptFailures { unit: unit.0, count, last: number::of_failure(last) })
            }
            Record::Findings(findings) => Kind::Findings(findings_to(&findings)),
            Record::State(state) => Kind::State(number::of_job_state(state)),
            Record::Log(unit, bytes) => Kind::Log(pb::KeptLog { unit: unit.0, bytes: bytes.to_vec().into() }),
            Record::Blob(bytes) => Kind::Blob(bytes.to_vec().into()),
            Record::LargeBlob(digest) => Kind::LargeBlob(digest.0.to_vec().into()),
        }),
    }
}

pub(super) fn record_from(message: pb::KeepRecord) -> Result<Record, Rejection> {
    use pb::keep_record::Record as Kind;
    Ok(match message.record.ok_or(Rejection::Missing { what: "record" })? {
        Kind::Vote(vote) => Record::Vote(vote_from(vote)?),
        Kind::Verdict(verdict) => {
            let unit = UnitIndex(verdict.unit);
            Record::Verdict(unit, verdict_from(verdict)?)
        }
        Kind::Failures(failures) => {
            let counted = Failures { count: failures.count, last: number::to_failure(failures.last)? };
            Record::Failures(UnitIndex(failures.unit), counted)
        }
        Kind::Findings(findings) => Record::Findings(findings_from(&findings)?),
        Kind::State(state) => Record::State(number::to_job_state(state)?),
        Kind::Log(log) => {
            at_most("log", log.bytes.len(), LOG_BYTES_MAX)?;
            Record::Log(UnitIndex(log.unit), Arc::from(&*log.bytes))
        }
        Kind::Blob(bytes) => {
            at_most("small blob", bytes.len(), INLINE_BYTES_MAX)?;
            Record::Blob(Arc::from(&*bytes))
        }
        Kind::LargeBlob(name) => Record::LargeBlob(digest("blob", &name)?),
    })
}

fn verdict_to(unit: UnitIndex, verdict: Verdict) -> pb::KeptVerdict {
    let (kind, value, by_owner) = match verdict {
        Verdict::Open => (1, None, false),
        // Its size is that of its votes.
        Verdict::Verified { value, by_owner } => (2, Some(value_to(value, 0)), by_owner),
        Verdict::Failed => (3, None, false),
    };
    pb::KeptVerdict { unit: unit.0, kind, value, by_owner }
}

fn verdict_from(message: pb::KeptVerdict) -> Result<Verdict, Rejection> {
    match message.kind {
        1 => Ok(Verdict::Open),
        2 => Ok(Verdict::Verified { value: value_from(message.value)?.0, by_owner: message.by_owner }),
        3 => Ok(Verdict::Failed),
        found => Err(Rejection::UnknownNumber { what: "verdict", found }),
    }
}

fn findings_to(findings: &Findings) -> pb::KeptFindings {
    let Findings { audit, nondeterminism } = findings;
    let found = nondeterminism.map(|found| (found.unit.0, found.set_aside.bits().into(), found.against.bits().into()));
    let (unit, set_aside, against) = found.unwrap_or_default();
    let is_nondeterministic = nondeterminism.is_some();
    pb::KeptFindings { convicted: audit.convicted, collusion: audit.collusion, is_nondeterministic, unit, set_aside, against }
}

fn findings_from(message: &pb::KeptFindings) -> Result<Findings, Rejection> {
    let platforms = |found: u32| {
        let bits = u8::try_from(found).ok().and_then(Platforms::from_bits);
        bits.ok_or(Rejection::UnknownNumber { what: "set of instruction sets", found })
    };
    let nondeterminism = match message.is_nondeterministic {
        false => None,
        true => {
            let (set_aside, against) = (platforms(message.set_aside)?, platforms(message.against)?);
            Some(Nondeterminism { unit: UnitIndex(message.unit), set_aside, against })
        }
    };
    Ok(Findings { audit: AuditState { convicted: message.convicted, collusion: message.collusion }, nondeterminism })
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
