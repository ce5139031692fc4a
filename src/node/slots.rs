//! The slots: one thread for each, which owns a jailed process and blocks in it.
//!
//! A slot gets batches of units of one job and sends back what they ended in. Which job and how many is decided in `runs`.

use super::{outbox::Outbox, runs::JobKey};
use crate::{
    protocol::{
        chain::Links,
        checkpoint::Checkpoint,
        ids::{Digest, JobId, UnitIndex},
        job::{Manifest, unit_seed},
        outcome::{AttemptFailure, Outcome},
        worker::{Finished, RunId},
    },
    sandbox::{Part, PartReport, Progress, Report, SlotError, SlotProcess, Snapshot, Stopper, Task, Workshop},
    store::Store,
    wire::{bounds::INLINE_BYTES_MAX, work::UnitInput},
};
use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Batches with a slot: one that runs, one that waits, so that the slot never does.
const BATCHES_PER_SLOT: usize = 2;
/// How soon an output is tried to be kept again for which there was no room.
const KEEP_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a slot that could not be started waits before it tries again.
const RESPAWN_AFTER: Duration = Duration::from_secs(1);

/// Units of one job for one slot.
#[derive(Debug)]
pub(super) struct Batch {
    pub key: JobKey,
    pub manifest: Arc<Manifest>,
    pub tasks: Vec<UnitTask>,
    /// How often a unit that can be saved is.
    pub save_every: Duration,
}

/// One unit, and where its input is.
#[derive(Debug)]
pub(super) struct UnitTask {
    pub run: RunId,
    pub source: TaskSource,
    /// Where it goes on; the state is held as a blob.
    pub from: Option<Arc<Checkpoint>>,
}

/// Where a unit's input is.
#[derive(Debug)]
pub(super) enum TaskSource {
    /// It has none.
    Nothing,
    /// It came with the lease, or is a blob that is held here.
    Given(UnitInput),
    /// In the table of an own job.
    OwnTable,
}

/// What a slot says.
#[derive(Debug)]
pub(super) struct SlotEvent {
    pub slot: usize,
    pub key: JobKey,
    pub finished: Vec<(RunId, Finished)>,
    /// The chains of those that have one.
    pub links: Vec<(RunId, Links)>,
    /// How far a unit has come that runs on; its state is held as a blob.
    pub saved: Option<(RunId, Checkpoint)>,
    /// The batch is done.
    pub is_last: bool,
}

/// All slots of this machine.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    batches: Option<blocking::SyncSender<(u64, Batch)>>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    /// What it has been given and not finished, oldest first.
    given: VecDeque<Given>,
    batches_given: u64,
    gate: Arc<Mutex<Gate>>,
    loaded: Option<JobKey>,
    /// The unit that it runs, once that has shown that it can be saved.
    saves: Option<RunId>,
}

/// A batch that a slot has.
#[derive(Debug)]
struct Given {
    number: u64,
    runs: BTreeSet<RunId>,
}

/// What a slot's thread and the run loop must agree on at every instant, so that no blow hits another batch than was meant. Held for
/// a few instructions only.
#[derive(Debug, Default)]
struct Gate {
    /// The batch that the thread is at.
    current: Option<u64>,
    /// Batches that are not to run, or not on; at most those that the slot has.
    cancelled: BTreeSet<u64>,
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    // No code that can panic runs under the lock.
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    /// Starts `count` threads. Their processes start with their first batch.
    pub fn start(count: u32, workshop: &Arc<Workshop>, store: &Store, events: &mpsc::Sender<SlotEvent>) -> io::Result<Self> {
        let slots = (0..count as usize).map(|slot| Slot::start(slot, workshop, store, events)).collect::<io::Result<_>>()?;
        Ok(Self { slots })
    }

    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Slots that have something to run.
    pub fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.given.is_empty()).count()
    }

    /// The job that a slot has loaded, or will have.
    pub fn loaded(&self, slot: usize) -> Option<JobKey> {
        self.slots[slot].loaded
    }

    /// The slot with the least to do, if it has room for a batch.
    pub fn next_free(&self) -> Option<usize> {
        let room = |slot: &&(usize, &Slot)| slot.1.given.len() < BATCHES_PER_SLOT;
        let slots: Vec<_> = self.slots.iter().enumerate().collect();
        slots.iter().filter(room).min_by_key(|(_, slot)| slot.given.len()).map(|(at, _)| *at)
    }

    /// Gives a slot with room a batch.
    pub fn give(&mut self, slot: usize, batch: Batch) {
        let slot = &mut self.slots[slot];
        slot.loaded = Some(batch.key);
        slot.batches_given += 1;
        let number = slot.batches_given;
        slot.given.push_back(Given { number, runs: batch.tasks.iter().map(|task| task.run).collect() });
        if let Some(batches) = &slot.batches {
            // There is room: it holds as many as are given at most.
            drop(batches.try_send((number, batch)));
        }
    }

    /// A slot has ended its oldest batch.
    pub fn finished_batch(&mut self, slot: usize) {
        self.slots[slot].given.pop_front();
        self.slots[slot].saves = None;
    }

    /// A slot's unit has been saved, or its last one has ended.
    pub fn note_saved(&mut self, slot: usize, run: Option<RunId>) {
        self.slots[slot].saves = run;
    }

    /// Has all units saved that can be. Returns which.
    pub fn ask(&self) -> BTreeSet<RunId> {
        let saving = self.slots.iter().filter_map(|slot| Some((slot, slot.saves?)));
        saving
            .map(|(slot, run)| {
                slot.stopper.ask();
                run
            })
            .collect()
    }

    /// Stops the batch that this unit is in, whether it runs or waits. What else was in it is reported as killed.
    pub fn stop(&mut self, run: RunId) {
        for slot in &mut self.slots {
            for given in slot.given.iter_mut().filter(|given| given.runs.contains(&run)) {
                given.runs.clear();
                let mut gate = lock(&slot.gate);
                gate.cancelled.insert(given.number);
                if gate.current == Some(given.number) {
                    slot.stopper.kill();
                }
            }
        }
    }

    /// Cancels batches that no slot has begun; their units.
    pub fn cancel_waiting(&mut self) -> Vec<RunId> {
        let mut waiting = Vec::new();
        for slot in &mut self.slots {
            let mut gate = lock(&slot.gate);
            let begun = gate.current;
            // The oldest one is the slot's next even if its thread has not got to it.
            for given in slot.given.iter_mut().skip(1).filter(|given| begun != Some(given.number)) {
                waiting.extend(std::mem::take(&mut given.runs));
                gate.cancelled.insert(given.number);
            }
        }
        waiting
    }

    /// Freezes or continues every slot.
    pub fn set_paused(&mut self, paused: bool) {
        for slot in &self.slots {
            if paused { slot.stopper.stop() } else { slot.stopper.cont() }
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            slot.batches = None;
            slot.stopper.close();
        }
        for slot in &mut self.slots {
            if let Some(thread) = slot.thread.take() {
                // A panic of the thread was printed when it happened.
                drop(thread.join());
            }
        }
    }
}

impl Slot {
    fn start(number: usize, workshop: &Arc<Workshop>, store: &Store, events: &mpsc::Sender<SlotEvent>) -> io::Result<Self> {
        let (batches, queue) = blocking::sync_channel(BATCHES_PER_SLOT);
        let stopper = Stopper::default();
        let gate = Arc::<Mutex<Gate>>::default();
        let mut thread = SlotThread {
            gate: gate.clone(),
            number,
            workshop: workshop.clone(),
            store: store.clone(),
            events: events.clone(),
            stopper: stopper.clone(),
            process: None,
        };
        let builder = std::thread::Builder::new().name(format!("slot-{number}"));
        let thread = builder.spawn(move || {
            while let Ok((number, batch)) = queue.recv() {
                lock(&thread.gate).current = Some(number);
                let open = thread.run(number, batch);
                let mut gate = lock(&thread.gate);
                gate.current = None;
                gate.cancelled.remove(&number);
                if !open {
                    break;
                }
            }
        })?;
        let given = VecDeque::new();
        Ok(Self { batches: Some(batches), stopper, thread: Some(thread), given, batches_given: 0, gate, loaded: None, saves: None })
    }
}

/// What lives on a slot's thread.
struct SlotThread {
    number: usize,
    workshop: Arc<Workshop>,
    store: Store,
    events: mpsc::Sender<SlotEvent>,
    stopper: Stopper,
    gate: Arc<Mutex<Gate>>,
    process: Option<SlotProcess>,
}

impl SlotThread {
    /// Runs a batch; `false` when nobody listens any more.
    fn run(&mut self, number: u64, batch: Batch) -> bool {
        let Batch { key, manifest, tasks, save_every } = batch;
        let runs: Vec<RunId> = tasks.iter().map(|task| task.run).collect();
        let mut ready = Vec::with_capacity(tasks.len());
        let mut positions = Vec::with_capacity(tasks.len());
        let (mut failed, mut resumed) = (Vec::new(), Vec::new());
        for (position, task) in tasks.into_iter().enumerate() {
            let from = task.from.as_ref().and_then(|from| Some((self.store.read_blob(from.state).ok()??, Links::clone(&from.links))));
            match task_of(&self.store, &manifest, task.run.job, task.run.unit, task.source) {
                Some(task) if from.is_some() => resumed.push((position, task, from)),
                Some(task) => {
                    ready.push(task);
                    positions.push(position);
                }
                None => failed.push((runs[position], without_value(AttemptFailure::MissingBlob))),
            }
        }
        let (slot, events) = (self.number, self.events.clone());
        let mut out = Outbox { slot, key, events, finished: failed, links: Vec::new(), flushed: Instant::now(), open: true };
        positions.splice(0..0, resumed.iter().map(|(position, ..)| *position));
        let loaded = self.load(&manifest);
        // Loading begins a new page for the stopper, so a blow from before is only remembered here.
        let cancelled = lock(&self.gate).cancelled.contains(&number);
        if let Err(failure) = loaded.and(if cancelled { Err(AttemptFailure::Killed) } else { Ok(()) }) {
            out.finished.extend(positions.iter().map(|&position| (runs[position], without_value(failure))));
        } else if let Some(process) = &mut self.process {
            let (store, stopper) = (&self.store, &self.stopper);
            let mut on = |run: RunId, progress: Progress| match progress {
                Progress::Saved(snapshot) => out.save(store, run, snapshot),
                Progress::Ended(mut report) => {
                    let links = std::mem::take(&mut report.links);
                    if !links.as_slice().is_empty() {
                        out.links.push((run, links));
                    }
                    out.push(run, finish(store, stopper, report));
                }
            };
            let first = resumed.len();
            for (position, task, from) in resumed {
                let run = runs[position];
                let report = go_on(process, &task, from, save_every, &mut |snapshot| on(run, Progress::Saved(snapshot)));
                on(run, Progress::Ended(report));
            }
            process.run_saving(&ready, Some(save_every), &mut |index, progress| on(runs[positions[first + index]], progress));
        }
        out.close()
    }

    /// Makes the module ready in the slot's process, which is started first if there is none.
    fn load(&mut self, manifest: &Manifest) -> Result<(), AttemptFailure> {
        if self.process.is_none() {
            match SlotProcess::spawn_with(self.workshop.clone(), self.stopper.clone()) {
                Ok(process) => self.process = Some(process),
                Err(error) => {
                    tracing::error!(%error, "a slot could not be started");
                    std::thread::sleep(RESPAWN_AFTER);
                    return Err(AttemptFailure::Killed);
                }
            }
        }
        let process = self.process.as_mut().expect("there is one now");
        let store = &self.store;
        process.load(manifest.module, || read_module(store, manifest.module)).map_err(|error| {
            tracing::info!(%error, "a module cannot be run here");
            match error {
                SlotError::Rejected(_) | SlotError::TooLarge => AttemptFailure::Refused,
                SlotError::Module(_) | SlotError::WrongModule { .. } => AttemptFailure::MissingBlob,
                SlotError::Spawn(_)
                | SlotError::Died
                | SlotError::TooSlow { .. }
                | SlotError::Protocol
                | SlotError::NothingLoaded
                | SlotError::Refused(_) => AttemptFailure::Killed,
            }
        })
    }
}

/// Goes on with a unit where another execution stood; from the beginning where that is none of its states.
fn go_on(
    process: &mut SlotProcess,
    task: &Task,
    from: Option<(Vec<u8>, Links)>,
    save_every: Duration,
    saved: &mut dyn FnMut(Snapshot),
) -> Report {
    let mut run = |from| match process.run_part_saving(task, &Part { from, ..Part::default() }, Some(save_every), saved) {
        PartReport::Ended(report) => report,
        PartReport::Stopped { .. } => unreachable!("it was not asked to stop"),
    };
    let report = run(from);
    match report.outcome {
        Outcome::Failed(AttemptFailure::Refused) => run(None),
        Outcome::Value(_) | Outcome::Failed(_) => report,
    }
}

/// What a slot is asked to run for a unit; none when its input is not here.
pub(super) fn task_of(store: &Store, manifest: &Manifest, job: JobId, unit: UnitIndex, source: TaskSource) -> Option<Task> {
    let input = match source {
        TaskSource::Nothing => None,
        TaskSource::Given(input) => Some(input),
        TaskSource::OwnTable => Some(store.unit_input(job, unit).ok()??),
    };
    let stdin: Arc<[u8]> = match &input {
        None => Arc::from([]),
        Some(UnitInput { inline: Some(bytes), .. }) => bytes.clone(),
        Some(input) => store.read_blob(input.digest).ok()??.into(),
    };
    let name = input.as_ref().map_or("", |input| input.name.as_str());
    Some(Task {
        module: manifest.module,
        args: manifest.args_for(unit, name),
        stdin,
        files: Vec::new(),
        seed: unit_seed(job, unit),
        limits: manifest.limits,
    })
}

/// A module's bytes, for a slot that has to compile it.
pub(super) fn read_module(store: &Store, module: Digest) -> io::Result<Vec<u8>> {
    match store.read_blob(module) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(io::Error::from(io::ErrorKind::NotFound)),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn without_value(failure: AttemptFailure) -> Finished {
    Finished { outcome: Outcome::Failed(failure), output_bytes: 0, output: None, log: Arc::from([]), wall: Duration::ZERO }
}

/// Turns a report into what the core takes: small outputs as they are, large ones as blobs. Waits while the disk takes no writes.
fn finish(store: &Store, stopper: &Stopper, report: Report) -> Finished {
    let Report { outcome, output, log, wall, links: _ } = corrupt(report);
    let output_bytes = output.len() as u64;
    let mut finished = Finished { outcome, output_bytes, output: None, log: log.into(), wall };
    match outcome {
        Outcome::Failed(_) => finished.output_bytes = 0,
        Outcome::Value(_) if output.len() <= INLINE_BYTES_MAX => finished.output = Some(output.into()),
        Outcome::Value(_) => {
            while let Err(error) = store.put_blob(&output, None) {
                tracing::error!(%error, "an output cannot be kept");
                if stopper.is_cancelled() || !store.takes_no_writes() {
                    return without_value(AttemptFailure::Killed);
                }
                std::thread::sleep(KEEP_AGAIN_AFTER);
            }
        }
    }
    finished
}

#[cfg(not(feature = "fault-injection"))]
fn corrupt(report: Report) -> Report {
    report
}

/// Spoils results when told so: `MANYHANDS_FAULT=corrupt` spoils each, `MANYHANDS_FAULT=corrupt-after:N` those after the Nth,
/// `MANYHANDS_FAULT=corrupt-output:TEXT` those whose output is this line.
#[cfg(feature = "fault-injection")]
fn corrupt(mut report: Report) -> Report {
    use std::sync::atomic::{AtomicU64, Ordering};
    static DONE: AtomicU64 = AtomicU64::new(0);
    let Ok(fault) = std::env::var("MANYHANDS_FAULT") else { return report };
    let after = match fault.split_once(':') {
        Some(("corrupt-after", count)) => count.parse().unwrap_or(0),
        Some(("corrupt-output", text)) if report.output.trim_ascii() == text.as_bytes() => 0,
        _ if fault == "corrupt" => 0,
        _ => return report,
    };
    if DONE.fetch_add(1, Ordering::Relaxed) >= after
        && let Outcome::Value(value) = &mut report.outcome
    {
        report.output = b"a wrong result\n".to_vec();
        value.output = Digest::of(&report.output);
    }
    report
}
