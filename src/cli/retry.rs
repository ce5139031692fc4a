//! `manyhands retry`: runs units again that failed on machines, and goes on with a job that was cancelled or stopped.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    view::JobJson,
};
use crate::wire::control::JobState;

/// Run failed units again; go on with a cancelled or stopped job
///
/// Units that are verified stay as they are. So do those whose program failed: it would do so again everywhere.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands retry 7f3a9
  manyhands retry @last --failed && manyhands wait @last")]
pub struct Args {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB")]
    job: String,

    /// Of those that are decided only failed units; this is always so
    #[arg(long)]
    failed: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    let before = client.job(&args.job).await?;
    let id = human::short_id(&before).to_owned();
    let stood = matches!(before.state(), JobState::Cancelled | JobState::Stopped);
    if before.failed == 0 && !stood {
        context.say(format!("no unit of {id} has failed; nothing to do     progress: manyhands watch {id}"));
        return Ok(Exit::Ok);
    }
    let job = client.retry(&before.id).await?;
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&JobJson::from(&job))?,
        Format::Id => context.print(&job.id)?,
        Format::Table | Format::Toml => match before.failed.saturating_sub(job.failed) {
            _ if stood => context.print(format!("{id} goes on"))?,
            0 => {
                context.print(format!("nothing of {id} runs again: what failed are its programs, which would do so everywhere"))?;
                context.say(format!("reasons: manyhands why {id}"));
                return Ok(Exit::Ok);
            }
            again => context.print(format!("{} of {id} run again", human::count(again, "unit")))?,
        },
    }
    context.say(format!("watch: manyhands watch {id}"));
    Ok(Exit::Ok)
}
