//! Native code on disk, so that a module is compiled once per machine.
//!
//! An entry's name is a digest of the original module, [`PASS_VERSION`](super::PASS_VERSION) and the engine's compatibility
//! hash. Since instrumenting depends on nothing but the first two, that names the instrumented module without making it. An
//! entry carries a checksum; what is damaged or foreign is not used and compiled anew. Entries come from our own compiler
//! only, never from a peer; the directory belongs to this user alone.

use crate::protocol::ids::Digest;
use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

/// What the cache may hold, in bytes; the entries that were used least recently go first.
const MAX_BYTES: u64 = 2 << 30;

/// The largest entry, in bytes. Native code is three to five times as large as its module.
pub(super) const MAX_ENTRY: u64 = 1 << 30;

/// An unfinished file that is older than this was left by a process that died.
const STALE: Duration = Duration::from_secs(3600);

/// The first bytes of an entry; the last one is the format's version.
const MAGIC: &[u8; 8] = b"mhcode\0\x01";

const HEADER: usize = MAGIC.len() + 32;

/// The cache directory.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// The name of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(Digest);

impl Key {
    /// The digest that it consists of.
    pub(super) fn digest(self) -> Digest {
        self.0
    }

    /// The entry of a module for an engine.
    pub(super) fn new(module: Digest, engine: Digest) -> Self {
        Self(Digest::of_parts(&[module.as_bytes(), &super::PASS_VERSION.to_le_bytes(), engine.as_bytes()]))
    }
}

impl Cache {
    /// Opens the directory, creating it for this user alone.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
        #[cfg(unix)]
        fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, key: Key) -> PathBuf {
        self.directory.join(format!("{}.native", key.0))
    }

    /// The native code of an entry, when it is there and whole.
    pub(super) fn get(&self, key: Key) -> Option<Vec<u8>> {
        let mut file = fs::File::open(self.path(key)).ok()?;
        let length = file.metadata().ok()?.len();
        if length < HEADER as u64 || length > MAX_ENTRY {
            return None;
        }
        let mut header = [0; HEADER];
        file.read_exact(&mut header).ok()?;
        let mut native = Vec::with_capacity(usize::try_from(length).ok()? - HEADER);
        (&mut file).take(MAX_ENTRY).read_to_end(&mut native).ok()?;
        let whole = header[..MAGIC.len()] == *MAGIC && header[MAGIC.len()..] == Digest::of(&native).0;
        if !whole {
            return None;
        }
        // The time of the last use decides what goes first; that it could not be set does not matter.
        let _ = file.set_modified(SystemTime::now());
        Some(native)
    }

    /// Removes an entry.
    pub(super) fn discard(&self, key: Key) {
        // That it is not there, or cannot be removed, changes nothing: it would be replaced or refused again.
        let _ = fs::remove_file(self.path(key));
    }

    /// Stores native code. Readers see the whole entry or none.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; the caller has the code all the same.
    pub(super) fn put(&self, key: Key, native: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.make_room(native.len() as u64)?;
        let name = format!("{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.directory.join(name);
        let write = || {
            let mut file = fs::File::create_new(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(Digest::of(native).as_bytes())?;
            file.write_all(native)?;
            file.sync_data()?;
            fs::rename(&temporary, self.path(key))
        };
        let result = write();
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn make_room(&self, wanted: u64) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("native") => entries.push((age, metadata.len(), path)),
                Some("tmp") if age > STALE => drop(fs::remove_file(path)),
                Some(_) | None => {}
            }
        }
        entries.sort();
        let mut total = wanted;
        for (_, length, path) in entries {
            total += length;
            if total > MAX_BYTES {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_whole_or_absent() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("code")).unwrap();
        let key = Key::new(Digest([1; 32]), Digest([2; 32]));
        assert_eq!(cache.get(key), None);
        cache.put(key, b"native code").unwrap();
        assert_eq!(cache.get(key).as_deref(), Some(&b"native code"[..]));
        assert_eq!(cache.get(Key::new(Digest([1; 32]), Digest([3; 32]))), None);
        let path = cache.path(key);
        let good = fs::read(&path).unwrap();
        for position in [0, 10, good.len() - 1] {
            let mut bad = good.clone();
            bad[position] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(cache.get(key), None);
        }
        fs::write(&path, &good[..20]).unwrap();
        assert_eq!(cache.get(key), None);
        cache.put(key, b"again").unwrap();
        assert_eq!(cache.get(key).as_deref(), Some(&b"again"[..]));
    }
}
