//! `manyhands logs`: what units wrote to their standard error.

use super::{
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    human,
};
use crate::wire::control::{GetLogsRequest, LogChunk};
use serde::Serialize;
use std::io::Write as _;

/// Print what a job's units wrote to their standard error
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands logs @last
  manyhands logs 7f3a9 --unit 17")]
pub struct Args {
    /// Id, unique prefix or @last
    #[arg(value_name = "JOB", default_value = "@last")]
    job: String,

    /// Only this unit, as it is
    #[arg(long, value_name = "N")]
    unit: Option<u32>,
}

#[derive(Serialize)]
struct LogJson<'a> {
    schema: &'static str,
    unit: u32,
    text: &'a str,
}

/// Runs the command.
pub async fn run(args: Args, context: &mut Context) -> Result<Exit, Failure> {
    let mut client = context.connect().await?;
    let mut chunks = client.logs(GetLogsRequest { job: args.job.clone(), unit: args.unit }).await?;
    let mut last_unit = None;
    while let Some(chunk) = chunks.next().await? {
        print(&chunk, last_unit, args.unit.is_some(), context)?;
        last_unit = Some(chunk.unit);
    }
    if last_unit.is_none() {
        context.say(format!("no unit has logged anything     progress: manyhands watch {}", human::shown(&args.job)));
    }
    Ok(Exit::Ok)
}

/// What strangers' machines wrote, made harmless for a terminal: control characters but line ends and tabs are shown, not obeyed.
fn printable(bytes: &[u8]) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    String::from_utf8_lossy(bytes).chars().map(shown).collect()
}

fn print(chunk: &LogChunk, last_unit: Option<u32>, one_unit: bool, context: &mut Context) -> Result<(), Failure> {
    match context.format {
        Format::Json | Format::Jsonl => {
            let text = String::from_utf8_lossy(&chunk.data);
            let line = serde_json::to_string(&LogJson { schema: "manyhands.log/v1", unit: chunk.unit, text: &text });
            context.print(line.expect("plain data"))
        }
        Format::Id => {
            if last_unit == Some(chunk.unit) {
                Ok(())
            } else {
                context.print(chunk.unit.to_string())
            }
        }
        Format::Table | Format::Toml => {
            let mut bytes = Vec::with_capacity(chunk.data.len() + 32);
            if !one_unit && last_unit != Some(chunk.unit) {
                writeln!(bytes, "==> unit {} <==", chunk.unit).expect("memory");
            }
            if context.terminals.stdout {
                bytes.extend_from_slice(printable(&chunk.data).as_bytes());
            } else {
                bytes.extend_from_slice(&chunk.data);
            }
            if !one_unit && chunk.data.last().is_some_and(|last| *last != b'\n') {
                bytes.push(b'\n');
            }
            context.print_bytes(&bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_log_cannot_steer_the_terminal() {
        assert_eq!(printable(b"ok\n\ttab \x1b]0;pwn\x07 \xff"), "ok\n\ttab \\u{1b}]0;pwn\\u{7} \u{fffd}");
    }
}
