//! What a node belongs to, kept in a private file: grid, secrets, invitation, and peers to begin with.

use super::net::{
    Contact, Membership, Secret,
    membership::{Invitation, PUBLIC_GRID},
    private_file::{self, PrivateFileError},
};
use crate::protocol::ids::{GridId, PeerId};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The most bytes of the file.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The most peers kept to begin with.
pub const CONTACTS_MAX: usize = 32;

/// What a node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Grid, household and invitation.
    pub membership: Membership,
    /// Peers to begin with, from tickets.
    pub contacts: Vec<(PeerId, Contact)>,
}

/// Why the settings could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is damaged.
    #[error("the file {path} is damaged: {cause}")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The operating system gave no randomness.
    #[error("no randomness for a secret: {0}")]
    NoRandomness(getrandom::Error),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    grid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grid_secret: Option<String>,
    household: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inviter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation: Option<String>,
    contacts: Vec<(String, String)>,
}

impl Settings {
    /// Where a node keeps them.
    pub fn path_in(data_dir: &Path) -> PathBuf {
        data_dir.join("settings.json")
    }

    /// Reads the file, or makes it: the public grid, or a new private one.
    pub fn load_or_create(path: &Path, private: bool) -> Result<Self, SettingsError> {
        if let Some(bytes) = private_file::read(path, FILE_BYTES_MAX)? {
            return Self::decode(&bytes).map_err(|cause| SettingsError::Damaged { path: path.display().to_string(), cause });
        }
        let mut membership = Membership::public();
        membership.household = Some(Secret::generate().map_err(SettingsError::NoRandomness)?);
        if private {
            let grid = Secret::generate().map_err(SettingsError::NoRandomness)?;
            membership.grid = GridId(*grid.expose());
            membership.grid_secret = Some(Secret::generate().map_err(SettingsError::NoRandomness)?);
        }
        let settings = Self { membership, contacts: Vec::new() };
        settings.save(path)?;
        Ok(settings)
    }

    /// Replaces the file.
    pub fn save(&self, path: &Path) -> Result<(), SettingsError> {
        Ok(private_file::replace(path, &self.encode())?)
    }

    /// Whether the grid is the public one.
    pub fn is_public(&self) -> bool {
        self.membership.grid == PUBLIC_GRID
    }

    /// Who invited this node, if anybody did: an anchor of its trust.
    pub fn inviter(&self) -> Option<PeerId> {
        self.membership.invitation.as_ref().map(|invitation| invitation.inviter)
    }

    fn encode(&self) -> Vec<u8> {
        let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
        let Membership { grid, grid_secret, household, invitation } = &self.membership;
        let contacts = self.contacts.iter().take(CONTACTS_MAX);
        let file = File {
            version: 1,
            grid: grid.to_string(),
            grid_secret: grid_secret.as_ref().map(|secret| hex(secret.expose())),
            household: household.as_ref().map(|secret| hex(secret.expose())).unwrap_or_default(),
            inviter: invitation.as_ref().map(|invitation| invitation.inviter.to_string()),
            invitation: invitation.as_ref().map(|invitation| hex(&invitation.signature)),
            contacts: contacts.map(|(peer, contact)| (peer.to_string(), hex(&contact.encode()))).collect(),
        };
        serde_json::to_vec_pretty(&file).expect("strings and numbers have a JSON form")
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.version != 1 {
            return Err(format!("version {} is not known to this program", file.version));
        }
        let grid = file.grid.parse().map_err(|error| format!("grid: {error}"))?;
        let household = Some(file.household).filter(|text| !text.is_empty());
        let invitation = match (file.inviter, file.invitation) {
            (Some(inviter), Some(signature)) => Some(Invitation {
                inviter: inviter.parse().map_err(|error| format!("inviter: {error}"))?,
                signature: unhex("invitation", &signature)?,
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err("half an invitation".into()),
        };
        let secret = |what, text: Option<String>| text.map(|text| unhex(what, &text).map(Secret::new)).transpose();
        let contact = |(peer, contact): (String, String)| {
            let peer = peer.parse().map_err(|error| format!("contact: {error}"))?;
            let bytes = HEXLOWER.decode(contact.as_bytes()).map_err(|error| format!("contact: {error}"))?;
            Ok((peer, Contact::decode(&bytes).map_err(|error| format!("contact: {error}"))?))
        };
        Ok(Self {
            membership: Membership {
                grid,
                grid_secret: secret("grid secret", file.grid_secret)?,
                household: secret("household", household)?,
                invitation,
            },
            contacts: file.contacts.into_iter().map(contact).collect::<Result<_, String>>()?,
        })
    }
}

fn unhex<const N: usize>(what: &str, text: &str) -> Result<[u8; N], String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|error| format!("{what}: {error}"))?;
    bytes.try_into().map_err(|_| format!("{what}: not {N} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        let mut settings = Settings::load_or_create(&path, true).unwrap();
        assert!(!settings.is_public());
        settings.contacts.push((PeerId([3; 32]), Contact::new(["10.0.0.1:7".parse().unwrap()])));
        settings.membership.invitation = Some(Invitation { inviter: PeerId([4; 32]), signature: [5; 64] });
        settings.save(&path).unwrap();
        assert_eq!(Settings::load_or_create(&path, false).unwrap(), settings, "the grid stays what it is");
        private_file::replace(&path, b"{\"version\":1}").unwrap();
        let error = Settings::load_or_create(&path, false).unwrap_err();
        assert!(error.to_string().contains("missing field"), "{error}");
    }
}
