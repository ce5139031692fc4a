//! `manyhands invite`: makes a ticket. Only the ticket goes to standard output, so that it can be piped.

use super::{amount::Span, context::Context, context::Format, exit::Exit, failure::Failure};
use crate::wire::control::{CreateInviteRequest, InviteKind};
use serde::Serialize;

/// Make a ticket with which another machine joins this grid
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands invite                         for a volunteer
  manyhands invite --own                   for another machine of yours, which you trust
  manyhands invite --friend                for somebody whose results you trust
  manyhands invite --read @last            to read the results of a job, from anywhere in the grid
  manyhands invite --valid 1h --uses 1 | ssh host 'manyhands join -'")]
pub struct Args {
    /// For another machine of yours: its results are trusted
    #[arg(long)]
    own: bool,

    /// For a friend's machine: its results are trusted, too; see `manyhands trust`
    #[arg(long, conflicts_with = "own")]
    friend: bool,

    /// Not to join, but to read the results of this job anywhere in the grid, also while this computer is off
    #[arg(long, value_name = "JOB", conflicts_with_all = ["own", "friend", "valid", "uses"])]
    read: Option<String>,

    /// How long it can be used, 1m to 30d
    #[arg(long, value_name = "TIME", default_value = "1d")]
    valid: Span,

    /// How often it can be used, at most 100 [default: 100; with --own or --friend: once]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    uses: Option<u32>,
}

#[derive(Serialize)]
struct InviteJson<'a> {
    schema: &'static str,
    ticket: &'a str,
    kind: &'static str,
    valid_seconds: u64,
    uses: Option<u32>,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let (kind, word, whom) = match (args.own, args.friend) {
        (true, _) => (InviteKind::Own, "own", "a machine of yours, whose results you trust: keep it secret"),
        (false, true) => (InviteKind::Friend, "friend", "a friend, whose results you trust: give it to nobody else"),
        (false, false) => (InviteKind::Guest, "guest", "a volunteer"),
    };
    let valid_ms = u64::try_from(args.valid.0.as_millis()).unwrap_or(u64::MAX);
    let valid_ms = valid_ms.max(1);
    let uses = args.uses.unwrap_or(u32::from(args.own || args.friend));
    let read_job = args.read.clone().unwrap_or_default();
    let request = CreateInviteRequest { kind: kind.into(), valid_ms, uses, read_job };
    let invite = context.connect().await?.invite(request).await?;
    if args.read.is_some() {
        context.print(&invite.ticket)?;
        context.say("whoever has it may read the results of this job, as long as its author or a keeper is there; it does not expire");
        context.say("there: manyhands results --ticket TICKET     or: manyhands watch --ticket TICKET");
        return Ok(Exit::Ok);
    }
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&InviteJson {
            schema: "manyhands.invite/v1",
            ticket: &invite.ticket,
            kind: word,
            valid_seconds: invite.valid_ms / 1000,
            uses: (invite.uses > 0).then_some(invite.uses),
        })?,
        Format::Table | Format::Id | Format::Toml => context.print(&invite.ticket)?,
    }
    let valid = Span(std::time::Duration::from_millis(invite.valid_ms));
    let often = match invite.uses {
        0 => "any number of times".to_owned(),
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    context.say(format!("a ticket for {whom}; valid for {valid}, {often}"));
    context.say("there: manyhands up, then: manyhands join TICKET");
    Ok(Exit::Ok)
}
