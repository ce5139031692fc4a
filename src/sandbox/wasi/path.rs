//! The `path_*` functions: names of files.

use super::{
    Call, Stop, clock,
    descriptors::{Descriptor, OpenFile},
    fd,
    fs::{Kind, Node},
    guest::{self, Errno},
};
use std::collections::BTreeMap;

const OPEN_CREATE: u32 = 1;
const OPEN_DIRECTORY: u32 = 2;
const OPEN_EXCLUSIVE: u32 = 4;
const OPEN_TRUNCATE: u32 = 8;

const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;

/// Gas for each directory that an operation passes.
const STEP_GAS: u64 = 10;

type Done = Result<(), Stop>;

/// Copies a path out of the guest's memory, and charges for following it.
fn path_of(call: &mut Call<'_>, at: u32, length: u32) -> Result<String, Stop> {
    let path = guest::text(call.memory, at, length)?.to_owned();
    call.charge(path.len() as u64 * STEP_GAS)?;
    Ok(path)
}

fn now(call: &Call<'_>) -> u64 {
    clock::BIRTH.saturating_add(call.now())
}

pub(super) fn create_directory(call: &mut Call<'_>, fd: u32, at: u32, length: u32) -> Done {
    let from = call.world.descriptors.directory(fd)?;
    let path = path_of(call, at, length)?;
    let (now, room) = (now(call), call.room());
    let place = call.world.files.find(from, &path)?;
    if place.node.is_some() {
        return Err(Errno::Exist.into());
    }
    let kind = Kind::Directory { entries: BTreeMap::new(), parent: place.parent };
    call.world.files.create(place.parent, place.name, kind, now, room)?;
    Ok(())
}

fn existing(call: &mut Call<'_>, fd: u32, at: u32, length: u32) -> Result<Node, Stop> {
    let from = call.world.descriptors.directory(fd)?;
    let path = path_of(call, at, length)?;
    let place = call.world.files.find(from, &path)?;
    let node = place.node.ok_or(Errno::Noent)?;
    if place.wants_directory && !call.world.files.is_directory(node) {
        return Err(Errno::Notdir.into());
    }
    Ok(node)
}

pub(super) fn filestat_get(call: &mut Call<'_>, fd: u32, _flags: u32, at: u32, length: u32, result: u32) -> Done {
    let node = existing(call, fd, at, length)?;
    let stat = fd::filestat(call, node);
    Ok(guest::put(call.memory, result, &stat)?)
}

#[expect(clippy::too_many_arguments, reason = "the WASI signature")]
pub(super) fn filestat_set_times(
    call: &mut Call<'_>,
    fd: u32,
    _flags: u32,
    at: u32,
    length: u32,
    accessed: u64,
    modified: u64,
    which: u32,
) -> Done {
    let node = existing(call, fd, at, length)?;
    fd::set_times(call, node, accessed, modified, which)
}

#[expect(clippy::too_many_arguments, reason = "the WASI signature")]
pub(super) fn link(
    _call: &mut Call<'_>,
    _old_fd: u32,
    _flags: u32,
    _old: u32,
    _old_length: u32,
    _new_fd: u32,
    _new: u32,
    _new_length: u32,
) -> Done {
    Err(Errno::Notsup.into())
}

#[expect(clippy::too_many_arguments, reason = "the WASI signature")]
pub(super) fn open(
    call: &mut Call<'_>,
    fd: u32,
    _lookup: u32,
    at: u32,
    length: u32,
    how: u32,
    rights: u64,
    _inheriting: u64,
    flags: u32,
    result: u32,
) -> Done {
    let from = call.world.descriptors.directory(fd)?;
    let path = path_of(call, at, length)?;
    let flags = u16::try_from(flags).map_err(|_| Errno::Inval)?;
    if !call.world.descriptors.has_room() {
        return Err(Errno::Mfile.into());
    }
    let writable = rights & RIGHT_WRITE != 0;
    let node = find_or_create(call, from, &path, how)?;
    let descriptor = if call.world.files.is_directory(node) {
        // A directory may be asked for with the right to write by those who ask for all rights; only creation needs it.
        if how & (OPEN_CREATE | OPEN_TRUNCATE) != 0 {
            return Err(Errno::Isdir.into());
        }
        Descriptor::Directory(node)
    } else {
        if how & OPEN_DIRECTORY != 0 {
            return Err(Errno::Notdir.into());
        }
        let input = matches!(call.world.files.kind(node), Kind::Input(_));
        if input && (writable || how & OPEN_TRUNCATE != 0) {
            return Err(Errno::Rofs.into());
        }
        if how & OPEN_TRUNCATE != 0 {
            fd::resize(call, node, 0)?;
        }
        Descriptor::File(OpenFile { node, position: 0, flags, readable: rights & RIGHT_READ != 0, writable })
    };
    if node != Node::ROOT {
        call.world.files.opened(node);
    }
    let number = call.world.descriptors.open(descriptor)?;
    Ok(guest::put(call.memory, result, &number.to_le_bytes())?)
}

fn find_or_create(call: &mut Call<'_>, from: Node, path: &str, how: u32) -> Result<Node, Stop> {
    let (now, room) = (now(call), call.room());
    let place = call.world.files.find(from, path)?;
    match place.node {
        Some(_) if how & OPEN_CREATE != 0 && how & OPEN_EXCLUSIVE != 0 => Err(Errno::Exist.into()),
        Some(node) if place.wants_directory && !call.world.files.is_directory(node) => Err(Errno::Notdir.into()),
        Some(node) => Ok(node),
        None if how & OPEN_CREATE == 0 => Err(Errno::Noent.into()),
        None if place.wants_directory => Err(Errno::Isdir.into()),
        None if how & OPEN_DIRECTORY != 0 => Err(Errno::Inval.into()),
        None => Ok(call.world.files.create(place.parent, place.name, Kind::Scratch(Vec::new()), now, room)?),
    }
}

pub(super) fn readlink(call: &mut Call<'_>, fd: u32, at: u32, length: u32, _to: u32, _to_length: u32, _result: u32) -> Done {
    existing(call, fd, at, length)?;
    Err(Errno::Inval.into())
}

pub(super) fn remove_directory(call: &mut Call<'_>, fd: u32, at: u32, length: u32) -> Done {
    let from = call.world.descriptors.directory(fd)?;
    let path = path_of(call, at, length)?;
    let place = call.world.files.find(from, &path)?;
    Ok(call.world.files.remove_directory(&place)?)
}

pub(super) fn rename(call: &mut Call<'_>, old_fd: u32, old: u32, old_length: u32, new_fd: u32, new: u32, new_length: u32) -> Done {
    let old_from = call.world.descriptors.directory(old_fd)?;
    let new_from = call.world.descriptors.directory(new_fd)?;
    let old_path = path_of(call, old, old_length)?;
    let new_path = path_of(call, new, new_length)?;
    let old_place = call.world.files.find(old_from, &old_path)?;
    let new_place = call.world.files.find(new_from, &new_path)?;
    let steps = call.world.files.rename(&old_place, &new_place)?;
    call.charge(steps * STEP_GAS)
}

pub(super) fn symlink(_call: &mut Call<'_>, _old: u32, _old_length: u32, _fd: u32, _new: u32, _new_length: u32) -> Done {
    Err(Errno::Notsup.into())
}

pub(super) fn unlink_file(call: &mut Call<'_>, fd: u32, at: u32, length: u32) -> Done {
    let from = call.world.descriptors.directory(fd)?;
    let path = path_of(call, at, length)?;
    let place = call.world.files.find(from, &path)?;
    Ok(call.world.files.remove_file(&place)?)
}
