//! Stepped units: modules that give the engine back control between their steps.
//!
//! A module that exports [`INIT`], [`STEP`] and [`RESULT`] besides `_start` is run by these: `init` once, `step` until it returns 0,
//! then `result`. Arguments, standard input, files, the clock and randomness are there in each of them, output may be written at
//! any time, and `proc_exit` or a trap ends the unit as ever. `_start` must do the same, so that the module runs elsewhere too.
//!
//! Between two steps there is no call stack, so that the *state* is all there is: linear memory, mutable globals, gas used, and
//! the WASI world ([`state`]). It is hashed at fixed amounts of gas, which makes the unit's
//! [chain](crate::protocol::chain), and it can be taken out as bytes and continued by another process, on another machine: same
//! output, same gas, same chain. What could not be taken out (tables that change, dropped data segments, references in globals) is
//! refused when the module is admitted.

pub(super) mod state;

use crate::protocol::chain::{Link, Links};
use wasmtime::ModuleExport;

/// The export that begins a stepped unit: no parameters, no results.
pub const INIT: &str = "manyhands_init";

/// The export that does one step: no parameters; it returns 1 when there is more to do and 0 when there is not.
///
/// Each call costs what a host call costs, so a step should do a hundred thousand instructions or more.
pub const STEP: &str = "manyhands_step";

/// The export that ends a stepped unit, where it writes what it found: no parameters, no results.
pub const RESULT: &str = "manyhands_result";

/// The pass exports the mutable globals of a stepped module by this and a number, so that their values can be saved.
pub(super) const GLOBAL_PREFIX: &str = "manyhands:global:";

/// The largest state that is taken out of a slot, in bytes: what travels in one frame, with room for the task.
pub const STATE_BYTES_MAX: usize = 512 << 20;

/// The exports of a stepped module.
pub(super) struct Exports {
    pub(super) init: ModuleExport,
    pub(super) step: ModuleExport,
    pub(super) result: ModuleExport,
    pub(super) globals: Vec<ModuleExport>,
}

/// Where a stepped unit stands still, with what is needed to go on from there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Gas used, and the digest of the state.
    pub at: Link,
    /// The state; empty where it was not asked for or has more than [`STATE_BYTES_MAX`] bytes.
    pub state: Vec<u8>,
    /// The chain up to here, if it was followed from the beginning.
    pub links: Links,
}

/// Which part of a stepped unit to run.
#[derive(Clone, Default, Debug)]
pub struct Part {
    /// An encoded state to go on from, and the links before it; none for the beginning.
    pub from: Option<(Vec<u8>, Links)>,
    /// Stop at the first moment between two steps at which the unit has used so much gas; none for its end.
    pub until: Option<u64>,
    /// Whether the state in which it stops is wanted.
    pub keep_state: bool,
}
