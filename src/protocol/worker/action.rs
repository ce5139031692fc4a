//! Everything that a worker may want done.

use super::{Kept, Outgoing, RunId};
use crate::protocol::{
    checkpoint::Checkpoint,
    ids::{JobId, PeerId},
    owner::Offer,
};
use std::sync::Arc;

/// What the worker wants done, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum WorkerAction {
    /// Open a work stream to this coordinator; [`super::Worker::opened`] or [`super::Worker::closed`] follows.
    Open(PeerId),
    /// Close the work stream.
    Close(PeerId),
    /// Say how many leases are welcome.
    Window {
        /// To whom.
        to: PeerId,
        /// In all, those already held included.
        window: u32,
    },
    /// Run this; [`super::Worker::finished`] follows, exactly once unless cancelled, and [`super::Worker::saved`] as often as it is saved.
    Run {
        /// Which.
        run: RunId,
        /// Where to go on, if the state can be had.
        from: Option<Arc<Checkpoint>>,
    },
    /// Do not run it, or stop it; nothing follows.
    Cancel(RunId),
    /// Hand in outcomes; kept here until acknowledged.
    Report {
        /// To whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// The outcomes.
        outcomes: Vec<Outgoing>,
    },
    /// Show a coordinator how far a unit has come.
    Offer {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// How far.
        offer: Offer,
    },
    /// Keep the receipts of these for a while: they were acknowledged, and are forgotten here.
    Keep {
        /// Who has them.
        coordinator: PeerId,
        /// Of which job.
        job: JobId,
        /// What.
        receipts: Vec<Kept>,
    },
}
