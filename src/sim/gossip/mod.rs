//! A virtual network for the gossip machine alone: thousands of peers, one way delays, losses, churn, hostile peers.
//!
//! It knows connections as the transport and the shell offer them: messages between two peers stay in order while their connection
//! stands, each direction has a finite bandwidth and a bounded queue whose oldest message gives way, a lost message is gone or comes
//! a round trip later, and a dead peer is noticed late. Each seed replays exactly.
//!
//! Measured with `examples/gossip_network.rs`, one seed, announcements of 200 bytes, one per second from random peers:
//!
//! | 10,000 peers | delivery | p50 / p99 | announcements + other messages per peer |
//! |---|---|---|---|
//! | a twentieth of all messages dropped | 100 % | 0.94 / 1.85 s | 1.27 + 4.7 |
//! | the same from one origin | 100 % | 0.56 / 1.29 s | 1.22 + 4.6 |
//! | a fifth of the peers killed, in the two seconds after | 99.97 % | 0.96 / 1.88 s | 1.66 + 4.3 |
//! | the same after ten seconds | 100 % | 0.89 / 1.65 s | 1.37 + 4.8 |
//! | a hundredth dropped, 2,000 hostile peers of all habits arrive | 100 % | 0.82 / 1.56 s | 1.9 + 7.2 |
//! | the same after eighty seconds | 100 % | 0.85 / 1.39 s | 3.6 + 9.5 |
//!
//! Those hostile peers came from a network each. They got 7 % of the neighbours that honest peers chose and 39 % of those that chose
//! them; nobody was eclipsed, and no peer's tables took more than 100 KiB.
//!
//! It deliberately does not model a peer's uplink shared by its connections, nor the time that a machine takes to think.

mod carry;
mod hostile;
mod link;
mod measure;
#[cfg(test)]
mod tests;

pub use hostile::{Habit, Hostile, UnknownHabit};
pub use link::{Links, Loss};
pub use measure::{Infiltration, Load, Measure, Report};

use crate::protocol::{
    gossip::{Action, Config, Contact, Envelope, Event, Gossip, Message, Prefix},
    ids::PeerId,
    time::Instant,
};
use core::{cmp::Reverse, time::Duration};
use hostile::Gang;
use link::Link;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use std::{
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

/// The peers through which all others join.
const BOOTSTRAP: usize = 5;
/// How long it takes until the shell notices that the other end has died without a word.
const DEATH_NOTICED_AFTER: Duration = Duration::from_secs(12);

/// A peer's place in the network.
pub type Index = u32;

/// What a network is like.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Draws everything.
    pub seed: u64,
    /// How many of a million messages are lost.
    pub loss_ppm: u32,
    /// What each link is like.
    pub links: Links,
    /// The shortest and the longest one way delay; each pair of peers has its own.
    pub delay: [Duration; 2],
    /// The settings of every honest peer.
    pub config: Config,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            seed: 1,
            loss_ppm: 0,
            links: Links::default(),
            delay: [Duration::from_millis(10), Duration::from_millis(120)],
            config: Config::default(),
        }
    }
}

enum Actor {
    Honest(Box<Gossip>),
    Hostile(Box<Hostile>),
    Dead,
}

struct Node {
    actor: Actor,
    prefix: Option<Prefix>,
    /// The time of the only wake-up in the queue that counts.
    wake: Instant,
    /// Bytes that wait in its queues.
    queued: i64,
    /// Messages of a partition's other side are lost, and so are dials.
    side: u8,
}

/// What happens to a peer at some time.
enum Happening {
    Dial {
        from: Index,
    },
    DialFailed {
        to: Index,
    },
    Connected {
        peer: Index,
        epoch: u64,
    },
    Message {
        from: Index,
        epoch: u64,
        message: Box<Message>,
    },
    Closed {
        by: Index,
        epoch: u64,
    },
    /// The link to `to` may send what waits for it.
    Drain {
        from: Index,
        epoch: u64,
    },
    Wake,
}

struct Scheduled {
    at: Instant,
    number: u64,
    to: Index,
    what: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A connection; an end that hung up hears no more.
struct Connection {
    epoch: u64,
    open: [bool; 2],
    links: [Link; 2],
}

/// The network in virtual time.
pub struct Network {
    profile: Profile,
    rng: ChaCha8Rng,
    now: Instant,
    number: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    nodes: Vec<Node>,
    connections: BTreeMap<(Index, Index), Connection>,
    measure: Measure,
}

impl Network {
    /// An empty network.
    pub fn new(profile: Profile) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(profile.seed);
        let (queue, connections) = (BinaryHeap::new(), BTreeMap::new());
        Self { profile, rng, now: Instant(0), number: 0, queue, nodes: Vec::new(), connections, measure: Measure::default() }
    }

    /// Adds `count` honest peers, one every `gap`, each knowing one bootstrap peer.
    pub fn join(&mut self, count: usize, gap: Duration) {
        for _ in 0..count {
            let index = self.nodes.len();
            let boot = (index > 0).then(|| self.below(index.min(BOOTSTRAP)));
            let rng = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
            let me = Contact::bare(peer_id(index));
            let gossip = Gossip::new(self.now, me, self.profile.config.clone(), rng).expect("the settings hold");
            self.add(Actor::Honest(Box::new(gossip)), Some(Prefix(1000 + index as u64)));
            let contacts = boot.into_iter().map(|boot| Contact::bare(peer_id(boot))).collect();
            self.handle(to_index(index), Event::Bootstrap(contacts));
            self.run_for(gap);
        }
        let victims: Arc<[PeerId]> = self.honest().into_iter().map(|index| peer_id(index as usize)).collect();
        for node in &mut self.nodes {
            if let Actor::Hostile(hostile) = &mut node.actor {
                hostile.learn(&victims);
            }
        }
    }

    /// Adds `count` hostile peers with these habits in turn, which share `prefixes` network prefixes. They know one another and all
    /// honest peers, those that join later too.
    pub fn infiltrate(&mut self, habits: &[Habit], count: usize, prefixes: usize) {
        let victims = self.honest().into_iter().map(|index| peer_id(index as usize)).collect();
        self.let_loose(habits, count, prefixes, victims);
    }

    /// The same, but all of them want nobody but the first `victims` peers.
    pub fn besiege(&mut self, habits: &[Habit], count: usize, prefixes: usize, victims: usize) {
        self.let_loose(habits, count, prefixes, (0..victims).map(peer_id).collect());
    }

    fn let_loose(&mut self, habits: &[Habit], count: usize, prefixes: usize, victims: Vec<PeerId>) {
        let first = self.nodes.len();
        let gang = Gang { victims: victims.into(), fellows: (first..first + count).map(peer_id).collect() };
        for offset in 0..count {
            let rng = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
            let hostile = Hostile::new(habits[offset % habits.len()], self.now, gang.clone(), rng);
            self.add(Actor::Hostile(Box::new(hostile)), Some(Prefix((offset % prefixes) as u64)));
            self.handle(to_index(first + offset), Event::Timer);
        }
    }

    /// Kills `count` random honest peers, bootstrap peers excepted, without a word.
    pub fn kill(&mut self, count: usize) {
        for _ in 0..count {
            let living: Vec<Index> = self.honest().into_iter().filter(|index| *index as usize >= BOOTSTRAP).collect();
            let dead = living[self.below(living.len())];
            self.nodes[dead as usize].actor = Actor::Dead;
            let ends: Vec<(Index, u64)> = self.connections_of(dead);
            for (peer, epoch) in ends {
                self.push(self.now.after(DEATH_NOTICED_AFTER), peer, Happening::Closed { by: dead, epoch });
            }
        }
    }

    /// Splits the network: every peer from `first` on is on the other side. Connections across break after the usual time.
    pub fn part(&mut self, first: usize) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.side = u8::from(index >= first);
        }
        let across = self.connections.iter().filter(|((a, b), _)| self.nodes[*a as usize].side != self.nodes[*b as usize].side);
        let across: Vec<((Index, Index), u64)> = across.map(|(ends, connection)| (*ends, connection.epoch)).collect();
        for ((a, b), epoch) in across {
            self.push(self.now.after(DEATH_NOTICED_AFTER), a, Happening::Closed { by: b, epoch });
            self.push(self.now.after(DEATH_NOTICED_AFTER), b, Happening::Closed { by: a, epoch });
        }
    }

    /// Lets a random honest peer (or the given one) announce something new of 200 bytes that lives for `lifetime`.
    pub fn broadcast(&mut self, origin: Option<Index>, lifetime: Duration) {
        let honest = self.honest();
        let drawn = honest[self.below(honest.len())];
        let origin = origin.unwrap_or(drawn);
        let mut body = vec![0; 200];
        self.rng.fill_bytes(&mut body);
        let envelope = Envelope::new(peer_id(origin as usize), body, lifetime).expect("the body is short");
        self.measure.on_broadcast(self.now, envelope.id(), origin, &honest);
        self.handle(origin, Event::Broadcast(envelope));
    }

    /// Runs for a while.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= end) {
            let Reverse(next) = self.queue.pop().expect("it was just seen");
            self.now = next.at;
            self.happen(next.to, next.what);
        }
        self.now = end;
    }

    /// Announces `count` times, once every `gap`, from random peers or from one; then waits for `rest` and reports on these only.
    pub fn phase(&mut self, count: usize, gap: Duration, origin: Option<Index>, rest: Duration) -> Report {
        self.measure.clear();
        for _ in 0..count {
            self.broadcast(origin, Duration::from_secs(600));
            self.run_for(gap);
        }
        self.run_for(rest);
        self.measure.report(self.honest().len())
    }

    /// The honest peers that live.
    pub fn honest(&self) -> Vec<Index> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| matches!(node.actor, Actor::Honest(_))).map(|(index, _)| to_index(index)).collect()
    }

    /// The machine of an honest peer that lives.
    pub fn gossip(&self, index: Index) -> Option<&Gossip> {
        match &self.nodes[index as usize].actor {
            Actor::Honest(gossip) => Some(gossip),
            Actor::Hostile(_) | Actor::Dead => None,
        }
    }

    /// Whether a peer is hostile.
    pub fn is_hostile(&self, peer: PeerId) -> bool {
        matches!(self.nodes[index_of(peer) as usize].actor, Actor::Hostile(_))
    }

    /// What has been counted.
    pub fn measure(&self) -> &Measure {
        &self.measure
    }

    fn add(&mut self, actor: Actor, prefix: Option<Prefix>) {
        self.nodes.push(Node { actor, prefix, wake: Instant(u64::MAX), queued: 0, side: 0 });
    }

    fn happen(&mut self, to: Index, what: Happening) {
        match what {
            Happening::Wake => {
                if self.nodes[to as usize].wake == self.now {
                    self.nodes[to as usize].wake = Instant(u64::MAX);
                    self.handle(to, Event::Timer);
                }
            }
            Happening::Dial { from } => self.on_dial(from, to),
            Happening::DialFailed { to: peer } => self.handle(to, Event::Disconnected(peer_id(peer as usize))),
            Happening::Connected { peer, epoch } => {
                if self.hears(to, peer, epoch) {
                    let prefix = self.nodes[peer as usize].prefix;
                    self.handle(to, Event::Connected { peer: peer_id(peer as usize), prefix });
                }
            }
            Happening::Drain { from, epoch } => self.drain(from, to, epoch),
            Happening::Message { from, epoch, message } => {
                if self.hears(to, from, epoch) {
                    self.handle(to, Event::Received { from: peer_id(from as usize), message: *message });
                }
            }
            Happening::Closed { by, epoch } => {
                if self.hears(to, by, epoch) {
                    self.sever(to, by);
                    self.handle(to, Event::Disconnected(peer_id(by as usize)));
                }
            }
        }
    }

    fn on_dial(&mut self, from: Index, to: Index) {
        let back = self.now.after(self.delay(from, to));
        if matches!(self.nodes[to as usize].actor, Actor::Dead) || self.nodes[from as usize].side != self.nodes[to as usize].side {
            self.push(self.now.after(Duration::from_secs(5)), from, Happening::DialFailed { to });
            return;
        }
        if self.connections.contains_key(&ends(from, to)) {
            return;
        }
        self.number += 1;
        let epoch = self.number;
        self.connections.insert(ends(from, to), Connection { epoch, open: [true; 2], links: <[Link; 2]>::default() });
        self.push(back, from, Happening::Connected { peer: to, epoch });
        self.happen(to, Happening::Connected { peer: from, epoch });
    }

    fn handle(&mut self, index: Index, event: Event) {
        let node = &mut self.nodes[index as usize];
        let mut out = Vec::new();
        match &mut node.actor {
            Actor::Honest(gossip) => gossip.handle(self.now, event, &mut out),
            Actor::Hostile(hostile) => hostile.handle(self.now, event, &mut out),
            Actor::Dead => return,
        }
        for action in out {
            self.perform(index, action);
        }
        let node = &mut self.nodes[index as usize];
        let deadline = match &node.actor {
            Actor::Honest(gossip) => gossip.deadline(),
            Actor::Hostile(hostile) => hostile.deadline(),
            Actor::Dead => return,
        };
        if deadline < node.wake {
            let at = deadline.max(Instant(self.now.0 + 1));
            node.wake = at;
            self.push(at, index, Happening::Wake);
        }
    }

    fn perform(&mut self, index: Index, action: Action) {
        let honest = self.gossip(index).is_some();
        match action {
            Action::Connect(contact) => {
                let to = index_of(contact.peer);
                self.push(self.now.after(self.delay(index, to)), to, Happening::Dial { from: index });
            }
            Action::Disconnect(peer) => self.hang_up(index, index_of(peer)),
            Action::Send { to, message } => {
                if honest {
                    self.measure.on_send(&message);
                }
                self.send(index, index_of(to), message);
            }
            Action::Deliver(envelope) => self.measure.on_deliver(self.now, index, envelope.id()),
            Action::Reject { from, reason } => self.measure.on_reject(self.is_hostile(from), reason),
            Action::NeighbourUp(..) | Action::NeighbourDown(_) => {}
        }
    }

    fn hang_up(&mut self, by: Index, peer: Index) {
        let Some(connection) = self.connections.get_mut(&ends(by, peer)) else { return };
        connection.open[usize::from(by > peer)] = false;
        let epoch = connection.epoch;
        if connection.open == [false; 2] || matches!(self.nodes[peer as usize].actor, Actor::Dead) {
            self.sever(by, peer);
        } else {
            self.push(self.now.after(self.delay(by, peer)), peer, Happening::Closed { by, epoch });
        }
    }

    fn hears(&self, index: Index, peer: Index, epoch: u64) -> bool {
        let connection = self.connections.get(&ends(index, peer));
        connection.is_some_and(|connection| connection.epoch == epoch && connection.open[usize::from(index > peer)])
    }

    fn connections_of(&self, index: Index) -> Vec<(Index, u64)> {
        let own = self.connections.iter().filter(|((a, b), _)| *a == index || *b == index);
        own.map(|((a, b), connection)| (if *a == index { *b } else { *a }, connection.epoch)).collect()
    }

    /// The one way delay of a pair: fixed, so that messages stay in order.
    fn delay(&self, a: Index, b: Index) -> Duration {
        let (low, high) = ends(a, b);
        let mut mixed = self.profile.seed ^ (u64::from(low) << 32 | u64::from(high));
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53_u64] {
            mixed = (mixed ^ (mixed >> 33)).wrapping_mul(factor);
        }
        let [least, most] = self.profile.delay.map(|delay| u64::try_from(delay.as_micros()).expect("delays are short"));
        Duration::from_micros(least + (mixed ^ (mixed >> 33)) % (most - least + 1))
    }

    fn push(&mut self, at: Instant, to: Index, what: Happening) {
        self.number += 1;
        self.queue.push(Reverse(Scheduled { at, number: self.number, to, what }));
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % bound as u64).expect("a remainder is below its divisor")
    }
}

/// The key of the peer at `index`: as unordered as real ones, and readable back.
pub fn peer_id(index: usize) -> PeerId {
    let mut key = crate::protocol::ids::Digest::of(&index.to_le_bytes()).0;
    key[28..].copy_from_slice(&to_index(index).to_le_bytes());
    PeerId(key)
}

fn index_of(peer: PeerId) -> Index {
    u32::from_le_bytes(peer.0[28..].try_into().expect("four bytes are left"))
}

fn to_index(index: usize) -> Index {
    u32::try_from(index).expect("a network has fewer peers than that")
}

fn ends(a: Index, b: Index) -> (Index, Index) {
    (a.min(b), a.max(b))
}
