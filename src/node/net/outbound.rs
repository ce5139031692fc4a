//! A bounded queue towards one stream of one peer. Sending never waits: a full queue is an answer, which the sender turns into
//! a decision (try later, drop the oldest, give the peer up).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::watch;
use tokio_stream::Stream;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer does not keep up.
    #[error("the peer's queue is full")]
    Full,
    /// The stream has ended; its closing is reported as an event of its own.
    #[error("the stream has ended")]
    Closed,
}

/// The sending end of a stream towards a peer. Dropping it ends the stream once what is queued has been sent.
#[derive(Debug)]
pub struct Outbound<T> {
    shared: Arc<Shared<T>>,
    /// Dropped with the sender, which tells [`Watch::sender_gone`].
    _alive: watch::Sender<()>,
}

/// The receiving end, which the gRPC stream polls.
#[derive(Debug)]
pub(super) struct Drain<T> {
    shared: Arc<Shared<T>>,
}

/// The layer's own hold on a queue: sees its sender go, and can end the stream.
#[derive(Debug)]
pub(super) struct Watch<T> {
    shared: Arc<Shared<T>>,
    alive: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    ended: bool,
    waker: Option<Waker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the stream; what is queued is still sent.
    fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// A queue of at most `capacity` messages.
pub(super) fn queue<T>(capacity: usize) -> (Outbound<T>, Drain<T>, Watch<T>) {
    let state = Mutex::new(State { queue: VecDeque::new(), ended: false, waker: None });
    let shared = Arc::new(Shared { capacity, state });
    let (sender, alive) = watch::channel(());
    let outbound = Outbound { shared: shared.clone(), _alive: sender };
    (outbound, Drain { shared: shared.clone() }, Watch { shared, alive })
}

impl<T> Outbound<T> {
    /// Queues `message`.
    ///
    /// # Errors
    /// When the queue is full or the stream has ended; the message is dropped.
    pub fn try_send(&self, message: T) -> Result<(), SendError> {
        let mut state = self.shared.lock();
        if state.ended {
            return Err(SendError::Closed);
        }
        if state.queue.len() >= self.shared.capacity {
            return Err(SendError::Full);
        }
        state.queue.push_back(message);
        state.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Queues `message`, and drops the oldest one when the queue is full; returns whether it did.
    ///
    /// # Errors
    /// When the stream has ended.
    pub fn send_dropping_oldest(&self, message: T) -> Result<bool, SendError> {
        let mut state = self.shared.lock();
        if state.ended {
            return Err(SendError::Closed);
        }
        let full = state.queue.len() >= self.shared.capacity;
        if full {
            state.queue.pop_front();
        }
        state.queue.push_back(message);
        state.waker.take().into_iter().for_each(Waker::wake);
        Ok(full)
    }

    /// How many more messages fit now.
    pub fn room(&self) -> usize {
        self.shared.capacity.saturating_sub(self.shared.lock().queue.len())
    }
}

impl<T> Drop for Outbound<T> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<T> Stream for Drain<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = self.shared.lock();
        match state.queue.pop_front() {
            Some(message) => Poll::Ready(Some(message)),
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Drain<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.queue.clear();
    }
}

impl<T> Watch<T> {
    /// Resolves when the sender has been dropped.
    pub(super) async fn sender_gone(&mut self) {
        // A watch channel whose value never changes errs exactly when its sender is gone.
        while self.alive.changed().await.is_ok() {}
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_says_so_and_drops_the_oldest_on_request() {
        let (outbound, mut drain, _watch) = queue(2);
        outbound.try_send(1).unwrap();
        assert_eq!(outbound.send_dropping_oldest(2), Ok(false));
        assert_eq!(outbound.try_send(3), Err(SendError::Full));
        assert_eq!(outbound.send_dropping_oldest(3), Ok(true));
        drop(outbound);
        assert_eq!(drain.next().await, Some(2));
        assert_eq!(drain.next().await, Some(3));
        assert_eq!(drain.next().await, None);
    }

    #[tokio::test]
    async fn either_end_learns_that_the_other_is_gone() {
        let (outbound, drain, mut watch) = queue::<u8>(2);
        drop(drain);
        assert_eq!(outbound.try_send(1), Err(SendError::Closed));
        drop(outbound);
        watch.sender_gone().await;
    }

    #[tokio::test]
    async fn the_layer_ends_a_stream_after_what_is_queued() {
        let (outbound, mut drain, watch) = queue(2);
        outbound.try_send(1).unwrap();
        drop(watch);
        assert_eq!(outbound.try_send(2), Err(SendError::Closed));
        assert_eq!(drain.next().await, Some(1));
        assert_eq!(drain.next().await, None);
    }
}
