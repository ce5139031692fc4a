//! Links between peers: ordered and reliable while up, and gone with everything under way when they break.

use crate::protocol::time::Instant;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// A link, by its ends. A pair has at most one of each kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Via {
    /// The gossip connection of two peers, the lower first.
    Gossip(usize, usize),
    /// The work stream of a worker to a coordinator.
    Work {
        /// Who opened it.
        worker: usize,
        /// To whom.
        coordinator: usize,
    },
}

impl Via {
    /// The gossip connection of two peers.
    pub fn gossip(a: usize, b: usize) -> Self {
        Self::Gossip(a.min(b), a.max(b))
    }

    /// Both ends.
    pub fn ends(self) -> (usize, usize) {
        match self {
            Self::Gossip(a, b) => (a, b),
            Self::Work { worker, coordinator } => (worker, coordinator),
        }
    }
}

/// Tells a link from an earlier one of the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Epoch(u64);

/// All links that are up, and who can reach whom.
#[derive(Clone, Debug, Default)]
pub struct Links {
    up: BTreeMap<Via, Epoch>,
    epochs: u64,
    /// When the last message from one peer to another arrives: no later one overtakes it.
    arrivals: BTreeMap<(usize, usize), Instant>,
    /// Peers on the far side of a split.
    far_side: BTreeSet<usize>,
}

impl Links {
    /// Whether a packet gets from one peer to the other.
    pub fn reachable(&self, a: usize, b: usize) -> bool {
        self.far_side.contains(&a) == self.far_side.contains(&b)
    }

    /// Splits the grid, or heals it with nobody on the far side. Returns the links that this breaks.
    pub fn split(&mut self, far_side: BTreeSet<usize>) -> Vec<Via> {
        self.far_side = far_side;
        self.up.keys().filter(|via| !self.reachable(via.ends().0, via.ends().1)).copied().collect()
    }

    /// A link comes up; `None` when it is up already.
    pub fn open(&mut self, via: Via) -> Option<Epoch> {
        if self.up.contains_key(&via) {
            return None;
        }
        self.epochs += 1;
        self.up.insert(via, Epoch(self.epochs));
        Some(Epoch(self.epochs))
    }

    /// A link goes down. Returns whether it was up.
    pub fn close(&mut self, via: Via) -> bool {
        self.up.remove(&via).is_some()
    }

    /// The link that is up now.
    pub fn epoch(&self, via: Via) -> Option<Epoch> {
        self.up.get(&via).copied()
    }

    /// All links that are up.
    pub fn all(&self) -> impl Iterator<Item = Via> {
        self.up.keys().copied()
    }

    /// When a message sent now arrives: after `delay`, and behind everything sent before it.
    pub fn arrival(&mut self, now: Instant, from: usize, to: usize, delay: Duration) -> Instant {
        let last = self.arrivals.entry((from, to)).or_default();
        *last = now.after(delay).max(last.after(Duration::from_micros(1)));
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_do_not_overtake_one_another() {
        let mut links = Links::default();
        let first = links.arrival(Instant(0), 1, 2, Duration::from_millis(9));
        let second = links.arrival(Instant(1), 1, 2, Duration::from_millis(1));
        assert!(second > first);
        assert!(links.arrival(Instant(1), 2, 1, Duration::from_millis(1)) < first, "the other way is free");
    }

    #[test]
    fn a_split_breaks_what_crosses_it() {
        let mut links = Links::default();
        let (inside, across) = (Via::gossip(2, 1), Via::Work { worker: 1, coordinator: 3 });
        let before = links.open(across);
        links.open(inside);
        assert_eq!(links.open(across), None);
        assert_eq!(links.split(BTreeSet::from([3])), [across]);
        assert!(links.close(across) && !links.close(across));
        assert!(!links.reachable(1, 3) && links.reachable(1, 2));
        links.split(BTreeSet::new());
        assert_ne!(links.open(across), before, "a new link is not the old one");
    }
}
