//! Peers that this node was connected with lately, kept so that it finds its grid again after a restart, also at other addresses.

use super::net::{Contact, PeerHello};
use crate::{
    protocol::{gossip, ids::PeerId, peer::Event, trust::Prefix},
    store::{Store, StoreError, Write},
};
use std::{collections::VecDeque, sync::Arc};

/// How many are kept: enough that some are still there, few enough to be dialled one after the other.
const KEPT_MAX: usize = 32;
/// The key of the note in the store.
const NOTE: &str = "acquaintances";
/// Key and contact of each, of fixed and of prefixed length.
const KEY_BYTES: usize = 32;

/// The peers, the one met last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Acquaintances {
    peers: VecDeque<(PeerId, Contact)>,
    changed: bool,
}

impl Acquaintances {
    /// Reads what was kept. Blocks.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        Ok(store.note(NOTE)?.map(|bytes| Self::decode(&bytes)).unwrap_or_default())
    }

    /// A peer is connected, and says where it can be reached.
    pub fn meet(&mut self, peer: PeerId, contact: &Contact) {
        if contact.addresses.is_empty() || self.peers.contains(&(peer, contact.clone())) {
            return;
        }
        self.peers.retain(|(known, _)| *known != peer);
        self.peers.push_back((peer, contact.clone()));
        while self.peers.len() > KEPT_MAX {
            self.peers.pop_front();
        }
        self.changed = true;
    }

    /// What is to be made durable, if anything changed since the last call.
    pub fn take_note(&mut self) -> Option<Write> {
        std::mem::take(&mut self.changed).then(|| Write::Note { key: NOTE.to_owned(), bytes: Some(self.encode()) })
    }

    /// As gossip takes them.
    pub fn contacts(&self) -> impl Iterator<Item = gossip::Contact> {
        self.peers.iter().rev().map(|(peer, contact)| gossip::Contact { peer: *peer, hint: contact.encode().into() })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (peer, contact) in &self.peers {
            let contact = contact.encode();
            bytes.extend_from_slice(peer.as_bytes());
            bytes.extend_from_slice(&u16::try_from(contact.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend_from_slice(&contact);
        }
        bytes
    }

    /// Reads as much as makes sense: what is lost is only a shortcut.
    fn decode(mut bytes: &[u8]) -> Self {
        let mut peers = VecDeque::new();
        while let Some((head, rest)) = bytes.split_at_checked(KEY_BYTES + 2) {
            let length = usize::from(u16::from_le_bytes([head[KEY_BYTES], head[KEY_BYTES + 1]]));
            let (Ok(peer), Some((contact, rest))) = (PeerId::try_from(&head[..KEY_BYTES]), rest.split_at_checked(length)) else { break };
            let Ok(contact) = Contact::decode(contact) else { break };
            peers.push_back((peer, contact));
            bytes = rest;
        }
        Self { peers, changed: false }
    }
}

impl super::run_loop::Node {
    /// A peer has said hello.
    pub(super) fn on_connected(&mut self, peer: PeerId, hello: PeerHello) {
        let prefix = hello.prefix.filter(|_| self.public_grid).map(Prefix);
        let lineage = hello.lineage.filter(|inviter| *inviter != self.peer.me());
        let own = hello.own || self.handle.settings.inviter() == Some(peer);
        self.event(Event::Met { peer, prefix, lineage, own });
        let hint: Arc<[u8]> = hello.contact.encode().into();
        self.event(Event::Gossip(gossip::Event::Learned(vec![gossip::Contact { peer, hint }])));
        self.acquaintances.meet(peer, &hello.contact);
        self.connected.insert(peer, hello);
        self.look_at(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(port: u16) -> Contact {
        Contact::new([([10, 0, 0, 1], port).into()])
    }

    #[test]
    fn the_latest_are_kept_and_come_back() {
        let mut met = Acquaintances::default();
        for peer in 0..40 {
            met.meet(PeerId([peer; 32]), &contact(7));
        }
        met.meet(PeerId([20; 32]), &contact(8));
        assert!(met.take_note().is_some());
        met.meet(PeerId([20; 32]), &contact(8));
        assert!(met.take_note().is_none(), "nothing changed");
        let back = Acquaintances::decode(&met.encode());
        assert_eq!(back, met);
        assert_eq!(back.peers.len(), KEPT_MAX);
        assert_eq!(back.peers.back(), Some(&(PeerId([20; 32]), contact(8))));
        assert_eq!(Acquaintances::decode(&met.encode()[..50]).peers.len(), 1, "a cut note is read as far as it goes");
    }
}
