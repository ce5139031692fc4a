//! Reading and writing blobs. One that turns out to be damaged is removed and counts as missing, so that it is fetched again.

use super::{
    Store, Write,
    error::StoreError,
    files::{BlobWriter, StagedBlob},
};
use crate::protocol::{
    ids::{Digest, JobId},
    outcome::UnitLimits,
};
use rusqlite::OptionalExtension as _;
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::SystemTime,
};

/// The most bytes that one [`Store::read_blob_at`] returns.
pub const READ_BYTES_MAX: usize = 1 << 20;
/// The most bytes of any blob: of a unit's input or output, and more than of a module.
const BLOB_BYTES_MAX: u64 = UnitLimits::MAX.output_bytes;

/// Files known to be whole; of more the first by name are looked at again.
const WHOLE_MAX: usize = 4096;
/// Bytes of a file that are hashed at a time.
const HASHED_BYTES: usize = 256 << 10;

/// A file's size and the time of its last change.
pub(super) type Stamp = (u64, SystemTime);

fn hash(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; HASHED_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Where a blob's bytes are.
enum Held {
    /// In the database: all of them, or the part that was asked for.
    Row(Vec<u8>),
    /// In a file of this size.
    File(u64),
}

impl Store {
    /// Begins a blob of any size, to be committed as [`Write::Staged`].
    pub fn blob_writer(&self) -> BlobWriter {
        BlobWriter::new(self.0.files.clone(), "a blob", BLOB_BYTES_MAX)
    }

    /// Writes a blob that is in memory. Blocks until it is durable.
    pub fn put_blob(&self, bytes: &[u8], pin: Option<JobId>) -> Result<Digest, StoreError> {
        let mut writer = self.blob_writer();
        writer.write(bytes)?;
        let blob: StagedBlob = writer.finish()?;
        let digest = blob.digest();
        self.commit_blocking(vec![Write::Staged { blob, pin }])?;
        Ok(digest)
    }

    /// A blob's size; none when it is not here.
    pub fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT size FROM blob WHERE digest = ?1")?;
            Ok(find.query_row([digest.0], |row| row.get::<_, i64>(0)).optional()?.map(i64::cast_unsigned))
        })
    }

    /// Whether an own job needs a blob, be it here or not.
    pub fn is_pinned(&self, digest: Digest) -> Result<bool, StoreError> {
        self.read(|connection| Ok(connection.prepare_cached("SELECT 1 FROM pin WHERE digest = ?1")?.exists([digest.0])?))
    }

    /// Whether a blob is here.
    pub fn has_blob(&self, digest: Digest) -> Result<bool, StoreError> {
        self.blob_size(digest).map(|size| size.is_some())
    }

    /// A whole blob, whose bytes have been compared with its digest; none when it is not here.
    pub fn read_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(held) = self.held(digest)? else { return Ok(None) };
        let bytes = match held {
            Held::Row(bytes) => Some(bytes),
            Held::File(size) => self.read_file(digest, 0, usize::try_from(size).unwrap_or(usize::MAX), size)?,
        };
        match bytes.filter(|bytes| Digest::of(bytes) == digest) {
            Some(bytes) => Ok(Some(bytes)),
            None => self.forget_damaged(digest),
        }
    }

    /// Up to `length` bytes, at most [`READ_BYTES_MAX`], from `offset` on; fewer at the end, none when the blob is not here.
    ///
    /// The whole is compared with the digest before the first part of it is given out, and again when the file has changed since.
    pub fn read_blob_at(&self, digest: Digest, offset: u64, length: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let length = length.min(READ_BYTES_MAX);
        match self.held(digest)? {
            None => Ok(None),
            Some(Held::Row(bytes)) => {
                if Digest::of(&bytes) != digest {
                    return self.forget_damaged(digest);
                }
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(length).min(bytes.len());
                Ok(Some(bytes[start..end].to_vec()))
            }
            Some(Held::File(size)) => {
                let is_whole = self.is_whole(digest, size)?;
                match if is_whole { self.read_file(digest, offset, length, size)? } else { None } {
                    Some(bytes) => Ok(Some(bytes)),
                    None => self.forget_damaged(digest),
                }
            }
        }
    }

    fn held(&self, digest: Digest) -> Result<Option<Held>, StoreError> {
        let held = self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT size, bytes FROM blob WHERE digest = ?1")?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?));
            let found = find.query_row([digest.0], row).optional()?;
            Ok(found.map(|(size, bytes)| bytes.map_or(Held::File(size.cast_unsigned()), Held::Row)))
        })?;
        if held.is_some() {
            self.0.mailbox.touch(digest);
        }
        Ok(held)
    }

    /// None when the file is not there or has not the size that it had when it was written.
    fn read_file(&self, digest: Digest, offset: u64, length: usize, size: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.0.files.blob(digest);
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            if file.metadata()?.len() != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; length.min(left)];
            file.seek(SeekFrom::Start(offset.min(size)))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(None),
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }

    /// Whether a file's bytes are those that its name says; looked at once for each state of the file.
    fn is_whole(&self, digest: Digest, size: u64) -> Result<bool, StoreError> {
        let path = self.0.files.blob(digest);
        let stamp = |path: &Path| -> io::Result<Stamp> {
            let metadata = path.metadata()?;
            Ok((metadata.len(), metadata.modified()?))
        };
        let check = || -> io::Result<bool> {
            let before = stamp(&path)?;
            if before.0 != size {
                return Ok(false);
            }
            if self.0.whole().get(&digest) == Some(&before) {
                return Ok(true);
            }
            let is_whole = hash(&path)? == digest;
            let mut whole = self.0.whole();
            if is_whole {
                while whole.len() >= WHOLE_MAX {
                    whole.pop_first();
                }
                whole.insert(digest, before);
            } else {
                whole.remove(&digest);
            }
            Ok(is_whole)
        };
        match check() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            checked => checked.map_err(StoreError::io("read", path.clone())),
        }
    }

    fn forget_damaged<T>(&self, digest: Digest) -> Result<Option<T>, StoreError> {
        tracing::error!(blob = %digest, file = %self.0.files.blob(digest).display(), "a blob is damaged or gone, and is forgotten");
        self.0.mailbox.note_damaged_blob(digest);
        self.commit_blocking(vec![Write::RemoveBlob(digest)])?;
        Ok(None)
    }
}
