//! What the network tells the run loop.
//!
//! For each peer the order is: connected, then per stream opened, received …, closed, and at last disconnected. There is at most
//! one stream of each kind per peer at a time; a replacement closes the old one first.

use std::net::SocketAddr;

use tokio::sync::OwnedSemaphorePermit;

use super::{contact::Contact, membership::Refused, outbound::Outbound, ticket::TicketKind};
use crate::{
    protocol::ids::{JobId, PeerId},
    wire::{peer as pb, read::ReadRequest},
};

/// Which side began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Us,
    /// The peer did.
    Them,
}

/// What a peer showed in its Hello, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// Whether it is a device of our own household.
    pub own: bool,
    /// Who invited it, if it showed a valid invitation.
    pub lineage: Option<PeerId>,
    /// The part of its network address that one operator controls; `None` behind a relay or in a local network.
    pub prefix: Option<u64>,
    /// Where it says that it can be reached.
    pub contact: Contact,
    /// The version of its program, for people only: printable, at most 32 bytes.
    pub version: String,
    /// Who dialled.
    pub dialled_by: Side,
}

/// The kinds of long streams between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// Gossip between neighbours.
    Gossip,
    /// The peer works for us.
    Worker,
    /// We work for the peer.
    Coordinator,
    /// The peer keeps jobs of ours.
    Keeper,
    /// We keep jobs of the peer.
    Author,
}

/// A share of [`super::limits::EVENT_BYTES`], held while the message waits and is handled; drop it afterwards.
#[derive(Debug)]
pub struct Weight(#[expect(dead_code, reason = "held for its drop")] pub(super) OwnedSemaphorePermit);

/// What happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A peer is connected and belongs to the grid. Owed: nothing; open streams if it is of use.
    PeerConnected {
        /// Who.
        peer: PeerId,
        /// What it said.
        hello: PeerHello,
    },
    /// The last connection to a peer ended. All of its streams were reported closed before.
    PeerDisconnected {
        /// Who.
        peer: PeerId,
    },
    /// A dial that was asked for failed. Owed: a decision when to try again, if at all.
    ConnectFailed {
        /// Who could not be reached.
        peer: PeerId,
        /// Why.
        reason: ConnectError,
    },
    /// A stream that was asked for could not be opened on a live connection.
    OpenFailed {
        /// Who refused.
        peer: PeerId,
        /// Which stream.
        stream: StreamKind,
        /// The peer's answer, for people: printable and bounded.
        reason: String,
    },
    /// A gossip stream is open. Owed: the first message, when the protocol has one.
    GossipOpened {
        /// The neighbour.
        peer: PeerId,
        /// Who opened it.
        opened_by: Side,
        /// Towards the neighbour; drop it to end the stream.
        outbound: Outbound<pb::GossipMessage>,
    },
    /// A neighbour's message, not validated but at most [`super::limits::MAX_GOSSIP_BYTES`] long.
    GossipReceived {
        /// The neighbour.
        peer: PeerId,
        /// What it said.
        message: pb::GossipMessage,
        /// To be dropped when handled.
        weight: Weight,
    },
    /// The gossip stream ended, by whichever side.
    GossipClosed {
        /// The neighbour.
        peer: PeerId,
    },
    /// A worker opened a stream to us.
    WorkerOpened {
        /// The worker.
        peer: PeerId,
        /// Towards the worker.
        outbound: Outbound<pb::CoordinatorMessage>,
    },
    /// A worker's message, not validated but at most [`super::limits::MAX_MESSAGE_BYTES`] long.
    WorkerReceived {
        /// The worker.
        peer: PeerId,
        /// What it said.
        message: pb::WorkerMessage,
        /// To be dropped when handled.
        weight: Weight,
    },
    /// A worker's stream ended. Its leases are to be handed out again.
    WorkerClosed {
        /// The worker.
        peer: PeerId,
    },
    /// Our stream to a coordinator is open. Owed: a `WorkerHello`.
    CoordinatorOpened {
        /// The coordinator.
        peer: PeerId,
        /// Towards the coordinator.
        outbound: Outbound<pb::WorkerMessage>,
    },
    /// A coordinator's message, not validated but at most [`super::limits::MAX_MESSAGE_BYTES`] long.
    CoordinatorReceived {
        /// The coordinator.
        peer: PeerId,
        /// What it said.
        message: pb::CoordinatorMessage,
        /// To be dropped when handled.
        weight: Weight,
    },
    /// Our stream to a coordinator ended.
    CoordinatorClosed {
        /// The coordinator.
        peer: PeerId,
    },
    /// Our stream to a keeper is open.
    KeeperOpened {
        /// The keeper.
        peer: PeerId,
        /// Towards the keeper.
        outbound: Outbound<pb::KeepMessage>,
    },
    /// A keeper's message, not validated but at most [`super::limits::MAX_MESSAGE_BYTES`] long.
    KeeperReceived {
        /// The keeper.
        peer: PeerId,
        /// What it said.
        message: pb::KeeperMessage,
        /// To be dropped when handled.
        weight: Weight,
    },
    /// Our stream to a keeper ended.
    KeeperClosed {
        /// The keeper.
        peer: PeerId,
    },
    /// The author of jobs opened a keep stream to us.
    AuthorOpened {
        /// The author.
        peer: PeerId,
        /// Towards the author.
        outbound: Outbound<pb::KeeperMessage>,
    },
    /// An author's message, not validated but at most [`super::limits::MAX_MESSAGE_BYTES`] long.
    AuthorReceived {
        /// The author.
        peer: PeerId,
        /// What it said.
        message: pb::KeepMessage,
        /// To be dropped when handled.
        weight: Weight,
    },
    /// An author's keep stream ended.
    AuthorClosed {
        /// The author.
        peer: PeerId,
    },
    /// A peer wants to read a job's results. Owed: the head, then the units; drop `outbound` to end it or to refuse.
    ReadRequested {
        /// Who asks.
        peer: PeerId,
        /// For what.
        request: ReadRequest,
        /// Where the parts go.
        outbound: Outbound<pb::ReadJobPart>,
    },
    /// A peer wants to see a job's progress. Owed: reports at most twice a second until it ends; drop `outbound` to end it or
    /// when the job is not known.
    WatchRequested {
        /// Who asks.
        peer: PeerId,
        /// About which job.
        job: JobId,
        /// Where the reports go.
        outbound: Outbound<pb::JobProgress>,
    },
    /// Somebody redeemed a ticket of ours.
    Joined {
        /// The new member.
        peer: PeerId,
        /// As what.
        kind: TicketKind,
    },
    /// A peer of our grid was seen on the local network. Its addresses are in the book already, so it can be dialled.
    Discovered {
        /// Who.
        peer: PeerId,
        /// Where.
        addresses: Vec<SocketAddr>,
    },
    /// A key flooded us; its connections were closed and it is refused for a while.
    Flooded {
        /// Who.
        peer: PeerId,
    },
}

/// Why a peer could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is behind this name.
    #[error("the name is not a public key")]
    NotAKey,
    /// It is our own name.
    #[error("this is our own key")]
    Ourselves,
    /// No address is known, or none of them answers.
    #[error("cannot reach the peer: {0}")]
    Unreachable(String),
    /// Nothing came back in time.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The peer does not want us.
    #[error("the peer refused: {0}")]
    RefusedByPeer(String),
    /// We do not want the peer.
    #[error("refused: {0}")]
    RefusedByUs(Refused),
    /// What the peer answered is not allowed.
    #[error("the peer's answer is malformed: {0}")]
    Malformed(&'static str),
    /// It flooded us a short while ago.
    #[error("the peer is being ignored because it flooded us")]
    Shunned,
    /// We have as many links as we want.
    #[error("too many links")]
    TooManyLinks,
    /// We asked for too much at once.
    #[error("too many requests for this peer are waiting")]
    Busy,
    /// The network layer is ending.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// The longest text of a peer that we show, in characters.
const MAX_TEXT: usize = 160;

/// A peer's text made safe to show: bounded, and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}
