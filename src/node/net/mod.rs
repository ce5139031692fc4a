//! The transport between peers: gRPC over QUIC between public keys, with bounds on all that a stranger can make us do.
//!
//! It authenticates, bounds and delivers; it decides nothing. Every protocol decision (whom to connect to, when to try again,
//! what a message means) is the run loop's, which hears of everything through [`NetEvent`]s and asks through a [`NetHandle`]
//! without ever waiting.
//!
//! A connection's way, in the order of the files: [`endpoint`] (the socket), `accept` (the door) or `hello` (dialling and the
//! first call), `switchboard` (which peer has which link), `link` (one task per peer), `streams` and `reader` (what it carries),
//! [`event`] (what the run loop hears). Beside it: [`identity`], [`membership`], [`ticket`], [`invites`] and [`join`] (who
//! belongs), [`contact`] and `discovery` (where peers are), [`blobs`] and [`blob_server`] (bulk), [`limits`] (every bound).

mod accept;
pub mod blob_server;
pub mod blobs;
pub mod connector;
pub mod contact;
mod discovery;
pub mod endpoint;
pub mod event;
mod hello;
pub mod identity;
pub mod invites;
pub mod join;
pub mod limits;
mod link;
pub mod membership;
pub mod network;
pub mod nickname;
pub mod outbound;
pub mod private_file;
pub mod read_ticket;
mod reader;
mod service;
mod streams;
mod switchboard;
mod tasks;

pub mod ticket;

#[cfg(test)]
mod tests;

pub use blob_server::BlobSource;
pub use blobs::{BlobSink, FetchError, Fetched, Wanted};
pub use contact::{Contact, Source};
pub use endpoint::{EndpointConfig, NetEndpoint};
pub use event::{ConnectError, NetEvent, PeerHello, Side, StreamKind};
pub use identity::Identity;
pub use membership::{Membership, Secret};
pub use network::{Net, NetHandle, NetSetup};
pub use outbound::{Outbound, SendError};
pub use ticket::{Ticket, TicketKind};
