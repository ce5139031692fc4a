//! Invitations and joining.

use super::NodeBackend;
use crate::{
    control::{
        backend::Reply,
        error::{ControlError, Kind},
    },
    node::{
        Handle, Settings, SettingsError,
        net::{
            Contact, Membership, Source, Ticket, TicketKind,
            invites::{InvitesError, MAX_USES},
            join::JoinError,
            network::InviteError,
            nickname::nickname,
            ticket::TicketError,
        },
    },
    protocol::ids::PeerId,
    wire::control::{CreateInviteRequest, CreateInviteResponse, InviteKind, JoinGridResponse},
};
use std::time::{Duration, UNIX_EPOCH};

impl NodeBackend {
    pub(super) async fn make_ticket(&self, request: CreateInviteRequest) -> Reply<CreateInviteResponse> {
        if !request.read_job.is_empty() {
            let ticket = self.read_ticket(&request.read_job).await?;
            return Ok(CreateInviteResponse { ticket, ..CreateInviteResponse::default() });
        }
        let kind = match request.kind() {
            InviteKind::Own => TicketKind::Own,
            InviteKind::Friend => TicketKind::Friend,
            InviteKind::Guest | InviteKind::Unspecified => TicketKind::Guest,
        };
        // "Any number of times" has a bound: what was redeemed is kept in a table.
        let uses = if request.uses == 0 { MAX_USES } else { request.uses.min(MAX_USES) };
        let net = self.handle().await?.net;
        let ticket = net.invite(kind, uses, Duration::from_millis(request.valid_ms)).await.map_err(not_invited)?;
        Ok(CreateInviteResponse { ticket: ticket.encode(), valid_ms: request.valid_ms, uses })
    }

    pub(super) async fn redeem(&self, text: &str) -> Reply<JoinGridResponse> {
        let ticket = Ticket::decode(text).map_err(not_a_ticket)?;
        let _one_at_a_time = self.0.joining.lock().await;
        let handle = self.handle().await?;
        if ticket.inviter == handle.facts.me {
            let error = ControlError::new(Kind::Usage, "OWN_TICKET", "this ticket was made by this very node");
            return Err(error.hint("paste it on the other machine: manyhands join TICKET"));
        }
        let before = &handle.settings.membership;
        let grid_changed = before.grid != ticket.grid;
        if let Err(error) = ticket.check_expiry(unix_now()) {
            return if belongs_already(before, &ticket) { Ok(answer(&ticket, false)) } else { Err(not_a_ticket(error)) };
        }
        let joined = handle.net.redeem(&ticket).await.map_err(|error| not_joined(error, &ticket))?;
        let known = if grid_changed { &[][..] } else { &handle.settings.contacts[..] };
        let contacts = merge_contacts(&[&ticket.contacts, &joined.contacts, known]);
        let anew = joined.membership != *before;
        let settings = Settings { membership: joined.membership, contacts };
        introduce(&handle, &settings.contacts, anew);
        keep(handle, settings, anew).await?;
        if anew {
            self.handle().await?;
        }
        Ok(answer(&ticket, grid_changed))
    }
}

/// Saves the settings, and begins the node anew if it belongs elsewhere now. Both happen even if the caller goes away.
async fn keep(handle: Handle, settings: Settings, anew: bool) -> Reply<()> {
    let path = Settings::path_in(&handle.facts.data_dir);
    let save = move || {
        settings.save(&path)?;
        if anew {
            handle.restart();
        }
        Ok::<(), SettingsError>(())
    };
    let saved = tokio::task::spawn_blocking(save).await;
    let saved = saved.map_err(|error| ControlError::new(Kind::Internal, "SETTINGS", error.to_string()))?;
    saved.map_err(|error| ControlError::new(Kind::Internal, "SETTINGS", "the new grid cannot be kept").cause(error.to_string()))
}

/// Lets a node that stays as it is know of new peers.
fn introduce(handle: &Handle, contacts: &[(PeerId, Contact)], anew: bool) {
    if anew {
        return;
    }
    for (peer, contact) in contacts {
        let told = handle.net.learn(*peer, contact.clone(), Source::Itself).and_then(|()| handle.net.connect(*peer));
        told.unwrap_or_else(|error| tracing::debug!(peer = %peer.short(), %error, "not introduced"));
    }
}

/// Each peer once, with what the first list says of it.
fn merge_contacts(lists: &[&[(PeerId, Contact)]]) -> Vec<(PeerId, Contact)> {
    const CONTACTS_MAX: usize = 32;
    let mut merged: Vec<(PeerId, Contact)> = Vec::new();
    for (peer, contact) in lists.iter().copied().flatten() {
        if merged.len() < CONTACTS_MAX && merged.iter().all(|(known, _)| known != peer) {
            merged.push((*peer, contact.clone()));
        }
    }
    merged
}

/// Whether everything that the ticket can give is there.
fn belongs_already(membership: &Membership, ticket: &Ticket) -> bool {
    let invited = membership.invitation.as_ref().is_some_and(|invitation| invitation.inviter == ticket.inviter);
    ticket.kind == TicketKind::Guest && membership.grid == ticket.grid && (ticket.private || invited)
}

fn answer(ticket: &Ticket, grid_changed: bool) -> JoinGridResponse {
    let kind = match ticket.kind {
        TicketKind::Guest => InviteKind::Guest,
        TicketKind::Own => InviteKind::Own,
        TicketKind::Friend => InviteKind::Friend,
    };
    JoinGridResponse {
        grid: ticket.grid.to_string(),
        inviter: ticket.inviter.to_string(),
        inviter_nickname: nickname(ticket.inviter),
        kind: kind.into(),
        grid_changed,
    }
}

fn unix_now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

fn not_a_ticket(error: TicketError) -> ControlError {
    let (kind, reason) = match error {
        TicketError::Expired { .. } => (Kind::Denied, "TICKET_EXPIRED"),
        TicketError::Cut { .. } => (Kind::Usage, "TICKET_CUT"),
        TicketError::NotATicket | TicketError::Checksum => (Kind::Usage, "BAD_TICKET"),
        TicketError::NewerVersion(_) => (Kind::Usage, "TICKET_NEWER"),
    };
    ControlError::new(kind, reason, error.to_string()).hint(error.hint())
}

fn not_joined(error: JoinError, ticket: &Ticket) -> ControlError {
    let inviter = nickname(ticket.inviter);
    match error {
        JoinError::Ticket(error) => not_a_ticket(error),
        JoinError::Unreachable(cause) => {
            let text = format!("cannot reach {inviter}, who made this ticket");
            ControlError::new(Kind::Unreachable, "INVITER_UNREACHABLE", text)
                .cause(cause.to_string())
                .hint("its machine has to be on: manyhands up")
                .hint("both machines need a way to one another: the same network, or an open UDP port")
        }
        JoinError::Refused(cause) => {
            let error = ControlError::new(Kind::Denied, "TICKET_REFUSED", format!("{inviter} refuses this ticket")).cause(cause);
            error.hint("ask for a new one: manyhands invite")
        }
        JoinError::Malformed(cause) => {
            let text = format!("{inviter} answers something that makes no sense");
            ControlError::new(Kind::Internal, "BAD_ANSWER", text).cause(cause).hint("both machines should have the same version")
        }
    }
}

fn not_invited(error: InviteError) -> ControlError {
    let made = |kind, reason| ControlError::new(kind, reason, "no ticket can be made").cause(error.to_string());
    match &error {
        InviteError::Invites(InvitesError::TooMany) => made(Kind::Exhausted, "TOO_MANY_TICKETS"),
        InviteError::Invites(InvitesError::File(_) | InvitesError::Malformed { .. } | InvitesError::Randomness(_)) => {
            made(Kind::Internal, "TICKETS")
        }
        InviteError::NoHousehold => made(Kind::Conflict, "NO_HOUSEHOLD"),
        InviteError::ShuttingDown => super::not_running(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::net::ticket::Token;

    #[test]
    fn a_ticket_that_is_none_says_what_to_do() {
        let cut = not_a_ticket(Ticket::decode("mh1aaaa").expect_err("cut"));
        assert_eq!((cut.kind, cut.reason.as_ref()), (Kind::Usage, "TICKET_CUT"));
        let expired = not_a_ticket(TicketError::Expired { seconds_ago: 9 });
        assert_eq!((expired.kind, expired.reason.as_ref(), expired.hints.len()), (Kind::Denied, "TICKET_EXPIRED", 1));
    }

    #[test]
    fn an_expired_ticket_of_our_own_private_grid_changes_nothing() {
        let grid = crate::protocol::ids::GridId([3; 32]);
        let ticket = |kind| Ticket {
            grid,
            private: true,
            kind,
            inviter: PeerId([4; 32]),
            token: Token([5; 16]),
            expires_unix: 1,
            contacts: Vec::new(),
        };
        let mut membership = Membership::public();
        assert!(!belongs_already(&membership, &ticket(TicketKind::Guest)));
        membership.grid = grid;
        assert!(belongs_already(&membership, &ticket(TicketKind::Guest)));
        assert!(!belongs_already(&membership, &ticket(TicketKind::Own)), "it may give the household's secret");
    }

    #[test]
    fn contacts_are_merged_without_repetition() {
        let at = |port| Contact::new([std::net::SocketAddr::from(([10, 0, 0, 1], port))]);
        let (a, b) = (PeerId([1; 32]), PeerId([2; 32]));
        assert_eq!(merge_contacts(&[&[(a, at(1))], &[(a, at(2)), (b, at(3))]]), [(a, at(1)), (b, at(3))]);
    }
}
