//! The grid: peers, links, a queue of happenings ordered by time, and the faults.

use super::{
    behaviour,
    checkers::{Checkers, Violation},
    faults::Fault,
    machine::Machine,
    net::{Epoch, Links, Via},
    scenario::{JobSpec, Scenario},
};
use crate::protocol::{
    announce::Announcement,
    fact::JobState,
    gossip,
    ids::{Digest, JobId, PeerId, UnitIndex},
    job::{Inputs, Manifest, Reduce, UnitRange},
    outcome::{AttemptFailure, Outcome, UnitLimits},
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
/// Far more happenings at one moment than any grid has: a loop that does not advance time.
const HAPPENINGS_PER_MOMENT_MAX: u32 = 1_000_000;

/// What may happen next.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A message arrives, if its link is still the one that it was sent on.
    Message { to: usize, via: Via, epoch: Epoch, event: Event },
    /// Something local to a peer, if it still lives that life.
    Local { to: usize, life: u32, event: Event },
    /// A dial arrives.
    Dial { from: usize, life: u32, via: Via },
    /// A peer asked to be woken.
    Wake(usize),
    /// An execution ends.
    Ends { on: usize, life: u32, run: RunId, outcome: Outcome, wall: Duration },
    /// A crashed peer starts again.
    Restart(usize),
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
    sequence: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    pub(super) rng: ChaCha8Rng,
    pub(super) machines: Vec<Machine>,
    pub(super) numbers: BTreeMap<PeerId, usize>,
    pub(super) links: Links,
    pub(super) jobs: BTreeMap<JobId, (usize, JobSpec)>,
    /// Announcements by the number that stands for their encoding.
    pub(super) announcements: Vec<Announcement>,
    pub(super) faults_on: bool,
    /// Everything that is watched.
    pub checkers: Checkers,
    pub(super) violation: Option<Violation>,
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
        let mut grid = Self {
            seed,
            scenario,
            now: Instant(1_000_000),
            sequence: 0,
            queue: BTreeMap::new(),
            rng,
            machines,
            numbers,
            links: Links::default(),
            jobs: BTreeMap::new(),
            announcements: Vec::new(),
            faults_on: false,
            checkers: Checkers::default(),
            violation: None,
            happenings_now: 0,
        };
        for number in 0..grid.machines.len() {
            grid.start(number);
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
        self.now.since(Instant(1_000_000))
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
        let manifest = self.manifest(owner, &spec);
        self.jobs.insert(job, (owner, spec));
        self.machines[owner].disk.keep_job(job, manifest.clone(), secret);
        self.tell(owner, Event::Submitted { job, manifest: Arc::new(manifest), secret });
        job
    }

    fn manifest(&self, owner: usize, spec: &JobSpec) -> Manifest {
        Manifest {
            owner: self.key(owner),
            name: "job".into(),
            module: Digest([1; 32]),
            module_bytes: 100,
            args: vec![],
            inputs: Inputs::Range(UnitRange { start: 0, end: u64::from(spec.units), per_unit: 1 }),
            limits: UnitLimits { wall: spec.wall, ..UnitLimits::default() },
            policy: spec.policy,
            priority: spec.priority,
            tags: vec![],
            purpose: String::new(),
            reduce: Reduce::Concat,
            nonce: vec![],
        }
    }

    /// Lets a peer take in an event now.
    pub fn tell(&mut self, number: usize, event: Event) {
        let now = self.now;
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
        self.view(job).map(|view| view.counts).unwrap_or_default()
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
        self.view(job).map_or_else(on_disk, |view| view.state)
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
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            if next.is_none_or(|at| at > end) {
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
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
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
        let Some(((at, _), happening)) = self.queue.pop_first() else { return Ok(()) };
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
        self.sequence += 1;
        self.queue.insert((when, self.sequence), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Message { to, via, epoch, event } => {
                if self.links.epoch(via) == Some(epoch) {
                    self.tell(to, event);
                }
            }
            Happening::Local { to, life, event } => {
                if self.machines[to].life == life {
                    self.tell(to, event);
                }
            }
            Happening::Dial { from, life, via } => self.on_dial(from, life, via),
            Happening::Wake(number) => self.on_wake(number),
            Happening::Ends { on, life, run, outcome, wall } => self.on_end(on, life, run, outcome, wall),
            Happening::Restart(number) => self.start(number),
            Happening::Fault(fault) => self.on_fault(fault),
        }
    }

    /// Starts a peer from its disk.
    pub(super) fn start(&mut self, number: usize) {
        let seed = Digest::of_parts(&[&self.seed.to_le_bytes(), &(number as u64).to_le_bytes(), &self.machines[number].life.to_le_bytes()]);
        let now = self.now;
        let bootstrap = if number == 0 { 1 % self.machines.len() } else { 0 };
        let contact = gossip::Contact::bare(self.machines[bootstrap].id);
        let machine = &mut self.machines[number];
        if machine.peer.is_some() {
            return;
        }
        let config = PeerConfig {
            me: gossip::Contact::bare(machine.id),
            validation_class: machine.spec.class.into(),
            platform: machine.spec.platform,
            slots: machine.spec.slots,
            memory_bytes: 1 << 32,
            gossip: gossip::Config::default(),
            seed: seed.0,
        };
        let peer = Peer::new(now, config, machine.disk.saved(), now.0).expect("the default settings hold");
        machine.peer = Some(peer);
        self.tell(number, Event::Gossip(gossip::Event::Bootstrap(vec![contact])));
        self.check_disk(number);
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
            let machine = &self.machines[number];
            self.checkers.executions.start(run);
            let Some(outcome) = behaviour::answer(machine.spec.behaviour, machine.spec.platform, machine.id, &spec, run.job, run.unit)
            else {
                continue;
            };
            let gas = behaviour::gas(&spec, run.job, run.unit);
            let took = Duration::from_secs_f64(gas as f64 / machine.spec.gas_per_second as f64);
            let (outcome, wall) = match outcome {
                Outcome::Failed(AttemptFailure::TimeOut) => (outcome, spec.wall),
                _ if took > spec.wall => (Outcome::Failed(AttemptFailure::TimeOut), spec.wall),
                Outcome::Value(_) | Outcome::Failed(_) => (outcome, took),
            };
            let life = machine.life;
            self.at(self.now.after(wall), Happening::Ends { on: number, life, run, outcome, wall });
        }
    }

    fn on_end(&mut self, on: usize, life: u32, run: RunId, outcome: Outcome, wall: Duration) {
        if self.machines[on].life != life || !self.machines[on].running.remove(&run) {
            return;
        }
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
            let (to_a, to_b) = self.closed_events(via);
            let event = if a == from { to_a } else { to_b };
            self.at(self.now.after(DIAL_FAILS_AFTER), Happening::Local { to: from, life, event });
            return;
        }
        let Some(epoch) = self.links.open(via) else { return };
        match via {
            Via::Gossip(_, _) => {
                let connected = |peer| Event::Gossip(gossip::Event::Connected { peer, prefix: None });
                let answer = connected(self.key(to));
                self.send(to, from, via, epoch, answer);
                self.tell(to, connected(self.key(from)));
            }
            Via::Work { worker, coordinator } => {
                self.send(coordinator, worker, via, epoch, Event::CoordinatorOpened(self.key(coordinator)));
                let (guest, host) = (&self.machines[worker].spec, &self.machines[coordinator].spec);
                let own = guest.household.is_some() && guest.household == host.household;
                let (prefix, lineage, peer) = (guest.prefix, guest.lineage, self.key(worker));
                let (class, platform, slots) = (guest.class.into(), guest.platform, guest.slots);
                self.tell(coordinator, Event::Met { peer, prefix, lineage, own });
                self.tell(coordinator, Event::WorkerOpened { peer, class, platform, slots });
            }
        }
    }

    /// Sends on a link that is up.
    pub(super) fn send(&mut self, from: usize, to: usize, via: Via, epoch: Epoch, event: Event) {
        let delay = self.delay();
        let when = self.links.arrival(self.now, from, to, delay);
        self.at(when, Happening::Message { to, via, epoch, event });
    }

    pub(super) fn delay(&mut self) -> Duration {
        let (least, most) = self.scenario.delay;
        let span = (most - least).as_micros() as u64;
        least + Duration::from_micros(self.draw(span + 1))
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below.max(1)
    }
}
