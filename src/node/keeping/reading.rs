//! Answering whoever has the author's permission to read a job's results: from the store alone, page by page.

use crate::{
    node::{
        net::{Outbound, SendError},
        run_loop::Node,
    },
    protocol::{
        fact::Verdict,
        ids::{JobId, UnitIndex},
        job::Manifest,
    },
    store::{Role, SignedManifest, Store, StoreError},
    wire::{
        bounds::{BATCH_INLINE_BYTES_MAX, INLINE_BYTES_MAX},
        manifest, peer as pb, progress,
        read::{self, ReadHead, ReadPart, ReadRequest, ReadUnit, Word},
    },
};
use std::{sync::Arc, time::Duration};

/// Units of one part.
const ROWS: u32 = 512;
/// How soon a slow reader's queue is looked at again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A reader that takes nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many peers may read here at once.
const READERS_MAX: usize = 64;

impl Node {
    /// Gives a job's results to a peer that may have them.
    pub(in crate::node) fn answer_reader(&mut self, request: ReadRequest, outbound: Outbound<pb::ReadJobPart>) {
        if self.watchers.len() >= READERS_MAX {
            return;
        }
        let view = self.peer.owner().job_view(request.job);
        let seen = view.map(|view| progress::write(&view));
        let store = self.store.clone();
        self.watchers.spawn(async move {
            // Whoever asks sees that it ends.
            let _ = answer(store, request, seen, outbound).await;
        });
    }
}

/// Why an answer ends early: nothing of the job is here, the reader may not read it, or has gone.
struct Left;

impl From<StoreError> for Left {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "a job cannot be read");
        Self
    }
}

async fn answer(
    store: Store,
    request: ReadRequest,
    seen: Option<pb::JobProgress>,
    outbound: Outbound<pb::ReadJobPart>,
) -> Result<(), Left> {
    let ReadRequest { job, permission, first_unit, head_only } = request;
    // Whoever may not read it makes no work.
    let (signed, manifest) = store.blocking(move |store| Ok::<_, Left>(described(store, job))).await??;
    if read::check_permission(manifest.owner, job, &permission).is_err() {
        return Err(Left);
    }
    store.unbind(job).await?;
    let head = store.blocking(move |store| Ok::<_, Left>(head(store, job, signed, manifest, seen))).await??;
    put(&outbound, ReadPart::Head(Box::new(head))).await?;
    let mut first = Some(first_unit);
    while let Some(from) = first.filter(|_| !head_only) {
        let (units, next) = store.blocking(move |store| Ok::<_, Left>(page(store, job, from))).await??;
        if !units.is_empty() {
            put(&outbound, ReadPart::Units(units)).await?;
        }
        first = next;
    }
    Ok(())
}

async fn put(outbound: &Outbound<pb::ReadJobPart>, part: ReadPart) -> Result<(), Left> {
    let part = pb::ReadJobPart::from(part);
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        if outbound.room() > 0 {
            return match outbound.try_send(part) {
                Ok(()) => Ok(()),
                Err(SendError::Full | SendError::Closed) => Err(Left),
            };
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        waited += AGAIN_AFTER;
    }
    Err(Left)
}

fn described(store: &Store, job: JobId) -> Result<(SignedManifest, Manifest), Left> {
    let signed = store.signed_manifest(job)?.ok_or(Left)?;
    let manifest = manifest::decode(&signed.encoded).map_err(|_| Left)?;
    Ok((signed, manifest))
}

/// What is said first; `seen` are the counts of a job that is coordinated here.
fn head(store: &Store, job: JobId, signed: SignedManifest, manifest: Manifest, seen: Option<pb::JobProgress>) -> Result<ReadHead, Left> {
    let word = match store.role(job)?.ok_or(Left)? {
        Role::Own => Word::Author,
        Role::Kept => Word::Copy,
        Role::Adopted => Word::Keeper,
        Role::Arriving => return Err(Left),
    };
    let (state, _) = store.state_and_findings(job)?;
    let mut counts = match seen {
        Some(seen) => seen,
        None => pb::JobProgress { name: manifest.name.clone(), units: manifest.units(), ..pb::JobProgress::default() },
    };
    // What is durable, and so can be read.
    (counts.verified, counts.failed, _) = store.verdict_counts(job)?;
    counts.state = progress::state_number(state);
    Ok(ReadHead { job, manifest, encoded: signed.encoded, signature: signed.signature, progress: counts, state, word })
}

/// Verified units from `first` on, and where to go on; none when that was all.
fn page(store: &Store, job: JobId, first: UnitIndex) -> Result<(Vec<ReadUnit>, Option<UnitIndex>), Left> {
    let rows = store.verdicts_page(job, first, ROWS)?;
    let (mut units, mut bytes, mut next) = (Vec::new(), 0, None);
    for (unit, verdict) in rows {
        next = Some(UnitIndex(unit.0.saturating_add(1)));
        let Verdict::Verified { value, by_owner } = verdict else { continue };
        if !value.exit.is_success() {
            continue;
        }
        // One that is lost here may be had elsewhere: it is named without its bytes.
        let output_bytes = store.blob_size(value.output)?.unwrap_or(0);
        let output = if output_bytes <= INLINE_BYTES_MAX as u64 { store.read_blob(value.output)? } else { None };
        bytes += output.as_ref().map_or(0, Vec::len);
        if bytes > BATCH_INLINE_BYTES_MAX {
            return Ok((units, Some(unit)));
        }
        let name = store.unit_input(job, unit)?.map(|input| input.name).unwrap_or_default();
        units.push(ReadUnit { unit, name, value, output_bytes, by_owner, output: output.map(Arc::from) });
    }
    Ok((units, next))
}
