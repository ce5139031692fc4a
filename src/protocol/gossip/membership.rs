//! The active view: who is a neighbour, after HyParView (Leitão, Pereira, Rodrigues 2007), with one deliberate difference.
//!
//! HyParView pushes a newcomer through the network (`ForwardJoin`) and lets each join evict a random neighbour, which makes an eclipse
//! cheap. Here nobody is made to connect to anybody: a peer chooses its *outbound* neighbours itself, from contacts that it collects,
//! and only it can drop them for another. *Inbound* places are limited, more numerous in the whole grid than the peers that want
//! one, and given to whoever asks first; `places` says who loses one again. A peer without a free place names others that may have
//! one, so a newcomer walks to its neighbours. A peer with no neighbour at all is repaired by the same loop that fills a view: it goes
//! on dialling, its bootstrap contacts included, until it has one. That loop is the watchdog against a lost request.

mod places;

use super::{
    Action, Prefix, Rejection, Turn,
    book::{Book, Source},
    config::Config,
    draw,
    merit::{Merit, News},
    message::{Contact, MAX_CONTACTS, MAX_HINT, Message},
    quota::{Bucket, Quota},
};
use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

/// The most contacts kept as bootstrap; a ticket names a handful.
const MAX_BOOTSTRAP: usize = 32;
/// The most peers that are connected without being neighbours: those which ask for a place and those which were told no. Beyond, the
/// one that has been here longest goes.
const MAX_VISITORS: usize = 64;
/// The most dials and requests under way at once.
const MAX_DIALS: usize = 3;
/// How many contacts a shuffle or a referral carries.
const SAMPLE: usize = 8;
/// The time until the next attempt to fill the view when there was nobody to dial, without and with neighbours.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// Which side chose the other as a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We did; nobody else can end it for a third party's sake.
    Outbound,
    /// The neighbour did.
    Inbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The shell was asked to connect.
    Dialling,
    /// Connected; our request is unanswered.
    Requesting,
    /// Connected by the other side, which has not become a neighbour.
    Visiting,
    Neighbour(Direction),
}

struct Link {
    stage: Stage,
    since: Instant,
    prefix: Option<Prefix>,
    hint: Arc<[u8]>,
    /// When it last began a shuffle.
    shuffled: Option<Instant>,
    merit: Merit,
}

impl Link {
    fn new(stage: Stage, since: Instant, prefix: Option<Prefix>, hint: Arc<[u8]>) -> Self {
        Self { stage, since, prefix, hint, shuffled: None, merit: Merit::default() }
    }
}

/// All links, and the contacts from which new ones are chosen.
pub(super) struct Membership {
    me: PeerId,
    hint: Arc<[u8]>,
    links: BTreeMap<PeerId, Link>,
    pub(super) book: Book,
    bootstrap: Vec<Contact>,
    dials: Bucket,
    retry: Instant,
    shuffle: Instant,
    shuffled_with: Option<PeerId>,
    rotation: Instant,
    rotation_period: Duration,
    rotating: bool,
    news: News,
    /// When an inbound neighbour lost its place for being idle.
    cleared: Option<Instant>,
    review: Instant,
    review_period: Duration,
}

impl Membership {
    pub(super) fn new(turn: &mut Turn<'_>, me: Contact) -> Self {
        let views = &turn.config.views;
        Self {
            me: me.peer,
            hint: me.hint,
            links: BTreeMap::new(),
            book: Book::new(views.contacts),
            bootstrap: Vec::new(),
            dials: Bucket::full(turn.now, turn.config.quotas.dials),
            retry: turn.now,
            shuffle: turn.now.after(draw::jitter(turn.rng, views.shuffle_every / 4)),
            shuffled_with: None,
            rotation: turn.now.after(draw::jitter(turn.rng, views.rotate_first)),
            rotation_period: views.rotate_first,
            rotating: false,
            news: News::none(turn.now),
            cleared: None,
            review: turn.now.after(draw::jitter(turn.rng, views.trial)),
            review_period: views.trial / places::REVIEWS_PER_TRIAL,
        }
    }

    pub(super) fn me(&self) -> PeerId {
        self.me
    }

    /// Something was heard for the first time, and these neighbours had it before us.
    pub(super) fn on_news(&mut self, turn: &mut Turn<'_>, have: &[PeerId]) {
        self.news.heard(turn.now);
        for peer in have {
            if let Some(link) = self.links.get_mut(peer) {
                if !link.merit.has_earned() {
                    self.book.prove(turn.rng, Contact { peer: *peer, hint: link.hint.clone() });
                }
                link.merit = Merit::earned(turn.now, self.news);
            }
        }
    }

    pub(super) fn neighbours(&self) -> impl Iterator<Item = (PeerId, Direction)> {
        self.links.iter().filter_map(|(peer, link)| match link.stage {
            Stage::Neighbour(direction) => Some((*peer, direction)),
            Stage::Dialling | Stage::Requesting | Stage::Visiting => None,
        })
    }

    pub(super) fn is_neighbour(&self, peer: PeerId) -> bool {
        self.links.get(&peer).is_some_and(|link| matches!(link.stage, Stage::Neighbour(_)))
    }

    pub(super) fn has_link(&self, peer: PeerId) -> bool {
        self.links.contains_key(&peer)
    }

    pub(super) fn links(&self) -> usize {
        self.links.len()
    }

    /// Our own addresses changed; whoever we ask for a place hears of it.
    pub(super) fn on_own_hint(&mut self, hint: Arc<[u8]>) {
        assert!(hint.len() <= MAX_HINT, "a longer hint would make every peer drop us");
        self.hint = hint;
    }

    /// Contacts from configuration, a ticket or the local network.
    pub(super) fn on_learned(&mut self, turn: &mut Turn<'_>, contacts: Vec<Contact>, bootstrap: bool) {
        for mut contact in contacts.into_iter().filter(|contact| contact.peer != self.me) {
            if contact.hint.len() > MAX_HINT {
                contact = Contact::bare(contact.peer);
            }
            if bootstrap && self.bootstrap.len() < MAX_BOOTSTRAP && self.bootstrap.iter().all(|known| known.peer != contact.peer) {
                self.bootstrap.push(contact.clone());
            }
            self.book.learn(turn.rng, contact, Source::Local);
        }
        self.retry = turn.now;
    }

    /// A connection stands. Says whether it may stay.
    pub(super) fn on_connected(&mut self, turn: &mut Turn<'_>, peer: PeerId, prefix: Option<Prefix>) -> bool {
        if peer == self.me || self.book.shuns(turn.now, peer) {
            turn.reject(peer, Rejection::Shunned);
            turn.out.push(Action::Disconnect(peer));
            self.links.remove(&peer);
            return false;
        }
        let urgent = self.neighbours().next().is_none();
        match self.links.get(&peer).map(|link| link.stage) {
            Some(Stage::Dialling) => {
                if self.crowd(prefix, Direction::Outbound) >= turn.config.views.per_prefix {
                    self.book.refused(turn.now, peer);
                    self.hang_up(turn, peer);
                    return false;
                }
                let link = self.links.get_mut(&peer).expect("it was just looked up");
                (link.stage, link.since, link.prefix) = (Stage::Requesting, turn.now, prefix);
                turn.send(peer, Message::Request { hint: self.hint.clone(), urgent });
            }
            Some(Stage::Requesting | Stage::Visiting | Stage::Neighbour(_)) => {}
            None => {
                let visitors = self.links.iter().filter(|(_, link)| link.stage == Stage::Visiting);
                let oldest = visitors.clone().min_by_key(|(_, link)| link.since).map(|(peer, _)| *peer);
                if let (true, Some(oldest)) = (visitors.count() >= MAX_VISITORS, oldest) {
                    turn.reject(oldest, Rejection::Crowded);
                    self.hang_up(turn, oldest);
                }
                self.links.insert(peer, Link::new(Stage::Visiting, turn.now, prefix, Arc::from([])));
            }
        }
        true
    }

    /// A connection ended, or a dial failed.
    pub(super) fn on_disconnected(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        let Some(link) = self.links.remove(&peer) else { return };
        match link.stage {
            Stage::Dialling | Stage::Requesting => self.book.failed(turn.now, peer),
            Stage::Visiting => {}
            Stage::Neighbour(_) => {
                self.book.failed(turn.now, peer);
                turn.out.push(Action::NeighbourDown(peer));
            }
        }
        self.retry = turn.now;
    }

    /// A connected peer asks for a place.
    pub(super) fn on_request(&mut self, turn: &mut Turn<'_>, from: PeerId, hint: Arc<[u8]>, urgent: bool) {
        let stage = self.links.get(&from).expect("only connected peers are heard").stage;
        match stage {
            Stage::Dialling | Stage::Visiting => {}
            // Both asked at once: the request of the lower key counts.
            Stage::Requesting if self.me < from => return,
            Stage::Requesting => {}
            // Our answer was lost.
            Stage::Neighbour(_) => return turn.send(from, Message::Accept { contacts: Vec::new() }),
        }
        let prefix = self.links[&from].prefix;
        let places = turn.config.views.inbound;
        let taken = self.neighbours().filter(|(_, direction)| *direction == Direction::Inbound).count();
        let crowd = self.crowd(prefix, Direction::Inbound);
        let contacts = self.sample(turn, from);
        let evicted = if taken < places {
            None
        } else {
            let crowded = self.most_crowded().filter(|(_, size)| urgent && *size > crowd + 1).map(|(peer, _)| peer);
            crowded.or_else(|| self.youngest_idle(turn))
        };
        if crowd >= turn.config.views.per_prefix || (taken >= places && evicted.is_none()) {
            let link = self.links.get_mut(&from).expect("it was just looked up");
            (link.stage, link.since) = (Stage::Visiting, turn.now);
            self.book.learn(turn.rng, Contact { peer: from, hint }, Source::Stranger);
            return turn.send(from, Message::Refuse { contacts });
        }
        if let Some(neighbour) = evicted {
            self.cleared = Some(turn.now);
            self.book.disappointed(turn.now, neighbour);
            self.hang_up(turn, neighbour);
        }
        self.links.get_mut(&from).expect("it was just looked up").hint = hint;
        turn.send(from, Message::Accept { contacts });
        self.welcome(turn, from, Direction::Inbound);
    }

    /// The peer we asked has a place.
    pub(super) fn on_accept(&mut self, turn: &mut Turn<'_>, from: PeerId, contacts: Vec<Contact>) {
        if self.links.get(&from).is_none_or(|link| link.stage != Stage::Requesting) {
            return turn.reject(from, Rejection::Unsolicited);
        }
        self.note(turn, from, contacts);
        self.welcome(turn, from, Direction::Outbound);
        let chosen = self.outbound().filter(|(peer, _)| *peer != from);
        let mut chosen: Vec<(Instant, PeerId)> = chosen.map(|(peer, link)| (link.since, peer)).collect();
        if chosen.len() >= turn.config.views.outbound {
            self.rotating = false;
            chosen.sort_unstable();
            let leaving = self.worst(turn, &chosen);
            self.hang_up(turn, leaving);
        }
    }

    /// The peer we asked has no place, but knows others.
    pub(super) fn on_refuse(&mut self, turn: &mut Turn<'_>, from: PeerId, contacts: Vec<Contact>) {
        if self.links.get(&from).is_none_or(|link| link.stage != Stage::Requesting) {
            return turn.reject(from, Rejection::Unsolicited);
        }
        self.note(turn, from, contacts);
        self.book.refused(turn.now, from);
        self.hang_up(turn, from);
    }

    /// A neighbour shows contacts and gets some in return, a few times in the period in which an honest one does so at most once.
    pub(super) fn on_shuffle(&mut self, turn: &mut Turn<'_>, from: PeerId, contacts: Vec<Contact>) {
        let link = self.links.get_mut(&from).expect("only neighbours shuffle");
        if link.shuffled.is_some_and(|last| turn.now.since(last) < turn.config.views.shuffle_every / 4) {
            return turn.reject(from, Rejection::Flood(Quota::Control));
        }
        link.shuffled = Some(turn.now);
        let reply = self.sample(turn, from);
        self.note(turn, from, contacts);
        turn.send(from, Message::ShuffleReply { contacts: reply });
    }

    /// Contacts in return for ours.
    pub(super) fn on_shuffle_reply(&mut self, turn: &mut Turn<'_>, from: PeerId, contacts: Vec<Contact>) {
        if self.shuffled_with != Some(from) {
            return turn.reject(from, Rejection::Unsolicited);
        }
        self.shuffled_with = None;
        self.note(turn, from, contacts);
    }

    /// Ends a link of our own accord.
    pub(super) fn hang_up(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        if let Some(link) = self.links.remove(&peer) {
            turn.out.push(Action::Disconnect(peer));
            if matches!(link.stage, Stage::Neighbour(_)) {
                turn.out.push(Action::NeighbourDown(peer));
            }
            self.retry = turn.now;
        }
    }

    /// Ends a link and refuses the key for a while.
    pub(super) fn expel(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        self.book.shun(peer, turn.now.after(turn.config.views.shun_for));
        self.hang_up(turn, peer);
    }

    /// Ends what took too long, exchanges contacts, replaces a neighbour, fills the view: whatever is due.
    pub(super) fn on_timer(&mut self, turn: &mut Turn<'_>) {
        let views = &turn.config.views;
        let late = self.links.iter().filter(|(_, link)| link.expiry(turn.config).is_some_and(|expiry| expiry <= turn.now));
        let late: Vec<(PeerId, Stage)> = late.map(|(peer, link)| (*peer, link.stage)).collect();
        for (peer, stage) in late {
            if stage != Stage::Visiting {
                self.book.failed(turn.now, peer);
            }
            self.hang_up(turn, peer);
        }
        if self.shuffle <= turn.now {
            self.shuffle = turn.now.after(draw::jitter(turn.rng, views.shuffle_every));
            if let Some((peer, _)) = draw::one(turn.rng, self.neighbours()) {
                let mut contacts = self.sample(turn, peer);
                contacts.push(Contact { peer: self.me, hint: self.hint.clone() });
                self.shuffled_with = Some(peer);
                turn.send(peer, Message::Shuffle { contacts });
            }
        }
        if self.rotation <= turn.now {
            self.rotation = turn.now.after(draw::jitter(turn.rng, self.rotation_period));
            self.rotation_period = (self.rotation_period * 2).min(views.rotate_most);
            self.rotating = true;
            self.retry = turn.now;
        }
        if self.review <= turn.now {
            self.review(turn);
        }
        if self.retry <= turn.now {
            self.fill(turn);
        }
    }

    pub(super) fn deadline(&self, config: &Config) -> Instant {
        let links = self.links.values().filter_map(|link| link.expiry(config)).min();
        links.into_iter().fold(self.retry.min(self.shuffle).min(self.rotation).min(self.review), Instant::min)
    }

    /// Dials until enough outbound neighbours stand or are under way, as far as contacts and the dial quota allow.
    fn fill(&mut self, turn: &mut Turn<'_>) {
        let isolated = self.neighbours().next().is_none();
        let forsaken = isolated || (!self.news.never() && self.news.silent(turn.now, turn.config.views.trial));
        self.retry = turn.now.after(draw::jitter(turn.rng, RETRY[usize::from(!isolated)]));
        let has = |stage: Stage| self.links.values().filter(|link| link.stage == stage).count();
        let (outbound, under_way) = (has(Stage::Neighbour(Direction::Outbound)), has(Stage::Dialling) + has(Stage::Requesting));
        self.rotating &= outbound >= turn.config.views.outbound;
        let wanted = (turn.config.views.outbound + usize::from(self.rotating)).saturating_sub(outbound);
        for _ in under_way..wanted.min(MAX_DIALS) {
            let Some(contact) = self.candidate(turn, forsaken) else {
                self.rotating = false;
                break;
            };
            if !self.dials.take(turn.now, turn.config.quotas.dials, 1) {
                self.retry = turn.now.after(RETRY[0]);
                break;
            }
            self.links.insert(contact.peer, Link::new(Stage::Dialling, turn.now, None, contact.hint.clone()));
            turn.out.push(Action::Connect(contact));
        }
    }

    /// Whom to dial: somebody from the book, or a bootstrap contact as often as not while nothing is heard from anybody any more.
    fn candidate(&self, turn: &mut Turn<'_>, forsaken: bool) -> Option<Contact> {
        let known = self.book.candidate(turn.now, turn.rng, |peer| !self.links.contains_key(&peer));
        if !forsaken || (known.is_some() && draw::below(turn.rng, 2) == 0) {
            return known;
        }
        let unlinked = self.bootstrap.iter().filter(|contact| !self.links.contains_key(&contact.peer));
        draw::one(turn.rng, unlinked).cloned().or(known)
    }

    fn welcome(&mut self, turn: &mut Turn<'_>, peer: PeerId, direction: Direction) {
        let link = self.links.get_mut(&peer).expect("only connected peers become neighbours");
        (link.stage, link.since, link.merit) = (Stage::Neighbour(direction), turn.now, Merit::unproven(turn.now, self.news));
        self.book.met(turn.rng, Contact { peer, hint: link.hint.clone() });
        self.retry = turn.now;
        turn.out.push(Action::NeighbourUp(peer, direction));
    }

    fn note(&mut self, turn: &mut Turn<'_>, from: PeerId, contacts: Vec<Contact>) {
        let asked_for = self.bootstrap.iter().any(|contact| contact.peer == from);
        // Where nothing was ever announced nobody could show what it is worth.
        let trusted = asked_for || self.news.never() || self.links.get(&from).is_some_and(|link| link.merit.has_earned());
        let source = if trusted { Source::Peer(from) } else { Source::Stranger };
        for contact in contacts.into_iter().filter(|contact| contact.peer != self.me) {
            self.book.learn(turn.rng, contact, source);
        }
        self.retry = if self.wants_more(turn) { turn.now } else { self.retry };
    }

    fn wants_more(&self, turn: &Turn<'_>) -> bool {
        self.neighbours().filter(|(_, direction)| *direction == Direction::Outbound).count() < turn.config.views.outbound
    }

    /// A few neighbours and a few other contacts, for somebody else.
    fn sample(&self, turn: &mut Turn<'_>, to: PeerId) -> Vec<Contact> {
        const { assert!(SAMPLE < MAX_CONTACTS, "our own contact fits in as well") };
        let near: Vec<PeerId> = self.neighbours().map(|(peer, _)| peer).filter(|peer| *peer != to).collect();
        let useful: Vec<PeerId> = near.iter().copied().filter(|peer| self.links[peer].merit.has_earned()).collect();
        let near = draw::some(turn.rng, if useful.is_empty() { near } else { useful }, SAMPLE / 2);
        let mut contacts: Vec<Contact> = near.into_iter().map(|peer| Contact { peer, hint: self.links[&peer].hint.clone() }).collect();
        let far = self.book.sample(turn.rng, SAMPLE, to);
        let new: Vec<Contact> = far.into_iter().filter(|far| contacts.iter().all(|near| near.peer != far.peer)).collect();
        contacts.extend(new.into_iter().take(SAMPLE - contacts.len()));
        contacts
    }
}

impl Link {
    /// When the link has been in a passing stage for too long.
    fn expiry(&self, config: &Config) -> Option<Instant> {
        match self.stage {
            Stage::Dialling => Some(self.since.after(config.views.dial_timeout)),
            Stage::Requesting | Stage::Visiting => Some(self.since.after(config.views.request_timeout)),
            Stage::Neighbour(_) => None,
        }
    }
}
