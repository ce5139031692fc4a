//! The command line: one file per command. Standard output is data, standard error is talk.
//!
//! A command parses its arguments, asks the node through `control::client`, and prints. It decides nothing about jobs; what
//! it prints for programs is in [`view`], for people in [`human`], and how it fails in [`failure`] and [`exit`].

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf};

pub mod exit;

pub mod failure;

pub mod context;

pub mod amount;

pub mod human;

pub mod view;

pub mod job_options;

pub mod module_check;

pub mod inputs;

pub mod progress;

pub mod temporary;

mod up;

mod invite;

mod join;

mod status;

mod peers;

mod trust;

mod try_here;

mod submit;

mod jobs;

mod watch;

mod results;

mod logs;

mod why;

mod cancel;

mod retry;

mod verify;

mod bundle;

mod pause;

mod stop;

mod demo;

mod simulate;

mod simulate_view;

pub mod scenario_file;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod submit_tests;

use context::{Context, Format, Terminals, Volume};
use exit::Exit;
use failure::Failure;

/// A volunteer compute grid with no server
///
/// Lend spare CPU, submit WebAssembly jobs, get verified results.
#[derive(Parser, Debug)]
#[command(name = "manyhands", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(next_help_heading = "Everywhere")]
pub struct Cli {
    /// The node's directory [default: ~/.local/share/manyhands]
    #[arg(long, global = true, env = "MANYHANDS_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,

    /// How data is printed
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table")]
    format: Format,

    /// Only data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// More about what happens
    #[arg(short, long, global = true)]
    verbose: bool,

    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
enum Command {
    Up(up::Args),
    Invite(invite::Args),
    Join(join::Args),
    Status(status::Args),
    Peers(peers::Args),
    Trust(trust::Args),
    Try(Box<try_here::Args>),
    Submit(Box<submit::Args>),
    Jobs(jobs::Args),
    Watch(watch::WatchArgs),
    Wait(watch::WaitArgs),
    Results(results::Args),
    Logs(logs::Args),
    Why(why::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Verify(verify::Args),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Stop(stop::Args),
    Demo(demo::Args),
    Simulate(simulate::Args),
}

/// Examples come before everything but the first words.
const HELP_TEMPLATE: &str = "{about}{after-help}\n\n{usage-heading} {usage}\n\n{all-args}";

/// The whole command line with its help.
pub fn command() -> clap::Command {
    let root_help = format!(
        "Examples:\n  manyhands up\n  manyhands submit primes.wasm --range 1..1_000_000 -- {{start}} {{end}}\n  manyhands results @last\n\n{}",
        exit::help_table()
    );
    let command = Cli::command().after_help(root_help);
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, |sub| sub.help_template(HELP_TEMPLATE)))
}

/// Runs the command line of this process: parses it, does it, reports what failed.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut context = Context::new(PathBuf::new(), Box::new(std::io::BufWriter::new(std::io::stdout())), Box::new(std::io::stderr()));
    context.terminals = Terminals::of_process();
    context.stdin = Some(Box::new(std::io::stdin()));
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error, &arguments, &mut context),
    };
    let outcome = prepare(&cli, &mut context).and_then(|()| {
        let runtime = runtime(&cli.command)?;
        let outcome = runtime.block_on(execute(cli.command, &mut context));
        // A thread may still be reading standard input; the process is about to end.
        runtime.shutdown_background();
        outcome
    });
    finish(outcome, &mut context)
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// Puts the global flags into effect.
fn prepare(cli: &Cli, context: &mut Context) -> Result<(), Failure> {
    context.format = cli.format;
    context.volume = match (cli.quiet, cli.verbose) {
        (true, _) => Volume::Quiet,
        (_, true) => Volume::Verbose,
        _ => Volume::Normal,
    };
    context.data_dir = match &cli.data_dir {
        Some(directory) => directory.clone(),
        None => context::default_data_dir(|name| std::env::var_os(name))?,
    };
    let dry_run = matches!(&cli.command, Command::Submit(args) if args.dry_run);
    if cli.format == Format::Toml && !dry_run {
        return Err(Failure::usage("FORMAT", "-o toml is only for `submit --dry-run`").hint("-o json"));
    }
    Ok(())
}

/// A node needs threads; a question to one does not.
fn runtime(command: &Command) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = match command {
        Command::Up(_) | Command::Demo(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let failed = |error: std::io::Error| Failure::new(Exit::Other, "RUNTIME", "cannot start").cause(error.to_string());
    builder.enable_all().build().map_err(failed)
}

async fn execute(command: Command, context: &mut Context) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(args, context).await,
        Command::Invite(args) => invite::run(args, context).await,
        Command::Join(args) => join::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Peers(args) => peers::run(args, context).await,
        Command::Trust(args) => trust::run(args, context).await,
        Command::Try(args) => try_here::run(*args, context).await,
        Command::Submit(args) => submit::run(*args, context).await,
        Command::Jobs(args) => jobs::run(args, context).await,
        Command::Watch(args) => watch::watch(args, context).await,
        Command::Wait(args) => watch::wait(args, context).await,
        Command::Results(args) => results::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Why(args) => why::run(args, context).await,
        Command::Cancel(args) => cancel::run(args, context).await,
        Command::Retry(args) => retry::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
        Command::Pause(args) => pause::pause(args, context).await,
        Command::Resume(args) => pause::resume(args, context).await,
        Command::Stop(args) => stop::run(args, context).await,
        Command::Demo(args) => demo::run(args, context).await,
        Command::Simulate(args) => simulate::run(args, context).await,
    }
}

fn finish(outcome: Result<Exit, Failure>, context: &mut Context) -> Exit {
    match outcome.and_then(|exit| context.flush().map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            // What was printed before is still of use; the failure that counts is the first.
            let _ = context.flush();
            context.report(&failure)
        }
    }
}

/// Help and version are data; a wrong command line is an error like any other, but in clap's words, which suggest a fix.
fn report_usage(error: &clap::Error, arguments: &[OsString], context: &mut Context) -> Exit {
    use clap::error::ErrorKind;
    let wants_json = arguments.iter().any(|arg| {
        arg.to_str().is_some_and(|arg| matches!(arg, "json" | "jsonl" | "-ojson" | "-ojsonl" | "--format=json" | "--format=jsonl"))
    });
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if wants_json && !help {
        context.format = Format::Json;
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return context.report(&Failure::usage("COMMAND_LINE", message).hint("manyhands --help"));
    }
    // A closed pipe while printing help is no error.
    let _ = error.print();
    if help { Exit::Ok } else { Exit::Usage }
}
