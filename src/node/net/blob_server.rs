//! Serving blobs: a peer's request becomes a stream of chunks, read one at a time as the peer takes them.

use std::{io, pin::Pin, sync::Arc};

use futures_util::stream;
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking};
use tokio_stream::Stream;
use tonic::Status;

use super::limits::BLOB_CHUNK_BYTES;
use crate::{protocol::ids::Digest, wire::peer as pb};

/// What can be asked for blobs. Its methods block (they read files) and are called on threads that may; a panic in one costs
/// its request only.
pub trait BlobSource: Send + Sync + 'static {
    /// The length of a blob that is held in full, in bytes; `None` when it is not.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn length(&self, digest: &Digest) -> io::Result<Option<u64>>;

    /// Fills `buffer` with the blob's bytes from `offset` on. Never called for bytes beyond the length. The blob may have gone
    /// since its length was asked: that is an error like another.
    ///
    /// # Errors
    /// When not all bytes could be read.
    fn read_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

struct Transfer {
    source: Arc<dyn BlobSource>,
    digest: Digest,
    offset: u64,
    total: u64,
    _permits: [OwnedSemaphorePermit; 2],
}

/// The chunks of a blob from `offset` on. Each is read when the one before has been sent.
pub(super) async fn serve(
    source: Arc<dyn BlobSource>,
    digest: Digest,
    offset: u64,
    permits: [OwnedSemaphorePermit; 2],
) -> Result<Pin<Box<dyn Stream<Item = Result<pb::BlobChunk, Status>> + Send>>, Status> {
    let asked = source.clone();
    let length = spawn_blocking(move || asked.length(&digest)).await.map_err(|_| broken())?;
    let total = match length {
        Ok(Some(total)) => total,
        Ok(None) => return Err(Status::not_found("this peer does not hold the blob")),
        Err(error) => {
            tracing::warn!(blob = %digest.short(), %error, "cannot look up a blob");
            return Err(broken());
        }
    };
    if offset > total {
        return Err(Status::out_of_range("the offset is beyond the blob's end"));
    }
    let transfer = Transfer { source, digest, offset, total, _permits: permits };
    // An empty rest is one empty chunk, so that the reader learns the total.
    Ok(Box::pin(stream::unfold(Some(transfer), next)))
}

async fn next(transfer: Option<Transfer>) -> Option<(Result<pb::BlobChunk, Status>, Option<Transfer>)> {
    let mut transfer = transfer?;
    let left = transfer.total - transfer.offset;
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(BLOB_CHUNK_BYTES);
    let (source, digest, offset) = (transfer.source.clone(), transfer.digest, transfer.offset);
    let read = spawn_blocking(move || {
        let mut bytes = vec![0; length];
        source.read_at(&digest, offset, &mut bytes).map(|()| bytes)
    });
    match read.await {
        Ok(Ok(bytes)) => {
            transfer.offset += bytes.len() as u64;
            let chunk = pb::BlobChunk { total: transfer.total, data: bytes.into() };
            let rest = (transfer.offset < transfer.total).then_some(transfer);
            Some((Ok(chunk), rest))
        }
        Ok(Err(error)) => {
            tracing::warn!(blob = %digest.short(), %error, "cannot read a blob");
            Some((Err(broken()), None))
        }
        Err(_panicked) => Some((Err(broken()), None)),
    }
}

fn broken() -> Status {
    Status::unavailable("this peer cannot read the blob now")
}
