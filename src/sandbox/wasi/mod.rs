//! A deterministic WASI preview 1: what a unit sees of the world.
//!
//! All 46 functions are there. Arguments, standard input and input files are the unit's own; the environment is empty; time
//! is virtual and moves by rule ([`clock`]); randomness comes from the unit's seed; files live in memory ([`fs`]); sockets do
//! not exist. Nothing here asks the host for anything, so the same unit sees the same world on every machine. It is not a
//! general WASI: no host directories, no links, no terminals.
//!
//! Each call costs gas ([`CALL_GAS`] and more by what it moves), so that calling is bounded like computing.

mod clock;
mod descriptors;
mod fd;
mod fs;
mod guest;
mod link;
mod path;
mod saved;
mod system;

pub(super) use link::{add_to, signature};

use crate::protocol::outcome::UnitLimits;
use descriptors::Descriptor;
use guest::Errno;
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;

/// The only module that guests may import from.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// Gas of a host call, whatever it does.
pub(super) const CALL_GAS: u64 = 200;

/// A file that a task gives to its unit to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InputFile {
    /// Where it appears below `/`: components divided by `/`, none of them empty, `.` or `..`.
    pub path: String,
    /// What is in it.
    pub bytes: Arc<[u8]>,
}

/// Why a host function ends the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Halt {
    #[error("the unit exited with code {0}")]
    Exit(u32),
    #[error("the unit used all its gas")]
    OutOfGas,
    #[error("the unit wrote more than it may")]
    OutputLimit,
    #[error("the unit slept for longer than it may")]
    SleepLimit,
    #[error("the host has no memory left for the unit")]
    OutOfMemory,
}

/// How a host function ends when it does not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The guest gets an error number.
    Errno(Errno),
    /// The unit ends.
    Halt(Halt),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// What a unit is given.
pub(super) struct Given {
    pub(super) args: Vec<Vec<u8>>,
    pub(super) stdin: Arc<[u8]>,
    pub(super) files: Vec<InputFile>,
    pub(super) seed: [u8; 32],
    pub(super) limits: UnitLimits,
}

/// The world of one unit.
pub(super) struct World {
    given: Given,
    clock: clock::Clock,
    random: Option<ChaCha20Rng>,
    files: fs::FileSystem,
    descriptors: descriptors::Descriptors,
    /// What it wrote to its standard output.
    pub(super) output: Vec<u8>,
    /// What was kept of its standard error.
    pub(super) log: Vec<u8>,
}

impl World {
    /// A new world; `None` when a file's path is not one.
    pub(super) fn new(mut given: Given) -> Option<Self> {
        let mut files = fs::FileSystem::new();
        for file in given.files.drain(..) {
            files.add_input(&file.path, file.bytes)?;
        }
        Some(Self {
            given,
            clock: clock::Clock::default(),
            random: None,
            files,
            descriptors: descriptors::Descriptors::new(),
            output: Vec::new(),
            log: Vec::new(),
        })
    }

    /// What the unit's files take of its memory limit, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.files.used()
    }

    /// Whether there is a state file of at most so many bytes: what the unit wrote itself, not an input.
    pub(super) fn has_state_file(&self, name: &str, most: u64) -> bool {
        let place = self.files.find(fs::Node::ROOT, name);
        let node = place.ok().and_then(|place| place.node);
        node.is_some_and(|node| matches!(self.files.kind(node), fs::Kind::Scratch(bytes) if bytes.len() as u64 <= most))
    }

    /// The program begins again: nothing is open but what is from the start, standard input is at its beginning. Files stay.
    pub(super) fn begin_again(&mut self) {
        let before = std::mem::replace(&mut self.descriptors, descriptors::Descriptors::new());
        let nodes = before.table.iter().flatten().filter_map(Descriptor::node);
        for node in nodes.filter(|node| *node != fs::Node::ROOT) {
            self.files.closed(node);
        }
    }

    /// The limits that hold.
    pub(super) fn limits(&self) -> &UnitLimits {
        &self.given.limits
    }
}

/// One host call: the guest's memory, its world and its gas.
pub(super) struct Call<'a> {
    pub(super) memory: &'a mut [u8],
    pub(super) world: &'a mut World,
    /// The gas that is left.
    pub(super) left: u64,
}

impl Call<'_> {
    /// Takes gas, or ends the unit.
    pub(super) fn charge(&mut self, gas: u64) -> Result<(), Stop> {
        match self.left.checked_sub(gas) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Halt::OutOfGas.into())
            }
        }
    }

    /// Takes the gas for moving so many bytes.
    pub(super) fn charge_bytes(&mut self, bytes: u64) -> Result<(), Stop> {
        self.charge(bytes >> super::cost::BYTES_PER_GAS_LOG2)
    }

    /// The virtual time, in nanoseconds since the unit began.
    fn now(&self) -> u64 {
        self.world.clock.now(self.world.given.limits.gas.saturating_sub(self.left))
    }

    /// What its files may still grow by, in bytes.
    fn room(&self) -> u64 {
        let used = self.world.files.used().saturating_add(self.memory.len() as u64);
        self.world.given.limits.memory_bytes.saturating_sub(used)
    }
}

#[cfg(test)]
mod tests;
