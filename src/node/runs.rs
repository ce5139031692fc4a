//! What this machine runs: which units wait for which blobs, and which slot gets what next.
//!
//! Leases are taken by the core; here they are only brought to a slot. A job's module is fetched once, and compiled once before
//! more than one slot gets units of it.

use super::{
    border::{Fetch, Goal},
    inputs::{Full, Inputs},
    net::Wanted,
    run_loop::Node,
    saving::{Saving, save_every},
    slots::{Batch, SlotEvent, Slots, TaskSource, UnitTask},
};
use crate::{
    protocol::{
        checkpoint::Checkpoint,
        ids::{Digest, JobId, PeerId},
        job::Manifest,
        outcome::{AttemptFailure, Outcome},
        peer::Event,
        worker::{Finished, RunId},
    },
    wire::{bounds::LOG_BYTES_MAX, work::UnitInput},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// How many descriptions of one stream a worker remembers: more than the coordinator counts on, see
/// [`DESCRIBED_TRUSTED`](super::streams::DESCRIBED_TRUSTED).
const DESCRIBED_MAX: usize = 2 * super::streams::DESCRIBED_TRUSTED;
/// How much work a slot is given at a time: enough to hide the hand-over, little enough to be shared out evenly.
const BATCH_TARGET: Duration = Duration::from_millis(50);
/// The most units in one batch.
const BATCH_MAX: usize = 256;

/// Jobs remembered although nothing of them waits, for the time that their units take. Each costs a manifest.
const JOBS_KEPT_MAX: usize = 256;

/// A job of one coordinator, as the slots need it.
pub(super) type JobKey = (PeerId, JobId);

#[derive(Debug)]
struct JobHere {
    manifest: Arc<Manifest>,
    module: ModuleState,
    waiting: VecDeque<RunId>,
    /// Smoothed time of a unit.
    unit_time: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ModuleState {
    Missing,
    Fetching,
    /// Here; nobody has compiled it since the node started.
    Here,
    /// One slot compiles it.
    Compiling,
    /// Compiled: any slot may run it.
    Ready,
}

/// What this machine runs.
#[derive(Debug)]
pub(super) struct Runs {
    me: PeerId,
    jobs: BTreeMap<JobKey, JobHere>,
    /// Jobs described on a stream that is open.
    described: BTreeMap<PeerId, VecDeque<(JobId, Arc<Manifest>)>>,
    /// Inputs that came with leases which the core has not looked at yet.
    offered: BTreeMap<RunId, Option<UnitInput>>,
    inputs: Inputs,
    /// Runs whose input is on its way here.
    fetching: BTreeSet<RunId>,
    /// What is known here of checkpoints.
    pub(super) saving: Saving,
    slots: Slots,
    /// Units that ended in a value here, and their gas.
    given: (u64, u64),
}

impl Runs {
    pub fn new(me: PeerId, slots: Slots) -> Self {
        let (jobs, described, offered) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            me,
            jobs,
            described,
            offered,
            inputs: Inputs::default(),
            fetching: BTreeSet::new(),
            saving: Saving::default(),
            slots,
            given: (0, 0),
        }
    }

    /// A coordinator describes a job. The oldest description on its stream is forgotten when there are too many.
    pub fn describe(&mut self, coordinator: PeerId, job: JobId, manifest: Manifest) {
        let described = self.described.entry(coordinator).or_default();
        described.retain(|(known, _)| *known != job);
        if described.len() >= DESCRIBED_MAX {
            described.pop_front();
        }
        described.push_back((job, Arc::new(manifest)));
    }

    /// What a coordinator said that a job is.
    pub fn description(&self, coordinator: PeerId, job: JobId) -> Option<Arc<Manifest>> {
        let described = self.described.get(&coordinator)?;
        described.iter().find(|(known, _)| *known == job).map(|(_, manifest)| manifest.clone())
    }

    /// The stream on which jobs were described is gone. What runs goes on.
    pub fn forget_described(&mut self, coordinator: PeerId) {
        self.described.remove(&coordinator);
    }

    /// Keeps a leased unit's input until the core has decided whether it runs.
    pub fn offer(&mut self, run: RunId, input: Option<UnitInput>) {
        self.offered.insert(run, input);
    }

    /// What a job is, as long as anything of it is remembered here.
    pub fn manifest(&self, coordinator: PeerId, job: JobId) -> Option<Arc<Manifest>> {
        let known = self.jobs.get(&(coordinator, job)).map(|job| job.manifest.clone());
        known.or_else(|| self.description(coordinator, job))
    }

    /// Drops inputs of leases that the core did not take.
    pub fn forget_unclaimed(&mut self) {
        self.offered.clear();
    }

    /// Nothing follows for this run any more; the slot that runs it is stopped.
    pub fn stop(&mut self, run: RunId) {
        if let Some(job) = self.jobs.get_mut(&(run.coordinator, run.job)) {
            job.waiting.retain(|waiting| *waiting != run);
        }
        self.inputs.take(run);
        self.fetching.remove(&run);
        self.saving.end(self.me, run);
        self.slots.stop(run);
    }

    /// Units that no slot has begun; they are not run any more.
    pub fn take_waiting(&mut self) -> Vec<RunId> {
        let mut waiting: Vec<RunId> = self.jobs.values_mut().flat_map(|job| job.waiting.drain(..)).collect();
        waiting.extend(std::mem::take(&mut self.fetching));
        waiting.extend(self.saving.take_waiting());
        waiting.extend(self.slots.cancel_waiting());
        for run in &waiting {
            self.inputs.take(*run);
        }
        waiting
    }

    /// Jobs whose units wait for a module that nobody fetches.
    fn waiting_without_module(&self) -> Vec<JobKey> {
        let stranded = |job: &JobHere| job.module == ModuleState::Missing && !job.waiting.is_empty();
        self.jobs.iter().filter(|(_, job)| stranded(job)).map(|(key, _)| *key).collect()
    }

    /// Slots that run something.
    pub fn busy_slots(&self) -> usize {
        self.slots.busy()
    }

    /// Units that ended in a value here, and their gas.
    pub fn given(&self) -> (u64, u64) {
        self.given
    }

    /// States that are of no more use here.
    pub fn take_dropped(&mut self) -> Vec<Digest> {
        self.saving.take_dropped()
    }

    /// Has all units saved that can be. Returns which.
    pub fn ask(&self) -> BTreeSet<RunId> {
        self.slots.ask()
    }

    /// Freezes or continues what runs.
    pub fn set_paused(&mut self, paused: bool) {
        self.slots.set_paused(paused);
    }

    /// Gives idle slots something to do.
    pub fn dispatch(&mut self) {
        while let Some(slot) = self.slots.next_free() {
            let Some(key) = self.next_job(self.slots.loaded(slot)) else { break };
            let Some(job) = self.jobs.get_mut(&key) else { break };
            let share = job.waiting.len().div_ceil(self.slots.count().max(1)).max(1);
            let fits =
                job.unit_time.map_or(1, |time| (BATCH_TARGET.as_nanos() / time.as_nanos().max(1)).clamp(1, BATCH_MAX as u128) as usize);
            let take = fits.min(share).min(job.waiting.len());
            let runs: Vec<RunId> = job.waiting.drain(..take).collect();
            if job.module == ModuleState::Here {
                job.module = ModuleState::Compiling;
            }
            let manifest = job.manifest.clone();
            let tasks = runs.into_iter().map(|run| self.task(run, &manifest)).collect();
            self.slots.give(slot, Batch { key, manifest, tasks, save_every: save_every() });
        }
        if self.jobs.len() > JOBS_KEPT_MAX {
            let fetching: BTreeSet<JobKey> = self.fetching.iter().map(|run| (run.coordinator, run.job)).collect();
            let busy = |job: &JobHere| !job.waiting.is_empty() || matches!(job.module, ModuleState::Fetching | ModuleState::Compiling);
            self.jobs.retain(|key, job| busy(job) || fetching.contains(key));
        }
    }

    /// A job with units that can run now, the one that the slot has loaded before others.
    fn next_job(&self, loaded: Option<JobKey>) -> Option<JobKey> {
        let can_run = |job: &JobHere| !job.waiting.is_empty() && matches!(job.module, ModuleState::Here | ModuleState::Ready);
        let same = loaded.filter(|key| self.jobs.get(key).is_some_and(can_run));
        same.or_else(|| self.jobs.iter().find(|(_, job)| can_run(job)).map(|(key, _)| *key))
    }

    fn task(&mut self, run: RunId, manifest: &Manifest) -> UnitTask {
        let source = match self.inputs.take(run) {
            Some(input) => TaskSource::Given(input),
            None if run.coordinator == self.me && manifest.has_table() => TaskSource::OwnTable,
            None => TaskSource::Nothing,
        };
        UnitTask { run, source, from: self.saving.from(run) }
    }
}

impl Node {
    /// Brings a run to a slot, by way of what it needs: first the state that it goes on from.
    pub(super) fn start_run(&mut self, run: RunId, from: Option<Arc<Checkpoint>>) {
        let input = self.runs.offered.remove(&run).flatten();
        match from {
            Some(from) => self.resume_run(run, from, input),
            None => self.begin_run(run, input),
        }
    }

    pub(super) fn begin_run(&mut self, run: RunId, input: Option<UnitInput>) {
        let key = (run.coordinator, run.job);
        let own = run.coordinator == self.peer.me();
        if !self.runs.jobs.contains_key(&key) {
            let manifest = if own { self.peer.owner().manifest(run.job) } else { self.runs.description(run.coordinator, run.job) };
            let Some(manifest) = manifest else { return self.fail_run(run, AttemptFailure::MissingBlob) };
            let job = JobHere { manifest, module: ModuleState::Missing, waiting: VecDeque::new(), unit_time: None };
            self.runs.jobs.insert(key, job);
        }
        if !self.want_module(key) {
            return self.fail_run(run, AttemptFailure::MissingBlob);
        }
        match input {
            Some(input) if input.inline.is_none() && !self.holds(input.digest) => self.fetch_input(run, input),
            Some(input) => match self.runs.inputs.hold(run, input) {
                Ok(()) => self.queue_run(run),
                Err(Full) => self.fail_run(run, AttemptFailure::MissingBlob),
            },
            None => self.queue_run(run),
        }
    }

    fn queue_run(&mut self, run: RunId) {
        match self.runs.jobs.get_mut(&(run.coordinator, run.job)) {
            Some(job) => job.waiting.push_back(run),
            None => self.fail_run(run, AttemptFailure::MissingBlob),
        }
    }

    /// Sees to it that the job's module is here or on its way; `false` when that cannot be.
    fn want_module(&mut self, key: JobKey) -> bool {
        let Some(job) = self.runs.jobs.get(&key) else { return false };
        if job.module != ModuleState::Missing {
            return true;
        }
        let (module, length) = (job.manifest.module, job.manifest.module_bytes);
        let state = if self.holds(module) {
            ModuleState::Here
        } else {
            let wanted = Wanted { digest: module, length: Some(length), at_most: length };
            let (coordinator, job) = key;
            let fetch = Fetch { wanted, holders: self.holders(coordinator), goal: Goal::Module { coordinator, job } };
            if !self.fetches.push(fetch) {
                return false;
            }
            ModuleState::Fetching
        };
        if let Some(job) = self.runs.jobs.get_mut(&key) {
            job.module = state;
        }
        true
    }

    /// Who may have a blob of a coordinator's job: itself, then peers that we are connected with.
    pub(super) fn holders(&self, coordinator: PeerId) -> Vec<PeerId> {
        let others = self.connected.keys().copied().filter(|peer| *peer != coordinator);
        std::iter::once(coordinator).chain(others).take(super::net::blobs::MAX_HOLDERS).collect()
    }

    fn fetch_input(&mut self, run: RunId, input: UnitInput) {
        let wanted = Wanted { digest: input.digest, length: Some(input.size), at_most: input.size };
        let fetch = Fetch { wanted, holders: self.holders(run.coordinator), goal: Goal::Input { run } };
        // It is not carried inside of the lease, so there is room for it.
        if self.runs.inputs.hold(run, input).is_ok() && self.fetches.push(fetch) {
            self.runs.fetching.insert(run);
        } else {
            self.fail_run(run, AttemptFailure::MissingBlob);
        }
    }

    pub(super) fn on_module(&mut self, coordinator: PeerId, job: JobId, result: Result<(), String>) {
        let Some(here) = self.runs.jobs.get_mut(&(coordinator, job)) else { return };
        match result {
            Ok(()) => here.module = ModuleState::Here,
            Err(reason) => {
                tracing::info!(job = %job.short(), reason, "the module could not be fetched");
                here.module = ModuleState::Missing;
                let failed: Vec<_> = here.waiting.drain(..).collect();
                for run in failed {
                    self.fail_run(run, AttemptFailure::MissingBlob);
                }
            }
        }
    }

    pub(super) fn on_input(&mut self, run: RunId, result: Result<(), String>) {
        if !self.runs.fetching.remove(&run) {
            return;
        }
        match result {
            // The module may have been given up meanwhile.
            Ok(()) if self.want_module((run.coordinator, run.job)) => self.queue_run(run),
            Ok(()) => self.fail_run(run, AttemptFailure::MissingBlob),
            Err(reason) => {
                tracing::info!(job = %run.job.short(), unit = run.unit.0, reason, "an input could not be fetched");
                self.fail_run(run, AttemptFailure::MissingBlob);
            }
        }
    }

    pub(super) fn fail_run(&mut self, run: RunId, failure: AttemptFailure) {
        self.runs.inputs.take(run);
        self.runs.saving.forget(run);
        let nothing: Arc<[u8]> = Arc::from([]);
        let outcome = Outcome::Failed(failure);
        let finished = Finished { outcome, output_bytes: 0, output: None, log: nothing, wall: Duration::ZERO };
        self.event(Event::Finished { run, finished });
    }

    /// A slot has finished units, or is ready for more.
    pub(super) fn on_slots(&mut self, event: SlotEvent) {
        let SlotEvent { slot, key, finished, links, saved, is_last } = event;
        if !finished.is_empty() {
            self.runs.slots.note_saved(slot, None);
        }
        if let Some((run, checkpoint)) = saved {
            self.runs.slots.note_saved(slot, Some(run));
            self.on_saved(run, checkpoint);
        }
        self.disputes.keep(links.into_iter().filter(|(run, _)| run.coordinator != self.peer.me()));
        let ran = finished.iter().filter(|(_, finished)| matches!(finished.outcome, Outcome::Value(_))).count();
        if let Some(job) = self.runs.jobs.get_mut(&key) {
            if ran > 0 {
                let total: Duration = finished.iter().map(|(_, finished)| finished.wall).sum();
                job.unit_time = Some(total / u32::try_from(finished.len()).unwrap_or(u32::MAX));
                job.module = ModuleState::Ready;
            } else if finished.iter().any(|(_, finished)| finished.outcome == Outcome::Failed(AttemptFailure::MissingBlob)) {
                // Its module may have been evicted; it is looked for again.
                job.module = ModuleState::Missing;
            } else if is_last && job.module == ModuleState::Compiling {
                job.module = ModuleState::Here;
            }
        }
        if is_last {
            self.runs.slots.finished_batch(slot);
        }
        for key in self.runs.waiting_without_module() {
            self.want_module(key);
        }
        let me = self.peer.me();
        for (run, mut finished) in finished {
            // What is held until a coordinator acknowledges it is no more than what can be sent.
            if run.coordinator != me && finished.log.len() > LOG_BYTES_MAX {
                finished.log = Arc::from(&finished.log[..LOG_BYTES_MAX]);
            }
            if let Outcome::Value(value) = finished.outcome {
                let (units, gas) = self.runs.given;
                self.runs.given = (units + 1, gas.saturating_add(value.gas));
            }
            if finished.outcome == Outcome::Failed(AttemptFailure::Killed) {
                self.runs.saving.forget(run);
            } else {
                self.runs.saving.end(me, run);
            }
            self.event(Event::Finished { run, finished });
        }
    }
}
