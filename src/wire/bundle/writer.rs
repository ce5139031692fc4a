//! Writes a bundle bit by bit: whoever makes one takes the bytes as they come.

use super::{BundleError, CHUNK_BYTES_MAX, End, Header, MAGIC, RECORD_BYTES_MAX, SEAL, Standing, Unit, VERSION, pb};
use crate::wire::signing;
use iroh::SecretKey;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// A bundle on its way out.
#[derive(Debug)]
pub struct BundleWriter {
    hasher: Sha256,
    /// Written, and not taken yet.
    ready: Vec<u8>,
    end: End,
}

impl BundleWriter {
    /// Begins a bundle. The module's bytes come next, by [`BundleWriter::bytes`].
    ///
    /// # Errors
    /// A bound is exceeded; the same holds for each method below.
    pub fn begin(header: &Header) -> Result<Self, BundleError> {
        let mut writer = Self { hasher: Sha256::new(), ready: Vec::new(), end: End { units: 0, verified: 0 } };
        writer.push(&[&MAGIC[..], &VERSION.to_le_bytes()].concat());
        writer.record(pb::record::Record::Header(header.into()))?;
        Ok(writer)
    }

    /// The next unit; of a whole bundle the bytes of its input and of its decided output come next.
    pub fn unit(&mut self, unit: &Unit) -> Result<(), BundleError> {
        self.end.units += 1;
        self.end.verified += u32::from(unit.standing == Standing::Verified);
        self.record(pb::record::Record::Unit(unit.into()))
    }

    /// The next bytes of the module, an input or an output.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        bytes.chunks(CHUNK_BYTES_MAX).try_for_each(|chunk| self.record(pb::record::Record::Chunk(chunk.to_vec().into())))
    }

    /// How many bytes wait to be taken.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    /// Ends the bundle with its digest and the owner's signature; the last bytes.
    pub fn finish(mut self, owner: &SecretKey) -> Result<Vec<u8>, BundleError> {
        let End { units, verified } = self.end;
        self.record(pb::record::Record::End(pb::End { units, verified }))?;
        let digest: [u8; 32] = self.hasher.finalize().into();
        self.ready.extend_from_slice(&digest);
        self.ready.extend_from_slice(&signing::sign(owner, &[SEAL, &digest]));
        Ok(self.ready)
    }

    fn record(&mut self, record: pb::record::Record) -> Result<(), BundleError> {
        let encoded = pb::Record { record: Some(record) }.encode_to_vec();
        if encoded.len() > RECORD_BYTES_MAX {
            return Err(BundleError::RecordTooLong { found: encoded.len() });
        }
        let length = u32::try_from(encoded.len()).expect("bounded above");
        self.push(&length.to_le_bytes());
        self.push(&encoded);
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.ready.extend_from_slice(bytes);
    }
}
