//! `manyhands stop`: stops the node.

use super::{context::Context, exit::Exit, failure::Failure};
use crate::wire::control::ShutdownRequest;

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
    context.connect().await?.shutdown(ShutdownRequest { now: args.now }).await?;
    context.say("the node is stopping; its own jobs wait until it is back     start again: manyhands up");
    Ok(Exit::Ok)
}
