//! Jobs whose outputs another program reads: its output is the result, and its failure is told.

use crate::{
    grid::Grid,
    modules::{bundled, with_body},
};
use std::fs;

/// A job that counts the words of two books, each by itself; it has ended.
fn counted(grid: &Grid, reduce: &[&str]) -> String {
    grid.file("book-0.txt", "the cat and the dog\n");
    grid.file("book-1.txt", "a dog and a bird\n");
    let wordcount = bundled("wordcount.wasm");
    let words: Vec<&str> = [&wordcount, "--files", "book-*.txt", "--reduce"].iter().chain(reduce).copied().collect();
    let job = grid.submit(0, &words);
    assert_eq!(grid.wait(0, &job)["verified"], 2);
    job
}

const FIRST: &str = "and\t1\ncat\t1\ndog\t1\nthe\t2\n";
const SECOND: &str = "a\t2\nand\t1\nbird\t1\ndog\t1\n";
const MERGED: &str = "a\t2\nand\t2\nbird\t1\ncat\t1\ndog\t2\nthe\t2\n";

#[test]
fn the_reducer_makes_one_result_of_all_outputs() {
    let grid = Grid::alone();
    let job = counted(&grid, &[&bundled("wordcount.wasm"), "--reduce-arg", "--merge"]);
    assert_eq!(grid.run(0, &["results", &job]).ok(), MERGED);
    let json = grid.run(0, &["results", &job, "-o", "json"]).json();
    assert_eq!((&json["units"][0]["standing"], &json["units"][0]["output"]), (&"reduced".into(), &MERGED.into()), "{json:#}");

    for plain in ["--partial", "--follow"] {
        assert_eq!(grid.run(0, &["results", &job, plain]).ok(), format!("{FIRST}{SECOND}"), "{plain}");
    }
    let _ = grid.run(0, &["results", &job, "--output", "out"]).ok();
    for (name, expected) in [("book-0.txt.out", FIRST), ("book-1.txt.out", SECOND)] {
        assert_eq!(fs::read_to_string(grid.directory().join("out").join(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_reducer_that_fails_is_told_and_the_outputs_stay() {
    let grid = Grid::alone();
    let body = "(call $say (i32.const 64) (i32.const 32) (i32.const 2)) (call $proc_exit (i32.const 3))";
    let reducer = grid.file("fails.wasm", with_body(body));
    let job = counted(&grid, &[&reducer]);
    let ran = grid.run(0, &["results", &job]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(6), ""), "{ran:#?}");
    assert!(
        ran.err.starts_with("error: the reducer failed: exit code 3\n  cause: these words go on and on and on\n  try: "),
        "{}",
        ran.err
    );
    assert_eq!(grid.run(0, &["results", &job, "--partial"]).ok(), format!("{FIRST}{SECOND}"));
}

#[test]
fn arguments_without_a_reducer_are_refused() {
    let grid = Grid::alone();
    let ran = grid.run(0, &["submit", &bundled("wordcount.wasm"), "--reduce-arg", "--merge"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:#?}");
    assert!(ran.err.contains("there is no reducer") && ran.err.contains("--reduce reducer.wasm"), "{}", ran.err);
}
