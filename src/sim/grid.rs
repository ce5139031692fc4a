//! The grid: peers, links, a queue of happenings ordered by time, and the faults.

use super::{
    behaviour::{Asked, Course, Crowd},
    checkers::{Checkers, Violation},
    faults::Fault,
    keep::KeepMessage,
    machine::Machine,
    measure::Measure,
    net::{Epoch, Links, Via},
    queue::Queue,
    scenario::{JobSpec, Scenario},
};
use crate::protocol::{
    announce::Announcement,
    fact::JobState,
    gossip,
    ids::{Digest, JobId, PeerId, UnitIndex},
    owner::{Counts, JobView, UnitView},
    peer::{Event, Peer, PeerConfig},
    time::Instant,
    verify::JobSecret,
    worker::{Finished, RunId},
};
use core::time::Duration;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{collections::BTreeMap, sync::Arc};

/// How long a dial to somebody out of reach takes to fail.
const DIAL_FAILS_AFTER: Duration = Duration::from_secs(3);
/// In a grid of up to so many peers all start from the first one.
const ALL_KNOW_FIRST_MAX: usize = 64;
/// How many peers one knows that comes to a larger grid.
const ACQUAINTANCES: usize = 3;
/// About as long as a peer's addresses are.
const HINT_BYTES: usize = 64;
/// Far more happenings at one moment than any grid has: a loop that does not advance time.
const HAPPENINGS_PER_MOMENT_MAX: u32 = 1_000_000;

/// What may happen next.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A message arrives, if its link is still the one that it was sent on.
    Message { to: usize, via: Via, epoch: Epoch, event: Event },
    /// The same on a keep stream.
    Keep { to: usize, via: Via, epoch: Epoch, message: KeepMessage },
    /// An author shows its keeper that it lives.
    Beat { via: Via, epoch: Epoch },
    /// Something local to a peer, if it still lives that life.
    Local { to: usize, life: u32, event: Event },
    /// An end learns that its link is gone, if it has not learnt it otherwise.
    Gone { end: usize, via: Via, epoch: Epoch },
    /// A dial arrives.
    Dial { from: usize, life: u32, via: Via },
    /// A peer asked to be woken.
    Wake(usize),
    /// An execution ends.
    Ends { on: usize, life: u32, run: RunId, wall: Duration },
    /// A peer starts, again or for the first time.
    Restart(usize),
    /// A peer's session ends, if it still lives that life.
    Leave { on: usize, life: u32 },
    /// A fault of this kind is due.
    Fault(Fault),
}

/// Why a simulation failed. The seed replays it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("seed {seed}, after {after:?}: {violation}")]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// Virtual time.
    pub after: Duration,
    /// What was violated.
    pub violation: Violation,
}

/// A simulated grid.
pub struct Grid {
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) now: Instant,
    queue: Queue,
    pub(super) rng: ChaCha8Rng,
    pub(super) machines: Vec<Machine>,
    pub(super) numbers: BTreeMap<PeerId, usize>,
    pub(super) links: Links,
    pub(super) jobs: BTreeMap<JobId, (usize, JobSpec)>,
    /// Announcements by the number that stands for their encoding, and the size of that.
    pub(super) announcements: Vec<(Announcement, usize)>,
    pub(super) faults_on: bool,
    /// What those know who are not honest.
    pub(super) crowd: Crowd,
    /// Everything that is watched.
    pub checkers: Checkers,
    /// Everything that is counted.
    pub measure: Measure,
    pub(super) violation: Option<Violation>,
    /// Units that were run again because of an accusation.
    pub rechecks: u32,
    happenings_now: u32,
}

impl Grid {
    /// A grid whose peers all start at once and know the first of them.
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let machine = |(number, spec): (usize, &super::PeerSpec)| {
            let key = Digest::of_parts(&[b"peer", &seed.to_le_bytes(), &(number as u64).to_le_bytes()]);
            Machine::new(PeerId(key.0), spec.clone())
        };
        let machines: Vec<_> = scenario.peers.iter().enumerate().map(machine).collect();
        let numbers = machines.iter().enumerate().map(|(number, machine)| (machine.id, number)).collect();
        rng.next_u64();
        let peers = machines.len();
        let mut grid = Self {
            seed,
            scenario,
            now: Instant(1_000_000),
            queue: Queue::default(),
            rng,
            machines,
            numbers,
            links: Links::new(peers),
            jobs: BTreeMap::new(),
            announcements: Vec::new(),
            faults_on: false,
            crowd: Crowd::default(),
            checkers: Checkers::default(),
            measure: Measure::default(),
            violation: None,
            rechecks: 0,
            happenings_now: 0,
        };
        for number in 0..peers {
            match grid.machines[number].spec.comes_after {
                Duration::ZERO => grid.start(number),
                after => grid.at(grid.now.after(after), Happening::Restart(number)),
            }
        }
        grid.set_faults(true);
        grid
    }

    /// The key of a peer.
    pub fn key(&self, number: usize) -> PeerId {
        self.machines[number].id
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.elapsed_at(self.now)
    }

    /// Virtual time from the start to a moment.
    pub(super) fn elapsed_at(&self, moment: Instant) -> Duration {
        moment.since(Instant(1_000_000))
    }

    /// A peer, unless it is down.
    pub fn peer(&self, number: usize) -> Option<&Peer> {
        self.machines[number].peer.as_ref()
    }

    /// Submits a job at a peer that is up.
    pub fn submit(&mut self, owner: usize, spec: JobSpec) -> JobId {
        let number = self.jobs.len() as u64;
        let job = JobId(Digest::of_parts(&[b"job", &self.seed.to_le_bytes(), &number.to_le_bytes()]).0);
        let secret = JobSecret(Digest::of_parts(&[b"secret", job.as_bytes()]).0);
        let manifest = spec.manifest(self.key(owner));
        self.jobs.insert(job, (owner, spec));
        self.machines[owner].disk.keep_job(job, manifest.clone(), secret);
        self.tell(owner, Event::Submitted { job, manifest: Arc::new(manifest), secret, keep: spec.keep });
        job
    }

    /// Lets a peer take in an event now.
    pub fn tell(&mut self, number: usize, event: Event) {
        let now = self.now;
        if let Event::KeeperLost(keeper) = event {
            self.forget_keep_stream(number, keeper);
        }
        let Some(peer) = self.machines[number].peer.as_mut() else { return };
        peer.handle(now, event);
        let actions = peer.take_actions(now);
        self.perform(number, actions);
        self.set_wake(number);
    }

    /// A job as its owner sees it; `None` while the owner is down.
    pub fn view(&self, job: JobId) -> Option<JobView> {
        let (owner, _) = self.jobs[&job];
        self.peer(owner)?.owner().job_view(job)
    }

    /// A job's counts.
    pub fn counts(&self, job: JobId) -> Counts {
        let (owner, _) = self.jobs[&job];
        self.peer(owner).and_then(|peer| peer.owner().counts(job)).unwrap_or_default()
    }

    /// All units of a job.
    pub fn units(&self, job: JobId) -> Vec<UnitView> {
        let (owner, spec) = self.jobs[&job];
        self.peer(owner).map(|peer| peer.owner().unit_views(job, UnitIndex(0), spec.units as usize)).unwrap_or_default()
    }

    /// A job's state; as it is on disk while the owner is down.
    pub fn state(&self, job: JobId) -> JobState {
        let (owner, _) = self.jobs[&job];
        let on_disk = || self.machines[owner].disk.state(job).expect("it was submitted there");
        self.peer(owner).and_then(|peer| peer.owner().state(job)).unwrap_or_else(on_disk)
    }

    /// Whether all jobs have ended.
    pub fn all_ended(&self) -> bool {
        self.jobs.keys().all(|&job| self.state(job).has_ended())
    }

    /// Runs until `done`, at most for this long.
    ///
    /// # Errors
    /// What the checkers saw, or that it took too long.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let end = self.now.after(limit);
        while !done(self) {
            if self.queue.next(self.now).is_none_or(|at| at > end) {
                self.now = end;
                return Err(self.failure(Violation::NotEnded { open: self.open_units() }));
            }
            self.step()?;
        }
        Ok(())
    }

    /// Runs for this long.
    ///
    /// # Errors
    /// What the checkers saw.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        let end = self.now.after(time);
        while self.queue.next(self.now).is_some_and(|at| at <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    /// The whole course of a scenario: faults for this long, then none, and everything must end within `heal`; then what is durable
    /// is compared with what is shown.
    ///
    /// # Errors
    /// What the checkers saw.
    pub fn run(&mut self, faults: Duration, heal: Duration) -> Result<(), Failure> {
        self.run_for(faults)?;
        self.heal();
        self.run_until(heal, Self::all_ended)?;
        self.check_disks()
    }

    fn open_units(&self) -> u32 {
        self.jobs.keys().map(|&job| self.jobs[&job].1.units - self.counts(job).decided()).sum()
    }

    fn step(&mut self) -> Result<(), Failure> {
        let Some((at, happening)) = self.queue.pop(self.now) else { return Ok(()) };
        self.happenings_now = if at == self.now { self.happenings_now + 1 } else { 0 };
        if self.happenings_now > HAPPENINGS_PER_MOMENT_MAX {
            return Err(self.failure(Violation::Livelock { happening: format!("{happening:?}").chars().take(200).collect() }));
        }
        self.now = at;
        self.happen(happening);
        match self.violation.take() {
            Some(violation) => Err(self.failure(violation)),
            None => Ok(()),
        }
    }

    pub(super) fn failure(&self, violation: Violation) -> Failure {
        Failure { seed: self.seed, after: self.elapsed(), violation }
    }

    pub(super) fn at(&mut self, when: Instant, happening: Happening) {
        self.queue.plan(self.now, when, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Message { to, via, epoch, event } => {
                if self.links.epoch(via) == Some(epoch) {
                    self.tell(to, event);
                }
            }
            Happening::Keep { to, via, epoch, message } => {
                if self.links.epoch(via) == Some(epoch) {
                    self.on_keep_message(to, via, epoch, message);
                }
            }
            Happening::Beat { via, epoch } => self.on_beat(via, epoch),
            Happening::Local { to, life, event } => {
                if self.machines[to].life == life {
                    self.tell(to, event);
                }
            }
            Happening::Gone { end, via, epoch } => {
                if self.links.notice(self.now, via, end, epoch)
                    && let Some(event) = self.closed_event(via, end)
                {
                    self.tell(end, event);
                }
            }
            Happening::Dial { from, life, via } => self.on_dial(from, life, via),
            Happening::Wake(number) => self.on_wake(number),
            Happening::Ends { on, life, run, wall } => self.on_end(on, life, run, wall),
            Happening::Restart(number) => self.start(number),
            Happening::Leave { on, life } => self.on_leave(on, life),
            Happening::Fault(fault) => self.on_fault(fault),
        }
    }

    /// Starts a peer from its disk.
    pub(super) fn start(&mut self, number: usize) {
        let seed = Digest::of_parts(&[&self.seed.to_le_bytes(), &(number as u64).to_le_bytes(), &self.machines[number].life.to_le_bytes()]);
        let now = self.now;
        if self.machines[number].peer.is_some() {
            return;
        }
        let (contacts, keeper_silence) = (self.acquaintances(number), self.keeper_silence(number));
        let machine = &mut self.machines[number];
        let config = PeerConfig {
            me: gossip::Contact { peer: machine.id, hint: Arc::from([0; HINT_BYTES]) },
            validation_class: machine.spec.class.into(),
            platform: machine.spec.platform,
            slots: machine.spec.claimed_slots.unwrap_or(machine.spec.slots),
            memory_bytes: 1 << 32,
            gossip: gossip::Config::default(),
            keeper_silence,
            seed: seed.0,
        };
        let peer = Peer::new(now, config, machine.disk.saved(), now.0).expect("the default settings hold");
        machine.peer = Some(peer);
        self.measure.starts += 1;
        self.tell(number, Event::Gossip(gossip::Event::Bootstrap(contacts)));
        self.check_disk(number);
        self.plan_leaving(number);
    }

    /// Whom a peer that starts knows: in a small grid the first peer; in a large one, where that would be overrun, a few of those who
    /// came before it, as tickets and discovery name them.
    fn acquaintances(&mut self, number: usize) -> Vec<gossip::Contact> {
        let peers = self.machines.len();
        let numbers: Vec<_> = match peers {
            0..=ALL_KNOW_FIRST_MAX => vec![if number == 0 { 1 % peers } else { 0 }],
            _ if self.machines[number].life == 0 => (0..ACQUAINTANCES).map(|_| self.draw(number as u64) as usize).collect(),
            _ => (0..ACQUAINTANCES).map(|_| self.draw(peers as u64) as usize).collect(),
        };
        numbers.into_iter().map(|number| gossip::Contact::bare(self.key(number))).collect()
    }

    fn on_wake(&mut self, number: usize) {
        let now = self.now;
        if self.machines[number].wake != Some(now) {
            return;
        }
        self.machines[number].wake = None;
        let due = self.peer(number).is_some_and(|peer| peer.deadline() <= now);
        if due {
            self.tell(number, Event::Timer);
        } else {
            self.set_wake(number);
        }
    }

    fn set_wake(&mut self, number: usize) {
        let now = self.now;
        let machine = &mut self.machines[number];
        let Some(peer) = &machine.peer else { return };
        let due = peer.deadline().max(now.after(Duration::from_micros(1)));
        if machine.wake.is_none_or(|wake| due < wake) {
            machine.wake = Some(due);
            self.at(due, Happening::Wake(number));
        }
    }

    /// Puts executions into the free slots of a machine.
    pub(super) fn fill_slots(&mut self, number: usize) {
        while let Some(run) = self.machines[number].start_next() {
            let Some((_, spec)) = self.jobs.get(&run.job).copied() else { continue };
            self.checkers.executions.start(run);
            self.measure.executions += 1;
            let Course::After(wall) = self.crowd.course(&self.asked(number, run, &spec)) else { continue };
            let life = self.machines[number].life;
            self.at(self.now.after(wall), Happening::Ends { on: number, life, run, wall });
        }
    }

    fn asked<'a>(&self, number: usize, run: RunId, spec: &'a JobSpec) -> Asked<'a> {
        let machine = &self.machines[number];
        let (behaviour, gas_per_second, platform) = (machine.spec.behaviour, machine.spec.gas_per_second, machine.spec.platform);
        let RunId { coordinator: _, job, unit, attempt } = run;
        Asked { worker: machine.id, behaviour, job, spec, unit, attempt, now: self.elapsed(), gas_per_second, platform }
    }

    fn on_end(&mut self, on: usize, life: u32, run: RunId, wall: Duration) {
        if self.machines[on].life != life || !self.machines[on].running.remove(&run) {
            return;
        }
        let spec = self.jobs[&run.job].1;
        let asked = self.asked(on, run, &spec);
        let outcome = self.crowd.answer(&asked);
        self.fill_slots(on);
        let finished = Finished { outcome, output_bytes: 8, output: Some(Arc::from([0; 8])), log: Arc::from([]), wall };
        self.tell(on, Event::Finished { run, finished });
    }

    fn on_dial(&mut self, from: usize, life: u32, via: Via) {
        let (a, b) = via.ends();
        let to = if a == from { b } else { a };
        if self.machines[from].life != life {
            return;
        }
        let up = self.machines[to].peer.is_some() && self.links.reachable(from, to);
        if !up {
            self.links.prune(self.now, via);
            if let Some(event) = self.closed_event(via, from) {
                self.at(self.now.after(DIAL_FAILS_AFTER), Happening::Local { to: from, life, event });
            }
            return;
        }
        let Some(epoch) = self.links.open(via) else { return };
        for end in [from, to] {
            if let Some(gone) = self.links.unnoticed(via, end) {
                self.happen(Happening::Gone { end, via, epoch: gone });
            }
        }
        match via {
            Via::Gossip(_, _) => {
                let connected = |peer| Event::Gossip(gossip::Event::Connected { peer, prefix: None });
                let answer = connected(self.key(to));
                self.send(to, from, via, epoch, answer);
                self.tell(to, connected(self.key(from)));
            }
            Via::Keep { author, keeper } => self.on_keep_stream(author, keeper, via, epoch),
            Via::Work { worker, coordinator } => {
                self.send(coordinator, worker, via, epoch, Event::CoordinatorOpened(self.key(coordinator)));
                let (guest, host) = (&self.machines[worker].spec, &self.machines[coordinator].spec);
                let own = guest.household.is_some() && guest.household == host.household;
                let (prefix, lineage, peer) = (guest.prefix, guest.lineage, self.key(worker));
                let (class, platform) = (guest.class.into(), guest.platform);
                let slots = guest.claimed_slots.unwrap_or(guest.slots);
                self.tell(coordinator, Event::Met { peer, prefix, lineage, own });
                self.tell(coordinator, Event::WorkerOpened { peer, class, platform, slots });
            }
        }
    }

    /// Sends on a link that is up.
    pub(super) fn send(&mut self, from: usize, to: usize, via: Via, epoch: Epoch, event: Event) {
        let when = self.arrival(via, from);
        self.at(when, Happening::Message { to, via, epoch, event });
    }

    /// How many happenings are planned.
    pub(super) fn planned(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below.max(1)
    }
}
