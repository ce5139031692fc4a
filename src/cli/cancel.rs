//! `manyhands cancel`: stops a job. `retry` goes on with it.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    view::{JobJson, state_word},
};
use crate::{control::error::grouped, wire::control::JobState};

/// Cancel jobs; what is verified already stays
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands cancel 7f3a9
  manyhands jobs -o id | xargs manyhands cancel")]
pub struct Args {
    /// Ids, unique prefixes or @last
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    for reference in &args.jobs {
        let job = client.cancel(reference).await?;
        let id = human::short_id(&job);
        match context.format {
            Format::Json | Format::Jsonl => context.print_json(&JobJson::from(&job))?,
            Format::Id => context.print(&job.id)?,
            Format::Table | Format::Toml if job.state() == JobState::Cancelled => {
                let (verified, units) = (grouped(job.verified), grouped(job.units));
                context.print(format!("cancelled {id}; {verified} of {units} units are verified"))?;
                context.say(format!("get them: manyhands results {id} --partial"));
            }
            Format::Table | Format::Toml => {
                context.print(format!("job {id} has ended already: {}", state_word(job.state())))?;
                context.say(format!("results: manyhands results {id}"));
            }
        }
    }
    Ok(Exit::Ok)
}
