//! Running strangers' code: deterministically, within limits, and unable to hurt the machine.
//!
//! A module is admitted ([`admit`]), instrumented ([`instrument`]: gas and NaNs), compiled in a jailed process, kept as native
//! code in a cache, and run unit by unit in a *slot*: a jailed process of its own that has an engine ([`validation_class`])
//! and a deterministic WASI and nothing else. The parent side ([`SlotProcess`]) hands out tasks, enforces wall time by SIGKILL
//! and collects reports.
//!
//! What it promises: one module, input, seed and set of limits give the same [`Value`](crate::protocol::outcome::Value), gas
//! included, on every machine of one validation class; whatever depends on the machine is an
//! [`AttemptFailure`](crate::protocol::outcome::AttemptFailure). What it does not do: decide what to run, or talk to the network.

mod cost;
mod engine;
mod gas;
mod inspect;
mod instrument;
mod nan;
mod tracker;
mod wasi;

pub use engine::{EngineError, validation_class};
pub use inspect::{Facts, Looks, MAX_MODULE_BYTES, MAX_TABLES, Rejection, admit};
pub use instrument::instrument;
pub use wasi::InputFile;

/// The version of everything that gives a result its meaning: the pass, the gas table, WASI's rules.
pub const PASS_VERSION: u32 = 1;
