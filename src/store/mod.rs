//! What survives a restart: facts in SQLite, and blobs named by their digest.
//!
//! One thread writes and merges waiting commits into one transaction (`writer`); readers have connections of their own and never
//! wait for it. A commit that returned is durable; one that failed has left nothing. The store decides nothing: it neither judges
//! votes nor knows which job matters, and what it hands back was checked when it was written.
//!
//! In the data directory: `lock`, `facts.sqlite`, `blobs/` (larger blobs, as files) and `tmp/` (emptied at each start).
//! Everything but [`Store::commit`] and [`Store::blocking`] blocks on the disk, so call it where blocking is allowed.

use crate::protocol::ids::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};

mod error;

pub(crate) mod fault;

mod lock;

mod schema;
mod sheaves;

mod files;

mod writer;

mod apply;

mod reader;

mod rows;

mod load;

mod blobs;

mod views;

mod pages;

mod receipts;

mod keeping;

mod submission;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod damage_tests;

pub use apply::{NOTE_BYTES_MAX, NOTE_KEY_BYTES_MAX, Write};
pub use blobs::READ_BYTES_MAX;
pub use error::StoreError;
pub use files::{BlobWriter, SMALL_BYTES_MAX, StagedBlob};
pub use keeping::{BlobRow, KeptSize, NewKept, Role};
pub use load::SignedManifest;
pub use pages::VOTES_PAGE_MAX;
pub use receipts::{KEPT_BYTES_MAX, KEPT_FOR};
pub use sheaves::{BOUND_VOTE_BYTES, BoundSheaf};
pub use submission::{Parts, Submission, SubmissionError, Submitted};
pub use views::{Output, UNITS_PAGE_MAX, UnitRow};

use apply::{Change, Done};
use writer::{Mailbox, Request, Writer};

/// How much disk the store may use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of blobs that no own job needs: modules and inputs fetched for other people's jobs. A larger cache saves network.
    pub blob_quota_bytes: u64,
    /// Bytes of the database. When it is reached, commits fail with [`StoreError::DiskFull`].
    pub database_bytes_max: u64,
}

impl Default for Options {
    /// 4 GiB of other people's blobs; 64 GiB of database, which is 100 million votes.
    fn default() -> Self {
        Self { blob_quota_bytes: 4 << 30, database_bytes_max: 64 << 30 }
    }
}

/// What was put right after a process that did not get to close the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// That process, as far as it said.
    pub previous: Option<u32>,
    /// Unfinished files, and files that no row knows.
    pub files_removed: usize,
}

/// An open data directory. Cheap to clone; the last clone to be dropped waits until what was handed in is durable.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Arc<files::Files>,
    readers: reader::Readers,
    mailbox: Arc<Mailbox>,
    recovery: Option<Recovery>,
    /// Files whose bytes have been compared with their names.
    whole: Mutex<BTreeMap<Digest, blobs::Stamp>>,
    /// Taken when the store closes, which ends the writer's thread.
    queue: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    lock: Option<lock::DirLock>,
}

impl Store {
    /// Opens or makes the data directory `dir`, alone: a second node on it is refused. Blocks; after an unclean stop for as long
    /// as it takes to read the database.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Options::default())
    }

    /// As [`open`](Self::open), with limits.
    pub fn open_with(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let files = Arc::new(files::Files::prepare(dir)?);
        let lock = lock::DirLock::acquire(dir)?;
        let database = files.database();
        let connection = schema::open_writer(&database, options.database_bytes_max, lock.was_unclean());
        let connection = connection.map_err(|error| error.in_database(&database))?;
        let mut files_removed = files.empty_tmp()?;
        if lock.was_unclean() {
            files_removed += remove_strays(&connection, &files)?;
        }
        let recovery = lock.was_unclean().then(|| Recovery { previous: lock.previous(), files_removed });
        let mailbox = Arc::new(Mailbox::default());
        let writer = Writer::new(connection, files.clone(), mailbox.clone(), options.blob_quota_bytes)?;
        let (queue, requests) = mpsc::channel(writer::QUEUE_MAX);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run(requests));
        let thread = thread.map_err(StoreError::io("start the thread of", files.database()))?;
        let readers = reader::Readers::new(files.database());
        Ok(Self(Arc::new(Inner {
            files,
            readers,
            mailbox,
            recovery,
            whole: Mutex::default(),
            queue: Some(queue),
            thread: Some(thread),
            lock: Some(lock),
        })))
    }

    /// What was found and put right when the store was opened; none when it had been closed in order.
    pub fn recovery(&self) -> Option<Recovery> {
        self.0.recovery
    }

    /// Whether the last attempt to write failed because the disk is full or takes no writes.
    pub fn takes_no_writes(&self) -> bool {
        self.0.files.takes_no_writes()
    }

    /// Tries whether the disk takes writes again, with a file that is gone afterwards. Blocks.
    pub fn try_writing(&self) -> Result<(), StoreError> {
        let mut writer = self.blob_writer();
        writer.write(&[0; SMALL_BYTES_MAX * 4])?;
        writer.finish().map(drop)
    }

    /// The damage to the database that was found since it was opened, if any was: nothing that it says can be believed any more.
    pub fn damage(&self) -> Option<StoreError> {
        self.0.mailbox.damage()
    }

    /// Blobs that were found damaged and removed since the last call, oldest first.
    pub fn take_damaged_blobs(&self) -> Vec<Digest> {
        self.0.mailbox.take_damaged_blobs()
    }

    /// Makes all of `writes` durable, in this order and behind earlier commits, or none of them. Waits while the queue is full.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        let changes = writes.into_iter().map(Change::Write).collect();
        self.queue().send(Request { changes, reply }).await.map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)?.map(drop)
    }

    /// As [`commit`](Self::commit), for threads that may block.
    ///
    /// # Panics
    /// In an asynchronous task.
    pub fn commit_blocking(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.request(writes.into_iter().map(Change::Write).collect()).map(drop)
    }

    /// Runs what blocks where blocking is allowed.
    pub async fn blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Self) -> Result<T, E> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Closed.into()),
        }
    }

    fn request(&self, changes: Vec<Change>) -> Result<Done, StoreError> {
        self.begin_request(changes)?.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    fn begin_request(&self, changes: Vec<Change>) -> Result<oneshot::Receiver<Result<Done, StoreError>>, StoreError> {
        let (reply, done) = oneshot::channel();
        self.queue().blocking_send(Request { changes, reply }).map_err(|_| StoreError::Closed)?;
        Ok(done)
    }

    fn queue(&self) -> &mpsc::Sender<Request> {
        self.0.queue.as_ref().expect("taken only when the last handle is dropped")
    }
}

impl Inner {
    fn whole(&self) -> MutexGuard<'_, BTreeMap<Digest, blobs::Stamp>> {
        // A table of what is known to be so, whoever panicked.
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.readers.close();
        self.queue = None;
        let ended = self.thread.take().is_some_and(|thread| thread.join().is_ok());
        // A writer that panicked leaves the directory marked as uncleanly closed.
        if let Some(lock) = self.lock.take().filter(|_| ended) {
            lock.release();
        }
    }
}

/// Removes files that no row knows: placed by a transaction that a power failure took back.
fn remove_strays(connection: &rusqlite::Connection, files: &files::Files) -> Result<usize, StoreError> {
    let mut find = connection.prepare("SELECT digest FROM blob WHERE bytes IS NULL")?;
    let known = find.query_map([], |row| row.get(0).map(Digest))?.collect::<Result<BTreeSet<_>, _>>()?;
    let mut removed = 0;
    for stray in files.blobs()?.into_iter().filter(|digest| !known.contains(digest)) {
        let path = files.blob(stray);
        std::fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        removed += 1;
    }
    Ok(removed)
}
