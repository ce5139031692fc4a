//! Who is let in, and how one comes to be.

use std::time::Duration;

use super::*;
use crate::{
    node::net::{
        ConnectError, Secret, Side, TicketKind,
        join::{self, JoinError},
        membership::{Invitation, PUBLIC_GRID, Refused},
    },
    protocol::ids::GridId,
};

fn private(secret: u8) -> Membership {
    Membership { grid: GridId([8; 32]), grid_secret: Some(Secret::new([secret; 32])), ..Membership::public() }
}

#[tokio::test]
async fn hello_tells_both_sides_who_the_other_is() {
    let household = Membership { household: Some(Secret::new([4; 32])), ..Membership::public() };
    let inviter = Identity::generate().unwrap();
    let guest = Identity::generate().unwrap();
    let invited = Membership { invitation: Some(Invitation::issue(&inviter, PUBLIC_GRID, guest.peer())), ..household.clone() };
    let mut a = Node::start_with(guest, invited, Shelf::default()).await;
    let mut b = Node::start(household).await;
    a.knows(&b);
    a.handle.connect(b.peer()).unwrap();
    let (at_a, at_b) = (a.connected(b.peer()).await, b.connected(a.peer()).await);
    assert!(at_a.own && at_b.own);
    assert_eq!((at_a.lineage, at_b.lineage), (None, Some(inviter.peer())));
    assert_eq!((at_a.dialled_by, at_b.dialled_by), (Side::Us, Side::Them));
    assert_eq!((at_a.contact, at_b.contact), (b.handle.contact(), a.handle.contact()));
    assert_eq!((at_a.version.as_str(), at_a.prefix), ("test 1", None));
    shutdown([a, b]).await;
}

#[tokio::test]
async fn a_private_grid_refuses_who_does_not_know_its_secret() {
    let mut inside = Node::start(private(1)).await;
    for stranger in [private(2), Membership { grid_secret: None, ..private(1) }, Membership::public()] {
        let mut outside = Node::start(stranger).await;
        outside.knows(&inside);
        outside.handle.connect(inside.peer()).unwrap();
        let reason = outside.connect_failed().await;
        assert!(matches!(reason, ConnectError::RefusedByPeer(_)), "{reason:?}");
        shutdown([outside]).await;
    }
    let mut member = Node::start(private(1)).await;
    member.knows(&inside);
    member.handle.connect(inside.peer()).unwrap();
    member.connected(inside.peer()).await;
    // Of all that knocked, the run loop hears of the member only.
    assert!(matches!(inside.next().await, NetEvent::PeerConnected { peer, .. } if peer == member.peer()));
    shutdown([inside, member]).await;
}

#[tokio::test]
async fn the_side_that_dials_refuses_a_grid_that_has_no_secret() {
    // Same grid id, but whoever answers does not know the secret.
    let impostor = Node::start(Membership { grid_secret: None, ..private(1) }).await;
    let mut member = Node::start(private(1)).await;
    member.knows(&impostor);
    member.handle.connect(impostor.peer()).unwrap();
    assert_eq!(member.connect_failed().await, ConnectError::RefusedByUs(Refused::NoProof));
    shutdown([impostor, member]).await;
}

#[tokio::test]
async fn a_guest_joins_a_private_grid_by_ticket() {
    let mut host = Node::start(private(1)).await;
    let ticket = host.handle.invite(TicketKind::Guest, 1, Duration::from_secs(600)).await.unwrap();
    let endpoint = NetEndpoint::bind(Identity::generate().unwrap(), &EndpointConfig::loopback()).await.unwrap();
    let joined = join::redeem(&endpoint, &ticket, None).await.unwrap();
    assert_eq!(joined.membership.grid_secret, private(1).grid_secret);
    assert_eq!(joined.membership.household, None);
    assert_eq!(joined.contacts[0], (host.peer(), host.handle.contact()));
    assert!(matches!(host.next().await, NetEvent::Joined { peer, kind: TicketKind::Guest } if peer == endpoint.peer()));

    let mut guest = Node::on(endpoint, joined.membership, Shelf::default());
    guest.handle.connect(host.peer()).unwrap();
    guest.connected(host.peer()).await;
    assert_eq!(host.connected(guest.peer()).await.lineage, Some(host.peer()));

    let second = NetEndpoint::bind(Identity::generate().unwrap(), &EndpointConfig::loopback()).await.unwrap();
    let error = join::redeem(&second, &ticket, None).await.unwrap_err();
    assert!(matches!(&error, JoinError::Refused(reason) if reason.contains("used up")), "{error:?}");
    second.close().await;
    shutdown([host, guest]).await;
}

#[tokio::test]
async fn an_own_device_gets_the_household() {
    let household = Membership { household: Some(Secret::new([4; 32])), ..Membership::public() };
    let first = Node::start(household.clone()).await;
    let ticket = first.handle.invite(TicketKind::Own, 1, Duration::from_secs(600)).await.unwrap();
    let endpoint = NetEndpoint::bind(Identity::generate().unwrap(), &EndpointConfig::loopback()).await.unwrap();
    let joined = join::redeem(&endpoint, &ticket, Some(Secret::new([9; 32]))).await.unwrap();
    assert_eq!(joined.membership, household);
    endpoint.close().await;
    shutdown([first]).await;
}

#[tokio::test]
async fn a_void_ticket_opens_nothing() {
    let host = Node::start(Membership::public()).await;
    let endpoint = NetEndpoint::bind(Identity::generate().unwrap(), &EndpointConfig::loopback()).await.unwrap();
    let expired = host.handle.invite(TicketKind::Guest, 1, Duration::ZERO).await.unwrap();
    assert!(matches!(join::redeem(&endpoint, &expired, None).await, Err(JoinError::Ticket(_))));
    // A guest with a wrong clock hears it from the inviter.
    let forged = super::super::Ticket { expires_unix: u64::MAX, ..expired.clone() };
    assert!(matches!(join::redeem(&endpoint, &forged, None).await, Err(JoinError::Refused(reason)) if reason.contains("expired")));
    let unknown = super::super::Ticket { expires_unix: u64::MAX, token: super::super::ticket::Token([0; 16]), ..expired };
    assert!(matches!(join::redeem(&endpoint, &unknown, None).await, Err(JoinError::Refused(reason)) if reason.contains("not issued")));
    endpoint.close().await;
    shutdown([host]).await;
}

#[tokio::test]
async fn nobody_can_connect_to_a_name_that_is_nobodys() {
    let mut node = Node::start(Membership::public()).await;
    // About half of all names are no point on the curve.
    let nobody = (0..=255).map(|byte| PeerId([byte; 32])).find(|peer| identity::public_key(*peer).is_err()).unwrap();
    node.handle.connect(nobody).unwrap();
    assert_eq!(node.connect_failed().await, ConnectError::NotAKey);
    node.handle.connect(node.peer()).unwrap();
    assert_eq!(node.connect_failed().await, ConnectError::Ourselves);
    node.handle.connect(some_peer()).unwrap();
    assert!(matches!(node.connect_failed().await, ConnectError::Unreachable(_)));
    shutdown([node]).await;
}
