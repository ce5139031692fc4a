//! The worker's side: which coordinators to work for, how much to take on, what runs, what is not yet acknowledged.
//!
//! It never chooses a unit; it says how many leases it is willing to hold (its *window*) and runs what it gets.

use super::{
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::{AttemptFailure, Outcome},
    owner::{Lease, LeaseToken},
    time::Instant,
};
use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most coordinators worked for at once; each costs a stream.
pub const COORDINATORS_MAX: usize = 16;
/// The most leases held for one coordinator: a second of no-op units on a few slots, and 4 MiB of bookkeeping.
pub const WINDOW_MAX: u32 = 8192;
/// Leases are taken ahead for about this long, so that slots are busy while the next batch is under way.
const AHEAD: Duration = Duration::from_millis(500);
/// The most outcomes in one message.
pub const OUTCOME_BATCH_MAX: usize = 1024;
/// The most bytes of inline output in one message.
const OUTCOME_BATCH_BYTES_MAX: usize = 1 << 20;
/// How long to leave a coordinator alone that could not be reached.
const RETRY_AFTER: Duration = Duration::from_secs(5);
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

/// What a finished execution left.
#[derive(Clone, PartialEq, Debug)]
pub struct Finished {
    /// What it ended in.
    pub outcome: Outcome,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The output, when it is small enough to travel inline; else it is held as a blob.
    pub output: Option<Arc<[u8]>>,
    /// Kept standard error.
    pub log: Arc<[u8]>,
    /// Time that it took.
    pub wall: Duration,
}

/// An outcome on its way to the coordinator.
#[derive(Clone, PartialEq, Debug)]
pub struct Outgoing {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// From the lease.
    pub token: LeaseToken,
    /// What it ended in and left.
    pub finished: Finished,
}

/// What the worker wants done, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkerAction {
    /// Open a work stream to this coordinator; [`Worker::opened`] or [`Worker::closed`] follows.
    Open(PeerId),
    /// Close the work stream.
    Close(PeerId),
    /// Say how many leases are welcome.
    Window {
        /// To whom.
        to: PeerId,
        /// In all, those already held included.
        window: u32,
    },
    /// Run this; [`Worker::finished`] follows, exactly once unless cancelled.
    Run(RunId),
    /// Do not run it, or stop it; nothing follows.
    Cancel(RunId),
    /// Hand in outcomes; kept here until acknowledged.
    Report {
        /// To whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// The outcomes.
        outcomes: Vec<Outgoing>,
    },
}

/// A coordinator worked for, or about to be.
#[derive(Clone, Debug)]
struct Coordinator {
    state: LinkState,
    /// The window that it was last told.
    window_told: u32,
    running: BTreeMap<RunId, (u32, LeaseToken)>,
    /// Finished, not yet sent on this stream.
    unsent: BTreeSet<RunId>,
    /// Finished, not yet acknowledged.
    unacknowledged: BTreeMap<RunId, Outgoing>,
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
}

impl Worker {
    /// A worker with this many slots; none means that it lends nothing.
    pub fn new(slots: u32) -> Self {
        Self { slots, paused: false, coordinators: BTreeMap::new(), wanted: BTreeSet::new(), actions: Vec::new() }
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
        let idle = |coordinator: &Coordinator| coordinator.running.is_empty() && coordinator.unacknowledged.is_empty();
        let gone: Vec<_> =
            self.coordinators.iter().filter(|(peer, state)| !self.wanted.contains(peer) && idle(state)).map(|(p, _)| *p).collect();
        for peer in gone {
            self.coordinators.remove(&peer);
            self.actions.push(WorkerAction::Close(peer));
        }
        let missing: Vec<_> = self.wanted.iter().filter(|peer| !self.coordinators.contains_key(peer)).copied().collect();
        for peer in missing.into_iter().take(COORDINATORS_MAX.saturating_sub(self.coordinators.len())) {
            self.coordinators.insert(peer, Coordinator::new());
            self.actions.push(WorkerAction::Open(peer));
        }
        for (peer, coordinator) in &mut self.coordinators {
            if matches!(coordinator.state, LinkState::Closed { retry_at } if retry_at <= now) {
                coordinator.state = LinkState::Opening;
                self.actions.push(WorkerAction::Open(*peer));
            }
        }
    }

    /// The work stream is open: everything not acknowledged is handed in again.
    pub fn opened(&mut self, peer: PeerId) {
        let Some(coordinator) = self.coordinators.get_mut(&peer) else {
            self.actions.push(WorkerAction::Close(peer));
            return;
        };
        coordinator.state = LinkState::Open;
        coordinator.window_told = 0;
        coordinator.unsent = coordinator.unacknowledged.keys().copied().collect();
    }

    /// The work stream could not be opened, or is gone. What runs goes on; it is handed in later.
    pub fn closed(&mut self, now: Instant, peer: PeerId) {
        if let Some(coordinator) = self.coordinators.get_mut(&peer) {
            coordinator.state = LinkState::Closed { retry_at: now.after(RETRY_AFTER) };
        }
    }

    /// The coordinator leases units.
    pub fn leased(&mut self, from: PeerId, job: JobId, leases: &[Lease]) {
        let Some(coordinator) = self.coordinators.get_mut(&from) else { return };
        for lease in leases {
            let held = coordinator.running.len() + coordinator.unacknowledged.len();
            let run = RunId { coordinator: from, job, unit: lease.unit, attempt: lease.attempt };
            if held >= WINDOW_MAX as usize || coordinator.running.contains_key(&run) || coordinator.unacknowledged.contains_key(&run) {
                continue;
            }
            coordinator.running.insert(run, (lease.ordinal, lease.token));
            self.actions.push(WorkerAction::Run(run));
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
    }

    /// Outcomes of these units are durable at the coordinator.
    pub fn acknowledged(&mut self, from: PeerId, job: JobId, units: &[UnitIndex]) {
        let Some(coordinator) = self.coordinators.get_mut(&from) else { return };
        for &unit in units {
            let first = RunId { coordinator: from, job, unit, attempt: Attempt(0) };
            let last = RunId { attempt: Attempt(u32::MAX), ..first };
            let runs: Vec<_> = coordinator.unacknowledged.range(first..=last).map(|(run, _)| *run).collect();
            for run in runs {
                coordinator.unacknowledged.remove(&run);
                coordinator.unsent.remove(&run);
            }
        }
    }

    /// An execution ended.
    pub fn finished(&mut self, run: RunId, finished: Finished) {
        let Some(coordinator) = self.coordinators.get_mut(&run.coordinator) else { return };
        let Some((ordinal, token)) = coordinator.running.remove(&run) else { return };
        if !matches!(finished.outcome, Outcome::Failed(AttemptFailure::MissingBlob | AttemptFailure::Killed)) {
            let seconds = finished.wall.as_secs_f64();
            coordinator.unit_seconds = Some(coordinator.unit_seconds.map_or(seconds, |known| known + SMOOTHING * (seconds - known)));
        }
        let outgoing = Outgoing { unit: run.unit, attempt: run.attempt, ordinal, token, finished };
        coordinator.unacknowledged.insert(run, outgoing);
        coordinator.unsent.insert(run);
    }

    /// Takes no more work, or takes work again. What is leased stays leased.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        self.paused = paused;
        self.connect(now);
    }

    /// What is to be done: outcomes first, then windows.
    pub fn take_actions(&mut self, now: Instant) -> Vec<WorkerAction> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.connect(now);
        }
        let share = self.coordinators.values().filter(|coordinator| coordinator.state == LinkState::Open).count().max(1) as u32;
        for (peer, coordinator) in &mut self.coordinators {
            if coordinator.state != LinkState::Open {
                continue;
            }
            coordinator.report(*peer, &mut self.actions);
            let window = if self.paused { 0 } else { coordinator.window(self.slots, share) };
            if window.abs_diff(coordinator.window_told) * 4 > coordinator.window_told {
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
        if self.slots == 0 || self.paused { None } else { self.coordinators.values().filter_map(retry).min() }
    }

    /// Executions that run or wait for a slot.
    pub fn running(&self) -> usize {
        self.coordinators.values().map(|coordinator| coordinator.running.len()).sum()
    }

    /// Coordinators with an open work stream.
    pub fn attached(&self) -> usize {
        self.coordinators.values().filter(|coordinator| coordinator.state == LinkState::Open).count()
    }
}

impl Coordinator {
    fn new() -> Self {
        Self {
            state: LinkState::Opening,
            window_told: 0,
            running: BTreeMap::new(),
            unsent: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            unit_seconds: None,
        }
    }

    /// As many leases as keep the slots busy for [`AHEAD`], and one more for each slot; this coordinator's share of them.
    fn window(&self, slots: u32, share: u32) -> u32 {
        let ahead = match self.unit_seconds {
            None => 1.0,
            Some(seconds) => (AHEAD.as_secs_f64() / seconds.max(1e-6)).clamp(0.0, f64::from(WINDOW_MAX)) + 1.0,
        };
        let window = f64::from(slots) * (1.0 + ahead) / f64::from(share);
        (window as u32).clamp(1, WINDOW_MAX)
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
            let bytes = outgoing.finished.output.as_ref().map_or(0, |output| output.len()) + outgoing.finished.log.len();
            let fits = batch.as_ref().is_some_and(|(job, outcomes, held)| {
                *job == run.job && outcomes.len() < OUTCOME_BATCH_MAX && held + bytes <= OUTCOME_BATCH_BYTES_MAX
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
