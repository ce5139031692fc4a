//! The exit codes, which scripts rely on; the table in `--help` is made from them.

use crate::control::error::Kind;
use crate::wire::control::JobState;

/// What the process returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0
    Ok,
    /// 1
    Other,
    /// 2
    Usage,
    /// 3
    Unreachable,
    /// 4
    NotFound,
    /// 5
    Denied,
    /// 6
    JobFailed,
    /// 7
    Cancelled,
    /// 8
    Unverified,
    /// 124
    TimeOut,
    /// 130
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Other,
        Self::Usage,
        Self::Unreachable,
        Self::NotFound,
        Self::Denied,
        Self::JobFailed,
        Self::Cancelled,
        Self::Unverified,
        Self::TimeOut,
        Self::Interrupted,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Denied => 5,
            Self::JobFailed => 6,
            Self::Cancelled => 7,
            Self::Unverified => 8,
            Self::TimeOut => 124,
            Self::Interrupted => 130,
        }
    }

    /// What it means, as `--help` says.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Other => "another error",
            Self::Usage => "wrong use: flags, job file, inputs",
            Self::Unreachable => "no node is running here, or it does not answer",
            Self::NotFound => "no such job, unit or peer",
            Self::Denied => "not allowed: token, ticket, owner",
            Self::JobFailed => "the job failed, or a part of it",
            Self::Cancelled => "the job was cancelled",
            Self::Unverified => "results are unverified or disputed",
            Self::TimeOut => "time-out",
            Self::Interrupted => "interrupted by Ctrl-C; the job continues",
        }
    }

    /// A job's outcome, as `watch`, `wait` and `submit --wait` return it.
    pub fn of_job(state: JobState) -> Self {
        match state {
            JobState::Unspecified | JobState::Running | JobState::Done => Self::Ok,
            JobState::Failed | JobState::Stopped => Self::JobFailed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal | Kind::Conflict | Kind::Exhausted => Self::Other,
            Kind::Usage => Self::Usage,
            Kind::Unreachable => Self::Unreachable,
            Kind::NotFound => Self::NotFound,
            Kind::Denied => Self::Denied,
            Kind::Failed => Self::JobFailed,
            Kind::Cancelled => Self::Cancelled,
            Kind::Unverified => Self::Unverified,
            Kind::TimeOut => Self::TimeOut,
        }
    }
}

/// The table for `--help`.
pub fn help_table() -> String {
    let lines = Exit::ALL.iter().map(|exit| format!("  {:<4} {}", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}
