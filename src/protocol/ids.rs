//! Names of things: peers, digests, jobs, units, attempts. Fixed-size, ordered, printable; nothing here can be invalid.

use core::fmt;
use sha2::{Digest as _, Sha256};

/// Declares a 32-byte identifier that prints as lower-case hexadecimal.
macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        impl Ord for $name {
            /// As their bytes. The first eight, which nearly always decide, are compared as one number: ordered maps by these names are
            /// everywhere.
            #[inline]
            fn cmp(&self, other: &Self) -> core::cmp::Ordering {
                head(&self.0).cmp(&head(&other.0)).then_with(|| self.0[8..].cmp(&other.0[8..]))
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first ten hexadecimal digits, for people; never for comparison.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(10);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = WrongLength;

            fn try_from(bytes: &[u8]) -> Result<Self, WrongLength> {
                bytes.try_into().map(Self).map_err(|_| WrongLength { expected: 32, found: bytes.len() })
            }
        }

        impl core::str::FromStr for $name {
            type Err = WrongLength;

            /// Reads 64 hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, WrongLength> {
                parse_hex32(text).map(Self)
            }
        }
    };
}

#[inline]
fn head(bytes: &[u8; 32]) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(head)
}

bytes32! {
    /// A peer's ed25519 public key: its name and the only thing that identifies it.
    PeerId
}
bytes32! {
    /// A SHA-256 digest of a blob: a module, an input, an output.
    Digest
}
bytes32! {
    /// The SHA-256 of a job's encoded manifest.
    JobId
}
bytes32! {
    /// The topic that the peers of one grid share. The public grid's is all zeroes.
    GridId
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of several parts, each preceded by its length so that no two lists of parts collide.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }
}

/// A unit's place in its job, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnitIndex(pub u32);

impl fmt::Display for UnitIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of one execution of a unit; grows with each lease, so that a late result is told from a live one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attempt(pub u32);

/// One unit of one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnitId {
    /// The job.
    pub job: JobId,
    /// Which of its units.
    pub index: UnitIndex,
}

/// A byte string of the wrong length for a fixed-size identifier, or one that is not hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes, found {found}")]
pub struct WrongLength {
    /// What the type needs.
    pub expected: usize,
    /// What was given.
    pub found: usize,
}

fn parse_hex32(text: &str) -> Result<[u8; 32], WrongLength> {
    let wrong = WrongLength { expected: 32, found: text.len() / 2 };
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let pair = core::str::from_utf8(pair).map_err(|_| wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_their_bytes_are() {
        let mut names = vec![[0; 32], [255; 32], [7; 32]];
        for at in [0, 6, 7, 8, 9, 31] {
            names.extend([1, 8, 127, 128, 255].map(|byte| {
                let mut bytes = [7; 32];
                bytes[at] = byte;
                bytes
            }));
        }
        for one in &names {
            for other in &names {
                assert_eq!(PeerId(*one).cmp(&PeerId(*other)), one.cmp(other));
            }
        }
    }
}
