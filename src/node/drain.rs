//! Ending in order: what runs may end, what does not in time is handed back, and what was found is acknowledged.
//!
//! No new leases are welcome from the beginning, and units that have not begun are handed back at once, so that others run them.
//! A coordinator takes a unit that comes back as killed from a worker that wants no leases as one that was never out.

use super::{
    run_loop::Node,
    saving::{TAKEN_WITHIN, Then},
};
use crate::protocol::{outcome::AttemptFailure, peer::Event};
use std::time::Duration;
use tokio::time::Instant;

/// How long coordinators may take to acknowledge what was handed in last. They do it after a commit.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// How far a node's ending has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drain {
    /// Units that run may end until then.
    Finishing(Instant),
    /// What runs is saved once more, before it is handed back.
    Saving(Instant),
    /// Everything was handed in; whoever is to acknowledge it has until then.
    HandingIn(Instant),
}

impl Drain {
    /// When it goes on even if nothing happens.
    pub fn deadline(self) -> Instant {
        match self {
            Self::Finishing(at) | Self::Saving(at) | Self::HandingIn(at) => at,
        }
    }
}

impl Node {
    /// Takes no new leases and hands back what has not begun. What runs has so much time; nothing where the user has paused it.
    pub(super) fn begin_drain(&mut self, within: Duration) {
        let frozen = self.pause.by_user;
        let within = if frozen { Duration::ZERO } else { within };
        self.drain = Some(Drain::Finishing(Instant::now() + within));
        // Should it be killed before it has ended, this is not lost.
        self.runs.ask();
        // Straight to the core: the user's pause freezes what runs as well.
        self.peer.handle(self.clock.now(), Event::Pause(true));
    }

    /// Hands back units that no slot has begun.
    pub(super) fn hand_back_waiting(&mut self) {
        for run in self.runs.take_waiting() {
            self.fail_run(run, AttemptFailure::Killed);
        }
    }

    /// Time is up: hands back what still runs, or ends. Whether the node is to end.
    pub(super) fn drain_is_over(&mut self) -> bool {
        match self.drain {
            None => false,
            Some(Drain::HandingIn(_)) => true,
            Some(Drain::Finishing(_)) => {
                if !self.pause.by_user && self.save_first(Then::HandBack) {
                    self.drain = Some(Drain::Saving(Instant::now() + TAKEN_WITHIN));
                } else {
                    self.hand_back_running();
                }
                false
            }
            Some(Drain::Saving(_)) => {
                self.hand_back_running();
                false
            }
        }
    }

    /// Hands back what still runs; what was saved of it others go on with.
    pub(super) fn hand_back_running(&mut self) {
        self.save_no_more();
        self.drain = Some(Drain::HandingIn(Instant::now() + ACKNOWLEDGED_WITHIN));
        for run in self.peer.worker().runs() {
            self.runs.saving.forget(run);
            self.runs.stop(run);
            self.fail_run(run, AttemptFailure::Killed);
        }
    }

    /// Whether everything that can be handed in was, and was acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.is_some() && self.peer.worker().is_drained()
    }
}
