//! Checkpoints in practice: states that slots hand out become blobs, coordinators fetch them, and leases go on from them. Which are
//! welcome and who goes on from which is decided in the core (`protocol/owner/resume.rs`).
//!
//! A worker keeps the newest two states of a unit that it runs, until the unit ends; a coordinator keeps what the core holds. Before
//! what runs is frozen or handed back it is saved once more, for a bounded time.

use super::{
    border::{Fetch, Goal},
    net::Wanted,
    run_loop::Node,
};
use crate::{
    protocol::{
        checkpoint::Checkpoint,
        ids::{Digest, JobId, PeerId, UnitIndex},
        owner::Offer,
        peer::Event,
        worker::RunId,
    },
    wire::work::{CoordinatorMessage, UnitInput},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How often a unit that runs is saved. What a lost worker costs is this, and the nine seconds after which it counts as lost.
const SAVE_EVERY: Duration = Duration::from_secs(3);
/// How long what runs may take to come to a moment between two steps before it is frozen.
const FROZEN_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take until coordinators hold the last states of what is handed back.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(5);
/// States of one run that are kept: the newest, and the one that may be on its way to the coordinator.
const STATES_KEPT: usize = 2;
/// States of workers' units that are fetched or wait to be. Whoever is not served shows a newer one in a few seconds.
const OFFERS_MAX: usize = 256;

/// How often a unit that runs is saved; tests that cannot wait say so in a build for that.
pub(super) fn save_every() -> Duration {
    #[cfg(feature = "fault-injection")]
    if let Some(millis) = std::env::var("MANYHANDS_SAVE_EVERY_MS").ok().and_then(|millis| millis.parse().ok()) {
        return Duration::from_millis(millis);
    }
    SAVE_EVERY
}

/// What this machine knows of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Where runs go on.
    from: BTreeMap<RunId, Arc<Checkpoint>>,
    /// Runs whose state is on its way here, with what else came with their lease.
    fetching: BTreeMap<RunId, (Arc<Checkpoint>, Option<UnitInput>)>,
    /// States of runs for others that are held here, the newest last.
    states: BTreeMap<RunId, VecDeque<Digest>>,
    /// States that are of no more use.
    dropped: Vec<Digest>,
    /// States that are on their way here from workers, and what each has shown since.
    offers: BTreeMap<(PeerId, JobId, UnitIndex), Option<Offer>>,
    waits: Option<Waits>,
}

/// What is done once units are saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// What runs is frozen.
    Freeze,
    /// What runs is handed back.
    HandBack,
}

/// Units that are to be saved before something else happens.
#[derive(Debug)]
struct Waits {
    then: Then,
    /// It happens then in any case.
    until: Instant,
    /// Not saved yet.
    runs: BTreeSet<RunId>,
    /// Saved; these states are not with the coordinators yet.
    states: BTreeMap<RunId, Digest>,
}

impl Saving {
    /// Where a run goes on.
    pub fn from(&self, run: RunId) -> Option<Arc<Checkpoint>> {
        self.from.get(&run).cloned()
    }

    /// A run has ended, and its states are of no more use. The coordinator's own are its core's to drop.
    pub fn end(&mut self, me: PeerId, run: RunId) {
        let states = self.forget(run);
        if run.coordinator != me {
            self.dropped.extend(states);
        }
    }

    /// A run has ended here, and may go on elsewhere.
    pub fn forget(&mut self, run: RunId) -> VecDeque<Digest> {
        self.from.remove(&run);
        self.fetching.remove(&run);
        if let Some(waits) = &mut self.waits {
            waits.runs.remove(&run);
            waits.states.remove(&run);
        }
        self.states.remove(&run).unwrap_or_default()
    }

    /// Runs that wait for their state.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = RunId> {
        std::mem::take(&mut self.fetching).into_keys()
    }

    /// States that are of no more use.
    pub fn take_dropped(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.dropped)
    }

    fn hold(&mut self, me: PeerId, run: RunId, state: Digest) {
        let states = self.states.entry(run).or_default();
        if states.back() != Some(&state) {
            states.push_back(state);
        }
        while states.len() > STATES_KEPT {
            let oldest = states.pop_front();
            self.dropped.extend(oldest.filter(|oldest| run.coordinator != me && !states.contains(oldest)));
        }
    }

    /// When what waits for units to be saved happens in any case.
    pub fn until(&self) -> Option<Instant> {
        self.waits.as_ref().map(|waits| waits.until)
    }

    fn due(&mut self) -> Option<Then> {
        let due = |waits: &mut Waits| waits.until <= Instant::now() || (waits.runs.is_empty() && waits.states.is_empty());
        self.waits.take_if(due).map(|waits| waits.then)
    }
}

impl Node {
    /// Whether a blob is here; one that cannot be looked up counts as missing.
    pub(super) fn holds(&self, digest: Digest) -> bool {
        tokio::task::block_in_place(|| self.store.has_blob(digest)).unwrap_or(false)
    }

    /// A unit that runs here has come so far.
    pub(super) fn on_saved(&mut self, run: RunId, checkpoint: Checkpoint) {
        let me = self.peer.me();
        if !self.peer.worker().is_running(run) {
            return self.runs.saving.dropped.extend((run.coordinator != me).then_some(checkpoint.state));
        }
        let state = checkpoint.state;
        self.runs.saving.hold(me, run, state);
        if let Some(waits) = &mut self.runs.saving.waits
            && waits.runs.remove(&run)
            && waits.then == Then::HandBack
            && run.coordinator != me
        {
            waits.states.insert(run, state);
        }
        self.event(Event::Saved { run, checkpoint });
    }

    /// A coordinator holds the state of a unit that runs here.
    pub(super) fn on_checkpoint_taken(&mut self, from: PeerId, job: JobId, unit: UnitIndex, state: Digest) {
        if let Some(waits) = &mut self.runs.saving.waits {
            waits.states.retain(|run, saved| (run.coordinator, run.job, run.unit, *saved) != (from, job, unit, state));
        }
    }

    /// Has all units saved that can be, for a bounded time, before something else happens. `false` when there are none.
    pub(super) fn save_first(&mut self, then: Then) -> bool {
        let runs = self.runs.ask();
        if runs.is_empty() {
            return false;
        }
        let within = match then {
            Then::Freeze => FROZEN_WITHIN,
            Then::HandBack => TAKEN_WITHIN,
        };
        self.runs.saving.waits = Some(Waits { then, until: Instant::now() + within, runs, states: BTreeMap::new() });
        true
    }

    /// What was to happen once units are saved does not any more.
    pub(super) fn save_no_more(&mut self) {
        self.runs.saving.waits = None;
    }

    /// Does what waited for units to be saved, when they are.
    pub(super) fn mind_saving(&mut self) {
        match self.runs.saving.due() {
            None => {}
            Some(Then::Freeze) => self.runs.set_paused(true),
            Some(Then::HandBack) => self.hand_back_running(),
        }
    }

    /// A lease goes on where another execution stood: its state is fetched first. Where it cannot be had the unit begins anew.
    pub(super) fn resume_run(&mut self, run: RunId, from: Arc<Checkpoint>, input: Option<UnitInput>) {
        // What was here before is not this run's to drop: it may be anything that the coordinator can name.
        if self.holds(from.state) {
            return self.begin_at(run, from, input);
        }
        let wanted = Wanted { digest: from.state, length: Some(from.bytes), at_most: from.bytes };
        let fetch = Fetch { wanted, holders: self.holders(run.coordinator), goal: Goal::Resume { run } };
        if run.coordinator == self.peer.me() || !self.fetches.push(fetch) {
            return self.begin_run(run, input);
        }
        self.runs.saving.fetching.insert(run, (from, input));
    }

    fn begin_at(&mut self, run: RunId, from: Arc<Checkpoint>, input: Option<UnitInput>) {
        tracing::info!(job = %run.job.short(), unit = run.unit.0, gas = from.gas, bytes = from.bytes, "a unit goes on from a checkpoint");
        self.runs.saving.from.insert(run, from);
        self.begin_run(run, input);
    }

    pub(super) fn on_resume_fetched(&mut self, run: RunId, result: Result<(), String>) {
        let Some((from, input)) = self.runs.saving.fetching.remove(&run) else { return };
        match result {
            Ok(()) => {
                self.runs.saving.hold(self.peer.me(), run, from.state);
                self.begin_at(run, from, input);
            }
            Err(reason) => {
                tracing::info!(job = %run.job.short(), unit = run.unit.0, reason, "a checkpoint cannot be had; the unit begins anew");
                self.begin_run(run, input);
            }
        }
    }

    /// A worker shows how far it has come. What is not welcome is not fetched, and nothing is answered.
    pub(super) fn on_offer(&mut self, from: PeerId, job: JobId, offer: Offer) {
        if !self.peer.owner().is_offer_welcome(self.clock.now(), from, job, &offer) {
            return;
        }
        let key = (from, job, offer.unit);
        if let Some(next) = self.runs.saving.offers.get_mut(&key) {
            *next = Some(offer);
            return;
        }
        if self.holds(offer.checkpoint.state) {
            return self.take_offer(from, job, offer);
        }
        let (digest, bytes) = (offer.checkpoint.state, offer.checkpoint.bytes);
        let wanted = Wanted { digest, length: Some(bytes), at_most: bytes };
        let fetch = Fetch { wanted, holders: vec![from], goal: Goal::Offer { from, job, offer: Box::new(offer) } };
        if self.runs.saving.offers.len() < OFFERS_MAX && self.fetches.push(fetch) {
            self.runs.saving.offers.insert(key, None);
        }
    }

    pub(super) fn on_offer_fetched(&mut self, from: PeerId, job: JobId, offer: Offer, result: Result<(), String>) {
        let next = self.runs.saving.offers.remove(&(from, job, offer.unit)).flatten();
        match result {
            Ok(()) => self.take_offer(from, job, offer),
            Err(reason) => tracing::debug!(peer = %from.short(), reason, "a checkpoint could not be had"),
        }
        if let Some(next) = next {
            self.on_offer(from, job, next);
        }
    }

    fn take_offer(&mut self, from: PeerId, job: JobId, offer: Offer) {
        let (unit, state) = (offer.unit, offer.checkpoint.state);
        self.event(Event::Offered { from, job, offer });
        self.send_to_worker(from, CoordinatorMessage::CheckpointTaken { job, unit, state });
    }
}
