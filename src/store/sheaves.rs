//! Sheaves of kept jobs: what authors send is stored as it came, one row for thousands of votes, and taken apart into the tables of
//! facts only when somebody wants to know what is in it. A keeper is hardly ever asked, and rows of their own would cost it more per unit
//! than the unit costs its coordinator.

use super::{Store, Write, error::StoreError, rows, schema, writer::Writer};
use crate::{
    protocol::{
        fact::{Fact, Verdict, Vote},
        ids::{Digest, JobId, PeerId, UnitIndex},
        job::input_digest,
    },
    wire::{
        keep::Record,
        sheaf::{Batch, BatchOutput, Part, Sheaf},
    },
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeSet;

/// Votes and records that are taken apart in one transaction, about: a quarter of a second, so that nobody waits for long.
const UNBOUND_AT_ONCE: u32 = 8192;
/// Rows that are read for that at most; one has a vote at least.
const ROWS_AT_ONCE: u32 = 256;

/// Bytes that a vote will take when it is taken apart, with its decision; see [`Store::kept_for_others`].
pub const BOUND_VOTE_BYTES: u64 = 512;

/// A sheaf that was checked, as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoundSheaf {
    /// Votes and records in it.
    pub count: u32,
    /// Some of its votes may be here already: of those the first holds.
    pub again: bool,
    /// The encoded [`Sheaf`].
    pub bytes: Bytes,
}

impl Store {
    /// Takes apart what is bound of a job when this is called. Nothing where there is no such job.
    pub async fn unbind(&self, job: JobId) -> Result<(), StoreError> {
        let Some((_, last)) = self.bound(job)? else { return Ok(()) };
        while self.bound(job)?.is_some_and(|(first, _)| first <= last) {
            self.commit(vec![Write::Unbind(job)]).await?;
        }
        Ok(())
    }

    /// As [`unbind`](Self::unbind), for threads that may block.
    ///
    /// # Panics
    /// In an asynchronous task.
    pub fn unbind_blocking(&self, job: JobId) -> Result<(), StoreError> {
        let Some((_, last)) = self.bound(job)? else { return Ok(()) };
        while self.bound(job)?.is_some_and(|(first, _)| first <= last) {
            self.commit_blocking(vec![Write::Unbind(job)])?;
        }
        Ok(())
    }

    /// The keys of the first and the last sheaf of a job, if it has any.
    fn bound(&self, job: JobId) -> Result<Option<(i64, i64)>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT number FROM job WHERE id = ?1")?;
            let Some(number) = find.query_row([job.0], |row| row.get(0)).optional()? else { return Ok(None) };
            let (first, last) = schema::keys(number);
            let sql = "SELECT min(key), max(key) FROM sheaf WHERE key BETWEEN ?1 AND ?2";
            let range = connection.prepare_cached(sql)?.query_row([first, last], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(match range {
                (Some(first), Some(last)) => Some((first, last)),
                (_, _) => None,
            })
        })
    }
}

/// Bytes that what is bound of a job will take, about; votes that may come again, and are here then, for what their sheaf takes.
pub(super) fn bound_bytes(connection: &Connection, number: i64) -> Result<i64, StoreError> {
    let (first, last) = schema::keys(number);
    let sql = "SELECT ifnull(sum(length(bytes) + ?3 * count * (NOT again)), 0) FROM sheaf WHERE key BETWEEN ?1 AND ?2";
    Ok(connection.prepare_cached(sql)?.query_row([first, last, BOUND_VOTE_BYTES.cast_signed()], |row| row.get(0))?)
}

/// The number behind that of a job's last sheaf.
pub(super) fn next_sheaf(connection: &Connection, number: i64) -> Result<u32, StoreError> {
    let (first, last) = schema::keys(number);
    let mut newest = connection.prepare_cached("SELECT max(key) FROM sheaf WHERE key BETWEEN ?1 AND ?2")?;
    let newest: Option<i64> = newest.query_row([first, last], |row| row.get(0))?;
    Ok(newest.map_or(0, |key| schema::key_part(key).saturating_add(1)))
}

/// What is known of a job while its sheaves are taken apart.
struct Unbinding {
    job: JobId,
    number: i64,
    has_table: bool,
    /// Who has voted on what; none where no vote comes twice.
    known: Option<BTreeSet<(UnitIndex, PeerId)>>,
}

impl Writer {
    pub(super) fn insert_sheaf(&mut self, job: JobId, sheaf: &BoundSheaf) -> Result<(), StoreError> {
        let mut place = self.place(job)?;
        let key = schema::key(place.number, place.next_sheaf);
        place.next_sheaf = place.next_sheaf.checked_add(1).ok_or(StoreError::BadRow { what: "number of sheaves" })?;
        let sql = "INSERT INTO sheaf (key, count, again, bytes, sum) VALUES (?1, ?2, ?3, ?4, ?5)";
        rows::write(&self.connection, sql, params![key, sheaf.count, sheaf.again, &sheaf.bytes[..]])?;
        self.places.insert(job, place);
        Ok(())
    }

    /// Takes some of a job's sheaves apart, in their order.
    pub(super) fn unbind_some(&mut self, job: JobId) -> Result<(), StoreError> {
        let number = self.place(job)?.number;
        let (first, last) = schema::keys(number);
        let mut bound: Vec<(i64, bool, Sheaf)> = Vec::new();
        {
            let mut find = self.connection.prepare_cached("SELECT * FROM sheaf WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3")?;
            let mut rows = find.query(params![first, last, ROWS_AT_ONCE])?;
            let mut count: u32 = 0;
            while count < UNBOUND_AT_ONCE
                && let Some(row) = rows.next()?
            {
                rows::check(row, "sheaf")?;
                let bytes = row.get_ref("bytes")?.as_blob().map_err(|_| StoreError::BadRow { what: "sheaf" })?;
                let sheaf = Sheaf::decode(bytes).map_err(|_| StoreError::BadRow { what: "sheaf" })?;
                count = count.saturating_add(row.get("count")?);
                bound.push((row.get("key")?, row.get("again")?, sheaf));
            }
        }
        let Some(&(until, ..)) = bound.last() else { return Ok(()) };
        let known = match self.voters.take().filter(|(of, _)| *of == number) {
            Some((_, voters)) => Some(voters),
            None if bound.iter().any(|(_, again, _)| *again) => Some(super::keeping::voters(&self.connection, number)?),
            None => None,
        };
        let mut find = self.connection.prepare_cached("SELECT 1 FROM unit WHERE key BETWEEN ?1 AND ?2 LIMIT 1")?;
        let has_table = find.exists([first, last])?;
        drop(find);
        let mut unbinding = Unbinding { job, number, has_table, known };
        for part in bound.into_iter().flat_map(|(_, _, sheaf)| sheaf.parts) {
            match part {
                Part::Batch(batch) => self.unbind_batch(&mut unbinding, &batch)?,
                Part::Record(record) => self.unbind_record(&mut unbinding, record)?,
            }
        }
        self.connection.prepare_cached("DELETE FROM sheaf WHERE key BETWEEN ?1 AND ?2")?.execute([first, until])?;
        let has_more = self.connection.prepare_cached("SELECT 1 FROM sheaf WHERE key BETWEEN ?1 AND ?2 LIMIT 1")?.exists([first, last])?;
        // Read once for a whole job: it takes a second for each million votes.
        self.voters = unbinding.known.filter(|_| has_more).map(|voters| (number, voters));
        Ok(())
    }

    fn unbind_batch(&mut self, of: &mut Unbinding, batch: &Batch) -> Result<(), StoreError> {
        for output in &batch.outputs {
            let (bytes, digest, _) = output.parts();
            self.write(&match (output, bytes) {
                (BatchOutput::Inline(_), Some(bytes)) => Write::Blob { digest, bytes: bytes.to_vec(), pin: Some(of.job) },
                (BatchOutput::Inline(_) | BatchOutput::Named { .. }, _) => Write::Pin { job: of.job, digest },
            })?;
        }
        let inputs = if of.has_table { self.inputs(of.number, batch)? } else { Vec::new() };
        let votes = batch.unbind(of.job, &inputs).map_err(|_| StoreError::BadRow { what: "batch of a sheaf" })?;
        for (vote, verdict) in votes {
            let unit = vote.unit;
            self.unbind_vote(of, vote)?;
            if let Some(verdict) = verdict {
                self.unbind_verdict(of, unit, verdict)?;
            }
        }
        Ok(())
    }

    fn inputs(&self, number: i64, batch: &Batch) -> Result<Vec<Option<Digest>>, StoreError> {
        let mut find = self.connection.prepare_cached("SELECT name, digest FROM unit WHERE key = ?1")?;
        let input = |unit: UnitIndex| {
            let row = find.query_row([schema::key(number, unit.0)], |row| Ok((row.get::<_, String>(0)?, Digest(row.get(1)?))));
            Ok(row.optional()?.map(|(name, bytes)| input_digest(&name, bytes)))
        };
        batch.votes.iter().map(|vote| vote.unit).map(input).collect()
    }

    fn unbind_vote(&mut self, of: &mut Unbinding, vote: Vote) -> Result<(), StoreError> {
        let is_new = of.known.as_mut().is_none_or(|known| known.insert((vote.unit, vote.worker)));
        if is_new { self.write(&Write::Fact(Fact::Vote(of.job, vote))) } else { Ok(()) }
    }

    fn unbind_verdict(&mut self, of: &Unbinding, unit: UnitIndex, verdict: Verdict) -> Result<(), StoreError> {
        self.write(&Write::Fact(Fact::Verdict(of.job, unit, verdict)))
    }

    fn unbind_record(&mut self, of: &mut Unbinding, record: Record) -> Result<(), StoreError> {
        let job = of.job;
        self.write(&match record {
            Record::Vote(vote) => return self.unbind_vote(of, vote),
            Record::Verdict(unit, verdict) => return self.unbind_verdict(of, unit, verdict),
            Record::Failures(unit, failures) => Write::Fact(Fact::Failures(job, unit, failures)),
            Record::Findings(findings) => Write::Fact(Fact::Findings(job, findings)),
            Record::State(state) => Write::Fact(Fact::JobState(job, state)),
            Record::Log(unit, bytes) => Write::Log { job, unit, bytes: bytes.to_vec() },
            Record::Blob(bytes) => Write::Blob { digest: Digest::of(&bytes), bytes: bytes.to_vec(), pin: Some(job) },
            Record::LargeBlob(digest) => Write::Pin { job, digest },
        })
    }
}

#[cfg(test)]
#[path = "sheaves_tests.rs"]
mod tests;
