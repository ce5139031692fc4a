//! The work stream's messages as types that cannot be wrong, and their conversion from and to protobuf.
//!
//! What is checked here is what a message shows by itself. Whether a unit exists, a token is genuine or a lease still runs is
//! the protocol's to judge, and whether an [`OutcomeBatch`] is signed by its sender is [`super::receipt`]'s.

use super::{
    bounds::{
        BATCH_INLINE_BYTES_MAX, BATCH_MAX, CREDITS_MAX, INSTRUCTION_SET_BYTES_MAX, LOG_BYTES_MAX, Rejection, SIGNATURE_BYTES, TOKEN_BYTES,
        at_most, digest, few, fixed, job_id,
    },
    chain::{chain_from, chain_to, links_from, links_to},
    checkpoint::{authors_from, authors_to, checkpoint_from, checkpoint_to, offer_from, offer_to, taken_from},
    input::{check_inline, check_size, inline_from, input_from, input_to},
    keep::{SignedKeepers, list_from, list_to},
    kept::ReceiptPage,
    manifest, number, peer as pb,
};
use crate::protocol::{
    announce::{SLOTS_MAX, VALIDATION_CLASS_BYTES_MAX},
    chain::Links,
    checkpoint::{Authors, Checkpoint},
    ids::{Attempt, Digest, JobId, UnitIndex},
    job::Manifest,
    outcome::{Outcome, UnitLimits, Value},
    owner::Offer,
};
use core::time::Duration;
use std::{collections::BTreeSet, sync::Arc};

pub use super::input::UnitInput;

/// The secret mark by which a coordinator knows its own lease again.
pub type Token = [u8; TOKEN_BYTES];

/// What a worker says.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkerMessage {
    /// The first message of a stream.
    Hello(WorkerHello),
    /// How many more units it can take, in all.
    Credits(u32),
    /// What attempts ended in.
    Outcomes(OutcomeBatch),
    /// Receipts that it was asked for.
    Receipts(ReceiptPage),
    /// How far it has come with a unit.
    Offer {
        /// The job.
        job: JobId,
        /// How far.
        offer: Offer,
    },
    /// The links of its execution of a unit; none when it does not have them any more.
    Links {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// What.
        links: Option<Links>,
    },
    /// A state is held as a blob of so many bytes; 0 when it cannot be made.
    State {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// Its size.
        bytes: u64,
    },
}

/// What a worker is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerHello {
    /// Engine version and passes: what must match between voters.
    pub validation_class: String,
    /// Its processor's.
    pub instruction_set: String,
    /// Units that it runs at once.
    pub slots: u32,
    /// Memory for all of them.
    pub memory_bytes: u64,
}

/// Outcomes of one job, signed together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeBatch {
    /// The job.
    pub job: JobId,
    /// At most [`BATCH_MAX`], each of another unit.
    pub outcomes: Vec<UnitOutcome>,
    /// On the receipts of those that are values; all zeroes when there are none.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// What one attempt ended in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitOutcome {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// The lease's token.
    pub token: Token,
    /// How many votes the unit had when it was leased; the token covers it.
    pub ordinal: u32,
    /// What it ended in.
    pub outcome: Outcome,
    /// The output's size; zero for a failure.
    pub output_bytes: u64,
    /// The output when it travels inline; checked against its digest.
    pub inline_output: Option<Vec<u8>>,
    /// Kept standard error.
    pub log: Vec<u8>,
    /// How long it ran, to the millisecond.
    pub wall: Duration,
    /// From the lease.
    pub rests_on: Authors,
}

/// What a coordinator says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoordinatorMessage {
    /// A job, before its first lease. Signed by its owner.
    Job(Box<JobDescription>),
    /// Permission to make attempts.
    Leases {
        /// The job.
        job: JobId,
        /// At most [`BATCH_MAX`], each of another unit.
        leases: Vec<Lease>,
    },
    /// These units need not be run any more; all of the job's when there are none.
    Revoke {
        /// The job.
        job: JobId,
        /// The units.
        units: Vec<UnitIndex>,
    },
    /// Asks for the receipts of a job that the worker keeps.
    AskReceipts {
        /// The job.
        job: JobId,
        /// Where to begin; zero at first.
        after: u64,
    },
    /// The outcomes of these units are durable.
    Acknowledged {
        /// The job.
        job: JobId,
        /// The units.
        units: Vec<UnitIndex>,
    },
    /// Asks for the links of the worker's execution of a unit.
    LinksWanted {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
    },
    /// This state of a unit is held, and need not be served any more.
    CheckpointTaken {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// Which.
        state: Digest,
    },
    /// Asks for the state of the worker's execution of a unit after so much gas.
    StateWanted {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// So much.
        gas: u64,
        /// The unit's input, as in its lease.
        input: Option<UnitInput>,
    },
}

/// A job, its name and its owner's signature, which has been checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobDescription {
    /// Its name.
    pub job: JobId,
    /// What it is.
    pub manifest: Manifest,
    /// The same, as signed.
    pub encoded: Vec<u8>,
    /// The owner's signature.
    pub signature: [u8; SIGNATURE_BYTES],
    /// Who keeps it, says its owner; whoever is on the list may coordinate it. Its signature has been checked too.
    pub keepers: Option<SignedKeepers>,
}

/// Permission to make an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// To be shown with the outcome.
    pub token: Token,
    /// How many votes the unit has.
    pub ordinal: u32,
    /// For how long, from its receipt; to the millisecond.
    pub duration: Duration,
    /// For units with an input of their own.
    pub input: Option<UnitInput>,
    /// Where to go on.
    pub from: Option<Arc<Checkpoint>>,
    /// On whose checkpoints the result will rest.
    pub rests_on: Authors,
}

impl TryFrom<pb::WorkerMessage> for WorkerMessage {
    type Error = Rejection;

    fn try_from(message: pb::WorkerMessage) -> Result<Self, Rejection> {
        use pb::worker_message::Kind;
        Ok(match message.kind.ok_or(Rejection::Missing { what: "kind of message" })? {
            Kind::Hello(hello) => Self::Hello(hello_from(hello)?),
            Kind::Credits(credits) if credits.units > CREDITS_MAX => {
                let (found, max) = (i64::from(credits.units), i64::from(CREDITS_MAX));
                return Err(Rejection::OutOfRange { what: "number of credits", found, min: 0, max });
            }
            Kind::Credits(credits) => Self::Credits(credits.units),
            Kind::Outcomes(batch) => Self::Outcomes(outcomes_from(batch)?),
            Kind::Receipts(page) => Self::Receipts(page.try_into()?),
            Kind::Links(message) => links_from(&message)?,
            Kind::Checkpoint(message) => offer_from(&message)?,
            Kind::State(state) => Self::State { job: job_id(&state.job)?, unit: UnitIndex(state.unit), bytes: state.bytes },
        })
    }
}

fn hello_from(hello: pb::WorkerHello) -> Result<WorkerHello, Rejection> {
    at_most("validation class", hello.validation_class.len(), VALIDATION_CLASS_BYTES_MAX)?;
    at_most("instruction set", hello.instruction_set.len(), INSTRUCTION_SET_BYTES_MAX)?;
    if hello.slots > SLOTS_MAX {
        return Err(Rejection::OutOfRange { what: "number of slots", found: hello.slots.into(), min: 0, max: SLOTS_MAX.into() });
    }
    Ok(WorkerHello {
        validation_class: hello.validation_class,
        instruction_set: hello.instruction_set,
        slots: hello.slots,
        memory_bytes: hello.memory_bytes,
    })
}

fn outcomes_from(batch: pb::OutcomeBatch) -> Result<OutcomeBatch, Rejection> {
    few("outcomes", batch.outcomes.len(), BATCH_MAX)?;
    let inline = batch.outcomes.iter().map(|outcome| outcome.inline_output.len() + outcome.log.len()).sum();
    at_most("inline output and log of a batch", inline, BATCH_INLINE_BYTES_MAX)?;
    distinct(batch.outcomes.iter().map(|outcome| outcome.unit))?;
    let outcomes = batch.outcomes.into_iter().map(outcome_from).collect::<Result<Vec<_>, _>>()?;
    let has_values = outcomes.iter().any(|outcome| matches!(outcome.outcome, Outcome::Value(_)));
    let signature = match (has_values, batch.signature.is_empty()) {
        (false, true) => [0; SIGNATURE_BYTES],
        (false, false) => return Err(Rejection::Inconsistent { what: "signature", with: "batch without values" }),
        (true, _) => fixed("signature", &batch.signature)?,
    };
    Ok(OutcomeBatch { job: job_id(&batch.job)?, outcomes, signature })
}

fn outcome_from(message: pb::UnitOutcome) -> Result<UnitOutcome, Rejection> {
    use pb::unit_outcome::Ended;
    at_most("log", message.log.len(), LOG_BYTES_MAX)?;
    let inline = inline_from("inline output", message.output_is_inline, &message.inline_output)?;
    let (outcome, output_bytes) = match message.ended.ok_or(Rejection::Missing { what: "outcome" })? {
        Ended::Failure(_) if inline.is_some() => return Err(Rejection::Inconsistent { what: "inline output", with: "failure" }),
        Ended::Failure(failure) => (Outcome::Failed(number::to_failure(failure)?), 0),
        Ended::Value(value) => {
            let output = digest("output", &value.output)?;
            check_size("output", value.output_bytes, UnitLimits::MAX.output_bytes)?;
            check_inline("inline output", inline, value.output_bytes, output)?;
            let exit = number::to_exit(value.exit_kind, value.exit_detail)?;
            let chain = chain_from(&value.chain)?;
            (Outcome::Value(Value { exit, output, gas: value.gas, chain }), value.output_bytes)
        }
    };
    Ok(UnitOutcome {
        unit: UnitIndex(message.unit),
        attempt: Attempt(message.attempt),
        token: fixed("token", &message.token)?,
        ordinal: message.ordinal,
        outcome,
        output_bytes,
        inline_output: inline.map(<[u8]>::to_vec),
        log: message.log.to_vec(),
        wall: Duration::from_millis(message.wall_ms.into()),
        rests_on: authors_from(&message.rests_on)?,
    })
}

impl TryFrom<pb::CoordinatorMessage> for CoordinatorMessage {
    type Error = Rejection;

    fn try_from(message: pb::CoordinatorMessage) -> Result<Self, Rejection> {
        use pb::coordinator_message::Kind;
        Ok(match message.kind.ok_or(Rejection::Missing { what: "kind of message" })? {
            Kind::Job(description) => Self::Job(Box::new(description_from(&description)?)),
            Kind::Leases(batch) => {
                few("leases", batch.leases.len(), BATCH_MAX)?;
                let inputs = batch.leases.iter().filter_map(|lease| lease.input.as_ref());
                let inline: usize = inputs.map(|input| input.inline.len() + input.name.len()).sum();
                let links: usize = batch.leases.iter().filter_map(|lease| Some(lease.checkpoint.as_ref()?.links.len())).sum();
                at_most("inline input, names and links of a batch", inline + links, BATCH_INLINE_BYTES_MAX)?;
                distinct(batch.leases.iter().map(|lease| lease.unit))?;
                let leases = batch.leases.into_iter().map(lease_from).collect::<Result<_, _>>()?;
                Self::Leases { job: job_id(&batch.job)?, leases }
            }
            Kind::Revoke(revoke) => Self::Revoke { job: job_id(&revoke.job)?, units: units_from("revoked units", revoke.units)? },
            Kind::Receipts(asked) => Self::AskReceipts { job: job_id(&asked.job)?, after: asked.after },
            Kind::Acknowledged(done) => {
                Self::Acknowledged { job: job_id(&done.job)?, units: units_from("acknowledged units", done.units)? }
            }
            Kind::CheckpointTaken(taken) => taken_from(&taken)?,
            Kind::LinksWanted(wanted) => Self::LinksWanted { job: job_id(&wanted.job)?, unit: UnitIndex(wanted.unit) },
            Kind::StateWanted(wanted) => {
                let input = wanted.input.map(input_from).transpose()?;
                Self::StateWanted { job: job_id(&wanted.job)?, unit: UnitIndex(wanted.unit), gas: wanted.gas, input }
            }
        })
    }
}

pub(super) fn description_from(description: &pb::JobDescription) -> Result<JobDescription, Rejection> {
    let manifest = manifest::decode(&description.manifest)?;
    let signature = fixed("signature", &description.signature)?;
    manifest::verify(manifest.owner, &description.manifest, &signature)?;
    let encoded = description.manifest.to_vec();
    let job = manifest::job_id(&encoded);
    let keepers = description.keepers.as_ref().map(|list| list_from(list, job, manifest.owner)).transpose()?;
    Ok(JobDescription { job, manifest, encoded, signature, keepers })
}

pub(super) fn description_to(description: JobDescription) -> pb::JobDescription {
    pb::JobDescription {
        manifest: description.encoded.into(),
        signature: description.signature.to_vec().into(),
        keepers: description.keepers.as_ref().map(list_to),
    }
}

fn lease_from(lease: pb::Lease) -> Result<Lease, Rejection> {
    Ok(Lease {
        unit: UnitIndex(lease.unit),
        attempt: Attempt(lease.attempt),
        token: fixed("token", &lease.token)?,
        ordinal: lease.ordinal,
        duration: Duration::from_millis(lease.duration_ms.into()),
        input: lease.input.map(input_from).transpose()?,
        from: lease.checkpoint.as_ref().map(checkpoint_from).transpose()?,
        rests_on: authors_from(&lease.rests_on)?,
    })
}

fn units_from(what: &'static str, units: Vec<u32>) -> Result<Vec<UnitIndex>, Rejection> {
    few(what, units.len(), BATCH_MAX)?;
    distinct(units.iter().copied())?;
    Ok(units.into_iter().map(UnitIndex).collect())
}

fn distinct(units: impl Iterator<Item = u32>) -> Result<(), Rejection> {
    let mut seen = BTreeSet::new();
    for unit in units {
        if !seen.insert(unit) {
            return Err(Rejection::Repeated { unit });
        }
    }
    Ok(())
}

impl From<WorkerMessage> for pb::WorkerMessage {
    fn from(message: WorkerMessage) -> Self {
        use pb::worker_message::Kind;
        Self {
            kind: Some(match message {
                WorkerMessage::Hello(hello) => Kind::Hello(pb::WorkerHello {
                    validation_class: hello.validation_class,
                    instruction_set: hello.instruction_set,
                    slots: hello.slots,
                    memory_bytes: hello.memory_bytes,
                }),
                WorkerMessage::Credits(units) => Kind::Credits(pb::Credits { units }),
                WorkerMessage::Receipts(page) => Kind::Receipts(page.into()),
                WorkerMessage::Outcomes(batch) => {
                    let has_values = batch.outcomes.iter().any(|outcome| matches!(outcome.outcome, Outcome::Value(_)));
                    Kind::Outcomes(pb::OutcomeBatch {
                        job: batch.job.0.to_vec().into(),
                        outcomes: batch.outcomes.into_iter().map(outcome_to).collect(),
                        signature: if has_values { batch.signature.to_vec().into() } else { bytes::Bytes::new() },
                    })
                }
                WorkerMessage::Offer { job, offer } => Kind::Checkpoint(offer_to(job, &offer)),
                WorkerMessage::Links { job, unit, links } => Kind::Links(links_to(job, unit, &links.unwrap_or_default())),
                WorkerMessage::State { job, unit, bytes } => Kind::State(pb::UnitState { job: job.0.to_vec().into(), unit: unit.0, bytes }),
            }),
        }
    }
}

fn outcome_to(outcome: UnitOutcome) -> pb::UnitOutcome {
    use pb::unit_outcome::Ended;
    let ended = match outcome.outcome {
        Outcome::Failed(failure) => Ended::Failure(number::of_failure(failure)),
        Outcome::Value(value) => {
            let (exit_kind, exit_detail) = number::of_exit(value.exit);
            let output = value.output.0.to_vec().into();
            let chain = chain_to(value.chain);
            Ended::Value(pb::UnitValue { exit_kind, exit_detail, output, gas: value.gas, output_bytes: outcome.output_bytes, chain })
        }
    };
    pb::UnitOutcome {
        unit: outcome.unit.0,
        attempt: outcome.attempt.0,
        token: outcome.token.to_vec().into(),
        ordinal: outcome.ordinal,
        ended: Some(ended),
        output_is_inline: outcome.inline_output.is_some(),
        inline_output: outcome.inline_output.unwrap_or_default().into(),
        log: outcome.log.into(),
        wall_ms: millis(outcome.wall),
        rests_on: authors_to(outcome.rests_on),
    }
}

impl From<CoordinatorMessage> for pb::CoordinatorMessage {
    fn from(message: CoordinatorMessage) -> Self {
        use pb::coordinator_message::Kind;
        let numbers = |units: Vec<UnitIndex>| units.into_iter().map(|unit| unit.0).collect();
        Self {
            kind: Some(match message {
                CoordinatorMessage::Job(description) => Kind::Job(description_to(*description)),
                CoordinatorMessage::Leases { job, leases } => {
                    let leases = leases.into_iter().map(lease_to).collect();
                    Kind::Leases(pb::LeaseBatch { job: job.0.to_vec().into(), leases })
                }
                CoordinatorMessage::Revoke { job, units } => {
                    Kind::Revoke(pb::Revocation { job: job.0.to_vec().into(), units: numbers(units) })
                }
                CoordinatorMessage::AskReceipts { job, after } => Kind::Receipts(pb::ReceiptsRequest { job: job.0.to_vec().into(), after }),
                CoordinatorMessage::Acknowledged { job, units } => {
                    Kind::Acknowledged(pb::Acknowledgement { job: job.0.to_vec().into(), units: numbers(units) })
                }
                CoordinatorMessage::CheckpointTaken { job, unit, state } => {
                    Kind::CheckpointTaken(pb::CheckpointTaken { job: job.0.to_vec().into(), unit: unit.0, state: state.0.to_vec().into() })
                }
                CoordinatorMessage::LinksWanted { job, unit } => {
                    Kind::LinksWanted(pb::LinksWanted { job: job.0.to_vec().into(), unit: unit.0 })
                }
                CoordinatorMessage::StateWanted { job, unit, gas, input } => {
                    Kind::StateWanted(pb::StateWanted { job: job.0.to_vec().into(), unit: unit.0, gas, input: input.map(input_to) })
                }
            }),
        }
    }
}

fn lease_to(lease: Lease) -> pb::Lease {
    pb::Lease {
        unit: lease.unit.0,
        attempt: lease.attempt.0,
        token: lease.token.to_vec().into(),
        ordinal: lease.ordinal,
        duration_ms: millis(lease.duration),
        input: lease.input.map(input_to),
        checkpoint: lease.from.as_deref().map(checkpoint_to),
        rests_on: authors_to(lease.rests_on),
    }
}

/// Whole milliseconds; more than 49 days are 49 days.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
