//! Keeping: a job outlives its submitter.
//!
//! The *author* of a job (whose key signed the manifest, and who coordinates it normally) chooses *keepers* among the workers that it
//! trusts most. The shell copies to each of them whatever is durable about the job, and lets no worker forget an outcome before its
//! live keepers have it too. A keeper that hears no coordinator of the job for a while *adopts* it: it leases what is undecided under
//! its own name, judges with its own trust, and believes no vote that it did not see (the author's decisions stand as they are). When
//! the author is back it *recalls* the job: the keeper stops, hands back the votes it took, and the author merges and judges them
//! (`owner/merge.rs`). Two coordinators at once cost executions, never a wrong or a lost result, so nothing here needs consensus.
//!
//! The list of keepers is signed by the author: workers take leases of a job only from its author or from somebody on that list.

use super::{
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
