//! Bundles of real jobs: written by a node, checked by the program alone, and refused when somebody touched them.

use crate::{
    grid::{Grid, Ran},
    modules::bundled,
};
use serde_json::Value;
use std::{
    fs,
    process::{Command, Stdio},
};

/// The program with neither a node nor a directory of one.
fn without_node(grid: &Grid, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manyhands"));
    command.env_clear().arg("--data-dir").arg(grid.directory().join("nothing")).args(arguments);
    command.stdin(Stdio::null()).output().unwrap().into()
}

fn check(grid: &Grid, bundle: &str, more: &[&str]) -> Value {
    let arguments: Vec<&str> = ["-o", "json", "verify", "--bundle", bundle].iter().chain(more).copied().collect();
    without_node(grid, &arguments).json()
}

#[test]
fn a_job_is_proven_to_somebody_without_a_node() {
    let mut grid = Grid::new();
    // The submitter computes nothing itself.
    grid.add(0);
    grid.add(1);
    grid.add(1);
    let ticket = grid.run(0, &["invite", "--own", "--uses", "2"]).ok();
    for at in 1..3 {
        let _ = grid.run(at, &["join", ticket.trim()]).ok();
    }
    grid.wait_for_peers(0, 2);
    let input: String = (0..20).map(|n| format!("{n} line\n")).collect();
    let lines = grid.file("lines.txt", input);
    let job = grid.submit(0, &[&bundled("wordcount.wasm"), "--lines", &lines, "--per-unit", "2"]);
    assert_eq!(grid.wait(0, &job)["state"], "done");

    let bundle = grid.directory().join("proof.mhb").into_os_string().into_string().unwrap();
    let exported = grid.run(0, &["verify", &job, "--sample", "0", "--export", &bundle]);
    assert_eq!(exported.code, Some(0), "{exported:#?}");
    assert!(exported.out.contains("20 inputs and outputs compared with their digests, 0 bad"), "{exported:#?}");
    let sound = check(&grid, &bundle, &["--all"]);
    assert_eq!((sound["sound"].as_bool(), sound["sampled"].as_u64(), sound["mismatches"].as_u64()), (Some(true), Some(10), Some(0)));
    assert_eq!(
        (sound["job"].as_str(), sound["verified_units"].as_u64(), sound["checked_by_owner"].as_u64()),
        (Some(&*job), Some(10), Some(0))
    );
    assert!(sound["receipts_checked"].as_u64() >= Some(20) && sound["voters"] == 2, "{sound:#}");
    assert_eq!(check(&grid, &bundle, &["--sample", "3"])["sampled"], 3);
    assert_eq!(check(&grid, &bundle, &["--unit", "4"])["sampled"], 1);

    // What is computed here becomes the owner's own, and goes into the next bundle with the owner's receipt.
    let checked = grid.run(0, &["verify", &job, "--all", "-o", "json", "--export", &bundle]).json();
    assert_eq!((checked["sound"].as_bool(), checked["sampled"].as_u64()), (Some(true), Some(10)), "{checked:#}");
    assert_eq!(grid.job(0, &job).checked_by_owner, 10);
    let by_owner = check(&grid, &bundle, &[]);
    assert_eq!((by_owner["checked_by_owner"].as_u64(), by_owner["voters"].as_u64()), (Some(10), Some(3)), "{by_owner:#}");

    let small = grid.directory().join("small.mhb").into_os_string().into_string().unwrap();
    let _ = grid.run(0, &["verify", &job, "--sample", "0", "--export", &small, "--digests-only"]).ok();
    let digests = check(&grid, &small, &["--sample", "2"]);
    assert_eq!((digests["sound"].as_bool(), digests["whole"].as_bool(), digests["sampled"].as_u64()), (Some(true), Some(false), Some(0)));
    assert!(digests["verdict"].as_str().unwrap().contains("inputs are not in the bundle"), "{digests:#}");
    assert!(fs::metadata(&small).unwrap().len() < fs::metadata(&bundle).unwrap().len());

    // On standard output it is the same but for what was said meanwhile.
    let piped = grid.command(0, &["verify", &job, "--sample", "0", "--export", "-", "--digests-only"]).output().unwrap();
    assert_eq!(piped.stdout, fs::read(&small).unwrap());
}

#[test]
fn a_bundle_that_somebody_touched_is_refused_with_exit_code_8() {
    let grid = Grid::alone();
    let job = grid.submit(0, &[&bundled("primes.wasm"), "--range", "1..10_000", "--per-unit", "1_000", "--", "{start}", "{end}"]);
    assert_eq!(grid.wait(0, &job)["state"], "done");
    let bundle = grid.directory().join("proof.mhb").into_os_string().into_string().unwrap();
    let _ = grid.run(0, &["verify", &job, "--sample", "0", "--export", &bundle]).ok();
    let whole = fs::read(&bundle).unwrap();
    assert_eq!(check(&grid, &bundle, &["--all"])["sampled"], 10);

    let refused = |bytes: &[u8], code: i32, reason: &str| {
        let path = grid.file("touched.mhb", bytes);
        let ran = without_node(&grid, &["-o", "json", "verify", "--bundle", &path]);
        let error: Value = serde_json::from_str(ran.err.lines().last().unwrap_or_default()).unwrap_or_default();
        assert_eq!((ran.code, error["reason"].as_str()), (Some(code), Some(reason)), "{ran:#?}");
    };
    refused(&whole[..whole.len() / 2], 8, "BUNDLE_CUT");
    let mut bent = whole.clone();
    let last = bent.len() - 200;
    bent[last] ^= 1;
    refused(&bent, 8, "BUNDLE_DAMAGED");
    let mut unsigned = whole.clone();
    let last = unsigned.len() - 1;
    unsigned[last] ^= 1;
    refused(&unsigned, 8, "BUNDLE_NOT_SIGNED");
    let mut newer = whole;
    newer[8] = 2;
    refused(&newer, 2, "BUNDLE_VERSION");
    refused(b"something else", 2, "NOT_A_BUNDLE");
    let missing = without_node(&grid, &["verify", "--bundle", "nowhere.mhb"]);
    assert_eq!(missing.code, Some(4), "{missing:#?}");
    let both = without_node(&grid, &["verify", &job, "--bundle", &bundle]);
    assert_eq!(both.code, Some(2), "{both:#?}");
}
