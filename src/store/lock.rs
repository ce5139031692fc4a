//! The lock on a data directory: one node at a time. The file names the process that holds it, and stays behind with that
//! name when the process was killed, which is how an unclean stop is known.

use super::error::StoreError;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

/// More than the digits of any process number.
const PID_BYTES_MAX: u64 = 20;

/// A held lock; given back when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
    was_unclean: bool,
    /// The process that did not get to close the directory.
    previous: Option<u32>,
}

impl DirLock {
    /// Locks `dir`, which must exist.
    pub(super) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options().map_err(StoreError::io("open", &path))?;
        let locked = file.try_lock();
        let mut text = String::new();
        // Where locks are mandatory the other process's number cannot be read, which only makes the message poorer.
        let pid = match (&mut file).take(PID_BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => text.trim().parse().ok(),
            Err(_) => None,
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { dir: dir.to_owned(), pid }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(StoreError::io("write", &path))?;
        Ok(Self { file, was_unclean: !text.is_empty(), previous: pid })
    }

    /// Whether the process that had the directory before did not get to close it.
    pub(super) fn was_unclean(&self) -> bool {
        self.was_unclean
    }

    /// That process, as far as it said.
    pub(super) fn previous(&self) -> Option<u32> {
        self.previous
    }

    /// Gives the lock back and notes that everything is in order.
    pub(super) fn release(self) {
        // Without the note, the next start only checks more than it has to.
        drop(self.file.set_len(0));
    }
}
