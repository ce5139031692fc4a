//! Chooses a unit of one job for one worker.

use super::{focus::Focus, lease::LeaseKey, own_job::OwnJob, unit::Want};
use crate::protocol::{
    ids::{PeerId, UnitIndex},
    platform::Platform,
    time::Instant,
    trust::Trust,
    verify::{COLD_BELOW_PROVEN_PEERS, Voter},
};
use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use std::collections::BTreeSet;

/// The most units that a newcomer may be involved in without their being decided, so that a swarm of new keys cannot fill a job.
pub const NEWCOMER_PENDING_MAX: u32 = 20;
/// How many units are looked at for one offer before the next set is tried.
const CANDIDATES_MAX: usize = 16;
/// How many of a newcomer's votes are looked at: more than may wait for a decision.
const VOTES_LOOKED_AT: usize = 32;
/// When so many who are proven for a job's other units have said what one takes, only those who are proven for that are asked for more.
const CLAIMS_BELIEVED: usize = 3;
/// How long a worker that failed on a unit is not asked again while there are others who did not.
const SAME_WORKER_AGAIN: Duration = Duration::from_secs(10);

/// One worker's view of one job.
pub(super) struct Picker<'a> {
    pub job: &'a OwnJob,
    pub trust: &'a Trust,
    pub worker: PeerId,
    pub me: PeerId,
    /// Its instruction set.
    pub platform: Platform,
    /// The worker's vote can carry a verdict.
    pub proven: bool,
    /// What the job's units take, see [`OwnJob::gas_estimate`].
    pub gas: u64,
    /// Leases that the worker holds, of any job.
    pub holds: &'a BTreeSet<LeaseKey>,
    pub proven_online: usize,
    /// Nobody else is proven, or so few that the owner's slots are most of what is.
    pub proves_alone: bool,
    pub proven_within_reach: bool,
    /// Slots that the owner itself lends to its jobs.
    pub own_slots: usize,
    pub workers_online: usize,
    /// Where in the sets to begin: drawn anew for each unit.
    pub pivot: u32,
    pub now: Instant,
    /// When a unit that was kept from the worker may be given to it.
    pub again_at: Cell<Option<Instant>>,
    /// The job's, for as long as this looks at it.
    pub focus: RefCell<Focus>,
}

impl Picker<'_> {
    /// The unit and the set that it is in; `None` for the set: it was never leased.
    pub fn pick(&self) -> Option<(UnitIndex, Option<Want>)> {
        let fresh = || {
            let next = UnitIndex(self.job.wanted.fresh);
            (next.0 < self.job.counts.units).then_some((next, None))
        };
        let from = |want: Want| self.best_of(want).map(|unit| (unit, Some(want)));
        let (any, proven) = (Want::Another(Voter::Anyone), Want::Another(Voter::Proven));
        if self.worker != self.me && self.job.bars(self.worker, self.platform) {
            return None;
        }
        if let Some(left) = self.unit_left_behind() {
            return Some(left);
        }
        if self.worker == self.me {
            let judge = self.worst_dispute().map(|unit| (unit, Some(Want::Owner)));
            // The owner's own votes settle a unit at once. While its slots are most of what is proven they prove the first newcomers.
            return if self.proves_alone {
                let examination = || self.examines().then(|| self.unit_for_owner(fresh)).flatten();
                judge
                    .or_else(examination)
                    .or_else(|| self.unit_in_focus())
                    .or_else(|| from(proven))
                    .or_else(|| from(any))
                    .or_else(|| from(Want::First))
                    .or_else(fresh)
            } else {
                judge.or_else(|| from(Want::First)).or_else(fresh).or_else(|| from(any)).or_else(|| from(proven))
            };
        }
        if self.proven {
            let carries = |want: Want| self.best_such(want, |unit| self.carries_verdict(unit)).map(|unit| (unit, Some(want)));
            let found = |found: &(UnitIndex, Option<Want>)| self.carries_verdict(found.0);
            let wanted = carries(Want::Another(Voter::OnPlatform(self.platform)))
                .or_else(|| self.unit_of_jury())
                .or_else(|| self.unit_of_any_class().filter(found))
                .or_else(|| self.unit_in_focus().filter(found))
                .or_else(|| carries(proven))
                .or_else(|| from(any));
            return wanted.or_else(|| from(Want::First)).or_else(fresh);
        }
        if !self.newcomer_may_have_more() {
            return None;
        }
        let begins = || from(Want::First).or_else(fresh);
        if self.examines() {
            return self.unit_for_newcomer(begins);
        }
        let confirms = || self.best_such(any, |unit| self.has_proven_vote(unit)).map(|unit| (unit, Some(any)));
        let beside = || self.unit_of_mate().filter(|_| self.proven_online < COLD_BELOW_PROVEN_PEERS);
        confirms().or_else(beside).or_else(begins).or_else(|| from(any))
    }

    /// Whether the worker may run a unit that another runs already, and that wanted this.
    pub fn may_back_up(&self, unit: UnitIndex, want: Want) -> bool {
        let allowed = match want {
            _ if self.worker == self.me => true,
            Want::Owner => false,
            _ if self.job.bars(self.worker, self.platform) => false,
            Want::Another(Voter::Proven) => self.carries_verdict(unit),
            Want::Another(Voter::OnPlatform(platform)) => self.carries_verdict(unit) && self.platform == platform,
            Want::First | Want::Another(Voter::Anyone) => self.proven || self.newcomer_may_have_more(),
        };
        allowed && self.suits(unit)
    }

    /// Whether the worker is proven for what this unit takes, which may be much more than others of the job do: else its vote would be
    /// one more that does not tell. That it takes so much a few must have said who are proven for the others.
    fn carries_verdict(&self, index: UnitIndex) -> bool {
        let votes = self.job.unit(index).map_or(&[][..], |unit| &unit.votes);
        let claims = || votes.iter().filter(|vote| !vote.struck && self.job.trusts(vote.worker, self.gas, self.trust));
        let known = votes.len() >= CLAIMS_BELIEVED && claims().count() >= CLAIMS_BELIEVED;
        let gas = if known { claims().map(|vote| vote.value.gas).min().unwrap_or(0) } else { 0 };
        self.proven && (gas <= self.gas || self.job.trusts(self.worker, gas, self.trust))
    }

    fn newcomer_may_have_more(&self) -> bool {
        self.job.pending(self.worker, self.proven_within_reach) as usize + self.holds.len() < NEWCOMER_PENDING_MAX as usize
    }

    /// A unit that the worker had begun when it was lost: nobody else can go on with it and stand for the result alone.
    fn unit_left_behind(&self) -> Option<(UnitIndex, Option<Want>)> {
        let trusted = self.proven || self.worker == self.me;
        let wants = [Want::First, Want::Another(Voter::Anyone), Want::Another(Voter::Proven)];
        let wants = || wants.into_iter().filter(|want| trusted || *want != Want::Another(Voter::Proven));
        let waiting = |unit: UnitIndex| wants().find(|want| self.job.wanted.set(*want).contains(&unit)).map(|want| (unit, Some(want)));
        let left = self.job.checkpoints.by(self.worker).take(CANDIDATES_MAX).filter(|unit| self.suits(*unit));
        left.filter_map(waiting).next().filter(|_| trusted || self.newcomer_may_have_more())
    }

    /// The dispute that the owner decides next; where none waits for it, one that is before a jury, which may find no jurors.
    fn worst_dispute(&self) -> Option<UnitIndex> {
        self.job.worst_disputes(self.trust).into_iter().chain(self.job.juries.units()).find(|unit| self.suits(*unit))
    }

    /// A dispute whose jury the worker was drawn for.
    fn unit_of_jury(&self) -> Option<(UnitIndex, Option<Want>)> {
        let unit = self.job.juries.units_of(self.worker).find(|unit| self.suits(*unit));
        unit.map(|unit| (unit, Some(Want::Owner)))
    }

    /// A suitable unit of a set, beginning at a random place.
    fn best_of(&self, want: Want) -> Option<UnitIndex> {
        self.best_such(want, |_| true)
    }

    /// The same, of those that are such.
    fn best_such(&self, want: Want, such: impl Fn(UnitIndex) -> bool) -> Option<UnitIndex> {
        let set = self.job.wanted.set(want);
        if set.is_empty() {
            return None;
        }
        let pivot = UnitIndex(self.pivot % self.job.counts.units.max(1));
        let around = set.range(pivot..).chain(set.range(..pivot)).take(CANDIDATES_MAX).copied();
        let mut suitable = around.filter(|&unit| such(unit) && self.suits(unit));
        suitable.next()
    }

    fn has_proven_vote(&self, unit: UnitIndex) -> bool {
        let votes = self.job.unit(unit).map_or(&[][..], |unit| &unit.votes);
        votes.iter().any(|vote| !vote.struck && self.trust.is_proven(vote.worker, self.gas))
    }

    /// A unit of one of the newcomers who are to be proven next, and the set that it is in.
    fn unit_in_focus(&self) -> Option<(UnitIndex, Option<Want>)> {
        let is_newcomer =
            |peer: PeerId| peer != self.me && !self.job.trusts(peer, self.gas, self.trust) && !self.trust.is_barred(peer, self.now);
        self.focus.borrow_mut().next(&self.job.entrants, is_newcomer, |voter| self.unit_of(voter))
    }

    /// A unit that waits for another vote and has this voter's: the one with most votes, since all who voted gain by it.
    fn unit_of(&self, voter: PeerId) -> Option<(UnitIndex, Option<Want>)> {
        let voted_on = self.job.voted_on.get(&voter).map(Vec::as_slice).unwrap_or_default();
        let waiting = voted_on.iter().rev().take(VOTES_LOOKED_AT).filter_map(|unit| self.waiting(*unit));
        waiting.filter(|(unit, _)| self.suits(*unit)).max_by_key(|(unit, _)| self.job.unit(*unit).map_or(0, |unit| unit.votes.len()))
    }

    /// A unit that a neighbour of the newcomer has voted on, and that wants another vote.
    fn unit_of_mate(&self) -> Option<(UnitIndex, Option<Want>)> {
        let any = Want::Another(Voter::Anyone);
        let mates = self.job.entrants.mates(&self.job.secret, self.worker, self.pivot);
        let unit = mates.into_iter().find_map(|mate| self.waiting_unit_of(mate, any));
        unit.map(|unit| (unit, Some(any)))
    }

    fn waiting_unit_of(&self, voter: PeerId, want: Want) -> Option<UnitIndex> {
        let set = self.job.wanted.set(want);
        let voted_on = self.job.voted_on.get(&voter).filter(|_| !set.is_empty()).map(Vec::as_slice).unwrap_or_default();
        let newest = voted_on.iter().rev().take(VOTES_LOOKED_AT);
        newest.copied().find(|unit| set.contains(unit) && self.suits(*unit))
    }

    /// Whether this worker's vote would be independent of those that the unit has.
    pub fn suits(&self, index: UnitIndex) -> bool {
        let Some(unit) = self.job.unit(index) else { return false };
        // Enough have said what it is, and nobody has the output any more: whoever can compute it is welcome.
        let lacks_output = unit.output_wanted;
        if !lacks_output && unit.votes.iter().any(|vote| vote.worker == self.worker) {
            return false;
        }
        // It runs the unit already, and one worker has one vote.
        let (first, last) = LeaseKey::bounds(self.job.id, index);
        if self.holds.range(first..=last).next().is_some() {
            return false;
        }
        if self.worker == self.me {
            return true;
        }
        if lacks_output {
            return !self.failed_lately(index);
        }
        if self.failed_lately(index) {
            return false;
        }
        self.job.is_independent(index, self.worker, self.trust)
    }

    /// Whoever failed on a unit is asked again when everybody else has failed as well, or after a while.
    fn failed_lately(&self, index: UnitIndex) -> bool {
        let Some(record) = self.job.failures.get(&index) else { return false };
        let again_at = record.last_at.after(SAME_WORKER_AGAIN);
        if !record.workers.contains(&self.worker) || record.workers.len() >= self.workers_online || again_at <= self.now {
            return false;
        }
        self.again_at.set(Some(self.again_at.get().map_or(again_at, |at| at.min(again_at))));
        true
    }
}
