//! The workers that are attached now: what they offer and what they hold.

use super::lease::LeaseKey;
use crate::protocol::{
    ids::PeerId,
    platform::{Platform, Platforms},
    time::Instant,
    trust::Trust,
    worker::WINDOW_MAX,
};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// The most workers attached to one coordinator.
pub const WORKERS_MAX: usize = 4096;
/// How long a count of proven workers is good for. Whatever makes it smaller at once asks for a new one.
const COUNT_VALID: Duration = Duration::from_secs(1);

/// A worker that is attached now.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// Leases that it is willing to hold in all.
    pub window: u32,
    pub slots: u32,
    /// Its instruction set, as it says.
    pub platform: Platform,
    pub leases: BTreeSet<LeaseKey>,
}

impl Worker {
    /// How many more leases it would take.
    pub fn room(&self) -> u32 {
        self.window.saturating_sub(self.leases.len() as u32)
    }
}

/// All attached workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    workers: BTreeMap<PeerId, Worker>,
    /// Those with room.
    hungry: BTreeSet<PeerId>,
    proven: usize,
    counted_at: Option<Instant>,
}

impl Roster {
    /// Takes a worker in, or learns that it is another machine now. False when there is no place.
    pub fn attach(&mut self, peer: PeerId, platform: Platform, slots: u32) -> bool {
        if self.workers.len() >= WORKERS_MAX && !self.workers.contains_key(&peer) {
            return false;
        }
        let worker = self.workers.entry(peer).or_insert_with(|| Worker { window: 0, slots, platform, leases: BTreeSet::new() });
        (worker.slots, worker.platform) = (slots, platform);
        self.counted_at = None;
        true
    }

    /// Returns the leases that it held.
    pub fn detach(&mut self, peer: PeerId) -> BTreeSet<LeaseKey> {
        self.hungry.remove(&peer);
        self.counted_at = None;
        self.workers.remove(&peer).map(|worker| worker.leases).unwrap_or_default()
    }

    /// How many leases it is willing to hold; more than [`WINDOW_MAX`] nobody can mean. Returns whether it has room.
    pub fn set_window(&mut self, peer: PeerId, window: u32) -> bool {
        self.change(peer, |worker| worker.window = window.min(WINDOW_MAX));
        self.hungry.contains(&peer)
    }

    pub fn hold(&mut self, peer: PeerId, key: LeaseKey) {
        self.change(peer, |worker| _ = worker.leases.insert(key));
    }

    pub fn release(&mut self, peer: PeerId, key: &LeaseKey) {
        self.change(peer, |worker| _ = worker.leases.remove(key));
    }

    fn change(&mut self, peer: PeerId, step: impl FnOnce(&mut Worker)) {
        let Some(worker) = self.workers.get_mut(&peer) else { return };
        let before = worker.room() > 0;
        step(worker);
        match (before, worker.room() > 0) {
            (false, true) => drop(self.hungry.insert(peer)),
            (true, false) => drop(self.hungry.remove(&peer)),
            (true, true) | (false, false) => {}
        }
    }

    pub fn get(&self, peer: PeerId) -> Option<&Worker> {
        self.workers.get(&peer)
    }

    /// The leases that a worker holds.
    pub fn leases(&self, peer: PeerId) -> &BTreeSet<LeaseKey> {
        static NONE: BTreeSet<LeaseKey> = BTreeSet::new();
        self.workers.get(&peer).map_or(&NONE, |worker| &worker.leases)
    }

    /// Workers with room, and how much.
    pub fn hungry(&self) -> impl Iterator<Item = (PeerId, u32)> {
        self.hungry.iter().filter_map(|peer| Some((*peer, self.workers.get(peer)?.room())))
    }

    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Something happened after which fewer may be proven.
    pub fn recount(&mut self) {
        self.counted_at = None;
    }

    /// Proven workers other than the owner's own, for units of about `gas`; at most a second old.
    pub fn proven(&mut self, now: Instant, me: PeerId, trust: &Trust, gas: impl FnOnce() -> u64) -> usize {
        if self.counted_at.is_none_or(|at| now.since(at) >= COUNT_VALID) {
            let gas = gas();
            self.proven = self.workers.keys().filter(|&&peer| peer != me && trust.is_proven(peer, gas)).count();
            self.counted_at = Some(now);
        }
        self.proven
    }

    /// The last count.
    pub fn proven_at_last(&self) -> usize {
        self.proven
    }

    /// The workers that take leases at all now.
    pub fn working(&self) -> impl Iterator<Item = PeerId> {
        self.workers.iter().filter(|(_, worker)| worker.window > 0).map(|(peer, _)| *peer)
    }

    /// The workers of these instruction sets.
    pub fn on_platforms(&self, platforms: Platforms) -> Vec<PeerId> {
        self.workers.iter().filter(|(_, worker)| platforms.contains(worker.platform)).map(|(peer, _)| *peer).collect()
    }

    /// Whether the worker takes leases at all now.
    pub fn is_working(&self, peer: PeerId) -> bool {
        self.workers.get(&peer).is_some_and(|worker| worker.window > 0)
    }
}
