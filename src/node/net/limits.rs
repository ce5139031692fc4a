//! Every bound of the network layer in one place, and the token bucket that enforces the rates.
//!
//! A bound is here when a stranger could otherwise make us spend memory, sockets or time without end.

use std::time::{Duration, Instant};

/// The longest gRPC message that we send or accept, in bytes. The largest honest one is a batch of outcomes or leases with
/// 1 MiB of inline data and its framing.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// The longest gossip message, in bytes. The largest honest one is a window of an archive, 512 ids of 16 bytes and their framing; the rest
/// is room for later versions.
pub const MAX_GOSSIP_BYTES: usize = 64 << 10;

/// Bytes per blob chunk, and so the unit of progress and of verification of a transfer's pace.
pub const BLOB_CHUNK_BYTES: usize = 256 << 10;

/// Silence after which a connection is given up. A dead peer's leases wait this long before they go to someone else.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(9);

/// Time between keep-alives: three may be lost before [`IDLE_TIMEOUT`] strikes. Each costs about 70 bytes.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// How long a dial may take, handshake and Hello each. A symmetric NAT behind a slow relay needs about three.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an accepted connection may stay without a Hello; a person does not type in between, so seconds are enough.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(15);

/// Streams that the other side may have open on one connection: control, bulk, and room for replacements in flight.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 16;

/// Calls in flight on one HTTP/2 connection: three long streams, a few fetches and watches.
pub const MAX_CALLS_PER_STREAM: u32 = 32;

/// Connections that one key may have with us: one of each direction, one that replaces each after a restart.
pub const MAX_CONNECTIONS_PER_KEY: usize = 4;

/// Accepted connections in all. Each costs about 100 KiB of buffers when idle; a coordinator with more workers than this
/// answers the others later.
pub const MAX_ACCEPTED_CONNECTIONS: usize = 1024;

/// Handshakes in progress in all: they cost a signature each and nobody has shown a key yet.
pub const MAX_HANDSHAKES: usize = 64;

/// Peers with a link, dialled or accepted.
pub const MAX_LINKS: usize = 2048;

/// Requests to one link that wait for its task; the requester is told when there are more.
pub const LINK_MAILBOX: usize = 64;

/// Requests to all links that wait for the switchboard; a run loop that gets ahead of it by more is told.
pub const SWITCHBOARD_MAILBOX: usize = 1024;

/// Streams that wait for the gRPC server to take them up.
pub const INTAKE: usize = 64;

/// Events that wait for the run loop. Readers wait in turn when it is full, and QUIC's flow control holds the peers back.
pub const EVENTS: usize = 512;

/// Bytes of received messages that wait for the run loop, whatever their number.
pub const EVENT_BYTES: usize = 64 << 20;

/// Gossip messages queued for one neighbour; the oldest is dropped for a newer one.
pub const GOSSIP_QUEUE: usize = 256;

/// Messages queued on one work stream: batches, so a few cover a round trip.
pub const WORK_QUEUE: usize = 32;

/// Progress reports queued for one watcher: only the newest matters.
pub const WATCH_QUEUE: usize = 4;

/// Jobs that one connection may watch at a time.
pub const MAX_WATCHES_PER_CONNECTION: usize = 8;

/// Blobs that one connection may fetch at a time.
pub const MAX_FETCHES_PER_CONNECTION: usize = 4;

/// Blobs being served in all: each holds one thread of the blocking pool now and then.
pub const MAX_FETCHES: usize = 32;

/// How long a fetch may wait for its turn; less than its caller's [`CONNECT_TIMEOUT`].
pub const FETCH_QUEUE_TIME: Duration = Duration::from_secs(8);

/// Gossip messages from one key: an anti-entropy exchange may bring all live announcements at once, then it is calm.
pub const GOSSIP_MESSAGES: Rate = Rate { burst: 4096.0, per_second: 256.0 };

/// Gossip bytes from one key.
pub const GOSSIP_BYTES: Rate = Rate { burst: (8 << 20) as f64, per_second: (512 << 10) as f64 };

/// Messages on a work stream from one key. A worker that hands in each of its tiny units alone would still fit.
pub const WORK_MESSAGES: Rate = Rate { burst: 8192.0, per_second: 2048.0 };

/// Unary calls and stream openings on one connection: most are fetches of inputs by a busy worker.
pub const CALLS: Rate = Rate { burst: 256.0, per_second: 128.0 };

/// Connection attempts from one address (an IPv6 /64 counts as one): a campus behind one address starts at once.
pub const ATTEMPTS: Rate = Rate { burst: 64.0, per_second: 8.0 };

/// Addresses whose attempts are remembered.
pub const MAX_ATTEMPT_ADDRESSES: usize = 4096;

/// How long a key that flooded us is refused. Keys are free, so this only saves the work of its next attempts.
pub const SHUN: Duration = Duration::from_mins(1);

/// Keys remembered as shunned.
pub const MAX_SHUNNED: usize = 1024;

/// How long a link that was opened only for a fetch or a watch stays without use.
pub const UNUSED_LINK: Duration = Duration::from_mins(1);

/// Peers whose addresses are remembered.
pub const MAX_BOOK: usize = 4096;

/// The longest encoded contact, in bytes.
pub const MAX_CONTACT_BYTES: usize = 256;

/// Addresses in one contact.
pub const MAX_ADDRESSES: usize = 8;

/// Contacts in an answer to Join.
pub const MAX_JOIN_CONTACTS: usize = 16;

/// The longest program version, in bytes.
pub const MAX_VERSION_BYTES: usize = 32;

/// An amount that may come at once and what comes back per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// What may come at once.
    pub burst: f64,
    /// What comes back per second.
    pub per_second: f64,
}

/// A token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    level: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: rate.burst, filled: now }
    }

    /// Takes `amount`, or takes nothing and returns false.
    #[must_use]
    pub fn take(&mut self, amount: f64, now: Instant) -> bool {
        self.fill(now);
        let enough = self.level >= amount;
        if enough {
            self.level -= amount;
        }
        enough
    }

    /// Takes `amount` on credit and returns how long to wait until the bucket is level again.
    pub fn take_and_wait(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= amount;
        Duration::from_secs_f64((-self.level / self.rate.per_second).clamp(0.0, 60.0))
    }

    /// Whether nothing was taken that has not come back.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level >= self.rate.burst
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.level = (self.level + passed * self.rate.per_second).min(self.rate.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 2.0, per_second: 1.0 };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        assert!(bucket.take(1.0, start));
        assert!(bucket.take(1.0, start));
        assert!(!bucket.take(1.0, start));
        assert!(bucket.take(1.0, start + Duration::from_secs(1)));
        assert!(!bucket.take(1.0, start + Duration::from_secs(1)));
        assert!(bucket.is_full(start + Duration::from_secs(9)));
    }

    #[test]
    fn a_bucket_on_credit_says_how_long_to_wait() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        assert_eq!(bucket.take_and_wait(2.0, start), Duration::ZERO);
        assert_eq!(bucket.take_and_wait(3.0, start), Duration::from_secs(3));
    }
}
