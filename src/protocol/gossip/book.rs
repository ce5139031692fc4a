//! The passive view: contacts kept for later, and keys that are refused for a while.
//!
//! Whoever fills a book decides whom its owner meets, so no source may fill more than a quarter of it, all that have not yet shown
//! what they are worth count as one source, and contacts that were of use cannot be displaced by hearsay.

use super::{draw, message::Contact};
use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, sync::Arc};

/// The first pause after a failed dial; it doubles with each further failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(15);
/// The pause after a peer had no place for us.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);
/// The pause after a neighbour was given up for being idle.
const IDLE_PAUSE: Duration = Duration::from_secs(600);
/// Failed dials after which a contact is dropped: with the doubling pauses, after at least four minutes.
const MAX_FAILURES: u32 = 5;
/// The same for a contact that was a neighbour once: after more than four hours, longer than most partitions.
const MAX_FAILURES_PROVEN: u32 = 11;
/// The most shunned keys; beyond, the one whose time ends first is let in again. Keys are free, so more would not help.
const MAX_SHUNNED: usize = 256;

/// Who told us of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Our own configuration or a discovery on the local network.
    Local,
    /// A bootstrap peer told us, or a neighbour that brought something before.
    Peer(PeerId),
    /// It asked us for a place itself, or somebody told us that has brought nothing yet. All of these share one quarter, since such
    /// keys are free.
    Stranger,
}

struct Entry {
    hint: Arc<[u8]>,
    source: Source,
    proven: bool,
    failures: u32,
    not_before: Instant,
}

/// The contacts.
pub(super) struct Book {
    entries: BTreeMap<PeerId, Entry>,
    shunned: BTreeMap<PeerId, Instant>,
    capacity: usize,
}

impl Book {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), shunned: BTreeMap::new(), capacity }
    }

    /// Notes a contact, displacing at most one other, and never a proven one.
    pub(super) fn learn(&mut self, rng: &mut ChaCha8Rng, contact: Contact, source: Source) {
        if self.shunned.contains_key(&contact.peer) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&contact.peer) {
            if (entry.failures > 0 || entry.hint.is_empty()) && !contact.hint.is_empty() {
                entry.hint = contact.hint;
            }
            return;
        }
        let same = self.entries.values().filter(|entry| entry.source == source && !entry.proven).count();
        if source != Source::Local && same >= self.capacity / 4 {
            self.displace(rng, |entry| entry.source == source);
        } else if self.entries.len() >= self.capacity && !self.displace(rng, |entry| entry.failures > 0) && !self.displace(rng, |_| true) {
            return;
        }
        let entry = Entry { hint: contact.hint, source, proven: false, failures: 0, not_before: Instant(0) };
        self.entries.insert(contact.peer, entry);
    }

    /// Notes that a contact is a neighbour: it exists, and it speaks the protocol.
    pub(super) fn met(&mut self, rng: &mut ChaCha8Rng, contact: Contact) {
        let peer = contact.peer;
        self.learn(rng, contact, Source::Stranger);
        self.entries.entry(peer).and_modify(|entry| entry.failures = 0);
    }

    /// Notes that a neighbour was of use.
    pub(super) fn prove(&mut self, rng: &mut ChaCha8Rng, contact: Contact) {
        let peer = contact.peer;
        self.learn(rng, contact, Source::Stranger);
        if let Some(entry) = self.entries.get_mut(&peer) {
            (entry.proven, entry.failures) = (true, 0);
        }
        let proven = self.entries.iter().filter(|(other, entry)| entry.proven && **other != peer).map(|(other, _)| *other);
        let proven: Vec<PeerId> = proven.collect();
        if proven.len() >= self.capacity / 2
            && let Some(other) = draw::one(rng, proven)
        {
            self.entries.get_mut(&other).expect("it was just listed").proven = false;
        }
    }

    /// Notes a dial that failed or a neighbour that was lost; forgets the contact when that happened too often in a row.
    pub(super) fn failed(&mut self, now: Instant, peer: PeerId) {
        let Some(entry) = self.entries.get_mut(&peer) else { return };
        entry.failures += 1;
        entry.not_before = now.after(FAILURE_PAUSE * 2_u32.saturating_pow(entry.failures - 1));
        if entry.failures >= if entry.proven { MAX_FAILURES_PROVEN } else { MAX_FAILURES } {
            self.entries.remove(&peer);
        }
    }

    /// Notes that the peer lives but has no place.
    pub(super) fn refused(&mut self, now: Instant, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.failures = 0;
            entry.not_before = now.after(REFUSAL_PAUSE);
        }
    }

    /// Notes that a neighbour was given up because it brought nothing.
    pub(super) fn disappointed(&mut self, now: Instant, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            (entry.proven, entry.not_before) = (false, now.after(IDLE_PAUSE));
        }
    }

    /// Forgets a peer and refuses it until `until`.
    pub(super) fn shun(&mut self, peer: PeerId, until: Instant) {
        self.entries.remove(&peer);
        self.shunned.insert(peer, until);
        if self.shunned.len() > MAX_SHUNNED {
            let first = self.shunned.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            first.map(|peer| self.shunned.remove(&peer));
        }
    }

    /// Whether the peer is refused now.
    pub(super) fn shuns(&mut self, now: Instant, peer: PeerId) -> bool {
        self.shunned.retain(|_, until| *until > now);
        self.shunned.contains_key(&peer)
    }

    /// A random contact that may be dialled now: as often as not one that was of use before, and else as often as not one that no
    /// stranger named.
    pub(super) fn candidate(&self, now: Instant, rng: &mut ChaCha8Rng, free: impl Fn(PeerId) -> bool + Copy) -> Option<Contact> {
        let ready = self.entries.iter().filter(|(peer, entry)| entry.not_before <= now && free(**peer));
        let proven: Vec<_> = ready.clone().filter(|(_, entry)| entry.proven).collect();
        let known: Vec<_> = ready.clone().filter(|(_, entry)| entry.source != Source::Stranger).collect();
        let tiers = [proven, known].into_iter().filter(|tier| !tier.is_empty());
        let tier = tiers.into_iter().find(|_| draw::below(rng, 2) == 0);
        let drawn = draw::one(rng, tier.unwrap_or_else(|| ready.collect()));
        drawn.map(|(peer, entry)| Contact { peer: *peer, hint: entry.hint.clone() })
    }

    /// At most `count` contacts which did not fail lately, without `except`: what is known at first hand before hearsay, lest what
    /// strangers say goes round for ever. A quarter are strangers, since those that just came have places to give.
    pub(super) fn sample(&self, rng: &mut ChaCha8Rng, count: usize, except: PeerId) -> Vec<Contact> {
        let good = self.entries.iter().filter(|(peer, entry)| entry.failures == 0 && **peer != except);
        let strangers = good.clone().filter(|(_, entry)| !entry.proven && entry.source == Source::Stranger);
        let mut drawn = draw::some(rng, strangers, count / 4);
        drawn.extend(draw::some(rng, good.clone().filter(|(_, entry)| entry.proven), count - drawn.len()));
        let rest = good.filter(|(peer, _)| drawn.iter().all(|(other, _)| other != peer));
        let rest = draw::some(rng, rest, count - drawn.len());
        drawn.into_iter().chain(rest).map(|(peer, entry)| Contact { peer: *peer, hint: entry.hint.clone() }).collect()
    }

    /// How many contacts and how many shunned keys there are.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.entries.len(), self.shunned.len())
    }

    /// Removes a random unproven entry of the given kind, if there is one.
    fn displace(&mut self, rng: &mut ChaCha8Rng, kind: impl Fn(&Entry) -> bool) -> bool {
        let fitting = self.entries.iter().filter(|(_, entry)| !entry.proven && kind(entry)).map(|(peer, _)| *peer);
        draw::one(rng, fitting).is_some_and(|peer| self.entries.remove(&peer).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng as _;

    fn contact(number: u8) -> Contact {
        Contact::bare(PeerId([number; 32]))
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    #[test]
    fn no_source_fills_more_than_a_quarter() {
        let (mut book, mut rng) = (Book::new(40), ChaCha8Rng::seed_from_u64(1));
        for number in 0..30 {
            book.learn(&mut rng, contact(100), Source::Local);
            book.learn(&mut rng, contact(number), Source::Peer(PeerId([200; 32])));
        }
        assert_eq!(book.sizes(), (11, 0));
        assert!(book.entries.contains_key(&PeerId([100; 32])));
    }

    #[test]
    fn hearsay_displaces_no_proven_contact() {
        let (mut book, mut rng) = (Book::new(16), ChaCha8Rng::seed_from_u64(1));
        for number in 0..8 {
            book.prove(&mut rng, contact(number));
        }
        for number in 50..250 {
            book.learn(&mut rng, contact(number), Source::Peer(PeerId([number % 7; 32])));
        }
        assert_eq!(book.sizes(), (16, 0));
        assert!((0..8).all(|number| book.entries.contains_key(&PeerId([number; 32]))));
    }

    #[test]
    fn failures_pause_a_contact_and_then_drop_it() {
        let (mut book, mut rng) = (Book::new(16), ChaCha8Rng::seed_from_u64(1));
        book.learn(&mut rng, contact(1), Source::Local);
        book.failed(at(0), PeerId([1; 32]));
        assert_eq!(book.candidate(at(14), &mut rng, |_| true), None);
        assert_eq!(book.candidate(at(15), &mut rng, |_| true), Some(contact(1)));
        assert_eq!(book.candidate(at(15), &mut rng, |_| false), None);
        (1..MAX_FAILURES).for_each(|_| book.failed(at(15), PeerId([1; 32])));
        assert_eq!(book.sizes(), (0, 0));
    }

    #[test]
    fn a_shunned_key_is_refused_for_its_time_and_not_learned() {
        let (mut book, mut rng) = (Book::new(16), ChaCha8Rng::seed_from_u64(1));
        book.shun(PeerId([1; 32]), at(10));
        book.learn(&mut rng, contact(1), Source::Local);
        assert_eq!((book.sizes(), book.shuns(at(9), PeerId([1; 32]))), ((0, 1), true));
        assert!(!book.shuns(at(10), PeerId([1; 32])));
    }
}
