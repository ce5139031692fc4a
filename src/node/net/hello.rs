//! The first call on a connection: what we say about ourselves, and how what the other side says is judged.

use tokio::time::timeout;

use super::{
    connector::{CloseCode, Connect as _, PeerConnection, client},
    contact::{Contact, prefix},
    endpoint::NetEndpoint,
    event::{ConnectError, PeerHello, Side, printable},
    identity,
    limits::{CONNECT_TIMEOUT, MAX_CONTACT_BYTES, MAX_VERSION_BYTES},
    membership::{Membership, Refused, Shown},
};
use crate::{protocol::ids::PeerId, wire::peer as pb};

/// Who we are: what every Hello, ours or an answer, is made from.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) endpoint: NetEndpoint,
    pub(super) membership: Membership,
    pub(super) version: String,
}

/// Why a Hello is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0}")]
    Malformed(&'static str),
}

impl Local {
    pub(super) fn peer(&self) -> PeerId {
        self.endpoint.peer()
    }

    fn request(&self, to: PeerId) -> pb::HelloRequest {
        let membership = &self.membership;
        pb::HelloRequest {
            grid: membership.grid.as_bytes().to_vec().into(),
            grid_proof: membership.grid_proof(self.peer(), to).into(),
            own_proof: membership.own_proof(self.peer(), to).into(),
            invitation: membership.invitation.as_ref().map(super::membership::Invitation::to_wire),
            contact: self.endpoint.contact().encode().into(),
            version: self.version.clone(),
        }
    }

    /// Our answer to a Hello that was accepted.
    pub(super) fn response(&self, to: PeerId) -> pb::HelloResponse {
        let pb::HelloRequest { grid: _, grid_proof, own_proof, invitation, contact, version } = self.request(to);
        pb::HelloResponse { grid_proof, own_proof, invitation, contact, version }
    }

    /// Judges the Hello of a peer that dialled us.
    pub(super) fn judge_request(&self, connection: &PeerConnection, said: &pb::HelloRequest) -> Result<PeerHello, HelloError> {
        if said.grid[..] != self.membership.grid.as_bytes()[..] {
            return Err(Refused::AnotherGrid.into());
        }
        let shown = Shown { grid: &said.grid_proof, own: &said.own_proof, invitation: said.invitation.as_ref() };
        self.judge(connection, shown, (&said.contact, &said.version), Side::Them)
    }

    fn judge(&self, from: &PeerConnection, shown: Shown<'_>, said: (&[u8], &str), dialled_by: Side) -> Result<PeerHello, HelloError> {
        let (contact, version) = said;
        if contact.len() > MAX_CONTACT_BYTES || version.len() > MAX_VERSION_BYTES {
            return Err(HelloError::Malformed("a field of the greeting is too long"));
        }
        let contact = Contact::decode(contact).map_err(|_| HelloError::Malformed("the contact in the greeting is malformed"))?;
        let standing = self.membership.judge(from.peer(), self.peer(), shown)?;
        Ok(PeerHello {
            own: standing.own,
            lineage: standing.lineage,
            prefix: from.remote_address().as_ref().and_then(prefix),
            contact,
            version: printable(version),
            dialled_by,
        })
    }

    /// Connects to `peer`, says Hello and judges the answer. A connection that fails any step is closed.
    pub(super) async fn dial(&self, peer: PeerId) -> Result<(PeerConnection, PeerHello), ConnectError> {
        let connection = connect(&self.endpoint, peer).await?;
        let greeted = timeout(CONNECT_TIMEOUT, self.greet(&connection)).await.unwrap_or(Err(ConnectError::TimedOut));
        if greeted.is_err() {
            connection.close(CloseCode::Refused);
        }
        greeted.map(|hello| (connection, hello))
    }

    async fn greet(&self, connection: &PeerConnection) -> Result<PeerHello, ConnectError> {
        let mut client = client(connection.channel());
        let answer = client.hello(self.request(connection.peer())).await.map_err(|status| call_failed(connection, &status))?.into_inner();
        let shown = Shown { grid: &answer.grid_proof, own: &answer.own_proof, invitation: answer.invitation.as_ref() };
        self.judge(connection, shown, (&answer.contact, &answer.version), Side::Us).map_err(|error| match error {
            HelloError::Refused(refused) => ConnectError::RefusedByUs(refused),
            HelloError::Malformed(what) => ConnectError::Malformed(what),
        })
    }
}

/// A QUIC connection to `peer`, authenticated but without a Hello.
pub(super) async fn connect(endpoint: &NetEndpoint, peer: PeerId) -> Result<PeerConnection, ConnectError> {
    let key = identity::public_key(peer).map_err(|_| ConnectError::NotAKey)?;
    if peer == endpoint.peer() {
        return Err(ConnectError::Ourselves);
    }
    let dialled = timeout(CONNECT_TIMEOUT, endpoint.quic.connect(key, super::connector::ALPN)).await;
    let connection =
        dialled.map_err(|_| ConnectError::TimedOut)?.map_err(|error| ConnectError::Unreachable(printable(&format!("{error:#}"))))?;
    Ok(PeerConnection::new(connection))
}

/// Tells a refusal from a connection that broke.
pub(super) fn call_failed(connection: &PeerConnection, status: &tonic::Status) -> ConnectError {
    use tonic::Code;
    if let Some(reason) = connection.quic().close_reason() {
        return ConnectError::Unreachable(printable(&reason.to_string()));
    }
    match status.code() {
        Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::NotFound
        | Code::Unauthenticated
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::Unimplemented => ConnectError::RefusedByPeer(printable(status.message())),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => ConnectError::Unreachable(printable(status.message())),
    }
}
