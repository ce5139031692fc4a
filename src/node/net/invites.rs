//! The inviter's side of tickets: which tokens are open, for whom, until when and how often.
//!
//! Only digests of tokens are kept, so that the file of open invitations is no bunch of keys. A guest that redeems twice,
//! because the first answer was lost, is counted once.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    private_file::{self, PrivateFileError},
    ticket::{TicketKind, Token},
};
use crate::protocol::ids::{Digest, PeerId};

/// Open tokens at a time; each is a few hundred bytes.
pub const MAX_OPEN: usize = 256;
/// How often one token may be used.
pub const MAX_USES: u32 = 100;
/// A full table with all its redeemers.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// How long a void token is remembered, so that its guest hears why; in seconds.
const REMEMBER_SECONDS: u64 = 7 * 24 * 3600;

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// This peer never issued it, or long ago.
    #[error("this ticket was not issued here, or was withdrawn")]
    Unknown,
    /// Its time is over.
    #[error("this ticket has expired; ask for a new one")]
    Expired,
    /// As many as it was for have come.
    #[error("this ticket has been used up; ask for a new one")]
    UsedUp,
}

/// Why no token can be issued or kept.
#[derive(Debug, thiserror::Error)]
pub enum InvitesError {
    /// Too many are open.
    #[error("{MAX_OPEN} invitations are open already; wait until one expires")]
    TooMany,
    /// The table cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error("{path} does not hold open invitations; remove it to withdraw them all")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    /// Of the token, hexadecimal.
    digest: String,
    own: bool,
    /// Absent in files from before there were friends.
    #[serde(default)]
    friend: bool,
    expires_unix: u64,
    uses: u32,
    /// Keys that have redeemed it, hexadecimal.
    redeemed: Vec<String>,
}

/// The table of open tokens, kept in a private file.
#[derive(Debug)]
pub struct Invites {
    path: Option<PathBuf>,
    open: Vec<Open>,
}

impl Invites {
    /// A table that is kept in no file.
    pub fn in_memory() -> Self {
        Self { path: None, open: Vec::new() }
    }

    /// Reads the table at `path`; an empty one when there is no file.
    ///
    /// # Errors
    /// When the file is readable by others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, InvitesError> {
        let open = match private_file::read(path, MAX_FILE_BYTES)? {
            None => Vec::new(),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| InvitesError::Malformed { path: path.display().to_string(), source })?
            }
        };
        Ok(Self { path: Some(path.into()), open })
    }

    /// Issues a token that `uses` machines may redeem until `expires_unix`. It is durable when this returns.
    ///
    /// # Errors
    /// When too many are open, or the table cannot be written.
    pub fn issue(&mut self, kind: TicketKind, uses: u32, expires_unix: u64, now_unix: u64) -> Result<Token, InvitesError> {
        self.open.retain(|open| open.expires_unix.saturating_add(REMEMBER_SECONDS) > now_unix);
        let live = self.open.iter().filter(|open| open.expires_unix > now_unix).count();
        if live >= MAX_OPEN {
            return Err(InvitesError::TooMany);
        }
        // Void ones make room: their guests then hear "unknown".
        while self.open.len() >= 2 * MAX_OPEN {
            let void = self.open.iter().position(|open| open.expires_unix <= now_unix).expect("fewer than half are live");
            self.open.remove(void);
        }
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(InvitesError::Randomness)?;
        let uses = uses.clamp(1, MAX_USES);
        let (own, friend) = (kind == TicketKind::Own, kind == TicketKind::Friend);
        self.open.push(Open { digest: digest(&token), own, friend, expires_unix, uses, redeemed: Vec::new() });
        self.save()?;
        Ok(Token(token))
    }

    /// Uses a token once for `guest`. The use is durable when this returns.
    ///
    /// # Errors
    /// The outer error when the table cannot be written: the token is then not used. The inner one when the token is void.
    pub fn redeem(&mut self, token: &[u8; 16], guest: PeerId, now_unix: u64) -> Result<Result<TicketKind, RedeemError>, InvitesError> {
        let (digest, guest) = (digest(token), guest.to_string());
        // Comparing digests of random tokens tells by its duration nothing that helps to guess one.
        let Some(open) = self.open.iter_mut().find(|open| open.digest == digest) else { return Ok(Err(RedeemError::Unknown)) };
        let kind = match (open.own, open.friend) {
            (true, _) => TicketKind::Own,
            (false, true) => TicketKind::Friend,
            (false, false) => TicketKind::Guest,
        };
        if open.expires_unix <= now_unix {
            return Ok(Err(RedeemError::Expired));
        }
        if open.redeemed.contains(&guest) {
            return Ok(Ok(kind));
        }
        if open.redeemed.len() >= open.uses as usize {
            return Ok(Err(RedeemError::UsedUp));
        }
        open.redeemed.push(guest);
        if let Err(error) = self.save() {
            self.open.iter_mut().filter(|open| open.digest == digest).for_each(|open| drop(open.redeemed.pop()));
            return Err(error);
        }
        Ok(Ok(kind))
    }

    fn save(&self) -> Result<(), InvitesError> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec(&self.open).expect("plain data");
        Ok(private_file::replace(path, &text)?)
    }
}

fn digest(token: &[u8; 16]) -> String {
    Digest::of_parts(&[b"manyhands.token.v1", token]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);

    #[test]
    fn a_token_is_redeemed_as_often_as_it_says_and_a_repetition_is_free() {
        let mut invites = Invites::in_memory();
        let token = invites.issue(TicketKind::Guest, 1, 100, 0).unwrap();
        assert_eq!(invites.redeem(&token.0, A, 1).unwrap(), Ok(TicketKind::Guest));
        assert_eq!(invites.redeem(&token.0, A, 2).unwrap(), Ok(TicketKind::Guest));
        assert_eq!(invites.redeem(&token.0, B, 3).unwrap(), Err(RedeemError::UsedUp));
        assert_eq!(invites.redeem(&[0; 16], B, 3).unwrap(), Err(RedeemError::Unknown));
        assert_eq!(invites.redeem(&token.0, A, 100).unwrap(), Err(RedeemError::Expired));
    }

    #[test]
    fn open_tokens_survive_a_restart_and_are_not_readable_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("invites.json");
        let token = Invites::load(&path).unwrap().issue(TicketKind::Own, 2, 100, 0).unwrap();
        let mut again = Invites::load(&path).unwrap();
        assert_eq!(again.redeem(&token.0, A, 1).unwrap(), Ok(TicketKind::Own));
        assert_eq!(again.redeem(&token.0, B, 1).unwrap(), Ok(TicketKind::Own));
        assert_eq!(Invites::load(&path).unwrap().redeem(&token.0, PeerId([3; 32]), 1).unwrap(), Err(RedeemError::UsedUp));
        let for_a_friend = again.issue(TicketKind::Friend, 1, 100, 0).unwrap();
        assert_eq!(Invites::load(&path).unwrap().redeem(&for_a_friend.0, A, 1).unwrap(), Ok(TicketKind::Friend));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&data_encoding::HEXLOWER.encode(&token.0)));
    }

    #[test]
    fn the_table_is_bounded_and_expired_tokens_make_room() {
        let mut invites = Invites::in_memory();
        for _ in 0..MAX_OPEN {
            invites.issue(TicketKind::Guest, 1, 100, 0).unwrap();
        }
        assert!(matches!(invites.issue(TicketKind::Guest, 1, 100, 0), Err(InvitesError::TooMany)));
        for round in 1..4 {
            for _ in 0..MAX_OPEN {
                invites.issue(TicketKind::Guest, 1, 100 * (round + 1), 100 * round).unwrap();
            }
        }
        assert!(invites.open.len() <= 2 * MAX_OPEN);
    }
}
