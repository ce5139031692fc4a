//! Who this peer is: an ed25519 key in a file that only its owner can read, and what is signed with it.
//!
//! The key is the name of the peer in the protocol and in the transport alike. It is never printed, logged or sent.

use std::{fmt, path::Path};

use data_encoding::HEXLOWER;
use iroh::{EndpointId, PublicKey, SecretKey, Signature};

use super::private_file::{self, PrivateFileError};
use crate::protocol::ids::{Digest, PeerId};

/// What the key file begins with; tells the format and stops another program's file from being taken for ours.
const MARK: &str = "manyhands-key-1 ";
/// Mark, 64 digits, line end; anything longer is not ours.
const MAX_FILE_BYTES: u64 = 128;

/// This peer's key.
#[derive(Clone)]
pub struct Identity {
    secret: SecretKey,
    peer: PeerId,
}

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read, or should not be trusted as it is.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error("{path} does not hold a key of this program; move it away to get a new identity")]
    NotAKey {
        /// The file.
        path: String,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

impl Identity {
    /// Reads the key at `path`, or makes one when there is none. Of two processes that do so at once, both get the same key.
    ///
    /// # Errors
    /// When the file is readable by others, holds something else, or cannot be read or created.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(path)? {
            return Ok(identity);
        }
        let fresh = Self::generate()?;
        let text = format!("{MARK}{}\n", HEXLOWER.encode(&fresh.secret.to_bytes()));
        if private_file::create(path, text.as_bytes())? {
            return Ok(fresh);
        }
        Self::load(path)?.ok_or_else(|| IdentityError::NotAKey { path: path.display().to_string() })
    }

    /// Reads the key at `path`; `None` when there is no such file.
    ///
    /// # Errors
    /// When the file is readable by others, holds something else, or cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = private_file::read(path, MAX_FILE_BYTES)? else { return Ok(None) };
        let key: Option<[u8; 32]> = core::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.strip_prefix(MARK))
            .and_then(|digits| HEXLOWER.decode(digits.trim_end().as_bytes()).ok())
            .and_then(|key| key.try_into().ok());
        let key = key.ok_or_else(|| IdentityError::NotAKey { path: path.display().to_string() })?;
        Ok(Some(Self::from_secret(SecretKey::from_bytes(&key))))
    }

    /// A fresh key that is in no file.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(IdentityError::Randomness)?;
        Ok(Self::from_secret(SecretKey::from_bytes(&key)))
    }

    /// The identity of a given key, for tests that need the same peer twice.
    pub fn from_secret(secret: SecretKey) -> Self {
        let peer = peer_id(secret.public());
        Self { secret, peer }
    }

    /// The public half: this peer's name.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Signs `parts` for one purpose. `context` names the purpose, so that a signature made for one cannot be shown for another;
    /// parts are signed with their lengths, so that no two lists of parts share a signature.
    pub fn sign(&self, context: &str, parts: &[&[u8]]) -> [u8; 64] {
        self.secret.sign(signed_digest(context, parts).as_bytes()).to_bytes()
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Whether `signature` is `signer`'s over `parts` for this purpose. False for a key that is no key, and for any length but 64.
#[must_use]
pub fn verify(signer: PeerId, context: &str, parts: &[&[u8]], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (public_key(signer), <[u8; 64]>::try_from(signature)) else { return false };
    key.verify(signed_digest(context, parts).as_bytes(), &Signature::from_bytes(&signature)).is_ok()
}

fn signed_digest(context: &str, parts: &[&[u8]]) -> Digest {
    let all: Vec<&[u8]> = core::iter::once(context.as_bytes()).chain(parts.iter().copied()).collect();
    Digest::of_parts(&all)
}

/// The transport's name of a peer as the protocol's.
pub fn peer_id(key: EndpointId) -> PeerId {
    PeerId(*key.as_bytes())
}

/// The protocol's name of a peer as the transport's.
///
/// # Errors
/// When the bytes are no point on the curve, which only made-up names are.
pub fn public_key(peer: PeerId) -> Result<PublicKey, NotAPublicKey> {
    PublicKey::from_bytes(peer.as_bytes()).map_err(|_| NotAPublicKey(peer))
}

/// A peer's name that is no public key, so that nobody can be behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a public key")]
pub struct NotAPublicKey(pub PeerId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_then_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let first = Identity::load_or_create(&path).unwrap();
        let second = Identity::load_or_create(&path).unwrap();
        assert_eq!(first.peer(), second.peer());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        Identity::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityError::File(PrivateFileError::TooOpen { mode: 0o640, .. })), "{error}");
        assert!(error.to_string().contains("chmod 600"));
    }

    #[test]
    fn a_file_with_something_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [("a", "hello\n"), ("b", ""), ("c", "manyhands-key-1 00\n")] {
            let path = directory.path().join(name);
            private_file::create(&path, content.as_bytes()).unwrap();
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::NotAKey { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
        }
    }

    #[test]
    fn the_key_is_not_in_the_debug_output() {
        let identity = Identity::from_secret(SecretKey::from_bytes(&[7; 32]));
        assert!(!format!("{identity:?}").contains("0707"));
    }

    #[test]
    fn a_signature_holds_for_its_purpose_parts_and_signer_only() {
        let (ours, theirs) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let signature = ours.sign("a", &[b"xy", b"z"]);
        assert!(verify(ours.peer(), "a", &[b"xy", b"z"], &signature));
        assert!(!verify(ours.peer(), "b", &[b"xy", b"z"], &signature));
        assert!(!verify(ours.peer(), "a", &[b"x", b"yz"], &signature));
        assert!(!verify(theirs.peer(), "a", &[b"xy", b"z"], &signature));
        assert!(!verify(ours.peer(), "a", &[b"xy", b"z"], &signature[..63]));
        assert!(!verify(PeerId([0xff; 32]), "a", &[], &signature));
    }
}
