//! The printable read ticket: the author's permission to read a job's results, and who may have them.
//!
//! `mhr1` and base32 like a [`super::ticket`]. It holds no secret but itself: whoever has it may read, inside the grid. It names the
//! author and the keepers of the time when it was made.

use super::{
    contact::Contact,
    ticket::{TicketError, alphabet, checksum},
};
use crate::protocol::{
    ids::{JobId, PeerId},
    keeping::KEEPERS_MAX,
};

const PREFIX: &str = "mhr1";
/// The author and its keepers.
const HOLDERS_MAX: usize = 1 + KEEPERS_MAX as usize;
const CHECKSUM_BYTES: usize = 4;

/// What a read ticket says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadTicket {
    /// The job.
    pub job: JobId,
    /// Who submitted it.
    pub author: PeerId,
    /// Its permission, see [`crate::wire::read`].
    pub permission: [u8; 64],
    /// Its author and keepers, and where they were; at most four.
    pub holders: Vec<(PeerId, Contact)>,
}

impl ReadTicket {
    /// The ticket in a text that begins like one; none where it does not.
    ///
    /// # Errors
    /// It begins like one, and is cut or mistyped.
    pub fn of(text: &str) -> Result<Option<Self>, TicketError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        let Some(encoded) = text.strip_prefix(PREFIX) else { return Ok(None) };
        let bytes = alphabet().decode(encoded.as_bytes()).map_err(|_| TicketError::Checksum)?;
        let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TicketError::Checksum)?;
        let (body, sum) = bytes.split_at(body);
        if checksum(body) != sum {
            return Err(TicketError::Checksum);
        }
        Self::parse(body).map(Some).ok_or(TicketError::NotATicket)
    }

    /// The printable form.
    pub fn encode(&self) -> String {
        let mut body = [&self.job.0[..], &self.author.0, &self.permission].concat();
        for (peer, contact) in self.holders.iter().take(HOLDERS_MAX) {
            let contact = contact.encode();
            body.extend(peer.0);
            body.extend(u16::try_from(contact.len()).expect("a contact is bounded").to_be_bytes());
            body.extend(contact);
        }
        let sum = checksum(&body);
        body.extend(sum);
        format!("{PREFIX}{}", alphabet().encode(&body))
    }

    fn parse(mut body: &[u8]) -> Option<Self> {
        fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
            let (taken, rest) = body.split_first_chunk::<N>()?;
            *body = rest;
            Some(*taken)
        }
        let (job, author, permission) = (JobId(take(&mut body)?), PeerId(take(&mut body)?), take(&mut body)?);
        let mut holders = Vec::new();
        while !body.is_empty() {
            if holders.len() == HOLDERS_MAX {
                return None;
            }
            let peer = PeerId(take(&mut body)?);
            let length = usize::from(u16::from_be_bytes(take(&mut body)?));
            let (contact, rest) = body.split_at_checked(length)?;
            body = rest;
            holders.push((peer, Contact::decode(contact).ok()?));
        }
        Some(Self { job, author, permission, holders })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_ticket_survives_being_pasted_and_a_wrong_one_is_noticed() {
        let holders = vec![(PeerId([1; 32]), Contact::new(vec!["10.0.0.1:9".parse().unwrap()])), (PeerId([2; 32]), Contact::default())];
        let ticket = ReadTicket { job: JobId([7; 32]), author: PeerId([1; 32]), permission: [9; 64], holders };
        let text = ticket.encode();
        assert_eq!(ReadTicket::of(&text), Ok(Some(ticket.clone())));
        assert_eq!(ReadTicket::of(&format!(" {}\n{} ", &text[..40], text[40..].to_ascii_uppercase())), Ok(Some(ticket)));
        assert_eq!(ReadTicket::of(&text[..text.len() - 8]), Err(TicketError::Checksum));
        assert_eq!(ReadTicket::of(&text.replace(&text[20..24], "zzzz")), Err(TicketError::Checksum));
        for other in ["@last", "7f3a9", "mh1abc"] {
            assert_eq!(ReadTicket::of(other), Ok(None), "{other}");
        }
    }
}
