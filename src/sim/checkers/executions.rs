//! How often units ran.

use crate::protocol::{
    ids::{JobId, UnitIndex},
    worker::RunId,
};
use std::collections::BTreeMap;

/// Executions begun, per unit.
#[derive(Clone, Debug, Default)]
pub struct Executions {
    begun: BTreeMap<JobId, Vec<u32>>,
}

impl Executions {
    /// An execution begins.
    pub fn start(&mut self, run: RunId) {
        let (units, at) = (self.begun.entry(run.job).or_default(), run.unit.0 as usize);
        if units.len() <= at {
            units.resize(at + 1, 0);
        }
        units[at] += 1;
    }

    /// All of one job.
    pub fn of_job(&self, job: JobId) -> u32 {
        self.begun.get(&job).into_iter().flatten().sum()
    }

    /// Those of one unit.
    pub fn of_unit(&self, job: JobId, unit: UnitIndex) -> u32 {
        self.begun.get(&job).and_then(|units| units.get(unit.0 as usize)).copied().unwrap_or_default()
    }
}
