//! What is counted while a grid runs: messages and bytes by kind, and how large tables became.

use super::machine::Machine;
use crate::protocol::{ids::PeerId, peer::Peer, time::Instant};
use std::collections::BTreeSet;

/// Kinds of messages that are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Announcements that gossip carries, duplicates included.
    Announcements,
    /// Everything else that gossip says.
    Upkeep,
    /// Leases.
    Leases,
    /// Outcomes.
    Outcomes,
    /// Acknowledgements of outcomes.
    Acknowledgements,
    /// Windows and revocations.
    Windows,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Announcements, Self::Upkeep, Self::Leases, Self::Outcomes, Self::Acknowledgements, Self::Windows];
}

/// Messages sent and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Traffic {
    /// Bytes, as in [`super::sizes`].
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.messages += 1;
    }
}

/// The largest that tables became, each at the peer where it was largest, seen at every few events.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Peaks {
    /// Executions that run or wait at one peer.
    pub executions_held: usize,
    /// Coordinators of one worker.
    pub coordinators: usize,
    /// Workers of one coordinator.
    pub workers: usize,
    /// Leases of one coordinator.
    pub leases: usize,
    /// Gossip links of one peer.
    pub gossip_links: usize,
    /// Live announcements at one peer.
    pub live: usize,
    /// Announcements remembered by one peer.
    pub remembered: usize,
    /// Links of the whole grid.
    pub links: usize,
    /// Happenings planned in the simulator: messages under way, executions, timers.
    pub planned: usize,
}

impl Peaks {
    /// Looks at one peer.
    pub(super) fn see(&mut self, peer: &Peer, held: usize) {
        let (gossip, owner) = (peer.gossip().sizes(), peer.owner());
        let seen = [
            (&mut self.executions_held, held),
            (&mut self.coordinators, peer.worker().attached()),
            (&mut self.workers, owner.attached()),
            (&mut self.leases, owner.leased()),
            (&mut self.gossip_links, gossip.links),
            (&mut self.live, gossip.live),
            (&mut self.remembered, gossip.remembered),
        ];
        seen.into_iter().for_each(|(peak, now)| *peak = now.max(*peak));
    }
}

/// The counters of a grid.
#[derive(Clone, Debug, Default)]
pub struct Measure {
    /// What was sent, by kind, in the order of [`Kind::ALL`].
    pub traffic: [Traffic; Kind::ALL.len()],
    /// How large tables became.
    pub peaks: Peaks,
    /// Whoever was convicted by anybody.
    pub convicted: BTreeSet<PeerId>,
    /// When the last job ended.
    pub ended_at: Instant,
    /// Executions that began.
    pub executions: u64,
    /// Peers that started, again or for the first time.
    pub starts: u64,
    /// Links that broke without either end wishing it.
    pub broken: u64,
}

impl Measure {
    /// A peer sends something.
    pub(super) fn sent(&mut self, from: &mut Machine, kind: Kind, bytes: usize) {
        self.traffic[kind as usize].add(bytes);
        from.sent.add(bytes);
    }
}
