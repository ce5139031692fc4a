//! A scenario file: a simulation as TOML, from which `simulate` makes a [`Campaign`]. Every key may be left out; an unknown one is an
//! error. `scenarios/README.md` lists them.

use super::{
    amount::{Count, Span},
    exit::Exit,
    failure::Failure,
    job_options::Policy,
};
use crate::{
    protocol::job::UNITS_MAX,
    sim::{Attack, Campaign, Faults, JobSpec, Population, Sessions, attacks},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// The most peers: one takes up to 200 KiB of memory.
const PEERS_MAX: u64 = 100_000;
/// The most attackers of one kind for each honest peer.
const PER_HONEST_MAX: f64 = 100.0;
/// So many peers of a grid share one submitter where nothing else is said: a coordinator has places for 4,096 workers, and each worker
/// offers itself to several.
const PEERS_PER_SUBMITTER: u32 = 2500;
/// How many peers start in a second where nothing else is said: faster than any grid grows.
const ARRIVE_PER_SECOND: u32 = 100;
/// Gas per second of a machine of median speed.
const GAS_PER_SECOND: u64 = 1_000_000_000;
/// A unit's limit of wall-clock time, in times that it takes on a machine of median speed.
const WALL_OVER_UNIT: u32 = 100;
/// The most bytes of a scenario file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The keys of a scenario file.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// What it is about, for whoever reads it.
    pub about: Option<String>,
    /// All peers, attackers included.
    pub peers: Option<Count>,
    /// Units in all.
    pub units: Option<Count>,
    /// Peers that own jobs.
    pub submitters: Option<Count>,
    /// Jobs in all.
    pub jobs: Option<Count>,
    /// How results are verified.
    pub policy: Option<Policy>,
    /// Attacks by name, with their amounts.
    #[serde(default)]
    pub attack: BTreeMap<String, f64>,
    /// What a unit takes on a machine of median speed.
    pub unit_time: Option<Span>,
    /// The run has failed when it has not ended after this.
    pub limit: Option<Span>,
    /// What machines are like.
    #[serde(default)]
    pub machines: Machines,
    /// What the network is like.
    #[serde(default)]
    pub network: Network,
    /// Who comes and goes.
    #[serde(default)]
    pub churn: Churn,
}

/// What machines are like.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    /// Units that each runs at once.
    slots: Option<Count>,
    /// How far speeds differ: sigma of a log-normal distribution.
    speed_spread: Option<f64>,
}

/// What the network is like.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The shortest and the longest time that a message takes, beyond the distances of both ends.
    delay: Option<[Span; 2]>,
    /// How far half of the peers are from the rest of the world, at most.
    distance: Option<Span>,
    /// How far distances differ: sigma of a log-normal distribution.
    distance_spread: Option<f64>,
    /// The share of packets that is lost and sent again.
    lost: Option<f64>,
    /// Some link breaks, once in this time on average.
    break_every: Option<Span>,
    /// The grid splits in two, once in this time on average.
    split_every: Option<Span>,
    /// How long a split lasts, at most.
    split_for: Option<Span>,
    /// How late, at most, an end learns that its link is gone.
    noticed_after: Option<Span>,
}

/// Who comes and goes.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    /// Peers start one after the other during this time.
    arrive_within: Option<Span>,
    /// Half of all sessions are over after this.
    present: Option<Span>,
    /// Half of all absences are over after this.
    absent: Option<Span>,
    /// Some peer, submitters included, crashes, once in this time on average.
    crash_every: Option<Span>,
    /// How long it stays away, at most.
    down_for: Option<Span>,
}

/// A file or flags that make no simulation.
fn wrong(message: impl Into<String>) -> Failure {
    Failure::usage("SCENARIO", message).hint("manyhands simulate --help, and scenarios/README.md for the keys of a file")
}

impl ScenarioFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read or is no scenario.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| {
            let failure = Failure::usage("SCENARIO", format!("the scenario file {} cannot be read", path.display()));
            failure.cause(error.to_string()).hint("manyhands simulate --scenario scenarios/churn.toml")
        };
        if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("{} is too large for a scenario file", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| wrong(format!("{} is not a scenario file", path.display())).cause(error.to_string()))
    }

    /// Everything that is asked for, with what is not filled in.
    ///
    /// # Errors
    /// A value out of bounds, or an unknown attack.
    pub fn campaign(&self) -> Result<Campaign, Failure> {
        let number = |name: &str, given: Option<Count>, least: u64, most: u64, default: u64| {
            let value = given.map_or(default.clamp(least, most), |count| count.0);
            let fits = u32::try_from(value).ok().filter(|_| (least..=most).contains(&value));
            fits.ok_or_else(|| wrong(format!("{name} is {value}; from {least} to {most} are possible")))
        };
        let peers = number("peers", self.peers, 1, PEERS_MAX, 1000)?;
        let units = number("units", self.units, 1, UNITS_MAX.into(), 50_000)?;
        let submitters = number("submitters", self.submitters, 1, peers.into(), peers.div_ceil(PEERS_PER_SUBMITTER).into())?;
        let jobs = number("jobs", self.jobs, 1, units.min(10_000).into(), submitters.into())?;
        let unit_time = span(self.unit_time, Duration::from_secs(10));
        if unit_time.is_zero() {
            return Err(wrong("unit_time is zero"));
        }
        let gas = u64::try_from(unit_time.as_nanos()).ok().filter(|_| unit_time <= Duration::from_hours(24));
        let gas = gas.ok_or_else(|| wrong("unit_time is more than a day"))? / (1_000_000_000 / GAS_PER_SECOND);
        Ok(Campaign {
            population: self.population(peers, submitters, number("slots", self.machines.slots, 1, 256, 2)?)?,
            delay: self.network.delay()?,
            faults: self.faults()?,
            units,
            jobs,
            job: JobSpec {
                gas,
                policy: self.policy.unwrap_or(Policy::Standard).into(),
                wall: unit_time.saturating_mul(WALL_OVER_UNIT).min(Duration::from_hours(24)),
                ..JobSpec::default()
            },
            limit: span(self.limit, Duration::from_hours(48)),
        })
    }

    fn population(&self, peers: u32, submitters: u32, slots: u32) -> Result<Population, Failure> {
        let usual = Population::default();
        let sessions = match (self.churn.present, self.churn.absent) {
            (None, None) => None,
            (Some(Span(present)), Some(Span(absent))) if !present.is_zero() => Some(Sessions { present, absent }),
            _ => return Err(wrong("churn needs both: `present`, more than zero, and `absent`")),
        };
        Ok(Population {
            peers,
            submitters,
            slots,
            gas_per_second: GAS_PER_SECOND,
            speed_sigma: bounded("speed_spread", self.machines.speed_spread, 3.0, usual.speed_sigma)?,
            distance: span(self.network.distance, usual.distance),
            distance_sigma: bounded("distance_spread", self.network.distance_spread, 3.0, usual.distance_sigma)?,
            arrive_within: span(self.churn.arrive_within, Duration::from_secs(u64::from(peers / ARRIVE_PER_SECOND).max(10))),
            sessions,
            attacks: self.attack.iter().map(|(name, amount)| attack(name, *amount)).collect::<Result<_, _>>()?,
        })
    }

    fn faults(&self) -> Result<Faults, Failure> {
        let (network, churn) = (&self.network, &self.churn);
        let every = |span: Option<Span>| span.map(|span| span.0).filter(|every| !every.is_zero());
        let lost = bounded("lost", network.lost, 0.5, 0.0)?;
        Ok(Faults {
            break_every: every(network.break_every),
            crash_every: every(churn.crash_every),
            crash_per_actions: None,
            down_for: span(churn.down_for, Duration::from_secs(60)),
            partition_every: every(network.split_every),
            partition_for: span(network.split_for, Duration::from_secs(60)),
            lost_per_mille: share(lost * 1000.0),
            noticed_after: span(network.noticed_after, Duration::ZERO),
        })
    }
}

impl Network {
    fn delay(&self) -> Result<(Duration, Duration), Failure> {
        let [Span(least), Span(most)] = self.delay.unwrap_or([Span(Duration::from_millis(5)), Span(Duration::from_millis(60))]);
        if least <= most { Ok((least, most)) } else { Err(wrong("delay is [least, most]")) }
    }
}

fn span(given: Option<Span>, default: Duration) -> Duration {
    given.map_or(default, |span| span.0)
}

fn bounded(name: &str, given: Option<f64>, most: f64, default: f64) -> Result<f64, Failure> {
    let value = given.unwrap_or(default);
    if (0.0..=most).contains(&value) { Ok(value) } else { Err(wrong(format!("{name} is {value}; from 0 to {most} are possible"))) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between zero and 500")]
fn share(per_mille: f64) -> u32 {
    per_mille.round() as u32
}

/// An attack by its name.
///
/// # Errors
/// There is none of this name, or not in this amount.
pub fn attack(name: &str, amount: f64) -> Result<Attack, Failure> {
    let Some(known) = attacks::Known::of_name(name) else {
        let names: Vec<_> = attacks::ALL.iter().map(|known| known.name).collect();
        return Err(wrong(format!("there is no attack `{name}`")).cause(format!("known are {}", names.join(", "))));
    };
    let most = if known.per_honest { PER_HONEST_MAX } else { 1.0 };
    let amount = bounded(name, Some(amount), most, 0.0)?;
    Ok(Attack { known, amount })
}

impl From<Policy> for crate::protocol::job::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Economy => Self::Economy,
            Policy::Standard => Self::Standard,
            Policy::Strict => Self::Strict,
        }
    }
}

/// A run that showed what must not be.
pub fn violated(message: String) -> Failure {
    Failure::new(Exit::Other, "VIOLATED", message)
}
