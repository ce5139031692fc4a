//! Who belongs: proofs that two peers share a grid's or a household's secret, and signed invitations.
//!
//! A proof is a keyed digest (HMAC-SHA-256) over the purpose, the grid, the key of who shows it and the key of who sees it.
//! The transport has authenticated both keys, so a proof is of no use to anybody but the one who made it, shown to nobody but
//! the one it was made for. Secrets never travel, except in the answer to a ticket's token.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::identity::{self, Identity};
use crate::{
    protocol::ids::{GridId, PeerId},
    wire::peer as pb,
};

const GRID_PROOF: &[u8] = b"manyhands.grid.v1";
const OWN_PROOF: &[u8] = b"manyhands.own.v1";
const INVITATION: &str = "manyhands.invitation.v1";
/// The block length of SHA-256, which HMAC is defined by.
const BLOCK: usize = 64;

/// The grid that everybody may join.
pub const PUBLIC_GRID: GridId = GridId([0; 32]);

/// 32 secret bytes. Compared in constant time, shown to nobody.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A secret read from a file or an answer.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh secret.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, to be written to a private file or into the answer to a valid token, nowhere else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn proof(&self, purpose: &[u8], grid: GridId, from: PeerId, to: PeerId) -> [u8; 32] {
        hmac(&self.0, &[purpose, grid.as_bytes(), from.as_bytes(), to.as_bytes()])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        equal(&self.0, &other.0)
    }
}

impl Eq for Secret {}

/// What this peer belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The grid.
    pub grid: GridId,
    /// The grid's secret; `None` in a grid that everybody may join.
    pub grid_secret: Option<Secret>,
    /// What the devices of one owner share.
    pub household: Option<Secret>,
    /// How this peer came to the grid.
    pub invitation: Option<Invitation>,
}

/// Somebody's word that a key may come to a grid. In the public grid it tells whose guest a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Who invited.
    pub inviter: PeerId,
    /// Over the grid and the guest.
    pub signature: [u8; 64],
}

/// What a valid Hello says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is a device of our own household.
    pub own: bool,
    /// Who invited it, if it showed an invitation.
    pub lineage: Option<PeerId>,
}

/// Why a peer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It belongs elsewhere.
    #[error("this peer belongs to another grid")]
    AnotherGrid,
    /// It does not know the secret.
    #[error("this grid is private, and the proof of its secret is missing or wrong; join with a ticket")]
    NoProof,
    /// Its invitation is not what it says.
    #[error("the invitation shown is not valid for this key and grid")]
    BadInvitation,
}

/// The proofs that one side shows, as they travel.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The grid's proof; empty in the public grid.
    pub grid: &'a [u8],
    /// The household's proof; empty without one.
    pub own: &'a [u8],
    /// The invitation, if any.
    pub invitation: Option<&'a pb::Invitation>,
}

impl Membership {
    /// Member of the public grid, with no household yet.
    pub fn public() -> Self {
        Self { grid: PUBLIC_GRID, grid_secret: None, household: None, invitation: None }
    }

    /// The proof for `to` that `from` (ourselves) knows the grid's secret; empty when there is none.
    pub fn grid_proof(&self, from: PeerId, to: PeerId) -> Vec<u8> {
        self.grid_secret.as_ref().map_or_else(Vec::new, |secret| secret.proof(GRID_PROOF, self.grid, from, to).to_vec())
    }

    /// The proof for `to` that `from` (ourselves) knows the household's secret; empty when there is none.
    pub fn own_proof(&self, from: PeerId, to: PeerId) -> Vec<u8> {
        self.household.as_ref().map_or_else(Vec::new, |secret| secret.proof(OWN_PROOF, self.grid, from, to).to_vec())
    }

    /// Judges what `from` showed to `to` (ourselves). A household's proof that is not ours is no offence: a peer cannot know
    /// beforehand whose device it meets.
    ///
    /// # Errors
    /// When a private grid's proof or an invitation that was shown is not valid.
    pub fn judge(&self, from: PeerId, to: PeerId, shown: Shown<'_>) -> Result<Standing, Refused> {
        let knows = |secret: &Option<Secret>, purpose, proof: &[u8]| {
            secret.as_ref().is_some_and(|secret| equal(&secret.proof(purpose, self.grid, from, to), proof))
        };
        if self.grid_secret.is_some() && !knows(&self.grid_secret, GRID_PROOF, shown.grid) {
            return Err(Refused::NoProof);
        }
        let lineage = match shown.invitation {
            None => None,
            Some(sent) => Some(Invitation::parse(sent).filter(|it| it.admits(self.grid, from)).ok_or(Refused::BadInvitation)?.inviter),
        };
        Ok(Standing { own: knows(&self.household, OWN_PROOF, shown.own), lineage })
    }
}

impl Invitation {
    /// `inviter`'s word that `guest` may come to `grid`.
    pub fn issue(inviter: &Identity, grid: GridId, guest: PeerId) -> Self {
        Self { inviter: inviter.peer(), signature: inviter.sign(INVITATION, &[grid.as_bytes(), guest.as_bytes()]) }
    }

    /// Whether the inviter signed for this guest and grid. Nobody can invite themselves.
    pub fn admits(&self, grid: GridId, guest: PeerId) -> bool {
        self.inviter != guest && identity::verify(self.inviter, INVITATION, &[grid.as_bytes(), guest.as_bytes()], &self.signature)
    }

    /// Reads one from the wire; `None` when a field has the wrong length. Says nothing about its signature.
    pub fn parse(sent: &pb::Invitation) -> Option<Self> {
        let inviter = PeerId::try_from(&sent.inviter[..]).ok()?;
        Some(Self { inviter, signature: sent.signature[..].try_into().ok()? })
    }

    /// As it travels.
    pub fn to_wire(&self) -> pb::Invitation {
        pb::Invitation { inviter: self.inviter.as_bytes().to_vec().into(), signature: self.signature.to_vec().into() }
    }
}

/// HMAC-SHA-256 (RFC 2104) over parts that are each of fixed length, so that no two lists collide.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; BLOCK];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36));
    parts.iter().for_each(|part| inner.update(part));
    Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
}

/// Compares without telling by its duration where two values differ. Lengths are no secret.
fn equal(left: &[u8], right: &[u8]) -> bool {
    let differences = left.iter().zip(right).fold(0, |acc, (l, r)| core::hint::black_box(acc | (l ^ r)));
    left.len() == right.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);

    fn private(byte: u8) -> Membership {
        Membership { grid: GridId([9; 32]), grid_secret: Some(Secret::new([byte; 32])), household: None, invitation: None }
    }

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        // Test case 2's short key, padded with zeroes to 32 bytes, which HMAC does anyway.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(data_encoding::HEXLOWER.encode(&hmac(&key, &[b"what do ya want ", b"for nothing?"])), expected);
    }

    #[test]
    fn a_private_grid_lets_in_only_who_knows_its_secret() {
        let grid = private(5);
        let (proof, foreign) = (grid.grid_proof(A, B), private(6).grid_proof(A, B));
        let shown = |grid| Shown { grid, own: &[], invitation: None };
        assert_eq!(grid.judge(A, B, shown(&proof)), Ok(Standing { own: false, lineage: None }));
        assert_eq!(grid.judge(B, A, shown(&proof)), Err(Refused::NoProof), "a proof is not to be mirrored");
        assert_eq!(grid.judge(A, B, shown(&foreign)), Err(Refused::NoProof));
        assert_eq!(grid.judge(A, B, shown(&[])), Err(Refused::NoProof));
        assert_eq!(grid.judge(A, B, shown(&proof[..31])), Err(Refused::NoProof));
    }

    #[test]
    fn a_household_is_recognised_and_a_foreign_one_is_no_offence() {
        let household = |byte| Membership { household: Some(Secret::new([byte; 32])), ..Membership::public() };
        let judged = |proof: &[u8]| household(1).judge(A, B, Shown { grid: &[], own: proof, invitation: None }).unwrap().own;
        assert!(judged(&household(1).own_proof(A, B)));
        assert!(!judged(&household(2).own_proof(A, B)));
        assert!(!judged(&[]));
        let grid_with_same_secret = Membership { grid_secret: Some(Secret::new([1; 32])), ..Membership::public() };
        assert!(!judged(&grid_with_same_secret.grid_proof(A, B)), "a proof is for one purpose");
    }

    #[test]
    fn an_invitation_is_for_one_guest_and_grid() {
        let inviter = Identity::generate().unwrap();
        let sent = Invitation::issue(&inviter, PUBLIC_GRID, A).to_wire();
        let shown = Shown { grid: &[], own: &[], invitation: Some(&sent) };
        let here = Membership::public();
        assert_eq!(here.judge(A, B, shown), Ok(Standing { own: false, lineage: Some(inviter.peer()) }));
        assert_eq!(here.judge(B, A, shown), Err(Refused::BadInvitation));
        let elsewhere = Membership { grid: GridId([3; 32]), ..Membership::public() };
        assert_eq!(elsewhere.judge(A, B, shown), Err(Refused::BadInvitation));
        let own = Invitation::issue(&inviter, PUBLIC_GRID, inviter.peer());
        assert!(!own.admits(PUBLIC_GRID, inviter.peer()));
    }

    #[test]
    fn secrets_are_not_in_the_debug_output() {
        assert!(!format!("{:?}", private(0xab)).contains("171"));
    }
}
