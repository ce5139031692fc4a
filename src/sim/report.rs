//! What a measured run has shown.

use super::{
    campaign::Course,
    grid::Failure,
    measure::{Kind, Peaks, Traffic},
    population::Population,
};
use crate::protocol::{job::Policy, owner::Counts, verify::AUDIT_RATE};
use core::time::Duration;

/// Peers of one kind, and how many of them were convicted by anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Convicted {
    /// Which kind: `honest`, or the name of an attack.
    pub kind: String,
    /// How many there are.
    pub peers: u32,
    /// How many of them were convicted.
    pub convicted: u32,
}

/// The numbers of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Replays the run.
    pub seed: u64,
    /// All peers.
    pub peers: u32,
    /// Jobs submitted.
    pub jobs: u32,
    /// All units, by state.
    pub counts: Counts,
    /// Executions that began.
    pub executions: u64,
    /// The same for each unit.
    pub executions_per_unit: f64,
    /// Units that are verified with a wrong value at the end.
    pub wrong_settled: u64,
    /// How often a unit came to be shown as verified with a wrong value.
    pub wrong_ever: u64,
    /// The most units that were shown as provisional with a wrong value at one time.
    pub wrong_provisional: u64,
    /// Virtual time from the first submission until the last job ended.
    pub makespan: Duration,
    /// What it would have taken the honest peers with no wait, no fault and no attack: the work of all units, times the executions that
    /// the policy asks for where nobody cheats, over the speed of all their slots, times the share of the time that they are there.
    pub ideal: Duration,
    /// Virtual time in all.
    pub elapsed: Duration,
    /// Who was convicted.
    pub convicted: Vec<Convicted>,
    /// What all peers sent, by kind.
    pub traffic: Vec<(Kind, Traffic)>,
    /// What the peer that sent most has sent.
    pub traffic_most: Traffic,
    /// The largest that tables became.
    pub peaks: Peaks,
    /// How often peers started.
    pub starts: u64,
    /// Links that broke.
    pub broken: u64,
    /// Why the run failed, if it did.
    pub failure: Option<Failure>,
}

impl Report {
    pub(super) fn of(course: &Course, failure: Option<Failure>) -> Self {
        let (grid, population) = (&course.grid, &course.campaign.population);
        let counts = course.jobs.iter().fold(Counts::default(), |sum, &job| add(sum, grid.counts(job)));
        let (measure, units) = (&grid.measure, course.campaign.units.max(1));
        Self {
            seed: grid.seed,
            peers: population.peers,
            jobs: course.jobs.len() as u32,
            counts,
            executions: measure.executions,
            executions_per_unit: measure.executions as f64 / f64::from(units),
            wrong_settled: grid.checkers.verdicts.wrong_now() as u64,
            wrong_ever: grid.checkers.verdicts.wrong_ever(),
            wrong_provisional: course.provisional_wrong as u64,
            makespan: grid.elapsed_at(measure.ended_at).saturating_sub(course.submitted_at),
            ideal: ideal(course),
            elapsed: grid.elapsed(),
            convicted: convicted(course, population),
            traffic: Kind::ALL.into_iter().zip(measure.traffic).collect(),
            traffic_most: grid.machines.iter().map(|machine| machine.sent).max().unwrap_or_default(),
            peaks: measure.peaks,
            starts: measure.starts,
            broken: measure.broken,
            failure,
        }
    }

    /// What all peers sent.
    pub fn traffic_total(&self) -> Traffic {
        self.traffic.iter().fold(Traffic::default(), |sum, (_, of_kind)| Traffic {
            bytes: sum.bytes + of_kind.bytes,
            messages: sum.messages + of_kind.messages,
        })
    }

    /// How many honest peers were convicted: none, if all is well.
    pub fn honest_convicted(&self) -> u32 {
        self.convicted.iter().filter(|of_kind| of_kind.kind == HONEST).map(|of_kind| of_kind.convicted).sum()
    }

    /// Whether everything ended, nothing wrong is verified at the end and no honest peer was convicted.
    pub fn is_clean(&self) -> bool {
        self.failure.is_none() && self.wrong_settled == 0 && self.honest_convicted() == 0
    }
}

/// The kind of those who do not attack.
const HONEST: &str = "honest";

fn add(a: Counts, b: Counts) -> Counts {
    Counts {
        units: a.units + b.units,
        verified: a.verified + b.verified,
        by_owner: a.by_owner + b.by_owner,
        provisional: a.provisional + b.provisional,
        disputed: a.disputed + b.disputed,
        rechecking: a.rechecking + b.rechecking,
        failed: a.failed + b.failed,
        executions: a.executions + b.executions,
        output_bytes: a.output_bytes + b.output_bytes,
    }
}

/// Executions that a unit needs where everybody is honest and known.
fn votes_needed(policy: Policy) -> f64 {
    match policy {
        Policy::Standard => 2.0 + AUDIT_RATE,
        Policy::Strict => 3.0,
        // The best case: so much is audited of whoever has a long record; a short one is audited more.
        Policy::Economy => 1.0 + AUDIT_RATE,
    }
}

fn ideal(course: &Course) -> Duration {
    let campaign = &course.campaign;
    let work = f64::from(campaign.units) * campaign.job.gas as f64 * votes_needed(campaign.job.policy);
    let of_attack = course.grid.machines.iter().zip(&course.attack_of);
    let honest = of_attack.filter(|(_, attack)| attack.is_none()).map(|(machine, _)| &machine.spec);
    let availability = campaign.population.availability();
    let speed = |spec: &super::PeerSpec| {
        spec.gas_per_second as f64 * f64::from(spec.slots) * if spec.sessions.is_some() { availability } else { 1.0 }
    };
    let capacity: f64 = honest.map(speed).sum();
    Duration::try_from_secs_f64(work / capacity.max(1.0)).unwrap_or(Duration::MAX)
}

fn convicted(course: &Course, population: &Population) -> Vec<Convicted> {
    let grid = &course.grid;
    let of_kind = |kind: &str, attack: Option<usize>| {
        let peers = grid.machines.iter().zip(&course.attack_of).filter(|(_, of)| **of == attack);
        let convicted = peers.clone().filter(|(machine, _)| grid.measure.convicted.contains(&machine.id)).count();
        Convicted { kind: kind.to_owned(), peers: peers.count() as u32, convicted: convicted as u32 }
    };
    let attackers = population.attacks.iter().enumerate().map(|(number, attack)| of_kind(attack.known.name, Some(number)));
    core::iter::once(of_kind(HONEST, None)).chain(attackers).collect()
}
