//! How much each neighbour may make us do: token buckets per kind of message, and strikes for what no honest peer does.
//!
//! A quota is never set so tight that an honest neighbour can exceed it by relaying what others flood ([`super::Config`]); so
//! exceeding one is held against the neighbour itself.

use super::{Rejection, config::Quotas, message::Message};
use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;
use std::collections::BTreeMap;

/// Strikes at which a neighbour is dropped. Losses make an honest neighbour break a promise now and then, never so many.
const MAX_STRIKES: u32 = 24;
/// The time after which one strike is forgiven.
const FORGIVE_EVERY: Duration = Duration::from_secs(10);
/// The most authors whose rate is tracked; when there are more, the tracked ones that were quiet longest go.
const MAX_AUTHORS: usize = 4096;

/// A sustained rate and what may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per second.
    pub per_second: u32,
    /// The most tokens saved up.
    pub burst: u32,
}

/// Tokens that refill with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// In millionths of a token, so that microseconds times a rate need no division.
    level: u64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(now: Instant, rate: Rate) -> Self {
        Self { level: u64::from(rate.burst) * 1_000_000, at: now }
    }

    fn refill(&mut self, now: Instant, rate: Rate) {
        let elapsed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let most = u64::from(rate.burst) * 1_000_000;
        self.level = elapsed.saturating_mul(u64::from(rate.per_second)).saturating_add(self.level).min(most);
        self.at = self.at.max(now);
    }

    /// Takes `tokens`, or nothing and says no.
    pub(super) fn take(&mut self, now: Instant, rate: Rate, tokens: usize) -> bool {
        self.refill(now, rate);
        let cost = (tokens as u64).saturating_mul(1_000_000);
        let enough = self.level >= cost;
        if enough {
            self.level -= cost;
        }
        enough
    }
}

/// The kinds of messages that are limited apart from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Announcements themselves.
    Data,
    /// Ids announced.
    Announced,
    /// Ids asked for.
    Asked,
    /// Everything else.
    Control,
}

impl Quota {
    const ALL: [Self; 4] = [Self::Data, Self::Announced, Self::Asked, Self::Control];

    fn of(message: &Message) -> (Self, usize) {
        match message {
            Message::Data { .. } => (Self::Data, 1),
            Message::IHave { ids } => (Self::Announced, ids.len()),
            Message::Graft { ids } | Message::Want { ids } => (Self::Asked, ids.len()),
            Message::Request { .. }
            | Message::Accept { .. }
            | Message::Refuse { .. }
            | Message::Shuffle { .. }
            | Message::ShuffleReply { .. }
            | Message::Prune
            | Message::Probe(_)
            | Message::Echo(_) => (Self::Control, 1),
        }
    }

    fn rate(self, quotas: &Quotas) -> Rate {
        match self {
            Self::Data => quotas.data,
            Self::Announced => quotas.announced,
            Self::Asked => quotas.asked,
            Self::Control => quotas.control,
        }
    }
}

struct Standing {
    buckets: [Bucket; 4],
    strikes: u32,
    forgiven: Instant,
}

/// What every connected peer has used up, and what all of them together have.
pub(super) struct Ledger {
    peers: BTreeMap<PeerId, Standing>,
    intake: Bucket,
    authors: BTreeMap<PeerId, Bucket>,
}

impl Ledger {
    pub(super) fn new(now: Instant, quotas: &Quotas) -> Self {
        Self { peers: BTreeMap::new(), intake: Bucket::full(now, quotas.intake), authors: BTreeMap::new() }
    }

    /// Starts an account; it is as large as the links are many, since [`Ledger::close`] ends it.
    pub(super) fn open(&mut self, now: Instant, peer: PeerId, quotas: &Quotas) {
        let buckets = Quota::ALL.map(|quota| Bucket::full(now, quota.rate(quotas)));
        self.peers.entry(peer).or_insert(Standing { buckets, strikes: 0, forgiven: now });
    }

    pub(super) fn close(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// Charges a message to whoever sent it.
    pub(super) fn charge(&mut self, now: Instant, from: PeerId, message: &Message, quotas: &Quotas) -> Result<(), Rejection> {
        let standing = self.peers.get_mut(&from).ok_or(Rejection::NotConnected)?;
        let (quota, tokens) = Quota::of(message);
        let enough = standing.buckets[quota as usize].take(now, quota.rate(quotas), tokens);
        if enough { Ok(()) } else { Err(Rejection::Flood(quota)) }
    }

    /// Charges a new announcement to its author and to everybody.
    pub(super) fn take_in(&mut self, now: Instant, author: PeerId, quotas: &Quotas) -> Result<(), Rejection> {
        if !self.authors.contains_key(&author) && self.authors.len() >= MAX_AUTHORS {
            let quiet = self.authors.iter().min_by_key(|(_, bucket)| bucket.at).map(|(peer, _)| *peer);
            quiet.map(|peer| self.authors.remove(&peer));
        }
        let bucket = self.authors.entry(author).or_insert_with(|| Bucket::full(now, quotas.author));
        if !bucket.take(now, quotas.author, 1) {
            return Err(Rejection::AuthorQuota);
        }
        if self.intake.take(now, quotas.intake, 1) { Ok(()) } else { Err(Rejection::IntakeQuota) }
    }

    /// Holds `weight` strikes against a peer and says whether that was too much.
    pub(super) fn strike(&mut self, now: Instant, peer: PeerId, weight: u32) -> bool {
        let Some(standing) = self.peers.get_mut(&peer) else { return false };
        let forgiven = now.since(standing.forgiven).as_micros() / FORGIVE_EVERY.as_micros();
        if forgiven > 0 {
            standing.strikes = standing.strikes.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
            standing.forgiven = now;
        }
        standing.strikes = standing.strikes.saturating_add(weight);
        standing.strikes >= MAX_STRIKES
    }

    /// How many accounts of peers and authors there are, for whoever checks the bounds.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.peers.len(), self.authors.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    #[test]
    fn a_bucket_refills_with_time_up_to_its_burst() {
        let rate = Rate { per_second: 2, burst: 4 };
        let mut bucket = Bucket::full(at(0), rate);
        assert!(bucket.take(at(0), rate, 4));
        assert!(!bucket.take(at(0), rate, 1));
        assert!(bucket.take(at(1), rate, 2));
        assert!(!bucket.take(at(1), rate, 1));
        assert!(!bucket.take(at(100), rate, 5), "no more than the burst is saved");
        assert!(bucket.take(at(100), rate, 4));
    }

    #[test]
    fn each_kind_of_message_has_its_own_quota() {
        let quotas = Quotas { control: Rate { per_second: 1, burst: 1 }, ..Quotas::default() };
        let mut ledger = Ledger::new(at(0), &quotas);
        assert_eq!(ledger.charge(at(0), PEER, &Message::Prune, &quotas), Err(Rejection::NotConnected));
        ledger.open(at(0), PEER, &quotas);
        assert_eq!(ledger.charge(at(0), PEER, &Message::Prune, &quotas), Ok(()));
        assert_eq!(ledger.charge(at(0), PEER, &Message::Prune, &quotas), Err(Rejection::Flood(Quota::Control)));
        let ids = vec![super::super::message::MessageId::MIN];
        assert_eq!(ledger.charge(at(0), PEER, &Message::IHave { ids }, &quotas), Ok(()));
    }

    #[test]
    fn strikes_are_forgiven_slowly() {
        let mut ledger = Ledger::new(at(0), &Quotas::default());
        ledger.open(at(0), PEER, &Quotas::default());
        assert!(!ledger.strike(at(0), PEER, MAX_STRIKES - 1));
        assert!(!ledger.strike(at(20), PEER, 2), "two of them were forgiven");
        assert!(ledger.strike(at(20), PEER, 1));
    }

    #[test]
    fn one_author_cannot_use_up_the_intake() {
        let quotas = Quotas { author: Rate { per_second: 1, burst: 2 }, ..Quotas::default() };
        let mut ledger = Ledger::new(at(0), &quotas);
        let noisy = |ledger: &mut Ledger| ledger.take_in(at(0), PEER, &quotas);
        assert_eq!((noisy(&mut ledger), noisy(&mut ledger)), (Ok(()), Ok(())));
        assert_eq!(noisy(&mut ledger), Err(Rejection::AuthorQuota));
        assert_eq!(ledger.take_in(at(0), PeerId([2; 32]), &quotas), Ok(()));
    }

    #[test]
    fn tracked_authors_are_bounded() {
        let mut ledger = Ledger::new(at(0), &Quotas::default());
        for number in 0..5000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            let _ = ledger.take_in(at(u64::from(number)), PeerId(key), &Quotas::default());
        }
        assert_eq!(ledger.sizes(), (0, MAX_AUTHORS));
    }
}
