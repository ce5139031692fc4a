//! A directory of this command's own, readable by nobody else and gone with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A temporary directory; dropped, it is removed with all that is in it.
#[derive(Debug)]
pub struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// Makes one in the system's place for such things; its name begins with `prefix`.
    ///
    /// # Errors
    /// The place cannot be written, or the system gives no randomness for a name.
    pub fn create(prefix: &str) -> io::Result<Self> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let path = std::env::temp_dir().join(format!("{prefix}-{}", data_encoding::HEXLOWER.encode(&name)));
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // What stays is in the system's own place for such things.
        drop(fs::remove_dir_all(&self.0));
    }
}
