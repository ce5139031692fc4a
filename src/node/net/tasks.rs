//! The tasks of one owner, each with its purpose, so that even one that panics is known for what it was.

use std::collections::{HashMap, VecDeque};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// How a task ended.
#[derive(Debug)]
pub(super) enum Finished<P, T> {
    /// With a result.
    Done(T),
    /// By a panic, or cut off by somebody else.
    Broken(P, JoinError),
}

/// Running tasks; dropping this aborts them.
#[derive(Debug)]
pub(super) struct Tasks<P, T> {
    running: JoinSet<T>,
    purposes: HashMap<Id, P>,
    /// Ended while another one was awaited.
    early: VecDeque<Result<(Id, T), JoinError>>,
}

impl<P, T: Send + 'static> Tasks<P, T> {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), purposes: HashMap::new(), early: VecDeque::new() }
    }

    pub(super) fn spawn(&mut self, purpose: P, task: impl Future<Output = T> + Send + 'static) -> AbortHandle {
        let handle = self.running.spawn(task);
        self.purposes.insert(handle.id(), purpose);
        handle
    }

    /// The next task to end; waits for ever while there is none. Nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Finished<P, T> {
        loop {
            let ended = match self.early.pop_front() {
                Some(ended) => ended,
                None => match self.running.join_next_with_id().await {
                    Some(ended) => ended,
                    None => core::future::pending().await,
                },
            };
            let purpose = self.purposes.remove(&id_of(&ended));
            match (ended, purpose) {
                (Ok((_, done)), _) => return Finished::Done(done),
                (Err(error), Some(purpose)) => return Finished::Broken(purpose, error),
                (Err(_), None) => {}
            }
        }
    }

    /// Aborts a task and waits until it does nothing any more; what it came to is dropped.
    pub(super) async fn stop(&mut self, task: &AbortHandle) {
        task.abort();
        self.purposes.remove(&task.id());
        if let Some(at) = self.early.iter().position(|ended| id_of(ended) == task.id()) {
            self.early.remove(at);
            return;
        }
        while let Some(ended) = self.running.join_next_with_id().await {
            if id_of(&ended) == task.id() {
                return;
            }
            self.early.push_back(ended);
        }
    }

    /// Aborts all tasks and waits for their end.
    pub(super) async fn shutdown(mut self) {
        self.running.shutdown().await;
    }
}

fn id_of<T>(ended: &Result<(Id, T), JoinError>) -> Id {
    ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_stopped_task_is_not_heard_of_and_the_others_are() {
        let mut tasks: Tasks<&str, u8> = Tasks::new();
        let (go, gone) = oneshot::channel::<()>();
        let stopped = tasks.spawn("stopped", core::future::pending());
        tasks.spawn("done", async { 7 });
        let panicking = tasks.spawn("panics", async move {
            gone.await.unwrap();
            panic!("on purpose")
        });
        tasks.stop(&stopped).await;
        assert!(matches!(tasks.next().await, Finished::Done(7)));
        go.send(()).unwrap();
        assert!(matches!(tasks.next().await, Finished::Broken("panics", _)));
        // Stopping what has ended already waits for nothing.
        tasks.stop(&panicking).await;
        tasks.shutdown().await;
    }
}
