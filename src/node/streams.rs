//! The open streams towards other peers, and what waits because a stream is slow.

use super::net::{Outbound, SendError};
use crate::{protocol::ids::JobId, wire::peer as pb};
use std::{collections::VecDeque, sync::Arc};

/// The most messages that wait for one slow peer. What waits is bounded already by the leases that are out; a peer that reads
/// nothing while this fills is cut off, and its units are offered to others.
const BACKLOG_MAX: usize = 256;

/// A stream with what does not fit its queue yet.
#[derive(Debug)]
pub(super) struct Stream<T> {
    outbound: Outbound<T>,
    waiting: VecDeque<T>,
}

/// The stream has ended, or its peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl<T> Stream<T> {
    pub fn new(outbound: Outbound<T>) -> Self {
        Self { outbound, waiting: VecDeque::new() }
    }

    /// Queues a message behind those that wait.
    pub fn send(&mut self, message: T) -> Result<(), Broken> {
        if self.waiting.len() >= BACKLOG_MAX {
            return Err(Broken);
        }
        self.waiting.push_back(message);
        self.pump()
    }

    /// Moves on what waits.
    pub fn pump(&mut self) -> Result<(), Broken> {
        while !self.waiting.is_empty() && self.outbound.room() > 0 {
            let Some(message) = self.waiting.pop_front() else { break };
            match self.outbound.try_send(message) {
                Ok(()) => {}
                Err(SendError::Full) => break,
                Err(SendError::Closed) => return Err(Broken),
            }
        }
        Ok(())
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// A worker's stream.
#[derive(Debug)]
pub(super) struct WorkerStream {
    pub stream: Stream<pb::CoordinatorMessage>,
    /// What it said about itself, once it did.
    pub hello: Option<WorkerIs>,
    /// Jobs that were described to it on this stream lately; at most [`DESCRIBED_TRUSTED`].
    pub described: VecDeque<JobId>,
}

/// How many descriptions a coordinator trusts a worker to remember; older ones it sends again.
pub(super) const DESCRIBED_TRUSTED: usize = 32;

/// What a worker's signatures are made over.
#[derive(Clone, Debug)]
pub(super) struct WorkerIs {
    pub class: Arc<str>,
    pub instruction_set: Arc<str>,
}
