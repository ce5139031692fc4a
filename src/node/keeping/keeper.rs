//! The keeper's side: what authors send is checked, stored with this turn's facts, and acknowledged when it is durable.
//! What becomes of a job whose author is not heard is in `adopting`.

use super::{
    After, VOTES_OF_UNIT_MAX,
    copying::HandBackAt,
    outbox::{Item, Outbox},
    room::{self, Room},
};
use crate::{
    node::{
        border::{Fetch, Goal},
        net::{Outbound, Wanted},
        run_loop::Node,
    },
    protocol::{
        fact::{Fact, JobState},
        ids::{Digest, JobId, PeerId},
        job::{INPUT_BYTES_MAX, MODULE_BYTES_MAX, Manifest},
        keeping::{Keepers as KeeperList, KeptJob},
        peer::Event,
    },
    store::{BOUND_VOTE_BYTES, BoundSheaf, NewKept, Role, StoreError, Write},
    wire::{
        keep::{KeepMessage, KeeperMessage, Record},
        peer as pb,
        sheaf::Sheaf,
        work::JobDescription,
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

/// What half a vote, a verdict and their like take of that, about.
const RECORD_BYTES: u64 = 256;
/// Answers that wait for an author who does not read them, in bytes: some ten thousand.
const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// How often it is counted what kept jobs take: it takes a while, and what comes meanwhile is added.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// The same, where it looks as if there were no room; and no more than a twentieth of the time.
const COUNT_TIGHT_EVERY: Duration = Duration::from_secs(1);
const COUNT_SHARE: u32 = 20;
/// Jobs of one author that may be on their way here at a time.
const ARRIVING_MAX: usize = 8;
/// Refused jobs of one author that are remembered: more than it offers at a time.
const REFUSED_MAX: usize = 256;
/// Missing blobs of a copy that are fetched together.
const FETCHED_AT_ONCE: u32 = 256;

/// The peers whose jobs are kept here and whose streams are open.
#[derive(Debug, Default)]
pub(in crate::node) struct Authors {
    streams: BTreeMap<PeerId, Author>,
    /// What kept jobs take, and when that was last counted.
    room: Room,
    count_took: Duration,
    counted_at: Option<Instant>,
}

#[derive(Debug)]
struct Author {
    outbox: Outbox<pb::KeeperMessage, HandBackAt>,
    jobs: BTreeMap<JobId, Arriving>,
    /// Jobs that were refused: more of them may be on its way.
    refused: BTreeSet<JobId>,
}

/// A job on its author's stream.
#[derive(Debug)]
struct Arriving {
    manifest: Arc<Manifest>,
    keepers: KeeperList,
    /// The copy is complete, and everything that it needs is here.
    complete: bool,
    /// Votes were here before the stream was opened: some may come again.
    again: bool,
    /// Blobs on their way here.
    fetching: usize,
    /// Votes that came on this stream.
    votes: u64,
}

impl Authors {
    pub fn is_waiting(&self) -> bool {
        self.streams.values().any(|author| author.outbox.is_waiting())
    }
}

impl Node {
    pub(in crate::node) fn on_author_opened(&mut self, peer: PeerId, outbound: Outbound<pb::KeeperMessage>) {
        self.keeping
            .authors
            .streams
            .insert(peer, Author { outbox: Outbox::new(Some(outbound)), jobs: BTreeMap::new(), refused: BTreeSet::new() });
        self.event(Event::AuthorHeard(peer));
    }

    /// An author's stream has ended. What was not copied completely is worth nothing.
    pub(in crate::node) fn author_gone(&mut self, peer: PeerId) {
        let Some(author) = self.keeping.authors.streams.remove(&peer) else { return };
        while self.keeping.unbinding.try_join_next().is_some() {}
        for (job, arriving) in author.jobs {
            if !arriving.complete {
                self.drop_if_arriving(job);
                continue;
            }
            // If it stays away the job is adopted: then it is to go quickly.
            let store = self.store.clone();
            self.keeping.unbinding.spawn(async move {
                if let Err(error) = store.unbind(job).await {
                    tracing::debug!(%error, "a kept job was not taken apart");
                }
            });
        }
    }

    fn drop_if_arriving(&mut self, job: JobId) {
        let role = tokio::task::block_in_place(|| self.store.role(job));
        // One whose row waits for this turn's commit is removed behind it.
        let begun = self.keeping.writes.iter().any(|write| matches!(write, Write::Arrive(kept) if kept.id == job));
        if matches!(role, Ok(Some(Role::Arriving))) || (begun && matches!(role, Ok(None))) {
            self.remove_kept(job);
        }
    }

    /// Removes a job behind this turn's facts, once.
    fn remove_kept(&mut self, job: JobId) {
        self.keeping.authors.room.remove(job);
        if !self.is_being_removed(job) {
            self.keeping.removals.push(Write::RemoveJob(job));
        }
    }

    fn is_being_removed(&self, job: JobId) -> bool {
        self.keeping.removals.iter().any(|write| matches!(write, Write::RemoveJob(other) if *other == job))
    }

    pub(in crate::node) fn on_author(&mut self, from: PeerId, message: pb::KeepMessage) {
        if !self.keeping.authors.streams.contains_key(&from) {
            return;
        }
        self.event(Event::AuthorHeard(from));
        let refused = match KeepMessage::try_from(message) {
            Ok(message) => self.take_from_author(from, message).err(),
            Err(rejection) => Some(rejection.to_string()),
        };
        if let Some(reason) = refused {
            tracing::info!(peer = %from.short(), reason, "an author's message is refused, and the stream closed");
            self.author_gone(from);
        }
    }

    fn take_from_author(&mut self, from: PeerId, message: KeepMessage) -> Result<(), String> {
        let refused = self.keeping.authors.streams.get(&from).map(|author| &author.refused);
        if part_of(&message).is_some_and(|job| refused.is_some_and(|refused| refused.contains(&job))) {
            return Ok(());
        }
        match message {
            KeepMessage::Offer(description) => self.on_keep_offer(from, *description),
            KeepMessage::Units { job, first, units } => {
                let arriving = self.arriving(from, job)?;
                let end = u64::from(first.0) + units.len() as u64;
                if !arriving.manifest.has_table() || end > u64::from(arriving.manifest.units()) {
                    return Err("rows of units that the job does not have".into());
                }
                let bytes: u64 = units.iter().map(|unit| RECORD_BYTES + unit.inline.as_ref().map_or(0, |bytes| bytes.len() as u64)).sum();
                self.keeping.writes.push(Write::KeptUnits { job, first, units });
                self.weigh(from, job, bytes);
                Ok(())
            }
            KeepMessage::Facts { job, number, records, sheaf } => self.on_facts(from, job, number, records, sheaf),
            KeepMessage::Copied(job) => {
                self.arriving(from, job)?;
                self.keeping.after.push(After::Complete { author: from, job });
                Ok(())
            }
            KeepMessage::Alive => Ok(()),
            KeepMessage::Dismiss(job) => {
                self.forget_kept(from, job);
                Ok(())
            }
            KeepMessage::Recall(job) => {
                match self.role_for(from, job)? {
                    Some(Role::Adopted) => self.event(Event::Recalled { author: from, job }),
                    Some(Role::Kept) => self.keeping.after.push(After::HandBack { author: from, job }),
                    Some(Role::Own | Role::Arriving) | None => {
                        self.say(from, KeeperMessage::HandBack { job, votes: Vec::new(), done: true })
                    }
                }
                Ok(())
            }
        }
    }

    fn arriving(&mut self, from: PeerId, job: JobId) -> Result<&mut Arriving, String> {
        let author = self.keeping.authors.streams.get_mut(&from);
        author.and_then(|author| author.jobs.get_mut(&job)).ok_or_else(|| "something of a job that was not offered".to_owned())
    }

    /// What this machine is to a job of this author.
    fn role_for(&self, author: PeerId, job: JobId) -> Result<Option<Role>, String> {
        let read = tokio::task::block_in_place(|| Ok((self.store.role(job)?, self.store.signed_manifest(job)?)));
        let (role, signed) = read.map_err(|error: StoreError| error.to_string())?;
        let of_author = |encoded: &[u8]| crate::wire::manifest::decode(encoded).is_ok_and(|manifest| manifest.owner == author);
        match signed {
            Some(signed) if !of_author(&signed.encoded) => Err("a job of somebody else".into()),
            Some(_) | None => Ok(role),
        }
    }

    fn on_keep_offer(&mut self, from: PeerId, description: JobDescription) -> Result<(), String> {
        let JobDescription { job, manifest, encoded, signature, keepers } = description;
        let keepers = keepers.ok_or("an offer without a list of keepers")?;
        if manifest.owner != from || !keepers.names(self.peer.me()) {
            return Err("a job of somebody else, or for other keepers".into());
        }
        self.count_kept(COUNT_EVERY);
        let read = tokio::task::block_in_place(|| self.store.role(job));
        let role = read.map_err(|error: StoreError| error.to_string())?;
        let refusal = match role {
            Some(Role::Own) => Some("it is this peer's own"),
            _ if self.is_being_removed(job) => Some("it was dismissed a moment ago"),
            Some(_) => None,
            None if !self.may_keep(from, job) => Some("too many jobs of others"),
            None => self.keeping.authors.room.refusal_of_another(from),
        };
        if let Some(reason) = refusal {
            self.say_refused(from, job, reason);
            return Ok(());
        }
        self.keeping.authors.room.add(from, job, 0);
        let again = match self.arriving(from, job) {
            // On one stream nothing comes twice.
            Ok(arriving) => arriving.again,
            Err(_) if role.is_none() => false,
            Err(_) => tokio::task::block_in_place(|| self.store.has_votes(job)).map_err(|error| error.to_string())?,
        };
        let list = keepers.keepers.clone();
        self.keeping.writes.push(Write::Arrive(Box::new(NewKept { id: job, manifest: encoded, signature, keepers })));
        let Some(author) = self.keeping.authors.streams.get_mut(&from) else { return Ok(()) };
        author.refused.remove(&job);
        let manifest = Arc::new(manifest);
        let (complete, votes) = author.jobs.remove(&job).map_or((false, 0), |before| (before.complete, before.votes));
        author.jobs.insert(job, Arriving { manifest, keepers: list, complete, again, fetching: 0, votes });
        Ok(())
    }

    /// Counts what kept jobs take, if that was so long ago, and lets go what is kept no longer.
    fn count_kept(&mut self, every: Duration) {
        if self.keeping.authors.counted_at.is_some_and(|at| at.elapsed() < every) {
            return;
        }
        let began = Instant::now();
        let counted = tokio::task::block_in_place(|| self.store.kept_for_others());
        self.keeping.authors.count_took = began.elapsed();
        match counted {
            Ok(mut kept) => {
                let outdated = room::outdated(&kept, UNIX_EPOCH.elapsed().unwrap_or_default().as_secs());
                for job in kept.extract_if(.., |job| outdated.contains(&job.id)) {
                    self.refuse_job(job.author, job.id, "it has ended, and is kept no longer");
                }
                self.keeping.authors.room = Room::of(&kept);
                self.keeping.authors.counted_at = Some(Instant::now());
            }
            Err(error) => tracing::error!(%error, "kept jobs cannot be counted"),
        }
    }

    /// Whether there is room for one more job of this author, in number.
    fn may_keep(&self, author: PeerId, job: JobId) -> bool {
        let arriving = self.keeping.authors.streams.get(&author);
        let begun = arriving.map_or(0, |author| author.jobs.iter().filter(|(name, here)| **name != job && !here.complete).count());
        begun < ARRIVING_MAX && self.peer.keeping().may_keep(author, job).is_ok()
    }

    fn on_facts(&mut self, from: PeerId, job: JobId, number: u64, records: Vec<Record>, sheaf: Bytes) -> Result<(), String> {
        let arriving = self.arriving(from, job)?;
        let (mut writes, mut blobs, mut state) = (Vec::with_capacity(records.len() + 1), Vec::new(), None);
        let mut bytes = records.iter().map(|record| RECORD_BYTES + record.inline_bytes() as u64).sum();
        if !sheaf.is_empty() {
            let bound = Sheaf::decode(&sheaf).map_err(|rejection| rejection.to_string())?;
            if bound.units().any(|unit| unit.0 >= arriving.manifest.units()) {
                return Err("a unit that the job does not have".into());
            }
            let count = u32::try_from(bound.count()).unwrap_or(u32::MAX);
            arriving.votes += u64::from(count);
            if arriving.votes > VOTES_OF_UNIT_MAX * u64::from(arriving.manifest.units()) {
                return Err("more votes than the job can have".into());
            }
            bytes += u64::from(count) * BOUND_VOTE_BYTES + sheaf.len() as u64;
            writes.push(Write::Sheaf { job, sheaf: BoundSheaf { count, again: arriving.again, bytes: sheaf } });
        }
        for record in records {
            writes.push(match record {
                Record::State(now) => {
                    state = Some(now);
                    Write::Fact(Fact::JobState(job, now))
                }
                Record::Blob(bytes) => Write::Blob { digest: Digest::of(&bytes), bytes: bytes.to_vec(), pin: Some(job) },
                Record::LargeBlob(digest) => {
                    blobs.push(digest);
                    Write::Pin { job, digest }
                }
                Record::Vote(_) | Record::Verdict(..) | Record::Failures(..) | Record::Findings(_) | Record::Log(..) => {
                    return Err("a record that belongs into a sheaf".into());
                }
            });
        }
        let complete = arriving.complete;
        self.keeping.writes.append(&mut writes);
        if complete && !blobs.is_empty() {
            self.keeping.after.push(After::Fetch { author: from, job, blobs });
        }
        if complete && let Some(state) = state {
            let event = self.kept_event(from, job, state);
            self.keeping.after.push(After::Tell(Box::new(event)));
        }
        if number > 0 {
            self.keeping.after.push(After::Acknowledge { author: from, job, number });
        }
        self.weigh(from, job, bytes);
        Ok(())
    }

    /// What the core hears of a job that is kept completely.
    fn kept_event(&mut self, author: PeerId, job: JobId, state: JobState) -> Event {
        match self.arriving(author, job) {
            Ok(arriving) if !state.has_ended() => {
                let (manifest, keepers) = (arriving.manifest.clone(), arriving.keepers.clone());
                Event::Kept(KeptJob { id: job, manifest, keepers, adopted: false, ended: false })
            }
            Ok(_) | Err(_) => Event::KeptNoMore { job },
        }
    }

    /// Counts what a job takes; one that takes too much is not kept any more.
    fn weigh(&mut self, author: PeerId, job: JobId, bytes: u64) {
        self.keeping.authors.room.add(author, job, bytes);
        if self.keeping.authors.room.refusal(author).is_none() {
            return;
        }
        // Something may have gone meanwhile.
        self.count_kept(COUNT_TIGHT_EVERY.max(self.keeping.authors.count_took.saturating_mul(COUNT_SHARE)));
        if let Some(reason) = self.keeping.authors.room.refusal(author) {
            self.refuse_job(author, job, reason);
        }
    }

    fn refuse_job(&mut self, author: PeerId, job: JobId, reason: &str) {
        tracing::info!(job = %job.short(), reason, "a job is not kept");
        self.say_refused(author, job, reason);
        self.forget_kept(author, job);
    }

    /// What more of it is on its way is of no use, and no offence.
    fn say_refused(&mut self, author: PeerId, job: JobId, reason: &str) {
        if let Some(author) = self.keeping.authors.streams.get_mut(&author) {
            if author.refused.len() >= REFUSED_MAX {
                author.refused.clear();
            }
            author.refused.insert(job);
        }
        self.say(author, KeeperMessage::Refused { job, reason: reason.to_owned() });
    }

    fn forget_kept(&mut self, author: PeerId, job: JobId) {
        let begun = self.keeping.authors.streams.get_mut(&author).and_then(|author| author.jobs.remove(&job)).is_some();
        if begun || matches!(self.role_for(author, job), Ok(Some(Role::Kept | Role::Adopted | Role::Arriving))) {
            self.event(Event::KeptNoMore { job });
            self.remove_kept(job);
        }
    }

    /// A copy has ended: everything that it names is to be here before it counts.
    pub(super) fn complete_copy(&mut self, from: PeerId, job: JobId) {
        let Ok(arriving) = self.arriving(from, job) else { return };
        if arriving.complete {
            return self.say(from, KeeperMessage::Accepted(job));
        }
        if arriving.fetching > 0 {
            return;
        }
        let manifest = arriving.manifest.clone();
        let read = tokio::task::block_in_place(|| {
            let missing = self.store.missing_blobs(job, None, FETCHED_AT_ONCE)?;
            let units = if manifest.has_table() { self.store.units_held(job)? } else { manifest.units() };
            Ok((missing, units, self.store.has_blob(manifest.module)?))
        });
        match read {
            Ok((missing, units, _)) if missing.is_empty() && units != manifest.units() => {
                self.refuse_job(from, job, "its table is incomplete")
            }
            Ok((missing, _, false)) if missing.is_empty() => self.refuse_job(from, job, "its module is missing"),
            Ok((missing, ..)) if missing.is_empty() => {
                let role = tokio::task::block_in_place(|| self.store.role(job));
                if matches!(role, Ok(Some(Role::Arriving))) {
                    self.keeping.writes.push(Write::Role { job, role: Role::Kept, secret: None });
                }
                self.keeping.after.push(After::Accept { author: from, job });
            }
            Ok((missing, ..)) => self.fetch_for_kept(from, job, missing),
            Err::<_, StoreError>(error) => tracing::error!(%error, "a kept job cannot be read"),
        }
    }

    pub(super) fn fetch_for_kept(&mut self, author: PeerId, job: JobId, blobs: Vec<Digest>) {
        for digest in blobs {
            if self.holds(digest) {
                continue;
            }
            let Ok(arriving) = self.arriving(author, job) else { return };
            let limits = arriving.manifest.limits;
            let at_most = limits.output_bytes.max(MODULE_BYTES_MAX).max(INPUT_BYTES_MAX);
            arriving.fetching += 1;
            let wanted = Wanted { digest, length: None, at_most };
            let fetch = Fetch { wanted, holders: self.holders(author), goal: Goal::Kept { author, job, digest } };
            if !self.fetches.push(fetch) {
                self.on_kept_blob(author, job, digest, Err("too many fetches wait".into()));
            }
        }
    }

    /// A blob of a kept job has come, or cannot be had.
    pub(in crate::node) fn on_kept_blob(&mut self, author: PeerId, job: JobId, digest: Digest, result: Result<(), String>) {
        let Ok(arriving) = self.arriving(author, job) else { return };
        arriving.fetching = arriving.fetching.saturating_sub(1);
        let (complete, left) = (arriving.complete, arriving.fetching);
        match result {
            Ok(()) => {
                let size = tokio::task::block_in_place(|| self.store.blob_size(digest)).ok().flatten().unwrap_or(0);
                self.weigh(author, job, size);
                if !complete && left == 0 {
                    self.keeping.after.push(After::Complete { author, job });
                }
            }
            Err(reason) if complete => tracing::info!(job = %job.short(), reason, "an output of a kept job could not be fetched"),
            Err(reason) => self.refuse_job(author, job, &reason),
        }
    }

    pub(super) fn accept(&mut self, author: PeerId, job: JobId) {
        let Ok(arriving) = self.arriving(author, job) else { return };
        arriving.complete = true;
        let state = tokio::task::block_in_place(|| self.store.state_and_findings(job)).map_or(JobState::Running, |(state, _)| state);
        let event = self.kept_event(author, job, state);
        self.event(event);
        self.say(author, KeeperMessage::Accepted(job));
    }

    pub(super) fn acknowledge_author(&mut self, author: PeerId, job: JobId, number: u64) {
        self.say(author, KeeperMessage::Kept { job, number });
    }

    fn say(&mut self, author: PeerId, message: KeeperMessage) {
        const BYTES: usize = 128;
        let Some(here) = self.keeping.authors.streams.get_mut(&author) else { return };
        here.outbox.push(Item::Message(message.into(), BYTES));
        if here.outbox.bytes() > ANSWERS_BYTES_MAX {
            self.author_gone(author);
        }
    }

    /// A job is adopted no more; when that is durable its votes go back to its author.
    pub(in crate::node) fn hand_back(&mut self, to: PeerId, job: JobId) {
        self.keeping.writes.push(Write::Role { job, role: Role::Kept, secret: None });
        self.keeping.after.push(After::HandBack { author: to, job });
    }

    pub(super) fn begin_hand_back(&mut self, author: PeerId, job: JobId) {
        if let Some(author) = self.keeping.authors.streams.get_mut(&author) {
            author.outbox.push(Item::Pages(HandBackAt { job, next: 0 }));
        }
    }

    pub(super) fn pump_authors(&mut self) {
        let signer = if self.keeping.authors.is_waiting() { self.signer() } else { return };
        let store = &self.store;
        let mut gone = Vec::new();
        for (peer, author) in &mut self.keeping.authors.streams {
            if author.outbox.pump(|at| Self::read_taken(store, &signer, at)).is_err() {
                gone.push(*peer);
            }
        }
        gone.into_iter().for_each(|peer| self.author_gone(peer));
    }
}

/// The job of which this is a part, behind its offer.
fn part_of(message: &KeepMessage) -> Option<JobId> {
    use KeepMessage::{Copied, Facts, Units};
    if let Units { job, .. } | Facts { job, .. } | Copied(job) = message { Some(*job) } else { None }
}
