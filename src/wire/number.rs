//! The numbers that stand for outcomes, failures, policies and states, on the wire and in the store.
//!
//! They are for ever: a new variant takes a new number, and none is used again. Zero stands for nothing where a field that
//! was left out must not pass for a value.

use super::bounds::Rejection;
use crate::protocol::{
    fact::JobState,
    job::Policy,
    outcome::{AttemptFailure, Exit, Trap},
    platform::Platform,
};

/// An instruction set's number.
pub fn of_platform(platform: Platform) -> u32 {
    match platform {
        Platform::X86_64 => 1,
        Platform::Aarch64 => 2,
        Platform::Riscv64 => 3,
        Platform::S390x => 4,
        Platform::Other => 5,
    }
}

/// The instruction set with this number.
pub fn to_platform(number: u32) -> Result<Platform, Rejection> {
    let known = Platform::ALL.into_iter().find(|platform| of_platform(*platform) == number);
    known.ok_or(Rejection::UnknownNumber { what: "instruction set", found: number })
}

/// An exit's number and its detail: the exit code, or the trap's number.
pub fn of_exit(exit: Exit) -> (u32, u32) {
    match exit {
        Exit::Code(code) => (1, code),
        Exit::Trap(trap) => (2, of_trap(trap)),
        Exit::OutOfGas => (3, 0),
        Exit::OutputLimit => (4, 0),
        Exit::SleepLimit => (5, 0),
    }
}

/// The exit with this number and detail. A detail where none belongs is refused, so that equal exits have equal encodings.
pub fn to_exit(kind: u32, detail: u32) -> Result<Exit, Rejection> {
    let exit = match kind {
        1 => Exit::Code(detail),
        2 => Exit::Trap(to_trap(detail)?),
        3 => Exit::OutOfGas,
        4 => Exit::OutputLimit,
        5 => Exit::SleepLimit,
        found => return Err(Rejection::UnknownNumber { what: "exit", found }),
    };
    if of_exit(exit) == (kind, detail) { Ok(exit) } else { Err(Rejection::Inconsistent { what: "exit detail", with: "exit kind" }) }
}

fn of_trap(trap: Trap) -> u32 {
    match trap {
        Trap::Unreachable => 1,
        Trap::MemoryOutOfBounds => 2,
        Trap::TableOutOfBounds => 3,
        Trap::BadIndirectCall => 4,
        Trap::DivisionByZero => 5,
        Trap::IntegerOverflow => 6,
        Trap::BadConversion => 7,
    }
}

fn to_trap(number: u32) -> Result<Trap, Rejection> {
    Ok(match number {
        1 => Trap::Unreachable,
        2 => Trap::MemoryOutOfBounds,
        3 => Trap::TableOutOfBounds,
        4 => Trap::BadIndirectCall,
        5 => Trap::DivisionByZero,
        6 => Trap::IntegerOverflow,
        7 => Trap::BadConversion,
        found => return Err(Rejection::UnknownNumber { what: "trap", found }),
    })
}

/// A failure's number.
pub fn of_failure(failure: AttemptFailure) -> u32 {
    match failure {
        AttemptFailure::TimeOut => 1,
        AttemptFailure::OutOfMemory => 2,
        AttemptFailure::StackOverflow => 3,
        AttemptFailure::Killed => 4,
        AttemptFailure::MissingBlob => 5,
        AttemptFailure::Refused => 6,
    }
}

/// The failure with this number.
pub fn to_failure(number: u32) -> Result<AttemptFailure, Rejection> {
    Ok(match number {
        1 => AttemptFailure::TimeOut,
        2 => AttemptFailure::OutOfMemory,
        3 => AttemptFailure::StackOverflow,
        4 => AttemptFailure::Killed,
        5 => AttemptFailure::MissingBlob,
        6 => AttemptFailure::Refused,
        found => return Err(Rejection::UnknownNumber { what: "failure", found }),
    })
}

/// A policy's number.
pub fn of_policy(policy: Policy) -> u32 {
    match policy {
        Policy::Economy => 1,
        Policy::Standard => 2,
        Policy::Strict => 3,
    }
}

/// The policy with this number.
pub fn to_policy(number: u32) -> Result<Policy, Rejection> {
    Ok(match number {
        1 => Policy::Economy,
        2 => Policy::Standard,
        3 => Policy::Strict,
        found => return Err(Rejection::UnknownNumber { what: "policy", found }),
    })
}

/// A job state's number.
pub fn of_job_state(state: JobState) -> u32 {
    match state {
        JobState::Running => 1,
        JobState::Done => 2,
        JobState::Failed => 3,
        JobState::Cancelled => 4,
        JobState::Stopped => 5,
    }
}

/// The job state with this number.
pub fn to_job_state(number: u32) -> Result<JobState, Rejection> {
    Ok(match number {
        1 => JobState::Running,
        2 => JobState::Done,
        3 => JobState::Failed,
        4 => JobState::Cancelled,
        5 => JobState::Stopped,
        found => return Err(Rejection::UnknownNumber { what: "job state", found }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number up to 255 either is refused or leads back to itself, and exactly `known` are not refused. Together with the
    /// matches above, which list all variants, this is every value there is.
    fn check<T: Copy>(known: usize, to: impl Fn(u32) -> Result<T, Rejection>, of: impl Fn(T) -> u32) {
        let values: Vec<(u32, T)> = (0..256).filter_map(|number| to(number).ok().map(|value| (number, value))).collect();
        assert_eq!(values.len(), known);
        assert!(values.iter().all(|&(number, value)| of(value) == number && number != 0));
        assert!(to(u32::MAX).is_err());
    }

    #[test]
    fn every_number_leads_back_to_itself() {
        check(7, to_trap, of_trap);
        check(6, to_failure, of_failure);
        check(3, to_policy, of_policy);
        check(5, to_job_state, of_job_state);
        check(7, |detail| to_exit(2, detail), |exit| of_exit(exit).1);
        check(5, |kind| to_exit(kind, u32::from(kind == 2)), |exit| of_exit(exit).0);
    }

    #[test]
    fn exit_codes_keep_all_their_bits_and_other_exits_have_no_detail() {
        for code in [0, 1, 255, u32::MAX] {
            assert_eq!(to_exit(1, code), Ok(Exit::Code(code)));
            assert_eq!(of_exit(Exit::Code(code)), (1, code));
        }
        assert_eq!(to_exit(3, 1), Err(Rejection::Inconsistent { what: "exit detail", with: "exit kind" }));
        assert_eq!(to_exit(0, 0), Err(Rejection::UnknownNumber { what: "exit", found: 0 }));
    }
}
