//! ed25519 signatures over several parts, the first of which says what kind of thing is signed.

use super::bounds::{Rejection, SIGNATURE_BYTES};
use crate::protocol::ids::PeerId;
use iroh::{PublicKey, SecretKey, Signature};

/// The peer that holds `key`.
pub fn peer_of(key: &SecretKey) -> PeerId {
    PeerId(*key.public().as_bytes())
}

/// Signs the concatenation of `parts`; the first is a context, and only the last may vary in length.
pub(super) fn sign(key: &SecretKey, parts: &[&[u8]]) -> [u8; SIGNATURE_BYTES] {
    key.sign(&parts.concat()).to_bytes()
}

/// Checks a signature strictly: nobody but the author can make a second valid one.
pub(super) fn verify(what: &'static str, author: PeerId, parts: &[&[u8]], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), Rejection> {
    let bad = Rejection::BadSignature { what };
    let key = PublicKey::from_bytes(author.as_bytes()).map_err(|_| bad.clone())?;
    key.verify(&parts.concat(), &Signature::from_bytes(signature)).map_err(|_| bad)
}
