//! Replies in parts: a task feeds them through a short queue, and ends when nobody takes them any more.

use super::super::{
    backend::{Replies, Reply},
    error::ControlError,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Parts that wait for a slow caller. Few, since each may have a quarter of a mebibyte.
const PARTS_WAITING_MAX: usize = 4;

/// Where a task puts its replies.
pub(super) struct Outlet<T>(mpsc::Sender<Reply<T>>);

/// Why a task ends early.
pub(super) enum Ended {
    /// The caller went away.
    Gone,
    /// Something failed; the caller is told.
    Failed(ControlError),
}

impl<E: Into<ControlError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<T> Outlet<T> {
    /// Hands out the next part, waiting until there is room.
    pub async fn put(&self, part: T) -> Result<(), Ended> {
        self.0.send(Ok(part)).await.map_err(|_| Ended::Gone)
    }

    /// Resolves when the caller goes away.
    pub async fn gone(&self) -> Ended {
        self.0.closed().await;
        Ended::Gone
    }

    /// Waits, or ends because the caller went away.
    pub async fn pause(&self, duration: std::time::Duration) -> Result<(), Ended> {
        tokio::select! {
            () = self.0.closed() => Err(Ended::Gone),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }
}

/// The replies that `feed` puts out. It runs in a task of its own.
pub(super) fn replies<T, F>(feed: impl FnOnce(Outlet<T>) -> F) -> Replies<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PARTS_WAITING_MAX);
    let feeding = feed(Outlet(sender.clone()));
    tokio::spawn(async move {
        match feeding.await {
            Ok(()) | Err(Ended::Gone) => {}
            // Whoever would be told may have gone.
            Err(Ended::Failed(error)) => drop(sender.send(Err(error)).await),
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}
