//! What must always hold, and is checked all along.

pub mod bounds;
pub mod durability;
pub mod executions;
pub mod repeats;
pub mod verdicts;

use super::grid::{Failure, Grid};
use crate::protocol::{
    fact::Verdict,
    ids::{JobId, UnitIndex},
};

/// What did not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// A wrong value was shown as verified.
    #[error("unit {unit} of {job:?} was verified with a wrong value")]
    WrongValue {
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
    },
    /// A verified unit was leased.
    #[error("unit {unit} of {job:?} was verified and is leased again")]
    Repeated {
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
    },
    /// What is shown and what is durable differ.
    #[error("unit {unit} of {job:?} is shown as {shown}, and durable is {durable:?}")]
    NotDurable {
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
        /// What is shown.
        shown: String,
        /// What is durable.
        durable: Box<Option<Verdict>>,
    },
    /// Something grew beyond its bound.
    #[error("{what}: {found}, at most {max} are allowed")]
    Unbounded {
        /// What.
        what: &'static str,
        /// How much of it.
        found: usize,
        /// Its bound.
        max: usize,
    },
    /// Not everything ended in time.
    #[error("not everything ended in time: {open} units are open")]
    NotEnded {
        /// Undecided units.
        open: u32,
    },
    /// Time does not advance.
    #[error("time does not advance: {happening}")]
    Livelock {
        /// What happens all the time.
        happening: String,
    },
}

/// The checkers that remember something.
#[derive(Clone, Debug, Default)]
pub struct Checkers {
    /// Whether what is shown is true.
    pub verdicts: verdicts::Verdicts,
    /// How often units ran.
    pub executions: executions::Executions,
}

impl Grid {
    /// Keeps the first violation; the run ends with it.
    pub(super) fn note(&mut self, checked: Result<(), Violation>) {
        if let (Err(violation), None) = (checked, &self.violation) {
            self.violation = Some(violation);
        }
    }

    /// Compares what one peer shows with its disk.
    pub(super) fn check_disk(&mut self, number: usize) {
        if let Some(peer) = &self.machines[number].peer {
            self.note(durability::check(peer, &self.machines[number].disk));
        }
    }

    /// Compares what all peers show with their disks.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_disks(&mut self) -> Result<(), Failure> {
        (0..self.machines.len()).for_each(|number| self.check_disk(number));
        let shown = self.checkers.verdicts.check_now(&self.jobs);
        self.note(shown);
        match self.violation.take() {
            Some(violation) => Err(self.failure(violation)),
            None => Ok(()),
        }
    }
}
