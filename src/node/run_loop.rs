//! The run loop: one task that owns the peer, its streams and what it runs.
//!
//! Each turn takes in what has happened (bounded), lets the peer decide, makes its facts durable in one commit, and only then
//! performs the rest. Nothing here awaits another peer.

use super::{
    acquaintances::Acquaintances,
    border::Fetches,
    disputes::{Disputes, Done},
    drain::Drain,
    handle::{End, Handle, Look, Request},
    keeping::{Keeping, adopting::Loaded},
    kept::KeptBuffer,
    net::{Identity, NetEvent, NetHandle, Outbound, PeerHello},
    runs::Runs,
    saving::Then,
    slots::SlotEvent,
    streams::{Stream, WorkerStream},
};
use crate::{
    protocol::{
        ids::{Digest, GridId, JobId, PeerId},
        peer::{Event, Peer},
        time::Instant,
    },
    store::Store,
    wire::peer as pb,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep_until,
};

/// How many inputs one turn takes in before the peer's actions are performed: enough to fill a commit, few enough to stay quick.
const TURN_INPUTS_MAX: usize = 256;
/// How soon a slow stream is tried again.
const PUMP_AFTER: Duration = Duration::from_millis(20);
/// How soon a disk that refused to be written is tried again.
const DISK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How many peers may follow jobs here at once.
const WATCHERS_MAX: usize = 64;

/// The clock behind the core's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(tokio::time::Instant);

impl Clock {
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn at(&self, instant: Instant) -> tokio::time::Instant {
        // A peer that waits for nothing names the end of time.
        self.0 + Duration::from_micros(instant.0.min(u64::MAX / 4))
    }
}

/// Everything that a node holds while it runs.
pub struct Node {
    pub(super) peer: Peer,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) net: NetHandle,
    pub(super) identity: Identity,
    pub(super) grid: GridId,
    pub(super) instruction_set: String,
    pub(super) validation_class: String,
    pub(super) public_grid: bool,
    pub(super) connected: BTreeMap<PeerId, PeerHello>,
    pub(super) gossip: BTreeMap<PeerId, Outbound<pb::GossipMessage>>,
    pub(super) workers: BTreeMap<PeerId, WorkerStream>,
    pub(super) coordinators: BTreeMap<PeerId, Stream<pb::WorkerMessage>>,
    pub(super) runs: Runs,
    pub(super) fetches: Fetches,
    pub(super) disputes: Disputes,
    pub(super) watchers: JoinSet<()>,
    pub(super) handle: Handle,
    /// Peers to come back to after a restart, the newest last.
    pub(super) acquaintances: Acquaintances,
    /// Receipts to be kept that are not written yet.
    pub(super) kept: KeptBuffer,
    /// Keepers of own jobs, and jobs kept for others.
    pub(super) keeping: Keeping,
    /// Requests that are answered after this turn's commit.
    pub(super) replies: Vec<oneshot::Sender<()>>,
    /// Views that are answered after this turn's commit.
    pub(super) looks: Vec<Look>,
    /// Why nothing can be made durable at the moment, for people.
    pub(super) stalled: Option<String>,
    /// Whether the user lends nothing for now, and whether the disk does not let the node lend.
    pub(super) pause: Pause,
    /// Blobs of own jobs that turned out to be damaged and were not found elsewhere so far.
    pub(super) lost: BTreeSet<Digest>,
    /// How far its ending has come.
    pub(super) drain: Option<Drain>,
}

/// Why no leases are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    /// The user says so.
    pub by_user: bool,
    /// The disk takes no writes; it is tried again then.
    pub by_disk: Option<tokio::time::Instant>,
}

/// What a run loop is fed from.
pub(super) struct Inputs {
    pub net: mpsc::Receiver<NetEvent>,
    pub slots: mpsc::Receiver<SlotEvent>,
    pub requests: mpsc::Receiver<Request>,
    pub end: watch::Receiver<Option<End>>,
}

/// One thing that has happened.
enum Input {
    Net(NetEvent),
    Slots(SlotEvent),
    Request(Request),
    Fetched,
    Disputed(Done),
    Loaded(Loaded),
    Timer,
    Pump,
    /// The disk is to be tried again.
    DiskDue,
    /// A step of the node's ending has had its time.
    DrainDue,
    End(End),
}

impl Node {
    /// Runs until the node is ended; then nothing is left to be written.
    pub(super) async fn run(&mut self, mut inputs: Inputs) -> End {
        let end = self.run_until_end(&mut inputs).await;
        self.kept.finish(&self.store).await;
        end
    }

    async fn run_until_end(&mut self, inputs: &mut Inputs) -> End {
        loop {
            match self.next(inputs).await {
                Input::End(End::Drain) if self.drain.is_none() => {
                    self.begin_drain(self.handle.facts.drain);
                    // That no leases are welcome is said first: then what comes back is known to be handed back.
                    self.turn(inputs).await;
                    self.hand_back_waiting();
                }
                Input::End(end) => return end,
                Input::DrainDue => {
                    if self.drain_is_over() {
                        return End::Drain;
                    }
                }
                input => self.take(input),
            }
            self.take_more(inputs);
            self.mind_the_disk();
            self.mind_saving();
            self.turn(inputs).await;
            if self.store.damage().is_some() {
                return End::Damaged;
            }
            self.look_after_blobs();
            if self.is_drained() {
                return End::Drain;
            }
        }
    }

    async fn next(&mut self, inputs: &mut Inputs) -> Input {
        let pump = self.coordinators.values().any(Stream::is_waiting)
            || self.workers.values().any(|worker| worker.stream.is_waiting())
            || self.keeping.is_waiting();
        let keeping_due = self.keeping.due();
        let deadline = self.clock.at(self.peer.deadline());
        let (draining, disk_due) = (self.drain, self.pause.by_disk);
        let ends = |end: &Option<End>| end.is_some_and(|end| end.is_now() || draining.is_none());
        let (kept_due, saved_due) = (self.kept.due(), self.runs.saving.until());
        tokio::select! {
            biased;
            end = inputs.end.wait_for(ends) => {
                // The sender lives in this node's own handle.
                Input::End(end.ok().and_then(|end| *end).unwrap_or(End::Stop))
            }
            Some(request) = inputs.requests.recv() => Input::Request(request),
            Some(event) = inputs.slots.recv() => Input::Slots(event),
            () = self.fetches.ready() => Input::Fetched,
            done = self.disputes.next() => Input::Disputed(done),
            loaded = self.keeping.loaded() => Input::Loaded(loaded),
            Some(event) = inputs.net.recv() => Input::Net(event),
            () = sleep_until(deadline) => Input::Timer,
            () = tokio::time::sleep(PUMP_AFTER), if pump => Input::Pump,
            () = sleep_until(disk_due.unwrap_or(deadline)), if disk_due.is_some() => Input::DiskDue,
            () = sleep_until(draining.map_or(deadline, Drain::deadline)), if draining.is_some() => Input::DrainDue,
            () = sleep_until(kept_due.unwrap_or(deadline)), if kept_due.is_some() => Input::Pump,
            () = sleep_until(keeping_due.unwrap_or(deadline)), if keeping_due.is_some() => Input::Pump,
            () = sleep_until(saved_due.unwrap_or(deadline)), if saved_due.is_some() => Input::Pump,
        }
    }

    /// Takes in what else is there already.
    fn take_more(&mut self, inputs: &mut Inputs) {
        for _ in 0..TURN_INPUTS_MAX {
            let mut taken = false;
            if let Ok(event) = inputs.slots.try_recv() {
                self.take(Input::Slots(event));
                taken = true;
            }
            if let Ok(event) = inputs.net.try_recv() {
                self.take(Input::Net(event));
                taken = true;
            }
            if let Ok(request) = inputs.requests.try_recv() {
                self.take(Input::Request(request));
                taken = true;
            }
            if !taken {
                break;
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Net(event) => self.on_net(event),
            Input::Slots(event) => self.on_slots(event),
            // Answered after this turn's commit, so that nobody sees what is not durable.
            Input::Request(Request::View(look)) => self.looks.push(look),
            Input::Request(Request::Event(event, reply)) => {
                self.event(*event);
                self.replies.push(reply);
            }
            Input::Fetched => self.on_fetched(),
            Input::Disputed(done) => self.on_dispute_work(done),
            Input::Loaded(loaded) => self.on_loaded(loaded),
            Input::Timer => self.event(Event::Timer),
            Input::DiskDue => {
                // It notes itself how that went.
                drop(tokio::task::block_in_place(|| self.store.try_writing()));
                self.pause.by_disk = Some(tokio::time::Instant::now() + DISK_AGAIN_AFTER);
            }
            Input::Pump | Input::DrainDue | Input::End(_) => {}
        }
        while self.watchers.try_join_next().is_some() {}
    }

    /// Hands an event to the peer.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Pause(paused) => {
                self.save_no_more();
                if !paused || !self.save_first(Then::Freeze) {
                    self.runs.set_paused(paused);
                }
                self.pause.by_user = paused;
                self.tell_pause();
            }
            event => self.peer.handle(self.clock.now(), event),
        }
    }

    /// Takes no leases while the disk takes no writes: what a unit needs or leaves could not be kept.
    fn mind_the_disk(&mut self) {
        let refuses = self.store.takes_no_writes();
        if refuses != self.pause.by_disk.is_some() {
            self.pause.by_disk = refuses.then(|| tokio::time::Instant::now() + DISK_AGAIN_AFTER);
            tracing::warn!(refuses, "whether this disk refuses to be written has changed");
            self.tell_pause();
        }
    }

    fn tell_pause(&mut self) {
        let paused = self.pause.by_user || self.pause.by_disk.is_some() || self.drain.is_some();
        self.peer.handle(self.clock.now(), Event::Pause(paused));
    }

    /// Performs what the peer wants, until it wants nothing more.
    async fn turn(&mut self, inputs: &mut Inputs) {
        loop {
            let actions = self.peer.take_actions(self.clock.now());
            let idle = actions.is_empty() && self.keeping.is_idle();
            if !self.perform(actions, inputs).await {
                // The node ends. Whoever waits for an answer hears that it has ended.
                self.replies.clear();
                return;
            }
            if idle {
                self.look_after_keeping();
                if self.keeping.is_idle() {
                    break;
                }
            }
        }
        self.runs.forget_unclaimed();
        self.kept.write_when_due(&self.store);
        self.pump();
        for reply in self.replies.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
        self.answer_looks();
    }

    fn answer_looks(&mut self) {
        for look in std::mem::take(&mut self.looks) {
            look(self);
        }
    }

    fn pump(&mut self) {
        self.coordinators.retain(|_, stream| stream.pump().is_ok());
        self.workers.retain(|_, worker| worker.stream.pump().is_ok());
    }

    /// Answers views, and nothing else, while nothing can be made durable.
    pub(super) async fn wait_answering_views(&mut self, inputs: &mut Inputs, duration: Duration) {
        // Those that came with what cannot be made durable do not wait for it either.
        self.answer_looks();
        let until = tokio::time::Instant::now() + duration;
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                // Looking on does not keep a node from ending: the next turn sees to it.
                Some(request) = inputs.requests.recv() => match request {
                    Request::View(look) => look(self),
                    Request::Event(event, reply) => {
                        self.event(*event);
                        self.replies.push(reply);
                        break;
                    }
                },
            }
        }
    }

    /// Lets another peer follow a job of this one.
    pub(super) fn watch(&mut self, job: JobId, outbound: Outbound<pb::JobProgress>) {
        if self.watchers.len() >= WATCHERS_MAX || self.peer.owner().job_view(job).is_none() {
            return;
        }
        self.watchers.spawn(super::border::report_progress(self.handle.clone(), job, outbound));
    }
}
