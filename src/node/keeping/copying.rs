//! A job read from the store page by page, as messages for a keeper; and votes that a keeper took, for the author.

use super::{
    gather::{Message, OwnVote, Sign, bind_votes, messages},
    outbox::Page,
};
use crate::{
    protocol::{
        fact::Vote,
        ids::{Digest, JobId, PeerId, UnitIndex},
    },
    store::{BlobRow, Store, StoreError},
    wire::{
        bounds::{BATCH_INLINE_BYTES_MAX, BATCH_MAX, INLINE_BYTES_MAX, LOG_BYTES_MAX, SIGNATURE_BYTES},
        keep::{HandedVote, KeepMessage, KeeperMessage, Record},
        peer as pb,
        receipt::{Claim, Receipts},
        sheaf::Part,
    },
};
use iroh::SecretKey;
use std::sync::Arc;

/// Rows of one page.
const ROWS: u32 = 1024;
/// What a message or a record takes beside its bytes, about.
const RECORD_BYTES: usize = 512;

/// Where a copy is.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct CopyAt {
    pub job: JobId,
    /// The number behind the last vote that was durable when the job was offered; what came later is sent as it comes.
    pub votes_end: u32,
    pub stage: Stage,
}

/// What is copied next.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) enum Stage {
    Units(u32),
    Blobs(Option<Digest>),
    Votes(u32),
    Verdicts(u32),
    Failures(u32),
    Logs(u32),
    Rest,
}

/// Where the handing back of votes is.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct HandBackAt {
    pub job: JobId,
    pub next: u32,
}

/// What signs this machine's own votes, which have no receipts in the store.
#[derive(Clone, Debug)]
pub(in crate::node) struct Signer {
    pub store: Store,
    pub me: PeerId,
    pub key: SecretKey,
    pub class: String,
    pub instruction_set: String,
}

impl Signer {
    /// Gives own votes their receipts, signed together.
    pub fn sign<'a>(&self, job: JobId, votes: impl Iterator<Item = &'a mut Vote>) {
        let mut own: Vec<&mut Vote> = votes.filter(|vote| vote.worker == self.me && vote.proof.is_empty()).collect();
        for own in own.chunks_mut(BATCH_MAX) {
            let inputs = match tokio::task::block_in_place(|| self.store.input_digests(job, own.iter().map(|vote| vote.unit))) {
                Ok(inputs) => inputs,
                Err(error) => return tracing::error!(%error, "the inputs of units cannot be read"),
            };
            let claims: Vec<Claim> = own.iter().zip(inputs).map(|(vote, input)| Claim::of_vote(vote, input)).collect();
            match Receipts::new(job, &self.class, &self.instruction_set, &claims) {
                Ok(receipts) => {
                    let signature = receipts.sign(&self.key);
                    own.iter_mut().enumerate().for_each(|(at, vote)| vote.proof = receipts.proof(at, &signature));
                }
                Err(error) => tracing::error!(%error, "own receipts cannot be made"),
            }
        }
    }
}

impl Sign for (&Signer, JobId) {
    fn sign(&self, votes: &[OwnVote]) -> Option<(String, String, [u8; SIGNATURE_BYTES])> {
        let (signer, job) = *self;
        let inputs = match tokio::task::block_in_place(|| signer.store.input_digests(job, votes.iter().map(|own| own.vote.unit))) {
            Ok(inputs) => inputs,
            Err(error) => {
                tracing::error!(%error, "the inputs of units cannot be read");
                return None;
            }
        };
        let claims: Vec<Claim> = votes.iter().zip(inputs).map(|(own, input)| Claim::of_vote(&own.vote, input)).collect();
        match Receipts::new(job, &signer.class, &signer.instruction_set, &claims) {
            Ok(receipts) => Some((signer.class.clone(), signer.instruction_set.clone(), receipts.sign(&signer.key))),
            Err(error) => {
                tracing::error!(%error, "own receipts cannot be made");
                None
            }
        }
    }

    fn prove(&self, vote: &mut Vote) {
        self.0.sign(self.1, std::iter::once(vote));
    }
}

/// What keepers are sent, each with the bytes that it takes while it waits; only the last one says that all of it was said.
pub(super) fn facts(job: JobId, number: u64, messages: Vec<Message>) -> Vec<(KeepMessage, usize)> {
    let last = messages.len().saturating_sub(1);
    let message = |(at, (records, sheaf)): (usize, Message)| {
        let sheaf: bytes::Bytes = if sheaf.parts.is_empty() { bytes::Bytes::new() } else { sheaf.encode().into() };
        let weight = sheaf.len() + records.iter().map(|record| record.inline_bytes() + RECORD_BYTES).sum::<usize>() + RECORD_BYTES;
        (KeepMessage::Facts { job, number: if at == last { number } else { 0 }, records, sheaf }, weight)
    };
    messages.into_iter().enumerate().map(message).collect()
}

/// The next page of a copy.
pub(super) fn copy(store: &Store, signer: &Signer, at: CopyAt) -> Result<Page<pb::KeepMessage, CopyAt>, StoreError> {
    let job = at.job;
    let (messages, next) = match at.stage {
        Stage::Units(first) => {
            let (units, next) = units(store, job, first)?;
            let message = KeepMessage::Units { job, first: UnitIndex(first), units };
            let is_last = next == first;
            (if is_last { vec![] } else { vec![message] }, if is_last { Stage::Blobs(None) } else { Stage::Units(next) })
        }
        Stage::Blobs(after) => {
            let rows = store.blobs_page(job, after, ROWS, BATCH_INLINE_BYTES_MAX)?;
            let next = rows.last().map_or(Stage::Votes(0), |row| Stage::Blobs(Some(row.digest)));
            let blob = |BlobRow { digest, bytes }: BlobRow| match bytes {
                Some(bytes) if bytes.len() <= INLINE_BYTES_MAX => Record::Blob(bytes),
                Some(_) | None => Record::LargeBlob(digest),
            };
            (page(job, rows.into_iter().map(blob).collect(), Vec::new()), next)
        }
        Stage::Votes(first) => {
            let (mut votes, next) = store.votes_with_origin(job, first, at.votes_end, ROWS)?;
            signer.sign(job, votes.iter_mut());
            let next = if votes.is_empty() { Stage::Verdicts(0) } else { Stage::Votes(next) };
            (page(job, Vec::new(), bind_votes(&votes)), next)
        }
        Stage::Verdicts(first) => {
            let rows = store.verdicts_page(job, UnitIndex(first), ROWS)?;
            let next = rows.last().map_or(Stage::Failures(0), |(unit, _)| Stage::Verdicts(unit.0.saturating_add(1)));
            (page_of(job, rows.into_iter().map(|(unit, verdict)| Record::Verdict(unit, verdict))), next)
        }
        Stage::Failures(first) => {
            let rows = store.failures_page(job, UnitIndex(first), ROWS)?;
            let next = rows.last().map_or(Stage::Logs(0), |(unit, _)| Stage::Failures(unit.0.saturating_add(1)));
            (page_of(job, rows.into_iter().map(|(unit, failures)| Record::Failures(unit, failures))), next)
        }
        Stage::Logs(first) => {
            let rows = store.logs_page(job, UnitIndex(first))?;
            let next = rows.last().map_or(Stage::Rest, |(unit, _)| Stage::Logs(unit.0.saturating_add(1)));
            let log = |(unit, bytes): &(UnitIndex, Vec<u8>)| Record::Log(*unit, Arc::from(&bytes[..bytes.len().min(LOG_BYTES_MAX)]));
            (page_of(job, rows.iter().map(log)), next)
        }
        Stage::Rest => {
            let (state, findings) = store.state_and_findings(job)?;
            let parts = findings.map(|findings| Part::Record(Record::Findings(findings))).into_iter().collect();
            let mut last = page(job, vec![Record::State(state)], parts);
            last.push(KeepMessage::Copied(job));
            return Ok(Page { messages: last.into_iter().map(Into::into).collect(), next: None });
        }
    };
    let messages = messages.into_iter().map(Into::into).collect();
    Ok(Page { messages, next: Some(CopyAt { stage: next, ..at }) })
}

fn page(job: JobId, records: Vec<Record>, parts: Vec<Part>) -> Vec<KeepMessage> {
    if records.is_empty() && parts.is_empty() {
        return Vec::new();
    }
    facts(job, 0, messages(records, parts)).into_iter().map(|(message, _)| message).collect()
}

fn page_of(job: JobId, records: impl Iterator<Item = Record>) -> Vec<KeepMessage> {
    page(job, Vec::new(), records.map(Part::Record).collect())
}

/// Rows of the table of units that fit a message, and where to go on.
fn units(store: &Store, job: JobId, first: u32) -> Result<(Vec<crate::wire::work::UnitInput>, u32), StoreError> {
    let wanted: Vec<UnitIndex> = (first..first.saturating_add(ROWS)).map(UnitIndex).collect();
    let (mut units, mut bytes) = (Vec::new(), 0);
    for input in store.unit_inputs(job, &wanted)?.into_iter().map_while(|input| input) {
        bytes += input.name.len() + input.inline.as_ref().map_or(0, |bytes| bytes.len());
        if bytes > BATCH_INLINE_BYTES_MAX {
            break;
        }
        units.push(input);
    }
    let next = first + u32::try_from(units.len()).unwrap_or(0);
    Ok((units, next))
}

/// The next page of votes that a keeper took.
pub(super) fn hand_back(store: &Store, signer: &Signer, at: HandBackAt) -> Result<Page<pb::KeeperMessage, HandBackAt>, StoreError> {
    let job = at.job;
    let (mut votes, next) = store.votes_taken_here(job, at.next, ROWS)?;
    signer.sign(job, votes.iter_mut());
    if votes.is_empty() {
        let done = KeeperMessage::HandBack { job, votes: Vec::new(), done: true };
        return Ok(Page { messages: vec![done.into()], next: None });
    }
    let (mut messages, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for vote in votes {
        let small = vote.output_bytes <= INLINE_BYTES_MAX as u64;
        let output = if small { store.read_blob(vote.value.output)?.map(Arc::<[u8]>::from) } else { None };
        let size = output.as_ref().map_or(0, |output| output.len());
        if bytes + size > BATCH_INLINE_BYTES_MAX {
            messages.push(KeeperMessage::HandBack { job, votes: std::mem::take(&mut batch), done: false }.into());
            bytes = 0;
        }
        bytes += size;
        batch.push(HandedVote { vote, output });
    }
    messages.push(KeeperMessage::HandBack { job, votes: batch, done: false }.into());
    Ok(Page { messages, next: Some(HandBackAt { job, next }) })
}
