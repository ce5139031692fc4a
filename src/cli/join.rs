//! `manyhands join`: redeems a ticket.

use super::{context::Context, context::Format, exit::Exit, failure::Failure, human};
use crate::wire::control::InviteKind;
use serde::Serialize;
use std::io::Read as _;

/// Join a grid with a ticket
///
/// Joining twice does no harm.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands join TICKET
  echo TICKET | manyhands join -")]
pub struct Args {
    /// What `manyhands invite` printed; - reads it from standard input
    #[arg(value_name = "TICKET")]
    ticket: String,
}

#[derive(Serialize)]
struct JoinJson<'a> {
    schema: &'static str,
    grid: &'a str,
    inviter: &'a str,
    inviter_nickname: &'a str,
    kind: &'static str,
    grid_changed: bool,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let ticket = if args.ticket == "-" { read_ticket(context)? } else { args.ticket.trim().to_owned() };
    if ticket.is_empty() {
        return Err(Failure::usage("BAD_TICKET", "there is no ticket").hint("make one on the other machine: manyhands invite"));
    }
    let joined = context.connect().await?.join(ticket).await?;
    let (kind, how) = match joined.kind() {
        InviteKind::Own => ("own", " as one of its owner's machines"),
        InviteKind::Friend => ("friend", " as a friend, whose results are trusted there"),
        InviteKind::Guest | InviteKind::Unspecified => ("guest", ""),
    };
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&JoinJson {
            schema: "manyhands.join/v1",
            grid: &joined.grid,
            inviter: &joined.inviter,
            inviter_nickname: &joined.inviter_nickname,
            kind,
            grid_changed: joined.grid_changed,
        })?,
        Format::Id => context.print(&joined.grid)?,
        Format::Table | Format::Toml => {
            let what = if joined.grid_changed { "joined the grid of" } else { "connected, already in the grid of" };
            context.print(format!("✓ {what} {}{how}", human::shown(&joined.inviter_nickname)))?;
        }
    }
    context.say("who is here: manyhands peers     submit: manyhands submit app.wasm");
    Ok(Exit::Ok)
}

fn read_ticket(context: &mut Context) -> Result<String, Failure> {
    const TICKET_BYTES_MAX: u64 = 16 << 10;
    let mut text = String::new();
    if let Some(stdin) = context.stdin.take() {
        let read = stdin.take(TICKET_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| Failure::usage("BAD_TICKET", "standard input cannot be read").cause(error.to_string()))?;
    }
    Ok(text.trim().to_owned())
}
