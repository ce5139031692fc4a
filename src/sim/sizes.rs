//! How many bytes messages take on the wire. The simulator knows no encodings, so their sizes are stated here; a test compares each
//! with what `wire` really makes of such a message.
//!
//! Counted are the messages themselves: no frames, no encryption, no acknowledgements of packets, and of a work stream neither its
//! hello nor the description of a job.

use crate::protocol::{
    announce::{Announcement, Subject},
    fraud::{Evidence, Receipt},
    gossip::Message,
    ids::UnitIndex,
    outcome::{Outcome, Value},
    owner::Lease,
    worker::Outgoing,
};

/// A key or a digest with its tag and length.
const BYTES_32: usize = 34;
/// A token or the name of an announcement, as a field.
const BYTES_16: usize = 18;
/// A signature, as a field.
const SIGNATURE: usize = 66;

/// A number as it is encoded: seven bits to a byte.
fn number(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// A number as a field, left out when it is zero.
fn field(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + number(value) }
}

/// Something of this length as a field.
fn nested(bytes: usize) -> usize {
    1 + number(bytes as u64) + bytes
}

/// The same, left out when it is empty.
fn text(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { nested(bytes) }
}

fn millis(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A signed announcement, without its way and the rest of its life.
pub fn announcement(announcement: &Announcement) -> usize {
    let subject = match &announcement.subject {
        Subject::JobOpen(open) => {
            2 * BYTES_32
                + field(open.generation.into())
                + text(open.purpose.len())
                + open.tags.iter().map(|tag| nested(tag.len())).sum::<usize>()
                + field(open.memory_bytes)
                + field(open.open_units.into())
                + field(u64::from(open.priority.unsigned_abs()) * 2)
                + text(open.contact.len())
        }
        Subject::JobClosed { generation, .. } => BYTES_32 + field((*generation).into()),
        Subject::Capacity(capacity) => {
            field(capacity.slots.into())
                + field(capacity.memory_bytes)
                + text(capacity.validation_class.len())
                + field(capacity.idle_slots.into())
        }
        Subject::Accusation(accusation) => {
            let claims: usize = match &accusation.evidence {
                Evidence::Wrong(receipt) => claim(receipt),
                Evidence::Equivocation(first, second) => claim(first) + claim(second),
            };
            BYTES_32 + text(accusation.manifest.len()) + field(accusation.unit.0.into()) + claims
        }
    };
    let body = field(announcement.sequence) + field(millis(announcement.lifetime)) + nested(subject);
    BYTES_32 + nested(body) + SIGNATURE
}

/// A signed claim.
fn claim(receipt: &Receipt) -> usize {
    let Receipt { attempt, ordinal, value, output_bytes, proof } = receipt;
    nested(field(attempt.0.into()) + field((*ordinal).into()) + ended_in(value, *output_bytes) + text(proof.len()))
}

/// A value; how it exited takes a byte or two.
fn ended_in(value: &Value, output_bytes: u64) -> usize {
    nested(2 + BYTES_32 + field(value.gas) + field(output_bytes))
}

/// A gossip message; `signed` is the size of the announcement that it carries, if it carries one.
pub fn gossip(message: &Message, signed: usize) -> usize {
    let kind = match message {
        Message::Request { hint, urgent } => text(hint.len()) + if *urgent { 2 } else { 0 },
        Message::Accept { contacts }
        | Message::Refuse { contacts }
        | Message::Shuffle { contacts }
        | Message::ShuffleReply { contacts } => contacts.iter().map(|contact| nested(BYTES_32 + text(contact.hint.len()))).sum(),
        Message::Data { envelope, path } => {
            let repair = matches!(path, crate::protocol::gossip::Path::Repair);
            nested(signed) + field(millis(envelope.lifetime())) + if repair { 2 } else { 0 }
        }
        Message::IHave { ids } | Message::Graft { ids } | Message::Want { ids } => text(16 * ids.len()),
        Message::Prune => 0,
        Message::Probe(summary) => field(summary.count.into()) + 9,
        Message::Echo(None) => 0,
        Message::Echo(Some(window)) => nested(2 * BYTES_16 + text(16 * window.ids.len())),
    };
    nested(kind)
}

/// What a worker says about its window.
pub fn window(window: u32) -> usize {
    nested(field(window.into()))
}

/// A batch of outcomes.
pub fn outcomes(outcomes: &[Outgoing]) -> usize {
    let outcome = |outgoing: &Outgoing| {
        let finished = &outgoing.finished;
        let ended = match &finished.outcome {
            Outcome::Value(value) => ended_in(value, finished.output_bytes),
            Outcome::Failed(_) => 2,
        };
        let inline = finished.output.as_ref().map_or(0, |output| text(output.len()) + 2);
        nested(
            unit(outgoing.unit, outgoing.attempt.0, outgoing.ordinal)
                + ended
                + inline
                + text(finished.log.len())
                + field(millis(finished.wall)),
        )
    };
    // What failed is not signed.
    let signed = outcomes.iter().any(|outgoing| matches!(outgoing.finished.outcome, Outcome::Value(_)));
    nested(BYTES_32 + outcomes.iter().map(outcome).sum::<usize>() + if signed { SIGNATURE } else { 0 })
}

/// A batch of leases of a job whose units need no input of their own.
pub fn leases(leases: &[Lease]) -> usize {
    let lease = |lease: &Lease| nested(unit(lease.unit, lease.attempt.0, lease.ordinal) + field(millis(lease.duration)));
    nested(BYTES_32 + leases.iter().map(lease).sum::<usize>())
}

fn unit(unit: UnitIndex, attempt: u32, ordinal: u32) -> usize {
    field(unit.0.into()) + field(attempt.into()) + BYTES_16 + field(ordinal.into())
}

/// An acknowledgement of these units.
pub fn acknowledged(units: &[UnitIndex]) -> usize {
    nested(BYTES_32 + text(units.iter().map(|unit| number(unit.0.into())).sum()))
}

/// A revocation of a whole job.
pub fn revoked() -> usize {
    nested(BYTES_32)
}
