//! Whom proven executions go to first: a few newcomers at a time, until each of them is proven.
//!
//! A newcomer is proven by twenty units that proven voters back. Spread evenly over thousands of newcomers, their executions would prove
//! nobody for a long time; spent on as many newcomers as there are proven voters, they double that number in about the time of twenty units
//! each. And where two newcomers vote on a unit, one execution backs both: so newcomers are paired with their neighbours on a circle, and
//! neighbours are proven one after the other, by half as many executions. Each one's place on the circle is drawn with the job's secret:
//! were it the order in which they come, conspirators who come together would be paired with one another. As things are, each pair is as
//! likely to conspire as one drawn from all. No two newcomers verify anything: that takes a proven vote as ever.

use crate::protocol::{
    ids::{Digest, PeerId},
    verify::JobSecret,
};
use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most newcomers at a time: with more proven voters than this their number grows fast enough.
const FOCUS_MAX: usize = 128;
/// Voters looked at when there is room: a warm job has no newcomers, and must not pay for looking for them.
const LOOKED_AT: usize = 4;
/// Neighbours of a newcomer on either side: it meets each once or twice in the units that it may have pending.
const NEIGHBOURS: usize = 8;

/// Where somebody stands on the circle.
type Place = (u64, PeerId);

/// All who have voted on a job, in the order of places drawn with its secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Entrants {
    circle: BTreeSet<Place>,
    places: BTreeMap<PeerId, u64>,
}

impl Entrants {
    /// It has voted.
    pub fn enter(&mut self, secret: &JobSecret, voter: PeerId) {
        let Self { circle, places } = self;
        places.entry(voter).or_insert_with(|| {
            let place = draw_place(secret, voter);
            circle.insert((place, voter));
            place
        });
    }

    /// Those beside it on the circle, the ones behind it first or, where `pivot` is odd, those before it.
    pub fn mates(&self, secret: &JobSecret, voter: PeerId, pivot: u32) -> impl Iterator<Item = PeerId> {
        let place = (self.places.get(&voter).copied().unwrap_or_else(|| draw_place(secret, voter)), voter);
        let after = self.circle.range((Bound::Excluded(place), Bound::Unbounded)).chain(&self.circle).take(NEIGHBOURS);
        let before = self.circle.range(..place).rev().chain(self.circle.iter().rev()).take(NEIGHBOURS);
        let (mut near, far): (Vec<_>, Vec<_>) =
            if pivot.is_multiple_of(2) { (after.collect(), before.collect()) } else { (before.collect(), after.collect()) };
        near.extend(far);
        near.into_iter().map(|(_, mate)| *mate).filter(move |mate| *mate != voter)
    }

    /// Who comes next on the circle.
    fn after(&self, cursor: Option<Place>) -> Option<Place> {
        let behind = cursor.and_then(|cursor| self.circle.range((Bound::Excluded(cursor), Bound::Unbounded)).next());
        behind.or_else(|| self.circle.first()).copied()
    }
}

fn draw_place(secret: &JobSecret, voter: PeerId) -> u64 {
    let mut place = [0; 8];
    place.copy_from_slice(&Digest::of_parts(&[&secret.0, b"place", voter.as_bytes()]).0[..8]);
    u64::from_le_bytes(place)
}

/// The newcomers of a job who are to be proven next.
#[derive(Clone, Debug, Default)]
pub(super) struct Focus {
    members: Vec<PeerId>,
    /// Who was a member, is not proven yet, and had nothing left that could be backed: it comes before those who were none.
    begun: VecDeque<PeerId>,
    /// All of both.
    taken: BTreeSet<PeerId>,
    /// Where on the circle the search for more goes on.
    cursor: Option<Place>,
}

impl Focus {
    /// One of them, drawn by `pivot`, after looking for another where there are fewer than proven voters: one of whom `waits` says that
    /// there is something to be done for it.
    pub fn draw(
        &mut self,
        pivot: u32,
        proven_online: usize,
        entrants: &Entrants,
        is_newcomer: impl Fn(PeerId) -> bool,
        waits: impl Fn(PeerId) -> bool,
    ) -> Option<(usize, PeerId)> {
        let room = proven_online.clamp(1, FOCUS_MAX);
        if self.members.len() < room {
            for _ in 0..LOOKED_AT.min(self.begun.len()) {
                let Some(voter) = self.begun.pop_front() else { break };
                if self.take_in(voter, &is_newcomer, &waits) {
                    break;
                }
            }
        }
        if self.members.len() < room {
            for _ in 0..LOOKED_AT.min(entrants.circle.len()) {
                self.cursor = entrants.after(self.cursor);
                let Some((_, voter)) = self.cursor else { break };
                if !self.taken.contains(&voter) && self.take_in(voter, &is_newcomer, &waits) {
                    break;
                }
            }
        }
        let at = pivot as usize % self.members.len().max(1);
        self.members.get(at).map(|voter| (at, *voter))
    }

    fn take_in(&mut self, voter: PeerId, is_newcomer: impl Fn(PeerId) -> bool, waits: impl Fn(PeerId) -> bool) -> bool {
        if !is_newcomer(voter) {
            self.taken.remove(&voter);
            return false;
        }
        self.taken.insert(voter);
        let waiting = waits(voter);
        if waiting {
            self.members.push(voter)
        } else {
            self.begun.push_back(voter)
        }
        waiting
    }

    /// There is nothing to be done for this one now, or never any more.
    pub fn drop(&mut self, at: usize, is_newcomer: bool) {
        let member = self.members.swap_remove(at);
        if is_newcomer {
            self.begun.push_back(member);
        } else {
            self.taken.remove(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: JobSecret = JobSecret([3; 32]);

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    fn entrants(numbers: impl IntoIterator<Item = u8>) -> Entrants {
        let mut entrants = Entrants::default();
        numbers.into_iter().for_each(|number| entrants.enter(&SECRET, peer(number)));
        entrants
    }

    #[test]
    fn mates_do_not_depend_on_who_came_when() {
        let (one, other) = (entrants(0..100), entrants((0..100).rev()));
        for number in [0, 7, 99, 200] {
            let mates: Vec<_> = one.mates(&SECRET, peer(number), 1).collect();
            assert_eq!(mates, other.mates(&SECRET, peer(number), 1).collect::<Vec<_>>());
            assert_eq!((mates.len(), mates.contains(&peer(number))), (2 * NEIGHBOURS, false));
            assert!(mates.iter().any(|mate| mate.0[0].abs_diff(number) > 20), "{mates:?}");
        }
        assert_eq!(entrants([5]).mates(&SECRET, peer(5), 0).count(), 0);
        assert!(entrants([5]).mates(&SECRET, peer(6), 0).all(|mate| mate == peer(5)));
    }

    #[test]
    fn whoever_is_begun_with_is_finished_before_others_are_begun_with() {
        let (mut focus, entrants) = (Focus::default(), entrants(0..6));
        let order: Vec<PeerId> = entrants.circle.iter().map(|(_, voter)| *voter).collect();
        let newcomer = |voter: PeerId| voter != order[0];
        assert_eq!(focus.draw(7, 1, &entrants, newcomer, |_| true), Some((0, order[1])), "0 is proven, and one at a time is enough");
        assert_eq!(focus.draw(8, 2, &entrants, newcomer, |_| true), Some((0, order[1])));
        assert_eq!(focus.draw(9, 2, &entrants, newcomer, |_| true), Some((1, order[2])), "two who are proven prove two");
        focus.drop(0, true);
        assert_eq!(focus.draw(0, 2, &entrants, newcomer, |voter| voter != order[1]), Some((0, order[2])));
        assert_eq!(focus.members, [order[2], order[3]], "nothing of 1 waits now");
        focus.drop(1, false);
        focus.draw(0, 2, &entrants, newcomer, |_| true);
        assert_eq!(focus.members, [order[2], order[1]], "now something does; 3 is proven");
    }
}
