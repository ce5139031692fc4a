//! A node: the shell around one [`protocol::Peer`](crate::protocol::peer::Peer).
//!
//! It performs actions in their order, decides nothing, and never awaits another peer while doing so: a full queue becomes an
//! event, and what takes time runs in tasks of its own whose results come back as events. One task owns all state
//! (`run_loop`); everybody else talks to it through a [`Handle`].

pub mod net;

mod options;

mod settings;

mod start;

mod drain;
mod handle;
mod leftovers;
mod mend;
mod upgrade;

mod run_loop;

mod perform;

mod border;

mod acquaintances;

mod streams;

mod look;

mod inputs;
mod outbox;
mod outputs;
mod runs;
mod saving;

mod disputes;

mod slots;

pub(crate) mod own_slot;

mod recheck;

mod kept;

pub(crate) mod keeping;

pub use handle::{Closed, Handle, NodeFacts};
pub use leftovers::Leftovers;
pub use options::NodeOptions;
pub(crate) use run_loop::Node;
pub use settings::{Settings, SettingsError};
pub use start::{NodeError, run};
