//! Whom proven executions go to first: a few newcomers at a time, until each of them is proven.
//!
//! A newcomer is proven by twenty units that proven voters back. Spread evenly over thousands of newcomers, their executions would prove
//! nobody for a long time; spent on as many newcomers as there are proven voters, they double that number in about the time of twenty units
//! each. And where two newcomers vote on a unit, one execution backs both: so while few are proven, newcomers are paired with their
//! neighbours on a circle, and neighbours are proven one after the other, by half as many executions. Where there are very many newcomers,
//! whole classes are proven together (`exam`).
//!
//! Each one's place on the circle is drawn with the job's secret: were it the order in which they come, conspirators who come together
//! would be paired with one another. As things are, each pair is as likely to conspire as one drawn from all. No two newcomers verify
//! anything: that takes a proven vote as ever.

use super::exam::Class;
use crate::protocol::{
    ids::{Digest, PeerId},
    time::Instant,
    verify::JobSecret,
};
use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Voters looked at who were not begun with yet: a warm job has no newcomers, and must not pay for looking for them.
const LOOKED_AT: usize = 4;
/// Of those who were begun with, so many are looked at.
const BEGUN_LOOKED_AT: usize = 4;
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
        let place = (self.place(secret, voter), voter);
        let after = self.circle.range((Bound::Excluded(place), Bound::Unbounded)).chain(&self.circle).take(NEIGHBOURS);
        let before = self.circle.range(..place).rev().chain(self.circle.iter().rev()).take(NEIGHBOURS);
        let (mut near, far): (Vec<_>, Vec<_>) =
            if pivot.is_multiple_of(2) { (after.collect(), before.collect()) } else { (before.collect(), after.collect()) };
        near.extend(far);
        near.into_iter().map(|(_, mate)| *mate).filter(move |mate| *mate != voter)
    }

    /// Where somebody stands.
    pub fn place(&self, secret: &JobSecret, voter: PeerId) -> u64 {
        self.places.get(&voter).copied().unwrap_or_else(|| draw_place(secret, voter))
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
    /// Who was begun with and is not proven yet; the first of them had something to be backed when it was looked at last.
    begun: VecDeque<PeerId>,
    /// The same as a set.
    taken: BTreeSet<PeerId>,
    /// Where on the circle the search for more goes on.
    cursor: Option<Place>,
    /// Before this one all classes are finished.
    pub first_class: Class,
    /// No class has anything for proven voters before.
    pub no_class_before: Option<Instant>,
}

impl Focus {
    /// Something to be done for one of them, of which `of` knows: for one that was begun with if there is anything, so that it is finished
    /// before others are begun with, and otherwise for the next on the circle who is a newcomer.
    pub fn next<T>(&mut self, entrants: &Entrants, is_newcomer: impl Fn(PeerId) -> bool, of: impl Fn(PeerId) -> Option<T>) -> Option<T> {
        for _ in 0..BEGUN_LOOKED_AT.min(self.begun.len()) {
            let voter = self.begun.pop_front()?;
            if !is_newcomer(voter) {
                self.taken.remove(&voter);
                continue;
            }
            let found = of(voter);
            self.take_in(voter, found.is_some());
            if found.is_some() {
                return found;
            }
        }
        for _ in 0..LOOKED_AT.min(entrants.circle.len()) {
            self.cursor = entrants.after(self.cursor);
            let (_, voter) = self.cursor?;
            if self.taken.contains(&voter) || !is_newcomer(voter) {
                continue;
            }
            self.taken.insert(voter);
            let found = of(voter);
            self.take_in(voter, found.is_some());
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn take_in(&mut self, voter: PeerId, first: bool) {
        if first { self.begun.push_front(voter) } else { self.begun.push_back(voter) }
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
        assert_eq!(focus.next(&entrants, newcomer, Some), Some(order[1]), "0 is proven");
        assert_eq!(focus.next(&entrants, newcomer, Some), Some(order[1]), "as long as there is something to be done for it");
        let but_1 = |voter: PeerId| Some(voter).filter(|voter| *voter != order[1]);
        assert_eq!(focus.next(&entrants, newcomer, but_1), Some(order[2]), "nothing of 1 waits now");
        assert_eq!(
            focus.next(&entrants, |voter| newcomer(voter) && voter != order[2], Some),
            Some(order[1]),
            "now something does; 2 is proven"
        );
        assert_eq!(focus.next(&entrants, newcomer, |_| None::<()>), None);
        assert_eq!(focus.next(&entrants, |_| false, Some), None);
        assert_eq!((focus.begun.len(), focus.taken.len()), (0, 0), "whoever is proven is forgotten");
    }
}
