//! One coordinator and the machines that work for it, with no network between them: the real [`Owner`], and workers that are played.
//!
//! Where [`super::Grid`] shows that whole peers get along, a shop shows what the rules of verification are worth: millions of units
//! against thousands of machines of every [`Behaviour`]. Machines join and leave, take leases, run them in slots, answer after a delay and
//! drop what is revoked; announcements, gossip, the worker's bookkeeping and crashes are left out. The seed decides everything.

mod tally;

pub use tally::{Figures, Tally};

use super::{
    behaviour::{Asked, Behaviour, Course, Crowd},
    checkers::Violation,
    grid::Failure,
    scenario::{JobSpec, PeerSpec},
};
use crate::protocol::{
    fact::Saved,
    ids::{Digest, JobId, PeerId},
    owner::{Lease, Owner, OwnerAction, Report},
    time::Instant,
    verify::JobSecret,
};
use core::time::Duration;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{collections::BTreeMap, sync::Arc};

/// When the shop opens.
const START: Instant = Instant(1_000_000);
/// Answers arrive in steps of this, as messages of many machines are taken in together.
const STEP: Duration = Duration::from_millis(20);
/// Leases that a machine is willing to hold, for each slot: one runs, one waits.
const WINDOW_PER_SLOT: u32 = 2;

/// A played machine.
#[derive(Clone, Debug)]
struct Machine {
    id: PeerId,
    spec: PeerSpec,
    /// When each slot has done what it was given.
    slots: Vec<Instant>,
    /// Grows when it drops what it holds: answers of before are not sent.
    epoch: u32,
    here: bool,
}

/// An answer on its way.
#[derive(Clone, Debug)]
struct Answer {
    machine: usize,
    epoch: u32,
    job: JobId,
    lease: Lease,
    wall: Duration,
}

/// A coordinator at work.
#[derive(Clone, Debug)]
pub struct Shop {
    seed: u64,
    now: Instant,
    owner: Owner,
    me: PeerId,
    machines: Vec<Machine>,
    numbers: BTreeMap<PeerId, usize>,
    answers: BTreeMap<(Instant, u64), Answer>,
    sequence: u64,
    delay: Duration,
    jobs: BTreeMap<JobId, JobSpec>,
    crowd: Crowd,
    /// What has come of it so far.
    pub tally: Tally,
}

impl Shop {
    /// A shop whose owner lends its own work so many slots, each of the typical speed, and where an answer takes `delay` on its way.
    pub fn new(seed: u64, own_slots: u32, delay: Duration) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let me = PeerId(Digest::of_parts(&[b"owner", &seed.to_le_bytes()]).0);
        let owner = Owner::new(START, me, "v1".into(), Saved::default(), rng);
        let mut shop = Self {
            seed,
            now: START,
            owner,
            me,
            machines: Vec::new(),
            numbers: BTreeMap::new(),
            answers: BTreeMap::new(),
            sequence: 0,
            delay,
            jobs: BTreeMap::new(),
            crowd: Crowd::default(),
            tally: Tally::default(),
        };
        if own_slots > 0 {
            shop.enter(me, PeerSpec { slots: own_slots, ..PeerSpec::default() });
        }
        shop
    }

    /// A machine with a new key joins. Returns its number.
    pub fn join(&mut self, spec: PeerSpec) -> usize {
        let number = self.machines.len() as u64;
        let id = PeerId(Digest::of_parts(&[b"machine", &self.seed.to_le_bytes(), &number.to_le_bytes()]).0);
        self.enter(id, spec)
    }

    fn enter(&mut self, id: PeerId, spec: PeerSpec) -> usize {
        let number = self.machines.len();
        self.numbers.insert(id, number);
        self.machines.push(Machine { id, slots: vec![self.now; spec.slots as usize], spec, epoch: 0, here: false });
        self.come(number);
        number
    }

    /// A machine that was away is back.
    pub fn come(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let (id, claimed) = (machine.id, machine.spec.claimed_slots.unwrap_or(machine.spec.slots));
        machine.here = true;
        machine.slots.fill(self.now);
        if id != self.me {
            self.owner.meet(id, machine.spec.prefix, machine.spec.lineage, machine.spec.household.is_some());
        }
        self.owner.attach(id, machine.spec.class, machine.spec.platform, claimed);
        self.owner.window(id, claimed * WINDOW_PER_SLOT);
        self.act();
    }

    /// A machine goes, and what it runs is lost.
    pub fn leave(&mut self, number: usize) {
        self.drop_all(number);
        let machine = &mut self.machines[number];
        machine.here = false;
        let id = machine.id;
        self.owner.detach(self.now, id);
        self.act();
    }

    /// A machine drops what it holds. What runs counts as an execution all the same.
    fn drop_all(&mut self, number: usize) {
        let (now, machine) = (self.now, &mut self.machines[number]);
        self.tally.executions += machine.slots.iter().filter(|&&free_at| free_at > now).count() as u64;
        machine.slots.fill(now);
        machine.epoch += 1;
        self.crowd.forget(machine.id, machine.spec.behaviour);
    }

    /// The owner, for views.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// A machine's key.
    pub fn key(&self, number: usize) -> PeerId {
        self.machines[number].id
    }

    /// How many machines there are or were, the owner's own included.
    pub fn machines(&self) -> usize {
        self.machines.len()
    }

    /// What a machine is.
    pub fn behaviour(&self, number: usize) -> Behaviour {
        self.machines[number].spec.behaviour
    }

    /// How often the owner has convicted a machine.
    pub fn strikes(&self, number: usize) -> u32 {
        self.owner.trust().standing(self.key(number)).strikes
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    /// Submits a job.
    pub fn submit(&mut self, spec: JobSpec) -> JobId {
        let number = self.jobs.len() as u64;
        let job = JobId(Digest::of_parts(&[b"job", &self.seed.to_le_bytes(), &number.to_le_bytes()]).0);
        let secret = JobSecret(Digest::of_parts(&[b"secret", job.as_bytes()]).0);
        self.jobs.insert(job, spec);
        self.tally.open(job, &spec);
        self.owner.submit(job, Arc::new(spec.manifest(self.me)), secret);
        self.act();
        job
    }

    /// Submits a job and runs until it has ended, at most for this long.
    ///
    /// # Errors
    /// It took longer.
    pub fn finish(&mut self, spec: JobSpec, limit: Duration) -> Result<Figures, Failure> {
        let before = self.tally.clone();
        let began = self.now;
        let job = self.submit(spec);
        let most = spec.units - spec.units / 20;
        let has_most = |shop: &Self| shop.tally.decided(job) >= most || shop.has_ended(job);
        self.run_until(limit, has_most)?;
        let most_after = self.now.since(began);
        self.run_until(limit, |shop| shop.has_ended(job))?;
        Ok(Figures::between(&before, self, job, most_after, self.now.since(began)))
    }

    fn has_ended(&self, job: JobId) -> bool {
        self.tally.state(job).has_ended()
    }

    /// Whether no job is running.
    pub fn all_ended(&self) -> bool {
        !self.owner.has_open_units()
    }

    /// Runs until `done`, at most for this long.
    ///
    /// # Errors
    /// It took longer.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let end = self.now.after(limit);
        while !done(self) {
            let next = self.answers.first_key_value().map(|((at, _), _)| *at).into_iter().chain(self.owner.deadline()).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                let open = self.owner.job_ids().map(|job| self.owner.open_units(job)).sum();
                return Err(Failure { seed: self.seed, after: self.elapsed(), violation: Violation::NotEnded { open } });
            };
            self.step(next.max(self.now));
        }
        Ok(())
    }

    /// Runs for this long.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        // It ends by running out of time.
        let _ = self.run_until(time, |shop| shop.now >= end);
    }

    fn step(&mut self, at: Instant) {
        self.now = at;
        if self.owner.deadline().is_some_and(|deadline| deadline <= at) {
            self.owner.expire(at);
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= at) {
            let answer = entry.remove();
            self.hand_in(answer);
        }
        self.act();
    }

    fn hand_in(&mut self, answer: Answer) {
        let Answer { machine: number, epoch, job, lease, wall } = answer;
        if self.machines[number].epoch != epoch {
            return;
        }
        self.tally.executions += 1;
        let asked = asked(&self.machines[number], job, &self.jobs[&job], &lease, self.now.since(START));
        let outcome = self.crowd.answer(&asked);
        let Lease { unit, attempt, ordinal, token, rests_on, .. } = lease;
        let (output, log, proof) = (None, Arc::from([]), Arc::from([]));
        let platform = self.machines[number].spec.platform;
        let report = Report { unit, attempt, ordinal, token, rests_on, outcome, output_bytes: 8, output, log, wall, platform, proof };
        if self.owner.report(self.now, self.machines[number].id, job, report).is_err() {
            self.tally.rejected += 1;
        }
    }

    /// Does what the owner wants done.
    fn act(&mut self) {
        loop {
            let actions = self.owner.take_actions(self.now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    OwnerAction::Persist(fact) => self.tally.note(&self.jobs, &fact),
                    OwnerAction::Lease { to, job, leases } => self.leased(to, job, &leases),
                    OwnerAction::Revoke { to, job: _ } => {
                        if let Some(&number) = self.numbers.get(&to) {
                            self.drop_all(number);
                        }
                    }
                    OwnerAction::KeepOutput { .. }
                    | OwnerAction::KeepLog { .. }
                    | OwnerAction::Acknowledge { .. }
                    | OwnerAction::Accuse { .. }
                    | OwnerAction::AskLinks { .. }
                    | OwnerAction::AskState { .. }
                    | OwnerAction::RunSegment { .. }
                    | OwnerAction::DropState(_)
                    | OwnerAction::Announce(_) => {}
                }
            }
        }
    }

    fn leased(&mut self, to: PeerId, job: JobId, leases: &[Lease]) {
        let Some(&number) = self.numbers.get(&to) else { return };
        self.crowd.leased(to, self.machines[number].spec.behaviour, job, leases);
        for lease in leases {
            let machine = &mut self.machines[number];
            let asked = asked(machine, job, &self.jobs[&job], lease, self.now.since(START));
            let course = self.crowd.course(&asked);
            let Some(slot) = machine.slots.iter_mut().min() else { continue };
            let begins = (*slot).max(self.now);
            let wall = match course {
                Course::After(wall) => wall,
                // It gives the slot up with the lease.
                Course::Never => lease.duration,
            };
            *slot = begins.after(wall);
            if course == Course::Never {
                self.tally.executions += 1;
                continue;
            }
            let arrives = slot.after(self.delay);
            let step = STEP.as_micros() as u64;
            self.sequence += 1;
            let answer = Answer { machine: number, epoch: machine.epoch, job, lease: lease.clone(), wall };
            self.answers.insert((Instant(arrives.0.div_ceil(step) * step), self.sequence), answer);
        }
    }

    /// Machines that have said something wrong and were never convicted.
    pub fn liars_at_large(&self) -> Vec<usize> {
        let at_large = |&number: &usize| self.crowd.has_lied(self.key(number)) && self.strikes(number) == 0;
        (0..self.machines.len()).filter(at_large).collect()
    }

    /// How many machines have said something wrong.
    pub fn liars(&self) -> usize {
        (0..self.machines.len()).filter(|&number| self.crowd.has_lied(self.key(number))).count()
    }

    /// A machine behaves differently from now on.
    pub fn becomes(&mut self, number: usize, behaviour: Behaviour) {
        self.machines[number].spec.behaviour = behaviour;
    }

    /// Machines that never said anything wrong and were convicted.
    pub fn wronged(&self) -> Vec<usize> {
        let wronged = |&number: &usize| !self.crowd.has_lied(self.key(number)) && self.strikes(number) > 0;
        (0..self.machines.len()).filter(wronged).collect()
    }
}

fn asked<'a>(machine: &Machine, job: JobId, spec: &'a JobSpec, lease: &Lease, now: Duration) -> Asked<'a> {
    let Machine { id, spec: PeerSpec { behaviour, gas_per_second, platform, .. }, .. } = machine;
    let (worker, behaviour, gas_per_second, platform) = (*id, *behaviour, *gas_per_second, *platform);
    Asked { worker, behaviour, job, spec, unit: lease.unit, attempt: lease.attempt, now, gas_per_second, platform }
}
