//! One unit of an own job, and the sets of units that want something.

use crate::protocol::{
    checkpoint::Authors,
    fact::{Failures, Origin},
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    outcome::Value,
    platform::Platform,
    time::Instant,
    verify::{JobSecret, Voter},
};
use std::collections::BTreeSet;

/// A unit's state.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    pub phase: Phase,
    /// In the order of their commitment, one of each worker.
    pub votes: Vec<UnitVote>,
    /// Enough agree on what it is, and nobody has the output.
    pub output_wanted: bool,
    /// Leases that are out now.
    pub leased: u8,
    /// More agreed than had to, and nobody disagreed: see [`super::own_job::OwnJob::clean_audits`].
    pub clean_audit: bool,
    /// The author of the job, which is somebody else's, has decided it: it stands as it is, with no votes.
    pub by_author: bool,
    /// The number of the next attempt.
    pub next_attempt: u32,
}

/// How far a unit's verification has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// Not decided.
    #[default]
    Open,
    /// Was decided, until a contributor was caught or the audit rate rose.
    Reopened,
    /// Newcomers agree.
    Provisional(Value),
    /// Proven voters disagree.
    Disputed,
    /// Trusted votes agree.
    Verified { value: Value, by_owner: bool },
    /// It failed on enough machines.
    Failed,
}

impl Phase {
    pub fn is_decided(&self) -> bool {
        match self {
            Self::Verified { .. } | Self::Failed => true,
            Self::Open | Self::Reopened | Self::Provisional(_) | Self::Disputed => false,
        }
    }
}

/// A vote as the coordinator keeps it in memory; the proof is in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnitVote {
    pub worker: PeerId,
    pub ordinal: u32,
    pub position: u32,
    pub platform: Platform,
    pub value: Value,
    /// Bytes of output.
    pub output_bytes: u64,
    pub origin: Origin,
    /// Its worker was convicted after it was cast.
    pub struck: bool,
    /// Its worker's record includes it.
    pub credited: bool,
}

/// Failed attempts of a unit; most units have none.
#[derive(Clone, Debug)]
pub(super) struct FailureRecord {
    pub seen: Failures,
    /// How many of them on the owner's own machine, and not for a reason of that machine.
    pub own: u32,
    /// The proven peers who failed on it, each counted once; as many as are needed to say that the unit fails.
    pub proven: BTreeSet<PeerId>,
    /// When the last one was.
    pub last_at: Instant,
    /// Who failed on it, so that others are asked first; at most [`FAILED_WORKERS_KEPT`].
    pub workers: BTreeSet<PeerId>,
}

/// Enough to try other machines first. A unit on which so many failed, in twelve attempts or more, has failed for good.
pub(super) const FAILED_WORKERS_KEPT: usize = 16;

/// The units that want a vote and are not leased, by what they want. A unit is in at most one of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// All from here on were never leased.
    pub fresh: u32,
    /// A first vote, again.
    again: BTreeSet<UnitIndex>,
    /// Another vote of anyone independent.
    anyone: BTreeSet<UnitIndex>,
    /// A proven vote.
    proven: BTreeSet<UnitIndex>,
    /// A proven vote of one instruction set, in the order of [`Platform::ALL`].
    on_platform: [BTreeSet<UnitIndex>; Platform::ALL.len()],
    /// The owner's judgement.
    owner: BTreeSet<UnitIndex>,
}

/// One of the sets. What a unit wants says who may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Want {
    First,
    Another(Voter),
    /// Proven voters disagree: the owner's, or the votes of jurors.
    Owner,
}

impl Wanted {
    pub fn set(&self, want: Want) -> &BTreeSet<UnitIndex> {
        match want {
            Want::First => &self.again,
            Want::Another(Voter::Anyone) => &self.anyone,
            Want::Another(Voter::Proven) => &self.proven,
            Want::Another(Voter::OnPlatform(platform)) => &self.on_platform[platform as usize],
            Want::Owner => &self.owner,
        }
    }

    fn set_mut(&mut self, want: Want) -> &mut BTreeSet<UnitIndex> {
        match want {
            Want::First => &mut self.again,
            Want::Another(Voter::Anyone) => &mut self.anyone,
            Want::Another(Voter::Proven) => &mut self.proven,
            Want::Another(Voter::OnPlatform(platform)) => &mut self.on_platform[platform as usize],
            Want::Owner => &mut self.owner,
        }
    }

    /// Enters the unit in exactly this set.
    pub fn insert(&mut self, unit: UnitIndex, want: Want) {
        self.remove(unit);
        self.set_mut(want).insert(unit);
    }

    pub fn remove(&mut self, unit: UnitIndex) {
        for set in [&mut self.again, &mut self.anyone, &mut self.proven, &mut self.owner] {
            set.remove(&unit);
        }
        for set in &mut self.on_platform {
            set.remove(&unit);
        }
    }

    /// Units that wait for somebody who may go: one of an instruction set, or the owner.
    pub fn for_whom_is_here(&self) -> impl Iterator<Item = UnitIndex> {
        self.on_platform.iter().chain([&self.owner]).flatten().copied()
    }

    fn of_platforms(&self) -> usize {
        self.on_platform.iter().map(BTreeSet::len).sum()
    }

    /// How many have a vote and want another.
    pub fn awaiting(&self) -> u32 {
        (self.anyone.len() + self.proven.len() + self.owner.len() + self.of_platforms()) as u32
    }

    /// How many want a lease, the untouched included.
    pub fn len(&self, units: u32) -> usize {
        (units - self.fresh) as usize + self.again.len() + self.awaiting() as usize
    }
}

/// A lease's token: only the owner can make it, and it names everything that the owner must be able to believe later, also
/// after a restart that forgot the lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseToken(pub [u8; 16]);

impl LeaseToken {
    /// The token of the lease of `unit` to `worker`.
    pub fn make(secret: &JobSecret, job: JobId, unit: UnitIndex, attempt: Attempt, ordinal: u32, worker: PeerId) -> Self {
        let numbers = [unit.0.to_le_bytes(), attempt.0.to_le_bytes(), ordinal.to_le_bytes()];
        let digest = Digest::of_parts(&[&secret.0, b"lease", job.as_bytes(), numbers.as_flattened(), worker.as_bytes()]);
        let mut token = [0; 16];
        token.copy_from_slice(&digest.0[..16]);
        Self(token)
    }

    /// The same of a lease that goes on from checkpoints of these; itself where there are none.
    #[must_use]
    pub fn resting_on(self, secret: &JobSecret, authors: Authors) -> Self {
        if authors.is_empty() {
            return self;
        }
        let digest = Digest::of_parts(&[&secret.0, b"resting", &self.0, &authors.to_bytes()]);
        let mut token = [0; 16];
        token.copy_from_slice(&digest.0[..16]);
        Self(token)
    }
}
