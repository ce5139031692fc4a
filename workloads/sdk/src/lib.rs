//! The run-time of the bundled workloads: a WASI preview 1 command with arguments, streamed standard input, buffered
//! standard output, errors with exit codes and an allocator, in a module of a few kilobytes.
//!
//! It is not a replacement for the standard library: no files but one, no clock, no environment, no threads. A workload that
//! wants these is an ordinary `wasm32-wasip1` program, see `workloads/rust-example`.
//!
//! A workload is one function:
//!
//! ```
//! # #![allow(clippy::needless_doctest_main)]
//! use workload::{Args, Error, Output};
//!
//! fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
//!     let start = args.number("START")?;
//!     let end = args.number("END")?;
//!     args.finish()?;
//!     output.number(end.saturating_sub(start))?;
//!     output.write(b"\n")
//! }
//!
//! workload::command!(run, "usage: length START END");
//! # fn unused() {}
//! ```
//!
//! One whose units run for long is a type instead, which does its work in steps: see [`Stepped`]. Or it does a part of its work, keeps
//! where it is in a file and asks to be run again: see [`again`].
//!
//! On a target other than WebAssembly the same source is an ordinary native program, which is how the algorithms are
//! tested and how their speed is compared.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod again;
mod args;
mod command;
mod decimal;
mod error;
mod input;
mod output;
mod stepped;

#[cfg(any(test, target_family = "wasm"))]
mod heap;

#[cfg_attr(target_family = "wasm", path = "wasi_file.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "native_file.rs")]
mod file;

#[cfg_attr(target_family = "wasm", path = "wasi.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "native.rs")]
mod system;

pub use args::Args;
#[doc(hidden)]
pub use command::start;
pub use decimal::{number_from, sum_of_lines};
pub use error::Error;
pub use input::{Input, Source, Stdin};
pub use output::Output;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub use stepped::Cell;
pub use stepped::{Program, Stepped};
