//! node

pub mod net;
