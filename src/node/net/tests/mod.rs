//! Real endpoints on loopback, in one process.

mod blobs;
mod limits;
mod links;
mod membership;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{error::Elapsed, timeout},
};

use super::{
    BlobSource, EndpointConfig, Identity, Membership, Net, NetEndpoint, NetEvent, NetHandle, NetSetup, Source, identity, invites::Invites,
};
use crate::protocol::ids::{Digest, PeerId};

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Blobs in memory, with holders of every kind.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// Answers with these bytes instead.
    lies: BTreeMap<Digest, Vec<u8>>,
    /// Breaks at this offset.
    breaks_at: Option<u64>,
    panics: bool,
}

impl BlobSource for Shelf {
    fn length(&self, digest: &Digest) -> io::Result<Option<u64>> {
        assert!(!self.panics, "a shelf that collapses");
        Ok(self.lies.get(digest).or_else(|| self.blobs.get(digest)).map(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.breaks_at.is_some_and(|at| offset >= at) {
            return Err(io::Error::other("a broken disk"));
        }
        let bytes = self.lies.get(digest).or_else(|| self.blobs.get(digest)).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap();
        buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
        Ok(())
    }
}

/// A node without a run loop.
struct Node {
    net: Net,
    handle: NetHandle,
    events: mpsc::Receiver<NetEvent>,
}

impl Node {
    async fn start(membership: Membership) -> Self {
        Self::start_with(Identity::generate().unwrap(), membership, Shelf::default()).await
    }

    async fn start_with(identity: Identity, membership: Membership, shelf: Shelf) -> Self {
        let endpoint = NetEndpoint::bind(identity, &EndpointConfig::loopback()).await.unwrap();
        Self::on(endpoint, membership, shelf)
    }

    fn on(endpoint: NetEndpoint, membership: Membership, shelf: Shelf) -> Self {
        let setup = NetSetup { endpoint, membership, invites: Invites::in_memory(), version: "test 1".into(), blobs: Arc::new(shelf) };
        let (net, handle, events) = Net::start(setup);
        Self { net, handle, events }
    }

    fn peer(&self) -> PeerId {
        self.handle.peer()
    }

    fn knows(&self, other: &Self) {
        self.handle.learn(other.peer(), other.handle.contact(), Source::Itself).unwrap();
    }

    async fn next(&mut self) -> NetEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a running network")
    }

    /// The next event that `pick` takes; others are dropped.
    async fn find<T>(&mut self, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await) {
                return found;
            }
        }
    }

    async fn connected(&mut self, to: PeerId) -> super::PeerHello {
        self.find(|event| match event {
            NetEvent::PeerConnected { peer, hello } if peer == to => Some(hello),
            _other => None,
        })
        .await
    }

    async fn connect_failed(&mut self) -> super::ConnectError {
        self.find(|event| match event {
            NetEvent::ConnectFailed { reason, .. } => Some(reason),
            _other => None,
        })
        .await
    }

    async fn disconnected(&mut self, from: PeerId) {
        self.find(|event| matches!(event, NetEvent::PeerDisconnected { peer } if peer == from).then_some(())).await;
    }
}

/// Two nodes of the public grid that are connected, dialled by the first.
async fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::start(Membership::public()).await, Node::start(Membership::public()).await);
    a.knows(&b);
    a.handle.connect(b.peer()).unwrap();
    a.connected(b.peer()).await;
    b.connected(a.peer()).await;
    (a, b)
}

async fn shutdown(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        timeout(PATIENCE, node.net.shutdown()).await.expect("an end in time");
    }
}

/// Whether a future stays pending while another one finishes first.
async fn in_time<T>(future: impl Future<Output = T>) -> Result<T, Elapsed> {
    timeout(PATIENCE, future).await
}

fn some_peer() -> PeerId {
    identity::Identity::generate().unwrap().peer()
}
