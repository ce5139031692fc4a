//! What units do, and what machines make of them: honest ones, liars, and those that never answer.

use super::scenario::JobSpec;
use crate::protocol::{
    ids::{Digest, JobId, PeerId, UnitIndex},
    outcome::{AttemptFailure, Exit, Outcome, Value},
    platform::Platform,
};

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
    /// Takes units and never answers.
    Silent,
    /// Every unit runs out of memory.
    OutOfMemory,
}

/// What a unit is on an honest machine: the truth that the checkers know.
pub fn truth(spec: &JobSpec, job: JobId, unit: UnitIndex) -> Outcome {
    truth_on(Platform::default(), spec, job, unit)
}

/// What a unit is on an honest machine of this instruction set; the same on all, but for programs that are not deterministic.
pub fn truth_on(platform: Platform, spec: &JobSpec, job: JobId, unit: UnitIndex) -> Outcome {
    let flavour = match spec.program {
        Program::DependsOnPlatform(every) if unit.0.is_multiple_of(every.max(1)) => platform as u8,
        Program::DependsOnPlatform(_) | Program::Works | Program::Exits(_) | Program::NeverEnds | Program::SometimesNeverEnds(_) => 0,
    };
    let value = |exit| {
        let mut output = Digest::of_parts(&[job.as_bytes(), &unit.0.to_le_bytes()]);
        output.0[0] ^= flavour;
        Outcome::Value(Value { exit, output, gas: gas(spec, job, unit) })
    };
    match spec.program {
        Program::Works => value(Exit::Code(0)),
        Program::Exits(code) => value(Exit::Code(code)),
        Program::NeverEnds => Outcome::Failed(AttemptFailure::TimeOut),
        Program::SometimesNeverEnds(every) if unit.0 % every.max(1) == 1 => Outcome::Failed(AttemptFailure::TimeOut),
        Program::SometimesNeverEnds(_) | Program::DependsOnPlatform(_) => value(Exit::Code(0)),
    }
}

/// What this machine says about a unit; `None`: nothing, ever.
pub fn answer(behaviour: Behaviour, platform: Platform, me: PeerId, spec: &JobSpec, job: JobId, unit: UnitIndex) -> Option<Outcome> {
    let honest = truth_on(platform, spec, job, unit);
    let lie = |salt: &[u8], per_mille: u32| {
        let drawn = draw(&[b"whether", salt, job.as_bytes(), &unit.0.to_le_bytes()]) % 1000;
        let output = Digest::of_parts(&[b"lie", salt, job.as_bytes(), &unit.0.to_le_bytes()]);
        let wrong = Outcome::Value(Value { exit: Exit::Code(0), output, gas: gas(spec, job, unit) });
        if drawn < u64::from(per_mille) { wrong } else { honest }
    };
    match behaviour {
        Behaviour::Honest => Some(honest),
        Behaviour::Lies { per_mille } => Some(lie(me.as_bytes(), per_mille)),
        Behaviour::Colludes { per_mille } => Some(lie(b"ring", per_mille)),
        Behaviour::Silent => None,
        Behaviour::OutOfMemory => Some(Outcome::Failed(AttemptFailure::OutOfMemory)),
    }
}

/// Between half and one and a half of the typical gas.
pub fn gas(spec: &JobSpec, job: JobId, unit: UnitIndex) -> u64 {
    let share = draw(&[b"gas", job.as_bytes(), &unit.0.to_le_bytes()]) % 1001;
    spec.gas / 2 + spec.gas / 1000 * share
}

fn draw(parts: &[&[u8]]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Digest::of_parts(parts).0[..8]);
    u64::from_le_bytes(bytes)
}
