//! Places at which a test build fails or dies on demand, to show that nothing is lost there. Empty in every other build.
//!
//! With the feature `fault-injection`, `MANYHANDS_STORE_FAULT=ACTION@PLACE:WHEN` says what happens where. `ACTION` is `kill` (at
//! once, as SIGKILL does), `nospace` or `readonly` (what a disk without room, or one that takes no writes, answers). `WHEN` is a
//! number, for that pass of the place and no other, or a path, for as long as there is a file.

use std::io;

/// Between two steps of which the first one may survive alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A large blob's first bytes are about to be written to a file of its own.
    BlobBegins,
    /// A large blob's bytes are durable, under a temporary name.
    BlobWritten,
    /// The file of a blob is in its place; the row that refers to it is not durable.
    BlobPlaced,
    /// A transaction is complete but for its commit.
    BeforeCommit,
    /// A transaction is durable, and nobody has been told.
    AfterCommit,
    /// Rows are gone, their files are not.
    BeforeRemoval,
    /// A small private file is written, under a temporary name.
    PrivateWritten,
}

impl Place {
    #[cfg(feature = "fault-injection")]
    fn name(self) -> &'static str {
        match self {
            Self::BlobBegins => "blob-begins",
            Self::BlobWritten => "blob-written",
            Self::BlobPlaced => "blob-placed",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeRemoval => "before-removal",
            Self::PrivateWritten => "private-written",
        }
    }
}

/// Passes a place.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn pass(_: Place) -> io::Result<()> {
    Ok(())
}

/// Passes a place, or does not.
#[cfg(feature = "fault-injection")]
pub(crate) fn pass(place: Place) -> io::Result<()> {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let fault = FAULT.get_or_init(|| std::env::var("MANYHANDS_STORE_FAULT").ok().as_deref().and_then(Fault::parse));
    let Some(fault) = fault.as_ref().filter(|fault| fault.place == place.name()) else { return Ok(()) };
    let is_due = match &fault.when {
        When::Pass(number) => PASSES.fetch_add(1, Ordering::Relaxed) + 1 == *number,
        When::While(path) => path.exists(),
    };
    match fault.action {
        _ if !is_due => Ok(()),
        Action::NoSpace => Err(io::ErrorKind::StorageFull.into()),
        Action::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        // As by SIGKILL nobody gets to clean up: neither destructors nor handlers run.
        Action::Kill => std::process::abort(),
    }
}

#[cfg(feature = "fault-injection")]
struct Fault {
    action: Action,
    place: String,
    when: When,
}

#[cfg(feature = "fault-injection")]
enum Action {
    Kill,
    NoSpace,
    ReadOnly,
}

#[cfg(feature = "fault-injection")]
enum When {
    Pass(u64),
    While(std::path::PathBuf),
}

#[cfg(feature = "fault-injection")]
impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (action, rest) = text.split_once('@')?;
        let (place, when) = rest.split_once(':')?;
        let action = match action {
            "kill" => Action::Kill,
            "nospace" => Action::NoSpace,
            "readonly" => Action::ReadOnly,
            _ => return None,
        };
        let when = when.parse().map_or_else(|_| When::While(when.into()), When::Pass);
        Some(Self { action, place: place.to_owned(), when })
    }
}
