//! Fetching a blob by its digest from whoever holds it.
//!
//! Chunks are hashed as they come; only the whole is verified, since a digest says nothing about parts. So a transfer that
//! breaks goes on with the next holder at the offset reached, and when the whole turns out wrong, it begins again and takes
//! everything from one holder at a time, which tells who lies. The sink must not show the bytes to anybody before the end.

use std::{collections::VecDeque, io, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio::{task::spawn_blocking, time::timeout};
use tonic::{Code, Streaming};

use super::{
    connector::client,
    event::{ConnectError, printable},
    limits::{BLOB_CHUNK_BYTES, CONNECT_TIMEOUT},
    link::Lane,
    network::NetHandle,
};
use crate::{
    protocol::ids::{Digest, PeerId},
    wire::peer as pb,
};

/// How long one chunk may take: 32 fetchers of one slow uplink (1 Mbit/s) fit just in.
const CHUNK_TIMEOUT: Duration = Duration::from_mins(1);
/// How often one holder is tried: a break is forgiven twice.
const TRIES: u32 = 3;
/// Holders considered for one blob.
pub const MAX_HOLDERS: usize = 16;

/// Where a blob's bytes go, in order. Its methods block and are called on threads that may.
pub trait BlobSink: Send + 'static {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// When they cannot be stored; the fetch then ends.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Forgets everything appended so far: it was not the blob.
    ///
    /// # Errors
    /// When that is not possible; the fetch then ends.
    fn restart(&mut self) -> io::Result<()>;
}

/// A sink in memory, for small blobs.
impl BlobSink for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// Which blob, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub digest: Digest,
    /// Its length when a signed manifest or lease told it, in bytes.
    pub length: Option<u64>,
    /// The longest that we want, in bytes.
    pub at_most: u64,
}

/// A blob that is complete and has the right digest.
#[derive(Debug)]
pub struct Fetched<S> {
    /// Holds all of its bytes.
    pub sink: S,
    /// Its length, in bytes.
    pub length: u64,
    /// Whose bytes it is made of.
    pub from: Vec<PeerId>,
    /// Holders that gave wrong bytes: to be held against them.
    pub liars: Vec<PeerId>,
}

/// Why one holder was of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HolderFailure {
    /// It does not hold the blob.
    #[error("does not hold it")]
    NotHeld,
    /// It cannot be reached, or refused.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The transfer broke off, again and again.
    #[error("broke off: {0}")]
    Broke(String),
    /// It says that the blob has another length than it has, or more than wanted.
    #[error("says that it has {0} bytes")]
    WrongLength(u64),
    /// It does not keep to the protocol.
    #[error("sent a chunk of {0} bytes")]
    BadChunk(usize),
    /// Its bytes have another digest.
    #[error("sent wrong bytes")]
    Lied,
}

/// Why a blob could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No holder could give it.
    #[error("none of {} holders could give the blob", failures.len())]
    NoHolder {
        /// What was wrong with each.
        failures: Vec<(PeerId, HolderFailure)>,
    },
    /// It could not be stored here.
    #[error("cannot store the blob")]
    Sink(#[source] io::Error),
}

/// How a turn with one holder ended.
enum Turn {
    /// All bytes are there.
    Complete,
    /// Perhaps another time.
    Again(HolderFailure),
    /// Not with this one.
    Never(HolderFailure),
}

/// What travels to the thread that writes, and back.
struct Writer<S> {
    sink: S,
    hasher: Sha256,
}

struct Fetch<'a, S> {
    net: &'a NetHandle,
    wanted: Wanted,
    /// Absent only while a thread writes.
    writer: Option<Writer<S>>,
    offset: u64,
    total: Option<u64>,
    /// Whose bytes are in the sink.
    from: Vec<PeerId>,
}

/// Fetches a blob from `holders`, tried in their order.
///
/// # Errors
/// When none of them can give it, or it cannot be stored. The sink is dropped then.
pub async fn fetch<S: BlobSink>(net: &NetHandle, wanted: Wanted, holders: &[PeerId], sink: S) -> Result<Fetched<S>, FetchError> {
    let mut fetch = Fetch { net, wanted, writer: Some(Writer { sink, hasher: Sha256::new() }), offset: 0, total: None, from: Vec::new() };
    let mut queue: VecDeque<(PeerId, u32)> = VecDeque::new();
    for holder in holders {
        if queue.len() < MAX_HOLDERS && !queue.iter().any(|(known, _)| known == holder) {
            queue.push_back((*holder, 1));
        }
    }
    let mut failures = Vec::new();
    // Set once a whole was wrong and several had a part in it: from then on the sink holds bytes of one holder at a time.
    let mut one_at_a_time = false;
    while let Some((holder, tries)) = queue.pop_front() {
        if one_at_a_time && fetch.from.iter().any(|other| *other != holder) {
            fetch.restart().await.map_err(FetchError::Sink)?;
        }
        let failure = match fetch.turn(holder).await.map_err(FetchError::Sink)? {
            Turn::Complete if fetch.is_right() => return Ok(fetch.finish(&failures)),
            Turn::Complete => {
                let alone = fetch.from == [holder];
                one_at_a_time = true;
                fetch.restart().await.map_err(FetchError::Sink)?;
                if alone {
                    failures.push((holder, HolderFailure::Lied));
                    continue;
                }
                HolderFailure::Lied
            }
            Turn::Again(failure) => failure,
            Turn::Never(failure) => {
                failures.push((holder, failure));
                continue;
            }
        };
        if tries < TRIES {
            queue.push_back((holder, tries + 1));
        } else {
            failures.push((holder, failure));
        }
    }
    Err(FetchError::NoHolder { failures })
}

impl<S: BlobSink> Fetch<'_, S> {
    fn is_right(&self) -> bool {
        let writer = self.writer.as_ref().expect("no thread writes between turns");
        Digest(writer.hasher.clone().finalize().into()) == self.wanted.digest
    }

    fn finish(self, failures: &[(PeerId, HolderFailure)]) -> Fetched<S> {
        let liars = failures.iter().filter(|(_, failure)| *failure == HolderFailure::Lied).map(|(holder, _)| *holder).collect();
        let writer = self.writer.expect("no thread writes between turns");
        Fetched { sink: writer.sink, length: self.offset, from: self.from, liars }
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.offset = 0;
        self.total = None;
        self.from.clear();
        self.write(|writer| {
            writer.hasher = Sha256::new();
            writer.sink.restart()
        })
        .await
    }

    /// Runs `act` on a thread that may block. A panic of the sink comes back as an error.
    async fn write(&mut self, act: impl FnOnce(&mut Writer<S>) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let mut writer = self.writer.take().ok_or_else(|| io::Error::other("the sink has failed before"))?;
        let (done, writer) = spawn_blocking(move || (act(&mut writer), writer)).await.map_err(io::Error::other)?;
        self.writer = Some(writer);
        done
    }

    /// Takes as much as `holder` gives.
    async fn turn(&mut self, holder: PeerId) -> io::Result<Turn> {
        let leased = match self.net.channel(holder, Lane::Bulk).await {
            Ok(leased) => leased,
            Err(error @ (ConnectError::Unreachable(_) | ConnectError::TimedOut | ConnectError::Busy)) => {
                return Ok(Turn::Again(error.into()));
            }
            Err(error) => return Ok(Turn::Never(error.into())),
        };
        let request = pb::FetchBlobRequest { digest: self.wanted.digest.as_bytes().to_vec().into(), offset: self.offset };
        let _turn = leased.fetches.clone().acquire_owned().await.map_err(io::Error::other)?;
        let mut client = client(leased.channel.clone());
        match timeout(CONNECT_TIMEOUT, client.fetch_blob(request)).await {
            Ok(Ok(chunks)) => self.take(holder, chunks.into_inner()).await,
            Ok(Err(status)) => Ok(failed(&status)),
            Err(_) => Ok(Turn::Again(ConnectError::TimedOut.into())),
        }
    }

    async fn take(&mut self, holder: PeerId, mut chunks: Streaming<pb::BlobChunk>) -> io::Result<Turn> {
        loop {
            let chunk = match timeout(CHUNK_TIMEOUT, chunks.message()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(Turn::Again(HolderFailure::Broke("it ended early".into()))),
                Ok(Err(status)) => return Ok(failed(&status)),
                Err(_) => return Ok(Turn::Again(HolderFailure::Broke("too slow".into()))),
            };
            if chunk.total > self.wanted.at_most || self.wanted.length.is_some_and(|length| length != chunk.total) {
                return Ok(Turn::Never(HolderFailure::WrongLength(chunk.total)));
            }
            if self.total.is_some_and(|total| total != chunk.total) {
                // This one or one before it lies; what is there cannot be completed by it.
                self.restart().await?;
                return Ok(Turn::Again(HolderFailure::WrongLength(chunk.total)));
            }
            let due = (chunk.total - self.offset).min(BLOB_CHUNK_BYTES as u64);
            if chunk.data.len() as u64 != due {
                return Ok(Turn::Never(HolderFailure::BadChunk(chunk.data.len())));
            }
            self.total = Some(chunk.total);
            self.offset += due;
            if !self.from.contains(&holder) {
                self.from.push(holder);
            }
            let data = chunk.data;
            self.write(move |writer| {
                writer.hasher.update(&data);
                writer.sink.append(&data)
            })
            .await?;
            if self.offset == chunk.total {
                return Ok(Turn::Complete);
            }
        }
    }
}

fn failed(status: &tonic::Status) -> Turn {
    let text = printable(status.message());
    match status.code() {
        Code::NotFound => Turn::Never(HolderFailure::NotHeld),
        Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented | Code::Unauthenticated => {
            Turn::Never(ConnectError::RefusedByPeer(text).into())
        }
        // The codes of a broken connection mislead, so all of the others are worth another try.
        _other => Turn::Again(HolderFailure::Broke(text)),
    }
}
