//! From a slot's thread to the run loop: what is finished, in groups, and what was saved.

use super::{runs::JobKey, slots::SlotEvent};
use crate::{
    protocol::{
        chain::Links,
        checkpoint::{Authors, Checkpoint},
        worker::{Finished, RunId},
    },
    sandbox::Snapshot,
    store::Store,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Finished units are handed back at least this often.
const FLUSH_AFTER: Duration = Duration::from_millis(20);

/// Collects what is finished and hands it to the run loop, waiting there if need be.
pub(super) struct Outbox {
    pub slot: usize,
    pub key: JobKey,
    pub events: mpsc::Sender<SlotEvent>,
    pub finished: Vec<(RunId, Finished)>,
    pub links: Vec<(RunId, Links)>,
    pub flushed: Instant,
    pub open: bool,
}

impl Outbox {
    pub fn push(&mut self, run: RunId, finished: Finished) {
        self.finished.push((run, finished));
        if self.flushed.elapsed() >= FLUSH_AFTER {
            self.flush(false);
        }
    }

    pub fn flush(&mut self, is_last: bool) {
        self.send(None, is_last);
    }

    pub fn send(&mut self, saved: Option<(RunId, Checkpoint)>, is_last: bool) {
        let (finished, links) = (std::mem::take(&mut self.finished), std::mem::take(&mut self.links));
        let event = SlotEvent { slot: self.slot, key: self.key, finished, links, saved, is_last };
        self.open &= self.events.blocking_send(event).is_ok();
        self.flushed = Instant::now();
    }

    /// Keeps a state and says so. Nothing is said of one that cannot be kept; the next may find room.
    pub fn save(&mut self, store: &Store, run: RunId, snapshot: Snapshot) {
        let Snapshot { at, state, links } = snapshot;
        let bytes = state.len() as u64;
        match store.put_blob(&state, None) {
            Ok(_) => {
                let checkpoint = Checkpoint { gas: at.gas, state: at.state, bytes, links: Arc::new(links), rests_on: Authors::NONE };
                self.send(Some((run, checkpoint)), false);
            }
            Err(error) => tracing::info!(%error, bytes, "a checkpoint cannot be kept"),
        }
    }

    pub fn close(mut self) -> bool {
        self.flush(true);
        self.open
    }
}
