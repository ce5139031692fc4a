//! The jail around a slot process: what code that escapes the engine could still do, which is nothing.
//!
//! On Linux several layers hold independently: seccomp leaves only the system calls that a running slot needs (none of them
//! opens, creates, connects, forks, signals or looks into another process); Landlock denies files, network and signals a
//! second time; resource limits bound memory, files and core dumps; the process cannot gain privileges, cannot be read by its
//! own user, dies with its parent, and has the lowest scheduling class. [`Protection`] says which layers really hold on this
//! machine. Elsewhere there is no jail yet, and it says so.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod probe;

#[cfg(target_os = "linux")]
pub(super) use {linux::enter, linux::prepare, probe::probe};

use super::frame::Malformed;
use std::fmt;

/// The layers that hold around a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protection {
    /// System calls are filtered.
    pub seccomp: bool,
    /// Landlock denies files, at least.
    pub landlock: bool,
    /// Landlock also denies everything else that this version of ours knows: network, signals, abstract sockets.
    pub landlock_full: bool,
    /// Memory, files and core dumps are bounded.
    pub resource_limits: bool,
    /// No new privileges, and the process cannot be inspected.
    pub no_privileges: bool,
    /// The process runs only when nothing else wants the processor.
    pub idle_priority: bool,
}

impl Protection {
    /// No jail at all.
    pub const NONE: Self =
        Self { seccomp: false, landlock: false, landlock_full: false, resource_limits: false, no_privileges: false, idle_priority: false };

    /// Whether strangers' code may run: even escaped code reaches no file, no socket and no other process.
    pub fn is_enough_for_strangers(&self) -> bool {
        self.seccomp && self.no_privileges
    }

    fn flags(&self) -> [bool; 6] {
        [self.seccomp, self.landlock, self.landlock_full, self.resource_limits, self.no_privileges, self.idle_priority]
    }

    pub(super) fn to_byte(self) -> u8 {
        self.flags().iter().enumerate().fold(0, |byte, (bit, set)| byte | (u8::from(*set) << bit))
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self, Malformed> {
        if byte >= 1 << 6 {
            return Err(Malformed);
        }
        let bit = |bit: u8| byte & (1 << bit) != 0;
        Ok(Self {
            seccomp: bit(0),
            landlock: bit(1),
            landlock_full: bit(2),
            resource_limits: bit(3),
            no_privileges: bit(4),
            idle_priority: bit(5),
        })
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let landlock = if self.landlock_full { "Landlock" } else { "Landlock (partly)" };
        let names = ["seccomp", landlock, "", "resource limits", "no privileges", "idle priority"];
        let layers: Vec<&str> =
            names.iter().zip(self.flags()).filter(|(name, set)| *set && !name.is_empty()).map(|(name, _)| *name).collect();
        if layers.is_empty() { f.write_str("none") } else { f.write_str(&layers.join(", ")) }
    }
}

/// What a jail must leave room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    /// Writable memory of the process, in bytes.
    pub(super) memory_bytes: u64,
    /// The parent; the process ends at once when that is gone already.
    pub(super) parent: u32,
}

/// What a forbidden system call does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no jail elsewhere"))]
pub(super) enum Violation {
    /// It ends the process: whoever makes one has escaped.
    Kills,
    /// It fails, so that a probe can go on to the next.
    Fails,
    /// There is no filter, so that a probe sees the other layers.
    Unfiltered,
}

/// Elsewhere there is nothing to prepare.
#[cfg(not(target_os = "linux"))]
pub(super) fn prepare() {}

/// Elsewhere there is no jail.
#[cfg(not(target_os = "linux"))]
pub(super) fn enter(_room: Room, _violation: Violation) -> Result<Protection, std::io::Error> {
    Ok(Protection::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_survives_the_journey() {
        for byte in 0..64 {
            assert_eq!(Protection::from_byte(byte).unwrap().to_byte(), byte);
        }
        assert!(Protection::from_byte(64).is_err());
        assert_eq!(Protection::NONE.to_string(), "none");
        assert!(!Protection::NONE.is_enough_for_strangers());
    }
}
