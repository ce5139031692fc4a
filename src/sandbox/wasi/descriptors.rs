//! The table of open files.

use super::{fs::Node, guest::Errno};

/// The most open files of a unit, as is usual.
pub(super) const MAX_OPEN: usize = 1024;

/// An open file.
#[derive(Clone, Debug)]
pub(super) enum Descriptor {
    /// Standard input, read up to `position`.
    Stdin {
        /// The next byte.
        position: usize,
    },
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(OpenFile),
    /// A directory.
    Directory(Node),
}

/// A file that is open.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    pub(super) node: Node,
    pub(super) position: u64,
    /// WASI `fdflags`.
    pub(super) flags: u16,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// The open files of a unit.
pub(super) struct Descriptors {
    pub(super) table: Vec<Option<Descriptor>>,
}

/// The descriptor of the root directory, which is open from the start.
pub(super) const ROOT_DESCRIPTOR: u32 = 3;

impl Descriptors {
    /// Standard input, output, error and the root directory.
    pub(super) fn new() -> Self {
        use Descriptor as D;
        Self { table: vec![Some(D::Stdin { position: 0 }), Some(D::Stdout), Some(D::Stderr), Some(D::Directory(Node::ROOT))] }
    }

    pub(super) fn get(&self, number: u32) -> Result<&Descriptor, Errno> {
        self.table.get(number as usize).and_then(Option::as_ref).ok_or(Errno::Badf)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Result<&mut Descriptor, Errno> {
        self.table.get_mut(number as usize).and_then(Option::as_mut).ok_or(Errno::Badf)
    }

    /// An open file.
    pub(super) fn file(&mut self, number: u32) -> Result<&mut OpenFile, Errno> {
        match self.get_mut(number)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Directory(_) => Err(Errno::Isdir),
            Descriptor::Stdin { .. } | Descriptor::Stdout | Descriptor::Stderr => Err(Errno::Spipe),
        }
    }

    /// An open directory.
    pub(super) fn directory(&self, number: u32) -> Result<Node, Errno> {
        match self.get(number)? {
            Descriptor::Directory(node) => Ok(*node),
            Descriptor::File(_) | Descriptor::Stdin { .. } | Descriptor::Stdout | Descriptor::Stderr => Err(Errno::Notdir),
        }
    }

    /// Whether one more can be opened.
    pub(super) fn has_room(&self) -> bool {
        self.table.len() < MAX_OPEN || self.table.iter().any(Option::is_none)
    }

    /// Opens at the lowest free number.
    pub(super) fn open(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let index = self.table.iter().position(Option::is_none).unwrap_or(self.table.len());
        if index >= MAX_OPEN {
            return Err(Errno::Mfile);
        }
        if index == self.table.len() {
            self.table.push(None);
        }
        self.table[index] = Some(descriptor);
        Ok(u32::try_from(index).expect("below the maximum"))
    }

    /// Closes; returns what was open.
    pub(super) fn close(&mut self, number: u32) -> Result<Descriptor, Errno> {
        self.table.get_mut(number as usize).and_then(Option::take).ok_or(Errno::Badf)
    }

    /// Moves an open file to another number, which is closed first; returns what was open there.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>, Errno> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.close(from)?;
        Ok(self.table[to as usize].replace(moved))
    }
}

impl Descriptor {
    /// The node that is open, if it is one.
    pub(super) fn node(&self) -> Option<Node> {
        match self {
            Self::File(file) => Some(file.node),
            Self::Directory(node) => Some(*node),
            Self::Stdin { .. } | Self::Stdout | Self::Stderr => None,
        }
    }
}
