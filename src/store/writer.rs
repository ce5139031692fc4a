//! The one thread that writes. It owns the connection, takes requests in their order and merges those that wait into one
//! transaction, so that a thousand small commits cost one flush of the disk.
//!
//! A transaction that fails is taken back as a whole, files included; when several requests shared it, each is tried again by
//! itself, so that nobody pays for another's mistake.

use super::{
    apply::{Change, Done},
    error::StoreError,
    fault::{self, Place as FaultPlace},
    files::Files,
    schema,
};
use crate::protocol::ids::{Digest, JobId, PeerId, UnitIndex};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait; then those who commit wait too.
pub(super) const QUEUE_MAX: usize = 1024;
/// Changes that share a transaction: about 0.1 s of work, so that nobody waits for long.
const GROUP_MAX: usize = 16_384;
/// Rows of each table that are swept away between two groups.
const SWEEP_MAX: i64 = 4096;
/// Blobs whose use is remembered between two groups; the use of more is forgotten, which only blurs what is evicted first.
const TOUCHED_MAX: usize = 4096;

/// Damaged blobs that are remembered until somebody asks; more are found again when they are next read.
const DAMAGED_MAX: usize = 1024;

/// Changes that happen together, and where to say how it went.
pub(super) struct Request {
    pub changes: Vec<Change>,
    pub reply: oneshot::Sender<Result<Done, StoreError>>,
}

impl Request {
    fn answer(self, done: Result<Done, StoreError>) {
        // Staged files that were not needed are gone before anybody hears of it.
        drop(self.changes);
        // A reply that nobody waits for any more is dropped.
        drop(self.reply.send(done));
    }
}

/// What others leave for the writer to see to when it comes around; bounded by their own number or by a limit.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    touched: Mutex<BTreeSet<Digest>>,
    abandoned: Mutex<Vec<i64>>,
    damage: Mutex<Option<StoreError>>,
    damaged_blobs: Mutex<Vec<Digest>>,
    /// Something is in one of the last two, so that looking for it costs nothing.
    is_damaged: AtomicBool,
}

impl Mailbox {
    /// Notes that a blob was used.
    pub(super) fn touch(&self, digest: Digest) {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.len() < TOUCHED_MAX {
            touched.insert(digest);
        }
    }

    /// Notes a failure that means that the database is damaged; the first one is kept.
    pub(super) fn note_damage(&self, error: &StoreError) {
        if matches!(error, StoreError::Damaged { .. } | StoreError::BadRow { .. }) {
            self.damage.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
            self.is_damaged.store(true, Ordering::Release);
        }
    }

    /// The first such failure.
    pub(super) fn damage(&self) -> Option<StoreError> {
        if !self.is_damaged.load(Ordering::Acquire) {
            return None;
        }
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a blob was not what its digest says.
    pub(super) fn note_damaged_blob(&self, digest: Digest) {
        let mut damaged = self.damaged_blobs.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_MAX && !damaged.contains(&digest) {
            damaged.push(digest);
            self.is_damaged.store(true, Ordering::Release);
        }
    }

    /// Those blobs, once.
    pub(super) fn take_damaged_blobs(&self) -> Vec<Digest> {
        if !self.is_damaged.load(Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.damaged_blobs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that a submission was given up.
    pub(super) fn abandon(&self, draft: i64) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(draft);
    }
}

/// A job's number, and those of its next vote and its next sheaf.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub number: i64,
    pub next_vote: u32,
    pub next_sheaf: u32,
}

/// What has happened to files in the current transaction, and what follows once it is durable.
#[derive(Default)]
pub(super) struct Pending {
    /// Files moved to their place, from where.
    pub placed: BTreeMap<Digest, PathBuf>,
    /// Files whose rows are gone.
    pub removed: BTreeSet<Digest>,
    /// Numbers whose rows belong to no job any more.
    pub garbage: Vec<i64>,
    /// Submissions that ended.
    pub closed: Vec<i64>,
}

/// The writer's state.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) files: Arc<Files>,
    /// Own jobs that were written about; refilled from the database after a failure.
    pub(super) places: BTreeMap<JobId, Place>,
    /// The number of a job whose sheaves are being taken apart, and who has voted on what of it.
    pub(super) voters: Option<(i64, BTreeSet<(UnitIndex, PeerId)>)>,
    pub(super) pending: Pending,
    /// Submissions under way; what arrives late for others is refused, so that nothing is left behind their sweeping.
    pub(super) live: BTreeSet<i64>,
    /// Bytes of blobs that no job pins, and how many there may be.
    pub(super) unpinned_bytes: u64,
    pub(super) quota_bytes: u64,
    /// Bytes of kept receipts.
    pub(super) kept_bytes: u64,
    /// Grows with each use of a blob.
    pub(super) clock: i64,
    mailbox: Arc<Mailbox>,
    garbage: VecDeque<i64>,
    may_sweep: bool,
}

impl Writer {
    pub(super) fn new(connection: Connection, files: Arc<Files>, mailbox: Arc<Mailbox>, quota_bytes: u64) -> Result<Self, StoreError> {
        // No submission survives a restart, and what was being swept still is.
        let garbage =
            connection.prepare("SELECT number FROM draft ORDER BY number")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let clock = connection.query_row("SELECT ifnull(max(used), 0) FROM blob", [], |row| row.get(0))?;
        let (places, pending, live) = (BTreeMap::new(), Pending::default(), BTreeSet::new());
        let mut writer = Self {
            connection,
            files,
            places,
            voters: None,
            pending,
            live,
            unpinned_bytes: 0,
            kept_bytes: 0,
            quota_bytes,
            clock,
            mailbox,
            garbage,
            may_sweep: true,
        };
        writer.count_unpinned()?;
        Ok(writer)
    }

    /// Serves requests until nobody can make any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        loop {
            let sweeps = self.may_sweep && !self.garbage.is_empty();
            let first = if sweeps {
                match queue.try_recv() {
                    Ok(request) => Some(request),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                }
            } else {
                match queue.blocking_recv() {
                    Some(request) => Some(request),
                    None => break,
                }
            };
            if let Some(first) = first {
                self.may_sweep = true;
                self.serve(first, &mut queue);
            }
            let abandoned = std::mem::take(&mut *self.mailbox.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
            self.live.retain(|draft| !abandoned.contains(draft));
            self.garbage.extend(abandoned);
            if self.may_sweep && self.sweep().is_err() {
                // Probably the disk is full or broken: it is tried again after the next request.
                self.may_sweep = false;
            }
        }
    }

    fn serve(&mut self, first: Request, queue: &mut mpsc::Receiver<Request>) {
        let mut changes = first.changes.len();
        let mut group = vec![first];
        while changes < GROUP_MAX && group.len() < QUEUE_MAX {
            let Ok(next) = queue.try_recv() else { break };
            changes += next.changes.len();
            group.push(next);
        }
        if let Ok(done) = self.transact(group.iter().map(|request| &*request.changes)) {
            group.into_iter().zip(done).for_each(|(request, done)| request.answer(Ok(done)));
            return;
        }
        for request in group {
            let done = self.transact([&*request.changes].into_iter()).map(|mut done| done.pop().expect("one request, one reply"));
            request.answer(done);
        }
    }

    /// One transaction: all of it is durable afterwards, or nothing of it is there.
    fn transact<'a>(&mut self, requests: impl Iterator<Item = &'a [Change]>) -> Result<Vec<Done>, StoreError> {
        let result = self.attempt(requests);
        let pending = std::mem::take(&mut self.pending);
        match &result {
            Ok(_) => {
                // A removal that fails leaves a stray, which is none here.
                drop(fault::pass(FaultPlace::BeforeRemoval));
                for digest in pending.removed {
                    // One that stays is found when the directory is next compared with the database.
                    drop(fs::remove_file(self.files.blob(digest)));
                }
                self.live.retain(|draft| !pending.closed.contains(draft));
                self.garbage.extend(pending.garbage);
            }
            Err(error) => {
                self.mailbox.note_damage(&error.clone().in_database(&self.files.database()));
                self.take_back(pending);
            }
        }
        self.files.note(result.map_err(|error| error.in_database(&self.files.database())))
    }

    fn attempt<'a>(&mut self, requests: impl Iterator<Item = &'a [Change]>) -> Result<Vec<Done>, StoreError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut done = vec![];
        for changes in requests {
            let mut last = Done::default();
            for change in changes {
                last = self.apply(change)?;
            }
            done.push(last);
        }
        self.note_uses()?;
        self.evict()?;
        let folders: BTreeMap<u8, Digest> = self.pending.placed.keys().map(|digest| (digest.0[0], *digest)).collect();
        if !folders.is_empty() {
            fault::pass(FaultPlace::BlobPlaced).map_err(|error| StoreError::io("sync", self.files.database())(error))?;
        }
        folders.into_values().try_for_each(|digest| self.files.sync_folder(digest))?;
        fault::pass(FaultPlace::BeforeCommit).map_err(|error| StoreError::io("write", self.files.database())(error))?;
        self.connection.execute_batch("COMMIT")?;
        // Durable is durable.
        drop(fault::pass(FaultPlace::AfterCommit));
        Ok(done)
    }

    fn take_back(&mut self, pending: Pending) {
        if !self.connection.is_autocommit() {
            // Fails only where SQLite has rolled back by itself.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        for (digest, staged) in pending.placed {
            // It may have replaced the file of a blob whose removal was taken back too: then it stays, being the same.
            let is_here = self.has_row(digest).unwrap_or(true);
            if !is_here {
                drop(fs::rename(self.files.blob(digest), staged));
            }
        }
        self.places.clear();
        self.voters = None;
        // Where even counting fails the old count stays, and the cache is a little too small or too large.
        drop(self.count_unpinned());
    }

    fn has_row(&self, digest: Digest) -> Result<bool, StoreError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM blob WHERE digest = ?1")?.exists([digest.0])?)
    }

    fn count_unpinned(&mut self) -> Result<(), StoreError> {
        let total: i64 = self.connection.query_row("SELECT ifnull(sum(size), 0) FROM blob WHERE pins = 0", [], |row| row.get(0))?;
        self.unpinned_bytes = u64::try_from(total).unwrap_or(0);
        self.count_kept()?;
        Ok(())
    }

    fn note_uses(&mut self) -> Result<(), StoreError> {
        let touched = std::mem::take(&mut *self.mailbox.touched.lock().unwrap_or_else(PoisonError::into_inner));
        for digest in touched {
            self.clock += 1;
            let mut update = self.connection.prepare_cached("UPDATE blob SET used = ?2 WHERE digest = ?1")?;
            update.execute(params![digest.0, self.clock])?;
        }
        Ok(())
    }

    /// Removes blobs that no job pins, longest unused first, until they fit their quota.
    fn evict(&mut self) -> Result<(), StoreError> {
        while self.unpinned_bytes > self.quota_bytes {
            let oldest = "SELECT digest FROM blob WHERE pins = 0 ORDER BY used LIMIT 1";
            let digest = self.connection.prepare_cached(oldest)?.query_row([], |row| row.get(0).map(Digest)).optional()?;
            match digest {
                Some(digest) => self.remove_blob(digest, super::apply::BlobsRemoved::Any)?,
                None => self.unpinned_bytes = 0,
            }
        }
        Ok(())
    }

    /// Removes some rows of what belongs to no job.
    fn sweep(&mut self) -> Result<(), StoreError> {
        let Some(&number) = self.garbage.front() else { return Ok(()) };
        let result = self.sweep_some(number);
        let pending = std::mem::take(&mut self.pending);
        match result {
            Ok(is_empty) => {
                pending.removed.into_iter().for_each(|digest| drop(fs::remove_file(self.files.blob(digest))));
                if is_empty {
                    self.garbage.pop_front();
                }
                Ok(())
            }
            Err(error) => {
                self.take_back(pending);
                Err(error)
            }
        }
    }

    fn sweep_some(&mut self, number: i64) -> Result<bool, StoreError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let (first, last) = schema::keys(number);
        let mut swept = 0;
        for table in ["unit", "vote", "origin", "verdict", "failures", "log", "findings", "sheaf"] {
            let sql = format!("DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE key BETWEEN ?1 AND ?2 LIMIT ?3)");
            swept += self.connection.prepare_cached(&sql)?.execute([first, last, SWEEP_MAX])?;
        }
        let pins: Vec<Digest> = self
            .connection
            .prepare_cached("SELECT digest FROM pin WHERE job = ?1 LIMIT ?2")?
            .query_map([number, SWEEP_MAX], |row| row.get(0).map(Digest))?
            .collect::<Result<_, _>>()?;
        swept += pins.len();
        for digest in pins {
            self.connection.prepare_cached("DELETE FROM pin WHERE job = ?1 AND digest = ?2")?.execute(params![number, digest.0])?;
            // What only this job needed goes with it.
            if self.recount_pins(digest)? == Some(0) {
                self.remove_blob(digest, super::apply::BlobsRemoved::Any)?;
            }
        }
        if swept == 0 {
            self.connection.prepare_cached("DELETE FROM draft WHERE number = ?1")?.execute([number])?;
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(swept == 0)
    }
}
