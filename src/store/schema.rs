//! The database's tables, and the steps from each version of them to the next.
//!
//! Rows of a job have keys that begin with the job's number: `number << 32 | n`, where `n` is a unit's index, or counts the
//! job's votes. So everything about a job lies together and in order, is appended at its end and removed as a range.
//!
//! `draft` lists numbers whose rows belong to no job: of a submission under way, or of a job that was removed. What they hold is
//! invisible, since the row in `job` is the root of everything, and is swept away bit by bit.

use super::error::StoreError;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Step `i` leads from version `i` to `i + 1`. Steps are never changed once released, only added.
const STEPS: &[&str] = &[
    "
    CREATE TABLE draft (number INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;
    CREATE TABLE job (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, manifest BLOB NOT NULL, signature BLOB NOT NULL,
        secret BLOB NOT NULL, state INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE unit (key INTEGER PRIMARY KEY, name TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, inline BLOB) STRICT;
    CREATE TABLE vote (
        key INTEGER PRIMARY KEY, unit INTEGER NOT NULL, worker BLOB NOT NULL, attempt INTEGER NOT NULL, ordinal INTEGER NOT NULL,
        exit_kind INTEGER NOT NULL, exit_detail INTEGER NOT NULL, output BLOB NOT NULL, gas INTEGER NOT NULL,
        output_bytes INTEGER NOT NULL, proof BLOB NOT NULL
    ) STRICT;
    CREATE TABLE verdict (
        key INTEGER PRIMARY KEY, kind INTEGER NOT NULL, exit_kind INTEGER, exit_detail INTEGER, output BLOB, gas INTEGER, by_owner INTEGER
    ) STRICT;
    CREATE TABLE failures (key INTEGER PRIMARY KEY, count INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;
    CREATE TABLE log (key INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE standing (
        peer BLOB PRIMARY KEY, verified_units INTEGER NOT NULL, verified_gas INTEGER NOT NULL, strikes INTEGER NOT NULL,
        drops INTEGER NOT NULL, gas_per_second REAL NOT NULL, anchor INTEGER NOT NULL, lineage BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE blob (
        row INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, used INTEGER NOT NULL, pins INTEGER NOT NULL,
        bytes BLOB
    ) STRICT;
    CREATE INDEX blob_unpinned ON blob (used) WHERE pins = 0;
    CREATE TABLE pin (job INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (job, digest)) STRICT, WITHOUT ROWID;
    CREATE INDEX pin_by_digest ON pin (digest);
    CREATE TABLE note (key TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE vote ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
    UPDATE vote SET position = counted.position FROM (
        SELECT key, row_number() OVER (PARTITION BY key >> 32, unit ORDER BY key) - 1 AS position FROM vote
    ) AS counted WHERE counted.key = vote.key AND counted.position > 0;
    ALTER TABLE vote ADD COLUMN platform INTEGER;
    ALTER TABLE standing ADD COLUMN struck_unix INTEGER;
    CREATE TABLE findings (
        key INTEGER PRIMARY KEY, convicted INTEGER NOT NULL, collusion INTEGER NOT NULL, unit INTEGER, set_aside INTEGER, against INTEGER
    ) STRICT;
    CREATE TABLE origin (key INTEGER PRIMARY KEY, origin INTEGER NOT NULL) STRICT;
    CREATE TABLE kept (
        row INTEGER PRIMARY KEY AUTOINCREMENT, job BLOB NOT NULL, coordinator BLOB NOT NULL, at INTEGER NOT NULL, count INTEGER NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE INDEX kept_by_job ON kept (job, coordinator, row);
    ALTER TABLE vote ADD COLUMN chain BLOB;
    ALTER TABLE verdict ADD COLUMN chain BLOB;
    ALTER TABLE vote ADD COLUMN sum INTEGER;
    ALTER TABLE verdict ADD COLUMN sum INTEGER;
    ALTER TABLE failures ADD COLUMN sum INTEGER;
    ALTER TABLE job ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN keepers_wanted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN keepers_version INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN keepers BLOB NOT NULL DEFAULT x'';
    ALTER TABLE job ADD COLUMN keepers_signature BLOB;
    ALTER TABLE vote ADD COLUMN rests_on BLOB;
    ALTER TABLE job ADD COLUMN ended_unix INTEGER;
    CREATE TABLE sheaf (
        key INTEGER PRIMARY KEY, count INTEGER NOT NULL, again INTEGER NOT NULL, bytes BLOB NOT NULL, sum INTEGER NOT NULL
    ) STRICT;
",
];

/// The last version that people have databases of. Each up to it has one among the tests.
#[cfg(test)]
pub(super) const IN_USE: usize = 1;

/// Pages of the write-ahead log after which it is merged into the database: 16 MiB, so that bursts of votes rarely wait for it.
const CHECKPOINT_PAGES: i64 = 4096;
/// Prepared statements kept by each connection: more than there are.
const STATEMENTS_MAX: usize = 64;
/// How long a connection waits for another one's short lock, in milliseconds: only at opening and closing is there one.
const BUSY_MS: i64 = 5000;

/// A database of so many bytes at most is checked at each start, which takes about a second; a larger one after unclean stops only.
const CHECKED_BYTES_MAX: u64 = 1 << 30;

/// Opens the database for writing, checks it and brings its schema up to date.
pub(super) fn open_writer(path: &Path, bytes_max: u64, was_unclean: bool) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "busy_timeout", BUSY_MS)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = i64::try_from(STEPS.len()).expect("few steps");
    if version > known {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found: version, known });
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    let is_quick = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= CHECKED_BYTES_MAX);
    if was_unclean || is_quick {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), detail: found });
        }
    }
    for step in STEPS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        let before: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", before + 1)?;
        transaction.commit()?;
    }
    let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    connection.pragma_update(None, "max_page_count", i64::try_from(bytes_max / page.max(1)).unwrap_or(i64::MAX).max(1))?;
    Ok(connection)
}

/// Opens the database for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "busy_timeout", BUSY_MS)?;
    Ok(connection)
}

/// The keys of a job's rows.
pub(super) fn keys(number: i64) -> (i64, i64) {
    (number << 32, (number << 32) | i64::from(u32::MAX))
}

/// The key of one row.
pub(super) fn key(number: i64, n: u32) -> i64 {
    (number << 32) | i64::from(n)
}

/// The part of a key that is not the job's number.
pub(super) fn key_part(key: i64) -> u32 {
    u32::try_from(key & i64::from(u32::MAX)).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_flushed_to_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open_writer(&dir.path().join("facts.sqlite"), 1 << 20, false).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((synchronous, journal.as_str()), (2, "wal"));
    }

    /// Votes from before they had a place get it by the order of their rows, which was that of their commitment.
    #[test]
    fn votes_of_the_first_schema_get_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facts.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let insert = "INSERT INTO vote VALUES (?1, ?2, ?3, ?4, 0, 1, 0, ?3, 5, 4, x'')";
        // Two jobs; the rows in the order of their keys vote on these units.
        let mut rows: Vec<(i64, u32)> = [7, 8, 7, 7, 8].into_iter().enumerate().map(|(n, unit)| (key(1, n as u32), unit)).collect();
        rows.extend([7, 7].into_iter().enumerate().map(|(n, unit)| (key(2, n as u32), unit)));
        for (key, unit) in rows.iter().rev() {
            old.execute(insert, rusqlite::params![key, unit, [1u8; 32], key_part(*key)]).unwrap();
        }
        drop(old);
        let connection = open_writer(&path, 1 << 20, false).unwrap();
        let mut find = connection.prepare("SELECT * FROM vote ORDER BY key").unwrap();
        let mut found = find.query([]).unwrap();
        let mut places = vec![];
        while let Some(row) = found.next().unwrap() {
            let vote = super::super::load::load_vote(row).unwrap();
            assert_eq!(vote.platform, crate::protocol::platform::Platform::named(std::env::consts::ARCH.as_bytes()), "an own vote's");
            places.push((vote.unit.0, vote.position));
        }
        assert_eq!(places, [(7, 0), (8, 0), (7, 1), (7, 2), (8, 1), (7, 0), (7, 1)]);
    }

    #[test]
    fn keys_keep_jobs_apart() {
        assert!(keys(1).1 < keys(2).0);
        assert_eq!((key(3, 0), key(3, u32::MAX)), keys(3));
        assert_eq!(key_part(key(7, 12)), 12);
    }
}
