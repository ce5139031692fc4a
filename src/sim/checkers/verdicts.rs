//! No wrong value is ever verified: every verdict is compared with the truth.
//!
//! Except under the economy policy, which takes the single word of somebody proven and says so: a peer that was honest until then
//! is believed until it is caught.

use super::Violation;
use crate::{
    protocol::{
        fact::{Fact, Verdict},
        ids::{JobId, UnitIndex},
        job::Policy,
        outcome::Outcome,
        platform::Platform,
    },
    sim::{behaviour, scenario::JobSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// Units that are shown with a wrong value at this moment: none, unless peers conspire.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    wrong: BTreeSet<(JobId, UnitIndex)>,
}

impl Verdicts {
    /// Checks a fact that is about to be durable, and so to be shown.
    ///
    /// # Errors
    /// It verifies a wrong value.
    pub fn check(&mut self, jobs: &BTreeMap<JobId, (usize, JobSpec)>, fact: &Fact) -> Result<(), Violation> {
        let (job, unit, verdict) = match fact {
            Fact::Verdict(job, unit, verdict) => (*job, *unit, *verdict),
            Fact::Vote(..) | Fact::Failures(..) | Fact::JobState(..) | Fact::Findings(..) | Fact::Standing(..) => return Ok(()),
        };
        let (_, spec) = jobs[&job];
        let right = match verdict {
            Verdict::Verified { value, .. } => {
                let honest = |platform: &Platform| behaviour::truth_on(*platform, &spec, job, unit) == Outcome::Value(value);
                behaviour::truth(&spec, job, unit) == Outcome::Value(value) || Platform::ALL.iter().any(honest)
            }
            Verdict::Open | Verdict::Failed => true,
        };
        if right || spec.policy == Policy::Economy {
            self.wrong.remove(&(job, unit));
            return Ok(());
        }
        self.wrong.insert((job, unit));
        Err(Violation::WrongValue { job, unit })
    }

    /// Checks what is shown now, where peers conspire and something wrong may have been shown until they were caught.
    ///
    /// # Errors
    /// A unit is shown with a wrong value.
    pub fn check_now(&self) -> Result<(), Violation> {
        match self.wrong.first() {
            Some(&(job, unit)) => Err(Violation::WrongValue { job, unit }),
            None => Ok(()),
        }
    }
}
