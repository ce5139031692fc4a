//! Hostile peers: what they do costs them, and nobody else.

use super::*;
use crate::{
    node::net::{
        connector::{Connect as _, PeerConnection, client},
        hello,
        limits::{GOSSIP_MESSAGES, MAX_CONNECTIONS_PER_KEY},
    },
    wire::peer as pb,
};

/// A peer that keeps to no rule but the transport's.
async fn stranger(target: &Node) -> (NetEndpoint, PeerConnection) {
    let endpoint = NetEndpoint::bind(Identity::generate().unwrap(), &EndpointConfig::loopback()).await.unwrap();
    let connection = dial(&endpoint, target).await;
    (endpoint, connection)
}

async fn dial(endpoint: &NetEndpoint, target: &Node) -> PeerConnection {
    let key = identity::public_key(target.peer()).unwrap();
    let address = iroh::EndpointAddr::new(key).with_ip_addr(target.handle.contact().addresses[0]);
    endpoint.lookup.set_endpoint_info(address);
    in_time(hello::connect(endpoint, target.peer())).await.unwrap().unwrap()
}

fn greeting() -> pb::HelloRequest {
    pb::HelloRequest { grid: vec![0; 32].into(), version: "evil".into(), ..Default::default() }
}

#[tokio::test]
async fn nothing_is_answered_before_hello() {
    let node = Node::start(Membership::public()).await;
    let (endpoint, connection) = stranger(&node).await;
    let mut client = client(connection.channel());
    let digest = vec![0; 32].into();
    let status = in_time(client.fetch_blob(pb::FetchBlobRequest { digest, offset: 0 })).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let status = in_time(client.gossip(tokio_stream::empty())).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let status = in_time(client.work(tokio_stream::empty())).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    let status = in_time(client.watch_job(pb::WatchJobRequest { job: vec![0; 32].into() })).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    in_time(client.hello(greeting())).await.unwrap().unwrap();
    let status = in_time(client.hello(greeting())).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::AlreadyExists);
    endpoint.close().await;
    shutdown([node]).await;
}

#[tokio::test]
async fn malformed_calls_get_a_named_rejection() {
    let node = Node::start(Membership::public()).await;
    let (endpoint, connection) = stranger(&node).await;
    let mut client = client(connection.channel());
    let join = in_time(client.join(pb::JoinRequest { token: vec![1; 15].into() })).await.unwrap().unwrap_err();
    assert_eq!(join.code(), tonic::Code::InvalidArgument);
    for bad in [
        pb::HelloRequest { contact: vec![0; 300].into(), ..greeting() },
        pb::HelloRequest { contact: vec![1, 4, 6, 1].into(), ..greeting() },
        pb::HelloRequest { version: "x".repeat(33), ..greeting() },
    ] {
        let status = in_time(client.hello(bad)).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    }
    let invitation = Some(pb::Invitation { inviter: vec![1; 32].into(), signature: vec![0; 64].into() });
    let status = in_time(client.hello(pb::HelloRequest { invitation, ..greeting() })).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    in_time(client.hello(greeting())).await.unwrap().unwrap();
    let status = in_time(client.fetch_blob(pb::FetchBlobRequest { digest: vec![0; 31].into(), offset: 0 })).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    endpoint.close().await;
    shutdown([node]).await;
}

#[tokio::test]
async fn a_flood_costs_its_key_its_connection_and_nobody_else() {
    let (mut a, mut b) = pair().await;
    let (endpoint, connection) = stranger(&a).await;
    let evil = endpoint.peer();
    let mut flooder = client(connection.channel());
    in_time(flooder.hello(greeting())).await.unwrap().unwrap();
    let tiny = pb::GossipMessage { kind: Some(pb::gossip_message::Kind::Prune(pb::GossipPrune {})) };
    // The stream has no end: only the node ends it.
    let flood = tokio::spawn(async move {
        let answers = flooder.gossip(tokio_stream::iter(core::iter::repeat(tiny))).await;
        drop(answers.map(|answers| answers.into_inner()));
    });
    let _outbound = a
        .find(|event| match event {
            NetEvent::GossipOpened { outbound, .. } => Some(outbound),
            _other => None,
        })
        .await;
    let mut received = 0_u32;
    a.find(|event| {
        received += u32::from(matches!(event, NetEvent::GossipReceived { .. }));
        matches!(event, NetEvent::Flooded { peer } if peer == evil).then_some(())
    })
    .await;
    assert!(f64::from(received) >= GOSSIP_MESSAGES.burst);
    in_time(connection.quic().closed()).await.unwrap();
    in_time(flood).await.unwrap().unwrap();
    // The key is refused for a while.
    let again = dial(&endpoint, &a).await;
    let status = in_time(client(again.channel()).hello(greeting())).await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    // The neighbour has noticed nothing.
    b.handle.open_gossip(a.peer()).unwrap();
    b.find(|event| matches!(event, NetEvent::GossipOpened { .. }).then_some(())).await;
    endpoint.close().await;
    shutdown([a, b]).await;
}

#[tokio::test]
async fn one_key_gets_so_many_connections_and_no_more() {
    let node = Node::start(Membership::public()).await;
    let (endpoint, first) = stranger(&node).await;
    let mut connections = vec![first];
    for _ in 0..MAX_CONNECTIONS_PER_KEY {
        connections.push(dial(&endpoint, &node).await);
    }
    let last = connections.pop().unwrap();
    let reason = in_time(last.quic().closed()).await.unwrap();
    assert!(reason.to_string().contains("too many"), "{reason}");
    assert!(connections.iter().all(|connection| connection.quic().close_reason().is_none()));
    // Another key is not affected.
    let (other, connection) = stranger(&node).await;
    in_time(client(connection.channel()).hello(greeting())).await.unwrap().unwrap();
    endpoint.close().await;
    other.close().await;
    shutdown([node]).await;
}

#[tokio::test]
async fn calls_on_one_connection_are_limited() {
    let node = Node::start(Membership::public()).await;
    let (endpoint, connection) = stranger(&node).await;
    let client = client(connection.channel());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..600 {
        let mut client = client.clone();
        calls.spawn(async move { client.join(pb::JoinRequest { token: vec![0; 16].into() }).await.unwrap_err().code() });
    }
    let codes = in_time(calls.join_all()).await.unwrap();
    assert!(codes.contains(&tonic::Code::NotFound) && codes.contains(&tonic::Code::ResourceExhausted));
    endpoint.close().await;
    shutdown([node]).await;
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_call_only() {
    let shelf = Shelf { panics: true, ..Shelf::default() };
    let node = Node::start_with(Identity::generate().unwrap(), Membership::public(), shelf).await;
    let (endpoint, connection) = stranger(&node).await;
    let mut client = client(connection.channel());
    in_time(client.hello(greeting())).await.unwrap().unwrap();
    for _ in 0..2 {
        let status = in_time(client.fetch_blob(pb::FetchBlobRequest { digest: vec![0; 32].into(), offset: 0 })).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
    let (other, _connection) = stranger(&node).await;
    endpoint.close().await;
    other.close().await;
    shutdown([node]).await;
}

#[tokio::test]
async fn the_network_ends_while_nobody_listens_to_its_events() {
    let (a, b) = pair().await;
    let Node { net, handle, events: _unread } = a;
    // More than the event queue holds, while nobody takes any.
    for _ in 0..600 {
        drop(handle.connect(some_peer()));
    }
    in_time(net.shutdown()).await.unwrap();
    shutdown([b]).await;
}
