//! `manyhands jobs`: the jobs of this node.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human::{self, shown},
    view::JobJson,
};
use crate::{
    control::error::grouped,
    wire::control::{Job, ListJobsRequest},
};
use serde::Serialize;

/// The most jobs that are listed without --all.
const JOBS_SHOWN: usize = 20;
const PAGE_JOBS: u32 = 200;

/// List jobs, the newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands jobs
  manyhands jobs --all -o jsonl | jq -r 'select(.state==\"failed\").id'")]
pub struct Args {
    /// All of them, not only the newest 20
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct JobsJson<'a> {
    schema: &'static str,
    jobs: Vec<JobJson<'a>>,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let (jobs, more) = fetch(context, if args.all { usize::MAX } else { JOBS_SHOWN }).await?;
    match context.format {
        Format::Json => context.print_json(&JobsJson { schema: "manyhands.jobs/v1", jobs: jobs.iter().map(JobJson::from).collect() })?,
        Format::Jsonl => jobs.iter().try_for_each(|job| context.print_json(&JobJson::from(job)))?,
        Format::Id => jobs.iter().try_for_each(|job| context.print(&job.id))?,
        Format::Table | Format::Toml if jobs.is_empty() => {
            context.say("no jobs yet");
            context.say("submit one: manyhands submit app.wasm     or see one run: manyhands demo");
        }
        Format::Table | Format::Toml => {
            let header = ["JOB", "NAME", "DONE", "VERIFIED", "FAILED", "PEERS", "TIME", "STATE"];
            human::table(&header, &jobs.iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| context.print(line))?;
            if more {
                context.say("there are more: manyhands jobs --all");
            }
            context.say(format!("progress: manyhands watch {}", human::short_id(&jobs[0])));
        }
    }
    Ok(Exit::Ok)
}

/// The newest `limit` jobs, and whether there are more.
async fn fetch(context: &Context, limit: usize) -> Result<(Vec<Job>, bool), Failure> {
    let mut client = context.connect().await?;
    let (mut jobs, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.jobs(ListJobsRequest { page_size: PAGE_JOBS, page_token }).await?;
        jobs.extend(page.jobs);
        page_token = page.next_page_token;
        if page_token.is_empty() || jobs.len() >= limit {
            let more = jobs.len() > limit || !page_token.is_empty();
            jobs.truncate(limit);
            return Ok((jobs, more));
        }
    }
}

fn row(job: &Job) -> Vec<String> {
    vec![
        human::short_id(job).to_owned(),
        shown(&job.name),
        format!("{}%", human::percent(job)),
        format!("{}/{}", grouped(job.verified), grouped(job.units)),
        grouped(job.failed),
        grouped(job.workers),
        human::duration(job.elapsed_ms),
        human::state(job),
    ]
}
