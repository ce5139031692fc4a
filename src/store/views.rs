//! What others want to see of a job: its units' inputs for leases, and names, outputs and logs for people.

use super::{Store, error::StoreError, load::load_verdict, reader::number_of, schema};
use crate::{
    protocol::{
        fact::Verdict,
        ids::{Digest, JobId, UnitIndex},
        job::input_digest,
        outcome::Value,
    },
    wire::work::UnitInput,
};
use rusqlite::{Connection, OptionalExtension as _, Row};
use std::sync::Arc;

/// The most rows of one page.
pub const UNITS_PAGE_MAX: u32 = 10_000;

/// A unit as it was submitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitRow {
    /// Its place.
    pub unit: UnitIndex,
    /// Its name.
    pub name: String,
    /// SHA-256 of its input.
    pub digest: Digest,
    /// The input's size in bytes.
    pub size: u64,
}

/// The output of a verified unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output {
    /// What was agreed on; read the bytes with [`Store::read_blob`] of its digest.
    pub value: Value,
    /// The owner's own machine computed or checked it.
    pub by_owner: bool,
    /// The output's size; none when its bytes are not here.
    pub size: Option<u64>,
}

impl Store {
    /// A unit's own input; none for a job without a table of units.
    pub fn unit_input(&self, job: JobId, unit: UnitIndex) -> Result<Option<UnitInput>, StoreError> {
        self.read(|connection| find_input(connection, number_of(connection, job)?, unit))
    }

    /// The inputs of several units, in the order asked for: for one batch of leases.
    pub fn unit_inputs(&self, job: JobId, units: &[UnitIndex]) -> Result<Vec<Option<UnitInput>>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            units.iter().map(|&unit| find_input(connection, number, unit)).collect()
        })
    }

    /// What several units of a table are given, in the order asked for, see [`input_digest`]; none for other jobs.
    pub fn input_digests(&self, job: JobId, units: impl IntoIterator<Item = UnitIndex>) -> Result<Vec<Option<Digest>>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let mut find = connection.prepare_cached("SELECT name, digest FROM unit WHERE key = ?1")?;
            let mut of = |unit: UnitIndex| {
                let row = find.query_row([schema::key(number, unit.0)], |row| Ok((row.get::<_, String>(0)?, Digest(row.get(1)?))));
                Ok(row.optional()?.map(|(name, bytes)| input_digest(&name, bytes)))
            };
            units.into_iter().map(&mut of).collect()
        })
    }

    /// Units from `first` on, at most `count` and [`UNITS_PAGE_MAX`]; none for a job without a table of units.
    pub fn units_page(&self, job: JobId, first: UnitIndex, count: u32) -> Result<Vec<UnitRow>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let (from, to) = (schema::key(number, first.0), schema::keys(number).1);
            let sql = "SELECT key, name, digest, size FROM unit WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3";
            let mut find = connection.prepare_cached(sql)?;
            let rows = find.query_map([from, to, i64::from(count.min(UNITS_PAGE_MAX))], |row| {
                let unit = UnitIndex(schema::key_part(row.get(0)?));
                Ok(UnitRow { unit, name: row.get(1)?, digest: Digest(row.get(2)?), size: row.get::<_, i64>(3)?.cast_unsigned() })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The output of a unit; none while it is not verified.
    pub fn output(&self, job: JobId, unit: UnitIndex) -> Result<Option<Output>, StoreError> {
        self.read(|connection| {
            let key = schema::key(number_of(connection, job)?, unit.0);
            let mut find = connection.prepare_cached("SELECT * FROM verdict WHERE key = ?1")?;
            let mut rows = find.query([key])?;
            match rows.next()?.map(load_verdict).transpose()? {
                None | Some(Verdict::Open | Verdict::Failed) => Ok(None),
                Some(Verdict::Verified { value, by_owner }) => {
                    let mut blob = connection.prepare_cached("SELECT size FROM blob WHERE digest = ?1")?;
                    let size = blob.query_row([value.output.0], |row| row.get::<_, i64>(0)).optional()?;
                    Ok(Some(Output { value, by_owner, size: size.map(i64::cast_unsigned) }))
                }
            }
        })
    }

    /// The kept standard error of a unit's last attempt that had any.
    pub fn log(&self, job: JobId, unit: UnitIndex) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| {
            let key = schema::key(number_of(connection, job)?, unit.0);
            let mut find = connection.prepare_cached("SELECT bytes FROM log WHERE key = ?1")?;
            Ok(find.query_row([key], |row| row.get(0)).optional()?)
        })
    }
}

fn find_input(connection: &Connection, number: i64, unit: UnitIndex) -> Result<Option<UnitInput>, StoreError> {
    let mut find = connection.prepare_cached("SELECT name, digest, size, inline FROM unit WHERE key = ?1")?;
    let input = |row: &Row<'_>| {
        Ok(UnitInput {
            name: row.get(0)?,
            digest: Digest(row.get(1)?),
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            inline: row.get::<_, Option<Vec<u8>>>(3)?.map(Arc::from),
        })
    };
    let found = find.query_row([schema::key(number, unit.0)], input).optional()?;
    let differs = |input: &UnitInput| input.inline.as_ref().is_some_and(|bytes| Digest::of(bytes) != input.digest);
    if found.as_ref().is_some_and(differs) { Err(StoreError::damaged_row("input")) } else { Ok(found) }
}
