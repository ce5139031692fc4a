//! What a shop has done and shown, and how right it was.

use super::Shop;
use crate::{
    protocol::{
        fact::{Fact, JobState, Verdict},
        ids::{JobId, UnitIndex},
    },
    sim::{behaviour, scenario::JobSpec},
};
use core::time::Duration;
use std::collections::BTreeMap;

/// Counts since a shop opened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Executions begun, by anybody.
    pub executions: u64,
    /// Reports that were not taken.
    pub rejected: u64,
    /// Units that are shown as verified with a wrong value now.
    pub wrong: u64,
    /// How often a unit was shown so, for however short a time.
    pub wrong_shown: u64,
    /// How often a unit that was decided was judged anew.
    pub reopened: u64,
    jobs: BTreeMap<JobId, OfJob>,
}

/// One job's.
#[derive(Clone, Debug, Default)]
struct OfJob {
    state: JobState,
    decided: u32,
    failed: u32,
    units: Vec<Shown>,
}

/// What is shown of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Shown {
    #[default]
    Open,
    Right,
    Wrong,
    Failed,
}

impl Tally {
    /// A job is submitted.
    pub(super) fn open(&mut self, job: JobId, spec: &JobSpec) {
        self.jobs.insert(job, OfJob { units: vec![Shown::Open; spec.units as usize], ..OfJob::default() });
    }

    /// Takes in what becomes durable.
    pub(super) fn note(&mut self, specs: &BTreeMap<JobId, JobSpec>, fact: &Fact) {
        match fact {
            Fact::Verdict(job, unit, verdict) => {
                let shown = match *verdict {
                    Verdict::Open => Shown::Open,
                    Verdict::Failed => Shown::Failed,
                    Verdict::Verified { value, by_owner: _ } if behaviour::is_true(&specs[job], *job, *unit, value) => Shown::Right,
                    Verdict::Verified { .. } => Shown::Wrong,
                };
                self.show(*job, *unit, shown);
            }
            Fact::JobState(job, state) => {
                if let Some(of_job) = self.jobs.get_mut(job) {
                    of_job.state = *state;
                }
            }
            Fact::Vote(..) | Fact::Failures(..) | Fact::Standing(..) | Fact::Findings(..) | Fact::Keepers(..) => {}
        }
    }

    fn show(&mut self, job: JobId, unit: UnitIndex, shown: Shown) {
        let Some(of_job) = self.jobs.get_mut(&job) else { return };
        let before = core::mem::replace(&mut of_job.units[unit.0 as usize], shown);
        match before {
            Shown::Open => {}
            Shown::Right | Shown::Wrong | Shown::Failed => of_job.decided -= 1,
        }
        match shown {
            Shown::Open => self.reopened += u64::from(before != Shown::Open),
            Shown::Right | Shown::Wrong | Shown::Failed => of_job.decided += 1,
        }
        of_job.failed = of_job.failed + u32::from(shown == Shown::Failed) - u32::from(before == Shown::Failed);
        self.wrong = self.wrong + u64::from(shown == Shown::Wrong) - u64::from(before == Shown::Wrong);
        self.wrong_shown += u64::from(shown == Shown::Wrong && before != Shown::Wrong);
    }

    /// Units of a job that are decided now.
    pub fn decided(&self, job: JobId) -> u32 {
        self.jobs.get(&job).map_or(0, |of_job| of_job.decided)
    }

    /// Units of a job that failed on enough machines.
    pub fn failed(&self, job: JobId) -> u32 {
        self.jobs.get(&job).map_or(0, |of_job| of_job.failed)
    }

    /// A job's newest state.
    pub fn state(&self, job: JobId) -> JobState {
        self.jobs.get(&job).map(|of_job| of_job.state).unwrap_or_default()
    }
}

/// What one job came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figures {
    /// Its units.
    pub units: u32,
    /// Executions while it ran.
    pub executions: u64,
    /// How often a wrong value was shown as verified while it ran, in any job.
    pub wrong_shown: u64,
    /// Units decided by a value, not by failing.
    pub verified: u32,
    /// Of these, checked by the owner's own machine.
    pub by_owner: u32,
    /// Until 95 % of the units were decided.
    pub most_after: Duration,
    /// Until it ended.
    pub took: Duration,
    /// What 95 % of the units would take if each ran once and nothing was ever waited for.
    pub ideal: Duration,
}

impl Figures {
    /// Executions for each unit.
    pub fn ratio(&self) -> f64 {
        self.executions as f64 / f64::from(self.units.max(1))
    }

    /// How many times longer than the ideal most of the job took.
    pub fn slowness(&self) -> f64 {
        self.most_after.as_secs_f64() / self.ideal.as_secs_f64().max(1e-9)
    }

    pub(super) fn between(before: &Tally, shop: &Shop, job: JobId, most_after: Duration, took: Duration) -> Self {
        let spec = &shop.jobs[&job];
        let here = shop.machines.iter().filter(|machine| machine.here);
        let speed: f64 = here.map(|machine| f64::from(machine.spec.slots) * machine.spec.gas_per_second as f64).sum();
        let work = 0.95 * f64::from(spec.units) * spec.gas as f64;
        let counts = shop.owner.job_view(job).map(|view| view.counts).unwrap_or_default();
        Self {
            units: spec.units,
            executions: shop.tally.executions - before.executions,
            wrong_shown: shop.tally.wrong_shown - before.wrong_shown,
            verified: shop.tally.decided(job) - shop.tally.failed(job),
            by_owner: counts.by_owner,
            most_after,
            took,
            ideal: Duration::from_secs_f64(work / speed.max(1.0)),
        }
    }
}
