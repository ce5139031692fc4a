//! What others may look at while they hold a [`Handle::view`](super::Handle::view): read-only, and nothing that waits.

use super::{
    handle::{End, Handle},
    net::PeerHello,
    run_loop::Node,
};
use crate::protocol::{ids::PeerId, peer::Peer, time::Instant};
use std::collections::BTreeMap;

impl Node {
    /// The protocol's machine.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The time that the machine goes by.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Connected peers with what they said about themselves.
    pub(crate) fn connected(&self) -> &BTreeMap<PeerId, PeerHello> {
        &self.connected
    }

    /// Who invited this node, if anybody did.
    pub(crate) fn inviter(&self) -> Option<PeerId> {
        self.handle.settings.inviter()
    }

    /// Slots that have something to run.
    pub(crate) fn busy_slots(&self) -> u32 {
        u32::try_from(self.runs.busy_slots()).unwrap_or(u32::MAX)
    }

    /// Units that ended in a value on this machine since the node started.
    pub(crate) fn units_run(&self) -> u64 {
        self.runs.given().0
    }

    /// Their gas.
    pub(crate) fn gas_given(&self) -> u64 {
        self.runs.given().1
    }

    /// Whether the user lends nothing for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause.by_user
    }

    /// Whether no leases are taken because the disk takes no writes.
    pub(crate) fn is_held_up_by_disk(&self) -> bool {
        self.pause.by_disk.is_some()
    }

    /// Why nothing can be made durable at the moment, if so.
    pub(crate) fn stalled(&self) -> Option<&str> {
        self.stalled.as_deref()
    }
}

impl Handle {
    /// Whether the node is about to end or to begin anew.
    pub(crate) fn is_ending(&self) -> bool {
        self.end.borrow().is_some_and(End::is_now)
    }
}
