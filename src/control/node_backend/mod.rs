//! The local API over a running node: looks at its state, hands it events, reads its store.
//!
//! It decides nothing about jobs or peers. What it keeps itself is small: when jobs began and ended, how fast they go, and
//! when a pause ends (`chronicle`, `pause`). A node may end and begin anew in another grid while a call runs, so no part
//! holds a [`Handle`] for longer than one step; each step asks for the current one.

mod chronicle;

mod explain;

mod export;

mod grid;

mod jobs;

mod kept;

mod logs;

mod mend;
mod own_slot;

mod others;

mod pause;

mod reduce;

mod rerun;

mod results;

mod status;

mod stream;

mod submit;

mod trust;

mod units;

mod verify;

use super::{
    backend::{Backend, Replies, Reply, Stop},
    error::{ControlError, Kind},
    submission::SubmitParts,
};
use crate::{
    node::{Closed, Handle, Node},
    store::{Store, StoreError},
    wire::control::{
        BundleChunk, CreateInviteRequest, CreateInviteResponse, ExplainResponse, ExportBundleRequest, GetLogsRequest, GetResultsRequest,
        Job, JobSpec, JoinGridResponse, ListJobsRequest, ListJobsResponse, ListUnitsRequest, ListUnitsResponse, LogChunk, PeerView,
        ResultChunk, Status, SubmitResponse, TrustPeerRequest, TrustPeerResponse, Trusted, VerifyJobRequest, VerifyProgress,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long a call waits for a node that begins anew.
const RESTART_WAIT: Duration = Duration::from_secs(10);

/// The local API of the node that `current` holds. Cheap to clone.
#[derive(Clone)]
pub struct NodeBackend(Arc<Shared>);

struct Shared {
    current: watch::Receiver<Option<Handle>>,
    chronicle: chronicle::Chronicle,
    pause: pause::Pause,
    /// One ticket is redeemed at a time.
    joining: tokio::sync::Mutex<()>,
}

impl NodeBackend {
    /// A backend for the node that `current` holds; there is a moment without one while the node begins anew. Starts a task
    /// that follows running jobs, which ends with the last clone or with the sender of `current`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(current: watch::Receiver<Option<Handle>>) -> Self {
        let shared = Shared {
            current,
            chronicle: chronicle::Chronicle::default(),
            pause: pause::Pause::default(),
            joining: tokio::sync::Mutex::default(),
        };
        let shared = Arc::new(shared);
        tokio::spawn(chronicle::follow(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// The running node; waits for a while when it begins anew.
    async fn handle(&self) -> Reply<Handle> {
        let mut current = self.0.current.clone();
        let is_up = |handle: &Option<Handle>| handle.as_ref().is_some_and(|handle| !handle.is_ending());
        match tokio::time::timeout(RESTART_WAIT, current.wait_for(is_up)).await {
            Ok(Ok(handle)) => handle.clone().ok_or_else(not_running),
            Ok(Err(_)) | Err(_) => Err(not_running()),
        }
    }

    /// Looks at the running node. `look` must not wait for anything.
    async fn view<T: Send + 'static>(&self, look: impl FnOnce(&Node) -> T + Send + 'static) -> Reply<T> {
        Ok(self.handle().await?.view(look).await?)
    }

    /// Reads from the store where blocking is allowed.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Store) -> Reply<T> + Send + 'static) -> Reply<T> {
        self.handle().await?.store.blocking(read).await
    }
}

fn not_running() -> ControlError {
    ControlError::new(Kind::Unreachable, "NODE_ENDING", "the node is stopping or starting").hint("manyhands status")
}

impl From<Closed> for ControlError {
    fn from(Closed: Closed) -> Self {
        not_running()
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        let (kind, reason) = match &error {
            StoreError::DiskFull => (Kind::Exhausted, "DISK_FULL"),
            StoreError::Closed => (Kind::Unreachable, "NODE_ENDING"),
            StoreError::TooLong { .. } => (Kind::Usage, "TOO_LARGE"),
            StoreError::NoSuchJob(_) => (Kind::NotFound, "NOT_FOUND_JOB"),
            StoreError::InUse { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Damaged { .. }
            | StoreError::Io { .. }
            | StoreError::Database(_)
            | StoreError::BadRow { .. }
            | StoreError::WrongDigest { .. } => (Kind::Internal, "STORE"),
        };
        let made = Self::new(kind, reason, error.to_string());
        let made = match std::error::Error::source(&error) {
            Some(source) => made.cause(source.to_string()),
            None => made,
        };
        error.hint().into_iter().fold(made, Self::hint)
    }
}

/// Milliseconds of a duration, as the API counts them.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[tonic::async_trait]
impl Backend for NodeBackend {
    async fn status(&self) -> Reply<Status> {
        self.status_now().await
    }

    async fn peers(&self) -> Reply<Vec<PeerView>> {
        self.peer_views().await
    }

    async fn trusted(&self) -> Reply<Vec<Trusted>> {
        self.list_trusted().await
    }

    async fn trust(&self, request: TrustPeerRequest) -> Reply<TrustPeerResponse> {
        self.mark(request).await
    }

    async fn invite(&self, request: CreateInviteRequest) -> Reply<CreateInviteResponse> {
        self.make_ticket(request).await
    }

    async fn join(&self, ticket: String) -> Reply<JoinGridResponse> {
        self.redeem(&ticket).await
    }

    async fn submit(&self, spec: JobSpec, parts: SubmitParts) -> Reply<SubmitResponse> {
        self.take_in(spec, parts).await
    }

    async fn jobs(&self, request: ListJobsRequest) -> Reply<ListJobsResponse> {
        self.job_page(request).await
    }

    async fn job(&self, job: &str) -> Reply<Job> {
        self.any_job(job).await
    }

    async fn watch(&self, job: &str) -> Reply<Replies<Job>> {
        self.watch_any(job).await
    }

    async fn cancel(&self, job: &str) -> Reply<Job> {
        self.cancel_own(job).await
    }

    async fn retry(&self, job: &str) -> Reply<Job> {
        self.retry_own(job).await
    }

    async fn results(&self, request: GetResultsRequest) -> Reply<Replies<ResultChunk>> {
        self.stream_results(request).await
    }

    async fn units(&self, request: ListUnitsRequest) -> Reply<ListUnitsResponse> {
        self.unit_page(request).await
    }

    async fn logs(&self, request: GetLogsRequest) -> Reply<Replies<LogChunk>> {
        self.stream_logs(request).await
    }

    async fn explain(&self, job: Option<&str>) -> Reply<ExplainResponse> {
        self.reasons(job).await
    }

    async fn verify(&self, request: VerifyJobRequest) -> Reply<Replies<VerifyProgress>> {
        self.stream_verification(request).await
    }

    async fn export(&self, request: ExportBundleRequest) -> Reply<Replies<BundleChunk>> {
        self.stream_bundle(request).await
    }

    async fn pause(&self, duration: Option<Duration>) -> Reply<Status> {
        self.begin_pause(duration).await?;
        self.status_now().await
    }

    async fn resume(&self) -> Reply<Status> {
        self.end_pause().await?;
        self.status_now().await
    }

    /// What still runs when the node ends is handed back by either way: leases end with the streams, and are given to others at once.
    async fn shutdown(&self, how: Stop) -> Reply<()> {
        let handle = self.handle().await?;
        match how {
            Stop::Drain => handle.drain(),
            Stop::Now => handle.stop(),
        }
        Ok(())
    }
}
