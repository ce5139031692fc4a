//! Where the units of a job come from, and how they are read: lazily, in bounded memory, in parts of at most 256 KiB.
//!
//! Reading blocks, so it runs on a thread of its own. `protocol::split` says where units end.

use super::{amount::ByteSize, context::Context, failure::Failure, human, job_options::JobOptions, module_check::missing};
use crate::{
    control::submission::{NAME_BYTES_MAX, PART_BYTES_MAX, UNITS_MAX, range_units, too_many_units},
    protocol::split::{Cut, Piece, SplitError, Splitter},
    wire::control::{Range, UnitPart},
};
use bytes::BytesMut;
use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroU64,
    path::{Path, PathBuf},
};

/// The most units when the program chooses their size: enough to spread over many peers, few enough to look at.
const UNITS_CHOSEN_MAX: u64 = 10_000;

/// Where units come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The node makes them from numbers.
    Range(Range),
    /// One per file.
    Files(Vec<PathBuf>),
    /// Cut from a file, or from standard input (`-`).
    Cut(PathBuf, Cut),
    /// All of standard input is one.
    Stdin,
    /// One, with nothing to read.
    Nothing,
}

/// Why reading ended early.
#[derive(Debug)]
pub enum ReadError {
    /// Whoever takes the units wants no more of them.
    Stopped,
    /// An input is broken.
    Failed(Failure),
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Takes a part of a unit; false: no more, please.
pub type Sink<'a> = &'a mut dyn FnMut(UnitPart) -> bool;

/// Finds the job's units, checks that they are there, and says what was chosen. Sets `per_unit` where it was chosen.
///
/// # Errors
/// More than one splitter, missing or empty inputs, numbers that make no sense.
pub fn find(options: &mut JobOptions, context: &mut Context) -> Result<Source, Failure> {
    let splitters = options.splitters();
    if splitters.len() > 1 {
        let failure = Failure::usage("SPLITTERS", format!("{} cannot go together", splitters.join(" and ")));
        return Err(failure.cause("a job has one splitter").hint(format!("keep {}", splitters[0])));
    }
    if options.per_unit.is_some_and(|count| count.0 == 0) {
        let failure = Failure::usage("BAD_PER_UNIT", "--per-unit 0 makes no units");
        return Err(failure.cause("a unit has at least one number, line or record").hint("--per-unit 1"));
    }
    check_placeholders(options)?;
    let source = match splitters.first().copied() {
        Some("--range") => Source::Range(find_range(options, context)?),
        Some("--files") => Source::Files(find_files(&options.files)?),
        Some("--chunk") => find_chunks(options)?,
        Some(_) => find_records(options, context)?,
        None if context.terminals.stdin || context.stdin.is_none() => Source::Nothing,
        None => Source::Stdin,
    };
    let takes_per_unit = matches!(source, Source::Range(_) | Source::Cut(_, Cut::Lines(_) | Cut::Csv(_) | Cut::Jsonl(_)));
    if options.per_unit.is_some() && !takes_per_unit {
        let failure = Failure::usage("BAD_PER_UNIT", "--per-unit has nothing to count here");
        return Err(failure.hint("use it with --range, --lines, --csv or --jsonl"));
    }
    Ok(source)
}

fn check_placeholders(options: &JobOptions) -> Result<(), Failure> {
    let numbers = options.args.iter().any(|arg| arg.contains("{start}") || arg.contains("{end}"));
    if !numbers || options.range.is_some() {
        return Ok(());
    }
    let failure = Failure::usage("PLACEHOLDER", "{start} and {end} have no numbers to stand for");
    Err(failure.cause("only a job over a range has them").hint("--range 1..1_000_000, or use {index} or {name}"))
}

fn find_range(options: &mut JobOptions, context: &mut Context) -> Result<Range, Failure> {
    let numbers = options.range.expect("the splitter is set");
    if numbers.start >= numbers.end {
        range_units(numbers.start, numbers.end, 1)?;
    }
    let per_unit = per_unit_or_chosen(options, numbers.end - numbers.start, "number", context);
    range_units(numbers.start, numbers.end, per_unit.get())?;
    Ok(Range { start: numbers.start, end: numbers.end, per_unit: per_unit.get() })
}

/// The size of a unit: the one that was asked for, else a power of ten that makes at most 10,000 units of `total`.
fn per_unit_or_chosen(options: &mut JobOptions, total: u64, what: &str, context: &mut Context) -> NonZeroU64 {
    if let Some(asked) = options.per_unit.and_then(|count| NonZeroU64::new(count.0)) {
        return asked;
    }
    let mut chosen = NonZeroU64::MIN;
    while total.div_ceil(chosen.get()) > UNITS_CHOSEN_MAX {
        chosen = chosen.saturating_mul(NonZeroU64::new(10).expect("ten"));
    }
    options.per_unit = Some(super::amount::Count(chosen.get()));
    let (size, units) = (human::count(chosen.get(), what), human::count(total.div_ceil(chosen.get()), "unit"));
    context.say(format!("chosen: {size} per unit, {units}   (change it with --per-unit N)"));
    chosen
}

fn find_files(patterns: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let mut paths = Vec::new();
    for pattern in patterns {
        // A file may be called `a[1].txt`, and an unquoted pattern arrives as the names that the shell found.
        if Path::new(pattern).is_file() {
            paths.push(PathBuf::from(pattern));
            continue;
        }
        let matches = glob::glob_with(pattern, options).map_err(|error| {
            let failure = Failure::usage("GLOB", format!("`{pattern}` is not a pattern"));
            failure.cause(error.to_string()).hint("--files 'in/*.fa'")
        })?;
        let before = paths.len();
        for path in matches {
            let path = path.map_err(|error| missing(error.path(), error.error()))?;
            if path.is_file() {
                paths.push(path);
            }
        }
        if paths.len() == before {
            return Err(Failure::usage("GLOB", format!("no file matches `{pattern}`"))
                .cause(format!("looked from {}", std::env::current_dir().unwrap_or_default().display()))
                .hint(format!("ls {pattern}")));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    if paths.len() as u64 > UNITS_MAX {
        return Err(too_many_units(paths.len() as u64).into());
    }
    Ok(paths)
}

fn find_chunks(options: &JobOptions) -> Result<Source, Failure> {
    let [size, path] = options.chunk.as_slice() else {
        return Err(Failure::usage("CHUNK", "chunk needs a size and a file").hint("chunk = [\"4MiB\", \"big.bin\"]"));
    };
    let bad = |cause: String| Failure::usage("CHUNK", format!("`{size}` is no size of a unit")).cause(cause).hint("--chunk 4MiB FILE");
    let ByteSize(bytes) = size.parse().map_err(|error: super::amount::AmountError| bad(error.to_string()))?;
    let bytes = NonZeroU64::new(bytes).ok_or_else(|| bad("a unit has at least one byte".to_owned()))?;
    let path = PathBuf::from(path);
    if let Some(length) = length_of(&path)? {
        let units = length.div_ceil(bytes.get());
        if units > UNITS_MAX {
            let enough = ByteSize(length.div_ceil(UNITS_CHOSEN_MAX).next_power_of_two());
            return Err(Failure::from(too_many_units(units)).hint(format!("--chunk {enough} {}", path.display())));
        }
    }
    Ok(Source::Cut(path, Cut::Bytes(bytes)))
}

fn find_records(options: &mut JobOptions, context: &mut Context) -> Result<Source, Failure> {
    type Make = fn(NonZeroU64) -> Cut;
    let (path, cut, what): (_, Make, _) = match (&options.lines, &options.csv, &options.jsonl) {
        (Some(path), _, _) => (path.clone(), Cut::Lines, "line"),
        (_, Some(path), _) => (path.clone(), Cut::Csv, "record"),
        (_, _, path) => (path.clone().expect("a splitter is set"), Cut::Jsonl, "line"),
    };
    let length = length_of(&path)?;
    let total = match (length, options.per_unit) {
        (_, Some(_)) => 0,
        (Some(_), None) => count_units(&Source::Cut(path.clone(), cut(NonZeroU64::MIN)), None)?,
        (None, None) => {
            let failure = Failure::usage("BAD_PER_UNIT", "--per-unit is missing");
            return Err(failure.cause("standard input can be read only once, so it cannot be counted first").hint("--per-unit 1000"));
        }
    };
    let per_unit = per_unit_or_chosen(options, total, what, context);
    Ok(Source::Cut(path, cut(per_unit)))
}

/// The length of a file that is there and not empty; `None` for standard input and for pipes.
fn length_of(path: &Path) -> Result<Option<u64>, Failure> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let metadata = std::fs::metadata(path).map_err(|error| missing(path, &error))?;
    if metadata.is_dir() {
        let failure = Failure::usage("NOT_A_FILE", format!("{} is a directory", path.display()));
        return Err(failure.hint(format!("--files '{}/*'", path.display())));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.len() == 0 {
        let failure = Failure::usage("EMPTY_INPUT", format!("{} is empty", path.display()));
        return Err(failure.cause("the job would have no units").hint("check the path"));
    }
    Ok(Some(metadata.len()))
}

/// How many units the source has. Reads it all; standard input is used up.
///
/// # Errors
/// An input is broken, or there are too many.
pub fn count_units(source: &Source, stdin: Option<Box<dyn Read + Send>>) -> Result<u64, Failure> {
    match read(source, stdin, &mut |_| true) {
        Ok(units) => Ok(units),
        Err(ReadError::Failed(failure)) => Err(failure),
        Err(ReadError::Stopped) => unreachable!("the sink never stops"),
    }
}

/// Reads all units into `sink`; returns how many there are. A range has nothing to read.
///
/// # Errors
/// An input is broken, there are too many units, or the sink has had enough.
pub fn read(source: &Source, stdin: Option<Box<dyn Read + Send>>, sink: Sink<'_>) -> Result<u64, ReadError> {
    let stdin = || stdin.unwrap_or_else(|| Box::new(io::empty()));
    let mut writer = UnitWriter { sink, buffer: BytesMut::new(), base: String::new(), numbered: false, units: 0 };
    match source {
        Source::Range(range) => return Ok(range_units(range.start, range.end, range.per_unit).map_err(Failure::from)?),
        Source::Files(paths) => {
            for path in paths {
                writer.base = name_of(path)?;
                let file = File::open(path).map_err(|error| missing(path, &error))?;
                writer.copy(file, path)?;
            }
        }
        Source::Cut(path, cut) => {
            writer.numbered = true;
            writer.base = if path == Path::new("-") { "stdin".to_owned() } else { name_of(path)? };
            let input: Box<dyn Read> =
                if path == Path::new("-") { stdin() } else { Box::new(File::open(path).map_err(|error| missing(path, &error))?) };
            writer.cut(input, path, *cut)?;
        }
        Source::Stdin => writer.copy(stdin(), Path::new("standard input"))?,
        Source::Nothing => writer.end()?,
    }
    Ok(writer.units)
}

/// The unit's name that volunteers see: the path as it was given, but nothing of where it lies on this machine.
fn name_of(path: &Path) -> Result<String, Failure> {
    use std::path::Component;
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let shown = if plain { path } else { path.file_name().map_or(path, Path::new) };
    let name = shown.to_string_lossy().into_owned();
    if name.len() + 24 > NAME_BYTES_MAX {
        return Err(Failure::usage("NAME_TOO_LONG", format!("the path of {} bytes is too long for a unit's name", name.len())));
    }
    Ok(name)
}

/// Gathers bytes into parts and tells where units end.
struct UnitWriter<'a> {
    sink: Sink<'a>,
    buffer: BytesMut,
    /// The file's name.
    base: String,
    /// Several units come from one file, so their number is part of the name.
    numbered: bool,
    units: u64,
}

impl UnitWriter<'_> {
    fn copy(&mut self, input: impl Read, path: &Path) -> Result<(), ReadError> {
        for_each_read(input, path, |bytes| self.data(bytes))?;
        self.end()
    }

    fn cut(&mut self, input: impl Read, path: &Path, cut: Cut) -> Result<(), ReadError> {
        let mut splitter = Splitter::new(cut);
        let broken = |error: SplitError| ReadError::Failed(broken_input(path, error));
        for_each_read(input, path, |bytes| {
            let mut taken = Ok(());
            splitter.push(bytes, &mut |piece| self.piece(piece, &mut taken)).map_err(broken)?;
            taken
        })?;
        let mut taken = Ok(());
        splitter.finish(&mut |piece| self.piece(piece, &mut taken)).map_err(broken)?;
        taken
    }

    fn piece(&mut self, piece: Piece<'_>, taken: &mut Result<(), ReadError>) {
        if taken.is_ok() {
            *taken = match piece {
                Piece::Data(bytes) => self.data(bytes),
                Piece::End => self.end(),
            };
        }
    }

    fn data(&mut self, mut bytes: &[u8]) -> Result<(), ReadError> {
        while self.buffer.len() + bytes.len() > PART_BYTES_MAX {
            let (now, later) = bytes.split_at(PART_BYTES_MAX - self.buffer.len());
            self.buffer.extend_from_slice(now);
            self.send(true)?;
            bytes = later;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<(), ReadError> {
        self.send(false)?;
        self.units += 1;
        if self.units > UNITS_MAX { Err(Failure::from(too_many_units(self.units)).into()) } else { Ok(()) }
    }

    fn send(&mut self, more: bool) -> Result<(), ReadError> {
        let name = if self.numbered { format!("{}#{}", self.base, self.units) } else { self.base.clone() };
        let wanted = (self.sink)(UnitPart { name, data: self.buffer.split().freeze(), more });
        if wanted { Ok(()) } else { Err(ReadError::Stopped) }
    }
}

fn for_each_read(mut input: impl Read, path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), ReadError>) -> Result<(), ReadError> {
    let mut buffer = vec![0; PART_BYTES_MAX];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(missing(path, &error).into()),
        }
    }
}

fn broken_input(path: &Path, error: SplitError) -> Failure {
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let failure = Failure::usage("BROKEN_INPUT", format!("{shown} cannot be cut into units")).cause(error.to_string());
    match error {
        SplitError::Empty | SplitError::OnlyHeader => failure.hint("check the path"),
        SplitError::HeaderTooLong | SplitError::OpenQuote { .. } => failure.hint("repair the file, or use --lines if it is no CSV"),
        SplitError::NotJson { .. } => failure.hint("repair the file, or use --lines if it is no JSON lines file"),
    }
}
