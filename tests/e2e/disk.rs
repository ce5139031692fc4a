//! A disk that takes no writes, for a while: the node says so, tells nobody anything that it could not keep, loses nothing and goes
//! on by itself. Needs a build that can be told to find its disk full.

use crate::{
    grid::{Grid, until},
    large::{table, text},
    modules::{bundled, slow_echo},
};
use std::fs;

const UNITS: u64 = 40;

/// A grid whose node `victim` finds its disk in a bad way at `place` while the file `fault` is there.
fn grid(victim: usize, action: &str, place: &str) -> Grid {
    let mut grid = Grid::new();
    for at in 0..2 {
        let fault = format!("{action}@{place}:{}", grid.directory().join("fault").display());
        let environment = [("MANYHANDS_STORE_FAULT", fault.as_str())];
        grid.add_with(1, if at == victim { &environment } else { &[] });
    }
    grid.join_own_devices();
    grid
}

fn warnings(grid: &Grid, at: usize) -> String {
    grid.ask(at, async |mut client| client.status().await.unwrap().warnings.join("; "))
}

fn the_submitter_waits_and_goes_on(action: &str, says: &str) {
    let grid = grid(0, action, "before-commit");
    let module = grid.file("slow.wasm", slow_echo(50_000_000));
    let job = grid.submit(0, &[&module, "--range", &format!("0..{UNITS}"), "--per-unit", "1", "--", "{index}"]);
    until("some units are verified", || (grid.job(0, &job).verified > 3).then_some(()));
    let fault = grid.file("fault", "");
    until("the node says that it waits", || warnings(&grid, 0).contains(says).then_some(()));
    assert!(u64::from(grid.job(0, &job).verified) < UNITS, "the job ended too soon for this test");
    fs::remove_file(fault).unwrap();
    let ended = grid.wait(0, &job);
    assert_eq!((&ended["state"], &ended["verified"]), (&"done".into(), &UNITS.into()), "{ended:#}");
    let expected: String = (0..UNITS).map(|unit| format!("{unit}\n")).collect();
    assert_eq!(grid.run(0, &["results", &job]).ok(), expected);
    assert_eq!(warnings(&grid, 0), "");
}

#[test]
fn a_full_disk_is_waited_out() {
    the_submitter_waits_and_goes_on("nospace", "no space is left");
}

#[test]
fn a_disk_that_became_read_only_is_waited_out() {
    the_submitter_waits_and_goes_on("readonly", "read-only");
}

#[test]
fn a_worker_without_room_takes_no_units_and_goes_on_when_there_is() {
    let mut grid = Grid::new();
    grid.add(0);
    let fault = format!("nospace@blob-begins:{}", grid.directory().join("fault").display());
    grid.add_with(1, &[("MANYHANDS_STORE_FAULT", &fault)]);
    grid.add(1);
    grid.join_own_devices();
    let fault = grid.file("fault", "");
    for file in 0..3 {
        grid.file(&format!("book-{file}.txt"), text(file).0);
    }
    let job = grid.submit(0, &[&bundled("wordcount.wasm"), "--files", "book-*.txt"]);
    until("the worker says that it takes no units", || warnings(&grid, 1).contains("no units are taken").then_some(()));
    fs::remove_file(fault).unwrap();
    until("the worker goes on", || warnings(&grid, 1).is_empty().then_some(()));
    assert_eq!(grid.wait(0, &job)["state"], "done");
    let expected: String = (0..3).map(|file| table(&text(file).1)).collect();
    assert_eq!(grid.run(0, &["results", &job]).ok(), expected);
}
