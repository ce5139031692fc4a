//! One of this peer's own jobs: its units, what they want, and what was given by whom. How units are judged is in `judge`.

use super::{
    bisect::{Bisections, Party},
    exam::Classes,
    focus::{Entrants, Focus},
    foreign::Foreign,
    jury::Juries,
    merge::ATTEMPT_MAX,
    resume::Checkpoints,
    unit::{FailureRecord, Phase, Unit, UnitVote, Want, Wanted},
};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Fact, Failures, Findings, JobState, Nondeterminism, Origin, Standing, Verdict, Vote},
    ids::{Attempt, JobId, PeerId, UnitIndex},
    job::Manifest,
    outcome::{AttemptFailure, Value},
    platform::{Platform, Platforms},
    time::Instant,
    verify::{self, AuditState, JobSecret},
};
use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// So many units go out first, and the rest when one of them has succeeded: with one alone, a whole grid would wait for one machine that
/// may be slow. A job is stopped when as many are decided and none of them succeeded.
const CANARIES: u32 = 3;
/// As long as none has succeeded, each of these periods doubles how many units may be out: long units hold up nothing, and nor does
/// a worker that never answers.
const CANARY_PATIENCE: Duration = Duration::from_secs(10);
/// Weight of the newest measurement in the smoothed time of a unit.
const SMOOTHING: f64 = 0.1;

/// An own job.
#[derive(Clone, Debug)]
pub(super) struct OwnJob {
    pub id: JobId,
    pub manifest: Arc<Manifest>,
    pub secret: JobSecret,
    /// What counts in this job alone; none for this peer's own jobs.
    pub foreign: Option<Foreign>,
    pub state: JobState,
    pub units: Vec<Unit>,
    pub wanted: Wanted,
    pub counts: Counts,
    pub audit: AuditState,
    /// The rate at which units were last selected for audit.
    pub audit_rate: f64,
    /// Machines of different instruction sets disagree.
    pub nondeterminism: Option<Nondeterminism>,
    /// Workers whose dissent their instruction set may explain: none of their votes on this job counts, and they get no more of it.
    pub excused: BTreeMap<PeerId, Platforms>,
    /// Who was convicted because of which unit, as far as a judgement did it since this peer started.
    pub convicted_on: BTreeMap<UnitIndex, BTreeSet<PeerId>>,
    /// Decided units on which a vote that was excused or set aside says something else.
    pub contradicted: BTreeSet<UnitIndex>,
    /// Verified units on which more agreed than had to, and nobody disagreed.
    pub clean_audits: u32,
    /// What was last made durable.
    pub findings_kept: Findings,
    pub failures: BTreeMap<UnitIndex, FailureRecord>,
    /// What each worker gave, by votes.
    pub contributions: BTreeMap<PeerId, Contribution>,
    /// The units that each worker voted on, to find them when it is convicted.
    pub voted_on: BTreeMap<PeerId, Vec<UnitIndex>>,
    /// Undecided units that each worker voted on.
    undecided: BTreeMap<PeerId, Undecided>,
    /// Who has voted.
    pub entrants: Entrants,
    /// What newcomers are examined with while there are very many of them.
    pub classes: Classes,
    /// Newcomers who are to be proven next.
    pub focus: Focus,
    /// Disputes that are before a jury.
    pub juries: Juries,
    /// The owner wants it to go on although nothing has succeeded.
    pub insisted: bool,
    /// When the first unit went out.
    first_lease: Option<Instant>,
    /// Smoothed time that a unit took, as reported.
    pub unit_seconds: Option<f64>,
    /// No attempt is late enough for a backup before.
    pub backup_at: Option<Instant>,
    /// Disputes about long units.
    pub bisections: Bisections,
    /// Whose checkpoints votes rest on; few rest on any.
    pub rests: BTreeMap<(UnitIndex, PeerId), Authors>,
    /// Where units that are not decided stood.
    pub checkpoints: Checkpoints,
    gas_of_verified: u128,
    verified_values: u32,
    /// Of all votes.
    lowest_claim: Option<u64>,
}

/// How many units a worker voted on that are not decided.
#[derive(Clone, Copy, Default, Debug)]
struct Undecided {
    provisional: u32,
    others: u32,
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
    /// Convicted once because of the unit, and right after all.
    pub acquit: Vec<PeerId>,
    /// Who gets nothing more of this job, which is somebody else's, and whose votes in it do not count.
    pub barred: BTreeSet<PeerId>,
    /// The wrong receipts of those, as far as one was seen.
    pub evidence: BTreeMap<PeerId, (JobId, UnitIndex)>,
    /// Standings that changed.
    pub touched: BTreeSet<PeerId>,
    /// Standings as they were before they lost a unit.
    pub before: BTreeMap<PeerId, Standing>,
    /// Units of the same job that are to be judged again.
    pub again: Vec<UnitIndex>,
    /// Who gets nothing more of the job.
    pub excused: BTreeSet<PeerId>,
    /// Whose instruction set is set aside for the job.
    pub set_aside: Platforms,
    /// Between whom the unit is bisected.
    pub bisect: Option<[Party; 2]>,
}

impl OwnJob {
    pub fn new(id: JobId, manifest: Arc<Manifest>, secret: JobSecret) -> Self {
        let units = manifest.units();
        Self {
            id,
            manifest,
            secret,
            foreign: None,
            state: JobState::Running,
            units: vec![Unit::default(); units as usize],
            wanted: Wanted::default(),
            counts: Counts { units, ..Counts::default() },
            audit: AuditState::default(),
            audit_rate: verify::AUDIT_RATE,
            nondeterminism: None,
            excused: BTreeMap::new(),
            convicted_on: BTreeMap::new(),
            contradicted: BTreeSet::new(),
            clean_audits: 0,
            findings_kept: Findings::default(),
            failures: BTreeMap::new(),
            contributions: BTreeMap::new(),
            voted_on: BTreeMap::new(),
            undecided: BTreeMap::new(),
            entrants: Entrants::default(),
            classes: Classes::default(),
            focus: Focus::default(),
            juries: Juries::default(),
            insisted: false,
            first_lease: None,
            unit_seconds: None,
            backup_at: None,
            bisections: Bisections::default(),
            rests: BTreeMap::new(),
            checkpoints: Checkpoints::default(),
            gas_of_verified: 0,
            verified_values: 0,
            lowest_claim: None,
        }
    }

    pub fn unit(&self, unit: UnitIndex) -> Option<&Unit> {
        self.units.get(unit.0 as usize)
    }

    /// The typical gas of this job's units, for estimates of time. Rests on what is verified, since any other claim may be a lie; zero
    /// before.
    pub fn verified_gas(&self) -> u64 {
        (self.gas_of_verified / u128::from(self.verified_values.max(1))) as u64
    }

    /// The same for the weight of records. Before anything is verified the lowest claim counts: nobody's record is devalued by a lie, and
    /// where all units are much larger than those of the records, nobody is taken for proven.
    pub fn gas_estimate(&self) -> u64 {
        if self.verified_values == 0 { self.lowest_claim.unwrap_or(0) } else { self.verified_gas() }
    }

    /// Records a vote at its place. The caller has checked the lease's token, and that the worker has not voted on the unit yet.
    pub fn push_vote(&mut self, vote: &Vote, struck: bool) {
        let Some(unit) = self.units.get_mut(vote.unit.0 as usize) else { return };
        // Two votes are the rule, and a unit's memory counts.
        unit.votes.reserve_exact(1);
        let Vote { worker, ordinal, position, platform, value, output_bytes, origin, .. } = *vote;
        let at = unit.votes.partition_point(|other| (other.position, other.worker) < (position, worker));
        unit.votes.insert(at, UnitVote { worker, ordinal, position, platform, value, output_bytes, origin, struck, credited: false });
        // Who went on from its own word rests on nobody, where this coordinator knows whose word it was.
        let collected = matches!(origin, Origin::Collected { .. });
        let others = if collected { vote.rests_on } else { vote.rests_on.without(worker) };
        if !others.is_empty() {
            self.rests.insert((vote.unit, worker), others);
        }
        unit.next_attempt = unit.next_attempt.max(vote.attempt.0.min(ATTEMPT_MAX) + 1);
        let phase = unit.phase;
        self.count_undecided(vote.worker, phase, |count| *count += 1);
        self.voted_on.entry(vote.worker).or_default().push(vote.unit);
        self.entrants.enter(&self.secret, vote.worker);
        if vote.unit.0 >= self.wanted.fresh {
            self.touch_up_to(vote.unit);
        }
        self.counts.executions += 1;
        self.lowest_claim = Some(self.lowest_claim.map_or(value.gas, |lowest| lowest.min(value.gas)));
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

    /// Changes a unit's phase and every count that depends on it.
    pub fn set_phase(&mut self, index: UnitIndex, phase: Phase) {
        let Some(unit) = self.units.get_mut(index.0 as usize) else { return };
        let before = core::mem::replace(&mut unit.phase, phase);
        self.counts.remove(&before);
        self.counts.add(&phase);
        let voters: Vec<_> = self.units[index.0 as usize].votes.iter().map(|vote| vote.worker).collect();
        for worker in voters {
            self.count_undecided(worker, before, |count| *count = count.saturating_sub(1));
            self.count_undecided(worker, phase, |count| *count += 1);
        }
        self.count_verified(index, before, phase);
        if index.0 >= self.wanted.fresh {
            self.touch_up_to(index);
        }
    }

    fn count_verified(&mut self, index: UnitIndex, before: Phase, phase: Phase) {
        let unit = &self.units[index.0 as usize];
        let bytes = |value: Value| unit.votes.iter().find(|vote| vote.value == value).map_or(0, |vote| vote.output_bytes);
        if let Phase::Verified { value, .. } = before {
            self.gas_of_verified -= u128::from(value.gas);
            self.verified_values -= 1;
            self.counts.output_bytes = self.counts.output_bytes.saturating_sub(bytes(value));
        }
        if let Phase::Verified { value, .. } = phase {
            self.gas_of_verified += u128::from(value.gas);
            self.verified_values += 1;
            self.counts.output_bytes = self.counts.output_bytes.saturating_add(bytes(value));
        }
    }

    fn count_undecided(&mut self, worker: PeerId, phase: Phase, step: impl Fn(&mut u32)) {
        if phase.is_decided() {
            return;
        }
        let undecided = self.undecided.entry(worker).or_default();
        match phase {
            Phase::Provisional(_) => step(&mut undecided.provisional),
            Phase::Open | Phase::Reopened | Phase::Disputed | Phase::Verified { .. } | Phase::Failed => step(&mut undecided.others),
        }
        if undecided.provisional + undecided.others == 0 {
            self.undecided.remove(&worker);
        }
    }

    /// Whether anybody's votes wait for a decision.
    pub fn has_undecided_votes(&self) -> bool {
        !self.undecided.is_empty()
    }

    /// What its checks have brought to light.
    pub fn findings(&self) -> Findings {
        Findings { audit: self.audit, nondeterminism: self.nondeterminism }
    }

    /// Instruction sets whose votes do not count in this job.
    pub fn set_aside(&self) -> Platforms {
        self.nondeterminism.map(|found| found.set_aside).unwrap_or_default()
    }

    /// Whether the worker, of this instruction set, gets nothing of the job.
    pub fn bars(&self, worker: PeerId, platform: Platform) -> bool {
        let caught = self.foreign.as_ref().is_some_and(|foreign| foreign.bars(worker));
        caught || self.excused.contains_key(&worker) || self.set_aside().contains(platform)
    }

    /// Units that wait for a decision and that the worker voted on. Provisional ones are as far as they can come while nobody
    /// proven is within reach, and do not count then.
    pub fn pending(&self, worker: PeerId, proven_within_reach: bool) -> u32 {
        let undecided = self.undecided.get(&worker).copied().unwrap_or_default();
        undecided.others + if proven_within_reach { undecided.provisional } else { 0 }
    }

    /// A unit took so long, says its worker; at most what the job allows.
    pub fn measure(&mut self, wall: Duration) {
        let seconds = wall.min(self.manifest.limits.wall).as_secs_f64();
        self.unit_seconds = Some(self.unit_seconds.map_or(seconds, |known| known + SMOOTHING * (seconds - known)));
    }

    /// The state that the job has reached.
    pub fn reached(&self) -> JobState {
        let counts = &self.counts;
        match self.state {
            JobState::Cancelled => JobState::Cancelled,
            JobState::Running | JobState::Done | JobState::Failed | JobState::Stopped => {
                if counts.decided() == counts.units {
                    if counts.failed == 0 { JobState::Done } else { JobState::Failed }
                } else if !self.insisted && self.has_only_failures() {
                    JobState::Stopped
                } else {
                    JobState::Running
                }
            }
        }
    }

    /// Enough units are decided to say that the job is broken.
    pub fn has_only_failures(&self) -> bool {
        self.counts.verified == 0 && self.counts.failed >= CANARIES
    }

    /// How many units may be out at once: few until one has succeeded, so that a broken job burns no grid. `None`: any number.
    pub fn leases_allowed(&self, now: Instant) -> Option<usize> {
        if self.insisted || self.counts.verified > 0 || self.units.iter().take(CANARIES as usize).any(Unit::has_succeeded) {
            return None;
        }
        let periods = self.first_lease.map_or(0, |first| now.since(first).as_secs() / CANARY_PATIENCE.as_secs());
        let patient = 1usize.checked_shl(u32::try_from(periods).unwrap_or(u32::MAX)).filter(|&allowed| allowed > 0)?;
        Some(patient.max(CANARIES as usize))
    }

    /// When more may be out without anything having happened. The caller knows that too few are allowed now.
    pub fn more_allowed_at(&self, now: Instant) -> Option<Instant> {
        let first = self.first_lease?;
        let periods = u32::try_from(now.since(first).as_secs() / CANARY_PATIENCE.as_secs()).ok()?;
        Some(first.after(CANARY_PATIENCE.saturating_mul(periods + 1)))
    }

    /// A unit goes out.
    pub fn note_lease(&mut self, now: Instant) {
        self.first_lease.get_or_insert(now);
    }

    /// Makes failed units open again, and lets the job go on whatever they end in. Units whose program failed stay failed: it would
    /// do so again everywhere.
    pub fn retry(&mut self) -> (Vec<UnitIndex>, Vec<Fact>) {
        self.insisted = true;
        self.first_lease = None;
        let failed = |unit: &Unit| matches!(unit.phase, Phase::Failed);
        let again: Vec<_> = (0..).map(UnitIndex).zip(&self.units).filter(|(_, unit)| failed(unit)).map(|(i, _)| i).collect();
        let mut facts = Vec::new();
        for &index in &again {
            self.failures.remove(&index);
            self.units[index.0 as usize].by_author = false;
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

    /// The place of the next vote, behind all that were taken; also the ordinal of a lease that is issued now.
    pub fn next_position(&self) -> u32 {
        self.votes.last().map_or(0, |vote| vote.position.saturating_add(1))
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
