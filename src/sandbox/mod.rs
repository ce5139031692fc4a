//! Running strangers' code: deterministically, within limits, and unable to hurt the machine.
//!
//! A module is admitted ([`admit`]), instrumented ([`instrument`]: gas and NaNs), compiled in a jailed process, kept as native
//! code in a cache, and run unit by unit in a *slot*: a jailed process of its own that has an engine ([`validation_class`])
//! and a deterministic WASI and nothing else. The parent side ([`SlotProcess`]) hands out tasks, enforces wall time by SIGKILL
//! and collects reports.
//!
//! A *stepped* module ([`STEP`]) is run step by step instead, and a program that asks for it ([`EXIT_AGAIN`]) again and again: between
//! steps the state is hashed, which gives the value a hash chain, and it can be taken out and continued elsewhere
//! ([`SlotProcess::run_part`], [`Part`], [`Snapshot`]), also while the unit runs on ([`SlotProcess::run_saving`]).
//!
//! What it promises: one module, input, seed and set of limits give the same [`Value`](crate::protocol::outcome::Value), gas
//! included, on every machine of one validation class; whatever depends on the machine is an
//! [`AttemptFailure`](crate::protocol::outcome::AttemptFailure). What it does not do: decide what to run, or talk to the network.

#[cfg(unix)]
mod cache;
#[cfg(unix)]
mod channel;
mod cost;
mod engine;
mod flow;
#[cfg(unix)]
mod frame;
mod gas;
#[cfg(unix)]
mod host;
mod inspect;
mod instrument;
#[cfg(unix)]
mod jail;
mod nan;
#[cfg(unix)]
mod orphans;
#[cfg(unix)]
mod slot;
mod step;
#[cfg(unix)]
mod stopper;
mod task;
mod tracker;
mod wasi;
#[cfg(unix)]
mod watch;
#[cfg(unix)]
mod workshop;

pub use engine::{EngineError, validation_class};
#[cfg(unix)]
pub use host::SlotProcess;
pub use inspect::{Facts, Looks, MAX_MODULE_BYTES, MAX_TABLES, Rejection, admit};
pub use instrument::instrument;
#[cfg(unix)]
pub use jail::Protection;
#[cfg(unix)]
pub use orphans::end_orphans;
#[cfg(unix)]
pub use slot::{SLOT_ARGUMENT, slot_main};
pub use step::{EXIT_AGAIN, INIT, Part, RESULT, STATE_BYTES_MAX, STATE_FILE, STATE_FILE_BYTES_MAX, STEP, Snapshot};
#[cfg(unix)]
pub use stopper::Stopper;
pub use task::{PartReport, Progress, Report, Task, run_in_process, run_part_in_process};
pub use wasi::InputFile;
#[cfg(unix)]
pub use workshop::{SlotError, Workshop};

/// The version of everything that gives a result its meaning: the pass, the gas table, WASI's rules.
pub const PASS_VERSION: u32 = 2;
