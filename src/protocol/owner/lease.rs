//! Leases: permission to make an attempt, for a duration. Soft state; a restart forgets them, their tokens stay good.

use super::unit::{LeaseToken, Want};
use crate::protocol::{
    checkpoint::{Authors, Checkpoint},
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    outcome::Outcome,
    platform::Platform,
    time::Instant,
};
use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A lease as the worker gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// Where to go on; from the beginning where there is none, or where it cannot be had.
    pub from: Option<Arc<Checkpoint>>,
    /// Whose checkpoints a result will rest on; to be said with the outcome.
    pub rests_on: Authors,
    /// What the unit is given, see [`input_digest`](crate::protocol::job::input_digest); none where the manifest says it, and at the
    /// coordinator, whose shell adds the input itself.
    pub input: Option<Digest>,
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
    /// From the lease.
    pub rests_on: Authors,
    /// What it ended in.
    pub outcome: Outcome,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The output, when it came with the report.
    pub output: Option<Arc<[u8]>>,
    /// Kept standard error.
    pub log: Arc<[u8]>,
    /// The worker's wall-clock time; used for estimates only.
    pub wall: Duration,
    /// The instruction set that its receipt names.
    pub platform: Platform,
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

impl LeaseKey {
    /// The least and the greatest key of a unit.
    pub fn bounds(job: JobId, unit: UnitIndex) -> (Self, Self) {
        (Self { job, unit, attempt: Attempt(0) }, Self { job, unit, attempt: Attempt(u32::MAX) })
    }
}

/// What the coordinator remembers of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub worker: PeerId,
    pub issued: Instant,
    pub expiry: Instant,
    /// What the unit wanted: who may be asked instead.
    pub want: Want,
    /// It goes on from a checkpoint: how long it takes says nothing about how fast its worker is.
    pub resumed: bool,
    /// When its worker last handed in how far it has come.
    pub seen: Option<Instant>,
    /// The unit got a vote meanwhile, so this one will be compared and adds no weight; the unit does not wait for it.
    pub superseded: bool,
}

/// The leases that are out, by name and by expiry.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    by_key: BTreeMap<LeaseKey, Held>,
    by_expiry: BTreeSet<(Instant, LeaseKey)>,
}

impl Leases {
    /// A lease goes out. None of this name is.
    pub fn insert(&mut self, key: LeaseKey, held: Held) {
        self.remove(&key);
        self.by_key.insert(key, held);
        self.by_expiry.insert((held.expiry, key));
    }

    pub fn get(&self, key: &LeaseKey) -> Option<&Held> {
        self.by_key.get(key)
    }

    /// The worker of this lease has shown how far it has come.
    pub fn note_seen(&mut self, key: &LeaseKey, now: Instant) {
        if let Some(held) = self.by_key.get_mut(key) {
            held.seen = Some(now);
        }
    }

    /// Whether a worker holds a lease of this unit.
    pub fn is_held(&self, job: JobId, unit: UnitIndex, worker: PeerId) -> bool {
        let (first, last) = LeaseKey::bounds(job, unit);
        self.by_key.range(first..=last).any(|(_, held)| held.worker == worker)
    }

    pub fn remove(&mut self, key: &LeaseKey) -> Option<Held> {
        let held = self.by_key.remove(key)?;
        self.by_expiry.remove(&(held.expiry, *key));
        Some(held)
    }

    /// The unit waits for these leases no longer. Returns for how many it did.
    pub fn supersede(&mut self, job: JobId, unit: UnitIndex) -> u8 {
        let (first, last) = LeaseKey::bounds(job, unit);
        let waited = self.by_key.range_mut(first..=last).filter(|(_, held)| !held.superseded);
        waited.map(|(_, held)| held.superseded = true).count() as u8
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|(expiry, _)| *expiry)
    }

    /// A lease that has run out.
    pub fn expired(&self, now: Instant) -> Option<LeaseKey> {
        self.by_expiry.first().filter(|(expiry, _)| *expiry <= now).map(|(_, key)| *key)
    }

    /// All leases of one job.
    pub fn of_job(&self, job: JobId) -> impl Iterator<Item = (LeaseKey, &Held)> {
        let first = LeaseKey { job, unit: UnitIndex(0), attempt: Attempt(0) };
        self.by_key.range(first..).take_while(move |(key, _)| key.job == job).map(|(key, held)| (*key, held))
    }

    pub fn count(&self) -> usize {
        self.by_key.len()
    }
}
