//! Looking at what is kept of a job: the manifest's signature, the module, inputs and outputs against their digests, receipts.

use crate::{
    control::{backend::Reply, error::ControlError},
    protocol::{
        ids::{Digest, JobId, PeerId, UnitIndex},
        job::{Inputs, Manifest, TableDigest},
    },
    store::{READ_BYTES_MAX, Store, UNITS_PAGE_MAX},
    wire::{
        manifest,
        receipt::{self, Claim},
    },
};
use sha2::{Digest as _, Sha256};

/// Receipts that are checked between two reports: about a tenth of a second.
const RECEIPTS_AT_ONCE: u32 = 1024;
/// Units whose inputs and outputs are looked at between two reports, unless they are large.
const UNITS_AT_ONCE: u32 = 1024;
/// Bytes of them between two reports: less than a second's reading.
const BYTES_AT_ONCE: u64 = 64 << 20;

/// What a page of receipts came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page {
    pub votes: u32,
    pub checked: u32,
    pub bad: u32,
}

/// Checks a page of receipts. Own votes have none: this machine need not convince itself.
pub(super) fn check_receipts(store: &Store, job: JobId, first: u32, me: PeerId) -> Reply<Page> {
    let votes = store.votes_page(job, first, RECEIPTS_AT_ONCE)?;
    let mut page = Page { votes: u32::try_from(votes.len()).unwrap_or(u32::MAX), ..Page::default() };
    let inputs = store.input_digests(job, votes.iter().map(|vote| vote.unit))?;
    for (vote, input) in votes.iter().zip(inputs).filter(|(vote, _)| vote.worker != me) {
        page.checked += 1;
        page.bad += u32::from(receipt::check(&vote.proof, vote.worker, job, &Claim::of_vote(vote, input)).is_err());
    }
    Ok(page)
}

/// What about the job's description is not as it was signed, in words; normally nothing.
pub(super) fn check_manifest(store: &Store, job: JobId) -> Reply<Vec<String>> {
    let signed = store.signed_manifest(job)?.ok_or_else(|| ControlError::no_such_job(&job.to_string()))?;
    let Ok(manifest) = manifest::decode(&signed.encoded) else { return Ok(vec!["the manifest is damaged".to_owned()]) };
    let mut faults = Vec::new();
    if manifest::job_id(&signed.encoded) != job {
        faults.push("the manifest is not the one that the job's id names".to_owned());
    }
    if manifest::verify(manifest.owner, &signed.encoded, &signed.signature).is_err() {
        faults.push("the manifest is not signed by its owner".to_owned());
    }
    if !is_whole(store, manifest.module, manifest.module_bytes)? {
        faults.push("the module is damaged or lost".to_owned());
    }
    if !table_agrees(store, job, &manifest)? {
        faults.push("the units are not those that the manifest names".to_owned());
    }
    Ok(faults)
}

fn table_agrees(store: &Store, job: JobId, manifest: &Manifest) -> Reply<bool> {
    let Inputs::Table { units, digest } = manifest.inputs else { return Ok(true) };
    let (mut table, mut next) = (TableDigest::default(), UnitIndex(0));
    loop {
        let rows = store.units_page(job, next, UNITS_PAGE_MAX)?;
        if rows.is_empty() {
            return Ok(next.0 == units && table.finish() == digest);
        }
        for row in rows {
            if row.unit != next {
                return Ok(false);
            }
            table.row(&row.name, row.digest, row.size);
            next = UnitIndex(next.0 + 1);
        }
    }
}

/// What inputs and outputs came to, and the unit to go on with.
#[derive(Clone, Debug, Default)]
pub(super) struct Blobs {
    pub next: u32,
    pub checked: u32,
    pub bad: u32,
}

/// Compares inputs and verified outputs of units from `first` on with their digests.
pub(super) fn check_blobs(store: &Store, job: JobId, has_table: bool, first: u32, units: u32) -> Reply<Blobs> {
    let (mut found, mut bytes) = (Blobs { next: first, ..Blobs::default() }, 0_u64);
    while found.next < units.min(first.saturating_add(UNITS_AT_ONCE)) && bytes < BYTES_AT_ONCE {
        let unit = UnitIndex(found.next);
        found.next += 1;
        if has_table {
            let input = store.unit_input(job, unit)?;
            found.checked += 1;
            found.bad += u32::from(!match &input {
                None => false,
                Some(input) => match &input.inline {
                    Some(bytes) => Digest::of(bytes) == input.digest && bytes.len() as u64 == input.size,
                    None => is_whole(store, input.digest, input.size)?,
                },
            });
            bytes += input.map_or(0, |input| input.size);
        }
        if let Some(output) = store.output(job, unit)? {
            found.checked += 1;
            found.bad += u32::from(!match output.size {
                None => false,
                Some(size) => is_whole(store, output.value.output, size)?,
            });
            bytes += output.size.unwrap_or(0);
        }
    }
    Ok(found)
}

/// Whether a blob is here and has its digest; it is read bit by bit.
fn is_whole(store: &Store, digest: Digest, size: u64) -> Reply<bool> {
    let (mut hasher, mut offset) = (Sha256::new(), 0);
    loop {
        let Some(bytes) = store.read_blob_at(digest, offset, READ_BYTES_MAX)? else { return Ok(false) };
        hasher.update(&bytes);
        offset += bytes.len() as u64;
        if bytes.len() < READ_BYTES_MAX {
            return Ok(offset == size && hasher.finalize()[..] == digest.as_bytes()[..]);
        }
    }
}
