//! Receipts: what a worker keeps of what it said, should a coordinator lose it or another go on with the job.

use super::{Coordinator, Finished, Outgoing, Worker, WorkerAction};
use crate::protocol::{
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::{Outcome, Value},
    owner::LeaseToken,
};
use std::{collections::BTreeMap, sync::Arc};

/// The longest output that is kept with its receipt: a number or a line, whose unit need not be run again then. Longer ones would make
/// receipts cost more than they are worth.
pub const KEPT_OUTPUT_BYTES_MAX: usize = 256;
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
        let Outgoing { unit, attempt, ordinal, token, finished } = outgoing;
        let Finished { outcome, output_bytes, output, log: _, wall: _ } = finished;
        let output = output.filter(|output| output.len() <= KEPT_OUTPUT_BYTES_MAX);
        match outcome {
            Outcome::Value(value) => Some(Self { unit, attempt, ordinal, token, value, output_bytes, output }),
            Outcome::Failed(_) => None,
        }
    }
}

impl Coordinator {
    /// Keeps the receipts of what this coordinator, `me`, has not acknowledged of such jobs, which goes on being handed in to it.
    pub(super) fn keep_unacknowledged(&mut self, me: PeerId, of: impl Fn(JobId) -> bool) -> Vec<WorkerAction> {
        let mut receipts: BTreeMap<JobId, Vec<Kept>> = BTreeMap::new();
        for (run, outgoing) in self.unacknowledged.iter().filter(|(run, _)| of(run.job)) {
            if self.kept.insert(*run) {
                receipts.entry(run.job).or_default().extend(Kept::of(outgoing.clone()));
            }
        }
        let keep = |(job, receipts)| WorkerAction::Keep { coordinator: me, job, receipts };
        receipts.into_iter().filter(|(_, receipts)| !receipts.is_empty()).map(keep).collect()
    }
}

impl Worker {
    /// Another coordinator of a job asks for receipts: what its coordinators have not acknowledged so far is kept too, once.
    pub fn keep_unacknowledged(&mut self, job: JobId, asks: PeerId) -> Vec<WorkerAction> {
        let others = self.coordinators.iter_mut().filter(|(peer, _)| **peer != asks);
        others.flat_map(|(peer, coordinator)| coordinator.keep_unacknowledged(*peer, |of| of == job)).collect()
    }
}
