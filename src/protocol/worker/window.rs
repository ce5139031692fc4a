//! How many leases are welcome from whom: the worker's slots, shared among the coordinators that have something for them.
//!
//! Where many coordinators are open and few have work for this worker, as in a large grid in which hardly anybody is known yet, equal
//! shares for all would leave slots idle. So the share of whoever gives nothing goes to the others, but for one lease, by which it can
//! begin again.

use super::{Coordinator, HELD_BYTES_MAX, LinkState, UNACKNOWLEDGED_MAX, WINDOW_MAX, Worker};
use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;

/// Leases are taken ahead for about this long, so that slots are busy while the next batch is under way.
const AHEAD: Duration = Duration::from_millis(500);
/// For so long after its last lease, or after it was taken on, a coordinator's share is kept for it.
const GIVES_FOR: Duration = Duration::from_secs(2);

/// For so long at least a window that was told counts: leases that a coordinator has handed out by it may be on their way. A lease that is
/// not taken is missed until it runs out.
const TOLD_FOR: Duration = Duration::from_secs(10);

/// The largest window that a coordinator was told lately. Windows follow the time of a unit, and may shrink several times while leases by
/// the first of them are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lately {
    since: Instant,
    /// Since then.
    now: u32,
    /// In the [`TOLD_FOR`] before.
    before: u32,
}

impl Lately {
    /// Up to now the window was this, or from now on it is.
    pub fn told(&mut self, now: Instant, window: u32) {
        self.turn(now);
        self.now = self.now.max(window);
    }

    /// The largest that may still be acted on.
    pub fn largest(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.now.max(self.before)
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.since(self.since);
        if passed >= TOLD_FOR {
            let before = if passed >= TOLD_FOR * 2 { 0 } else { self.now };
            *self = Self { since: now, now: 0, before };
        }
    }
}

/// How the slots are shared now.
pub(super) struct Shares {
    now: Instant,
    slots: u32,
    paused: bool,
    /// Gets all.
    favoured: Option<PeerId>,
    /// Coordinators that are open.
    open: u32,
    /// Those of them that give something.
    giving: u32,
}

impl Shares {
    pub fn of(worker: &Worker, now: Instant) -> Self {
        let open = || worker.coordinators.values().filter(|coordinator| coordinator.state == LinkState::Open);
        let gives = |peer: &PeerId| worker.coordinators.get(peer).is_some_and(|coordinator| coordinator.gives(now));
        Self {
            now,
            slots: worker.slots,
            paused: worker.paused,
            favoured: worker.favoured.filter(gives),
            open: open().count() as u32,
            giving: open().filter(|coordinator| coordinator.gives(now)).count() as u32,
        }
    }

    /// How many leases are welcome from this coordinator, which is open.
    pub fn window(&self, peer: PeerId, coordinator: &Coordinator) -> u32 {
        match self.favoured {
            _ if self.paused => 0,
            Some(favoured) if favoured != peer => 0,
            Some(_) => coordinator.window(self.slots, 1),
            None if self.giving == 0 => coordinator.window(self.slots, self.open),
            None if coordinator.gives(self.now) => coordinator.window(self.slots, self.giving),
            None => coordinator.window(self.slots, u32::MAX),
        }
    }
}

impl Worker {
    /// Runs for this coordinator alone as long as it has something to run; `None`: for all alike.
    pub fn favour(&mut self, coordinator: Option<PeerId>) {
        self.favoured = coordinator;
    }
}

impl Coordinator {
    /// Whether it has work for this peer now, or had a moment ago.
    fn gives(&self, now: Instant) -> bool {
        !self.running.is_empty() || now.since(self.useful_at) < GIVES_FOR
    }

    /// As many leases as keep the slots busy for [`AHEAD`], and one more for each slot; this coordinator's share of them.
    fn window(&self, slots: u32, share: u32) -> u32 {
        if self.held_bytes > HELD_BYTES_MAX {
            return 0;
        }
        let ahead = match self.unit_seconds {
            None => 1.0,
            Some(seconds) => (AHEAD.as_secs_f64() / seconds.max(1e-6)).clamp(0.0, f64::from(WINDOW_MAX)) + 1.0,
        };
        let window = f64::from(slots) * (1.0 + ahead) / f64::from(share.max(1));
        let waiting = u32::try_from(self.unacknowledged.len()).unwrap_or(u32::MAX);
        (window as u32).clamp(1, WINDOW_MAX).min(UNACKNOWLEDGED_MAX.saturating_sub(waiting))
    }
}
