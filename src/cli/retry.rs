//! `manyhands retry`: runs failed units again, and only those.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    view::JobJson,
};
use crate::{control::error::grouped, wire::control::JobState};

/// Run a job's failed units again
///
/// Units that are verified stay as they are.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands retry 7f3a9
  manyhands retry @last --failed && manyhands wait @last")]
pub struct Args {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB")]
    job: String,

    /// Only failed units; this is always so
    #[arg(long)]
    failed: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    let before = client.job(&args.job).await?;
    let id = human::short_id(&before).to_owned();
    let cancelled = before.state() == JobState::Cancelled;
    if before.failed == 0 && !cancelled {
        context.say(format!("no unit of {id} has failed; nothing to do     progress: manyhands watch {id}"));
        return Ok(Exit::Ok);
    }
    let job = client.retry(&before.id).await?;
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&JobJson::from(&job))?,
        Format::Id => context.print(&job.id)?,
        Format::Table | Format::Toml if cancelled => context.print(format!("{id} goes on"))?,
        Format::Table | Format::Toml => context.print(format!("{} units of {id} run again", grouped(before.failed)))?,
    }
    context.say(format!("watch: manyhands watch {id}"));
    Ok(Exit::Ok)
}
