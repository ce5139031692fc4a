//! Simulation in virtual time of many peers running the same core as a real node.

pub mod gossip;
