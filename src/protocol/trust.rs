//! What this peer has itself observed about others. Never gossip, never anybody's word.

use super::{
    fact::Standing,
    ids::PeerId,
    time::Instant,
    verify::{PROVEN_UNITS, Weight},
};
use core::time::Duration;
use std::collections::BTreeMap;

/// How long a first conviction keeps a peer from getting work. A second one is for good.
pub const QUARANTINE: Duration = Duration::from_secs(24 * 3600);
/// The most peers without any record that are remembered; those with a record always are.
const STRANGERS_MAX: usize = 16_384;
/// Weight of the newest measurement in the smoothed speed.
const SPEED_SMOOTHING: f64 = 0.2;

/// A peer's network (a /24 or a /48), hashed to a number; only for peers at global addresses in the public grid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix(pub u64);

/// The owner's table of workers.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    records: BTreeMap<PeerId, Record>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    standing: Standing,
    prefix: Option<Prefix>,
    quarantined_until: Option<Instant>,
}

impl Trust {
    /// Rebuilds the table. A convicted peer's quarantine begins anew, since no clock outlives a restart.
    pub fn restore(now: Instant, saved: impl IntoIterator<Item = (PeerId, Standing)>) -> Self {
        let record = |standing: Standing| Record {
            standing,
            prefix: None,
            quarantined_until: (standing.strikes > 0).then(|| now.after(QUARANTINE)),
        };
        Self { records: saved.into_iter().map(|(peer, standing)| (peer, record(standing))).collect() }
    }

    /// What is known of a peer; the default for a stranger.
    pub fn standing(&self, peer: PeerId) -> Standing {
        self.records.get(&peer).map(|record| record.standing).unwrap_or_default()
    }

    /// All peers with a record.
    pub fn standings(&self) -> impl Iterator<Item = (PeerId, Standing)> {
        self.records.iter().map(|(peer, record)| (*peer, record.standing))
    }

    /// A peer has shown itself: where it is, who invited it, and whether it is the owner's own device.
    pub fn meet(&mut self, peer: PeerId, prefix: Option<Prefix>, lineage: Option<PeerId>, anchor: bool) {
        if !self.records.contains_key(&peer) && self.records.len() >= STRANGERS_MAX {
            self.records.retain(|_, record| record.standing != Standing::default());
        }
        let record = self.records.entry(peer).or_default();
        record.prefix = prefix;
        record.standing.lineage = lineage.or(record.standing.lineage);
        record.standing.anchor = anchor;
    }

    /// Its network, if known.
    pub fn prefix(&self, peer: PeerId) -> Option<Prefix> {
        self.records.get(&peer).and_then(|record| record.prefix)
    }

    /// How many units of about `gas` each its record is worth: `min(units, work / gas)`.
    pub fn record_in_units(&self, peer: PeerId, gas: u64) -> u64 {
        let standing = self.standing(peer);
        standing.verified_units.min(standing.verified_gas / gas.max(1))
    }

    /// Whether a vote of this peer on a unit of about `gas` can carry a verdict.
    pub fn is_proven(&self, peer: PeerId, gas: u64) -> bool {
        let standing = self.standing(peer);
        (standing.anchor && standing.strikes == 0) || self.record_in_units(peer, gas) >= PROVEN_UNITS
    }

    /// A voter's weight for a unit of about `gas`.
    pub fn weight(&self, peer: PeerId, gas: u64) -> Weight {
        if self.is_proven(peer, gas) { Weight::Proven } else { Weight::Newcomer }
    }

    /// Whether it gets work.
    pub fn is_barred(&self, peer: PeerId, now: Instant) -> bool {
        self.records
            .get(&peer)
            .is_some_and(|record| record.standing.strikes > 1 || record.quarantined_until.is_some_and(|until| until > now))
    }

    /// Another proven voter, or the owner, backs its value.
    pub fn credit(&mut self, peer: PeerId, gas: u64) {
        let standing = &mut self.records.entry(peer).or_default().standing;
        standing.verified_units += 1;
        standing.verified_gas = standing.verified_gas.saturating_add(gas);
    }

    /// What backed it fell.
    pub fn discredit(&mut self, peer: PeerId, gas: u64) {
        let standing = &mut self.records.entry(peer).or_default().standing;
        standing.verified_units = standing.verified_units.saturating_sub(1);
        standing.verified_gas = standing.verified_gas.saturating_sub(gas);
    }

    /// It signed a wrong value: all trust is lost.
    pub fn convict(&mut self, peer: PeerId, now: Instant) {
        let record = self.records.entry(peer).or_default();
        record.standing.verified_units = 0;
        record.standing.verified_gas = 0;
        record.standing.strikes += 1;
        record.quarantined_until = Some(now.after(QUARANTINE));
    }

    /// It ran `gas` in `wall`: speed is for estimates only.
    pub fn measure(&mut self, peer: PeerId, gas: u64, wall: Duration) {
        let seconds = wall.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let standing = &mut self.records.entry(peer).or_default().standing;
        let speed = gas as f64 / seconds;
        standing.gas_per_second = match standing.gas_per_second {
            0.0 => speed,
            known => known + SPEED_SMOOTHING * (speed - known),
        };
    }

    /// A lease of its ended without a result: lowers priority, never trust.
    pub fn drop_lease(&mut self, peer: PeerId) {
        let standing = &mut self.records.entry(peer).or_default().standing;
        standing.drops = standing.drops.saturating_add(1);
    }
}
