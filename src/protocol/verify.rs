//! When a unit's result counts: `accept`, a pure function of ballots and rules (`src/TRUST.md`, "Rules").
//!
//! # What instruction sets may explain
//!
//! Machines of different instruction sets should agree, and an engine may have a bug. So a dissent convicts nobody until the owner,
//! or somebody proven, of the *same* instruction set contradicts it. What a receipt says about its own is a claim that nothing
//! proves, and the rule is made so that a false one gains little:
//!
//! - A liar who claims what others here have too is convicted as ever, one execution later: somebody proven of it, drawn at random,
//!   is asked.
//! - One who claims what nobody proven here has is excused. None of its votes in the job counts any more, also where it had agreed,
//!   so what it alone vouched for is re-opened as by a conviction; it gets nothing more of the job and, while it is a newcomer,
//!   nothing at all for an hour. What remains to it is its record, so that a proven one may try once in each job.
//! - Whoever wants an instruction set to be set aside must be the one who is asked *after* the quarrel was known: two who agreed
//!   beforehand to lie alike do not suffice. The chance is the share of liars among its proven workers, and the stake is conviction.
//! - The owner's own machine always decides between sides. Without it, the sides must have no instruction set in common, and the one
//!   that stays must be confirmed by somebody drawn afterwards.
//! - Who runs another instruction set than it claims, in a program that really is not deterministic, can have an honest dissenter
//!   convicted, if it is proven and is drawn. Only a proof of the machine could prevent that.
//! - When only machines of one instruction set vote on a unit, nothing shows that others would differ.
//!
//! A ballot is a vote together with what the owner knows about the voter at this moment. Nothing is decided anywhere else, and
//! nothing here remembers anything: whoever changes a vote or the standing of a voter calls `accept` again.

use super::{
    checkpoint::AUTHORS_MAX,
    ids::{Digest, PeerId, UnitIndex},
    job::Policy,
    outcome::Value,
    platform::{Platform, Platforms},
    trust::Prefix,
};
mod quarrel;
mod shares;

pub use quarrel::{JURY_LEAD, jurors_missing};
use quarrel::{adjudicate, jury_decided};
pub use shares::{Author, NOBODY};
use shares::{independent, without_contradicted_shares};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// Units that others must have verified before a peer is proven.
pub const PROVEN_UNITS: u64 = 20;
/// Below this many proven peers online, two equal newcomers' votes are shown as provisional.
pub const COLD_BELOW_PROVEN_PEERS: usize = 30;
/// So many newcomers who agree with one another are overruled by one proven voter more than two.
pub const NEWCOMERS_PER_PROVEN: usize = 3;
/// So many proven voters more it takes to overrule newcomers where some voters were seen to conspire.
pub const PROVEN_MORE_IN_COLLUSION: usize = 2;
/// The share of units that need one more vote, as long as nobody is caught. The policy strict asks for three of every unit, audited or not.
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
    /// Its dissent somewhere in this job may be its instruction set's doing: not counted; not compared, unless to convict it.
    Excused,
    /// Its instruction set is set aside for this job: not counted, not compared, never convicted.
    SetAside,
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
    /// From whose checkpoints its voter went on. The weight is the least of all of them.
    pub rests_on: [Option<Author>; AUTHORS_MAX],
}

/// What holds for the unit at hand.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Votes needed, see [`votes_needed`].
    pub need: usize,
    /// Fewer than [`COLD_BELOW_PROVEN_PEERS`] proven peers are online and nobody was seen to collude.
    pub provisional_allowed: bool,
    /// Two keys were seen to sign the same wrong value, and enough proven peers are online to be careful.
    pub collusion: bool,
    /// Jurors who were drawn for the unit and gave no answer: as if each had contradicted whichever side leads.
    pub absent: usize,
    /// Who could be asked whether an instruction set explains a dissent.
    pub reach: Reach,
}

/// Who is here to say what an instruction set makes of the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// The owner's own instruction set, while its machine runs units.
    pub owner: Option<Platform>,
    /// Of these a proven worker is attached that is independent of all who voted.
    pub at_hand: Platforms,
    /// Who is attached or has voted in this job, by instruction set in the order of [`Platform::ALL`].
    pub trusted: [Trusted; Platform::ALL.len()],
}

/// Workers of one instruction set whose votes count in this job. Where instruction sets disagree, that of more of the owner's own
/// devices and friends stays, and where that does not tell, that of more proven workers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Trusted {
    /// The owner's own devices and friends.
    pub anchors: u32,
    /// All who are proven, those included.
    pub proven: u32,
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
    /// Proven voters disagree: the owner runs it, or [`JURY_LEAD`] more of them than of the others say the same.
    Disputed,
    /// Exactly one more vote is wanted.
    Want(Voter),
    /// Machines of one instruction set say one thing, those of others another. Those are set aside for the whole job, and the unit is
    /// judged again.
    SetAside {
        /// Whose votes count no longer.
        platforms: Platforms,
        /// Whose stay.
        against: Platforms,
    },
}

/// Whose vote is wanted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Voter {
    /// Anyone's who is independent of those who voted.
    Anyone,
    /// A proven peer's, or the owner's.
    Proven,
    /// A proven peer's of this instruction set: does it explain a dissent?
    OnPlatform(Platform),
}

/// A decision, and what follows for the voters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// What becomes of the unit.
    pub decision: Decision,
    /// Voters proven wrong.
    pub convict: Vec<PeerId>,
    /// Voters whose dissent their instruction set could explain, and nobody of it is here to be asked: not convicted, and not counted
    /// anywhere in this job.
    pub excuse: Vec<PeerId>,
    /// Two keys signed the same wrong value.
    pub collusion: bool,
    /// Voters whom another proven voter, or the owner, backs. Empty unless accepted.
    pub credit: Vec<PeerId>,
}

/// Judges a unit by its ballots. In which order they are handed in, and how often, makes no difference.
pub fn accept(ballots: &[Ballot], rules: Rules) -> Judgement {
    let ballots = &*without_contradicted_shares(in_order(ballots));
    if let Some(owner) = ballots.iter().find(|ballot| ballot.weight == Weight::Owner) {
        return settle(ballots, owner.value, true, rules);
    }
    let values: BTreeSet<Value> = ballots.iter().filter(|ballot| is_live(ballot)).map(|ballot| ballot.value).collect();
    let held = |value: &&Value| ballots.iter().any(|ballot| ballot.value == **value && ballot.weight == Weight::Proven);
    let held: Vec<Value> = values.iter().filter(held).copied().collect();
    match (values.first(), values.len(), &held[..]) {
        (None, ..) => Judgement::of(Decision::Want(Voter::Anyone)),
        (Some(value), 1, _) => settle(ballots, *value, false, rules),
        (Some(_), _, []) => Judgement::of(Decision::Want(Voter::Proven)),
        (Some(_), _, [leader]) => match tally(ballots, *leader).proven {
            proven if proven < proven_against_newcomers(ballots, *leader, rules.collusion) => Judgement::of(Decision::Want(Voter::Proven)),
            _ => settle(ballots, *leader, false, rules),
        },
        (Some(_), _, several) => adjudicate(ballots, several, rules),
    }
}

/// How many proven voters overrule newcomers who all say something else: two, and one more for every three who agree with one another.
/// Two who conspire and meet by chance could else have a whole class of honest newcomers convicted; and where the newcomers are the
/// liars, three of them are convicted by one execution more. Where some are known to conspire it takes two more.
fn proven_against_newcomers(ballots: &[Ballot], leader: Value, collusion: bool) -> usize {
    let mut against: BTreeMap<Value, usize> = BTreeMap::new();
    let dissenting = ballots.iter().filter(|ballot| is_live(ballot) && ballot.value != leader);
    dissenting.for_each(|ballot| *against.entry(ballot.value).or_default() += 1);
    2 + against.into_values().max().unwrap_or(0) / NEWCOMERS_PER_PROVEN + if collusion { PROVEN_MORE_IN_COLLUSION } else { 0 }
}

/// The ballots in the order of their commitment, one of each worker: its first.
fn in_order(ballots: &[Ballot]) -> Cow<'_, [Ballot]> {
    let key = |ballot: &Ballot| (ballot.position, ballot.worker, ballot.ordinal, ballot.value, ballot.platform, ballot.rests_on);
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

/// Whether the ballot is compared with others.
fn is_live(ballot: &Ballot) -> bool {
    matches!(ballot.weight, Weight::Owner | Weight::Proven | Weight::Newcomer)
}

/// The unit's value is this one, if enough vote for it; what becomes of those who say something else.
fn settle(ballots: &[Ballot], value: Value, by_owner: bool, rules: Rules) -> Judgement {
    let Dissent { convict, excuse, open } = dissent(ballots, value, by_owner, rules.reach);
    let decision = match open {
        Some(open) => open,
        None if by_owner => Decision::Accept { value, by_owner },
        None => decide(value, tally(ballots, value), rules),
    };
    if !matches!(decision, Decision::Accept { .. }) {
        // Whoever contradicts is convicted when the unit has all the votes that it needs, not before: of two who conspire and met by
        // chance the next voter may be none.
        return Judgement { excuse, ..Judgement::of(decision) };
    }
    let (credit, collusion) = (backed_voters(ballots, value), same_wrong_value(ballots, value, &convict));
    Judgement { decision, convict, excuse, collusion, credit }
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

/// What follows for those who say something else than the value that stands.
#[derive(Default)]
struct Dissent {
    convict: Vec<PeerId>,
    excuse: Vec<PeerId>,
    /// What must happen before the unit is decided.
    open: Option<Decision>,
}

/// Nobody is convicted for what its instruction set could explain: only where the owner, or somebody proven, of the same one stands
/// behind the value. Where nobody does, one more of that instruction set is asked if one is at hand, and otherwise the voter is
/// excused. When one who was asked because of the quarrel sides with the dissenter, it is the instruction set that differs.
fn dissent(ballots: &[Ballot], value: Value, by_owner: bool, reach: Reach) -> Dissent {
    let loses = |ballot: &&Ballot| ballot.value != value && (is_live(ballot) || ballot.weight == Weight::Excused);
    let platforms: Platforms = ballots.iter().filter(loses).map(|ballot| ballot.platform).collect();
    let stands = |ballot: &&Ballot| ballot.value == value && is_live(ballot);
    let mut found = Dissent::default();
    for platform in platforms.iter() {
        let losers = || ballots.iter().filter(loses).filter(|ballot| ballot.platform == platform);
        let alike = || ballots.iter().filter(stands).filter(|ballot| ballot.platform == platform);
        if alike().any(|ballot| matches!(ballot.weight, Weight::Owner | Weight::Proven)) {
            found.convict.extend(losers().map(|ballot| ballot.worker));
            continue;
        }
        // Where the quarrel could be seen: behind the first of each side.
        let first = |position: Option<u32>| position.unwrap_or(0);
        let known_at =
            first(losers().map(|ballot| ballot.position).min()).max(first(ballots.iter().filter(stands).map(|b| b.position).min()));
        let agrees = |asked: &Ballot| losers().any(|other| other.value == asked.value && independent(other, asked));
        let asked = |ballot: &&Ballot| ballot.weight == Weight::Proven && ballot.ordinal > known_at && agrees(ballot);
        let differs = alike().next().is_none() && losers().any(|ballot| asked(&ballot));
        let owner = reach.owner.filter(|_| !by_owner);
        let open = if differs && owner.is_none() {
            let against = ballots.iter().filter(stands).map(|ballot| ballot.platform).collect();
            Some(Decision::SetAside { platforms: Platforms::from_iter([platform]), against })
        } else if differs {
            // The owner's machine is the best witness.
            Some(Decision::Disputed)
        } else if !losers().any(is_live) {
            None
        } else if reach.at_hand.contains(platform) {
            Some(Decision::Want(Voter::OnPlatform(platform)))
        } else {
            (owner == Some(platform)).then_some(Decision::Disputed)
        };
        match open {
            Some(open) => found.open = Some(found.open.unwrap_or(open)),
            None => found.excuse.extend(losers().filter(|ballot| is_live(ballot)).map(|ballot| ballot.worker)),
        }
    }
    found
}

/// Whether two of those convicted, now or before, said the same wrong thing.
fn same_wrong_value(ballots: &[Ballot], value: Value, convicted: &[PeerId]) -> bool {
    let mut said = BTreeSet::new();
    let caught = |ballot: &&Ballot| ballot.weight == Weight::Struck || convicted.contains(&ballot.worker);
    let wrong = |ballot: &&Ballot| ballot.value != value && !ballot.is_shared();
    ballots.iter().filter(caught).filter(wrong).any(|ballot| !said.insert(ballot.value))
}

impl Judgement {
    fn of(decision: Decision) -> Self {
        Self { decision, convict: Vec::new(), excuse: Vec::new(), collusion: false, credit: Vec::new() }
    }
}

/// Those voters for `value` who are backed by the owner, or by a proven voter that is independent of them: an accepted unit adds to
/// their records. Not those who went on from somebody else's checkpoint: they have computed a part of it.
pub fn backed_voters(ballots: &[Ballot], value: Value) -> Vec<PeerId> {
    let backs = |other: &Ballot, ballot: &Ballot| match other.weight {
        Weight::Owner => other.value == value,
        Weight::Proven => other.value == value && independent(other, ballot),
        Weight::Newcomer | Weight::Excused | Weight::SetAside | Weight::Struck => false,
    };
    let own = |ballot: &&Ballot| !ballot.is_shared() && matches!(ballot.weight, Weight::Proven | Weight::Newcomer);
    let voted = ballots.iter().filter(|ballot| ballot.value == value).filter(own);
    voted.filter(|ballot| ballots.iter().any(|other| backs(other, ballot))).map(|ballot| ballot.worker).collect()
}

/// Whether a voter keeps the credit that it once had for this unit, which is still accepted with `value`: its own vote still counts for
/// something, and so does that of another, independent of it, proven or not any more.
pub fn keeps_credit(ballots: &[Ballot], value: Value, voter: PeerId) -> bool {
    let mut agreeing = ballots.iter().filter(|ballot| ballot.value == value && is_live(ballot));
    let own = agreeing.clone().find(|ballot| ballot.worker == voter);
    own.is_some_and(|own| agreeing.any(|other| independent(own, other)))
}

/// How many votes for one value count, and how many of those are proven.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    counted: usize,
    proven: usize,
}

/// Counts the votes for `value` that are independent of one another: distinct key, network and lineage, and each leased only
/// after those counted before it were committed, so that no two voters could know that they hold the same unit. A jury need not be in
/// sequence.
fn tally(ballots: &[Ballot], value: Value) -> Tally {
    let counted = counted_ballots(ballots, value);
    let proven = counted.iter().filter(|&&at| ballots[at].weight == Weight::Proven).count();
    Tally { counted: counted.len(), proven }
}

/// Which of the ballots, which are in the order of their commitment, count for `value`.
pub fn counted_ballots(ballots: &[Ballot], value: Value) -> Vec<usize> {
    let mut counted: Vec<usize> = Vec::new();
    let by_jury = jury_decided(ballots, value, 0);
    for (at, ballot) in ballots.iter().enumerate() {
        if ballot.value != value || !is_live(ballot) {
            continue;
        }
        // As in `accept`, which leaves these out before it counts.
        if ballot.is_shared() && ballots.iter().any(|other| is_live(other) && other.value != value) {
            continue;
        }
        let in_sequence = |other: &Ballot| by_jury || ballot.anchor || other.anchor || ballot.ordinal > other.position;
        if counted.iter().map(|&other| &ballots[other]).all(|other| in_sequence(other) && independent(other, ballot)) {
            counted.push(at);
        }
    }
    counted
}

/// How sure `agreeing` independent votes make, where one in a hundred of all voters conspires with the others.
pub fn confidence(agreeing: usize) -> f64 {
    1.0 - 0.01f64.powf(agreeing as f64)
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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

#[cfg(test)]
#[path = "verify_properties.rs"]
mod properties;
