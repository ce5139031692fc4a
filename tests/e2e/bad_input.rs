//! What people get wrong: named at once, with what to try, and nothing stays behind.

use crate::{
    grid::{Grid, Ran},
    modules::{bundled, with_body},
};
use manyhands::node::net::ticket::Ticket;

/// An error as people read it: what, why, what to try.
#[track_caller]
fn check_error(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{ran:#?}");
    assert!(ran.err.starts_with("error: ") && ran.err.contains("\n  try:   "), "{}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "`{word}` is missing:\n{}", ran.err);
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn submissions_that_cannot_be_right_are_refused_and_leave_nothing() {
    let grid = Grid::alone();
    let import = |module: &str, name: &str| {
        wat(&format!(r#"(module (import "{module}" "{name}" (func)) (memory (export "memory") 1) (func (export "_start")))"#))
    };
    let files: &[(&str, Vec<u8>)] = &[
        ("fine.wasm", with_body("")),
        ("text.wasm", b"this is a text".to_vec()),
        ("empty.wasm", Vec::new()),
        ("component.wasm", b"\0asm\x0d\0\x01\0".to_vec()),
        ("sock.wasm", import("wasi_snapshot_preview1", "sock_open")),
        ("env.wasm", import("env", "emscripten_run_script")),
        ("threads.wasm", wat(r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#)),
        ("library.wasm", wat(r#"(module (memory (export "memory") 1) (func (export "run")))"#)),
        ("empty.txt", Vec::new()),
        ("key.toml", b"module = \"fine.wasm\"\nper-unit = 10\nrange = \"1..100\"\nretries = 3\n".to_vec()),
        ("syntax.toml", b"module = \"fine.wasm\nrange = 1\n".to_vec()),
    ];
    for (name, bytes) in files {
        grid.file(name, bytes);
    }
    let primes = bundled("primes.wasm");
    let cases: &[(&[&str], &[&str])] = &[
        (&["text.wasm"], &["text.wasm is not a WebAssembly module"]),
        (&["empty.wasm"], &["empty.wasm"]),
        (&["component.wasm"], &["component"]),
        (&["sock.wasm"], &["sock_open"]),
        (&["env.wasm"], &["env", "emscripten_run_script"]),
        (&["threads.wasm"], &["thread"]),
        (&["library.wasm"], &["_start"]),
        (&["missing.wasm"], &["missing.wasm"]),
        (&["fine.wasm", "--lines", "empty.txt"], &["empty.txt is empty"]),
        (&["fine.wasm", "--lines", "missing.txt"], &["missing.txt"]),
        (&["fine.wasm", "--files", "none-*.txt"], &["none-*.txt"]),
        (&[&primes, "--range", "100..1", "--", "{start}", "{end}"], &["100..1", "reversed"]),
        (&[&primes, "--range", "5..5", "--", "{start}", "{end}"], &["empty"]),
        (&[&primes, "--range", "1..100", "--per-unit", "0", "--", "{start}", "{end}"], &["--per-unit 0"]),
        (&["fine.wasm", "--range", "1..100", "--lines", "empty.txt"], &["--lines", "--range"]),
        (&["fine.wasm", "--memory", "0"], &["--memory"]),
        (&["key.toml"], &["key.toml", "line 4", "retries = 3", "^^^^^^^", "unknown"]),
        (&["syntax.toml"], &["syntax.toml", "line 1", "^"]),
    ];
    for (words, expected) in cases {
        let words: Vec<&str> = ["submit"].iter().chain(*words).copied().collect();
        check_error(&grid.run(0, &words), 2, expected);
    }
    let jobs = grid.run(0, &["jobs", "-o", "json"]).json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(0), "nothing stays behind: {jobs:#}");
}

#[test]
fn jobs_units_and_tickets_that_are_not_there_are_named() {
    let grid = Grid::alone();
    check_error(&grid.run(0, &["results", "abcdef"]), 4, &["abcdef"]);
    check_error(&grid.run(0, &["why", "@last"]), 4, &[]);
    for (reference, code) in [("ab", 4), ("not a job", 4)] {
        check_error(&grid.run(0, &["watch", reference]), code, &[]);
    }

    let ticket = grid.run(0, &["invite"]).ok();
    let mut expired = Ticket::decode(&ticket).unwrap();
    expired.expires_unix = 1;
    let mut other = Grid::new();
    let guest = other.add(1);
    check_error(&other.run(guest, &["join", &ticket[..ticket.len() / 2]]), 2, &["cut", "copy the whole line"]);
    check_error(&other.run(guest, &["join", "hello"]), 2, &["not a ticket"]);
    check_error(&other.run(guest, &["join", &expired.encode()]), 5, &["expired", "ask for a new one"]);
    let once = grid.run(0, &["invite", "--uses", "1"]).ok();
    let mut first = Grid::new();
    let lucky = first.add(0);
    let _ = first.run(lucky, &["join", &once]).ok();
    check_error(&other.run(guest, &["join", &once]), 5, &["used"]);
    let mut forged = Ticket::decode(&ticket).unwrap();
    forged.token.0[0] ^= 1;
    check_error(&other.run(guest, &["join", &forged.encode()]), 5, &[]);
    assert!(other.run(guest, &["peers", "-o", "json"]).json()["peers"].as_array().unwrap().iter().all(|peer| peer["connected"] == false));
}

#[test]
fn one_directory_has_one_node() {
    let mut grid = Grid::alone();
    let second = grid.run(0, &["up", "--bind", "127.0.0.1:0", "--no-mdns"]);
    check_error(&second, 1, &["already running", "manyhands status"]);
    assert_eq!(grid.run(0, &["status", "-o", "json"]).json()["slots"], 1, "the first goes on");

    grid.kill(0);
    for words in [&["status"][..], &["jobs"], &["peers"], &["submit", &bundled("noop.wasm")], &["stop"]] {
        check_error(&grid.run(0, words), 3, &["no node is running", "manyhands up"]);
    }
    grid.start(0);
    assert_eq!(grid.run(0, &["stop"]).code, Some(0));
}
