//! Nothing that is verified is computed again, unless it was re-opened, which is durable before the lease is given, or a newcomer is
//! examined with it.

use super::Violation;
use crate::{
    protocol::{
        fact::Verdict,
        ids::{JobId, UnitIndex},
    },
    sim::machine::Disk,
};

/// Checks a lease that is about to be given, against what its owner has made durable.
///
/// # Errors
/// The unit is verified.
pub fn check(disk: &Disk, job: JobId, unit: UnitIndex) -> Result<(), Violation> {
    match disk.verdict(job, unit) {
        Some(Verdict::Verified { .. } | Verdict::Failed) => Err(Violation::Repeated { job, unit }),
        Some(Verdict::Open) | None => Ok(()),
    }
}
