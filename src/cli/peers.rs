//! `manyhands peers`: whom this node knows, and what it has seen of them.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human::{self, shown},
    view::PeerJson,
};
use crate::{control::error::grouped, wire::control::PeerView};
use serde::Serialize;

/// List the peers that this node knows, and how far it trusts them
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands peers
  manyhands peers -o jsonl | jq 'select(.connected)'")]
pub struct Args {}

#[derive(Serialize)]
struct PeersJson<'a> {
    schema: &'static str,
    peers: Vec<PeerJson<'a>>,
}

/// Runs the command.
pub async fn run(Args {}: Args, context: &mut Context) -> Result<Exit, Failure> {
    let peers = context.connect().await?.peers().await?;
    match context.format {
        Format::Json => {
            context.print_json(&PeersJson { schema: "manyhands.peers/v1", peers: peers.iter().map(PeerJson::from).collect() })?;
        }
        Format::Jsonl => peers.iter().try_for_each(|peer| context.print_json(&PeerJson::from(peer)))?,
        Format::Id => peers.iter().try_for_each(|peer| context.print(&peer.peer))?,
        Format::Table | Format::Toml if peers.is_empty() => {
            context.say("no peers yet");
            context.say("invite one: manyhands invite     or join another grid: manyhands join TICKET");
        }
        Format::Table | Format::Toml => {
            let header = ["NAME", "KEY", "NOW", "STANDING", "SLOTS", "VERIFIED", "GAS", "STRIKES", "VERSION"];
            human::table(&header, &peers.iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| context.print(line))?;
            context.say("what they do: manyhands jobs");
        }
    }
    Ok(Exit::Ok)
}

fn row(peer: &PeerView) -> Vec<String> {
    vec![
        shown(&peer.nickname),
        peer.peer.get(..10).unwrap_or(&peer.peer).to_owned(),
        (if peer.connected { "connected" } else { "away" }).to_owned(),
        shown(&peer.standing),
        peer.slots.to_string(),
        grouped(peer.verified_units),
        human::gas(peer.verified_gas),
        peer.strikes.to_string(),
        shown(&peer.version),
    ]
}
