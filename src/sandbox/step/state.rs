//! The state of a stepped unit as bytes: the same on every machine, and what its digest is taken of.
//!
//! In order: a magic number, what comes next, gas used, the globals, the WASI world, the memory's size and its pages of 4 KiB that
//! are not all zero. Decoding takes any bytes: a state may come from a stranger, and is loaded inside the jail only.

use crate::{protocol::ids::Digest, sandbox::wasi::World};
use sha2::{Digest as _, Sha256};

/// The first bytes; the last one is the format's version.
const MAGIC: &[u8; 8] = b"mhstate\x01";

/// What is skipped where it is all zero.
const PAGE: usize = 4096;

/// The page number after the last page.
const LAST: u32 = u32::MAX;

/// What the unit does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sandbox) enum Next {
    /// Another step.
    Step,
    /// Its result.
    Result,
}

/// Where encoded bytes go.
pub(in crate::sandbox) trait Sink {
    /// Takes some.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Keeps what it is given, or nothing once it is too much.
struct Bounded {
    kept: Option<Vec<u8>>,
    most: usize,
}

impl Sink for Bounded {
    fn put(&mut self, bytes: &[u8]) {
        self.kept = self.kept.take().filter(|kept| kept.len() + bytes.len() <= self.most);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
    }
}

/// Bytes with their number before them.
pub(in crate::sandbox) fn put_bytes(out: &mut dyn Sink, bytes: &[u8]) {
    out.put(&(bytes.len() as u64).to_le_bytes());
    out.put(bytes);
}

/// A stepped unit that stands still.
pub(in crate::sandbox) struct Still<'a> {
    pub(in crate::sandbox) next: Next,
    /// Gas used.
    pub(in crate::sandbox) gas: u64,
    /// The bits of the mutable globals, in their order.
    pub(in crate::sandbox) globals: &'a [u128],
    pub(in crate::sandbox) world: &'a World,
    pub(in crate::sandbox) memory: &'a [u8],
}

impl Still<'_> {
    fn encode(&self, out: &mut dyn Sink) {
        out.put(MAGIC);
        out.put(&[match self.next {
            Next::Step => 1,
            Next::Result => 0,
        }]);
        out.put(&self.gas.to_le_bytes());
        out.put(&(self.globals.len() as u64).to_le_bytes());
        for bits in self.globals {
            out.put(&bits.to_le_bytes());
        }
        self.world.save(out);
        out.put(&(self.memory.len() as u64).to_le_bytes());
        for (number, page) in (0u32..).zip(self.memory.chunks(PAGE)) {
            if !is_zero(page) {
                out.put(&number.to_le_bytes());
                out.put(page);
            }
        }
        out.put(&LAST.to_le_bytes());
    }

    /// Its digest.
    pub(in crate::sandbox) fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        self.encode(&mut hasher);
        Digest(hasher.finalize().into())
    }

    /// Itself; empty where it has more than `most` bytes.
    pub(in crate::sandbox) fn to_bytes(&self, most: usize) -> Vec<u8> {
        let mut bytes = Bounded { kept: Some(Vec::new()), most };
        self.encode(&mut bytes);
        bytes.kept.unwrap_or_default()
    }
}

/// Whether a page is all zero. Comparing slices is the fastest way at every optimisation level.
fn is_zero(page: &[u8]) -> bool {
    static ZEROES: [u8; PAGE] = [0; PAGE];
    ZEROES.get(..page.len()).is_some_and(|zeroes| page == zeroes)
}

/// Bytes that are no state of this unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("these bytes are no state of this unit")]
pub(in crate::sandbox) struct NoState;

/// Reads encoded bytes from their front.
pub(in crate::sandbox) struct Source<'a>(pub(in crate::sandbox) &'a [u8]);

impl<'a> Source<'a> {
    pub(in crate::sandbox) fn take(&mut self, count: usize) -> Result<&'a [u8], NoState> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(NoState)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NoState> {
        Ok(self.take(N)?.try_into().expect("as many as asked for"))
    }

    pub(in crate::sandbox) fn byte(&mut self) -> Result<u8, NoState> {
        Ok(self.array::<1>()?[0])
    }

    pub(in crate::sandbox) fn u32(&mut self) -> Result<u32, NoState> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(in crate::sandbox) fn u64(&mut self) -> Result<u64, NoState> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(in crate::sandbox) fn u128(&mut self) -> Result<u128, NoState> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A number of things that follow, each of at least `least` bytes, so that no more room is made than there are bytes.
    pub(in crate::sandbox) fn count(&mut self, least: usize) -> Result<usize, NoState> {
        let count = usize::try_from(self.u64()?).map_err(|_| NoState)?;
        if count.saturating_mul(least) <= self.0.len() { Ok(count) } else { Err(NoState) }
    }

    pub(in crate::sandbox) fn bytes(&mut self) -> Result<&'a [u8], NoState> {
        let count = self.count(1)?;
        self.take(count)
    }
}

/// A decoded state, but for what needs the instance.
pub(in crate::sandbox) struct Saved<'a> {
    pub(in crate::sandbox) next: Next,
    pub(in crate::sandbox) gas: u64,
    pub(in crate::sandbox) globals: Vec<u128>,
    pub(in crate::sandbox) memory_bytes: usize,
    /// The pages, still encoded.
    pages: Source<'a>,
}

impl<'a> Saved<'a> {
    /// Decodes a state and puts the world into it. The world must be the unit's at its beginning.
    pub(in crate::sandbox) fn load(bytes: &'a [u8], world: &mut World) -> Result<Self, NoState> {
        let mut source = Source(bytes);
        if source.take(MAGIC.len())? != MAGIC {
            return Err(NoState);
        }
        let next = match source.byte()? {
            0 => Next::Result,
            1 => Next::Step,
            _ => return Err(NoState),
        };
        let gas = source.u64()?;
        let globals = (0..source.count(16)?).map(|_| source.u128()).collect::<Result<_, _>>()?;
        world.restore(&mut source)?;
        let memory_bytes = usize::try_from(source.u64()?).map_err(|_| NoState)?;
        Ok(Self { next, gas, globals, memory_bytes, pages: source })
    }

    /// Fills a memory that has the right size already.
    pub(in crate::sandbox) fn fill(mut self, memory: &mut [u8]) -> Result<(), NoState> {
        let mut saved = self.pages.u32()?;
        for (number, page) in (0u32..).zip(memory.chunks_mut(PAGE)) {
            if number == saved {
                page.copy_from_slice(self.pages.take(page.len())?);
                saved = self.pages.u32()?;
            } else if !is_zero(page) {
                page.fill(0);
            }
        }
        if saved == LAST && self.pages.0.is_empty() { Ok(()) } else { Err(NoState) }
    }
}
