//! `manyhands stop`: stops the node.

use super::{context::Context, exit::Exit, failure::Failure};
use crate::{control::endpoint::Endpoint, wire::control::ShutdownRequest};
use std::{path::Path, time::Duration};

/// How long a node may take to end: its streams are closed and what is handed in is made durable.
const END_WITHIN: Duration = Duration::from_secs(20);
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
    let status = client.status().await?;
    let waiting = waiting(status.jobs_open_here, status.jobs_kept_elsewhere);
    client.shutdown(ShutdownRequest { now: args.now }).await?;
    if !ends(&context.data_dir).await {
        let failure = Failure::new(Exit::TimeOut, "STILL_STOPPING", "the node has been told to stop and is still at it");
        return Err(failure.hint("manyhands stop --now").hint("manyhands status"));
    }
    context.say(format!("stopped{waiting}     start again: manyhands up"));
    Ok(Exit::Ok)
}

/// What becomes of its user's open jobs meanwhile, some of which go on at keepers.
fn waiting(open: u32, kept: u32) -> String {
    match (kept, open.saturating_sub(kept)) {
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

    #[test]
    fn what_becomes_of_open_jobs_is_said_as_it_is() {
        assert_eq!(waiting(0, 0), "");
        assert_eq!(waiting(2, 2), "; its open jobs go on at their keepers");
        assert_eq!(waiting(2, 0), "; its open jobs wait until it is back");
        assert_eq!(waiting(3, 2), "; one open job waits until it is back, the others go on at their keepers");
        assert!(waiting(5, 2).starts_with("; 3 open jobs wait"));
    }
}
