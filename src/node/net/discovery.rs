//! Peers of the same grid on the local network, by multicast DNS.

use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;

use super::{
    contact::{Contact, Source},
    endpoint::NetEndpoint,
    event::NetEvent,
    identity::peer_id,
    reader::Events,
    switchboard::Command,
};
use crate::protocol::ids::{Digest, GridId};

/// The service's name on the local network: tells grids apart without telling which one it is. At most 15 characters, as DNS
/// service names are.
pub(super) fn service_name(grid: GridId) -> String {
    let digest = Digest::of_parts(&[b"manyhands.local.v1", grid.as_bytes()]);
    format!("mh-{}", data_encoding::BASE32_NOPAD.encode(&digest.0[..5]).to_lowercase())
}

/// Advertises us and reports others until told to stop. A machine without multicast just finds nobody.
pub(super) async fn discover(
    endpoint: NetEndpoint,
    grid: GridId,
    switchboard: mpsc::Sender<Command>,
    events: Events,
    mut stop: watch::Receiver<bool>,
) {
    let service = match MdnsAddressLookup::builder().service_name(service_name(grid)).build(endpoint.quic.id()) {
        Ok(service) => service,
        Err(error) => {
            tracing::warn!(%error, "cannot look for peers on the local network");
            return;
        }
    };
    match endpoint.quic.address_lookup() {
        Ok(lookups) => lookups.add(service.clone()),
        Err(_closed) => return,
    }
    let mut found = service.subscribe().await;
    loop {
        let event = tokio::select! {
            event = found.next() => event,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match event {
            Some(DiscoveryEvent::Discovered { endpoint_info, .. }) => {
                let peer = peer_id(endpoint_info.endpoint_id);
                let contact = Contact::new(endpoint_info.data.ip_addrs().copied());
                let addresses = contact.addresses.clone();
                let told = switchboard.send(Command::Learn(peer, contact, Source::Others)).await.is_ok();
                if !told || events.send(NetEvent::Discovered { peer, addresses }).await.is_err() {
                    return;
                }
            }
            // Who is no longer announced may still be there; the connection tells.
            Some(DiscoveryEvent::Expired { .. }) => {}
            Some(_unknown) => {}
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_have_different_valid_service_names() {
        let name = service_name(GridId([0; 32]));
        assert!(name.len() <= 15 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        assert_ne!(name, service_name(GridId([1; 32])));
    }
}
