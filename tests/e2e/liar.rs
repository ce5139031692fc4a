//! A peer that returns wrong results: none of them is ever shown as verified, and it is found out.

use crate::{
    grid::{Grid, until},
    modules::slow_echo,
};
use serde_json::Value;
use std::time::Duration;

/// Enough that the liar has to lie: the submitter's own machine cannot compute nearly all of them.
const UNITS: u64 = 300;
/// Some ten milliseconds of work.
const ROUNDS: u64 = 15_000_000;

/// Jobs in all, one after the other, until the liar has lied. How much each machine gets depends on how busy it is; with a record it
/// gets its share.
const JOBS_MAX: usize = 8;

/// Five nodes, one of which lies as `fault` says; runs jobs until that is found out, and looks at their results all the while.
fn run(fault: &str, policy: &str) {
    let mut grid = Grid::new();
    grid.add(1);
    for _ in 0..3 {
        grid.add(1);
    }
    let liar = grid.add_with(1, &[("MANYHANDS_FAULT", fault)]);
    let ticket = grid.run(0, &["invite"]).ok();
    for at in 1..=liar {
        let _ = grid.run(at, &["join", ticket.trim()]).ok();
    }
    grid.wait_for_peers(0, 4);
    let liars_key = grid.run(liar, &["status", "-o", "id"]).ok().trim().to_owned();

    let module = grid.file("slow.wasm", slow_echo(ROUNDS));
    let mut jobs = Vec::new();
    for number in 0..JOBS_MAX {
        let (range, name) = (format!("0..{UNITS}"), format!("job {number}"));
        let options = ["--policy", policy, "--name", &name, "--range", &range, "--per-unit", "1", "--", "{index}"];
        let job = grid.submit(0, &[&[module.as_str()], &options[..]].concat());
        watch(&grid, &job, &liars_key, policy);
        // With `economy`, what a liar says last may stand until a later job finds it out; then it is computed again.
        if policy != "economy" {
            check_ended(&grid, &job, &liars_key);
        }
        jobs.push(job);
        if is_found_out(&grid, &liars_key) {
            jobs.iter().for_each(|job| check_ended(&grid, job, &liars_key));
            return;
        }
    }
    panic!("{JOBS_MAX} jobs have not shown that one of their workers lies");
}

/// Looks at a job's results until it has ended: nothing wrong is shown as more than provisional.
fn watch(grid: &Grid, job: &str, liars_key: &str, policy: &str) {
    let expected: Vec<String> = (0..UNITS).map(|unit| format!("{unit}\n")).collect();
    loop {
        let found_out = is_found_out(grid, liars_key);
        let shown = grid.run(0, &["results", job, "--partial", "-o", "jsonl"]).ok();
        for line in shown.lines() {
            let result: Value = serde_json::from_str(line).unwrap();
            let unit = usize::try_from(result["unit"].as_u64().unwrap()).unwrap();
            let right = result["output"].as_str() == Some(&expected[unit]);
            // With `economy`, a proven peer's word counts alone until it is found out.
            let trusted = policy == "economy" && !found_out;
            assert!(right || trusted || result["standing"] == "provisional", "{result:#}");
        }
        let waited = grid.ask(0, async |mut client| {
            let mut changes = client.watch(job).await.unwrap();
            drop(changes.next().await);
            tokio::time::timeout(Duration::from_millis(500), changes.next()).await.is_ok()
        });
        let now = grid.run(0, &["wait", job, "--timeout", "1ms", "-o", "json"]);
        if waited && now.code != Some(124) {
            break;
        }
    }
}

/// What was verified is right, and nobody but the liar was accused.
fn check_ended(grid: &Grid, job: &str, liars_key: &str) {
    let expected: Vec<String> = (0..UNITS).map(|unit| format!("{unit}\n")).collect();
    let ended = grid.wait(0, job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(UNITS)), "{ended:#}");
    assert_eq!(grid.run(0, &["results", job]).ok(), expected.concat());
    let contributors = ended["contributors"].as_array().unwrap();
    assert!(contributors.iter().all(|one| one["convicted"] == false || one["peer"] == *liars_key), "nobody else is accused: {ended:#}");
    for unit in grid.units(0, job) {
        let counted = unit.votes.iter().filter(|vote| vote.counted && !vote.struck);
        assert!(counted.clone().all(|vote| vote.output == unit.output), "{unit:#?}");
    }
}

fn is_found_out(grid: &Grid, liar: &str) -> bool {
    is_found_out_at(grid, 0, liar)
}

pub fn is_found_out_at(grid: &Grid, at: usize, liar: &str) -> bool {
    let peers = grid.run(at, &["peers", "-o", "json"]).json();
    let found = peers["peers"].as_array().unwrap().iter().find(|peer| peer["peer"] == liar);
    found.is_some_and(|peer| peer["standing"] == "quarantined" || peer["standing"] == "banned")
}

#[test]
fn a_liar_from_the_beginning_is_found_out() {
    run("corrupt", "standard");
}

#[test]
fn a_liar_that_was_honest_for_a_while_is_found_out() {
    run("corrupt-after:30", "standard");
}

#[test]
fn what_a_liar_alone_vouched_for_is_computed_again() {
    run("corrupt-after:25", "economy");
}

/// What a job's workers gave, at the node that owns it: their keys.
fn contributors(grid: &Grid, at: usize, job: &str) -> Vec<String> {
    let ended = grid.wait(at, job);
    assert_eq!(ended["state"].as_str(), Some("done"), "{ended:#}");
    ended["contributors"].as_array().unwrap().iter().map(|one| one["peer"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_liar_that_one_owner_convicts_is_refused_by_another_that_it_never_lied_to() {
    let mut grid = Grid::new();
    for _ in 0..4 {
        grid.add(1);
    }
    let liar = grid.add_with(1, &[("MANYHANDS_FAULT", "corrupt-after:100")]);
    let ticket = grid.run(0, &["invite"]).ok();
    for at in 1..=liar {
        let _ = grid.run(at, &["join", ticket.trim()]).ok();
    }
    grid.wait_for_peers(0, 4);
    grid.wait_for_peers(1, 3);
    let liars_key = grid.run(liar, &["status", "-o", "id"]).ok().trim().to_owned();
    let module = grid.file("slow.wasm", slow_echo(ROUNDS));
    let submit = |grid: &Grid, at: usize, name: &str, units: u32| {
        let range = format!("0..{units}");
        grid.submit(at, &[&module, "--name", name, "--range", &range, "--per-unit", "1", "--", "{index}"])
    };
    let first = submit(&grid, 1, "first", 100);
    assert!(contributors(&grid, 1, &first).contains(&liars_key), "it has a record to lose, and was honest so far");
    let found_out = (0..JOBS_MAX).any(|number| {
        let job = submit(&grid, 0, &format!("job {number}"), 300);
        let _ = contributors(&grid, 0, &job);
        is_found_out(&grid, &liars_key)
    });
    assert!(found_out, "{JOBS_MAX} jobs have not shown that one of their workers lies");
    until("the other has run the unit again", || is_found_out_at(&grid, 1, &liars_key).then_some(()));
    let third = submit(&grid, 1, "last", 60);
    assert!(!contributors(&grid, 1, &third).contains(&liars_key));
}
