//! Streams between connected peers: both directions, replacement, reconnection, order of events.

use super::*;
use crate::{
    node::net::{Outbound, Side, StreamKind, endpoint::LocalDiscovery},
    protocol::ids::JobId,
    wire::peer as pb,
};

fn urgent(urgent: bool) -> pb::GossipMessage {
    pb::GossipMessage { kind: Some(pb::gossip_message::Kind::Request(pb::GossipRequest { hint: Vec::new().into(), urgent })) }
}

fn credits(units: u32) -> pb::WorkerMessage {
    pb::WorkerMessage { kind: Some(pb::worker_message::Kind::Credits(pb::Credits { units })) }
}

fn revoke(units: &[u32]) -> pb::CoordinatorMessage {
    let revocation = pb::Revocation { job: vec![1; 32].into(), units: units.to_vec() };
    pb::CoordinatorMessage { kind: Some(pb::coordinator_message::Kind::Revoke(revocation)) }
}

impl Node {
    async fn gossip_opened(&mut self) -> (Side, Outbound<pb::GossipMessage>) {
        self.find(|event| match event {
            NetEvent::GossipOpened { opened_by, outbound, .. } => Some((opened_by, outbound)),
            _other => None,
        })
        .await
    }

    async fn gossip_received(&mut self) -> pb::GossipMessage {
        self.find(|event| match event {
            NetEvent::GossipReceived { message, .. } => Some(message),
            _other => None,
        })
        .await
    }

    async fn gossip_closed(&mut self) {
        self.find(|event| matches!(event, NetEvent::GossipClosed { .. }).then_some(())).await;
    }
}

#[tokio::test]
async fn gossip_goes_both_ways_and_ends_for_both() {
    let (mut a, mut b) = pair().await;
    // The side that was dialled opens it, on the connection of the other.
    b.handle.open_gossip(a.peer()).unwrap();
    let (by_b, to_a) = b.gossip_opened().await;
    let (by_a, to_b) = a.gossip_opened().await;
    assert_eq!((by_b, by_a), (Side::Us, Side::Them));
    to_a.try_send(urgent(true)).unwrap();
    assert_eq!(a.gossip_received().await, urgent(true));
    to_b.try_send(urgent(false)).unwrap();
    assert_eq!(b.gossip_received().await, urgent(false));
    // What is queued arrives before the end.
    to_b.try_send(urgent(true)).unwrap();
    drop(to_b);
    assert_eq!(b.gossip_received().await, urgent(true));
    b.gossip_closed().await;
    a.gossip_closed().await;
    assert!(to_a.try_send(urgent(true)).is_err());
    shutdown([a, b]).await;
}

#[tokio::test]
async fn two_gossip_streams_that_cross_become_one() {
    let (mut a, mut b) = pair().await;
    a.handle.open_gossip(b.peer()).unwrap();
    b.handle.open_gossip(a.peer()).unwrap();
    // Whatever is replaced on the way, in the end both have one stream, and it carries messages both ways.
    let mut streams = [None, None];
    let mut heard = [false, false];
    while heard != [true, true] || streams.iter().any(Option::is_none) {
        let (at, event) = tokio::select! {
            event = a.next() => (0, event),
            event = b.next() => (1, event),
        };
        match event {
            NetEvent::GossipOpened { outbound, .. } => {
                assert!(streams[at].is_none(), "one at a time");
                outbound.try_send(urgent(true)).unwrap();
                streams[at] = Some(outbound);
            }
            NetEvent::GossipReceived { .. } => heard[at] = true,
            NetEvent::GossipClosed { .. } => (streams[at], heard[at]) = (None, false),
            other => assert!(matches!(other, NetEvent::OpenFailed { .. }), "{other:?}"),
        }
    }
    shutdown([a, b]).await;
}

#[tokio::test]
async fn work_goes_both_ways_and_a_worker_that_stops_is_reported() {
    let (mut worker, mut coordinator) = pair().await;
    worker.handle.open_work(coordinator.peer()).unwrap();
    let to_coordinator = worker
        .find(|event| match event {
            NetEvent::CoordinatorOpened { outbound, .. } => Some(outbound),
            _other => None,
        })
        .await;
    let to_worker = coordinator
        .find(|event| match event {
            NetEvent::WorkerOpened { outbound, .. } => Some(outbound),
            _other => None,
        })
        .await;
    to_coordinator.try_send(credits(7)).unwrap();
    let got = coordinator
        .find(|event| match event {
            NetEvent::WorkerReceived { message, .. } => Some(message),
            _other => None,
        })
        .await;
    assert_eq!(got, credits(7));
    to_worker.try_send(revoke(&[1, 2])).unwrap();
    let got = worker
        .find(|event| match event {
            NetEvent::CoordinatorReceived { message, .. } => Some(message),
            _other => None,
        })
        .await;
    assert_eq!(got, revoke(&[1, 2]));
    let name = worker.peer();
    shutdown([worker]).await;
    // In this order, and nothing between.
    assert!(matches!(coordinator.next().await, NetEvent::WorkerClosed { peer } if peer == name));
    assert!(matches!(coordinator.next().await, NetEvent::PeerDisconnected { peer } if peer == name));
    shutdown([coordinator]).await;
}

#[tokio::test]
async fn the_same_key_on_another_port_comes_back() {
    let identity = Identity::generate().unwrap();
    let mut first = Node::start_with(identity.clone(), Membership::public(), Shelf::default()).await;
    let mut other = Node::start(Membership::public()).await;
    other.knows(&first);
    other.handle.open_gossip(first.peer()).unwrap();
    let (_, to_first) = other.gossip_opened().await;
    first.gossip_opened().await;
    shutdown([first]).await;
    other.disconnected(identity.peer()).await;
    drop(to_first);

    // It comes back and dials; then it is dialled, where it said that it is.
    let mut second = Node::start_with(identity.clone(), Membership::public(), Shelf::default()).await;
    second.knows(&other);
    second.handle.connect(other.peer()).unwrap();
    other.connected(identity.peer()).await;
    second.connected(other.peer()).await;
    other.handle.disconnect(identity.peer()).unwrap();
    second.disconnected(other.peer()).await;
    other.disconnected(identity.peer()).await;
    other.handle.open_gossip(identity.peer()).unwrap();
    let (_, outbound) = other.gossip_opened().await;
    let (_, _held) = second.gossip_opened().await;
    outbound.try_send(urgent(true)).unwrap();
    assert_eq!(second.gossip_received().await, urgent(true));
    shutdown([other, second]).await;
}

#[tokio::test]
async fn a_peer_that_restarts_unnoticed_replaces_its_old_connection() {
    let identity = Identity::generate().unwrap();
    let mut other = Node::start(Membership::public()).await;
    let mut old = Node::start_with(identity.clone(), Membership::public(), Shelf::default()).await;
    old.knows(&other);
    old.handle.open_gossip(other.peer()).unwrap();
    old.gossip_opened().await;
    let (_, stale) = other.gossip_opened().await;
    // The old one is not closed: as after a crash, its end is not noticed.
    let mut new = Node::start_with(identity.clone(), Membership::public(), Shelf::default()).await;
    new.knows(&other);
    new.handle.open_gossip(other.peer()).unwrap();
    let (_, to_other) = new.gossip_opened().await;
    // The old life is reported ended before the new one begins.
    other.gossip_closed().await;
    assert!(matches!(other.next().await, NetEvent::PeerDisconnected { .. }));
    assert!(matches!(other.next().await, NetEvent::PeerConnected { .. }));
    let (_, fresh) = other.gossip_opened().await;
    assert!(stale.try_send(urgent(true)).is_err());
    to_other.try_send(urgent(false)).unwrap();
    assert_eq!(other.gossip_received().await, urgent(false));
    fresh.try_send(urgent(true)).unwrap();
    assert_eq!(new.gossip_received().await, urgent(true));
    shutdown([old, other, new]).await;
}

#[tokio::test]
async fn a_job_is_watched_until_its_coordinator_ends_it() {
    let (a, mut b) = pair().await;
    let job = JobId([5; 32]);
    let (watch, outbound) = tokio::join!(
        a.handle.watch_job(b.peer(), job),
        b.find(|event| match event {
            NetEvent::WatchRequested { job, outbound, .. } => Some((job, outbound)),
            _other => None,
        })
    );
    let (mut watch, (asked, outbound)) = (watch.unwrap(), outbound);
    assert_eq!(asked, job);
    outbound.send_dropping_oldest(pb::JobProgress { units: 9, ..Default::default() }).unwrap();
    assert_eq!(in_time(watch.next()).await.unwrap().unwrap().unwrap().units, 9);
    drop(outbound);
    assert_eq!(in_time(watch.next()).await.unwrap(), Ok(None));
    shutdown([a, b]).await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_is_reported() {
    let (mut a, b) = pair().await;
    let name = b.peer();
    shutdown([b]).await;
    a.disconnected(name).await;
    a.handle.open_gossip(name).unwrap();
    let failed = a
        .find(|event| match event {
            NetEvent::ConnectFailed { peer, .. } => Some((peer, None)),
            NetEvent::OpenFailed { peer, stream, .. } => Some((peer, Some(stream))),
            _other => None,
        })
        .await;
    assert_eq!(failed, (name, None::<StreamKind>));
    shutdown([a]).await;
}

async fn discoverable() -> Node {
    let config = EndpointConfig { local_discovery: LocalDiscovery::On, ..EndpointConfig::default() };
    let endpoint = NetEndpoint::bind(Identity::generate().unwrap(), &config).await.unwrap();
    Node::on(endpoint, Membership::public(), Shelf::default())
}

#[tokio::test]
async fn local_discovery_ends_with_the_network() {
    shutdown([discoverable().await]).await;
}

#[tokio::test]
#[ignore = "needs a network interface with multicast"]
async fn peers_on_the_local_network_find_one_another() {
    let (mut a, mut b) = (discoverable().await, discoverable().await);
    let name = b.peer();
    a.find(|event| matches!(event, NetEvent::Discovered { peer, .. } if peer == name).then_some(())).await;
    a.handle.connect(b.peer()).unwrap();
    b.connected(a.peer()).await;
    shutdown([a, b]).await;
}
