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
    let open = client.status().await?.jobs_open_here;
    client.shutdown(ShutdownRequest { now: args.now }).await?;
    if !ends(&context.data_dir).await {
        let failure = Failure::new(Exit::TimeOut, "STILL_STOPPING", "the node has been told to stop and is still at it");
        return Err(failure.hint("manyhands stop --now").hint("manyhands status"));
    }
    let waiting = if open > 0 { "; its open jobs wait until it is back" } else { "" };
    context.say(format!("stopped{waiting}     start again: manyhands up"));
    Ok(Exit::Ok)
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
