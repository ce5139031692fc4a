//! Why a message is refused, and the checks that refuse it.
//!
//! Every conversion in `wire` answers with the same [`Rejection`], which names the field and the bound. It is meant for the
//! sender's logs; what follows from it (a dropped message, a closed connection) is for the node to decide.

use crate::protocol::{
    announce::AnnouncementError,
    ids::{Digest, JobId, PeerId},
    job::ManifestError,
};

/// The most bytes of one message on a work stream: what is carried inline, and up to 1,024 fixed parts of less than 512 bytes.
pub const WORK_MESSAGE_BYTES_MAX: usize = 2 << 20;
/// The most leases, outcomes, revoked or acknowledged units of one message. A batch of 1,024 already costs one signature.
pub const BATCH_MAX: usize = 1024;
/// The most bytes that one batch carries inline: inputs and names, or outputs and logs.
pub const BATCH_INLINE_BYTES_MAX: usize = 1 << 20;
/// The most bytes of an input or an output that travels inside a batch; longer ones are blobs.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// The most bytes of a unit's log that travel with its outcome.
pub const LOG_BYTES_MAX: usize = 16 << 10;
/// The most units that a worker may ask for at once.
pub const CREDITS_MAX: u32 = 65_536;
/// The most bytes of an encoded manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// The most bytes of the name of an instruction set.
pub const INSTRUCTION_SET_BYTES_MAX: usize = 32;
/// The bytes of a lease's token.
pub const TOKEN_BYTES: usize = 16;
/// The bytes of an ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Why something that a peer sent is not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The bytes are no message of this kind.
    #[error("{what} is not valid protobuf")]
    Undecodable {
        /// Which message.
        what: &'static str,
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
    /// It says what it says in a way that has a shorter or better ordered form, so its digest would be ambiguous.
    #[error("{what} is not encoded canonically")]
    NotCanonical {
        /// Which message.
        what: &'static str,
    },
    /// A field that must be there is not.
    #[error("{what} is missing")]
    Missing {
        /// Which field.
        what: &'static str,
    },
    /// A field of fixed length has another one.
    #[error("{what} has {found} bytes instead of {expected}")]
    WrongLength {
        /// Which field.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What it must be.
        expected: usize,
    },
    /// A field that exceeds its bound.
    #[error("{what} has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A list that exceeds its bound.
    #[error("{found} {what}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A number outside its range.
    #[error("{what} is {found}, not from {min} to {max}")]
    OutOfRange {
        /// Which field.
        what: &'static str,
        /// Its value.
        found: i64,
        /// The least that is allowed.
        min: i64,
        /// The most that is allowed.
        max: i64,
    },
    /// A number that stands for nothing this version knows.
    #[error("{found} is the number of no {what}")]
    UnknownNumber {
        /// Of what.
        what: &'static str,
        /// The number.
        found: u32,
    },
    /// A batch names a unit twice.
    #[error("unit {unit} occurs twice")]
    Repeated {
        /// Which unit.
        unit: u32,
    },
    /// Bytes that travel inline are not those that the digest beside them names.
    #[error("{what} does not match its digest")]
    WrongDigest {
        /// Which field.
        what: &'static str,
    },
    /// Two fields contradict one another.
    #[error("{what} contradicts {with}")]
    Inconsistent {
        /// One of the fields.
        what: &'static str,
        /// The other.
        with: &'static str,
    },
    /// A signature that its alleged author did not make.
    #[error("the signature on {what} is not valid")]
    BadSignature {
        /// On what.
        what: &'static str,
    },
    /// The message is well formed, but describes no job.
    #[error("not a job: {0}")]
    Manifest(#[from] ManifestError),
    /// The message is well formed, but announces nothing sensible.
    #[error("not an announcement: {0}")]
    Announcement(#[from] AnnouncementError),
}

impl From<Rejection> for tonic::Status {
    /// A rejection is always the sender's fault.
    fn from(rejection: Rejection) -> Self {
        Self::invalid_argument(rejection.to_string())
    }
}

/// Refuses more than `max` bytes.
pub(super) fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), Rejection> {
    if found > max { Err(Rejection::TooLong { what, found, max }) } else { Ok(()) }
}

/// Refuses more than `max` entries.
pub(super) fn few(what: &'static str, found: usize, max: usize) -> Result<(), Rejection> {
    if found > max { Err(Rejection::TooMany { what, found, max }) } else { Ok(()) }
}

/// Reads a field of exactly `N` bytes.
pub(super) fn fixed<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], Rejection> {
    bytes.try_into().map_err(|_| Rejection::WrongLength { what, found: bytes.len(), expected: N })
}

/// Reads a digest.
pub(super) fn digest(what: &'static str, bytes: &[u8]) -> Result<Digest, Rejection> {
    fixed(what, bytes).map(Digest)
}

/// Reads a peer's key.
pub(super) fn peer_id(what: &'static str, bytes: &[u8]) -> Result<PeerId, Rejection> {
    fixed(what, bytes).map(PeerId)
}

/// Reads a job's name.
pub(super) fn job_id(bytes: &[u8]) -> Result<JobId, Rejection> {
    fixed("job", bytes).map(JobId)
}
