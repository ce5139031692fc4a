//! The coordinator's side: hands out leases for its own jobs, takes outcomes, judges them.
//!
//! `own_job` holds one job and judges its units, `schedule` chooses who gets which unit; this file connects them to workers
//! coming and going. It decides nothing about verification, which is all in `verify`.

mod lease;
mod own_job;
mod schedule;
mod unit;
mod view;

pub use lease::{Lease, Report, ReportRejected};
pub use own_job::{Contribution, Counts};
pub use unit::LeaseToken;
pub use view::{JobView, UnitState, UnitView, VoteView, WaitReason};

use crate::protocol::{
    fact::{Fact, JobState, Saved, Standing, Vote},
    ids::{JobId, PeerId, UnitIndex},
    job::Manifest,
    outcome::{AttemptFailure, Outcome},
    time::Instant,
    trust::Trust,
    verify::{COLD_BELOW_PROVEN_PEERS, JobSecret},
};
use lease::Leases;
use own_job::{Consequences, OwnJob};
use rand_chacha::ChaCha8Rng;
pub use schedule::LEASE_BATCH_MAX;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// The most workers attached to one coordinator.
pub const WORKERS_MAX: usize = 4096;

/// What the coordinator wants done, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum OwnerAction {
    /// Make durable before anything that follows is performed.
    Persist(Fact),
    /// Keep this output; its digest was checked.
    KeepOutput(Arc<[u8]>),
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
    /// The job's standing changed enough to be announced: opened, ran out of open units, ended.
    Announce(JobId),
}

/// A worker that is attached now.
#[derive(Clone, Debug)]
struct Worker {
    /// Leases that it is willing to hold in all.
    window: u32,
    slots: u32,
    leases: BTreeSet<lease::LeaseKey>,
}

/// All own jobs and the workers attached to them.
#[derive(Clone, Debug)]
pub struct Owner {
    me: PeerId,
    class: Arc<str>,
    jobs: BTreeMap<JobId, OwnJob>,
    trust: Trust,
    workers: BTreeMap<PeerId, Worker>,
    leases: Leases,
    rng: ChaCha8Rng,
    actions: Vec<OwnerAction>,
    /// Something changed that may let a unit be leased.
    schedule_due: bool,
}

impl Owner {
    /// Rebuilds the coordinator from what was durable.
    pub fn new(now: Instant, me: PeerId, class: Arc<str>, saved: Saved, rng: ChaCha8Rng) -> Self {
        let trust = Trust::restore(now, saved.standings);
        let mut owner = Self {
            me,
            class,
            jobs: BTreeMap::new(),
            trust,
            workers: BTreeMap::new(),
            leases: Leases::default(),
            rng,
            actions: Vec::new(),
            schedule_due: true,
        };
        for job in saved.jobs {
            let job = OwnJob::restore(job, me, &owner.trust);
            let open: Vec<_> =
                (0..job.wanted.fresh).map(UnitIndex).filter(|&unit| !job.units[unit.0 as usize].phase.is_decided()).collect();
            let id = job.id;
            owner.jobs.insert(id, job);
            owner.judge_all(now, open.into_iter().map(|unit| (id, unit)).collect());
        }
        owner
    }

    /// What is to be done, leases for newly open units included.
    pub fn take_actions(&mut self, now: Instant) -> Vec<OwnerAction> {
        if core::mem::take(&mut self.schedule_due) {
            self.schedule(now);
        }
        core::mem::take(&mut self.actions)
    }

    /// When a lease expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.leases.next_expiry()
    }

    /// What is known about other peers.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// A job that is durable already. Submitting the same one twice changes nothing.
    pub fn submit(&mut self, id: JobId, manifest: Arc<Manifest>, secret: JobSecret) {
        if !self.jobs.contains_key(&id) {
            self.jobs.insert(id, OwnJob::new(id, manifest, secret));
            self.actions.push(OwnerAction::Announce(id));
            self.schedule_due = true;
        }
    }

    /// Stops a job; what is out is revoked. Returns whether there is such a job and it was running.
    pub fn cancel(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == JobState::Running) else { return false };
        job.state = JobState::Cancelled;
        self.actions.push(OwnerAction::Persist(Fact::JobState(id, JobState::Cancelled)));
        self.end(id);
        true
    }

    /// Runs failed units again. Returns how many, `None` when there is no such job.
    pub fn retry(&mut self, now: Instant, id: JobId) -> Option<usize> {
        let job = self.jobs.get_mut(&id)?;
        let (again, facts) = job.retry();
        let reopened = !again.is_empty() || matches!(job.state, JobState::Cancelled | JobState::Stopped);
        self.actions.extend(facts.into_iter().map(OwnerAction::Persist));
        if reopened {
            job.state = JobState::Running;
            self.actions.push(OwnerAction::Persist(Fact::JobState(id, JobState::Running)));
            self.actions.push(OwnerAction::Announce(id));
            let open = (0..job.wanted.fresh).map(UnitIndex).filter(|unit| !job.units[unit.0 as usize].phase.is_decided());
            let open: VecDeque<_> = open.map(|unit| (id, unit)).collect();
            self.judge_all(now, open);
        }
        Some(again.len())
    }

    /// A peer has said hello: where it is, who invited it, and whether it is this owner's device.
    pub fn meet(&mut self, peer: PeerId, prefix: Option<crate::protocol::trust::Prefix>, lineage: Option<PeerId>, anchor: bool) {
        let before = self.trust.standing(peer);
        self.trust.meet(peer, prefix, lineage, anchor);
        let after = self.trust.standing(peer);
        if before != after {
            self.actions.push(OwnerAction::Persist(Fact::Standing(peer, after)));
        }
    }

    /// A worker offers itself. One whose results could not be compared with ours is not attached; `false` then.
    pub fn attach(&mut self, worker: PeerId, class: Arc<str>, slots: u32) -> bool {
        if class != self.class || (self.workers.len() >= WORKERS_MAX && !self.workers.contains_key(&worker)) {
            return false;
        }
        self.workers.entry(worker).or_insert_with(|| Worker { window: 0, slots, leases: BTreeSet::new() });
        true
    }

    /// How many leases the worker is willing to hold.
    pub fn window(&mut self, worker: PeerId, window: u32) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.window = window;
            self.schedule_due = true;
        }
    }

    /// The worker is gone; its units are offered again at once.
    pub fn detach(&mut self, now: Instant, worker: PeerId) {
        let Some(gone) = self.workers.remove(&worker) else { return };
        for key in gone.leases {
            self.end_lease(now, key, LeaseEnd::Dropped);
        }
    }

    /// Leases that ran out are offered again.
    pub fn expire(&mut self, now: Instant) {
        while let Some(key) = self.leases.pop_expired(now) {
            self.end_lease(now, key, LeaseEnd::Dropped);
        }
    }

    /// A worker reports an outcome. The border has checked its signature and the digest of an inline output; a large output
    /// has been fetched and is held.
    pub fn report(&mut self, now: Instant, from: PeerId, id: JobId, report: Report) -> Result<(), ReportRejected> {
        let unit = report.unit;
        let job = self.jobs.get(&id).ok_or(ReportRejected::UnknownJob)?;
        let known = job.unit(unit).ok_or(ReportRejected::UnknownUnit)?;
        if LeaseToken::make(&job.secret, id, unit, report.attempt, report.ordinal, from) != report.token {
            return Err(ReportRejected::NotLeased);
        }
        let voted = known.votes.iter().any(|vote| vote.worker == from);
        self.actions.push(OwnerAction::Acknowledge { to: from, job: id, units: vec![unit] });
        let key = lease::LeaseKey { job: id, unit, attempt: report.attempt };
        match report.outcome {
            Outcome::Failed(failure) => self.end_lease(now, key, LeaseEnd::Failed(from, failure)),
            Outcome::Value(_) if voted => self.end_lease(now, key, LeaseEnd::Answered),
            Outcome::Value(value) => {
                self.trust.measure(from, value.gas, report.wall);
                let vote = Vote {
                    unit,
                    worker: from,
                    attempt: report.attempt,
                    ordinal: report.ordinal,
                    value,
                    output_bytes: report.output_bytes,
                    proof: report.proof,
                };
                // A vote of someone who was convicted meanwhile is kept as evidence, and struck.
                let struck = from != self.me && self.trust.standing(from).strikes > 0 && self.trust.is_barred(from, now);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.push_vote(&vote, struck);
                }
                self.actions.extend(report.output.map(OwnerAction::KeepOutput));
                self.actions.push(OwnerAction::Persist(Fact::Vote(id, vote)));
                self.end_lease(now, key, LeaseEnd::Answered);
            }
        }
        Ok(())
    }

    /// Takes a lease off the table and judges its unit.
    fn end_lease(&mut self, now: Instant, key: lease::LeaseKey, end: LeaseEnd) {
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        if let Some(worker) = self.leases.remove(&key) {
            let unit = &mut job.units[key.unit.0 as usize];
            unit.leased = unit.leased.saturating_sub(1);
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.leases.remove(&key);
            }
            if matches!(end, LeaseEnd::Dropped) {
                self.trust.drop_lease(worker);
            }
        }
        if let LeaseEnd::Failed(worker, failure) = end {
            let proven = worker == self.me || self.trust.is_proven(worker, job.gas_estimate());
            let fact = job.record_failure(key.unit, worker, proven, failure);
            self.actions.push(OwnerAction::Persist(fact));
        }
        self.judge_all(now, VecDeque::from([(key.job, key.unit)]));
    }

    /// Judges units, and whatever their judgement re-opens, until nothing follows any more.
    fn judge_all(&mut self, now: Instant, mut queue: VecDeque<(JobId, UnitIndex)>) {
        let cold = self.proven_online() < COLD_BELOW_PROVEN_PEERS;
        let mut jobs_touched = BTreeSet::new();
        while let Some((id, unit)) = queue.pop_front() {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            jobs_touched.insert(id);
            let mut consequences = Consequences::default();
            job.judge(unit, &mut self.trust, self.me, cold, &mut consequences);
            self.apply(now, consequences, &mut queue);
            if let Some(job) = self.jobs.get_mut(&id) {
                queue.extend(job.update_audit_rate().into_iter().map(|unit| (id, unit)));
            }
        }
        for id in jobs_touched {
            self.advance(id);
        }
        self.schedule_due = true;
    }

    fn apply(&mut self, now: Instant, consequences: Consequences, queue: &mut VecDeque<(JobId, UnitIndex)>) {
        self.actions.extend(consequences.facts.into_iter().map(OwnerAction::Persist));
        let mut touched = consequences.touched;
        for worker in consequences.convict {
            let was_proven = self.jobs.values().any(|job| self.trust.is_proven(worker, job.gas_estimate()));
            self.trust.convict(worker, now);
            touched.insert(worker);
            for (id, job) in &mut self.jobs {
                queue.extend(job.strike(worker, was_proven).into_iter().map(|unit| (*id, unit)));
            }
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.window = 0;
            }
        }
        for worker in touched {
            self.actions.push(OwnerAction::Persist(Fact::Standing(worker, self.trust.standing(worker))));
        }
    }

    fn advance(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(fact) = job.advance() else { return };
        self.actions.push(OwnerAction::Persist(fact));
        if job.state.has_ended() {
            self.end(id);
        } else {
            self.actions.push(OwnerAction::Announce(id));
        }
    }

    /// The job has ended: nothing of it is to run any more.
    fn end(&mut self, id: JobId) {
        for key in self.leases.of_job(id) {
            if let Some(worker) = self.leases.remove(&key) {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.leases.remove(&key);
                }
                self.actions.push(OwnerAction::Revoke { to: worker, job: id });
            }
            if let Some(job) = self.jobs.get_mut(&id) {
                job.units[key.unit.0 as usize].leased = 0;
            }
        }
        self.actions.push(OwnerAction::Announce(id));
        let revoke = |action: &OwnerAction| matches!(action, OwnerAction::Revoke { job, .. } if *job == id);
        let mut seen = BTreeSet::new();
        self.actions.retain(|action| match action {
            OwnerAction::Revoke { to, .. } if revoke(action) => seen.insert(*to),
            _ => true,
        });
    }

    /// Proven peers that are attached now.
    fn proven_online(&self) -> usize {
        let gas = self.jobs.values().filter(|job| !job.state.has_ended()).map(OwnJob::gas_estimate).max().unwrap_or(0);
        self.workers.keys().filter(|&&worker| worker != self.me && self.trust.is_proven(worker, gas)).count()
    }

    /// Everything that this peer has observed about others, for people.
    pub fn standings(&self) -> impl Iterator<Item = (PeerId, Standing)> {
        self.trust.standings()
    }
}

/// How a lease ended.
enum LeaseEnd {
    /// With a value.
    Answered,
    /// Without one: the worker said why.
    Failed(PeerId, AttemptFailure),
    /// The worker was not heard of in time, or is gone.
    Dropped,
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
