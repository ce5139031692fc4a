//! Receipts: those that this machine took from others, as evidence against them.

use super::{Store, error::StoreError, load::load_vote, reader::number_of, schema};
use crate::protocol::{
    fact::Vote,
    ids::{JobId, PeerId, UnitIndex},
};

impl Store {
    /// A worker's vote on a unit. Looks through the job's votes: a million take about a second, so it is for rare occasions.
    pub fn vote(&self, job: JobId, unit: UnitIndex, worker: PeerId) -> Result<Option<Vote>, StoreError> {
        self.read(|connection| {
            let (first, last) = schema::keys(number_of(connection, job)?);
            let sql = "SELECT * FROM vote WHERE key BETWEEN ?1 AND ?2 AND unit = ?3 AND worker = ?4 ORDER BY key LIMIT 1";
            let mut find = connection.prepare_cached(sql)?;
            let mut rows = find.query(rusqlite::params![first, last, unit.0, worker.0])?;
            rows.next()?.map(load_vote).transpose()
        })
    }
}
