//! One of this peer's own jobs: its units, what they want, and how they are judged.

use super::unit::{FAILED_WORKERS_KEPT, FailureRecord, Phase, Unit, UnitVote, Want, Wanted};
use crate::protocol::{
    fact::{Fact, Failures, JobState, SavedJob, Verdict, Vote},
    ids::{Attempt, JobId, PeerId, UnitIndex},
    job::Manifest,
    outcome::{AttemptFailure, Value},
    trust::Trust,
    verify::{self, AuditState, Ballot, Decision, JobSecret, Judgement, Rules, Voter, Weight},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Failed attempts by proven peers (or the owner) after which a unit has failed.
const FAILURES_BY_PROVEN_MAX: u32 = 3;
/// Failed attempts by anybody after which a unit has failed, so that no unit is tried for ever where nobody is proven.
const FAILURES_MAX: u32 = 12;
/// A job is stopped when this many units are decided and none of them succeeded.
const CANARIES: u32 = 3;

/// An own job.
#[derive(Clone, Debug)]
pub(super) struct OwnJob {
    pub id: JobId,
    pub manifest: Arc<Manifest>,
    pub secret: JobSecret,
    pub state: JobState,
    pub units: Vec<Unit>,
    pub wanted: Wanted,
    pub counts: Counts,
    pub audit: AuditState,
    /// The rate at which units were last selected for audit.
    audit_rate: f64,
    pub failures: BTreeMap<UnitIndex, FailureRecord>,
    /// What each worker gave, by votes.
    pub contributions: BTreeMap<PeerId, Contribution>,
    /// Undecided units that each worker voted on.
    pub undecided: BTreeMap<PeerId, u32>,
    gas_of_votes: u64,
}

/// How many units are in each state; `units` is the denominator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All.
    pub units: u32,
    /// Verified, with success.
    pub verified: u32,
    /// Of these, computed or checked by the owner's machine.
    pub by_owner: u32,
    /// Newcomers agree, nobody proven has said anything.
    pub provisional: u32,
    /// Proven voters disagree.
    pub disputed: u32,
    /// Were decided, and are judged again.
    pub rechecking: u32,
    /// Verified not to succeed, or failed on enough machines.
    pub failed: u32,
    /// Votes received: executions that ended in a value.
    pub executions: u64,
    /// Bytes of verified output.
    pub output_bytes: u64,
}

/// What one worker gave to one job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Contribution {
    /// Votes.
    pub votes: u32,
    /// Their gas.
    pub gas: u64,
}

/// What a judgement led to beyond the unit itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Consequences {
    pub facts: Vec<Fact>,
    pub convict: BTreeSet<PeerId>,
    /// Standings that changed.
    pub touched: BTreeSet<PeerId>,
    /// Units that are decided now and were not.
    pub decided: Vec<UnitIndex>,
}

impl OwnJob {
    pub fn new(id: JobId, manifest: Arc<Manifest>, secret: JobSecret) -> Self {
        let units = manifest.units();
        Self {
            id,
            manifest,
            secret,
            state: JobState::Running,
            units: vec![Unit::default(); units as usize],
            wanted: Wanted::default(),
            counts: Counts { units, ..Counts::default() },
            audit: AuditState::default(),
            audit_rate: verify::AUDIT_RATE,
            failures: BTreeMap::new(),
            contributions: BTreeMap::new(),
            undecided: BTreeMap::new(),
            gas_of_votes: 0,
        }
    }

    /// Rebuilds a job from its facts. Verdicts stand as they were made; units without one are judged anew by the caller.
    pub fn restore(saved: SavedJob, owner: PeerId, trust: &Trust) -> Self {
        let mut job = Self::new(saved.id, Arc::new(saved.manifest), JobSecret(saved.secret));
        job.state = saved.state;
        for vote in &saved.votes {
            let struck = vote.worker != owner && trust.standing(vote.worker).strikes > 0;
            job.push_vote(vote, struck);
        }
        for (unit, failures) in saved.failures {
            let record = FailureRecord { seen: failures, proven: 0, workers: BTreeSet::new() };
            job.failures.insert(unit, record);
        }
        for (unit, verdict) in saved.verdicts {
            let phase = match verdict {
                Verdict::Open => Phase::Reopened,
                Verdict::Verified { value, by_owner } => Phase::Verified { value, by_owner },
                Verdict::Failed => Phase::Failed,
            };
            if let Some(known) = job.units.get_mut(unit.0 as usize).filter(|_| phase.is_decided()) {
                for vote in &mut known.votes {
                    vote.credited = matches!(phase, Phase::Verified { value, .. } if value == vote.value && !vote.struck);
                }
            }
            job.set_phase(unit, phase);
        }
        job
    }

    pub fn unit(&self, unit: UnitIndex) -> Option<&Unit> {
        self.units.get(unit.0 as usize)
    }

    /// The typical gas of this job's units, for estimates and for the weight of records.
    pub fn gas_estimate(&self) -> u64 {
        self.gas_of_votes / self.counts.executions.max(1)
    }

    /// Records a vote. The caller has checked the lease's token, and that the worker has not voted on the unit yet.
    pub fn push_vote(&mut self, vote: &Vote, struck: bool) {
        let Some(unit) = self.units.get_mut(vote.unit.0 as usize) else { return };
        unit.votes.push(UnitVote { worker: vote.worker, ordinal: vote.ordinal, value: vote.value, struck, credited: false });
        unit.next_attempt = unit.next_attempt.max(vote.attempt.0 + 1);
        if !unit.phase.is_decided() {
            *self.undecided.entry(vote.worker).or_default() += 1;
        }
        if vote.unit.0 >= self.wanted.fresh {
            self.touch_up_to(vote.unit);
        }
        self.counts.executions += 1;
        self.gas_of_votes = self.gas_of_votes.saturating_add(vote.value.gas);
        let contribution = self.contributions.entry(vote.worker).or_default();
        contribution.votes += 1;
        contribution.gas = contribution.gas.saturating_add(vote.value.gas);
    }

    /// Moves the border of untouched units past `unit`; those skipped want their first vote like any other.
    fn touch_up_to(&mut self, unit: UnitIndex) {
        for skipped in self.wanted.fresh..unit.0 {
            self.wanted.insert(UnitIndex(skipped), Want::First);
        }
        self.wanted.fresh = unit.0 + 1;
    }

    /// Judges one unit and applies the judgement: its phase, what it wants, whom it credits.
    pub fn judge(&mut self, index: UnitIndex, trust: &mut Trust, owner: PeerId, cold: bool, out: &mut Consequences) {
        let ballots = self.ballots(index, trust, owner);
        let Judgement { decision, convict, credit } = verify::accept(&ballots, self.rules(index, &ballots, trust, cold));
        if let Some(wrong) = same_wrong_value(&ballots, &convict) {
            self.audit.collusion |= wrong;
        }
        out.convict.extend(convict);
        let exhausted =
            self.failures.get(&index).is_some_and(|record| record.proven >= FAILURES_BY_PROVEN_MAX || record.seen.count >= FAILURES_MAX);
        let phase = match decision {
            Decision::Accept { value, by_owner } => Phase::Verified { value, by_owner },
            Decision::Provisional { .. } | Decision::Disputed | Decision::Want(_) if exhausted => Phase::Failed,
            Decision::Provisional { value } => Phase::Provisional(value),
            Decision::Disputed => Phase::Disputed,
            Decision::Want(_) => match self.units[index.0 as usize].phase {
                Phase::Verified { .. } | Phase::Failed | Phase::Reopened => Phase::Reopened,
                Phase::Open | Phase::Provisional(_) | Phase::Disputed => Phase::Open,
            },
        };
        self.settle(index, phase, &credit, trust, out);
        self.want(index, decision);
    }

    fn ballots(&self, index: UnitIndex, trust: &Trust, owner: PeerId) -> Vec<Ballot> {
        let votes = self.unit(index).map(|unit| unit.votes.as_slice()).unwrap_or_default();
        let gas = self.gas_estimate().max(votes.iter().map(|vote| vote.value.gas).min().unwrap_or(0));
        let weight = |vote: &UnitVote| match vote {
            vote if vote.worker == owner => Weight::Owner,
            UnitVote { struck: true, .. } => Weight::Struck,
            vote => trust.weight(vote.worker, gas),
        };
        let ballot = |vote: &UnitVote| Ballot {
            worker: vote.worker,
            weight: weight(vote),
            prefix: trust.prefix(vote.worker),
            lineage: trust.standing(vote.worker).lineage,
            ordinal: vote.ordinal,
            value: vote.value,
        };
        votes.iter().map(ballot).collect()
    }

    fn rules(&self, index: UnitIndex, ballots: &[Ballot], trust: &Trust, cold: bool) -> Rules {
        let audited = self.secret.audit_number(index) < self.audit_rate;
        let first = ballots.iter().find(|ballot| ballot.weight != Weight::Struck);
        let record = first
            .filter(|ballot| ballot.weight == Weight::Proven)
            .map(|ballot| trust.record_in_units(ballot.worker, self.gas_estimate()).max(verify::PROVEN_UNITS));
        let need = verify::votes_needed(self.manifest.policy, audited, self.secret.lottery_number(index), record, self.audit_rate);
        Rules { need, provisional_allowed: cold && !self.audit.collusion }
    }

    /// Brings the unit into `phase`, with all that hangs on it.
    fn settle(&mut self, index: UnitIndex, phase: Phase, credit: &[PeerId], trust: &mut Trust, out: &mut Consequences) {
        let before = self.units[index.0 as usize].phase;
        self.adjust_credit(index, credit, trust, out);
        if before == phase {
            return;
        }
        let verdict = match (before.is_decided(), phase) {
            (_, Phase::Verified { value, by_owner }) => Some(Verdict::Verified { value, by_owner }),
            (_, Phase::Failed) => Some(Verdict::Failed),
            (true, Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed) => Some(Verdict::Open),
            (false, Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed) => None,
        };
        out.facts.extend(verdict.map(|verdict| Fact::Verdict(self.id, index, verdict)));
        self.set_phase(index, phase);
        if phase.is_decided() && !before.is_decided() {
            out.decided.push(index);
        }
    }

    fn adjust_credit(&mut self, index: UnitIndex, credit: &[PeerId], trust: &mut Trust, out: &mut Consequences) {
        for vote in &mut self.units[index.0 as usize].votes {
            let due = !vote.struck && credit.contains(&vote.worker);
            match (vote.credited, due) {
                (false, true) => trust.credit(vote.worker, vote.value.gas),
                (true, false) if !vote.struck => trust.discredit(vote.worker, vote.value.gas),
                (true, false | true) | (false, false) => {
                    vote.credited = due;
                    continue;
                }
            }
            vote.credited = due;
            out.touched.insert(vote.worker);
        }
    }

    fn set_phase(&mut self, index: UnitIndex, phase: Phase) {
        let Some(unit) = self.units.get_mut(index.0 as usize) else { return };
        let before = core::mem::replace(&mut unit.phase, phase);
        self.counts.remove(&before);
        self.counts.add(&phase);
        if before.is_decided() != phase.is_decided() {
            for vote in &unit.votes {
                let undecided = self.undecided.entry(vote.worker).or_default();
                *undecided = if phase.is_decided() { undecided.saturating_sub(1) } else { *undecided + 1 };
            }
        }
        if index.0 >= self.wanted.fresh {
            self.touch_up_to(index);
        }
    }

    /// Enters the unit where it belongs among those that want a lease; nowhere while one is out, since votes are sequential.
    fn want(&mut self, index: UnitIndex, decision: Decision) {
        let unit = &self.units[index.0 as usize];
        let idle = unit.leased == 0 && self.state == JobState::Running;
        if !idle || unit.phase.is_decided() {
            self.wanted.remove(index);
            return;
        }
        let want = match decision {
            Decision::Accept { .. } => return,
            Decision::Provisional { .. } => Want::Another(Voter::Proven),
            Decision::Disputed => Want::Owner,
            Decision::Want(_) if unit.votes.iter().all(|vote| vote.struck) => Want::First,
            Decision::Want(voter) => Want::Another(voter),
        };
        self.wanted.insert(index, want);
    }

    /// An attempt ended without a value. The caller judges the unit next.
    pub fn record_failure(&mut self, index: UnitIndex, worker: PeerId, proven: bool, failure: AttemptFailure) -> Fact {
        let record = self.failures.entry(index).or_insert_with(|| FailureRecord {
            seen: Failures { count: 0, last: failure },
            proven: 0,
            workers: BTreeSet::new(),
        });
        record.seen = Failures { count: record.seen.count.saturating_add(1), last: failure };
        record.proven += u32::from(proven);
        if record.workers.len() < FAILED_WORKERS_KEPT {
            record.workers.insert(worker);
        }
        Fact::Failures(self.id, index, record.seen)
    }

    /// Strikes all votes of a convicted worker. Returns the units to judge again: those that the owner did not check itself.
    pub fn strike(&mut self, worker: PeerId, was_proven: bool) -> Vec<UnitIndex> {
        let mut again = Vec::new();
        for (index, unit) in (0..).map(UnitIndex).zip(&mut self.units) {
            let mut found = false;
            for vote in unit.votes.iter_mut().filter(|vote| vote.worker == worker && !vote.struck) {
                vote.struck = true;
                vote.credited = false;
                found = true;
            }
            if found && !matches!(unit.phase, Phase::Verified { by_owner: true, .. }) {
                again.push(index);
            }
        }
        if was_proven && !again.is_empty() {
            self.audit.convicted += 1;
        }
        again
    }

    /// Follows the audit rate. Returns the accepted units which a higher rate now selects.
    pub fn update_audit_rate(&mut self) -> Vec<UnitIndex> {
        let before = self.audit_rate;
        self.audit_rate = self.audit.rate(self.counts.decided());
        if self.audit_rate <= before {
            return Vec::new();
        }
        let selected = |&index: &UnitIndex| {
            let number = self.secret.audit_number(index);
            before <= number && number < self.audit_rate
        };
        let provisional = |unit: &Unit| self.audit.collusion && matches!(unit.phase, Phase::Provisional(_));
        let standing = |unit: &Unit| matches!(unit.phase, Phase::Verified { by_owner: false, .. });
        let units = (0..).map(UnitIndex).zip(&self.units);
        units.filter(|(index, unit)| provisional(unit) || (standing(unit) && selected(index))).map(|(index, _)| index).collect()
    }

    /// The state that the job has reached, if it changed.
    pub fn advance(&mut self) -> Option<Fact> {
        let counts = &self.counts;
        let reached = match self.state {
            JobState::Cancelled => JobState::Cancelled,
            JobState::Running | JobState::Done | JobState::Failed | JobState::Stopped => {
                if counts.decided() == counts.units {
                    if counts.failed == 0 { JobState::Done } else { JobState::Failed }
                } else if counts.verified == 0 && counts.failed >= CANARIES {
                    JobState::Stopped
                } else {
                    JobState::Running
                }
            }
        };
        (reached != self.state).then(|| {
            self.state = reached;
            Fact::JobState(self.id, reached)
        })
    }

    /// How many units may be out at once: few until one has succeeded, so that a broken job burns no grid.
    pub fn leases_allowed(&self) -> usize {
        let seen = self.counts.decided() + u32::from(self.counts.executions > 0);
        if self.counts.verified > 0 || self.units.iter().take(CANARIES as usize).any(Unit::has_succeeded) {
            usize::MAX
        } else if seen == 0 && self.failures.is_empty() {
            1
        } else {
            CANARIES as usize
        }
    }

    /// Makes failed units open again.
    pub fn retry(&mut self) -> (Vec<UnitIndex>, Vec<Fact>) {
        let failed = |unit: &Unit| matches!(unit.phase, Phase::Failed);
        let again: Vec<_> = (0..).map(UnitIndex).zip(&self.units).filter(|(_, unit)| failed(unit)).map(|(i, _)| i).collect();
        let mut facts = Vec::new();
        for &index in &again {
            self.failures.remove(&index);
            self.set_phase(index, Phase::Open);
            facts.push(Fact::Verdict(self.id, index, Verdict::Open));
            let none = Failures { count: 0, last: AttemptFailure::Killed };
            facts.push(Fact::Failures(self.id, index, none));
        }
        (again, facts)
    }
}

impl Unit {
    fn has_succeeded(&self) -> bool {
        self.votes.iter().any(|vote| !vote.struck && vote.value.exit.is_success())
    }

    /// The attempt number of the next lease.
    pub fn take_attempt(&mut self) -> Attempt {
        let attempt = Attempt(self.next_attempt);
        self.next_attempt = self.next_attempt.saturating_add(1);
        attempt
    }
}

impl Counts {
    /// Units that are decided: the numerator of progress.
    pub fn decided(&self) -> u32 {
        self.verified + self.failed
    }

    fn add(&mut self, phase: &Phase) {
        self.change(phase, |count| *count += 1);
    }

    fn remove(&mut self, phase: &Phase) {
        self.change(phase, |count| *count -= 1);
    }

    fn change(&mut self, phase: &Phase, step: impl Fn(&mut u32)) {
        match phase {
            Phase::Open => {}
            Phase::Reopened => step(&mut self.rechecking),
            Phase::Provisional(_) => step(&mut self.provisional),
            Phase::Disputed => step(&mut self.disputed),
            Phase::Failed => step(&mut self.failed),
            Phase::Verified { value: Value { exit, .. }, by_owner } => {
                if *by_owner {
                    step(&mut self.by_owner);
                }
                step(if exit.is_success() { &mut self.verified } else { &mut self.failed });
            }
        }
    }
}

/// Whether two convicted voters said the same wrong thing; `None` when nobody was convicted.
fn same_wrong_value(ballots: &[Ballot], convicted: &[PeerId]) -> Option<bool> {
    let mut seen = BTreeSet::new();
    let wrong = ballots.iter().filter(|ballot| convicted.contains(&ballot.worker));
    (!convicted.is_empty()).then(|| wrong.map(|ballot| ballot.value).any(|value| !seen.insert(value)))
}
