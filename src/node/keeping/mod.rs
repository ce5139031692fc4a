//! Keepers of own jobs, and jobs that are kept for others: the shell's part of [`crate::protocol::keeping`].
//!
//! `gather` binds together what is durable, and `pace` says how far a keeper is behind. `author` sends it to the keepers, holds
//! acknowledgements back until they have it too, and takes in what they hand back. `keeper` checks and stores what authors send, and
//! `adopting` loads a job whose author is not heard any more; `room` says what they may take of the disk, and what goes. `copying`
//! reads jobs page by page; `outbox` is what waits for a stream; `reading` answers whoever may read a job's results.

pub(super) mod adopting;

pub(super) mod author;

pub(super) mod copying;

mod gather;

pub(super) mod keeper;

mod outbox;

mod pace;

pub(super) mod reading;

mod room;

use super::run_loop::Node;
use crate::{
    protocol::{
        ids::{JobId, PeerId},
        peer::Event,
    },
    store::Write,
};
use adopting::Loaded;
use author::Keepers;
use keeper::Authors;
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// The most votes on each unit of a job that come on one stream, from its author or back from a keeper: more than any unit gets, even
/// before a jury.
const VOTES_OF_UNIT_MAX: u64 = 64;
/// How often an author says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether a keeper lags.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Both sides of keeping.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Peers that keep own jobs.
    pub keepers: Keepers,
    /// Peers whose jobs are kept here.
    pub authors: Authors,
    /// To be made durable with this turn's facts.
    writes: Vec<Write>,
    /// Jobs to be removed, behind those facts: none of them is about a job that is gone.
    removals: Vec<Write>,
    /// To be done when that is durable.
    after: Vec<After>,
    /// When it is to be looked after next.
    due: Option<Instant>,
    /// What takes apart jobs whose authors have gone: they may be adopted soon.
    unbinding: JoinSet<()>,
    /// Jobs that are being loaded, to be adopted: few, since the core adopts few.
    loading: JoinSet<Loaded>,
}

/// What follows when something is durable.
#[derive(Debug)]
pub(super) enum After {
    /// Tell an author up to which number everything is durable.
    Acknowledge { author: PeerId, job: JobId, number: u64 },
    /// See what is missing of a copy that has ended.
    Complete { author: PeerId, job: JobId },
    /// Fetch large blobs of a job, as far as they are not here.
    Fetch { author: PeerId, job: JobId, blobs: Vec<crate::protocol::ids::Digest> },
    /// Tell an author that its job is kept, and the core.
    Accept { author: PeerId, job: JobId },
    /// Load what is kept of a job that is adopted from now on, for the core.
    Load(JobId),
    /// Hand votes back to the author.
    HandBack { author: PeerId, job: JobId },
    /// Tell the core.
    Tell(Box<Event>),
}

impl Keeping {
    /// Whether nothing waits for a commit.
    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.removals.is_empty() && self.after.is_empty()
    }

    /// What is to be written before this turn's facts.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// What is to be written behind them.
    pub fn take_removals(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.removals)
    }

    /// Waits for a job that is being loaded; for ever where none is.
    pub async fn loaded(&mut self) -> Loaded {
        loop {
            match self.loading.join_next().await {
                Some(Ok(loaded)) => return loaded,
                Some(Err(error)) => tracing::error!(%error, "a kept job was not loaded"),
                None => core::future::pending().await,
            }
        }
    }

    /// When it is to be looked after, if ever.
    pub fn due(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.keepers.due()).min()
    }

    /// Whether a stream has room for what waits.
    pub fn is_waiting(&self) -> bool {
        self.keepers.is_waiting() || self.authors.is_waiting()
    }
}

impl Node {
    /// Does what follows from this turn's commit, as far as it is about keeping.
    pub(super) fn after_commit(&mut self) {
        for after in std::mem::take(&mut self.keeping.after) {
            match after {
                After::Acknowledge { author, job, number } => self.acknowledge_author(author, job, number),
                After::Complete { author, job } => self.complete_copy(author, job),
                After::Fetch { author, job, blobs } => self.fetch_for_kept(author, job, blobs),
                After::Accept { author, job } => self.accept(author, job),
                After::Load(job) => self.load_adopted(job),
                After::HandBack { author, job } => self.begin_hand_back(author, job),
                After::Tell(event) => self.event(*event),
            }
        }
    }

    /// Moves on what waits for streams, says that this author is there, and gives up keepers that lag.
    pub(super) fn look_after_keeping(&mut self) {
        self.send_due();
        self.pump_keepers();
        self.pump_authors();
        let now = Instant::now();
        if self.keeping.due.is_none_or(|due| due <= now) {
            self.look_at_keepers(now.into_std());
            self.keeping.due = (!self.keeping.keepers.is_empty()).then(|| now + LOOK_EVERY);
        }
    }
}
