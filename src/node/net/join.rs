//! The guest's side of a ticket: asks the inviter to exchange its token for what a member needs.

use prost::Message as _;
use tokio::time::timeout;
use tonic::Code;

use super::{
    connector::{CloseCode, Connect as _, client},
    contact::AddressBook,
    contact::{Contact, Source},
    endpoint::NetEndpoint,
    event::{ConnectError, printable},
    hello,
    limits::{CONNECT_TIMEOUT, MAX_JOIN_CONTACTS},
    membership::{Invitation, Membership, Secret},
    switchboard::unix_now,
    ticket::{Ticket, TicketError, TicketKind},
};
use crate::{protocol::ids::PeerId, wire::peer as pb};

/// What a redeemed ticket gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// To be kept in a private file and given to the network from now on.
    pub membership: Membership,
    /// Peers to begin with.
    pub contacts: Vec<(PeerId, Contact)>,
}

/// Why a ticket could not be redeemed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is void without asking anybody.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The inviter cannot be reached.
    #[error("cannot reach the inviter; its machine has to be on: {0}")]
    Unreachable(ConnectError),
    /// The inviter refused.
    #[error("the inviter refused: {0}")]
    Refused(String),
    /// The inviter's answer lacks what the ticket promised, or is malformed.
    #[error("the inviter's answer is not valid: {0}")]
    Malformed(&'static str),
}

/// Redeems `ticket` with its inviter. `household` is this machine's household so far, which a guest keeps and an own device
/// exchanges for its owner's.
///
/// # Errors
/// When the ticket is void, or the inviter cannot be reached, refuses or answers nonsense.
pub async fn redeem(endpoint: &NetEndpoint, ticket: &Ticket, household: Option<Secret>) -> Result<Joined, JoinError> {
    ticket.check_expiry(unix_now())?;
    let mut book = AddressBook::new(endpoint.lookup.clone(), endpoint.loopback());
    for (peer, contact) in &ticket.contacts {
        book.learn(*peer, contact, Source::Itself);
    }
    let connection = hello::connect(endpoint, ticket.inviter).await.map_err(JoinError::Unreachable)?;
    let request = pb::JoinRequest { token: ticket.token.0.to_vec().into() };
    let mut client = client(connection.channel());
    let answered = timeout(CONNECT_TIMEOUT, client.join(request)).await;
    let judged = match answered {
        Err(_) => Err(JoinError::Unreachable(ConnectError::TimedOut)),
        Ok(Err(status)) => Err(refused(&connection, &status)),
        Ok(Ok(response)) => accept(endpoint.peer(), ticket, household, response.get_ref()),
    };
    connection.close(CloseCode::Unused);
    judged
}

fn refused(connection: &super::connector::PeerConnection, status: &tonic::Status) -> JoinError {
    match status.code() {
        Code::NotFound | Code::OutOfRange | Code::AlreadyExists => JoinError::Refused(printable(status.message())),
        _other => JoinError::Unreachable(hello::call_failed(connection, status)),
    }
}

fn accept(guest: PeerId, ticket: &Ticket, household: Option<Secret>, answer: &pb::JoinResponse) -> Result<Joined, JoinError> {
    let secret = |bytes: &[u8], what| <[u8; 32]>::try_from(bytes).map(Secret::new).map_err(|_| JoinError::Malformed(what));
    let grid_secret = match ticket.private {
        true => Some(secret(&answer.grid_secret, "the grid's secret is missing")?),
        false => None,
    };
    let (household, invitation) = match ticket.kind {
        TicketKind::Own => (Some(secret(&answer.household_secret, "the household's secret is missing")?), None),
        TicketKind::Guest | TicketKind::Friend => {
            let sent = answer.invitation.as_ref().and_then(Invitation::parse);
            let valid = sent.filter(|it| it.inviter == ticket.inviter && it.admits(ticket.grid, guest));
            (household, Some(valid.ok_or(JoinError::Malformed("the invitation is missing or not valid"))?))
        }
    };
    let contacts = answer.contacts.iter().take(MAX_JOIN_CONTACTS).filter_map(|bytes| {
        let contact = pb::Contact::decode(&bytes[..]).ok()?;
        Some((PeerId::try_from(&contact.peer[..]).ok()?, Contact::decode(&contact.hint).ok()?))
    });
    let membership = Membership { grid: ticket.grid, grid_secret, household, invitation };
    Ok(Joined { membership, contacts: contacts.collect() })
}
