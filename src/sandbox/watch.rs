//! When the child side of a slot says where its unit stands: now and then, and when it is asked.
//!
//! Wall time decides *when*, and nothing else: the unit does not notice.

use super::{
    frame::{self, Kind},
    step::{Snapshot, Watch},
};
use crate::protocol::checkpoint::CHECKPOINT_BYTES_MAX;
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// Making snapshots takes one part in so many of the time.
const COST_SHARE: u32 = 50;

/// So many bytes of snapshots in a second on average: what the upload of a home connection can take beside other things.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// How often the bell is listened to: a system call between any two steps would be too many.
const LISTEN_EVERY: Duration = Duration::from_millis(5);

/// Sends snapshots of one unit to the parent.
pub(super) struct Saver<'a> {
    writer: &'a UnixStream,
    bell: &'a UnixStream,
    every: Duration,
    due: Instant,
    listened: Instant,
    /// When the snapshot that is being made was begun.
    began: Instant,
}

impl<'a> Saver<'a> {
    pub(super) fn new(writer: &'a UnixStream, bell: &'a UnixStream, every: Duration) -> Self {
        let now = Instant::now();
        Self { writer, bell, every, due: now + every, listened: now, began: now }
    }

    /// Whether somebody has asked since the last time.
    fn is_asked(&self) -> bool {
        (&*self.bell).read(&mut [0; 64]).is_ok_and(|count| count > 0)
    }
}

impl Watch for Saver<'_> {
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let mut due = now >= self.due;
        if !due && now.duration_since(self.listened) >= LISTEN_EVERY {
            self.listened = now;
            due = self.is_asked();
        }
        self.began = now;
        due
    }

    fn take(&mut self, snapshot: Snapshot) {
        if !snapshot.state.is_empty() {
            let body = frame::encode_stopped(&snapshot);
            // When the parent is gone this process ends after the unit, if it is not killed first.
            let sent = frame::header(Kind::Saved, body.len()).and_then(|header| self.writer.write_all(&header));
            let _ = sent.and_then(|()| self.writer.write_all(&body));
        }
        let now = Instant::now();
        let transfer = Duration::from_secs_f64(snapshot.state.len() as f64 / BYTES_PER_SECOND as f64);
        self.due = now + self.every.max(now.duration_since(self.began) * COST_SHARE).max(transfer);
    }

    fn bytes_max(&self) -> usize {
        CHECKPOINT_BYTES_MAX as usize
    }
}
