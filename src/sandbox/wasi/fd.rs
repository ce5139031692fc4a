//! The `fd_*` functions: open files.

use super::{
    Call, Halt, Stop, clock,
    descriptors::{Descriptor, ROOT_DESCRIPTOR},
    fs::Node,
    guest::{self, Errno},
};

const TYPE_UNKNOWN: u8 = 0;
const TYPE_DIRECTORY: u8 = 3;
const TYPE_FILE: u8 = 4;

const FLAG_APPEND: u16 = 1;
const ALL_FLAGS: u16 = 31;

const RIGHT_READ: u64 = 1 << 1;
const RIGHT_SEEK: u64 = 1 << 2;
const RIGHT_TELL: u64 = 1 << 5;
const RIGHT_WRITE: u64 = 1 << 6;
const ALL_RIGHTS: u64 = (1 << 30) - 1;

const WHENCE_SET: u32 = 0;
const WHENCE_CURRENT: u32 = 1;
const WHENCE_END: u32 = 2;

/// Gas for each directory entry that a listing passes.
const ENTRY_GAS: u64 = 20;

type Done = Result<(), Stop>;

pub(super) fn advise(call: &mut Call<'_>, fd: u32, _offset: u64, _length: u64, advice: u32) -> Done {
    call.world.descriptors.file(fd)?;
    if advice > 5 { Err(Errno::Inval.into()) } else { Ok(()) }
}

pub(super) fn allocate(call: &mut Call<'_>, fd: u32, offset: u64, length: u64) -> Done {
    let file = call.world.descriptors.file(fd)?;
    if !file.writable {
        return Err(Errno::Badf.into());
    }
    let node = file.node;
    let end = offset.checked_add(length).ok_or(Errno::Inval)?;
    let present = call.world.files.content(node)?.len() as u64;
    if end > present { resize(call, node, end) } else { Ok(()) }
}

/// Gives a file a new length and charges for what is added.
pub(super) fn resize(call: &mut Call<'_>, node: Node, length: u64) -> Done {
    let room = call.room();
    let present = call.world.files.content(node)?.len() as u64;
    let added = length.saturating_sub(present);
    if added <= room {
        call.charge_bytes(added)?;
    }
    call.world.files.resize(node, length, room)?.ok_or(Halt::OutOfMemory)?;
    Ok(())
}

fn touch(call: &mut Call<'_>, node: Node) {
    let now = clock::BIRTH.saturating_add(call.now());
    let mut times = call.world.files.times(node);
    times.modified = now;
    call.world.files.set_times(node, times);
}

pub(super) fn close(call: &mut Call<'_>, fd: u32) -> Done {
    let closed = call.world.descriptors.close(fd)?;
    release(call, &closed);
    Ok(())
}

fn release(call: &mut Call<'_>, closed: &Descriptor) {
    // The root was never counted as opened by anyone, so it is never let go.
    if let Some(node) = closed.node().filter(|node| *node != Node::ROOT) {
        call.world.files.closed(node);
    }
}

pub(super) fn sync(call: &mut Call<'_>, fd: u32) -> Done {
    call.world.descriptors.get(fd)?;
    Ok(())
}

pub(super) fn fdstat_get(call: &mut Call<'_>, fd: u32, at: u32) -> Done {
    let (kind, flags, rights) = match call.world.descriptors.get(fd)? {
        Descriptor::Stdin { .. } | Descriptor::Stdout | Descriptor::Stderr => (TYPE_UNKNOWN, 0, ALL_RIGHTS & !(RIGHT_SEEK | RIGHT_TELL)),
        Descriptor::Directory(_) => (TYPE_DIRECTORY, 0, ALL_RIGHTS & !(RIGHT_READ | RIGHT_WRITE | RIGHT_SEEK)),
        Descriptor::File(file) => {
            let denied = if file.readable { 0 } else { RIGHT_READ } | if file.writable { 0 } else { RIGHT_WRITE };
            (TYPE_FILE, file.flags, ALL_RIGHTS & !denied)
        }
    };
    let mut stat = [0; 24];
    stat[0] = kind;
    stat[2..4].copy_from_slice(&flags.to_le_bytes());
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    stat[16..24].copy_from_slice(&ALL_RIGHTS.to_le_bytes());
    Ok(guest::put(call.memory, at, &stat)?)
}

pub(super) fn fdstat_set_flags(call: &mut Call<'_>, fd: u32, flags: u32) -> Done {
    let flags = u16::try_from(flags).ok().filter(|flags| *flags <= ALL_FLAGS).ok_or(Errno::Inval)?;
    match call.world.descriptors.get_mut(fd)? {
        Descriptor::File(file) => file.flags = flags,
        Descriptor::Stdin { .. } | Descriptor::Stdout | Descriptor::Stderr | Descriptor::Directory(_) => {}
    }
    Ok(())
}

pub(super) fn fdstat_set_rights(call: &mut Call<'_>, fd: u32, _base: u64, _inheriting: u64) -> Done {
    sync(call, fd)
}

/// The 64 bytes that describe a node.
pub(super) fn filestat(call: &Call<'_>, node: Node) -> [u8; 64] {
    let times = call.world.files.times(node);
    let (kind, size) = match call.world.files.content(node) {
        Ok(bytes) => (TYPE_FILE, bytes.len() as u64),
        Err(_) => (TYPE_DIRECTORY, 0),
    };
    let mut stat = [0; 64];
    stat[8..16].copy_from_slice(&node.number().to_le_bytes());
    stat[16] = kind;
    stat[24..32].copy_from_slice(&1u64.to_le_bytes());
    stat[32..40].copy_from_slice(&size.to_le_bytes());
    stat[40..48].copy_from_slice(&times.accessed.to_le_bytes());
    stat[48..56].copy_from_slice(&times.modified.to_le_bytes());
    stat[56..64].copy_from_slice(&times.modified.to_le_bytes());
    stat
}

pub(super) fn filestat_get(call: &mut Call<'_>, fd: u32, at: u32) -> Done {
    let stat = match call.world.descriptors.get(fd)?.node() {
        Some(node) => filestat(call, node),
        None => {
            let mut stat = [0; 64];
            stat[24..32].copy_from_slice(&1u64.to_le_bytes());
            stat
        }
    };
    Ok(guest::put(call.memory, at, &stat)?)
}

pub(super) fn filestat_set_size(call: &mut Call<'_>, fd: u32, length: u64) -> Done {
    let file = call.world.descriptors.file(fd)?;
    if !file.writable {
        return Err(Errno::Badf.into());
    }
    let node = file.node;
    resize(call, node, length)?;
    touch(call, node);
    Ok(())
}

pub(super) fn filestat_set_times(call: &mut Call<'_>, fd: u32, accessed: u64, modified: u64, flags: u32) -> Done {
    let node = call.world.descriptors.get(fd)?.node().ok_or(Errno::Inval)?;
    set_times(call, node, accessed, modified, flags)
}

/// Sets times by WASI `fstflags`: 1 and 4 take the value given, 2 and 8 the present.
pub(super) fn set_times(call: &mut Call<'_>, node: Node, accessed: u64, modified: u64, flags: u32) -> Done {
    if flags > 15 || flags & 3 == 3 || flags & 12 == 12 {
        return Err(Errno::Inval.into());
    }
    let now = clock::BIRTH.saturating_add(call.now());
    let mut times = call.world.files.times(node);
    match flags & 3 {
        1 => times.accessed = accessed,
        2 => times.accessed = now,
        _ => {}
    }
    match flags & 12 {
        4 => times.modified = modified,
        8 => times.modified = now,
        _ => {}
    }
    call.world.files.set_times(node, times);
    Ok(())
}

/// Copies from `source` at `position` to the pieces; returns how many bytes.
fn scatter(memory: &mut [u8], pieces: &[guest::Piece], source: &[u8], position: u64) -> Result<u32, Errno> {
    let start = usize::try_from(position).unwrap_or(usize::MAX).min(source.len());
    let mut rest = &source[start..];
    let mut copied = 0;
    for piece in pieces {
        let target = guest::slice_mut(memory, piece.at, piece.length)?;
        let count = target.len().min(rest.len());
        target[..count].copy_from_slice(&rest[..count]);
        rest = &rest[count..];
        copied += u32::try_from(count).expect("at most the piece's length");
    }
    Ok(copied)
}

pub(super) fn read(call: &mut Call<'_>, fd: u32, pieces: u32, count: u32, result: u32) -> Done {
    let pieces = guest::pieces(call.memory, pieces, count)?;
    call.charge_bytes(u64::from(guest::total(&pieces)))?;
    let world = &mut *call.world;
    let copied = match world.descriptors.get_mut(fd)? {
        Descriptor::Stdin { position } => {
            let copied = scatter(call.memory, &pieces, &world.given.stdin, *position as u64)?;
            *position += copied as usize;
            copied
        }
        Descriptor::File(file) if file.readable => {
            let copied = scatter(call.memory, &pieces, world.files.content(file.node)?, file.position)?;
            file.position += u64::from(copied);
            copied
        }
        Descriptor::Directory(_) => return Err(Errno::Isdir.into()),
        Descriptor::File(_) | Descriptor::Stdout | Descriptor::Stderr => return Err(Errno::Badf.into()),
    };
    Ok(guest::put(call.memory, result, &copied.to_le_bytes())?)
}

pub(super) fn pread(call: &mut Call<'_>, fd: u32, pieces: u32, count: u32, offset: u64, result: u32) -> Done {
    let pieces = guest::pieces(call.memory, pieces, count)?;
    call.charge_bytes(u64::from(guest::total(&pieces)))?;
    let file = call.world.descriptors.file(fd)?;
    if !file.readable {
        return Err(Errno::Badf.into());
    }
    let copied = scatter(call.memory, &pieces, call.world.files.content(file.node)?, offset)?;
    Ok(guest::put(call.memory, result, &copied.to_le_bytes())?)
}

/// Writes the pieces to a file and grows it where needed; returns how many bytes.
fn write_file(call: &mut Call<'_>, node: Node, pieces: &[guest::Piece], position: u64) -> Result<u32, Stop> {
    let total = guest::total(pieces);
    let end = position.checked_add(u64::from(total)).ok_or(Errno::Inval)?;
    if total > 0 && end > call.world.files.content(node)?.len() as u64 {
        resize(call, node, end)?;
    }
    let bytes = call.world.files.scratch_mut(node)?;
    let mut at = usize::try_from(position).map_err(|_| Errno::Inval)?;
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        let source = guest::slice(call.memory, piece.at, piece.length)?;
        bytes[at..at + source.len()].copy_from_slice(source);
        at += source.len();
    }
    touch(call, node);
    Ok(total)
}

pub(super) fn write(call: &mut Call<'_>, fd: u32, pieces: u32, count: u32, result: u32) -> Done {
    let pieces = guest::pieces(call.memory, pieces, count)?;
    call.charge_bytes(u64::from(guest::total(&pieces)))?;
    let written = match call.world.descriptors.get(fd)?.clone() {
        Descriptor::Stdout => write_output(call, &pieces)?,
        Descriptor::Stderr => write_log(call, &pieces)?,
        Descriptor::File(file) if file.writable => {
            let append = file.flags & FLAG_APPEND != 0;
            let position = if append { call.world.files.content(file.node)?.len() as u64 } else { file.position };
            let written = write_file(call, file.node, &pieces, position)?;
            call.world.descriptors.file(fd)?.position = position + u64::from(written);
            written
        }
        Descriptor::Directory(_) => return Err(Errno::Isdir.into()),
        Descriptor::File(_) | Descriptor::Stdin { .. } => return Err(Errno::Badf.into()),
    };
    Ok(guest::put(call.memory, result, &written.to_le_bytes())?)
}

pub(super) fn pwrite(call: &mut Call<'_>, fd: u32, pieces: u32, count: u32, offset: u64, result: u32) -> Done {
    let pieces = guest::pieces(call.memory, pieces, count)?;
    call.charge_bytes(u64::from(guest::total(&pieces)))?;
    let file = call.world.descriptors.file(fd)?;
    if !file.writable {
        return Err(Errno::Badf.into());
    }
    let node = file.node;
    let written = write_file(call, node, &pieces, offset)?;
    Ok(guest::put(call.memory, result, &written.to_le_bytes())?)
}

/// Takes output up to the limit, and ends the unit when there is more.
fn write_output(call: &mut Call<'_>, pieces: &[guest::Piece]) -> Result<u32, Stop> {
    let limit = call.world.given.limits.output_bytes;
    for piece in pieces {
        let source = guest::slice(call.memory, piece.at, piece.length)?;
        let output = &mut call.world.output;
        let room = usize::try_from(limit.saturating_sub(output.len() as u64)).unwrap_or(usize::MAX);
        let kept = &source[..source.len().min(room)];
        output.try_reserve(kept.len()).map_err(|_| Halt::OutOfMemory)?;
        output.extend_from_slice(kept);
        if kept.len() < source.len() {
            return Err(Halt::OutputLimit.into());
        }
    }
    Ok(guest::total(pieces))
}

/// Keeps the log up to its limit and drops the rest.
fn write_log(call: &mut Call<'_>, pieces: &[guest::Piece]) -> Result<u32, Stop> {
    let limit = call.world.given.limits.log_bytes;
    for piece in pieces {
        let source = guest::slice(call.memory, piece.at, piece.length)?;
        let log = &mut call.world.log;
        let room = usize::try_from(limit.saturating_sub(log.len() as u64)).unwrap_or(usize::MAX);
        log.extend_from_slice(&source[..source.len().min(room)]);
    }
    Ok(guest::total(pieces))
}

pub(super) fn prestat_get(call: &mut Call<'_>, fd: u32, at: u32) -> Done {
    preopened(call, fd)?;
    let mut stat = [0; 8];
    stat[4] = 1;
    Ok(guest::put(call.memory, at, &stat)?)
}

pub(super) fn prestat_dir_name(call: &mut Call<'_>, fd: u32, at: u32, length: u32) -> Done {
    preopened(call, fd)?;
    if length < 1 {
        return Err(Errno::Nametoolong.into());
    }
    Ok(guest::put(call.memory, at, b"/")?)
}

fn preopened(call: &Call<'_>, fd: u32) -> Result<(), Errno> {
    let root = fd == ROOT_DESCRIPTOR && call.world.descriptors.directory(fd) == Ok(Node::ROOT);
    if root { Ok(()) } else { Err(Errno::Badf) }
}

pub(super) fn readdir(call: &mut Call<'_>, fd: u32, at: u32, length: u32, cookie: u64, result: u32) -> Done {
    let directory = call.world.descriptors.directory(fd)?;
    let files = &call.world.files;
    let entries = files.entries(directory)?;
    let skipped = usize::try_from(cookie).unwrap_or(usize::MAX).min(entries.len() + 2);
    let specials = [(".", directory), ("..", files.parent(directory))];
    let all = specials.into_iter().chain(entries.iter().map(|(name, node)| (&**name, *node)));
    let length = length as usize;
    let mut listing = Vec::new();
    let mut seen = skipped as u64;
    for (index, (name, node)) in all.enumerate().skip(skipped) {
        let kind = if files.is_directory(node) { TYPE_DIRECTORY } else { TYPE_FILE };
        listing.extend_from_slice(&(index as u64 + 1).to_le_bytes());
        listing.extend_from_slice(&node.number().to_le_bytes());
        listing.extend_from_slice(&u32::try_from(name.len()).expect("names are short").to_le_bytes());
        listing.extend_from_slice(&[kind, 0, 0, 0]);
        listing.extend_from_slice(name.as_bytes());
        seen += 1;
        if listing.len() >= length {
            break;
        }
    }
    listing.truncate(length);
    call.charge(seen * ENTRY_GAS)?;
    guest::put(call.memory, at, &listing)?;
    Ok(guest::put(call.memory, result, &u32::try_from(listing.len()).expect("at most the buffer's length").to_le_bytes())?)
}

pub(super) fn renumber(call: &mut Call<'_>, from: u32, to: u32) -> Done {
    if let Some(closed) = call.world.descriptors.renumber(from, to)? {
        release(call, &closed);
    }
    Ok(())
}

pub(super) fn seek(call: &mut Call<'_>, fd: u32, offset: u64, whence: u32, result: u32) -> Done {
    let world = &mut *call.world;
    let file = world.descriptors.file(fd)?;
    let base = match whence {
        WHENCE_SET => 0,
        WHENCE_CURRENT => file.position,
        WHENCE_END => world.files.content(file.node)?.len() as u64,
        _ => return Err(Errno::Inval.into()),
    };
    let target = base.checked_add_signed(offset.cast_signed()).filter(|at| i64::try_from(*at).is_ok()).ok_or(Errno::Inval)?;
    file.position = target;
    Ok(guest::put(call.memory, result, &target.to_le_bytes())?)
}

pub(super) fn tell(call: &mut Call<'_>, fd: u32, result: u32) -> Done {
    let position = call.world.descriptors.file(fd)?.position;
    Ok(guest::put(call.memory, result, &position.to_le_bytes())?)
}
