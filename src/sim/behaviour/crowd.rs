//! What those who are not honest know and share, and what they make of it.

use super::{Behaviour, gas, hits, is_true, lie, truth, truth_on};
use crate::{
    protocol::{
        ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
        outcome::{AttemptFailure, Exit, Outcome, Value},
        owner::Lease,
        platform::Platform,
    },
    sim::scenario::JobSpec,
};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// How long before its lease runs out a dawdler answers, and how long after it one who waits for a mate.
const MARGIN: Duration = Duration::from_secs(2);
/// How long whoever runs nothing takes to answer.
const AT_ONCE: Duration = Duration::from_millis(1);
/// The salt of what all conspirators say.
pub(super) const RING: &[u8] = b"ring";

/// A unit that a machine got, and all that its behaviour may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose machine.
    pub worker: PeerId,
    /// What it is.
    pub behaviour: Behaviour,
    /// Of which job.
    pub job: JobId,
    /// What its units are.
    pub spec: &'a JobSpec,
    /// Which unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// Since the start of the simulation.
    pub now: Duration,
    /// Gas per second of one slot.
    pub gas_per_second: u64,
    /// Its instruction set.
    pub platform: Platform,
}

/// When an answer comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// Never.
    Never,
    /// After this time.
    After(Duration),
}

/// What one execution is called.
type Held = (PeerId, JobId, UnitIndex, Attempt);

/// The memory of all who are not honest. Of the honest it keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    /// What a lease says besides the unit: votes that the unit had, and how long it lasts.
    leases: BTreeMap<Held, (u32, Duration)>,
    /// How many units each has answered.
    answered: BTreeMap<PeerId, u32>,
    /// Who has told its only lie.
    spent: BTreeMap<PeerId, (JobId, UnitIndex)>,
    /// Who has ever said something wrong.
    liars: BTreeSet<PeerId>,
    /// Units on which a member of the ring has lied.
    lied_on: BTreeMap<(JobId, UnitIndex), u32>,
    /// Units that members of the ring hold now, and how many do.
    held: BTreeMap<(JobId, UnitIndex), u32>,
}

impl Crowd {
    /// A machine gets leases.
    pub fn leased(&mut self, worker: PeerId, behaviour: Behaviour, job: JobId, leases: &[Lease]) {
        if behaviour == Behaviour::Honest {
            return;
        }
        for lease in leases {
            self.leases.insert((worker, job, lease.unit, lease.attempt), (lease.ordinal, lease.duration));
            if is_of_pairs(behaviour) {
                *self.held.entry((job, lease.unit)).or_default() += 1;
            }
        }
    }

    /// How long the machine takes to answer, counted from the moment that it puts the unit into a slot.
    pub fn course(&self, asked: &Asked<'_>) -> Course {
        let run = self.run_time(asked);
        let lease = || self.leases.get(&name(asked)).map_or(asked.spec.wall, |(_, duration)| *duration);
        Course::After(match asked.behaviour {
            Behaviour::Silent => return Course::Never,
            Behaviour::Guesses => AT_ONCE,
            Behaviour::Dawdles => lease().saturating_sub(MARGIN).max(run),
            Behaviour::LiesInPairs { kept_per_mille } if hits(kept_per_mille, asked.worker.as_bytes(), asked.job, asked.unit) => {
                run.max(lease().saturating_add(MARGIN))
            }
            Behaviour::LiesInPairs { .. }
            | Behaviour::Honest
            | Behaviour::Lies { .. }
            | Behaviour::Colludes { .. }
            | Behaviour::Gambles { .. }
            | Behaviour::Sleeps { .. }
            | Behaviour::LiesOnce { .. }
            | Behaviour::Turns { .. }
            | Behaviour::OutOfMemory => run,
        })
    }

    /// What an honest execution takes on this machine, up to the job's limit.
    fn run_time(&self, asked: &Asked<'_>) -> Duration {
        match truth(asked.spec, asked.job, asked.unit) {
            Outcome::Failed(_) => asked.spec.wall,
            Outcome::Value(_) => {
                Duration::from_secs_f64(gas(asked.spec, asked.job, asked.unit) as f64 / asked.gas_per_second.max(1) as f64)
                    .min(asked.spec.wall)
            }
        }
    }

    /// What the machine says when that time has passed.
    pub fn answer(&mut self, asked: &Asked<'_>) -> Outcome {
        let said = self.says(asked);
        if asked.behaviour != Behaviour::Honest
            && let Outcome::Value(value) = said
            && !is_true(asked.spec, asked.job, asked.unit, value)
        {
            self.liars.insert(asked.worker);
        }
        said
    }

    /// Whether a machine has ever said something wrong.
    pub fn has_lied(&self, worker: PeerId) -> bool {
        self.liars.contains(&worker)
    }

    fn says(&mut self, asked: &Asked<'_>) -> Outcome {
        let Asked { worker, behaviour, job, spec, unit, now, .. } = *asked;
        let honest = self.honestly(asked);
        if behaviour == Behaviour::Honest {
            return honest;
        }
        let (ordinal, _) = self.leases.remove(&name(asked)).unwrap_or_default();
        let answered = self.answered.entry(worker).or_default();
        *answered += 1;
        let answered = *answered;
        let lies = match behaviour {
            Behaviour::Honest | Behaviour::Silent | Behaviour::Dawdles => false,
            Behaviour::OutOfMemory => return Outcome::Failed(AttemptFailure::OutOfMemory),
            Behaviour::Guesses => return guess(spec),
            Behaviour::Lies { per_mille } => {
                return if hits(per_mille, worker.as_bytes(), job, unit) { lie(worker.as_bytes(), spec, job, unit) } else { honest };
            }
            Behaviour::Colludes { per_mille } => hits(per_mille, RING, job, unit),
            Behaviour::Gambles { per_mille } => self.gambles(asked, ordinal, per_mille),
            Behaviour::Sleeps { until, per_mille } => answered > until && self.gambles(asked, ordinal, per_mille),
            Behaviour::LiesOnce { after } => {
                let may = answered > after && !self.spent.contains_key(&worker);
                let lies = may && self.gambles(asked, ordinal, 1000);
                if lies {
                    self.spent.insert(worker, (job, unit));
                }
                lies
            }
            Behaviour::LiesInPairs { .. } => {
                let holders = self.held.get_mut(&(job, unit)).map_or(0, |holders| core::mem::replace(holders, holders.saturating_sub(1)));
                holders >= 2 || self.lied_on.contains_key(&(job, unit))
            }
            Behaviour::Turns { at } => now >= at,
        };
        if !lies {
            return honest;
        }
        *self.lied_on.entry((job, unit)).or_default() += 1;
        lie(RING, spec, job, unit)
    }

    /// The truth, as far as this machine is fast enough for it.
    fn honestly(&self, asked: &Asked<'_>) -> Outcome {
        let honest = truth_on(asked.platform, asked.spec, asked.job, asked.unit);
        let seconds = gas(asked.spec, asked.job, asked.unit) as f64 / asked.gas_per_second.max(1) as f64;
        if seconds > asked.spec.wall.as_secs_f64() { Outcome::Failed(AttemptFailure::TimeOut) } else { honest }
    }

    /// Whether a gambler lies: it backs a mate who did, or begins where no vote is that could contradict it.
    fn gambles(&self, asked: &Asked<'_>, ordinal: u32, per_mille: u32) -> bool {
        self.lied_on.contains_key(&(asked.job, asked.unit))
            || (ordinal == 0 && hits(per_mille, asked.worker.as_bytes(), asked.job, asked.unit))
    }

    /// A machine drops all that it holds.
    pub fn forget(&mut self, worker: PeerId, behaviour: Behaviour) {
        if behaviour == Behaviour::Honest {
            return;
        }
        let first = (worker, JobId([0; 32]), UnitIndex(0), Attempt(0));
        let last = (worker, JobId([u8::MAX; 32]), UnitIndex(u32::MAX), Attempt(u32::MAX));
        let dropped: Vec<Held> = self.leases.range(first..=last).map(|(held, _)| *held).collect();
        for held in dropped {
            self.leases.remove(&held);
            if let Some(holders) = self.held.get_mut(&(held.1, held.2)) {
                *holders = holders.saturating_sub(1);
            }
        }
    }

    /// How many units somebody has lied on together with others, or begun to.
    pub fn units_lied_on(&self) -> usize {
        self.lied_on.len()
    }
}

fn name(asked: &Asked<'_>) -> Held {
    (asked.worker, asked.job, asked.unit, asked.attempt)
}

fn is_of_pairs(behaviour: Behaviour) -> bool {
    matches!(behaviour, Behaviour::LiesInPairs { .. })
}

/// The same for all units: a free-rider takes the job's typical gas and an empty output.
fn guess(spec: &JobSpec) -> Outcome {
    Outcome::Value(Value { exit: Exit::Code(0), output: Digest::of_parts(&[]), gas: spec.gas, chain: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{checkpoint::Authors, owner::LeaseToken};

    const JOB: JobId = JobId([9; 32]);

    struct Ring {
        crowd: Crowd,
        spec: JobSpec,
        now: Duration,
    }

    impl Ring {
        fn new() -> Self {
            Self { crowd: Crowd::default(), spec: JobSpec::default(), now: Duration::ZERO }
        }

        fn asked(&self, worker: u8, behaviour: Behaviour, unit: u32) -> Asked<'_> {
            let (unit, attempt) = (UnitIndex(unit), Attempt(u32::from(worker)));
            let (gas_per_second, platform, now) = (self.spec.gas, Platform::X86_64, self.now);
            Asked { worker: PeerId([worker; 32]), behaviour, job: JOB, spec: &self.spec, unit, attempt, now, gas_per_second, platform }
        }

        fn lease(&mut self, worker: u8, behaviour: Behaviour, unit: u32, ordinal: u32) {
            let (unit, attempt) = (UnitIndex(unit), Attempt(u32::from(worker)));
            let lease = Lease {
                unit,
                attempt,
                ordinal,
                token: LeaseToken([0; 16]),
                duration: Duration::from_secs(90),
                input: None,
                from: None,
                rests_on: Authors::NONE,
            };
            self.crowd.leased(PeerId([worker; 32]), behaviour, JOB, &[lease]);
        }

        /// Whether what it says is right.
        fn is_right(&mut self, worker: u8, behaviour: Behaviour, unit: u32) -> bool {
            let spec = self.spec;
            let asked = Asked { spec: &spec, ..self.asked(worker, behaviour, unit) };
            self.crowd.answer(&asked) == truth(&spec, JOB, UnitIndex(unit))
        }
    }

    #[test]
    fn a_gambler_backs_its_mate_and_contradicts_no_honest_vote() {
        let (mut ring, gambler) = (Ring::new(), Behaviour::Gambles { per_mille: 1000 });
        ring.lease(1, gambler, 5, 0);
        ring.lease(2, gambler, 5, 1);
        ring.lease(3, gambler, 6, 1);
        assert!(!ring.is_right(1, gambler, 5), "it is the first");
        assert!(!ring.is_right(2, gambler, 5), "its mate has lied");
        assert!(ring.is_right(3, gambler, 6), "somebody has voted, and it was no mate");
    }

    #[test]
    fn a_pair_lies_only_when_both_hold_the_unit() {
        let (mut ring, pair) = (Ring::new(), Behaviour::LiesInPairs { kept_per_mille: 1000 });
        ring.lease(1, pair, 5, 0);
        assert_eq!(ring.crowd.course(&ring.asked(1, pair, 5)), Course::After(Duration::from_secs(92)), "longer than the lease");
        ring.lease(2, pair, 5, 0);
        assert!(!ring.is_right(2, pair, 5));
        assert!(!ring.is_right(1, pair, 5), "its mate has lied");
        ring.lease(1, pair, 6, 0);
        assert!(ring.is_right(1, pair, 6), "alone");
    }

    #[test]
    fn sleepers_wake_and_single_lies_are_single() {
        let mut ring = Ring::new();
        let (sleeper, once) = (Behaviour::Sleeps { until: 3, per_mille: 1000 }, Behaviour::LiesOnce { after: 3 });
        for unit in 0..8 {
            ring.lease(1, sleeper, unit, 0);
            ring.lease(2, once, 100 + unit, 0);
            assert_eq!(ring.is_right(1, sleeper, unit), unit < 3, "{unit}");
            assert_eq!(ring.is_right(2, once, 100 + unit), unit != 3, "{unit}");
        }
    }

    #[test]
    fn those_who_turn_do_so_at_their_moment_and_say_the_same() {
        let (mut ring, turns) = (Ring::new(), Behaviour::Turns { at: Duration::from_secs(60) });
        ring.lease(1, turns, 5, 0);
        assert!(ring.is_right(1, turns, 5));
        ring.now = Duration::from_secs(60);
        let spec = ring.spec;
        let said = [1, 2].map(|worker| {
            let asked = Asked { spec: &spec, ..ring.asked(worker, turns, 6) };
            ring.crowd.clone().answer(&asked)
        });
        assert_eq!(said[0], said[1]);
        assert_ne!(said[0], truth(&spec, JOB, UnitIndex(6)));
    }

    #[test]
    fn free_riders_are_quick_and_wrong_and_dawdlers_slow_and_right() {
        let mut ring = Ring::new();
        assert_eq!(ring.crowd.course(&ring.asked(1, Behaviour::Guesses, 5)), Course::After(Duration::from_millis(1)));
        assert!(!ring.is_right(1, Behaviour::Guesses, 5));
        ring.lease(2, Behaviour::Dawdles, 5, 0);
        assert_eq!(ring.crowd.course(&ring.asked(2, Behaviour::Dawdles, 5)), Course::After(Duration::from_secs(88)));
        assert!(ring.is_right(2, Behaviour::Dawdles, 5));
        assert_eq!(ring.crowd.course(&ring.asked(2, Behaviour::Silent, 5)), Course::Never);
    }
}
