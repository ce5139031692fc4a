//! `manyhands stop`: stops the node.

use super::{context::Context, exit::Exit, failure::Failure};
use crate::{
    control::endpoint::Endpoint,
    wire::control::{Job, JobState, ListJobsRequest, ShutdownRequest},
};
use std::{path::Path, time::Duration};

/// How long a node may take to end: its streams are closed and what is handed in is made durable.
const END_WITHIN: Duration = Duration::from_secs(20);
/// The newest jobs, which are looked at to say what becomes of them.
const LOOKED_AT: u32 = 1000;
/// How often the node is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Stop the node; running units are handed back first
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands stop
  manyhands stop --now")]
pub struct Args {
    /// At once, without handing units back
    #[arg(long)]
    now: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    let waiting = waiting(&client.jobs(ListJobsRequest { page_size: LOOKED_AT, page_token: String::new() }).await?.jobs);
    client.shutdown(ShutdownRequest { now: args.now }).await?;
    if !ends(&context.data_dir).await {
        let failure = Failure::new(Exit::TimeOut, "STILL_STOPPING", "the node has been told to stop and is still at it");
        return Err(failure.hint("manyhands stop --now").hint("manyhands status"));
    }
    context.say(format!("stopped{waiting}     start again: manyhands up"));
    Ok(Exit::Ok)
}

/// What becomes of its user's jobs meanwhile.
fn waiting(jobs: &[Job]) -> String {
    let runs = || jobs.iter().filter(|job| job.own && job.state() == JobState::Running);
    let waiting = runs().filter(|job| !job.keepers.iter().any(|keeper| keeper.holds)).count() as u64;
    match (runs().count() as u64 - waiting, waiting) {
        (0, 0) => String::new(),
        (_, 0) => "; its open jobs go on at their keepers".to_owned(),
        (0, _) => "; its open jobs wait until it is back".to_owned(),
        (_, 1) => "; one open job waits until it is back, the others go on at their keepers".to_owned(),
        (_, waiting) => format!("; {waiting} open jobs wait until it is back, the others go on at their keepers"),
    }
}

/// Waits until the node has let go of its directory, so that the next one can have it.
async fn ends(data_dir: &Path) -> bool {
    let gone = async {
        while Endpoint::read(data_dir).is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(END_WITHIN, gone).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::JobKeeper;

    #[test]
    fn what_becomes_of_open_jobs_is_said_as_it_is() {
        let job = |own, state: JobState, holds: &[bool]| Job {
            own,
            state: state.into(),
            keepers: holds.iter().map(|holds| JobKeeper { holds: *holds, ..JobKeeper::default() }).collect(),
            ..Job::default()
        };
        let (kept, unkept) = (job(true, JobState::Running, &[false, true]), job(true, JobState::Running, &[false]));
        let (ended, others) = (job(true, JobState::Done, &[]), job(false, JobState::Running, &[]));
        assert_eq!(waiting(&[ended.clone(), others.clone()]), "");
        assert_eq!(waiting(&[kept.clone(), ended]), "; its open jobs go on at their keepers");
        assert_eq!(waiting(&[unkept.clone(), others]), "; its open jobs wait until it is back");
        let both = "; one open job waits until it is back, the others go on at their keepers";
        assert_eq!(waiting(&[kept, unkept]), both);
    }
}
