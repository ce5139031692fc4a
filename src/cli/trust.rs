//! `manyhands trust`: whose results are taken at their word, and friends, who are marked by hand.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human::{self, shown},
};
use crate::wire::control::{TrustPeerRequest, Trusted};
use serde::Serialize;

/// List whose results are trusted, mark a friend's machine, or unmark it
///
/// A friend's result counts like that of a machine of yours: two such agree, and a unit is verified. Mark only whom you know. Whoever
/// is caught with a wrong result is trusted no more, friend or not.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands trust                      who is trusted, and why
  manyhands trust 3f2a...              its key, as `manyhands status -o id` prints it there
  manyhands trust 3f2a... --remove")]
pub struct Args {
    /// The key of the machine: all 64 digits, or at least 16 once it was met
    #[arg(value_name = "KEY")]
    key: Option<String>,

    /// It is no friend any more; what it verified stays
    #[arg(long, requires = "key")]
    remove: bool,
}

#[derive(Serialize)]
struct TrustJson<'a> {
    schema: &'static str,
    trusted: Vec<TrustedJson<'a>>,
}

#[derive(Serialize)]
struct TrustedJson<'a> {
    peer: &'a str,
    nickname: &'a str,
    friend: bool,
    because: &'a str,
    convicted: bool,
    connected: bool,
}

impl<'a> From<&'a Trusted> for TrustedJson<'a> {
    fn from(trusted: &'a Trusted) -> Self {
        let Trusted { peer, nickname, friend, because, convicted, connected } = trusted;
        Self { peer, nickname, friend: *friend, because, convicted: *convicted, connected: *connected }
    }
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    let Some(key) = args.key else {
        let trusted = client.trusted().await?;
        list(&trusted, context)?;
        return Ok(Exit::Ok);
    };
    let answer = client.trust(TrustPeerRequest { peer: key.trim().to_owned(), remove: args.remove }).await?;
    let trusted = answer.trusted.unwrap_or_default();
    match context.format {
        Format::Json | Format::Jsonl => context.print_json(&TrustedJson::from(&trusted))?,
        Format::Id => context.print(&trusted.peer)?,
        Format::Table | Format::Toml => context.print(line(&trusted, args.remove, answer.unchanged))?,
    }
    if trusted.convicted && !args.remove {
        context.say("• it was caught with a wrong result here, and is trusted no more: a mark does not change that");
    }
    context.say("who is trusted: manyhands trust");
    Ok(Exit::Ok)
}

fn line(trusted: &Trusted, remove: bool, unchanged: bool) -> String {
    let name = shown(&trusted.nickname);
    match (remove, unchanged) {
        (true, _) if trusted.because.is_empty() => format!("✓ {name} is no friend any more"),
        (true, _) => format!("✓ {name} is no friend any more, but still trusted as {}", shown(&trusted.because)),
        (false, true) => format!("✓ {name} is a friend already"),
        (false, false) => format!("✓ {name} is a friend: its results count like those of a machine of yours"),
    }
}

fn list(trusted: &[Trusted], context: &mut Context) -> Result<(), Failure> {
    match context.format {
        Format::Json => {
            context.print_json(&TrustJson { schema: "manyhands.trust/v1", trusted: trusted.iter().map(TrustedJson::from).collect() })?;
        }
        Format::Jsonl => trusted.iter().try_for_each(|one| context.print_json(&TrustedJson::from(one)))?,
        Format::Id => trusted.iter().try_for_each(|one| context.print(&one.peer))?,
        Format::Table | Format::Toml if trusted.is_empty() => {
            context.say("nobody is trusted but this machine");
            context.say("your other machine: manyhands invite --own     a friend: manyhands invite --friend, or manyhands trust KEY");
        }
        Format::Table | Format::Toml => {
            let header = ["NAME", "KEY", "BECAUSE", "TRUSTED", "NOW"];
            human::table(&header, &trusted.iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| context.print(line))?;
            context.say("no longer: manyhands trust KEY --remove");
        }
    }
    Ok(())
}

fn row(trusted: &Trusted) -> Vec<String> {
    vec![
        shown(&trusted.nickname),
        shown(&trusted.peer),
        shown(&trusted.because),
        (if trusted.convicted { "no, it was caught" } else { "yes" }).to_owned(),
        (if trusted.connected { "connected" } else { "away" }).to_owned(),
    ]
}
