//! What units do, and what machines make of them: honest ones, liars, and those that never answer.
//!
//! [`Behaviour`] says what a machine is; [`Crowd`] is what all that are not honest know, of their own past and, where they conspire, of
//! one another. Everything follows from the seed: whether somebody lies is drawn by a digest of who, which unit and which job.

mod crowd;

pub use crowd::{Asked, Course, Crowd};

use super::scenario::JobSpec;
use crate::protocol::{
    ids::{Digest, JobId, UnitIndex},
    outcome::{AttemptFailure, Exit, Outcome, Value},
    platform::Platform,
};
use core::time::Duration;

/// What the units of a job do on an honest machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// They succeed.
    Works,
    /// They end in this exit code.
    Exits(u32),
    /// They run for longer than the job allows.
    NeverEnds,
    /// Every so-manieth runs for longer than the job allows.
    SometimesNeverEnds(u32),
    /// They loop until their gas is used up.
    UsesAllGas,
    /// They write more than the job allows.
    WritesTooMuch,
    /// They succeed, and what every so-manieth writes depends on the instruction set.
    DependsOnPlatform(u32),
}

/// What a machine does with the units that it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Runs them.
    Honest,
    /// Answers wrongly, in its own way, in so many of a thousand units.
    Lies {
        /// Of a thousand.
        per_mille: u32,
    },
    /// Answers wrongly, like all colluders, in so many of a thousand units; the same ones for all.
    Colludes {
        /// Of a thousand.
        per_mille: u32,
    },
    /// One of a ring that shares what its members said. Of the units that nobody has voted on yet it lies in so many of a thousand, and
    /// the next member who gets such a unit says the same; where an honest vote may be, it is honest.
    Gambles {
        /// Of a thousand.
        per_mille: u32,
    },
    /// One of a ring that lies only when it knows that two members hold the same unit. To bring that about it keeps so many of a
    /// thousand units until their lease has run out, so that somebody else gets them meanwhile.
    LiesInPairs {
        /// Of a thousand.
        kept_per_mille: u32,
    },
    /// Honest until it has answered so many units, and a gambler from then on.
    Sleeps {
        /// Units.
        until: u32,
        /// Of a thousand, then.
        per_mille: u32,
    },
    /// Honest but for one lie, in a ring, after so many answered units.
    LiesOnce {
        /// Units.
        after: u32,
    },
    /// Honest until this moment of the simulation, and then one of those who all say the same wrong thing in every unit.
    Turns {
        /// Since the start.
        at: Duration,
    },
    /// Answers at once, without running anything: what it takes for a likely result.
    Guesses,
    /// Runs the unit, and answers just before its lease runs out.
    Dawdles,
    /// Takes units and never answers.
    Silent,
    /// Every unit runs out of memory.
    OutOfMemory,
}

impl Behaviour {
    /// Whether it never says anything wrong. It may be of no use all the same.
    pub fn is_truthful(self) -> bool {
        match self {
            Self::Honest | Self::Dawdles | Self::Silent | Self::OutOfMemory => true,
            Self::Lies { .. }
            | Self::Colludes { .. }
            | Self::Gambles { .. }
            | Self::LiesInPairs { .. }
            | Self::Sleeps { .. }
            | Self::LiesOnce { .. }
            | Self::Turns { .. }
            | Self::Guesses => false,
        }
    }
}

/// What a unit is on an honest machine: the truth that the checkers know.
pub fn truth(spec: &JobSpec, job: JobId, unit: UnitIndex) -> Outcome {
    truth_on(Platform::default(), spec, job, unit)
}

/// What a unit is on an honest machine of this instruction set; the same on all, but for programs that are not deterministic.
pub fn truth_on(platform: Platform, spec: &JobSpec, job: JobId, unit: UnitIndex) -> Outcome {
    let flavour = match spec.program {
        Program::DependsOnPlatform(every) if unit.0.is_multiple_of(every.max(1)) => platform as u8,
        Program::DependsOnPlatform(_)
        | Program::Works
        | Program::Exits(_)
        | Program::NeverEnds
        | Program::SometimesNeverEnds(_)
        | Program::UsesAllGas
        | Program::WritesTooMuch => 0,
    };
    let value = |exit| {
        let mut output = Digest::of_parts(&[job.as_bytes(), &unit.0.to_le_bytes()]);
        output.0[0] ^= flavour;
        Outcome::Value(Value { exit, output, gas: gas(spec, job, unit), chain: None })
    };
    match spec.program {
        Program::Works => value(Exit::Code(0)),
        Program::Exits(code) => value(Exit::Code(code)),
        Program::NeverEnds => Outcome::Failed(AttemptFailure::TimeOut),
        Program::SometimesNeverEnds(every) if unit.0 % every.max(1) == 1 => Outcome::Failed(AttemptFailure::TimeOut),
        Program::SometimesNeverEnds(_) | Program::DependsOnPlatform(_) => value(Exit::Code(0)),
        Program::UsesAllGas => value(Exit::OutOfGas),
        Program::WritesTooMuch => value(Exit::OutputLimit),
    }
}

/// Whether some honest machine finds this.
pub fn is_true(spec: &JobSpec, job: JobId, unit: UnitIndex, value: Value) -> bool {
    Platform::ALL.into_iter().any(|platform| truth_on(platform, spec, job, unit) == Outcome::Value(value))
}

/// What all conspirators say about a unit when they lie.
pub fn of_conspirators(spec: &JobSpec, job: JobId, unit: UnitIndex) -> Outcome {
    lie(crowd::RING, spec, job, unit)
}

/// What liars of one kind say about a unit: all who share the salt say the same.
fn lie(salt: &[u8], spec: &JobSpec, job: JobId, unit: UnitIndex) -> Outcome {
    let output = Digest::of_parts(&[b"lie", salt, job.as_bytes(), &unit.0.to_le_bytes()]);
    Outcome::Value(Value { exit: Exit::Code(0), output, gas: gas(spec, job, unit), chain: None })
}

/// Between half and one and a half of the typical gas.
pub fn gas(spec: &JobSpec, job: JobId, unit: UnitIndex) -> u64 {
    let share = draw(&[b"gas", job.as_bytes(), &unit.0.to_le_bytes()]) % 1001;
    spec.gas / 2 + spec.gas / 1000 * share
}

/// Whether so many of a thousand draws, each named by its parts, hit.
fn hits(per_mille: u32, salt: &[u8], job: JobId, unit: UnitIndex) -> bool {
    draw(&[b"whether", salt, job.as_bytes(), &unit.0.to_le_bytes()]) % 1000 < u64::from(per_mille)
}

fn draw(parts: &[&[u8]]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Digest::of_parts(parts).0[..8]);
    u64::from_le_bytes(bytes)
}
