//! Instruction sets, as far as verification has to tell them apart.
//!
//! What a worker says about its own is a claim: its receipts are signed over it, and nothing proves it. So no rule may rest on a
//! claim being true; it may only decide how much somebody's dissent can be explained (`verify`).

use core::fmt;

/// The instruction set that a value was computed on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Platform {
    /// 64-bit Intel and AMD.
    #[default]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
    /// IBM z.
    S390x,
    /// Any other; all of them are one, so that made-up names make nobody a platform of his own.
    Other,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::Aarch64, Self::Riscv64, Self::S390x, Self::Other];

    /// The one that this name means; names are those of Rust's `std::env::consts::ARCH`.
    pub fn named(name: &[u8]) -> Self {
        match name {
            b"x86_64" => Self::X86_64,
            b"aarch64" => Self::Aarch64,
            b"riscv64" => Self::Riscv64,
            b"s390x" => Self::S390x,
            _ => Self::Other,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64 => "x86-64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
            Self::S390x => "s390x",
            Self::Other => "an unknown instruction set",
        })
    }
}

/// A set of instruction sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Platforms(u8);

impl Platforms {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether this one is among them.
    pub const fn contains(self, platform: Platform) -> bool {
        self.0 & platform.bit() != 0
    }

    /// Takes one in.
    pub fn insert(&mut self, platform: Platform) {
        self.0 |= platform.bit();
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a platform is in both sets.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Its members, in their order.
    pub fn iter(self) -> impl Iterator<Item = Platform> {
        Platform::ALL.into_iter().filter(move |platform| self.contains(*platform))
    }

    /// The set as a number, a bit for each member in the order of [`Platform::ALL`].
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of this number; none when a bit stands for nothing.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits >> Platform::ALL.len() == 0).then_some(Self(bits))
    }
}

impl FromIterator<Platform> for Platforms {
    fn from_iter<T: IntoIterator<Item = Platform>>(platforms: T) -> Self {
        platforms.into_iter().fold(Self::NONE, |mut set, platform| {
            set.insert(platform);
            set
        })
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, platform) in self.iter().enumerate() {
            write!(f, "{}{platform}", if at == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_one_platform_and_sets_are_read_back() {
        assert_eq!(Platform::named(b"aarch64"), Platform::Aarch64);
        assert_eq!(Platform::named(b"z80"), Platform::named(b"my very own"));
        let both: Platforms = [Platform::Aarch64, Platform::X86_64].into_iter().collect();
        assert_eq!(both.to_string(), "x86-64 and aarch64");
        assert_eq!(Platforms::from_bits(both.bits()), Some(both));
        assert_eq!(Platforms::from_bits(1 << 5), None);
        assert!(both.meets(Platforms::from_iter([Platform::Aarch64])) && !both.contains(Platform::Other));
    }
}
