//! Real node processes on the loopback interface: grids of several machines, as far as one machine can have them.
//!
//! Each test starts its own nodes in temporary directories and waits for what can be observed through the local API. What
//! the commands say in detail is tested inside the library, against a fake node.
#![cfg(feature = "node")]

#[cfg(target_os = "linux")]
mod audit;
mod bad_input;
mod bundles;
#[cfg(target_os = "linux")]
mod chaos;
#[cfg(feature = "fault-injection")]
mod checkpoints;
#[cfg(target_os = "linux")]
mod damage;
mod demo;
#[cfg(target_os = "linux")]
mod dice;
#[cfg(feature = "fault-injection")]
mod disk;
#[cfg(feature = "fault-injection")]
mod disputes;
#[cfg(unix)]
mod drain;
mod failing_units;
mod grid;
mod grids;
mod keepers;
mod kills;
mod large;
#[cfg(feature = "fault-injection")]
mod liar;
#[cfg(feature = "fault-injection")]
mod liar_stages;
mod modules;
mod receipts;
mod reducers;
