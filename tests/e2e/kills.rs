//! Any process may be killed at any moment: the job ends right, and what was verified is not computed again.

use crate::{
    grid::{Grid, until},
    modules::{slow_echo, with_body},
};
use std::{collections::BTreeMap, time::Duration};

const UNITS: u32 = 60;
/// Longer than a connection lasts without a sign of life. `MANYHANDS_FROZEN_SECONDS=40` is longer than a lease, too.
const FROZEN: Duration = Duration::from_secs(12);

/// Submits a job whose units take about a tenth of a second; its id.
fn submit(grid: &Grid) -> String {
    submit_slow(grid, 100_000_000)
}

fn submit_slow(grid: &Grid, rounds: u64) -> String {
    let module = grid.file("slow.wasm", slow_echo(rounds));
    let range = format!("0..{UNITS}");
    grid.submit(0, &[&module, "--range", &range, "--per-unit", "1", "--", "{index}"])
}

fn wait_verified(grid: &Grid, job: &str, count: u32) {
    until("some units are verified", || (grid.job(0, job).verified >= count).then_some(()));
}

fn check(grid: &Grid, job: &str) {
    let ended = grid.wait(0, job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(UNITS.into())), "{ended:#}");
    let expected: String = (0..UNITS).map(|unit| format!("{unit}\n")).collect();
    assert_eq!(grid.run(0, &["results", job]).ok(), expected);
}

/// The votes on each verified unit: who, for what.
fn verified_votes(grid: &Grid, job: &str) -> BTreeMap<u32, Vec<(String, String)>> {
    let units = grid.units(0, job).into_iter().filter(|unit| unit.state == "verified");
    units.map(|unit| (unit.unit, unit.votes.into_iter().map(|vote| (vote.peer, vote.output)).collect())).collect()
}

#[test]
fn a_worker_is_killed() {
    let mut grid = Grid::of_own_devices(4);
    let job = submit(&grid);
    wait_verified(&grid, &job, 5);
    grid.kill(2);
    check(&grid, &job);
}

#[test]
fn the_submitter_is_killed_and_comes_back() {
    let mut grid = Grid::of_own_devices(4);
    let job = submit(&grid);
    wait_verified(&grid, &job, 10);
    let before = verified_votes(&grid, &job);
    assert!(before.len() < UNITS as usize, "the job ended too soon for this test");
    grid.kill(0);
    grid.start(0);
    assert!(grid.job(0, &job).verified as usize >= before.len(), "verified results survive");
    check(&grid, &job);
    let after = verified_votes(&grid, &job);
    for (unit, votes) in before {
        assert_eq!(after[&unit], votes, "unit {unit} was verified before and was not computed again");
    }
}

#[test]
fn a_submitter_by_itself_is_killed_again_and_again() {
    let mut grid = Grid::alone();
    let job = submit(&grid);
    for verified in [1, 10, 20] {
        wait_verified(&grid, &job, verified);
        grid.kill(0);
        grid.start(0);
    }
    check(&grid, &job);
}

#[test]
fn a_job_is_cancelled_and_its_units_stop() {
    let grid = Grid::of_own_devices(2);
    let module = grid.file("endless.wasm", with_body("(loop $ever (br $ever))"));
    let job = grid.submit(0, &[&module, "--range", "0..10", "--per-unit", "1", "--", "{index}"]);
    let busy = |at| grid.ask(at, async |mut client| client.status().await.unwrap().slots_busy);
    until("units run on both nodes", || (busy(0) > 0 && busy(1) > 0).then_some(()));
    assert_eq!(grid.run(0, &["cancel", &job]).code, Some(0));
    assert_eq!(grid.run(0, &["wait", &job]).code, Some(7));
    until("units stop on both nodes", || (busy(0) == 0 && busy(1) == 0).then_some(()));
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_node_ran_ends_with_it() {
    let mut grid = Grid::alone();
    let module = grid.file("endless.wasm", with_body("(loop $ever (br $ever))"));
    let _ = grid.submit(0, &[&module, "--range", "0..10", "--per-unit", "1", "--", "{index}"]);
    let children = until("a slot runs", || Some(grid.children(0)).filter(|children| !children.is_empty()));
    grid.kill(0);
    // What has ended, and waits only for somebody to ask how, has no memory map any more.
    let gone = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).map_or(true, |maps| maps.is_empty());
    until("slots have ended", || children.iter().all(gone).then_some(()));
}

/// Nodes are frozen as by a closed lid: their clocks stand still for those who wait in them, and time jumps when they go on.
#[cfg(unix)]
#[test]
fn frozen_nodes_go_on_where_they_were() {
    use rustix::process::Signal;
    let grid = Grid::of_own_devices(3);
    let job = submit_slow(&grid, 300_000_000);
    wait_verified(&grid, &job, 5);
    let frozen = std::env::var("MANYHANDS_FROZEN_SECONDS").map_or(FROZEN, |seconds| Duration::from_secs(seconds.parse().unwrap()));
    let before = verified_votes(&grid, &job);
    assert!(before.len() < UNITS as usize, "the job ended too soon for this test");
    for at in [0, 1] {
        grid.signal(at, Signal::STOP);
        std::thread::sleep(frozen);
        grid.signal(at, Signal::CONT);
    }
    check(&grid, &job);
    let after = verified_votes(&grid, &job);
    for (unit, votes) in before {
        assert_eq!(after[&unit], votes, "unit {unit} stays as it was");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_node_left_is_put_away_and_told() {
    use std::{
        fs,
        os::unix::process::ExitStatusExt as _,
        process::{Command, Stdio},
    };
    let mut grid = Grid::alone();
    let process = grid.process(0).to_string();
    grid.kill(0);
    for draft in ["control.json.4711", "settings.json.0123.tmp", "tmp/9"] {
        fs::write(grid.data_dir(0).join(draft), "half of it").unwrap();
    }
    // As a slot looks that has outlived its node, which ours do not.
    grid.file("__slot", "read forever");
    let mut orphan = Command::new("/bin/sh");
    orphan.args(["__slot", "run", "1", &process]).current_dir(grid.directory()).stdin(Stdio::piped());
    let mut orphan = orphan.spawn().unwrap();
    grid.start(0);
    let told = "the last run was not ended in order: 3 unfinished files removed, 1 slot processes ended";
    assert!(grid.log(0).contains(told), "{}", grid.log(0));
    assert_eq!(orphan.wait().unwrap().signal(), Some(9));
    let _ = grid.run(0, &["stop"]).ok();
    assert!(grid.ends_within(0, crate::grid::DEADLINE).is_some());
    assert_eq!(crate::audit::Audit::of(grid.data_dir(0)).findings(), Vec::<String>::new());
    grid.start(0);
    assert_eq!(grid.log(0).matches("not ended in order").count(), 1, "once");
}
