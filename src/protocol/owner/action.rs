//! Everything that a coordinator may want done.

use super::Lease;
use crate::protocol::{
    chain::Link,
    fact::{Fact, Vote},
    ids::{Digest, JobId, PeerId, UnitIndex},
};
use std::sync::Arc;

/// What the coordinator wants done, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum OwnerAction {
    /// Make durable before anything that follows is performed.
    Persist(Fact),
    /// Keep this output for the job; its digest was checked.
    KeepOutput {
        /// Whose.
        job: JobId,
        /// SHA-256 of it.
        digest: Digest,
        /// The bytes; `None` when they are held as a blob already.
        bytes: Option<Arc<[u8]>>,
    },
    /// Keep a unit's standard error.
    KeepLog {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// Hand these leases to the worker; may be this peer itself.
    Lease {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which.
        leases: Vec<Lease>,
    },
    /// Tell the worker that these outcomes need not be kept any more.
    Acknowledge {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which units.
        units: Vec<UnitIndex>,
    },
    /// Tell the worker to drop all leases of a job.
    Revoke {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
    },
    /// The worker was convicted by own evidence, which others may check: a wrong receipt, or two that contradict one another.
    Accuse {
        /// Whom.
        accused: PeerId,
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// The receipt that contradicts the one which is durable.
        second: Option<Vote>,
    },
    /// Ask a worker for the links of its execution of a unit.
    AskLinks {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
    },
    /// Ask a worker for a state of its execution of a unit.
    AskState {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
        /// Which state.
        link: Link,
    },
    /// Run a part of a unit here; [`super::Owner::segment_ran`] follows.
    RunSegment {
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
        /// The state to go on from, which is held as a blob; none for the beginning.
        from: Option<Link>,
        /// It stops at the first moment between two steps at which so much gas is used.
        until: u64,
    },
    /// The state of a checkpoint is of no more use.
    DropState(Digest),
    /// The job's standing changed enough to be announced: opened, ran out of open units, ended.
    Announce(JobId),
}
