//! Receipts: those that this machine took from others, as evidence against them, and those of its own that it keeps for others.

use super::{Store, error::StoreError, load::load_vote, reader::number_of, schema, writer::Writer};
use crate::{
    protocol::{
        fact::{Origin, Vote},
        ids::{JobId, PeerId, UnitIndex},
        worker::Kept,
    },
    wire::kept,
};
use core::time::Duration;
use rusqlite::{Row, params};

/// How long a worker's receipts are kept: long enough for an owner who is away over a weekend, or notices late that a disk is broken.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most bytes of kept receipts, the oldest go first: about two million of them, at 120 bytes each.
pub const KEPT_BYTES_MAX: u64 = 256 << 20;
/// Rows pruned with each that is written, so that nobody waits for long.
const PRUNED_AT_ONCE: u32 = 64;

impl Store {
    /// A worker's vote on a unit. Looks through the job's votes: a million take about a second, so it is for rare occasions.
    pub fn vote(&self, job: JobId, unit: UnitIndex, worker: PeerId) -> Result<Option<Vote>, StoreError> {
        self.read(|connection| {
            let (first, last) = schema::keys(number_of(connection, job)?);
            let sql = "SELECT * FROM vote WHERE key BETWEEN ?1 AND ?2 AND unit = ?3 AND worker = ?4 ORDER BY key LIMIT 1";
            let mut find = connection.prepare_cached(sql)?;
            let mut rows = find.query(params![first, last, unit.0, worker.0])?;
            rows.next()?.map(load_vote).transpose()
        })
    }

    /// Receipts that are kept for a coordinator, or for all of the job, behind the place `after`, which is zero at first: about `most`, and
    /// where the next page
    /// begins, if there is one.
    pub fn kept_receipts(
        &self,
        coordinator: Option<PeerId>,
        job: JobId,
        after: u64,
        most: usize,
    ) -> Result<(Vec<Kept>, Option<u64>), StoreError> {
        self.read(|connection| {
            let sql = "SELECT row, count, bytes FROM kept WHERE job = ?1 AND (?2 IS NULL OR coordinator = ?2) AND row > ?3 ORDER BY row";
            let mut find = connection.prepare_cached(sql)?;
            let coordinator = coordinator.map(|peer| peer.0);
            let mut rows = find.query(params![job.0, coordinator, i64::try_from(after).unwrap_or(i64::MAX)])?;
            let (mut receipts, mut last) = (Vec::new(), after);
            while let Some(row) = rows.next()? {
                let count: usize = row.get(1)?;
                if !receipts.is_empty() && receipts.len() + count > most {
                    return Ok((receipts, Some(last)));
                }
                last = row.get::<_, i64>(0)?.cast_unsigned();
                let bytes = row.get_ref(2)?.as_blob().map_err(|_| StoreError::BadRow { what: "kept receipts" })?;
                receipts.extend(kept::decode(bytes).map_err(|_| StoreError::BadRow { what: "kept receipts" })?);
            }
            Ok((receipts, None))
        })
    }
}

impl Writer {
    pub(super) fn keep_receipts(&mut self, coordinator: PeerId, job: JobId, at: u64, count: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let mut insert =
            self.connection.prepare_cached("INSERT INTO kept (job, coordinator, at, count, bytes) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![job.0, coordinator.0, at.cast_signed(), count, bytes])?;
        drop(insert);
        self.kept_bytes += bytes.len() as u64;
        self.prune_receipts(at.saturating_sub(KEPT_FOR.as_secs()), KEPT_BYTES_MAX)
    }

    pub(super) fn forget_receipts(&mut self) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM kept")?.execute([])?;
        self.kept_bytes = 0;
        Ok(())
    }

    /// Removes what is older, and the oldest of what is too much; some of it at a time.
    pub(super) fn prune_receipts(&mut self, since: u64, bytes_max: u64) -> Result<(), StoreError> {
        let sql = "DELETE FROM kept WHERE row = (SELECT min(row) FROM kept) AND (at < ?1 OR ?2) RETURNING length(bytes)";
        for _ in 0..PRUNED_AT_ONCE {
            let mut delete = self.connection.prepare_cached(sql)?;
            let mut rows = delete.query(params![since.cast_signed(), self.kept_bytes > bytes_max])?;
            let Some(row) = rows.next()? else { break };
            let removed: i64 = row.get(0)?;
            self.kept_bytes = self.kept_bytes.saturating_sub(removed.cast_unsigned());
        }
        Ok(())
    }

    pub(super) fn count_kept(&mut self) -> Result<(), StoreError> {
        let total: i64 = self.connection.query_row("SELECT ifnull(sum(length(bytes)), 0) FROM kept", [], |row| row.get(0))?;
        self.kept_bytes = total.cast_unsigned();
        Ok(())
    }

    /// Says of a vote that the coordinator did not take itself how it came here; most have nothing of the kind.
    pub(super) fn insert_origin(&mut self, vote: i64, origin: Origin) -> Result<(), StoreError> {
        let number = match origin {
            Origin::Leased => return Ok(()),
            Origin::Recovered { output: true } => 1,
            Origin::Recovered { output: false } => 2,
            Origin::Collected { output: true } => 3,
            Origin::Collected { output: false } => 4,
        };
        self.connection.prepare_cached("INSERT OR REPLACE INTO origin VALUES (?1, ?2)")?.execute(params![vote, number])?;
        Ok(())
    }
}

/// How a vote came here.
pub(super) fn load_origin(row: &Row<'_>) -> Result<Origin, StoreError> {
    match row.get(1)? {
        1 => Ok(Origin::Recovered { output: true }),
        2 => Ok(Origin::Recovered { output: false }),
        3 => Ok(Origin::Collected { output: true }),
        4 => Ok(Origin::Collected { output: false }),
        _ => Err(StoreError::BadRow { what: "origin of a vote" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{
            ids::{Attempt, Digest},
            outcome::{Exit, Value},
            owner::LeaseToken,
        },
        store::Write,
    };

    const JOB: JobId = JobId([1; 32]);

    fn receipts(first: u32, count: u32) -> Vec<Kept> {
        let value = Value { exit: Exit::Code(0), output: Digest::of(b"42"), gas: 1000, chain: None };
        let kept = |unit| Kept {
            unit: UnitIndex(unit),
            attempt: Attempt(0),
            ordinal: 0,
            token: LeaseToken([4; 16]),
            input: Some(Digest([5; 32])),
            value,
            output_bytes: 2,
            output: Some(b"42"[..].into()),
            rests_on: crate::protocol::checkpoint::Authors::NONE,
        };
        (first..first + count).map(kept).collect()
    }

    fn write(coordinator: u8, at: u64, receipts: &[Kept]) -> Write {
        let count = u32::try_from(receipts.len()).unwrap();
        Write::Receipts { coordinator: PeerId([coordinator; 32]), job: JOB, at, count, bytes: kept::encode(receipts) }
    }

    fn pages(store: &Store, coordinator: u8, most: usize) -> Vec<Vec<Kept>> {
        let (mut pages, mut after) = (vec![], Some(0));
        while let Some(place) = after {
            let (page, next) = store.kept_receipts(Some(PeerId([coordinator; 32])), JOB, place, most).unwrap();
            pages.push(page);
            after = next;
        }
        pages
    }

    #[test]
    fn receipts_come_back_page_by_page_to_whom_they_were_given() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let all = receipts(0, 100);
        let writes = all.chunks(30).map(|part| write(1, 1000, part)).chain([write(2, 1000, &receipts(500, 5))]).collect();
        store.commit_blocking(writes).unwrap();
        let paged = pages(&store, 1, 60);
        assert_eq!((paged.iter().map(Vec::len).collect::<Vec<_>>(), paged.concat()), (vec![60, 40], all));
        assert_eq!(pages(&store, 2, 60), [receipts(500, 5)]);
        assert_eq!(pages(&store, 3, 60), [vec![]]);
    }

    #[test]
    #[ignore = "a measurement"]
    fn measure_a_hundred_thousand_receipts() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for in_a_row in [1, 256, 1024] {
            let all = receipts(0, 100_000);
            let start = std::time::Instant::now();
            let rows: Vec<Write> = all.chunks(in_a_row).map(|part| write(1, 1000, part)).collect();
            let encoded = start.elapsed();
            let bytes: usize = rows.iter().map(|row| if let Write::Receipts { bytes, .. } = row { bytes.len() } else { 0 }).sum();
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                store.commit_blocking(rows.by_ref().take(64).collect()).unwrap();
            }
            println!("{in_a_row} in a row: encoded in {encoded:?}, written in {:?}, {bytes} bytes", start.elapsed() - encoded);
        }
    }

    #[test]
    fn what_is_a_week_old_goes_first_and_so_does_what_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let week = KEPT_FOR.as_secs();
        store.commit_blocking(vec![write(1, 1000, &receipts(0, 10)), write(1, 5000, &receipts(10, 10))]).unwrap();
        store.commit_blocking(vec![write(1, 1001 + week, &receipts(20, 10))]).unwrap();
        assert_eq!(pages(&store, 1, 1000).concat(), receipts(10, 20));
        drop(store);
        let connection = schema::open_writer(&dir.path().join("facts.sqlite"), 1 << 30, false).unwrap();
        let files = std::sync::Arc::new(crate::store::files::Files::prepare(dir.path()).unwrap());
        let mut writer = Writer::new(connection, files, std::sync::Arc::default(), 0).unwrap();
        let bytes = writer.kept_bytes;
        writer.prune_receipts(0, bytes - 1).unwrap();
        let left: i64 = writer.connection.query_row("SELECT sum(count) FROM kept", [], |row| row.get(0)).unwrap();
        assert_eq!((left, writer.kept_bytes), (10, bytes / 2));
    }
}
