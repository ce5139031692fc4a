//! The state file of a WASI command: in the first folder that it is given.

use alloc::vec::Vec;

use crate::Error;

const NAME: &str = "manyhands.state";

/// The first descriptor behind standard input, output and error: the folder.
const FOLDER: i32 = 3;

const CREATE: i32 = 1;
const TRUNCATE: i32 = 8;
const MAY_READ: i64 = 2;
const MAY_WRITE: i64 = 64;

/// No such file or directory.
const NOENT: i32 = 44;

/// Read at once.
const CHUNK: usize = 4096;

#[repr(C)]
struct Piece {
    start: *const u8,
    length: usize,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn fd_close(file: i32) -> i32;
    fn fd_read(file: i32, pieces: *const Piece, count: usize, read: *mut usize) -> i32;
    fn fd_write(file: i32, pieces: *const Piece, count: usize, written: *mut usize) -> i32;
    #[allow(clippy::too_many_arguments)]
    fn path_open(
        folder: i32,
        follow: i32,
        name: *const u8,
        name_bytes: usize,
        how: i32,
        rights: i64,
        inherited: i64,
        flags: i32,
        file: *mut i32,
    ) -> i32;
}

fn open(how: i32, rights: i64) -> Result<i32, i32> {
    let mut file = 0;
    // SAFETY: the name is a valid slice, and `file` is valid for one write.
    let status = unsafe { path_open(FOLDER, 0, NAME.as_ptr(), NAME.len(), how, rights, 0, 0, &raw mut file) };
    if status == 0 { Ok(file) } else { Err(status) }
}

fn close(file: i32) {
    // SAFETY: the call touches no memory. That it fails changes nothing.
    let _ = unsafe { fd_close(file) };
}

/// What is in it; none where there is none.
pub(crate) fn read() -> Result<Option<Vec<u8>>, Error> {
    const UNREADABLE: Error = Error::failure("the state file cannot be read");
    let file = match open(0, MAY_READ) {
        Ok(file) => file,
        Err(NOENT) => return Ok(None),
        Err(_) => return Err(UNREADABLE),
    };
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0_u8; CHUNK];
        let piece = Piece { start: chunk.as_mut_ptr(), length: CHUNK };
        let mut count = 0;
        // SAFETY: the piece is the chunk, which nothing else borrows, and `count` is valid for one write.
        let status = unsafe { fd_read(file, &raw const piece, 1, &raw mut count) };
        match chunk.get(..count) {
            Some([]) if status == 0 => break,
            Some(read) if status == 0 => bytes.extend_from_slice(read),
            Some(_) | None => return Err(UNREADABLE),
        }
    }
    close(file);
    Ok(Some(bytes))
}

/// Replaces what is in it.
pub(crate) fn write(mut bytes: &[u8]) -> Result<(), Error> {
    const UNWRITABLE: Error = Error::failure("the state file cannot be written");
    let file = open(CREATE | TRUNCATE, MAY_WRITE).map_err(|_| UNWRITABLE)?;
    while !bytes.is_empty() {
        let piece = Piece { start: bytes.as_ptr(), length: bytes.len() };
        let mut count = 0;
        // SAFETY: the piece is the borrowed slice, which the system only reads, and `count` is valid for one write.
        let status = unsafe { fd_write(file, &raw const piece, 1, &raw mut count) };
        match bytes.get(count..) {
            Some(rest) if status == 0 && count > 0 => bytes = rest,
            Some(_) | None => return Err(UNWRITABLE),
        }
    }
    close(file);
    Ok(())
}
