//! Behaviour of the coordinator's side.
