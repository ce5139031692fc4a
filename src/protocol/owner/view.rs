//! What people are shown of an own job: read-only, made on request.

use super::{Contribution, Counts, Owner, own_job::OwnJob, unit::Phase, unit::UnitVote};
use crate::protocol::{
    fact::{Failures, JobState},
    ids::{JobId, PeerId, UnitIndex},
    job::Manifest,
    outcome::Value,
    verify::{Ballot, Weight, counted_ballots},
};
use std::sync::Arc;

/// A job at one moment.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its name.
    pub id: JobId,
    /// Its description.
    pub manifest: Arc<Manifest>,
    /// Where it stands.
    pub state: JobState,
    /// Units by state.
    pub counts: Counts,
    /// Undecided units with a vote that wait for another.
    pub awaiting: u32,
    /// Leases that are out.
    pub running: u32,
    /// Workers that gave votes or hold leases.
    pub workers: u32,
    /// Gas of all votes.
    pub gas: u64,
    /// Who gave what, the most first.
    pub contributors: Vec<(PeerId, Contribution, bool)>,
    /// Why it does not go on faster, if it waits.
    pub waiting: Option<WaitReason>,
}

/// Why a running job waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitReason {
    /// Nobody is attached.
    NoWorkers,
    /// Workers are attached, but all are busy or barred.
    NoFreeWorkers,
    /// Units have votes of newcomers only, and nobody proven is attached.
    NeedsProvenVoter,
    /// Units have one vote, and nobody independent of that voter is attached.
    NeedsIndependentVoter,
    /// Proven voters disagree; this machine runs no units that could decide.
    Disputed,
}

/// A unit's state, in the words that people are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnitState {
    /// Never leased.
    Waiting,
    /// Leased, no vote yet.
    Running,
    /// Has a vote, needs another.
    AwaitingVote,
    /// Newcomers agree.
    Provisional,
    /// Proven voters disagree.
    Disputed,
    /// A contributor was caught, or an audit was called.
    Rechecking,
    /// Verified.
    Verified,
    /// Failed.
    Failed,
}

/// A unit at one moment.
#[derive(Clone, Debug)]
pub struct UnitView {
    /// Which.
    pub unit: UnitIndex,
    /// Its state.
    pub state: UnitState,
    /// The verified or provisional value.
    pub value: Option<Value>,
    /// The owner's machine computed or checked it.
    pub by_owner: bool,
    /// All votes.
    pub votes: Vec<VoteView>,
    /// Attempts that failed.
    pub failures: Option<Failures>,
}

/// One vote.
#[derive(Clone, Copy, Debug)]
pub struct VoteView {
    /// Whose.
    pub worker: PeerId,
    /// What it says.
    pub value: Value,
    /// Whether it counts for the leading value.
    pub counted: bool,
    /// Whether its worker was proven (or is the owner).
    pub proven: bool,
    /// Whether it was struck.
    pub struck: bool,
}

impl Owner {
    /// All own jobs, in the order of their names.
    pub fn job_ids(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// One job.
    pub fn job_view(&self, id: JobId) -> Option<JobView> {
        let job = self.jobs.get(&id)?;
        let running = self.leases.of_job(id).count() as u32;
        let mut contributors: Vec<_> = job
            .contributions
            .iter()
            .map(|(worker, contribution)| (*worker, *contribution, self.trust.standing(*worker).strikes > 0))
            .collect();
        contributors.sort_by_key(|(worker, contribution, _)| (core::cmp::Reverse(contribution.votes), *worker));
        Some(JobView {
            id,
            manifest: job.manifest.clone(),
            state: job.state,
            counts: job.counts,
            awaiting: job.wanted.awaiting(),
            running,
            workers: contributors.len() as u32,
            gas: contributors.iter().fold(0, |sum, (_, contribution, _)| sum.saturating_add(contribution.gas)),
            contributors,
            waiting: self.wait_reason(job, running),
        })
    }

    /// A job's state.
    pub fn state(&self, id: JobId) -> Option<JobState> {
        self.jobs.get(&id).map(|job| job.state)
    }

    /// A job's units by state.
    pub fn counts(&self, id: JobId) -> Option<Counts> {
        self.jobs.get(&id).map(|job| job.counts)
    }

    /// How many workers are attached.
    pub fn attached(&self) -> usize {
        self.roster.len()
    }

    /// How many leases are out.
    pub fn leased(&self) -> usize {
        self.leases.count()
    }

    /// Units that still want an execution; what is announced.
    pub fn open_units(&self, id: JobId) -> u32 {
        let open = |job: &OwnJob| if job.state.has_ended() { 0 } else { job.counts.units - job.counts.decided() };
        self.jobs.get(&id).map(open).unwrap_or(0)
    }

    /// A job's manifest.
    pub fn manifest(&self, id: JobId) -> Option<Arc<Manifest>> {
        self.jobs.get(&id).map(|job| job.manifest.clone())
    }

    fn wait_reason(&self, job: &OwnJob, running: u32) -> Option<WaitReason> {
        if job.state.has_ended() || running > 0 {
            return None;
        }
        if self.roster.len() == 0 {
            return Some(WaitReason::NoWorkers);
        }
        if job.counts.disputed > 0 && self.roster.get(self.me).is_none() {
            return Some(WaitReason::Disputed);
        }
        if !self.roster.has_room() {
            return Some(WaitReason::NoFreeWorkers);
        }
        if self.roster.proven_at_last() == 0 && job.wanted.awaiting() > 0 {
            return Some(WaitReason::NeedsProvenVoter);
        }
        (job.wanted.awaiting() > 0).then_some(WaitReason::NeedsIndependentVoter)
    }

    /// Units from `first` on, at most `max`.
    pub fn unit_views(&self, id: JobId, first: UnitIndex, max: usize) -> Vec<UnitView> {
        let Some(job) = self.jobs.get(&id) else { return Vec::new() };
        let last = job.counts.units.min(first.0.saturating_add(u32::try_from(max).unwrap_or(u32::MAX)));
        (first.0..last).map(|index| self.unit_view(job, UnitIndex(index))).collect()
    }

    fn unit_view(&self, job: &OwnJob, index: UnitIndex) -> UnitView {
        let unit = &job.units[index.0 as usize];
        let (state, value, by_owner) = match unit.phase {
            Phase::Open if unit.votes.iter().any(|vote| !vote.struck) => (UnitState::AwaitingVote, None, false),
            Phase::Open if unit.leased > 0 => (UnitState::Running, None, false),
            Phase::Open => (UnitState::Waiting, None, false),
            Phase::Reopened => (UnitState::Rechecking, None, false),
            Phase::Provisional(value) => (UnitState::Provisional, Some(value), false),
            Phase::Disputed => (UnitState::Disputed, None, false),
            Phase::Verified { value, by_owner } if value.exit.is_success() => (UnitState::Verified, Some(value), by_owner),
            Phase::Verified { value, by_owner } => (UnitState::Failed, Some(value), by_owner),
            Phase::Failed => (UnitState::Failed, None, false),
        };
        let failures = job.failures.get(&index).map(|record| record.seen);
        UnitView { unit: index, state, value, by_owner, votes: self.vote_views(job, &unit.votes, value), failures }
    }

    fn vote_views(&self, job: &OwnJob, votes: &[UnitVote], value: Option<Value>) -> Vec<VoteView> {
        let ballots = job.ballots(votes, &self.trust, self.me);
        let counted = value.map(|value| counted_ballots(&ballots, value)).unwrap_or_default();
        let view = |(at, ballot): (usize, &Ballot)| VoteView {
            worker: ballot.worker,
            value: ballot.value,
            counted: counted.contains(&at),
            proven: matches!(ballot.weight, Weight::Owner | Weight::Proven),
            struck: ballot.weight == Weight::Struck,
        };
        ballots.iter().enumerate().map(view).collect()
    }
}
