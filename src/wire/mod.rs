//! Protobuf and the border: generated messages, and their bounded, validated conversion to protocol types.
//!
//! The only place that knows protobuf. What leaves it towards the protocol has been authenticated, bounded and parsed into
//! types that cannot be wrong; a breach is answered by a named rejection, never a panic.

/// What peers say to one another (`proto/manyhands/peer/v1/peer.proto`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod peer {
    tonic::include_proto!("manyhands.peer.v1");
}

/// The local API (`proto/manyhands/control/v1/control.proto`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod control {
    tonic::include_proto!("manyhands.control.v1");
}

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod bundle_pb {
    tonic::include_proto!("manyhands.bundle.v1");
}

pub mod bounds;

pub mod bundle;

pub mod manifest;

pub mod work;

mod chain;
mod checkpoint;
mod input;

pub mod receipt;

pub mod announce;

pub mod accusation;

pub mod kept;

pub mod keep;

pub mod sheaf;

pub mod read;

pub mod gossip;

pub mod progress;

pub mod number;

pub mod signing;

pub use bounds::Rejection;

/// The encoded descriptors of all packages, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
