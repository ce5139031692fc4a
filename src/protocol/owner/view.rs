//! What people are shown of an own job: read-only, made on request.

use super::{Contribution, Counts, Owner, own_job::OwnJob, unit::Phase};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Failures, Findings, JobState, Nondeterminism},
    ids::{JobId, PeerId, UnitIndex},
    job::Manifest,
    outcome::Value,
    platform::{Platform, Platforms},
    verify::{self, Ballot, Weight, counted_ballots},
};
use std::sync::Arc;

/// A job at one moment.
#[derive(Clone, Debug)]
pub struct JobView {
    /// Its name.
    pub id: JobId,
    /// Its description.
    pub manifest: Arc<Manifest>,
    /// Whose it is, when this peer only coordinates it while its author is away.
    pub author: Option<PeerId>,
    /// Where it stands.
    pub state: JobState,
    /// Units by state.
    pub counts: Counts,
    /// Undecided units with a vote that wait for another.
    pub awaiting: u32,
    /// Disputes that are before a jury of proven workers.
    pub juries: u32,
    /// Leases that are out.
    pub running: u32,
    /// Workers that gave votes or hold leases.
    pub workers: u32,
    /// Units of it were saved, or went on from where they were.
    pub saved: bool,
    /// Gas of all votes.
    pub gas: u64,
    /// Who gave what, the most first.
    pub contributors: Vec<(PeerId, Contribution, bool)>,
    /// Why it does not go on faster, if it waits.
    pub waiting: Option<WaitReason>,
    /// What its checks have brought to light.
    pub findings: Findings,
    /// Machines of different instruction sets disagree.
    pub nondeterminism: Option<Disagreement>,
    /// Verified units on which more agreed than had to, and nobody disagreed: with 95 % certainty at most 3 in so many of the
    /// verified values are wrong.
    pub clean_audits: u32,
    /// The share of units that are audited now.
    pub audit_rate: f64,
}

/// Machines of some instruction sets say something else than those of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// On how many decided units, so far.
    pub units: u32,
    /// The first of them.
    pub first: UnitIndex,
    /// Whose votes do not count.
    pub dissenting: Platforms,
    /// Who they were compared with.
    pub against: Platforms,
    /// It is the instruction sets as a whole that do not count; else only the workers who said so, since nobody else of theirs could be
    /// asked.
    pub set_aside: bool,
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
    /// Votes for one value that it takes; more where some disagree.
    pub need: u32,
    /// How sure those make who agree on the value: see [`verify::confidence`]. None while nothing is verified, and where the owner's
    /// own machine says so.
    pub confidence: Option<f64>,
    /// The networks of all who agree are known, and no two are the same.
    pub different_networks: bool,
    /// All votes.
    pub votes: Vec<VoteView>,
    /// Attempts that failed.
    pub failures: Option<Failures>,
    /// How far it had come at its newest checkpoint, in gas, and who says so; none where it is decided.
    pub checkpoint: Option<(u64, PeerId)>,
    /// Who went on from a checkpoint, and at how much gas; forgotten when this node restarts.
    pub resumed: Vec<(PeerId, u64)>,
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
    /// Whether it was set aside: its worker's instruction set may explain why it dissents somewhere.
    pub set_aside: bool,
    /// The instruction set that it was computed on, says the receipt.
    pub platform: Platform,
    /// From whose checkpoints its worker went on.
    pub rests_on: Authors,
}

fn disagreement(job: &OwnJob) -> Option<Disagreement> {
    let units = job.contradicted.len() as u32;
    if let Some(Nondeterminism { unit, set_aside, against }) = job.nondeterminism {
        return Some(Disagreement { units: units.max(1), first: unit, dissenting: set_aside, against, set_aside: true });
    }
    let first = *job.contradicted.first()?;
    let unit = job.unit(first)?;
    let Phase::Verified { value, by_owner: _ } = unit.phase else { return None };
    let says = |differs: bool| unit.votes.iter().filter(move |vote| !vote.struck && (vote.value != value) == differs);
    let dissenting = says(true).filter(|vote| job.excused.contains_key(&vote.worker)).map(|vote| vote.platform).collect();
    let against = says(false).map(|vote| vote.platform).collect();
    Some(Disagreement { units, first, dissenting, against, set_aside: false })
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
            author: job.is_foreign().then_some(job.manifest.owner),
            state: job.state,
            counts: job.counts,
            awaiting: job.wanted.awaiting() + job.juries.len() as u32,
            juries: job.juries.len() as u32,
            running,
            workers: contributors.len() as u32,
            saved: !job.checkpoints.is_empty(),
            gas: contributors.iter().fold(0, |sum, (_, contribution, _)| sum.saturating_add(contribution.gas)),
            contributors,
            waiting: self.wait_reason(job, running),
            findings: job.findings(),
            nondeterminism: disagreement(job),
            clean_audits: job.clean_audits,
            audit_rate: job.audit_rate,
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
        (job.wanted.awaiting() > 0 || job.juries.len() > 0).then_some(WaitReason::NeedsIndependentVoter)
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
        let ballots = job.ballots(index, &self.trust, self.me);
        let counted = value.map(|value| counted_ballots(&ballots, value)).unwrap_or_default();
        let vote = |(at, ballot): (usize, &Ballot)| VoteView {
            worker: ballot.worker,
            value: ballot.value,
            counted: counted.contains(&at),
            proven: matches!(ballot.weight, Weight::Owner | Weight::Proven),
            struck: ballot.weight == Weight::Struck,
            set_aside: matches!(ballot.weight, Weight::Excused | Weight::SetAside),
            platform: ballot.platform,
            rests_on: job.authors(index, ballot.worker),
        };
        UnitView {
            unit: index,
            state,
            value,
            by_owner,
            need: job.rules(index, &ballots, &self.trust, false).need as u32,
            confidence: (matches!(unit.phase, Phase::Verified { .. }) && !by_owner).then(|| verify::confidence(counted.len())),
            different_networks: counted.len() > 1 && counted.iter().all(|&at| ballots[at].prefix.is_some()),
            votes: ballots.iter().enumerate().map(vote).collect(),
            failures: job.failures.get(&index).map(|record| record.seen),
            checkpoint: job.checkpoints.newest(index),
            resumed: job.checkpoints.resumed(index).collect(),
        }
    }
}
