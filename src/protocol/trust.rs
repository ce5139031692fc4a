//! What this peer has itself observed about others. Never gossip, never anybody's word.

use super::{
    fact::Standing,
    ids::PeerId,
    time::Instant,
    verify::{PROVEN_UNITS, Weight},
    worker::WINDOW_MAX,
};
use core::time::Duration;
use std::collections::BTreeMap;

/// How long a first conviction keeps a peer from getting work. A second one is for good.
pub const QUARANTINE: Duration = Duration::from_secs(24 * 3600);
/// The most peers remembered; beyond, those go first that are not here and whose record is worth nothing: a new key has as much.
const RECORDS_MAX: usize = 65_536;
/// The most friends. People know fewer; and friends are never forgotten.
pub const FRIENDS_MAX: usize = 1000;
/// How long a worker that let a lease run out gets no other; doubles each time in a row, until it answers.
const REST: Duration = Duration::from_secs(10);
/// The longest such rest.
const REST_MAX: Duration = Duration::from_secs(600);
/// How long a newcomer whose dissent its instruction set may explain gets no lease of any job, so that whoever claims a rare one to
/// be excused cannot spoil every job anew.
const EXCUSED_REST: Duration = Duration::from_secs(3600);
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
    /// The lineage that was made durable.
    lineage_kept: Option<PeerId>,
    /// It is attached now, so its network must not be forgotten.
    present: bool,
    /// How often in a row leases of its ran out without an answer from it.
    unanswered: u32,
    /// Until when it gets no lease because of that.
    rests_until: Option<Instant>,
    /// How many leases it may hold since some ran out; `None`: as many as it wants.
    allowance: Option<u32>,
    /// Until when it gets no lease because its dissent had to be excused before it was proven.
    excused_until: Option<Instant>,
}

/// What decides how much a vote weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoterFacts {
    /// Its weight.
    pub weight: Weight,
    /// The owner's own device, its inviter or a friend, and never caught.
    pub anchor: bool,
    /// Its network, where one is known that says something.
    pub prefix: Option<Prefix>,
    /// The guest through whose invitation it came.
    pub lineage: Option<PeerId>,
}

impl Record {
    fn in_units(&self, gas: u64) -> u64 {
        self.standing.verified_units.min(self.standing.verified_gas / gas.max(1))
    }

    fn is_proven(&self, gas: u64) -> bool {
        self.standing.is_anchor() || self.in_units(gas) >= PROVEN_UNITS
    }

    fn is_stranger(&self) -> bool {
        self.standing.verified_units == 0 && self.standing.strikes == 0 && !self.standing.anchor && !self.standing.friend
    }
}

impl Trust {
    /// Rebuilds the table. A convicted peer's quarantine lasts for what the shell says is left of it, and begins anew where it cannot
    /// say, since no clock of this machine's outlives a restart. Of more than are remembered
    /// those stay of whom something is known, the convicted last among them.
    pub fn restore(now: Instant, saved: impl IntoIterator<Item = (PeerId, Standing)>, quarantines: &BTreeMap<PeerId, Duration>) -> Self {
        let left = |peer: PeerId| quarantines.get(&peer).map_or(QUARANTINE, |left| (*left).min(QUARANTINE));
        let record = |peer: PeerId, standing: Standing| Record {
            standing,
            prefix: None,
            lineage_kept: standing.lineage,
            present: false,
            unanswered: 0,
            rests_until: None,
            allowance: None,
            excused_until: None,
            quarantined_until: (standing.strikes > 0).then(|| now.after(left(peer))),
        };
        let mut records: Vec<_> = saved.into_iter().map(|(peer, standing)| (peer, record(peer, standing))).collect();
        if records.len() > RECORDS_MAX {
            records.sort_by_key(|(_, record)| (record.is_stranger(), record.standing.strikes > 0));
            records.truncate(RECORDS_MAX);
        }
        Self { records: records.into_iter().collect() }
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
        let record = self.remember(peer);
        record.prefix = prefix;
        record.standing.lineage = lineage.or(record.standing.lineage);
        record.standing.anchor = anchor;
    }

    /// Its user marks a peer as a friend, or no longer. `false` when there are [`FRIENDS_MAX`] already.
    pub fn befriend(&mut self, peer: PeerId, friend: bool) -> bool {
        let friends = self.records.values().filter(|record| record.standing.friend).count();
        if friend && friends >= FRIENDS_MAX && !self.standing(peer).friend {
            return false;
        }
        self.remember(peer).standing.friend = friend;
        true
    }

    /// The standing to be made durable: what is known of the peer, its lineage included, counts as durable from now on.
    pub fn keep(&mut self, peer: PeerId) -> Standing {
        let Some(record) = self.records.get_mut(&peer) else { return Standing::default() };
        record.lineage_kept = record.standing.lineage;
        record.standing
    }

    /// Whether its lineage is known and not durable: it must be once it votes, or its votes would look independent after a restart.
    pub fn lineage_is_due(&self, peer: PeerId) -> bool {
        self.records.get(&peer).is_some_and(|record| record.standing.lineage != record.lineage_kept)
    }

    /// It is attached from now on, or no longer. What is known of attached peers is not forgotten.
    pub fn set_present(&mut self, peer: PeerId, present: bool) {
        match present {
            true => self.remember(peer).present = true,
            false => {
                if let Some(record) = self.records.get_mut(&peer) {
                    record.present = false;
                }
            }
        }
    }

    /// The peer's record, made when there is none; makes room where the bound is reached.
    fn remember(&mut self, peer: PeerId) -> &mut Record {
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&peer) {
            self.records.retain(|_, record| record.present || !record.is_stranger());
            if self.records.len() >= RECORDS_MAX {
                self.records.retain(|_, record| record.present || record.standing.strikes == 0);
            }
        }
        self.records.entry(peer).or_default()
    }

    /// Its network, if known.
    pub fn prefix(&self, peer: PeerId) -> Option<Prefix> {
        self.records.get(&peer).and_then(|record| record.prefix)
    }

    /// How many units of about `gas` each its record is worth: `min(units, work / gas)`.
    pub fn record_in_units(&self, peer: PeerId, gas: u64) -> u64 {
        self.records.get(&peer).map(|record| record.in_units(gas)).unwrap_or_default()
    }

    /// Whether a vote of this peer on a unit of about `gas` can carry a verdict.
    pub fn is_proven(&self, peer: PeerId, gas: u64) -> bool {
        self.records.get(&peer).is_some_and(|record| record.is_proven(gas))
    }

    /// What decides how much its vote on a unit of about `gas` weighs.
    pub fn voter(&self, peer: PeerId, gas: u64) -> VoterFacts {
        let record = self.records.get(&peer).copied().unwrap_or_default();
        let weight = if record.is_proven(gas) { Weight::Proven } else { Weight::Newcomer };
        VoterFacts { weight, anchor: record.standing.is_anchor(), prefix: record.prefix, lineage: self.lineage(peer) }
    }

    /// The guest through whose invitation it came; none where an anchor invited it: whom an anchor brings is as independent as whom
    /// the owner brings.
    pub fn lineage(&self, peer: PeerId) -> Option<PeerId> {
        let inviter = self.records.get(&peer).and_then(|record| record.standing.lineage)?;
        (!self.standing(inviter).is_anchor()).then_some(inviter)
    }

    /// Whether nothing is known that joins the two: neither key, network nor lineage.
    pub fn are_strangers(&self, one: PeerId, other: PeerId) -> bool {
        let (prefix, lines) = (self.prefix(one), (self.lineage(one), self.lineage(other)));
        one != other
            && (prefix.is_none() || prefix != self.prefix(other))
            && (lines.0.is_none() || lines.0 != lines.1)
            && lines.0 != Some(other)
            && lines.1 != Some(one)
    }

    /// Whether it gets work.
    pub fn is_barred(&self, peer: PeerId, now: Instant) -> bool {
        self.records
            .get(&peer)
            .is_some_and(|record| record.standing.strikes > 1 || record.quarantined_until.is_some_and(|until| until > now))
    }

    /// Another proven voter, or the owner, backs its value.
    pub fn credit(&mut self, peer: PeerId, gas: u64) {
        let standing = &mut self.remember(peer).standing;
        standing.verified_units = standing.verified_units.saturating_add(1);
        standing.verified_gas = standing.verified_gas.saturating_add(gas);
    }

    /// What backed it fell.
    pub fn discredit(&mut self, peer: PeerId, gas: u64) {
        let standing = &mut self.remember(peer).standing;
        standing.verified_units = standing.verified_units.saturating_sub(1);
        standing.verified_gas = standing.verified_gas.saturating_sub(gas);
    }

    /// It signed a wrong value: all trust is lost.
    pub fn convict(&mut self, peer: PeerId, now: Instant) {
        let record = self.remember(peer);
        record.standing.verified_units = 0;
        record.standing.verified_gas = 0;
        record.standing.strikes = record.standing.strikes.saturating_add(1);
        record.quarantined_until = Some(now.after(QUARANTINE));
    }

    /// It was right after all. What it had before it was convicted is not known any more.
    pub fn acquit(&mut self, peer: PeerId) {
        let record = self.remember(peer);
        record.standing.strikes = record.standing.strikes.saturating_sub(1);
        record.quarantined_until = record.quarantined_until.filter(|_| record.standing.strikes > 0);
    }

    /// It ran `gas` in `wall`: speed is for estimates only.
    pub fn measure(&mut self, peer: PeerId, gas: u64, wall: Duration) {
        let seconds = wall.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let standing = &mut self.remember(peer).standing;
        let speed = gas as f64 / seconds;
        standing.gas_per_second = match standing.gas_per_second {
            0.0 => speed,
            known => known + SPEED_SMOOTHING * (speed - known),
        };
    }

    /// A lease of its ended without a result: counted, and never held against its trust.
    pub fn drop_lease(&mut self, peer: PeerId) {
        let standing = &mut self.remember(peer).standing;
        standing.drops = standing.drops.saturating_add(1);
    }

    /// It let leases run out although it is there: it gets none for a while, then one, and one more with each answer. So whoever claims
    /// more slots than it has gets about as much as it can do.
    pub fn let_run_out(&mut self, peer: PeerId, now: Instant) {
        let record = self.remember(peer);
        let rest = REST.saturating_mul(1 << record.unanswered.min(10)).min(REST_MAX);
        record.unanswered = record.unanswered.saturating_add(1);
        record.allowance = Some(1);
        record.rests_until = Some(now.after(rest));
    }

    /// It has answered.
    pub fn answered(&mut self, peer: PeerId) {
        if let Some(record) = self.records.get_mut(&peer) {
            (record.unanswered, record.rests_until) = (0, None);
            record.allowance = record.allowance.map(|allowance| allowance + 1).filter(|&allowance| allowance < WINDOW_MAX);
        }
    }

    /// Its dissent had to be excused. Costs a newcomer time, and nobody trust.
    pub fn excuse(&mut self, peer: PeerId, gas: u64, now: Instant) {
        let record = self.remember(peer);
        if !record.is_proven(gas) {
            record.excused_until = Some(now.after(EXCUSED_REST));
        }
    }

    /// Whether it gets no lease of any job because of that.
    pub fn is_excused(&self, peer: PeerId, now: Instant) -> bool {
        self.records.get(&peer).and_then(|record| record.excused_until).is_some_and(|until| until > now)
    }

    /// Whether a record of `standing` would make a peer proven for units of about `gas`.
    pub fn would_be_proven(standing: Standing, gas: u64) -> bool {
        Record { standing, ..Record::default() }.is_proven(gas)
    }

    /// How many leases it may hold, if fewer than it wants.
    pub fn allowance(&self, peer: PeerId) -> Option<u32> {
        self.records.get(&peer).and_then(|record| record.allowance)
    }

    /// Whether it has answered nothing since leases of its ran out, and until when it gets none.
    pub fn rest(&self, peer: PeerId) -> Option<Instant> {
        self.records.get(&peer).filter(|record| record.unanswered > 0).and_then(|record| record.rests_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    #[test]
    fn whom_an_anchor_invited_has_no_lineage_and_whom_a_guest_invited_has() {
        let mut trust = Trust::default();
        trust.meet(peer(1), None, None, true);
        trust.meet(peer(2), None, None, false);
        trust.meet(peer(3), None, Some(peer(1)), false);
        trust.meet(peer(4), None, Some(peer(2)), false);
        assert_eq!([3, 4].map(|number| trust.lineage(peer(number))), [None, Some(peer(2))]);
        trust.convict(peer(1), Instant(0));
        assert_eq!(trust.lineage(peer(3)), Some(peer(1)), "it was no friend");
    }

    #[test]
    fn a_first_conviction_is_quarantine_and_a_second_is_for_good() {
        let mut trust = Trust::default();
        (0..30).for_each(|_| trust.credit(peer(1), 10));
        assert!(trust.is_proven(peer(1), 10));
        let now = Instant(5);
        trust.convict(peer(1), now);
        assert!(!trust.is_proven(peer(1), 10) && trust.is_barred(peer(1), now));
        assert!(!trust.is_barred(peer(1), now.after(QUARANTINE)));
        trust.convict(peer(1), now);
        assert!(trust.is_barred(peer(1), now.after(QUARANTINE).after(QUARANTINE)));
    }

    #[test]
    fn a_quarantine_goes_on_after_a_restart() {
        let caught = Standing { strikes: 1, ..Standing::default() };
        let saved = [(peer(1), caught), (peer(2), caught), (peer(3), caught)];
        let hour = Duration::from_secs(3600);
        let left = BTreeMap::from([(peer(1), hour), (peer(2), QUARANTINE * 9)]);
        let trust = Trust::restore(Instant(0), saved, &left);
        let barred = |number: u8, after: Duration| trust.is_barred(peer(number), Instant(0).after(after));
        assert!(barred(1, hour - Duration::from_secs(1)) && !barred(1, hour));
        assert!(!barred(2, QUARANTINE), "no clock that was set makes it longer");
        assert!(barred(3, hour) && !barred(3, QUARANTINE), "nothing is known: anew");
    }

    #[test]
    fn what_is_not_handed_in_costs_no_trust() {
        let mut trust = Trust::default();
        (0..30).for_each(|_| trust.credit(peer(1), 10));
        for _ in 0..100 {
            trust.drop_lease(peer(1));
            trust.let_run_out(peer(1), Instant(0));
            trust.excuse(peer(1), 10, Instant(0));
        }
        assert!(trust.is_proven(peer(1), 10) && !trust.is_barred(peer(1), Instant(0)) && !trust.is_excused(peer(1), Instant(0)));
        assert_eq!(trust.record_in_units(peer(1), 10), 30);
        trust.excuse(peer(2), 10, Instant(0));
        assert!(trust.is_excused(peer(2), Instant(0)) && !trust.is_excused(peer(2), Instant(0).after(EXCUSED_REST)));
    }

    #[test]
    fn work_on_small_units_proves_nobody_for_large_ones() {
        let mut trust = Trust::default();
        (0..1000).for_each(|_| trust.credit(peer(1), 10));
        assert!(trust.is_proven(peer(1), 500) && !trust.is_proven(peer(1), 501));
    }

    #[test]
    fn a_friend_is_an_anchor_until_it_is_caught_and_so_is_whom_it_brings_independent() {
        let (friend, guest) = (PeerId([1; 32]), PeerId([2; 32]));
        let mut trust = Trust::default();
        assert!(trust.befriend(friend, true));
        trust.meet(friend, None, None, false);
        trust.meet(guest, None, Some(friend), false);
        assert!(trust.voter(friend, 1).anchor && trust.is_proven(friend, 1), "a hello takes nothing from a friend");
        assert_eq!(trust.voter(guest, 1).lineage, None);
        trust.convict(friend, Instant(0));
        assert!(!trust.voter(friend, 1).anchor && !trust.is_proven(friend, 1));
        assert_eq!(trust.voter(guest, 1).lineage, Some(friend));
        assert!(trust.befriend(friend, false) && !trust.standing(friend).friend);
    }

    #[test]
    fn friends_are_bounded() {
        let key = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            PeerId(bytes)
        };
        let mut trust = Trust::default();
        assert!((0..FRIENDS_MAX).all(|number| trust.befriend(key(number), true)));
        assert!(!trust.befriend(key(FRIENDS_MAX), true));
        assert!(trust.befriend(key(0), true), "it is one already");
        assert!(trust.befriend(key(0), false) && trust.befriend(key(FRIENDS_MAX), true));
    }

    #[test]
    fn of_more_peers_than_are_remembered_strangers_go_first_at_a_restart() {
        let key = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            PeerId(bytes)
        };
        let known = Standing { verified_units: 1, verified_gas: 1, ..Standing::default() };
        let caught = Standing { strikes: 1, ..Standing::default() };
        let strangers = (0..RECORDS_MAX).map(|number| (key(number), Standing::default()));
        let others = [(key(RECORDS_MAX), known), (key(RECORDS_MAX + 1), caught)];
        let trust = Trust::restore(Instant(0), strangers.chain(others), &BTreeMap::new());
        assert_eq!(trust.standings().count(), RECORDS_MAX);
        assert!(others.iter().all(|(peer, standing)| trust.standing(*peer) == *standing));
    }
}
