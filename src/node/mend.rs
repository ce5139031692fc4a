//! Blobs of own jobs that this disk has lost: fetched again from peers, as soon as that is noticed and whenever a peer connects.
//!
//! A blob is named by its digest, so whoever gives it gives the right one or is found out. An output that no peer holds any more
//! is computed again when somebody wants it; see `control::node_backend::mend`.

use super::{
    border::{Fetch, Goal},
    net::{Wanted, blobs::MAX_HOLDERS},
    run_loop::Node,
};
use crate::protocol::{
    ids::{Digest, PeerId},
    outcome::UnitLimits,
};
use std::collections::BTreeSet;

/// Lost blobs that are looked for; more are noticed again when they are next read.
const LOST_MAX: usize = 1024;

impl Node {
    /// Looks for blobs that turned out to be damaged since the last turn.
    pub(super) fn look_after_blobs(&mut self) {
        for digest in self.store.take_damaged_blobs() {
            // What no own job needs is fetched anew when it is needed.
            let is_needed = tokio::task::block_in_place(|| self.store.is_pinned(digest)).unwrap_or(false);
            if is_needed && self.lost.len() < LOST_MAX && self.lost.insert(digest) {
                let holders = self.connected.keys().copied().take(MAX_HOLDERS).collect();
                self.look_for(digest, holders);
            }
        }
        self.fetches.start(&self.net, &self.store);
    }

    /// A peer has connected: it may hold what is lost.
    pub(super) fn look_at(&mut self, peer: PeerId) {
        self.forget_found();
        for digest in self.lost.clone() {
            self.look_for(digest, vec![peer]);
        }
    }

    fn look_for(&mut self, digest: Digest, holders: Vec<PeerId>) {
        if !holders.is_empty() {
            let wanted = Wanted { digest, length: None, at_most: UnitLimits::MAX.output_bytes };
            // Where too much waits already, the next peer that connects is asked.
            let _ = self.fetches.push(Fetch { wanted, holders, goal: Goal::Mend { digest } });
        }
    }

    pub(super) fn on_mended(&mut self, digest: Digest, result: Result<(), String>) {
        match result {
            Ok(()) => {
                tracing::warn!(blob = %digest, "a damaged blob was fetched again from a peer");
                self.lost.remove(&digest);
            }
            Err(reason) => tracing::warn!(blob = %digest, reason, "a damaged blob could not be fetched again so far"),
        }
    }

    fn forget_found(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        self.lost = self.still_lost(lost);
    }

    fn still_lost(&self, lost: BTreeSet<Digest>) -> BTreeSet<Digest> {
        lost.into_iter().filter(|digest| !self.holds(*digest)).collect()
    }

    /// Blobs of own jobs that are gone and were not found again. It may have come back by another way meanwhile.
    pub(crate) fn lost_blobs(&self) -> usize {
        self.still_lost(self.lost.clone()).len()
    }
}
