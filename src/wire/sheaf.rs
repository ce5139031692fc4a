//! Sheaves: votes and decisions of a job, bound together for a keeper.
//!
//! Most votes come in batches that their workers signed together, and most decide their units at once. So a batch travels as columns of
//! small numbers with one signature, no proofs: whoever has all claims of a batch makes these again. The rest travels as [`Record`]s,
//! behind the batches of the same turn. A keeper checks a sheaf when it comes, stores its bytes, and takes it apart when it needs what is
//! in it.

use super::{
    bounds::{BATCH_INLINE_BYTES_MAX, BATCH_MAX, INLINE_BYTES_MAX, Rejection, SIGNATURE_BYTES, at_most, digest, few, fixed, peer_id},
    keep::{RECORDS_MAX, Record, record_from, record_to},
    number, peer as pb,
    receipt::{Claim, ReceiptError, Receipts},
};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Origin, Verdict, Vote},
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    outcome::{Exit, UnitLimits, Value},
    platform::Platform,
};
use prost::Message as _;
use std::sync::Arc;

const WHAT: &str = "sheaf";

/// Votes and decisions in the order in which they hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sheaf {
    /// At most [`RECORDS_MAX`] votes and records.
    pub parts: Vec<Part>,
}

/// A part of a sheaf.
#[derive(Clone, PartialEq, Debug)]
pub enum Part {
    /// Votes that were signed together.
    Batch(Batch),
    /// Anything else; neither a state nor a large blob.
    Record(Record),
}

/// All votes that a worker has signed together, in the order of its receipts.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    /// The worker.
    pub worker: PeerId,
    /// Its signature.
    pub signature: [u8; SIGNATURE_BYTES],
    /// Its validation class.
    pub class: String,
    /// Its instruction set.
    pub instruction_set: String,
    /// What was computed, each once.
    pub outputs: Vec<BatchOutput>,
    /// At most [`BATCH_MAX`].
    pub votes: Vec<BatchVote>,
}

/// An output of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchOutput {
    /// Its bytes, at most [`INLINE_BYTES_MAX`].
    Inline(Arc<[u8]>),
    /// A large one, or one that was sent before.
    Named {
        /// Its name.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
}

impl BatchOutput {
    /// Its bytes, where they are here, its name and its size.
    pub fn parts(&self) -> (Option<&Arc<[u8]>>, Digest, u64) {
        match self {
            Self::Inline(bytes) => (Some(bytes), Digest::of(bytes), bytes.len() as u64),
            Self::Named { digest, bytes } => (None, *digest, *bytes),
        }
    }

    fn inline_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Named { .. } => 0,
        }
    }
}

/// A vote of a batch: no chain, nothing that it rests on, the output is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchVote {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// How many votes the unit had when it was leased.
    pub ordinal: u32,
    /// Its place among the unit's votes.
    pub position: u32,
    /// How it ended.
    pub exit: Exit,
    /// What it took.
    pub gas: u64,
    /// Which of the outputs.
    pub output: u32,
    /// Whether its value was what the unit was verified with in the same turn, and if so, whether by the author's machine.
    pub decided: Option<bool>,
}

impl Batch {
    /// The votes with their proofs, made again, and what was decided. `inputs` are those of their units, see [`Claim::input`]: with others
    /// than the worker was given the proofs are good for nothing.
    pub fn unbind(&self, job: JobId, inputs: &[Option<Digest>]) -> Result<Vec<(Vote, Option<Verdict>)>, ReceiptError> {
        let outputs: Vec<(Digest, u64)> = self.outputs.iter().map(BatchOutput::parts).map(|(_, digest, bytes)| (digest, bytes)).collect();
        let platform = Platform::named(self.instruction_set.as_bytes());
        let vote = |vote: &BatchVote| {
            let BatchVote { unit, attempt, ordinal, position, exit, gas, output, decided: _ } = *vote;
            let (output, output_bytes) = outputs[output as usize];
            let value = Value { exit, output, gas, chain: None };
            let (origin, rests_on, proof) = (Origin::Collected { output: true }, Authors::NONE, Arc::from([]));
            Vote { unit, worker: self.worker, attempt, ordinal, position, platform, value, output_bytes, origin, rests_on, proof }
        };
        let mut votes: Vec<Vote> = self.votes.iter().map(vote).collect();
        let inputs = inputs.iter().copied().chain(core::iter::repeat(None));
        let claims: Vec<Claim> = votes.iter().zip(inputs).map(|(vote, input)| Claim::of_vote(vote, input)).collect();
        let receipts = Receipts::new(job, &self.class, &self.instruction_set, &claims)?;
        votes.iter_mut().enumerate().for_each(|(at, vote)| vote.proof = receipts.proof(at, &self.signature));
        let decided = |(vote, bound): (Vote, &BatchVote)| {
            let verdict = bound.decided.map(|by_owner| Verdict::Verified { value: vote.value, by_owner });
            (vote, verdict)
        };
        Ok(votes.into_iter().zip(&self.votes).map(decided).collect())
    }
}

impl Part {
    /// Votes and records in it.
    pub fn count(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.votes.len(),
            Self::Record(_) => 1,
        }
    }

    /// Bytes of outputs and logs in it.
    pub fn inline_bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.outputs.iter().map(BatchOutput::inline_bytes).sum(),
            Self::Record(record) => record.inline_bytes(),
        }
    }
}

impl Sheaf {
    /// Votes and records in it.
    pub fn count(&self) -> usize {
        self.parts.iter().map(Part::count).sum()
    }

    /// Bytes of outputs and logs in it.
    pub fn inline_bytes(&self) -> usize {
        self.parts.iter().map(Part::inline_bytes).sum()
    }

    /// The units that it is about.
    pub fn units(&self) -> impl Iterator<Item = UnitIndex> {
        self.parts.iter().flat_map(|part| {
            let (votes, record) = match part {
                Part::Batch(batch) => (&*batch.votes, None),
                Part::Record(record) => (&[][..], record.unit()),
            };
            votes.iter().map(|vote| vote.unit).chain(record)
        })
    }

    /// As it travels and is stored.
    pub fn encode(&self) -> Vec<u8> {
        let part = |part: &Part| match part {
            Part::Batch(batch) => pb::kept_sheaf_part::Part::Batch(batch_to(batch)),
            Part::Record(record) => pb::kept_sheaf_part::Part::Record(record_to(record.clone())),
        };
        let parts = self.parts.iter().map(|one| pb::KeptSheafPart { part: Some(part(one)) }).collect();
        pb::KeptSheaf { parts }.encode_to_vec()
    }

    /// Reads one, with its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        let message = pb::KeptSheaf::decode(bytes).map_err(|source| Rejection::Undecodable { what: WHAT, source })?;
        few("parts of a sheaf", message.parts.len(), RECORDS_MAX)?;
        let parts = message.parts.into_iter().map(part_from).collect::<Result<Vec<_>, _>>()?;
        let sheaf = Self { parts };
        few("votes and records", sheaf.count(), RECORDS_MAX)?;
        at_most("outputs and logs", sheaf.inline_bytes(), BATCH_INLINE_BYTES_MAX)?;
        Ok(sheaf)
    }
}

fn part_from(part: pb::KeptSheafPart) -> Result<Part, Rejection> {
    Ok(match part.part.ok_or(Rejection::Missing { what: "part of a sheaf" })? {
        pb::kept_sheaf_part::Part::Batch(batch) => Part::Batch(batch_from(batch)?),
        pb::kept_sheaf_part::Part::Record(record) => match record_from(record)? {
            Record::State(_) | Record::LargeBlob(_) => {
                return Err(Rejection::Inconsistent { what: "a state or a large blob", with: "the sheaf, which is not read at once" });
            }
            record @ (Record::Vote(_)
            | Record::Verdict(..)
            | Record::Failures(..)
            | Record::Findings(_)
            | Record::Log(..)
            | Record::Blob(_)) => Part::Record(record),
        },
    })
}

/// A column; nothing where all is zero.
fn column<T: Default + PartialEq>(votes: &[BatchVote], of: impl Fn(&BatchVote) -> T) -> Vec<T> {
    let column: Vec<T> = votes.iter().map(of).collect();
    if column.iter().all(|number| *number == T::default()) { Vec::new() } else { column }
}

fn batch_to(batch: &Batch) -> pb::KeptBatch {
    let votes = &batch.votes;
    let output = |output: &BatchOutput| match output {
        BatchOutput::Inline(bytes) => pb::KeptOutput { output: Some(pb::kept_output::Output::Inline(bytes.to_vec().into())), bytes: 0 },
        BatchOutput::Named { digest, bytes } => {
            pb::KeptOutput { output: Some(pb::kept_output::Output::Digest(digest.0.to_vec().into())), bytes: *bytes }
        }
    };
    let decision = |decided: Option<bool>| decided.map_or(0, |by_owner| 1 + u32::from(by_owner));
    pb::KeptBatch {
        worker: batch.worker.0.to_vec().into(),
        signature: batch.signature.to_vec().into(),
        validation_class: batch.class.clone(),
        instruction_set: batch.instruction_set.clone(),
        outputs: batch.outputs.iter().map(output).collect(),
        // As long as the batch, also where it is about unit 0 alone.
        units: votes.iter().map(|vote| vote.unit.0).collect(),
        attempts: column(votes, |vote| vote.attempt.0),
        ordinals: column(votes, |vote| vote.ordinal),
        positions: column(votes, |vote| vote.position),
        exit_kinds: column(votes, |vote| number::of_exit(vote.exit).0),
        exit_details: column(votes, |vote| number::of_exit(vote.exit).1),
        gas: column(votes, |vote| vote.gas),
        output: column(votes, |vote| vote.output),
        decisions: column(votes, |vote| decision(vote.decided)),
    }
}

/// A column of as many numbers as there are votes, or of none.
struct Column<'a, T>(&'a [T]);

impl<'a, T: Copy + Default> Column<'a, T> {
    fn new(what: &'static str, column: &'a [T], votes: usize) -> Result<Self, Rejection> {
        if column.is_empty() || column.len() == votes {
            Ok(Self(column))
        } else {
            Err(Rejection::WrongLength { what, found: column.len(), expected: votes })
        }
    }

    fn at(&self, vote: usize) -> T {
        self.0.get(vote).copied().unwrap_or_default()
    }
}

fn batch_from(batch: pb::KeptBatch) -> Result<Batch, Rejection> {
    let count = batch.units.len();
    few("votes of a batch", count, BATCH_MAX)?;
    few("outputs of a batch", batch.outputs.len(), count)?;
    if count == 0 {
        return Err(Rejection::Missing { what: "votes of a batch" });
    }
    at_most("validation class", batch.validation_class.len(), crate::protocol::announce::VALIDATION_CLASS_BYTES_MAX)?;
    at_most("instruction set", batch.instruction_set.len(), super::bounds::INSTRUCTION_SET_BYTES_MAX)?;
    let outputs = batch.outputs.into_iter().map(output_from).collect::<Result<Vec<_>, _>>()?;
    let attempts = Column::new("attempts", &batch.attempts, count)?;
    let ordinals = Column::new("ordinals", &batch.ordinals, count)?;
    let positions = Column::new("positions", &batch.positions, count)?;
    let exit_kinds = Column::new("exits", &batch.exit_kinds, count)?;
    let exit_details = Column::new("details of exits", &batch.exit_details, count)?;
    let gas = Column::new("gas", &batch.gas, count)?;
    let which = Column::new("outputs", &batch.output, count)?;
    let decisions = Column::new("decisions", &batch.decisions, count)?;
    let vote = |(at, unit): (usize, &u32)| {
        let output = which.at(at);
        if output as usize >= outputs.len() {
            return Err(Rejection::Inconsistent { what: "an output's number", with: "the outputs of the batch" });
        }
        let decided = match decisions.at(at) {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            found => return Err(Rejection::UnknownNumber { what: "decision", found }),
        };
        let exit = number::to_exit(exit_kinds.at(at), exit_details.at(at))?;
        let (unit, attempt, gas) = (UnitIndex(*unit), Attempt(attempts.at(at)), gas.at(at));
        Ok(BatchVote { unit, attempt, ordinal: ordinals.at(at), position: positions.at(at), exit, gas, output, decided })
    };
    let votes = batch.units.iter().enumerate().map(vote).collect::<Result<Vec<_>, _>>()?;
    Ok(Batch {
        worker: peer_id("worker", &batch.worker)?,
        signature: fixed("signature", &batch.signature)?,
        class: batch.validation_class,
        instruction_set: batch.instruction_set,
        outputs,
        votes,
    })
}

fn output_from(output: pb::KeptOutput) -> Result<BatchOutput, Rejection> {
    match output.output.ok_or(Rejection::Missing { what: "output" })? {
        pb::kept_output::Output::Inline(bytes) => {
            at_most("inline output", bytes.len(), INLINE_BYTES_MAX)?;
            Ok(BatchOutput::Inline(Arc::from(&bytes[..])))
        }
        pb::kept_output::Output::Digest(name) => {
            let max = UnitLimits::MAX.output_bytes;
            if output.bytes > max {
                let number = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
                return Err(Rejection::TooLong { what: "output", found: number(output.bytes), max: number(max) });
            }
            Ok(BatchOutput::Named { digest: digest("output", &name)?, bytes: output.bytes })
        }
    }
}

#[cfg(test)]
#[path = "sheaf_tests.rs"]
mod tests;
