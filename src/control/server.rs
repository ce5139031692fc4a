//! The gRPC server: loopback only, token-authenticated, every message bounded, every unary call with a deadline.
//!
//! Health and reflection (v1 and v1alpha) need no token: they tell nothing about this node but that it serves.

use super::{
    backend::{Backend, Replies, Reply, Stop},
    endpoint::{Endpoint, Published},
    error::{ControlError, Kind},
    submission::SubmitParts,
};
use crate::wire::{
    DESCRIPTORS,
    control::{control_server, *},
};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use std::{future::Future, io, net::Ipv4Addr, path::Path, pin::Pin, sync::Arc, time::Duration};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, service::Interceptor, service::interceptor::InterceptedService, transport};

/// The most bytes of one message that a client sends; a part of a submission is a quarter of it.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most calls at once on one connection.
const STREAMS_MAX: u32 = 256;
/// What a call that asks only this node may take; longer means that the node is stuck.
const LOCAL_DEADLINE: Duration = Duration::from_secs(30);
/// What joining may take: it reaches for a peer.
const JOIN_DEADLINE: Duration = Duration::from_secs(60);
/// How long open streams may go on after the node was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// The most items of a page, and what is given when the caller names none.
const PAGE_ITEMS_MAX: u32 = 1000;
const PAGE_ITEMS_DEFAULT: u32 = 200;
const TICKET_VALID_MS: std::ops::RangeInclusive<u64> = 60_000..=30 * 86_400_000;
const TICKET_VALID_MS_DEFAULT: u64 = 86_400_000;
const TICKET_BYTES_MAX: usize = 16 << 10;

/// Why the local API could not start or ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No port on the loopback interface could be had.
    #[error("the local API cannot listen on the loopback interface")]
    Listen(#[source] io::Error),
    /// `control.json` could not be written.
    #[error("the local API cannot write its address to the data directory")]
    Publish(#[source] io::Error),
    /// The reflection descriptors are broken: a defect of the build.
    #[error("the descriptors of the local API are not valid")]
    Descriptors(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the local API stopped")]
    Transport(#[source] transport::Error),
}

/// A bound server: its address is published, calls are answered once [`Server::run`] is awaited.
#[derive(Debug)]
pub struct Server {
    listener: tokio::net::TcpListener,
    endpoint: Endpoint,
    published: Published,
}

impl Server {
    /// Takes an ephemeral port and publishes it with a fresh token in `data_dir`.
    ///
    /// # Errors
    /// The port or the file cannot be had.
    pub async fn bind(data_dir: &Path) -> Result<Self, ServeError> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(ServeError::Listen)?;
        let port = listener.local_addr().map_err(ServeError::Listen)?.port();
        let endpoint = Endpoint::new(port).map_err(ServeError::Publish)?;
        let published = endpoint.publish(data_dir).map_err(ServeError::Publish)?;
        Ok(Self { listener, endpoint, published })
    }

    /// Where it listens, and its token.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Answers calls until `stop` resolves; open streams then have two seconds to end. The published file goes away.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn run(self, backend: Arc<dyn Backend>, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let service = control_server::ControlServer::new(Service { backend })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(16 * MESSAGE_BYTES_MAX);
        let guarded = InterceptedService::new(service, TokenCheck { expected: format!("Bearer {}", self.endpoint.token) });
        let (health_reporter, health) = tonic_health::server::health_reporter();
        health_reporter.set_serving::<control_server::ControlServer<Service>>().await;
        let reflection = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        let router = transport::Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .add_service(guarded)
            .add_service(health)
            .add_service(reflection().build_v1().map_err(ServeError::Descriptors)?)
            .add_service(reflection().build_v1alpha().map_err(ServeError::Descriptors)?);
        let stop = stop.shared();
        let grace = stop.clone().then(|()| tokio::time::sleep(STOP_GRACE));
        let serving = router.serve_with_incoming_shutdown(TcpListenerStream::new(self.listener), stop);
        let ended = tokio::select! {
            ended = serving => ended.map_err(ServeError::Transport),
            () = grace => Ok(()),
        };
        drop(self.published);
        ended
    }
}

/// Lets a call pass that carries the token.
#[derive(Clone)]
struct TokenCheck {
    expected: String,
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, tonic::Status> {
        let given = request.metadata().get("authorization").map_or(&[][..], |value| value.as_bytes());
        if equal_in_constant_time(given, self.expected.as_bytes()) {
            return Ok(request);
        }
        let error = ControlError::new(Kind::Denied, "WRONG_TOKEN", "the node refuses this token");
        Err(error.cause("the token is in control.json of the node's data directory").hint("name that directory with --data-dir").into())
    }
}

/// Whether both are equal; the time taken depends on their lengths only.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b))) == 0
}

/// The generated service over a backend: checks the form of requests, gives each a deadline.
struct Service {
    backend: Arc<dyn Backend>,
}

type Answer<T> = Result<Response<T>, tonic::Status>;
type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// Waits for a unary call for `deadline` at most.
async fn within<T>(deadline: Duration, call: impl Future<Output = Reply<T>>) -> Answer<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(reply) => Ok(Response::new(reply?)),
        Err(_) => Err(ControlError::new(Kind::TimeOut, "DEADLINE", "the node did not answer in time")
            .cause(format!("it had {} s", deadline.as_secs()))
            .hint("manyhands status")
            .into()),
    }
}

async fn stream<T: 'static>(opening: impl Future<Output = Reply<Replies<T>>>) -> Answer<Outgoing<T>> {
    let replies = within(LOCAL_DEADLINE, opening).await?.into_inner();
    Ok(Response::new(Box::pin(replies.map(|item| item.map_err(tonic::Status::from)))))
}

fn page_size(asked: u32) -> u32 {
    if asked == 0 { PAGE_ITEMS_DEFAULT } else { asked.min(PAGE_ITEMS_MAX) }
}

#[tonic::async_trait]
impl control_server::Control for Service {
    type WatchJobStream = Outgoing<Job>;
    type GetResultsStream = Outgoing<ResultChunk>;
    type GetLogsStream = Outgoing<LogChunk>;
    type VerifyJobStream = Outgoing<VerifyProgress>;
    type ExportBundleStream = Outgoing<BundleChunk>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<Status> {
        within(LOCAL_DEADLINE, self.backend.status()).await
    }

    async fn list_peers(&self, _: Request<ListPeersRequest>) -> Answer<ListPeersResponse> {
        let peers = async { Ok(ListPeersResponse { peers: self.backend.peers().await? }) };
        within(LOCAL_DEADLINE, peers).await
    }

    async fn list_trusted(&self, _: Request<ListTrustedRequest>) -> Answer<ListTrustedResponse> {
        let trusted = async { Ok(ListTrustedResponse { trusted: self.backend.trusted().await? }) };
        within(LOCAL_DEADLINE, trusted).await
    }

    async fn trust_peer(&self, request: Request<TrustPeerRequest>) -> Answer<TrustPeerResponse> {
        within(LOCAL_DEADLINE, self.backend.trust(request.into_inner())).await
    }

    async fn create_invite(&self, request: Request<CreateInviteRequest>) -> Answer<CreateInviteResponse> {
        let mut request = request.into_inner();
        if request.kind() == InviteKind::Unspecified {
            request.set_kind(InviteKind::Guest);
        }
        if request.valid_ms == 0 {
            request.valid_ms = TICKET_VALID_MS_DEFAULT;
        }
        if !TICKET_VALID_MS.contains(&request.valid_ms) {
            let error = ControlError::new(Kind::Usage, "BAD_VALIDITY", "a ticket is valid for a minute at least and 30 days at most");
            return Err(error.hint("manyhands invite --valid 1d").into());
        }
        within(LOCAL_DEADLINE, self.backend.invite(request)).await
    }

    async fn join_grid(&self, request: Request<JoinGridRequest>) -> Answer<JoinGridResponse> {
        let ticket = request.into_inner().ticket;
        if ticket.len() > TICKET_BYTES_MAX {
            return Err(ControlError::new(Kind::Usage, "BAD_TICKET", "this is not a ticket: it is too long").into());
        }
        within(JOIN_DEADLINE, self.backend.join(ticket)).await
    }

    async fn submit_job(&self, request: Request<tonic::Streaming<SubmitRequest>>) -> Answer<SubmitResponse> {
        let requests = request.into_inner().map(|item| item.map_err(ControlError::from));
        let (spec, parts) = SubmitParts::begin(requests).await?;
        Ok(Response::new(self.backend.submit(spec, parts).await?))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let request = request.into_inner();
        let request = ListJobsRequest { page_size: page_size(request.page_size), ..request };
        within(LOCAL_DEADLINE, self.backend.jobs(request)).await
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Answer<Job> {
        within(LOCAL_DEADLINE, self.backend.job(&request.into_inner().job)).await
    }

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Answer<Outgoing<Job>> {
        stream(self.backend.watch(&request.into_inner().job)).await
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Answer<Job> {
        within(LOCAL_DEADLINE, self.backend.cancel(&request.into_inner().job)).await
    }

    async fn retry_job(&self, request: Request<RetryJobRequest>) -> Answer<Job> {
        within(LOCAL_DEADLINE, self.backend.retry(&request.into_inner().job)).await
    }

    async fn get_results(&self, request: Request<GetResultsRequest>) -> Answer<Outgoing<ResultChunk>> {
        stream(self.backend.results(request.into_inner())).await
    }

    async fn list_units(&self, request: Request<ListUnitsRequest>) -> Answer<ListUnitsResponse> {
        let request = request.into_inner();
        let request = ListUnitsRequest { page_size: page_size(request.page_size), ..request };
        within(LOCAL_DEADLINE, self.backend.units(request)).await
    }

    async fn get_logs(&self, request: Request<GetLogsRequest>) -> Answer<Outgoing<LogChunk>> {
        stream(self.backend.logs(request.into_inner())).await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        let job = request.into_inner().job;
        within(LOCAL_DEADLINE, self.backend.explain(Some(job.as_str()).filter(|job| !job.is_empty()))).await
    }

    async fn verify_job(&self, request: Request<VerifyJobRequest>) -> Answer<Outgoing<VerifyProgress>> {
        stream(self.backend.verify(request.into_inner())).await
    }

    async fn export_bundle(&self, request: Request<ExportBundleRequest>) -> Answer<Outgoing<BundleChunk>> {
        stream(self.backend.export(request.into_inner())).await
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<Status> {
        let ms = request.into_inner().for_ms;
        within(LOCAL_DEADLINE, self.backend.pause((ms > 0).then(|| Duration::from_millis(ms)))).await
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Answer<Status> {
        within(LOCAL_DEADLINE, self.backend.resume()).await
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        let how = if request.into_inner().now { Stop::Now } else { Stop::Drain };
        let stopping = async { self.backend.shutdown(how).await.map(|()| ShutdownResponse {}) };
        within(LOCAL_DEADLINE, stopping).await
    }
}
