//! What people see while a liar is among five peers: provisional, verified, in dispute, re-checking, verified. Each stage is brought
//! about on purpose and stays until the next is, and what the commands print is compared with `snapshots/`, word for word.
//!
//! `MANYHANDS_SNAPSHOT=write` writes the snapshots anew, for a person to read.

use crate::{
    grid::{Grid, Ran, until},
    modules::slow_echo,
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
};

/// The liar says something else where an honest machine prints this.
const LIE: (&str, &str) = ("MANYHANDS_FAULT", "corrupt-output:1");

/// What was printed so far, with the names of this run replaced.
struct Transcript {
    grid: Grid,
    names: Vec<(String, String)>,
    text: String,
}

impl Transcript {
    fn new() -> Self {
        Self { grid: Grid::new(), names: Vec::new(), text: String::new() }
    }

    /// Starts a node that is called so.
    fn node(&mut self, name: &str, slots: u32, environment: &[(&str, &str)]) -> usize {
        let at = self.grid.add_with(slots, environment);
        let status = self.grid.run(at, &["status", "-o", "json"]).json();
        for field in ["peer", "nickname"] {
            self.names.push((status[field].as_str().unwrap().to_owned(), name.to_owned()));
        }
        at
    }

    fn key(&self, name: &str) -> String {
        self.names.iter().find(|(_, known)| known == name).unwrap().0.clone()
    }

    fn join(&self, at: usize, invite: &[&str]) {
        let ticket = self.grid.run(0, invite).ok();
        let _ = self.grid.run(at, &["join", ticket.trim()]).ok();
    }

    /// A job of so many units, each of which prints its index.
    fn submit(&mut self, name: &str, units: u32) -> String {
        let module = self.grid.file(&format!("{name}.wasm"), slow_echo(1_000_000));
        // What `watch` says of keepers depends on how quick they are.
        let (range, options) = (format!("0..{units}"), ["--keep", "none", "--per-unit", "1"]);
        let job = self.grid.submit(0, &[&[&*module, "--range", &*range], &options[..], &["--", "{index}"]].concat());
        self.names.push((job.clone(), "JOB".to_owned()));
        job
    }

    fn stage(&mut self, name: &str) {
        write!(self.text, "=== {name}\n\n").unwrap();
    }

    /// Runs a command at the submitter, and keeps what it says.
    fn show(&mut self, arguments: &[&str]) -> Ran {
        let ran = self.grid.run(0, arguments);
        self.keep(arguments, &ran.said(), ran.code);
        ran
    }

    /// The first line of `watch`, which goes on until the job has ended.
    fn show_watch(&mut self, job: &str) {
        let arguments = ["watch", job];
        let mut child = self.grid.command(0, &arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.keep(&arguments, &line, None);
    }

    fn keep(&mut self, arguments: &[&str], said: &str, code: Option<i32>) {
        let shown = format!("$ manyhands {}\n{said}", arguments.join(" "));
        let shown = self.names.iter().fold(shown, |text, (found, name)| text.replace(found, name));
        // Of a job's id people are shown the first digits.
        let jobs = self.names.iter().filter(|(_, name)| name == "JOB");
        let shown = jobs.fold(shown, |text, (id, _)| text.replace(&id[..10], "JOB").replace(&id[..5], "JOB"));
        for line in shown.lines() {
            // How long it took, and how fast it went, is different each time.
            let line = line.split_once(" verified in ").map_or(line.to_owned(), |(what, _)| format!("{what} verified in ..."));
            writeln!(self.text, "{}", line.trim_end()).unwrap();
        }
        match code {
            Some(code) => write!(self.text, "[exit code {code}]\n\n").unwrap(),
            None => self.text.push_str("[goes on]\n\n"),
        }
    }

    /// Waits until the job is as wanted.
    fn until(&self, job: &str, what: &str, wanted: impl Fn(&manyhands::wire::control::Job) -> bool) {
        until(what, || Some(self.grid.job(0, job)).filter(|job| wanted(job)));
    }

    /// Stops a node in order, so that the others know at once.
    fn stop(&mut self, at: usize, left: usize) {
        self.grid.stop(at);
        until("the others know", || {
            let peers = self.grid.run(0, &["peers", "-o", "json"]).json();
            let connected = peers["peers"].as_array().unwrap().iter().filter(|peer| peer["connected"] == true).count();
            (connected == left).then_some(())
        });
    }

    fn standings(&mut self, job: &str) {
        let units = self.grid.units(0, job);
        let lines: String = units.iter().map(|unit| format!("unit {}: {}\n", unit.unit, unit.standing)).collect();
        self.keep(&["(standing of each unit)"], &lines, Some(0));
    }

    fn compare(&self, name: &str) {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/e2e/snapshots", &format!("{name}.txt")].iter().collect();
        if std::env::var_os("MANYHANDS_SNAPSHOT").is_some() {
            fs::write(&path, &self.text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        let differs = self.text.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
        assert!(self.text == expected, "{name} differs from its snapshot, first in line {differs:?}:\n{}", self.text);
    }
}

#[test]
fn each_stage_says_what_it_is_from_provisional_to_verified_again() {
    let mut all = Transcript::new();
    // The submitter lends nothing: it decides nothing by itself.
    all.node("OWNER", 0, &[]);
    let (one, two) = (all.node("ONE", 1, &[]), all.node("TWO", 1, &[]));
    for at in [one, two] {
        all.join(at, &["invite"]);
    }
    all.grid.wait_for_peers(0, 2);

    all.stage("provisional: two newcomers agree");
    let first = all.submit("first", 2);
    all.until(&first, "newcomers agree", |job| job.provisional == 2);
    all.show_watch(&first);
    all.standings(&first);
    let _ = all.show(&["results", &first]);
    let _ = all.show(&["results", &first, "--partial"]);
    let _ = all.show(&["verify", &first]);

    all.stage("verified: a device of the owner's says the same");
    let own = all.node("OWN-DEVICE", 1, &[]);
    all.join(own, &["invite", "--own"]);
    all.until(&first, "the job is done", |job| job.verified == 2);
    let _ = all.show(&["watch", &first]);
    all.standings(&first);
    let _ = all.show(&["results", &first]);
    let _ = all.show(&["verify", &first, "--sample", "0"]);

    all.stage("in dispute: two friends disagree, and nobody is there to decide");
    all.stop(two, 2);
    all.stop(own, 1);
    let key = all.key("ONE");
    let _ = all.show(&["trust", &key]);
    let liar = all.node("LIAR", 1, &[LIE]);
    all.join(liar, &["invite", "--friend"]);
    all.grid.wait_for_peers(0, 2);
    let second = all.submit("second", 3);
    all.until(&second, "friends disagree", |job| job.disputed == 1 && job.verified == 2);
    all.show_watch(&second);
    all.standings(&second);
    let _ = all.show(&["results", &second]);
    let _ = all.show(&["verify", &second, "--sample", "0"]);

    all.stage("re-checking: the owner runs the unit, and the liar is caught");
    let _ = all.show(&["verify", &second, "--unit", "1"]);
    all.until(&second, "what the liar vouched for is re-opened", |job| job.rechecking == 2 && job.verified == 1);
    all.show_watch(&second);
    all.standings(&second);
    let _ = all.show(&["results", &second, "--partial"]);
    let trusted = all.grid.run(0, &["trust", "-o", "json"]).json();
    let of_liar = |trusted: &Value| {
        trusted["trusted"].as_array().unwrap().iter().any(|one| one["peer"] == all.key("LIAR") && one["convicted"] == true)
    };
    assert!(of_liar(&trusted), "{trusted:#}");

    all.stage("verified: an honest machine votes again");
    all.grid.start(own);
    all.until(&second, "the job is done", |job| job.verified == 3);
    let _ = all.show(&["watch", &second]);
    all.standings(&second);
    assert_eq!(all.show(&["results", &second]).out, "0\n1\n2\n");
    let _ = all.show(&["verify", &second]);
    all.compare("stages");
}

#[test]
fn the_owners_slots_settle_what_friends_dispute_also_after_a_restart() {
    let mut all = Transcript::new();
    all.node("OWNER", 0, &[]);
    let (honest, liar) = (all.node("FRIEND", 1, &[]), all.node("LIAR", 1, &[LIE]));
    for at in [honest, liar] {
        all.join(at, &["invite", "--friend"]);
    }
    all.grid.wait_for_peers(0, 2);
    let job = all.submit("disputed", 3);
    all.until(&job, "friends disagree", |job| job.disputed == 1 && job.verified == 2);
    // Its slots are switched on; who its friends are is not forgotten.
    all.grid.kill(0);
    all.grid.set_slots(0, 1);
    all.grid.start(0);
    let trusted = all.grid.run(0, &["trust", "-o", "json"]).json();
    let friends: Vec<&Value> = trusted["trusted"].as_array().unwrap().iter().filter(|one| one["friend"] == true).collect();
    assert_eq!(friends.len(), 2, "{trusted:#}");
    let ended = all.grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(3)), "{ended:#}");
    assert_eq!(all.grid.run(0, &["results", &job]).ok(), "0\n1\n2\n");
    let caught = ended["contributors"].as_array().unwrap().iter().filter(|one| one["convicted"] == true);
    assert_eq!(caught.map(|one| one["peer"].as_str().unwrap()).collect::<Vec<_>>(), [all.key("LIAR")], "{ended:#}");
    let units = all.grid.units(0, &job);
    assert_eq!(units[1].standing, "checked by you", "{units:#?}");
}
