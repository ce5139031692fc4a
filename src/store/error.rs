//! What can go wrong with the store.

use crate::protocol::ids::{Digest, JobId};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why the store refused or failed. Cheap to clone: one failure is told to everybody whose writes shared the transaction.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has this directory open. Nothing was touched.
    #[error("the data directory {dir} is in use by {}", match pid { Some(pid) => format!("process {pid}"), None => "another process".to_owned() })]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other process, as far as it said.
        pid: Option<u32>,
    },
    /// A newer version of this program wrote the database. Nothing was touched.
    #[error("a newer version of this program wrote the database {}: it has schema {found}, this version knows schemas up to {known}", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// What the database has.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// The database is damaged: what it says can no longer be believed.
    #[error("the database {} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found first.
        detail: String,
    },
    /// No space is left, on the disk or within the limit on the database. Nothing of the commit was kept; it may be tried again.
    #[error("no space is left for the store")]
    DiskFull,
    /// A file could not be written or read.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Arc<io::Error>,
    },
    /// The database failed otherwise.
    #[error("the database failed: {0}")]
    Database(#[source] Arc<rusqlite::Error>),
    /// A row holds what this program does not write.
    #[error("a stored {what} makes no sense")]
    BadRow {
        /// Which kind of row.
        what: &'static str,
    },
    /// A write about a job that is not here.
    #[error("there is no job {}", .0.short())]
    NoSuchJob(JobId),
    /// A blob is not what its digest says.
    #[error("the blob {} was announced, its bytes are {}", expected.short(), found.short())]
    WrongDigest {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A blob or text that exceeds its bound.
    #[error("{what} has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length; at least this.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// The store is closing, or the submission has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What a person may try.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } => Some("stop the other node, or choose another directory with --data-dir"),
            Self::NewerSchema { .. } => Some("run the newer version, or choose another directory with --data-dir"),
            Self::Damaged { .. } => Some(
                "check the disk; then put a copy of the database back, or move it and its -wal file away and start anew \
                 (identity and grid stay; submit the jobs again)",
            ),
            Self::DiskFull => Some("free some disk space, or raise the limit on the store"),
            Self::Io { .. } => Some("check that the data directory exists and belongs to you"),
            Self::Database(_)
            | Self::BadRow { .. }
            | Self::NoSuchJob(_)
            | Self::WrongDigest { .. }
            | Self::TooLong { .. }
            | Self::Closed => None,
        }
    }

    /// Names the database that a failure is about.
    pub(super) fn in_database(self, database: &Path) -> Self {
        match self {
            Self::Damaged { path: _, detail } => Self::Damaged { path: database.to_owned(), detail },
            other => other,
        }
    }

    /// A row that makes no sense, or not the sense that it had when it was written.
    pub(super) fn damaged_row(what: &str) -> Self {
        Self::Damaged { path: PathBuf::new(), detail: format!("a stored {what} is not what was written") }
    }

    /// For `map_err` on file operations; a full disk is recognised.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { doing, path, source: Arc::new(source) },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        // What is stored has the types that it was written with.
        if matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)) {
            return Self::Damaged { path: PathBuf::new(), detail: error.to_string() };
        }
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path: PathBuf::new(), detail: error.to_string() }
            }
            _ => Self::Database(Arc::new(error)),
        }
    }
}
