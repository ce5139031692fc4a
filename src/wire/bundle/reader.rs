//! Takes a bundle apart, record by record. Nothing that it reads makes it hold more than one record.

use super::{BundleError, CHUNK_BYTES_MAX, End, Header, MAGIC, RECORD_BYTES_MAX, Record, SEAL, SEAL_BYTES, Unit, VERSION, pb};
use crate::{
    protocol::ids::{Digest, PeerId},
    wire::{bounds::Rejection, signing},
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Seek, SeekFrom};

/// Magic and version.
const HEAD_BYTES: usize = MAGIC.len() + 4;
/// Bytes that are hashed at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Records of a damaged file that are followed to see whether it lacks its end: each costs two calls of the system.
const RECORDS_FOLLOWED_MAX: usize = 1_000_000;

/// Digest and owner's signature, as they stand at a bundle's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal {
    /// SHA-256 of everything before.
    pub digest: Digest,
    signature: [u8; 64],
}

impl Seal {
    /// Checks that `owner` signed it.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(&self, owner: PeerId) -> Result<(), BundleError> {
        let parts: [&[u8]; 2] = [SEAL, self.digest.as_bytes()];
        signing::verify("bundle", owner, &parts, &self.signature).map_err(|_: Rejection| BundleError::NotSealed)
    }
}

/// Reads a whole file and compares it with the digest at its end: what is damaged or cut is told from what was written so.
///
/// # Errors
/// It is no bundle, is cut or damaged, or cannot be read.
pub fn check_digest(file: &mut (impl Read + Seek)) -> Result<Seal, BundleError> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut head = [0; HEAD_BYTES];
    let there = usize::try_from(length).unwrap_or(usize::MAX).min(HEAD_BYTES);
    file.read_exact(&mut head[..there])?;
    check_head(&head, there)?;
    let Some(sealed) = length.checked_sub(SEAL_BYTES as u64).filter(|sealed| *sealed >= HEAD_BYTES as u64) else {
        return Err(BundleError::Truncated { found: length });
    };
    let mut hasher = Sha256::new_with_prefix(head);
    let (mut left, mut block) = (sealed - HEAD_BYTES as u64, vec![0; BLOCK_BYTES]);
    while left > 0 {
        let next = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        file.read_exact(&mut block[..next])?;
        hasher.update(&block[..next]);
        left -= next as u64;
    }
    let seal = read_seal(file)?;
    if hasher.finalize()[..] == seal.digest.as_bytes()[..] {
        return Ok(seal);
    }
    Err(if ends_early(file, length)? { BundleError::Truncated { found: length } } else { BundleError::Damaged })
}

fn check_head(head: &[u8; HEAD_BYTES], there: usize) -> Result<(), BundleError> {
    let (magic, version) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(BundleError::NotABundle);
    }
    if there < HEAD_BYTES {
        return Err(BundleError::Truncated { found: there as u64 });
    }
    match u32::from_le_bytes(version.try_into().expect("four bytes")) {
        VERSION => Ok(()),
        other => Err(BundleError::UnknownVersion(other)),
    }
}

fn read_seal(file: &mut impl Read) -> Result<Seal, BundleError> {
    let (mut digest, mut signature) = ([0; 32], [0; 64]);
    file.read_exact(&mut digest)?;
    file.read_exact(&mut signature)?;
    Ok(Seal { digest: Digest(digest), signature })
}

/// Whether a damaged file simply lacks its end: its records lead beyond it. Of one with too many of them nothing is known.
fn ends_early(file: &mut (impl Read + Seek), length: u64) -> Result<bool, BundleError> {
    let mut at = HEAD_BYTES as u64;
    for _ in 0..RECORDS_FOLLOWED_MAX {
        if at + 4 > length {
            return Ok(true);
        }
        file.seek(SeekFrom::Start(at))?;
        let mut size = [0; 4];
        file.read_exact(&mut size)?;
        let size = u64::from(u32::from_le_bytes(size));
        // A chunk is never so large, nor is a record empty: this is no length, but the seal or damage.
        if size > RECORD_BYTES_MAX as u64 || size == 0 {
            return Ok(false);
        }
        at += 4 + size;
    }
    Ok(false)
}

/// A bundle that is being read. Its source is at its beginning, and should be buffered.
#[derive(Debug)]
pub struct BundleReader<R> {
    source: R,
    hasher: Sha256,
}

impl<R: Read> BundleReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It is no bundle, or of another version; the same holds for [`BundleReader::record`], which refuses bad records too.
    pub fn begin(mut source: R) -> Result<Self, BundleError> {
        let mut head = [0; HEAD_BYTES];
        source.read_exact(&mut head).map_err(cut)?;
        check_head(&head, HEAD_BYTES)?;
        Ok(Self { source, hasher: Sha256::new_with_prefix(head) })
    }

    /// The next record.
    pub fn record(&mut self) -> Result<Record, BundleError> {
        let mut size = [0; 4];
        self.source.read_exact(&mut size).map_err(cut)?;
        let found = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        if found > RECORD_BYTES_MAX {
            return Err(BundleError::RecordTooLong { found });
        }
        let mut encoded = vec![0; found];
        self.source.read_exact(&mut encoded).map_err(cut)?;
        self.hasher.update(size);
        self.hasher.update(&encoded);
        let decoded = pb::Record::decode(&encoded[..]).map_err(|source| Rejection::Undecodable { what: "record of a bundle", source })?;
        Ok(match decoded.record.ok_or(Rejection::Missing { what: "record of a bundle" })? {
            pb::record::Record::Header(header) => Record::Header(Box::new(Header::try_from(header)?)),
            pb::record::Record::Unit(unit) => Record::Unit(Box::new(Unit::try_from(unit)?)),
            pb::record::Record::Chunk(chunk) if chunk.is_empty() => return Err(Rejection::Missing { what: "bytes of a chunk" }.into()),
            pb::record::Record::Chunk(chunk) if chunk.len() > CHUNK_BYTES_MAX => {
                return Err(Rejection::TooLong { what: "chunk", found: chunk.len(), max: CHUNK_BYTES_MAX }.into());
            }
            pb::record::Record::Chunk(chunk) => Record::Chunk(chunk.to_vec()),
            pb::record::Record::End(pb::End { units, verified }) => Record::End(End { units, verified }),
        })
    }

    /// The header, which is the first record.
    pub fn header(&mut self) -> Result<Box<Header>, BundleError> {
        match self.record()? {
            Record::Header(header) => Ok(header),
            other => Err(out_of_place(&other, "the header")),
        }
    }

    /// Reads exactly `size` bytes of `what`, which come in chunks.
    pub fn content(&mut self, what: &'static str, size: u64, mut take: impl FnMut(&[u8])) -> Result<(), BundleError> {
        let mut left = size;
        while left > 0 {
            let chunk = match self.record()? {
                Record::Chunk(chunk) => chunk,
                other => return Err(out_of_place(&other, what)),
            };
            left = left.checked_sub(chunk.len() as u64).ok_or(BundleError::TooManyBytes { what })?;
            take(&chunk);
        }
        Ok(())
    }

    /// Reads the seal, behind which nothing follows; the last record was read before.
    ///
    /// # Errors
    /// What was read has another digest, or something follows.
    pub fn finish(mut self) -> Result<Seal, BundleError> {
        let seal = read_seal(&mut self.source)?;
        if self.hasher.finalize()[..] != seal.digest.as_bytes()[..] {
            return Err(BundleError::Damaged);
        }
        match self.source.read(&mut [0])? {
            0 => Ok(seal),
            _ => Err(BundleError::GoesOn),
        }
    }
}

/// A record where another one is due.
pub(super) fn out_of_place(record: &Record, expected: &'static str) -> BundleError {
    let found = match record {
        Record::Header(_) => "a header",
        Record::Unit(_) => "a unit",
        Record::Chunk(_) => "bytes",
        Record::End(_) => "the end",
    };
    BundleError::OutOfPlace { found, expected }
}

/// The file was long enough when it was hashed.
fn cut(error: io::Error) -> BundleError {
    if error.kind() == io::ErrorKind::UnexpectedEof { BundleError::Damaged } else { BundleError::Io(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_damaged_file_is_followed_for_so_many_records() {
        let ends_early_after = |records: usize| {
            let mut bytes: Vec<u8> = vec![0; HEAD_BYTES];
            bytes.extend([1_u8, 0, 0, 0, 7].repeat(records));
            // The length of a record that is not there.
            bytes.extend([9_u8, 0, 0, 0]);
            let length = bytes.len() as u64;
            ends_early(&mut Cursor::new(bytes), length).expect("it can be read")
        };
        assert!(ends_early_after(0) && ends_early_after(1000));
        assert!(!ends_early_after(RECORDS_FOLLOWED_MAX + 1), "it is damaged, and no more is said");
    }
}
