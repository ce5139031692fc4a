//! `manyhands demo`: a grid on this machine, with a job and a cheater.

use super::{context::Context, exit::Exit, failure::Failure};

/// Run a small grid on this machine and a job on it
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands demo
  manyhands demo --nodes 5")]
pub struct Args {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    nodes: u32,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    run_demo(args.nodes, context).await
}

/// Integration point: starts `nodes` nodes in directories of their own, submits a built-in module and shows its results.
///
/// # Errors
/// A node cannot start, or the job failed.
pub async fn run_demo(nodes: u32, _context: &mut Context) -> Result<Exit, Failure> {
    Err(Failure::not_built("the demo").cause(format!("it would need {nodes} nodes")).hint("manyhands up"))
}
