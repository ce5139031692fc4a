//! One task per peer: owns its connections and streams, and is the only one that reports them, so that events come in order.
//!
//! It dials when something is wanted of a peer that is not connected, once; whether and when to try again is the caller's
//! decision. Of two connections of the same direction the newer one stays (the peer restarted); one of each direction may stay
//! (both dialled at once), and new streams then use the newer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};
use tonic::{Status, Streaming, transport::Channel};

use super::{
    connector::{CloseCode, Connect as _, Intake, PeerConnection, serve_streams},
    event::{ConnectError, NetEvent, PeerHello, Side, StreamKind, printable},
    hello::Local,
    limits::{LINK_MAILBOX, MAX_FETCHES_PER_CONNECTION, UNUSED_LINK},
    outbound::Drain,
    reader::{Allowance, Deaf, Ending, Events},
    streams::{self, Opened},
    tasks::{Finished, Tasks},
};
use crate::{protocol::ids::PeerId, wire::peer as pb};

/// Two dials that crossed are this close together at most; a later one means that the peer lost the earlier connection.
const CROSSED: Duration = Duration::from_secs(5);

/// Which of a connection's HTTP/2 connections to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Calls that are answered at once.
    Control,
    /// Transfers.
    Bulk,
}

/// A channel to a connected peer; its link stays while one is held.
#[derive(Clone, Debug)]
pub(super) struct LeasedChannel {
    pub(super) channel: Channel,
    pub(super) connection: PeerConnection,
    /// As many as the peer answers at a time; others wait here for their turn.
    pub(super) fetches: Arc<Semaphore>,
    _lease: Arc<()>,
}

/// What a link is asked to do.
#[derive(Debug)]
pub(super) enum LinkCommand {
    Want(Want),
    Disconnect,
    /// A peer that dialled us has said Hello. `done` is answered once the run loop has been told.
    Accepted {
        connection: PeerConnection,
        hello: PeerHello,
        done: oneshot::Sender<Result<(), ConnectError>>,
    },
    /// A stream that the peer opened on the connection of this number.
    Incoming(usize, Box<IncomingStream>),
}

/// What needs a connection.
#[derive(Debug)]
pub(super) enum Want {
    Connection,
    Gossip,
    Coordinator,
    Keeper,
    Channel(Lane, oneshot::Sender<Result<LeasedChannel, ConnectError>>),
}

/// A stream that the peer opened, and where its other direction is awaited.
#[derive(Debug)]
pub(super) enum IncomingStream {
    Gossip(Streaming<pb::GossipMessage>, oneshot::Sender<Result<Drain<pb::GossipMessage>, Status>>),
    Work(Streaming<pb::WorkerMessage>, oneshot::Sender<Result<Drain<pb::CoordinatorMessage>, Status>>),
    Keep(Streaming<pb::KeepMessage>, oneshot::Sender<Result<Drain<pb::KeeperMessage>, Status>>),
}

pub(super) type LinkMailbox = mpsc::Sender<LinkCommand>;

/// What every link needs.
#[derive(Debug)]
pub(super) struct LinkContext {
    pub(super) local: Arc<Local>,
    pub(super) intake: Intake,
    pub(super) events: Events,
}

/// How a link ended.
#[derive(Debug)]
pub(super) struct LinkEnd {
    pub(super) peer: PeerId,
    /// Asked while it was ending; for its successor.
    pub(super) leftovers: Vec<LinkCommand>,
    pub(super) flooded: bool,
}

#[derive(Debug)]
struct Live {
    connection: PeerConnection,
    control: Channel,
    bulk: Channel,
    fetches: Arc<Semaphore>,
    lease: Arc<()>,
    since: Instant,
}

#[derive(Debug)]
enum Slot {
    Empty,
    Opening { task: AbortHandle },
    Open { task: AbortHandle, opened_by: Side, on: usize },
}

/// What the link's own tasks come to.
enum Done {
    Dialled(Box<Result<(PeerConnection, PeerHello), ConnectError>>),
    Disconnected(usize),
    Opened(Box<Opened>),
    Read(StreamKind, Ending),
}

/// What a task was for, should it panic.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Dial,
    Serve(usize),
    Open(StreamKind),
    Read(StreamKind),
}

pub(super) struct Link {
    peer: PeerId,
    context: Arc<LinkContext>,
    allowance: Arc<Allowance>,
    mailbox: (LinkMailbox, mpsc::Receiver<LinkCommand>),
    connections: Vec<(Side, Live)>,
    slots: Slots,
    waiting: Vec<Want>,
    tasks: Tasks<Purpose, Done>,
    dialling: bool,
    /// Whether the run loop wants this peer connected; otherwise the link goes when unused.
    keep: bool,
}

impl Link {
    pub(super) fn new(peer: PeerId, context: Arc<LinkContext>, allowance: Arc<Allowance>) -> Self {
        Self {
            peer,
            context,
            allowance,
            mailbox: mpsc::channel(LINK_MAILBOX),
            connections: Vec::new(),
            slots: [const { Slot::Empty }; KINDS.len()],
            waiting: Vec::new(),
            tasks: Tasks::new(),
            dialling: false,
            keep: false,
        }
    }

    pub(super) fn mailbox(&self) -> LinkMailbox {
        self.mailbox.0.clone()
    }

    /// Runs until nothing connects us with the peer any more.
    pub(super) async fn run(mut self) -> LinkEnd {
        let mut tick = interval(UNUSED_LINK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        let mut flooded = false;
        let mut first = true;
        while first || !self.is_over() {
            let step = tokio::select! {
                Some(command) = self.mailbox.1.recv() => self.perform(command).await.map(|()| false),
                done = self.tasks.next() => self.finish(done).await,
                _ = tick.tick() => self.drop_if_unused().await.map(|()| false),
            };
            first = false;
            match step {
                Ok(false) => {}
                Ok(true) => {
                    flooded = true;
                    break;
                }
                Err(Deaf) => break,
            }
        }
        self.end(flooded).await
    }

    fn is_over(&self) -> bool {
        self.connections.is_empty() && !self.dialling && self.waiting.is_empty()
    }

    async fn end(mut self, flooded: bool) -> LinkEnd {
        let code = if flooded { CloseCode::Flood } else { CloseCode::Unused };
        // When nobody listens any more there is nobody to tell.
        let told = self.drop_connections(code).await;
        if flooded && told.is_ok() {
            drop(self.context.events.send(NetEvent::Flooded { peer: self.peer }).await);
        }
        let Self { peer, mailbox: (_, mut receiver), tasks, .. } = self;
        receiver.close();
        let mut leftovers = Vec::new();
        while let Some(command) = receiver.recv().await {
            leftovers.push(command);
        }
        tasks.shutdown().await;
        LinkEnd { peer, leftovers, flooded }
    }

    async fn perform(&mut self, command: LinkCommand) -> Result<(), Deaf> {
        match command {
            LinkCommand::Want(want) => self.want(want).await,
            LinkCommand::Disconnect => {
                self.keep = false;
                self.drop_connections(CloseCode::Unused).await
            }
            LinkCommand::Accepted { connection, hello, done } => {
                self.register(Side::Them, connection, hello).await?;
                // The peer may have gone meanwhile; its connection then ends on its own.
                drop(done.send(Ok(())));
                Ok(())
            }
            LinkCommand::Incoming(on, stream) => self.take_incoming(on, *stream).await,
        }
    }

    async fn want(&mut self, want: Want) -> Result<(), Deaf> {
        if !matches!(want, Want::Channel(..)) {
            self.keep = true;
        }
        if let Some((_, live)) = self.connections.last() {
            Self::satisfy(want, live, &mut self.tasks, &mut self.slots);
            return Ok(());
        }
        if self.waiting.len() >= LINK_MAILBOX {
            return self.disappoint(want, &ConnectError::Busy).await;
        }
        self.waiting.push(want);
        if !self.dialling {
            self.dialling = true;
            let (local, peer) = (self.context.local.clone(), self.peer);
            self.tasks.spawn(Purpose::Dial, async move { Done::Dialled(Box::new(local.dial(peer).await)) });
        }
        Ok(())
    }

    fn satisfy(want: Want, live: &Live, tasks: &mut Tasks<Purpose, Done>, slots: &mut Slots) {
        let kind = match want {
            Want::Connection => return,
            Want::Gossip => StreamKind::Gossip,
            Want::Coordinator => StreamKind::Coordinator,
            Want::Keeper => StreamKind::Keeper,
            Want::Channel(lane, reply) => {
                let channel = match lane {
                    Lane::Control => live.control.clone(),
                    Lane::Bulk => live.bulk.clone(),
                };
                let (connection, fetches) = (live.connection.clone(), live.fetches.clone());
                let leased = LeasedChannel { channel, connection, fetches, _lease: live.lease.clone() };
                // Who asked may have given up.
                drop(reply.send(Ok(leased)));
                return;
            }
        };
        let slot = &mut slots[index(kind)];
        if matches!(slot, Slot::Empty) {
            let opening = streams::open(kind, live.control.clone(), live.connection.clone());
            *slot = Slot::Opening { task: tasks.spawn(Purpose::Open(kind), async move { Done::Opened(Box::new(opening.await)) }) };
        }
    }

    async fn disappoint(&self, want: Want, reason: &ConnectError) -> Result<(), Deaf> {
        match want {
            Want::Channel(_, reply) => {
                drop(reply.send(Err(reason.clone())));
                Ok(())
            }
            Want::Connection | Want::Gossip | Want::Coordinator | Want::Keeper => {
                self.context.events.send(NetEvent::ConnectFailed { peer: self.peer, reason: reason.clone() }).await
            }
        }
    }

    /// Takes a connection that has passed Hello, and tells the run loop when it is the peer's first.
    async fn register(&mut self, dialled_by: Side, connection: PeerConnection, hello: PeerHello) -> Result<(), Deaf> {
        connection.admit(self.mailbox());
        let now = Instant::now();
        let stale = |side: Side, live: &Live| side == dialled_by || (dialled_by == Side::Them && now.duration_since(live.since) > CROSSED);
        let old: Vec<usize> =
            self.connections.iter().filter(|(side, live)| stale(*side, live)).map(|(_, live)| number(&live.connection)).collect();
        for connection in old {
            self.retire(connection, CloseCode::Replaced).await?;
        }
        let first = self.connections.is_empty();
        let id = number(&connection);
        let watched = connection.clone();
        let intake = self.context.intake.clone();
        self.tasks.spawn(Purpose::Serve(id), async move {
            match dialled_by {
                Side::Us => serve_streams(watched, intake).await,
                // The accept loop serves it; here only its end matters.
                Side::Them => drop(watched.quic().closed().await),
            }
            Done::Disconnected(id)
        });
        let (control, bulk) = (connection.channel(), connection.channel());
        let fetches = Arc::new(Semaphore::new(MAX_FETCHES_PER_CONNECTION));
        let live = Live { connection, control, bulk, fetches, lease: Arc::new(()), since: now };
        self.connections.push((dialled_by, live));
        if first {
            self.context.events.send(NetEvent::PeerConnected { peer: self.peer, hello }).await?;
        }
        let (_, live) = self.connections.last().expect("just pushed");
        for want in self.waiting.drain(..) {
            Self::satisfy(want, live, &mut self.tasks, &mut self.slots);
        }
        Ok(())
    }

    /// Forgets a connection and reports its streams closed, and the peer gone when it was the last.
    async fn retire(&mut self, connection: usize, code: CloseCode) -> Result<(), Deaf> {
        let Some(at) = self.connections.iter().position(|(_, live)| number(&live.connection) == connection) else { return Ok(()) };
        let (_, live) = self.connections.remove(at);
        live.connection.close(code);
        for kind in KINDS {
            if matches!(self.slots[index(kind)], Slot::Open { on, .. } if on == connection) {
                self.clear(kind).await?;
            }
        }
        if self.connections.is_empty() {
            for kind in KINDS {
                self.clear(kind).await?;
            }
            self.context.events.send(NetEvent::PeerDisconnected { peer: self.peer }).await?;
        }
        Ok(())
    }

    async fn drop_connections(&mut self, code: CloseCode) -> Result<(), Deaf> {
        while let Some((_, live)) = self.connections.last() {
            let id = number(&live.connection);
            self.retire(id, code).await?;
        }
        Ok(())
    }

    /// Empties a slot; a stream that was open is reported closed, one being opened failed.
    async fn clear(&mut self, kind: StreamKind) -> Result<(), Deaf> {
        match core::mem::replace(&mut self.slots[index(kind)], Slot::Empty) {
            Slot::Empty => Ok(()),
            Slot::Opening { task } => {
                self.tasks.stop(&task).await;
                self.open_failed(kind, "the connection ended").await
            }
            Slot::Open { task, .. } => {
                self.tasks.stop(&task).await;
                self.context.events.send(streams::closed(kind, self.peer)).await
            }
        }
    }

    async fn open_failed(&self, stream: StreamKind, reason: &str) -> Result<(), Deaf> {
        self.context.events.send(NetEvent::OpenFailed { peer: self.peer, stream, reason: printable(reason) }).await
    }

    async fn take_incoming(&mut self, on: usize, stream: IncomingStream) -> Result<(), Deaf> {
        if !self.connections.iter().any(|(_, live)| number(&live.connection) == on) {
            // The connection was replaced meanwhile; dropping the reply ends the call.
            return Ok(());
        }
        let opened = match stream {
            IncomingStream::Gossip(inbound, reply) => {
                match &self.slots[index(StreamKind::Gossip)] {
                    // Both sides opened one: the smaller key's stays.
                    Slot::Opening { .. } | Slot::Open { opened_by: Side::Us, .. } if self.context.local.peer() < self.peer => {
                        drop(reply.send(Err(Status::already_exists("there is a gossip stream between us already"))));
                        return Ok(());
                    }
                    Slot::Opening { task } => {
                        let task = task.clone();
                        self.tasks.stop(&task).await;
                        self.slots[index(StreamKind::Gossip)] = Slot::Empty;
                    }
                    Slot::Empty | Slot::Open { .. } => self.clear(StreamKind::Gossip).await?,
                }
                streams::accept_gossip(inbound, reply, on)
            }
            IncomingStream::Work(inbound, reply) => {
                self.clear(StreamKind::Worker).await?;
                streams::accept_work(inbound, reply, on)
            }
            IncomingStream::Keep(inbound, reply) => {
                self.clear(StreamKind::Author).await?;
                streams::accept_keep(inbound, reply, on)
            }
        };
        self.start(opened, Side::Them).await
    }

    /// Reports a stream open and begins to read it.
    async fn start(&mut self, opened: Opened, opened_by: Side) -> Result<(), Deaf> {
        let kind = opened.kind();
        let started = streams::start(opened, self.peer, opened_by, self.allowance.clone(), self.context.events.clone());
        let (event, reading, on) = match started {
            Ok(started) => started,
            Err(reason) => return self.open_failed(kind, &reason).await,
        };
        self.context.events.send(event).await?;
        let task = self.tasks.spawn(Purpose::Read(kind), async move { Done::Read(kind, reading.await) });
        self.slots[index(kind)] = Slot::Open { task, opened_by, on };
        Ok(())
    }

    /// Takes up what one of the link's tasks came to; true when the peer flooded us.
    async fn finish(&mut self, finished: Finished<Purpose, Done>) -> Result<bool, Deaf> {
        let done = match finished {
            Finished::Done(done) => done,
            Finished::Broken(purpose, error) => {
                tracing::error!(peer = %self.peer.short(), ?purpose, %error, "a network task ended abnormally");
                after_panic(purpose)
            }
        };
        match done {
            Done::Dialled(result) => {
                self.dialling = false;
                match *result {
                    Ok((connection, hello)) => self.register(Side::Us, connection, hello).await?,
                    Err(reason) => self.dial_failed(&reason).await?,
                }
            }
            Done::Disconnected(connection) => self.retire(connection, CloseCode::Unused).await?,
            Done::Opened(opened) => {
                self.slots[index(opened.kind())] = Slot::Empty;
                self.start(*opened, Side::Us).await?;
            }
            Done::Read(kind, ending) => {
                self.slots[index(kind)] = Slot::Empty;
                self.context.events.send(streams::closed(kind, self.peer)).await?;
                return Ok(ending == Ending::Flood);
            }
        }
        Ok(false)
    }

    /// One report for all that was wanted, each channel answered.
    async fn dial_failed(&mut self, reason: &ConnectError) -> Result<(), Deaf> {
        let (channels, others): (Vec<Want>, Vec<Want>) = self.waiting.drain(..).partition(|want| matches!(want, Want::Channel(..)));
        for want in channels.into_iter().chain(others.into_iter().take(1)) {
            self.disappoint(want, reason).await?;
        }
        Ok(())
    }

    async fn drop_if_unused(&mut self) -> Result<(), Deaf> {
        let idle = |(side, live): &(Side, Live)| {
            let used = Arc::strong_count(&live.lease) > 1 || !live.connection.serves_nothing();
            *side == Side::Us && !used && live.since.elapsed() >= UNUSED_LINK
        };
        let unused = !self.keep && self.slots.iter().all(|slot| matches!(slot, Slot::Empty)) && self.connections.iter().all(idle);
        if unused { self.drop_connections(CloseCode::Unused).await } else { Ok(()) }
    }
}

const KINDS: [StreamKind; 5] = [StreamKind::Gossip, StreamKind::Worker, StreamKind::Coordinator, StreamKind::Keeper, StreamKind::Author];

/// What becomes of each kind of stream.
type Slots = [Slot; KINDS.len()];

/// Its place in [`KINDS`], which has the order of their declaration.
fn index(kind: StreamKind) -> usize {
    kind as usize
}

fn number(connection: &PeerConnection) -> usize {
    connection.quic().stable_id()
}

fn after_panic(purpose: Purpose) -> Done {
    match purpose {
        Purpose::Dial => Done::Dialled(Box::new(Err(ConnectError::Unreachable("internal error".into())))),
        Purpose::Serve(connection) => Done::Disconnected(connection),
        Purpose::Open(kind) => Done::Opened(Box::new(Opened::Failed { kind, reason: "internal error".into() })),
        Purpose::Read(kind) => Done::Read(kind, Ending::ByPeer),
    }
}
