//! A job on its way in. Its parts stream by, are hashed and go to disk as they come; at the end one row makes them a job.
//!
//! Until that row is durable nothing of it can be seen, and a submission that is dropped, or whose process dies, is swept away.
//! So a job of ten million units needs neither ten million rows in memory nor a transaction that blocks everybody else.

use super::{
    Store,
    apply::{Change, Done, NewJob},
    error::StoreError,
    files::{BlobWriter, StagedBlob},
    writer::Request,
};
use crate::{
    protocol::{
        ids::{Digest, JobId, PeerId},
        job::{INPUT_BYTES_MAX, Inputs, MODULE_BYTES_MAX, Manifest, ManifestError, TableDigest, UNIT_NAME_BYTES_MAX, UNITS_MAX},
    },
    wire::{Rejection, manifest},
};
use tokio::sync::oneshot;

/// Units that are handed to the writer together.
const UNITS_AT_ONCE: usize = 4096;
/// Bytes of units after which they are handed over even when they are few.
const BYTES_AT_ONCE: usize = 4 << 20;

/// Why a submission failed. Nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// A bound on jobs was exceeded.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest cannot be encoded as it is.
    #[error("the manifest cannot be sent to others: {0}")]
    Unsendable(#[from] Rejection),
    /// The manifest does not describe what was streamed in.
    #[error("the manifest's {what} is not what was submitted")]
    Mismatch {
        /// Which part of it.
        what: &'static str,
    },
    /// A second unit began before the first one's input ended.
    #[error("the input of the unit before has not ended")]
    UnitNotEnded,
    /// The operating system gave no randomness for the job's secret.
    #[error("no randomness for the job's secret")]
    NoRandomness(#[source] getrandom::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was streamed in, for whoever writes the manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// SHA-256 of the module.
    pub module: Digest,
    /// The module's size.
    pub module_bytes: u64,
    /// SHA-256 of the reducer's module, if there is one.
    pub reduce_module: Option<Digest>,
    /// The table of units; none when no unit was streamed in, for a job over a range.
    pub table: Option<Inputs>,
}

/// A job that is in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submitted {
    /// Its name.
    pub job: JobId,
    /// What it is.
    pub manifest: Manifest,
    /// It was there before, and is as it was.
    pub already_existed: bool,
}

/// A job on its way in. Blocks on the disk; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Submission {
    store: Store,
    owner: PeerId,
    draft: i64,
    is_closed: bool,
    module: Option<BlobWriter>,
    reduce_module: Option<BlobWriter>,
    unit: Option<(String, BlobWriter)>,
    table: TableDigest,
    units: u32,
    rows: Vec<Change>,
    rows_bytes: usize,
    /// What the writer answers to the rows handed over before; awaited before more are.
    flying: Option<oneshot::Receiver<Result<Done, StoreError>>>,
}

impl Submission {
    /// Begins a job of this owner.
    pub fn begin(store: &Store, owner: PeerId) -> Result<Self, StoreError> {
        let Done { draft, .. } = store.request(vec![Change::OpenDraft])?;
        Ok(Self {
            store: store.clone(),
            owner,
            draft,
            is_closed: false,
            module: None,
            reduce_module: None,
            unit: None,
            table: TableDigest::default(),
            units: 0,
            rows: vec![],
            rows_bytes: 0,
            flying: None,
        })
    }

    fn writer(&self, what: &'static str, bytes_max: u64) -> BlobWriter {
        BlobWriter::new(self.store.0.files.clone(), what, bytes_max)
    }

    /// The next bytes of the module.
    pub fn module_chunk(&mut self, bytes: &[u8]) -> Result<(), SubmissionError> {
        let writer = self.module.take().unwrap_or_else(|| self.writer("the module", MODULE_BYTES_MAX));
        Ok(self.module.insert(writer).write(bytes)?)
    }

    /// The next bytes of the reducer's module.
    pub fn reduce_module_chunk(&mut self, bytes: &[u8]) -> Result<(), SubmissionError> {
        let writer = self.reduce_module.take().unwrap_or_else(|| self.writer("the reducer's module", MODULE_BYTES_MAX));
        Ok(self.reduce_module.insert(writer).write(bytes)?)
    }

    /// The next bytes of a unit's input; the unit ends when no more follow. `name` must be the same for all of a unit's bytes.
    pub fn unit(&mut self, name: &str, chunk: &[u8], more: bool) -> Result<(), SubmissionError> {
        if name.len() > UNIT_NAME_BYTES_MAX {
            return Err(ManifestError::TooLong { what: "name of a unit", found: name.len(), max: UNIT_NAME_BYTES_MAX }.into());
        }
        if self.units == UNITS_MAX {
            return Err(ManifestError::TooManyUnits(u64::from(UNITS_MAX) + 1).into());
        }
        let (name, mut writer) = match self.unit.take() {
            Some((begun, _)) if begun != name => return Err(SubmissionError::UnitNotEnded),
            Some(unit) => unit,
            None => (name.to_owned(), self.writer("the input of a unit", INPUT_BYTES_MAX)),
        };
        writer.write(chunk)?;
        if more {
            self.unit = Some((name, writer));
            return Ok(());
        }
        let input = writer.finish()?;
        self.table.row(&name, input.digest(), input.size());
        self.rows_bytes += name.len() + input.bytes().map_or(0, <[u8]>::len) + size_of::<Change>();
        self.rows.push(Change::Unit { draft: self.draft, index: self.units, name, input });
        self.units += 1;
        if self.rows.len() >= UNITS_AT_ONCE || self.rows_bytes >= BYTES_AT_ONCE { Ok(self.flush()?) } else { Ok(()) }
    }

    /// Ends the submission: `build` makes the manifest from what was streamed in, `sign` its owner's signature (as
    /// [`manifest::sign`] does). When the same job is already there, it stays as it is.
    pub fn finish(
        mut self,
        build: impl FnOnce(&Parts) -> Manifest,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Submitted, SubmissionError> {
        if self.unit.is_some() {
            return Err(SubmissionError::UnitNotEnded);
        }
        let module = match self.module.take() {
            Some(module) => module.finish()?,
            None => return Err(ManifestError::ModuleSize(0).into()),
        };
        let reduce_module = self.reduce_module.take().map(BlobWriter::finish).transpose()?;
        let parts = Parts {
            module: module.digest(),
            module_bytes: module.size(),
            reduce_module: reduce_module.as_ref().map(StagedBlob::digest),
            table: (self.units > 0).then(|| Inputs::Table { units: self.units, digest: self.table.clone().finish() }),
        };
        let manifest = build(&parts);
        let encoded = self.check(&manifest, &parts)?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(SubmissionError::NoRandomness)?;
        let job = manifest::job_id(&encoded);
        let modules = [Some(module), reduce_module].into_iter().flatten();
        self.rows.extend(modules.map(|blob| Change::Module { draft: self.draft, blob }));
        let signature = sign(&encoded);
        self.rows.push(Change::CloseDraft { draft: self.draft, job: NewJob { id: job, manifest: encoded, signature, secret } });
        self.flush()?;
        let done = self.land()?;
        self.is_closed = true;
        Ok(Submitted { job, manifest, already_existed: done.already_existed })
    }

    fn check(&self, manifest: &Manifest, parts: &Parts) -> Result<Vec<u8>, SubmissionError> {
        manifest.check()?;
        let inputs_match = match manifest.inputs {
            Inputs::Range(_) => parts.table.is_none(),
            Inputs::Table { .. } => parts.table == Some(manifest.inputs),
        };
        let reducer = match &manifest.reduce {
            crate::protocol::job::Reduce::Module { module, .. } => Some(*module),
            crate::protocol::job::Reduce::Concat | crate::protocol::job::Reduce::Separate => None,
        };
        for (what, matches) in [
            ("owner", manifest.owner == self.owner),
            ("module", manifest.module == parts.module && manifest.module_bytes == parts.module_bytes),
            ("reducer", reducer == parts.reduce_module),
            ("inputs", inputs_match),
        ] {
            if !matches {
                return Err(SubmissionError::Mismatch { what });
            }
        }
        let encoded = manifest::encode(manifest);
        // What others would refuse is refused here, where it can still be mended.
        if manifest::decode(&encoded)? != *manifest {
            return Err(SubmissionError::Mismatch { what: "time limit, which is kept to the millisecond," });
        }
        Ok(encoded)
    }

    /// Hands the collected rows over, after the writer has answered to those before.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.land()?;
        self.rows_bytes = 0;
        self.flying = Some(self.store.begin_request(std::mem::take(&mut self.rows))?);
        Ok(())
    }

    fn land(&mut self) -> Result<Done, StoreError> {
        match self.flying.take() {
            Some(flying) => flying.blocking_recv().map_err(|_| StoreError::Closed)?,
            None => Ok(Done::default()),
        }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        self.store.0.mailbox.abandon(self.draft);
        // Only wakes the writer; when its queue is full it is awake.
        let (reply, _) = oneshot::channel();
        drop(self.store.queue().try_send(Request { changes: vec![], reply }));
    }
}
