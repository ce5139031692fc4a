//! What a node is started with.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How a node runs. Made by the command line; nothing here is remembered.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Everything that the node keeps.
    pub data_dir: PathBuf,
    /// Units run at once; none: it lends nothing.
    pub slots: u32,
    /// Memory for units, in bytes; what is announced, and what a job may ask for at most per slot.
    pub memory_bytes: u64,
    /// UDP addresses to be reached at.
    pub bind: Vec<SocketAddr>,
    /// Finds peers on the local network, and is found.
    pub local_discovery: bool,
    /// Makes a private grid when this data directory belongs to none yet.
    pub private: bool,
    /// Runs strangers' code also where no jail protects this machine.
    pub allow_unprotected: bool,
    /// How long units that run may take to end when the node is to stop; the rest is handed back then.
    pub drain: Duration,
    /// How long a keeper hears nothing before it goes on with a job.
    pub keeper_silence: Duration,
}
