//! Disputes about long stepped units, in practice: chains that are kept until somebody asks, states that are made again, and the one
//! segment that the owner runs. What is asked, and what follows, is decided in the core (`protocol/owner/bisect.rs`).
//!
//! The work is done beside the slots, in a jailed process of its own, one piece at a time.

use super::{
    border::{Fetch, Goal},
    net::Wanted,
    run_loop::Node,
    slots::{TaskSource, read_module, task_of},
};
use crate::{
    protocol::{
        chain::{End, FINEST_INTERVAL, LINKS_MAX, Link, Links},
        ids::{JobId, PeerId, UnitIndex},
        job::Manifest,
        outcome::{Outcome, UnitLimits},
        peer::Event,
        worker::RunId,
    },
    sandbox::{Part, PartReport, STATE_BYTES_MAX, SlotProcess, Stopper, Task, Workshop},
    store::Store,
    wire::work::{CoordinatorMessage, UnitInput, WorkerMessage},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::task::JoinSet;

/// Links that are kept for units handed in, in all: 5 MB, which is 128 long units at least.
const KEPT_MAX: usize = 128 * LINKS_MAX;
/// Pieces of work for others that wait. Whoever asks for more is told that it cannot be had.
const WAITING_FOR_OTHERS_MAX: usize = 4;

/// A unit that was run for another peer.
type UnitHere = (PeerId, JobId, UnitIndex);

/// What disputes need on this machine.
pub(super) struct Disputes {
    workshop: Arc<Workshop>,
    stopper: Stopper,
    kept: BTreeMap<UnitHere, Links>,
    /// In the order in which they came.
    order: VecDeque<UnitHere>,
    links_kept: usize,
    waiting: VecDeque<Work>,
    running: JoinSet<Done>,
}

/// Something to be run.
struct Work {
    purpose: Purpose,
    manifest: Arc<Manifest>,
    source: TaskSource,
}

#[derive(Clone, Copy)]
enum Purpose {
    /// A segment of an own unit.
    Segment { job: JobId, unit: UnitIndex, from: Option<Link>, until: u64 },
    /// A state of a unit that was run for another peer.
    State { to: PeerId, job: JobId, unit: UnitIndex, gas: u64 },
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done {
    /// What is at the segment's end.
    Segment { job: JobId, unit: UnitIndex, found: Option<End> },
    /// The state is held and has so many bytes; none when it could not be made.
    State { to: PeerId, job: JobId, unit: UnitIndex, bytes: u64 },
}

impl Disputes {
    pub fn new(workshop: Arc<Workshop>) -> Self {
        let (kept, order, waiting) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Self { workshop, stopper: Stopper::default(), kept, order, links_kept: 0, waiting, running: JoinSet::new() }
    }

    /// Keeps the chains of units that were run for others; the oldest are forgotten when there are too many.
    pub fn keep(&mut self, chains: impl Iterator<Item = (RunId, Links)>) {
        for (run, links) in chains {
            let unit = (run.coordinator, run.job, run.unit);
            self.links_kept += links.as_slice().len();
            match self.kept.insert(unit, links) {
                Some(before) => self.links_kept -= before.as_slice().len(),
                None => self.order.push_back(unit),
            }
        }
        while self.links_kept > KEPT_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.links_kept -= self.kept.remove(&oldest).map_or(0, |links| links.as_slice().len());
        }
    }

    /// Starts what waits, if nothing runs.
    pub fn start(&mut self, store: &Store) {
        if !self.running.is_empty() {
            return;
        }
        if let Some(work) = self.waiting.pop_front() {
            let (workshop, stopper, store) = (self.workshop.clone(), self.stopper.clone(), store.clone());
            // The slot lives and dies on this one thread.
            self.running.spawn_blocking(move || work.run(workshop, stopper, &store));
        }
    }

    /// The next piece that is done; never while nothing runs.
    pub async fn next(&mut self) -> Done {
        loop {
            match self.running.join_next().await {
                Some(Ok(done)) => return done,
                // What it was for is given up in time.
                Some(Err(error)) => tracing::error!(%error, "a piece of a unit in dispute could not be run"),
                None => return std::future::pending().await,
            }
        }
    }
}

impl Drop for Disputes {
    fn drop(&mut self) {
        self.stopper.close();
    }
}

impl Work {
    fn run(self, workshop: Arc<Workshop>, stopper: Stopper, store: &Store) -> Done {
        match self.purpose {
            Purpose::Segment { job, unit, from, until } => {
                let found = self.segment(workshop, stopper, store, (job, unit), from, until);
                Done::Segment { job, unit, found }
            }
            Purpose::State { to, job, unit, gas } => {
                let bytes = self.state(workshop, stopper, store, (job, unit), gas).unwrap_or(0);
                Done::State { to, job, unit, bytes }
            }
        }
    }

    fn segment(
        self,
        workshop: Arc<Workshop>,
        stopper: Stopper,
        store: &Store,
        unit: (JobId, UnitIndex),
        from: Option<Link>,
        until: u64,
    ) -> Option<End> {
        let state = match from {
            None => None,
            // The links before it are of no use here.
            Some(link) => Some((store.read_blob(link.state).ok()??, Links::default())),
        };
        let part = Part { from: state, until: Some(until), keep_state: false };
        match self.part(workshop, stopper, store, unit, &part)? {
            PartReport::Stopped { snapshot, .. } => Some(End::Link(snapshot.at)),
            PartReport::Ended(report) => match report.outcome {
                Outcome::Value(value) => Some(End::of(value)),
                Outcome::Failed(failure) => {
                    tracing::info!(%failure, "a segment of a unit in dispute could not be run");
                    None
                }
            },
        }
    }

    fn state(self, workshop: Arc<Workshop>, stopper: Stopper, store: &Store, unit: (JobId, UnitIndex), gas: u64) -> Option<u64> {
        let part = Part { from: None, until: Some(gas), keep_state: true };
        match self.part(workshop, stopper, store, unit, &part)? {
            PartReport::Stopped { snapshot, .. } if !snapshot.state.is_empty() => {
                store.put_blob(&snapshot.state, None).ok()?;
                Some(snapshot.state.len() as u64)
            }
            PartReport::Stopped { .. } | PartReport::Ended(_) => None,
        }
    }

    fn part(
        self,
        workshop: Arc<Workshop>,
        stopper: Stopper,
        store: &Store,
        (job, unit): (JobId, UnitIndex),
        part: &Part,
    ) -> Option<PartReport> {
        let Self { manifest, source, .. } = self;
        let task: Task = task_of(store, &manifest, job, unit, source)?;
        let loaded = SlotProcess::spawn_with(workshop, stopper).and_then(|mut slot| {
            slot.load(manifest.module, || read_module(store, manifest.module))?;
            Ok(slot)
        });
        match loaded {
            Ok(mut slot) => Some(slot.run_part(&task, part)),
            Err(error) => {
                tracing::info!(%error, "a unit in dispute cannot be run here");
                None
            }
        }
    }
}

impl Node {
    /// A coordinator asks for the links of a unit.
    pub(super) fn on_links_wanted(&mut self, from: PeerId, job: JobId, unit: UnitIndex) {
        let links = self.disputes.kept.get(&(from, job, unit)).cloned();
        self.send_to_coordinator(from, WorkerMessage::Links { job, unit, links });
    }

    /// A coordinator asks for a state of a unit that was run here for it.
    pub(super) fn on_state_wanted(&mut self, from: PeerId, job: JobId, unit: UnitIndex, gas: u64, input: Option<UnitInput>) {
        // Nothing but what was shown to be a state of that unit, and so no more work than the unit was.
        let links = self.disputes.kept.get(&(from, job, unit)).map_or(&[][..], Links::as_slice);
        let known = links.iter().any(|link| link.gas == gas) && !self.peer.worker().is_paused();
        let of_others = |work: &&Work| matches!(work.purpose, Purpose::State { .. });
        let room = self.disputes.waiting.iter().filter(of_others).count() < WAITING_FOR_OTHERS_MAX;
        let manifest = self.runs.manifest(from, job).filter(|manifest| known && room && self.holds(manifest.module));
        let Some(manifest) = manifest else {
            return self.send_to_coordinator(from, WorkerMessage::State { job, unit, bytes: 0 });
        };
        let source = input.map_or(TaskSource::Nothing, TaskSource::Given);
        // What it is given now may be something else, on which it would never end.
        let limits = UnitLimits { gas: manifest.limits.gas.min(gas.saturating_add(FINEST_INTERVAL)), ..manifest.limits };
        let manifest = Arc::new(Manifest { limits, ..(*manifest).clone() });
        self.disputes.waiting.push_back(Work { purpose: Purpose::State { to: from, job, unit, gas }, manifest, source });
    }

    /// Asks a worker for a state, with what it needs to make it.
    pub(super) fn ask_state(&mut self, to: PeerId, job: JobId, unit: UnitIndex, link: Link) {
        if !self.describe(to, job) {
            return;
        }
        match tokio::task::block_in_place(|| self.store.unit_inputs(job, &[unit])) {
            Ok(inputs) => {
                let input = inputs.into_iter().next().flatten();
                self.send_to_worker(to, CoordinatorMessage::StateWanted { job, unit, gas: link.gas, input });
            }
            Err(error) => {
                tracing::error!(%error, "the input of a unit cannot be read");
                self.event(Event::State { from: to, job, unit, held: false });
            }
        }
    }

    /// A worker says that it has a state: it is fetched by the digest that both parties agree on.
    pub(super) fn on_state(&mut self, from: PeerId, job: JobId, unit: UnitIndex, bytes: u64) {
        let Some(link) = self.peer.owner().wanted_state(from, job, unit) else { return };
        let sensible = bytes > 0 && bytes <= STATE_BYTES_MAX as u64;
        if sensible && self.holds(link.state) {
            return self.event(Event::State { from, job, unit, held: true });
        }
        let wanted = Wanted { digest: link.state, length: Some(bytes), at_most: bytes };
        let fetch = Fetch { wanted, holders: vec![from], goal: Goal::State { from, job, unit } };
        if !sensible || !self.fetches.push(fetch) {
            self.event(Event::State { from, job, unit, held: false });
        }
    }

    /// Runs one segment of an own unit.
    pub(super) fn run_segment(&mut self, job: JobId, unit: UnitIndex, from: Option<Link>, until: u64) {
        let Some(manifest) = self.peer.owner().manifest(job) else {
            return self.event(Event::SegmentRan { job, unit, found: None });
        };
        let began = from.map_or(0, |link| link.gas);
        tracing::info!(job = %job.short(), unit = unit.0, began, until, "one segment of a unit in dispute is run here");
        let source = if manifest.has_table() { TaskSource::OwnTable } else { TaskSource::Nothing };
        // Before what is wanted by others.
        let own = |work: &Work| matches!(work.purpose, Purpose::Segment { .. });
        let at = self.disputes.waiting.iter().take_while(|work| own(work)).count();
        self.disputes.waiting.insert(at, Work { purpose: Purpose::Segment { job, unit, from, until }, manifest, source });
    }

    /// A piece of work for a dispute is done.
    pub(super) fn on_dispute_work(&mut self, done: Done) {
        match done {
            Done::Segment { job, unit, found } => self.event(Event::SegmentRan { job, unit, found }),
            Done::State { to, job, unit, bytes } => self.send_to_coordinator(to, WorkerMessage::State { job, unit, bytes }),
        }
    }
}
