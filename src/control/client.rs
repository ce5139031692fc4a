//! The client of the local API, for every face that is written in Rust. Errors are [`ControlError`]s, whatever their origin.

use super::{
    backend::Reply,
    endpoint::{Endpoint, no_node},
    error::{ControlError, Kind},
};
use crate::wire::control::{control_client::ControlClient, *};
use futures_util::Stream;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tonic::{
    Request, metadata::AsciiMetadataValue, service::Interceptor, service::interceptor::InterceptedService, transport::Channel,
    transport::Uri,
};

/// How long the loopback connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What a unary call may take; a little longer than the node gives itself, so that its own words arrive.
const CALL_DEADLINE: Duration = Duration::from_secs(65);
/// The most bytes of a message from the node: a page of jobs or units.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A connection to the node of one data directory.
#[derive(Clone, Debug)]
pub struct Client {
    grpc: ControlClient<InterceptedService<Channel, Token>>,
    data_dir: PathBuf,
}

/// Adds the token to each call.
#[derive(Clone, Debug)]
struct Token(AsciiMetadataValue);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A reply in parts; see [`Incoming::next`].
#[derive(Debug)]
pub struct Incoming<T> {
    stream: tonic::Streaming<T>,
    data_dir: PathBuf,
}

impl<T> Incoming<T> {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// The node ended the stream with an error, or went away.
    pub async fn next(&mut self) -> Reply<Option<T>> {
        self.stream.message().await.map_err(|status| from_status(status, &self.data_dir))
    }
}

impl Client {
    /// Connects to the node of `data_dir`.
    ///
    /// # Errors
    /// No node runs there (its file is missing or stale), or the file may not be read.
    pub async fn connect(data_dir: &Path) -> Reply<Self> {
        let endpoint = Endpoint::read(data_dir)?;
        let stale = || no_node(data_dir, "its control.json is stale: the node that wrote it does not answer");
        let uri: Uri = format!("http://127.0.0.1:{}", endpoint.port).parse().map_err(|_| stale())?;
        let mut token = AsciiMetadataValue::try_from(format!("Bearer {}", endpoint.token)).map_err(|_| stale())?;
        token.set_sensitive(true);
        let channel = Channel::builder(uri).connect_timeout(CONNECT_DEADLINE).connect().await.map_err(|_| stale())?;
        let grpc = ControlClient::with_interceptor(channel, Token(token)).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { grpc, data_dir: data_dir.to_owned() })
    }

    /// This node.
    ///
    /// # Errors
    /// As the node says; the same holds for each method below.
    pub async fn status(&mut self) -> Reply<Status> {
        answer(&self.data_dir, self.grpc.get_status(timed(GetStatusRequest {})).await)
    }

    /// The peers that it knows.
    pub async fn peers(&mut self) -> Reply<Vec<PeerView>> {
        Ok(answer(&self.data_dir, self.grpc.list_peers(timed(ListPeersRequest {})).await)?.peers)
    }

    /// Whom it takes at their word.
    pub async fn trusted(&mut self) -> Reply<Vec<Trusted>> {
        Ok(answer(&self.data_dir, self.grpc.list_trusted(timed(ListTrustedRequest {})).await)?.trusted)
    }

    /// Marks a peer as a friend, or no longer.
    pub async fn trust(&mut self, request: TrustPeerRequest) -> Reply<TrustPeerResponse> {
        answer(&self.data_dir, self.grpc.trust_peer(timed(request)).await)
    }

    /// Makes a ticket.
    pub async fn invite(&mut self, request: CreateInviteRequest) -> Reply<CreateInviteResponse> {
        answer(&self.data_dir, self.grpc.create_invite(timed(request)).await)
    }

    /// Redeems a ticket.
    pub async fn join(&mut self, ticket: String) -> Reply<JoinGridResponse> {
        answer(&self.data_dir, self.grpc.join_grid(timed(JoinGridRequest { ticket })).await)
    }

    /// Submits a job: its description, blobs, units, commit. There is no deadline: inputs may be large.
    pub async fn submit(&mut self, parts: impl Stream<Item = SubmitRequest> + Send + 'static) -> Reply<SubmitResponse> {
        answer(&self.data_dir, self.grpc.submit_job(parts).await)
    }

    /// One page of jobs, newest first; `page_token` is empty for the first.
    pub async fn jobs(&mut self, request: ListJobsRequest) -> Reply<ListJobsResponse> {
        answer(&self.data_dir, self.grpc.list_jobs(timed(request)).await)
    }

    /// One job.
    pub async fn job(&mut self, job: &str) -> Reply<Job> {
        answer(&self.data_dir, self.grpc.get_job(timed(GetJobRequest { job: job.to_owned() })).await)
    }

    /// A job, at each change.
    pub async fn watch(&mut self, job: &str) -> Reply<Incoming<Job>> {
        let stream = answer(&self.data_dir, self.grpc.watch_job(WatchJobRequest { job: job.to_owned() }).await)?;
        Ok(self.incoming(stream))
    }

    /// Cancels a job.
    pub async fn cancel(&mut self, job: &str) -> Reply<Job> {
        answer(&self.data_dir, self.grpc.cancel_job(timed(CancelJobRequest { job: job.to_owned() })).await)
    }

    /// Runs failed units again.
    pub async fn retry(&mut self, job: &str) -> Reply<Job> {
        answer(&self.data_dir, self.grpc.retry_job(timed(RetryJobRequest { job: job.to_owned() })).await)
    }

    /// Outputs in unit order.
    pub async fn results(&mut self, request: GetResultsRequest) -> Reply<Incoming<ResultChunk>> {
        let stream = answer(&self.data_dir, self.grpc.get_results(request).await)?;
        Ok(self.incoming(stream))
    }

    /// One page of units.
    pub async fn units(&mut self, request: ListUnitsRequest) -> Reply<ListUnitsResponse> {
        answer(&self.data_dir, self.grpc.list_units(timed(request)).await)
    }

    /// Kept standard error.
    pub async fn logs(&mut self, request: GetLogsRequest) -> Reply<Incoming<LogChunk>> {
        let stream = answer(&self.data_dir, self.grpc.get_logs(request).await)?;
        Ok(self.incoming(stream))
    }

    /// Why a job, or (`None`) this node, is where it is.
    pub async fn explain(&mut self, job: Option<&str>) -> Reply<Vec<Reason>> {
        let request = ExplainRequest { job: job.unwrap_or_default().to_owned() };
        Ok(answer(&self.data_dir, self.grpc.explain(timed(request)).await)?.reasons)
    }

    /// Checks a job's results here.
    pub async fn verify(&mut self, request: VerifyJobRequest) -> Reply<Incoming<VerifyProgress>> {
        let stream = answer(&self.data_dir, self.grpc.verify_job(request).await)?;
        Ok(self.incoming(stream))
    }

    /// The job as a bundle.
    pub async fn export(&mut self, request: ExportBundleRequest) -> Reply<Incoming<BundleChunk>> {
        let stream = answer(&self.data_dir, self.grpc.export_bundle(request).await)?;
        Ok(self.incoming(stream))
    }

    /// Stops lending, for a time or until resumed.
    pub async fn pause(&mut self, duration: Option<Duration>) -> Reply<Status> {
        let for_ms = duration.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX).max(1));
        answer(&self.data_dir, self.grpc.pause(timed(PauseRequest { for_ms })).await)
    }

    /// Lends again.
    pub async fn resume(&mut self) -> Reply<Status> {
        answer(&self.data_dir, self.grpc.resume(timed(ResumeRequest {})).await)
    }

    /// Stops the node.
    pub async fn shutdown(&mut self, request: ShutdownRequest) -> Reply<()> {
        answer(&self.data_dir, self.grpc.shutdown(timed(request)).await).map(|ShutdownResponse {}| ())
    }

    fn incoming<T>(&self, stream: tonic::Streaming<T>) -> Incoming<T> {
        Incoming { stream, data_dir: self.data_dir.clone() }
    }
}

fn answer<T>(data_dir: &Path, answer: Result<tonic::Response<T>, tonic::Status>) -> Reply<T> {
    answer.map(tonic::Response::into_inner).map_err(|status| from_status(status, data_dir))
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_DEADLINE);
    request
}

/// What a status means here: a broken connection is a node that went away, not a riddle of the transport.
fn from_status(status: tonic::Status, data_dir: &Path) -> ControlError {
    let transport = status.details().is_empty();
    let error = ControlError::from(status);
    match error.kind {
        Kind::Unreachable | Kind::Internal if transport => {
            let gone = ControlError::new(Kind::Unreachable, "NODE_GONE", format!("the node on {} does not answer", data_dir.display()));
            gone.cause(error.message).hint("manyhands status").hint("manyhands up")
        }
        Kind::Internal
        | Kind::Usage
        | Kind::Unreachable
        | Kind::NotFound
        | Kind::Denied
        | Kind::Failed
        | Kind::Cancelled
        | Kind::Unverified
        | Kind::Conflict
        | Kind::Exhausted
        | Kind::TimeOut => error,
    }
}
