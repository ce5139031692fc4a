//! Ending a node in order: what runs may end and is acknowledged, the rest is handed back and runs elsewhere at once.

use crate::{
    grid::{DEADLINE, Grid, until},
    modules::{slow_echo, with_body},
};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// More than any of these endings takes, and less than the shortest lease.
const SOON: Duration = Duration::from_secs(25);

/// A node that only submits, and workers of the same owner with one slot each and these arguments.
fn grid(workers: &[&[&str]]) -> Grid {
    let mut grid = Grid::new();
    grid.add(0);
    for arguments in workers {
        grid.add_with_arguments(1, arguments);
    }
    grid.join_own_devices();
    grid
}

fn submit(grid: &Grid, module: Vec<u8>, units: u32) -> String {
    let module = grid.file("module.wasm", module);
    grid.submit(0, &[&module, "--range", &format!("0..{units}"), "--per-unit", "1", "--", "{index}"])
}

fn endless() -> Vec<u8> {
    with_body("(loop $ever (br $ever))")
}

fn busy(grid: &Grid, at: usize) -> bool {
    grid.ask(at, async |mut client| client.status().await.unwrap().slots_busy > 0)
}

fn failed_attempts(grid: &Grid, job: &str) -> u32 {
    grid.units(0, job).iter().map(|unit| unit.failed_attempts).sum()
}

#[test]
fn what_runs_may_end_and_is_acknowledged() {
    let mut grid = grid(&[&["--drain", "600"], &[]]);
    let _ = grid.run(2, &["pause"]).ok();
    // About a second each; the node holds more of them than it runs.
    let job = submit(&grid, slow_echo(1_000_000_000), 4);
    until("a unit runs", || busy(&grid, 1).then_some(()));
    grid.signal(1, Signal::TERM);
    let status = grid.ends_within(1, DEADLINE).expect("it ends by itself");
    assert!(status.success(), "{status}");
    let votes: usize = grid.units(0, &job).iter().map(|unit| unit.votes.len()).sum();
    assert_eq!((votes, failed_attempts(&grid, &job)), (1, 0), "the one that ran; the others were not begun");
    grid.start(1);
    let _ = grid.run(2, &["resume"]).ok();
    assert_eq!(grid.wait(0, &job)["state"], "done");
}

#[test]
fn what_does_not_end_in_time_runs_elsewhere_at_once() {
    let mut grid = grid(&[&["--drain", "1"], &["--drain", "1"]]);
    let job = submit(&grid, endless(), 1);
    let first = until("the unit runs", || [1, 2].into_iter().find(|at| busy(&grid, *at)));
    let began = Instant::now();
    grid.signal(first, Signal::INT);
    assert!(grid.ends_within(first, SOON).is_some_and(|status| status.success()));
    assert!(began.elapsed() >= Duration::from_secs(1), "it had its time");
    until("the unit runs on the other node", || busy(&grid, 3 - first).then_some(()));
    assert!(began.elapsed() < SOON, "long before the lease ran out");
    assert_eq!(failed_attempts(&grid, &job), 0, "handed back is not failed");
}

#[test]
fn what_has_not_begun_is_handed_back_before_anything_ends() {
    let mut grid = grid(&[&["--drain", "600"], &[]]);
    let _ = grid.run(2, &["pause"]).ok();
    let job = submit(&grid, endless(), 2);
    let leased = |grid: &Grid| grid.units(0, &job).iter().filter(|unit| unit.state == "running").count();
    until("the first worker holds both units", || (busy(&grid, 1) && leased(&grid) == 2).then_some(()));
    let _ = grid.run(2, &["resume"]).ok();
    grid.signal(1, Signal::TERM);
    until("the other worker runs one of them", || busy(&grid, 2).then_some(()));
    assert!(busy(&grid, 1), "the one that ran goes on meanwhile");
    grid.signal(1, Signal::INT);
    let status = grid.ends_within(1, SOON).expect("the second signal is at once");
    assert_eq!(status.code(), Some(130));
}

#[test]
fn stopping_now_waits_for_nothing() {
    let mut grid = grid(&[&["--drain", "600"]]);
    let _ = submit(&grid, endless(), 1);
    until("a unit runs", || busy(&grid, 1).then_some(()));
    grid.signal(1, Signal::TERM);
    let _ = grid.run(1, &["stop", "--now"]).ok();
    assert!(grid.ends_within(1, SOON).is_some_and(|status| status.success()));
}
