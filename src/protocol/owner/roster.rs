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
/// How long a count of proven workers is good for: what units of a job take may change, and with it who counts. What happens to single
/// workers is counted at once.
const COUNT_VALID: Duration = Duration::from_secs(1);

/// Up to so many workers with room are looked at whenever there is something to hand out.
const ALL_LOOKED_AT_MAX: usize = 32;
/// The same with more than [`MANY`] workers: something happens to one of those all the time, so there is always somebody to look at. With a
/// thousand it made the last units of a job half a per cent later.
const LOOKED_AT_OF_MANY: usize = 4;
/// See [`LOOKED_AT_OF_MANY`].
const MANY: usize = 2048;

/// A worker that is attached now.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// Leases that it is willing to hold in all.
    pub window: u32,
    pub slots: u32,
    /// Its instruction set, as it says.
    pub platform: Platform,
    pub leases: BTreeSet<LeaseKey>,
    /// It is counted among the proven.
    proven: bool,
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
    /// Those with room, but for the sated.
    hungry: BTreeSet<PeerId>,
    /// Those with room for whom there was nothing, and until when they are not looked at again.
    sated: BTreeMap<PeerId, Instant>,
    by_rousing: BTreeSet<(Instant, PeerId)>,
    proven: usize,
    counted_at: Option<Instant>,
}

impl Roster {
    /// Takes a worker in, or learns that it is another machine now. False when there is no place.
    pub fn attach(&mut self, peer: PeerId, platform: Platform, slots: u32) -> bool {
        if self.workers.len() >= WORKERS_MAX && !self.workers.contains_key(&peer) {
            return false;
        }
        let new = || Worker { window: 0, slots, platform, leases: BTreeSet::new(), proven: false };
        let worker = self.workers.entry(peer).or_insert_with(new);
        (worker.slots, worker.platform) = (slots, platform);
        true
    }

    /// Returns the leases that it held.
    pub fn detach(&mut self, peer: PeerId) -> BTreeSet<LeaseKey> {
        self.note_proven(peer, false);
        self.hungry.remove(&peer);
        self.unsate(peer);
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
        step(worker);
        let room = worker.room() > 0;
        self.unsate(peer);
        if room {
            self.hungry.insert(peer)
        } else {
            self.hungry.remove(&peer)
        };
    }

    /// There is nothing for this worker: where many have room it is not looked at again before `until`, or before something happens to
    /// it. Returns whether that is so.
    pub fn sate(&mut self, peer: PeerId, until: Instant) -> bool {
        let looked_at = if self.workers.len() > MANY { LOOKED_AT_OF_MANY } else { ALL_LOOKED_AT_MAX };
        self.hungry.len() > looked_at && self.set_aside(peer, until)
    }

    /// This worker, which has room, gets nothing whatever there is: it is not looked at again before `until`, or before something happens
    /// to it.
    pub fn set_aside(&mut self, peer: PeerId, until: Instant) -> bool {
        let was_hungry = self.hungry.remove(&peer);
        if was_hungry {
            self.sated.insert(peer, until);
            self.by_rousing.insert((until, peer));
        }
        was_hungry
    }

    fn unsate(&mut self, peer: PeerId) -> bool {
        self.sated.remove(&peer).is_some_and(|until| self.by_rousing.remove(&(until, peer)))
    }

    /// Something happened that may be to its good.
    pub fn rouse(&mut self, peer: PeerId) {
        if self.unsate(peer) {
            self.hungry.insert(peer);
        }
    }

    /// There is something new for everybody.
    pub fn rouse_all(&mut self) {
        self.by_rousing.clear();
        self.hungry.extend(core::mem::take(&mut self.sated).into_keys());
    }

    /// Those who have been sated for long enough are looked at again. Returns when the next are, if there are any.
    pub fn rouse_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some((until, peer)) = self.by_rousing.first().copied() {
            if until > now {
                return Some(until);
            }
            self.rouse(peer);
        }
        None
    }

    pub fn get(&self, peer: PeerId) -> Option<&Worker> {
        self.workers.get(&peer)
    }

    /// The leases that a worker holds.
    pub fn leases(&self, peer: PeerId) -> &BTreeSet<LeaseKey> {
        static NONE: BTreeSet<LeaseKey> = BTreeSet::new();
        self.workers.get(&peer).map_or(&NONE, |worker| &worker.leases)
    }

    /// Whether anybody has room.
    pub fn has_room(&self) -> bool {
        !self.hungry.is_empty() || !self.sated.is_empty()
    }

    /// Whether it has room, and is looked at.
    pub fn is_hungry(&self, peer: PeerId) -> bool {
        self.hungry.contains(&peer)
    }

    /// How many with room are not looked at for a while.
    pub fn sated(&self) -> usize {
        self.sated.len()
    }

    /// Workers with room, and how much.
    pub fn hungry(&self) -> impl Iterator<Item = (PeerId, u32)> {
        self.hungry.iter().filter_map(|peer| Some((*peer, self.workers.get(peer)?.room())))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = PeerId> {
        self.workers.keys().copied()
    }

    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// This worker, which is not the owner's own, is proven now, or is not.
    pub fn note_proven(&mut self, peer: PeerId, proven: bool) {
        let Some(worker) = self.workers.get_mut(&peer) else { return };
        match (core::mem::replace(&mut worker.proven, proven), proven) {
            (false, true) => self.proven += 1,
            (true, false) => self.proven -= 1,
            (true, true) | (false, false) => {}
        }
    }

    /// Proven workers other than the owner's own, for units of about `gas`.
    pub fn proven(&mut self, now: Instant, me: PeerId, trust: &Trust, gas: impl FnOnce() -> u64) -> usize {
        if self.counted_at.is_none_or(|at| now.since(at) >= COUNT_VALID) {
            let gas = gas();
            for (peer, worker) in &mut self.workers {
                worker.proven = *peer != me && trust.is_proven(*peer, gas);
            }
            self.proven = self.workers.values().filter(|worker| worker.proven).count();
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
        // Asked after each judgement, and nearly always for none.
        if platforms == Platforms::NONE {
            return Vec::new();
        }
        self.workers.iter().filter(|(_, worker)| platforms.contains(worker.platform)).map(|(peer, _)| *peer).collect()
    }

    /// Whether the worker takes leases at all now.
    pub fn is_working(&self, peer: PeerId) -> bool {
        self.workers.get(&peer).is_some_and(|worker| worker.window > 0)
    }
}
