//! Units that fail: the job ends, exit code 6, and the reason is told.

use crate::{
    grid::Grid,
    modules::{bundled, with_body},
};

struct Case {
    name: &'static str,
    body: &'static str,
    options: &'static [&'static str],
    reason: &'static str,
}

const CASES: [Case; 9] = [
    Case { name: "endless", body: "(loop $ever (br $ever))", options: &["--gas", "50_000_000"], reason: "out of gas" },
    Case { name: "trap", body: "unreachable", options: &[], reason: "unreachable" },
    Case { name: "exit3", body: "(call $proc_exit (i32.const 3))", options: &[], reason: "exit code 3" },
    Case { name: "divides", body: "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 0))))", options: &[], reason: "division by zero" },
    Case { name: "recursion", body: "(drop (call $recurse (i64.const 0)))", options: &[], reason: "stack overflow" },
    Case {
        name: "flood",
        body: "(loop $ever (call $say (i32.const 64) (i32.const 32) (i32.const 1)) (br $ever))",
        options: &["--output", "100KiB"],
        reason: "output limit",
    },
    Case {
        // Takes all that there is, writes to the end of it, and then cannot go on.
        name: "bomb",
        body: "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
               (i64.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)) (i64.const 1))
               unreachable",
        options: &["--memory", "16MiB"],
        reason: "unreachable",
    },
    Case {
        // A subscription to the monotonic clock, far in the future, again and again.
        name: "sleeper",
        body: "(i32.store (i32.const 272) (i32.const 1))
               (i64.store (i32.const 280) (i64.const 3600000000000))
               (loop $ever (drop (call $poll_oneoff (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 768))) (br $ever))",
        options: &[],
        reason: "sleep limit",
    },
    Case { name: "slow", body: "(loop $ever (br $ever))", options: &["--time", "300ms"], reason: "time-out" },
];

#[test]
fn the_reason_of_a_failure_is_told() {
    let grid = Grid::alone();
    for case in CASES {
        let module = grid.file(&format!("{}.wasm", case.name), with_body(case.body));
        let words: Vec<&str> = ["submit", "--wait", "-o", "json", &module].iter().chain(case.options).copied().collect();
        let ran = grid.run(0, &words);
        assert_eq!(ran.code, Some(6), "{}: {ran:#?}", case.name);
        let job: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let id = job["id"].as_str().unwrap();
        assert_eq!((&job["verified"], &job["failed"]), (&0.into(), &1.into()), "{}: {job:#}", case.name);

        let why = grid.run(0, &["why", id]);
        assert_eq!(why.code, Some(0), "{}: {why:#?}", case.name);
        assert!(why.said().contains(case.reason), "{}: {}", case.name, why.said());
        let results = grid.run(0, &["results", id]);
        assert!(results.code != Some(0) && results.out.is_empty(), "{}: {results:#?}", case.name);
        assert!(results.err.contains("failed"), "{}: {}", case.name, results.err);
        assert_eq!(grid.run(0, &["results", id, "--partial"]).ok(), "", "{}", case.name);
    }
}

#[test]
fn a_node_that_ran_bad_units_goes_on_and_a_failed_unit_spoils_no_other() {
    let grid = Grid::of_own_devices(3);
    // Each unit writes its number, and a line to its log; unit 7 traps.
    let module = grid.file(
        "some.wasm",
        with_body(
            "(drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
             (drop (call $args_get (i32.const 1024) (i32.const 4096)))
             (local.set $at (i32.load (i32.const 1028)))
             (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 55)) (then unreachable))
             (call $say (local.get $at) (i32.const 1) (i32.const 1))
             (call $say (i32.const 64) (i32.const 5) (i32.const 2))",
        ),
    );
    let job = grid.submit(0, &[&module, "--range", "0..10", "--per-unit", "1", "--", "{index}"]);
    let ended = grid.run(0, &["wait", &job, "-o", "json"]);
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let ended: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended["verified"].as_u64(), ended["failed"].as_u64()), (Some(9), Some(1)), "{ended:#}");
    assert_eq!(grid.run(0, &["results", &job, "--partial"]).ok(), "012345689");
    assert!(grid.run(0, &["logs", &job, "--unit", "3"]).ok().starts_with("these"));
    let retried = grid.run(0, &["retry", &job, "-o", "json"]);
    assert_eq!(retried.code, Some(0), "{retried:#?}");
    let again = grid.submit(0, &[&bundled("primes.wasm"), "--range", "1..1000", "--per-unit", "1000", "--", "{start}", "{end}"]);
    assert_eq!(grid.wait(0, &again)["verified"], 1);
    assert_eq!(grid.run(0, &["results", &again]).ok(), "168\n");
}
