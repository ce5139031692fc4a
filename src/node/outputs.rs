//! Outputs of results that did not come with them: large ones, fetched before the core hears of the result.

use super::{
    border::{Fetch, Goal},
    net::Wanted,
    run_loop::Node,
};
use crate::protocol::{
    ids::{Digest, JobId, PeerId},
    outcome::{AttemptFailure, Outcome},
    owner::Report,
    peer::Event,
};

impl Node {
    /// A result whose output did not come with it.
    pub(super) fn take_output(&mut self, from: PeerId, job: JobId, digest: Digest, mut report: Report) {
        match tokio::task::block_in_place(|| self.store.blob_size(digest)).unwrap_or(None) {
            None if self.fetch_output(from, job, digest, &report) => return,
            // The size is no part of what is voted on, and is counted.
            Some(size) if size == report.output_bytes => {}
            _ => report.outcome = Outcome::Failed(AttemptFailure::MissingBlob),
        }
        self.event(Event::Reported { from, job, report });
    }

    /// Whether it is on its way here.
    fn fetch_output(&mut self, from: PeerId, job: JobId, digest: Digest, report: &Report) -> bool {
        let bytes = report.output_bytes;
        let allowed = self.peer.owner().manifest(job).is_some_and(|manifest| bytes <= manifest.limits.output_bytes);
        let wanted = Wanted { digest, length: Some(bytes), at_most: bytes };
        let fetch = Fetch { wanted, holders: vec![from], goal: Goal::Output { from, job, report: Box::new(report.clone()) } };
        let fetched = allowed && self.fetches.push(fetch);
        if !fetched {
            tracing::info!(peer = %from.short(), bytes, "a large output is not fetched: more than the job allows, or too many at once");
        }
        fetched
    }
}
