//! Leases: permission to make an attempt, for a duration. Soft state; a restart forgets them, their tokens stay good.

use super::unit::LeaseToken;
use crate::protocol::{
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::Outcome,
    time::Instant,
};
use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A lease as the worker gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// Votes that the unit had.
    pub ordinal: u32,
    /// To be shown with the outcome.
    pub token: LeaseToken,
    /// How long until the unit is offered to somebody else.
    pub duration: Duration,
}

/// An outcome as the coordinator gets it.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// From the lease.
    pub token: LeaseToken,
    /// What it ended in.
    pub outcome: Outcome,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The output, when it came with the report.
    pub output: Option<Arc<[u8]>>,
    /// The worker's wall-clock time; used for estimates only.
    pub wall: Duration,
    /// The signature and what is needed to check it; empty for this peer's own.
    pub proof: Arc<[u8]>,
}

/// Why a report was not taken. The worker may forget the outcome in each case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReportRejected {
    /// No such job here.
    #[error("no such job")]
    UnknownJob,
    /// The job has no such unit.
    #[error("no such unit")]
    UnknownUnit,
    /// The token is not that of a lease of this unit to this worker.
    #[error("the unit was not leased to this worker")]
    NotLeased,
}

/// One lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LeaseKey {
    pub job: JobId,
    pub unit: UnitIndex,
    pub attempt: Attempt,
}

/// The leases that are out, by name and by expiry.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    by_key: BTreeMap<LeaseKey, (PeerId, Instant)>,
    by_expiry: BTreeSet<(Instant, LeaseKey)>,
}

impl Leases {
    pub fn insert(&mut self, key: LeaseKey, worker: PeerId, expiry: Instant) {
        self.by_key.insert(key, (worker, expiry));
        self.by_expiry.insert((expiry, key));
    }

    /// Returns who held it.
    pub fn remove(&mut self, key: &LeaseKey) -> Option<PeerId> {
        let (worker, expiry) = self.by_key.remove(key)?;
        self.by_expiry.remove(&(expiry, *key));
        Some(worker)
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|(expiry, _)| *expiry)
    }

    /// The next lease that has run out; it stays in the table for [`Leases::remove`].
    pub fn pop_expired(&mut self, now: Instant) -> Option<LeaseKey> {
        let (expiry, key) = *self.by_expiry.first()?;
        (expiry <= now).then(|| {
            self.by_expiry.remove(&(expiry, key));
            key
        })
    }

    /// All leases of one job.
    pub fn of_job(&self, job: JobId) -> Vec<LeaseKey> {
        let first = LeaseKey { job, unit: UnitIndex(0), attempt: Attempt(0) };
        self.by_key.range(first..).take_while(|(key, _)| key.job == job).map(|(key, _)| *key).collect()
    }

    pub fn count_of_job(&self, job: JobId) -> usize {
        let first = LeaseKey { job, unit: UnitIndex(0), attempt: Attempt(0) };
        self.by_key.range(first..).take_while(|(key, _)| key.job == job).count()
    }
}
