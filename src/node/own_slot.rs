//! A slot for its owner's own business on this machine, beside those that are lent: to check results, and to reduce them.

use super::Handle;
use crate::{
    protocol::ids::Digest,
    sandbox::{SlotError, SlotProcess, Stopper, Workshop},
    store::Store,
};
use std::io;
use tokio::sync::mpsc;

/// Work in such a slot. Dropping it ends the slot.
pub(crate) struct OwnSlot<T> {
    results: mpsc::Receiver<T>,
    stopper: Stopper,
}

impl<T> Drop for OwnSlot<T> {
    fn drop(&mut self) {
        self.results.close();
        // For good: a slot that still starts would take being killed for something that was before its module.
        self.stopper.close();
    }
}

impl<T: Send + 'static> OwnSlot<T> {
    /// Starts a slot for modules of so much memory and, on its thread, `work`, which says through the sender what comes of it.
    pub fn start(
        handle: &Handle,
        memory_bytes: u64,
        work: impl FnOnce(Result<SlotProcess, SlotError>, &mpsc::Sender<T>) + Send + 'static,
    ) -> Self {
        let (sender, results) = mpsc::channel(1);
        let stopper = Stopper::default();
        let cache = handle.facts.data_dir.join("native");
        // A machine that lends little memory to others still works for its owner.
        let memory_bytes = handle.facts.memory_bytes.max(memory_bytes);
        let stopped_by = stopper.clone();
        tokio::task::spawn_blocking(move || {
            let slot = Workshop::of_this_program(&cache, memory_bytes)
                .map_err(SlotError::Spawn)
                .and_then(|workshop| SlotProcess::spawn_with(workshop, stopped_by));
            work(slot, &sender);
        });
        Self { results, stopper }
    }

    /// The next that has ended; none when all have.
    pub async fn next(&mut self) -> Option<T> {
        self.results.recv().await
    }
}

/// Gives a slot a module from the store.
pub(crate) fn load(slot: &mut SlotProcess, store: &Store, module: Digest) -> Result<(), SlotError> {
    slot.load(module, || match store.read_blob(module) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(io::Error::from(io::ErrorKind::NotFound)),
        Err(error) => Err(io::Error::other(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That nothing runs in a slot that is closed is tested in `tests/sandbox.rs`.
    #[test]
    fn what_is_dropped_while_it_starts_is_closed_for_good() {
        let (sender, results) = mpsc::channel::<()>(1);
        let stopper = Stopper::default();
        drop(OwnSlot { results, stopper: stopper.clone() });
        assert!(sender.is_closed());
        assert!(format!("{stopper:?}").contains("closed: true"), "{stopper:?}");
    }
}
