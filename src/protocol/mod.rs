//! The pure protocol core: `handle(now, event) -> actions` and `deadline() -> Option<Instant>`.
//!
//! No clock, no runtime, no socket, no file, no randomness but the seeded generator that it was given, and ordered maps only.
//! Whatever reaches it has been authenticated, bounded and parsed by `wire`; what it wants done it says in actions, which
//! the shell (`node`, or `sim` in virtual time) performs in their order.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod ids;
pub mod time;

pub mod outcome;

pub mod chain;

pub mod checkpoint;

pub mod platform;

pub mod job;

pub mod split;

pub mod announce;

pub mod fact;

pub mod gossip;

pub mod board;

pub mod verify;

pub mod trust;

pub mod fraud;

pub mod keeping;

pub mod owner;

pub mod worker;

pub mod peer;
