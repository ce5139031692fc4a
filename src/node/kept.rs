//! Receipts of what this machine computed for others: gathered and written many at a time, and said again to those who lost them.

use super::{
    border::{Fetch, Goal},
    net::Wanted,
    run_loop::Node,
};
use crate::{
    protocol::{
        ids::{JobId, PeerId},
        owner::{Output, Recovered},
        peer::Event,
        platform::Platform,
        worker::Kept,
    },
    store::{Store, Write},
    wire::{
        bounds::{BATCH_MAX, INLINE_BYTES_MAX, SIGNATURE_BYTES},
        kept::{self, ReceiptPage},
        receipt::{Claim, Receipts},
        work::WorkerMessage,
    },
};
use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};
use tokio::{task::JoinHandle, time::Instant};

/// Receipts are written at least this often. What a crash takes in between is lost: others have the same, or the unit runs again.
const WRITE_AFTER: Duration = Duration::from_secs(1);
/// So many are written at once without waiting.
const WRITE_AT: usize = 4096;
/// The most that wait while the disk is slow; more are not kept.
const WAITING_MAX: usize = 65_536;

/// Receipts that are not written yet.
#[derive(Debug, Default)]
pub(super) struct KeptBuffer {
    waiting: BTreeMap<(PeerId, JobId), Vec<Kept>>,
    count: usize,
    since: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl KeptBuffer {
    pub fn add(&mut self, coordinator: PeerId, job: JobId, receipts: Vec<Kept>) {
        if self.count + receipts.len() > WAITING_MAX {
            return;
        }
        self.count += receipts.len();
        self.since.get_or_insert_with(Instant::now);
        self.waiting.entry((coordinator, job)).or_default().extend(receipts);
    }

    /// When they are to be written, if any wait.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + WRITE_AFTER)
    }

    /// Hands them to the store, which writes them when it comes around; nobody waits for that.
    pub fn write_when_due(&mut self, store: &Store) {
        let due = self.count >= WRITE_AT || self.due().is_some_and(|due| due <= Instant::now());
        if !due {
            return;
        }
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            // The disk is slow: they wait for another second.
            self.since = Some(Instant::now());
            return;
        }
        let (store, writes) = (store.clone(), self.take());
        self.writing = Some(tokio::spawn(async move {
            if let Err(error) = store.commit(writes).await {
                tracing::warn!(%error, "receipts are not kept");
            }
        }));
    }

    /// Writes what waits, at the end.
    pub async fn finish(&mut self, store: &Store) {
        if let Some(writing) = self.writing.take() {
            // It has logged what went wrong.
            let _ = writing.await;
        }
        if self.count > 0
            && let Err(error) = store.commit(self.take()).await
        {
            tracing::warn!(%error, "receipts are not kept");
        }
    }

    fn take(&mut self) -> Vec<Write> {
        (self.count, self.since) = (0, None);
        let at = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let mut writes = Vec::new();
        for ((coordinator, job), receipts) in std::mem::take(&mut self.waiting) {
            for part in receipts.chunks(BATCH_MAX) {
                let count = u32::try_from(part.len()).unwrap_or(u32::MAX);
                writes.push(Write::Receipts { coordinator, job, at, count, bytes: kept::encode(part) });
            }
        }
        writes
    }
}

impl Node {
    /// Signs a page of the receipts that are kept for a coordinator, and sends it.
    pub(super) fn send_receipts(&mut self, to: PeerId, job: JobId, after: u64) {
        // Whoever has shown that it may coordinate the job gets what others leased, too.
        let coordinator = self.runs.description(to, job).is_none().then_some(to);
        let read = tokio::task::block_in_place(|| self.store.kept_receipts(coordinator, job, after, BATCH_MAX));
        let (receipts, next) = match read {
            Ok(page) => page,
            Err(error) => return tracing::error!(%error, "kept receipts cannot be read"),
        };
        let claims: Vec<Claim> = receipts.iter().map(kept::claim).collect();
        let mut signature = [0; SIGNATURE_BYTES];
        if !claims.is_empty() {
            match Receipts::new(job, &self.validation_class, &self.instruction_set, &claims) {
                Ok(receipts) => signature = receipts.sign(self.identity.secret()),
                Err(error) => return tracing::error!(%error, "own receipts cannot be made"),
            }
        }
        self.send_to_coordinator(to, WorkerMessage::Receipts(ReceiptPage { job, receipts, signature, next }));
    }

    /// Checks a page's signature, then hands in what it says; large outputs are fetched first, as far as they can be had.
    pub(super) fn on_receipts(&mut self, from: PeerId, page: ReceiptPage) -> Option<String> {
        let Some(is) = self.workers.get(&from)?.hello.clone() else { return Some("receipts before a greeting".into()) };
        let ReceiptPage { job, receipts: kept, signature, next } = page;
        if kept.is_empty() {
            return None;
        }
        // Whatever it says that the units were given: here they are what they are.
        let inputs = self.inputs_of(job, kept.iter().map(|kept| kept.unit))?;
        let claims: Vec<Claim> = kept.iter().zip(inputs).map(|(kept, input)| Claim { input, ..kept::claim(kept) }).collect();
        let receipts = match Receipts::new(job, &is.class, &is.instruction_set, &claims) {
            Ok(receipts) => receipts,
            Err(error) => return Some(error.to_string()),
        };
        if let Err(error) = receipts.verify(from, &signature) {
            return Some(error.to_string());
        }
        let platform = Platform::named(is.instruction_set.as_bytes());
        let mut here = Vec::with_capacity(kept.len());
        for (position, Kept { unit, attempt, ordinal, token, input: _, rests_on, value, output_bytes, output }) in
            kept.into_iter().enumerate()
        {
            let output = match output {
                Some(bytes) => Output::Bytes(bytes),
                None if self.holds(value.output) => Output::Held,
                None => Output::Missing,
            };
            let proof = receipts.proof(position, &signature);
            let receipt = Recovered { unit, attempt, ordinal, token, rests_on, value, output_bytes, output, platform, proof };
            here.extend(self.unless_fetched(from, job, receipt));
        }
        self.event(Event::Recovered { from, job, receipts: here, next });
        None
    }

    /// Fetches the output of a receipt where its worker may hold it as a blob; gives the receipt back where not.
    fn unless_fetched(&mut self, from: PeerId, job: JobId, receipt: Recovered) -> Option<Recovered> {
        let bytes = receipt.output_bytes;
        let owner = self.peer.owner();
        let allowed = owner.manifest(job).is_some_and(|manifest| bytes <= manifest.limits.output_bytes);
        let may_be_blob = receipt.output == Output::Missing && bytes > INLINE_BYTES_MAX as u64;
        if !may_be_blob || !allowed || owner.may_recover(from, job, &receipt).is_err() {
            return Some(receipt);
        }
        let wanted = Wanted { digest: receipt.value.output, length: Some(bytes), at_most: bytes };
        let goal = Goal::Recovered { from, job, receipt: Box::new(receipt.clone()) };
        if self.fetches.push(Fetch { wanted, holders: vec![from], goal }) { None } else { Some(receipt) }
    }

    pub(super) fn on_recovered_output(&mut self, from: PeerId, job: JobId, receipt: Recovered, result: Result<(), String>) {
        let output = if result.is_ok() { Output::Held } else { Output::Missing };
        self.event(Event::Recovered { from, job, receipts: vec![Recovered { output, ..receipt }], next: None });
    }
}
