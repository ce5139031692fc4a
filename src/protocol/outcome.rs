//! What an attempt ended in.
//!
//! The line that matters is between a *value*, which any honest machine reproduces bit for bit and which is therefore voted
//! on, and an *attempt failure*, which says something about one machine at one moment and is never a vote.

use super::ids::Digest;
use core::{fmt, time::Duration};

/// What one execution of a unit ended in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A deterministic result: the same on every honest machine, so it is a vote.
    Value(Value),
    /// The machine, not the unit, gave up: no vote, and no blame.
    Failed(AttemptFailure),
}

/// A deterministic result. Two attempts agree when these are equal, gas included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Value {
    /// How the unit ended.
    pub exit: Exit,
    /// SHA-256 of what it wrote to its standard output.
    pub output: Digest,
    /// Work done, in units of the gas pass; equal on every platform.
    pub gas: u64,
    /// The head of the unit's hash chain ([`Links::head`](super::chain::Links::head)); none where the module has no steps or the
    /// unit is short.
    pub chain: Option<Digest>,
}

/// How a unit ended, for reasons that lie in the unit itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exit {
    /// It returned, or called `proc_exit`. Zero is success.
    Code(u32),
    /// The module trapped by its own doing.
    Trap(Trap),
    /// It used all its gas.
    OutOfGas,
    /// It wrote more to its standard output than the job allows.
    OutputLimit,
    /// It slept until a virtual time that lies beyond the job's limit.
    SleepLimit,
}

impl Exit {
    /// Whether the unit succeeded.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Trap(trap) => write!(f, "trap: {trap}"),
            Self::OutOfGas => f.write_str("out of gas: the unit used all the work that the job allows"),
            Self::OutputLimit => f.write_str("output limit: the unit wrote more than the job allows"),
            Self::SleepLimit => f.write_str("sleep limit: the unit slept for longer than the job allows"),
        }
    }
}

/// A trap that the module itself raised; equal on every platform.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trap {
    /// The `unreachable` instruction: a panic or an abort.
    Unreachable,
    /// A memory access outside the memory.
    MemoryOutOfBounds,
    /// A table access outside the table.
    TableOutOfBounds,
    /// A call through a null or wrongly typed table entry.
    BadIndirectCall,
    /// Integer division by zero.
    DivisionByZero,
    /// Integer overflow in a division or a conversion.
    IntegerOverflow,
    /// A float that fits no integer was converted.
    BadConversion,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable (a panic or an abort)",
            Self::MemoryOutOfBounds => "memory access out of bounds",
            Self::TableOutOfBounds => "table access out of bounds",
            Self::BadIndirectCall => "call through a bad function pointer",
            Self::DivisionByZero => "integer division by zero",
            Self::IntegerOverflow => "integer overflow",
            Self::BadConversion => "invalid conversion to integer",
        })
    }
}

/// Why an attempt ended without a value. Depends on the machine, so it is never voted on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AttemptFailure {
    /// It ran for longer than the job's wall-clock limit.
    TimeOut,
    /// The machine could not give the memory that the job promises its units.
    OutOfMemory,
    /// The native stack was exhausted; its depth differs between platforms.
    StackOverflow,
    /// The slot process died, was cancelled, or the worker stopped.
    Killed,
    /// A blob that the unit needs could not be had.
    MissingBlob,
    /// The worker refuses the module: it does not validate, or needs something that the sandbox lacks.
    Refused,
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeOut => "time-out: the unit ran for longer than the job allows",
            Self::OutOfMemory => "out of memory: the machine could not give the memory that the job asks for",
            Self::StackOverflow => "stack overflow",
            Self::Killed => "the slot process was stopped",
            Self::MissingBlob => "a module or input could not be fetched",
            Self::Refused => "the module was refused",
        })
    }
}

/// What one unit may use. Each bound is deterministic but `wall`, which only ever fails an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitLimits {
    /// Linear memory in bytes; growth beyond it fails inside the module, equally everywhere.
    pub memory_bytes: u64,
    /// Gas, see [`Value::gas`]. From 1e9 to 1e10 per second of a fast core.
    pub gas: u64,
    /// Wall-clock time on the worker.
    pub wall: Duration,
    /// Standard output in bytes.
    pub output_bytes: u64,
    /// Standard error that is kept, in bytes; what exceeds it is dropped.
    pub log_bytes: u64,
}

impl UnitLimits {
    /// The most that a job may ask for.
    pub const MAX: Self =
        Self { memory_bytes: 4 << 30, gas: 1 << 60, wall: Duration::from_secs(24 * 3600), output_bytes: 256 << 20, log_bytes: 1 << 20 };
}

impl Default for UnitLimits {
    /// Enough for ordinary programs: 1 GiB, 10^14 gas (hours), one hour, 16 MiB of output, 64 KiB of log.
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            gas: 100_000_000_000_000,
            wall: Duration::from_secs(3600),
            output_bytes: 16 << 20,
            log_bytes: 64 << 10,
        }
    }
}
