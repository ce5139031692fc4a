//! `manyhands why`: the reason why a job or this node is where it is.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
    view::ReasonJson,
};
use serde::Serialize;

/// Say why a job, or this node, waits
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands why               why this node has nothing to do
  manyhands why @last         why the job is not done yet")]
pub struct Args {
    /// Id, unique prefix or @last; without one: this node
    #[arg(value_name = "JOB")]
    job: Option<String>,
}

#[derive(Serialize)]
struct WhyJson<'a> {
    schema: &'static str,
    job: Option<&'a str>,
    reasons: Vec<ReasonJson<'a>>,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let job = args.job.as_deref();
    let reasons = context.connect().await?.explain(job).await?;
    match context.format {
        Format::Json | Format::Jsonl => {
            context.print_json(&WhyJson { schema: "manyhands.why/v1", job, reasons: reasons.iter().map(ReasonJson::from).collect() })?;
        }
        Format::Id => reasons.iter().try_for_each(|reason| context.print(&reason.code))?,
        Format::Table | Format::Toml => reasons.iter().flat_map(human::reason_lines).try_for_each(|line| context.print(line))?,
    }
    context.say(match job {
        _ if reasons.is_empty() => "nothing waits".to_owned(),
        Some(job) => format!("progress: manyhands watch {job}"),
        None => "this node: manyhands status".to_owned(),
    });
    Ok(Exit::Ok)
}
