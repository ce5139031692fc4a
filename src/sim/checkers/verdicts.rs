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
    },
    sim::{behaviour, scenario::JobSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// Units that are shown with a wrong value at this moment: none, unless peers conspire.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    wrong: BTreeSet<(JobId, UnitIndex)>,
    /// How often one was shown.
    ever: u64,
}

impl Verdicts {
    /// Checks a fact that is about to be durable, and so to be shown.
    ///
    /// # Errors
    /// It verifies a wrong value.
    pub fn check(&mut self, jobs: &BTreeMap<JobId, (usize, JobSpec)>, fact: &Fact) -> Result<(), Violation> {
        let (job, unit, verdict) = match fact {
            Fact::Verdict(job, unit, verdict) => (*job, *unit, *verdict),
            Fact::Vote(..) | Fact::Failures(..) | Fact::JobState(..) | Fact::Findings(..) | Fact::Standing(..) | Fact::Keepers(..) => {
                return Ok(());
            }
        };
        let (_, spec) = jobs[&job];
        let right = match verdict {
            Verdict::Verified { value, .. } => behaviour::is_true(&spec, job, unit, value),
            Verdict::Open | Verdict::Failed => true,
        };
        if right {
            self.wrong.remove(&(job, unit));
            return Ok(());
        }
        self.ever += 1;
        self.wrong.insert((job, unit));
        if spec.policy == Policy::Economy { Ok(()) } else { Err(Violation::WrongValue { job, unit }) }
    }

    /// Checks what is shown now, where peers conspire and something wrong may have been shown until they were caught.
    ///
    /// # Errors
    /// A unit is shown with a wrong value.
    pub fn check_now(&self, jobs: &BTreeMap<JobId, (usize, JobSpec)>) -> Result<(), Violation> {
        match self.wrong.iter().find(|(job, _)| jobs[job].1.policy != Policy::Economy) {
            Some(&(job, unit)) => Err(Violation::WrongValue { job, unit }),
            None => Ok(()),
        }
    }

    /// Units that are shown with a wrong value now.
    pub fn wrong_now(&self) -> usize {
        self.wrong.len()
    }

    /// How often a unit came to be shown with a wrong value.
    pub fn wrong_ever(&self) -> u64 {
        self.ever
    }
}
