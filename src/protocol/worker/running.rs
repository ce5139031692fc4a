//! What runs here, and how far it has come.

use super::{Coordinator, WorkerAction};
use crate::protocol::{
    checkpoint::{Authors, Checkpoint},
    ids::{Digest, PeerId},
    owner::{LeaseToken, Offer},
};
use std::sync::Arc;

/// An execution that runs or waits.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub ordinal: u32,
    pub token: LeaseToken,
    /// What the unit is given, see [`Lease`](super::Lease).
    pub input: Option<Digest>,
    pub rests_on: Authors,
    /// The newest one.
    pub checkpoint: Option<Arc<Checkpoint>>,
    /// It was not offered on this stream yet.
    pub unsent: bool,
    /// It did not begin at the beginning.
    pub resumed: bool,
}

impl Coordinator {
    /// Shows what it was not shown yet.
    pub(super) fn offer(&mut self, to: PeerId, actions: &mut Vec<WorkerAction>) {
        for (run, running) in self.running.iter_mut().filter(|(_, running)| running.unsent) {
            running.unsent = false;
            let Some(checkpoint) = running.checkpoint.clone() else { continue };
            let offer = Offer { unit: run.unit, attempt: run.attempt, ordinal: running.ordinal, token: running.token, checkpoint };
            actions.push(WorkerAction::Offer { to, job: run.job, offer });
        }
    }
}
