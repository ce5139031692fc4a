//! What an owner loses its workers still have.

use crate::{
    grid::{Grid, until},
    modules::slow_echo,
};

const UNITS: u32 = 80;
const LOST_AT: u32 = 60;

/// Executions that ended in a value on these nodes, since each was started.
fn units_run(grid: &Grid, nodes: std::ops::Range<usize>) -> u64 {
    nodes.map(|at| grid.ask(at, async |mut client| client.status().await.unwrap().units_run)).sum()
}

#[test]
fn votes_that_an_owner_loses_come_back_from_its_workers() {
    let mut grid = Grid::new();
    grid.add(0);
    for _ in 0..3 {
        grid.add(1);
    }
    let ticket = grid.run(0, &["invite", "--own", "--uses", "3"]).ok();
    for at in 1..4 {
        let _ = grid.run(at, &["join", ticket.trim()]).ok();
    }
    grid.wait_for_peers(0, 3);
    let module = grid.file("slow.wasm", slow_echo(60_000_000));
    let range = format!("0..{UNITS}");
    let job = grid.submit(0, &[&module, "--range", &range, "--per-unit", "1", "--", "{index}"]);
    until("most units are verified", || (grid.job(0, &job).verified >= LOST_AT).then_some(()));
    grid.kill(0);
    // The disk with manifest and secret is left: votes, verdicts and outputs are gone.
    let database = rusqlite::Connection::open(grid.directory().join("node-0").join("facts.sqlite")).unwrap();
    database.execute_batch("DELETE FROM vote; DELETE FROM verdict; DELETE FROM pin; DELETE FROM blob WHERE size < 16;").unwrap();
    drop(database);
    let before = units_run(&grid, 1..4);
    grid.start(0);
    assert_eq!(grid.job(0, &job).verified, 0, "nothing is known at first");
    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(UNITS.into())), "{ended:#}");
    let expected: String = (0..UNITS).map(|unit| format!("{unit}\n")).collect();
    assert_eq!(grid.run(0, &["results", &job]).ok(), expected);
    let again = units_run(&grid, 1..4) - before;
    println!("{again} executions after the loss");
    // Two for each unit that was open, and for what was under way; all of them would be twice as many as there are units.
    assert!(again < u64::from(UNITS), "{again} executions");
}
