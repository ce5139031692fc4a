//! What an execution left, on its way to the coordinator and after it was acknowledged.

use crate::protocol::{
    checkpoint::Authors,
    ids::{Attempt, Digest, UnitIndex},
    outcome::{Outcome, Value},
    owner::LeaseToken,
};
use core::time::Duration;
use std::sync::Arc;

/// The longest output that is kept with its receipt: a number or a line, whose unit need not be run again then. Longer ones would make
/// receipts cost more than they are worth.
pub const KEPT_OUTPUT_BYTES_MAX: usize = 256;

/// What a finished execution left.
#[derive(Clone, PartialEq, Debug)]
pub struct Finished {
    /// What it ended in.
    pub outcome: Outcome,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The output, when it is small enough to travel inline; else it is held as a blob.
    pub output: Option<Arc<[u8]>>,
    /// Kept standard error.
    pub log: Arc<[u8]>,
    /// Time that it took.
    pub wall: Duration,
}

/// An outcome on its way to the coordinator.
#[derive(Clone, PartialEq, Debug)]
pub struct Outgoing {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// From the lease.
    pub token: LeaseToken,
    /// From the lease.
    pub input: Option<Digest>,
    /// From the lease.
    pub rests_on: Authors,
    /// What it ended in and left.
    pub finished: Finished,
}

/// What a worker keeps of an outcome that was acknowledged, should its coordinator lose it. Signed again when it is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// From the lease.
    pub token: LeaseToken,
    /// From the lease.
    pub input: Option<Digest>,
    /// From the lease.
    pub rests_on: Authors,
    /// What it computed.
    pub value: Value,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The output, when it has at most [`KEPT_OUTPUT_BYTES_MAX`].
    pub output: Option<Arc<[u8]>>,
}

impl Kept {
    /// None of a failure, which nobody vouches for.
    pub(super) fn of(outgoing: Outgoing) -> Option<Self> {
        let Outgoing { unit, attempt, ordinal, token, input, rests_on, finished } = outgoing;
        let Finished { outcome, output_bytes, output, log: _, wall: _ } = finished;
        let output = output.filter(|output| output.len() <= KEPT_OUTPUT_BYTES_MAX);
        match outcome {
            Outcome::Value(value) => Some(Self { unit, attempt, ordinal, token, input, rests_on, value, output_bytes, output }),
            Outcome::Failed(_) => None,
        }
    }
}

impl Outgoing {
    pub(super) fn bytes(&self) -> usize {
        self.finished.output.as_ref().map_or(0, |output| output.len()) + self.finished.log.len()
    }
}
