//! Rows that carry a sum over their other columns in one named `sum`, so that a changed bit is noticed where SQLite's own structure is
//! intact. It finds a disk's mistakes; whoever may write the database could write the sums as well.
//!
//! A column is known by its place among the others, and one that is null adds nothing: so a column that is added later, empty in the
//! rows that there are, leaves their sums right.
//!
//! Rows from before there were sums have none, and are taken as they are until they are written again. Votes, verdicts and counts of
//! failures have sums. How a vote came here (`origin`), receipts kept for others (`kept`), findings and standings have none: a bit that
//! changes there is noticed only where it makes a row that cannot be read.

use super::error::StoreError;
use rusqlite::{
    Connection, Row, ToSql,
    types::{ToSqlOutput, ValueRef},
};

/// The column of the sum.
const COLUMN: &str = "sum";

/// A sum over columns (FNV-1a of their places, types, lengths and bytes): quick enough for a million rows at a start.
struct Sum(u64);

impl Sum {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn add(&mut self, place: usize, value: ValueRef<'_>) {
        if value == ValueRef::Null {
            return;
        }
        self.bytes(&(place as u64).to_le_bytes());
        match value {
            ValueRef::Null => {}
            ValueRef::Integer(number) => {
                self.bytes(&[1]);
                self.bytes(&number.to_le_bytes());
            }
            ValueRef::Real(number) => {
                self.bytes(&[2]);
                self.bytes(&number.to_bits().to_le_bytes());
            }
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                self.bytes(&[3]);
                self.bytes(&(bytes.len() as u64).to_le_bytes());
                self.bytes(bytes);
            }
        }
    }

    fn finish(&self) -> i64 {
        self.0.cast_signed()
    }
}

/// Executes `sql`, which writes all columns of a row: `values` in the order of the table's columns, and behind them the sum.
pub(super) fn write(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut sum = Sum::EMPTY;
    for (at, value) in values.iter().enumerate() {
        match value.to_sql()? {
            ToSqlOutput::Borrowed(value) => sum.add(at, value),
            ToSqlOutput::Owned(value) => sum.add(at, ValueRef::from(&value)),
            // Nothing of ours is of another kind; with a wrong sum it would be noticed at once.
            _ => sum.add(at, ValueRef::Integer(0)),
        }
        statement.raw_bind_parameter(at + 1, value)?;
    }
    statement.raw_bind_parameter(values.len() + 1, sum.finish())?;
    statement.raw_execute()?;
    Ok(())
}

/// Compares a row, of which all columns were asked for in the table's order, with its sum, where it has one.
pub(super) fn check(row: &Row<'_>, what: &str) -> Result<(), StoreError> {
    let (columns, at_sum) = (row.as_ref().column_count(), row.as_ref().column_index(COLUMN)?);
    let Some(expected) = row.get::<_, Option<i64>>(at_sum)? else { return Ok(()) };
    let mut sum = Sum::EMPTY;
    for (place, column) in (0..columns).filter(|column| *column != at_sum).enumerate() {
        sum.add(place, row.get_ref(column)?);
    }
    if sum.finish() == expected { Ok(()) } else { Err(StoreError::damaged_row(what)) }
}
