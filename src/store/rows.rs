//! Rows that carry a sum over their other columns in their last one, so that a changed bit is noticed where SQLite's own structure is
//! intact. It finds a disk's mistakes; whoever may write the database could write the sums as well.
//!
//! Rows from before there were sums have none, and are taken as they are until they are written again.

use super::error::StoreError;
use rusqlite::{
    Connection, Row, ToSql,
    types::{ToSqlOutput, Value, ValueRef},
};

/// A sum over columns (FNV-1a of their types, lengths and bytes): quick enough for a million rows at a start.
struct Sum(u64);

impl Sum {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.bytes(&[0]),
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

/// Executes `sql`, whose last parameter is the sum of all before it.
pub(super) fn write(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut sum = Sum::EMPTY;
    for (at, value) in values.iter().enumerate() {
        match value.to_sql()? {
            ToSqlOutput::Borrowed(value) => sum.add(value),
            ToSqlOutput::Owned(value) => sum.add(ValueRef::from(&value)),
            // Nothing of ours is of another kind; with a wrong sum it would be noticed at once.
            _ => sum.add(ValueRef::from(&Value::Null)),
        }
        statement.raw_bind_parameter(at + 1, value)?;
    }
    statement.raw_bind_parameter(values.len() + 1, sum.finish())?;
    statement.raw_execute()?;
    Ok(())
}

/// Compares a whole row with its sum, where it has one.
pub(super) fn check(row: &Row<'_>, what: &str) -> Result<(), StoreError> {
    let last = row.as_ref().column_count() - 1;
    let Some(expected) = row.get::<_, Option<i64>>(last)? else { return Ok(()) };
    let mut sum = Sum::EMPTY;
    for at in 0..last {
        sum.add(row.get_ref(at)?);
    }
    if sum.finish() == expected { Ok(()) } else { Err(StoreError::damaged_row(what)) }
}
