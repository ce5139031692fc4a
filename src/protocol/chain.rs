//! The hash chain of a stepped unit: digests of its state at fixed amounts of gas, from which two workers that disagree learn where
//! they part.
//!
//! A unit whose module has `step` exports stands still between its steps. *Link* `c` (from 1 on) is the state at the first such
//! moment at which the unit has used at least `c` *intervals* of gas. So the links depend on the unit alone, whoever knows the state
//! at one link can run to the next, and links of a coarser chain are every second (fourth, ...) of a finer one. The interval
//! doubles until hashing costs little beside computing ([`GAS_PER_STATE_BYTE`]) and until there are at most [`LINKS_MAX`] links.
//! A unit that ends within the first interval has no chain.
//!
//! What is voted on is the head of the chain ([`Links::head`]); the links themselves stay with the worker until somebody asks.

use super::{ids::Digest, outcome::Value};
use sha2::{Digest as _, Sha256};

/// The gas between two links of the finest chain: a few milliseconds of computing.
pub const FINEST_INTERVAL: u64 = 1 << 24;

/// The interval is at least so much gas for each byte of state. A core hashes a byte in half a nanosecond and does some four gas in
/// a nanosecond, so that hashing costs a few per cent (three to four were measured).
pub const GAS_PER_STATE_BYTE: u64 = 128;

/// The most links of a chain. With half of them at least, a segment between two is a five-hundredth of a long unit.
pub const LINKS_MAX: usize = 1024;

/// The most doublings of the interval: more gas than [`UnitLimits::MAX`](super::outcome::UnitLimits::MAX) allows.
const DOUBLINGS_MAX: u8 = 36;

const DOMAIN: &[u8] = b"manyhands.chain.v1";

/// The state at one moment between two steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Gas used until then.
    pub gas: u64,
    /// SHA-256 of the encoded state, which is also the name of the state as a blob.
    pub state: Digest,
}

/// The links of one unit, complete or as far as it has come.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Links {
    /// How often the interval was doubled.
    doublings: u8,
    /// Link 1 first. A step that takes several intervals makes several equal links.
    links: Vec<Link>,
}

/// Links that no unit can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("these links are no chain")]
pub struct NoChain;

impl Links {
    /// Links that come from elsewhere.
    ///
    /// # Errors
    /// When no unit can have them.
    pub fn new(doublings: u8, links: Vec<Link>) -> Result<Self, NoChain> {
        let found = Self { doublings, links };
        if doublings > DOUBLINGS_MAX || found.links.len() > LINKS_MAX {
            return Err(NoChain);
        }
        let interval = found.interval();
        let reached = |(number, link): (u64, &Link)| number.checked_mul(interval).is_some_and(|gas| gas <= link.gas);
        let ordered = found.links.windows(2).all(|pair| pair[0].gas < pair[1].gas || pair[0] == pair[1]);
        if (1..).zip(&found.links).all(reached) && ordered { Ok(found) } else { Err(NoChain) }
    }

    /// How often the interval was doubled.
    pub fn doublings(&self) -> u8 {
        self.doublings
    }

    /// The links, the first one first.
    pub fn as_slice(&self) -> &[Link] {
        &self.links
    }

    /// Gas between two links.
    pub fn interval(&self) -> u64 {
        FINEST_INTERVAL << self.doublings
    }

    /// Whether a unit that stands still after `gas`, with so many bytes of state, has a new link. Widens the interval where due.
    pub fn is_due(&mut self, gas: u64, state_bytes: u64) -> bool {
        while self.interval() < state_bytes.saturating_mul(GAS_PER_STATE_BYTE) && self.doublings < DOUBLINGS_MAX {
            self.double();
        }
        while gas / self.interval() > LINKS_MAX as u64 {
            self.double();
        }
        self.reached(gas) > self.links.len()
    }

    /// The new link.
    pub fn record(&mut self, link: Link) {
        self.links.resize(self.reached(link.gas), link);
    }

    fn reached(&self, gas: u64) -> usize {
        usize::try_from(gas / self.interval()).unwrap_or(usize::MAX).min(LINKS_MAX)
    }

    /// Keeps every second link.
    fn double(&mut self) {
        self.doublings += 1;
        self.links = self.links.chunks_exact(2).map(|pair| pair[1]).collect();
    }

    /// What is voted on; none where there is no link.
    pub fn head(&self) -> Option<Digest> {
        let last = self.heads().pop()?;
        Some(Digest::of_parts(&[DOMAIN, &[self.doublings], last.as_bytes()]))
    }

    /// The head at each link: it covers all links up to there.
    fn heads(&self) -> Vec<Digest> {
        let mut head = Digest::of(DOMAIN);
        let follow = |link: &Link| {
            let mut hasher = Sha256::new();
            hasher.update(head.as_bytes());
            hasher.update(link.gas.to_le_bytes());
            hasher.update(link.state.as_bytes());
            head = Digest(hasher.finalize().into());
            head
        };
        self.links.iter().map(follow).collect()
    }

    /// The same chain with at least so many doublings.
    fn coarsened(&self, doublings: u8) -> Self {
        let mut coarse = self.clone();
        while coarse.doublings < doublings {
            coarse.double();
        }
        coarse
    }

    /// Whether these are the links that a worker vouched for with this value.
    pub fn belong_to(&self, value: &Value) -> bool {
        value.chain.is_some() && self.head() == value.chain && self.links.last().is_none_or(|link| link.gas <= value.gas)
    }
}

/// What a chain says that a segment ends in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The unit goes on, in this state.
    Link(Link),
    /// The unit ends before it has used so much gas, in this value; its chain is left out, as the segment does not show it.
    Value(Value),
}

impl End {
    /// The end of a unit.
    pub fn of(value: Value) -> Self {
        Self::Value(Value { chain: None, ..value })
    }
}

/// The first stretch of a unit about which two chains disagree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The last state that they agree on; none where that is the beginning.
    pub from: Option<Link>,
    /// It ends at the first moment between two steps at which the unit has used so much gas, or with the unit.
    pub until: u64,
    /// What either says that it ends in. They differ.
    pub claims: [End; 2],
}

impl Segment {
    /// Bisects two chains with the values that they belong to. None when they do not disagree.
    pub fn first_difference(left: (&Links, Value), right: (&Links, Value)) -> Option<Self> {
        if left.1 == right.1 {
            return None;
        }
        let doublings = left.0.doublings.max(right.0.doublings);
        let (one, other) = (left.0.coarsened(doublings), right.0.coarsened(doublings));
        let agreed = bisect(&one.heads(), &other.heads());
        let end = |links: &Links, value: Value| links.links.get(agreed).map_or(End::of(value), |link| End::Link(*link));
        let claims = [end(&one, left.1), end(&other, right.1)];
        let from = agreed.checked_sub(1).map(|last| one.links[last]);
        let until = (agreed as u64 + 1).saturating_mul(one.interval());
        // Values that differ only in how fine their chains are cannot both be right, but no segment shows it.
        (claims[0] != claims[1]).then_some(Self { from, until, claims })
    }
}

/// How many heads agree. Once they differ they go on to differ, so halving finds it.
fn bisect(one: &[Digest], other: &[Digest]) -> usize {
    let (mut agreed, mut differing) = (0, one.len().min(other.len()) + 1);
    while differing - agreed > 1 {
        let middle = agreed + (differing - agreed) / 2;
        if one[middle - 1] == other[middle - 1] {
            agreed = middle;
        } else {
            differing = middle;
        }
    }
    agreed
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
