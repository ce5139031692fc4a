//! A peer that returns wrong results: none of them is ever shown as verified, and it is found out.

use crate::{grid::Grid, modules::bundled};
use serde_json::Value;
use std::time::Duration;

const PER_UNIT: u64 = 2_000;
const UNITS: u64 = 150;

/// How many primes there are in each unit.
fn expected() -> Vec<String> {
    let end = usize::try_from(UNITS * PER_UNIT).unwrap();
    let mut composite = vec![false; end];
    composite[..2].fill(true);
    for n in 2..end {
        if !composite[n] {
            (n * n..end).step_by(n).for_each(|multiple| composite[multiple] = true);
        }
    }
    composite.chunks(usize::try_from(PER_UNIT).unwrap()).map(|unit| format!("{}\n", unit.iter().filter(|c| !**c).count())).collect()
}

/// Five nodes, one of which lies as `fault` says; runs a job and looks at its results all the while.
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

    let range = format!("0..{}", UNITS * PER_UNIT);
    let per_unit = PER_UNIT.to_string();
    let words = [&bundled("primes.wasm"), "--policy", policy, "--range", &range, "--per-unit", &per_unit, "--", "{start}", "{end}"];
    let job = grid.submit(0, &words);
    let expected = expected();
    loop {
        let shown = grid.run(0, &["results", &job, "--partial", "-o", "jsonl"]).ok();
        for line in shown.lines() {
            let result: Value = serde_json::from_str(line).unwrap();
            let unit = usize::try_from(result["unit"].as_u64().unwrap()).unwrap();
            let right = result["output"].as_str() == Some(&expected[unit]);
            assert!(right || result["standing"] == "provisional", "{result:#}");
        }
        let waited = grid.ask(0, async |mut client| {
            let mut changes = client.watch(&job).await.unwrap();
            drop(changes.next().await);
            tokio::time::timeout(Duration::from_millis(500), changes.next()).await.is_ok()
        });
        let now = grid.run(0, &["wait", &job, "--timeout", "1ms", "-o", "json"]);
        if waited && now.code != Some(124) {
            break;
        }
    }
    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(UNITS)), "{ended:#}");
    assert_eq!(grid.run(0, &["results", &job]).ok(), expected.concat());
    let convicted: Vec<&str> = ended["contributors"].as_array().unwrap().iter().filter(|one| one["convicted"] == true).map(|one| one["peer"].as_str().unwrap()).collect();
    let peers = grid.run(0, &["peers", "-o", "json"]).json();
    let standing = |key: &str| peers["peers"].as_array().unwrap().iter().find(|peer| peer["peer"] == key).unwrap()["standing"].clone();
    assert!(["quarantined", "banned"].contains(&standing(&liars_key).as_str().unwrap()), "{peers:#}");
    assert!(convicted.iter().all(|peer| *peer == liars_key), "nobody else is accused: {ended:#}");
    for unit in grid.units(0, &job) {
        assert!(unit.votes.iter().all(|vote| vote.struck || !vote.counted || vote.peer != liars_key || fault != "corrupt"), "{unit:#?}");
    }
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
fn a_liar_alone_with_its_results_is_found_out() {
    run("corrupt-after:40", "economy");
}
