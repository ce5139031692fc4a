//! `manyhands demo`: a grid on this machine that computes a picture, checks it, and leaves nothing else behind.

mod peers;

mod picture;

use self::{peers::Peers, picture::Size};
use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    job_options::JobOptions,
    progress::Progress,
    view::{JobJson, state_word},
};
use crate::{
    control::{client::Client, error::grouped, submission::PART_BYTES_MAX},
    wire::control::{GetResultsRequest, Job, JobState, Range, SubmitCommit, SubmitRequest, submit_request::Part},
};
use bytes::Bytes;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The program whose units are rows of the picture; `workloads/mandelbrot` is its source.
const MODULE: &[u8] = include_bytes!("../../workloads/bin/mandelbrot.wasm");
/// Rows in the picture for every eight pixels of a row: a screen's shape.
const ROWS_PER_EIGHT_PIXELS: u32 = 5;
/// About how many units: enough to see them spread, few enough that each is worth a lease.
const UNITS: u32 = 80;
/// How long nothing at all may change before the demo gives up.
const STILL_DEADLINE: Duration = Duration::from_secs(120);
const ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// Run a small grid on this machine, which computes a picture and checks it
///
/// The peers are processes of this program on the loopback interface. The first one submits and computes nothing; each row of
/// the picture is computed by two others, whose results must agree. Nothing stays behind but the picture.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands demo
  manyhands demo --nodes 6 --output big.png --width 2560")]
pub struct Args {
    /// How many peers; three of them are needed to compute
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(4..=16))]
    nodes: u32,

    /// Where the picture goes; another file there is never replaced
    #[arg(long, value_name = "FILE", default_value = "mandelbrot.png")]
    output: PathBuf,

    /// Pixels in a row of the picture
    #[arg(long, value_name = "N", default_value_t = 1280, value_parser = clap::value_parser!(u32).range(64..=7680))]
    width: u32,
}

/// What programs read.
#[derive(Serialize)]
struct DemoJson<'a> {
    schema: &'static str,
    picture: &'a Path,
    width: u32,
    height: u32,
    job: JobJson<'a>,
}

/// Runs the command.
///
/// # Errors
/// A peer cannot start, the job fails, or the picture cannot be written. All peers have ended then, too.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let started = Instant::now();
    picture::check_place(&args.output)?;
    let size = Size { width: args.width, height: args.width * ROWS_PER_EIGHT_PIXELS / 8 };
    let mut peers = Peers::new()?;
    let interrupt = context.interrupt.clone();
    let shown = tokio::select! {
        shown = show(&args, size, &mut peers, context) => shown,
        () = interrupt.wait() => Ok(Exit::Interrupted),
        () = asked_to_end() => Ok(Exit::Interrupted),
    };
    peers.end().await;
    match shown {
        Ok(Exit::Ok) => {
            let took = human::duration(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
            context.say(format!("all in {took}; the peers have ended     your own: manyhands up, then manyhands invite"));
        }
        Ok(Exit::Interrupted) => context.say("interrupted: all peers have ended, and nothing stays behind"),
        Ok(_) | Err(_) => {}
    }
    shown
}

async fn show(args: &Args, size: Size, peers: &mut Peers, context: &mut Context) -> Result<Exit, Failure> {
    context.say(format!("starting {} peers on this machine …", args.nodes));
    let mut submitter = peers.start(args.nodes).await?;
    context.say(format!("✓ {} peers have found one another: one submits, {} compute", args.nodes, args.nodes - 1));
    let job = submit(&mut submitter, size).await?;
    let units = human::count(job.units, "unit");
    context.say(format!("✓ job {}: {} x {} pixels in {units}, each computed twice", human::short_id(&job), size.width, size.height));
    let job = follow(&mut submitter, &job, peers, context).await?;
    if job.state() != JobState::Done || job.verified != job.units {
        return Err(unfinished(&mut submitter, &job).await);
    }
    let pixels = collect(&mut submitter, &job, size).await?;
    let path = picture::save(&args.output, size, &pixels)?;
    if path != args.output {
        context.say(format!("{} is another file and stays as it is", args.output.display()));
    }
    report(&job, size, &path, context)?;
    context.flush()?;
    Ok(Exit::Ok)
}

async fn submit(submitter: &mut Client, size: Size) -> Result<Job, Failure> {
    let number = |value: u32| value.to_string();
    let (width, height) = (number(size.width), number(size.height));
    let args = ["--width", &width, "--height", &height, "--samples", "2", "{start}", "{end}"];
    let options = JobOptions {
        args: args.map(str::to_owned).to_vec(),
        name: Some("mandelbrot".to_owned()),
        purpose: Some("a picture of the Mandelbrot set".to_owned()),
        ..JobOptions::default()
    };
    let per_unit = size.height.div_ceil(UNITS).max(1);
    let spec = options.spec(Some(Range { start: 0, end: size.height.into(), per_unit: per_unit.into() }))?;
    let module = MODULE.chunks(PART_BYTES_MAX).map(|chunk| Part::Module(Bytes::from_static(chunk)));
    let parts = std::iter::once(Part::Spec(spec)).chain(module).chain([Part::Commit(SubmitCommit {})]);
    let requests: Vec<SubmitRequest> = parts.map(|part| SubmitRequest { part: Some(part) }).collect();
    let response = submitter.submit(tokio_stream::iter(requests)).await?;
    Ok(response.job.unwrap_or_default())
}

/// Shows progress until the job has ended, and watches over the peers meanwhile.
async fn follow(submitter: &mut Client, job: &Job, peers: &mut Peers, context: &mut Context) -> Result<Job, Failure> {
    let mut changes = submitter.watch(&job.id).await?;
    let mut progress = Progress::new(context).with_hint("Ctrl-C ends the demo");
    let (mut now, mut verified, mut changed) = (job.clone(), 0, Instant::now());
    while matches!(now.state(), JobState::Running | JobState::Unspecified) {
        if let Ok(change) = tokio::time::timeout(ALIVE_INTERVAL, changes.next()).await {
            let Some(job) = change? else { break };
            now = job;
            progress.update(&now, context);
        }
        peers.check_alive().inspect_err(|_| progress.clear())?;
        if now.verified != verified {
            (verified, changed) = (now.verified, Instant::now());
        }
        if changed.elapsed() >= STILL_DEADLINE {
            break;
        }
    }
    progress.clear();
    Ok(now)
}

async fn unfinished(submitter: &mut Client, job: &Job) -> Failure {
    let exit = match job.state() {
        JobState::Running | JobState::Unspecified => Exit::TimeOut,
        state => Exit::of_job(state),
    };
    let reasons = submitter.explain(Some(&job.id)).await.unwrap_or_default();
    let reasons: Vec<String> = reasons.iter().map(|reason| human::shown(&reason.text)).collect();
    let counts = format!("the job is {}: {}", state_word(job.state()), human::counts(job));
    let cause = std::iter::once(counts).chain(reasons).collect::<Vec<_>>().join("\n");
    Failure::new(exit, "DEMO_JOB", "the demo's job did not come to its end").cause(cause).hint("manyhands demo")
}

/// The verified outputs in their order: they are the picture.
async fn collect(submitter: &mut Client, job: &Job, size: Size) -> Result<Vec<u8>, Failure> {
    let bytes = size.width as usize * size.height as usize * 3;
    let request = GetResultsRequest { job: job.id.clone(), partial: false, ..GetResultsRequest::default() };
    let mut chunks = submitter.results(request).await?;
    let mut pixels = Vec::with_capacity(bytes);
    while let Some(chunk) = chunks.next().await? {
        pixels.extend_from_slice(&chunk.data);
    }
    if pixels.len() == bytes {
        return Ok(pixels);
    }
    let failure = Failure::new(Exit::Other, "DEMO_PICTURE", "the results are not the picture");
    Err(failure.cause(format!("{} bytes came, and {} make the picture", grouped(pixels.len() as u64), grouped(bytes as u64))))
}

fn report(job: &Job, size: Size, path: &Path, context: &mut Context) -> Result<(), Failure> {
    match context.format {
        Format::Json | Format::Jsonl => {
            let Size { width, height } = size;
            context.print_json(&DemoJson { schema: "manyhands.demo/v1", picture: path, width, height, job: JobJson::from(job) })
        }
        Format::Id => context.print(&job.id),
        Format::Table | Format::Toml => {
            context.print(format!("verified {} of {}   ({})", grouped(job.verified), grouped(job.units), human::pace(job)))?;
            let row = |one: &crate::wire::control::Contributor| {
                vec![human::shown(&one.nickname), grouped(one.units), human::gas(one.gas), human::shown(&one.standing)]
            };
            let rows: Vec<_> = job.contributors.iter().map(row).collect();
            human::table(&["WHO", "UNITS", "GAS", "STANDING"], &rows).iter().try_for_each(|line| context.print(line))?;
            context.print(format!("picture: {}", path.display()))
        }
    }
}

/// Resolves when the system asks the demo to end.
async fn asked_to_end() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        terminate.recv().await;
        return;
    }
    std::future::pending().await
}
