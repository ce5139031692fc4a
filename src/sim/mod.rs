//! Simulation in virtual time of many peers running the same core as a real node.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod gossip;
