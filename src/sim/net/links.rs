//! Links between peers: ordered and reliable while up, and gone with everything under way when they break.
//!
//! A packet that gets lost shows as delay, since the transport sends it again; what a link that breaks still carried is lost for good.
//! Order is kept within one link only: what two peers say on two links, or before and after a break, may cross. An end may learn late
//! that its link is gone, but always before it learns of a new one of the same name.

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
    /// The stream on which an author copies its jobs to a keeper.
    Keep {
        /// Who opened it.
        author: usize,
        /// To whom.
        keeper: usize,
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
            Self::Keep { author, keeper } => (author, keeper),
        }
    }

    /// Where a peer stands in what is kept for each end.
    fn side(self, end: usize) -> usize {
        usize::from(self.ends().0 != end)
    }
}

/// Tells a link from an earlier one of the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Epoch(u64);

/// A link that is up, or was.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    up: Option<Epoch>,
    /// When the last message from each end arrives: no later one overtakes it.
    arrivals: [Instant; 2],
    /// The link that is gone, at an end which has not learnt it.
    unnoticed: [Option<Epoch>; 2],
}

impl Link {
    /// Nothing depends on it any more.
    fn is_over(&self, now: Instant) -> bool {
        self.up.is_none() && self.unnoticed == [None; 2] && self.arrivals.iter().all(|last| *last <= now)
    }
}

/// All links, and who can reach whom.
#[derive(Clone, Debug)]
pub struct Links {
    /// Of each peer those of which it is the first end.
    by_first: Vec<BTreeMap<Via, Link>>,
    /// Of each peer the others.
    by_second: Vec<BTreeSet<Via>>,
    epochs: u64,
    up: usize,
    /// Peers on the far side of a split.
    far_side: BTreeSet<usize>,
}

impl Links {
    /// No links between so many peers.
    pub fn new(peers: usize) -> Self {
        let (by_first, by_second) = (vec![BTreeMap::new(); peers], vec![BTreeSet::new(); peers]);
        Self { by_first, by_second, epochs: 0, up: 0, far_side: BTreeSet::new() }
    }

    /// Whether a packet gets from one peer to the other.
    pub fn reachable(&self, a: usize, b: usize) -> bool {
        self.far_side.is_empty() || self.far_side.contains(&a) == self.far_side.contains(&b)
    }

    /// Splits the grid, or heals it with nobody on the far side. Returns the links that this breaks.
    pub fn split(&mut self, far_side: BTreeSet<usize>) -> Vec<Via> {
        self.far_side = far_side;
        self.all().filter(|via| !self.reachable(via.ends().0, via.ends().1)).collect()
    }

    fn link(&self, via: Via) -> Option<&Link> {
        self.by_first[via.ends().0].get(&via)
    }

    fn link_mut(&mut self, via: Via) -> &mut Link {
        let (first, second) = via.ends();
        if !self.by_first[first].contains_key(&via) {
            self.by_second[second].insert(via);
        }
        self.by_first[first].entry(via).or_default()
    }

    /// A link comes up; `None` when it is up already.
    pub fn open(&mut self, via: Via) -> Option<Epoch> {
        let epoch = Epoch(self.epochs + 1);
        let link = self.link_mut(via);
        if link.up.is_some() {
            return None;
        }
        link.up = Some(epoch);
        self.epochs += 1;
        self.up += 1;
        Some(epoch)
    }

    /// A link goes down. `ends` are those which do not know it yet. Returns whether it was up, and which it was.
    pub fn close(&mut self, via: Via, ends: &[usize]) -> Option<Epoch> {
        let link = self.by_first[via.ends().0].get_mut(&via)?;
        let epoch = link.up.take()?;
        for &end in ends {
            link.unnoticed[via.side(end)] = Some(epoch);
        }
        self.up -= 1;
        Some(epoch)
    }

    /// An end learns that this link is gone. Returns whether it did not know.
    pub fn notice(&mut self, now: Instant, via: Via, end: usize, epoch: Epoch) -> bool {
        let news = self.unnoticed(via, end) == Some(epoch);
        if news {
            self.link_mut(via).unnoticed[via.side(end)] = None;
            self.prune(now, via);
        }
        news
    }

    /// Forgets a link on which nothing depends any more.
    pub fn prune(&mut self, now: Instant, via: Via) {
        let (first, second) = via.ends();
        if self.link(via).is_some_and(|link| link.is_over(now)) {
            self.by_first[first].remove(&via);
            self.by_second[second].remove(&via);
        }
    }

    /// The link that is gone without that this end knows.
    pub fn unnoticed(&self, via: Via, end: usize) -> Option<Epoch> {
        self.link(via)?.unnoticed[via.side(end)]
    }

    /// The link that is up now.
    pub fn epoch(&self, via: Via) -> Option<Epoch> {
        self.link(via)?.up
    }

    /// All links that are up.
    pub fn all(&self) -> impl Iterator<Item = Via> {
        self.by_first.iter().flatten().filter(|(_, link)| link.up.is_some()).map(|(via, _)| *via)
    }

    /// How many links are up.
    pub fn count(&self) -> usize {
        self.up
    }

    /// A peer is gone and remembers nothing. Returns its links that are up; what is over is forgotten.
    pub fn forget(&mut self, now: Instant, peer: usize) -> Vec<Via> {
        let all: Vec<_> = self.by_first[peer].keys().chain(&self.by_second[peer]).copied().collect();
        for &via in &all {
            self.link_mut(via).unnoticed[via.side(peer)] = None;
            self.prune(now, via);
        }
        all.into_iter().filter(|via| self.epoch(*via).is_some()).collect()
    }

    /// When a message sent now arrives: after `delay`, and behind everything sent before it on this link.
    pub fn arrival(&mut self, now: Instant, via: Via, from: usize, delay: Duration) -> Instant {
        let last = &mut self.link_mut(via).arrivals[via.side(from)];
        *last = now.after(delay).max(last.after(Duration::from_micros(1)));
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_do_not_overtake_one_another_on_one_link() {
        let (mut links, via, other) = (Links::new(3), Via::gossip(1, 2), Via::Work { worker: 1, coordinator: 2 });
        let first = links.arrival(Instant(0), via, 1, Duration::from_millis(9));
        let second = links.arrival(Instant(1), via, 1, Duration::from_millis(1));
        assert!(second > first);
        assert!(links.arrival(Instant(1), via, 2, Duration::from_millis(1)) < first, "the other way is free");
        assert!(links.arrival(Instant(1), other, 1, Duration::from_millis(1)) < first, "and so is another link");
    }

    #[test]
    fn a_split_breaks_what_crosses_it() {
        let mut links = Links::new(4);
        let (inside, across) = (Via::gossip(2, 1), Via::Work { worker: 1, coordinator: 3 });
        let before = links.open(across);
        links.open(inside);
        assert_eq!((links.open(across), links.count()), (None, 2));
        assert_eq!(links.split(BTreeSet::from([3])), [across]);
        assert_eq!((links.close(across, &[]), links.close(across, &[])), (before, None));
        assert!(!links.reachable(1, 3) && links.reachable(1, 2));
        links.split(BTreeSet::new());
        assert_ne!(links.open(across), before, "a new link is not the old one");
    }

    #[test]
    fn an_end_learns_once_that_its_link_is_gone_and_a_dead_one_never() {
        let (mut links, via) = (Links::new(3), Via::gossip(1, 2));
        let epoch = links.open(via).unwrap();
        assert_eq!(links.close(via, &[1, 2]), Some(epoch));
        assert!(links.forget(Instant(0), 2).is_empty());
        assert!(!links.notice(Instant(0), via, 2, epoch));
        assert_eq!(links.unnoticed(via, 1), Some(epoch));
        assert!(links.notice(Instant(0), via, 1, epoch) && !links.notice(Instant(0), via, 1, epoch));
        assert!(links.by_first[1].is_empty() && links.by_second[2].is_empty(), "nothing is kept of what is over");
    }
}
