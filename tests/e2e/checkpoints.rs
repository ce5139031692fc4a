//! Long units whose worker is lost: somebody else goes on where it stood. Needs a build that can be told to save more often.

use crate::{
    grid::{DEADLINE, Grid, until},
    modules::bundled,
};
use manyhands::{
    protocol::outcome::{Outcome, UnitLimits, Value},
    sandbox::{Task, run_in_process},
};
use rustix::process::Signal;
use std::sync::Arc;

/// How often units are saved here.
const OFTEN: (&str, &str) = ("MANYHANDS_SAVE_EVERY_MS", "200");

/// A bundled workload with its arguments: some seconds of work.
struct Long {
    module: &'static str,
    arguments: [&'static str; 2],
}

const STEPPED: Long = Long { module: "life.wasm", arguments: ["5", "120000"] };
const RUN_AGAIN: Long = Long { module: "collatz.wasm", arguments: ["1", "12000000"] };

impl Long {
    /// What a run that nobody interrupts comes to.
    fn uninterrupted(&self) -> (Value, Vec<u8>) {
        let module = std::fs::read(bundled(self.module)).unwrap();
        // The job's name, which is the module's, comes first.
        let name = self.module.trim_end_matches(".wasm");
        let args = std::iter::once(name).chain(self.arguments).map(|arg| arg.as_bytes().to_vec()).collect();
        let (stdin, files, limits) = (Arc::from([]), Vec::new(), UnitLimits::default());
        let task = Task { module: manyhands::protocol::ids::Digest([0; 32]), args, stdin, files, seed: [0; 32], limits };
        let mut ended = None;
        run_in_process(&module, &[task], &mut |_, report| ended = Some(report)).unwrap();
        let report = ended.unwrap();
        let Outcome::Value(value) = report.outcome else { panic!("{:?}", report.outcome) };
        (value, report.output)
    }

    fn submit(&self, grid: &Grid) -> String {
        let module = bundled(self.module);
        grid.submit(0, &[&module, "--range", "0..1", "--per-unit", "1", "--", self.arguments[0], self.arguments[1]])
    }
}

/// A node that only submits, and three workers of the same owner, of which the first one alone lends its slot for now.
fn grid(arguments: &[&str]) -> Grid {
    let mut grid = Grid::new();
    grid.add(0);
    for _ in 1..=3 {
        let at = grid.add_saving(arguments, &[OFTEN]);
        assert!(at > 0);
    }
    grid.join_own_devices();
    for at in [2, 3] {
        let _ = grid.run(at, &["pause"]).ok();
    }
    grid
}

fn key(grid: &Grid, at: usize) -> String {
    grid.run(at, &["status", "-o", "id"]).ok().trim().to_owned()
}

/// Waits until the unit was saved when it had used so much gas; how much it was then.
fn saved_at(grid: &Grid, job: &str, at_least: u64) -> u64 {
    until("the unit is saved", || Some(grid.units(0, job)[0].checkpoint_gas).filter(|gas| *gas >= at_least))
}

/// From where the unit was gone on with, as `why` says.
fn resumed_at(grid: &Grid, job: &str) -> Option<u64> {
    let why = grid.run(0, &["why", job, "-o", "json"]).json();
    let reasons = why["reasons"].as_array().unwrap().clone();
    let text = reasons.iter().find(|reason| reason["code"] == "UNIT_RESUMED")?["text"].as_str()?.to_owned();
    let gas = text.split("a checkpoint at ").nth(1)?.split(' ').next()?;
    gas.parse().ok()
}

/// The first worker is lost in this way when most is done. The second goes on, and the third, which begins at the beginning, agrees.
fn goes_on_elsewhere(long: &Long, arguments: &[&str], lose: impl FnOnce(&mut Grid)) {
    let (value, output) = long.uninterrupted();
    let mut grid = grid(arguments);
    let (lost, second) = (key(&grid, 1), key(&grid, 2));
    let job = long.submit(&grid);
    let seen = saved_at(&grid, &job, value.gas / 10 * 6);
    lose(&mut grid);
    let _ = grid.run(2, &["resume"]).ok();
    let unit = until("the second worker is done", || grid.units(0, &job).into_iter().find(|unit| !unit.votes.is_empty()));
    assert_eq!(unit.votes.len(), 1, "{unit:#?}");
    let vote = &unit.votes[0];
    assert_eq!((&vote.peer, &vote.rests_on), (&second, &vec![lost]), "{unit:#?}");
    assert_eq!((vote.gas, &vote.output), (value.gas, &value.output.to_string()), "as if nobody had interrupted it");
    let resumed = resumed_at(&grid, &job).expect("it did not begin at the beginning");
    assert!(resumed >= seen && resumed < value.gas, "{resumed} of {}, {seen} was seen", value.gas);
    let _ = grid.run(3, &["resume"]).ok();
    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(1)), "{ended:#}");
    assert_eq!(grid.run(0, &["results", &job]).ok().as_bytes(), output);
    let unit = grid.units(0, &job).remove(0);
    assert_eq!((unit.votes.len(), unit.checkpoint_gas), (2, 0), "{unit:#?}");
    assert!(unit.votes.iter().all(|vote| vote.counted && vote.gas == value.gas), "{unit:#?}");
}

#[test]
fn a_killed_workers_stepped_unit_goes_on_elsewhere() {
    goes_on_elsewhere(&STEPPED, &[], |grid| grid.kill(1));
}

#[test]
fn a_stopped_workers_unit_with_a_state_file_goes_on_elsewhere() {
    goes_on_elsewhere(&RUN_AGAIN, &["--drain", "0"], |grid| {
        grid.signal(1, Signal::TERM);
        assert!(grid.ends_within(1, DEADLINE).is_some_and(|status| status.success()));
    });
}

#[test]
fn a_paused_unit_is_saved_and_goes_on_where_it_was() {
    let mut grid = grid(&[]);
    grid.stop(3);
    let job = STEPPED.submit(&grid);
    let seen = saved_at(&grid, &job, 1);
    let _ = grid.run(1, &["pause"]).ok();
    let frozen = saved_at(&grid, &job, seen + 1);
    let _ = grid.run(1, &["resume"]).ok();
    assert!(saved_at(&grid, &job, frozen + 1) > frozen);
}
