//! One direction of a connection as the transport and the shell's queue make it: finite bandwidth, a bounded queue whose oldest
//! message gives way, losses that drop or delay, and an end that does not read.

use crate::protocol::{gossip::Message, time::Instant};
use core::time::Duration;
use std::collections::VecDeque;

/// The time after which a lost packet is sent again, beside a round trip.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// What every link of a network is like.
#[derive(Clone, Debug)]
pub struct Links {
    /// What happens to lost messages.
    pub loss: Loss,
    /// How much one direction of one connection carries.
    pub bytes_per_second: u64,
    /// How many messages the shell queues for one neighbour; the oldest gives way.
    pub queue: usize,
    /// How many bytes the transport takes from the shell for an end that does not read.
    pub window: usize,
}

impl Default for Links {
    /// 8 Mbit/s, and the node's own bounds: 256 messages in a queue, a stream's receive window of 1.25 MB.
    fn default() -> Self {
        Self { loss: Loss::Drops, bytes_per_second: 1_000_000, queue: 256, window: 1_250_000 }
    }
}

/// What a loss does to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is gone, as when a full queue or a connection that breaks loses it.
    Drops,
    /// It comes a round trip later, and holds up what was sent after it, as on a reliable stream.
    Delays,
}

/// What became of a message handed to a link.
pub(super) enum Fate {
    /// It left; the time at which its last byte did.
    Left(Message, Instant),
    /// It waits, and the link must be asked again at this time.
    Waits(Instant),
    /// It waits; the link will be asked anyway, or never because the other end does not read.
    Queued,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Link {
    /// When the last byte of what was sent will have left.
    free: Instant,
    /// When the last message that was not lost arrives; nothing overtakes it.
    arrived: Instant,
    waiting: VecDeque<(Message, usize)>,
    draining: bool,
    unread: usize,
}

impl Link {
    /// Takes a message from the shell. The second value is by how many bytes the queue grew, the third how many messages gave way.
    pub(super) fn offer(&mut self, now: Instant, links: &Links, (message, bytes): (Message, usize), reads: bool) -> (Fate, i64, u64) {
        if !reads && self.unread + bytes <= links.window {
            self.unread += bytes;
            return (Fate::Queued, 0, 0);
        }
        if reads && self.waiting.is_empty() && self.free <= now {
            return (self.transmit(now, links, message, bytes), 0, 0);
        }
        self.waiting.push_back((message, bytes));
        let (mut grown, mut dropped) = (bytes as i64, 0);
        if self.waiting.len() > links.queue {
            grown -= self.waiting.pop_front().map_or(0, |(_, bytes)| bytes as i64);
            dropped = 1;
        }
        if !reads || self.draining {
            return (Fate::Queued, grown, dropped);
        }
        self.draining = true;
        (Fate::Waits(self.free), grown, dropped)
    }

    /// Sends the oldest message that waits. The second value is by how many bytes the queue shrank, the third when to ask again.
    pub(super) fn drain(&mut self, now: Instant, links: &Links) -> Option<(Fate, usize, Option<Instant>)> {
        let Some((message, bytes)) = self.waiting.pop_front() else {
            self.draining = false;
            return None;
        };
        let fate = self.transmit(now, links, message, bytes);
        self.draining = !self.waiting.is_empty();
        Some((fate, bytes, self.draining.then_some(self.free)))
    }

    /// When a message that has left arrives, after the messages before it.
    pub(super) fn arrival(&mut self, left: Instant, delay: Duration, losses: u32) -> Instant {
        self.arrived = self.arrived.max(left.after(delay + losses * (2 * delay + ACK_DELAY)));
        self.arrived
    }

    /// How many bytes wait.
    pub(super) fn queued(&self) -> usize {
        self.waiting.iter().map(|(_, bytes)| bytes).sum()
    }

    fn transmit(&mut self, now: Instant, links: &Links, message: Message, bytes: usize) -> Fate {
        let micros = bytes as u64 * 1_000_000 / links.bytes_per_second;
        self.free = self.free.max(now).after(Duration::from_micros(micros));
        Fate::Left(message, self.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { bytes_per_second: 1000, queue: 2, window: 100, ..Links::default() }
    }

    #[test]
    fn a_busy_link_queues_and_its_oldest_message_gives_way() {
        let (mut link, links) = (Link::default(), links());
        assert!(matches!(link.offer(Instant(0), &links, (Message::Prune, 10), true), (Fate::Left(_, Instant(10_000)), 0, 0)));
        assert!(matches!(link.offer(Instant(0), &links, (Message::Prune, 10), true), (Fate::Waits(Instant(10_000)), 10, 0)));
        assert!(matches!(link.offer(Instant(0), &links, (Message::Prune, 20), true), (Fate::Queued, 20, 0)));
        assert!(matches!(link.offer(Instant(0), &links, (Message::Prune, 30), true), (Fate::Queued, 20, 1)));
        assert_eq!(link.queued(), 50);
        let drained = link.drain(Instant(10_000), &links);
        assert!(matches!(drained, Some((Fate::Left(_, Instant(30_000)), 20, Some(Instant(30_000))))));
        assert!(matches!(link.drain(Instant(30_000), &links), Some((Fate::Left(_, Instant(60_000)), 30, None))));
        assert!(link.drain(Instant(60_000), &links).is_none());
    }

    #[test]
    fn an_end_that_does_not_read_costs_a_window_and_a_queue() {
        let (mut link, links) = (Link::default(), links());
        let dropped: u64 = (0..100).map(|_| link.offer(Instant(0), &links, (Message::Prune, 10), false).2).sum();
        assert_eq!((link.queued(), dropped), (20, 100 - 10 - 2));
    }

    #[test]
    fn a_message_that_is_sent_again_holds_up_the_next() {
        let mut link = Link::default();
        let delay = Duration::from_millis(10);
        assert_eq!(link.arrival(Instant(0), delay, 1), Instant(55_000));
        assert_eq!(link.arrival(Instant(1000), delay, 0), Instant(55_000));
        assert_eq!(link.arrival(Instant(60_000), delay, 0), Instant(70_000));
    }
}
