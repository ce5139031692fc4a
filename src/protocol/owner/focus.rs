//! Whom proven executions go to first: a few newcomers at a time, until each of them is proven.
//!
//! A newcomer is proven by twenty units that proven voters back. Spread evenly over thousands of newcomers, their executions would prove
//! nobody for a long time; spent on as many newcomers as there are proven voters, they double that number in about the time of twenty units
//! each. And where two newcomers vote on a unit, one execution backs both: so newcomers are paired within small groups, and a group is
//! proven by half as many executions. Who is in which group is of no importance, so it is the order in which they first voted. No two of
//! them can verify anything: that takes a proven vote as ever.

use crate::protocol::ids::PeerId;
use std::collections::{BTreeMap, VecDeque};

/// The most newcomers at a time: with more proven voters than this their number grows fast enough.
const FOCUS_MAX: usize = 128;
/// Voters looked at when there is room: a warm job has no newcomers, and must not pay for looking for them.
const LOOKED_AT: usize = 4;
/// Newcomers in a group: each can meet each other once in the units that it may have pending.
const GROUP: usize = 16;

/// All who have voted on a job, in the order of their first votes.
#[derive(Clone, Debug, Default)]
pub(super) struct Entrants {
    order: Vec<PeerId>,
    place: BTreeMap<PeerId, usize>,
}

impl Entrants {
    /// It has voted.
    pub fn enter(&mut self, voter: PeerId) {
        let Self { order, place } = self;
        place.entry(voter).or_insert_with(|| {
            order.push(voter);
            order.len() - 1
        });
    }

    /// The others of its group, from one drawn by `pivot` on and round; of the group that it is about to join, before it has voted.
    pub fn mates(&self, voter: PeerId, pivot: u32) -> impl Iterator<Item = PeerId> {
        let first = self.place.get(&voter).copied().unwrap_or(self.order.len()) / GROUP * GROUP;
        let group = &self.order[first..self.order.len().min(first + GROUP)];
        let (before, after) = group.split_at(pivot as usize % group.len().max(1));
        after.iter().chain(before).copied().filter(move |mate| *mate != voter)
    }
}

/// The newcomers of a job who are to be proven next.
#[derive(Clone, Debug, Default)]
pub(super) struct Focus {
    members: Vec<PeerId>,
    /// Who was a member, is not proven yet, and had nothing left that could be backed: it comes before those who were none.
    begun: VecDeque<PeerId>,
    /// Where among the entrants the search for more goes on.
    cursor: usize,
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
            for _ in 0..LOOKED_AT {
                let Some(voter) = entrants.order.get(self.cursor).copied() else { break };
                if self.members.len() >= room {
                    break;
                }
                self.cursor += 1;
                if self.take_in(voter, &is_newcomer, &waits) {
                    break;
                }
            }
        }
        let at = pivot as usize % self.members.len().max(1);
        self.members.get(at).map(|voter| (at, *voter))
    }

    fn take_in(&mut self, voter: PeerId, is_newcomer: impl Fn(PeerId) -> bool, waits: impl Fn(PeerId) -> bool) -> bool {
        let waiting = is_newcomer(voter) && waits(voter);
        if waiting {
            self.members.push(voter);
        } else if is_newcomer(voter) {
            self.begun.push_back(voter);
        }
        waiting
    }

    /// There is nothing to be done for this one now, or never any more.
    pub fn drop(&mut self, at: usize, is_newcomer: bool) {
        let member = self.members.swap_remove(at);
        if is_newcomer {
            self.begun.push_back(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mates_are_those_who_first_voted_at_about_the_same_time() {
        let mut entrants = Entrants::default();
        let peer = |number: usize| PeerId([number as u8; 32]);
        (0..GROUP + 2).chain(0..3).for_each(|number| entrants.enter(peer(number)));
        for pivot in 0..40 {
            let mut mates: Vec<_> = entrants.mates(peer(3), pivot).collect();
            mates.sort_unstable();
            assert_eq!(mates, (0..GROUP).filter(|number| *number != 3).map(peer).collect::<Vec<_>>());
            assert_eq!(entrants.mates(peer(GROUP), pivot).collect::<Vec<_>>(), [peer(GROUP + 1)]);
            assert_eq!(entrants.mates(peer(99), pivot).count(), 2);
        }
    }
    #[test]
    fn whoever_is_begun_with_is_finished_before_others_are_begun_with() {
        let (mut focus, mut entrants) = (Focus::default(), Entrants::default());
        let peer = |number: u8| PeerId([number; 32]);
        (0..6).for_each(|number| entrants.enter(peer(number)));
        let newcomer = |voter: PeerId| voter != peer(0);
        assert_eq!(focus.draw(7, 1, &entrants, newcomer, |_| true), Some((0, peer(1))), "0 is proven, and one at a time is enough");
        assert_eq!(focus.draw(8, 2, &entrants, newcomer, |_| true), Some((0, peer(1))));
        assert_eq!(focus.draw(9, 2, &entrants, newcomer, |_| true), Some((1, peer(2))), "two who are proven prove two");
        focus.drop(0, true);
        assert_eq!(focus.draw(0, 2, &entrants, newcomer, |voter| voter != peer(1)), Some((0, peer(2))));
        assert_eq!(focus.members, [peer(2), peer(3)], "nothing of 1 waits now");
        focus.drop(1, false);
        focus.draw(0, 2, &entrants, newcomer, |_| true);
        assert_eq!(focus.members, [peer(2), peer(1)], "now something does; 3 is proven");
    }
}
