//! gRPC over QUIC: one HTTP/2 connection is one bidirectional stream.
//!
//! Both sides of one QUIC connection may open streams, so whoever dialled, either can call the other: a peer behind NAT
//! that reached us is reachable by us. Control calls and bulk transfers use streams of their own, so that a blob does not
//! hold up a lease.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use hyper_util::rt::TokioIo;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, mpsc},
};
use tonic::transport::{Channel, server::Connected};

use super::{
    identity::peer_id,
    limits::{Bucket, CALLS, CONNECT_TIMEOUT, MAX_FETCHES_PER_CONNECTION, MAX_MESSAGE_BYTES, MAX_WATCHES_PER_CONNECTION},
    link::LinkMailbox,
};
use crate::{protocol::ids::PeerId, wire::peer::peer_client::PeerClient};

/// The protocol's name in the handshake. Another version gets another name.
pub const ALPN: &[u8] = b"manyhands/peer/1";

/// HTTP/2's own windows: above QUIC's default stream window, so that QUIC's flow control is the one that acts.
pub(super) const HTTP2_STREAM_WINDOW: u32 = 2 << 20;
/// For all calls of one HTTP/2 connection.
pub(super) const HTTP2_CONNECTION_WINDOW: u32 = 4 << 20;
/// Fewer, larger frames for blobs.
pub(super) const HTTP2_FRAME: u32 = 64 << 10;

/// Why we close a connection; the number travels, so that the other side can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// No longer needed.
    Unused,
    /// The node ends.
    ShuttingDown,
    /// The peer was refused, or never said Hello.
    Refused,
    /// Too many connections.
    TooMany,
    /// Too many messages or bytes.
    Flood,
    /// A newer connection of the same peer took its place.
    Replaced,
}

impl CloseCode {
    fn number(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Unused => 0,
            Self::ShuttingDown => 1,
            Self::Refused => 2,
            Self::TooMany => 3,
            Self::Flood => 4,
            Self::Replaced => 5,
        })
    }

    fn text(self) -> &'static [u8] {
        match self {
            Self::Unused => b"no longer needed",
            Self::ShuttingDown => b"shutting down",
            Self::Refused => b"refused",
            Self::TooMany => b"too many connections",
            Self::Flood => b"flood",
            Self::Replaced => b"replaced",
        }
    }

    /// Closes `connection` for this reason.
    pub(super) fn close(self, connection: &Connection) {
        connection.close(self.number(), self.text());
    }
}

/// One authenticated QUIC connection and what its peer has done on it so far; in every request's extensions.
#[derive(Clone, Debug)]
pub struct PeerConnection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// Set once the peer has shown that it belongs to the grid: where its streams go.
    link: OnceLock<LinkMailbox>,
    /// Whether a Hello is being judged or has been: there is one per connection.
    greeted: AtomicBool,
    calls: Mutex<Bucket>,
    watches: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

impl PeerConnection {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Arc::new(Inner {
            connection,
            link: OnceLock::new(),
            greeted: AtomicBool::new(false),
            calls: Mutex::new(Bucket::new(CALLS, Instant::now())),
            watches: Arc::new(Semaphore::new(MAX_WATCHES_PER_CONNECTION)),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES_PER_CONNECTION)),
        }))
    }

    /// Who is at the other end; the transport has verified it.
    pub fn peer(&self) -> PeerId {
        peer_id(self.0.connection.remote_id())
    }

    pub(super) fn quic(&self) -> &Connection {
        &self.0.connection
    }

    pub(super) fn close(&self, code: CloseCode) {
        code.close(&self.0.connection);
    }

    /// False while another Hello of this connection is being judged, and after one was accepted.
    pub(super) fn begin_hello(&self) -> bool {
        !self.0.greeted.swap(true, Ordering::Relaxed)
    }

    /// The Hello was not accepted; the peer may try another, for instance after redeeming a ticket.
    pub(super) fn hello_refused(&self) {
        self.0.greeted.store(false, Ordering::Relaxed);
    }

    pub(super) fn admit(&self, link: LinkMailbox) {
        // A second admission of the same connection changes nothing.
        drop(self.0.link.set(link));
    }

    pub(super) fn link(&self) -> Option<&LinkMailbox> {
        self.0.link.get()
    }

    /// Counts one call; false when there are too many.
    pub(super) fn may_call(&self) -> bool {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner).take(1.0, Instant::now())
    }

    pub(super) fn watches(&self) -> Arc<Semaphore> {
        self.0.watches.clone()
    }

    pub(super) fn fetches(&self) -> Arc<Semaphore> {
        self.0.fetches.clone()
    }

    /// Whether the peer is being served neither a blob nor a job's progress on this connection.
    pub(super) fn serves_nothing(&self) -> bool {
        self.0.watches.available_permits() == MAX_WATCHES_PER_CONNECTION && self.0.fetches.available_permits() == MAX_FETCHES_PER_CONNECTION
    }

    /// The other side's network address, when it is reached directly.
    pub(super) fn remote_address(&self) -> Option<std::net::SocketAddr> {
        let paths = self.0.connection.paths();
        let chosen = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().find(|path| path.is_ip()))?;
        match chosen.remote_addr() {
            iroh::TransportAddr::Ip(address) => Some(*address),
            _relayed => None,
        }
    }
}

/// A bidirectional QUIC stream as the gRPC stack wants it.
#[derive(Debug)]
pub struct PeerStream {
    send: SendStream,
    receive: RecvStream,
    connection: PeerConnection,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerConnection;

    fn connect_info(&self) -> PeerConnection {
        self.connection.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

/// Where accepted streams go: the one gRPC server.
pub(super) type Intake = mpsc::Sender<io::Result<PeerStream>>;

/// Hands every stream that the peer opens to the server, until the connection ends.
pub(super) async fn serve_streams(connection: PeerConnection, intake: Intake) {
    while let Ok((send, receive)) = connection.quic().accept_bi().await {
        let stream = PeerStream { send, receive, connection: connection.clone() };
        if intake.send(Ok(stream)).await.is_err() {
            connection.close(CloseCode::ShuttingDown);
            return;
        }
    }
}

/// Opens gRPC channels to one peer. The network's tests use it over loopback; another transport would implement it anew.
pub trait Connect: Send + Sync {
    /// A channel of its own, which opens its stream at the first call.
    fn channel(&self) -> Channel;
}

impl Connect for PeerConnection {
    fn channel(&self) -> Channel {
        let endpoint = tonic::transport::Endpoint::from_static("http://peer")
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .max_frame_size(HTTP2_FRAME);
        let connection = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
            let connection = connection.clone();
            async move {
                let (send, receive) = connection.quic().open_bi().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>(TokioIo::new(PeerStream { send, receive, connection }))
            }
        }))
    }
}

/// A client with our limits on `channel`.
pub(super) fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}
