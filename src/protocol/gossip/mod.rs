//! Gossip: every peer learns what any peer announces, though each talks to a handful of neighbours only.
//!
//! Three small machines work side by side. `membership` decides who is a neighbour (a partial view after HyParView), `broadcast`
//! forwards announcements along a tree of eager edges with lazy ones as its safety net (after PlumTree), and `recovery` compares
//! archives with one neighbour at a time, so that late joiners and the survivors of a partition catch up. `archive` and `book`
//! are what they remember, `quota` is what a neighbour may use up, `merit` says which neighbours earn their places.
//!
//! Neighbours are strangers. Their keys are authenticated by the transport and the signatures of announcements are verified by `wire`
//! before anything arrives here; all else is hostile: ids, counts, contacts, floods, forced joins, silence. So every table has a
//! bound, every rate a quota, every refusal a name ([`Rejection`]), and what no honest peer does is held against the neighbour until
//! it is dropped and shunned.
//!
//! What an attacker can still do, with keys that come from ever more networks (from few, the share of a prefix stops it):
//! - take the inbound places that nobody else has taken, a third of all, and be sent every announcement through them; that triples
//!   what honest peers send, to at most ten copies of each;
//! - keep a place by being useful: by forwarding, or by announcing things of its own within its quota;
//! - stand in the way of newcomers. Whoever joins while a fifth of all keys are hostile and ask for places all the time finds mostly
//!   them, since a newcomer brings nothing either and keeps a contested place for one trial only. In the simulator about half of those
//!   who joined then heard nothing yet after twenty seconds; peers that were there before lost nothing;
//! - forward honestly for long, collect places, and fall silent at once: those who have no other neighbour notice after a trial.
//!
//! This machine deliberately does not know what an announcement says, where a peer may be found, or what time it is.
//!
//! - HyParView: <https://asc.di.fct.unl.pt/~jleitao/pdf/dsn07-leitao.pdf>
//! - PlumTree: <https://asc.di.fct.unl.pt/~jleitao/pdf/srds07-leitao.pdf>

mod archive;
mod book;
mod broadcast;
mod config;
mod draw;
mod membership;
mod merit;
mod message;
mod quota;
mod recovery;
#[cfg(test)]
mod tests;

use crate::protocol::{ids::PeerId, time::Instant};
use archive::Archive;
use broadcast::Broadcast;
use membership::Membership;
use quota::Ledger;
use rand_chacha::ChaCha8Rng;
use recovery::Recovery;
use std::sync::Arc;

pub use config::{Config, ConfigError, Quotas, Repair, Tree, Views};
pub use membership::Direction;
pub use message::{
    Contact, Envelope, Garbage, MAX_BODY, MAX_CONTACTS, MAX_HINT, MAX_IDS, MAX_LIFETIME, MAX_WINDOW, Message, MessageId, Path, Summary,
    Window,
};
pub use quota::{Quota, Rate};

/// The network that a peer is connected from, as the shell sees it: an IPv4 /24 or an IPv6 /48.
///
/// The machine compares prefixes and gives them no meaning. The shell names none for loopback and private networks, where many peers
/// of one prefix are the normal case, and none behind a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(pub u64);

/// Everything that can happen to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connected peer sent a message, whose envelope (if any) `wire` has verified.
    Received {
        /// Who sent it.
        from: PeerId,
        /// What.
        message: Message,
    },
    /// This peer itself announces something, signed.
    Broadcast(Envelope),
    /// A connection stands, whoever began it. There is at most one per peer; when both dialled at once, the shell keeps one and says
    /// this once.
    Connected {
        /// The other end.
        peer: PeerId,
        /// Where it is connected from.
        prefix: Option<Prefix>,
    },
    /// A connection ended or a dial failed. Not owed for what [`Action::Disconnect`] ended.
    Disconnected(PeerId),
    /// Contacts found by discovery or remembered from an earlier run. A hint beyond [`MAX_HINT`] is left out.
    Learned(Vec<Contact>),
    /// Contacts to fall back to whenever there is no neighbour: from a ticket or the configuration. The first few are kept for good.
    Bootstrap(Vec<Contact>),
    /// Our own addresses changed; the hint goes to whoever we meet. At most [`MAX_HINT`] bytes.
    OwnHint(Arc<[u8]>),
    /// The deadline has passed.
    Timer,
}

/// What the shell must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to a peer. Owed in return: [`Event::Connected`] or [`Event::Disconnected`].
    Connect(Contact),
    /// Close the connection, or give up the dial. Nothing is owed.
    Disconnect(PeerId),
    /// Queue a message. When the queue is full its oldest message is dropped; the machine lives with that.
    Send {
        /// A connected peer.
        to: PeerId,
        /// What to send.
        message: Message,
    },
    /// An announcement of another peer, seen for the first time (within the time that ids are remembered).
    Deliver(Envelope),
    /// A neighbour was won. For displays; nothing is owed.
    NeighbourUp(PeerId, Direction),
    /// A neighbour was lost. For displays; nothing is owed.
    NeighbourDown(PeerId),
    /// Something was refused. For logs and counters; nothing is owed.
    Reject {
        /// Who did it.
        from: PeerId,
        /// What is wrong with it.
        reason: Rejection,
    },
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The message breaks its own bounds. The peer is dropped and shunned at once.
    #[error("garbage: {0}")]
    Garbage(#[from] Garbage),
    /// The neighbour exceeds a quota that no honest one can.
    #[error("too much of {0:?}")]
    Flood(Quota),
    /// A message that only a neighbour may send.
    #[error("not a neighbour")]
    NotNeighbour,
    /// A message from a peer to which no connection stands.
    #[error("not connected")]
    NotConnected,
    /// An answer to a question that was not asked, or came too late.
    #[error("unsolicited answer")]
    Unsolicited,
    /// An announced message did not come when it was asked for.
    #[error("announced message did not come")]
    BrokenPromise,
    /// Too many announced messages that have not come; further ids are ignored.
    #[error("too many outstanding promises")]
    PromiseQuota,
    /// The author announces faster than its share.
    #[error("author exceeds its rate")]
    AuthorQuota,
    /// The grid announces faster than this peer takes in; the repair brings it later.
    #[error("intake is exhausted")]
    IntakeQuota,
    /// An announcement whose life is over.
    #[error("expired announcement")]
    Expired,
    /// Several probes in a row stayed unanswered. The peer is dropped.
    #[error("unresponsive neighbour")]
    Unresponsive,
    /// The key misbehaved lately, or is our own.
    #[error("shunned key")]
    Shunned,
    /// Too many connected peers wait for a place; the one here longest went.
    #[error("too many visitors")]
    Crowded,
}

/// What a rejection costs whoever caused it.
enum Penalty {
    None,
    Strike,
    HangUp,
    Expel,
}

impl Rejection {
    /// An honest peer causes no garbage ever, floods never and the rest seldom, by losses and crossing messages.
    const fn penalty(self) -> Penalty {
        match self {
            Self::Garbage(_) => Penalty::Expel,
            Self::Flood(_) | Self::Unsolicited | Self::BrokenPromise => Penalty::Strike,
            Self::Unresponsive => Penalty::HangUp,
            // Also what an honest neighbour causes that believes a link to stand which we know to be over, or not yet begun.
            Self::NotNeighbour | Self::NotConnected => Penalty::None,
            // What an honest neighbour causes that relays a flood, or announces many messages which are late.
            Self::AuthorQuota | Self::IntakeQuota | Self::PromiseQuota => Penalty::None,
            Self::Expired | Self::Shunned | Self::Crowded => Penalty::None,
        }
    }
}

/// What every part of the machine needs while it handles one event.
struct Turn<'a> {
    now: Instant,
    config: &'a Config,
    rng: &'a mut ChaCha8Rng,
    out: &'a mut Vec<Action>,
}

impl Turn<'_> {
    fn send(&mut self, to: PeerId, message: Message) {
        self.out.push(Action::Send { to, message });
    }

    fn reject(&mut self, from: PeerId, reason: Rejection) {
        self.out.push(Action::Reject { from, reason });
    }
}

/// How much the machine holds, for metrics and for tests of its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Links of every stage, dials included.
    pub links: usize,
    /// Neighbours to which announcements are sent whole.
    pub eager: usize,
    /// Contacts known.
    pub contacts: usize,
    /// Keys refused for a while.
    pub shunned: usize,
    /// Live announcements.
    pub live: usize,
    /// Ids remembered.
    pub remembered: usize,
    /// Announced ids that have not come.
    pub missing: usize,
    /// Accounts of peers and of authors.
    pub accounts: usize,
    /// Bytes of the bodies of live announcements.
    pub body_bytes: usize,
}

impl Sizes {
    /// About how many bytes the tables take, from what an entry of each takes with its place in an ordered map.
    pub const fn estimated_bytes(&self) -> usize {
        let tables = self.links * 1200 + self.contacts * 400 + self.shunned * 60 + self.accounts * 100;
        tables + self.live * 400 + self.body_bytes + self.remembered * 120 + self.missing * 400
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            links: self.links.max(other.links),
            eager: self.eager.max(other.eager),
            contacts: self.contacts.max(other.contacts),
            shunned: self.shunned.max(other.shunned),
            live: self.live.max(other.live),
            remembered: self.remembered.max(other.remembered),
            missing: self.missing.max(other.missing),
            accounts: self.accounts.max(other.accounts),
            body_bytes: self.body_bytes.max(other.body_bytes),
        }
    }
}

/// The gossip machine of one peer.
pub struct Gossip {
    config: Config,
    rng: ChaCha8Rng,
    ledger: Ledger,
    archive: Archive,
    membership: Membership,
    broadcast: Broadcast,
    recovery: Recovery,
}

impl Gossip {
    /// A machine without neighbours or contacts. Give it [`Event::Bootstrap`] or [`Event::Learned`] contacts, or let others dial it.
    ///
    /// # Errors
    /// The settings contradict one another.
    pub fn new(now: Instant, me: Contact, config: Config, mut rng: ChaCha8Rng) -> Result<Self, ConfigError> {
        config.check()?;
        let ledger = Ledger::new(now, &config.quotas);
        let membership = Membership::new(&mut Turn { now, config: &config, rng: &mut rng, out: &mut Vec::new() }, me);
        let (archive, broadcast, recovery) = (Archive::default(), Broadcast::default(), Recovery::default());
        Ok(Self { config, rng, ledger, archive, membership, broadcast, recovery })
    }

    /// Handles one event and appends what is to be done.
    pub fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        let mut settled = out.len();
        let Self { config, rng, ledger, archive, membership, broadcast, recovery } = self;
        let mut turn = Turn { now, config, rng, out };
        match event {
            Event::Received { from, message } => self.on_message(now, from, message, out),
            Event::Broadcast(envelope) => {
                if !archive.knows(envelope.id()) {
                    archive.insert(now, envelope.clone(), Path::Tree, config);
                    broadcast.spread(&mut turn, membership.me(), &envelope, Path::Tree, &[]);
                }
            }
            Event::Connected { peer, prefix } => {
                if membership.on_connected(&mut turn, peer, prefix) {
                    ledger.open(now, peer, &config.quotas);
                }
            }
            Event::Disconnected(peer) => {
                ledger.close(peer);
                membership.on_disconnected(&mut turn, peer);
            }
            Event::Learned(contacts) => membership.on_learned(&mut turn, contacts, false),
            Event::Bootstrap(contacts) => membership.on_learned(&mut turn, contacts, true),
            Event::OwnHint(hint) => membership.on_own_hint(hint),
            Event::Timer => {
                archive.purge(now);
                broadcast.on_timer(&mut turn);
                recovery.on_timer(&mut turn, archive.summary());
                membership.on_timer(&mut turn);
            }
        }
        while settled < out.len() {
            self.settle(now, settled, out);
            settled += 1;
        }
    }

    /// When [`Event::Timer`] is due next. It changes with every event.
    pub fn deadline(&self) -> Instant {
        let parts = self.broadcast.deadline().into_iter().chain(self.recovery.deadline());
        parts.fold(self.membership.deadline(&self.config), Instant::min)
    }

    /// The neighbours, and who chose whom.
    pub fn neighbours(&self) -> impl Iterator<Item = (PeerId, Direction)> {
        self.membership.neighbours()
    }

    /// How much the machine holds.
    pub fn sizes(&self) -> Sizes {
        let ((eager, missing), (live, remembered, body_bytes)) = (self.broadcast.sizes(), self.archive.sizes());
        let ((contacts, shunned), (peers, authors)) = (self.membership.book.sizes(), self.ledger.sizes());
        Sizes { links: self.membership.links(), eager, contacts, shunned, live, remembered, missing, accounts: peers + authors, body_bytes }
    }

    fn on_message(&mut self, now: Instant, from: PeerId, message: Message, out: &mut Vec<Action>) {
        let Self { config, rng, ledger, archive, membership, broadcast, recovery } = self;
        let mut turn = Turn { now, config, rng, out };
        if !membership.has_link(from) {
            return turn.reject(from, Rejection::NotConnected);
        }
        if let Err(reason) = message.check().map_err(Rejection::from).and_then(|()| ledger.charge(now, from, &message, &config.quotas)) {
            return turn.reject(from, reason);
        }
        recovery.on_word(from);
        match message {
            Message::Request { hint, urgent } => membership.on_request(&mut turn, from, hint, urgent),
            Message::Accept { contacts } => membership.on_accept(&mut turn, from, contacts),
            Message::Refuse { contacts } => membership.on_refuse(&mut turn, from, contacts),
            _ if !membership.is_neighbour(from) => turn.reject(from, Rejection::NotNeighbour),
            Message::Shuffle { contacts } => membership.on_shuffle(&mut turn, from, contacts),
            Message::ShuffleReply { contacts } => membership.on_shuffle_reply(&mut turn, from, contacts),
            Message::Data { envelope, path } => {
                if let Some(first) = archive.came_by(envelope.id()) {
                    return broadcast.on_duplicate(&mut turn, from, envelope.id(), [first, path]);
                }
                if envelope.lifetime().is_zero() {
                    broadcast.on_expired(envelope.id(), from);
                    return turn.reject(from, Rejection::Expired);
                }
                if let Err(reason) = ledger.take_in(now, envelope.author(), &config.quotas) {
                    broadcast.on_refused(envelope.id());
                    return turn.reject(from, reason);
                }
                archive.insert(now, envelope.clone(), path, config);
                let have = broadcast.on_arrival(envelope.id(), from, path);
                membership.on_news(&mut turn, &have);
                turn.out.push(Action::Deliver(envelope.clone()));
                broadcast.spread(&mut turn, membership.me(), &envelope, path, &have);
            }
            Message::IHave { ids } => broadcast.on_announced(&mut turn, archive, from, &ids),
            Message::Graft { ids } => broadcast.on_graft(&mut turn, archive, from, &ids),
            Message::Prune => broadcast.on_prune(from),
            Message::Want { ids } => broadcast::answer(&mut turn, archive, from, &ids, Path::Repair),
            Message::Probe(summary) => recovery.on_probe(&mut turn, archive, from, summary),
            Message::Echo(window) => recovery.on_echo(&mut turn, archive, from, window),
        }
    }

    /// Lets the other parts know of what one of them decided: neighbours won and lost, links ended, penalties.
    fn settle(&mut self, now: Instant, index: usize, out: &mut Vec<Action>) {
        let Self { config, rng, ledger, archive: _, membership, broadcast, recovery } = self;
        match &out[index] {
            Action::NeighbourUp(peer, _) => {
                let peer = *peer;
                broadcast.on_up(peer);
                recovery.on_up(&mut Turn { now, config, rng, out }, peer);
            }
            Action::NeighbourDown(peer) => {
                broadcast.on_down(*peer);
                recovery.on_down(*peer);
            }
            Action::Reject { from, reason } => {
                let (from, reason) = (*from, *reason);
                let mut turn = Turn { now, config, rng, out };
                match reason.penalty() {
                    Penalty::None => {}
                    Penalty::Strike => {
                        if ledger.strike(now, from, 1) {
                            membership.expel(&mut turn, from);
                        }
                    }
                    Penalty::HangUp => {
                        membership.book.failed(now, from);
                        membership.hang_up(&mut turn, from);
                    }
                    Penalty::Expel => membership.expel(&mut turn, from),
                }
            }
            Action::Connect(_) | Action::Disconnect(_) | Action::Send { .. } | Action::Deliver(_) => {}
        }
        if let Action::Disconnect(peer) | Action::NeighbourDown(peer) = &out[index] {
            ledger.close(*peer);
        }
    }
}
