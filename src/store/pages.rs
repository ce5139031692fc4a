//! Long lists in pages: jobs, votes, logs. For whoever shows or checks them.

use super::{Store, error::StoreError, keeping::Role, load::load_vote, reader::number_of, schema};
use crate::protocol::{
    fact::Vote,
    ids::{JobId, UnitIndex},
};
use rusqlite::OptionalExtension as _;

/// The most votes of one page.
pub const VOTES_PAGE_MAX: u32 = 4096;
/// A page of logs ends behind the log that reaches this many bytes.
const LOGS_PAGE_BYTES: usize = 1 << 20;

impl Store {
    /// All jobs, the oldest first: own ones and those that are kept for others.
    pub fn job_ids(&self) -> Result<Vec<JobId>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT id FROM job WHERE role <> ?1 ORDER BY number")?;
            let rows = find.query_map([Role::Arriving.number()], |row| row.get(0).map(JobId))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A job's secret, for the coordinator alone.
    pub fn job_secret(&self, job: JobId) -> Result<Option<[u8; 32]>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT secret FROM job WHERE id = ?1")?;
            Ok(find.query_row([job.0], |row| row.get(0)).optional()?)
        })
    }

    /// A job's votes in the order of their commitment, from the `first` on; at most `count` and [`VOTES_PAGE_MAX`].
    pub fn votes_page(&self, job: JobId, first: u32, count: u32) -> Result<Vec<Vote>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let (from, to) = (schema::key(number, first), schema::keys(number).1);
            let mut find = connection.prepare_cached("SELECT * FROM vote WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3")?;
            let mut rows = find.query([from, to, i64::from(count.min(VOTES_PAGE_MAX))])?;
            let mut votes = vec![];
            while let Some(row) = rows.next()? {
                votes.push(load_vote(row)?);
            }
            Ok(votes)
        })
    }

    /// The unit of each of a job's votes, in the order of their commitment, from the `first` vote on. Eight bytes for each vote.
    pub fn vote_units(&self, job: JobId, first: u32) -> Result<Vec<(UnitIndex, u32)>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let (from, to) = (schema::key(number, first), schema::keys(number).1);
            let mut find = connection.prepare_cached("SELECT unit, key FROM vote WHERE key BETWEEN ?1 AND ?2 ORDER BY key")?;
            let rows = find.query_map([from, to], |row| Ok((UnitIndex(row.get(0)?), schema::key_part(row.get(1)?))))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Single votes by their numbers, see [`Store::vote_units`]; those that are not there are left out.
    pub fn votes_numbered(&self, job: JobId, numbers: &[u32]) -> Result<Vec<Vote>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let mut find = connection.prepare_cached("SELECT * FROM vote WHERE key = ?1")?;
            let mut votes = vec![];
            for n in numbers {
                let mut rows = find.query([schema::key(number, *n)])?;
                votes.extend(rows.next()?.map(load_vote).transpose()?);
            }
            Ok(votes)
        })
    }

    /// Kept standard error of units from `first` on, about a mebibyte of it, in unit order.
    pub fn logs_page(&self, job: JobId, first: UnitIndex) -> Result<Vec<(UnitIndex, Vec<u8>)>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let (from, to) = (schema::key(number, first.0), schema::keys(number).1);
            let mut find = connection.prepare_cached("SELECT key, bytes FROM log WHERE key BETWEEN ?1 AND ?2 ORDER BY key")?;
            let mut rows = find.query([from, to])?;
            let (mut logs, mut bytes) = (vec![], 0);
            while bytes < LOGS_PAGE_BYTES
                && let Some(row) = rows.next()?
            {
                let log: Vec<u8> = row.get(1)?;
                bytes += log.len() + size_of::<Vec<u8>>();
                logs.push((UnitIndex(schema::key_part(row.get(0)?)), log));
            }
            Ok(logs)
        })
    }
}
