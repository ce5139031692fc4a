//! `submit` and `try`: splitters, job files, limits, and every way to get them wrong.

use super::{
    module_check::tests::DOES_NOTHING as MODULE,
    tests::{Ran, run_with},
};
use crate::control::fake::FakeNode;
use std::{path::Path, sync::Arc};

/// A directory with a module, some inputs and a node.
async fn served() -> (tempfile::TempDir, Arc<FakeNode>) {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, _task) = FakeNode::serve(dir.path()).await;
    for (name, bytes) in [
        ("app.wasm", MODULE),
        ("lines.txt", b"a\nb\r\nc"),
        ("people.csv", b"name,text\nx,\"two\nlines\"\ny,z\n"),
        ("rows.jsonl", b"{\"a\":1}\n\n{\"a\":2}\n"),
        ("empty.txt", b""),
        ("in-1.fa", b"ACGT"),
        ("in-2.fa", b"TTTT"),
        ("native", b"\x7fELF\x02"),
    ] {
        std::fs::write(dir.path().join(name), bytes).expect("written");
    }
    (dir, node)
}

/// Runs `submit` (or `try`); `@` in an argument stands for the directory.
async fn run(dir: &Path, line: &str, stdin: Option<&str>) -> Ran {
    let place = dir.to_str().expect("text");
    let words: Vec<String> = line.split(' ').map(|word| word.replace("@/", &format!("{place}/"))).collect();
    run_with(dir, &words.iter().map(String::as_str).collect::<Vec<_>>(), stdin).await
}

fn inputs(node: &FakeNode) -> Vec<(String, String)> {
    let jobs = node.jobs.lock().expect("lock");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    jobs.last().expect("submitted").units.iter().map(|(name, data)| (name.clone(), text(data))).collect()
}

/// Submits and compares the units with `expect`: name and input.
async fn check(line: &str, stdin: Option<&str>, expect: &[(&str, &str)]) {
    let (dir, node) = served().await;
    let ran = run(dir.path(), line, stdin).await;
    assert_eq!(ran.code, 0, "{line}: {}", ran.err);
    let expect: Vec<_> = expect.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect();
    assert_eq!(inputs(&node), expect, "{line}");
}

/// Submits and compares the error's first lines; nothing may be left at the node.
async fn fails(line: &str, stdin: Option<&str>, expect: &str) {
    let (dir, node) = served().await;
    let ran = run(dir.path(), line, stdin).await;
    let err = ran.err.replace(&format!("{}/", dir.path().display()), "");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line}: {err}");
    assert!(err.starts_with(expect), "{line}:\n{err}");
    assert!(err.contains("  try:   "), "{line} gives no hint:\n{err}");
    assert!(node.jobs.lock().expect("lock").is_empty(), "{line} left a job behind");
}

#[tokio::test]
async fn each_splitter_makes_its_units() {
    check("submit @/app.wasm --files @/in-*.fa", None, &[("in-1.fa", "ACGT"), ("in-2.fa", "TTTT")]).await;
    check("submit @/app.wasm --lines @/lines.txt --per-unit 2", None, &[("lines.txt#0", "a\nb\r\n"), ("lines.txt#1", "c")]).await;
    let people = [("people.csv#0", "name,text\nx,\"two\nlines\"\n"), ("people.csv#1", "name,text\ny,z\n")];
    check("submit @/app.wasm --csv @/people.csv --per-unit 1", None, &people).await;
    check("submit @/app.wasm --jsonl @/rows.jsonl", None, &[("rows.jsonl#0", "{\"a\":1}\n"), ("rows.jsonl#1", "{\"a\":2}\n")]).await;
    check("submit @/app.wasm --chunk 3B @/in-1.fa", None, &[("in-1.fa#0", "ACG"), ("in-1.fa#1", "T")]).await;
    check("submit @/app.wasm --range 1..11 --per-unit 4 -- {start} {end}", None, &[("", ""); 3]).await;
    check("submit @/app.wasm", Some("piped"), &[("", "piped")]).await;
    check("submit @/app.wasm --lines - --per-unit 1", Some("x\ny\n"), &[("stdin#0", "x\n"), ("stdin#1", "y\n")]).await;
    check("submit @/app.wasm", None, &[("", "")]).await;
}

#[tokio::test]
async fn a_large_unit_arrives_in_parts() {
    let (dir, node) = served().await;
    let text = "0123456789".repeat(100_000);
    assert_eq!(run(dir.path(), "submit @/app.wasm", Some(&text)).await.code, 0);
    assert_eq!(inputs(&node), [(String::new(), text)]);
}

#[tokio::test]
async fn wrong_inputs_are_named_and_leave_nothing() {
    fails("submit @/none.wasm", None, "error: none.wasm cannot be read\n  cause: no such file\n").await;
    fails("submit @/native", None, "error: native is a native program, not WebAssembly\n  cause: strangers' machines").await;
    fails("submit @/empty.txt", None, "error: empty.txt is empty\n  try:   cargo build").await;
    fails("submit --range 1..2", None, "error: no module is named\n").await;
    fails("submit @/app.wasm --range 5..5", None, "error: the range 5..5 is empty\n").await;
    fails("submit @/app.wasm --range 9..5", None, "error: the range 9..5 is reversed\n").await;
    fails("submit @/app.wasm --range 1..9 --per-unit 0", None, "error: --per-unit 0 makes no units\n").await;
    let many = "error: a job of 100,000,000 units is too large\n  cause: a job has at most 10,000,000 units\n";
    fails("submit @/app.wasm --range 0..100_000_000 --per-unit 1", None, many).await;
    fails("submit @/app.wasm --lines @/none.txt", None, "error: none.txt cannot be read\n  cause: no such file\n").await;
    fails("submit @/app.wasm --lines @/empty.txt", None, "error: empty.txt is empty\n  cause: the job would have no units\n").await;
    fails("submit @/app.wasm --files @/*.bam", None, "error: no file matches `*.bam`\n").await;
    fails("submit @/app.wasm --lines @/lines.txt --range 1..2", None, "error: --lines and --range cannot go together\n").await;
    fails("submit @/app.wasm --chunk 0 @/lines.txt", None, "error: `0` is no size of a unit\n").await;
    fails("submit @/app.wasm --chunk 1MiB @/lines.txt --per-unit 2", None, "error: --per-unit has nothing to count here\n").await;
    fails(
        "submit @/app.wasm --memory 5GiB",
        None,
        "error: --memory 5GiB is out of bounds\n  cause: it is more than zero and at most 4GiB\n",
    )
    .await;
    fails("submit @/app.wasm --time 2d", None, "error: --time 2d is out of bounds\n").await;
    fails("submit @/app.wasm -- {start}", None, "error: {start} and {end} have no numbers to stand for\n").await;
    fails("submit @/app.wasm --lines -", Some("x"), "error: --per-unit is missing\n").await;
}

#[tokio::test]
async fn an_input_that_breaks_half_way_leaves_nothing() {
    let (dir, node) = served().await;
    let csv = format!("h\n{}\"open\n", "x\n".repeat(1000));
    let ran = run(dir.path(), "submit @/app.wasm --csv - --per-unit 1", Some(&csv)).await;
    let expect = "error: standard input cannot be cut into units
  cause: the quoted field that begins in line 1002 has no closing quote
  try:   repair the file, or use --lines if it is no CSV
";
    assert_eq!((ran.code, ran.err.as_str()), (2, expect));
    assert!(node.jobs.lock().expect("lock").is_empty());
    assert_eq!(*node.submissions_failed.lock().expect("lock"), 1);
}

#[tokio::test]
async fn the_size_of_units_is_chosen_and_said() {
    let (dir, node) = served().await;
    let ran = run(dir.path(), "submit @/app.wasm --range 0..1_000_000_000", None).await;
    assert!(ran.err.starts_with("chosen: 100,000 numbers per unit, 10,000 units   (change it with --per-unit N)\n"), "{}", ran.err);
    assert_eq!(inputs(&node).len(), 10_000);
    let few = run(dir.path(), "submit @/app.wasm --range 0..5000", None).await;
    assert!(few.err.starts_with("chosen: 1 number per unit, 5,000 units"), "{}", few.err);
}

#[tokio::test]
async fn what_is_submitted_is_what_was_asked() {
    let (dir, node) = served().await;
    let line = "submit @/app.wasm --range 1..9 --per-unit 8 --memory 512MiB --time 10m --output 1MiB --gas 5_000 --log 1KiB \
                --policy strict --priority -2 --tag math --tag bio --purpose fun --name p --reduce none -- -x {start}";
    let ran = run(dir.path(), line, None).await;
    assert!(ran.code == 0 && ran.out.contains("  p  1 unit, strict verification   (0 B sent)"), "{ran:?}");
    let jobs = node.jobs.lock().expect("lock");
    let spec = &jobs[0].spec;
    assert_eq!((spec.memory_bytes, spec.wall_ms, spec.output_bytes, spec.gas, spec.log_bytes), (512 << 20, 600_000, 1 << 20, 5000, 1024));
    assert_eq!((spec.policy.as_str(), spec.priority, spec.reduce.as_str()), ("strict", -2, "none"));
    assert_eq!((spec.tags.join(","), spec.purpose.as_str(), spec.args.join(" ")), ("math,bio".into(), "fun", "-x {start}".into()));
}

#[tokio::test]
async fn the_same_job_twice_is_one_unless_new() {
    let (dir, node) = served().await;
    let first = run(dir.path(), "submit @/app.wasm -o id", None).await.out;
    let second = run(dir.path(), "submit @/app.wasm", None).await;
    assert!(second.out.contains("submitted before; this is the same job") && second.err.contains("--new"), "{second:?}");
    assert_ne!(run(dir.path(), "submit @/app.wasm --new -o id", None).await.out, first);
    assert_eq!(node.jobs.lock().expect("lock").len(), 2);
}

#[tokio::test]
async fn submit_and_wait_returns_the_outcome() {
    let (dir, _node) = served().await;
    let ran = run(dir.path(), "submit @/app.wasm --range 0..4 --wait", None).await;
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("✓ done: 4 units verified"), "{}", ran.err);
}

#[tokio::test]
async fn a_dry_run_can_be_submitted_and_submits_nothing() {
    let (dir, node) = served().await;
    let line = "submit @/app.wasm --range 1..1_000_001 --time 10m --dry-run -- {start}";
    let dry = run(dir.path(), line, None).await;
    let text = dry.out.replace(&format!("{}/", dir.path().display()), "");
    let expect = r#"# units: 10,000
module = "app.wasm"
args = ["{start}"]
range = "1..1000001"
per-unit = 100
memory = "1GiB"
time = "10m"
output = "16MiB"
gas = 100000000000000
log = "64KiB"
policy = "standard"
name = "app"
reduce = "concat"
"#;
    assert_eq!(text, expect);
    assert!(node.jobs.lock().expect("lock").is_empty());
    std::fs::write(dir.path().join("job.toml"), text).expect("written");
    assert_eq!(run(dir.path(), "submit @/job.toml -q", None).await.code, 0);
    assert_eq!(inputs(&node).len(), 10_000, "paths in a job file are relative to it");
    let again = run(dir.path(), "submit @/job.toml --per-unit 1000 --dry-run -o json", None).await.out;
    let json: serde_json::Value = serde_json::from_str(&again).expect("json");
    assert_eq!((json["units"].as_u64(), json["job"]["per-unit"].as_u64()), (Some(1000), Some(1000)), "flags win");
}

#[tokio::test]
async fn a_reducer_has_arguments_from_the_job_file_or_with_the_flag() {
    let (dir, node) = served().await;
    let file = "module = \"app.wasm\"\nreduce = \"app.wasm\"\nreduce-arg = [\"--merge\"]\n";
    std::fs::write(dir.path().join("job.toml"), file).expect("written");
    for (options, reduce, arguments) in [
        ("-q", "module", &["--merge"][..]),
        ("--reduce-arg -x --reduce-arg y", "module", &["-x", "y"]),
        ("--reduce @/app.wasm", "module", &[]),
        ("--reduce concat", "concat", &[]),
    ] {
        let ran = run(dir.path(), &format!("submit @/job.toml --new {options}"), None).await;
        assert_eq!(ran.code, 0, "{options}: {ran:?}");
        let jobs = node.jobs.lock().expect("lock");
        let spec = &jobs.last().expect("a job").spec;
        let found: Vec<&str> = spec.reduce_args.iter().map(String::as_str).collect();
        assert_eq!((spec.reduce.as_str(), &found[..]), (reduce, arguments), "{options}");
    }
    let ran = run(dir.path(), "submit @/job.toml --reduce none --reduce-arg --merge", None).await;
    assert!(ran.code == 2 && ran.err.contains("there is no reducer"), "{ran:?}");
}

#[tokio::test]
async fn an_unknown_key_is_shown_with_line_and_caret() {
    let (dir, _node) = served().await;
    std::fs::write(dir.path().join("job.toml"), "module = \"app.wasm\"\nmemmory = \"1GiB\"\n").expect("written");
    let ran = run(dir.path(), "submit @/job.toml", None).await;
    assert_eq!(ran.code, 2);
    for part in ["is not a job file", "line 2, column 1", "^^^^^^^", "unknown field `memmory`", "  try:   manyhands submit --help"] {
        assert!(ran.err.contains(part), "{part} in\n{}", ran.err);
    }
}

#[tokio::test]
async fn toml_is_for_dry_runs_only() {
    let (dir, _node) = served().await;
    assert_eq!(run(dir.path(), "submit @/app.wasm --dry-run -o toml", None).await.code, 0);
    assert_eq!(run(dir.path(), "jobs -o toml", None).await.code, 2);
}

#[test]
fn every_flag_is_a_key_of_the_job_file() {
    use clap::Args as _;
    let command = super::job_options::JobOptions::augment_args(clap::Command::new("job"));
    let error = toml::from_str::<super::job_options::JobOptions>("none = 1").expect_err("no such key").to_string();
    for arg in command.get_arguments() {
        let key = arg.get_long().unwrap_or(arg.get_id().as_str());
        assert!(error.contains(&format!("`{key}`")), "{key} is no key: {error}");
    }
}
