//! Where peers can be reached: the encoding of addresses, and the bounded book that the transport looks them up in.
//!
//! What a peer says about itself (in an authenticated Hello) outranks what others say about it. A wrong address can waste a
//! dial, never lead to the wrong peer, since the transport checks the key.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use iroh::{EndpointAddr, TransportAddr, address_lookup::memory::MemoryLookup};

use super::{
    identity,
    limits::{MAX_ADDRESSES, MAX_BOOK, MAX_CONTACT_BYTES},
};
use crate::protocol::ids::PeerId;

/// The first byte of an encoded contact.
const VERSION: u8 = 1;
const TAG_V4: u8 = 4;
const TAG_V6: u8 = 6;

/// Where a peer can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// At most [`MAX_ADDRESSES`], the most likely ones first.
    pub addresses: Vec<SocketAddr>,
}

/// Why bytes are no contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContactError {
    /// Longer than any contact.
    #[error("a contact has at most {MAX_CONTACT_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// Another version than ours.
    #[error("contact of unknown version {0}")]
    Version(u8),
    /// It ends in the middle of an entry, or an entry has the wrong length for its kind.
    #[error("malformed contact")]
    Malformed,
}

impl Contact {
    /// The contact of these addresses; those that cannot be dialled, repetitions and any beyond the bound are left out.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut kept: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if kept.len() < MAX_ADDRESSES && is_dialable(&address) && !kept.contains(&address) {
                kept.push(address);
            }
        }
        Self { addresses: kept }
    }

    /// A version byte, then per address: its kind, its length, itself. At most 1 + 8 * 20 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            match address.ip() {
                IpAddr::V4(ip) => bytes.extend([&[TAG_V4, 6][..], &ip.octets()].concat()),
                IpAddr::V6(ip) => bytes.extend([&[TAG_V6, 18][..], &ip.octets()].concat()),
            }
            bytes.extend(address.port().to_be_bytes());
        }
        bytes
    }

    /// Reads what [`Contact::encode`] wrote. Empty bytes are a peer that tells no address. Kinds of address that this version
    /// does not know are skipped.
    ///
    /// # Errors
    /// When the bytes are too long, of another version, or cut.
    pub fn decode(bytes: &[u8]) -> Result<Self, ContactError> {
        if bytes.len() > MAX_CONTACT_BYTES {
            return Err(ContactError::TooLong(bytes.len()));
        }
        let Some((&version, mut rest)) = bytes.split_first() else { return Ok(Self::default()) };
        if version != VERSION {
            return Err(ContactError::Version(version));
        }
        let mut addresses = Vec::new();
        while let [kind, length, tail @ ..] = rest {
            let (entry, tail) = tail.split_at_checked(usize::from(*length)).ok_or(ContactError::Malformed)?;
            match *kind {
                TAG_V4 => addresses.push(read_v4(entry).ok_or(ContactError::Malformed)?),
                TAG_V6 => addresses.push(read_v6(entry).ok_or(ContactError::Malformed)?),
                _unknown => {}
            }
            rest = tail;
        }
        if rest.is_empty() { Ok(Self::new(addresses)) } else { Err(ContactError::Malformed) }
    }
}

pub(super) fn read_v4(entry: &[u8]) -> Option<SocketAddr> {
    let [a, b, c, d, high, low] = *<&[u8; 6]>::try_from(entry).ok()?;
    Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))))
}

pub(super) fn read_v6(entry: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = entry.split_first_chunk::<16>()?;
    Some(SocketAddr::from((Ipv6Addr::from(*ip), u16::from_be_bytes(port.try_into().ok()?))))
}

fn is_dialable(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// The part of an address that one operator usually controls as a whole: /24 of IPv4, /48 of IPv6. None for loopback and
/// local networks, where neighbours are no sign of an attack.
pub fn prefix(address: &SocketAddr) -> Option<u64> {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_private() || ip.is_link_local() => None,
        IpAddr::V4(ip) => Some(u64::from(ip.to_bits() >> 8)),
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() => None,
        // Above all IPv4 prefixes, which have 24 bits.
        IpAddr::V6(ip) => Some((1 << 63) | u64::try_from(ip.to_bits() >> 80).expect("48 bits")),
    }
}

/// Who said that a peer is to be found somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The peer itself, over an authenticated connection, or a ticket.
    Itself,
    /// Somebody else: gossip, a discovery service.
    Others,
}

#[derive(Debug, Default)]
struct Entry {
    itself: Contact,
    others: Contact,
}

/// The addresses of peers, at most [`MAX_BOOK`] of them; who was heard of longest ago goes first.
#[derive(Debug)]
pub struct AddressBook {
    lookup: MemoryLookup,
    entries: BTreeMap<PeerId, Entry>,
    heard: VecDeque<PeerId>,
    loopback: Loopback,
}

/// Whether loopback addresses mean anything to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// We are bound to loopback ourselves, as in tests and demonstrations.
    Usable,
    /// Somebody else's loopback is not ours; dialling it would knock on our own machine's ports.
    Ignored,
}

impl AddressBook {
    /// An empty book that feeds `lookup`.
    pub fn new(lookup: MemoryLookup, loopback: Loopback) -> Self {
        Self { lookup, entries: BTreeMap::new(), heard: VecDeque::new(), loopback }
    }

    /// Remembers where `peer` is. Names that are no key and addresses that mean nothing here are ignored.
    pub fn learn(&mut self, peer: PeerId, contact: &Contact, source: Source) {
        let usable =
            contact.addresses.iter().copied().filter(|a| self.loopback == Loopback::Usable || !a.ip().to_canonical().is_loopback());
        let contact = Contact::new(usable);
        let Ok(key) = identity::public_key(peer) else { return };
        if contact.addresses.is_empty() {
            return;
        }
        let entry = self.entries.entry(peer).or_default();
        match source {
            Source::Itself => entry.itself = contact,
            Source::Others => entry.others = contact,
        }
        let all = Contact::new(entry.itself.addresses.iter().chain(&entry.others.addresses).copied());
        let addresses = all.addresses.into_iter().map(TransportAddr::Ip);
        self.lookup.set_endpoint_info(EndpointAddr::from_parts(key, addresses));
        self.heard.retain(|known| *known != peer);
        self.heard.push_back(peer);
        self.shrink();
    }

    /// Where `peer` was said to be, what it said itself first.
    pub fn find(&self, peer: PeerId) -> Contact {
        self.entries.get(&peer).map(|it| Contact::new(it.itself.addresses.iter().chain(&it.others.addresses).copied())).unwrap_or_default()
    }

    /// The peers heard of last, newest first, as they told themselves; for those who have just joined.
    pub fn recent(&self) -> impl Iterator<Item = (PeerId, &Contact)> {
        let told = |peer: &PeerId| self.entries.get(peer).map(|entry| (*peer, &entry.itself));
        self.heard.iter().rev().filter_map(told).filter(|(_, contact)| !contact.addresses.is_empty())
    }

    fn shrink(&mut self) {
        while self.heard.len() > MAX_BOOK {
            let oldest = self.heard.pop_front().expect("longer than the bound");
            self.entries.remove(&oldest);
            if let Ok(key) = identity::public_key(oldest) {
                self.lookup.remove_endpoint_info(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(addresses: &[&str]) -> Contact {
        Contact::new(addresses.iter().map(|a| a.parse().unwrap()))
    }

    #[test]
    fn a_contact_comes_back_as_it_was_and_within_its_bound() {
        let many: Vec<String> = (0..20).map(|i| format!("[2001:db8::{i:x}]:4000")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for contact in [contact(&[]), contact(&["10.0.0.1:9", "[2001:db8::1]:65535"]), contact(&many)] {
            let bytes = contact.encode();
            assert!(bytes.len() <= MAX_CONTACT_BYTES && contact.addresses.len() <= MAX_ADDRESSES);
            assert_eq!(Contact::decode(&bytes), Ok(contact));
        }
    }

    #[test]
    fn a_malformed_contact_is_rejected_and_an_unknown_kind_is_skipped() {
        assert_eq!(Contact::decode(&[]), Ok(Contact::default()));
        assert_eq!(Contact::decode(&[2]), Err(ContactError::Version(2)));
        assert_eq!(Contact::decode(&[0; 300]), Err(ContactError::TooLong(300)));
        for cut in [&[1, 4][..], &[1, 4, 6, 1, 2], &[1, 4, 5, 1, 2, 3, 4, 5], &[1, 9], &[1, 6, 0]] {
            assert_eq!(Contact::decode(cut), Err(ContactError::Malformed), "{cut:?}");
        }
        assert_eq!(Contact::decode(&[1, 99, 2, 7, 7, 4, 6, 10, 0, 0, 1, 0, 9]), Ok(contact(&["10.0.0.1:9"])));
    }

    #[test]
    fn addresses_that_nobody_can_dial_are_left_out() {
        assert_eq!(contact(&["0.0.0.0:1", "224.0.0.1:5", "10.0.0.1:0", "255.255.255.255:3", "[::]:4"]), Contact::default());
    }

    #[test]
    fn what_a_peer_says_itself_outranks_what_others_say() {
        let lookup = MemoryLookup::new();
        let mut book = AddressBook::new(lookup.clone(), Loopback::Ignored);
        let peer = identity::Identity::generate().unwrap().peer();
        book.learn(peer, &contact(&["10.0.0.1:1"]), Source::Itself);
        book.learn(peer, &contact(&["10.0.0.2:2", "127.0.0.1:22"]), Source::Others);
        assert_eq!(book.find(peer), contact(&["10.0.0.1:1", "10.0.0.2:2"]));
        book.learn(peer, &contact(&["127.0.0.1:22"]), Source::Itself);
        assert_eq!(book.recent().next(), Some((peer, &contact(&["10.0.0.1:1"]))));
        let known = lookup.get_endpoint_info(identity::public_key(peer).unwrap()).unwrap();
        assert_eq!(known.data.ip_addrs().count(), 2);
    }

    #[test]
    fn the_book_is_bounded_and_forgets_the_oldest() {
        let lookup = MemoryLookup::new();
        let mut book = AddressBook::new(lookup.clone(), Loopback::Ignored);
        let peers: Vec<PeerId> = (0..=MAX_BOOK as u64)
            .map(|i| {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&i.to_le_bytes());
                identity::peer_id(iroh::SecretKey::from_bytes(&seed).public())
            })
            .collect();
        for peer in &peers {
            book.learn(*peer, &contact(&["10.0.0.1:1"]), Source::Others);
        }
        assert_eq!(book.entries.len(), MAX_BOOK);
        assert_eq!(book.find(peers[0]), Contact::default());
        assert!(lookup.get_endpoint_info(identity::public_key(peers[0]).unwrap()).is_none());
    }

    #[test]
    fn a_prefix_is_an_operator_and_a_local_network_has_none() {
        let of = |address: &str| prefix(&address.parse().unwrap());
        assert_eq!(of("192.168.1.1:1"), None);
        assert_eq!(of("[::1]:1"), None);
        assert_eq!(of("203.0.113.7:1"), of("203.0.113.200:9"));
        assert_ne!(of("203.0.113.7:1"), of("203.0.114.7:1"));
        assert_eq!(of("[2001:db8:1:2::1]:1"), of("[2001:db8:1:ffff::1]:1"));
        assert_ne!(of("[2001:db8:1::1]:1"), of("[2001:db8:2::1]:1"));
    }
}
