//! Who gets which unit: the owner draws both at random among live offers; a worker never chooses.

use super::{
    Owner, OwnerAction,
    lease::{Lease, LeaseKey},
    own_job::OwnJob,
    unit::{LeaseToken, Want},
};
use crate::protocol::{
    fact::JobState,
    ids::{JobId, PeerId, UnitIndex},
    time::Instant,
    trust::Trust,
    verify::Voter,
};
use core::time::Duration;
use rand_chacha::rand_core::Rng;
use std::collections::BTreeMap;

/// The most undecided units that a newcomer may be involved in, so that a swarm of new keys cannot fill a job.
pub const NEWCOMER_PENDING_MAX: u32 = 20;
/// How many units are looked at for one offer before the next set is tried.
const CANDIDATES_MAX: usize = 16;
/// A lease lasts this many times the estimate.
const LEASE_OVER_ESTIMATE: f64 = 3.0;
/// The shortest lease: enough for a slow link and a cold start.
const LEASE_MIN: Duration = Duration::from_secs(30);
/// Added to the job's own time limit for the longest lease: fetching, compiling, queueing.
const LEASE_SLACK: Duration = Duration::from_secs(300);
/// The most leases in one batch.
pub const LEASE_BATCH_MAX: usize = 1024;

impl Owner {
    /// Leases units to live offers until either runs out.
    pub(super) fn schedule(&mut self, now: Instant) {
        let mut batches: BTreeMap<(PeerId, JobId), Vec<Lease>> = BTreeMap::new();
        let mut offers = self.offers(now);
        let mut jobs: Vec<(i8, JobId)> =
            self.jobs.values().filter(|job| job.state == JobState::Running).map(|job| (job.manifest.priority, job.id)).collect();
        jobs.sort_by_key(|&(priority, id)| (core::cmp::Reverse(priority), id));
        let proven_online = self.proven_online();
        for (_, id) in jobs {
            let mut live = offers.clone();
            while !live.is_empty() {
                let Some(mut budget) = self.budget(id, live.len()) else { break };
                let at = self.draw(live.len());
                let (worker, free) = live[at];
                budget = budget.min(free as usize);
                let leased = self.lease_to(now, id, worker, budget, proven_online, &mut batches);
                let left = offers.iter_mut().find(|(peer, _)| *peer == worker).map(|offer| {
                    offer.1 -= leased as u32;
                    offer.1
                });
                if leased < budget || left == Some(0) {
                    live.swap_remove(at);
                } else {
                    live[at].1 -= leased as u32;
                }
            }
            offers.retain(|(_, free)| *free > 0);
        }
        for ((to, job), mut leases) in batches {
            while !leases.is_empty() {
                let rest = leases.split_off(leases.len().min(LEASE_BATCH_MAX));
                self.actions.push(OwnerAction::Lease { to, job, leases });
                leases = rest;
            }
        }
    }

    /// Workers with room, and how much.
    fn offers(&self, now: Instant) -> Vec<(PeerId, u32)> {
        let free = |(peer, worker): (&PeerId, &super::Worker)| {
            let free = worker.window.saturating_sub(worker.leases.len() as u32);
            (free > 0 && (*peer == self.me || !self.trust.is_barred(*peer, now))).then_some((*peer, free))
        };
        self.workers.iter().filter_map(free).collect()
    }

    /// How many units one offer may get in one draw: a share, so that the last units are spread. `None`: no unit is open.
    fn budget(&self, id: JobId, offers: usize) -> Option<usize> {
        let job = self.jobs.get(&id)?;
        let open = job.wanted.len(job.counts.units);
        let allowed = job.leases_allowed();
        let room = if allowed == usize::MAX { open } else { allowed.saturating_sub(self.leases.count_of_job(id)).min(open) };
        (room > 0).then(|| room.div_ceil(2 * offers))
    }

    fn draw(&mut self, below: usize) -> usize {
        self.rng.next_u32() as usize % below.max(1)
    }

    /// Leases up to `budget` units of one job to one worker; returns how many.
    fn lease_to(
        &mut self,
        now: Instant,
        id: JobId,
        worker: PeerId,
        budget: usize,
        proven_online: usize,
        batches: &mut BTreeMap<(PeerId, JobId), Vec<Lease>>,
    ) -> usize {
        let mut leased = 0;
        while leased < budget {
            let pivot = self.rng.next_u32();
            let Some(job) = self.jobs.get(&id) else { break };
            let picker = Picker { job, trust: &self.trust, worker, me: self.me, proven_online, workers_online: self.workers.len(), pivot };
            let Some((unit, want)) = picker.pick() else { break };
            let lease = self.make_lease(now, id, unit, want, worker);
            batches.entry((worker, id)).or_default().push(lease);
            leased += 1;
        }
        leased
    }

    fn make_lease(&mut self, now: Instant, id: JobId, index: UnitIndex, want: Option<Want>, worker: PeerId) -> Lease {
        let duration = self.lease_duration(id, worker);
        let job = self.jobs.get_mut(&id).expect("the unit was picked from this job");
        match want {
            Some(_) => job.wanted.remove(index),
            None => job.wanted.fresh = index.0 + 1,
        }
        let unit = &mut job.units[index.0 as usize];
        unit.leased += 1;
        let attempt = unit.take_attempt();
        let ordinal = unit.votes.len() as u32;
        let token = LeaseToken::make(&job.secret, id, index, attempt, ordinal, worker);
        let key = LeaseKey { job: id, unit: index, attempt };
        self.leases.insert(key, worker, now.after(duration));
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.leases.insert(key);
        }
        Lease { unit: index, attempt, ordinal, token, duration }
    }

    /// Three times the estimate from measured speed, with the worker's queue before it; the job's limit where nothing is known.
    fn lease_duration(&self, id: JobId, worker: PeerId) -> Duration {
        let job = &self.jobs[&id];
        let longest = job.manifest.limits.wall.saturating_add(LEASE_SLACK);
        let speed = self.trust.standing(worker).gas_per_second;
        let (gas, state) = (job.gas_estimate(), self.workers.get(&worker));
        let (Some(state), true) = (state, speed > 0.0 && gas > 0) else { return longest };
        let queue = 1.0 + state.leases.len() as f64 / f64::from(state.slots.max(1));
        let estimate = Duration::try_from_secs_f64(LEASE_OVER_ESTIMATE * queue * gas as f64 / speed).unwrap_or(longest);
        estimate.saturating_add(LEASE_MIN).min(longest)
    }
}

/// Chooses a unit of one job for one worker.
struct Picker<'a> {
    job: &'a OwnJob,
    trust: &'a Trust,
    worker: PeerId,
    me: PeerId,
    proven_online: usize,
    workers_online: usize,
    /// Where in the sets to begin: drawn anew for each unit.
    pivot: u32,
}

impl Picker<'_> {
    /// The unit and the set that it is in; `None` for the set: it was never leased.
    fn pick(&self) -> Option<(UnitIndex, Option<Want>)> {
        let fresh = || {
            let next = UnitIndex(self.job.wanted.fresh);
            (next.0 < self.job.counts.units).then_some((next, None))
        };
        let from = |want: Want| self.from_set(want).map(|unit| (unit, Some(want)));
        let (any, proven) = (Want::Another(Voter::Anyone), Want::Another(Voter::Proven));
        if self.worker == self.me {
            let judge = from(Want::Owner);
            // The owner's own votes settle a unit at once. While nobody else is proven they prove the first newcomers.
            return if self.proven_online == 0 {
                judge.or_else(|| from(proven)).or_else(|| from(any)).or_else(|| from(Want::First)).or_else(fresh)
            } else {
                judge.or_else(|| from(Want::First)).or_else(fresh).or_else(|| from(any)).or_else(|| from(proven))
            };
        }
        if self.trust.is_proven(self.worker, self.job.gas_estimate()) {
            return from(proven).or_else(|| from(any)).or_else(|| from(Want::First)).or_else(fresh);
        }
        if self.job.undecided.get(&self.worker).copied().unwrap_or(0) >= NEWCOMER_PENDING_MAX {
            return None;
        }
        from(any).or_else(|| from(Want::First)).or_else(fresh)
    }

    /// A suitable unit of a set, beginning at a random place.
    fn from_set(&self, want: Want) -> Option<UnitIndex> {
        let set = self.job.wanted.set(want);
        let pivot = UnitIndex(self.pivot % self.job.counts.units.max(1));
        let around = set.range(pivot..).chain(set.range(..pivot));
        around.take(CANDIDATES_MAX).copied().find(|&unit| self.suits(unit))
    }

    /// Whether this worker's vote would be independent of those that the unit has.
    fn suits(&self, index: UnitIndex) -> bool {
        let Some(unit) = self.job.unit(index) else { return false };
        if unit.votes.iter().any(|vote| vote.worker == self.worker) {
            return false;
        }
        if self.worker == self.me {
            return true;
        }
        // Whoever failed on it is asked again only when everybody else has failed as well.
        let failed = self.job.failures.get(&index).map(|record| &record.workers);
        if failed.is_some_and(|failed| failed.contains(&self.worker) && failed.len() < self.workers_online) {
            return false;
        }
        let (prefix, lineage) = (self.trust.prefix(self.worker), self.trust.standing(self.worker).lineage);
        unit.votes.iter().filter(|vote| !vote.struck).all(|vote| {
            let other = self.trust.standing(vote.worker).lineage;
            (prefix.is_none() || self.trust.prefix(vote.worker) != prefix)
                && (lineage.is_none() || (other != lineage && lineage != Some(vote.worker)))
                && other != Some(self.worker)
        })
    }
}
