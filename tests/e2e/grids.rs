//! Grids in which nothing goes wrong.

use crate::{grid::Grid, modules::bundled};
use serde_json::Value;

/// How many primes there are below a million.
const PRIMES_BELOW_A_MILLION: u64 = 78_498;

fn sum(results: &str) -> u64 {
    results.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

fn contributors(job: &Value) -> usize {
    let all = job["contributors"].as_array().unwrap();
    all.iter().filter(|one| one["units"].as_u64().unwrap() > 0).count()
}

#[test]
fn guests_compute_what_one_submits_and_another_watches() {
    let grid = Grid::of_guests(4);
    let job = grid.submit(0, &[&bundled("primes.wasm"), "--range", "1..1_000_000", "--per-unit", "20_000", "--", "{start}", "{end}"]);

    let watched = grid.run(2, &["watch", &job, "-o", "jsonl"]);
    assert_eq!(watched.code, Some(0), "{watched:#?}");
    let last: Value = serde_json::from_str(watched.out.lines().last().unwrap()).unwrap();
    assert_eq!((last["state"].as_str(), last["verified"].as_u64(), last["units"].as_u64()), (Some("done"), Some(50), Some(50)));

    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(50)), "{ended:#}");
    assert_eq!(sum(&grid.run(0, &["results", &job]).ok()), PRIMES_BELOW_A_MILLION);
    let verified = grid.run(0, &["verify", &job, "-o", "json"]).json();
    assert_eq!((verified["sound"].as_bool(), verified["receipts_bad"].as_u64()), (Some(true), Some(0)), "{verified:#}");
}

#[test]
fn own_devices_verify_one_another() {
    let mut grid = Grid::new();
    // The submitter lends nothing, so that each unit needs the votes of two others.
    grid.add(0);
    for _ in 0..3 {
        grid.add(1);
    }
    let ticket = grid.run(0, &["invite", "--own", "--uses", "3"]).ok();
    for at in 1..4 {
        let joined = grid.run(at, &["join", ticket.trim(), "-o", "json"]).json();
        assert_eq!(joined["kind"], "own");
    }
    grid.wait_for_peers(0, 3);
    let peers = grid.run(0, &["peers", "-o", "json"]).json();
    assert!(peers["peers"].as_array().unwrap().iter().all(|peer| peer["standing"] == "own"), "{peers:#}");

    let job = grid.submit(0, &[&bundled("primes.wasm"), "--range", "1..1_000_000", "--per-unit", "20_000", "--", "{start}", "{end}"]);
    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(50)), "{ended:#}");
    assert_eq!(ended["checked_by_owner"], 0, "{ended:#}");
    assert!(contributors(&ended) >= 2, "{ended:#}");
    assert_eq!(sum(&grid.run(0, &["results", &job]).ok()), PRIMES_BELOW_A_MILLION);
    for unit in grid.units(0, &job) {
        let votes = unit.votes.iter().filter(|vote| vote.counted && !vote.struck).count();
        assert!(votes >= 2 && unit.votes.iter().all(|vote| vote.output == unit.votes[0].output), "{unit:#?}");
    }
}

#[test]
fn the_same_job_twice_is_one_job() {
    let grid = Grid::alone();
    let words = [&bundled("primes.wasm"), "--range", "1..10_000", "--per-unit", "1_000", "--", "{start}", "{end}"];
    let (first, second) = (grid.submit(0, &words), grid.submit(0, &words));
    assert_eq!(first, second);
    assert_eq!(grid.wait(0, &first)["verified"], 9 + 1);
    assert_eq!(sum(&grid.run(0, &["results", &first]).ok()), 1_229);
    assert_eq!(grid.run(0, &["jobs", "-o", "json"]).json()["jobs"].as_array().unwrap().len(), 1);
}
