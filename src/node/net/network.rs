//! The network as the rest of the node sees it: started once, spoken to through a handle, heard through events.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot, watch,
    },
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Server};

use super::{
    accept::accept,
    blob_server::BlobSource,
    blobs::{self, BlobSink, FetchError, Fetched, Wanted},
    connector::{HTTP2_CONNECTION_WINDOW, HTTP2_FRAME, HTTP2_STREAM_WINDOW, client},
    contact::{AddressBook, Contact, Source},
    discovery::discover,
    endpoint::{LocalDiscovery, NetEndpoint},
    event::{ConnectError, NetEvent},
    hello::{Local, call_failed},
    invites::{Invites, InvitesError},
    join::{self, JoinError, Joined},
    limits::{CONNECT_TIMEOUT, EVENTS, INTAKE, MAX_CALLS_PER_STREAM, MAX_MESSAGE_BYTES, MAX_VERSION_BYTES, SWITCHBOARD_MAILBOX},
    link::{Lane, LeasedChannel, LinkCommand, LinkContext, Want},
    membership::Membership,
    reader::Events,
    service::PeerService,
    switchboard::{Command, Switchboard, unix_now},
    ticket::{Ticket, TicketKind},
};
use crate::{
    protocol::ids::{JobId, PeerId},
    wire::{
        peer::{self as pb, peer_server::PeerServer},
        read::ReadRequest,
    },
};

/// The longest header block of a request; ours have a few hundred bytes.
const HEADER_BYTES: u32 = 16 << 10;
/// How long one part of a job's results may take: a slow uplink takes ten seconds for a mebibyte.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an orderly end may take before tasks are cut off.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What the network is started with.
pub struct NetSetup {
    /// Bound before, perhaps used to redeem a ticket.
    pub endpoint: NetEndpoint,
    /// What we belong to; fixed while the network runs.
    pub membership: Membership,
    /// Open invitations.
    pub invites: Invites,
    /// The program's version, shown to people; cut to 32 bytes.
    pub version: String,
    /// Where other peers' requests for blobs are answered from.
    pub blobs: Arc<dyn BlobSource>,
}

/// The running network. End it with [`Net::shutdown`]; dropping it cuts everything off.
#[derive(Debug)]
pub struct Net {
    endpoint: NetEndpoint,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Speaks to the network. Cheap to clone; none of the methods that are not `async` ever waits.
#[derive(Clone, Debug)]
pub struct NetHandle {
    switchboard: mpsc::Sender<Command>,
    local: Arc<Local>,
}

/// A stream of a job's progress.
#[derive(Debug)]
pub struct JobWatch {
    stream: Streaming<pb::JobProgress>,
    _leased: LeasedChannel,
}

impl JobWatch {
    /// The next report; `None` when the job has ended or is not known there.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<pb::JobProgress>, ConnectError> {
        self.stream.message().await.map_err(|status| ConnectError::Unreachable(super::event::printable(status.message())))
    }
}

/// A stream of a job's results.
#[derive(Debug)]
pub struct JobReading {
    stream: Streaming<pb::ReadJobPart>,
    _leased: LeasedChannel,
}

impl JobReading {
    /// The next part; `None` behind the last, and when the job is not known there.
    ///
    /// # Errors
    /// When the connection breaks, or the peer is too slow.
    pub async fn next(&mut self) -> Result<Option<pb::ReadJobPart>, ConnectError> {
        let part = timeout(READ_TIMEOUT, self.stream.message()).await.map_err(|_| ConnectError::TimedOut)?;
        part.map_err(|status| ConnectError::Unreachable(super::event::printable(status.message())))
    }
}

/// Why no ticket could be made.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The table of invitations is full or cannot be written.
    #[error(transparent)]
    Invites(#[from] InvitesError),
    /// An own device shares the household's secret, and there is none.
    #[error("this node has no household to invite a device to")]
    NoHousehold,
    /// The network is ending.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl Net {
    /// Starts everything; events come until the network is shut down.
    pub fn start(setup: NetSetup) -> (Self, NetHandle, mpsc::Receiver<NetEvent>) {
        let NetSetup { endpoint, membership, invites, mut version, blobs } = setup;
        version.truncate(version.floor_char_boundary(MAX_VERSION_BYTES));
        let (stop, stopped) = watch::channel(false);
        let (event_sender, event_receiver) = mpsc::channel(EVENTS);
        let (intake, streams) = mpsc::channel(INTAKE);
        let (switchboard, commands) = mpsc::channel(SWITCHBOARD_MAILBOX);
        let events = Events::new(event_sender);
        let grid = membership.grid;
        let local = Arc::new(Local { endpoint: endpoint.clone(), membership, version });
        let context = Arc::new(LinkContext { local: local.clone(), intake: intake.clone(), events: events.clone() });
        let book = AddressBook::new(endpoint.lookup.clone(), endpoint.loopback());
        let service = PeerService::new(local.clone(), switchboard.clone(), events.clone(), blobs);

        let mut tasks = JoinSet::new();
        tasks.spawn(serve(service, streams, stopped.clone()));
        tasks.spawn(accept(endpoint.clone(), intake, stopped.clone()));
        tasks.spawn(Switchboard::new(context, book, invites).run(commands, stopped.clone()));
        match endpoint.local_discovery {
            LocalDiscovery::On => drop(tasks.spawn(discover(endpoint.clone(), grid, switchboard.clone(), events, stopped))),
            LocalDiscovery::Off => {}
        }
        (Self { endpoint, stop, tasks }, NetHandle { switchboard, local }, event_receiver)
    }

    /// Ends all connections, telling the peers, frees the sockets and waits for every task.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        self.endpoint.close().await;
        let ended = timeout(SHUTDOWN, async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a network task had ended abnormally");
                }
            }
        });
        if ended.await.is_err() {
            tracing::warn!("the network did not end in time and is cut off");
            self.tasks.shutdown().await;
        }
    }
}

async fn serve(
    service: PeerService,
    streams: mpsc::Receiver<std::io::Result<super::connector::PeerStream>>,
    mut stop: watch::Receiver<bool>,
) {
    let service = PeerServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let served = Server::builder()
        .max_concurrent_streams(MAX_CALLS_PER_STREAM)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .http2_max_header_list_size(HEADER_BYTES)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(streams), async move { drop(stop.wait_for(|stop| *stop).await) });
    if let Err(error) = served.await {
        tracing::error!(%error, "the peer server ended");
    }
}

impl NetHandle {
    /// This peer's name.
    pub fn peer(&self) -> PeerId {
        self.local.peer()
    }

    /// Where we can be reached, for announcements and tickets.
    pub fn contact(&self) -> Contact {
        self.local.endpoint.contact()
    }

    /// Connects to `peer`. Answered by `PeerConnected` or `ConnectFailed`; by nothing when it is connected already.
    ///
    /// # Errors
    /// When too much is asked at once, or the network is ending.
    pub fn connect(&self, peer: PeerId) -> Result<(), ConnectError> {
        self.ask(Command::Link(peer, LinkCommand::Want(Want::Connection)))
    }

    /// Opens a gossip stream, connecting first if need be. Answered by `GossipOpened`, `OpenFailed` or `ConnectFailed`; by
    /// nothing when there is one.
    ///
    /// # Errors
    /// When too much is asked at once, or the network is ending.
    pub fn open_gossip(&self, peer: PeerId) -> Result<(), ConnectError> {
        self.ask(Command::Link(peer, LinkCommand::Want(Want::Gossip)))
    }

    /// Offers our work to the coordinator `peer`, connecting first if need be. Answered by `CoordinatorOpened`, `OpenFailed` or
    /// `ConnectFailed`; by nothing when there is a stream.
    ///
    /// # Errors
    /// When too much is asked at once, or the network is ending.
    pub fn open_work(&self, peer: PeerId) -> Result<(), ConnectError> {
        self.ask(Command::Link(peer, LinkCommand::Want(Want::Coordinator)))
    }

    /// Asks `peer` to keep jobs of ours, connecting first if need be. Answered by `KeeperOpened`, `OpenFailed` or `ConnectFailed`; by
    /// nothing when there is a stream.
    ///
    /// # Errors
    /// When too much is asked at once, or the network is ending.
    pub fn open_keep(&self, peer: PeerId) -> Result<(), ConnectError> {
        self.ask(Command::Link(peer, LinkCommand::Want(Want::Keeper)))
    }

    /// Ends all connections with `peer`. Answered by the closing of its streams and `PeerDisconnected`.
    ///
    /// # Errors
    /// When too much is asked at once, or the network is ending.
    pub fn disconnect(&self, peer: PeerId) -> Result<(), ConnectError> {
        self.ask(Command::Link(peer, LinkCommand::Disconnect))
    }

    /// Remembers where `peer` is said to be.
    ///
    /// # Errors
    /// When too much is asked at once, or the network is ending.
    pub fn learn(&self, peer: PeerId, contact: Contact, source: Source) -> Result<(), ConnectError> {
        self.ask(Command::Learn(peer, contact, source))
    }

    /// Fetches a blob; see [`blobs::fetch`]. To be run in a task of its own.
    ///
    /// # Errors
    /// When no holder can give it or it cannot be stored.
    pub async fn fetch_blob<S: BlobSink>(&self, wanted: Wanted, holders: &[PeerId], sink: S) -> Result<Fetched<S>, FetchError> {
        blobs::fetch(self, wanted, holders, sink).await
    }

    /// Follows a job at its coordinator. To be run in a task of its own.
    ///
    /// # Errors
    /// When the coordinator cannot be reached or refuses.
    pub async fn watch_job(&self, coordinator: PeerId, job: JobId) -> Result<JobWatch, ConnectError> {
        let leased = self.channel(coordinator, Lane::Control).await?;
        let request = pb::WatchJobRequest { job: job.as_bytes().to_vec().into() };
        let mut client = client(leased.channel.clone());
        let answered = timeout(CONNECT_TIMEOUT, client.watch_job(request)).await.map_err(|_| ConnectError::TimedOut)?;
        let stream = answered.map_err(|status| call_failed(&leased.connection, &status))?.into_inner();
        Ok(JobWatch { stream, _leased: leased })
    }

    /// Reads a job's results at its author or a keeper. To be run in a task of its own.
    ///
    /// # Errors
    /// When the peer cannot be reached, refuses, or has nothing of the job.
    pub async fn read_job(&self, holder: PeerId, request: ReadRequest) -> Result<JobReading, ConnectError> {
        let leased = self.channel(holder, Lane::Control).await?;
        let mut client = client(leased.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = pb::ReadJobRequest::from(request);
        let answered = timeout(CONNECT_TIMEOUT, client.read_job(request)).await.map_err(|_| ConnectError::TimedOut)?;
        let stream = answered.map_err(|status| call_failed(&leased.connection, &status))?.into_inner();
        Ok(JobReading { stream, _leased: leased })
    }

    /// Makes a ticket for `uses` machines that is void after `lifetime`.
    ///
    /// # Errors
    /// When an own device is invited without a household, or the table of invitations is full or cannot be written.
    pub async fn invite(&self, kind: TicketKind, uses: u32, lifetime: Duration) -> Result<Ticket, InviteError> {
        let membership = &self.local.membership;
        if kind == TicketKind::Own && membership.household.is_none() {
            return Err(InviteError::NoHousehold);
        }
        let expires_unix = unix_now().saturating_add(lifetime.as_secs());
        let (done, issued) = oneshot::channel();
        let command = Command::Issue { kind, uses, expires_unix, done };
        self.switchboard.send(command).await.map_err(|_| InviteError::ShuttingDown)?;
        let issued = issued.await.map_err(|_| InviteError::ShuttingDown)??;
        Ok(Ticket {
            grid: membership.grid,
            private: membership.grid_secret.is_some(),
            kind,
            inviter: self.peer(),
            token: issued.token,
            expires_unix,
            contacts: issued.contacts,
        })
    }

    /// Redeems a ticket of another peer, over this network's own sockets; see [`join::redeem`].
    ///
    /// # Errors
    /// When the ticket is void, or the inviter cannot be reached, refuses or answers nonsense.
    pub async fn redeem(&self, ticket: &Ticket) -> Result<Joined, JoinError> {
        join::redeem(&self.local.endpoint, ticket, self.local.membership.household.clone()).await
    }

    pub(super) async fn channel(&self, peer: PeerId, lane: Lane) -> Result<LeasedChannel, ConnectError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Link(peer, LinkCommand::Want(Want::Channel(lane, reply)));
        self.switchboard.send(command).await.map_err(|_| ConnectError::ShuttingDown)?;
        // A link that goes without an answer went because the connection did.
        answer.await.unwrap_or(Err(ConnectError::Busy))
    }

    fn ask(&self, command: Command) -> Result<(), ConnectError> {
        self.switchboard.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => ConnectError::Busy,
            TrySendError::Closed(_) => ConnectError::ShuttingDown,
        })
    }
}
