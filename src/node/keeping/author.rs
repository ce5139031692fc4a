//! The author's side: copies of own jobs at their keepers, and acknowledgements that wait for them.

use super::{
    ALIVE_EVERY, VOTES_OF_UNIT_MAX,
    copying::{self, CopyAt, HandBackAt, Signer, Stage},
    gather::Gathered,
    outbox::{Item, Outbox, Page},
    pace::Pace,
};
use crate::{
    node::{net::Outbound, run_loop::Node},
    protocol::{
        fact::Fact,
        ids::{JobId, PeerId, UnitIndex},
        keeping::Keepers as KeeperList,
        owner::{Collected, Output},
        peer::Event,
    },
    store::Write,
    wire::{
        bounds::BATCH_MAX,
        keep::{HandedVote, KeepMessage, KeeperMessage, SignedKeepers},
        kept::{CollectedError, check_collected},
        peer as pb,
        receipt::CheckedRoots,
        work::{CoordinatorMessage, JobDescription},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// The peers that keep own jobs.
#[derive(Debug, Default)]
pub(in crate::node) struct Keepers {
    streams: BTreeMap<PeerId, Keeper>,
    /// Counts what was sent together of each job that is kept, from 1.
    numbers: BTreeMap<JobId, u64>,
    /// What was not sent yet.
    gathered: BTreeMap<JobId, Gathered>,
    /// Acknowledgements that wait for keepers: by job, by the number that they wait for, and by worker.
    held: BTreeMap<JobId, BTreeMap<u64, BTreeMap<PeerId, Vec<UnitIndex>>>>,
    /// Jobs of which nothing is leased, since a keeper is far behind.
    paced: BTreeSet<JobId>,
}

#[derive(Debug)]
struct Keeper {
    outbox: Outbox<pb::KeepMessage, CopyAt>,
    jobs: BTreeMap<JobId, Pace>,
    /// Jobs whose votes it is asked for, and how many it has handed in.
    recalled: BTreeMap<JobId, u64>,
    said: Instant,
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
        self.streams.values().filter_map(|keeper| keeper.jobs.get(&job)?.waited_for()).min()
    }

    /// The number under which everything that is durable now was sent, or will be.
    fn number(&self, job: JobId) -> u64 {
        let sent = self.numbers.get(&job).copied().unwrap_or(0);
        sent + u64::from(self.gathered.get(&job).is_some_and(|gathered| !gathered.is_empty()))
    }

    /// When something that was gathered is to be sent, if anything was.
    pub fn due(&self) -> Option<tokio::time::Instant> {
        self.gathered.values().filter_map(Gathered::due).min().map(tokio::time::Instant::from_std)
    }

    fn due_jobs(&self, now: Instant) -> Vec<JobId> {
        self.gathered.iter().filter(|(_, gathered)| gathered.is_due(now)).map(|(job, _)| *job).collect()
    }
}

/// The job whose keepers are told of a write, if any are.
fn job_of(write: &Write) -> Option<JobId> {
    match write {
        Write::Fact(
            Fact::Vote(job, _) | Fact::Verdict(job, ..) | Fact::Failures(job, ..) | Fact::JobState(job, _) | Fact::Findings(job, _),
        )
        | Write::Blob { pin: Some(job), .. }
        | Write::Pin { job, .. }
        | Write::Log { job, .. } => Some(*job),
        Write::Fact(Fact::Keepers(..) | Fact::Standing(..))
        | Write::Blob { pin: None, .. }
        | Write::Staged { .. }
        | Write::Receipts { .. }
        | Write::ForgetReceipts
        | Write::RemoveJob(_)
        | Write::RemoveBlob(_)
        | Write::Arrive(_)
        | Write::KeptUnits { .. }
        | Write::Sheaf { .. }
        | Write::Unbind(_)
        | Write::Role { .. }
        | Write::DropBlob(_)
        | Write::Note { .. } => None,
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
        // The copy has what is durable by now: it is not sent again behind it.
        self.send_gathered(job);
        let number = *self.keeping.keepers.numbers.entry(job).or_default();
        let Some(keeper) = self.keeping.keepers.streams.get_mut(&to) else { return };
        let push = |keeper: &mut Keeper, message: KeepMessage| keeper.outbox.push(Item::Message(message.into(), 0));
        push(keeper, KeepMessage::Offer(Box::new(description)));
        if keeper.jobs.contains_key(&job) {
            push(keeper, KeepMessage::Copied(job));
        } else {
            keeper.outbox.push(Item::Pages(CopyAt { job, votes_end, stage: Stage::Units(0) }));
            keeper.jobs.insert(job, Pace::new(Instant::now(), number));
        }
    }

    /// Opens a stream to a keeper where there is none; `false` when that cannot even be tried.
    fn open_keeper(&mut self, to: PeerId) -> bool {
        if self.keeping.keepers.streams.contains_key(&to) {
            return true;
        }
        let keeper = Keeper { outbox: Outbox::new(None), jobs: BTreeMap::new(), recalled: BTreeMap::new(), said: Instant::now() };
        self.keeping.keepers.streams.insert(to, keeper);
        self.keeping.due.get_or_insert_with(tokio::time::Instant::now);
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
            keeper.recalled.insert(job, 0);
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

    /// Gathers for keepers what is about to become durable; nothing of it is sent before it is.
    pub(in crate::node) fn gather(&mut self, writes: &[Write]) {
        if self.keeping.keepers.streams.is_empty() {
            return;
        }
        let (signer, me, now) = (self.signer(), self.peer.me(), Instant::now());
        let keepers = &mut self.keeping.keepers;
        let mut of_jobs: BTreeMap<JobId, Vec<&Write>> = BTreeMap::new();
        for (job, write) in writes.iter().filter_map(|write| Some((job_of(write)?, write))) {
            of_jobs.entry(job).or_default().push(write);
        }
        for (job, writes) in of_jobs {
            if keepers.is_kept(job) {
                keepers.gathered.entry(job).or_default().add(now, me, writes.into_iter(), &(&signer, job));
            }
        }
    }

    /// Sends keepers what was gathered for long enough, or is much. Everything gathered is durable.
    pub(super) fn send_due(&mut self) {
        for job in self.keeping.keepers.due_jobs(Instant::now()) {
            self.send_gathered(job);
        }
    }

    fn send_gathered(&mut self, job: JobId) {
        let signer = self.signer();
        let keepers = &mut self.keeping.keepers;
        if !keepers.is_kept(job) {
            keepers.gathered.remove(&job);
            return;
        }
        let Some(gathered) = keepers.gathered.get_mut(&job).filter(|gathered| !gathered.is_empty()) else { return };
        let messages = gathered.take(&(&signer, job));
        let number = keepers.numbers.entry(job).or_default();
        *number += 1;
        let messages: Vec<(pb::KeepMessage, usize)> =
            copying::facts(job, *number, messages).into_iter().map(|(message, weight)| (message.into(), weight)).collect();
        let bytes = messages.iter().map(|(_, weight)| weight).sum();
        let now = Instant::now();
        for keeper in keepers.streams.values_mut() {
            let Some(pace) = keeper.jobs.get_mut(&job) else { continue };
            pace.sent(now, *number, bytes);
            messages.iter().for_each(|(message, weight)| keeper.outbox.push(Item::Message(message.clone(), *weight)));
        }
        self.mind_pace(job);
    }

    /// Leases nothing while a keeper is far behind, and again when it has caught up or is gone.
    fn mind_pace(&mut self, job: JobId) {
        let keepers = &mut self.keeping.keepers;
        let behind = keepers.streams.values().filter_map(|keeper| keeper.jobs.get(&job)).any(Pace::holds_up);
        let changed = if behind { keepers.paced.insert(job) } else { keepers.paced.remove(&job) };
        if changed {
            tracing::debug!(job = %job.short(), behind, "whether keepers are far behind has changed");
            self.event(Event::KeepersBehind { job, behind });
        }
    }

    /// Acknowledges outcomes to a worker, when the job's keepers have them too.
    pub(in crate::node) fn acknowledge(&mut self, to: PeerId, job: JobId, units: Vec<UnitIndex>) {
        let keepers = &mut self.keeping.keepers;
        let number = keepers.number(job);
        if keepers.kept_by_all(job).is_some_and(|kept| kept < number) {
            keepers.held.entry(job).or_default().entry(number).or_default().entry(to).or_default().extend(units);
        } else {
            self.send_to_worker(to, CoordinatorMessage::Acknowledged { job, units });
        }
    }

    /// Sends what keepers have meanwhile, many units to a message.
    fn release(&mut self, job: JobId) {
        let keepers = &mut self.keeping.keepers;
        let kept = keepers.kept_by_all(job).unwrap_or(u64::MAX);
        let mut released: BTreeMap<PeerId, Vec<UnitIndex>> = BTreeMap::new();
        if let Some(held) = keepers.held.get_mut(&job) {
            while let Some(entry) = held.first_entry().filter(|entry| *entry.key() <= kept) {
                entry.remove().into_iter().for_each(|(to, units)| released.entry(to).or_default().extend(units));
            }
            if held.is_empty() {
                keepers.held.remove(&job);
            }
        }
        for (to, units) in released {
            for units in units.chunks(BATCH_MAX) {
                self.send_to_worker(to, CoordinatorMessage::Acknowledged { job, units: units.to_vec() });
            }
        }
        self.mind_pace(job);
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
                if let Some(pace) = keeper.jobs.get_mut(&job) {
                    pace.accepted(Instant::now());
                    self.event(Event::KeeperAnswered { from, job, keeps: true });
                }
            }
            KeeperMessage::Refused { job, reason } => {
                // One that has ended is not offered again on a new stream, but its keeper may have let it go.
                let was_sent = keeper.jobs.remove(&job).is_some();
                keeper.outbox.drop_pages(|at| at.job == job);
                self.event(Event::KeeperAnswered { from, job, keeps: false });
                if was_sent {
                    tracing::info!(peer = %from.short(), job = %job.short(), reason, "a peer does not keep the job");
                    self.release(job);
                }
            }
            KeeperMessage::Kept { job, number } => {
                let sent = self.keeping.keepers.numbers.get(&job).copied().unwrap_or(0);
                if let Some(pace) = keeper.jobs.get_mut(&job) {
                    pace.kept(Instant::now(), number, sent);
                    self.release(job);
                }
            }
            KeeperMessage::HandBack { job, votes, done } => {
                let Some(handed) = keeper.recalled.get_mut(&job) else { return Err("votes that nobody asked for".into()) };
                *handed += votes.len() as u64;
                let units = self.peer.owner().manifest(job).map_or(0, |manifest| manifest.units());
                if *handed > VOTES_OF_UNIT_MAX * u64::from(units) {
                    return Err("more votes than the job can have".into());
                }
                if done {
                    keeper.recalled.remove(&job);
                }
                self.take_back(from, job, votes)?;
                if done {
                    self.event(Event::HandedBack { from, job });
                }
            }
        }
        Ok(())
    }

    /// Hands in votes that a keeper took. One that its worker did not sign is the keeper's doing, which checked it when it took it.
    fn take_back(&mut self, from: PeerId, job: JobId, votes: Vec<HandedVote>) -> Result<(), String> {
        let inputs = tokio::task::block_in_place(|| self.store.input_digests(job, votes.iter().map(|handed| handed.vote.unit)));
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(error) => {
                tracing::error!(%error, "the inputs of units cannot be read");
                return Ok(());
            }
        };
        let mut collected = Vec::with_capacity(votes.len());
        let mut checked = CheckedRoots::default();
        for (HandedVote { vote, output }, input) in votes.into_iter().zip(inputs) {
            match check_collected(&vote, job, input, &self.validation_class, &mut checked) {
                Ok(()) => {}
                Err(CollectedError::Receipt(error)) => return Err(error.to_string()),
                Err(reason) => {
                    tracing::info!(peer = %from.short(), job = %job.short(), %reason, "a vote that a keeper took is not believed");
                    continue;
                }
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
        Ok(())
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
        let mut lost = Vec::new();
        let mut unused = Vec::new();
        for (peer, keeper) in &mut self.keeping.keepers.streams {
            if keeper.jobs.values().any(|pace| pace.is_hopeless(now)) {
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
