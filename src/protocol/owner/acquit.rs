//! Convictions that turn out to be wrong: two who conspire and met by chance had a newcomer convicted who contradicted them.
//!
//! When they are caught, the unit is judged again and comes to the value that the newcomer said all along. Then its conviction is taken
//! back, and its votes count again. Each worker is acquitted once at most, so that nobody goes in and out for ever. What a conviction
//! rested on is not durable: after a restart nobody is acquitted of what was before it.

use super::{Owner, own_job::OwnJob};
use crate::protocol::{
    ids::{JobId, PeerId, UnitIndex},
    outcome::Value,
};
use std::collections::{BTreeSet, VecDeque};

impl OwnJob {
    /// Who was convicted because of this unit, and said what it is verified with now.
    pub fn acquitted_by(&mut self, index: UnitIndex, value: Value) -> Vec<PeerId> {
        let Some(convicted) = self.convicted_on.get_mut(&index) else { return Vec::new() };
        let votes = &self.units[index.0 as usize].votes;
        let right = |worker: &PeerId| votes.iter().any(|vote| vote.worker == *worker && vote.value == value);
        let acquitted: Vec<PeerId> = convicted.iter().filter(|worker| right(worker)).copied().collect();
        convicted.retain(|worker| !acquitted.contains(worker));
        acquitted
    }

    /// The worker's votes count again, but for those that rest on somebody else as well. Returns their units.
    fn unstrike(&mut self, worker: PeerId) -> Vec<UnitIndex> {
        if self.foreign.as_ref().is_some_and(|foreign| foreign.bars(worker)) {
            return Vec::new();
        }
        let mut units = self.voted_on.get(&worker).cloned().unwrap_or_default();
        units.retain(|index| !self.rests.contains_key(&(*index, worker)));
        for index in &units {
            let votes = self.units[index.0 as usize].votes.iter_mut();
            votes.filter(|vote| vote.worker == worker).for_each(|vote| vote.struck = false);
        }
        units
    }
}

impl Owner {
    /// Takes a conviction back.
    pub(super) fn acquit(&mut self, worker: PeerId, queue: &mut VecDeque<(JobId, UnitIndex)>) -> BTreeSet<JobId> {
        let mut concerned = BTreeSet::new();
        if !self.acquitted.insert(worker) {
            return concerned;
        }
        self.trust.acquit(worker);
        self.touched.insert(worker);
        if self.trust.standing(worker).strikes == 0 {
            for (id, job) in &mut self.jobs {
                let again = job.unstrike(worker);
                if !again.is_empty() {
                    concerned.insert(*id);
                }
                queue.extend(again.into_iter().map(|unit| (*id, unit)));
            }
        }
        self.note_standing(worker);
        concerned
    }
}
