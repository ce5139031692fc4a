//! Jobs whose votes were lost: which workers are asked for their receipts, and how long the job waits for them.

use super::{Owner, own_job::OwnJob};
use crate::protocol::{
    ids::{JobId, PeerId},
    time::Instant,
};
use core::time::Duration;
use std::collections::BTreeMap;

/// How long nothing of such a job is leased after a restart: workers come back within seconds, and a page of receipts is cheaper than
/// the units on it.
const WAIT: Duration = Duration::from_secs(10);
/// How long after the last page that brought something.
const WAIT_FOR_MORE: Duration = Duration::from_secs(2);
/// How long at most, whatever comes.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Pages asked of one worker for a small job.
const PAGES_MIN: u32 = 16;
/// One page more for so many units: a page has up to 1,024 receipts, and may have few.
const UNITS_PER_PAGE: u32 = 64;

/// A job whose votes are being recovered, for as long as it runs.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    /// Nothing is leased before.
    until: Instant,
    at_latest: Instant,
    /// Pages asked of each worker.
    asked: BTreeMap<PeerId, u32>,
    /// What others have leased is welcome too.
    elsewhere: bool,
}

impl Owner {
    /// A running job without a single vote may have lost them. One that never had any waits for ten seconds in vain.
    pub(super) fn recover_lost(&mut self, now: Instant) {
        let empty = |job: &&OwnJob| job.counts.executions == 0 && job.counts.decided() == 0;
        let lost: Vec<JobId> = self.running.iter().filter(|id| self.jobs.get(id).as_ref().is_some_and(empty)).copied().collect();
        for id in lost {
            self.begin_recovery(now, id);
        }
    }

    /// The votes on a job are lost, or some are: its workers will be asked for their receipts. `false` when it does not run.
    pub fn begin_recovery(&mut self, now: Instant, id: JobId) -> bool {
        let runs = self.running.contains(&id);
        if runs {
            let elsewhere = self.has_adopted(id) || self.recovers_from_elsewhere(id);
            let recovery = Recovery { until: now.after(WAIT), at_latest: now.after(WAIT_MAX), asked: BTreeMap::new(), elsewhere };
            self.recoveries.insert(id, recovery);
        }
        runs
    }

    /// A keeper of an own job cannot be asked what it has collected: its workers are. Their word is worth as much as a keeper's.
    pub fn begin_recovery_from_elsewhere(&mut self, now: Instant, id: JobId) -> bool {
        let runs = self.begin_recovery(now, id);
        if let Some(recovery) = self.recoveries.get_mut(&id) {
            recovery.elsewhere = true;
        }
        runs
    }

    /// Whether receipts of what others have leased are taken.
    pub(super) fn recovers_from_elsewhere(&self, id: JobId) -> bool {
        self.recoveries.get(&id).is_some_and(|recovery| recovery.elsewhere)
    }

    /// Nothing of the job is leased before `until`, since its keepers may have gone on with it; or it is again.
    pub fn hold_back(&mut self, id: JobId, until: Option<Instant>) {
        match until {
            Some(until) => drop(self.recalls.insert(id, until)),
            None => drop(self.recalls.remove(&id)),
        }
        self.schedule_due = true;
    }

    /// Nothing of the job is leased while its keepers are far behind: what is out comes in, and they catch up meanwhile.
    pub fn set_pace(&mut self, id: JobId, behind: bool) {
        let changed = if behind { self.paced.insert(id) } else { self.paced.remove(&id) };
        self.schedule_due |= changed;
    }

    pub(super) fn stop_recovery(&mut self, id: JobId) {
        self.recoveries.remove(&id);
        self.recalls.remove(&id);
    }

    /// The jobs that attaching workers are to be asked about.
    pub fn recovering(&self) -> impl Iterator<Item = JobId> {
        self.recoveries.keys().filter(|id| self.running.contains(id)).copied()
    }

    /// Whether a worker may be asked for one more page, which counts as asked.
    pub fn may_ask_for_receipts(&mut self, worker: PeerId, id: JobId) -> bool {
        let Some(units) = self.jobs.get(&id).map(|job| job.counts.units) else { return false };
        let Some(recovery) = self.recoveries.get_mut(&id) else { return false };
        let asked = recovery.asked.entry(worker).or_default();
        *asked += 1;
        *asked <= PAGES_MIN + units / UNITS_PER_PAGE
    }

    /// A page has brought something: more may follow.
    pub(super) fn prolong_recovery(&mut self, now: Instant, id: JobId) {
        if let Some(recovery) = self.recoveries.get_mut(&id) {
            recovery.until = recovery.until.max(now.after(WAIT_FOR_MORE)).min(recovery.at_latest);
        }
    }

    /// Until when nothing of the job is leased, since its votes may still come.
    pub(super) fn waits_for_receipts(&self, now: Instant, id: JobId) -> Option<Instant> {
        let receipts = self.recoveries.get(&id).map(|recovery| recovery.until);
        receipts.into_iter().chain(self.recalls.get(&id).copied()).max().filter(|until| *until > now)
    }

    /// This peer.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// Whether a worker is attached.
    pub fn is_attached(&self, worker: PeerId) -> bool {
        self.roster.get(worker).is_some()
    }

    /// Whether a vote of this worker can carry a verdict on a typical unit of the job.
    pub fn is_proven_for(&self, worker: PeerId, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.trusts(worker, job.gas_estimate(), &self.trust))
    }

    /// The workers that are attached, this machine included.
    pub fn attached_workers(&self) -> impl Iterator<Item = PeerId> {
        self.roster.all()
    }
}
