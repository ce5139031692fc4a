//! `manyhands status`: this node at a glance.

use super::{
    context::{Context, Format, Volume},
    exit::Exit,
    failure::Failure,
    human::{self, shown},
    view::StatusJson,
};
use crate::{control::error::grouped, wire::control::Status};

/// Show this node: network, what it lends, what it waits for
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands status
  manyhands status -o json | jq .peers_connected")]
pub struct Args {}

/// Runs the command.
pub async fn run(Args {}: Args, context: &mut Context) -> Result<Exit, Failure> {
    let status = context.connect().await?.status().await?;
    print(&status, context)?;
    Ok(Exit::Ok)
}

/// Prints a status, as `pause` and `resume` do too.
pub fn print(status: &Status, context: &mut Context) -> Result<(), Failure> {
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&StatusJson::from(status)),
        Format::Id => context.print(&status.peer),
        Format::Table | Format::Toml => {
            lines(status, context.volume == Volume::Verbose).iter().try_for_each(|line| context.print(line))?;
            context.say(next_command(status));
            Ok(())
        }
    }
}

fn lines(status: &Status, verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let key = if verbose { &status.peer } else { status.peer.get(..10).unwrap_or(&status.peer) };
    lines.push(format!("✓ node {}   key {key}   {}", shown(&status.nickname), shown(&status.data_dir)));
    let grid = if status.private_grid { "private grid" } else { "public grid" };
    let (mark, peers) = (if status.peers_connected > 0 { "✓" } else { "•" }, grouped(status.peers_connected));
    lines.push(format!("{mark} network: {peers} peers connected, {} known · {grid}", grouped(status.peers_known)));
    if status.grid_peers_estimate > 0 {
        let (peers, slots) = (grouped(status.grid_peers_estimate), grouped(status.grid_slots_estimate));
        lines.push(format!("  the whole grid: about {peers} peers, {slots} slots"));
    }
    let memory = human::size(status.memory_bytes);
    lines.push(format!("{} lending {} of {} slots now · {memory} RAM", mark_of(status), status.slots_busy, status.slots));
    let protection = if status.protection.is_empty() { "none".to_owned() } else { status.protection.join(", ") };
    lines.push(format!("  protection: {protection} · given: {} units, {} gas", grouped(status.units_run), human::gas(status.gas_given)));
    lines.push(format!("  jobs: {} of your own open, {} heard of", status.jobs_open_here, status.jobs_heard));
    if status.paused {
        let left =
            if status.pause_left_ms > 0 { format!("for {} more", human::duration(status.pause_left_ms)) } else { "until resumed".into() };
        lines.push(format!("• paused {left}"));
    } else if let Some(reason) = &status.idle_reason {
        lines.push(format!("• {}", shown(&reason.text)));
    }
    lines.extend(status.warnings.iter().map(|warning| format!("! {}", shown(warning))));
    if verbose {
        lines.extend(status.addresses.iter().map(|address| format!("  address {}", shown(address))));
        let (version, up) = (shown(&status.version), human::duration(status.uptime_ms));
        lines.push(format!("  version {version} · {} · {} · up {up}", shown(&status.instruction_set), shown(&status.validation_class)));
    }
    lines
}

fn mark_of(status: &Status) -> &'static str {
    if status.slots > 0 && !status.paused { "✓" } else { "•" }
}

fn next_command(status: &Status) -> &'static str {
    match (status.paused, status.peers_connected) {
        (true, _) => "lend again: manyhands resume",
        (false, 0) => "nobody else is here yet: manyhands invite, or manyhands join TICKET",
        (false, _) => "why it waits: manyhands why     who is here: manyhands peers     jobs: manyhands jobs",
    }
}
