//! Nodes are killed at random, again and again, while jobs run: every job ends right, nothing that was verified is computed again,
//! and nothing is left behind.
//!
//! The schedule comes from a seed, which is printed. `MANYHANDS_CHAOS_SEED` has the same kills again (the machine's own timing
//! is another matter), `MANYHANDS_CHAOS_KILLS` says how many there are.

use crate::{
    audit::Audit,
    dice::Dice,
    grid::{Grid, until},
    large::{table, text},
    modules::{bundled, slow_echo},
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// Kills in an ordinary test run.
const KILLS: u64 = 50;
/// Nodes in all, of one owner; the first two submit.
const NODES: usize = 4;
const SUBMITTERS: usize = 2;
/// Jobs that run at once.
const JOBS: usize = 3;
/// How long an event is waited for that a kill is to follow closely; without one the kill comes all the same.
const EVENT_WITHIN: Duration = Duration::from_millis(700);

/// The longest time until a kill that follows nothing closely.
const SOON: Duration = Duration::from_millis(500);

/// What a kill follows, and how closely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum How {
    /// Nothing: any moment.
    Anytime,
    /// A write to the database's log.
    Commit,
    /// A change in the folder of unfinished blobs.
    Blob,
    /// Its own start, before it answers.
    Start,
    /// The beginning of a submission to it.
    Submission,
    /// It dies by itself between two steps of a write.
    #[cfg(feature = "fault-injection")]
    Place(&'static str),
}

#[cfg(feature = "fault-injection")]
const PLACES: [&str; 6] = ["blob-written", "blob-placed", "before-commit", "after-commit", "before-removal", "private-written"];

/// A job, and what it must print.
struct Job {
    at: usize,
    id: String,
    expected: String,
    /// How many votes each unit had when it was last seen to be verified.
    verified: BTreeMap<u32, usize>,
    ended: bool,
}

struct Chaos {
    grid: Grid,
    dice: Dice,
    jobs: Vec<Job>,
    /// Makes each job another.
    number: u64,
    tally: BTreeMap<How, u32>,
    submissions_cut: u32,
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let grid = Grid::of_own_devices(NODES);
        for file in 0..6 {
            grid.file(&format!("book-{file}.txt"), text(file).0);
        }
        grid.file("slow.wasm", slow_echo(20_000_000));
        Self { grid, dice: Dice::new(seed), jobs: Vec::new(), number: 0, tally: BTreeMap::new(), submissions_cut: 0 }
    }

    /// The words of a submission, and what its job must print. Small units, or files that are blobs on both ways.
    fn next_job(&mut self) -> (Vec<String>, String) {
        self.number += 1;
        let number = self.number;
        if number.is_multiple_of(3) {
            let words = vec![bundled("wordcount.wasm"), "--files".into(), "book-*.txt".into(), "--name".into(), format!("books {number}")];
            return (words, (0..6).map(|file| table(&text(file).1)).collect());
        }
        let (first, last) = (number * 1000, number * 1000 + 100);
        let words = ["slow.wasm", "--range", &format!("{first}..{last}"), "--per-unit", "1", "--", "{start}"];
        (words.map(str::to_owned).to_vec(), (first..last).map(|unit| format!("{unit}\n")).collect())
    }

    /// Sees to it that there is always work.
    fn keep_busy(&mut self) {
        for job in self.jobs.iter_mut().filter(|job| !job.ended) {
            job.ended = self.grid.job(job.at, &job.id).verified == self.grid.job(job.at, &job.id).units;
        }
        while self.jobs.iter().filter(|job| !job.ended).count() < JOBS {
            let at = usize::try_from(self.dice.below(SUBMITTERS as u64)).unwrap();
            let (words, expected) = self.next_job();
            let id = self.grid.submit(at, &words.iter().map(String::as_str).collect::<Vec<_>>());
            self.jobs.push(Job { at, id, expected, verified: BTreeMap::new(), ended: false });
        }
    }

    /// What is verified now must not be computed again.
    fn note_verified(&mut self, victim: usize) {
        for job in self.jobs.iter_mut().filter(|job| job.at == victim && !job.ended) {
            for unit in self.grid.units(job.at, &job.id).into_iter().filter(|unit| unit.state == "verified") {
                job.verified.entry(unit.unit).or_insert(unit.votes.len());
            }
        }
    }

    fn kill_one(&mut self) {
        self.keep_busy();
        let victim = usize::try_from(self.dice.below(NODES as u64)).unwrap();
        let how = self.how(victim);
        *self.tally.entry(how).or_default() += 1;
        self.note_verified(victim);
        let process = self.grid.process(victim);
        let directory = self.grid.data_dir(victim).to_owned();
        let mut submission = None;
        match how {
            How::Anytime => std::thread::sleep(self.dice.moment(SOON)),
            How::Commit => self.closely_after(&directory.join("facts.sqlite-wal")),
            How::Blob => self.closely_after(&directory.join("tmp")),
            How::Start => {
                self.grid.kill(victim);
                self.grid.spawn(victim, &[]);
                std::thread::sleep(self.dice.moment(SOON));
            }
            How::Submission => {
                submission = Some(self.begin_submission(victim));
                std::thread::sleep(self.dice.moment(SOON));
            }
            #[cfg(feature = "fault-injection")]
            How::Place(place) => {
                self.grid.kill(victim);
                let fault = format!("kill@{place}:{}", 1 + self.dice.below(4));
                self.grid.spawn(victim, &[("MANYHANDS_STORE_FAULT", &fault)]);
                let patience = EVENT_WITHIN * 2;
                if self.grid.ends_within(victim, patience).is_some() {
                    self.grid.spawn(victim, &[]);
                }
            }
        }
        self.grid.kill(victim);
        self.grid.spawn(victim, &[]);
        self.grid.wait_until_up(victim);
        if let Some((child, expected)) = submission {
            self.end_submission(victim, child, expected);
        }
        until("the slots of a killed node have ended", || slots_of(process).is_empty().then_some(()));
    }

    fn how(&mut self, victim: usize) -> How {
        #[cfg(feature = "fault-injection")]
        if self.dice.below(3) == 0 {
            return How::Place(self.dice.pick(&PLACES));
        }
        match self.dice.below(8) {
            0..2 => How::Anytime,
            2..4 => How::Commit,
            4..6 => How::Blob,
            6 => How::Start,
            _ if victim < SUBMITTERS => How::Submission,
            _ => How::Start,
        }
    }

    /// Waits until a file has changed, and then for a number of microseconds.
    fn closely_after(&mut self, path: &Path) {
        let stamp = || fs::metadata(path).map(|metadata| (metadata.len(), metadata.modified().unwrap())).ok();
        let (before, began) = (stamp(), Instant::now());
        while stamp() == before && began.elapsed() < EVENT_WITHIN {
            std::thread::yield_now();
        }
        let (rest, began) = (self.dice.moment(Duration::from_millis(5)), Instant::now());
        while began.elapsed() < rest {
            std::hint::spin_loop();
        }
    }

    fn begin_submission(&mut self, at: usize) -> (Child, String) {
        let (words, expected) = self.next_job();
        let words: Vec<&str> = ["submit", "-o", "id"].into_iter().chain(words.iter().map(String::as_str)).collect();
        let child = self.grid.command(at, &words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (child, expected)
    }

    /// A job whose submission succeeded is there; another is there as a whole or not at all.
    fn end_submission(&mut self, at: usize, child: Child, expected: String) {
        let ended = child.wait_with_output().unwrap();
        let id = String::from_utf8(ended.stdout).unwrap().trim().to_owned();
        if ended.status.success() {
            self.jobs.push(Job { at, id, expected, verified: BTreeMap::new(), ended: false });
        } else {
            self.submissions_cut += 1;
        }
    }

    fn check(&mut self) -> Vec<String> {
        let mut findings = Vec::new();
        for job in &self.jobs {
            let ended = self.grid.wait(job.at, &job.id);
            if ended["state"] != "done" {
                findings.push(format!("job {} ended as {}", job.id, ended["state"]));
            }
            let printed = self.grid.run(job.at, &["results", &job.id]);
            if printed.code != Some(0) || printed.out != job.expected {
                findings.push(format!("job {}: wrong results: {}", job.id, printed.err));
            }
        }
        for at in 0..NODES {
            let _ = self.grid.run(at, &["stop"]).ok();
            assert!(self.grid.ends_within(at, Duration::from_secs(30)).is_some_and(|status| status.success()), "node {at} ends");
            findings.extend(Audit::of(self.grid.data_dir(at)).findings());
        }
        let again: Vec<String> = self.jobs.iter().flat_map(|job| computed_again(&self.grid, job)).collect();
        println!("{} verified units were computed again", again.len());
        findings.extend(again);
        findings
    }
}

/// Votes on units that were verified already when their leases were issued.
fn computed_again(grid: &Grid, job: &Job) -> Vec<String> {
    let votes = Audit::of(grid.data_dir(job.at)).votes(&job.id);
    let mut found = Vec::new();
    for (unit, &count) in &job.verified {
        let kept = votes.get(unit).map(Vec::as_slice).unwrap_or_default();
        if kept.len() < count {
            found.push(format!("job {} unit {unit} had {count} votes, and has {kept:?}", job.id));
        }
        let late = kept.iter().skip(count).filter(|vote| vote.ordinal as usize >= count);
        found.extend(late.map(|vote| format!("job {} unit {unit} was computed again: {vote:?}", job.id)));
    }
    found
}

/// Slot processes that a node started, wherever they hang now.
fn slots_of(node: u32) -> Vec<u32> {
    let is_slot = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"__slot"[..]) && words.get(4).is_some_and(|parent| *parent == node.to_string().as_bytes())
    };
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(is_slot).collect()
}

#[test]
fn nodes_are_killed_at_random_and_nothing_is_lost() {
    let kills = from_environment("MANYHANDS_CHAOS_KILLS").unwrap_or(KILLS);
    let fresh = u64::from(std::process::id()) << 32 | u64::from(Instant::now().elapsed().subsec_nanos());
    let seed = from_environment("MANYHANDS_CHAOS_SEED").unwrap_or(fresh);
    println!("MANYHANDS_CHAOS_SEED={seed} MANYHANDS_CHAOS_KILLS={kills}");
    let began = Instant::now();
    let mut chaos = Chaos::new(seed);
    for _ in 0..kills {
        chaos.kill_one();
    }
    let killing = began.elapsed();
    let findings = chaos.check();
    let units: usize = chaos.jobs.iter().map(|job| job.verified.len()).sum();
    println!(
        "{kills} kills in {killing:.1?} and {:.1?} in all: {:?}; {} jobs done, {units} units seen verified before a kill, {} submissions cut",
        began.elapsed(),
        chaos.tally,
        chaos.jobs.len(),
        chaos.submissions_cut,
    );
    assert!(findings.is_empty(), "seed {seed}:\n{}", findings.join("\n"));
}
