//! The commands as a user meets them: arguments in, output and exit code out, with a fake node behind the local API.

use super::{
    command,
    context::{Context, Interrupt, Terminals, Volume},
    execute, exit, finish, parse, prepare,
};
use crate::{
    control::{backend::Stop, fake::FakeNode},
    wire::control::{Contributor, JobState, PeerView, Reason},
};
use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
};

/// What a command printed and returned.
#[must_use = "look at the output or at the exit code"]
#[derive(Debug, PartialEq)]
pub struct Ran {
    /// The exit code.
    pub code: u8,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("lock")).into_owned()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn context(dir: &Path) -> (Context, Shared, Shared) {
    let (out, err) = (Shared::default(), Shared::default());
    (Context::new(dir.to_owned(), Box::new(out.clone()), Box::new(err.clone())), out, err)
}

/// Runs a command line against the node of `dir`; `stdin` is a pipe where given.
pub async fn run_with(dir: &Path, arguments: &[&str], stdin: Option<&str>) -> Ran {
    let (mut context, out, err) = context(dir);
    context.terminals = Terminals { stdin: stdin.is_none(), ..Terminals::default() };
    context.stdin = stdin.map(|text| Box::new(io::Cursor::new(text.to_owned())) as Box<dyn io::Read + Send>);
    let begin = ["manyhands", "--data-dir", dir.to_str().expect("text")];
    let words: Vec<_> = begin.iter().chain(arguments).map(Into::into).collect();
    let cli = parse(&words).unwrap_or_else(|error| panic!("{error}"));
    let outcome = match prepare(&cli, &mut context) {
        Ok(()) => execute(cli.command, &mut context).await,
        Err(failure) => Err(failure),
    };
    let code = finish(outcome, &mut context).code();
    Ran { code, out: out.text(), err: err.text() }
}

async fn run(dir: &Path, arguments: &[&str]) -> Ran {
    run_with(dir, arguments, None).await
}

async fn served() -> (tempfile::TempDir, Arc<FakeNode>) {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, _task) = FakeNode::serve(dir.path()).await;
    (dir, node)
}

fn ran(code: u8, out: &str, err: &str) -> Ran {
    Ran { code, out: out.to_owned(), err: err.to_owned() }
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_subcommand_begins_its_help_with_an_example() {
    for sub in command().get_subcommands() {
        let name = sub.get_name();
        let help = sub.clone().render_long_help().to_string();
        let (examples, usage) = (help.find("Examples:\n  "), help.find("Usage:"));
        assert!(examples.is_some() && examples < usage, "{name}:\n{help}");
        assert!(help.contains(&format!("manyhands {name}")), "{name} has an example of its own:\n{help}");
        assert!(sub.get_about().is_some_and(|about| !about.to_string().ends_with('.')), "{name}: the first line has no full stop");
    }
}

#[test]
fn exit_codes_are_documented() {
    let help = command().render_long_help().to_string();
    let expect = "Exit codes:
  0    ok
  1    another error
  2    wrong use: flags, job file, inputs
  3    no node is running here, or it does not answer
  4    no such job, unit or peer
  5    not allowed: token, ticket, owner
  6    the job failed, or a part of it
  7    the job was cancelled
  8    results are unverified or disputed
  124  time-out
  130  interrupted by Ctrl-C; the job continues";
    assert!(help.contains(expect), "{help}");
    assert_eq!(exit::Exit::ALL.map(exit::Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 8, 124, 130]);
}

#[test]
fn a_typo_gets_a_suggestion() {
    let error = parse(&["manyhands", "sumbit"].map(Into::into)).expect_err("no such command").to_string();
    assert!(error.contains("'submit'"), "{error}");
}

#[tokio::test]
async fn without_a_node_every_command_says_how_to_start_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().display();
    let text = format!(
        "error: no node is running on {place}
  cause: there is no control.json, which a running node keeps there
  try:   manyhands up
         or name the directory of a running one with --data-dir
"
    );
    for words in [
        &["status"][..],
        &["peers"],
        &["jobs"],
        &["watch"],
        &["wait"],
        &["results"],
        &["logs"],
        &["why"],
        &["verify"],
        &["pause"],
        &["resume"],
        &["stop"],
        &["invite"],
        &["trust"],
        &["join", "mh-x"],
        &["cancel", "abcd"],
        &["retry", "abcd"],
    ] {
        assert_eq!(run(dir.path(), words).await, ran(3, "", &text), "{words:?}");
    }
}

#[tokio::test]
async fn errors_are_json_too() {
    let (dir, _node) = served().await;
    let Ran { code, out, err } = run(dir.path(), &["wait", "dead", "-o", "json"]).await;
    assert_eq!((code, out.as_str()), (4, ""));
    let expect = r#"{"schema":"manyhands.error/v1","reason":"NOT_FOUND_JOB","message":"no job `dead`","cause":"this node neither submitted it nor keeps it","hints":["manyhands jobs"],"exit_code":4}"#;
    assert_eq!(err, format!("{expect}\n"));
}

#[tokio::test]
async fn empty_states_give_the_next_step() {
    let (dir, _node) = served().await;
    let jobs = run(dir.path(), &["jobs"]).await;
    assert_eq!(jobs, ran(0, "", "no jobs yet\nsubmit one: manyhands submit app.wasm     or see one run: manyhands demo\n"));
    let peers = run(dir.path(), &["peers"]).await;
    let hint = "no peers yet\ninvite one: manyhands invite     or join another grid: manyhands join TICKET\n";
    assert_eq!(peers, ran(0, "", hint));
    let quiet = run(dir.path(), &["peers", "--quiet"]).await;
    assert_eq!(quiet, ran(0, "", ""));
    let last = run(dir.path(), &["watch"]).await;
    assert_eq!(last, ran(4, "", "error: there is no job yet\n  try:   manyhands submit app.wasm\n"));
}

#[tokio::test]
async fn only_the_ticket_is_data() {
    let (dir, _node) = served().await;
    assert_eq!(run(dir.path(), &["invite"]).await.out, "mh-guest-ticket\n");
    let own = run(dir.path(), &["invite", "--own", "--valid", "1h30m"]).await;
    assert_eq!(own.out, "mh-own-ticket\n");
    assert!(own.err.contains("valid for 1h30m, once"), "{}", own.err);
    let json = run(dir.path(), &["invite", "--uses", "3", "-o", "jsonl"]).await.out;
    let expect = r#"{"schema":"manyhands.invite/v1","ticket":"mh-guest-ticket","kind":"guest","valid_seconds":86400,"uses":3}"#;
    assert_eq!(json, format!("{expect}\n"));
    let long = run(dir.path(), &["invite", "--valid", "31d"]).await;
    assert_eq!((long.code, long.out.as_str()), (2, ""));
}

#[tokio::test]
async fn a_ticket_can_be_piped_in() {
    let (dir, _node) = served().await;
    let joined = run_with(dir.path(), &["join", "-"], Some("mh-guest-ticket\n")).await;
    let next = "who is here: manyhands peers     submit: manyhands submit app.wasm\n";
    assert_eq!(joined, ran(0, "✓ joined the grid of quiet-otter\n", next));
    let expired = run(dir.path(), &["join", "old"]).await;
    assert_eq!(expired, ran(5, "", "error: the ticket has expired\n  try:   ask for a new one: manyhands invite\n"));
}

#[tokio::test]
async fn jobs_are_a_table_ids_or_json() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| (job.units, job.verified, job.workers, job.elapsed_ms) = (10_000, 6_120, 14, 130_000));
    node.add_job("f00d1", |job| {
        job.name = "evil\x1b[2J".to_owned();
        (job.units, job.failed) = (3, 1);
        job.set_state(JobState::Failed);
        job.reason = Some(Reason { code: "UNITS_FAILED".to_owned(), text: "1 unit failed".to_owned(), hints: vec![] });
    });
    let table = run(dir.path(), &["jobs"]).await;
    let expect = "JOB    NAME       DONE  VERIFIED      FAILED  PEERS  TIME   STATE
f00d1  evil?[2J   33%   0/3           1       0      0s     failed: 1 unit failed
abcde  primes     61%   6,120/10,000  0       14     2m10s  running
";
    assert_eq!(
        table.out,
        expect.replace("evil?[2J   ", "evil?[2J  ").replace("primes     ", "primes    ").replace("NAME       ", "NAME      ")
    );
    assert_eq!(table.err, "progress: manyhands watch f00d1\n");
    let ids = run(dir.path(), &["jobs", "-o", "id"]).await.out;
    assert_eq!(ids, format!("{:0<64}\n{:0<64}\n", "f00d1", "abcde"));
    let json: serde_json::Value = serde_json::from_str(&run(dir.path(), &["jobs", "-o", "json"]).await.out).expect("json");
    assert_eq!(json["schema"], "manyhands.jobs/v1");
    assert_eq!(json["jobs"][1]["elapsed_seconds"], 130.0);
    assert_eq!(json["jobs"][0]["reason"]["code"], "UNITS_FAILED");
    let lines = run(dir.path(), &["jobs", "-o", "jsonl"]).await.out;
    assert!(lines.lines().all(|line| line.starts_with(r#"{"schema":"manyhands.job/v1","id":""#)), "{lines}");
}

#[tokio::test]
async fn waiting_returns_the_jobs_outcome() {
    let (dir, node) = served().await;
    for (id, state, code) in
        [("aaaaa", JobState::Failed, 6), ("bbbbb", JobState::Stopped, 6), ("ccccc", JobState::Cancelled, 7), ("ddddd", JobState::Done, 0)]
    {
        node.add_job(id, |job| job.set_state(state));
        assert_eq!(run(dir.path(), &["wait", id]).await.code, code, "{state:?}");
        assert_eq!(run(dir.path(), &["watch", id]).await.code, code, "{state:?}");
    }
}

#[tokio::test]
async fn off_a_terminal_progress_is_plain_lines() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| job.units = 4);
    let expect = "primes abcde  0%  verified 0/4 · disputed 0 · failed 0
primes abcde  50%  verified 2/4 · disputed 0 · failed 0
primes abcde  100%  verified 4/4 · disputed 0 · failed 0
✓ done: 4 units verified in 0s · 0 peers
results: manyhands results abcde     proof: manyhands verify abcde
";
    assert_eq!(run(dir.path(), &["watch"]).await, ran(0, "", expect));
    node.add_job("f00d1", |job| job.units = 4);
    let changes = run(dir.path(), &["watch", "@last", "-o", "jsonl"]).await;
    assert_eq!(changes.out.lines().count(), 3);
    node.add_job("beef1", |job| job.units = 4);
    let end = run(dir.path(), &["wait", "--quiet", "-o", "jsonl"]).await;
    assert!(end.out.lines().count() == 1 && end.out.contains(r#""state":"done""#) && end.err.is_empty(), "{end:?}");
}

#[tokio::test]
async fn ctrl_c_detaches_and_says_that_the_job_continues() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| job.name = "hang".to_owned());
    let (mut context, out, err) = context(dir.path());
    let notify = Arc::new(tokio::sync::Notify::new());
    notify.notify_one();
    (context.interrupt, context.volume) = (Interrupt::Notified(notify), Volume::Normal);
    let cli = parse(&["manyhands", "watch", "abcde"].map(Into::into)).expect("right");
    let code = finish(execute(cli.command, &mut context).await, &mut context).code();
    assert_eq!((code, out.text()), (130, String::new()));
    let last = "detached; the job continues     watch: manyhands watch abcde     stop it: manyhands cancel abcde\n";
    assert!(err.text().ends_with(last), "{}", err.text());
}

#[tokio::test]
async fn waiting_can_time_out() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| job.name = "hang".to_owned());
    let late = run(dir.path(), &["wait", "abcde", "--timeout", "1ms", "-q"]).await;
    let expect = "error: job abcde has not ended yet
  cause: waited for 1ms
  try:   manyhands why abcde
         manyhands wait abcde
";
    assert_eq!(late, ran(124, "", expect));
}

#[tokio::test]
async fn results_are_verified_or_refused() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| (job.units, job.verified, job.disputed) = (10_000, 9_997, 3));
    let expect = "error: 3 of 10,000 units have no verified result
  cause: disputed: 4411, 4412, 4413
  try:   manyhands verify abcde              (runs them here, names the wrong peer)
         manyhands results abcde --partial
";
    assert_eq!(run(dir.path(), &["results", "abcde"]).await, ran(8, "", expect));
    node.add_job("f00d1", |job| (job.units, job.verified) = (3, 2));
    let running = run(dir.path(), &["results"]).await;
    assert_eq!(running.code, 8);
    assert!(running.err.contains("cause: the job is still running\n  try:   manyhands wait f00d1"), "{}", running.err);
    let partial = run(dir.path(), &["results", "--partial"]).await;
    assert_eq!(partial, ran(0, "output 0\noutput 1\n", "1 of 3 units are missing     why: manyhands why f00d1\n"));
}

#[tokio::test]
async fn results_go_to_files_or_json() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| {
        (job.units, job.verified) = (2, 2);
        job.reduce = "none".to_owned();
    });
    assert_eq!(run(dir.path(), &["results"]).await.code, 2);
    let target = dir.path().join("out");
    let written = run(dir.path(), &["results", "--output", target.to_str().expect("text")]).await;
    assert_eq!((written.code, written.out.as_str()), (0, ""));
    let mut names: Vec<_> = std::fs::read_dir(&target).expect("made").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["0.fa.out", "1.fa.out", "results.jsonl"]);
    assert_eq!(std::fs::read_to_string(target.join("1.fa.out")).expect("written"), "output 1\n");
    let json = run(dir.path(), &["results", "-o", "json"]).await.out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("a document");
    assert_eq!(json["units"][1]["output"], "output 1\n");
    let lines = run(dir.path(), &["results", "-o", "jsonl"]).await.out;
    let expect = r#"{"schema":"manyhands.result/v1","unit":0,"name":"in/0.fa","standing":"verified","bytes":9,"output":"output 0\n"}"#;
    assert_eq!(lines.lines().next(), Some(expect));
}

#[tokio::test]
async fn logs_reasons_and_proof() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| (job.units, job.verified) = (2, 2));
    assert_eq!(run(dir.path(), &["logs"]).await, ran(0, "==> unit 0 <==\nlog of 0\n==> unit 1 <==\nlog of 1\n", ""));
    assert_eq!(run(dir.path(), &["logs", "--unit", "1"]).await, ran(0, "log of 1\n", ""));
    let why = run(dir.path(), &["why"]).await;
    assert_eq!(why, ran(0, "• no peer is here   (WAITING_FOR_WORK)\n    manyhands invite\n", "this node: manyhands status\n"));
    let proof = run(dir.path(), &["verify"]).await;
    assert_eq!(proof.code, 0);
    assert!(proof.out.starts_with("✓ 4 receipts checked, 0 bad\n"), "{}", proof.out);
    node.add_job("f00d1", |job| (job.units, job.verified, job.disputed) = (2, 1, 1));
    assert_eq!(run(dir.path(), &["verify", "f00d1"]).await.code, 8);
}

#[tokio::test]
async fn a_bundle_is_written_whole_and_checked_without_a_node() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| (job.units, job.verified) = (2, 2));
    let path = dir.path().join("proof.mhb").into_os_string().into_string().expect("text");
    let exported = run(dir.path(), &["verify", "--export", &path]).await;
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(exported.err.contains(&format!("✓ bundle written to {path} (18 B)\nanybody can check it: manyhands verify --bundle {path}\n")));
    assert_eq!(std::fs::read(&path).expect("it is there"), b"mhbundle and so on");
    assert!(!std::path::Path::new(&format!("{path}.part")).exists());
    let piped = run(dir.path(), &["verify", "--export", "-"]).await;
    assert_eq!((piped.code, piped.out.as_str()), (0, "mhbundle and so on"), "the verdict is said, not printed");
    assert!(piped.err.contains("✓ 4 receipts checked, 0 bad"), "{piped:?}");
    let nowhere = run(dir.path(), &["verify", "--export", "/nowhere/at/all"]).await;
    assert!(nowhere.code == 1 && nowhere.err.contains("the bundle cannot be written to /nowhere/at/all"), "{nowhere:?}");

    let elsewhere = tempfile::tempdir().expect("a directory");
    let bad = run(elsewhere.path(), &["verify", "--bundle", &path]).await;
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(bad.err.contains("cause: the bundle is of version 1684955424, which this program does not know"), "{bad:?}");
    let missing = run(elsewhere.path(), &["verify", "--bundle", "nothing.mhb"]).await;
    assert!(missing.code == 4 && missing.err.contains("error: nothing.mhb cannot be taken as a proof\n"), "{missing:?}");
}

#[test]
fn what_is_run_again_is_said_in_one_way() {
    let refused = |words: &[&str]| parse(&words.iter().map(Into::into).collect::<Vec<_>>()).is_err();
    assert!(refused(&["manyhands", "verify", "--all", "--sample", "3"]));
    assert!(refused(&["manyhands", "verify", "--all", "--unit", "3"]));
    assert!(refused(&["manyhands", "verify", "--digests-only"]));
    assert!(refused(&["manyhands", "verify", "@last", "--bundle", "x"]));
    assert!(!refused(&["manyhands", "verify", "--unit", "3", "--unit", "4"]));
    assert!(!refused(&["manyhands", "verify", "--bundle", "x", "--all"]));
    assert!(refused(&["manyhands", "trust", "--remove"]));
    assert!(refused(&["manyhands", "invite", "--own", "--friend"]));
}

#[tokio::test]
async fn friends_are_listed_marked_and_unmarked() {
    let (dir, _node) = served().await;
    let nobody = run(dir.path(), &["trust"]).await;
    assert!(nobody.code == 0 && nobody.err.starts_with("nobody is trusted but this machine\n"), "{nobody:?}");
    let key = "ab".repeat(32);
    let marked = run(dir.path(), &["trust", &key]).await;
    assert!(marked.code == 0 && marked.out.ends_with("is a friend: its results count like those of a machine of yours\n"), "{marked:?}");
    assert!(run(dir.path(), &["trust", &key]).await.out.ends_with("is a friend already\n"));
    assert_eq!(run(dir.path(), &["trust", "-o", "id"]).await.out, format!("{key}\n"));
    assert!(run(dir.path(), &["trust"]).await.out.contains("friend"));
    assert!(run(dir.path(), &["trust", &key, "--remove"]).await.out.contains("is no friend any more"));
    assert_eq!(run(dir.path(), &["trust", "-o", "json"]).await.out, "{\n  \"schema\": \"manyhands.trust/v1\",\n  \"trusted\": []\n}\n");
    let ticket = run(dir.path(), &["invite", "--friend"]).await;
    assert_eq!(ticket.out, "mh-friend-ticket\n");
    assert!(
        ticket.err.starts_with("a ticket for a friend, whose results you trust: give it to nobody else; valid for 1d, once\n"),
        "{ticket:?}"
    );
}

#[tokio::test]
async fn a_job_can_be_cancelled_and_retried() {
    let (dir, node) = served().await;
    node.add_job("abcde", |job| (job.units, job.verified) = (4, 1));
    let nothing = run(dir.path(), &["retry", "abcde"]).await;
    assert!(nothing.code == 0 && nothing.err.starts_with("no unit of abcde has failed"), "{nothing:?}");
    let cancelled = run(dir.path(), &["cancel", "@last"]).await;
    assert_eq!(cancelled.out, "cancelled abcde; 1 of 4 units are verified\n");
    node.add_job("f00d1", |job| (job.units, job.failed) = (4, 2));
    assert_eq!(
        run(dir.path(), &["retry", "f00d1", "--failed"]).await,
        ran(0, "2 units of f00d1 run again\n", "watch: manyhands watch f00d1\n")
    );
}

#[tokio::test]
async fn the_node_can_be_paused_resumed_and_stopped() {
    let (dir, node) = served().await;
    node.status.lock().expect("lock").slots = 4;
    let paused = run(dir.path(), &["pause", "--for", "2h"]).await;
    assert_eq!(paused, ran(0, "paused for 2h; 0 running units are frozen\n", "lend again: manyhands resume\n"));
    assert!(run(dir.path(), &["status"]).await.out.contains("• paused for 2h00m more"));
    assert_eq!(run(dir.path(), &["resume"]).await.out, "lending again: 4 slots\n");
    assert_eq!(run(dir.path(), &["stop"]).await.code, 0);
    assert_eq!(*node.stopped.lock().expect("lock"), Some(Stop::Drain));
    let (dir, node) = served().await;
    assert_eq!(run(dir.path(), &["stop", "--now"]).await.code, 0);
    assert_eq!(*node.stopped.lock().expect("lock"), Some(Stop::Now));
}

#[tokio::test]
async fn peers_are_listed_with_what_was_seen_of_them() {
    let (dir, node) = served().await;
    let peer = PeerView {
        peer: "ab".repeat(32),
        nickname: "quiet-otter".to_owned(),
        connected: true,
        standing: "proven".to_owned(),
        verified_units: 1200,
        verified_gas: 5_000_000_000,
        slots: 2,
        version: "0.1.0".to_owned(),
        ..PeerView::default()
    };
    node.peers.lock().expect("lock").push(peer);
    let expect = "NAME         KEY         NOW        STANDING  SLOTS  VERIFIED  GAS  STRIKES  VERSION
quiet-otter  ababababab  connected  proven    2      1,200     5 G  0        0.1.0
";
    assert_eq!(run(dir.path(), &["peers"]).await, ran(0, expect, "what they do: manyhands jobs\n"));
}

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused() {
    let (dir, _node) = served().await;
    let second = run(dir.path(), &["up"]).await;
    assert_eq!(second.code, 1);
    assert!(second.err.starts_with("error: a node is already running on "), "{}", second.err);
}

#[test]
fn contributors_are_part_of_a_jobs_json() {
    let one = Contributor { peer: "ab".repeat(32), nickname: "x".to_owned(), units: 3, ..Contributor::default() };
    let job = crate::wire::control::Job { contributors: vec![one], ..Default::default() };
    let json = serde_json::to_value(super::view::JobJson::from(&job)).expect("plain data");
    assert_eq!(json["contributors"][0]["units"], 3);
    assert_eq!(json["eta_seconds"], serde_json::Value::Null);
}
