//! No wrong value is ever verified: every verdict is compared with the truth.

use super::Violation;
use crate::{
    protocol::{
        fact::{Fact, Verdict},
        ids::JobId,
        outcome::Outcome,
    },
    sim::{behaviour, scenario::JobSpec},
};
use std::collections::BTreeMap;

/// Checks a fact that is about to be durable, and so to be shown.
///
/// # Errors
/// It verifies a wrong value.
pub fn check(jobs: &BTreeMap<JobId, (usize, JobSpec)>, fact: &Fact) -> Result<(), Violation> {
    match fact {
        Fact::Verdict(job, unit, Verdict::Verified { value, .. }) => {
            let (_, spec) = jobs[job];
            let right = behaviour::truth(&spec, *job, *unit) == Outcome::Value(*value);
            if right { Ok(()) } else { Err(Violation::WrongValue { job: *job, unit: *unit }) }
        }
        Fact::Verdict(_, _, Verdict::Open | Verdict::Failed)
        | Fact::Vote(..)
        | Fact::Failures(..)
        | Fact::JobState(..)
        | Fact::Standing(..) => Ok(()),
    }
}
