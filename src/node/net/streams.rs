//! The long streams between two peers: how each kind is opened, accepted and read.

use std::{pin::Pin, sync::Arc};

use tokio::{sync::oneshot, time::timeout};
use tonic::{Status, Streaming, transport::Channel};

use super::{
    connector::{PeerConnection, client},
    event::{NetEvent, Side, StreamKind},
    limits::{CONNECT_TIMEOUT, GOSSIP_QUEUE, WORK_QUEUE},
    outbound::{Drain, Outbound, Watch, queue},
    reader::{Allowance, Ending, Events, Pace, read},
};
use crate::{protocol::ids::PeerId, wire::peer as pb};

/// The two directions of one stream.
#[derive(Debug)]
pub(super) struct Pair<In, Out> {
    inbound: Streaming<In>,
    outbound: Outbound<Out>,
    watch: Watch<Out>,
}

/// A stream that both sides have agreed on, or why not.
#[derive(Debug)]
pub(super) enum Opened {
    Gossip { pair: Pair<pb::GossipMessage, pb::GossipMessage>, on: usize },
    Worker { pair: Pair<pb::WorkerMessage, pb::CoordinatorMessage>, on: usize },
    Coordinator { pair: Pair<pb::CoordinatorMessage, pb::WorkerMessage>, on: usize },
    Keeper { pair: Pair<pb::KeeperMessage, pb::KeepMessage>, on: usize },
    Author { pair: Pair<pb::KeepMessage, pb::KeeperMessage>, on: usize },
    Failed { kind: StreamKind, reason: String },
}

impl Opened {
    pub(super) fn kind(&self) -> StreamKind {
        match self {
            Self::Gossip { .. } => StreamKind::Gossip,
            Self::Worker { .. } => StreamKind::Worker,
            Self::Coordinator { .. } => StreamKind::Coordinator,
            Self::Keeper { .. } => StreamKind::Keeper,
            Self::Author { .. } => StreamKind::Author,
            Self::Failed { kind, .. } => *kind,
        }
    }
}

/// Opens a stream of this kind towards the peer behind `channel`.
pub(super) async fn open(kind: StreamKind, channel: Channel, connection: PeerConnection) -> Opened {
    let failed = |reason: String| Opened::Failed { kind, reason };
    let on = connection.quic().stable_id();
    let mut client = client(channel);
    let opening = async {
        match kind {
            StreamKind::Gossip => {
                let (outbound, drain, watch) = queue(GOSSIP_QUEUE);
                let inbound = client.gossip(drain).await?.into_inner();
                Ok(Opened::Gossip { pair: Pair { inbound, outbound, watch }, on })
            }
            StreamKind::Coordinator => {
                let (outbound, drain, watch) = queue(WORK_QUEUE);
                let inbound = client.work(drain).await?.into_inner();
                Ok(Opened::Coordinator { pair: Pair { inbound, outbound, watch }, on })
            }
            StreamKind::Keeper => {
                let (outbound, drain, watch) = queue(WORK_QUEUE);
                let inbound = client.keep(drain).await?.into_inner();
                Ok(Opened::Keeper { pair: Pair { inbound, outbound, watch }, on })
            }
            StreamKind::Worker | StreamKind::Author => Err(Status::internal("the other side opens such streams")),
        }
    };
    match timeout(CONNECT_TIMEOUT, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => failed(status.message().to_owned()),
        Err(_) => failed("no answer in time".into()),
    }
}

/// Answers a gossip stream that the peer opened.
pub(super) fn accept_gossip(
    inbound: Streaming<pb::GossipMessage>,
    reply: oneshot::Sender<Result<Drain<pb::GossipMessage>, Status>>,
    on: usize,
) -> Opened {
    let (outbound, drain, watch) = queue(GOSSIP_QUEUE);
    // When the call is gone already, so is `inbound`, and the reader notices.
    drop(reply.send(Ok(drain)));
    Opened::Gossip { pair: Pair { inbound, outbound, watch }, on }
}

/// Answers a work stream that a worker opened.
pub(super) fn accept_work(
    inbound: Streaming<pb::WorkerMessage>,
    reply: oneshot::Sender<Result<Drain<pb::CoordinatorMessage>, Status>>,
    on: usize,
) -> Opened {
    let (outbound, drain, watch) = queue(WORK_QUEUE);
    drop(reply.send(Ok(drain)));
    Opened::Worker { pair: Pair { inbound, outbound, watch }, on }
}

/// Answers a keep stream that an author opened.
pub(super) fn accept_keep(
    inbound: Streaming<pb::KeepMessage>,
    reply: oneshot::Sender<Result<Drain<pb::KeeperMessage>, Status>>,
    on: usize,
) -> Opened {
    let (outbound, drain, watch) = queue(WORK_QUEUE);
    drop(reply.send(Ok(drain)));
    Opened::Author { pair: Pair { inbound, outbound, watch }, on }
}

/// Reads a stream until it ends.
pub(super) type Reading = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// The event that reports the stream open, and the reader to run after it; the stream's connection beside them.
pub(super) fn start(
    opened: Opened,
    peer: PeerId,
    opened_by: Side,
    allowance: Arc<Allowance>,
    events: Events,
) -> Result<(NetEvent, Reading, usize), String> {
    match opened {
        Opened::Gossip { pair: Pair { inbound, outbound, watch }, on } => {
            let wrap = |peer, message, weight| NetEvent::GossipReceived { peer, message, weight };
            let reading = read(peer, inbound, watch, (allowance, Pace::Gossip), events, wrap);
            Ok((NetEvent::GossipOpened { peer, opened_by, outbound }, Box::pin(reading), on))
        }
        Opened::Worker { pair: Pair { inbound, outbound, watch }, on } => {
            let wrap = |peer, message, weight| NetEvent::WorkerReceived { peer, message, weight };
            let reading = read(peer, inbound, watch, (allowance, Pace::Work), events, wrap);
            Ok((NetEvent::WorkerOpened { peer, outbound }, Box::pin(reading), on))
        }
        Opened::Coordinator { pair: Pair { inbound, outbound, watch }, on } => {
            let wrap = |peer, message, weight| NetEvent::CoordinatorReceived { peer, message, weight };
            let reading = read(peer, inbound, watch, (allowance, Pace::Work), events, wrap);
            Ok((NetEvent::CoordinatorOpened { peer, outbound }, Box::pin(reading), on))
        }
        Opened::Keeper { pair: Pair { inbound, outbound, watch }, on } => {
            let wrap = |peer, message, weight| NetEvent::KeeperReceived { peer, message, weight };
            let reading = read(peer, inbound, watch, (allowance, Pace::Work), events, wrap);
            Ok((NetEvent::KeeperOpened { peer, outbound }, Box::pin(reading), on))
        }
        Opened::Author { pair: Pair { inbound, outbound, watch }, on } => {
            let wrap = |peer, message, weight| NetEvent::AuthorReceived { peer, message, weight };
            let reading = read(peer, inbound, watch, (allowance, Pace::Work), events, wrap);
            Ok((NetEvent::AuthorOpened { peer, outbound }, Box::pin(reading), on))
        }
        Opened::Failed { reason, .. } => Err(reason),
    }
}

/// The event that reports a stream of this kind closed.
pub(super) fn closed(kind: StreamKind, peer: PeerId) -> NetEvent {
    match kind {
        StreamKind::Gossip => NetEvent::GossipClosed { peer },
        StreamKind::Worker => NetEvent::WorkerClosed { peer },
        StreamKind::Coordinator => NetEvent::CoordinatorClosed { peer },
        StreamKind::Keeper => NetEvent::KeeperClosed { peer },
        StreamKind::Author => NetEvent::AuthorClosed { peer },
    }
}
