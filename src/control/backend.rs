//! What the local API asks of a node. `node` implements it; tests use a fake one.
//!
//! Requests and replies are the messages of `manyhands.control.v1`. The server has bounded and checked their form (sizes,
//! order of a submission's parts) before a method is called; their meaning (does this job exist, is this ticket valid) is
//! the backend's.

use super::{error::ControlError, submission::SubmitParts};
use crate::wire::control::{
    BundleChunk, CreateInviteRequest, CreateInviteResponse, ExplainResponse, ExportBundleRequest, GetLogsRequest, GetResultsRequest, Job,
    JobSpec, JoinGridResponse, ListJobsRequest, ListJobsResponse, ListUnitsRequest, ListUnitsResponse, LogChunk, PeerView, ResultChunk,
    Status, SubmitResponse, TrustPeerRequest, TrustPeerResponse, Trusted, VerifyJobRequest, VerifyProgress,
};
use futures_util::Stream;
use std::{pin::Pin, time::Duration};

/// The result of a call.
pub type Reply<T> = Result<T, ControlError>;

/// A reply in parts. Dropped when the caller goes away: whatever feeds it must then stop.
pub type Replies<T> = Pin<Box<dyn Stream<Item = Reply<T>> + Send>>;

/// A node, as the local API sees it.
///
/// `job` is a reference as people give it: see [`super::reference`]. A method may be dropped at any await: a caller that goes
/// away must leave nothing half done. Calls run concurrently.
#[tonic::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// This node: identity, network, slots, what it waits for.
    async fn status(&self) -> Reply<Status>;

    /// The peers that this node knows, connected ones first.
    async fn peers(&self) -> Reply<Vec<PeerView>>;

    /// Whom this node takes at their word.
    async fn trusted(&self) -> Reply<Vec<Trusted>>;

    /// Marks a peer as a friend, or no longer.
    async fn trust(&self, request: TrustPeerRequest) -> Reply<TrustPeerResponse>;

    /// Makes a ticket. Kind is set; `valid_ms` is within a minute and 30 days.
    async fn invite(&self, request: CreateInviteRequest) -> Reply<CreateInviteResponse>;

    /// Redeems a ticket. Idempotent.
    async fn join(&self, ticket: String) -> Reply<JoinGridResponse>;

    /// Takes a job in. Nothing is kept unless `parts` ends with `Ok(None)`: an error means that the caller broke the rules
    /// or went away. The same job twice is one job.
    async fn submit(&self, spec: JobSpec, parts: SubmitParts) -> Reply<SubmitResponse>;

    /// The jobs of this node and those that it keeps, newest first. `page_size` is within 1 and 1000.
    async fn jobs(&self, request: ListJobsRequest) -> Reply<ListJobsResponse>;

    /// One job.
    async fn job(&self, job: &str) -> Reply<Job>;

    /// The job now, and at each change, at most four times a second, until it has ended; its last item is the ended job.
    async fn watch(&self, job: &str) -> Reply<Replies<Job>>;

    /// Cancels a job; one that has ended already stays as it is.
    async fn cancel(&self, job: &str) -> Reply<Job>;

    /// Runs the failed units again.
    async fn retry(&self, job: &str) -> Reply<Job>;

    /// Outputs in unit order. Without `partial` or `follow` it fails with [`ControlError::unverified`] before the first chunk
    /// when a unit has no verified result. `follow` waits for units as they become verified.
    async fn results(&self, request: GetResultsRequest) -> Reply<Replies<ResultChunk>>;

    /// Units with their votes. `page_size` is within 1 and 1000.
    async fn units(&self, request: ListUnitsRequest) -> Reply<ListUnitsResponse>;

    /// Kept standard error, in unit order.
    async fn logs(&self, request: GetLogsRequest) -> Reply<Replies<LogChunk>>;

    /// Why the job is where it is; without one, why this node is.
    async fn explain(&self, job: Option<&str>) -> Reply<ExplainResponse>;

    /// Checks receipts and re-runs a sample of units here; the last item has `finished` set.
    async fn verify(&self, request: VerifyJobRequest) -> Reply<Replies<VerifyProgress>>;

    /// The job as a bundle, bit by bit. Fails with its first item when it is too large, and digests alone are not asked for.
    async fn export(&self, request: ExportBundleRequest) -> Reply<Replies<BundleChunk>>;

    /// Stops lending, for a time or (`None`) until resumed.
    async fn pause(&self, duration: Option<Duration>) -> Reply<Status>;

    /// Lends again.
    async fn resume(&self) -> Reply<Status>;

    /// Begins to stop the node and returns; the server is shut down by the node's own run loop.
    async fn shutdown(&self, how: Stop) -> Reply<()>;
}

/// How to stop a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Hand running units back first.
    Drain,
    /// At once.
    Now,
}
