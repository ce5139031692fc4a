//! manyhands: a volunteer compute grid with no server.
//!
//! Equal peers lend CPU, run WebAssembly units in a deterministic sandbox and check one another's results by redundant
//! execution. `src/ARCHITECTURE.md` explains how the parts fit and follows one unit of work through the files.
//!
//! The modules, in reading order; each may use only those above it that its own documentation names.

pub mod protocol;

pub mod sim;

#[cfg(feature = "sandbox")]
pub mod sandbox;

#[cfg(feature = "net")]
pub mod wire;

#[cfg(feature = "net")]
pub mod store;

#[cfg(feature = "node")]
pub mod node;

#[cfg(feature = "node")]
pub mod control;

#[cfg(feature = "node")]
pub mod cli;
