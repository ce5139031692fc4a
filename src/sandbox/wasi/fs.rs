//! A file system in memory: the unit's input files, which are read-only, and whatever it writes beside them.
//!
//! Directories are ordered by name, so listings are the same everywhere. A file that is unlinked while open lives until it
//! is closed. Every byte and every entry counts ([`FileSystem::used`]) toward the unit's memory limit; the caller says how
//! much room there is. No symbolic or hard links.

use super::guest::Errno;
use std::{collections::BTreeMap, sync::Arc};

/// The longest path in bytes, as on Linux.
pub(super) const MAX_PATH: u32 = 4096;

/// The longest name in bytes, as on Linux.
pub(super) const MAX_NAME: usize = 255;

/// What a file or directory counts for besides its content, in bytes: about what it takes.
const NODE_BYTES: u64 = 256;

/// A file or directory, by its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Node(pub(super) usize);

impl Node {
    /// The root directory.
    pub(super) const ROOT: Self = Self(0);

    /// The number that the guest sees.
    pub(super) fn number(self) -> u64 {
        self.0 as u64 + 1
    }
}

/// What a node is.
pub(super) enum Kind {
    /// A file that the task gave.
    Input(Arc<[u8]>),
    /// A file that the unit made.
    Scratch(Vec<u8>),
    /// A directory.
    Directory {
        /// Its entries.
        entries: BTreeMap<Box<str>, Node>,
        /// Where it is; the root is in itself.
        parent: Node,
    },
}

/// A file or directory with what is known about it.
pub(super) struct Slot {
    pub(super) kind: Kind,
    /// Whether a directory entry leads here.
    pub(super) linked: bool,
    /// How many descriptors are open on it.
    pub(super) open: u32,
    /// Last change and last access, in nanoseconds since 1970.
    pub(super) times: Times,
}

/// A node's times, in nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Times {
    pub(super) accessed: u64,
    pub(super) modified: u64,
}

/// All files of one unit.
pub(super) struct FileSystem {
    pub(super) slots: Vec<Option<Slot>>,
    pub(super) free: Vec<usize>,
    pub(super) used: u64,
}

/// Where a path leads.
pub(super) struct Place<'p> {
    /// The directory of its last component.
    pub(super) parent: Node,
    /// The last component; empty when the path names a directory by `.`, `..` or nothing.
    pub(super) name: &'p str,
    /// What is there.
    pub(super) node: Option<Node>,
    /// The path ends in a slash, so it names a directory.
    pub(super) wants_directory: bool,
}

impl FileSystem {
    /// An empty root directory.
    pub(super) fn new() -> Self {
        let root = Kind::Directory { entries: BTreeMap::new(), parent: Node::ROOT };
        let times = Times { accessed: super::clock::BIRTH, modified: super::clock::BIRTH };
        Self { slots: vec![Some(Slot { kind: root, linked: true, open: 1, times })], free: Vec::new(), used: 0 }
    }

    /// Bytes that count toward the memory limit.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Puts an input file, and the directories on the way, into place; `None` when the path is not a plain one or taken.
    pub(super) fn add_input(&mut self, path: &str, bytes: Arc<[u8]>) -> Option<()> {
        let mut components: Vec<&str> = path.split('/').collect();
        let plain = |name: &&str| !name.is_empty() && *name != "." && *name != ".." && name.len() <= MAX_NAME && !name.contains('\0');
        if path.len() > MAX_PATH as usize || !components.iter().all(plain) {
            return None;
        }
        let name = components.pop()?;
        let mut directory = Node::ROOT;
        for component in components {
            directory = match self.entry(directory, component).ok()? {
                Some(node) => node,
                None => {
                    self.create(directory, component, Kind::Directory { entries: BTreeMap::new(), parent: directory }, 0, u64::MAX).ok()?
                }
            };
        }
        if self.entry(directory, name).ok()?.is_some() {
            return None;
        }
        self.create(directory, name, Kind::Input(bytes), super::clock::BIRTH, u64::MAX).ok()?;
        // What the task gives does not count: its size is bounded where tasks are made.
        self.used = 0;
        Some(())
    }

    fn slot(&self, node: Node) -> &Slot {
        self.slots[node.0].as_ref().expect("nodes are removed only when nothing refers to them")
    }

    fn slot_mut(&mut self, node: Node) -> &mut Slot {
        self.slots[node.0].as_mut().expect("nodes are removed only when nothing refers to them")
    }

    /// What a node is.
    pub(super) fn kind(&self, node: Node) -> &Kind {
        &self.slot(node).kind
    }

    /// A node's times.
    pub(super) fn times(&self, node: Node) -> Times {
        self.slot(node).times
    }

    /// Sets a node's times.
    pub(super) fn set_times(&mut self, node: Node, times: Times) {
        self.slot_mut(node).times = times;
    }

    /// Whether a node is a directory.
    pub(super) fn is_directory(&self, node: Node) -> bool {
        matches!(self.kind(node), Kind::Directory { .. })
    }

    /// A file's content.
    pub(super) fn content(&self, node: Node) -> Result<&[u8], Errno> {
        match self.kind(node) {
            Kind::Input(bytes) => Ok(bytes),
            Kind::Scratch(bytes) => Ok(bytes),
            Kind::Directory { .. } => Err(Errno::Isdir),
        }
    }

    /// A directory's entries.
    pub(super) fn entries(&self, node: Node) -> Result<&BTreeMap<Box<str>, Node>, Errno> {
        match self.kind(node) {
            Kind::Directory { entries, .. } => Ok(entries),
            Kind::Input(_) | Kind::Scratch(_) => Err(Errno::Notdir),
        }
    }

    /// The directory that a directory is in.
    pub(super) fn parent(&self, node: Node) -> Node {
        match self.kind(node) {
            Kind::Directory { parent, .. } => *parent,
            Kind::Input(_) | Kind::Scratch(_) => Node::ROOT,
        }
    }

    fn entry(&self, directory: Node, name: &str) -> Result<Option<Node>, Errno> {
        Ok(self.entries(directory)?.get(name).copied())
    }

    fn entries_mut(&mut self, node: Node) -> Result<&mut BTreeMap<Box<str>, Node>, Errno> {
        match &mut self.slot_mut(node).kind {
            Kind::Directory { entries, .. } => Ok(entries),
            Kind::Input(_) | Kind::Scratch(_) => Err(Errno::Notdir),
        }
    }

    /// Follows a path from a directory. It may go up, but not above where it started.
    pub(super) fn find<'p>(&self, from: Node, path: &'p str) -> Result<Place<'p>, Errno> {
        if path.starts_with('/') {
            return Err(Errno::Notcapable);
        }
        if path.is_empty() {
            return Err(Errno::Noent);
        }
        let wants_directory = path.ends_with('/');
        let mut directory = from;
        let mut depth = 0u32;
        let mut components = path.split('/').filter(|name| !name.is_empty() && *name != ".").peekable();
        while let Some(name) = components.next() {
            if name.len() > MAX_NAME {
                return Err(Errno::Nametoolong);
            }
            if name == ".." {
                depth = depth.checked_sub(1).ok_or(Errno::Notcapable)?;
                directory = self.parent(directory);
                continue;
            }
            let node = self.entry(directory, name)?;
            if components.peek().is_none() {
                return Ok(Place { parent: directory, name, node, wants_directory });
            }
            directory = node.ok_or(Errno::Noent)?;
            self.entries(directory)?;
            depth += 1;
        }
        Ok(Place { parent: self.parent(directory), name: "", node: Some(directory), wants_directory: true })
    }

    /// Makes a node. `room` is what the unit may still take.
    pub(super) fn create(&mut self, directory: Node, name: &str, kind: Kind, now: u64, room: u64) -> Result<Node, Errno> {
        let needed = NODE_BYTES + name.len() as u64;
        if needed > room {
            return Err(Errno::Nospc);
        }
        if !self.slot(directory).linked {
            return Err(Errno::Noent);
        }
        let slot = Slot { kind, linked: true, open: 0, times: Times { accessed: now, modified: now } };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index] = Some(slot);
                index
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        };
        self.entries_mut(directory)?.insert(name.into(), Node(index));
        self.used += needed;
        Ok(Node(index))
    }

    /// One more descriptor is open on a node.
    pub(super) fn opened(&mut self, node: Node) {
        self.slot_mut(node).open += 1;
    }

    /// One descriptor less.
    pub(super) fn closed(&mut self, node: Node) {
        self.slot_mut(node).open -= 1;
        self.collect(node);
    }

    fn collect(&mut self, node: Node) {
        let slot = self.slot(node);
        if slot.linked || slot.open > 0 {
            return;
        }
        let content = match &slot.kind {
            Kind::Scratch(bytes) => bytes.len() as u64,
            Kind::Input(_) | Kind::Directory { .. } => 0,
        };
        self.used = self.used.saturating_sub(NODE_BYTES + content);
        self.slots[node.0] = None;
        self.free.push(node.0);
    }

    fn unlink(&mut self, parent: Node, name: &str, node: Node) -> Result<(), Errno> {
        self.entries_mut(parent)?.remove(name);
        self.used = self.used.saturating_sub(name.len() as u64);
        self.slot_mut(node).linked = false;
        self.collect(node);
        Ok(())
    }

    /// Removes a file.
    pub(super) fn remove_file(&mut self, place: &Place<'_>) -> Result<(), Errno> {
        let node = place.node.ok_or(Errno::Noent)?;
        match self.kind(node) {
            Kind::Directory { .. } => Err(Errno::Isdir),
            Kind::Input(_) => Err(Errno::Rofs),
            Kind::Scratch(_) if place.wants_directory => Err(Errno::Notdir),
            Kind::Scratch(_) => self.unlink(place.parent, place.name, node),
        }
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&mut self, place: &Place<'_>) -> Result<(), Errno> {
        let node = place.node.ok_or(Errno::Noent)?;
        if !self.entries(node)?.is_empty() {
            return Err(Errno::Notempty);
        }
        if place.name.is_empty() {
            return Err(Errno::Inval);
        }
        self.unlink(place.parent, place.name, node)
    }

    /// Moves a node. Returns how many directories it looked at, which is to be paid for.
    pub(super) fn rename(&mut self, from: &Place<'_>, to: &Place<'_>) -> Result<u64, Errno> {
        let node = from.node.ok_or(Errno::Noent)?;
        if from.name.is_empty() || to.name.is_empty() {
            return Err(Errno::Inval);
        }
        let is_directory = self.is_directory(node);
        if !is_directory && (from.wants_directory || to.wants_directory) {
            return Err(Errno::Notdir);
        }
        if matches!(self.kind(node), Kind::Input(_)) {
            return Err(Errno::Rofs);
        }
        if !self.slot(to.parent).linked {
            return Err(Errno::Noent);
        }
        let steps = if is_directory { self.check_not_below(to.parent, node)? } else { 0 };
        match to.node {
            Some(target) if target == node => return Ok(steps),
            Some(target) if is_directory => {
                if !self.entries(target)?.is_empty() {
                    return Err(Errno::Notempty);
                }
                self.unlink(to.parent, to.name, target)?;
            }
            Some(_) => self.remove_file(to)?,
            None => {}
        }
        self.entries_mut(from.parent)?.remove(from.name);
        self.entries_mut(to.parent)?.insert(to.name.into(), node);
        self.used = self.used.saturating_sub(from.name.len() as u64) + to.name.len() as u64;
        if let Kind::Directory { parent, .. } = &mut self.slot_mut(node).kind {
            *parent = to.parent;
        }
        Ok(steps)
    }

    fn check_not_below(&self, mut directory: Node, moved: Node) -> Result<u64, Errno> {
        let mut steps = 0;
        while directory != Node::ROOT {
            if directory == moved {
                return Err(Errno::Inval);
            }
            directory = self.parent(directory);
            steps += 1;
        }
        Ok(steps)
    }

    /// Gives a file a new length; `None` when the host has no memory for it.
    pub(super) fn resize(&mut self, node: Node, length: u64, room: u64) -> Result<Option<()>, Errno> {
        let slot = self.slots[node.0].as_mut().expect("nodes are removed only when nothing refers to them");
        let bytes = match &mut slot.kind {
            Kind::Scratch(bytes) => bytes,
            Kind::Input(_) => return Err(Errno::Rofs),
            Kind::Directory { .. } => return Err(Errno::Isdir),
        };
        let old = bytes.len() as u64;
        if length.saturating_sub(old) > room {
            return Err(Errno::Nospc);
        }
        let length_in_memory = usize::try_from(length).map_err(|_| Errno::Nospc)?;
        if bytes.try_reserve(length_in_memory.saturating_sub(bytes.len())).is_err() {
            return Ok(None);
        }
        bytes.resize(length_in_memory, 0);
        self.used = self.used + length - old;
        Ok(Some(()))
    }

    /// A scratch file's bytes, to be written within its length.
    pub(super) fn scratch_mut(&mut self, node: Node) -> Result<&mut Vec<u8>, Errno> {
        match &mut self.slot_mut(node).kind {
            Kind::Scratch(bytes) => Ok(bytes),
            Kind::Input(_) => Err(Errno::Rofs),
            Kind::Directory { .. } => Err(Errno::Isdir),
        }
    }
}
