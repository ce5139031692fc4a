//! When a unit's result counts: `accept`, a pure function of ballots and rules (TRUST.md, "Rules").
//!
//! A ballot is a vote together with what the owner knows about the voter at this moment. Nothing is decided anywhere else, and
//! nothing here remembers anything: whoever changes a vote or the standing of a voter calls `accept` again.

use super::{
    ids::{Digest, PeerId, UnitIndex},
    job::Policy,
    outcome::Value,
    platform::Platform,
    trust::Prefix,
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Units that others must have verified before a peer is proven.
pub const PROVEN_UNITS: u64 = 20;
/// Below this many proven peers online, two equal newcomers' votes are shown as provisional.
pub const COLD_BELOW_PROVEN_PEERS: usize = 30;
/// The share of units that need one more vote, as long as nobody is caught.
pub const AUDIT_RATE: f64 = 0.05;
/// How much each finished unit calms the audit rate again, once convictions have raised it.
const AUDIT_DECAY_PER_UNIT: f64 = 1e-4;

/// A voter's weight with the owner, now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// The owner's own machine: its value stands.
    Owner,
    /// Proven by its record, or an anchor.
    Proven,
    /// Anyone else.
    Newcomer,
    /// Convicted after it cast this vote: not counted, not compared.
    Struck,
}

/// A vote and what is known about its voter.
#[derive(Clone, Copy, Debug)]
pub struct Ballot {
    /// Who voted.
    pub worker: PeerId,
    /// Its weight.
    pub weight: Weight,
    /// The owner's own device or a friend, never caught: it is not suspected of conspiring, so its vote counts whenever it was leased.
    pub anchor: bool,
    /// Its network, where one is known that says something.
    pub prefix: Option<Prefix>,
    /// The guest through whose invitation it came.
    pub lineage: Option<PeerId>,
    /// How many votes the unit had when this one's lease was issued.
    pub ordinal: u32,
    /// Its place in the order of commitment. The order of ballots in a list says nothing.
    pub position: u32,
    /// The instruction set that it names.
    pub platform: Platform,
    /// What it says.
    pub value: Value,
}

/// What holds for the unit at hand.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Votes needed, see [`votes_needed`].
    pub need: usize,
    /// Fewer than [`COLD_BELOW_PROVEN_PEERS`] proven peers are online and nobody was seen to collude.
    pub provisional_allowed: bool,
}

/// What is to be done about a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is verified.
    Accept {
        /// With this value.
        value: Value,
        /// The owner's machine computed it.
        by_owner: bool,
    },
    /// Newcomers agree and nobody proven is there to say more: shown as such, never as verified. Wants a proven vote.
    Provisional {
        /// On this value.
        value: Value,
    },
    /// Proven voters disagree: the owner runs it.
    Disputed,
    /// Exactly one more vote is wanted.
    Want(Voter),
}

/// Whose vote is wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Voter {
    /// Anyone's who is independent of those who voted.
    Anyone,
    /// A proven peer's, or the owner's.
    Proven,
}

/// A decision, and what follows for the voters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// What becomes of the unit.
    pub decision: Decision,
    /// Voters proven wrong.
    pub convict: Vec<PeerId>,
    /// Voters whom another proven voter, or the owner, backs. Empty unless accepted.
    pub credit: Vec<PeerId>,
}

/// Judges a unit by its ballots. In which order they are handed in, and how often, makes no difference.
pub fn accept(ballots: &[Ballot], rules: Rules) -> Judgement {
    let ballots = &*in_order(ballots);
    if let Some(owner) = ballots.iter().find(|ballot| ballot.weight == Weight::Owner) {
        return accept_owner(ballots, owner.value);
    }
    let mut groups: BTreeMap<Value, Tally> = BTreeMap::new();
    for ballot in ballots.iter().filter(|ballot| ballot.weight != Weight::Struck) {
        groups.entry(ballot.value).or_insert_with(|| tally(ballots, ballot.value));
    }
    let mut convict = Vec::new();
    let backed = groups.values().filter(|tally| tally.proven > 0).count();
    let leader = match (groups.len(), backed) {
        (0, _) => return Judgement::want(Voter::Anyone),
        (1, _) => groups.first_key_value(),
        (_, 0) => return Judgement::want(Voter::Proven),
        (_, 1) => {
            let leader = groups.iter().find(|(_, tally)| tally.proven >= 2);
            let Some((value, _)) = leader else { return Judgement::want(Voter::Proven) };
            convict = voters(ballots, |ballot| ballot.value != *value);
            leader
        }
        (_, _) => return Judgement { decision: Decision::Disputed, convict, credit: Vec::new() },
    };
    let Some((&value, tally)) = leader else { return Judgement::want(Voter::Anyone) };
    let decision = decide(value, *tally, rules);
    let credit = match decision {
        Decision::Accept { .. } => backed_voters(ballots, value),
        Decision::Provisional { .. } | Decision::Disputed | Decision::Want(_) => Vec::new(),
    };
    Judgement { decision, convict, credit }
}

/// The ballots in the order of their commitment, one of each worker: its first.
fn in_order(ballots: &[Ballot]) -> Cow<'_, [Ballot]> {
    let key = |ballot: &Ballot| (ballot.position, ballot.worker, ballot.ordinal, ballot.value);
    let alone = |at: usize| ballots[..at].iter().all(|other| other.worker != ballots[at].worker);
    if ballots.is_sorted_by_key(key) && (1..ballots.len()).all(alone) {
        return Cow::Borrowed(ballots);
    }
    let mut ordered = ballots.to_vec();
    ordered.sort_by_key(key);
    let mut seen = BTreeSet::new();
    ordered.retain(|ballot| seen.insert(ballot.worker));
    Cow::Owned(ordered)
}

fn decide(value: Value, tally: Tally, rules: Rules) -> Decision {
    if tally.counted >= rules.need && tally.proven > 0 {
        Decision::Accept { value, by_owner: false }
    } else if tally.proven == 0 && tally.counted >= 2 && rules.provisional_allowed {
        Decision::Provisional { value }
    } else if tally.proven == 0 && tally.counted + usize::from(!rules.provisional_allowed) >= rules.need {
        Decision::Want(Voter::Proven)
    } else {
        Decision::Want(Voter::Anyone)
    }
}

fn accept_owner(ballots: &[Ballot], value: Value) -> Judgement {
    Judgement {
        decision: Decision::Accept { value, by_owner: true },
        convict: voters(ballots, |ballot| ballot.value != value),
        credit: backed_voters(ballots, value),
    }
}

impl Judgement {
    fn want(voter: Voter) -> Self {
        Self { decision: Decision::Want(voter), convict: Vec::new(), credit: Vec::new() }
    }
}

/// The workers, neither struck nor the owner, whose ballots are `chosen`.
fn voters(ballots: &[Ballot], chosen: impl Fn(&Ballot) -> bool) -> Vec<PeerId> {
    let other = |ballot: &&Ballot| !matches!(ballot.weight, Weight::Struck | Weight::Owner);
    ballots.iter().filter(other).filter(|ballot| chosen(ballot)).map(|ballot| ballot.worker).collect()
}

/// Those voters for `value` who are backed by the owner, or by a proven voter other than themselves: an accepted unit adds to their
/// records.
pub fn backed_voters(ballots: &[Ballot], value: Value) -> Vec<PeerId> {
    let backs = |ballot: &Ballot| ballot.value == value && matches!(ballot.weight, Weight::Owner | Weight::Proven);
    voters(ballots, |ballot| ballot.value == value && ballots.iter().any(|other| backs(other) && other.worker != ballot.worker))
}

/// How many votes for one value count, and how many of those are proven.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    counted: usize,
    proven: usize,
}

/// Counts the votes for `value` that are independent of one another: distinct key, network and lineage, and each leased only
/// after those counted before it were committed, so that no two voters could know that they hold the same unit.
fn tally(ballots: &[Ballot], value: Value) -> Tally {
    let counted = counted_ballots(ballots, value);
    let proven = counted.iter().filter(|&&at| ballots[at].weight == Weight::Proven).count();
    Tally { counted: counted.len(), proven }
}

/// Which of the ballots, which are in the order of their commitment, count for `value`.
pub fn counted_ballots(ballots: &[Ballot], value: Value) -> Vec<usize> {
    let mut counted: Vec<usize> = Vec::new();
    for (at, ballot) in ballots.iter().enumerate() {
        if ballot.value != value || ballot.weight == Weight::Struck {
            continue;
        }
        let in_sequence = |other: &Ballot| ballot.anchor || other.anchor || ballot.ordinal > other.position;
        if counted.iter().map(|&other| &ballots[other]).all(|other| in_sequence(other) && independent(other, ballot)) {
            counted.push(at);
        }
    }
    counted
}

fn independent(a: &Ballot, b: &Ballot) -> bool {
    let same = |a: Option<PeerId>, b: Option<PeerId>| a.is_some() && a == b;
    let same_network = a.prefix.is_some() && a.prefix == b.prefix;
    let same_line = same(a.lineage, b.lineage) || a.lineage == Some(b.worker) || b.lineage == Some(a.worker);
    a.worker != b.worker && !same_network && !same_line
}

/// How many votes a unit needs. `lottery` draws the unit's number for the economy policy;
/// `first_record` is the number of units that the first voter has had verified, if it is proven.
pub fn votes_needed(policy: Policy, audited: bool, lottery: impl Fn() -> f64, first_record: Option<u64>, audit_rate: f64) -> usize {
    match policy {
        Policy::Standard => 2 + usize::from(audited),
        Policy::Strict => 3,
        Policy::Economy => match first_record {
            None => 2,
            Some(record) => 1 + usize::from(lottery() < (5.0 / record.max(1) as f64).max(audit_rate)),
        },
    }
}

/// The secret numbers of a job: which units are audited, and the tokens of its leases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JobSecret(pub [u8; 32]);

impl core::fmt::Debug for JobSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JobSecret(..)")
    }
}

impl JobSecret {
    /// A unit's pseudo-random number in [0, 1): it is audited iff this is below the audit rate. Nobody else can compute it.
    pub fn audit_number(&self, unit: UnitIndex) -> f64 {
        self.number(b"audit", unit)
    }

    /// Another such number, for the second vote of the economy policy.
    pub fn lottery_number(&self, unit: UnitIndex) -> f64 {
        self.number(b"lottery", unit)
    }

    fn number(&self, purpose: &[u8], unit: UnitIndex) -> f64 {
        let digest = Digest::of_parts(&[&self.0, purpose, &unit.0.to_le_bytes()]);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.0[..8]);
        (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A job's audit rate: rises when proven peers are convicted, calms with finished units, and is total once collusion is seen.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct AuditState {
    /// Proven peers convicted while this job ran.
    pub convicted: u32,
    /// Two keys signed the same wrong value.
    pub collusion: bool,
}

impl AuditState {
    /// The rate, given how many units are decided.
    pub fn rate(&self, done: u32) -> f64 {
        if self.collusion {
            return 1.0;
        }
        let pressure = f64::from(self.convicted) - 2.0 - AUDIT_DECAY_PER_UNIT * f64::from(done);
        (AUDIT_RATE * 2f64.powf(pressure.max(0.0))).min(1.0)
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
