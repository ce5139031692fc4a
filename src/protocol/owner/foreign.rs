//! Jobs of others, which this coordinator has adopted since their author is away.
//!
//! An author may be hostile: it wrote the module, may know what its units are, and says what it has collected so far. So what happens
//! in such a job stays in it. Units that its author decided stand as they are, with no votes. Votes that it collected are taken like
//! those of any list from elsewhere (see `merge`). A worker's record grows by such a job for this job alone, and whoever is caught in
//! it gets nothing more of it. Only what this machine leased itself *and* computed itself, and found wrong, convicts its worker
//! everywhere: that needs no word of the author's.

use super::{
    Owner, OwnerAction,
    merge::is_possible,
    own_job::{Consequences, OwnJob},
    unit::UnitVote,
};
use crate::protocol::{
    fact::{Origin, SavedJob, Verdict, Vote},
    ids::{JobId, PeerId, UnitIndex},
    outcome::Value,
    time::Instant,
    trust::{Trust, VoterFacts},
    verify::{Ballot, PROVEN_UNITS, Weight},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What this coordinator has seen of workers in one adopted job, and what counts there only.
#[derive(Clone, Debug, Default)]
pub(super) struct Foreign {
    records: BTreeMap<PeerId, Record>,
    /// Whoever was caught: it gets nothing more of the job.
    barred: BTreeSet<PeerId>,
    /// How many records are those of somebody proven, whatever units take.
    proven: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    units: u64,
    gas: u64,
}

impl Record {
    fn in_units(&self, gas: u64) -> u64 {
        self.units.min(self.gas / gas.max(1))
    }
}

impl Foreign {
    fn change(&mut self, worker: PeerId, step: impl FnOnce(&mut Record)) {
        let record = self.records.entry(worker).or_default();
        let before = record.units >= PROVEN_UNITS;
        step(record);
        let after = record.units >= PROVEN_UNITS;
        self.proven = self.proven + usize::from(after) - usize::from(before);
    }

    pub fn credit(&mut self, worker: PeerId, gas: u64) {
        self.change(worker, |record| {
            *record = Record { units: record.units.saturating_add(1), gas: record.gas.saturating_add(gas) };
        });
    }

    /// Takes a unit from its record. Returns whether it was proven for units of about `typical` gas and is so no more.
    pub fn discredit(&mut self, worker: PeerId, gas: u64, typical: u64) -> bool {
        let proven = |foreign: &Self| foreign.records.get(&worker).is_some_and(|record| record.in_units(typical) >= PROVEN_UNITS);
        let before = proven(self);
        self.change(worker, |record| {
            *record = Record { units: record.units.saturating_sub(1), gas: record.gas.saturating_sub(gas) };
        });
        before && !proven(self)
    }

    pub fn forget(&mut self, worker: PeerId) {
        self.change(worker, |record| *record = Record::default());
        self.records.remove(&worker);
    }

    pub fn bars(&self, worker: PeerId) -> bool {
        self.barred.contains(&worker)
    }
}

impl OwnJob {
    /// Whether this coordinator has adopted it.
    pub fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    fn record_here(&self, worker: PeerId, gas: u64) -> u64 {
        self.foreign.as_ref().and_then(|foreign| foreign.records.get(&worker)).map_or(0, |record| record.in_units(gas))
    }

    /// Whether a vote of this worker on a unit of about `gas` can carry a verdict in this job.
    pub fn trusts(&self, worker: PeerId, gas: u64, trust: &Trust) -> bool {
        trust.is_proven(worker, gas) || self.record_here(worker, gas) >= PROVEN_UNITS
    }

    /// What decides how much its vote weighs in this job.
    pub fn voter(&self, worker: PeerId, gas: u64, trust: &Trust) -> VoterFacts {
        let weight = if self.trusts(worker, gas, trust) { Weight::Proven } else { Weight::Newcomer };
        VoterFacts { weight, ..trust.voter(worker, gas) }
    }

    /// How many units its record is worth in this job.
    pub fn record_in_units(&self, worker: PeerId, gas: u64, trust: &Trust) -> u64 {
        trust.record_in_units(worker, gas).max(self.record_here(worker, gas))
    }

    /// How many workers have proven themselves in this job, when others than those proven everywhere count.
    pub fn proven_here(&self) -> usize {
        self.foreign.as_ref().map_or(0, |foreign| foreign.proven)
    }

    /// Of those whom a judgement of the unit would convict: who is caught beyond doubt, whatever the author is, and who gets nothing
    /// more of this job only.
    pub fn convict(&mut self, index: UnitIndex, caught: BTreeSet<PeerId>, ballots: &[Ballot], out: &mut Consequences) {
        let checked = ballots.iter().any(|ballot| ballot.weight == Weight::Owner);
        let (everywhere, here): (BTreeSet<_>, BTreeSet<_>) =
            caught.into_iter().partition(|worker| !self.is_foreign() || (checked && self.leased_itself(index, *worker)));
        out.evidence.extend(everywhere.iter().map(|worker| (*worker, (self.id, index))));
        if !everywhere.is_empty() {
            self.convicted_on.entry(index).or_default().extend(&everywhere);
        }
        out.convict.extend(everywhere);
        out.barred.extend(here);
    }

    /// Whether the worker's vote on a unit was leased and taken by this coordinator.
    pub fn leased_itself(&self, index: UnitIndex, worker: PeerId) -> bool {
        let votes = self.unit(index).map(|unit| &*unit.votes).unwrap_or_default();
        votes.iter().any(|vote| vote.worker == worker && vote.origin == Origin::Leased)
    }

    /// The worker gets nothing more of this job, and its votes do not count. Returns the units to judge again.
    pub fn bar(&mut self, worker: PeerId, trust: &Trust) -> Vec<UnitIndex> {
        let was_proven = self.trusts(worker, self.gas_estimate(), trust);
        if let Some(foreign) = &mut self.foreign {
            foreign.barred.insert(worker);
        }
        self.strike(worker, was_proven).unwrap_or_default()
    }

    /// Keeps what decided units say of workers, after a restart: whoever agreed with somebody independent of it.
    pub fn restore_records(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        let credited = self.units.iter().flat_map(|unit| unit.votes.iter().filter(|vote| vote.credited));
        credited.for_each(|vote| foreign.credit(vote.worker, vote.value.gas));
    }
}

/// Takes out of a saved job what its author only says: votes that nobody signed, that are said to be this machine's, that others could
/// not have been leased, or that would be too many; and the votes on units that it decided. Returns those units.
pub(super) fn sift(saved: &mut SavedJob, me: PeerId) -> BTreeSet<UnitIndex> {
    let mut taken: BTreeMap<UnitIndex, usize> = BTreeMap::new();
    saved.votes.retain(|vote| match vote.origin {
        Origin::Leased | Origin::Recovered { .. } => true,
        Origin::Collected { .. } => {
            let count = taken.entry(vote.unit).or_default();
            *count += 1;
            vote.worker != me && !vote.proof.is_empty() && is_possible(vote) && *count <= super::VOTES_PER_UNIT_MAX
        }
    });
    let mut votes: BTreeMap<UnitIndex, Vec<&Vote>> = BTreeMap::new();
    saved.votes.iter().for_each(|vote| votes.entry(vote.unit).or_default().push(vote));
    let of_author = |(unit, verdict): &(UnitIndex, Verdict)| {
        let votes = votes.get(unit).map(Vec::as_slice).unwrap_or_default();
        let own = |vote: &&&Vote| !matches!(vote.origin, Origin::Collected { .. });
        match verdict {
            Verdict::Open => false,
            Verdict::Failed => votes.iter().find(own).is_none(),
            Verdict::Verified { value, .. } => {
                let agreeing = || votes.iter().filter(|vote| vote.value == *value);
                let by_me = agreeing().any(|vote| vote.worker == me && own(&vote));
                !by_me && (agreeing().count() < 2 || agreeing().find(own).is_none())
            }
        }
    };
    let decided: BTreeSet<UnitIndex> = saved.verdicts.iter().filter(|verdict| of_author(verdict)).map(|(unit, _)| *unit).collect();
    saved.votes.retain(|vote| !decided.contains(&vote.unit));
    for (unit, verdict) in &mut saved.verdicts {
        if let Verdict::Verified { by_owner, .. } = verdict
            && decided.contains(unit)
        {
            *by_owner = false;
        }
    }
    decided
}

/// Whether this coordinator itself has taken a vote for the value: one that it leased.
pub(super) fn taken_here(votes: &[UnitVote], value: Value) -> bool {
    votes.iter().any(|vote| !vote.struck && vote.value == value && !matches!(vote.origin, Origin::Collected { .. }))
}

impl Owner {
    /// Coordinates a job of somebody else from now on. `false` when it is this peer's own, or here already, or has ended.
    pub fn adopt(&mut self, now: Instant, saved: SavedJob) -> bool {
        let id = saved.id;
        if saved.manifest.owner == self.me || self.jobs.contains_key(&id) || saved.state.has_ended() {
            return false;
        }
        let job = OwnJob::restore(saved, self.me, &self.trust);
        let unsettled: VecDeque<_> = job.unsettled().into_iter().map(|unit| (id, unit)).collect();
        self.jobs.insert(id, job);
        self.running.insert(id);
        self.actions.push(OwnerAction::Announce(id));
        self.judge_all(now, unsettled);
        self.advance(now, id);
        self.begin_recovery(now, id);
        true
    }

    /// Coordinates an adopted job no longer: what is out is revoked, and nothing of it is remembered. `false` when it is not one.
    pub fn forsake(&mut self, id: JobId) -> bool {
        if !self.jobs.get(&id).is_some_and(OwnJob::is_foreign) {
            return false;
        }
        // What does not run needs no checkpoints.
        self.running.remove(&id);
        self.revoke_all(id);
        self.stop_recovery(id);
        self.jobs.remove(&id);
        self.schedule_due = true;
        true
    }

    /// The jobs of others that this peer coordinates.
    pub fn adopted(&self) -> impl Iterator<Item = JobId> {
        self.jobs.values().filter(|job| job.is_foreign()).map(|job| job.id)
    }

    /// Whether this peer coordinates the job for somebody else.
    pub fn has_adopted(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(OwnJob::is_foreign)
    }

    /// Somebody is caught in an adopted job by what this peer cannot be sure of.
    pub(super) fn bar(&mut self, id: JobId, worker: PeerId, queue: &mut VecDeque<(JobId, UnitIndex)>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        queue.extend(job.bar(worker, &self.trust).into_iter().map(|unit| (id, unit)));
        self.withdraw(worker, Some(id), queue);
    }

    /// The same where nothing else is being judged.
    pub(super) fn bar_now(&mut self, now: Instant, id: JobId, worker: PeerId) {
        let mut queue = VecDeque::new();
        self.bar(id, worker, &mut queue);
        self.judge_on(now, queue, BTreeSet::from([id]));
    }
}
