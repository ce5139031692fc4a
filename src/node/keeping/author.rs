//! The author's side: copies of own jobs at their keepers, and acknowledgements that wait for them.

use super::{
    ALIVE_EVERY,
    copying::{self, CopyAt, HandBackAt, Signer, Stage},
    outbox::{Item, Outbox, Page},
};
use crate::{
    node::{net::Outbound, run_loop::Node},
    protocol::{
        fact::{Fact, Origin, Vote},
        ids::{JobId, PeerId, UnitIndex},
        keeping::Keepers as KeeperList,
        owner::{Collected, Output},
        peer::Event,
    },
    store::Write,
    wire::{
        keep::{HandedVote, KeepMessage, KeeperMessage, Record, SignedKeepers},
        kept::check_collected,
        peer as pb,
        work::{CoordinatorMessage, JobDescription},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A keeper that says for so long that something is not durable there yet is given up: everybody waits for it.
pub(crate) const KEEPER_LAG_MAX: Duration = Duration::from_secs(5);
/// The same for what waits to be sent to it, in bytes.
pub(crate) const KEEPER_LAG_BYTES_MAX: usize = 64 << 20;

/// The peers that keep own jobs.
#[derive(Debug, Default)]
pub(in crate::node) struct Keepers {
    streams: BTreeMap<PeerId, Keeper>,
    /// Counts the commits of each job that is kept, from 1.
    numbers: BTreeMap<JobId, u64>,
    /// Acknowledgements that wait for keepers, by job, in order.
    held: BTreeMap<JobId, VecDeque<Held>>,
}

#[derive(Debug)]
struct Keeper {
    outbox: Outbox<pb::KeepMessage, CopyAt>,
    jobs: BTreeMap<JobId, Copied>,
    /// Jobs whose votes it is asked for.
    recalled: BTreeSet<JobId>,
    said: Instant,
}

/// A job at a keeper.
#[derive(Debug)]
struct Copied {
    /// It has said that it keeps it: acknowledgements wait for it.
    accepted: bool,
    /// Everything up to this number is durable there.
    kept: u64,
    /// What was sent since, and when.
    flying: VecDeque<(u64, Instant)>,
}

/// An acknowledgement that waits.
#[derive(Debug)]
struct Held {
    number: u64,
    to: PeerId,
    units: Vec<UnitIndex>,
}

impl Keepers {
    pub fn is_waiting(&self) -> bool {
        self.streams.values().any(|keeper| keeper.outbox.is_waiting())
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn is_kept(&self, job: JobId) -> bool {
        self.streams.values().any(|keeper| keeper.jobs.contains_key(&job))
    }

    /// The number up to which all keepers that are waited for have everything; none when nobody is.
    fn kept_by_all(&self, job: JobId) -> Option<u64> {
        let copies = self.streams.values().filter_map(|keeper| keeper.jobs.get(&job));
        copies.filter(|copy| copy.accepted).map(|copy| copy.kept).min()
    }

    /// What of these writes is to be copied to keepers, in order.
    pub fn records(&self, writes: &[Write], signer: impl FnOnce() -> Signer) -> BTreeMap<JobId, Vec<Record>> {
        let mut records: BTreeMap<JobId, Vec<Record>> = BTreeMap::new();
        if self.streams.is_empty() {
            return records;
        }
        let mut kept: BTreeMap<JobId, bool> = BTreeMap::new();
        for (job, record) in writes.iter().filter_map(record) {
            if *kept.entry(job).or_insert_with(|| self.is_kept(job)) {
                records.entry(job).or_default().push(record());
            }
        }
        if !records.is_empty() {
            let signer = signer();
            for (job, records) in &mut records {
                let votes = records.iter_mut().filter_map(|record| if let Record::Vote(vote) = record { Some(vote) } else { None });
                signer.sign(*job, votes);
            }
        }
        records
    }
}

/// What a keeper is told of a write, if it concerns keepers at all.
fn record<'a>(write: &'a Write) -> Option<(JobId, impl FnOnce() -> Record + 'a)> {
    let job = match write {
        Write::Fact(
            Fact::Vote(job, _) | Fact::Verdict(job, ..) | Fact::Failures(job, ..) | Fact::JobState(job, _) | Fact::Findings(job, _),
        ) => *job,
        Write::Blob { pin: Some(job), .. } | Write::Pin { job, .. } | Write::Log { job, .. } => *job,
        _ => return None,
    };
    Some((job, move || match write {
        Write::Fact(Fact::Vote(_, vote)) => {
            Record::Vote(Vote { origin: Origin::Collected { output: vote.origin.has_output() }, ..vote.clone() })
        }
        Write::Fact(Fact::Verdict(_, unit, verdict)) => Record::Verdict(*unit, *verdict),
        Write::Fact(Fact::Failures(_, unit, failures)) => Record::Failures(*unit, *failures),
        Write::Fact(Fact::Findings(_, findings)) => Record::Findings(*findings),
        Write::Fact(Fact::JobState(_, state)) => Record::State(*state),
        Write::Blob { digest, bytes, .. } => copying::blob(*digest, Some(Arc::from(&bytes[..]))),
        Write::Pin { digest, .. } => Record::LargeBlob(*digest),
        Write::Log { unit, bytes, .. } => copying::log(*unit, bytes),
        _ => unreachable!("only these were let through"),
    }))
}

/// Bytes that a message takes while it waits, about.
fn weight(message: &KeepMessage) -> usize {
    const RECORD: usize = 512;
    match message {
        KeepMessage::Facts { records, .. } => records.iter().map(|record| record.inline_bytes() + RECORD).sum(),
        _ => RECORD,
    }
}

impl Node {
    pub(in crate::node) fn signer(&self) -> Signer {
        Signer {
            store: self.store.clone(),
            me: self.peer.me(),
            key: self.identity.secret().clone(),
            class: self.validation_class.clone(),
            instruction_set: self.instruction_set.clone(),
        }
    }

    /// Offers a job to a keeper, or tells it the new list.
    pub(in crate::node) fn keep(&mut self, to: PeerId, job: JobId, list: KeeperList) {
        let read = tokio::task::block_in_place(|| Ok((self.store.signed_manifest(job)?, self.store.votes_end(job)?)));
        let (signed, votes_end) = match read {
            Ok((Some(signed), end)) => (signed, end),
            Ok((None, _)) => return,
            Err::<_, crate::store::StoreError>(error) => return tracing::error!(%error, "a job to be kept cannot be read"),
        };
        let Some(manifest) = self.peer.owner().manifest(job) else { return };
        let keepers = Some(SignedKeepers::sign(self.identity.secret(), job, list));
        let manifest = (*manifest).clone();
        let description = JobDescription { job, manifest, encoded: signed.encoded, signature: signed.signature, keepers };
        if !self.open_keeper(to) {
            return;
        }
        let number = *self.keeping.keepers.numbers.entry(job).or_default();
        let Some(keeper) = self.keeping.keepers.streams.get_mut(&to) else { return };
        let push = |keeper: &mut Keeper, message: KeepMessage| keeper.outbox.push(Item::Message(message.into(), 0));
        push(keeper, KeepMessage::Offer(Box::new(description)));
        if keeper.jobs.contains_key(&job) {
            push(keeper, KeepMessage::Copied(job));
        } else {
            keeper.outbox.push(Item::Pages(CopyAt { job, votes_end, stage: Stage::Units(0) }));
            keeper.jobs.insert(job, Copied { accepted: false, kept: number, flying: VecDeque::new() });
        }
    }

    /// Opens a stream to a keeper where there is none; `false` when that cannot even be tried.
    fn open_keeper(&mut self, to: PeerId) -> bool {
        if self.keeping.keepers.streams.contains_key(&to) {
            return true;
        }
        let keeper = Keeper { outbox: Outbox::new(None), jobs: BTreeMap::new(), recalled: BTreeSet::new(), said: Instant::now() };
        self.keeping.keepers.streams.insert(to, keeper);
        self.keeping.due.get_or_insert_with(Instant::now);
        if self.net.open_keep(to).is_err() {
            self.keeper_gone(to);
            return false;
        }
        true
    }

    pub(in crate::node) fn dismiss(&mut self, to: PeerId, job: JobId) {
        if let Some(keeper) = self.keeping.keepers.streams.get_mut(&to) {
            keeper.jobs.remove(&job);
            keeper.outbox.push(Item::Message(KeepMessage::Dismiss(job).into(), 0));
            self.release(job);
        }
    }

    pub(in crate::node) fn recall(&mut self, to: PeerId, job: JobId) {
        if self.open_keeper(to)
            && let Some(keeper) = self.keeping.keepers.streams.get_mut(&to)
        {
            keeper.recalled.insert(job);
            keeper.outbox.push(Item::Message(KeepMessage::Recall(job).into(), 0));
        }
    }

    pub(in crate::node) fn on_keeper_opened(&mut self, peer: PeerId, outbound: Outbound<pb::KeepMessage>) {
        // One that is not wanted any more ends with its sender.
        if let Some(keeper) = self.keeping.keepers.streams.get_mut(&peer) {
            keeper.outbox.opened(outbound);
        }
    }

    /// A keeper is not there any more, or is given up. Nobody waits for it.
    pub(in crate::node) fn keeper_gone(&mut self, peer: PeerId) {
        let Some(keeper) = self.keeping.keepers.streams.remove(&peer) else { return };
        for job in keeper.jobs.into_keys() {
            self.release(job);
        }
        self.event(Event::KeeperLost(peer));
    }

    /// Sends keepers what has just become durable.
    pub(in crate::node) fn replicate(&mut self, records: BTreeMap<JobId, Vec<Record>>) {
        let keepers = &mut self.keeping.keepers;
        let mut lost = BTreeSet::new();
        for (job, records) in records {
            let number = keepers.numbers.entry(job).or_default();
            *number += 1;
            let messages: Vec<(pb::KeepMessage, usize)> = copying::messages(job, *number, records)
                .into_iter()
                .map(|message| {
                    let weight = weight(&message);
                    (message.into(), weight)
                })
                .collect();
            for (peer, keeper) in &mut keepers.streams {
                let Some(copy) = keeper.jobs.get_mut(&job) else { continue };
                copy.flying.push_back((*number, Instant::now()));
                messages.iter().for_each(|(message, weight)| keeper.outbox.push(Item::Message(message.clone(), *weight)));
                if keeper.outbox.bytes() > KEEPER_LAG_BYTES_MAX {
                    lost.insert(*peer);
                }
            }
        }
        for peer in lost {
            tracing::warn!(peer = %peer.short(), "a keeper does not keep up, and is given up");
            self.keeper_gone(peer);
        }
    }

    /// Acknowledges outcomes to a worker, when the job's keepers have them too.
    pub(in crate::node) fn acknowledge(&mut self, to: PeerId, job: JobId, units: Vec<UnitIndex>) {
        let keepers = &mut self.keeping.keepers;
        let number = keepers.numbers.get(&job).copied().unwrap_or(0);
        if keepers.kept_by_all(job).is_some_and(|kept| kept < number) {
            keepers.held.entry(job).or_default().push_back(Held { number, to, units });
        } else {
            self.send_to_worker(to, CoordinatorMessage::Acknowledged { job, units });
        }
    }

    fn release(&mut self, job: JobId) {
        let kept = self.keeping.keepers.kept_by_all(job).unwrap_or(u64::MAX);
        while let Some(held) = self.keeping.keepers.held.get_mut(&job) {
            match held.pop_front_if(|held| held.number <= kept) {
                Some(Held { to, units, .. }) => self.send_to_worker(to, CoordinatorMessage::Acknowledged { job, units }),
                None if held.is_empty() => drop(self.keeping.keepers.held.remove(&job)),
                None => break,
            }
        }
    }

    pub(in crate::node) fn on_keeper(&mut self, from: PeerId, message: pb::KeeperMessage) {
        let refused = match KeeperMessage::try_from(message) {
            Ok(message) => self.take_from_keeper(from, message).err(),
            Err(rejection) => Some(rejection.to_string()),
        };
        if let Some(reason) = refused {
            tracing::info!(peer = %from.short(), reason, "a keeper's message is refused, and the stream closed");
            self.keeper_gone(from);
        }
    }

    fn take_from_keeper(&mut self, from: PeerId, message: KeeperMessage) -> Result<(), String> {
        let Some(keeper) = self.keeping.keepers.streams.get_mut(&from) else { return Ok(()) };
        match message {
            KeeperMessage::Accepted(job) => {
                // A job that it was dismissed from meanwhile is none of its any more.
                if let Some(copy) = keeper.jobs.get_mut(&job) {
                    copy.accepted = true;
                    // Its time begins now: what it has not said yet lies behind the copy.
                    copy.flying.iter_mut().for_each(|(_, since)| *since = Instant::now());
                    self.event(Event::KeeperAnswered { from, job, keeps: true });
                }
            }
            KeeperMessage::Refused { job, reason } => {
                if keeper.jobs.remove(&job).is_some() {
                    tracing::info!(peer = %from.short(), job = %job.short(), reason, "a peer does not keep the job");
                    self.event(Event::KeeperAnswered { from, job, keeps: false });
                    self.release(job);
                }
            }
            KeeperMessage::Kept { job, number } => {
                if let Some(copy) = keeper.jobs.get_mut(&job) {
                    while copy.flying.pop_front_if(|(sent, _)| *sent <= number).is_some() {}
                    // What was never sent cannot be kept.
                    let sent = self.keeping.keepers.numbers.get(&job).copied().unwrap_or(0);
                    copy.kept = copy.kept.max(number.min(sent));
                    self.release(job);
                }
            }
            KeeperMessage::HandBack { job, .. } if !keeper.recalled.contains(&job) => return Err("votes that nobody asked for".into()),
            KeeperMessage::HandBack { job, votes, done } => {
                if done {
                    keeper.recalled.remove(&job);
                }
                self.take_back(from, job, votes);
                if done {
                    self.event(Event::HandedBack { from, job });
                }
            }
        }
        Ok(())
    }

    /// Hands in votes that a keeper took, as far as their workers have signed them.
    fn take_back(&mut self, from: PeerId, job: JobId, votes: Vec<HandedVote>) {
        let inputs = tokio::task::block_in_place(|| self.store.input_digests(job, votes.iter().map(|handed| handed.vote.unit)));
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(error) => return tracing::error!(%error, "the inputs of units cannot be read"),
        };
        let mut collected = Vec::with_capacity(votes.len());
        for (HandedVote { vote, output }, input) in votes.into_iter().zip(inputs) {
            if let Err(reason) = check_collected(&vote, job, input, &self.validation_class) {
                tracing::info!(peer = %from.short(), job = %job.short(), %reason, "a vote that a keeper took is not believed");
                continue;
            }
            let output = match output {
                Some(bytes) => Output::Bytes(bytes),
                None if self.holds(vote.value.output) => Output::Held,
                None => Output::Missing,
            };
            collected.push(Collected { vote, output });
        }
        if !collected.is_empty() {
            self.event(Event::Collected { job, votes: collected });
        }
    }

    pub(super) fn pump_keepers(&mut self) {
        let signer = if self.keeping.keepers.is_waiting() { self.signer() } else { return };
        let store = &self.store;
        let mut gone = Vec::new();
        for (peer, keeper) in &mut self.keeping.keepers.streams {
            let read = |at: CopyAt| match tokio::task::block_in_place(|| copying::copy(store, &signer, at)) {
                Ok(page) => page,
                Err(error) => {
                    // The keeper never hears that the copy is complete, and never says that it has it.
                    tracing::error!(%error, "a job to be kept cannot be read");
                    Page { messages: Vec::new(), next: None }
                }
            };
            if keeper.outbox.pump(read).is_err() {
                gone.push(*peer);
            }
        }
        gone.into_iter().for_each(|peer| self.keeper_gone(peer));
    }

    /// Says that this author is there, and gives up keepers that lag.
    pub(super) fn look_at_keepers(&mut self, now: Instant) {
        let lags =
            |copy: &Copied| copy.accepted && copy.flying.front().is_some_and(|(_, since)| now.duration_since(*since) > KEEPER_LAG_MAX);
        let mut lost = Vec::new();
        let mut unused = Vec::new();
        for (peer, keeper) in &mut self.keeping.keepers.streams {
            if keeper.jobs.values().any(lags) {
                lost.push(*peer);
            } else if keeper.jobs.is_empty() && keeper.recalled.is_empty() && keeper.outbox.is_empty() {
                unused.push(*peer);
            } else if now.duration_since(keeper.said) >= ALIVE_EVERY {
                keeper.said = now;
                keeper.outbox.push(Item::Message(KeepMessage::Alive.into(), 0));
            }
        }
        for peer in unused {
            self.keeping.keepers.streams.remove(&peer);
        }
        for peer in lost {
            tracing::warn!(peer = %peer.short(), "a keeper does not keep up, and is given up");
            self.keeper_gone(peer);
        }
    }

    /// The page of votes behind `at`, for their author.
    pub(super) fn read_taken(store: &crate::store::Store, signer: &Signer, at: HandBackAt) -> Page<pb::KeeperMessage, HandBackAt> {
        match tokio::task::block_in_place(|| copying::hand_back(store, signer, at)) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a kept job cannot be read");
                let done = KeeperMessage::HandBack { job: at.job, votes: Vec::new(), done: true };
                Page { messages: vec![done.into()], next: None }
            }
        }
    }
}
