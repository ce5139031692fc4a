//! A job with its proof as one file: the store's votes and bytes with what the run loop says of them, in the form of `wire::bundle`.

use super::{
    NodeBackend,
    rerun::{self, Rerun},
    results::lost,
    stream::{Ended, Outlet, replies},
    units::LOOK_UNITS,
};
use crate::{
    control::{
        backend::{Replies, Reply},
        error::{ControlError, Kind},
    },
    node::Handle,
    protocol::{
        fact::Vote,
        ids::{Digest, JobId, PeerId, UnitIndex},
        job::{Manifest, input_digest},
        owner::{UnitState, UnitView},
        peer::Event,
    },
    store::{SMALL_BYTES_MAX, Store, UNITS_PAGE_MAX},
    wire::{
        bundle::{
            BundleError, BundledVote, CONTENT_BYTES_MAX, Header, Standing, Unit, VOTES_MAX, check::rests_on_too_few, writer::BundleWriter,
        },
        control::{BundleChunk, ExportBundleRequest},
        manifest,
        receipt::{Claim, Receipts},
        work::UnitInput,
    },
};
use iroh::SecretKey;
use std::sync::Arc;

/// Bytes that are handed out at once.
const CHUNK_BYTES: usize = 256 << 10;
// A page's own votes are signed as one batch.
const _: () = assert!(LOOK_UNITS <= crate::wire::bounds::BATCH_MAX);

/// Bytes that belong to a unit.
enum Content {
    Here(Vec<u8>),
    /// In a blob of this size, to be read bit by bit.
    Blob(Digest, u64),
}

/// A unit that is ready to be written.
struct Ready {
    unit: Unit,
    contents: Vec<Content>,
}

/// Which of a job's votes are on which unit: sorted by unit, then by commitment. What came later is behind, and sorted in.
#[derive(Default)]
struct VoteIndex {
    sorted: Vec<(UnitIndex, u32)>,
    next: u32,
}

impl VoteIndex {
    /// Takes in what was committed since.
    fn update(&mut self, store: &Store, job: JobId) -> Reply<()> {
        let newer = store.vote_units(job, self.next)?;
        let Some((_, last)) = newer.last() else { return Ok(()) };
        self.next = last + 1;
        self.sorted.extend(newer);
        // Runs that are sorted already are merged.
        self.sorted.sort();
        Ok(())
    }

    fn of(&self, unit: UnitIndex) -> impl Iterator<Item = u32> {
        let first = self.sorted.partition_point(|(other, _)| *other < unit);
        self.sorted[first..].iter().take_while(move |(other, _)| *other == unit).map(|(_, number)| *number)
    }
}

/// An export under way.
struct Export {
    backend: NodeBackend,
    job: JobId,
    whole: bool,
    manifest: Arc<Manifest>,
    writer: BundleWriter,
    index: VoteIndex,
    signer: Signer,
}

/// What signs this node's own votes, which need no receipt as long as nobody else looks at them.
#[derive(Clone)]
struct Signer {
    me: PeerId,
    key: SecretKey,
    class: String,
    instruction_set: String,
}

impl Signer {
    fn of(handle: &Handle) -> Self {
        let facts = &handle.facts;
        let (class, instruction_set) = (facts.validation_class.clone(), facts.instruction_set.clone());
        Self { me: facts.me, key: handle.identity.secret().clone(), class, instruction_set }
    }

    /// Gives own votes their receipts.
    fn sign(&self, job: JobId, votes: &mut [&mut BundledVote]) -> Reply<()> {
        let claims: Vec<Claim> = votes.iter().map(|vote| vote.claim).collect();
        if claims.is_empty() {
            return Ok(());
        }
        let receipts = Receipts::new(job, &self.class, &self.instruction_set, &claims);
        let receipts = receipts.map_err(|error| ControlError::new(Kind::Internal, "RECEIPTS", error.to_string()))?;
        let signature = receipts.sign(&self.key);
        for (position, vote) in votes.iter_mut().enumerate() {
            vote.proof = receipts.proof(position, &signature);
        }
        Ok(())
    }
}

impl NodeBackend {
    pub(super) async fn stream_bundle(&self, request: ExportBundleRequest) -> Reply<Replies<BundleChunk>> {
        let job = self.own(&request.job).await?;
        let view = self.seen(job).await?.view;
        let whole = !request.digests_only;
        if whole {
            let bytes = self.read(move |store| input_bytes(store, job)).await?.saturating_add(view.counts.output_bytes);
            if bytes > CONTENT_BYTES_MAX {
                let error = ControlError::new(Kind::Exhausted, "TOO_LARGE", "the job's inputs and outputs are too large for one bundle");
                let cause = format!("{bytes} bytes; at most {CONTENT_BYTES_MAX} are put into a bundle");
                return Err(error.cause(cause).hint(format!("manyhands verify {} --export FILE --digests-only", job.short())));
            }
        }
        let signed = self.read(move |store| Ok(store.signed_manifest(job)?)).await?;
        let signed = signed.ok_or_else(|| ControlError::no_such_job(&job.to_string()))?;
        let manifest =
            manifest::decode(&signed.encoded).map_err(|error| ControlError::new(Kind::Internal, "MANIFEST", error.to_string()))?;
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        let header = Header { manifest: manifest.clone(), encoded: signed.encoded, signature: signed.signature, whole, made_by };
        let writer = BundleWriter::begin(&header).map_err(not_written)?;
        let signer = Signer::of(&self.handle().await?);
        let (manifest, index) = (Arc::new(manifest), VoteIndex::default());
        let export = Export { backend: self.clone(), job, whole, manifest, writer, index, signer };
        Ok(replies(move |outlet| export.run(outlet)))
    }
}

impl Export {
    async fn run(mut self, outlet: Outlet<BundleChunk>) -> Result<(), Ended> {
        let (module, units) = (self.manifest.module, self.manifest.units());
        let bytes = self.backend.read(move |store| Ok(store.read_blob(module)?)).await?;
        let bytes = bytes.ok_or_else(|| ControlError::new(Kind::Internal, "MODULE_LOST", "the module is damaged or lost on this disk"))?;
        self.writer.bytes(&bytes).map_err(not_written)?;
        let mut first = 0;
        while first < units {
            let views = self.backend.unit_views(self.job, first, LOOK_UNITS).await?;
            let Some(last) = views.last() else { break };
            let next = last.unit.0 + 1;
            let mut page = self.page(views).await?;
            if self.vouch(&page, &outlet).await? {
                let views = self.backend.unit_views(self.job, first, LOOK_UNITS).await?;
                page = self.page(views).await?;
            }
            first = next;
            for ready in page {
                self.writer.unit(&ready.unit).map_err(not_written)?;
                for content in ready.contents {
                    self.content(ready.unit.unit, content, &outlet).await?;
                }
                self.hand_out(&outlet).await?;
            }
        }
        let mut rest = self.writer.take();
        rest.extend(self.writer.finish(&self.signer.key).map_err(not_written)?);
        for chunk in rest.chunks(CHUNK_BYTES) {
            outlet.put(BundleChunk { data: chunk.to_vec().into() }).await?;
        }
        Ok(())
    }

    /// Runs the units here that nobody else could believe, since the owner's check of a segment stood for a vote: what is computed here
    /// becomes the owner's own, as with `verify`, and gets its receipt. Whether any was; what cannot be run stays as it is.
    async fn vouch(&self, page: &[Ready], outlet: &Outlet<BundleChunk>) -> Result<bool, Ended> {
        let (policy, own) = (self.manifest.policy, self.manifest.owner == self.signer.me);
        let few = page.iter().filter(|ready| own && rests_on_too_few(&ready.unit, policy));
        let few: Vec<UnitIndex> = few.map(|ready| ready.unit.unit).collect();
        if few.is_empty() {
            return Ok(false);
        }
        tracing::info!(job = %self.job.short(), units = few.len(), "units are run here to be proven by a bundle");
        // The node's handle is held only while the slot is started.
        let mut reruns = {
            let handle = self.backend.handle().await?;
            rerun::start(&handle, self.job, self.manifest.clone(), few)
        };
        let mut any = false;
        loop {
            let next: Option<Rerun> = tokio::select! {
                next = reruns.next() => next,
                gone = outlet.gone() => return Err(gone),
            };
            let job = self.job;
            match next {
                Some((_, Ok(run))) => {
                    self.backend.handle().await?.event(Event::Checked { job, run }).await?;
                    any = true;
                }
                Some((unit, Err(reason))) => {
                    tracing::warn!(job = %job.short(), unit = unit.0, %reason, "a unit that a bundle cannot prove could not be run here");
                }
                None => return Ok(any),
            }
        }
    }

    /// Hands out what was written, once it is worth a message.
    async fn hand_out(&mut self, outlet: &Outlet<BundleChunk>) -> Result<(), Ended> {
        if self.writer.waiting() >= CHUNK_BYTES {
            for chunk in self.writer.take().chunks(CHUNK_BYTES) {
                outlet.put(BundleChunk { data: chunk.to_vec().into() }).await?;
            }
        }
        Ok(())
    }

    /// Reads everything about these units but large contents. The store is asked after the run loop, so that it knows each vote.
    async fn page(&mut self, views: Vec<UnitView>) -> Reply<Vec<Ready>> {
        let mut index = std::mem::take(&mut self.index);
        let (job, whole, has_table, signer) = (self.job, self.whole, self.manifest.has_table(), self.signer.clone());
        let read = move |store: &Store| {
            index.update(store, job)?;
            let units: Vec<UnitIndex> = views.iter().map(|view| view.unit).collect();
            let mut inputs = if has_table { store.unit_inputs(job, &units)? } else { units.iter().map(|_| None).collect() };
            let mut page = Vec::with_capacity(views.len());
            for (view, input) in views.iter().zip(&mut inputs) {
                let numbers: Vec<u32> = index.of(view.unit).collect();
                page.push(ready(store, view, input.take(), store.votes_numbered(job, &numbers)?, whole, signer.me)?);
            }
            let votes = page.iter_mut().flat_map(|ready| &mut ready.unit.votes);
            signer.sign(job, &mut votes.filter(|vote| vote.worker == signer.me).collect::<Vec<_>>())?;
            Ok((index, page))
        };
        let (index, page) = self.backend.read(read).await?;
        self.index = index;
        Ok(page)
    }

    async fn content(&mut self, unit: UnitIndex, content: Content, outlet: &Outlet<BundleChunk>) -> Result<(), Ended> {
        let (digest, size) = match content {
            Content::Here(bytes) => return Ok(self.writer.bytes(&bytes).map_err(not_written)?),
            Content::Blob(digest, size) => (digest, size),
        };
        let mut offset = 0;
        while offset < size {
            let bytes = self.backend.read(move |store| Ok(store.read_blob_at(digest, offset, CHUNK_BYTES)?)).await?;
            let bytes = bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| lost(unit.0))?;
            offset += bytes.len() as u64;
            self.writer.bytes(&bytes).map_err(not_written)?;
            self.hand_out(outlet).await?;
        }
        Ok(())
    }
}

/// A unit with its contents.
fn ready(store: &Store, view: &UnitView, input: Option<UnitInput>, votes: Vec<Vote>, whole: bool, me: PeerId) -> Reply<Ready> {
    let (standing, value) = match (view.state, view.value) {
        (UnitState::Verified, value) => (Standing::Verified, value),
        (UnitState::Failed, Some(value)) => (Standing::VerifiedFailure, Some(value)),
        (UnitState::Failed, None) => (Standing::Failed, None),
        (
            UnitState::Waiting
            | UnitState::Running
            | UnitState::AwaitingVote
            | UnitState::Provisional
            | UnitState::Disputed
            | UnitState::Rechecking,
            _,
        ) => (Standing::Undecided, None),
    };
    let output_bytes = match value {
        Some(value) => store.blob_size(value.output)?.ok_or_else(|| lost(view.unit.0))?,
        None => 0,
    };
    let unit = Unit {
        unit: view.unit,
        name: input.as_ref().map(|input| input.name.clone()).unwrap_or_default(),
        input: input.as_ref().map_or_else(|| Digest::of(&[]), |input| input.digest),
        input_bytes: input.as_ref().map_or(0, |input| input.size),
        standing,
        value,
        output_bytes,
        by_owner: value.is_some() && view.by_owner,
        votes: bundled(view, votes, input.as_ref().map(|input| input_digest(&input.name, input.digest)), me),
    };
    let mut contents = Vec::new();
    if whole {
        contents.extend(input.map(|input| match input.inline {
            Some(bytes) => Content::Here(bytes.to_vec()),
            None => Content::Blob(input.digest, input.size),
        }));
        contents.extend(value.map(|value| output(store, view.unit, value.output, output_bytes)).transpose()?);
    }
    Ok(Ready { unit, contents })
}

fn output(store: &Store, unit: UnitIndex, digest: Digest, size: u64) -> Reply<Content> {
    if size > SMALL_BYTES_MAX as u64 {
        return Ok(Content::Blob(digest, size));
    }
    Ok(Content::Here(store.read_blob(digest)?.ok_or_else(|| lost(unit.0))?))
}

/// Votes with what the run loop says of them: this node's own first, then those that count, then evidence.
fn bundled(view: &UnitView, votes: Vec<Vote>, input: Option<Digest>, me: PeerId) -> Vec<BundledVote> {
    let known = |vote: Vote| {
        let seen = view.votes.iter().find(|seen| seen.worker == vote.worker && seen.value == vote.value)?;
        let (claim, proof) = (Claim::of_vote(&vote, input), vote.proof);
        Some(BundledVote { worker: vote.worker, claim, proof, counted: seen.counted, proven: seen.proven, struck: seen.struck })
    };
    let mut bundled: Vec<BundledVote> = votes.into_iter().filter_map(known).collect();
    bundled.sort_by_key(|bundled| (bundled.worker != me, !bundled.counted, bundled.struck));
    bundled.truncate(VOTES_MAX);
    bundled
}

/// The bytes of all inputs.
fn input_bytes(store: &Store, job: JobId) -> Reply<u64> {
    let (mut first, mut bytes) = (UnitIndex(0), 0_u64);
    loop {
        let rows = store.units_page(job, first, UNITS_PAGE_MAX)?;
        let Some(last) = rows.last() else { return Ok(bytes) };
        first = UnitIndex(last.unit.0 + 1);
        bytes = rows.iter().fold(bytes, |bytes, row| bytes.saturating_add(row.size));
    }
}

fn not_written(error: BundleError) -> ControlError {
    ControlError::new(Kind::Internal, "BUNDLE", "the bundle cannot be made").cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_found_by_unit_in_the_order_of_their_commitment() {
        let unit = UnitIndex;
        let mut index = VoteIndex { sorted: vec![(unit(3), 0), (unit(1), 1), (unit(3), 2), (unit(0), 3)], next: 4 };
        index.sorted.sort();
        assert_eq!(index.of(unit(3)).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(index.of(unit(0)).collect::<Vec<_>>(), [3]);
        assert_eq!(index.of(unit(2)).count() + index.of(unit(9)).count(), 0);
    }
}
