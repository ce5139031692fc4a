//! Where the local API of a data directory is, and the secret that it asks for: `DATA_DIR/control.json`.
//!
//! The file is readable by its owner only, appears in one step and disappears when the node stops. A node that was killed
//! leaves it behind; the client then finds nobody at the port and says that no node is running.

use super::{error::ControlError, error::Kind};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

const FILE_NAME: &str = "control.json";
const SCHEMA: &str = "manyhands.control/v1";
/// The file is some 150 bytes; more is not ours.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// Port and token of a running node.
#[derive(Clone, Serialize, Deserialize)]
pub struct Endpoint {
    schema: String,
    /// On 127.0.0.1.
    pub port: u16,
    /// 64 hexadecimal digits; each call carries it.
    pub token: String,
    /// The node's process.
    pub pid: u32,
}

impl fmt::Debug for Endpoint {
    /// Without the token: it must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("port", &self.port).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint of this process with a fresh token.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new(port: u16) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let token = data_encoding::HEXLOWER.encode(&secret);
        Ok(Self { schema: SCHEMA.to_owned(), port, token, pid: std::process::id() })
    }

    /// Writes the file in `data_dir`, in one step and with mode 0600; it is removed when the guard is dropped.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn publish(&self, data_dir: &Path) -> io::Result<Published> {
        let path = data_dir.join(FILE_NAME);
        let draft = data_dir.join(format!("{FILE_NAME}.{}", self.pid));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, &path)).inspect_err(|_| {
            // The draft is of no use to anyone; that it stays is the lesser evil.
            let _ = fs::remove_file(&draft);
        })?;
        Ok(Published { path, token: self.token.clone() })
    }

    /// Reads the file of `data_dir`.
    ///
    /// # Errors
    /// There is none (no node is running), it may not be read, or it is not ours.
    pub fn read(data_dir: &Path) -> Result<Self, ControlError> {
        let path = data_dir.join(FILE_NAME);
        let unreadable = |error: &io::Error| match error.kind() {
            io::ErrorKind::NotFound => no_node(data_dir, "there is no control.json, which a running node keeps there"),
            io::ErrorKind::PermissionDenied => {
                let error = ControlError::new(Kind::Denied, "CONTROL_FILE_DENIED", format!("{} may not be read", path.display()));
                error.cause("the node belongs to another user").hint("run the command as that user, or name another --data-dir")
            }
            _ => ControlError::new(Kind::Internal, "CONTROL_FILE_UNREADABLE", format!("{} cannot be read", path.display()))
                .cause(error.to_string()),
        };
        let size = fs::metadata(&path).map_err(|error| unreadable(&error))?.len();
        if size > FILE_BYTES_MAX {
            return Err(no_node(data_dir, "its control.json is not a node's"));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
        match serde_json::from_str::<Self>(&text) {
            Ok(endpoint) if endpoint.schema == SCHEMA => Ok(endpoint),
            Ok(_) | Err(_) => Err(no_node(data_dir, "its control.json is not one that this version understands")),
        }
    }
}

/// The error for a data directory without a node.
pub fn no_node(data_dir: &Path, cause: &str) -> ControlError {
    ControlError::new(Kind::Unreachable, "NO_NODE", format!("no node is running on {}", data_dir.display()))
        .cause(cause)
        .hint("manyhands up")
        .hint("or name the directory of a running one with --data-dir")
}

/// Removes the file when dropped, if it is still the one that was written.
#[derive(Debug)]
#[must_use = "the file is removed when this is dropped"]
pub struct Published {
    path: PathBuf,
    token: String,
}

impl Drop for Published {
    fn drop(&mut self) {
        let ours = fs::read_to_string(&self.path).is_ok_and(|text| text.contains(&self.token));
        if ours {
            // Left behind it is merely stale, which clients notice.
            let _ = fs::remove_file(&self.path);
        }
    }
}
