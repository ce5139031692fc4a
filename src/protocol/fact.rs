//! Facts: what is durable before anyone is told of it, and what a restarted peer is rebuilt from.
//!
//! A job's state is the set of its votes and the decisions made on them; leases are soft and never facts.

use super::{
    checkpoint::Authors,
    ids::{Attempt, JobId, PeerId, UnitIndex},
    job::Manifest,
    keeping::{Keepers, KeptJob},
    outcome::Value,
    platform::{Platform, Platforms},
    verify::AuditState,
};
use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

/// Something that must be durable before the actions after it are performed.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// A worker has vouched for a value. Never removed; a convicted worker's votes are struck by its standing.
    Vote(JobId, Vote),
    /// A unit's state of decision changed. The newest for a unit holds.
    Verdict(JobId, UnitIndex, Verdict),
    /// A unit's failed attempts; replaces what was said before.
    Failures(JobId, UnitIndex, Failures),
    /// A job's state changed.
    JobState(JobId, JobState),
    /// What the checks of a job have brought to light; replaces what was said before.
    Findings(JobId, Findings),
    /// Who keeps an own job, and how many should (at most [`super::keeping::KEEPERS_MAX`]); replaces what was said before.
    Keepers(JobId, u8, Keepers),
    /// What this peer has observed about another key; replaces what was said before.
    Standing(PeerId, Standing),
}

/// One receipt: a worker's word on a unit, with its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The unit.
    pub unit: UnitIndex,
    /// Who computed it.
    pub worker: PeerId,
    /// Which execution.
    pub attempt: Attempt,
    /// How many votes the unit had when the lease was issued. Counts only behind votes committed before that.
    pub ordinal: u32,
    /// Its place among the unit's votes, in the order in which the coordinator first took them: that of their commitment. Whoever
    /// merges votes from elsewhere keeps it; of two votes at one place neither is behind the other.
    pub position: u32,
    /// The instruction set that it was computed on, says the receipt.
    pub platform: Platform,
    /// What it computed.
    pub value: Value,
    /// Bytes of output.
    pub output_bytes: u64,
    /// How it came here.
    pub origin: Origin,
    /// Whose checkpoints it rests on besides its worker's own.
    pub rests_on: Authors,
    /// The signature and what is needed to check it; opaque here, checked at the border. Empty for this peer's own.
    pub proof: Arc<[u8]>,
}

/// How a vote came to the coordinator: whether it can know that its worker committed itself before it knew of other votes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Origin {
    /// The coordinator leased the unit, and took the vote itself.
    #[default]
    Leased,
    /// The coordinator leased the unit and lost the vote; its worker has said it again.
    Recovered {
        /// The output is here as well.
        output: bool,
    },
    /// A keeper leased the unit and took the vote, which its worker has signed.
    Collected {
        /// The output is here as well.
        output: bool,
    },
}

impl Origin {
    /// Whether the output came with the vote.
    pub fn has_output(self) -> bool {
        match self {
            Self::Leased => true,
            Self::Recovered { output } | Self::Collected { output } => output,
        }
    }

    /// Whether being backed by others speaks for the voter. Not where a keeper may have told it what the others said.
    pub fn earns_credit(self) -> bool {
        match self {
            Self::Leased | Self::Recovered { .. } => true,
            Self::Collected { .. } => false,
        }
    }
}

/// A decision on a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not decided, or re-opened.
    Open,
    /// Enough trusted votes agree.
    Verified {
        /// On this.
        value: Value,
        /// The owner's own machine computed or checked it.
        by_owner: bool,
    },
    /// The unit failed on enough machines without a value.
    Failed,
}

/// A unit's attempts that ended without a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// Why the last one failed.
    pub last: super::outcome::AttemptFailure,
}

/// What checking a job's units has brought to light.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// What the audit rate follows.
    pub audit: AuditState,
    /// Machines of different instruction sets disagree on what its units are.
    pub nondeterminism: Option<Nondeterminism>,
}

/// Machines of one instruction set agree with one another, and not with those of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nondeterminism {
    /// The first unit on which that was seen.
    pub unit: UnitIndex,
    /// Whose votes do not count any more in this job.
    pub set_aside: Platforms,
    /// Who they were compared with.
    pub against: Platforms,
}

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum JobState {
    /// Units are open.
    #[default]
    Running,
    /// Every unit is verified and succeeded.
    Done,
    /// Every unit is decided, and some failed.
    Failed,
    /// The owner stopped it.
    Cancelled,
    /// Its first units all failed, so the rest was not tried.
    Stopped,
}

impl JobState {
    /// Whether nothing more will be done unless the owner asks.
    pub fn has_ended(self) -> bool {
        self != Self::Running
    }
}

/// What one owner has itself observed about one worker. Never gossiped.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Standing {
    /// Units on which others, proven, backed it.
    pub verified_units: u64,
    /// Their gas.
    pub verified_gas: u64,
    /// Convictions.
    pub strikes: u32,
    /// Leases that ended without a result. Counted, never held against anybody's trust.
    pub drops: u32,
    /// Smoothed gas per second; zero while unknown.
    pub gas_per_second: f64,
    /// The owner's own device or its inviter, as it showed when it last said hello.
    pub anchor: bool,
    /// Its user marked it as a friend.
    pub friend: bool,
    /// The guest through whose invitation it came, if any.
    pub lineage: Option<PeerId>,
}

impl Standing {
    /// Whether its word is taken like the owner's devices': made so on purpose, and never caught.
    pub fn is_anchor(&self) -> bool {
        (self.anchor || self.friend) && self.strikes == 0
    }
}

/// One of this peer's own jobs as it was durable when the peer stopped.
#[derive(Clone, Debug)]
pub struct SavedJob {
    /// Its name.
    pub id: JobId,
    /// Its description.
    pub manifest: Manifest,
    /// The job secret: seeds audits and lease tokens.
    pub secret: [u8; 32],
    /// Where it stood.
    pub state: JobState,
    /// All votes, in any order: each names its place.
    pub votes: Vec<Vote>,
    /// The newest verdict of each unit that has one.
    pub verdicts: Vec<(UnitIndex, Verdict)>,
    /// Units with failed attempts.
    pub failures: Vec<(UnitIndex, Failures)>,
    /// What its checks have brought to light; none where that was never said.
    pub findings: Option<Findings>,
    /// How many should keep it, and who does. For a job that this peer adopted: as its author signed it last.
    pub keepers: (u8, Keepers),
}

/// What a restarted peer is rebuilt from.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// This peer's own jobs and those that it adopted (whose manifests name another owner), oldest first.
    pub jobs: Vec<SavedJob>,
    /// Jobs that it keeps for others, adopted or not.
    pub kept: Vec<KeptJob>,
    /// What is known about workers.
    pub standings: Vec<(PeerId, Standing)>,
    /// What is left of the quarantines of those convicted; one that is not named begins anew.
    pub quarantines: BTreeMap<PeerId, Duration>,
}
