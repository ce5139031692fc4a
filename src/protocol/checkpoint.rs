//! Checkpoints: where a unit that is not finished stood, so that another execution goes on from there.
//!
//! A checkpoint is the word of the worker that made it, its *author*, and nobody can check it but by computing. So a result that goes on
//! from somebody else's checkpoint *rests on* its author: see [`Authors`] and `protocol/verify.rs` for what that means for a vote, and
//! `protocol/owner/resume.rs` for who is given one.

use super::{
    chain::Links,
    ids::{Digest, PeerId},
};
use std::sync::Arc;

/// The largest state that is handed from machine to machine, in bytes. A unit with a larger one begins anew.
pub const CHECKPOINT_BYTES_MAX: u64 = 64 << 20;

/// On how many others a result may rest. Beyond that checkpoints are not taken any more: each author is one more who can spoil the
/// result, and must be remembered with it.
pub const AUTHORS_MAX: usize = 3;

/// Where a unit stood between two steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Gas used until then.
    pub gas: u64,
    /// SHA-256 of the state, its name as a blob.
    pub state: Digest,
    /// Bytes of the state, at most [`CHECKPOINT_BYTES_MAX`].
    pub bytes: u64,
    /// The unit's chain so far.
    pub links: Arc<Links>,
    /// Whose checkpoints it rests on in turn; of the lease in which it was made.
    pub rests_on: Authors,
}

impl Checkpoint {
    /// Whether it could be one: its parts fit one another.
    pub fn is_sensible(&self) -> bool {
        let reached = self.links.as_slice().last().is_none_or(|link| link.gas <= self.gas);
        reached && (1..=CHECKPOINT_BYTES_MAX).contains(&self.bytes)
    }
}

/// Whose checkpoints a result rests on, besides the work of its own worker. In the order of their keys, each once. A worker that goes on
/// from its own checkpoint alone is named itself, so that its receipt says that it was given a state: as a voter it rests on nobody then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Authors([Option<PeerId>; AUTHORS_MAX]);

impl Authors {
    /// Nobody's.
    pub const NONE: Self = Self([None; AUTHORS_MAX]);

    /// These; none when there are too many, or not in order.
    pub fn new(peers: &[PeerId]) -> Option<Self> {
        let mut found = Self::NONE;
        if peers.len() > AUTHORS_MAX || !peers.is_sorted_by(|a, b| a < b) {
            return None;
        }
        for (place, peer) in found.0.iter_mut().zip(peers) {
            *place = Some(*peer);
        }
        Some(found)
    }

    /// One more; none when that would be too many.
    pub fn with(self, peer: PeerId) -> Option<Self> {
        let mut peers: Vec<PeerId> = self.iter().collect();
        if let Err(at) = peers.binary_search(&peer) {
            peers.insert(at, peer);
        }
        Self::new(&peers)
    }

    /// The others.
    pub fn without(self, peer: PeerId) -> Self {
        let peers: Vec<PeerId> = self.iter().filter(|author| *author != peer).collect();
        Self::new(&peers).expect("fewer than before, in the same order")
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = PeerId> {
        self.0.into_iter().flatten()
    }

    /// Whether it rests on nobody.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Whether it rests on this one.
    pub fn contains(&self, peer: PeerId) -> bool {
        self.0.contains(&Some(peer))
    }

    /// Their keys, one after the other.
    pub fn to_bytes(self) -> Vec<u8> {
        self.iter().flat_map(|peer| peer.0).collect()
    }

    /// The same read back; none when these bytes are no such list.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks::<32>();
        let peers: Vec<PeerId> = keys.iter().take(AUTHORS_MAX + 1).map(|key| PeerId(*key)).collect();
        if rest.is_empty() { Self::new(&peers) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_a_small_set() {
        let [a, b, c, d] = [4, 2, 9, 5].map(|n| PeerId([n; 32]));
        let three = Authors::NONE.with(a).and_then(|some| some.with(b)).and_then(|some| some.with(c)).unwrap();
        assert_eq!(three.iter().collect::<Vec<_>>(), [b, a, c]);
        assert_eq!((three.with(a), three.with(d)), (Some(three), None));
        assert!(three.contains(c) && !three.contains(d) && !three.is_empty() && Authors::NONE.is_empty());
        assert_eq!(three.without(a).iter().collect::<Vec<_>>(), [b, c]);
        assert_eq!(three.without(d), three);
        assert_eq!(Authors::from_bytes(&three.to_bytes()), Some(three));
        assert_eq!(Authors::from_bytes(&[]), Some(Authors::NONE));
        for bytes in [vec![1; 31], vec![1; 64], vec![1; 129], [[2; 32], [1; 32]].concat()] {
            assert_eq!(Authors::from_bytes(&bytes), None, "{} bytes", bytes.len());
        }
    }
}
