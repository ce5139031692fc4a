//! How often units ran.

use crate::protocol::{
    ids::{JobId, UnitIndex},
    worker::RunId,
};
use std::collections::BTreeMap;

/// Executions begun, per unit.
#[derive(Clone, Debug, Default)]
pub struct Executions {
    begun: BTreeMap<(JobId, UnitIndex), u32>,
}

impl Executions {
    /// An execution begins.
    pub fn start(&mut self, run: RunId) {
        *self.begun.entry((run.job, run.unit)).or_default() += 1;
    }

    /// All of one job.
    pub fn of_job(&self, job: JobId) -> u32 {
        self.begun.range((job, UnitIndex(0))..=(job, UnitIndex(u32::MAX))).map(|(_, count)| count).sum()
    }

    /// Those of one unit.
    pub fn of_unit(&self, job: JobId, unit: UnitIndex) -> u32 {
        self.begun.get(&(job, unit)).copied().unwrap_or_default()
    }
}
