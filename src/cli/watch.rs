//! `manyhands watch` and `manyhands wait`: until a job has ended; its outcome is the exit code.

use super::{
    amount::Span,
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    progress::{self, Progress},
    view::JobJson,
};
use crate::{
    control::client::Incoming,
    wire::control::{Job, JobState},
};
use std::time::Duration;

/// Show a job's progress until it has ended
///
/// Ctrl-C detaches; the job continues. The exit code is the job's outcome.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands watch
  manyhands watch 7f3a9 && manyhands results 7f3a9 > out.txt
  manyhands watch @last -o jsonl | jq .verified")]
pub struct WatchArgs {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB", default_value = "@last")]
    job: String,

    /// Of somebody else's job, by a ticket that its author made: manyhands invite --read JOB
    #[arg(long, value_name = "TICKET", conflicts_with = "job")]
    ticket: Option<String>,
}

/// Wait until a job has ended
///
/// The exit code is the job's outcome: 0 done, 6 failed, 7 cancelled.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands wait @last --timeout 1h
  manyhands wait 7f3a9 -o json | jq .state")]
pub struct WaitArgs {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB", default_value = "@last")]
    job: String,

    /// Give up waiting after this long, with exit code 124; the job continues
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
}

/// What is printed for programs while one waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Printed {
    EachChange,
    TheEnd,
}

/// Runs `watch`.
pub async fn watch(args: WatchArgs, context: &mut Context) -> Result<Exit, Failure> {
    follow(args.ticket.as_ref().unwrap_or(&args.job), None, Printed::EachChange, context).await
}

/// Runs `wait`.
pub async fn wait(args: WaitArgs, context: &mut Context) -> Result<Exit, Failure> {
    follow(&args.job, args.timeout.map(|span| span.0), Printed::TheEnd, context).await
}

/// Waits for a job that was just submitted.
pub async fn until_end(job: &str, context: &mut Context) -> Result<Exit, Failure> {
    follow(job, None, Printed::TheEnd, context).await
}

async fn follow(reference: &str, timeout: Option<Duration>, printed: Printed, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    // `@last` must not change its meaning while one waits.
    let job = client.job(reference).await?;
    let mut changes = client.watch(if reference == "@last" { &job.id } else { reference }).await?;
    human::whose_word(&job).iter().for_each(|line| context.say(line));
    let programs = matches!(context.format, Format::Json | Format::Jsonl);
    let mut progress = if programs && printed == Printed::EachChange { Progress::Hidden } else { Progress::new(context) };
    let short = human::short_id(&job).to_owned();
    let interrupt = context.interrupt.clone();
    let ended = tokio::select! {
        ended = until_ended(&mut changes, &mut progress, printed, context) => ended?,
        () = interrupt.wait() => Ended::Detached,
        () = expired(timeout) => Ended::TimedOut,
    };
    progress.clear();
    match ended {
        Ended::Job(job) => {
            report_end(&job, printed, context)?;
            Ok(Exit::of_job(job.state()))
        }
        Ended::Detached => {
            context.say(format!("detached; the job continues     watch: manyhands watch {short}     stop it: manyhands cancel {short}"));
            Ok(Exit::Interrupted)
        }
        Ended::TimedOut => Err(Failure::new(Exit::TimeOut, "WAIT_TIME_OUT", format!("job {short} has not ended yet"))
            .cause(format!("waited for {}", timeout.map(Span).unwrap_or(Span(Duration::ZERO))))
            .hint(format!("manyhands why {short}"))
            .hint(format!("manyhands wait {short}"))),
    }
}

enum Ended {
    Job(Box<Job>),
    Detached,
    TimedOut,
}

async fn expired(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}

async fn until_ended(
    changes: &mut Incoming<Job>,
    progress: &mut Progress,
    printed: Printed,
    context: &mut Context,
) -> Result<Ended, Failure> {
    let mut now: Option<Job> = None;
    let mut told = None;
    loop {
        // Where nothing changes for a while, a plain line is due all the same.
        if let Ok(change) = tokio::time::timeout(progress::LINE_INTERVAL, changes.next()).await {
            let Some(job) = change? else { return now.map(|job| Ended::Job(Box::new(job))).ok_or_else(no_answer) };
            if printed == Printed::EachChange {
                print_change(&job, context)?;
            }
            now = Some(job);
        }
        if let Some(job) = &now {
            let safety = human::keeping(job);
            if safety.is_some() && safety != told {
                told.clone_from(&safety);
                progress.clear();
                safety.iter().for_each(|line| context.say(line));
            }
            progress.update(job, context);
            if !matches!(job.state(), JobState::Running | JobState::Unspecified) {
                return Ok(Ended::Job(Box::new(job.clone())));
            }
        }
    }
}

fn no_answer() -> Failure {
    Failure::new(Exit::Unreachable, "NODE_GONE", "the node ended the conversation before it told anything").hint("manyhands status")
}

fn print_change(job: &Job, context: &mut Context) -> Result<(), Failure> {
    match context.format {
        // A stream has no end to close a document with, so each change is one.
        Format::Json | Format::Jsonl => {
            let line = serde_json::to_string(&JobJson::from(job)).expect("views are plain data");
            context.print(line)?;
            context.flush()
        }
        Format::Table | Format::Id | Format::Toml => Ok(()),
    }
}

fn report_end(job: &Job, printed: Printed, context: &mut Context) -> Result<(), Failure> {
    match (context.format, printed) {
        (Format::Json | Format::Jsonl, Printed::TheEnd) => context.print_json(&JobJson::from(job))?,
        (Format::Id, _) => context.print(&job.id)?,
        (Format::Json | Format::Jsonl, Printed::EachChange) | (Format::Table | Format::Toml, _) => {}
    }
    progress::ending(job).iter().for_each(|line| context.say(line));
    Ok(())
}
