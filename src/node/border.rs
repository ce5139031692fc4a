//! From the network to the core: what peers send is parsed and checked by `wire`, and becomes events.

use super::{
    handle::Handle,
    net::{BlobSink, NetEvent, Outbound, StreamKind, TicketKind, Wanted, limits},
    recheck::Recheck,
    run_loop::Node,
    streams::{Stream, WorkerIs, WorkerStream},
};
use crate::{
    protocol::{
        gossip,
        ids::{Digest, JobId, PeerId, UnitIndex},
        job::input_digest,
        outcome::{AttemptFailure, Outcome},
        owner::{LeaseToken, Offer, Recovered, Report},
        peer::Event,
        platform::Platform,
        worker::RunId,
    },
    store::{BlobWriter, StagedBlob, Store, StoreError, Write},
    wire::{
        self, peer as pb,
        receipt::{Claim, Receipts},
        work::{CoordinatorMessage, Lease, OutcomeBatch, UnitOutcome, WorkerMessage},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::{self, JoinSet},
    time::timeout,
};

/// Blobs fetched at once; more only compete for the same link.
const FETCHES_MAX: usize = 8;
/// Blobs that wait to be fetched. Beyond it the attempt fails here and is leased again.
const FETCHES_WAITING_MAX: usize = 4096;
/// Of these, from one peer: nobody keeps the others from being served.
const FETCHES_WAITING_PER_PEER_MAX: usize = 512;
/// Blobs fetched at once from one peer.
const FETCHES_PER_PEER_MAX: usize = 2;
/// A fetch is given up when it takes longer than this and its size at the slowest link that is of use.
const FETCH_TIME_MIN: Duration = Duration::from_secs(60);
/// 128 kbit/s.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 << 10;
/// How often a job's progress is reported to another peer.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

impl Node {
    pub(super) fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::PeerConnected { peer, hello } => self.on_connected(peer, hello),
            NetEvent::PeerDisconnected { peer } => {
                self.connected.remove(&peer);
            }
            NetEvent::ConnectFailed { peer, reason } => {
                tracing::debug!(peer = %peer.short(), %reason, "cannot connect");
                self.event(Event::Gossip(gossip::Event::Disconnected(peer)));
                self.event(Event::CoordinatorClosed(peer));
                self.keeper_gone(peer);
            }
            NetEvent::OpenFailed { peer, stream, reason } => {
                tracing::debug!(peer = %peer.short(), ?stream, %reason, "cannot open a stream");
                match stream {
                    StreamKind::Gossip => self.event(Event::Gossip(gossip::Event::Disconnected(peer))),
                    StreamKind::Coordinator => self.event(Event::CoordinatorClosed(peer)),
                    StreamKind::Keeper => self.keeper_gone(peer),
                    StreamKind::Worker | StreamKind::Author => {}
                }
            }
            NetEvent::GossipOpened { peer, opened_by: _, outbound } => {
                self.gossip.insert(peer, outbound);
                let prefix = self.connected.get(&peer).and_then(|hello| hello.prefix).filter(|_| self.public_grid);
                self.event(Event::Gossip(gossip::Event::Connected { peer, prefix: prefix.map(gossip::Prefix) }));
            }
            NetEvent::GossipReceived { peer, message, weight: _ } => self.on_gossip(peer, message),
            NetEvent::GossipClosed { peer } => {
                if self.gossip.remove(&peer).is_some() {
                    self.event(Event::Gossip(gossip::Event::Disconnected(peer)));
                }
            }
            NetEvent::WorkerOpened { peer, outbound } => {
                let stream = WorkerStream { stream: Stream::new(outbound), hello: None, described: VecDeque::new() };
                self.workers.insert(peer, stream);
            }
            NetEvent::WorkerReceived { peer, message, weight: _ } => self.on_worker(peer, message),
            NetEvent::WorkerClosed { peer } => {
                self.workers.remove(&peer);
                self.event(Event::WorkerClosed(peer));
            }
            NetEvent::CoordinatorOpened { peer, outbound } => self.on_coordinator_opened(peer, outbound),
            NetEvent::CoordinatorReceived { peer, message, weight: _ } => self.on_coordinator(peer, message),
            NetEvent::CoordinatorClosed { peer } => {
                self.coordinators.remove(&peer);
                self.runs.forget_described(peer);
                self.event(Event::CoordinatorClosed(peer));
            }
            NetEvent::KeeperOpened { peer, outbound } => self.on_keeper_opened(peer, outbound),
            NetEvent::KeeperReceived { peer, message, weight: _ } => self.on_keeper(peer, message),
            NetEvent::KeeperClosed { peer } => self.keeper_gone(peer),
            NetEvent::AuthorOpened { peer, outbound } => self.on_author_opened(peer, outbound),
            NetEvent::AuthorReceived { peer, message, weight: _ } => self.on_author(peer, message),
            NetEvent::AuthorClosed { peer } => self.author_gone(peer),
            NetEvent::ReadRequested { peer: _, request, outbound } => self.answer_reader(request, outbound),
            NetEvent::WatchRequested { peer: _, job, outbound } => self.watch(job, outbound),
            NetEvent::Joined { peer, kind } => {
                tracing::info!(peer = %peer.short(), ?kind, "joined by a ticket of ours");
                if kind == TicketKind::Friend {
                    self.event(Event::Befriended { peer, friend: true });
                }
            }
            NetEvent::Discovered { peer, addresses } => {
                let hint: Arc<[u8]> = super::net::Contact::new(addresses).encode().into();
                self.event(Event::Gossip(gossip::Event::Learned(vec![gossip::Contact { peer, hint }])));
            }
            NetEvent::Flooded { peer } => tracing::warn!(peer = %peer.short(), "flooded us; ignored for a while"),
        }
    }

    fn on_gossip(&mut self, from: PeerId, message: pb::GossipMessage) {
        match wire::gossip::read(message, self.grid) {
            Ok(message) => self.event(Event::Gossip(gossip::Event::Received { from, message })),
            Err(rejection) => {
                tracing::info!(peer = %from.short(), %rejection, "a neighbour's message is refused, and the stream closed");
                if self.gossip.remove(&from).is_some() {
                    self.event(Event::Gossip(gossip::Event::Disconnected(from)));
                }
            }
        }
    }

    fn on_worker(&mut self, from: PeerId, message: pb::WorkerMessage) {
        let refused = match WorkerMessage::try_from(message) {
            Ok(WorkerMessage::Hello(hello)) => self.on_worker_hello(from, &hello),
            Ok(WorkerMessage::Credits(window)) => {
                self.event(Event::WorkerWindow { peer: from, window });
                None
            }
            Ok(WorkerMessage::Outcomes(batch)) => self.on_outcomes(from, batch),
            Ok(WorkerMessage::Receipts(page)) => self.on_receipts(from, page),
            Ok(WorkerMessage::Offer { job, offer }) => {
                self.on_offer(from, job, offer);
                None
            }
            Ok(WorkerMessage::Links { job, unit, links }) => {
                self.event(Event::Links { from, job, unit, links });
                None
            }
            Ok(WorkerMessage::State { job, unit, bytes }) => {
                self.on_state(from, job, unit, bytes);
                None
            }
            Err(rejection) => Some(rejection.to_string()),
        };
        if let Some(reason) = refused {
            tracing::info!(peer = %from.short(), reason, "a worker's message is refused, and the stream closed");
            self.refuse_worker(from);
        }
    }

    /// Closes a worker's stream. What it holds is offered to others.
    pub(super) fn refuse_worker(&mut self, peer: PeerId) {
        if self.workers.remove(&peer).is_some() {
            self.event(Event::WorkerClosed(peer));
        }
    }

    fn on_worker_hello(&mut self, from: PeerId, hello: &wire::work::WorkerHello) -> Option<String> {
        let worker = self.workers.get_mut(&from)?;
        if worker.hello.is_some() {
            return Some("a second greeting".into());
        }
        let class: Arc<str> = hello.validation_class.as_str().into();
        let platform = Platform::named(hello.instruction_set.as_bytes());
        worker.hello = Some(WorkerIs { class: class.clone(), instruction_set: hello.instruction_set.as_str().into() });
        self.event(Event::WorkerOpened { peer: from, class, platform, slots: hello.slots });
        None
    }

    /// Checks a batch's signature, then hands in its outcomes, those with large outputs when these are here.
    fn on_outcomes(&mut self, from: PeerId, batch: OutcomeBatch) -> Option<String> {
        let Some(is) = self.workers.get(&from)?.hello.clone() else { return Some("outcomes before a greeting".into()) };
        let inputs = self.inputs_of(batch.job, batch.outcomes.iter().map(|outcome| outcome.unit));
        // Nothing of a job that is not known is taken, whoever signed it: the core says so.
        let (known, inputs) = (inputs.is_some(), inputs.unwrap_or_else(|| vec![None; batch.outcomes.len()]));
        let claims = batch.outcomes.iter().zip(inputs).filter_map(|(outcome, input)| Claim::of_outcome(outcome, input));
        let claims: Vec<Claim> = claims.filter(|_| known).collect();
        let receipts = if claims.is_empty() {
            None
        } else {
            let receipts = match Receipts::new(batch.job, &is.class, &is.instruction_set, &claims) {
                Ok(receipts) => receipts,
                Err(error) => return Some(error.to_string()),
            };
            if let Err(error) = receipts.verify(from, &batch.signature) {
                return Some(error.to_string());
            }
            Some(receipts)
        };
        let platform = Platform::named(is.instruction_set.as_bytes());
        let mut position = 0;
        for outcome in batch.outcomes {
            let mut proof: Arc<[u8]> = Arc::from([]);
            if let (Outcome::Value(_), Some(receipts)) = (outcome.outcome, &receipts) {
                proof = receipts.proof(position, &batch.signature);
                position += 1;
            }
            self.on_outcome(from, batch.job, outcome, platform, proof);
        }
        None
    }

    /// What units of a job are given, as their receipts must say it; none when there is no such job here. Where it cannot be read no
    /// receipt will be found good.
    pub(super) fn inputs_of(&self, job: JobId, units: impl ExactSizeIterator<Item = UnitIndex>) -> Option<Vec<Option<Digest>>> {
        let (manifest, count) = (self.peer.owner().manifest(job)?, units.len());
        if !manifest.has_table() {
            return Some(vec![None; count]);
        }
        let read = tokio::task::block_in_place(|| self.store.input_digests(job, units));
        Some(read.unwrap_or_else(|error| {
            tracing::error!(%error, job = %job.short(), "the inputs of units cannot be read");
            vec![None; count]
        }))
    }

    fn on_outcome(&mut self, from: PeerId, job: JobId, outcome: UnitOutcome, platform: Platform, proof: Arc<[u8]>) {
        let UnitOutcome { unit, attempt, token, ordinal, outcome, output_bytes, inline_output, log, wall, rests_on } = outcome;
        let output = inline_output.map(Arc::from);
        let (token, log) = (LeaseToken(token), log.into());
        let report = Report { unit, attempt, ordinal, token, rests_on, outcome, output_bytes, output, log, wall, platform, proof };
        // Nothing is fetched for a report that will not be taken.
        let welcome = self.peer.owner().may_report(from, job, &report).is_ok();
        match report.outcome {
            Outcome::Value(value) if welcome && report.output.is_none() => self.take_output(from, job, value.output, report),
            Outcome::Value(_) | Outcome::Failed(_) => self.event(Event::Reported { from, job, report }),
        }
    }

    fn on_coordinator_opened(&mut self, peer: PeerId, outbound: Outbound<pb::WorkerMessage>) {
        let mut stream = Stream::new(outbound);
        let hello = wire::work::WorkerHello {
            validation_class: self.validation_class.clone(),
            instruction_set: self.instruction_set.clone(),
            slots: self.handle.facts.slots,
            memory_bytes: self.handle.facts.memory_bytes,
        };
        if stream.send(WorkerMessage::Hello(hello).into()).is_ok() {
            self.coordinators.insert(peer, stream);
            self.event(Event::CoordinatorOpened(peer));
        }
    }

    fn on_coordinator(&mut self, from: PeerId, message: pb::CoordinatorMessage) {
        let refused = match CoordinatorMessage::try_from(message) {
            Ok(CoordinatorMessage::Job(description)) => {
                // Its owner, or whom its owner has named a keeper.
                let kept = || description.keepers.as_ref().is_some_and(|list| list.names(from));
                let may_coordinate = description.manifest.owner == from || kept();
                if may_coordinate {
                    self.runs.describe(from, description.job, description.manifest);
                }
                (!may_coordinate).then(|| "a job of somebody else".to_owned())
            }
            Ok(CoordinatorMessage::Leases { job, leases }) => self.on_leases(from, job, leases),
            Ok(CoordinatorMessage::Revoke { job, units: _ }) => {
                self.event(Event::Revoked { from, job });
                None
            }
            Ok(CoordinatorMessage::AskReceipts { job, after }) => {
                self.event(Event::ReceiptsAsked { from, job, after });
                None
            }
            Ok(CoordinatorMessage::Acknowledged { job, units }) => {
                self.event(Event::Acknowledged { from, job, units });
                None
            }
            Ok(CoordinatorMessage::CheckpointTaken { job, unit, state }) => {
                self.on_checkpoint_taken(from, job, unit, state);
                None
            }
            Ok(CoordinatorMessage::LinksWanted { job, unit }) => {
                self.on_links_wanted(from, job, unit);
                None
            }
            Ok(CoordinatorMessage::StateWanted { job, unit, gas, input }) => {
                self.on_state_wanted(from, job, unit, gas, input);
                None
            }
            Err(rejection) => Some(rejection.to_string()),
        };
        if let Some(reason) = refused {
            tracing::info!(peer = %from.short(), reason, "a coordinator's message is refused, and the stream closed");
            self.coordinators.remove(&from);
            self.event(Event::CoordinatorClosed(from));
        }
    }

    fn on_leases(&mut self, from: PeerId, job: JobId, leases: Vec<Lease>) -> Option<String> {
        let Some(manifest) = self.runs.description(from, job) else { return Some("leases of a job that was not described".into()) };
        // What a worker signs says which input it was given only where one belongs to the job.
        if leases.iter().any(|lease| lease.input.is_some() != manifest.has_table()) {
            return Some("inputs that do not fit the job".into());
        }
        let mut plain = Vec::with_capacity(leases.len());
        for Lease { unit, attempt, token, ordinal, duration, input, from: checkpoint, rests_on } in leases {
            let given = input.as_ref().map(|input| input_digest(&input.name, input.digest));
            self.runs.offer(RunId { coordinator: from, job, unit, attempt }, input);
            let token = LeaseToken(token);
            plain.push(crate::protocol::owner::Lease { unit, attempt, ordinal, token, duration, input: given, from: checkpoint, rests_on });
        }
        self.event(Event::Leased { from, job, leases: plain });
        None
    }

    pub(super) fn on_fetched(&mut self) {
        while let Some((fetch, result)) = self.fetches.take() {
            match (fetch.goal, result) {
                (Goal::Output { from, job, report }, Ok(())) => self.event(Event::Reported { from, job, report: *report }),
                (Goal::Output { from, job, mut report }, Err(reason)) => {
                    tracing::info!(peer = %from.short(), reason, "the output of a result could not be had");
                    report.outcome = Outcome::Failed(AttemptFailure::MissingBlob);
                    self.event(Event::Reported { from, job, report: *report });
                }
                (Goal::Module { coordinator, job }, result) => self.on_module(coordinator, job, result),
                (Goal::Input { run }, result) => self.on_input(run, result),
                (Goal::Kept { author, job, digest }, result) => self.on_kept_blob(author, job, digest, result),
                (Goal::Mend { digest }, result) => self.on_mended(digest, result),
                (Goal::Recovered { from, job, receipt }, result) => self.on_recovered_output(from, job, *receipt, result),
                (Goal::Recheck(recheck), result) => self.on_recheck_fetched(*recheck, result),
                (Goal::Resume { run }, result) => self.on_resume_fetched(run, result),
                (Goal::Offer { from, job, offer }, result) => self.on_offer_fetched(from, job, *offer, result),
                (Goal::State { from, job, unit }, result) => self.event(Event::State { from, job, unit, held: result.is_ok() }),
            }
        }
        self.fetches.start(&self.net, &self.store);
    }
}

/// Reports a job's progress to a peer that asked, until the job has ended or the peer has gone.
pub(super) async fn report_progress(handle: Handle, job: JobId, outbound: Outbound<pb::JobProgress>) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let started = tokio::time::Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = handle.ended() => return,
        }
        let Ok(Some(view)) = handle.view(move |node| node.peer.owner().job_view(job)).await else { return };
        let ended = view.state.has_ended();
        let mut progress = wire::progress::write(&view);
        progress.elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outbound.try_send(progress) {
            Ok(()) | Err(super::net::SendError::Full) if !ended => {}
            Ok(()) | Err(_) => return,
        }
    }
}

/// A blob that is wanted, and what for.
#[derive(Debug)]
pub(super) struct Fetch {
    pub wanted: Wanted,
    pub holders: Vec<PeerId>,
    pub goal: Goal,
}

/// What a blob is wanted for.
#[derive(Debug)]
pub(super) enum Goal {
    /// A worker's large output.
    Output { from: PeerId, job: JobId, report: Box<Report> },
    /// A job's module.
    Module { coordinator: PeerId, job: JobId },
    /// A unit's input.
    Input { run: RunId },
    /// An own job that this disk has lost it of.
    Mend { digest: Digest },
    /// A job that is kept for somebody else.
    Kept { author: PeerId, job: JobId, digest: Digest },
    /// The output of a unit that its worker says again.
    Recovered { from: PeerId, job: JobId, receipt: Box<Recovered> },
    /// The module of a unit that somebody is said to have computed wrongly.
    Recheck(Box<Recheck>),
    /// Where a leased unit goes on.
    Resume { run: RunId },
    /// How far a worker has come.
    Offer { from: PeerId, job: JobId, offer: Box<Offer> },
    /// A state of a unit in dispute.
    State { from: PeerId, job: JobId, unit: UnitIndex },
}

type Fetched = (Fetch, Result<(), String>);

/// Blobs on their way here: a few at once, fewer from one peer, a bounded number waiting.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    waiting: VecDeque<Fetch>,
    running: JoinSet<Result<(), String>>,
    /// What the running tasks fetch.
    goals: BTreeMap<task::Id, Fetch>,
    done: Vec<Fetched>,
}

impl Fetches {
    /// Enters a fetch; `false` when too many wait, in all or for this peer. It starts with the next [`Fetches::start`].
    pub fn push(&mut self, fetch: Fetch) -> bool {
        let of_peer = self.waiting.iter().filter(|waiting| waiting.holders.first() == fetch.holders.first()).count();
        let room = self.waiting.len() < FETCHES_WAITING_MAX && of_peer < FETCHES_WAITING_PER_PEER_MAX;
        if room {
            self.waiting.push_back(fetch);
        }
        room
    }

    /// Starts what may run now, in turn, passing over peers that have their share.
    pub fn start(&mut self, net: &super::net::NetHandle, store: &Store) {
        while self.running.len() < FETCHES_MAX {
            let may_run = |fetch: &Fetch| {
                let of_peer = self.goals.values().filter(|running| running.holders.first() == fetch.holders.first());
                of_peer.count() < FETCHES_PER_PEER_MAX
            };
            let Some(fetch) = self.waiting.iter().position(may_run).and_then(|at| self.waiting.remove(at)) else { break };
            let (wanted, holders) = (fetch.wanted, fetch.holders.clone());
            let (net, store) = (net.clone(), store.clone());
            let running = self.running.spawn(async move {
                let sink = StoreSink { store: store.clone(), writer: Some(store.blob_writer()) };
                let slowest = FETCH_TIME_MIN + Duration::from_secs(wanted.at_most / SLOWEST_BYTES_PER_SECOND);
                let fetched = timeout(slowest, net.fetch_blob(wanted, &holders, sink)).await;
                let fetched = fetched.map_err(|_| "it took too long".to_owned())?.map_err(|error| error.to_string())?;
                commit(&store, fetched.sink, wanted.digest).await.map_err(|error| error.to_string())
            });
            self.goals.insert(running.id(), fetch);
        }
    }

    /// Resolves when one has ended; never while none runs.
    pub async fn ready(&mut self) {
        if !self.done.is_empty() {
            return;
        }
        let (id, result) = match self.running.join_next_with_id().await {
            Some(Ok((id, result))) => (id, result),
            Some(Err(broken)) => (broken.id(), Err(broken.to_string())),
            None => return std::future::pending().await,
        };
        self.done.extend(self.goals.remove(&id).map(|fetch| (fetch, result)));
    }

    /// The next that has ended.
    pub fn take(&mut self) -> Option<Fetched> {
        self.done.pop()
    }
}

/// Writes a fetched blob straight into the store's staging.
struct StoreSink {
    store: Store,
    writer: Option<BlobWriter>,
}

impl BlobSink for StoreSink {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer = self.writer.get_or_insert_with(|| self.store.blob_writer());
        writer.write(bytes).map_err(io::Error::other)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.writer = None;
        Ok(())
    }
}

async fn commit(store: &Store, sink: StoreSink, digest: Digest) -> Result<(), StoreError> {
    let StoreSink { store: _, writer } = sink;
    let Some(writer) = writer else { return Ok(()) };
    let blob: StagedBlob = store.blocking(move |_| writer.finish_as(digest)).await?;
    store.commit(vec![Write::Staged { blob, pin: None }]).await
}

// A work message fits what the network carries.
const _: () = assert!(wire::bounds::WORK_MESSAGE_BYTES_MAX <= limits::MAX_MESSAGE_BYTES);
