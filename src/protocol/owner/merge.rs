//! Votes that this coordinator did not take itself: collected by a keeper while it was away, or said again by their workers after it
//! has lost them.
//!
//! The border has checked every signature. What a keeper says beyond that (in which order votes came, whom it leased what) is only
//! its word: it can neither add a vote that nobody signed nor make two votes independent that are not, since key, network, lineage and
//! record are looked at here and now. What it can do is let conspirators know of one another. So units that rest on such votes are
//! audited twice as often as others (which the policies economy and strict do not need), and nobody's record grows by those that a
//! keeper collected.

use super::{
    LeaseToken, Owner, OwnerAction,
    own_job::OwnJob,
    unit::{Unit, UnitVote},
};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Fact, Origin, Vote},
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::Value,
    platform::Platform,
    time::Instant,
    verify::{Decision, Voter},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The least share of units that are audited among those that rest on votes which this coordinator did not take itself.
pub const COLLECTED_AUDIT_RATE: f64 = 0.10;
/// The most votes that a unit takes from elsewhere, so that whoever makes up keys and signs with them fills no memory. Three are the
/// rule for a unit that is audited.
pub const VOTES_PER_UNIT_MAX: usize = 32;
/// The last place that a vote from elsewhere may claim among a unit's votes. A higher one would leave no place behind it.
pub const POSITION_MAX: u32 = 1024;
/// The last attempt that a vote from elsewhere may claim to be. The next lease gets a higher number than all, and none may run out of
/// numbers: two leases of one number are one.
pub const ATTEMPT_MAX: u32 = 1 << 24;

/// A vote that somebody else has taken, and what is here of its output.
#[derive(Clone, PartialEq, Debug)]
pub struct Collected {
    /// The vote; what it says of its origin does not matter.
    pub vote: Vote,
    /// What is here of its output.
    pub output: Output,
}

/// What is here of an output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// It is held as a blob.
    Held,
    /// It came with the vote; its digest was checked.
    Bytes(Arc<[u8]>),
    /// Nothing: the unit is computed once more for it.
    Missing,
}

/// A vote that its worker says again, with the token of its lease.
#[derive(Clone, PartialEq, Debug)]
pub struct Recovered {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// From the lease: shows that this coordinator asked for it.
    pub token: LeaseToken,
    /// From the lease.
    pub rests_on: Authors,
    /// What it computed.
    pub value: Value,
    /// Bytes of output.
    pub output_bytes: u64,
    /// What is here of the output.
    pub output: Output,
    /// The instruction set that its receipt names.
    pub platform: Platform,
    /// The signature and what is needed to check it.
    pub proof: Arc<[u8]>,
}

/// What became of votes from elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// New here.
    pub taken: u32,
    /// Known already.
    pub known: u32,
    /// Not taken, by reason.
    pub refused: BTreeMap<MergeRejected, u32>,
}

/// Why a vote from elsewhere is not taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum MergeRejected {
    /// No such job here.
    #[error("no such job")]
    UnknownJob,
    /// The job has no such unit.
    #[error("no such unit")]
    UnknownUnit,
    /// It is said to be this machine's own, which keeps its own.
    #[error("a vote in the name of this machine")]
    InOwnName,
    /// Nobody has signed it.
    #[error("nobody has signed it")]
    Unsigned,
    /// It claims to have been leased behind votes that came after it, or a place or an attempt that no unit has.
    #[error("it claims an impossible place among the votes or attempts")]
    Implausible,
    /// The unit has enough votes from elsewhere.
    #[error("too many votes from elsewhere on one unit")]
    TooMany,
    /// The token is not that of a lease of this unit to this worker.
    #[error("the unit was not leased to this worker")]
    NotLeased,
    /// Its worker says something else here. It was convicted if that proves a lie.
    #[error("its worker has said something else before")]
    Contradicts,
}

impl Merged {
    fn note(&mut self, taken: Result<Option<UnitIndex>, MergeRejected>, touched: &mut BTreeSet<UnitIndex>) {
        match taken {
            Ok(Some(unit)) => {
                self.taken += 1;
                touched.insert(unit);
            }
            Ok(None) => self.known += 1,
            Err(reason) => *self.refused.entry(reason).or_default() += 1,
        }
    }
}

impl Owner {
    /// Takes in votes on a job of this coordinator that a keeper has collected, in the order given. Those known already change
    /// nothing, so lists of several keepers may overlap, and the same list may come twice.
    pub fn merge(&mut self, now: Instant, id: JobId, votes: Vec<Collected>) -> Merged {
        let (mut merged, mut touched) = (Merged::default(), BTreeSet::new());
        for Collected { vote, output } in votes {
            let vote = Vote { origin: Origin::Collected { output: output != Output::Missing }, ..vote };
            let taken = self.check_collected(id, &vote).and_then(|()| self.take_vote(now, id, vote, output));
            merged.note(taken, &mut touched);
        }
        self.judge_all(now, touched.into_iter().map(|unit| (id, unit)).collect());
        merged
    }

    /// Takes in votes that their worker says again. Only what this coordinator leased to it is taken.
    pub fn recover(&mut self, now: Instant, from: PeerId, id: JobId, receipts: Vec<Recovered>) -> Merged {
        let (mut merged, mut touched) = (Merged::default(), BTreeSet::new());
        for receipt in receipts {
            let taken = self.check_recovered(id, from, &receipt).and_then(|(position, own)| {
                let Recovered { unit, attempt, ordinal, token: _, rests_on, value, output_bytes, output, platform, proof } = receipt;
                let output_held = output != Output::Missing;
                let origin = if own { Origin::Recovered { output: output_held } } else { Origin::Collected { output: output_held } };
                let vote = Vote { unit, worker: from, attempt, ordinal, position, platform, value, output_bytes, origin, rests_on, proof };
                self.take_vote(now, id, vote, output)
            });
            merged.note(taken, &mut touched);
        }
        if merged.taken > 0 {
            self.prolong_recovery(now, id);
        }
        self.judge_all(now, touched.into_iter().map(|unit| (id, unit)).collect());
        merged
    }

    /// Whether a receipt of this worker would be taken: asked before a large output of it is fetched.
    pub fn may_recover(&self, from: PeerId, id: JobId, receipt: &Recovered) -> Result<(), MergeRejected> {
        self.check_recovered(id, from, receipt).map(drop)
    }

    fn check_collected(&self, id: JobId, vote: &Vote) -> Result<(), MergeRejected> {
        let job = self.jobs.get(&id).ok_or(MergeRejected::UnknownJob)?;
        job.unit(vote.unit).ok_or(MergeRejected::UnknownUnit)?;
        if vote.worker == self.me {
            return Err(MergeRejected::InOwnName);
        }
        if !is_possible(vote) {
            return Err(MergeRejected::Implausible);
        }
        Ok(())
    }

    /// The place of a vote that its worker says again. Its ordinal is this coordinator's own word: so many votes there were when it was
    /// leased. Where leases overlapped, whichever comes first now is taken for the first then. What another coordinator of the job has
    /// leased (the second of the pair is false then) is taken like what a keeper has collected, where that may be.
    fn check_recovered(&self, id: JobId, from: PeerId, receipt: &Recovered) -> Result<(u32, bool), MergeRejected> {
        let Recovered { unit, attempt, ordinal, token, .. } = *receipt;
        let job = self.jobs.get(&id).ok_or(MergeRejected::UnknownJob)?;
        let known = job.unit(unit).ok_or(MergeRejected::UnknownUnit)?;
        if from == self.me {
            return Err(MergeRejected::InOwnName);
        }
        let own = token == LeaseToken::make(&job.secret, id, unit, attempt, ordinal, from).resting_on(&job.secret, receipt.rests_on);
        match own {
            true => {}
            false if !self.recovers_from_elsewhere(id) => return Err(MergeRejected::NotLeased),
            false if ordinal.max(known.next_position()) > POSITION_MAX || attempt.0 > ATTEMPT_MAX => {
                return Err(MergeRejected::Implausible);
            }
            false => {}
        }
        let is_free = known.votes.iter().all(|vote| vote.position != ordinal);
        Ok((if is_free { ordinal } else { known.next_position() }, own))
    }

    /// Records a vote; the unit when it is new.
    fn take_vote(&mut self, now: Instant, id: JobId, vote: Vote, output: Output) -> Result<Option<UnitIndex>, MergeRejected> {
        let (unit, worker) = (vote.unit, vote.worker);
        if vote.proof.is_empty() {
            return Err(MergeRejected::Unsigned);
        }
        let Some(job) = self.jobs.get_mut(&id) else { return Err(MergeRejected::UnknownJob) };
        if job.unit(unit).is_some_and(|unit| unit.by_author) {
            return Ok(None);
        }
        let foreign = job.is_foreign();
        let votes = job.unit(unit).map(|unit| &*unit.votes).unwrap_or_default();
        match votes.iter().find(|known| known.worker == worker).map(|known| (known.value, known.struck)) {
            Some((value, _)) if value == vote.value => return Ok(None),
            Some((_, struck)) => {
                let rests = !vote.rests_on.is_empty() || job.rests.contains_key(&(unit, worker));
                if foreign {
                    self.bar_now(now, id, worker);
                } else if !struck && !rests {
                    self.accuse(worker, id, unit, Some(vote));
                    self.convict_now(now, worker);
                }
                return Err(MergeRejected::Contradicts);
            }
            None => {}
        }
        if votes.iter().filter(|known| known.origin != Origin::Leased).count() >= VOTES_PER_UNIT_MAX {
            return Err(MergeRejected::TooMany);
        }
        // A vote of someone who was convicted meanwhile is kept as evidence, and struck.
        let struck = self.is_vote_struck(worker, vote.rests_on, now);
        let Some(job) = self.jobs.get_mut(&id) else { return Err(MergeRejected::UnknownJob) };
        job.push_vote(&vote, struck);
        let superseded = if job.juries.has(unit) { 0 } else { self.leases.supersede(id, unit) };
        let leased = &mut job.units[unit.0 as usize].leased;
        *leased = leased.saturating_sub(superseded);
        if self.trust.lineage_is_due(worker) {
            self.touched.insert(worker);
        }
        let bytes = match output {
            Output::Held | Output::Missing => None,
            Output::Bytes(bytes) => Some(bytes),
        };
        self.actions.push(OwnerAction::KeepOutput { job: id, digest: vote.value.output, bytes });
        self.actions.push(OwnerAction::Persist(Fact::Vote(id, vote)));
        Ok(Some(unit))
    }

    /// A worker computes once more what it or others said before, since nobody had the output any more.
    pub(super) fn on_output_again(&mut self, id: JobId, from: PeerId, unit: UnitIndex, value: Value, bytes: Option<Arc<[u8]>>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(known) = job.units.get_mut(unit.0 as usize) else { return };
        let said = |vote: &&mut UnitVote| vote.worker == from && vote.value == value && !vote.origin.has_output();
        if let Some(vote) = known.votes.iter_mut().find(said) {
            vote.origin = match vote.origin {
                Origin::Leased => Origin::Leased,
                Origin::Recovered { .. } => Origin::Recovered { output: true },
                Origin::Collected { .. } => Origin::Collected { output: true },
            };
            self.actions.push(OwnerAction::KeepOutput { job: id, digest: value.output, bytes });
        }
    }
}

/// Whether a vote that somebody else has taken claims no place and no attempt that it cannot have had.
pub(super) fn is_possible(vote: &Vote) -> bool {
    vote.ordinal <= vote.position && vote.position <= POSITION_MAX && vote.attempt.0 <= ATTEMPT_MAX
}

impl OwnJob {
    /// The least audit rate of a unit: higher where it rests on votes that came from elsewhere.
    pub(super) fn audit_floor(&self, index: UnitIndex) -> f64 {
        let elsewhere = |vote: &UnitVote| !vote.struck && vote.origin != Origin::Leased;
        let rests = self.unit(index).is_some_and(|unit| unit.votes.iter().any(elsewhere));
        if rests { COLLECTED_AUDIT_RATE } else { 0.0 }
    }

    /// A unit whose output nobody has is not verified: one more execution is wanted, for its sake.
    pub(super) fn with_output(&mut self, index: UnitIndex, decision: Decision) -> Decision {
        let unit = &mut self.units[index.0 as usize];
        unit.output_wanted = match decision {
            Decision::Accept { value, by_owner: false } => !unit.has_output_of(value),
            Decision::Accept { .. } | Decision::Provisional { .. } | Decision::Disputed | Decision::SetAside { .. } | Decision::Want(_) => {
                false
            }
        };
        if unit.output_wanted { Decision::Want(Voter::Anyone) } else { decision }
    }
}

impl Unit {
    fn has_output_of(&self, value: Value) -> bool {
        self.votes.iter().any(|vote| vote.value == value && vote.origin.has_output())
    }
}
