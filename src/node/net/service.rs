//! The server side of the peer protocol: checks who calls, how often and in what state, and hands the rest on.
//!
//! It knows nothing of gossip, jobs or verification. Whatever it hands on has passed Hello and the bounds of this layer; its
//! content is validated by `wire`.

use std::{pin::Pin, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{
    blob_server::{self, BlobSource},
    connector::PeerConnection,
    event::{ConnectError, NetEvent},
    hello::{HelloError, Local},
    invites::RedeemError,
    limits::{FETCH_QUEUE_TIME, MAX_FETCHES, WATCH_QUEUE},
    link::{IncomingStream, LinkCommand},
    membership::{Invitation, Refused},
    outbound::{Drain, queue},
    reader::Events,
    switchboard::{Command, RedeemFailure, Redeemed},
    ticket::TicketKind,
};
use crate::{
    protocol::ids::{Digest, JobId},
    wire::{
        peer::{self as pb, peer_server::Peer},
        read::ReadRequest,
    },
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) struct PeerService {
    local: Arc<Local>,
    switchboard: mpsc::Sender<Command>,
    events: Events,
    blobs: Arc<dyn BlobSource>,
    /// Fetches being served, of all peers together.
    fetches: Arc<Semaphore>,
}

impl PeerService {
    pub(super) fn new(local: Arc<Local>, switchboard: mpsc::Sender<Command>, events: Events, blobs: Arc<dyn BlobSource>) -> Self {
        Self { local, switchboard, events, blobs, fetches: Arc::new(Semaphore::new(MAX_FETCHES)) }
    }

    async fn ask_switchboard<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Status> {
        let (done, answer) = oneshot::channel();
        self.switchboard.send(command(done)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }

    async fn greet(&self, connection: &PeerConnection, said: &pb::HelloRequest) -> Result<(), Status> {
        let hello = self.local.judge_request(connection, said).map_err(hello_refused)?;
        let connection = connection.clone();
        self.ask_switchboard(|done| Command::Admit { connection, hello, done }).await?.map_err(|reason| not_admitted(&reason))
    }

    /// What a redeemed token gives its guest.
    fn welcome(&self, guest: &PeerConnection, redeemed: Redeemed) -> pb::JoinResponse {
        let membership = &self.local.membership;
        let secret = |secret: &Option<super::membership::Secret>| secret.as_ref().map_or_else(Vec::new, |s| s.expose().to_vec());
        let (household_secret, invitation) = match redeemed.kind {
            TicketKind::Own => (secret(&membership.household), None),
            TicketKind::Guest | TicketKind::Friend => {
                let invitation = Invitation::issue(&self.local.endpoint.identity, membership.grid, guest.peer());
                (Vec::new(), Some(invitation.to_wire()))
            }
        };
        let contact = |(peer, contact): &(crate::protocol::ids::PeerId, super::contact::Contact)| pb::Contact {
            peer: peer.as_bytes().to_vec().into(),
            hint: contact.encode().into(),
        };
        let contacts = redeemed.contacts.iter().map(|known| prost::Message::encode_to_vec(&contact(known)).into()).collect();
        pb::JoinResponse {
            grid_secret: secret(&membership.grid_secret).into(),
            household_secret: household_secret.into(),
            invitation,
            contacts,
        }
    }

    async fn hand_over<T>(
        &self,
        connection: &PeerConnection,
        stream: impl FnOnce(oneshot::Sender<Result<Drain<T>, Status>>) -> IncomingStream,
    ) -> Result<Answers<T>, Status>
    where
        T: Send + 'static,
    {
        let link = connection.link().ok_or_else(no_hello)?;
        let (reply, answer) = oneshot::channel();
        let command = LinkCommand::Incoming(connection.quic().stable_id(), Box::new(stream(reply)));
        link.send(command).await.map_err(|_| ending())?;
        let drain = answer.await.map_err(|_| ending())??;
        Ok(Box::pin(drain.map(Ok)))
    }
}

/// The connection that a request came on, if it may call at all.
fn caller<T>(request: &Request<T>) -> Result<PeerConnection, Status> {
    let connection = request.extensions().get::<PeerConnection>().ok_or_else(|| Status::internal("no connection"))?;
    if !connection.may_call() {
        return Err(Status::resource_exhausted("too many calls on this connection"));
    }
    Ok(connection.clone())
}

/// The same, and the caller has said Hello.
fn member<T>(request: &Request<T>) -> Result<PeerConnection, Status> {
    let connection = caller(request)?;
    if connection.link().is_some() { Ok(connection) } else { Err(no_hello()) }
}

fn no_hello() -> Status {
    Status::failed_precondition("say Hello first")
}

fn ending() -> Status {
    Status::unavailable("the connection or the node is ending")
}

fn hello_refused(error: HelloError) -> Status {
    match error {
        HelloError::Refused(refused @ (Refused::AnotherGrid | Refused::NoProof | Refused::BadInvitation)) => {
            Status::permission_denied(refused.to_string())
        }
        HelloError::Malformed(what) => Status::invalid_argument(what),
    }
}

fn not_admitted(reason: &ConnectError) -> Status {
    match reason {
        ConnectError::Shunned | ConnectError::TooManyLinks | ConnectError::Busy => Status::resource_exhausted(reason.to_string()),
        ConnectError::Ourselves | ConnectError::NotAKey | ConnectError::Malformed(_) => Status::invalid_argument(reason.to_string()),
        ConnectError::RefusedByUs(_) | ConnectError::RefusedByPeer(_) => Status::permission_denied(reason.to_string()),
        ConnectError::Unreachable(_) | ConnectError::TimedOut | ConnectError::ShuttingDown => Status::unavailable(reason.to_string()),
    }
}

fn not_redeemed(failure: &RedeemFailure) -> Status {
    match failure {
        RedeemFailure::Void(RedeemError::Unknown) => Status::not_found(failure.to_string()),
        RedeemFailure::Void(RedeemError::Expired) => Status::out_of_range(failure.to_string()),
        RedeemFailure::Void(RedeemError::UsedUp) => Status::already_exists(failure.to_string()),
        RedeemFailure::Storage => Status::unavailable(failure.to_string()),
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        let connection = caller(&request)?;
        if !connection.begin_hello() {
            return Err(Status::already_exists("there was a Hello on this connection"));
        }
        let greeted = self.greet(&connection, request.get_ref()).await;
        if greeted.is_err() {
            connection.hello_refused();
        }
        greeted.map(|()| Response::new(self.local.response(connection.peer())))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinResponse>, Status> {
        let connection = caller(&request)?;
        let token: [u8; 16] = request.get_ref().token[..].try_into().map_err(|_| Status::invalid_argument("a token has 16 bytes"))?;
        let guest = connection.peer();
        let redeemed = self.ask_switchboard(|done| Command::Redeem { token, guest, done }).await?;
        let redeemed = redeemed.map_err(|failure| not_redeemed(&failure))?;
        Ok(Response::new(self.welcome(&connection, redeemed)))
    }

    type GossipStream = Answers<pb::GossipMessage>;

    async fn gossip(&self, request: Request<Streaming<pb::GossipMessage>>) -> Result<Response<Self::GossipStream>, Status> {
        let connection = member(&request)?;
        let inbound = request.into_inner();
        Ok(Response::new(self.hand_over(&connection, |reply| IncomingStream::Gossip(inbound, reply)).await?))
    }

    type WorkStream = Answers<pb::CoordinatorMessage>;

    async fn work(&self, request: Request<Streaming<pb::WorkerMessage>>) -> Result<Response<Self::WorkStream>, Status> {
        let connection = member(&request)?;
        let inbound = request.into_inner();
        Ok(Response::new(self.hand_over(&connection, |reply| IncomingStream::Work(inbound, reply)).await?))
    }

    type FetchBlobStream = Answers<pb::BlobChunk>;

    async fn fetch_blob(&self, request: Request<pb::FetchBlobRequest>) -> Result<Response<Self::FetchBlobStream>, Status> {
        let connection = member(&request)?;
        let pb::FetchBlobRequest { digest, offset } = request.into_inner();
        let digest = Digest::try_from(&digest[..]).map_err(|_| Status::invalid_argument("a digest has 32 bytes"))?;
        let ours = permit(connection.fetches())?;
        // A popular blob has a queue; it is bounded, since each connection has few fetches.
        let turn = timeout(FETCH_QUEUE_TIME, self.fetches.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or_else(|| Status::resource_exhausted("too many fetches at a time"))?;
        let permits = [ours, turn];
        Ok(Response::new(blob_server::serve(self.blobs.clone(), digest, offset, permits).await?))
    }

    type KeepStream = Answers<pb::KeeperMessage>;

    async fn keep(&self, request: Request<Streaming<pb::KeepMessage>>) -> Result<Response<Self::KeepStream>, Status> {
        let connection = member(&request)?;
        let inbound = request.into_inner();
        Ok(Response::new(self.hand_over(&connection, |reply| IncomingStream::Keep(inbound, reply)).await?))
    }

    type ReadJobStream = Answers<pb::ReadJobPart>;

    async fn read_job(&self, request: Request<pb::ReadJobRequest>) -> Result<Response<Self::ReadJobStream>, Status> {
        let connection = member(&request)?;
        let asked = ReadRequest::try_from(request.into_inner())?;
        let permit = permit(connection.watches())?;
        let (outbound, drain, watch) = queue(WATCH_QUEUE);
        let event = NetEvent::ReadRequested { peer: connection.peer(), request: asked, outbound };
        self.events.send(event).await.map_err(|_| ending())?;
        let answers = drain.map(move |part| {
            // Both live as long as the stream.
            let _held = (&permit, &watch);
            Ok(part)
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type WatchJobStream = Answers<pb::JobProgress>;

    async fn watch_job(&self, request: Request<pb::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let connection = member(&request)?;
        let job = JobId::try_from(&request.get_ref().job[..]).map_err(|_| Status::invalid_argument("a job id has 32 bytes"))?;
        let permit = permit(connection.watches())?;
        let (outbound, drain, watch) = queue(WATCH_QUEUE);
        let event = NetEvent::WatchRequested { peer: connection.peer(), job, outbound };
        self.events.send(event).await.map_err(|_| ending())?;
        let answers = drain.map(move |progress| {
            // Both live as long as the stream.
            let _held = (&permit, &watch);
            Ok(progress)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn permit(of: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    of.try_acquire_owned().map_err(|_| Status::resource_exhausted("too many such calls at a time"))
}
