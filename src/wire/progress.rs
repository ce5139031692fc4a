//! A job's progress as it travels to peers that follow it.

use super::{bounds::Rejection, peer as pb};
use crate::protocol::{
    fact::JobState,
    job::{NAME_BYTES_MAX, UNITS_MAX},
    owner::JobView,
};

/// Writes what a job's coordinator sees.
pub fn write(view: &JobView) -> pb::JobProgress {
    pb::JobProgress {
        name: view.manifest.name.clone(),
        state: state_number(view.state),
        units: view.counts.units,
        verified: view.counts.verified,
        provisional: view.counts.provisional,
        awaiting: view.awaiting,
        disputed: view.counts.disputed,
        failed: view.counts.failed,
        running: view.running,
        executions: view.counts.executions,
        workers: view.workers,
        elapsed_ms: 0,
    }
}

/// Checks what a coordinator says about its job.
pub fn check(progress: &pb::JobProgress) -> Result<JobState, Rejection> {
    super::bounds::at_most("name of a job", progress.name.len(), NAME_BYTES_MAX)?;
    for count in [progress.units, progress.verified, progress.provisional, progress.awaiting, progress.disputed, progress.failed] {
        if count > UNITS_MAX {
            let (found, max) = (i64::from(count), i64::from(UNITS_MAX));
            return Err(Rejection::OutOfRange { what: "number of units", found, min: 0, max });
        }
    }
    let known = [JobState::Running, JobState::Done, JobState::Failed, JobState::Cancelled, JobState::Stopped];
    let state = known.into_iter().find(|state| state_number(*state) == progress.state);
    state.ok_or(Rejection::UnknownNumber { what: "state of a job", found: progress.state })
}

/// The number of a state on the wire.
pub fn state_number(state: JobState) -> u32 {
    match state {
        JobState::Running => 1,
        JobState::Done => 2,
        JobState::Failed => 3,
        JobState::Cancelled => 4,
        JobState::Stopped => 5,
    }
}
