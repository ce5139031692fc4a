//! The simulated network.

mod links;

pub use links::{Epoch, Links, Via};
