//! How others talk to the run loop: they look at the peer, or hand it an event, and wait for the answer.

use super::{net::NetHandle, run_loop::Node};
use crate::{
    protocol::{ids::PeerId, peer::Event},
    store::Store,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// How many requests may wait for the loop; more would only make everyone wait longer.
pub(super) const REQUESTS_MAX: usize = 64;

/// What never changes while a node runs.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its key.
    pub me: PeerId,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// Units run at once.
    pub slots: u32,
    /// Memory for units, in bytes.
    pub memory_bytes: u64,
    /// Layers of protection that hold around a slot.
    pub protection: Vec<String>,
    /// Engine and passes.
    pub validation_class: String,
    /// The processor's instruction set.
    pub instruction_set: String,
    /// When it started.
    pub started: std::time::Instant,
    /// How long units that run may take to end when the node is to stop.
    pub drain: Duration,
    /// How long a keeper hears nothing before it goes on with a job.
    pub keeper_silence: Duration,
    /// What was put away that a node killed before had left.
    pub leftovers: Option<super::Leftovers>,
}

/// A running node. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) requests: mpsc::Sender<Request>,
    /// The network, the store and the identity for what needs no loop.
    pub net: NetHandle,
    /// Facts and blobs.
    pub store: Store,
    /// Its key pair.
    pub identity: super::net::Identity,
    /// What does not change.
    pub facts: Arc<NodeFacts>,
    /// What it belongs to.
    pub settings: Arc<super::Settings>,
    /// Set once to end the node, or to start it anew with other settings.
    pub(super) end: Arc<watch::Sender<Option<End>>>,
}

/// Why a node ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The user stops it: what runs may end first, the rest is handed back.
    Drain,
    /// The user stops it, at once.
    Stop,
    /// It begins again with other settings: another grid.
    Restart,
    /// The database is damaged.
    Damaged,
}

impl End {
    /// Nothing more happens before it.
    pub fn is_now(self) -> bool {
        match self {
            Self::Drain => false,
            Self::Stop | Self::Restart | Self::Damaged => true,
        }
    }
}

/// The node is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is shutting down")]
pub struct Closed;

/// Somebody's look at the node.
pub(super) type Look = Box<dyn FnOnce(&Node) + Send>;

pub(super) enum Request {
    /// Looks at the node.
    View(Look),
    /// Handles an event; answered when all that follows from it is durable and performed.
    Event(Box<Event>, oneshot::Sender<()>),
}

impl Handle {
    /// Looks at the node.
    pub(crate) async fn view<T: Send + 'static>(&self, look: impl FnOnce(&Node) -> T + Send + 'static) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        let view = Box::new(move |node: &Node| drop(reply.send(look(node))));
        self.requests.send(Request::View(view)).await.map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }

    /// Hands in an event, and waits until what follows from it is durable.
    pub async fn event(&self, event: Event) -> Result<(), Closed> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Event(Box::new(event), reply)).await.map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }

    /// Ends the node when what runs has ended and was acknowledged, or was handed back when its time was up.
    pub fn drain(&self) {
        self.end.send_if_modified(|end| match end {
            None => {
                *end = Some(End::Drain);
                true
            }
            Some(_) => false,
        });
    }

    /// Ends the node at once.
    pub fn stop(&self) {
        self.end.send_if_modified(|end| end.replace(End::Stop) != Some(End::Stop));
    }

    /// Ends the node and starts it anew with the settings as saved. A stop that was asked for before prevails.
    pub fn restart(&self) {
        self.end.send_if_modified(|end| match end {
            None => {
                *end = Some(End::Restart);
                true
            }
            Some(_) => false,
        });
    }

    /// Resolves when the node is about to end.
    pub async fn ended(&self) {
        let mut end = self.end.subscribe();
        drop(end.wait_for(|end| end.is_some_and(End::is_now)).await);
    }
}
