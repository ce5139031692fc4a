//! Case 19 in a whole grid: an owner loses all votes and all records, and its workers still have their receipts.

use super::*;
use crate::protocol::{fact::JobState, ids::JobId};
use core::time::Duration;

const UNITS: u32 = 400;
const LOST_AT: u32 = 300;

/// What is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The owner's manifest and secret, and nothing of anybody.
    Nothing,
    /// And what workers keep.
    Receipts,
    /// And what the owner knows of its workers.
    ReceiptsAndRecords,
}

/// Runs a job whose owner loses all votes and verdicts when most of it is verified. Returns executions from then on.
fn lose_everything(seed: u64, liar: bool, left: Left) -> (Grid, JobId, u32) {
    let delay = (Duration::from_millis(5), Duration::from_millis(60));
    let mut peers = vec![PeerSpec::default(); 8];
    peers[0].slots = 1;
    let mut grid = Grid::new(Scenario { peers, delay, faults: Faults::default(), conspiracy: false }, seed);
    let job = grid.submit(0, JobSpec::of_units(UNITS));
    grid.run_until(Duration::from_secs(900), |grid| grid.counts(job).verified >= LOST_AT).unwrap();
    grid.crash(0, Duration::from_secs(5));
    grid.machines[0].disk.forget(left == Left::ReceiptsAndRecords);
    if liar {
        grid.machines[4].spec.behaviour = Behaviour::Lies { per_mille: 1000 };
    }
    if left == Left::Nothing {
        grid.machines.iter_mut().for_each(|machine| machine.disk.forget_receipts());
    }
    let before = grid.checkers.executions.of_job(job);
    grid.run_until(Duration::from_secs(3600), Grid::all_ended).unwrap();
    let after = grid.checkers.executions.of_job(job) - before;
    grid.check_disks().unwrap();
    (grid, job, after)
}

#[test]
fn case_19_a_job_whose_votes_are_lost_ends_right_and_little_is_run_again() {
    for seed in 0..3 {
        let [nothing, receipts, records] = [Left::Nothing, Left::Receipts, Left::ReceiptsAndRecords].map(|left| {
            let (grid, job, executions) = lose_everything(seed, false, left);
            assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, UNITS), "seed {seed}");
            executions
        });
        println!("seed {seed}: {nothing} executions with nothing, {receipts} with receipts, {records} with records as well");
        // Of the quarter that was not verified two each, and of what the owner's own machine had computed: it has no receipts of its own.
        assert!(nothing > 2 * UNITS && records < nothing * 2 / 5, "seed {seed}: {records} of {nothing}");
        // Whoever is unknown again has to prove itself: what newcomers say wants one proven voter more.
        assert!(receipts < nothing * 2 / 3, "seed {seed}: {receipts} of {nothing}");
    }
}

#[test]
fn a_worker_that_lies_when_all_is_lost_is_found_out_as_ever() {
    let (grid, job, _) = lose_everything(5, true, Left::Receipts);
    assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, UNITS));
    assert_eq!(grid.peer(0).unwrap().owner().trust().standing(grid.key(4)).strikes, 1);
}
