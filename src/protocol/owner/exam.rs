//! Classes: how a few proven voters prove many newcomers.
//!
//! In a grid of strangers there are hardly any proven voters, and each newcomer needs twenty units that one of them backs. So while there
//! are many newcomers for each slot that can prove them, half of them are examined in *classes*: the members of a class vote on the
//! same units, one after the other, and one proven execution of such a unit speaks for all of them. A unit of a class that is decided
//! goes on to be given to members who have not voted on it yet, as a spot check whose answer is known (Sarmenta, "Sabotage-tolerance
//! mechanisms for volunteer computing systems", 2002); so the owner's own slots begin units for the first class.
//!
//! What members do more than a unit needs costs nobody any time, since they would wait for a proven voter anyway; it is electricity,
//! though, so the other newcomers begin units of their own, each of which needs one proven vote as ever.
//!
//! Who is in which class is drawn with the job's secret ([`Entrants`](super::focus::Entrants)): were it the order in which they come,
//! conspirators who come together would be in one class. Those of one class who conspire can answer for one another, so the price of
//! a proven key falls by as many of them as there are in a class: by the share of conspirators times sixteen, about. No number of newcomers
//! verifies anything, here as elsewhere: that takes a proven vote.

use super::{
    Owner, VOTES_PER_UNIT_MAX,
    pick::Picker,
    unit::{Phase, Want},
};
use crate::protocol::{
    ids::{JobId, PeerId, UnitIndex},
    verify::Voter,
};
use core::time::Duration;
use std::collections::BTreeMap;

/// With so many workers for each proven one and each of the owner's slots, newcomers are examined in classes.
const EXAMINED_FROM: usize = 16;
/// And with so many untouched units for each worker. To examine half of all workers takes ten executions for each of them.
const UNTOUCHED_PER_WORKER: usize = 5;
/// Members of a class at least, on average; at most twice as many.
const CLASS: usize = 16;
/// Which part of all newcomers is examined, in halvings: a half.
const EXAMINED_BITS: u32 = 1;
/// The most votes that a unit gets for being one of a class.
const VOTES_MAX: usize = VOTES_PER_UNIT_MAX;
/// A unit is confirmed for its class when so many members have voted on it; before, like any other.
const VOTES_LEAST: usize = 4;
/// Undecided units of a class at once: each member needs twenty of them, and a few may be slow to come back.
const UNITS_MAX: usize = 28;
/// Units of a class that are remembered, decided ones included.
const REMEMBERED_MAX: usize = 2 * UNITS_MAX;
/// When no class has anything for a proven voter, how long until they are looked through again: there are hundreds.
const CLASSES_PAUSE: Duration = Duration::from_millis(200);
/// A class with so many answers known has enough of them.
const ANSWERS_ENOUGH: usize = 24;

/// The class whose arc of the circle begins here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Class(u64);

impl Class {
    /// The class of whoever stands at this place of the circle, where so many workers are here; `None` when it is not examined in one.
    /// Classes are halved with each doubling of the workers, and the first half keeps the name.
    pub fn at(place: u64, workers: usize) -> Option<Self> {
        let bits = (workers / CLASS).max(1).ilog2();
        let arc = |bits: u32| place.checked_shr(u64::BITS - bits).unwrap_or(0);
        (arc(bits.min(EXAMINED_BITS)) == 0).then(|| Self(arc(bits).checked_shl(u64::BITS - bits).unwrap_or(0)))
    }
}

/// The units of each class of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    units: BTreeMap<Class, Vec<UnitIndex>>,
}

impl Classes {
    /// A unit was begun for the class.
    pub fn begin(&mut self, class: Class, unit: UnitIndex) {
        let units = self.units.entry(class).or_default();
        if units.len() >= REMEMBERED_MAX {
            units.remove(0);
        }
        units.push(unit);
    }

    fn of(&self, class: Class) -> &[UnitIndex] {
        self.units.get(&class).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Owner {
    /// Whether this unit is one of those with which newcomers are examined: these alone may be given to such a worker although their
    /// answers are known.
    pub fn is_spot_check(&self, job: JobId, unit: UnitIndex, worker: PeerId) -> bool {
        let Some(job) = self.jobs.get(&job) else { return false };
        let newcomer = worker != self.me && !job.trusts(worker, job.gas_estimate(), &self.trust);
        newcomer && job.classes.units.values().any(|units| units.contains(&unit))
    }
}

impl Picker<'_> {
    /// Whether there are so many newcomers for each slot that can prove them that some are examined in classes, and so much left to do
    /// for whoever is proven that this is worth its executions.
    pub fn examines(&self) -> bool {
        let untouched = self.job.counts.units.saturating_sub(self.job.wanted.fresh) as usize;
        self.proven_within_reach
            && self.workers_online >= EXAMINED_FROM * (self.proven_online + self.own_slots).max(1)
            && untouched >= UNTOUCHED_PER_WORKER * self.workers_online
    }

    /// The class for which the worker begins the unit that it has picked from this set, if it does.
    pub fn class_of_begun(&self, want: Option<Want>) -> Option<Class> {
        if want.is_none() && self.examines() { self.begins_for() } else { None }
    }

    /// While anybody is examined, a newcomer begins units for its own class, the owner for the first that lacks answers.
    fn begins_for(&self) -> Option<Class> {
        if self.worker == self.me {
            return self.proves_alone.then(|| self.class_that_lacks_answers()).flatten();
        }
        let place = self.job.entrants.place(&self.job.secret, self.worker);
        Class::at(place, self.workers_online).filter(|_| !self.proven)
    }

    /// What a newcomer gets while some are examined: what its class has, or something new.
    pub fn unit_for_newcomer(&self, begins: impl Fn() -> Option<(UnitIndex, Option<Want>)>) -> Option<(UnitIndex, Option<Want>)> {
        let Some(class) = self.begins_for() else { return begins() };
        let units = self.job.classes.of(class);
        let shared = units.iter().rev().filter_map(|unit| self.open_to_member(*unit)).find(|(unit, _)| self.suits(*unit));
        shared.or_else(|| begins().filter(|_| units.iter().filter(|unit| !self.is_known(**unit)).count() < UNITS_MAX))
    }

    /// The unit of its class, if the newcomer could vote on it now. Asked for many units, and nearly all that are not decided are out.
    fn open_to_member(&self, index: UnitIndex) -> Option<(UnitIndex, Option<Want>)> {
        let unit = self.job.unit(index).filter(|unit| unit.votes.len() < VOTES_MAX)?;
        match unit.phase {
            _ if unit.votes.iter().any(|vote| vote.worker == self.worker) => None,
            Phase::Verified { .. } => Some((index, Some(Want::First))),
            _ if unit.leased > 0 => None,
            Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed | Phase::Failed => self.waiting(index),
        }
    }

    /// What the owner's slots do while they prove the first newcomers: units of the first class that lacks answers, or a new one for it.
    pub fn unit_for_owner(&self, fresh: impl Fn() -> Option<(UnitIndex, Option<Want>)>) -> Option<(UnitIndex, Option<Want>)> {
        let class = self.class_that_lacks_answers()?;
        self.best_of_class(self.job.classes.of(class)).or_else(fresh)
    }

    /// A unit with enough votes for a proven voter, of the first class that has one: spread over all classes, a few proven voters would
    /// finish none for a long time.
    pub fn unit_of_any_class(&self) -> Option<(UnitIndex, Option<Want>)> {
        let classes = &self.job.classes.units;
        // When a half is proven all classes are, and nobody pays for looking.
        if classes.is_empty() || 2 * self.proven_online > self.workers_online {
            return None;
        }
        let (mut focus, mut finished, mut waits) = (self.focus.borrow_mut(), true, false);
        if focus.no_class_before.is_some_and(|at| self.now < at) {
            return None;
        }
        for (class, units) in classes.range(focus.first_class..) {
            if finished {
                focus.first_class = *class;
                finished = units.iter().all(|unit| self.is_known(*unit));
            }
            if let Some(found) = self.best_of_class(units) {
                return Some(found);
            }
            waits |= units.iter().any(|unit| self.votes(*unit) >= VOTES_LEAST && self.waiting(*unit).is_some());
        }
        if !waits {
            focus.no_class_before = Some(self.now.after(CLASSES_PAUSE));
        }
        None
    }

    fn class_that_lacks_answers(&self) -> Option<Class> {
        let lacks = |units: &[UnitIndex]| units.iter().filter(|unit| self.is_known(**unit)).count() < ANSWERS_ENOUGH;
        let first = Class::at(0, self.workers_online).filter(|first| lacks(self.job.classes.of(*first)));
        first.or_else(|| self.job.classes.units.iter().find(|(_, units)| lacks(units)).map(|(class, _)| *class))
    }

    /// The one with most votes of those that wait, since all who voted gain by it.
    fn best_of_class(&self, units: &[UnitIndex]) -> Option<(UnitIndex, Option<Want>)> {
        let voted_on = units.iter().copied().filter(|unit| self.votes(*unit) >= VOTES_LEAST);
        let waiting = voted_on.filter_map(|unit| self.waiting(unit)).filter(|(unit, _)| self.suits(*unit));
        waiting.max_by_key(|(unit, _)| self.votes(*unit))
    }

    fn votes(&self, unit: UnitIndex) -> usize {
        self.job.unit(unit).map_or(0, |unit| unit.votes.len())
    }

    fn is_known(&self, unit: UnitIndex) -> bool {
        self.job.unit(unit).is_some_and(|unit| matches!(unit.phase, Phase::Verified { .. }))
    }

    /// The unit, if it waits for another vote, and whose.
    pub fn waiting(&self, unit: UnitIndex) -> Option<(UnitIndex, Option<Want>)> {
        if self.job.unit(unit).is_none_or(|unit| unit.leased > 0 || unit.phase.is_decided()) {
            return None;
        }
        let wants = [Want::Another(Voter::Proven), Want::Another(Voter::Anyone)];
        wants.into_iter().find(|want| self.job.wanted.set(*want).contains(&unit)).map(|want| (unit, Some(want)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_is_examined_in_classes_that_halve_as_more_come() {
        let places = || (0..4096u64).map(|number| number << (u64::BITS - 12));
        for workers in [64, 100, 1000, 4096] {
            let examined: Vec<Class> = places().filter_map(|place| Class::at(place, workers)).collect();
            assert_eq!(examined.len(), 2048);
            let mut members: BTreeMap<Class, usize> = BTreeMap::new();
            examined.iter().for_each(|class| *members.entry(*class).or_default() += 1);
            let share = members.values().map(|&members| members * workers / 4096);
            assert!(share.clone().all(|members| (CLASS..=2 * CLASS).contains(&members)), "{workers}: {:?}", share.collect::<Vec<_>>());
        }
        assert_eq!(Class::at(u64::MAX, 31), Class::at(0, 31), "few are one class");
        assert_eq!(Class::at(u64::MAX, 32), None);
        assert_eq!(Class::at(0, 64), Class::at(0, 4096), "the first half keeps the name");
    }

    #[test]
    fn what_a_class_remembers_is_bounded() {
        let mut classes = Classes::default();
        let class = Class(0);
        (0..1000).for_each(|unit| classes.begin(class, UnitIndex(unit)));
        assert_eq!((classes.of(class).len(), classes.of(class).last()), (REMEMBERED_MAX, Some(&UnitIndex(999))));
    }
}
