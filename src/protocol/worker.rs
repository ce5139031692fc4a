//! The worker's side: which coordinators to work for, how much to take on, what runs, what is not yet acknowledged.
//!
//! It never chooses a unit; it says how many leases it is willing to hold (its *window*) and runs what it gets.

mod action;
mod kept;
mod outgoing;
mod running;
mod window;

pub use action::WorkerAction;
pub use outgoing::{Finished, KEPT_OUTPUT_BYTES_MAX, Kept, Outgoing};

use super::{
    checkpoint::Checkpoint,
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::{AttemptFailure, Outcome},
    owner::Lease,
    time::Instant,
};
use core::time::Duration;
use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use running::Running;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use window::{Lately, Shares};

/// The most coordinators worked for at once; each costs a stream.
pub const COORDINATORS_MAX: usize = 16;
/// The most leases held for one coordinator: a second of no-op units on a few slots, and 4 MiB of bookkeeping.
pub const WINDOW_MAX: u32 = 8192;
/// So many outcomes may wait for one coordinator's acknowledgement, and fewer leases are welcome the more do: some seconds of no-op units,
/// for a coordinator whose keepers are behind, and 12 MiB.
pub const UNACKNOWLEDGED_MAX: u32 = 4 * WINDOW_MAX;
/// The most that is held for one coordinator, leases and outcomes: it may have leased what it was told before. One that keeps to the
/// windows never gets there, for what is not taken is missing until the lease runs out.
pub const HELD_MAX: usize = (UNACKNOWLEDGED_MAX + 3 * WINDOW_MAX) as usize;
/// The most outcomes in one message.
pub const OUTCOME_BATCH_MAX: usize = 1024;
/// The most bytes of inline output in one message.
const OUTCOME_BATCH_BYTES_MAX: usize = 1 << 20;
/// How long to leave a coordinator alone that could not be reached; doubles with each failure in a row.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The longest such time: a coordinator that is back waits no longer for its workers.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Where more coordinators want workers than there is room for, one that gave nothing for so long makes room.
const USELESS_AFTER: Duration = Duration::from_secs(60);
/// A coordinator that is not reached for so long makes room even if results for it are held.
const LOST_AFTER: Duration = Duration::from_secs(600);
/// While more bytes of results than this wait for one coordinator's acknowledgement, no new leases are welcome; with twice as many none is
/// taken.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Leases beyond the window that are taken all the same: the coordinator may count differently for a moment.
const WINDOW_SLACK: usize = 16;
/// Weight of the newest measurement in the smoothed time of a unit.
const SMOOTHING: f64 = 0.1;

/// Names one execution on this machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId {
    /// For whom.
    pub coordinator: PeerId,
    /// Of which job.
    pub job: JobId,
    /// Which unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
}

/// A coordinator worked for, or about to be.
#[derive(Clone, Debug)]
struct Coordinator {
    state: LinkState,
    /// The window that it was last told.
    window_told: u32,
    /// Windows before that: leases given by them may still be under way.
    lately: Lately,
    /// Links that failed in a row without a lease between.
    failures: u32,
    /// When it last gave something, or was taken on.
    useful_at: Instant,
    /// Bytes of what is not yet acknowledged.
    held_bytes: usize,
    running: BTreeMap<RunId, Running>,
    /// Finished, not yet sent on this stream.
    unsent: BTreeSet<RunId>,
    /// Finished, not yet acknowledged.
    unacknowledged: BTreeMap<RunId, Outgoing>,
    /// Those of them whose receipts are kept already.
    kept: BTreeSet<RunId>,
    /// Smoothed time of a unit, in seconds.
    unit_seconds: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LinkState {
    Opening,
    Open,
    Closed { retry_at: Instant },
}

/// The worker's side of a peer.
#[derive(Clone, Debug)]
pub struct Worker {
    slots: u32,
    paused: bool,
    coordinators: BTreeMap<PeerId, Coordinator>,
    /// Coordinators with open jobs, as heard.
    wanted: BTreeSet<PeerId>,
    actions: Vec<WorkerAction>,
    rng: ChaCha8Rng,
    /// When one of the coordinators may have to make room for another.
    rotate_at: Option<Instant>,
    /// Gets all slots for as long as it has something to run.
    favoured: Option<PeerId>,
}

impl Worker {
    /// A worker with this many slots; none means that it lends nothing.
    pub fn new(slots: u32, rng: ChaCha8Rng) -> Self {
        let (coordinators, wanted) = (BTreeMap::new(), BTreeSet::new());
        Self { slots, paused: false, coordinators, wanted, actions: Vec::new(), rng, rotate_at: None, favoured: None }
    }

    /// Which coordinators have open jobs now. Work streams to others are closed once nothing of theirs is held.
    pub fn heard_of(&mut self, now: Instant, coordinators: BTreeSet<PeerId>) {
        self.wanted = coordinators;
        self.connect(now);
    }

    fn connect(&mut self, now: Instant) {
        if self.slots == 0 || self.paused {
            return;
        }
        let done =
            |peer: &PeerId, coordinator: &Coordinator| !self.wanted.contains(peer) && (coordinator.is_idle() || coordinator.is_lost(now));
        let gone: Vec<_> = self.coordinators.iter().filter(|(peer, state)| done(peer, state)).map(|(peer, _)| *peer).collect();
        for peer in gone {
            self.leave(peer);
        }
        self.take_on(now);
        for (peer, coordinator) in &mut self.coordinators {
            if matches!(coordinator.state, LinkState::Closed { retry_at } if retry_at <= now) {
                coordinator.state = LinkState::Opening;
                self.actions.push(WorkerAction::Open(*peer));
            }
        }
    }

    /// Takes on coordinators at random, so that no choice of keys gets workers first; useless ones make room.
    fn take_on(&mut self, now: Instant) {
        let mut missing: Vec<_> = self.wanted.iter().filter(|peer| !self.coordinators.contains_key(peer)).copied().collect();
        self.rotate_at = None;
        while !missing.is_empty() {
            if self.coordinators.len() >= COORDINATORS_MAX {
                let useless = self.coordinators.iter().find(|(_, coordinator)| coordinator.makes_room_at().is_some_and(|at| at <= now));
                let Some(peer) = useless.map(|(peer, _)| *peer) else {
                    self.rotate_at = self.coordinators.values().filter_map(Coordinator::makes_room_at).min();
                    return;
                };
                self.leave(peer);
            }
            let drawn = self.rng.next_u32() as usize % missing.len();
            let peer = missing.swap_remove(drawn);
            self.coordinators.insert(peer, Coordinator::new(now));
            self.actions.push(WorkerAction::Open(peer));
        }
    }

    fn leave(&mut self, peer: PeerId) {
        if let Some(mut coordinator) = self.coordinators.remove(&peer) {
            // It may be back one day, and a keeper of its jobs may be here already.
            self.actions.extend(coordinator.keep_unacknowledged(peer, |_| true));
            self.actions.extend(coordinator.running.into_keys().map(WorkerAction::Cancel));
            self.actions.push(WorkerAction::Close(peer));
        }
    }

    /// The work stream is open: everything not acknowledged is handed in again.
    pub fn opened(&mut self, peer: PeerId) {
        let Some(coordinator) = self.coordinators.get_mut(&peer) else {
            self.actions.push(WorkerAction::Close(peer));
            return;
        };
        coordinator.state = LinkState::Open;
        (coordinator.window_told, coordinator.lately) = (0, Lately::default());
        coordinator.unsent = coordinator.unacknowledged.keys().copied().collect();
        for running in coordinator.running.values_mut() {
            running.unsent = running.checkpoint.is_some();
        }
    }

    /// A run has come so far; its state is held as a blob.
    pub fn saved(&mut self, run: RunId, checkpoint: Checkpoint) {
        let coordinator = self.coordinators.get_mut(&run.coordinator);
        if let Some(running) = coordinator.and_then(|coordinator| coordinator.running.get_mut(&run)) {
            running.checkpoint = Some(Arc::new(Checkpoint { rests_on: running.rests_on, ..checkpoint }));
            running.unsent = true;
        }
    }

    /// The work stream could not be opened, or is gone. What runs goes on; it is handed in later.
    pub fn closed(&mut self, now: Instant, peer: PeerId) {
        if let Some(coordinator) = self.coordinators.get_mut(&peer) {
            let wait = RETRY_AFTER.saturating_mul(1 << coordinator.failures.min(8)).min(RETRY_AFTER_MAX);
            coordinator.failures = coordinator.failures.saturating_add(1);
            coordinator.state = LinkState::Closed { retry_at: now.after(wait) };
        }
    }

    /// The coordinator leases units. What goes far beyond the windows that it was told is not taken, and nothing is while twice
    /// `HELD_BYTES_MAX` wait for it: one that never acknowledges must not exhaust the memory, whatever window it was told before.
    pub fn leased(&mut self, now: Instant, from: PeerId, job: JobId, leases: &[Lease]) {
        let Some(coordinator) = self.coordinators.get_mut(&from) else { return };
        (coordinator.failures, coordinator.useful_at) = (0, now);
        if coordinator.held_bytes > 2 * HELD_BYTES_MAX {
            return;
        }
        let welcome = 2 * coordinator.window_told.max(coordinator.lately.largest(now)) as usize + WINDOW_SLACK;
        for lease in leases {
            let held = coordinator.running.len() + coordinator.unacknowledged.len();
            let run = RunId { coordinator: from, job, unit: lease.unit, attempt: lease.attempt };
            if held >= HELD_MAX
                || coordinator.running.len() >= welcome
                || coordinator.running.contains_key(&run)
                || coordinator.unacknowledged.contains_key(&run)
            {
                continue;
            }
            let Lease { ordinal, token, input, rests_on, .. } = *lease;
            // What goes on from a state that the coordinator names is never signed as this worker's own work alone: it may be any state.
            let from = lease.from.clone().filter(|_| !rests_on.is_empty());
            let resumed = from.is_some();
            coordinator.running.insert(run, Running { ordinal, token, input, rests_on, checkpoint: None, unsent: false, resumed });
            self.actions.push(WorkerAction::Run { run, from });
        }
    }

    /// The coordinator wants nothing more of a job.
    pub fn revoked(&mut self, from: PeerId, job: JobId) {
        let Some(coordinator) = self.coordinators.get_mut(&from) else { return };
        let of_job: Vec<_> = coordinator.running.keys().filter(|run| run.job == job).copied().collect();
        for run in of_job {
            coordinator.running.remove(&run);
            self.actions.push(WorkerAction::Cancel(run));
        }
        coordinator.unacknowledged.retain(|run, _| run.job != job);
        coordinator.unsent.retain(|run| run.job != job);
        coordinator.kept.retain(|run| run.job != job);
        coordinator.held_bytes = coordinator.unacknowledged.values().map(Outgoing::bytes).sum();
    }

    /// Outcomes of these units are durable at the coordinator.
    pub fn acknowledged(&mut self, from: PeerId, job: JobId, units: &[UnitIndex]) {
        let Some(coordinator) = self.coordinators.get_mut(&from) else { return };
        let mut receipts = Vec::new();
        for &unit in units {
            let first = RunId { coordinator: from, job, unit, attempt: Attempt(0) };
            let last = RunId { attempt: Attempt(u32::MAX), ..first };
            let runs: Vec<_> = coordinator.unacknowledged.range(first..=last).map(|(run, _)| *run).collect();
            for run in runs {
                let outgoing = coordinator.unacknowledged.remove(&run);
                coordinator.held_bytes -= outgoing.as_ref().map_or(0, Outgoing::bytes);
                coordinator.unsent.remove(&run);
                if !coordinator.kept.remove(&run) {
                    receipts.extend(outgoing.and_then(Kept::of));
                }
            }
        }
        if !receipts.is_empty() {
            self.actions.push(WorkerAction::Keep { coordinator: from, job, receipts });
        }
    }

    /// An execution ended.
    pub fn finished(&mut self, run: RunId, finished: Finished) {
        let Some(coordinator) = self.coordinators.get_mut(&run.coordinator) else { return };
        let Some(Running { ordinal, token, input, rests_on, resumed, .. }) = coordinator.running.remove(&run) else { return };
        if !resumed && !matches!(finished.outcome, Outcome::Failed(AttemptFailure::MissingBlob | AttemptFailure::Killed)) {
            let seconds = finished.wall.as_secs_f64();
            coordinator.unit_seconds = Some(coordinator.unit_seconds.map_or(seconds, |known| known + SMOOTHING * (seconds - known)));
        }
        let outgoing = Outgoing { unit: run.unit, attempt: run.attempt, ordinal, token, input, rests_on, finished };
        coordinator.held_bytes += outgoing.bytes();
        coordinator.unacknowledged.insert(run, outgoing);
        coordinator.unsent.insert(run);
    }

    /// Takes no more work, or takes work again. What is leased stays leased.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        self.paused = paused;
        self.connect(now);
    }

    /// Whether it takes no more work.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// What is to be done: outcomes first, then windows.
    pub fn take_actions(&mut self, now: Instant) -> Vec<WorkerAction> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.connect(now);
        }
        let shares = Shares::of(self, now);
        for (peer, coordinator) in &mut self.coordinators {
            if coordinator.state != LinkState::Open {
                continue;
            }
            coordinator.offer(*peer, &mut self.actions);
            coordinator.report(*peer, &mut self.actions);
            let window = shares.window(*peer, coordinator);
            if window.abs_diff(coordinator.window_told) * 4 > coordinator.window_told {
                coordinator.lately.told(now, coordinator.window_told.max(window));
                coordinator.window_told = window;
                self.actions.push(WorkerAction::Window { to: *peer, window });
            }
        }
        core::mem::take(&mut self.actions)
    }

    /// When a coordinator is to be tried again.
    pub fn deadline(&self) -> Option<Instant> {
        let retry = |coordinator: &Coordinator| match coordinator.state {
            LinkState::Closed { retry_at } => Some(retry_at),
            LinkState::Opening | LinkState::Open => None,
        };
        let due = self.coordinators.values().filter_map(retry).chain(self.rotate_at).min();
        if self.slots == 0 || self.paused { None } else { due }
    }

    /// Executions that run or wait for a slot.
    pub fn running(&self) -> usize {
        self.coordinators.values().map(|coordinator| coordinator.running.len()).sum()
    }

    /// Whether this execution runs, or waits for a slot.
    pub fn is_running(&self, run: RunId) -> bool {
        self.coordinators.get(&run.coordinator).is_some_and(|coordinator| coordinator.running.contains_key(&run))
    }

    /// Whether this coordinator's work stream is open.
    pub fn is_attached(&self, coordinator: PeerId) -> bool {
        self.coordinators.get(&coordinator).is_some_and(|coordinator| coordinator.state == LinkState::Open)
    }

    /// All of them.
    pub fn runs(&self) -> Vec<RunId> {
        self.coordinators.values().flat_map(|coordinator| coordinator.running.keys().copied()).collect()
    }

    /// Whether nothing runs, and nothing waits for a coordinator that is there to acknowledge it.
    pub fn is_drained(&self) -> bool {
        let waits = |coordinator: &Coordinator| coordinator.state == LinkState::Open && !coordinator.unacknowledged.is_empty();
        self.coordinators.values().all(|coordinator| coordinator.running.is_empty() && !waits(coordinator))
    }

    /// Coordinators with an open work stream.
    pub fn attached(&self) -> usize {
        self.coordinators.values().filter(|coordinator| coordinator.state == LinkState::Open).count()
    }
}

impl Coordinator {
    fn new(now: Instant) -> Self {
        Self {
            state: LinkState::Opening,
            window_told: 0,
            lately: Lately::default(),
            failures: 0,
            useful_at: now,
            held_bytes: 0,
            running: BTreeMap::new(),
            unsent: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            kept: BTreeSet::new(),
            unit_seconds: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.unacknowledged.is_empty()
    }

    fn is_lost(&self, now: Instant) -> bool {
        matches!(self.state, LinkState::Closed { .. }) && self.useful_at.after(LOST_AFTER) <= now
    }

    /// When it may be left for another coordinator, if nothing happens until then.
    fn makes_room_at(&self) -> Option<Instant> {
        match self.state {
            _ if self.is_idle() => Some(self.useful_at.after(USELESS_AFTER)),
            LinkState::Closed { .. } => Some(self.useful_at.after(LOST_AFTER)),
            LinkState::Opening | LinkState::Open => None,
        }
    }

    fn report(&mut self, to: PeerId, actions: &mut Vec<WorkerAction>) {
        let mut batch: Option<(JobId, Vec<Outgoing>, usize)> = None;
        let mut flush = |batch: Option<(JobId, Vec<Outgoing>, usize)>| {
            if let Some((job, outcomes, _)) = batch {
                actions.push(WorkerAction::Report { to, job, outcomes });
            }
        };
        for run in core::mem::take(&mut self.unsent) {
            let Some(outgoing) = self.unacknowledged.get(&run) else { continue };
            let bytes = outgoing.bytes();
            let fits = batch.as_ref().is_some_and(|(job, outcomes, held)| {
                let repeated = outcomes.last().is_some_and(|last: &Outgoing| last.unit == run.unit);
                *job == run.job && !repeated && outcomes.len() < OUTCOME_BATCH_MAX && held + bytes <= OUTCOME_BATCH_BYTES_MAX
            });
            if !fits {
                flush(batch.take());
            }
            let (_, outcomes, held) = batch.get_or_insert_with(|| (run.job, Vec::new(), 0));
            outcomes.push(outgoing.clone());
            *held += bytes;
        }
        flush(batch);
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
