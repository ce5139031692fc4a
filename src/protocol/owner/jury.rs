//! Disputes that the owner's machine has no time for: many proven voters decide them.
//!
//! A tenth of ten thousand workers who conspire are hundreds of disputes for each owner, whose two slots would need longer for them than the
//! whole grid for the job. So where more disputes wait than the owner decides in a while, those whose voters have most others are put before
//! juries: proven workers are asked, all at once, until [`JURY_LEAD`](crate::protocol::verify::JURY_LEAD) more say one thing than another.
//! Which are before a jury is not durable: a restart begins again with the votes that there are.

use super::{
    Owner,
    merge::VOTES_PER_UNIT_MAX,
    own_job::OwnJob,
    unit::{Phase, Want},
};
use crate::protocol::{
    ids::{JobId, PeerId, UnitIndex},
    time::Instant,
    trust::Trust,
    verify::{Ballot, JURY_LEAD, jurors_missing},
};
use core::time::Duration;
use std::collections::BTreeMap;

/// So many disputes may wait for each slot that the owner lends itself, before juries are asked: a minute or so of short units.
const DISPUTES_PER_SLOT: usize = 8;
/// One jury at a time for so many proven workers: with all its jurors asked at once, juries take up to a quarter of them.
const PROVEN_PER_JURY: usize = 64;
/// The most juries of one job at a time: picking a unit looks at all of them.
const JURIES_MAX: usize = 64;
/// So many more jurors are asked at once than are missing, for those who are slow or go.
const SPARE_JURORS: usize = 2;
/// How often the disputes are looked through for the worst, and so how long one may wait for its jury.
const LOOKED_THROUGH_EVERY: Duration = Duration::from_secs(1);
/// How many disputes are compared to find the worst.
const DISPUTES_LOOKED_AT: usize = 1024;

/// The units of a job that are before a jury, and how many jurors each lacks.
#[derive(Clone, Debug, Default)]
pub(super) struct Juries {
    missing: BTreeMap<UnitIndex, usize>,
    /// No other is summoned before.
    next_look: Option<Instant>,
}

impl Juries {
    pub fn len(&self) -> usize {
        self.missing.len()
    }

    pub fn has(&self, unit: UnitIndex) -> bool {
        self.missing.contains_key(&unit)
    }
}

impl OwnJob {
    /// The units that want jurors now, with how many.
    pub fn jurors_wanted(&self) -> impl Iterator<Item = (UnitIndex, usize)> {
        let asked = |unit: UnitIndex| self.unit(unit).map_or(0, |unit| usize::from(unit.leased));
        let wanted = self.juries.missing.iter().map(move |(unit, missing)| (*unit, (missing + SPARE_JURORS).saturating_sub(asked(*unit))));
        wanted.filter(|(_, wanted)| *wanted > 0)
    }

    /// The unit was judged again. Whether it stays before its jury; not when it is decided, or no jury can.
    pub(super) fn stays_before_jury(&mut self, unit: UnitIndex, ballots: &[Ballot]) -> bool {
        let disputed = self.units[unit.0 as usize].phase == Phase::Disputed && ballots.len() < VOTES_PER_UNIT_MAX;
        let missing = if disputed && self.juries.has(unit) { jurors_missing(ballots) } else { 0 };
        if missing == 0 {
            self.juries.missing.remove(&unit);
        } else {
            self.juries.missing.insert(unit, missing);
        }
        missing > 0
    }

    /// Disputes that wait for the owner, those first whose trusted voters have most to do with others: conspirators who met often are
    /// caught first, two by one decision, and with them go their other disputes.
    pub fn worst_disputes(&self, trust: &Trust) -> Vec<UnitIndex> {
        let gas = self.gas_estimate();
        let disputed = || self.wanted.set(Want::Owner).iter().copied().take(DISPUTES_LOOKED_AT);
        let voters = |unit: UnitIndex| {
            let votes = self.unit(unit).map_or(&[][..], |unit| &unit.votes);
            votes.iter().filter(|vote| !vote.struck && trust.is_proven(vote.worker, gas)).map(|vote| vote.worker)
        };
        let mut disputes: BTreeMap<PeerId, u32> = BTreeMap::new();
        disputed().flat_map(voters).for_each(|voter| *disputes.entry(voter).or_default() += 1);
        let mut worst: Vec<_> = disputed().map(|unit| (voters(unit).map(|voter| disputes[&voter]).sum::<u32>(), unit)).collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        worst.into_iter().map(|(_, unit)| unit).collect()
    }
}

impl Owner {
    /// Puts disputes of one of this peer's own jobs before juries, as far as there are too many of them.
    pub(super) fn summon_juries(&mut self, now: Instant, id: JobId) {
        let (proven, own_slots, me) = (self.roster.proven_at_last(), self.own_slots(), self.me);
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.is_foreign()) else { return };
        let room = (proven / PROVEN_PER_JURY).min(JURIES_MAX).saturating_sub(job.juries.len());
        let beyond = job.wanted.set(Want::Owner).len().saturating_sub(DISPUTES_PER_SLOT * own_slots);
        if room.min(beyond) == 0 {
            return;
        }
        if let Some(next) = job.juries.next_look.filter(|next| *next > now) {
            self.wake_by(next);
            return;
        }
        job.juries.next_look = Some(now.after(LOOKED_THROUGH_EVERY));
        let can_decide = |unit: &UnitIndex| job.unit(*unit).is_some_and(|unit| unit.votes.len() + JURY_LEAD < VOTES_PER_UNIT_MAX);
        let summoned: Vec<_> = job.worst_disputes(&self.trust).into_iter().filter(can_decide).take(room.min(beyond)).collect();
        for unit in summoned {
            let missing = jurors_missing(&job.ballots(unit, &self.trust, me));
            // Where the votes suffice it is something else that the owner must decide: whether an instruction set differs.
            if missing > 0 {
                job.wanted.remove(unit);
                job.juries.missing.insert(unit, missing);
            }
        }
    }
}
