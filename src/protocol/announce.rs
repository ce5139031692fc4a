//! What peers tell the whole grid: small, signed and short-lived.
//!
//! How announcements are encoded, signed and spread is the border's and the gossip machine's business.

use super::{
    fraud::Accusation,
    ids::{Digest, JobId},
    job::{PURPOSE_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX},
};
use core::time::Duration;
use std::sync::Arc;

/// The longest that an announcement may stay true: a peer that vanishes is forgotten after it.
pub const LIFETIME_MAX: Duration = Duration::from_hours(1);
/// The most bytes of an encoded announcement: with frames, it fits in two datagrams.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 2048;
/// The most bytes of a hint how to reach a coordinator: a few addresses and a relay.
pub const CONTACT_BYTES_MAX: usize = 256;
/// The most bytes of a validation class.
pub const VALIDATION_CLASS_BYTES_MAX: usize = 64;
/// The most slots that one peer may claim: more than any machine of today has cores.
pub const SLOTS_MAX: u32 = 4096;

/// One peer's word to everybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Grows with every announcement of this author about this subject; the newest wins.
    pub sequence: u64,
    /// How long it stays true, counted from when it is received; at most [`LIFETIME_MAX`], to the millisecond.
    pub lifetime: Duration,
    /// What it is about.
    pub subject: Subject,
}

/// What an announcement is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A job has work to hand out.
    JobOpen(JobOpen),
    /// A job has none any more.
    JobClosed {
        /// Which.
        job: JobId,
        /// The number of the coordinator's reign.
        generation: u32,
    },
    /// What the author lends.
    Capacity(Capacity),
    /// Evidence that somebody signed something wrong.
    Accusation(Arc<Accusation>),
}

/// A job that has work to hand out. Its author coordinates it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobOpen {
    /// Which.
    pub job: JobId,
    /// The number of the coordinator's reign: zero is the author's. For people; nothing is decided by it.
    pub generation: u32,
    /// Its module. Nothing is decided by it yet.
    pub module: Digest,
    /// One line for donors.
    pub purpose: String,
    /// Fields of work.
    pub tags: Vec<String>,
    /// What a unit may need.
    pub memory_bytes: u64,
    /// Units that still need an execution.
    pub open_units: u32,
    /// From -10 to 10, among one owner's jobs.
    pub priority: i8,
    /// How to reach the coordinator; opaque here.
    pub contact: Vec<u8>,
}

/// What a peer lends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Units that it runs at once.
    pub slots: u32,
    /// Memory for all of them.
    pub memory_bytes: u64,
    /// Engine version and passes: what must match between voters.
    pub validation_class: String,
    /// Slots that wait for work.
    pub idle_slots: u32,
}

/// Why an announcement is not sensible.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnouncementError {
    /// It would never, or for too long, be true.
    #[error("a lifetime of {0:?}; more than zero and at most {LIFETIME_MAX:?} are allowed")]
    Lifetime(Duration),
    /// A text or list that exceeds its bound.
    #[error("{what} is too long: {found}, at most {max}")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Two receipts that say the same, as evidence that they do not.
    #[error("the two receipts of an equivocation say the same")]
    NoContradiction,
    /// A priority outside -10 to 10.
    #[error("priority {0} is not between -10 and 10")]
    Priority(i8),
    /// More slots than [`SLOTS_MAX`], or more idle ones than there are.
    #[error("{idle} idle of {slots} slots; at most {SLOTS_MAX}, and no more idle than there are")]
    Slots {
        /// Slots in all.
        slots: u32,
        /// Idle ones.
        idle: u32,
    },
}

impl Announcement {
    /// Checks every bound. A value that passed is safe to work with.
    pub fn check(&self) -> Result<(), AnnouncementError> {
        if self.lifetime.is_zero() || self.lifetime > LIFETIME_MAX {
            return Err(AnnouncementError::Lifetime(self.lifetime));
        }
        match &self.subject {
            Subject::JobOpen(open) => open.check(),
            Subject::JobClosed { .. } => Ok(()),
            Subject::Capacity(capacity) => capacity.check(),
            Subject::Accusation(accusation) => accusation.check(),
        }
    }
}

impl JobOpen {
    fn check(&self) -> Result<(), AnnouncementError> {
        bounded("purpose", self.purpose.len(), PURPOSE_BYTES_MAX)?;
        bounded("list of tags", self.tags.len(), TAGS_MAX)?;
        self.tags.iter().try_for_each(|tag| bounded("tag", tag.len(), TAG_BYTES_MAX))?;
        bounded("contact", self.contact.len(), CONTACT_BYTES_MAX)?;
        if (-10..=10).contains(&self.priority) { Ok(()) } else { Err(AnnouncementError::Priority(self.priority)) }
    }
}

impl Capacity {
    fn check(&self) -> Result<(), AnnouncementError> {
        bounded("validation class", self.validation_class.len(), VALIDATION_CLASS_BYTES_MAX)?;
        if self.slots > SLOTS_MAX || self.idle_slots > self.slots {
            return Err(AnnouncementError::Slots { slots: self.slots, idle: self.idle_slots });
        }
        Ok(())
    }
}

fn bounded(what: &'static str, found: usize, max: usize) -> Result<(), AnnouncementError> {
    if found > max { Err(AnnouncementError::TooLong { what, found, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lifetime: Duration, slots: u32, idle_slots: u32) -> Result<(), AnnouncementError> {
        let subject = Subject::Capacity(Capacity { slots, idle_slots, memory_bytes: 1, validation_class: String::new() });
        Announcement { sequence: 1, lifetime, subject }.check()
    }

    #[test]
    fn breaches_are_named() {
        assert_eq!(check(LIFETIME_MAX, 8, 8), Ok(()));
        assert_eq!(check(Duration::ZERO, 8, 8), Err(AnnouncementError::Lifetime(Duration::ZERO)));
        assert!(matches!(check(LIFETIME_MAX * 2, 8, 8), Err(AnnouncementError::Lifetime(_))));
        assert_eq!(check(LIFETIME_MAX, 8, 9), Err(AnnouncementError::Slots { slots: 8, idle: 9 }));
    }
}
