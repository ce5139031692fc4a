//! Bundles on the command line: written from what a node sends, and checked with nothing but this program.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    try_here::open_slot,
};
use crate::{
    control::{client::Client, error::grouped, verdict::bound},
    node::net::nickname::nickname,
    protocol::{
        ids::UnitIndex,
        job::unit_seed,
        outcome::{Outcome, Value},
    },
    sandbox::{SlotProcess, Task, validation_class},
    wire::{
        bundle::{
            BundleError, Standing, Unit,
            check::{Checked, Given, Problem, check, read_again},
        },
        control::{ExportBundleRequest, Job},
    },
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    env::consts::ARCH,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

/// Problems and units that people are shown by name.
const NAMED_MAX: usize = 10;

/// Which units are run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Runs {
    /// So many, drawn at random.
    Sample(u32),
    /// All that have a value.
    All,
    /// These.
    Only(BTreeSet<u32>),
}

/// Writes the job as a bundle: to a file, which appears whole or not at all, or (`-`) to standard output.
pub async fn export(client: &mut Client, job: &Job, path: &Path, digests_only: bool, context: &mut Context) -> Result<(), Failure> {
    let mut chunks = client.export(ExportBundleRequest { job: job.id.clone(), digests_only }).await?;
    if path == Path::new("-") {
        while let Some(chunk) = chunks.next().await? {
            context.print_bytes(&chunk.data)?;
        }
        return Ok(());
    }
    let failed = |error: io::Error| {
        let failure = Failure::new(Exit::Other, "BUNDLE_FILE", format!("the bundle cannot be written to {}", path.display()));
        failure.cause(error.to_string())
    };
    let mut part = PartFile::create(path).map_err(failed)?;
    let mut bytes = 0_u64;
    while let Some(chunk) = chunks.next().await? {
        part.file.write_all(&chunk.data).map_err(failed)?;
        bytes += chunk.data.len() as u64;
    }
    part.finish().map_err(failed)?;
    context.say(format!("✓ bundle written to {} ({})", human::shown(&path.display().to_string()), human::size(bytes)));
    context.say(format!("anybody can check it: manyhands verify --bundle {}", human::shown(&path.display().to_string())));
    Ok(())
}

/// A file under another name until it is whole; removed when it never is.
struct PartFile {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    done: bool,
}

impl PartFile {
    fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        Ok(Self { file: BufWriter::new(File::create(&part)?), part, path: path.to_owned(), done: false })
    }

    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.done {
            // It may be gone already.
            drop(fs::remove_file(&self.part));
        }
    }
}

#[derive(Serialize)]
struct BundleJson<'a> {
    schema: &'static str,
    job: String,
    name: &'a str,
    owner: String,
    bundle_digest: String,
    whole: bool,
    units: u32,
    verified_units: u32,
    checked_by_owner: u32,
    failed_units: u32,
    receipts_checked: u64,
    receipts_bad: u64,
    voters: usize,
    problems: Vec<ProblemJson>,
    problem_count: u64,
    sampled: u32,
    mismatches: u32,
    wrong_units: &'a [u32],
    other_engine_units: &'a [u32],
    verdict: &'a str,
    sound: bool,
}

#[derive(Serialize)]
struct ProblemJson {
    unit: u32,
    problem: String,
}

/// What running units here came to.
#[derive(Debug, Default)]
struct Reran {
    /// Units with a value, of which those that were run were chosen.
    decided: u64,
    /// They were drawn at random, so that they say something about the others.
    drawn: bool,
    agree: u32,
    /// Of these, verified with success.
    agree_verified: u32,
    wrong: Vec<u32>,
    /// Those that differ, and nobody says to have computed them with an engine like this one.
    other_engine: Vec<u32>,
    not_run: Option<String>,
}

impl Reran {
    /// Takes in what came of a unit here, on an engine of this validation class and instruction set.
    fn take(&mut self, unit: &Unit, ran: Result<Value, String>, class: &str, instruction_set: &str) {
        match ran {
            Err(reason) => self.not_run = Some(reason),
            Ok(value) if unit.value == Some(value) => {
                self.agree += 1;
                self.agree_verified += u32::from(unit.standing == Standing::Verified);
            }
            Ok(_) if unit.was_made_with(class, instruction_set) => self.wrong.push(unit.unit.0),
            Ok(_) => self.other_engine.push(unit.unit.0),
        }
    }

    /// What it shows, in words, where nothing is wrong.
    fn shows(&self) -> String {
        let all = u64::from(self.agree) == self.decided;
        let mut said = Vec::new();
        match self.agree {
            0 => {}
            _ if all => said.push("all of them, run here once more, agree".to_owned()),
            agree => said.push(format!("{} run here agree", human::count(agree, "unit"))),
        }
        if !self.other_engine.is_empty() {
            let units = human::count(self.other_engine.len() as u64, "unit");
            said.push(format!("{units} made by another engine came out differently, which shows nothing"));
        }
        match &self.not_run {
            Some(reason) if said.is_empty() => return format!("no unit could be run here: {reason}"),
            Some(reason) => said.push(format!("others could not be run: {reason}")),
            None if said.is_empty() => return "nothing was run here".to_owned(),
            None if self.drawn && !all && self.other_engine.is_empty() => said.push(format!("so {}", bound(self.agree_verified))),
            None => {}
        }
        said.join(", ")
    }
}

/// Checks a bundle. Exit code 8 when it is damaged, proves less than it claims, not everything in it is verified, or nothing that was
/// run here came out the same.
pub async fn verify(path: &Path, runs: Runs, context: &mut Context) -> Result<Exit, Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Failure::new(Exit::Other, "NO_RANDOMNESS", error.to_string()))?;
    context.say(format!("checking {} …", human::shown(&path.display().to_string())));
    let named = path.to_owned();
    let work = tokio::task::spawn_blocking(move || look(&named, &runs, seed));
    let broken = |error: tokio::task::JoinError| Failure::new(Exit::Other, "SANDBOX", "the check broke").cause(error.to_string());
    let (checked, reran) = work.await.map_err(broken)??;
    let verdict = verdict(&checked, &reran);
    let sound = checked.is_sound() && reran.wrong.is_empty();
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&json(&checked, &reran, &verdict, sound))?,
        Format::Id => reran.wrong.iter().try_for_each(|unit| context.print(unit.to_string()))?,
        Format::Table | Format::Toml => lines(&checked, &reran, &verdict, sound).iter().try_for_each(|line| context.print(line))?,
    }
    if sound && reran.agree == 0 && reran.other_engine.is_empty() && reran.not_run.is_none() {
        context.say(format!("run some of it here: manyhands verify --bundle {} --sample 10", human::shown(&path.display().to_string())));
    }
    // Where all that was run came out differently nothing is shown, whatever the reason.
    let comparable = reran.agree > 0 || reran.other_engine.is_empty();
    Ok(if sound && comparable { Exit::Ok } else { Exit::Unverified })
}

fn look(path: &Path, runs: &Runs, seed: [u8; 32]) -> Result<(Checked, Reran), Failure> {
    let failed = |error: BundleError| refused(path, &error);
    let mut file = File::open(path).map_err(|error| failed(error.into()))?;
    let mut lot = Lot { runs, drawn: Vec::new(), seen: 0, random: ChaCha8Rng::from_seed(seed) };
    let checked = check(&mut file, |unit| lot.show(unit.unit)).map_err(failed)?;
    let drawn: BTreeSet<u32> = lot.drawn.into_iter().collect();
    let wanted = |unit: UnitIndex| *runs == Runs::All || drawn.contains(&unit.0);
    let mut reran = Reran { decided: lot.seen, drawn: matches!(runs, Runs::Sample(_)), ..Reran::default() };
    if *runs == Runs::All || !drawn.is_empty() {
        let mut bench = Bench { checked: &checked, slot: None, reran: &mut reran, failure: None };
        read_again(&mut file, &checked, wanted, |given| bench.take(given)).map_err(failed)?;
        if let Some(failure) = bench.failure {
            return Err(failure);
        }
    }
    Ok((checked, reran))
}

/// Draws units while they stream by, each with the same chance, holding no more than are wanted.
struct Lot<'a> {
    runs: &'a Runs,
    drawn: Vec<u32>,
    seen: u64,
    random: ChaCha8Rng,
}

impl Lot<'_> {
    fn show(&mut self, unit: UnitIndex) {
        self.seen += 1;
        match self.runs {
            Runs::All => {}
            Runs::Only(units) => self.drawn.extend(units.get(&unit.0)),
            Runs::Sample(count) if self.drawn.len() < *count as usize => self.drawn.push(unit.0),
            Runs::Sample(_) => {
                // The bias of 64 bits does not matter for a sample.
                let place = usize::try_from(self.random.next_u64() % self.seen).unwrap_or(usize::MAX);
                if let Some(drawn) = self.drawn.get_mut(place) {
                    *drawn = unit.0;
                }
            }
        }
    }
}

/// Where units are run, one after the other.
struct Bench<'a> {
    checked: &'a Checked,
    slot: Option<(super::temporary::TemporaryDir, SlotProcess)>,
    reran: &'a mut Reran,
    failure: Option<Failure>,
}

impl Bench<'_> {
    /// Says whether to go on.
    fn take(&mut self, given: Given) -> bool {
        match given {
            Given::Module(module) => match open_slot(&module, self.checked.header.manifest.limits.memory_bytes) {
                Ok(slot) => self.slot = Some(slot),
                Err(failure) => self.failure = Some(failure),
            },
            Given::Unit { unit, input } => {
                let ran = self.run(&unit, input);
                self.reran.take(&unit, ran, &validation_class(), ARCH);
            }
        }
        self.failure.is_none()
    }

    fn run(&mut self, unit: &Unit, input: Vec<u8>) -> Result<Value, String> {
        let Some((_, slot)) = &mut self.slot else { return Err("there is no slot".to_owned()) };
        if input.len() as u64 != unit.input_bytes {
            return Err("inputs are not in the bundle".to_owned());
        }
        let manifest = &self.checked.header.manifest;
        let task = Task {
            module: manifest.module,
            args: manifest.args_for(unit.unit, &unit.name),
            stdin: input.into(),
            files: Vec::new(),
            seed: unit_seed(self.checked.header.job(), unit.unit),
            limits: manifest.limits,
        };
        let mut outcome = None;
        slot.run_batch(std::slice::from_ref(&task), &mut |_, report| outcome = Some(report.outcome));
        match outcome {
            Some(Outcome::Value(value)) => Ok(value),
            Some(Outcome::Failed(failure)) => Err(failure.to_string()),
            None => Err("the slot reported nothing".to_owned()),
        }
    }
}

/// What all of it means, in a sentence.
fn verdict(checked: &Checked, reran: &Reran) -> String {
    if checked.problem_count > 0 {
        return "the bundle proves less than it claims".to_owned();
    }
    let ran = reran.agree + u32::try_from(reran.wrong.len()).unwrap_or(u32::MAX);
    if !reran.wrong.is_empty() {
        return format!("{} of {} units run here differ: what was signed is wrong", grouped(ran - reran.agree), grouped(ran));
    }
    format!("every result is backed by genuine receipts of distinct keys; {}", reran.shows())
}

/// The first of some units, by name.
fn some(units: &[u32]) -> String {
    let names: Vec<String> = units.iter().take(NAMED_MAX).map(u32::to_string).collect();
    format!("{}{}", names.join(", "), if units.len() > NAMED_MAX { ", …" } else { "" })
}

fn named(problem: &Problem) -> String {
    match problem {
        Problem::BadReceipt { worker } | Problem::SameKeyTwice { worker } | Problem::NoInput { worker } => {
            format!("{problem} ({})", nickname(*worker))
        }
        Problem::TooFewReceipts { .. } | Problem::NotByOwner | Problem::WrongInput | Problem::WrongOutput => problem.to_string(),
    }
}

fn lines(checked: &Checked, reran: &Reran, verdict: &str, sound: bool) -> Vec<String> {
    let mark = |good: bool| if good { "✓" } else { "✗" };
    let (header, owner) = (&checked.header, checked.header.manifest.owner);
    let units = checked.units();
    let mut lines = vec![
        format!(
            "✓ job {}  {}  signed by its owner {} ({owner})",
            header.job().short(),
            human::shown(&header.manifest.name),
            nickname(owner)
        ),
        format!(
            "{} {} receipts of {} checked, {} bad",
            mark(checked.receipts_bad == 0),
            grouped(checked.receipts),
            human::count(checked.voters as u64, "key"),
            grouped(checked.receipts_bad)
        ),
    ];
    lines.push(if header.whole {
        let bad = checked.problems.iter().any(|(_, problem)| matches!(problem, Problem::WrongInput | Problem::WrongOutput));
        format!("{} module, inputs and outputs compared with their digests", mark(!bad))
    } else {
        "• module compared with its digest; inputs and outputs are not in the bundle, only their digests".to_owned()
    });
    let ran = reran.agree as usize + reran.wrong.len();
    lines.push(format!(
        "{} {} run here, {} differ",
        mark(reran.wrong.is_empty()),
        human::count(ran as u64, "unit"),
        grouped(reran.wrong.len() as u64)
    ));
    lines.push(format!(
        "{} {} of {} units are verified, {} of them by the owner's own machine",
        mark(checked.verified == units),
        grouped(checked.verified),
        grouped(units),
        grouped(checked.by_owner)
    ));
    for (unit, problem) in checked.problems.iter().take(NAMED_MAX) {
        lines.push(format!("  ✗ unit {unit}: {}", named(problem)));
    }
    if checked.problem_count > NAMED_MAX as u64 {
        lines.push(format!("  … {} problems in all", grouped(checked.problem_count)));
    }
    if !reran.wrong.is_empty() {
        lines.push(format!("  wrong: {}", some(&reran.wrong)));
    }
    if !reran.other_engine.is_empty() {
        lines.push(format!("  not comparable, made by another engine: {}", some(&reran.other_engine)));
    }
    lines.push(format!("{} {verdict}", mark(sound)));
    lines.push("• which of the keys were proven is what the owner saw, and not a part of the proof".to_owned());
    lines
}

fn json<'a>(checked: &'a Checked, reran: &'a Reran, verdict: &'a str, sound: bool) -> BundleJson<'a> {
    let problem = |(unit, problem): &(UnitIndex, Problem)| ProblemJson { unit: unit.0, problem: named(problem) };
    let mismatches = u32::try_from(reran.wrong.len()).unwrap_or(u32::MAX);
    BundleJson {
        schema: "manyhands.verify-bundle/v1",
        job: checked.header.job().to_string(),
        name: &checked.header.manifest.name,
        owner: checked.header.manifest.owner.to_string(),
        bundle_digest: checked.digest.to_string(),
        whole: checked.header.whole,
        units: checked.units(),
        verified_units: checked.verified,
        checked_by_owner: checked.by_owner,
        failed_units: checked.failed,
        receipts_checked: checked.receipts,
        receipts_bad: checked.receipts_bad,
        voters: checked.voters,
        problems: checked.problems.iter().map(problem).collect(),
        problem_count: checked.problem_count,
        sampled: reran.agree + mismatches,
        mismatches,
        wrong_units: &reran.wrong,
        other_engine_units: &reran.other_engine,
        verdict,
        sound,
    }
}

/// A file that cannot be judged.
fn refused(path: &Path, error: &BundleError) -> Failure {
    let (exit, reason) = match error {
        BundleError::Io(error) if error.kind() == io::ErrorKind::NotFound => (Exit::NotFound, "BUNDLE_NOT_FOUND"),
        BundleError::Io(_) => (Exit::Other, "BUNDLE_FILE"),
        BundleError::NotABundle => (Exit::Usage, "NOT_A_BUNDLE"),
        BundleError::UnknownVersion(_) => (Exit::Usage, "BUNDLE_VERSION"),
        BundleError::Truncated { .. } => (Exit::Unverified, "BUNDLE_CUT"),
        BundleError::Damaged => (Exit::Unverified, "BUNDLE_DAMAGED"),
        BundleError::Changed => (Exit::Other, "BUNDLE_CHANGED"),
        BundleError::NotSealed => (Exit::Unverified, "BUNDLE_NOT_SIGNED"),
        BundleError::UnitsMissing { .. } | BundleError::WrongUnit { .. } => (Exit::Unverified, "BUNDLE_UNITS_MISSING"),
        BundleError::GoesOn
        | BundleError::RecordTooLong { .. }
        | BundleError::Rejected(_)
        | BundleError::OutOfPlace { .. }
        | BundleError::TooManyBytes { .. }
        | BundleError::WrongModule
        | BundleError::WrongTable
        | BundleError::WrongCount { .. } => (Exit::Unverified, "BAD_BUNDLE"),
    };
    let failure = Failure::new(exit, reason, format!("{} cannot be taken as a proof", human::shown(&path.display().to_string())));
    let failure = failure.cause(error.to_string());
    match error {
        BundleError::NotABundle => failure.hint("a bundle is written by: manyhands verify JOB --export FILE"),
        BundleError::UnknownVersion(_) => failure.hint("update manyhands"),
        BundleError::Truncated { .. } | BundleError::Damaged => failure.hint("get the file once more from whoever made it"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;
