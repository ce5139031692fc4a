//! Reads one stream of one peer into the run loop's events, within that peer's rates.
//!
//! It waits when the run loop is behind, so that nothing piles up here: QUIC's flow control then holds the peer back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tonic::Streaming;

use super::{
    event::{NetEvent, Weight},
    limits::{Bucket, EVENT_BYTES, GOSSIP_BYTES, GOSSIP_MESSAGES, MAX_GOSSIP_BYTES, WORK_MESSAGES},
    outbound::Watch,
};
use crate::protocol::ids::PeerId;

/// One permit of the event budget stands for this many bytes.
const GRAIN: usize = 1024;
/// What a message costs beside its bytes.
const OVERHEAD: usize = 256;

/// The run loop's inbox with its bounds in number and bytes.
#[derive(Clone, Debug)]
pub(super) struct Events {
    sender: mpsc::Sender<NetEvent>,
    budget: Arc<Semaphore>,
}

/// The run loop no longer listens.
#[derive(Debug)]
pub(super) struct Deaf;

impl Events {
    pub(super) fn new(sender: mpsc::Sender<NetEvent>) -> Self {
        Self { sender, budget: Arc::new(Semaphore::new(EVENT_BYTES / GRAIN)) }
    }

    pub(super) async fn send(&self, event: NetEvent) -> Result<(), Deaf> {
        self.sender.send(event).await.map_err(|_| Deaf)
    }

    async fn weigh(&self, bytes: usize) -> Weight {
        let permits = u32::try_from((bytes + OVERHEAD).div_ceil(GRAIN)).expect("messages are bounded");
        Weight(self.budget.clone().acquire_many_owned(permits).await.expect("never closed"))
    }
}

/// How fast one key may bring messages. Outlives its streams and connections, so that opening new ones is no way around it.
#[derive(Debug)]
pub(super) struct Allowance {
    gossip_messages: Mutex<Bucket>,
    gossip_bytes: Mutex<Bucket>,
    work_messages: Mutex<Bucket>,
}

/// Which part of the allowance a stream draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nobody has a reason to gossip faster: the stream ends.
    Gossip,
    /// An eager worker or coordinator is slowed down.
    Work,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        let bucket = |rate| Mutex::new(Bucket::new(rate, now));
        Self { gossip_messages: bucket(GOSSIP_MESSAGES), gossip_bytes: bucket(GOSSIP_BYTES), work_messages: bucket(WORK_MESSAGES) }
    }

    /// False when the stream is to end.
    async fn admit(&self, pace: Pace, length: usize) -> bool {
        let now = Instant::now();
        let lock = |bucket| Mutex::lock(bucket).unwrap_or_else(PoisonError::into_inner);
        match pace {
            Pace::Gossip => {
                length <= MAX_GOSSIP_BYTES
                    && lock(&self.gossip_messages).take(1.0, now)
                    && lock(&self.gossip_bytes).take(length as f64, now)
            }
            Pace::Work => {
                let wait = lock(&self.work_messages).take_and_wait(1.0, now);
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                true
            }
        }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The peer ended it, or broke off.
    ByPeer,
    /// The run loop dropped its sending end, or is gone.
    ByUs,
    /// The peer sent more than it may.
    Flood,
}

/// Reads until the stream ends from either side.
pub(super) async fn read<M: Message + Default, S>(
    peer: PeerId,
    mut inbound: Streaming<M>,
    mut watch: Watch<S>,
    (allowance, pace): (Arc<Allowance>, Pace),
    events: Events,
    wrap: fn(PeerId, M, Weight) -> NetEvent,
) -> Ending {
    loop {
        let received = tokio::select! {
            received = inbound.message() => received,
            () = watch.sender_gone() => return Ending::ByUs,
        };
        let message = match received {
            Ok(Some(message)) => message,
            // How it ended tells little: the same break comes as Unknown, Cancelled or Unavailable.
            Ok(None) | Err(_) => return Ending::ByPeer,
        };
        let length = message.encoded_len();
        if !allowance.admit(pace, length).await {
            return Ending::Flood;
        }
        let weight = events.weigh(length).await;
        if events.send(wrap(peer, message, weight)).await.is_err() {
            return Ending::ByUs;
        }
    }
}
