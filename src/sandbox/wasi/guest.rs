//! Error numbers, and checked access to the guest's memory.

/// A WASI error number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(in crate::sandbox) enum Errno {
    Badf = 8,
    Exist = 20,
    Fault = 21,
    Ilseq = 25,
    Inval = 28,
    Isdir = 31,
    Mfile = 33,
    Nametoolong = 37,
    Noent = 44,
    Nospc = 51,
    Notdir = 54,
    Notempty = 55,
    Notsup = 58,
    Overflow = 61,
    Rofs = 69,
    Spipe = 70,
    Notcapable = 76,
}

/// The bytes at `at`.
pub(super) fn slice(memory: &[u8], at: u32, length: u32) -> Result<&[u8], Errno> {
    let at = at as usize;
    at.checked_add(length as usize).and_then(|end| memory.get(at..end)).ok_or(Errno::Fault)
}

/// The bytes at `at`, to be written.
pub(super) fn slice_mut(memory: &mut [u8], at: u32, length: u32) -> Result<&mut [u8], Errno> {
    let at = at as usize;
    at.checked_add(length as usize).and_then(|end| memory.get_mut(at..end)).ok_or(Errno::Fault)
}

/// Writes bytes.
pub(super) fn put(memory: &mut [u8], at: u32, bytes: &[u8]) -> Result<(), Errno> {
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
    slice_mut(memory, at, length)?.copy_from_slice(bytes);
    Ok(())
}

/// Reads a number.
pub(super) fn u32_at(memory: &[u8], at: u32) -> Result<u32, Errno> {
    Ok(u32::from_le_bytes(slice(memory, at, 4)?.try_into().expect("four bytes")))
}

/// Reads a number.
pub(super) fn u64_at(memory: &[u8], at: u32) -> Result<u64, Errno> {
    Ok(u64::from_le_bytes(slice(memory, at, 8)?.try_into().expect("eight bytes")))
}

/// `at` moved by `offset`, inside the address space.
pub(super) fn offset(at: u32, offset: u32) -> Result<u32, Errno> {
    at.checked_add(offset).ok_or(Errno::Fault)
}

/// One piece of a scattered read or a gathered write.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) at: u32,
    pub(super) length: u32,
}

/// The most pieces in one call, as on Linux.
const MAX_PIECES: u32 = 1024;

/// The pieces of an array of `iovec`, checked to lie in memory.
pub(super) fn pieces(memory: &[u8], at: u32, count: u32) -> Result<Vec<Piece>, Errno> {
    if count > MAX_PIECES {
        return Err(Errno::Inval);
    }
    let mut total = 0u32;
    let mut pieces = Vec::with_capacity(count as usize);
    for index in 0..count {
        let entry = offset(at, index * 8)?;
        let piece = Piece { at: u32_at(memory, entry)?, length: u32_at(memory, offset(entry, 4)?)? };
        slice(memory, piece.at, piece.length)?;
        total = total.checked_add(piece.length).ok_or(Errno::Inval)?;
        pieces.push(piece);
    }
    Ok(pieces)
}

/// The sum of the pieces' lengths, which [`pieces`] has checked to fit.
pub(super) fn total(pieces: &[Piece]) -> u32 {
    pieces.iter().map(|piece| piece.length).sum()
}

/// A path or name.
pub(super) fn text(memory: &[u8], at: u32, length: u32) -> Result<&str, Errno> {
    if length > super::fs::MAX_PATH {
        return Err(Errno::Nametoolong);
    }
    let text = core::str::from_utf8(slice(memory, at, length)?).map_err(|_| Errno::Ilseq)?;
    if text.contains('\0') { Err(Errno::Inval) } else { Ok(text) }
}
