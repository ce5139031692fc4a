//! Small secret files: written whole or not at all, readable by their owner only.

use crate::store::fault::{self, Place};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// Why a secret file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Others may read or write it.
    #[error("{} may be read or changed by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is there instead.
        path: PathBuf,
    },
    /// It is longer than anything that we wrote.
    #[error("{} is longer than {limit} bytes, so it is not ours", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateFileError {
    let path = path.to_path_buf();
    move |source| PrivateFileError::Io { action, path, source }
}

/// Reads the file at `path`, of at most `limit` bytes; `None` when there is none.
///
/// # Errors
/// When it can be read by others, is not a regular file, is too long, or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PrivateFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    // Of the open file, so that nobody can exchange it between the check and the read.
    let metadata = file.metadata().map_err(failed("inspect", path))?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile { path: path.into() });
    }
    check_mode(path, &metadata)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(PrivateFileError::TooLong { path: path.into(), limit });
    }
    Ok(Some(bytes))
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), PrivateFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(PrivateFileError::TooOpen { path: path.into(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), PrivateFileError> {
    Ok(())
}

/// Writes a new file; returns false and changes nothing when there is one already, even one made at the same instant.
///
/// # Errors
/// When the directory cannot be written.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool, PrivateFileError> {
    let temporary = write_beside(path, bytes)?;
    // A hard link fails when the name is taken, which a rename does not.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(failed("remove", &temporary))?;
    match linked {
        Ok(()) => sync_directory(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// Writes or replaces the file.
///
/// # Errors
/// When the directory cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let temporary = write_beside(path, bytes)?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    sync_directory(path)
}

fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf, PrivateFileError> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|error| failed("name a temporary file for", path)(io::Error::other(error)))?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{:016x}.tmp", u64::from_le_bytes(suffix)));
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(failed("create", &temporary))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The error that matters is the first one; a leftover is harmless.
        drop(fs::remove_file(&temporary));
        return Err(failed("write", &temporary)(error));
    }
    fault::pass(Place::PrivateWritten).map_err(failed("write", &temporary))?;
    Ok(temporary)
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> Result<(), PrivateFileError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|open| open.sync_all()).map_err(failed("sync", directory))
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), PrivateFileError> {
    Ok(())
}
