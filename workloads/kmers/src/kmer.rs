//! K-mers as numbers, two bits a base in the order A, C, G, T, so that numbers sort as texts do.

/// The longest k-mer: 62 bits, which leaves numbers that are no k-mer.
pub const LENGTH_MAX: u32 = 31;

/// A k-mer. Its length is known from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kmer(u64);

/// What stands in [`CODES`] for a byte that is no base.
const NO_BASE: u8 = 4;

/// The two bits of each base in upper and lower case.
const CODES: [u8; 256] = {
    let mut codes = [NO_BASE; 256];
    let mut code = 0;
    while code < 4 {
        let base = b"ACGT"[code];
        codes[base as usize] = code as u8;
        codes[base.to_ascii_lowercase() as usize] = code as u8;
        code += 1;
    }
    codes
};

impl Kmer {
    /// No k-mer of any length has this value.
    pub const NONE: Self = Self(u64::MAX);

    /// The k-mer that `bases` spells; nothing where that is longer than [`LENGTH_MAX`], empty or has other letters.
    pub fn from_bases(bases: &[u8]) -> Option<Self> {
        if bases.is_empty() || bases.len() > LENGTH_MAX as usize {
            return None;
        }
        bases
            .iter()
            .try_fold(0, |bits, base| {
                let code = CODES[usize::from(*base)];
                (code != NO_BASE).then_some(bits << 2 | u64::from(code))
            })
            .map(Self)
    }

    /// The letters, at the end of an array, and how many places before them are unused.
    pub fn to_bases(self, length: u32) -> ([u8; LENGTH_MAX as usize], usize) {
        let mut bases = [0; LENGTH_MAX as usize];
        let mut bits = self.0;
        let unused = (LENGTH_MAX - length) as usize;
        for base in bases[unused..].iter_mut().rev() {
            *base = b"ACGT"[(bits & 3) as usize];
            bits >>= 2;
        }
        (bases, unused)
    }

    /// A number whose high bits depend on all bits of the k-mer.
    pub const fn hash(self) -> u64 {
        // The odd constant nearest to 2^64 divided by the golden ratio; the shift lets high bits act on low ones first.
        (self.0 ^ self.0 >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// The last bases of a sequence.
pub struct Window {
    length: u32,
    canonical: bool,
    /// The bits of a whole k-mer.
    mask: u64,
    forward: u64,
    /// The reverse complement of `forward`.
    reverse: u64,
    /// Bases since the last break, counted up to `length`.
    held: u32,
}

impl Window {
    /// An empty window for k-mers of a length from 1 to [`LENGTH_MAX`].
    pub const fn new(length: u32, canonical: bool) -> Self {
        Self { length, canonical, mask: (1 << (2 * length)) - 1, forward: 0, reverse: 0, held: 0 }
    }

    /// Forgets the bases: what follows is not joined to them.
    pub const fn clear(&mut self) {
        self.held = 0;
    }

    /// Moves on by a letter; the k-mer that ends there, if there is one.
    #[inline]
    pub fn push(&mut self, letter: u8) -> Option<Kmer> {
        let code = CODES[usize::from(letter)];
        if code == NO_BASE {
            self.clear();
            return None;
        }
        let code = u64::from(code);
        self.forward = (self.forward << 2 | code) & self.mask;
        self.reverse = self.reverse >> 2 | (3 - code) << (2 * (self.length - 1));
        if self.held + 1 < self.length {
            self.held += 1;
            return None;
        }
        Some(Kmer(if self.canonical { self.forward.min(self.reverse) } else { self.forward }))
    }
}
