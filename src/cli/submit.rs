//! `manyhands submit`: describes a job, checks what can be checked here, and streams it to the node.
//!
//! The node gets bytes, never paths. It keeps nothing until the commit arrives, which is sent only after every input has
//! been read without an error.

use super::{
    amount::Count,
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    inputs::{self, ReadError, Source},
    job_options::{JobOptions, Policy, Reduce},
    module_check::read_module,
    view::JobJson,
    watch,
};
use crate::{
    control::{error::grouped, submission::PART_BYTES_MAX},
    wire::control::{JobSpec, SubmitCommit, SubmitRequest, SubmitResponse, submit_request::Part},
};
use bytes::Bytes;
use serde::Serialize;
use std::io::Read;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Parts on their way to the node: at most 8 MiB.
const PARTS_QUEUED_MAX: usize = 32;

/// Submit a job: one module, many units
///
/// Inputs are read as they are sent, in little memory. The same job twice is one job. What follows -- are the arguments of
/// each unit; {start} and {end} stand for its numbers, {index} for its place, {name} and {} for its name.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands submit primes.wasm --range 1..1_000_000_000 --per-unit 100_000 -- {start} {end}
  manyhands submit align.wasm --files 'in/*.fa' --reduce none --memory 512MiB
  manyhands submit score.wasm --csv people.csv --per-unit 1000 --wait
  manyhands submit wc.wasm < book.txt
  manyhands submit app.wasm --lines urls.txt --dry-run > job.toml && manyhands submit job.toml")]
pub struct Args {
    #[command(flatten)]
    options: JobOptions,

    /// Wait for the end; the exit code is the job's outcome
    #[arg(long)]
    wait: bool,

    /// Print the job as a job file and count its units; submit nothing
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
}

/// A job that is ready to be sent.
pub struct Draft {
    /// The description.
    pub options: JobOptions,
    /// The same, for the node.
    pub spec: JobSpec,
    /// The module's bytes.
    pub module: Vec<u8>,
    reduce_module: Vec<u8>,
    /// Where the units come from.
    pub source: Source,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let draft = prepare(args.options, context)?;
    if args.dry_run {
        dry_run(&draft, context)?;
        return Ok(Exit::Ok);
    }
    let response = send(draft, context).await?;
    let job = response.job.clone().unwrap_or_default();
    if !args.wait {
        report(&response, context)?;
        return Ok(Exit::Ok);
    }
    context.say(summary(&response));
    watch::until_end(&job.id, context).await
}

/// Puts the job together from flags and job file; checks the module and finds the inputs.
///
/// # Errors
/// Anything that is wrong with them and can be seen from here.
pub fn prepare(options: JobOptions, context: &mut Context) -> Result<Draft, Failure> {
    let mut options = options.with_job_file()?;
    let Some(path) = options.module.clone() else {
        let failure = Failure::usage("NO_MODULE", "no module is named");
        return Err(failure.hint("manyhands submit app.wasm").hint("or in the job file: module = \"app.wasm\""));
    };
    let module = read_module(&path)?;
    let reduce_module = match &options.reduce {
        Some(Reduce::Module(path)) => read_module(path)?,
        Some(Reduce::Concat | Reduce::None) | None => Vec::new(),
    };
    let source = inputs::find(&mut options, context)?;
    let range = match &source {
        Source::Range(range) => Some(*range),
        Source::Files(_) | Source::Cut(..) | Source::Stdin | Source::Nothing => None,
    };
    let spec = options.spec(range)?;
    Ok(Draft { options, spec, module, reduce_module, source })
}

async fn send(draft: Draft, context: &mut Context) -> Result<SubmitResponse, Failure> {
    let mut client = context.connect().await?;
    let stdin = context.stdin.take();
    if draft.source == Source::Stdin {
        context.say("reading standard input …");
    }
    let (parts, queue) = mpsc::channel(PARTS_QUEUED_MAX);
    let reader = tokio::task::spawn_blocking(move || produce(&draft, stdin, &parts));
    let answer = client.submit(ReceiverStream::new(queue)).await;
    if let Err(error) = &answer
        && error.reason != "SUBMIT_INCOMPLETE"
    {
        // The reader may hang on standard input; what the node says counts.
        return Err(error.clone().into());
    }
    match reader.await {
        Ok(Err(ReadError::Failed(failure))) => Err(failure),
        Ok(Ok(()) | Err(ReadError::Stopped)) => Ok(answer?),
        Err(panic) => Err(Failure::new(Exit::Other, "READER", "the inputs could not be read").cause(panic.to_string())),
    }
}

/// Sends the job's parts in their order, and the commit only when all inputs were read.
fn produce(draft: &Draft, stdin: Option<Box<dyn Read + Send>>, parts: &mpsc::Sender<SubmitRequest>) -> Result<(), ReadError> {
    let send = |part: Part| parts.blocking_send(SubmitRequest { part: Some(part) }).map_err(|_| ReadError::Stopped);
    send(Part::Spec(draft.spec.clone()))?;
    for chunk in draft.module.chunks(PART_BYTES_MAX) {
        send(Part::Module(Bytes::copy_from_slice(chunk)))?;
    }
    for chunk in draft.reduce_module.chunks(PART_BYTES_MAX) {
        send(Part::ReduceModule(Bytes::copy_from_slice(chunk)))?;
    }
    inputs::read(&draft.source, stdin, &mut |part| send(Part::Unit(part)).is_ok())?;
    send(Part::Commit(SubmitCommit {}))
}

fn summary(response: &SubmitResponse) -> String {
    let job = response.job.clone().unwrap_or_default();
    let (id, name, policy) = (human::short_id(&job), human::shown(&job.name), human::shown(&job.policy));
    let units = human::count(job.units, "unit");
    let sent = if response.already_existed {
        "submitted before; this is the same job".to_owned()
    } else {
        format!("{} sent", human::size(response.bytes_received))
    };
    format!("job {id}  {name}  {units}, {policy} verification   ({sent})")
}

fn report(response: &SubmitResponse, context: &mut Context) -> Result<(), Failure> {
    let job = response.job.clone().unwrap_or_default();
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&JobJson::from(&job))?,
        Format::Id => context.print(&job.id)?,
        Format::Table | Format::Toml => context.print(summary(response))?,
    }
    if let Some(reason) = job.reason.as_ref().filter(|reason| !reason.text.is_empty()) {
        human::reason_lines(reason).iter().for_each(|line| context.say(line));
    }
    human::keeping(&job).iter().for_each(|line| context.say(line));
    let id = human::short_id(&job);
    context.say(format!("watch: manyhands watch {id}     results: manyhands results {id}"));
    if response.already_existed {
        context.say("to run it anew: --new");
    }
    Ok(())
}

#[derive(Serialize)]
struct DryRunJson<'a> {
    schema: &'static str,
    units: u64,
    module_bytes: usize,
    job: &'a JobOptions,
}

/// Prints the job as a file that can be submitted; what was left open is filled in.
fn dry_run(draft: &Draft, context: &mut Context) -> Result<(), Failure> {
    let units = match &draft.source {
        // Counting would use it up, and it is one unit in any case.
        Source::Stdin | Source::Nothing => 1,
        source => inputs::count_units(source, context.stdin.take())?,
    };
    let filled_in = JobOptions {
        name: Some(draft.options.name()),
        policy: Some(draft.options.policy.unwrap_or(Policy::Standard)),
        reduce: Some(draft.options.reduce.clone().unwrap_or(Reduce::Concat)),
        gas: Some(Count(draft.spec.gas)),
        memory: Some(super::amount::ByteSize(draft.spec.memory_bytes)),
        time: Some(super::amount::Span(std::time::Duration::from_millis(draft.spec.wall_ms))),
        output: Some(super::amount::ByteSize(draft.spec.output_bytes)),
        log: Some(super::amount::ByteSize(draft.spec.log_bytes)),
        ..draft.options.clone()
    };
    if matches!(context.format, Format::Json | Format::Jsonl) {
        let module_bytes = draft.module.len();
        return context.print_json(&DryRunJson { schema: "manyhands.dry-run/v1", units, module_bytes, job: &filled_in });
    }
    let text = toml::to_string(&filled_in).map_err(|error| {
        let failure = Failure::usage("JOB_FILE", "the job cannot be written as a job file");
        failure.cause(error.to_string()).hint("use paths that are valid UTF-8")
    })?;
    context.print(format!("# units: {}", grouped(units)))?;
    context.print_bytes(text.as_bytes())?;
    let (units, module) = (human::count(units, "unit"), human::size(draft.module.len() as u64));
    context.say(format!("{units}, a module of {module}; nothing was submitted"));
    context.say("save it and submit: manyhands submit job.toml     run the first units here: manyhands try job.toml");
    Ok(())
}
