//! The coordinator's side: hands out leases for its own jobs, takes outcomes, judges them.
//!
//! `own_job` holds one job, `judge` judges its units, `schedule` and `pick` choose who gets which unit, `roster` knows the workers;
//! this file connects them. It decides nothing about verification, which is all in `verify`.

mod judge;
mod lease;
mod own_job;
mod pick;
mod restore;
mod roster;
mod schedule;
mod unit;
mod view;

pub use lease::{Lease, Report, ReportRejected};
pub use own_job::{Contribution, Counts};
pub use unit::LeaseToken;
use unit::Unit;
pub use view::{Disagreement, JobView, UnitState, UnitView, VoteView, WaitReason};

use crate::protocol::{
    fact::{Fact, JobState, Saved, Standing, Vote},
    ids::{Digest, JobId, PeerId, UnitIndex},
    job::Manifest,
    outcome::{AttemptFailure, Outcome, Value},
    platform::Platform,
    time::Instant,
    trust::{Prefix, Trust},
    verify::{COLD_BELOW_PROVEN_PEERS, JobSecret, Weight},
};
use judge::Surroundings;
use lease::{LeaseKey, Leases};
use own_job::{Consequences, OwnJob};
pub use pick::NEWCOMER_PENDING_MAX;
use rand_chacha::ChaCha8Rng;
use roster::Roster;
pub use roster::WORKERS_MAX;
pub use schedule::LEASE_BATCH_MAX;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    sync::Arc,
};

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
    /// The job's standing changed enough to be announced: opened, ran out of open units, ended.
    Announce(JobId),
}

/// All own jobs and the workers attached to them.
#[derive(Clone, Debug)]
pub struct Owner {
    me: PeerId,
    class: Arc<str>,
    jobs: BTreeMap<JobId, OwnJob>,
    /// Those in state [`JobState::Running`].
    running: BTreeSet<JobId>,
    trust: Trust,
    roster: Roster,
    leases: Leases,
    rng: ChaCha8Rng,
    actions: Vec<OwnerAction>,
    /// Standings to be made durable.
    touched: BTreeSet<PeerId>,
    /// Somebody went, or rests: units may wait for nobody now.
    somebody_left: bool,
    /// Something changed that may let a unit be leased.
    schedule_due: bool,
    /// When a unit may be leased although nothing changes until then.
    wake: Option<Instant>,
}

impl Owner {
    /// Rebuilds the coordinator from what was durable.
    pub fn new(now: Instant, me: PeerId, class: Arc<str>, saved: Saved, rng: ChaCha8Rng) -> Self {
        let trust = Trust::restore(now, saved.standings, &saved.quarantines);
        let mut owner = Self {
            me,
            class,
            jobs: BTreeMap::new(),
            running: BTreeSet::new(),
            trust,
            roster: Roster::default(),
            leases: Leases::default(),
            rng,
            actions: Vec::new(),
            touched: BTreeSet::new(),
            somebody_left: false,
            schedule_due: true,
            wake: None,
        };
        let mut unsettled = VecDeque::new();
        for job in saved.jobs {
            let job = OwnJob::restore(job, me, &owner.trust);
            unsettled.extend(job.unsettled().into_iter().map(|unit| (job.id, unit)));
            if job.state == JobState::Running {
                owner.running.insert(job.id);
            }
            owner.jobs.insert(job.id, job);
        }
        owner.judge_all(now, unsettled);
        for id in owner.job_ids().collect::<Vec<_>>() {
            owner.advance(now, id);
        }
        owner
    }

    /// What is to be done, leases for newly open units included.
    pub fn take_actions(&mut self, now: Instant) -> Vec<OwnerAction> {
        if self.somebody_left {
            self.judge_all(now, VecDeque::new());
        }
        if core::mem::take(&mut self.schedule_due) {
            self.proven_online(now);
            self.schedule(now);
        }
        for worker in core::mem::take(&mut self.touched) {
            self.actions.push(OwnerAction::Persist(Fact::Standing(worker, self.trust.keep(worker))));
        }
        core::mem::take(&mut self.actions)
    }

    /// When [`Owner::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.leases.next_expiry().into_iter().chain(self.wake).min()
    }

    /// What is known about other peers.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// A job that is durable already. Submitting the same one twice changes nothing.
    pub fn submit(&mut self, id: JobId, manifest: Arc<Manifest>, secret: JobSecret) {
        if let Entry::Vacant(vacant) = self.jobs.entry(id) {
            vacant.insert(OwnJob::new(id, manifest, secret));
            self.running.insert(id);
            self.actions.push(OwnerAction::Announce(id));
            self.schedule_due = true;
        }
    }

    /// Stops a job; what is out is revoked. Returns whether there is such a job and it was running.
    pub fn cancel(&mut self, id: JobId) -> bool {
        if !self.running.contains(&id) {
            return false;
        }
        self.set_state(id, JobState::Cancelled);
        self.end(id);
        true
    }

    fn set_state(&mut self, id: JobId, state: JobState) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.state = state;
        if state.has_ended() {
            self.running.remove(&id);
        } else {
            self.running.insert(id);
        }
        self.actions.push(OwnerAction::Persist(Fact::JobState(id, state)));
    }

    /// Runs failed units again, and a stopped or cancelled job on. Returns how many units failed, `None` when there is no such job.
    pub fn retry(&mut self, now: Instant, id: JobId) -> Option<usize> {
        let job = self.jobs.get_mut(&id)?;
        let (again, facts) = job.retry();
        let reopened = !again.is_empty() || matches!(job.state, JobState::Cancelled | JobState::Stopped);
        let unsettled: VecDeque<_> = job.unsettled().into_iter().map(|unit| (id, unit)).collect();
        self.actions.extend(facts.into_iter().map(OwnerAction::Persist));
        if reopened {
            self.set_state(id, JobState::Running);
            self.actions.push(OwnerAction::Announce(id));
            self.judge_all(now, unsettled);
            self.advance(now, id);
        }
        Some(again.len())
    }

    /// A peer has said hello: where it is, who invited it, and whether it is this owner's device. Nothing of it is made durable for a
    /// stranger: whoever makes up keys must not fill the store.
    pub fn meet(&mut self, peer: PeerId, prefix: Option<Prefix>, lineage: Option<PeerId>, anchor: bool) {
        let before = self.trust.standing(peer);
        self.trust.meet(peer, prefix, lineage, anchor);
        let after = self.trust.standing(peer);
        let says_something = before.anchor || after.anchor || after.verified_units > 0 || after.strikes > 0;
        if before != after && says_something {
            self.touched.insert(peer);
        }
        self.roster.recount();
        self.schedule_due = true;
    }

    /// A worker offers itself. One whose results could not be compared with ours is not attached; `false` then.
    pub fn attach(&mut self, worker: PeerId, class: &str, platform: Platform, slots: u32) -> bool {
        let attached = *class == *self.class && self.roster.attach(worker, platform, slots);
        if attached {
            self.trust.set_present(worker, true);
        }
        attached
    }

    /// How many leases the worker is willing to hold.
    pub fn window(&mut self, worker: PeerId, window: u32) {
        self.schedule_due |= self.roster.set_window(worker, window);
        self.somebody_left |= window == 0;
    }

    /// The worker is gone; its units are offered again at once.
    pub fn detach(&mut self, now: Instant, worker: PeerId) {
        let dropped = self.roster.detach(worker);
        if !dropped.is_empty() {
            self.trust.drop_lease(worker);
        }
        self.trust.set_present(worker, false);
        self.somebody_left = true;
        self.drop_leases(now, dropped);
    }

    /// Leases that ran out are offered again.
    pub fn expire(&mut self, now: Instant) {
        let (mut dropped, mut late) = (BTreeSet::new(), BTreeSet::new());
        while let Some(key) = self.leases.expired(now) {
            late.extend(self.release(&key).filter(|&worker| worker != self.me));
            dropped.insert(key);
        }
        for worker in late {
            self.trust.drop_lease(worker);
            self.trust.let_run_out(worker, now);
            self.somebody_left = true;
        }
        self.drop_leases(now, dropped);
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            self.schedule_due = true;
        }
    }

    fn drop_leases(&mut self, now: Instant, dropped: BTreeSet<LeaseKey>) {
        for key in &dropped {
            self.release(key);
        }
        if !dropped.is_empty() {
            self.judge_all(now, dropped.into_iter().map(|key| (key.job, key.unit)).collect());
        }
    }

    /// Takes a lease off the tables. Returns who held it.
    fn release(&mut self, key: &LeaseKey) -> Option<PeerId> {
        let lease::Held { worker, superseded, .. } = self.leases.remove(key)?;
        if let Some(job) = self.jobs.get_mut(&key.job).filter(|_| !superseded) {
            let unit = &mut job.units[key.unit.0 as usize];
            unit.leased = unit.leased.saturating_sub(1);
        }
        self.roster.release(worker, key);
        Some(worker)
    }

    /// Whether a report of this peer would be taken: asked before a large output of it is fetched.
    pub fn may_report(&self, from: PeerId, id: JobId, report: &Report) -> Result<(), ReportRejected> {
        let job = self.jobs.get(&id).ok_or(ReportRejected::UnknownJob)?;
        job.unit(report.unit).ok_or(ReportRejected::UnknownUnit)?;
        let token = LeaseToken::make(&job.secret, id, report.unit, report.attempt, report.ordinal, from);
        if token == report.token { Ok(()) } else { Err(ReportRejected::NotLeased) }
    }

    /// A worker reports an outcome. The border has checked its signature and the digest of an inline output; a large output
    /// has been fetched and is held.
    pub fn report(&mut self, now: Instant, from: PeerId, id: JobId, report: Report) -> Result<(), ReportRejected> {
        self.may_report(from, id, &report)?;
        let unit = report.unit;
        let known = self.jobs.get(&id).and_then(|job| job.unit(unit));
        let voted = known.is_some_and(|known| known.votes.iter().any(|vote| vote.worker == from));
        self.actions.push(OwnerAction::Acknowledge { to: from, job: id, units: vec![unit] });
        if !report.log.is_empty() {
            self.actions.push(OwnerAction::KeepLog { job: id, unit, bytes: report.log.clone() });
        }
        let key = LeaseKey { job: id, unit, attempt: report.attempt };
        // After a restart another may hold the attempt of this number.
        let live = self.leases.get(&key).is_some_and(|held| held.worker == from);
        if live {
            self.release(&key);
        }
        self.trust.answered(from);
        match report.outcome {
            // Handed back by a worker that takes no more, which says nothing about the unit.
            Outcome::Failed(AttemptFailure::Killed) if live && self.roster.get(from).is_some_and(|worker| worker.window == 0) => {}
            // Said once for each lease: whoever repeats it, or says it when the lease is over, makes no unit fail.
            Outcome::Failed(failure) if live => self.on_failure(now, id, unit, from, failure),
            Outcome::Value(value) if !voted => self.on_value(now, id, from, value, report),
            Outcome::Failed(_) | Outcome::Value(_) => {}
        }
        self.judge_all(now, VecDeque::from([(id, unit)]));
        Ok(())
    }

    fn on_failure(&mut self, now: Instant, id: JobId, unit: UnitIndex, from: PeerId, failure: AttemptFailure) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let weight = if from == self.me { Weight::Owner } else { self.trust.voter(from, job.gas_estimate()).weight };
        let fact = job.record_failure(now, unit, from, weight, failure);
        self.actions.push(OwnerAction::Persist(fact));
    }

    fn on_value(&mut self, now: Instant, id: JobId, from: PeerId, value: Value, report: Report) {
        let Report { unit, attempt, ordinal, token: _, outcome: _, output_bytes, output, log: _, wall, platform, proof } = report;
        // Whoever else holds the unit was asked before this vote: it is compared when it comes, and adds no weight.
        let superseded = self.leases.supersede(id, unit);
        self.trust.measure(from, value.gas, wall);
        if self.trust.lineage_is_due(from) {
            self.touched.insert(from);
        }
        let position = self.jobs.get(&id).and_then(|job| job.unit(unit)).map_or(0, Unit::next_position);
        let vote = Vote { unit, worker: from, attempt, ordinal, position, platform, value, output_bytes, proof };
        // A vote of someone who was convicted meanwhile is kept as evidence, and struck.
        let struck = from != self.me && self.trust.is_barred(from, now);
        if let Some(job) = self.jobs.get_mut(&id) {
            let leased = &mut job.units[unit.0 as usize].leased;
            *leased = leased.saturating_sub(superseded);
            job.measure(wall);
            job.push_vote(&vote, struck);
        }
        self.actions.push(OwnerAction::KeepOutput { job: id, digest: value.output, bytes: output });
        self.actions.push(OwnerAction::Persist(Fact::Vote(id, vote)));
    }

    /// Judges units, and whatever their judgement re-opens, until nothing follows any more.
    fn judge_all(&mut self, now: Instant, mut queue: VecDeque<(JobId, UnitIndex)>) {
        let cold = self.proven_online(now) < COLD_BELOW_PROVEN_PEERS;
        let proven_within_reach = self.proven_within_reach();
        let mut touched = BTreeSet::new();
        queue.extend(self.stranded());
        while !queue.is_empty() {
            while let Some((id, unit)) = queue.pop_front() {
                let Some(job) = self.jobs.get_mut(&id) else { continue };
                let mut consequences = Consequences::default();
                let around = Surroundings { owner: self.me, cold, proven_within_reach, roster: &self.roster };
                job.judge(unit, &mut self.trust, &around, &mut consequences);
                touched.insert(id);
                touched.extend(self.apply(now, id, consequences, &mut queue));
            }
            // The audit rate rises only by convictions, whose consequences are complete here.
            for id in &touched {
                let selected = self.jobs.get_mut(id).map(OwnJob::update_audit_rate).unwrap_or_default();
                queue.extend(selected.into_iter().map(|unit| (*id, unit)));
            }
        }
        for id in touched {
            self.keep_findings(id);
            self.advance(now, id);
        }
        self.schedule_due = true;
    }

    fn keep_findings(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let findings = job.findings();
        if core::mem::replace(&mut job.findings_kept, findings) != findings {
            self.actions.push(OwnerAction::Persist(Fact::Findings(id, findings)));
        }
    }

    /// Units that wait for a worker of some instruction set, or for the owner's machine, when such a one has just gone.
    fn stranded(&mut self) -> Vec<(JobId, UnitIndex)> {
        if !core::mem::take(&mut self.somebody_left) {
            return Vec::new();
        }
        let waiting = self.running.iter().flat_map(|id| self.jobs[id].wanted.for_whom_is_here().map(|unit| (*id, unit)));
        waiting.collect()
    }

    /// What follows from a judgement in the job `id`, here and in others. Returns the jobs that are concerned.
    fn apply(&mut self, now: Instant, id: JobId, consequences: Consequences, queue: &mut VecDeque<(JobId, UnitIndex)>) -> BTreeSet<JobId> {
        let mut concerned = BTreeSet::new();
        self.actions.extend(consequences.facts.into_iter().map(OwnerAction::Persist));
        queue.extend(consequences.again.into_iter().map(|unit| (id, unit)));
        let gas = self.jobs.get(&id).map_or(0, OwnJob::gas_estimate);
        for worker in consequences.excused {
            self.trust.excuse(worker, gas, now);
            self.withdraw(worker, Some(id), queue);
        }
        for worker in self.roster.on_platforms(consequences.set_aside) {
            self.withdraw(worker, Some(id), queue);
        }
        for worker in consequences.convict {
            let gas = self.running.iter().map(|id| self.jobs[id].gas_estimate()).min().unwrap_or(0);
            let was_proven = self.trust.is_proven(worker, gas);
            self.trust.convict(worker, now);
            self.touched.insert(worker);
            for (id, job) in &mut self.jobs {
                let Some(again) = job.strike(worker, was_proven) else { continue };
                concerned.insert(*id);
                queue.extend(again.into_iter().map(|unit| (*id, unit)));
            }
            self.expel(worker, queue);
        }
        for (worker, before) in consequences.before {
            for (id, job) in &self.jobs {
                let gas = job.gas_estimate();
                if Trust::would_be_proven(before, gas) && !self.trust.is_proven(worker, gas) {
                    // It vouches for nothing any more.
                    queue.extend(job.rest_on(worker).map(|unit| (*id, unit)));
                }
            }
        }
        for worker in consequences.touched {
            self.note_standing(worker);
            self.touched.insert(worker);
        }
        concerned
    }

    /// A convicted worker gets no more work, and what it holds is offered to others.
    fn expel(&mut self, worker: PeerId, queue: &mut VecDeque<(JobId, UnitIndex)>) {
        self.roster.recount();
        self.roster.set_window(worker, 0);
        self.withdraw(worker, None, queue);
        self.somebody_left = true;
        queue.extend(self.stranded());
    }

    /// What the worker holds, of this job or of all, is offered to others.
    fn withdraw(&mut self, worker: PeerId, of: Option<JobId>, queue: &mut VecDeque<(JobId, UnitIndex)>) {
        let mut held = self.roster.get(worker).map(|state| state.leases.clone()).unwrap_or_default();
        held.retain(|key| of.is_none_or(|job| job == key.job));
        for key in &held {
            self.release(key);
            queue.push_back((key.job, key.unit));
        }
        let jobs: BTreeSet<_> = held.iter().map(|key| key.job).collect();
        self.actions.extend(jobs.into_iter().map(|job| OwnerAction::Revoke { to: worker, job }));
    }

    fn advance(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (before, reached) = (job.state, job.reached());
        if reached == before {
            return;
        }
        self.set_state(id, reached);
        if reached.has_ended() {
            self.end(id);
        } else {
            // It had ended, and what was out then wants to be leased again.
            let unsettled = self.jobs[&id].unsettled().into_iter().map(|unit| (id, unit)).collect();
            self.actions.push(OwnerAction::Announce(id));
            self.judge_all(now, unsettled);
        }
    }

    /// The job has ended: nothing of it is to run any more.
    fn end(&mut self, id: JobId) {
        let out: Vec<_> = self.leases.of_job(id).map(|(key, _)| key).collect();
        let holders: BTreeSet<_> = out.iter().filter_map(|key| self.release(key)).collect();
        self.actions.extend(holders.into_iter().map(|to| OwnerAction::Revoke { to, job: id }));
        self.actions.push(OwnerAction::Announce(id));
    }

    /// Whether any job still has something to run.
    pub fn has_open_units(&self) -> bool {
        !self.running.is_empty()
    }

    /// Proven peers that are attached now.
    fn proven_online(&mut self, now: Instant) -> usize {
        let Self { roster, trust, jobs, running, me, .. } = self;
        roster.proven(now, *me, trust, || running.iter().map(|id| jobs[id].gas_estimate()).max().unwrap_or(0))
    }

    /// Everything that this peer has observed about others, for people.
    pub fn standings(&self) -> impl Iterator<Item = (PeerId, Standing)> {
        self.trust.standings()
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
