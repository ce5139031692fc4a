//! A whole peer: gossip, the board, the coordinator's side and the worker's side as one machine.
//!
//! Whoever drives it calls [`Peer::handle`] for each event, then [`Peer::take_actions`] and performs what comes out in order, and
//! sees to it that a [`Event::Timer`] arrives by [`Peer::deadline`]. What this peer's coordinator sends to its own worker never leaves.

mod action;
mod event;
mod fraud;
mod keeping;
mod recovery;

pub use action::Action;
pub use event::Event;

use super::{
    announce::{Announcement, Capacity, Subject},
    board::Board,
    fact::{JobState, Saved},
    fraud::Fraud,
    gossip::{self, Gossip},
    ids::{JobId, PeerId, UnitIndex},
    keeping::Keeping,
    owner::{Owner, OwnerAction, Report},
    platform::Platform,
    time::Instant,
    worker::{Finished, Outgoing, Worker, WorkerAction},
};
use core::time::Duration;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// How long a job stays announced without being repeated.
const JOB_LIFETIME: Duration = Duration::from_secs(300);
/// How often an open job is announced again: each time costs every peer of the grid some messages.
const JOB_REPEAT: Duration = Duration::from_secs(100);
/// How often one is that has keepers: they hear by it that its author lives.
const KEPT_JOB_REPEAT: Duration = Duration::from_secs(40);
/// How often a peer of a small grid announces what it lends, if it is one of those that do; see [`Board::is_announcer`].
const CAPACITY_REPEAT: Duration = Duration::from_secs(60);
/// Where more announce than this, each does so in proportion less often: everybody carries what anyone announces.
const CAPACITY_PEERS: u32 = 8;
/// What it lends is first announced after this and up to as much again: by then a newcomer has heard how large the grid is.
const CAPACITY_FIRST: Duration = Duration::from_secs(10);
/// The most rounds of own coordinator to own worker and back in one step.
const OWN_ROUNDS_MAX: usize = 64;

/// Who this peer is and what it lends.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its key and where it may be found.
    pub me: gossip::Contact,
    /// Engine and passes: what must match between voters.
    pub validation_class: Arc<str>,
    /// Its instruction set.
    pub platform: Platform,
    /// Units that it runs at once; none: it lends nothing.
    pub slots: u32,
    /// Memory for units.
    pub memory_bytes: u64,
    /// Settings of the gossip machine.
    pub gossip: gossip::Config,
    /// How long a keeper hears no coordinator before it adopts a job; [`crate::protocol::keeping::SILENCE`] unless there is a reason.
    pub keeper_silence: Duration,
    /// Seeds everything that is drawn. Secret, since it decides who gets which unit.
    pub seed: [u8; 32],
}

/// A peer.
pub struct Peer {
    config: PeerConfig,
    gossip: Gossip,
    board: Board,
    owner: Owner,
    worker: Worker,
    fraud: Fraud,
    keeping: Keeping,
    actions: Vec<Action>,
    /// The number of this peer's last announcement. Begins at a time stamp that the shell gives, so that it grows across restarts.
    sequence: u64,
    job_repeats: BTreeMap<JobId, Instant>,
    capacity_repeat: Instant,
    /// What the worker was last told of: the board's revision, and whether this peer has open units itself.
    followed: Option<(u64, bool)>,
    /// Something may have changed beside gossip. Most events are a neighbour's message that concerns nothing else.
    touched: bool,
    /// When anything but gossip is due; holds while nothing is touched.
    work_due: Option<Instant>,
}

impl Peer {
    /// A peer rebuilt from what was durable. `sequence` must exceed that of every earlier run, for instance the time of the day
    /// in microseconds.
    ///
    /// # Errors
    /// The gossip settings contradict one another.
    pub fn new(now: Instant, config: PeerConfig, saved: Saved, sequence: u64) -> Result<Self, gossip::ConfigError> {
        let mut seeds = ChaCha8Rng::from_seed(config.seed);
        let mut fork = || {
            let mut seed = [0; 32];
            seeds.fill_bytes(&mut seed);
            ChaCha8Rng::from_seed(seed)
        };
        let me = config.me.peer;
        let gossip = Gossip::new(now, config.me.clone(), config.gossip.clone(), fork())?;
        let (mut keeping, held) = Keeping::restore(now, &config, &saved);
        let mut owner = Owner::new(now, me, config.validation_class.clone(), saved, fork());
        let worker = Worker::new(config.slots, fork());
        keeping::begin(&mut owner, &mut keeping, held);
        if config.slots > 0 {
            owner.attach(me, &config.validation_class, config.platform, config.slots);
        }
        let running: Vec<_> = owner.job_ids().filter(|&id| owner.open_units(id) > 0).collect();
        let job_repeats = running.into_iter().map(|id| (id, now)).collect();
        let (board, actions, followed) = (Board::default(), Vec::new(), None);
        let fraud = Fraud::default();
        let capacity_repeat = now.after(CAPACITY_FIRST + CAPACITY_FIRST / 1000 * (seeds.next_u32() % 1000));
        Ok(Self {
            config,
            gossip,
            board,
            owner,
            worker,
            fraud,
            keeping,
            actions,
            sequence,
            job_repeats,
            capacity_repeat,
            followed,
            touched: true,
            work_due: None,
        })
    }

    /// Takes in one event.
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.touched |= !matches!(event, Event::Gossip(_));
        match event {
            Event::Gossip(event) => self.on_gossip(now, event),
            Event::Announced { author, announcement } => self.on_announced(now, author, announcement),
            Event::Accused { by, accusation, comparable } => self.on_accused(now, by, accusation, comparable),
            Event::Rechecked(value) => self.on_rechecked(now, value),
            Event::Evidence(accusation) => self.on_evidence(accusation),
            Event::Met { peer, prefix, lineage, own } => self.owner.meet(peer, prefix, lineage, own),
            Event::WorkerOpened { peer, class, platform, slots } => {
                if peer == self.me() || !self.owner.attach(peer, &class, platform, slots) {
                    self.actions.push(Action::Refuse(peer));
                } else {
                    self.ask_for_receipts(peer);
                    self.keeping.author.attached(peer);
                }
            }
            Event::WorkerWindow { peer, window } => self.owner.window(peer, window),
            Event::WorkerClosed(peer) => self.owner.detach(now, peer),
            Event::Reported { from, job, report } => self.on_report(now, from, job, report),
            Event::Recovered { from, job, receipts, next } => self.on_recovered(now, from, job, receipts, next),
            Event::Collected { job, votes } => drop(self.owner.merge(now, job, votes)),
            Event::Recover(job) => self.on_recover(now, job),
            Event::ReceiptsAsked { from, job, after } => self.on_receipts_asked(now, from, job, after),
            Event::CoordinatorOpened(peer) => self.worker.opened(peer),
            Event::CoordinatorClosed(peer) => self.worker.closed(now, peer),
            Event::Leased { from, job, leases } => self.worker.leased(now, from, job, &leases),
            Event::Revoked { from, job } => self.worker.revoked(from, job),
            Event::Acknowledged { from, job, units } => self.worker.acknowledged(from, job, &units),
            Event::Finished { run, finished } => self.worker.finished(run, finished),
            Event::Saved { run, checkpoint } => self.worker.saved(run, checkpoint),
            Event::Offered { from, job, offer } => self.owner.offered(now, from, job, offer),
            Event::Links { from, job, unit, links } => self.owner.links(now, from, job, unit, links),
            Event::State { from, job, unit, held } => self.owner.state_ready(now, from, job, unit, held),
            Event::SegmentRan { job, unit, found } => self.owner.segment_ran(now, job, unit, found),
            Event::Submitted { job, manifest, secret, keep } => {
                self.owner.submit(job, manifest, secret);
                self.keeping.author.submitted(now, job, keep);
            }
            Event::KeeperAnswered { from, job, keeps } => self.keeping.author.answered(now, from, job, keeps),
            Event::KeeperLost(peer) => self.keeping.author.lost(now, peer),
            Event::KeepersBehind { job, behind } => self.owner.set_pace(job, behind),
            Event::HandedBack { from, job } => self.keeping.author.handed_back(from, job),
            Event::Kept(job) => self.on_kept(now, job),
            Event::KeptNoMore { job } => self.on_kept_no_more(job),
            Event::AuthorHeard(author) => self.keeping.keeper.hear_author(now, author),
            Event::Adopted(saved) => self.on_adopted(now, *saved),
            Event::Recalled { author, job } => self.on_recalled(now, author, job),
            Event::Checked { job, run } => {
                self.owner.checked(now, job, run, self.config.platform);
            }
            Event::Befriended { peer, friend } => {
                self.owner.befriend(now, peer, friend);
            }
            Event::Cancel(job) => {
                self.owner.cancel(job);
            }
            Event::Retry(job) => {
                self.owner.retry(now, job);
            }
            Event::Pause(paused) => {
                self.worker.set_paused(now, paused);
                self.note_lending();
            }
            Event::Timer => self.on_timer(now),
        }
    }

    /// What is to be done because of everything handled since the last call.
    pub fn take_actions(&mut self, now: Instant) -> Vec<Action> {
        if !core::mem::take(&mut self.touched) {
            return core::mem::take(&mut self.actions);
        }
        self.follow_board(now);
        self.keep(now);
        for _ in 0..OWN_ROUNDS_MAX {
            let owner = self.owner.take_actions(now);
            self.worker.favour(self.owner.needs_own_slots().then_some(self.config.me.peer));
            let worker = self.worker.take_actions(now);
            if owner.is_empty() && worker.is_empty() {
                break;
            }
            self.perform_all_of_owner(now, owner);
            for action in worker {
                self.perform_worker(now, action);
            }
        }
        self.keep(now);
        self.recheck(now);
        self.announce(now);
        self.work_due = self.next_work();
        core::mem::take(&mut self.actions)
    }

    /// When [`Event::Timer`] is due.
    pub fn deadline(&self) -> Instant {
        let work = if self.touched { self.next_work() } else { self.work_due };
        work.into_iter().fold(self.gossip.deadline(), Instant::min)
    }

    /// When anything but gossip is due.
    fn next_work(&self) -> Option<Instant> {
        let timers = [self.owner.deadline(), self.worker.deadline(), self.board.deadline(), self.job_repeats.values().min().copied()];
        let capacity = Some(self.capacity_repeat).filter(|_| self.config.slots > 0);
        timers.into_iter().chain([self.recheck_deadline(), capacity, self.keeping_deadline()]).flatten().min()
    }

    /// This peer's key.
    pub fn me(&self) -> PeerId {
        self.config.me.peer
    }

    /// Its coordinator's side, for views.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Its worker's side, for views.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// What others announced, for views.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Accusations that it heard, for views.
    pub fn fraud(&self) -> &Fraud {
        &self.fraud
    }

    /// Its gossip machine, for views.
    pub fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    fn on_gossip(&mut self, now: Instant, event: gossip::Event) {
        let mut out = Vec::new();
        self.gossip.handle(now, event, &mut out);
        self.actions.extend(out.into_iter().map(|action| match action {
            gossip::Action::Deliver(envelope) => Action::Heard(envelope),
            other => Action::Gossip(other),
        }));
    }

    fn on_report(&mut self, now: Instant, from: PeerId, job: JobId, report: Report) {
        let unit = report.unit;
        if let Err(reason) = self.owner.report(now, from, job, report) {
            self.actions.push(Action::Rejected { from, reason });
            // It need not be kept there either.
            self.acknowledge(BTreeMap::from([((from, job), vec![unit])]));
        }
    }

    fn on_timer(&mut self, now: Instant) {
        if self.gossip.deadline() <= now {
            self.on_gossip(now, gossip::Event::Timer);
        }
        self.owner.expire(now);
        if self.board.deadline().is_some_and(|deadline| deadline <= now) {
            self.board.drop_expired(now);
        }
    }

    /// Tells the worker which coordinators have work, this peer's own coordinator included.
    fn follow_board(&mut self, now: Instant) {
        let own = self.config.slots > 0 && self.owner.has_open_units();
        if self.followed.replace((self.board.revision(), own)) == Some((self.board.revision(), own)) {
            return;
        }
        let mut coordinators: BTreeSet<PeerId> = self.board.coordinators(now);
        if own {
            coordinators.insert(self.me());
        }
        self.worker.heard_of(now, coordinators);
    }

    fn perform_all_of_owner(&mut self, now: Instant, actions: Vec<OwnerAction>) {
        let mut acknowledged = BTreeMap::new();
        for action in actions {
            self.perform_owner(now, action, &mut acknowledged);
        }
        self.acknowledge(acknowledged);
    }

    fn perform_owner(&mut self, now: Instant, action: OwnerAction, acknowledged: &mut BTreeMap<(PeerId, JobId), Vec<UnitIndex>>) {
        match action {
            OwnerAction::Persist(fact) => self.actions.push(Action::Persist(fact)),
            OwnerAction::KeepOutput { job, digest, bytes } => self.actions.push(Action::KeepOutput { job, digest, bytes }),
            OwnerAction::KeepLog { job, unit, bytes } => self.actions.push(Action::KeepLog { job, unit, bytes }),
            OwnerAction::Lease { to, job, leases } if to == self.me() => self.worker.leased(now, to, job, &leases),
            OwnerAction::Lease { to, job, leases } => self.actions.push(Action::SendLeases { to, job, leases }),
            OwnerAction::Acknowledge { to, job, units } => acknowledged.entry((to, job)).or_default().extend(units),
            OwnerAction::Revoke { to, job } if to == self.me() => self.worker.revoked(to, job),
            OwnerAction::Revoke { to, job } => self.actions.push(Action::SendRevoked { to, job }),
            OwnerAction::Accuse { accused, job, unit, second } => {
                if self.fraud.may_accuse(now) {
                    self.actions.push(Action::Accuse { accused, job, unit, second });
                }
            }
            OwnerAction::AskLinks { to, job, unit } => self.actions.push(Action::AskLinks { to, job, unit }),
            OwnerAction::AskState { to, job, unit, link } => self.actions.push(Action::AskState { to, job, unit, link }),
            OwnerAction::RunSegment { job, unit, from, until } => self.actions.push(Action::RunSegment { job, unit, from, until }),
            OwnerAction::DropState(state) => self.actions.push(Action::DropState(state)),
            OwnerAction::Announce(job) => {
                self.job_repeats.insert(job, now);
                self.keeping.author.state(job, self.owner.state(job));
            }
        }
    }

    /// Acknowledgements go out after all facts of the round, many to a message.
    fn acknowledge(&mut self, acknowledged: BTreeMap<(PeerId, JobId), Vec<UnitIndex>>) {
        for ((to, job), units) in acknowledged {
            if to == self.me() {
                self.worker.acknowledged(to, job, &units);
                continue;
            }
            for units in units.chunks(super::owner::LEASE_BATCH_MAX) {
                self.actions.push(Action::SendAcknowledged { to, job, units: units.to_vec() });
            }
        }
    }

    fn perform_worker(&mut self, now: Instant, action: WorkerAction) {
        let me = self.me();
        match action {
            WorkerAction::Open(peer) if peer == me => self.worker.opened(me),
            WorkerAction::Open(peer) => self.actions.push(Action::OpenWork(peer)),
            WorkerAction::Close(peer) if peer == me => self.owner.window(me, 0),
            WorkerAction::Close(peer) => self.actions.push(Action::CloseWork(peer)),
            WorkerAction::Window { to, window } if to == me => self.owner.window(me, window),
            WorkerAction::Window { to, window } => self.actions.push(Action::SendWindow { to, window }),
            WorkerAction::Run { run, from } => self.actions.push(Action::Run { run, from }),
            WorkerAction::Offer { to, job, offer } if to == me => self.owner.offered(now, me, job, offer),
            WorkerAction::Offer { to, job, offer } => self.actions.push(Action::SendOffer { to, job, offer }),
            WorkerAction::Cancel(run) => self.actions.push(Action::Stop(run)),
            WorkerAction::Report { to, job, outcomes } if to == me => {
                for outgoing in outcomes {
                    self.on_report(now, me, job, own_report(outgoing, self.config.platform));
                }
            }
            WorkerAction::Keep { coordinator, .. } if coordinator == me => {}
            WorkerAction::Keep { coordinator, job, receipts } => self.actions.push(Action::KeepReceipts { coordinator, job, receipts }),
            WorkerAction::Report { to, job, outcomes } => self.actions.push(Action::SendOutcomes { to, job, outcomes }),
        }
    }

    /// Announces what is due: jobs that opened, changed or ended, and what this peer lends.
    fn announce(&mut self, now: Instant) {
        let due: VecDeque<_> = self.job_repeats.iter().filter(|(_, at)| **at <= now).map(|(job, _)| *job).collect();
        for job in due {
            let subject = self.job_subject(job);
            match subject {
                Some(Subject::JobOpen(ref open)) if open.open_units > 0 => {
                    let adopted = self.owner.job_view(job).is_some_and(|view| view.author.is_some());
                    let is_kept = adopted || !self.keeping.author.keepers(job).is_empty();
                    self.job_repeats.insert(job, now.after(if is_kept { KEPT_JOB_REPEAT } else { JOB_REPEAT }));
                }
                Some(Subject::JobOpen(_) | Subject::JobClosed { .. } | Subject::Capacity(_) | Subject::Accusation(_)) | None => {
                    self.job_repeats.remove(&job);
                }
            }
            if let Some(subject) = subject {
                self.publish(JOB_LIFETIME, subject);
            }
        }
        if self.config.slots > 0 && self.capacity_repeat <= now {
            let repeat = CAPACITY_REPEAT * (self.board.capacities() as u32 / CAPACITY_PEERS).max(1);
            self.capacity_repeat = now.after(repeat);
            if !self.board.is_announcer(self.me()) {
                return;
            }
            let busy = u32::try_from(self.worker.running()).unwrap_or(u32::MAX).min(self.config.slots);
            let capacity = Capacity {
                slots: self.config.slots,
                memory_bytes: self.config.memory_bytes,
                validation_class: self.config.validation_class.to_string(),
                idle_slots: self.config.slots - busy,
            };
            self.publish(repeat * 3, Subject::Capacity(capacity));
        }
    }

    fn job_subject(&self, job: JobId) -> Option<Subject> {
        let view = self.owner.job_view(job)?;
        // Somebody else's job that was stopped here has not ended: another keeper may go on with it.
        let given_up = view.author.is_some() && matches!(view.state, JobState::Cancelled | JobState::Stopped);
        if view.state != JobState::Running && !given_up {
            return Some(Subject::JobClosed { job, generation: self.generation(job) });
        }
        Some(Subject::JobOpen(self.job_open(job, &view.manifest, self.owner.open_units(job))))
    }

    fn publish(&mut self, lifetime: Duration, subject: Subject) {
        self.sequence += 1;
        self.actions.push(Action::Publish(Announcement { sequence: self.sequence, lifetime, subject }));
    }
}

/// An own outcome needs no signature: this peer believes itself.
fn own_report(outgoing: Outgoing, platform: Platform) -> Report {
    let Outgoing { unit, attempt, ordinal, token, input: _, rests_on, finished } = outgoing;
    let Finished { outcome, output_bytes, output, log, wall } = finished;
    Report { unit, attempt, ordinal, token, rests_on, outcome, output_bytes, output, log, wall, platform, proof: Arc::from([]) }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
