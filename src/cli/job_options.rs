//! What a job consists of, as flags and as the keys of a job file: one struct is both, so they cannot differ.

use super::{
    amount::{ByteSize, Count, Numbers, Span},
    failure::Failure,
};
use crate::{
    control::error::Kind,
    protocol::outcome::UnitLimits,
    wire::control::{JobSpec, Range},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A job's options. Each flag is a key of the job file, which is why there are more than ten fields.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct JobOptions {
    /// A WASI program (wasm32-wasip1), or a job file that names one
    #[arg(value_name = "APP.wasm|JOB.toml")]
    pub module: Option<PathBuf>,

    /// Arguments of each unit; {start} {end} {index} {name} {} are replaced
    #[arg(last = true, value_name = "ARGS")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,

    /// A unit per file; quote the pattern
    #[arg(long, value_name = "GLOB", num_args = 1.., help_heading = "Splitters (one of them; none: standard input is one unit)")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,

    /// A unit per N lines of a file
    #[arg(long, value_name = "FILE", help_heading = "Splitters (one of them; none: standard input is one unit)")]
    pub lines: Option<PathBuf>,

    /// A unit per N numbers, from A to before B
    #[arg(long, value_name = "A..B", help_heading = "Splitters (one of them; none: standard input is one unit)")]
    pub range: Option<Numbers>,

    /// A unit per N records of a CSV file, each with the header in front
    #[arg(long, value_name = "FILE", help_heading = "Splitters (one of them; none: standard input is one unit)")]
    pub csv: Option<PathBuf>,

    /// A unit per N lines of a JSON lines file
    #[arg(long, value_name = "FILE", help_heading = "Splitters (one of them; none: standard input is one unit)")]
    pub jsonl: Option<PathBuf>,

    /// A unit per so many bytes of a file
    #[arg(long, num_args = 2, value_names = ["SIZE", "FILE"], help_heading = "Splitters (one of them; none: standard input is one unit)")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chunk: Vec<String>,

    /// How many numbers, lines or records are one unit [default: chosen for at most 10,000 units]
    #[arg(long, value_name = "N", help_heading = "Splitters (one of them; none: standard input is one unit)")]
    pub per_unit: Option<Count>,

    /// Memory of a unit [default: 1GiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits of a unit")]
    pub memory: Option<ByteSize>,

    /// Time of a unit on the worker's clock [default: 1h]
    #[arg(long, value_name = "TIME", help_heading = "Limits of a unit")]
    pub time: Option<Span>,

    /// Standard output of a unit [default: 16MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits of a unit")]
    pub output: Option<ByteSize>,

    /// Work of a unit; a fast core does 1e9 to 1e10 a second [default: 100_000_000_000_000]
    #[arg(long, value_name = "N", help_heading = "Limits of a unit")]
    pub gas: Option<Count>,

    /// Standard error of a unit that is kept [default: 64KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits of a unit")]
    pub log: Option<ByteSize>,

    /// How results are verified [default: standard]
    #[arg(long, help_heading = "The job")]
    pub policy: Option<Policy>,

    /// Order among your own jobs, -10 to 10; higher goes first
    #[arg(long, value_name = "N", help_heading = "The job")]
    #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-10..=10))]
    pub priority: Option<i32>,

    /// A field of work, announced with the job; nothing chooses by it yet. Can be given more than once
    #[arg(long, value_name = "TAG", help_heading = "The job")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,

    /// What the job is for, announced with it; nothing shows it yet
    #[arg(long, value_name = "TEXT", help_heading = "The job")]
    pub purpose: Option<String>,

    /// Its name [default: the module's]
    #[arg(long, value_name = "NAME", help_heading = "The job")]
    pub name: Option<String>,

    /// What becomes of the outputs [default: concat]
    #[arg(long, value_name = "concat|none|MODULE.wasm", help_heading = "The job")]
    pub reduce: Option<Reduce>,

    /// An argument of the reducer; can be given more than once
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, help_heading = "The job")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reduce_arg: Vec<String>,

    /// How many peers keep a copy, so that the job goes on when this computer is off [default: 2]
    #[arg(long, value_name = "none|1|2|3", help_heading = "The job")]
    pub keep: Option<Keep>,

    /// Make it another job, even when it equals one that was submitted already
    #[arg(long, help_heading = "The job")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new: bool,
}

/// How many peers keep a copy of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
pub enum Keep {
    /// The job waits while this computer is off
    #[serde(rename = "none")]
    None,
    /// One
    #[serde(rename = "1")]
    #[value(name = "1")]
    One,
    /// Two: one may be lost
    #[serde(rename = "2")]
    #[value(name = "2")]
    Two,
    /// Three
    #[serde(rename = "3")]
    #[value(name = "3")]
    Three,
}

impl Keep {
    fn count(self) -> u8 {
        match self {
            Self::None => 0,
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

/// How results are verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// About 1.3 executions per unit: proven peers alone, audited
    Economy,
    /// About 2.1: two agreeing votes, one of them from a proven peer
    Standard,
    /// About 3: three agreeing votes
    Strict,
}

impl Policy {
    /// The word in a job description.
    pub fn word(self) -> &'static str {
        match self {
            Self::Economy => "economy",
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }
}

/// What becomes of the outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reduce {
    /// They are joined in unit order.
    Concat,
    /// Each stays by itself.
    None,
    /// Another module reads them.
    Module(PathBuf),
}

impl FromStr for Reduce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "concat" => Ok(Self::Concat),
            "none" => Ok(Self::None),
            path if Path::new(path).extension().is_some_and(|extension| extension == "wasm") => Ok(Self::Module(path.into())),
            other => Err(format!("`{other}` is neither concat nor none nor a module (.wasm)")),
        }
    }
}

impl fmt::Display for Reduce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concat => f.write_str("concat"),
            Self::None => f.write_str("none"),
            Self::Module(path) => path.display().fmt(f),
        }
    }
}

impl Serialize for Reduce {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reduce {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JobOptions {
    /// The options with those of the job file behind them, when `module` is one (`.toml`): flags win.
    ///
    /// # Errors
    /// The file cannot be read or is no job file.
    pub fn with_job_file(self) -> Result<Self, Failure> {
        match &self.module {
            Some(path) if path.extension().is_some_and(|extension| extension == "toml") => {
                let file = Self::read(path)?;
                Ok(self.over(file))
            }
            Some(_) | None => Ok(self),
        }
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        const JOB_FILE_BYTES_MAX: u64 = 1 << 20;
        let missing = |error: &_| super::module_check::missing(path, error).hint("manyhands submit job.toml");
        if std::fs::metadata(path).map_err(|error| missing(&error))?.len() > JOB_FILE_BYTES_MAX {
            return Err(Failure::usage("JOB_FILE", format!("{} is too large for a job file", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| missing(&error))?;
        let options: Self = toml::from_str(&text).map_err(|error| {
            let failure = Failure::usage("JOB_FILE", format!("{} is not a job file", path.display()));
            failure.cause(error.to_string()).hint("manyhands submit --help   (every flag is a key)")
        })?;
        Ok(options.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    /// Paths in a job file are relative to the file, wherever the command runs.
    fn relative_to(mut self, directory: &Path) -> Self {
        for path in [&mut self.module, &mut self.lines, &mut self.csv, &mut self.jsonl].into_iter().flatten() {
            if path != Path::new("-") {
                *path = directory.join(&path);
            }
        }
        for text in self.files.iter_mut().chain(self.chunk.get_mut(1)) {
            if text != "-" {
                *text = directory.join(&text).to_string_lossy().into_owned();
            }
        }
        if let Some(Reduce::Module(path)) = &mut self.reduce {
            *path = directory.join(&path);
        }
        self
    }

    /// These where they are set, else `file`'s. A splitter on the command line replaces the file's, and so
    /// does a reducer, with its arguments.
    fn over(self, file: Self) -> Self {
        let file = if self.splitters().is_empty() {
            file
        } else {
            Self { files: Vec::new(), lines: None, range: None, csv: None, jsonl: None, chunk: Vec::new(), ..file }
        };
        let longer = |own: Vec<String>, file: Vec<String>| if own.is_empty() { file } else { own };
        Self {
            module: file.module,
            args: longer(self.args, file.args),
            files: longer(self.files, file.files),
            lines: self.lines.or(file.lines),
            range: self.range.or(file.range),
            csv: self.csv.or(file.csv),
            jsonl: self.jsonl.or(file.jsonl),
            chunk: longer(self.chunk, file.chunk),
            per_unit: self.per_unit.or(file.per_unit),
            memory: self.memory.or(file.memory),
            time: self.time.or(file.time),
            output: self.output.or(file.output),
            gas: self.gas.or(file.gas),
            log: self.log.or(file.log),
            policy: self.policy.or(file.policy),
            priority: self.priority.or(file.priority),
            tag: longer(self.tag, file.tag),
            purpose: self.purpose.or(file.purpose),
            name: self.name.or(file.name),
            reduce_arg: if self.reduce.is_some() { self.reduce_arg } else { longer(self.reduce_arg, file.reduce_arg) },
            reduce: self.reduce.or(file.reduce),
            keep: self.keep.or(file.keep),
            new: self.new || file.new,
        }
    }

    /// The splitters that are set, by their flags.
    pub fn splitters(&self) -> Vec<&'static str> {
        let set = [
            ("--files", !self.files.is_empty()),
            ("--lines", self.lines.is_some()),
            ("--range", self.range.is_some()),
            ("--csv", self.csv.is_some()),
            ("--jsonl", self.jsonl.is_some()),
            ("--chunk", !self.chunk.is_empty()),
        ];
        set.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).collect()
    }

    /// The limits of a unit.
    ///
    /// # Errors
    /// One of them is zero, or more than any job may ask for.
    pub fn limits(&self) -> Result<UnitLimits, Failure> {
        let (default, most) = (UnitLimits::default(), UnitLimits::MAX);
        let size = |flag: &str, asked: Option<ByteSize>, default: u64, most: u64| match asked {
            None => Ok(default),
            Some(ByteSize(bytes)) if (1..=most).contains(&bytes) => Ok(bytes),
            Some(asked) => Err(beyond(flag, &asked, &ByteSize(most))),
        };
        let wall = self.time.map_or(default.wall, |span| span.0);
        if wall.is_zero() || wall > most.wall {
            return Err(beyond("--time", &Span(wall), &Span(most.wall)));
        }
        let gas = self.gas.map_or(default.gas, |count| count.0);
        if gas == 0 || gas > most.gas {
            return Err(beyond("--gas", &Count(gas), &Count(most.gas)));
        }
        let log_bytes = if self.log == Some(ByteSize(0)) { 0 } else { size("--log", self.log, default.log_bytes, most.log_bytes)? };
        let memory_bytes = size("--memory", self.memory, default.memory_bytes, most.memory_bytes)?;
        let output_bytes = size("--output", self.output, default.output_bytes, most.output_bytes)?;
        Ok(UnitLimits { memory_bytes, gas, wall, output_bytes, log_bytes })
    }

    /// The job's name: the one given, else the module's.
    pub fn name(&self) -> String {
        let stem = || self.module.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        self.name.clone().or_else(stem).unwrap_or_else(|| "job".to_owned())
    }

    /// The job's description for the node. `range` is that of a job over numbers.
    ///
    /// # Errors
    /// A limit or a length is out of bounds.
    pub fn spec(&self, range: Option<Range>) -> Result<JobSpec, Failure> {
        let limits = self.limits()?;
        let mut nonce = Vec::new();
        if self.new {
            nonce.resize(16, 0);
            getrandom::fill(&mut nonce).map_err(|error| {
                let failure = Failure::new(super::exit::Exit::Other, "NO_RANDOMNESS", "the operating system gives no random bytes");
                failure.cause(error.to_string())
            })?;
        }
        let reduce = match self.reduce {
            None | Some(Reduce::Concat) => "concat",
            Some(Reduce::None) => "none",
            Some(Reduce::Module(_)) => "module",
        };
        let spec = JobSpec {
            name: self.name(),
            args: self.args.clone(),
            range,
            memory_bytes: limits.memory_bytes,
            gas: limits.gas,
            wall_ms: u64::try_from(limits.wall.as_millis()).expect("a day at most"),
            output_bytes: limits.output_bytes,
            log_bytes: limits.log_bytes,
            policy: self.policy.unwrap_or(Policy::Standard).word().to_owned(),
            priority: self.priority.unwrap_or(0),
            tags: self.tag.clone(),
            purpose: self.purpose.clone().unwrap_or_default(),
            reduce: reduce.to_owned(),
            reduce_args: self.reduce_arg.clone(),
            nonce: nonce.into(),
            keep: self.keep.map(|keep| keep.count().into()),
        };
        crate::control::submission::check_spec(&spec)?;
        Ok(spec)
    }
}

fn beyond(flag: &str, asked: &dyn fmt::Display, most: &dyn fmt::Display) -> Failure {
    let failure = Failure::new(Kind::Usage.into(), "LIMIT", format!("{flag} {asked} is out of bounds"));
    failure.cause(format!("it is more than zero and at most {most}")).hint(format!("{flag} {most}"))
}
