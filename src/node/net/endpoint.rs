//! The QUIC endpoint: one socket or two, no outside service, bounded in what strangers can make it hold.
//!
//! Nothing here contacts a server of anybody's: no relay, no DNS, no port mapping. Peers are found by ticket, by what they told
//! about themselves, and on the local network when that is wanted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use iroh::{
    Endpoint,
    address_lookup::memory::MemoryLookup,
    endpoint::{BindOpts, PortmapperConfig, QuicTransportConfig, VarInt, presets},
};

use super::{
    connector::ALPN,
    contact::{Contact, Loopback},
    identity::Identity,
    limits::{IDLE_TIMEOUT, KEEP_ALIVE, MAX_STREAMS_PER_CONNECTION},
};
use crate::protocol::ids::PeerId;

/// Where to listen and how to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Sockets to bind, at least one; port 0 takes a free one. A fixed port is needed by who opens it in a firewall. Binding to
    /// loopback makes a node that only this machine can reach.
    pub bind: Vec<SocketAddr>,
    /// Whether to say on the local network that we are here, and to listen for others of the same grid. Tells everybody on
    /// that network that this machine runs the program.
    pub local_discovery: LocalDiscovery,
    /// Whether to ask the router for a port (UPnP, PCP). Off: it makes the router, and thus the household, reachable in a way
    /// that its owner did not ask for.
    pub port_mapping: PortMapping,
}

/// Whether peers on the local network find one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalDiscovery {
    /// By multicast DNS.
    On,
    /// Not at all.
    Off,
}

/// Whether the router is asked for a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMapping {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            bind: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))],
            local_discovery: LocalDiscovery::On,
            port_mapping: PortMapping::Off,
        }
    }
}

impl EndpointConfig {
    /// Reachable from this machine only, on a free port: for tests and demonstrations.
    pub fn loopback() -> Self {
        Self {
            bind: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            local_discovery: LocalDiscovery::Off,
            port_mapping: PortMapping::Off,
        }
    }
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No address was given.
    #[error("no address to listen on was given")]
    NoAddress,
    /// The operating system refused, most often because the port is taken.
    #[error("cannot listen on {addresses}: {reason}")]
    Bind {
        /// What was tried.
        addresses: String,
        /// The transport's reason.
        reason: String,
    },
}

/// A bound endpoint. It answers nobody until the network is started on it; it must be closed, not just dropped.
#[derive(Clone, Debug)]
pub struct NetEndpoint {
    pub(super) quic: Endpoint,
    pub(super) lookup: MemoryLookup,
    pub(super) identity: Identity,
    pub(super) local_discovery: LocalDiscovery,
    loopback: Loopback,
}

impl NetEndpoint {
    /// Binds the sockets.
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(identity: Identity, config: &EndpointConfig) -> Result<Self, EndpointError> {
        if config.bind.is_empty() {
            return Err(EndpointError::NoAddress);
        }
        let failed = |reason: String| {
            let addresses: Vec<String> = config.bind.iter().map(ToString::to_string).collect();
            EndpointError::Bind { addresses: addresses.join(", "), reason }
        };
        let lookup = MemoryLookup::new();
        let port_mapping = match config.port_mapping {
            PortMapping::On => PortmapperConfig::default(),
            PortMapping::Off => PortmapperConfig::Disabled,
        };
        // The defaults include a socket on every interface, which has to go even when others are asked for.
        let mut builder = Endpoint::builder(presets::Minimal)
            .clear_ip_transports()
            .secret_key(identity.secret().clone())
            .alpns(vec![ALPN.to_vec()])
            .transport_config(transport())
            .portmapper_config(port_mapping)
            .address_lookup(lookup.clone());
        for address in &config.bind {
            // A machine without IPv6 does without it.
            let required = address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let options = BindOpts::default().set_is_required(required);
            builder = builder.bind_addr_with_opts(*address, options).map_err(|error| failed(error.to_string()))?;
        }
        let quic = builder.bind().await.map_err(|error| failed(format!("{error:#}")))?;
        let all_loopback = config.bind.iter().all(|address| address.ip().is_loopback());
        let loopback = if all_loopback { Loopback::Usable } else { Loopback::Ignored };
        Ok(Self { quic, lookup, identity, local_discovery: config.local_discovery, loopback })
    }

    /// This peer's name.
    pub fn peer(&self) -> PeerId {
        self.identity.peer()
    }

    /// The sockets, as bound.
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.quic.bound_sockets()
    }

    /// Where others can reach us, as far as we know: the addresses of our interfaces; those of the whole internet first, those
    /// of loopback only when we are bound to it. Goes into tickets and Hello.
    pub fn contact(&self) -> Contact {
        let address = self.quic.addr();
        let mut known: Vec<SocketAddr> = address.ip_addrs().copied().collect();
        // The transport learns the interfaces a moment after binding; a socket's own address is known at once.
        known.extend(self.sockets());
        if self.loopback == Loopback::Ignored {
            known.retain(|a| !a.ip().is_loopback());
        }
        known.sort_by_key(reach);
        Contact::new(known)
    }

    pub(super) fn loopback(&self) -> Loopback {
        self.loopback
    }

    /// Ends all connections, telling the peers, and frees the sockets.
    pub async fn close(&self) {
        self.quic.close().await;
    }
}

/// Sorts addresses by how far they reach, farthest first.
fn reach(address: &SocketAddr) -> u8 {
    match address.ip() {
        ip if ip.is_loopback() => 3,
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(ip) if ip.is_private() => 1,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 2,
        IpAddr::V6(ip) if ip.is_unique_local() => 1,
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    }
}

/// Windows stay at their defaults: with a larger stream window, honest transfers died of "too many gaps in stream buffer".
fn transport() -> QuicTransportConfig {
    let idle = IDLE_TIMEOUT.try_into().expect("nine seconds are a valid timeout");
    QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle))
        .default_path_max_idle_timeout(IDLE_TIMEOUT)
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS_PER_CONNECTION))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_contact_names_addresses_that_others_can_use() {
        let identity = Identity::generate().unwrap();
        let config = EndpointConfig { local_discovery: LocalDiscovery::Off, ..EndpointConfig::default() };
        let open = NetEndpoint::bind(identity.clone(), &config).await.unwrap();
        // Nothing is demanded of a machine without a network.
        assert!(open.contact().addresses.iter().all(|a| !a.ip().is_loopback() && !a.ip().is_unspecified() && a.port() != 0));
        open.close().await;
        let closed = NetEndpoint::bind(identity, &EndpointConfig::loopback()).await.unwrap();
        assert_eq!(closed.contact().addresses, closed.sockets());
        closed.close().await;
    }

    #[tokio::test]
    async fn a_taken_port_is_a_clear_error() {
        let first = NetEndpoint::bind(Identity::generate().unwrap(), &EndpointConfig::loopback()).await.unwrap();
        let config = EndpointConfig { bind: first.sockets(), ..EndpointConfig::loopback() };
        let error = NetEndpoint::bind(Identity::generate().unwrap(), &config).await.unwrap_err();
        assert!(error.to_string().contains(&first.sockets()[0].to_string()), "{error}");
        first.close().await;
    }
}
