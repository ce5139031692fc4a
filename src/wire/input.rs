//! A unit's own input, as it comes with its lease.

use super::{
    bounds::{INLINE_BYTES_MAX, Rejection, at_most, digest},
    peer as pb,
};
use crate::protocol::{
    ids::Digest,
    job::{INPUT_BYTES_MAX, UNIT_NAME_BYTES_MAX},
};
use std::sync::Arc;

/// A unit's own input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitInput {
    /// Shown to the unit as `{name}`.
    pub name: String,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// How many.
    pub size: u64,
    /// The bytes when they travel inline; checked against the digest.
    pub inline: Option<Arc<[u8]>>,
}

pub(super) fn input_from(input: pb::UnitInput) -> Result<UnitInput, Rejection> {
    at_most("name of a unit", input.name.len(), UNIT_NAME_BYTES_MAX)?;
    let digest = digest("input", &input.digest)?;
    check_size("input", input.size, INPUT_BYTES_MAX)?;
    // An empty input is always inline; nothing else is empty inline.
    let inline = inline_from("inline input", !input.inline.is_empty() || input.size == 0, &input.inline)?;
    check_inline("inline input", inline, input.size, digest)?;
    Ok(UnitInput { name: input.name, digest, size: input.size, inline: inline.map(Arc::from) })
}

pub(super) fn input_to(input: UnitInput) -> pb::UnitInput {
    pb::UnitInput {
        name: input.name,
        digest: input.digest.0.to_vec().into(),
        size: input.size,
        inline: input.inline.map_or_else(bytes::Bytes::new, |inline| inline.to_vec().into()),
    }
}

pub(super) fn check_size(what: &'static str, found: u64, max: u64) -> Result<(), Rejection> {
    let as_usize = |size| usize::try_from(size).unwrap_or(usize::MAX);
    at_most(what, as_usize(found), as_usize(max))
}

pub(super) fn inline_from<'a>(what: &'static str, is_inline: bool, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Rejection> {
    at_most(what, bytes.len(), INLINE_BYTES_MAX)?;
    match (is_inline, bytes.is_empty()) {
        (true, _) => Ok(Some(bytes)),
        (false, true) => Ok(None),
        (false, false) => Err(Rejection::Inconsistent { what, with: "the mark that there is none" }),
    }
}

pub(super) fn check_inline(what: &'static str, inline: Option<&[u8]>, size: u64, digest: Digest) -> Result<(), Rejection> {
    match inline {
        Some(bytes) if bytes.len() as u64 != size => Err(Rejection::Inconsistent { what, with: "its size" }),
        Some(bytes) if Digest::of(bytes) != digest => Err(Rejection::WrongDigest { what }),
        Some(_) | None => Ok(()),
    }
}
