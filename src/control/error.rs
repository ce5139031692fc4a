//! The one error of the local API: what happened, why, what to try. Survives the way through a gRPC status unchanged.

use crate::wire::control::{ErrorDetail, ErrorKind, Job, JobState};
use prost::Message as _;
use std::borrow::Cow;
use tonic::{Code, Status};

/// What sort of error; decides the gRPC code and the exit code of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A defect, or a fault of this machine.
    Internal,
    /// The request cannot be right, whatever the state of the node.
    Usage,
    /// No node answers, or it is stopping.
    Unreachable,
    /// No such job, unit or peer.
    NotFound,
    /// Wrong token, expired ticket, not the owner.
    Denied,
    /// The job failed, or lacks a part of its results.
    Failed,
    /// The job was cancelled.
    Cancelled,
    /// Results are wanted that are not verified, or are in dispute.
    Unverified,
    /// Not now: the state of the node or of the job does not allow it.
    Conflict,
    /// A limit is reached.
    Exhausted,
    /// It took longer than was allowed.
    TimeOut,
}

/// An error of the local API.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// What sort.
    pub kind: Kind,
    /// A stable word for programs: `NOT_FOUND_JOB`, `AMBIGUOUS_JOB`, `TICKET_EXPIRED`.
    pub reason: Cow<'static, str>,
    /// What happened, to what; lower case, no full stop.
    pub message: String,
    /// Why; empty where the message says it all.
    pub cause: String,
    /// What to try; a command where there is one.
    pub hints: Vec<String>,
}

/// The most bytes of an encoded [`ErrorDetail`]: it travels in a header, in base64, and headers are bounded.
const DETAIL_BYTES_MAX: usize = 4 << 10;

impl ControlError {
    /// An error without a cause or hints.
    pub fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason: Cow::Borrowed(reason), message: message.into(), cause: String::new(), hints: Vec::new() }
    }

    /// The same with its cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// The same with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// No job has this id, prefix or name.
    pub fn no_such_job(reference: &str) -> Self {
        Self::new(Kind::NotFound, "NOT_FOUND_JOB", format!("no job `{}`", clip(reference)))
            .cause("this node neither submitted it nor keeps it")
            .hint("manyhands jobs")
    }

    /// Results of `job` were wanted before each unit had a verified one. `disputed` names (a part of) the units in dispute.
    pub fn unverified(job: &Job, disputed: &[u32]) -> Self {
        let missing = job.units.saturating_sub(job.verified);
        let id = if job.short_id.is_empty() { &job.id } else { &job.short_id };
        let text = format!("{} of {} units have no verified result", grouped(missing), grouped(job.units));
        if job.state() == JobState::Cancelled {
            let error = Self::new(Kind::Cancelled, "JOB_CANCELLED", text).cause("the job was cancelled");
            return error.hint(format!("manyhands retry {id}        (goes on with it)")).hint(format!("manyhands results {id} --partial"));
        }
        let error = Self::new(Kind::Unverified, "UNVERIFIED_RESULTS", text).cause(unverified_cause(job, disputed));
        let error = if job.disputed > 0 {
            error.hint(format!("manyhands verify {id}              (runs them here, names the wrong peer)"))
        } else if job.failed > 0 {
            error.hint(format!("manyhands logs {id}")).hint(format!("manyhands retry {id}"))
        } else {
            error.hint(format!("manyhands wait {id}")).hint(format!("manyhands results {id} --follow"))
        };
        error.hint(format!("manyhands results {id} --partial"))
    }
}

fn unverified_cause(job: &Job, disputed: &[u32]) -> String {
    const UNITS_NAMED_MAX: usize = 10;
    let mut parts = Vec::new();
    if job.disputed > 0 {
        let mut names: Vec<String> = disputed.iter().take(UNITS_NAMED_MAX).map(u32::to_string).collect();
        if job.disputed as usize > names.len() && !names.is_empty() {
            names.push("…".to_owned());
        }
        let list = if names.is_empty() { grouped(job.disputed) } else { names.join(", ") };
        parts.push(format!("disputed: {list}"));
    }
    let counts = [
        (job.failed, "failed"),
        (job.rechecking, "re-checking: a contributor was caught"),
        (job.provisional, "provisional"),
        (job.awaiting, "awaiting a vote"),
    ];
    parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n))));
    if parts.is_empty() { "the job is still running".to_owned() } else { parts.join("; ") }
}

/// Groups digits by three, as people read them: `10,000`.
pub fn grouped(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a stranger typed, made safe to show: at most 80 characters, none of them a control character.
pub fn clip(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}

impl Kind {
    fn code(self) -> Code {
        match self {
            Self::Internal => Code::Internal,
            Self::Usage => Code::InvalidArgument,
            Self::Unreachable => Code::Unavailable,
            Self::NotFound => Code::NotFound,
            Self::Denied => Code::PermissionDenied,
            Self::Failed | Self::Unverified | Self::Conflict => Code::FailedPrecondition,
            Self::Cancelled => Code::Aborted,
            Self::Exhausted => Code::ResourceExhausted,
            Self::TimeOut => Code::DeadlineExceeded,
        }
    }

    fn to_wire(self) -> ErrorKind {
        match self {
            Self::Internal => ErrorKind::Internal,
            Self::Usage => ErrorKind::Usage,
            Self::Unreachable => ErrorKind::Unreachable,
            Self::NotFound => ErrorKind::NotFound,
            Self::Denied => ErrorKind::Denied,
            Self::Failed => ErrorKind::Failed,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Unverified => ErrorKind::Unverified,
            Self::Conflict => ErrorKind::Conflict,
            Self::Exhausted => ErrorKind::Exhausted,
            Self::TimeOut => ErrorKind::TimeOut,
        }
    }

    /// The detail's kind; where it has none (a status that the gRPC layer made), the kind that the code suggests.
    fn from_wire(kind: ErrorKind, code: Code) -> Self {
        match kind {
            ErrorKind::Unspecified => Self::from_code(code),
            ErrorKind::Internal => Self::Internal,
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Unreachable => Self::Unreachable,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Failed => Self::Failed,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Unverified => Self::Unverified,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::Exhausted => Self::Exhausted,
            ErrorKind::TimeOut => Self::TimeOut,
        }
    }

    fn from_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::Unavailable => Self::Unreachable,
            Code::NotFound => Self::NotFound,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::FailedPrecondition | Code::AlreadyExists => Self::Conflict,
            Code::ResourceExhausted => Self::Exhausted,
            // tonic's client reports its own expired deadline as Cancelled; a job's cancellation always has a detail.
            Code::DeadlineExceeded | Code::Cancelled => Self::TimeOut,
            Code::Ok | Code::Unknown | Code::Aborted | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }
}

impl From<ControlError> for Status {
    fn from(error: ControlError) -> Self {
        let mut detail =
            ErrorDetail { reason: error.reason.into_owned(), cause: error.cause, hints: error.hints, kind: error.kind.to_wire().into() };
        if detail.encoded_len() > DETAIL_BYTES_MAX {
            detail.cause = clip(&detail.cause);
            detail.hints.truncate(4);
            detail.hints.iter_mut().for_each(|hint| *hint = clip(hint));
        }
        Self::with_details(error.kind.code(), error.message, detail.encode_to_vec().into())
    }
}

impl From<Status> for ControlError {
    fn from(status: Status) -> Self {
        let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
        let reason = if detail.reason.is_empty() { format!("GRPC_{:?}", status.code()).to_uppercase() } else { detail.reason.clone() };
        Self {
            kind: Kind::from_wire(detail.kind(), status.code()),
            reason: Cow::Owned(reason),
            message: status.message().to_owned(),
            cause: detail.cause,
            hints: detail.hints,
        }
    }
}
