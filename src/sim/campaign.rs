//! A measured run: a population, the jobs of its submitters, what goes wrong, until everything has ended.

use super::{
    checkers::Violation,
    grid::Grid,
    population::{Drawn, Population},
    report::Report,
    scenario::{Faults, JobSpec, Scenario},
};
use crate::protocol::{ids::JobId, owner::UnitState};
use core::time::Duration;
use std::collections::BTreeMap;

/// How often, in virtual time, a run is looked at from outside.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often units are looked at one by one, for what is shown as provisional.
const LOOK_CLOSELY_EVERY: u32 = 30;
/// How long peers have after the last one came to find one another, before jobs are submitted.
const SETTLE: Duration = Duration::from_secs(15);

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Who takes part.
    pub population: Population,
    /// The shortest and the longest time that a message takes, beyond the distance of either end.
    pub delay: (Duration, Duration),
    /// What goes wrong all the time.
    pub faults: Faults,
    /// Units in all, over all jobs.
    pub units: u32,
    /// Jobs in all. Each submitter has its share of them, one after the other.
    pub jobs: u32,
    /// What each job is like, but for its units.
    pub job: JobSpec,
    /// The run has failed if it has not ended after this.
    pub limit: Duration,
}

/// How far a run is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Virtual time.
    pub elapsed: Duration,
    /// Units decided.
    pub decided: u32,
    /// Of so many.
    pub units: u32,
    /// Executions so far.
    pub executions: u64,
}

/// A run under way.
pub(super) struct Course {
    pub campaign: Campaign,
    pub grid: Grid,
    /// In which attack each peer takes part.
    pub attack_of: Vec<Option<usize>>,
    pub jobs: Vec<JobId>,
    /// Units of jobs not yet submitted, by submitter; the next is the last.
    due: Vec<Vec<u32>>,
    /// Each submitter's newest job.
    current: BTreeMap<usize, JobId>,
    pub submitted_at: Duration,
    pub provisional_wrong: usize,
    looks: u32,
}

impl Campaign {
    /// Runs it. `watch` is called once for each second of virtual time and says whether to go on.
    pub fn run(&self, seed: u64, mut watch: impl FnMut(Progress) -> bool) -> Report {
        let mut course = Course::new(self.clone(), seed);
        let failure = loop {
            if let Err(failure) = course.grid.run_for(LOOK_EVERY) {
                break Some(failure);
            }
            course.submit_what_is_due();
            course.look();
            let wanted = watch(course.progress());
            if course.is_over() {
                break course.grid.check_disks().err();
            }
            if !wanted || course.grid.elapsed() > self.limit {
                let open = self.units - course.progress().decided;
                break Some(course.grid.failure(Violation::NotEnded { open }));
            }
        };
        Report::of(&course, failure)
    }

    /// How many units each job has.
    fn shares(&self) -> Vec<u32> {
        let jobs = self.jobs.clamp(1, self.units.max(1));
        (0..jobs).map(|job| self.units / jobs + u32::from(job < self.units % jobs)).collect()
    }
}

impl Course {
    fn new(campaign: Campaign, seed: u64) -> Self {
        let conspiracy = !campaign.population.attacks.is_empty();
        let Drawn { peers, attack_of } = campaign.population.draw(seed);
        let submitters = campaign.population.submitters.clamp(1, campaign.population.peers) as usize;
        let mut due = vec![Vec::new(); submitters];
        for (job, units) in campaign.shares().into_iter().enumerate() {
            due[job % submitters].push(units);
        }
        let grid = Grid::new(Scenario { peers, delay: campaign.delay, faults: campaign.faults, conspiracy }, seed);
        let (jobs, current, submitted_at) = (Vec::new(), BTreeMap::new(), Duration::ZERO);
        Self { campaign, grid, attack_of, jobs, due, current, submitted_at, provisional_wrong: 0, looks: 0 }
    }

    /// Each submitter that is up submits its next job once its last one has ended.
    fn submit_what_is_due(&mut self) {
        if self.grid.elapsed() < self.campaign.population.arrive_within + SETTLE {
            return;
        }
        for owner in 0..self.due.len() {
            let busy = self.current.get(&owner).is_some_and(|&job| !self.grid.state(job).has_ended());
            if busy || self.grid.peer(owner).is_none() {
                continue;
            }
            if let Some(units) = self.due[owner].pop() {
                if self.jobs.is_empty() {
                    self.submitted_at = self.grid.elapsed();
                }
                let job = self.grid.submit(owner, JobSpec { units, ..self.campaign.job });
                self.current.insert(owner, job);
                self.jobs.push(job);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.due.iter().all(Vec::is_empty) && self.grid.all_ended()
    }

    fn progress(&self) -> Progress {
        let decided = self.jobs.iter().map(|&job| self.grid.counts(job).decided()).sum();
        Progress { elapsed: self.grid.elapsed(), decided, units: self.campaign.units, executions: self.grid.measure.executions }
    }

    /// Counts units that are shown as provisional with a wrong value, the most at any look.
    fn look(&mut self) {
        self.looks += 1;
        if !self.looks.is_multiple_of(LOOK_CLOSELY_EVERY) || self.campaign.population.attacks.is_empty() {
            return;
        }
        let wrong = self.jobs.iter().map(|&job| self.provisional_wrong_of(job)).sum();
        self.provisional_wrong = self.provisional_wrong.max(wrong);
    }

    fn provisional_wrong_of(&self, job: JobId) -> usize {
        if self.grid.counts(job).provisional == 0 {
            return 0;
        }
        let (_, spec) = self.grid.jobs[&job];
        let right = |unit| super::behaviour::truth(&spec, job, unit);
        let provisional = self.grid.units(job).into_iter().filter(|view| view.state == UnitState::Provisional);
        provisional.filter(|view| view.value.map(crate::protocol::outcome::Outcome::Value) != Some(right(view.unit))).count()
    }
}
