//! Stepped units: programs that give the engine back control between their steps.
//!
//! There are two kinds. A module that exports [`INIT`], [`STEP`] and [`RESULT`] besides `_start` is run by these: `init` once, `step`
//! until it returns 0, then `result`. Arguments, standard input, files, the clock and randomness are there in each of them, output
//! may be written at any time, and `proc_exit` or a trap ends the unit as ever. `_start` must do the same, so that the module runs
//! elsewhere too.
//!
//! Between two steps there is no call stack, so that the *state* is all there is: linear memory, mutable globals, gas used, and
//! the WASI world ([`state`]). It is hashed at fixed amounts of gas, which makes the unit's
//! [chain](crate::protocol::chain), and it can be taken out as bytes and continued by another process, on another machine: same
//! output, same gas, same chain. What could not be taken out (tables that change, dropped data segments, references in globals) is
//! refused when the module is admitted.
//!
//! Any other program is stepped by *running again*: when it writes what it needs into the file [`STATE_FILE`] and exits with
//! [`EXIT_AGAIN`], it is run again from `_start`, always, whether anybody interrupts it or not. A run is a step, and between two runs
//! the state is the WASI world alone: files, clock, random numbers, output so far. Memory and open files are those of a new program, as
//! they are in a shell loop around it: `while program; [ $? = 75 ]; do :; done`. Limits hold for all runs together.

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

/// The exit code with which a program asks to be run again: that of a temporary failure (`EX_TEMPFAIL`). Without a state file it is
/// an exit like any other.
pub const EXIT_AGAIN: u32 = 75;

/// The file in the root directory in which a program that asks to be run again keeps what it needs.
pub const STATE_FILE: &str = "manyhands.state";

/// The largest state file, in bytes. With a larger one [`EXIT_AGAIN`] is an exit like any other: what can never be handed to another
/// machine must not look as if it could.
pub const STATE_FILE_BYTES_MAX: u64 = 64 << 20;

/// Gas of running a program again: what a new instance costs the host.
pub(super) const AGAIN_GAS: u64 = 1 << 17;

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

/// Somebody who wants to know where a unit stands while it runs. What he does changes nothing about the unit.
pub(super) trait Watch {
    /// Whether a snapshot is wanted now. Asked between any two steps.
    fn is_due(&mut self) -> bool;

    /// The snapshot; without a state where that is larger than [`Watch::bytes_max`].
    fn take(&mut self, snapshot: Snapshot);

    /// The largest state of use, in bytes.
    fn bytes_max(&self) -> usize;
}

/// Nobody.
pub(super) struct Unwatched;

impl Watch for Unwatched {
    fn is_due(&mut self) -> bool {
        false
    }

    fn take(&mut self, _snapshot: Snapshot) {}

    fn bytes_max(&self) -> usize {
        0
    }
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
