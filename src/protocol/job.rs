//! A job: one module applied to many inputs, described once and for all by its manifest.
//!
//! A manifest here is already valid: [`Manifest::check`] is called by whoever makes one, at the border and at submission.
//! How it is encoded, hashed and signed is the border's business.

use super::{
    ids::{Digest, JobId, PeerId, UnitIndex},
    outcome::UnitLimits,
};

/// The most units that one job may have. Each costs its coordinator about 100 bytes of memory, and 400 once it has two votes.
pub const UNITS_MAX: u32 = 10_000_000;
/// The most bytes of a module. Larger ones take minutes to compile on a slow volunteer.
pub const MODULE_BYTES_MAX: u64 = 64 << 20;
/// The most arguments of a command.
pub const ARGS_MAX: usize = 64;
/// The most bytes of one argument, before and after substitution.
pub const ARG_BYTES_MAX: usize = 4096;
/// The most bytes of a job's name.
pub const NAME_BYTES_MAX: usize = 80;
/// The most bytes of the purpose.
pub const PURPOSE_BYTES_MAX: usize = 120;
/// The most tags of a job.
pub const TAGS_MAX: usize = 8;
/// The most bytes of one tag.
pub const TAG_BYTES_MAX: usize = 24;
/// The most bytes of one unit's input.
pub const INPUT_BYTES_MAX: u64 = 256 << 20;
/// The most bytes of a unit's name.
pub const UNIT_NAME_BYTES_MAX: usize = 1024;
/// The most bytes of a nonce.
pub const NONCE_BYTES_MAX: usize = 16;

/// A job's immutable description. Its digest, once encoded, is the job's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Who submitted it and judges its results.
    pub owner: PeerId,
    /// For people.
    pub name: String,
    /// The WebAssembly command.
    pub module: Digest,
    /// The module's size.
    pub module_bytes: u64,
    /// The command's arguments after its name; `{start} {end} {index} {name}` are filled in per unit, `{}` is the name.
    pub args: Vec<String>,
    /// What the units are.
    pub inputs: Inputs,
    /// What each unit may use.
    pub limits: UnitLimits,
    /// How many must agree.
    pub policy: Policy,
    /// From -10 to 10; larger is sooner, among one owner's jobs.
    pub priority: i8,
    /// Fields of work. Announced; nothing chooses by them yet.
    pub tags: Vec<String>,
    /// One line for donors. Announced; nothing shows it yet.
    pub purpose: String,
    /// What becomes of the outputs.
    pub reduce: Reduce,
    /// Distinguishes jobs that are alike otherwise; empty normally, so that the same job twice is one job.
    pub nonce: Vec<u8>,
}

/// What a job's units are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inputs {
    /// Consecutive parts of a range of numbers; no input but the arguments.
    Range(UnitRange),
    /// Units with inputs of their own, named and stored apart.
    Table {
        /// How many.
        units: u32,
        /// Digest over all rows, see [`TableDigest`].
        digest: Digest,
    },
}

/// The numbers from `start` up to `end`, exclusive, `per_unit` to a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitRange {
    /// First number.
    pub start: u64,
    /// One past the last number.
    pub end: u64,
    /// Numbers in each unit but the last, which may have fewer. Not zero.
    pub per_unit: u64,
}

impl UnitRange {
    /// The bounds of one unit.
    pub fn bounds(&self, unit: UnitIndex) -> (u64, u64) {
        let start = self.start.saturating_add(u64::from(unit.0).saturating_mul(self.per_unit)).min(self.end);
        (start, start.saturating_add(self.per_unit).min(self.end))
    }

    /// How many units it makes; more than [`UNITS_MAX`] is for [`Manifest::check`] to refuse.
    pub fn units(&self) -> u64 {
        self.end.saturating_sub(self.start).div_ceil(self.per_unit.max(1))
    }
}

/// How many must agree before a result counts (`src/TRUST.md`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Policy {
    /// One proven vote, and a second with a probability that falls with the voter's record.
    Economy,
    /// Two votes, one of them proven; a secret 5 % need three.
    #[default]
    Standard,
    /// Three votes, one of them proven.
    Strict,
}

/// What becomes of verified outputs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Reduce {
    /// One after the other, in unit order.
    #[default]
    Concat,
    /// Kept apart.
    Separate,
    /// All of them are the input of another command.
    Module {
        /// The reducer's module.
        module: Digest,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// Why a description is not a manifest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestError {
    /// No unit at all.
    #[error("the job has no units")]
    NoUnits,
    /// More than [`UNITS_MAX`].
    #[error("the job has {0} units, more than {UNITS_MAX}")]
    TooManyUnits(u64),
    /// The range ends before it starts.
    #[error("the range {start}..{end} is reversed")]
    ReversedRange {
        /// Its start.
        start: u64,
        /// Its end.
        end: u64,
    },
    /// Zero numbers in a unit.
    #[error("zero numbers per unit")]
    ZeroPerUnit,
    /// A text or list that exceeds its bound.
    #[error("{what} is too long: {found}, at most {max}")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The module exceeds [`MODULE_BYTES_MAX`], or is empty.
    #[error("a module of {0} bytes; from 8 to {MODULE_BYTES_MAX} are allowed")]
    ModuleSize(u64),
    /// A limit that exceeds [`UnitLimits::MAX`], or is zero.
    #[error("the limit on {0} is zero or exceeds what a job may ask for")]
    Limit(&'static str),
    /// A priority outside -10 to 10.
    #[error("priority {0} is not between -10 and 10")]
    Priority(i64),
}

impl Manifest {
    /// Checks every bound. A value that passed is safe to work with.
    pub fn check(&self) -> Result<(), ManifestError> {
        self.check_units()?;
        let too_long = |what, found, max| if found > max { Err(ManifestError::TooLong { what, found, max }) } else { Ok(()) };
        too_long("name", self.name.len(), NAME_BYTES_MAX)?;
        too_long("purpose", self.purpose.len(), PURPOSE_BYTES_MAX)?;
        too_long("nonce", self.nonce.len(), NONCE_BYTES_MAX)?;
        too_long("list of tags", self.tags.len(), TAGS_MAX)?;
        for tag in &self.tags {
            too_long("tag", tag.len(), TAG_BYTES_MAX)?;
        }
        let reduce_args: &[String] = match &self.reduce {
            Reduce::Module { args, .. } => args,
            Reduce::Concat | Reduce::Separate => &[],
        };
        for args in [&self.args[..], reduce_args] {
            too_long("list of arguments", args.len(), ARGS_MAX)?;
            for arg in args {
                too_long("argument", arg.len(), ARG_BYTES_MAX)?;
            }
        }
        if !(8..=MODULE_BYTES_MAX).contains(&self.module_bytes) {
            return Err(ManifestError::ModuleSize(self.module_bytes));
        }
        if !(-10..=10).contains(&self.priority) {
            return Err(ManifestError::Priority(i64::from(self.priority)));
        }
        check_limits(&self.limits)
    }

    fn check_units(&self) -> Result<(), ManifestError> {
        let units = match self.inputs {
            Inputs::Range(range) => {
                if range.end < range.start {
                    return Err(ManifestError::ReversedRange { start: range.start, end: range.end });
                }
                if range.per_unit == 0 {
                    return Err(ManifestError::ZeroPerUnit);
                }
                range.units()
            }
            Inputs::Table { units, .. } => u64::from(units),
        };
        match units {
            0 => Err(ManifestError::NoUnits),
            units if units > u64::from(UNITS_MAX) => Err(ManifestError::TooManyUnits(units)),
            _ => Ok(()),
        }
    }

    /// How many units the job has.
    pub fn units(&self) -> u32 {
        match self.inputs {
            Inputs::Range(range) => u32::try_from(range.units()).unwrap_or(UNITS_MAX),
            Inputs::Table { units, .. } => units,
        }
    }

    /// Whether units have inputs of their own.
    pub fn has_table(&self) -> bool {
        matches!(self.inputs, Inputs::Table { .. })
    }

    /// The arguments of one unit; `name` is its input's name. A unit of a range is named by its bounds.
    ///
    /// The first is the job's name, as a command's own name. An argument that outgrows [`ARG_BYTES_MAX`] is cut there.
    pub fn args_for(&self, unit: UnitIndex, name: &str) -> Vec<Vec<u8>> {
        let (start, end) = match self.inputs {
            Inputs::Range(range) => range.bounds(unit),
            Inputs::Table { .. } => (u64::from(unit.0), u64::from(unit.0) + 1),
        };
        let name = if self.has_table() { name.to_owned() } else { format!("{start}..{end}") };
        let fill = |arg: &String| {
            let mut text = substitute(arg, |key| match key {
                "start" => Some(start.to_string()),
                "end" => Some(end.to_string()),
                "index" => Some(unit.to_string()),
                "name" | "" => Some(name.clone()),
                _ => None,
            })
            .into_bytes();
            text.truncate(ARG_BYTES_MAX);
            text
        };
        core::iter::once(self.name.clone().into_bytes()).chain(self.args.iter().map(fill)).collect()
    }
}

fn check_limits(limits: &UnitLimits) -> Result<(), ManifestError> {
    let max = UnitLimits::MAX;
    let bounded = |what, value: u64, max: u64| if value == 0 || value > max { Err(ManifestError::Limit(what)) } else { Ok(()) };
    bounded("memory", limits.memory_bytes, max.memory_bytes)?;
    bounded("gas", limits.gas, max.gas)?;
    bounded("output", limits.output_bytes, max.output_bytes)?;
    bounded("log", limits.log_bytes.saturating_add(1), max.log_bytes + 1)?;
    let wall_ms = |limits: &UnitLimits| u64::try_from(limits.wall.as_millis()).unwrap_or(u64::MAX);
    bounded("time", wall_ms(limits), wall_ms(&max))
}

/// Replaces each `{key}` for which `value` knows one; all else stays as it is, so JSON in an argument survives.
pub fn substitute(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let known = after.find('}').and_then(|close| value(&after[..close]).map(|filled| (filled, &after[close + 1..])));
        match known {
            Some((filled, tail)) => {
                text.push_str(&filled);
                rest = tail;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// The digest of a table of units: a chain over its rows in order, so that it can be computed while they stream by.
#[derive(Clone, Debug)]
pub struct TableDigest(Digest);

impl Default for TableDigest {
    fn default() -> Self {
        Self(Digest::of(b"manyhands.table.v1"))
    }
}

impl TableDigest {
    /// Adds the next row.
    pub fn row(&mut self, name: &str, input: Digest, size: u64) {
        self.0 = Digest::of_parts(&[self.0.as_bytes(), name.as_bytes(), input.as_bytes(), &size.to_le_bytes()]);
    }

    /// The digest of all rows so far.
    pub fn finish(self) -> Digest {
        self.0
    }
}

/// What a unit of a table was given: its name and the digest of its bytes, in one. Its worker's receipt says it, so that whoever leased
/// the unit cannot say later that it was something else.
pub fn input_digest(name: &str, bytes: Digest) -> Digest {
    Digest::of_parts(&[b"manyhands.input.v1", name.as_bytes(), bytes.as_bytes()])
}

/// The seed of a unit's random numbers: the same for every attempt, different for every unit.
pub fn unit_seed(job: JobId, unit: UnitIndex) -> [u8; 32] {
    Digest::of_parts(&[b"manyhands.seed.v1", job.as_bytes(), &unit.0.to_le_bytes()]).0
}

/// The seed of the random numbers of a job's reducer.
pub fn reducer_seed(job: JobId) -> [u8; 32] {
    Digest::of_parts(&[b"manyhands.reducer-seed.v1", job.as_bytes()]).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(args: &[&str], inputs: Inputs) -> Manifest {
        Manifest {
            owner: PeerId([1; 32]),
            name: "job".into(),
            module: Digest([2; 32]),
            module_bytes: 100,
            args: args.iter().map(|&arg| arg.into()).collect(),
            inputs,
            limits: UnitLimits::default(),
            policy: Policy::Standard,
            priority: 0,
            tags: vec![],
            purpose: String::new(),
            reduce: Reduce::Concat,
            nonce: vec![],
        }
    }

    fn range(start: u64, end: u64, per_unit: u64) -> Inputs {
        Inputs::Range(UnitRange { start, end, per_unit })
    }

    #[test]
    fn a_range_is_split_without_gap_or_overlap() {
        let split = UnitRange { start: 1, end: 25, per_unit: 10 };
        assert_eq!(split.units(), 3);
        assert_eq!([0, 1, 2].map(|unit| split.bounds(UnitIndex(unit))), [(1, 11), (11, 21), (21, 25)]);
        let wide = UnitRange { start: u64::MAX - 5, end: u64::MAX, per_unit: 3 };
        assert_eq!(wide.bounds(UnitIndex(1)), (u64::MAX - 2, u64::MAX));
    }

    #[test]
    fn arguments_are_filled_in_and_other_braces_stay() {
        let job = manifest(&["{start}-{end}", "{index}{}", "{\"a\":{name}}", "{open"], range(0, 100, 10));
        let args = job.args_for(UnitIndex(2), "");
        let text: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
        assert_eq!(text, ["job", "20-30", "220..30", "{\"a\":20..30}", "{open"]);
    }

    #[test]
    fn bad_descriptions_are_named() {
        let check = |inputs| manifest(&[], inputs).check();
        assert_eq!(check(range(0, 10, 1)), Ok(()));
        assert_eq!(check(range(5, 5, 1)), Err(ManifestError::NoUnits));
        assert_eq!(check(range(9, 5, 1)), Err(ManifestError::ReversedRange { start: 9, end: 5 }));
        assert_eq!(check(range(0, 5, 0)), Err(ManifestError::ZeroPerUnit));
        assert_eq!(check(range(0, u64::MAX, 1)), Err(ManifestError::TooManyUnits(u64::MAX)));
        let mut greedy = manifest(&[], range(0, 1, 1));
        greedy.limits.memory_bytes = u64::MAX;
        assert_eq!(greedy.check(), Err(ManifestError::Limit("memory")));
        let mut long = manifest(&[], range(0, 1, 1));
        long.args = vec![String::new(); ARGS_MAX + 1];
        assert!(matches!(long.check(), Err(ManifestError::TooLong { what: "list of arguments", .. })));
    }
}
