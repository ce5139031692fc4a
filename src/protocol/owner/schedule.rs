//! Who gets which unit: the owner draws both at random among live offers; a worker never chooses.

use super::{
    Owner, OwnerAction,
    lease::{Held, Lease, LeaseKey},
    pick::{NEWCOMER_PENDING_MAX, Picker},
    unit::{LeaseToken, Want},
};
use crate::protocol::{
    ids::{JobId, PeerId, UnitIndex},
    time::Instant,
};
use core::{
    cell::{Cell, RefCell},
    time::Duration,
};
use rand_chacha::rand_core::Rng;
use std::collections::BTreeMap;

/// A lease lasts this many times the estimate.
const LEASE_OVER_ESTIMATE: f64 = 3.0;
/// A worker of unknown speed is taken to be this many times slower than what the job's units took so far.
const UNKNOWN_SPEED: f64 = 4.0;
/// The shortest lease: enough for a slow link and a cold start.
const LEASE_MIN: Duration = Duration::from_secs(30);
/// Added to the job's own time limit for the longest lease: fetching, compiling, queueing.
const LEASE_SLACK: Duration = Duration::from_secs(300);
/// The most leases in one batch.
pub const LEASE_BATCH_MAX: usize = 1024;
/// At the end of a job thousands have nothing to do: so many of them are looked at in each [`FRUITLESS_PAUSE`].
const LOOKED_AT_PER_PAUSE: usize = 512;
/// Offers without a suitable unit in a row, after which the rest are left for a second.
const FRUITLESS_MAX: usize = 256;
/// When that second is over.
const FRUITLESS_PAUSE: Duration = Duration::from_secs(1);
/// How long a newcomer with all the units that it may have pending is left alone, unless something happens to it: what decides a unit of
/// its mostly credits it, and so rouses it.
const PENDING_PAUSE: Duration = Duration::from_secs(15);
/// How long whoever gets nothing at all is not looked at, unless something happens to it: hundreds may be convicted.
const BARRED_PAUSE: Duration = Duration::from_secs(60);
/// When nothing else is left to hand out, an attempt is backed up after this and [`BACKUP_OVER_TYPICAL`] typical units.
const BACKUP_AFTER: Duration = Duration::from_secs(5);
/// An attempt that shows how far it has come is backed up when it has not done so for this: longer than it takes to show it again.
const SEEN_PATIENCE: Duration = Duration::from_secs(15);
/// See [`BACKUP_AFTER`].
const BACKUP_OVER_TYPICAL: f64 = 3.0;
/// A unit with so many leases gets no further backup: the attempt and two backups. A jury has more from the beginning.
const LEASES_PER_UNIT_MAX: u8 = 3;
/// With more leases out than this a job is not at its end, and nothing is backed up.
const TAIL_LEASES_MAX: usize = 1024;
/// How many offers are tried for one backup.
const BACKUP_TRIES: usize = 8;

/// Leases by whom they go to.
pub(super) type Batches = BTreeMap<(PeerId, JobId), Vec<Lease>>;

/// A worker with room.
#[derive(Clone, Copy)]
struct Offer {
    peer: PeerId,
    free: u32,
}

impl Owner {
    /// Leases units to live offers until either runs out.
    pub(super) fn schedule(&mut self, now: Instant) {
        self.wake = self.roster.rouse_due(now);
        // Own jobs first, whatever others say of theirs.
        let order = |id: &JobId| (self.jobs[id].is_foreign(), core::cmp::Reverse(self.jobs[id].manifest.priority), *id);
        let mut jobs: Vec<_> = self.running.iter().filter(|id| !self.paced.contains(id)).map(order).collect();
        jobs.sort_unstable();
        // Who has room is only looked at when there is something to hand out: at a job's end that is everybody, at each event.
        let mut offers: Option<Vec<Offer>> = None;
        let mut batches = Batches::new();
        for (_, _, id) in jobs {
            if let Some(until) = self.waits_for_receipts(now, id) {
                self.wake_by(until);
                continue;
            }
            self.seat_juries(now, id);
            let (room, backup_due) = (self.room(now, id), self.is_backup_due(now, id));
            if room == 0 && !backup_due {
                continue;
            }
            let mut live = offers.take().unwrap_or_else(|| self.offers(now));
            self.hand_out(now, id, &mut live, &mut batches);
            if backup_due {
                self.back_up(now, id, &mut live, &mut batches);
            }
            offers = Some(live);
        }
        for ((to, job), mut leases) in batches {
            while !leases.is_empty() {
                let rest = leases.split_off(leases.len().min(LEASE_BATCH_MAX));
                self.actions.push(OwnerAction::Lease { to, job, leases });
                leases = rest;
            }
        }
    }

    /// Workers with room that get work now.
    fn offers(&mut self, now: Instant) -> Vec<Offer> {
        let (mut offers, mut barred, mut resting) = (Vec::new(), Vec::new(), Vec::new());
        for (peer, free) in self.roster.hungry() {
            match self.trust.rest(peer) {
                _ if peer != self.me && (self.trust.is_barred(peer, now) || self.trust.is_excused(peer, now)) => {
                    barred.push(peer);
                }
                Some(until) if until > now => resting.push((peer, until)),
                Some(_) => offers.push(Offer { peer, free: 1 }),
                None => {
                    let held = self.roster.leases(peer).len() as u32;
                    let allowed = self.trust.allowance(peer).map_or(free, |allowance| allowance.saturating_sub(held).min(free));
                    if allowed > 0 {
                        offers.push(Offer { peer, free: allowed });
                    }
                }
            }
        }
        for peer in barred {
            self.roster.set_aside(peer, now.after(BARRED_PAUSE));
        }
        for (peer, until) in resting {
            self.roster.set_aside(peer, until);
            self.wake_by(until);
        }
        offers
    }

    fn hand_out(&mut self, now: Instant, id: JobId, offers: &mut Vec<Offer>, batches: &mut Batches) {
        let mut live: Vec<usize> = (0..offers.len()).collect();
        let mut fruitless = 0;
        while !live.is_empty() {
            let room = self.room(now, id);
            if room == 0 {
                break;
            }
            if fruitless >= FRUITLESS_MAX {
                self.wake_by(now.after(FRUITLESS_PAUSE));
                break;
            }
            let at = self.draw(live.len());
            let offer = &mut offers[live[at]];
            // A share for each, so that the last units are spread.
            let budget = room.div_ceil(2 * live.len()).min(offer.free as usize);
            let leased = self.lease_to(now, id, offer.peer, budget, batches);
            offer.free -= leased as u32;
            let (peer, spent) = (offer.peer, leased < budget || offer.free == 0);
            if leased == 0 && peer != self.me {
                let pause = if self.has_enough_pending(id, peer) { PENDING_PAUSE } else { self.fruitless_pause(id) };
                if self.roster.sate(peer, now.after(pause)) {
                    self.wake_by(now.after(pause));
                }
            }
            fruitless = if leased == 0 { fruitless + 1 } else { 0 };
            if spent {
                live.swap_remove(at);
            }
        }
        offers.retain(|offer| offer.free > 0);
    }

    /// How long whoever there was nothing for is not looked at.
    fn fruitless_pause(&self, id: JobId) -> Duration {
        let job = &self.jobs[&id];
        if job.wanted.fresh < job.counts.units {
            return FRUITLESS_PAUSE;
        }
        FRUITLESS_PAUSE * (1 + self.roster.sated() / LOOKED_AT_PER_PAUSE) as u32
    }

    /// Whether the worker is a newcomer that gets nothing more of this job until something of its is decided.
    fn has_enough_pending(&self, id: JobId, worker: PeerId) -> bool {
        let job = &self.jobs[&id];
        let proven = worker == self.me || job.trusts(worker, job.gas_estimate(), &self.trust);
        let pending = job.pending(worker, self.proven_within_reach()) as usize + self.roster.leases(worker).len();
        !proven && pending >= NEWCOMER_PENDING_MAX as usize
    }

    /// How many units may be handed out now.
    fn room(&mut self, now: Instant, id: JobId) -> usize {
        let job = &self.jobs[&id];
        let mut open = job.wanted.len(job.counts.units);
        // Where there is plenty nobody need count further.
        if open < LEASE_BATCH_MAX {
            open += job.juries.unasked() + usize::from(job.juries.len() > 0 && self.roster.is_hungry(self.me));
        }
        let Some(allowed) = job.leases_allowed(now) else { return open };
        let room = allowed.saturating_sub(self.leases.of_job(id).take(allowed).count());
        if room < open
            && let Some(at) = job.more_allowed_at(now)
        {
            self.wake_by(at);
        }
        room.min(open)
    }

    pub(super) fn draw(&mut self, below: usize) -> usize {
        self.rng.next_u32() as usize % below.max(1)
    }

    /// Asks to schedule again then, whatever happens.
    pub(super) fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Leases up to `budget` units of one job to one worker; returns how many.
    fn lease_to(&mut self, now: Instant, id: JobId, worker: PeerId, budget: usize, batches: &mut Batches) -> usize {
        let mut leased = 0;
        while leased < budget {
            let pick = |picker: &Picker<'_>| picker.pick().map(|(unit, want)| (unit, want, picker.class_of_begun(want)));
            let Some((unit, want, class)) = self.with_picker(now, id, worker, pick) else { break };
            if let (Some(class), Some(job)) = (class, self.jobs.get_mut(&id)) {
                job.classes.begin(class, unit);
                job.focus.first_class = job.focus.first_class.min(class);
            }
            let lease = self.make_lease(now, id, unit, want, worker);
            batches.entry((worker, id)).or_default().push(lease);
            leased += 1;
        }
        leased
    }

    fn with_picker<T>(&mut self, now: Instant, id: JobId, worker: PeerId, ask: impl FnOnce(&Picker<'_>) -> T) -> T {
        let pivot = self.rng.next_u32();
        let focus = self.jobs.get_mut(&id).map(|job| core::mem::take(&mut job.focus)).unwrap_or_default();
        let job = &self.jobs[&id];
        let gas = job.gas_estimate();
        let picker = Picker {
            job,
            trust: &self.trust,
            worker,
            me: self.me,
            platform: self.roster.get(worker).map(|state| state.platform).unwrap_or_default(),
            proven: job.trusts(worker, gas, &self.trust),
            gas,
            holds: self.roster.leases(worker),
            proven_online: self.roster.proven_at_last().max(job.proven_here()),
            proves_alone: self.proves_alone(),
            proven_within_reach: self.proven_within_reach(),
            own_slots: self.own_slots(),
            workers_online: self.roster.len(),
            pivot,
            now,
            again_at: Cell::new(None),
            focus: RefCell::new(focus),
        };
        let answer = ask(&picker);
        let (again_at, focus) = (picker.again_at.get(), picker.focus.into_inner());
        if let Some(job) = self.jobs.get_mut(&id) {
            job.focus = focus;
        }
        if let Some(at) = again_at {
            self.wake_by(at);
        }
        answer
    }

    fn make_lease(&mut self, now: Instant, id: JobId, index: UnitIndex, want: Option<Want>, worker: PeerId) -> Lease {
        let duration = self.lease_duration(id, worker);
        let job = self.jobs.get_mut(&id).expect("the unit was picked from this job");
        match want {
            Some(_) => job.wanted.remove(index),
            None => job.wanted.fresh = index.0 + 1,
        }
        job.note_lease(now);
        job.juries.note_asked(index, worker);
        let unit = &mut job.units[index.0 as usize];
        unit.leased = unit.leased.saturating_add(1);
        let attempt = unit.take_attempt();
        let ordinal = unit.next_position();
        let want = want.unwrap_or(Want::First);
        let (from, rests_on) = self.where_to_begin(now, id, index, want, worker);
        let secret = &self.jobs[&id].secret;
        let token = LeaseToken::make(secret, id, index, attempt, ordinal, worker).resting_on(secret, rests_on);
        let key = LeaseKey { job: id, unit: index, attempt };
        let resumed = from.is_some();
        self.leases.insert(key, Held { worker, issued: now, expiry: now.after(duration), want, resumed, seen: None, superseded: false });
        self.roster.hold(worker, key);
        Lease { unit: index, attempt, ordinal, token, duration, input: None, from, rests_on }
    }

    /// Three times the estimate from measured speed, with the worker's queue before it; the job's limit where nothing is known.
    fn lease_duration(&self, id: JobId, worker: PeerId) -> Duration {
        let job = &self.jobs[&id];
        let longest = job.manifest.limits.wall.saturating_add(LEASE_SLACK);
        let (speed, gas) = (self.trust.standing(worker).gas_per_second, job.verified_gas());
        let seconds = if speed > 0.0 && gas > 0 { Some(gas as f64 / speed) } else { job.unit_seconds.map(|known| known * UNKNOWN_SPEED) };
        let (Some(seconds), Some(state)) = (seconds, self.roster.get(worker)) else { return longest };
        let queue = 1.0 + state.leases.len() as f64 / f64::from(state.slots.max(1));
        let estimate = Duration::try_from_secs_f64(LEASE_OVER_ESTIMATE * queue * seconds).unwrap_or(longest);
        estimate.saturating_add(LEASE_MIN).min(longest)
    }

    /// The end of a job: whoever has nothing else to do also runs what takes another too long. The first answer is the vote; the
    /// others are compared and add no weight.
    fn back_up(&mut self, now: Instant, id: JobId, offers: &mut Vec<Offer>, batches: &mut Batches) {
        let job = &self.jobs[&id];
        let typical = Duration::try_from_secs_f64(BACKUP_OVER_TYPICAL * job.unit_seconds.unwrap_or_default()).unwrap_or(Duration::MAX);
        let patience = BACKUP_AFTER.saturating_add(typical);
        let mut late = Vec::new();
        let mut next: Option<Instant> = None;
        for (key, held) in self.leases.of_job(id) {
            let unit = &job.units[key.unit.0 as usize];
            // A unit that fails is tried with care, one attempt after the other; and jurors are drawn, not taken since they have room.
            let careful = job.failures.contains_key(&key.unit) || job.juries.has(key.unit);
            if held.superseded || unit.phase.is_decided() || careful {
                continue;
            }
            let leased = unit.leased;
            // One that shows how far it has come is not late as long as it does so.
            let (since, patience) = held.seen.map_or((held.issued, patience), |seen| (seen, patience.max(SEEN_PATIENCE)));
            let due = since.after(patience.saturating_mul(u32::from(leased)));
            match (leased < LEASES_PER_UNIT_MAX, due <= now) {
                (true, true) => late.push((key.unit, held.want)),
                (true, false) => next = Some(next.map_or(due, |next| next.min(due))),
                (false, true | false) => {}
            }
        }
        late.dedup_by_key(|(unit, _)| *unit);
        for (unit, want) in late {
            if !self.back_up_unit(now, id, unit, want, offers, batches) {
                next = Some(next.map_or(now.after(BACKUP_AFTER), |next| next.min(now.after(BACKUP_AFTER))));
            }
        }
        let next = next.unwrap_or(now.after(BACKUP_AFTER));
        self.wake_by(next);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.backup_at = Some(next);
        }
    }

    /// Whether the job is at its end and an attempt may be late. Asks to be woken when one may be.
    fn is_backup_due(&mut self, now: Instant, id: JobId) -> bool {
        let job = &self.jobs[&id];
        let tail = job.wanted.len(job.counts.units) == 0 && self.leases.count() <= TAIL_LEASES_MAX;
        if !tail || self.leases.of_job(id).next().is_none() {
            return false;
        }
        match job.backup_at {
            Some(at) if at > now => {
                self.wake_by(at);
                false
            }
            Some(_) | None => true,
        }
    }

    fn back_up_unit(
        &mut self,
        now: Instant,
        id: JobId,
        unit: UnitIndex,
        want: Want,
        offers: &mut Vec<Offer>,
        batches: &mut Batches,
    ) -> bool {
        for _ in 0..BACKUP_TRIES.min(offers.len()) {
            let at = self.draw(offers.len());
            let peer = offers[at].peer;
            if !self.with_picker(now, id, peer, |picker| picker.may_back_up(unit, want)) {
                continue;
            }
            let lease = self.make_lease(now, id, unit, Some(want), peer);
            batches.entry((peer, id)).or_default().push(lease);
            offers[at].free -= 1;
            if offers[at].free == 0 {
                offers.swap_remove(at);
            }
            return true;
        }
        false
    }

    /// Whether the owner's own slots are most of what can carry a verdict.
    fn proves_alone(&self) -> bool {
        self.roster.proven_at_last() < self.own_slots().max(1)
    }

    /// Slots that the owner lends to its own jobs.
    pub(super) fn own_slots(&self) -> usize {
        self.roster.get(self.me).map_or(0, |own| own.slots as usize)
    }

    /// Whether the owner's own slots are to work for the owner alone: there are newcomers to be proven, and nobody else to prove them.
    pub fn needs_own_slots(&self) -> bool {
        self.proves_alone() && self.running.iter().any(|id| self.jobs[id].has_undecided_votes())
    }

    /// Whether a vote that carries a verdict can be had at all now.
    pub(super) fn proven_within_reach(&self) -> bool {
        self.roster.proven_at_last() > 0 || self.roster.is_working(self.me)
    }
}
