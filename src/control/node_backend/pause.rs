//! Pausing: the core is told to lend nothing, and a pause for a time has its end kept here.

use super::{NodeBackend, millis};
use crate::{control::backend::Reply, node::Handle, protocol::peer::Event};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What the user wants now. Survives a node that begins anew, not the process.
#[derive(Debug, Default)]
pub(super) struct Pause(Mutex<Wanted>);

#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    paused: bool,
    until: Option<Instant>,
    /// Grows with each change, so that the timer of an earlier pause does nothing.
    generation: u64,
}

impl Pause {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, paused: bool, until: Option<Instant>) -> u64 {
        let mut wanted = self.wanted();
        *wanted = Wanted { paused, until, generation: wanted.generation + 1 };
        wanted.generation
    }

    fn end_if(&self, generation: u64) -> bool {
        let is_same = self.wanted().generation == generation;
        if is_same {
            self.set(false, None);
        }
        is_same
    }

    /// How much of a pause for a time is left, in milliseconds; 0 without one.
    pub fn left_ms(&self) -> u64 {
        let wanted = *self.wanted();
        // A pause that is about to end has a millisecond left: zero would mean "until resumed".
        let left = wanted.until.map(|until| millis(until.saturating_duration_since(Instant::now())).max(1));
        left.filter(|_| wanted.paused).unwrap_or(0)
    }

    /// Tells a node that has begun anew.
    pub async fn tell(&self, handle: &Handle) {
        let paused = self.wanted().paused;
        if paused && handle.event(Event::Pause(true)).await.is_err() {
            tracing::debug!("the node ended before it was paused");
        }
    }
}

impl NodeBackend {
    pub(super) async fn begin_pause(&self, duration: Option<Duration>) -> Reply<()> {
        let handle = self.handle().await?;
        let until = duration.and_then(|duration| Instant::now().checked_add(duration));
        let generation = self.0.pause.set(true, until);
        if let Some(until) = until {
            let shared = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep_until(until).await;
                let Some(shared) = shared.upgrade() else { return };
                if shared.pause.end_if(generation) {
                    let resumed = Self(shared).tell_resumed().await;
                    resumed.unwrap_or_else(|error| tracing::warn!(%error, "the pause is over, and the node cannot be told"));
                }
            });
        }
        Ok(handle.event(Event::Pause(true)).await?)
    }

    pub(super) async fn end_pause(&self) -> Reply<()> {
        self.0.pause.set(false, None);
        self.tell_resumed().await
    }

    async fn tell_resumed(&self) -> Reply<()> {
        Ok(self.handle().await?.event(Event::Pause(false)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_timer_of_the_latest_pause_ends_it() {
        let pause = Pause::default();
        let first = pause.set(true, Instant::now().checked_add(Duration::from_secs(60)));
        assert!((1..=60_000).contains(&pause.left_ms()));
        let second = pause.set(true, None);
        assert_eq!(pause.left_ms(), 0, "until resumed");
        assert!(!pause.end_if(first) && pause.wanted().paused);
        assert!(pause.end_if(second) && !pause.wanted().paused);
    }
}
