//! What a worker keeps for other coordinators of a job than the one that leased the units, see [`super::Kept`].

use super::{Coordinator, Kept, Worker, WorkerAction};
use crate::protocol::ids::{JobId, PeerId};
use std::collections::BTreeMap;

impl Coordinator {
    /// Keeps the receipts of what this coordinator, `me`, has not acknowledged of such jobs, which goes on being handed in to it.
    pub(super) fn keep_unacknowledged(&mut self, me: PeerId, of: impl Fn(JobId) -> bool) -> Vec<WorkerAction> {
        let mut receipts: BTreeMap<JobId, Vec<Kept>> = BTreeMap::new();
        for (run, outgoing) in self.unacknowledged.iter().filter(|(run, _)| of(run.job)) {
            if self.kept.insert(*run) {
                receipts.entry(run.job).or_default().extend(Kept::of(outgoing.clone()));
            }
        }
        let keep = |(job, receipts)| WorkerAction::Keep { coordinator: me, job, receipts };
        receipts.into_iter().filter(|(_, receipts)| !receipts.is_empty()).map(keep).collect()
    }
}

impl Worker {
    /// Another coordinator of a job asks for receipts: what its coordinators have not acknowledged so far is kept too, once.
    pub fn keep_unacknowledged(&mut self, job: JobId, asks: PeerId) -> Vec<WorkerAction> {
        let others = self.coordinators.iter_mut().filter(|(peer, _)| **peer != asks);
        others.flat_map(|(peer, coordinator)| coordinator.keep_unacknowledged(*peer, |of| of == job)).collect()
    }
}
