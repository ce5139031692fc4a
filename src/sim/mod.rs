//! A seeded simulator in virtual time, which runs the very same [`crate::protocol::peer::Peer`] as real nodes.
//!
//! Peers exchange events over links with delay, which break; machines crash between any two actions and come back with what was
//! durable; some of them lie. Checkers watch all along. A run has two phases, after tigerbeetle's VOPR: in the first, faults of every
//! kind happen and nothing wrong may be shown; then the grid heals and everything must end. The seed decides everything, so it
//! replays a run exactly; every failure names it.
//!
//! It deliberately knows nothing of encodings, signatures, modules or processes: those have tests of their own.

#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod attacks;
mod behaviour;
mod campaign;
pub mod checkers;
mod draw;
mod faults;
mod fraud;
pub mod gossip;
mod grid;
mod keep;
mod kept;
mod machine;
pub mod measure;
pub mod net;
mod perform;
mod population;
mod queue;
mod report;
mod scenario;
pub mod shop;
pub mod sizes;

pub use behaviour::{Asked, Behaviour, Course, Crowd, Program};
pub use campaign::{Campaign, Progress};
pub use grid::{Failure, Grid};
pub use machine::Disk;
pub use population::{Attack, Drawn, Population};
pub use report::{Convicted, Report};
pub use scenario::{Faults, JobSpec, PeerSpec, Scenario, Sessions};

#[cfg(test)]
mod fraud_tests;
#[cfg(test)]
mod keep_tests;
#[cfg(test)]
mod platform_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_cases;
