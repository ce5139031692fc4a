//! Whole grids.

use super::*;
use crate::protocol::{fact::JobState, ids::JobId, job::Policy, owner::UnitState};
use core::time::Duration;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const CALM: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(60));

/// Peer 0 is the owner.
fn grid(peers: Vec<PeerSpec>, seed: u64) -> Grid {
    Grid::new(Scenario { peers, delay: CALM, faults: Faults::default() }, seed)
}

fn executions_per_unit(grid: &Grid, job: JobId) -> f64 {
    f64::from(grid.checkers.executions.of_job(job)) / f64::from(grid.counts(job).units)
}

fn finish(grid: &mut Grid, limit: Duration) {
    let done = grid.run_until(limit, Grid::all_ended).and_then(|()| grid.check_disks());
    if let Err(failure) = done {
        let views: Vec<_> =
            grid.jobs.keys().filter_map(|&job| grid.view(job)).map(|v| (v.state, v.counts, v.awaiting, v.running, v.waiting)).collect();
        panic!("{failure}\n{views:?}");
    }
}

#[test]
fn honest_strangers_finish_with_about_two_executions_per_unit() {
    let mut grid = grid(vec![PeerSpec::default(); 20], 1);
    let job = grid.submit(0, JobSpec::of_units(2000));
    finish(&mut grid, seconds(900));
    let counts = grid.counts(job);
    assert_eq!((grid.state(job), counts.verified), (JobState::Done, 2000));
    let ratio = executions_per_unit(&grid, job);
    println!("executions per unit {ratio}, {:?}", grid.elapsed());
    assert!(ratio <= 2.2, "{ratio}");
}
