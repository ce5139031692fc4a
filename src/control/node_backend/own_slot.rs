//! A slot for its owner's own business on this machine, see `node`.

pub(super) use crate::node::own_slot::{OwnSlot, load};
