//! `manyhands try`: runs a job's first units on this machine, twice, and compares. Needs no node.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    inputs::{self, ReadError, Source},
    job_options::JobOptions,
    submit,
    temporary::TemporaryDir,
};
use crate::{
    protocol::{
        ids::{Digest, JobId, UnitIndex},
        job::{substitute, unit_seed},
        outcome::{Outcome, UnitLimits},
    },
    sandbox::{SlotError, SlotProcess, Task, Workshop},
    wire::control::UnitPart,
};
use bytes::BytesMut;
use serde::Serialize;

/// The most bytes of input that are held for the units to try.
const INPUT_BYTES_MAX: usize = 256 << 20;

/// Run a job's first units here, twice, and compare
///
/// Takes what `submit` takes. Shows what volunteers would compute, before any of them does.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands try primes.wasm --range 1..1_000_000 -- {start} {end}
  manyhands try job.toml --first 10")]
pub struct Args {
    #[command(flatten)]
    options: JobOptions,

    /// How many units to run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    first: u32,
}

/// A unit as it is run here: placeholders are filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalUnit {
    /// Its place in the job.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

/// What one execution ended in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalRun {
    /// As a peer would report it.
    pub outcome: Outcome,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, cut at the limit.
    pub stderr: Vec<u8>,
    /// How long it took, in milliseconds.
    pub wall_ms: u64,
}

/// A jailed slot with a module in it, for a command that needs no node; the directory holds its native code.
///
/// # Errors
/// The sandbox refuses the module or cannot start.
pub fn open_slot(module: &[u8], memory_bytes: u64) -> Result<(TemporaryDir, SlotProcess), Failure> {
    let failed = |what: &str, cause: String| Failure::new(Exit::Other, "SANDBOX", what).cause(cause);
    let cache =
        TemporaryDir::create("manyhands-try").map_err(|error| failed("no temporary directory for compiled code", error.to_string()))?;
    let workshop = Workshop::of_this_program(cache.path(), memory_bytes);
    let workshop = workshop.map_err(|error| failed("the sandbox cannot be set up", error.to_string()))?;
    let mut slot = SlotProcess::spawn(workshop).map_err(|error| failed("a slot cannot be started", error.to_string()))?;
    slot.load(Digest::of(module), || Ok(module.to_vec())).map_err(|error| match error {
        SlotError::Rejected(rejection) => Failure::usage("MODULE_REFUSED", format!("the module {rejection}")).hint(rejection.hint()),
        other => failed("the module cannot be made ready", other.to_string()),
    })?;
    Ok((cache, slot))
}

/// Runs each unit in a jailed slot, in the order given, once. Called twice, to compare.
///
/// # Errors
/// The sandbox refuses the module or cannot start.
pub fn run_locally(module: &[u8], units: &[LocalUnit], limits: &UnitLimits) -> Result<Vec<LocalRun>, Failure> {
    let digest = Digest::of(module);
    let (_cache, mut slot) = open_slot(module, limits.memory_bytes)?;
    let task = |unit: &LocalUnit| Task {
        module: digest,
        args: std::iter::once("try".as_bytes().to_vec()).chain(unit.args.iter().map(|arg| arg.clone().into_bytes())).collect(),
        stdin: unit.stdin.clone().into(),
        files: Vec::new(),
        seed: unit_seed(JobId(digest.0), UnitIndex(unit.index)),
        limits: *limits,
    };
    let tasks: Vec<Task> = units.iter().map(task).collect();
    let mut runs = Vec::with_capacity(tasks.len());
    slot.run_batch(&tasks, &mut |_, report| {
        let wall_ms = u64::try_from(report.wall.as_millis()).unwrap_or(u64::MAX);
        runs.push(LocalRun { outcome: report.outcome, stdout: report.output, stderr: report.log, wall_ms });
    });
    Ok(runs)
}

#[derive(Serialize)]
struct TryJson<'a> {
    schema: &'static str,
    unit: u32,
    name: &'a str,
    outcome: String,
    gas: Option<u64>,
    equal: bool,
    wall_seconds: f64,
    stdout: String,
    stderr: String,
}

/// Runs the command. Exit code 6 when a unit fails, or does not do the same twice.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let draft = submit::prepare(args.options, context)?;
    let limits = draft.options.limits()?;
    let units = first_units(&draft.source, &draft.spec.args, args.first, context)?;
    let both = tokio::task::spawn_blocking(move || {
        let first = run_locally(&draft.module, &units, &limits)?;
        let second = run_locally(&draft.module, &units, &limits)?;
        Ok::<_, Failure>((units, first, second))
    });
    let (units, first, second) =
        both.await.map_err(|panic| Failure::new(Exit::Other, "SANDBOX", "the sandbox broke").cause(panic.to_string()))??;
    let mut good = true;
    for ((unit, first), second) in units.iter().zip(&first).zip(&second) {
        let equal = first.outcome == second.outcome && first.stdout == second.stdout;
        good &= equal && succeeded(&first.outcome);
        print(unit, first, equal, context)?;
    }
    if good {
        context.say(format!("✓ {} units ran twice with equal results     submit: manyhands submit …", units.len()));
        return Ok(Exit::Ok);
    }
    Err(Failure::new(Exit::JobFailed, "TRY_FAILED", "the job would fail on the grid")
        .cause("a unit failed here, or two runs of it differ")
        .hint("look at the outputs above; raise limits with --memory, --gas, --time"))
}

fn succeeded(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Value(value) => value.exit.is_success(),
        Outcome::Failed(_) => false,
    }
}

fn print(unit: &LocalUnit, run: &LocalRun, equal: bool, context: &mut Context) -> Result<(), Failure> {
    let (outcome, gas) = match &run.outcome {
        Outcome::Value(value) => (value.exit.to_string(), Some(value.gas)),
        Outcome::Failed(failure) => (failure.to_string(), None),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if matches!(context.format, Format::Json | Format::Jsonl) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a day at most")]
        let wall_seconds = run.wall_ms as f64 / 1000.0;
        let view = TryJson {
            schema: "manyhands.try/v1",
            unit: unit.index,
            name: &unit.name,
            outcome,
            gas,
            equal,
            wall_seconds,
            stdout: text(&run.stdout),
            stderr: text(&run.stderr),
        };
        return context.print(serde_json::to_string(&view).expect("plain data"));
    }
    let mark = if equal && succeeded(&run.outcome) { "✓" } else { "✗" };
    let differs = if equal { "" } else { " · a second run differs" };
    let gas = gas.map(|gas| format!(" · {} gas", human::gas(gas))).unwrap_or_default();
    context.say(format!("{mark} unit {}  {outcome}{gas} · {} ms{differs}", unit.index, run.wall_ms));
    if !run.stderr.is_empty() {
        context.say(text(&run.stderr).trim_end());
    }
    context.print_bytes(&run.stdout)
}

/// The first units with their inputs.
fn first_units(source: &Source, args: &[String], wanted: u32, context: &mut Context) -> Result<Vec<LocalUnit>, Failure> {
    let stdin = context.stdin.take();
    let mut units: Vec<LocalUnit> = Vec::new();
    if let Source::Range(range) = source {
        for index in 0..wanted {
            let start = range.start.saturating_add(u64::from(index).saturating_mul(range.per_unit));
            if start >= range.end {
                break;
            }
            let end = start.saturating_add(range.per_unit).min(range.end);
            let name = format!("{start}..{end}");
            let args = fill_in(args, index, &name, Some((start, end)));
            units.push(LocalUnit { index, name, args, stdin: Vec::new() });
        }
        return Ok(units);
    }
    let (mut open, mut held, mut too_large) = (BytesMut::new(), 0, false);
    let mut take = |part: UnitPart| {
        held += part.data.len();
        too_large = held > INPUT_BYTES_MAX;
        open.extend_from_slice(&part.data);
        if !part.more {
            let index = u32::try_from(units.len()).expect("a thousand at most");
            let args = fill_in(args, index, &part.name, Some((index.into(), u64::from(index) + 1)));
            units.push(LocalUnit { index, name: part.name, args, stdin: open.split().to_vec() });
        }
        !too_large && units.len() < wanted as usize
    };
    match inputs::read(source, stdin, &mut take) {
        Err(ReadError::Failed(failure)) => Err(failure),
        Err(ReadError::Stopped) if too_large => {
            let failure = Failure::usage("TOO_LARGE", "the inputs of the first units are too large to try here");
            Err(failure.cause(format!("more than {}", human::size(INPUT_BYTES_MAX as u64))).hint("--first 1"))
        }
        Ok(_) | Err(ReadError::Stopped) => Ok(units),
    }
}

/// Replaces the placeholders as a node does; what is none stays as it is.
fn fill_in(args: &[String], index: u32, name: &str, numbers: Option<(u64, u64)>) -> Vec<String> {
    let value = |key: &str| match (key, numbers) {
        ("index", _) => Some(index.to_string()),
        ("name" | "", _) => Some(name.to_owned()),
        ("start", Some((start, _))) => Some(start.to_string()),
        ("end", Some((_, end))) => Some(end.to_string()),
        _ => None,
    };
    args.iter().map(|arg| substitute(arg, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_once() {
        let fill = |arg: &str, numbers| fill_in(&[arg.to_owned()], 7, "{end}", numbers).remove(0);
        assert_eq!(fill("{start}-{end}", Some((1, 2))), "1-2");
        assert_eq!(fill("{index}{}", None), "7{end}");
        assert_eq!(fill("{\"a\": {name}}", None), "{\"a\": {end}}");
        assert_eq!(fill("{start}{", None), "{start}{");
    }
}
