//! A submission's parts, checked as they arrive: header, blobs, units, commit; bounded in size and in number.

use super::{backend::Reply, error::ControlError, error::Kind};
use crate::{
    protocol::{job, keeping::KEEPERS_MAX},
    wire::control::{JobSpec, SubmitRequest, UnitPart, submit_request::Part},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;

/// The most bytes of one part; a quarter of a message's limit, and large enough that the framing costs nothing.
pub const PART_BYTES_MAX: usize = 256 << 10;
/// The most units of a job; their index is 32 bits wide, and each costs the coordinator memory.
pub const UNITS_MAX: u64 = job::UNITS_MAX as u64;
/// The most bytes of a module. Larger ones are refused by the sandbox too.
pub const MODULE_BYTES_MAX: u64 = job::MODULE_BYTES_MAX;
/// The most bytes of a unit's name: a long path.
pub const NAME_BYTES_MAX: usize = job::UNIT_NAME_BYTES_MAX;
/// The most arguments of a unit, and the most bytes of them together: what a command line can carry.
pub const ARGS_MAX: usize = 1024;
const ARG_BYTES_MAX: usize = 128 << 10;
const TAGS_MAX: usize = 16;
const LABEL_BYTES_MAX: usize = 256;

/// What follows a submission's header.
#[derive(Clone, PartialEq, Debug)]
pub enum SubmitPart {
    /// Bytes of the module, in order.
    Module(Bytes),
    /// Bytes of the reducer, in order.
    ReduceModule(Bytes),
    /// Bytes of a unit's input.
    Unit {
        /// The unit's name; the same in each of its parts.
        name: String,
        /// Bytes of its input, in order.
        data: Bytes,
        /// Further parts of the same unit follow.
        more: bool,
    },
}

/// The parts of one submission after its header, in the order module, reducer, units; commit ends it.
pub struct SubmitParts {
    source: Pin<Box<dyn Stream<Item = Reply<SubmitRequest>> + Send>>,
    stage: Stage,
    module_bytes: u64,
    reduce_bytes: u64,
    units: u64,
    unit_open: bool,
    range: bool,
    bytes_received: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Module,
    Reducer,
    Units,
    Committed,
}

impl SubmitParts {
    /// Reads the header from `source` and checks it.
    ///
    /// # Errors
    /// The stream is empty, begins with another part, or the header breaks a limit.
    pub async fn begin(source: impl Stream<Item = Reply<SubmitRequest>> + Send + 'static) -> Reply<(JobSpec, Self)> {
        let mut source = Box::pin(source);
        let Some(Part::Spec(spec)) = source.next().await.transpose()?.and_then(|request| request.part) else {
            return Err(out_of_order("a submission begins with its job description"));
        };
        check_spec(&spec)?;
        let range = spec.range.is_some();
        let parts =
            Self { source, stage: Stage::Module, module_bytes: 0, reduce_bytes: 0, units: 0, unit_open: false, range, bytes_received: 0 };
        Ok((spec, parts))
    }

    /// The next part; `None` when the submission is complete and committed.
    ///
    /// # Errors
    /// A part is out of order or too large, or the caller went away before the commit: keep nothing then.
    pub async fn next(&mut self) -> Reply<Option<SubmitPart>> {
        if self.stage == Stage::Committed {
            return Ok(None);
        }
        let Some(request) = self.source.next().await.transpose()? else {
            let error = ControlError::new(Kind::Usage, "SUBMIT_INCOMPLETE", "the submission ended before its commit");
            return Err(error.hint("submit again; nothing was kept"));
        };
        match request.part {
            None | Some(Part::Spec(_)) => Err(out_of_order("a job description comes first and once")),
            Some(Part::Module(data)) => self.module(data).map(Some),
            Some(Part::ReduceModule(data)) => self.reduce_module(data).map(Some),
            Some(Part::Unit(part)) => self.unit(part).map(Some),
            Some(Part::Commit(_)) => self.commit().map(|()| None),
        }
    }

    /// Bytes of modules and inputs so far.
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    fn module(&mut self, data: Bytes) -> Reply<SubmitPart> {
        self.enter(Stage::Module)?;
        self.count(&data)?;
        self.module_bytes += data.len() as u64;
        within("the module", self.module_bytes, MODULE_BYTES_MAX)?;
        Ok(SubmitPart::Module(data))
    }

    fn reduce_module(&mut self, data: Bytes) -> Reply<SubmitPart> {
        self.enter(Stage::Reducer)?;
        self.count(&data)?;
        self.reduce_bytes += data.len() as u64;
        within("the reducer", self.reduce_bytes, MODULE_BYTES_MAX)?;
        Ok(SubmitPart::ReduceModule(data))
    }

    fn unit(&mut self, part: UnitPart) -> Reply<SubmitPart> {
        self.enter(Stage::Units)?;
        self.count(&part.data)?;
        if self.range {
            return Err(out_of_order("a job over a range has no other units"));
        }
        within("a unit's name", part.name.len() as u64, NAME_BYTES_MAX as u64)?;
        if !self.unit_open {
            self.units += 1;
            if self.units > UNITS_MAX {
                return Err(too_many_units(self.units));
            }
        }
        self.unit_open = part.more;
        Ok(SubmitPart::Unit { name: part.name, data: part.data, more: part.more })
    }

    fn commit(&mut self) -> Reply<()> {
        if self.unit_open {
            return Err(out_of_order("the last unit is not complete"));
        }
        if self.module_bytes == 0 {
            return Err(out_of_order("there is no module"));
        }
        if self.units == 0 && !self.range {
            return Err(ControlError::new(Kind::Usage, "NO_UNITS", "the job has no units"));
        }
        self.stage = Stage::Committed;
        Ok(())
    }

    fn enter(&mut self, stage: Stage) -> Reply<()> {
        if stage < self.stage {
            return Err(out_of_order("the order is module, reducer, units, commit"));
        }
        self.stage = stage;
        Ok(())
    }

    fn count(&mut self, data: &Bytes) -> Reply<()> {
        self.bytes_received += data.len() as u64;
        within("a part", data.len() as u64, PART_BYTES_MAX as u64)
    }
}

/// Checks a job description's form: numbers, lengths, words.
///
/// # Errors
/// Names the field and its limit.
pub fn check_spec(spec: &JobSpec) -> Reply<()> {
    within("the number of arguments", spec.args.len() as u64, ARGS_MAX as u64)?;
    within("the arguments", spec.args.iter().map(|arg| arg.len() as u64).sum(), ARG_BYTES_MAX as u64)?;
    within("the number of tags", spec.tags.len() as u64, TAGS_MAX as u64)?;
    for tag in &spec.tags {
        within("a tag", tag.len() as u64, LABEL_BYTES_MAX as u64)?;
    }
    within("the name", spec.name.len() as u64, LABEL_BYTES_MAX as u64)?;
    within("the purpose", spec.purpose.len() as u64, NAME_BYTES_MAX as u64)?;
    within("the number of keepers", spec.keep.unwrap_or(0).into(), KEEPERS_MAX.into())?;
    within("the nonce", spec.nonce.len() as u64, 32)?;
    word("policy", &spec.policy, &["", "economy", "standard", "strict"])?;
    word("reduce", &spec.reduce, &["", "concat", "none", "module"])?;
    within("the number of the reducer's arguments", spec.reduce_args.len() as u64, ARGS_MAX as u64)?;
    within("the reducer's arguments", spec.reduce_args.iter().map(|arg| arg.len() as u64).sum(), ARG_BYTES_MAX as u64)?;
    if !spec.reduce_args.is_empty() && spec.reduce != "module" {
        let error = ControlError::new(Kind::Usage, "NO_REDUCER", "there are arguments for a reducer, and there is no reducer");
        return Err(error.hint("--reduce reducer.wasm"));
    }
    if let Some(range) = &spec.range {
        range_units(range.start, range.end, range.per_unit)?;
    }
    Ok(())
}

/// How many units a job over the numbers from `start` to before `end` has.
///
/// # Errors
/// The range is empty or reversed, `per_unit` is zero, or the units are too many.
pub fn range_units(start: u64, end: u64, per_unit: u64) -> Reply<u64> {
    if start >= end {
        let what = if start == end { "empty" } else { "reversed" };
        return Err(ControlError::new(Kind::Usage, "BAD_RANGE", format!("the range {start}..{end} is {what}"))
            .cause("a range goes from its first number to before its last: 1..11 are ten numbers")
            .hint(format!("--range {}..{}", start.min(end), start.max(end).saturating_add(1))));
    }
    if per_unit == 0 {
        return Err(ControlError::new(Kind::Usage, "BAD_PER_UNIT", "a unit cannot have 0 numbers").hint("--per-unit 1"));
    }
    let units = (end - start).div_ceil(per_unit);
    if units > UNITS_MAX {
        let enough = (end - start).div_ceil(UNITS_MAX / 1000);
        return Err(too_many_units(units).hint(format!("--per-unit {enough}")));
    }
    Ok(units)
}

/// The error of a job that has more than [`UNITS_MAX`] units.
pub fn too_many_units(units: u64) -> ControlError {
    let text = format!("a job of {} units is too large", super::error::grouped(units));
    let limit = super::error::grouped(UNITS_MAX);
    ControlError::new(Kind::Usage, "TOO_MANY_UNITS", text)
        .cause(format!("a job has at most {limit} units"))
        .hint("put more into each unit with --per-unit")
}

fn out_of_order(what: &'static str) -> ControlError {
    ControlError::new(Kind::Usage, "SUBMIT_ORDER", "the parts of the submission are out of order").cause(what)
}

fn within(what: &str, found: u64, limit: u64) -> Reply<()> {
    if found <= limit {
        return Ok(());
    }
    Err(ControlError::new(Kind::Usage, "TOO_LARGE", format!("{what} is too large")).cause(format!("{found}, and the limit is {limit}")))
}

fn word(what: &str, found: &str, allowed: &[&str]) -> Reply<()> {
    if allowed.contains(&found) {
        return Ok(());
    }
    let text = format!("unknown {what} `{}`", super::error::clip(found));
    Err(ControlError::new(Kind::Usage, "UNKNOWN_WORD", text).hint(allowed.join(" ").trim_start().to_owned()))
}
