//! Receipts that are said again: asked for as a coordinator that lost its votes, given as a worker.

use super::{Action, Peer};
use crate::protocol::{
    ids::{JobId, PeerId},
    owner::Recovered,
    time::Instant,
};

impl Peer {
    /// A worker attached: it may have receipts of jobs whose votes are lost.
    pub(super) fn ask_for_receipts(&mut self, to: PeerId) {
        let jobs: Vec<JobId> = self.owner.recovering().collect();
        for job in jobs {
            if self.owner.may_ask_for_receipts(to, job) {
                self.actions.push(Action::AskReceipts { to, job, after: 0 });
            }
        }
    }

    pub(super) fn on_recover(&mut self, now: Instant, job: JobId) {
        if self.owner.begin_recovery(now, job) {
            self.ask_attached();
        }
    }

    pub(super) fn ask_attached(&mut self) {
        let workers: Vec<PeerId> = self.owner.attached_workers().filter(|worker| *worker != self.me()).collect();
        for to in workers {
            self.ask_for_receipts(to);
        }
    }

    pub(super) fn on_recovered(&mut self, now: Instant, from: PeerId, job: JobId, receipts: Vec<Recovered>, next: Option<u64>) {
        // A page of large outputs only comes without them.
        let empty = receipts.is_empty();
        let merged = self.owner.recover(now, from, job, receipts);
        let after = next.filter(|_| (empty || merged.taken + merged.known > 0) && self.owner.may_ask_for_receipts(from, job));
        if let Some(after) = after {
            self.actions.push(Action::AskReceipts { to: from, job, after });
        }
    }

    pub(super) fn on_receipts_asked(&mut self, now: Instant, from: PeerId, job: JobId, after: u64) {
        if self.worker.is_attached(from) {
            if after == 0 {
                for action in self.worker.keep_unacknowledged(job, from) {
                    self.perform_worker(now, action);
                }
            }
            self.actions.push(Action::SendReceipts { to: from, job, after });
        }
    }
}
