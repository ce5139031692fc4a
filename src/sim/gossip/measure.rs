//! Checks and counts what the network delivers: nothing twice, to whom, how late, at which price.

use super::{Index, Network};
use crate::protocol::{
    gossip::{Direction, Gossip, Message, MessageId, Rejection, Sizes},
    time::Instant,
};
use core::fmt;
use std::collections::BTreeMap;

struct Sent {
    at: Instant,
    /// Who should get it, ascending, and whether each has.
    expected: Vec<Index>,
    reached: Vec<bool>,
    latencies_us: Vec<u64>,
}

/// The counters, and the fate of each announcement.
#[derive(Default)]
pub struct Measure {
    sent: BTreeMap<MessageId, Sent>,
    data: u64,
    control: u64,
    bytes: u64,
    /// The most bytes that waited in one peer's queues at once, and messages that gave way in a full one.
    queued: usize,
    gave_way: u64,
    /// Messages by kind.
    kinds: BTreeMap<&'static str, u64>,
    /// What honest peers refused, of hostile peers (true) and of one another.
    pub rejections: BTreeMap<(bool, String), u64>,
}

/// The most that any honest peer holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// The most of each table; the peers need not be the same.
    pub most: Sizes,
    /// The most bytes that the tables of one peer take, by estimate.
    pub table_bytes: usize,
    /// The most bytes that waited in one peer's queues at once since the phase began.
    pub queued_bytes: usize,
    /// Messages that gave way in a full queue since the phase began.
    pub gave_way: u64,
}

/// How far hostile peers got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Infiltration {
    /// The share of hostile ones among the neighbours that honest peers chose themselves.
    pub outbound: f64,
    /// The same among those that chose them.
    pub inbound: f64,
    /// Honest peers without any honest neighbour.
    pub eclipsed: usize,
    /// Honest peers without a neighbour that they chose and that is honest.
    pub besieged: usize,
}

/// What a phase has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// The honest peers.
    pub peers: usize,
    /// Announcements made.
    pub broadcasts: usize,
    /// The share of (announcement, peer) pairs that came together.
    pub delivery: f64,
    /// Latencies of those, in milliseconds: median, 99th of a hundred, 99.9th, and the longest.
    pub latency_ms: [f64; 4],
    /// Announcements sent per peer and broadcast; one is the least.
    pub data: f64,
    /// Other messages per peer and broadcast.
    pub control: f64,
    /// Estimated bytes per peer and broadcast.
    pub bytes: f64,
    /// Messages by kind, per peer and broadcast.
    pub kinds: BTreeMap<&'static str, f64>,
}

impl Measure {
    pub(super) fn clear(&mut self) {
        let rejections = core::mem::take(&mut self.rejections);
        *self = Self { rejections, ..Self::default() };
    }

    pub(super) fn on_broadcast(&mut self, now: Instant, id: MessageId, origin: Index, honest: &[Index]) {
        let expected: Vec<Index> = honest.iter().copied().filter(|index| *index != origin).collect();
        let reached = vec![false; expected.len()];
        self.sent.insert(id, Sent { at: now, expected, reached, latencies_us: Vec::new() });
    }

    pub(super) fn on_deliver(&mut self, now: Instant, index: Index, id: MessageId) {
        let Some(sent) = self.sent.get_mut(&id) else { return };
        let Ok(place) = sent.expected.binary_search(&index) else { return };
        assert!(!sent.reached[place], "peer {index} was given one announcement twice");
        sent.reached[place] = true;
        sent.latencies_us.push(now.0 - sent.at.0);
    }

    pub(super) fn on_send(&mut self, message: &Message) {
        let (kind, bytes) = size(message);
        *self.kinds.entry(kind).or_default() += 1;
        self.bytes += bytes as u64;
        if matches!(message, Message::Data { .. }) {
            self.data += 1;
        } else {
            self.control += 1;
        }
    }

    pub(super) fn on_queue(&mut self, queued: i64, gave_way: u64) {
        self.queued = self.queued.max(usize::try_from(queued).expect("a queue holds no less than nothing"));
        self.gave_way += gave_way;
    }

    pub(super) fn on_reject(&mut self, hostile: bool, reason: Rejection) {
        *self.rejections.entry((hostile, format!("{reason:?}"))).or_default() += 1;
    }

    /// What happened since the last phase began, as those see it who are still there: what others missed does not count.
    pub fn report_for(&self, peers: &[Index]) -> Report {
        let owed = |sent: &Sent| sent.expected.iter().filter(|index| peers.binary_search(index).is_ok()).count();
        let missed = |sent: &Sent| {
            let expected = sent.expected.iter().zip(&sent.reached);
            expected.filter(|(index, reached)| !**reached && peers.binary_search(index).is_ok()).count()
        };
        let (owed, missed) = (self.sent.values().map(owed).sum::<usize>(), self.sent.values().map(missed).sum::<usize>());
        Report { delivery: 1.0 - missed as f64 / owed.max(1) as f64, ..self.report(peers.len()) }
    }

    /// What happened since the last phase began.
    pub fn report(&self, peers: usize) -> Report {
        let mut latencies: Vec<u64> = self.sent.values().flat_map(|sent| sent.latencies_us.iter().copied()).collect();
        latencies.sort_unstable();
        let expected: usize = self.sent.values().map(|sent| sent.expected.len()).sum();
        let rank =
            |share: f64| latencies.get(((latencies.len().max(1) - 1) as f64 * share) as usize).map_or(f64::NAN, |us| *us as f64 / 1000.0);
        let per = |count: u64| count as f64 / (peers * self.sent.len()).max(1) as f64;
        Report {
            peers,
            broadcasts: self.sent.len(),
            delivery: latencies.len() as f64 / expected.max(1) as f64,
            latency_ms: [rank(0.5), rank(0.99), rank(0.999), rank(1.0)],
            data: per(self.data),
            control: per(self.control),
            bytes: per(self.bytes),
            kinds: self.kinds.iter().map(|(kind, count)| (*kind, per(*count))).collect(),
        }
    }
}

impl Network {
    /// The most that any honest peer holds, now and in its queues since the phase began.
    pub fn load(&self) -> Load {
        let Measure { queued, gave_way, .. } = self.measure();
        let mut load = Load { queued_bytes: *queued, gave_way: *gave_way, ..Load::default() };
        for sizes in self.honest().into_iter().filter_map(|index| self.gossip(index)).map(Gossip::sizes) {
            load.most = load.most.max(sizes);
            load.table_bytes = load.table_bytes.max(sizes.estimated_bytes());
        }
        load
    }

    /// How far hostile peers got.
    pub fn infiltration(&self) -> Infiltration {
        let (mut hostile, mut all) = ([0_usize; 2], [0_usize; 2]);
        let (mut eclipsed, mut besieged) = (0, 0);
        for gossip in self.honest().into_iter().filter_map(|index| self.gossip(index)) {
            let mut honest = [0; 2];
            for (peer, direction) in gossip.neighbours() {
                let side = usize::from(direction == Direction::Inbound);
                let bad = self.is_hostile(peer);
                (all[side], hostile[side]) = (all[side] + 1, hostile[side] + usize::from(bad));
                honest[side] += usize::from(!bad);
            }
            eclipsed += usize::from(honest == [0; 2]);
            besieged += usize::from(honest[0] == 0);
        }
        let share = |side: usize| hostile[side] as f64 / all[side].max(1) as f64;
        Infiltration { outbound: share(0), inbound: share(1), eclipsed, besieged }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { most, table_bytes, queued_bytes, gave_way } = self;
        write!(f, "tables at most {} KiB, queues {} KiB, {gave_way} messages gave way; {most:?}", table_bytes >> 10, queued_bytes >> 10)
    }
}

impl fmt::Display for Infiltration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outbound, inbound, eclipsed, besieged } = self;
        write!(f, "hostile neighbours {:.1} % outbound, {:.1} % inbound; ", outbound * 100.0, inbound * 100.0)?;
        write!(f, "eclipsed {eclipsed}, without an honest outbound one {besieged}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, most] = self.latency_ms;
        write!(f, "{} peers, {} broadcasts: delivery {:.4} %, ", self.peers, self.broadcasts, self.delivery * 100.0)?;
        write!(f, "p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} max {most:.0} ms, ")?;
        write!(f, "per peer and broadcast: data {:.3} control {:.2} bytes {:.0} (", self.data, self.control, self.bytes)?;
        self.kinds.iter().try_for_each(|(kind, count)| write!(f, " {kind} {count:.3}"))?;
        write!(f, " )")
    }
}

/// A message's kind and about how many bytes it takes on the wire.
pub(super) fn size(message: &Message) -> (&'static str, usize) {
    const CONTACT: usize = 80;
    const ID: usize = 18;
    let (kind, body) = match message {
        Message::Request { hint, .. } => ("request", hint.len()),
        Message::Accept { contacts } => ("accept", contacts.len() * CONTACT),
        Message::Refuse { contacts } => ("refuse", contacts.len() * CONTACT),
        Message::Shuffle { contacts } => ("shuffle", contacts.len() * CONTACT),
        Message::ShuffleReply { contacts } => ("shuffle reply", contacts.len() * CONTACT),
        Message::Data { envelope, .. } => ("data", 40 + envelope.body().len()),
        Message::IHave { ids } => ("ihave", ids.len() * ID),
        Message::Graft { ids } => ("graft", ids.len() * ID),
        Message::Prune => ("prune", 0),
        Message::Want { ids } => ("want", ids.len() * ID),
        Message::Probe(_) => ("probe", 12),
        Message::Echo(None) => ("echo", 0),
        Message::Echo(Some(window)) => ("window", 36 + window.ids.len() * ID),
    };
    (kind, 12 + body)
}
