//! The printable ticket: what one person pastes so that another machine can come to a grid.
//!
//! `mh1` and base32 without padding, so that it survives mail, chat and a change of case; blanks and line ends inside are
//! ignored. It says who invites, where to knock, and holds a one-sided token that the inviter exchanges for the grid's secret;
//! it never holds a secret that outlives the token. It carries its own length, so that a ticket that was cut is told from one
//! that was mistyped, and an absolute time of expiry (tickets are the only place where one travels).

use std::net::{IpAddr, SocketAddr};

use data_encoding::{Encoding, Specification};
use sha2::{Digest as _, Sha256};

use super::{
    contact::{Contact, read_v4, read_v6},
    limits::MAX_ADDRESSES,
};
use crate::protocol::ids::{GridId, PeerId};

const PREFIX: &str = "mh";
const VERSION: char = '1';
/// Peers that a ticket names at most.
pub const MAX_CONTACTS: usize = 8;
/// No honest ticket is longer, in bytes before base32: 100 and eight contacts of 33 + 8 * 19.
const MAX_BYTES: usize = 1600;
const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 2;

const FLAG_PRIVATE: u8 = 1;
const FLAG_OWN: u8 = 2;
const FLAG_FRIEND: u8 = 4;

/// Whom a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketKind {
    /// Somebody else's machine: it gets an invitation, and the grid's secret if the grid is private.
    Guest,
    /// A friend's machine: as a guest's, and its results are trusted by the inviter.
    Friend,
    /// Another device of the same owner: it gets the household's secret too.
    Own,
}

/// The token that the inviter exchanges; knowing it is all that a guest needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The grid to join.
    pub grid: GridId,
    /// Whether the grid has a secret, which the token is exchanged for.
    pub private: bool,
    /// Whom it is for.
    pub kind: TicketKind,
    /// Who issued it, and is to be asked.
    pub inviter: PeerId,
    /// To be shown to the inviter.
    pub token: Token,
    /// From this time on it is void, in seconds since 1970.
    pub expires_unix: u64,
    /// Peers to knock at, the inviter among them; at most [`MAX_CONTACTS`].
    pub contacts: Vec<(PeerId, Contact)>,
}

/// Why a text is not a usable ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin like one.
    #[error("this is not a ticket")]
    NotATicket,
    /// It ends too early.
    #[error("the ticket is cut: {found} of {expected} characters are there")]
    Cut {
        /// Characters that it should have; 0 when even its length is cut off.
        expected: usize,
        /// Characters that are there.
        found: usize,
    },
    /// A character is wrong somewhere.
    #[error("the ticket has a wrong character in it")]
    Checksum,
    /// A newer program wrote it.
    #[error("the ticket is of version {0}, which is newer than this program")]
    NewerVersion(char),
    /// Its time is over.
    #[error("the ticket expired {seconds_ago} seconds ago")]
    Expired {
        /// How long ago.
        seconds_ago: u64,
    },
}

impl TicketError {
    /// What the person who pasted it can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotATicket => "a ticket begins with mh1; ask for one made by: manyhands invite",
            Self::Cut { .. } => "copy the whole line; some programs wrap it",
            Self::Checksum => "copy and paste it, do not type it",
            Self::NewerVersion(_) => "update manyhands",
            Self::Expired { .. } => "ask for a new one; if it is new, check this machine's clock",
        }
    }
}

impl Ticket {
    /// The printable form; the same for the same ticket.
    pub fn encode(&self) -> String {
        let body = self.body();
        let length = u16::try_from(body.len()).expect("contacts and addresses are bounded");
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(&body);
        bytes.extend(checksum(&bytes));
        format!("{PREFIX}{VERSION}{}", alphabet().encode(&bytes))
    }

    /// Reads a printable ticket. Says nothing about its expiry: see [`Ticket::check_expiry`].
    ///
    /// # Errors
    /// When it is none, is cut, has a wrong character, or is of a newer version.
    pub fn decode(text: &str) -> Result<Self, TicketError> {
        let characters = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase());
        let text: String = characters.take(2 * MAX_BYTES).collect();
        let mut rest = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?.chars();
        match rest.next() {
            Some(VERSION) => {}
            Some(newer @ '2'..='9') => return Err(TicketError::NewerVersion(newer)),
            Some(_) => return Err(TicketError::NotATicket),
            None => return Err(TicketError::Cut { expected: 0, found: text.len() }),
        }
        let body = verified_body(rest.as_str(), text.len())?;
        // A right checksum over a wrong body takes somebody who computes it; to a person it is a mistyped ticket all the same.
        Self::parse(&body).ok_or(TicketError::Checksum)
    }

    /// Whether the ticket may still be used at `now_unix`, in seconds since 1970.
    ///
    /// # Errors
    /// When it has expired.
    pub fn check_expiry(&self, now_unix: u64) -> Result<(), TicketError> {
        match now_unix.checked_sub(self.expires_unix) {
            Some(seconds_ago) => Err(TicketError::Expired { seconds_ago }),
            None => Ok(()),
        }
    }

    fn body(&self) -> Vec<u8> {
        let kind = match self.kind {
            TicketKind::Guest => 0,
            TicketKind::Friend => FLAG_FRIEND,
            TicketKind::Own => FLAG_OWN,
        };
        let mut body = vec![kind | if self.private { FLAG_PRIVATE } else { 0 }];
        body.extend(self.grid.as_bytes());
        body.extend(self.inviter.as_bytes());
        body.extend(self.token.0);
        body.extend(self.expires_unix.to_be_bytes());
        let contacts = self.contacts.iter().take(MAX_CONTACTS);
        body.push(u8::try_from(contacts.len()).expect("at most eight"));
        for (peer, contact) in contacts {
            // The inviter's key is there already: its contact begins with a 0, another's with a 1 and the key.
            if *peer == self.inviter {
                body.push(0);
            } else {
                body.push(1);
                body.extend(peer.as_bytes());
            }
            push_addresses(&mut body, &contact.addresses);
        }
        body
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let [flags] = reader.array()?;
        let kind = match flags & !FLAG_PRIVATE {
            0 => TicketKind::Guest,
            FLAG_FRIEND => TicketKind::Friend,
            FLAG_OWN => TicketKind::Own,
            _ => return None,
        };
        let (grid, inviter) = (GridId(reader.array()?), PeerId(reader.array()?));
        let (token, expires_unix) = (Token(reader.array()?), u64::from_be_bytes(reader.array()?));
        let [count] = reader.array()?;
        if usize::from(count) > MAX_CONTACTS {
            return None;
        }
        let contacts = (0..count).map(|_| reader.contact(inviter)).collect::<Option<Vec<_>>>()?;
        reader.0.is_empty().then_some(Self { grid, private: flags & FLAG_PRIVATE != 0, kind, inviter, token, expires_unix, contacts })
    }
}

fn push_addresses(body: &mut Vec<u8>, addresses: &[SocketAddr]) {
    let addresses = addresses.iter().take(MAX_ADDRESSES);
    body.push(u8::try_from(addresses.len()).expect("at most eight"));
    for address in addresses {
        match address.ip() {
            IpAddr::V4(ip) => body.extend([&[4][..], &ip.octets()].concat()),
            IpAddr::V6(ip) => body.extend([&[6][..], &ip.octets()].concat()),
        }
        body.extend(address.port().to_be_bytes());
    }
}

/// Undoes base32 and checks length and checksum; `found` is the length of the whole text.
fn verified_body(text: &str, found: usize) -> Result<Vec<u8>, TicketError> {
    if text.bytes().any(|c| !c.is_ascii_lowercase() && !(b'2'..=b'7').contains(&c)) {
        return Err(TicketError::Checksum);
    }
    // A cut may leave a number of characters that no bytes encode to.
    let whole = match text.len() % 8 {
        1 | 3 | 6 => text.len() - 1,
        _ => text.len(),
    };
    let bytes = alphabet().decode(&text.as_bytes()[..whole]).map_err(|_| TicketError::Checksum)?;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Err(TicketError::Cut { expected: 0, found }) };
    let length = usize::from(u16::from_be_bytes(*length));
    let total = LENGTH_BYTES + length + CHECKSUM_BYTES;
    if total > MAX_BYTES {
        return Err(TicketError::Checksum);
    }
    let expected = PREFIX.len() + 1 + (total * 8).div_ceil(5);
    if found < expected {
        return Err(TicketError::Cut { expected, found });
    }
    let (body, sum) = rest.split_at_checked(length).ok_or(TicketError::Checksum)?;
    if found > expected || checksum(&bytes[..LENGTH_BYTES + length]) != *sum {
        return Err(TicketError::Checksum);
    }
    Ok(body.to_vec())
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new_with_prefix(b"manyhands.ticket.v1").chain_update(bytes).finalize();
    digest[..CHECKSUM_BYTES].try_into().expect("a digest is longer")
}

/// Lower-case base32 that tolerates the bits left over at a cut.
pub(super) fn alphabet() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.check_trailing_bits = false;
    specification.encoding().expect("a valid alphabet")
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn contact(&mut self, inviter: PeerId) -> Option<(PeerId, Contact)> {
        let peer = match self.array()? {
            [0] => inviter,
            [1] => PeerId(self.array()?),
            [_] => return None,
        };
        let [count] = self.array()?;
        if usize::from(count) > MAX_ADDRESSES {
            return None;
        }
        let addresses = (0..count).map(|_| self.address()).collect::<Option<Vec<_>>>()?;
        Some((peer, Contact::new(addresses)))
    }

    fn address(&mut self) -> Option<SocketAddr> {
        match self.array()? {
            [4] => read_v4(&self.array::<6>()?),
            [6] => read_v6(&self.array::<18>()?),
            [_] => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let contact = |a: &str| Contact::new([a.parse().unwrap(), "[2001:db8::7]:4433".parse().unwrap()]);
        Ticket {
            grid: GridId([3; 32]),
            private: true,
            kind: TicketKind::Own,
            inviter: PeerId([1; 32]),
            token: Token([9; 16]),
            expires_unix: 1_800_000_000,
            contacts: vec![(PeerId([1; 32]), contact("10.0.0.1:4433")), (PeerId([2; 32]), contact("203.0.113.9:1"))],
        }
    }

    #[test]
    fn a_ticket_comes_back_as_it_was() {
        let bare = Ticket { private: false, kind: TicketKind::Guest, contacts: vec![], ..ticket() };
        for ticket in [ticket(), bare] {
            let text = ticket.encode();
            assert_eq!(Ticket::decode(&text), Ok(ticket.clone()));
            assert_eq!(text, ticket.encode());
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric()), "one double click selects it");
        }
    }

    #[test]
    fn a_ticket_of_the_first_version_reads_for_ever() {
        let bare = Ticket { private: false, kind: TicketKind::Guest, contacts: vec![], ..ticket() };
        let golden = "mh1abnaaaydambqgaydambqgaydambqgaydambqgaydambqgaydambqgaydaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaib\
                      aeaqscijbeeqscijbeeqscijbeeqsaaaaaagwsosaaaohjzxr4";
        assert_eq!(bare.encode(), golden);
        assert_eq!(Ticket::decode(golden), Ok(bare));
    }

    #[test]
    fn wrapping_and_capitals_do_no_harm() {
        let text = ticket().encode().to_uppercase();
        let wrapped = format!("  {}\r\n {}\n", &text[..40], &text[40..]);
        assert_eq!(Ticket::decode(&wrapped), Ok(ticket()));
    }

    #[test]
    fn a_cut_ticket_is_recognised_as_cut_at_every_place() {
        let text = ticket().encode();
        for end in PREFIX.len()..text.len() {
            let error = Ticket::decode(&text[..end]).unwrap_err();
            assert!(matches!(error, TicketError::Cut { found, .. } if found == end), "cut at {end}: {error:?}");
        }
        assert!(matches!(Ticket::decode(&text[..100]), Err(TicketError::Cut { expected, .. }) if expected == text.len()));
    }

    #[test]
    fn one_wrong_character_is_noticed_wherever_it_is() {
        let text = ticket().encode();
        for at in 3..text.len() {
            for other in ['a', 'q', '0', '_'] {
                let mut wrong: Vec<char> = text.chars().collect();
                if wrong[at] == other {
                    continue;
                }
                wrong[at] = other;
                let decoded = Ticket::decode(&wrong.into_iter().collect::<String>());
                // The last character has bits that encode nothing.
                assert!(decoded.is_err() || at + 1 == text.len(), "{other} at {at}");
            }
        }
        assert_eq!(Ticket::decode(&format!("{text}aaaaaaaa")), Err(TicketError::Checksum));
    }

    #[test]
    fn what_is_no_ticket_says_so() {
        for text in ["", "hello", "m", "mhx", "https://example.org"] {
            assert_eq!(Ticket::decode(text), Err(TicketError::NotATicket), "{text}");
        }
        assert_eq!(Ticket::decode("mh2abc"), Err(TicketError::NewerVersion('2')));
    }

    #[test]
    fn an_expired_ticket_is_void() {
        assert_eq!(ticket().check_expiry(1_799_999_999), Ok(()));
        assert_eq!(ticket().check_expiry(1_800_000_005), Err(TicketError::Expired { seconds_ago: 5 }));
    }

    #[test]
    fn random_text_never_panics_and_is_never_a_ticket() {
        let mut seed = [7_u8; 32];
        for round in 0..3000_u32 {
            seed = Sha256::digest(seed).into();
            let noise = alphabet().encode(&[seed, Sha256::digest(seed).into()].concat()[..(round % 64) as usize]);
            assert!(Ticket::decode(&format!("mh1{noise}")).is_err());
            assert!(Ticket::decode(&String::from_utf8_lossy(&seed)).is_err());
        }
    }

    #[test]
    fn a_right_checksum_over_nonsense_is_refused_without_a_panic() {
        let mut seed = [1_u8; 32];
        for round in 0..2000_usize {
            seed = Sha256::digest(seed).into();
            let mut body = ticket().body();
            body[usize::from(seed[0]) % 100] ^= seed[1];
            body.truncate(body.len() - round % 120);
            let mut bytes = (body.len() as u16).to_be_bytes().to_vec();
            bytes.extend(&body);
            bytes.extend(checksum(&bytes));
            drop(Ticket::decode(&format!("mh1{}", alphabet().encode(&bytes))));
        }
    }
}
