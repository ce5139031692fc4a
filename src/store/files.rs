//! The data directory's files: where blobs lie, and how one gets there whole or not at all.

use super::{
    error::StoreError,
    fault::{self, Place},
};
use crate::protocol::ids::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Blobs up to this size lie in the database, where a commit costs nothing extra; larger ones are files.
pub const SMALL_BYTES_MAX: usize = 16 << 10;

/// A data directory's paths.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    next: AtomicU64,
    /// The last write failed, probably because there is no room.
    takes_no_writes: AtomicBool,
}

impl Files {
    /// Makes what is missing of `root` and empties its `tmp`.
    pub(super) fn prepare(root: &Path) -> Result<Self, StoreError> {
        make_private(root)?;
        let files = Self { root: root.to_owned(), next: AtomicU64::new(0), takes_no_writes: AtomicBool::new(false) };
        make_private(&files.root.join("blobs"))?;
        Ok(files)
    }

    /// Empties `tmp`; only with the lock held. How many files there were.
    pub(super) fn empty_tmp(&self) -> Result<usize, StoreError> {
        let tmp = self.root.join("tmp");
        let found = fs::read_dir(&tmp).map_or(0, Iterator::count);
        match fs::remove_dir_all(&tmp) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("empty", tmp)(error)),
        }
        make_private(&tmp)?;
        Ok(found)
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.root.join("facts.sqlite")
    }

    /// Where the blob lies when it is not in the database.
    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, rest) = name.split_at(2);
        self.root.join("blobs").join(folder).join(rest)
    }

    /// Moves a finished file to its place, durably once [`sync_folder`](Self::sync_folder) was called.
    pub(super) fn place(&self, staged: &Path, digest: Digest) -> Result<(), StoreError> {
        let path = self.blob(digest);
        make_private(path.parent().expect("a blob lies in a folder"))?;
        match fs::rename(staged, &path) {
            // A transaction that was taken back may have left it in its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
            result => result.map_err(StoreError::io("move", path)),
        }
    }

    /// Makes the blob's name durable.
    pub(super) fn sync_folder(&self, digest: Digest) -> Result<(), StoreError> {
        let blob = self.blob(digest);
        let folder = blob.parent().expect("a blob lies in a folder");
        for folder in [folder, &self.root.join("blobs")] {
            sync_dir(folder).map_err(StoreError::io("sync", folder))?;
        }
        Ok(())
    }

    /// All files below `blobs` that bear the name of a digest.
    pub(super) fn blobs(&self) -> Result<Vec<Digest>, StoreError> {
        let root = self.root.join("blobs");
        let mut found = vec![];
        let list = |path: &Path| fs::read_dir(path).map_err(StoreError::io("list", path));
        for folder in list(&root)? {
            let folder = folder.map_err(StoreError::io("list", &root))?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in list(&folder)? {
                let file = file.map_err(StoreError::io("list", &folder))?;
                let name = format!("{}{}", folder.file_name().unwrap_or_default().display(), file.file_name().display());
                found.extend(name.parse::<Digest>());
            }
        }
        Ok(found)
    }

    /// Notes how writing went.
    pub(super) fn note<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        match &written {
            Ok(_) => self.takes_no_writes.store(false, Ordering::Relaxed),
            Err(StoreError::DiskFull | StoreError::Io { .. }) => self.takes_no_writes.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        written
    }

    /// Whether the last write failed for a reason of the disk.
    pub(super) fn takes_no_writes(&self) -> bool {
        self.takes_no_writes.load(Ordering::Relaxed)
    }

    fn tmp(&self) -> Result<(TmpPath, File), StoreError> {
        let path = self.root.join("tmp").join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(StoreError::io("create", &path))?;
        Ok((TmpPath(path), file))
    }
}

#[cfg(unix)]
fn make_private(dir: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    // The directory holds secrets: nobody else may look inside.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("create", dir))
}

#[cfg(not(unix))]
fn make_private(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io("create", dir))
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A file in `tmp` that disappears with this value unless it was moved.
#[derive(Debug)]
struct TmpPath(PathBuf);

impl Drop for TmpPath {
    fn drop(&mut self) {
        // It may have been moved to its place; and what stays is removed at the next start.
        drop(fs::remove_file(&self.0));
    }
}

/// A blob that is being written, hashed on the way; spilled to a file once it is large. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    files: Arc<Files>,
    what: &'static str,
    bytes_max: u64,
    size: u64,
    hasher: Sha256,
    small: Vec<u8>,
    large: Option<(TmpPath, File)>,
}

impl BlobWriter {
    pub(super) fn new(files: Arc<Files>, what: &'static str, bytes_max: u64) -> Self {
        Self { files, what, bytes_max, size: 0, hasher: Sha256::new(), small: vec![], large: None }
    }

    /// Appends bytes. Blocks on the disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let size = self.size + bytes.len() as u64;
        if size > self.bytes_max {
            return Err(StoreError::TooLong { what: self.what, found: size, max: self.bytes_max });
        }
        if self.large.is_none() && size > SMALL_BYTES_MAX as u64 {
            self.large = Some(self.files.note(self.spill())?);
            self.small = vec![];
        }
        match &mut self.large {
            Some((path, file)) => {
                let written = file.write_all(bytes).map_err(StoreError::io("write", &path.0));
                if written.is_err() {
                    self.files.note(written)?;
                }
            }
            None => self.small.extend_from_slice(bytes),
        }
        self.hasher.update(bytes);
        self.size = size;
        Ok(())
    }

    /// Moves what there is to a file.
    fn spill(&self) -> Result<(TmpPath, File), StoreError> {
        let (path, mut file) = self.files.tmp()?;
        fault::pass(Place::BlobBegins).map_err(StoreError::io("write", &path.0))?;
        file.write_all(&self.small).map_err(StoreError::io("write", &path.0))?;
        Ok((path, file))
    }

    /// How many bytes there are so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the blob and makes its bytes durable; they become part of the store when the result is committed.
    pub fn finish(self) -> Result<StagedBlob, StoreError> {
        let Self { files, size, hasher, small, large, .. } = self;
        if let Some((path, file)) = &large {
            let synced = file.sync_all().and_then(|()| fault::pass(Place::BlobWritten));
            files.note(synced.map_err(StoreError::io("sync", &path.0)))?;
        }
        // Thousands of these may wait for one commit, so the file is closed.
        let large = large.map(|(path, _)| path);
        Ok(StagedBlob { digest: Digest(hasher.finalize().into()), size, small, large })
    }

    /// As [`finish`](Self::finish); fails when the bytes are not those that `expected` names.
    pub fn finish_as(self, expected: Digest) -> Result<StagedBlob, StoreError> {
        let staged = self.finish()?;
        let found = staged.digest;
        if found == expected { Ok(staged) } else { Err(StoreError::WrongDigest { expected, found }) }
    }
}

/// A whole blob whose bytes are durable but not yet part of the store. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct StagedBlob {
    digest: Digest,
    size: u64,
    small: Vec<u8>,
    large: Option<TmpPath>,
}

impl StagedBlob {
    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its bytes, when they are few.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if self.large.is_none() { Some(&self.small) } else { None }
    }

    /// Its file, when they are many.
    pub(super) fn path(&self) -> Option<&Path> {
        self.large.as_ref().map(|path| &*path.0)
    }
}
