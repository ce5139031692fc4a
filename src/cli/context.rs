//! What every command needs: where the node's data is, how to print, and to whom. The only place that writes to the
//! standard streams, so that tests see all output and a closed pipe is handled once.

use super::{exit::Exit, failure::Failure};
use crate::control::client::Client;
use serde::Serialize;
use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    sync::Arc,
};
use tokio::sync::Notify;

/// How data is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
    /// Only full ids, one per line
    Id,
    /// Only for `submit --dry-run`: a job file
    Toml,
}

/// How much is said besides the data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Volume {
    /// Errors only.
    Quiet,
    /// What a person wants to know.
    Normal,
    /// More.
    Verbose,
}

/// Which standard streams are terminals, and whether colour is welcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terminals {
    /// Standard input.
    pub stdin: bool,
    /// Standard output: what strangers' machines wrote is made harmless there.
    pub stdout: bool,
    /// Standard error; live progress needs it.
    pub stderr: bool,
    /// Standard error may be coloured: a terminal, not `TERM=dumb`, no `NO_COLOR`.
    pub color: bool,
}

impl Terminals {
    /// Those of this process.
    pub fn of_process() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let stderr = io::stderr().is_terminal();
        Self {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: stderr && !dumb,
            color: stderr && !dumb && !no_color,
        }
    }
}

/// How a command that waits is interrupted.
#[derive(Clone, Debug, Default)]
pub enum Interrupt {
    /// By Ctrl-C.
    #[default]
    CtrlC,
    /// By whoever holds the other end.
    Notified(Arc<Notify>),
}

impl Interrupt {
    /// Returns when interrupted.
    pub async fn wait(&self) {
        match self {
            // Where no handler can be installed, Ctrl-C ends the process as usual.
            Self::CtrlC => match tokio::signal::ctrl_c().await {
                Ok(()) => {}
                Err(_) => std::future::pending().await,
            },
            Self::Notified(notify) => notify.notified().await,
        }
    }
}

/// The surroundings of a command.
pub struct Context {
    /// The node's directory.
    pub data_dir: PathBuf,
    /// How data is printed.
    pub format: Format,
    /// How much is said.
    pub volume: Volume,
    /// Who listens.
    pub terminals: Terminals,
    /// Standard input, until it is taken.
    pub stdin: Option<Box<dyn io::Read + Send>>,
    /// How waiting is interrupted.
    pub interrupt: Interrupt,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl Context {
    /// A context that prints to `out` and talks to `err`.
    pub fn new(data_dir: PathBuf, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        let (format, volume, terminals) = (Format::Table, Volume::Normal, Terminals::default());
        Self { data_dir, format, volume, terminals, stdin: None, interrupt: Interrupt::default(), out, err }
    }

    /// Prints a line of data.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn print(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.print_bytes(line.as_ref().as_bytes())?;
        self.print_bytes(b"\n")
    }

    /// Prints data as it is.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn print_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| Failure::writing(&error))
    }

    /// Hands printed data on; at the end, and before waiting for something.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::writing(&error))
    }

    /// Prints JSON: indented for `json`, a line for anything else.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn print_json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = if self.format == Format::Json { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        self.print(text.expect("views are plain data"))
    }

    /// Says something, unless `--quiet`. A closed standard error is no reason to fail.
    pub fn say(&mut self, line: impl AsRef<str>) {
        if self.volume > Volume::Quiet {
            let _ = writeln!(self.err, "{}", line.as_ref());
        }
    }

    /// Reports a failure, as text or (with `-o json` and `-o jsonl`) as JSON, and returns its exit code.
    pub fn report(&mut self, failure: &Failure) -> Exit {
        let text = match self.format {
            _ if failure.is_silent() => String::new(),
            Format::Json | Format::Jsonl => failure.for_programs(),
            Format::Table | Format::Id | Format::Toml => failure.for_people(self.terminals.color),
        };
        let _ = self.err.write_all(text.as_bytes());
        failure.exit
    }

    /// Connects to the node.
    ///
    /// # Errors
    /// None is running.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.data_dir).await?)
    }
}

/// The data directory when none is named: `$XDG_DATA_HOME/manyhands`, else `~/.local/share/manyhands`.
///
/// # Errors
/// There is no home directory.
pub fn default_data_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let share = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    share.map(|share| share.join("manyhands")).ok_or_else(|| {
        let failure = Failure::usage("NO_HOME", "there is no directory for the node's data");
        failure.cause("neither XDG_DATA_HOME nor HOME is set").hint("--data-dir DIR, or MANYHANDS_DATA_DIR")
    })
}
