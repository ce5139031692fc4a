//! A simulation as data: who takes part, what they run, and what goes wrong how often.

use super::behaviour::{Behaviour, Program};
use crate::protocol::{
    ids::{Digest, PeerId},
    job::{Inputs, Manifest, Policy, Reduce, UnitRange},
    outcome::UnitLimits,
    platform::Platform,
    trust::Prefix,
};
use core::time::Duration;

/// A grid to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Who takes part; each is known by its place in this list.
    pub peers: Vec<PeerSpec>,
    /// The shortest and the longest time that a message takes.
    pub delay: (Duration, Duration),
    /// What goes wrong while faults are on.
    pub faults: Faults,
    /// More peers conspire than verification promises to withstand: something wrong may be shown until they are caught, and at the
    /// end nothing may.
    pub conspiracy: bool,
}

/// One peer.
#[derive(Clone, Debug)]
pub struct PeerSpec {
    /// Units that it runs at once.
    pub slots: u32,
    /// Gas per second and slot.
    pub gas_per_second: u64,
    /// Slots that it says it has, if not the truth.
    pub claimed_slots: Option<u32>,
    /// What it does with the units that it gets.
    pub behaviour: Behaviour,
    /// Peers of one household are one another's own devices.
    pub household: Option<u32>,
    /// Its network.
    pub prefix: Option<Prefix>,
    /// Through whose invitation it came.
    pub lineage: Option<PeerId>,
    /// Its instruction set.
    pub platform: Platform,
    /// Its validation class.
    pub class: &'static str,
    /// How long a packet takes between it and the rest of the world, either way, beyond the scenario's delay.
    pub distance: Duration,
    /// When it first starts, after the beginning.
    pub comes_after: Duration,
    /// As a keeper it adopts at once, hands back forged votes and does not stop.
    pub lies_as_keeper: bool,
    /// How it comes and goes while faults are on; `None`: it stays.
    pub sessions: Option<Sessions>,
}

/// How a peer comes and goes. It does not say good-bye: everything that is not on its disk is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sessions {
    /// Half of its sessions are over after this.
    pub present: Duration,
    /// Half of its absences are over after this.
    pub absent: Duration,
}

impl Default for PeerSpec {
    /// An honest stranger with two slots that runs a typical unit in a second.
    fn default() -> Self {
        Self {
            slots: 2,
            claimed_slots: None,
            gas_per_second: JobSpec::default().gas,
            behaviour: Behaviour::Honest,
            household: None,
            prefix: None,
            lineage: None,
            platform: Platform::X86_64,
            class: "v1",
            distance: Duration::ZERO,
            comes_after: Duration::ZERO,
            lies_as_keeper: false,
            sessions: None,
        }
    }
}

impl PeerSpec {
    /// One that lends nothing.
    pub fn idle() -> Self {
        Self { slots: 0, ..Self::default() }
    }

    /// One of a household.
    pub fn of_household(household: u32) -> Self {
        Self { household: Some(household), ..Self::default() }
    }

    /// One that behaves so.
    pub fn that(behaviour: Behaviour) -> Self {
        Self { behaviour, ..Self::default() }
    }
}

/// How often what goes wrong; zero is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Some link breaks, once in this time on average over the grid.
    pub break_every: Option<Duration>,
    /// Some peer crashes, once in this time on average over the grid.
    pub crash_every: Option<Duration>,
    /// A peer dies between two actions, once in so many actions.
    pub crash_per_actions: Option<u64>,
    /// How long a crashed peer stays away, at most.
    pub down_for: Duration,
    /// The grid splits in two, once in this time on average.
    pub partition_every: Option<Duration>,
    /// How long a split lasts, at most.
    pub partition_for: Duration,
    /// Packets lost on the way, of a thousand. The transport sends them again, so each shows as delay.
    pub lost_per_mille: u32,
    /// How late, at most, an end learns that its link broke or that the other end died.
    pub noticed_after: Duration,
}

impl Faults {
    /// Everything goes wrong, often.
    pub const HARSH: Self = Self {
        break_every: Some(Duration::from_secs(3)),
        crash_every: Some(Duration::from_secs(20)),
        crash_per_actions: Some(2_000),
        down_for: Duration::from_secs(15),
        partition_every: Some(Duration::from_secs(60)),
        partition_for: Duration::from_secs(30),
        lost_per_mille: 10,
        noticed_after: Duration::from_secs(2),
    };
}

/// A job to submit.
#[derive(Clone, Copy, Debug)]
pub struct JobSpec {
    /// How many units.
    pub units: u32,
    /// Gas of a typical unit; each takes between half and one and a half of it.
    pub gas: u64,
    /// How many must agree.
    pub policy: Policy,
    /// What its units do.
    pub program: Program,
    /// The job's wall-clock limit for a unit.
    pub wall: Duration,
    /// Larger is sooner.
    pub priority: i8,
    /// How many peers are to keep it.
    pub keep: u8,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            units: 100,
            gas: 1_000_000_000,
            policy: Policy::Standard,
            program: Program::Works,
            wall: Duration::from_secs(60),
            priority: 0,
            keep: 0,
        }
    }
}

impl JobSpec {
    /// So many ordinary units.
    pub fn of_units(units: u32) -> Self {
        Self { units, ..Self::default() }
    }

    /// Its description.
    pub fn manifest(&self, owner: PeerId) -> Manifest {
        Manifest {
            owner,
            name: "job".into(),
            module: Digest([1; 32]),
            module_bytes: 100,
            args: vec![],
            inputs: Inputs::Range(UnitRange { start: 0, end: u64::from(self.units), per_unit: 1 }),
            limits: UnitLimits { wall: self.wall, ..UnitLimits::default() },
            policy: self.policy,
            priority: self.priority,
            tags: vec![],
            purpose: String::new(),
            reduce: Reduce::Concat,
            nonce: vec![],
        }
    }
}
