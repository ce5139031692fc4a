//! The local API of a node: gRPC on the loopback interface, and its client.
//!
//! The one thing that every face (command line, dashboard, other languages) uses. It decides nothing: what a call means is
//! the node's business, reached through the [`backend::Backend`] trait, so the server is tested with a fake one. It is no
//! way between peers; that is `node`.
//!
//! A call, read top to bottom: [`client`] → token → [`server`] → [`backend`] → the node; an error goes back as
//! [`error::ControlError`], which a gRPC status carries in full.

pub mod error;

pub mod backend;

pub mod submission;

pub mod reference;

pub mod endpoint;

pub mod server;

pub mod client;

pub mod node_backend;

pub mod verdict;

#[cfg(test)]
pub mod fake;

#[cfg(test)]
mod tests;
