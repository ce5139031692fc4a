//! Inputs and outputs that are too large to travel inside of messages.

use crate::{grid::Grid, modules::bundled};
use std::{collections::BTreeMap, fmt::Write as _, fs};

/// A text of about 300 KB, other words in each file, and how often each word occurs.
pub fn text(file: u32) -> (String, BTreeMap<String, u64>) {
    let (mut text, mut counts) = (String::new(), BTreeMap::new());
    for i in 0..40_000_u32 {
        let word = format!("w{}x{file}", i * i % 9_973);
        write!(text, "{word}{}", if i % 10 == 9 { "\n" } else { " " }).unwrap();
        *counts.entry(word).or_default() += 1;
    }
    (text, counts)
}

pub fn table(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(word, count)| format!("{word}\t{count}\n")).collect()
}

#[test]
fn large_inputs_and_outputs_travel_between_nodes() {
    let mut grid = Grid::new();
    // Nothing is computed where the files are.
    grid.add(0);
    for _ in 0..3 {
        grid.add(1);
    }
    let ticket = grid.run(0, &["invite", "--own", "--uses", "3"]).ok();
    for at in 1..4 {
        let _ = grid.run(at, &["join", ticket.trim()]).ok();
    }
    grid.wait_for_peers(0, 3);
    let texts: Vec<_> = (0..6).map(text).collect();
    for (i, (text, _)) in texts.iter().enumerate() {
        grid.file(&format!("book-{i}.txt"), text);
    }
    let job = grid.submit(0, &[&bundled("wordcount.wasm"), "--files", "book-*.txt", "--reduce", "none"]);
    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(6)), "{ended:#}");
    let _ = grid.run(0, &["results", &job, "--output", "out"]).ok();
    for (i, (_, counts)) in texts.iter().enumerate() {
        let output = fs::read_to_string(grid.directory().join(format!("out/book-{i}.txt.out"))).unwrap();
        assert!(output.len() > 16 << 10, "large enough to be a blob");
        assert_eq!(output, table(counts), "book {i}");
    }
}

#[test]
fn standard_input_is_one_unit() {
    let grid = Grid::alone();
    let (text, counts) = text(7);
    let submitted = grid.run_with_input(0, &["submit", &bundled("wordcount.wasm"), "-o", "id"], text.as_bytes()).ok();
    assert_eq!(grid.wait(0, submitted.trim())["verified"], 1);
    assert_eq!(grid.run(0, &["results", submitted.trim()]).ok(), table(&counts));
}
