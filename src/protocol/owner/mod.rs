//! The coordinator's side: hands out leases for its own jobs, takes outcomes, judges them.
//!
//! `own_job` holds one job, `judge` judges its units, `schedule` and `pick` choose who gets which unit, `roster` knows the workers;
//! this file connects them. It decides nothing about verification, which is all in `verify`.

mod acquit;
mod action;
mod bisect;
mod check;
mod convict;
mod exam;
mod focus;
mod follow;
mod foreign;
mod judge;
mod jury;
mod lease;
mod merge;
mod own_job;
mod pick;
mod recovery;
mod restore;
mod resume;
mod roster;
mod schedule;
mod unit;
mod view;

pub use action::OwnerAction;
pub use check::OwnRun;
pub use lease::{Lease, Report, ReportRejected};
pub use merge::{COLLECTED_AUDIT_RATE, Collected, MergeRejected, Merged, Output, POSITION_MAX, Recovered, VOTES_PER_UNIT_MAX};
pub use own_job::{Contribution, Counts};
pub use resume::Offer;
pub use unit::LeaseToken;
use unit::{Unit, Want};
pub use view::{Disagreement, JobView, UnitState, UnitView, VoteView, WaitReason};

use crate::protocol::{
    fact::{Fact, JobState, Origin, Saved, Standing, Vote},
    ids::{JobId, PeerId, UnitIndex},
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
    recoveries: BTreeMap<JobId, recovery::Recovery>,
    /// Until when nothing of these jobs is leased, since keepers are asked what they have collected.
    recalls: BTreeMap<JobId, Instant>,
    /// Jobs of which nothing is leased, since a keeper is far behind.
    paced: BTreeSet<JobId>,
    /// Bytes of all checkpoints that are held.
    checkpoint_bytes: u64,
    rng: ChaCha8Rng,
    actions: Vec<OwnerAction>,
    /// Standings to be made durable.
    touched: BTreeSet<PeerId>,
    /// Whose conviction was taken back since this peer started.
    acquitted: BTreeSet<PeerId>,
    /// Somebody went, or rests: units may wait for nobody now.
    somebody_left: bool,
    /// Few proven peers were attached at the last judgement: newcomers who agree are provisional then.
    cold: bool,
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
            recoveries: BTreeMap::new(),
            recalls: BTreeMap::new(),
            paced: BTreeSet::new(),
            checkpoint_bytes: 0,
            rng,
            actions: Vec::new(),
            touched: BTreeSet::new(),
            acquitted: BTreeSet::new(),
            somebody_left: false,
            cold: true,
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
        owner.recover_lost(now);
        owner
    }

    /// What is to be done, leases for newly open units included.
    pub fn take_actions(&mut self, now: Instant) -> Vec<OwnerAction> {
        if self.somebody_left {
            self.judge_all(now, VecDeque::new());
        }
        if core::mem::take(&mut self.schedule_due) {
            if !self.cold && self.is_cold(now) {
                self.judge_all(now, VecDeque::new());
            }
            self.schedule(now);
        }
        for worker in core::mem::take(&mut self.touched) {
            self.actions.push(OwnerAction::Persist(Fact::Standing(worker, self.trust.keep(worker))));
        }
        core::mem::take(&mut self.actions)
    }

    /// When [`Owner::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.leases.next_expiry().into_iter().chain(self.wake).chain(self.bisections_until()).min()
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
            self.roster.rouse_all();
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
            self.roster.rouse_all();
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
        let says_something = before.anchor || after.anchor || after.friend || after.verified_units > 0 || after.strikes > 0;
        if before != after && says_something {
            self.touched.insert(peer);
        }
        self.note_standing(peer);
        self.schedule_due = true;
    }

    /// A worker offers itself. One whose results could not be compared with ours is not attached; `false` then.
    pub fn attach(&mut self, worker: PeerId, class: &str, platform: Platform, slots: u32) -> bool {
        let attached = *class == *self.class && self.roster.attach(worker, platform, slots);
        if attached {
            self.trust.set_present(worker, true);
            self.note_standing(worker);
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
        self.leave_bisections(now, worker);
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
        self.expire_bisections(now);
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
        let token = token.resting_on(&job.secret, report.rests_on);
        if token == report.token { Ok(()) } else { Err(ReportRejected::NotLeased) }
    }

    /// A worker reports an outcome. The border has checked its signature and the digest of an inline output; a large output
    /// has been fetched and is held.
    pub fn report(&mut self, now: Instant, from: PeerId, id: JobId, report: Report) -> Result<(), ReportRejected> {
        self.may_report(from, id, &report)?;
        let unit = report.unit;
        let known = self.jobs.get(&id).and_then(|job| job.unit(unit));
        let voted = known.and_then(|known| known.votes.iter().find(|vote| vote.worker == from)).map(|vote| (vote.value, vote.struck));
        self.actions.push(OwnerAction::Acknowledge { to: from, job: id, units: vec![unit] });
        if known.is_some_and(|known| known.by_author) {
            return Ok(());
        }
        if !report.log.is_empty() {
            self.actions.push(OwnerAction::KeepLog { job: id, unit, bytes: report.log.clone() });
        }
        let key = LeaseKey { job: id, unit, attempt: report.attempt };
        // After a restart another may hold the attempt of this number.
        let held = self.leases.get(&key).filter(|held| held.worker == from);
        let juror = from != self.me && held.is_some_and(|held| held.want == Want::Owner);
        let (live, resumed) = (held.is_some(), !report.rests_on.is_empty() || held.is_some_and(|held| held.resumed));
        if live {
            self.release(&key);
        }
        self.trust.answered(from);
        self.roster.rouse(from);
        match report.outcome {
            // Handed back by a worker that takes no more, which says nothing about the unit.
            Outcome::Failed(AttemptFailure::Killed) if live && self.roster.get(from).is_some_and(|worker| worker.window == 0) => {}
            // Said once for each lease: whoever repeats it, or says it when the lease is over, makes no unit fail.
            Outcome::Failed(failure) if live => self.on_failure(now, id, unit, (from, juror), failure),
            Outcome::Value(value) if voted.is_none() => self.on_value(now, id, from, value, report, resumed),
            Outcome::Value(value) if voted.is_some_and(|(said, struck)| said != value && !struck) => {
                self.on_contradiction(now, id, from, value, report);
            }
            Outcome::Value(value) => self.on_output_again(id, from, unit, value, report.output),
            Outcome::Failed(_) => {}
        }
        self.judge_all(now, VecDeque::from([(id, unit)]));
        Ok(())
    }

    fn on_failure(&mut self, now: Instant, id: JobId, unit: UnitIndex, (from, juror): (PeerId, bool), failure: AttemptFailure) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let weight = match from {
            _ if from == self.me => Weight::Owner,
            // Two have computed the unit, and of many who are asked at once a few may conspire to say that it fails.
            _ if juror => Weight::Newcomer,
            _ => job.voter(from, job.gas_estimate(), &self.trust).weight,
        };
        let fact = job.record_failure(now, unit, from, weight, failure);
        self.actions.push(OwnerAction::Persist(fact));
    }

    fn on_value(&mut self, now: Instant, id: JobId, from: PeerId, value: Value, report: Report, resumed: bool) {
        let Report { unit, attempt, ordinal, token: _, rests_on, outcome: _, output_bytes, output, log: _, wall, platform, proof } = report;
        // Whoever else holds the unit was asked before this vote: it is compared when it comes, and adds no weight; unless it is of a jury.
        let by_jury = self.jobs.get(&id).is_some_and(|job| job.juries.has(unit));
        let superseded = if by_jury { 0 } else { self.leases.supersede(id, unit) };
        if !resumed {
            self.trust.measure(from, value.gas, wall);
        }
        if self.trust.lineage_is_due(from) {
            self.touched.insert(from);
        }
        let position = self.jobs.get(&id).and_then(|job| job.unit(unit)).map_or(0, Unit::next_position);
        let origin = Origin::Leased;
        let vote = Vote { unit, worker: from, attempt, ordinal, position, platform, value, output_bytes, origin, rests_on, proof };
        // A vote of someone who was convicted meanwhile is kept as evidence, and struck.
        let struck = self.is_vote_struck(from, rests_on, now);
        if let Some(job) = self.jobs.get_mut(&id) {
            let leased = &mut job.units[unit.0 as usize].leased;
            *leased = leased.saturating_sub(superseded);
            if !resumed {
                job.measure(wall);
            }
            job.push_vote(&vote, struck);
        }
        self.actions.push(OwnerAction::KeepOutput { job: id, digest: value.output, bytes: output });
        self.actions.push(OwnerAction::Persist(Fact::Vote(id, vote)));
    }

    /// Judges units, and whatever their judgement re-opens, until nothing follows any more.
    fn judge_all(&mut self, now: Instant, queue: VecDeque<(JobId, UnitIndex)>) {
        self.judge_on(now, queue, BTreeSet::new());
    }

    /// The same, where something has happened to these jobs before.
    fn judge_on(&mut self, now: Instant, mut queue: VecDeque<(JobId, UnitIndex)>, mut touched: BTreeSet<JobId>) {
        let cold = self.is_cold(now);
        let proven_within_reach = self.proven_within_reach();
        queue.extend(self.stranded(cold));
        loop {
            while let Some((id, unit)) = queue.pop_front() {
                let Some(job) = self.jobs.get_mut(&id) else { continue };
                let mut consequences = Consequences::default();
                let around = Surroundings { owner: self.me, cold, proven_within_reach, roster: &self.roster };
                job.judge(unit, &mut self.trust, &around, &mut consequences);
                touched.insert(id);
                if let Some(parties) = consequences.bisect.take() {
                    self.begin_bisection(now, id, unit, parties);
                }
                touched.extend(self.apply(now, id, consequences, &mut queue));
                self.forget_checkpoints(id);
            }
            // The audit rate rises only by convictions, whose consequences are complete here.
            for id in &touched {
                let selected = self.jobs.get_mut(id).map(OwnJob::update_audit_rate).unwrap_or_default();
                queue.extend(selected.into_iter().map(|unit| (*id, unit)));
            }
            if queue.is_empty() {
                break;
            }
        }
        for id in touched {
            self.keep_findings(id);
            self.advance(now, id);
        }
        self.schedule_due = true;
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
        self.revoke_all(id);
        self.actions.push(OwnerAction::Announce(id));
    }

    fn revoke_all(&mut self, id: JobId) {
        let out: Vec<_> = self.leases.of_job(id).map(|(key, _)| key).collect();
        let holders: BTreeSet<_> = out.iter().filter_map(|key| self.release(key)).collect();
        self.actions.extend(holders.into_iter().map(|to| OwnerAction::Revoke { to, job: id }));
        self.forget_checkpoints(id);
    }

    /// Whether any job still has something to run.
    pub fn has_open_units(&self) -> bool {
        !self.running.is_empty()
    }

    /// Proven peers that are attached now.
    fn proven_online(&mut self, now: Instant) -> usize {
        let Self { roster, trust, jobs, running, me, .. } = self;
        roster.proven(now, *me, trust, || largest_unit(running, jobs))
    }

    /// Whether so few are proven that newcomers who agree are shown as provisional.
    fn is_cold(&mut self, now: Instant) -> bool {
        self.proven_online(now) < COLD_BELOW_PROVEN_PEERS
    }

    /// A standing has changed, and with it perhaps who is proven and who may be given more.
    fn note_standing(&mut self, worker: PeerId) {
        let proven = worker != self.me && self.trust.is_proven(worker, largest_unit(&self.running, &self.jobs));
        self.roster.note_proven(worker, proven);
        self.roster.rouse(worker);
    }

    /// Everything that this peer has observed about others, for people.
    pub fn standings(&self) -> impl Iterator<Item = (PeerId, Standing)> {
        self.trust.standings()
    }
}

/// The typical gas of a unit of that running job whose units are largest. What others say that the units of their jobs take must not
/// devalue everybody's record.
fn largest_unit(running: &BTreeSet<JobId>, jobs: &BTreeMap<JobId, OwnJob>) -> u64 {
    running.iter().map(|id| &jobs[id]).filter(|job| !job.is_foreign()).map(OwnJob::gas_estimate).max().unwrap_or(0)
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
