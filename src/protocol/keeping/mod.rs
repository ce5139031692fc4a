//! Keeping: a job outlives its submitter.
//!
//! The *author* of a job (whose key signed the manifest, and who coordinates it normally) chooses *keepers* among the workers that it
//! trusts most. The shell copies to each of them whatever is durable about the job, and lets no worker forget an outcome before its
//! live keepers have it too. A keeper that hears no coordinator of the job for a while *adopts* it: it leases what is undecided under
//! its own name, judges with its own trust, and believes of what the author collected only what its workers signed (the author's decisions
//! stand as they are, as its word). When
//! the author is back it *recalls* the job: the keeper stops, hands back the votes it took, and the author merges and judges them
//! (`owner/merge.rs`). Two coordinators at once cost executions, never a wrong or a lost result, so nothing here needs consensus.
//!
//! The list of keepers is signed by the author: workers take leases of a job only from its author or from somebody on that list.

mod author;
mod keeper;

pub use author::Author;
pub use keeper::{Heard, Keeper};

use super::{
    fact::Fact,
    ids::{JobId, PeerId},
    job::Manifest,
};
use core::time::Duration;
use std::sync::Arc;

/// Keepers of a job unless its owner says otherwise, where peers suffice: one may die with the author.
pub const KEEPERS_DEFAULT: u8 = 2;
/// The most keepers of a job: each costs the author the upload of everything.
pub const KEEPERS_MAX: u8 = 3;
/// How long the keeper of rank 0 hears no coordinator before it adopts the job; one of rank `n` waits `n + 1` times as long.
pub const SILENCE: Duration = Duration::from_secs(60);
/// The most jobs that a peer keeps for others: memory and attention, beside the disk quota that the shell minds.
pub const KEPT_JOBS_MAX: usize = 256;
/// The most of one author, so that none takes all places.
pub const KEPT_JOBS_PER_AUTHOR_MAX: usize = 32;

/// The most jobs of others that a peer coordinates at a time, since each is as much work for it as an own one.
pub const ADOPTED_JOBS_MAX: usize = 16;
/// The most of one author.
pub const ADOPTED_JOBS_PER_AUTHOR_MAX: usize = 8;
/// The most units that adopted jobs have in all, at some 400 bytes of memory each once they have votes. A larger job is adopted when
/// nothing else is.
pub const ADOPTED_UNITS_MAX: u32 = 1 << 20;

/// Who keeps a job, as its author has signed it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keepers {
    /// Grows with every list; the newest holds.
    pub version: u32,
    /// By rank: the first adopts first. At most [`KEEPERS_MAX`], all different.
    pub peers: Vec<PeerId>,
}

/// A job that this peer keeps for somebody else.
#[derive(Clone, PartialEq, Debug)]
pub struct KeptJob {
    /// Its name.
    pub id: JobId,
    /// Its description, whose owner is the author.
    pub manifest: Arc<Manifest>,
    /// Who else keeps it.
    pub keepers: Keepers,
    /// This peer has adopted it, and coordinates it.
    pub adopted: bool,
    /// It has ended, and nothing more is to be adopted.
    pub ended: bool,
}

/// Why this peer does not keep a job for somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeepRefused {
    /// It lends nothing, or nothing now.
    #[error("this peer lends nothing now")]
    NotLending,
    /// It is the author.
    #[error("the job is this peer's own")]
    OwnJob,
    /// It keeps [`KEPT_JOBS_MAX`] already.
    #[error("{KEPT_JOBS_MAX} jobs are kept already")]
    TooMany,
    /// It keeps [`KEPT_JOBS_PER_AUTHOR_MAX`] of this author already.
    #[error("{KEPT_JOBS_PER_AUTHOR_MAX} jobs of this author are kept already")]
    TooManyOfAuthor,
}

/// What an author wants done about its keepers, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Make durable before anything that follows.
    Persist(Fact),
    /// Ask a peer to keep a job, or tell it of a new list.
    Keep {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
        /// The list.
        keepers: Keepers,
    },
    /// It keeps the job no more.
    Dismiss {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
    },
    /// Ask a keeper what it has collected.
    Recall {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
    },
    /// Every keeper has handed back the job, or cannot: it may be leased.
    Lease(JobId),
    /// A keeper that may have gone on with the job cannot be asked: ask the workers.
    AskWorkers(JobId),
}

/// Both sides of keeping.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// For the jobs of this peer.
    pub author: Author,
    /// For those of others.
    pub keeper: Keeper,
}

impl Keeping {
    /// For each keeper of an own job, whether it holds all that is durable so far: with one that does the author may leave.
    pub fn keepers(&self, job: JobId) -> Vec<(PeerId, bool)> {
        self.author.keepers(job)
    }

    /// Whether this peer would keep a job of this author: asked before an offer is accepted.
    ///
    /// # Errors
    /// Why not.
    pub fn may_keep(&self, author: PeerId, job: JobId) -> Result<(), KeepRefused> {
        self.keeper.may_keep(author, job)
    }

    /// The jobs that this peer keeps for others and that have not ended.
    pub fn kept(&self) -> impl Iterator<Item = &KeptJob> {
        self.keeper.kept()
    }
}

#[cfg(test)]
mod tests;
