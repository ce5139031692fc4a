//! Announcements as bytes, and their author's signature.
//!
//! Gossip passes a [`SignedAnnouncement`] on without looking inside; it is verified before it is forwarded and read by those
//! whom it interests. The signature covers the grid, so that nothing is carried from one grid to another.

use super::{
    accusation,
    bounds::{Rejection, SIGNATURE_BYTES, at_most, digest, few, fixed, job_id, peer_id},
    manifest::narrow_priority,
    peer as pb, signing,
};
use crate::protocol::{
    announce::{ANNOUNCEMENT_BYTES_MAX, Announcement, Capacity, JobOpen, LIFETIME_MAX, Subject},
    ids::{Digest, GridId, PeerId},
    job::TAGS_MAX,
};
use core::time::Duration;
use iroh::SecretKey;
use prost::Message as _;
use std::sync::Arc;

const CONTEXT: &[u8] = b"manyhands.announcement.v1";
const ID: &[u8] = b"manyhands.announcement.id.v1";
const WHAT: &str = "announcement";

/// An announcement as it travels. Nothing is known about its signature and content until they are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedAnnouncement {
    /// Who is said to have made it.
    pub author: PeerId,
    /// The encoded announcement, at most [`ANNOUNCEMENT_BYTES_MAX`].
    pub body: Arc<[u8]>,
    /// The author's signature on grid and body.
    pub signature: [u8; SIGNATURE_BYTES],
}

impl SignedAnnouncement {
    /// Signs an announcement. Fails when it is not sensible.
    pub fn sign(author: &SecretKey, grid: GridId, announcement: &Announcement) -> Result<Self, Rejection> {
        announcement.check()?;
        let body: Arc<[u8]> = to_pb(announcement).encode_to_vec().into();
        at_most(WHAT, body.len(), ANNOUNCEMENT_BYTES_MAX)?;
        let signature = signing::sign(author, &[CONTEXT, grid.as_bytes(), &body]);
        Ok(Self { author: signing::peer_of(author), body, signature })
    }

    /// By which it is known to gossip: derived from author and body, never sent.
    pub fn id(&self) -> Digest {
        Digest::of_parts(&[ID, self.author.as_bytes(), &self.body])
    }

    /// Checks that its author made it for this grid.
    pub fn verify(&self, grid: GridId) -> Result<(), Rejection> {
        signing::verify(WHAT, self.author, &[CONTEXT, grid.as_bytes(), &self.body], &self.signature)
    }

    /// Reads what it says. Costs less than [`verify`](Self::verify), and says nothing about the signature.
    pub fn decode(&self) -> Result<Announcement, Rejection> {
        let message = pb::Announcement::decode(&*self.body).map_err(|source| Rejection::Undecodable { what: WHAT, source })?;
        let announcement = from_pb(message)?;
        // One form only: otherwise each neighbour could be told the same thing under another id.
        if to_pb(&announcement).encode_to_vec() == *self.body { Ok(announcement) } else { Err(Rejection::NotCanonical { what: WHAT }) }
    }
}

impl TryFrom<pb::SignedAnnouncement> for SignedAnnouncement {
    type Error = Rejection;

    fn try_from(message: pb::SignedAnnouncement) -> Result<Self, Rejection> {
        at_most(WHAT, message.body.len(), ANNOUNCEMENT_BYTES_MAX)?;
        Ok(Self {
            author: peer_id("author", &message.author)?,
            body: Arc::from(&*message.body),
            signature: fixed("signature", &message.signature)?,
        })
    }
}

impl From<&SignedAnnouncement> for pb::SignedAnnouncement {
    fn from(signed: &SignedAnnouncement) -> Self {
        Self { author: signed.author.0.to_vec().into(), body: signed.body.to_vec().into(), signature: signed.signature.to_vec().into() }
    }
}

fn to_pb(announcement: &Announcement) -> pb::Announcement {
    use pb::announcement::Subject as Pb;
    pb::Announcement {
        sequence: announcement.sequence,
        lifetime_ms: u32::try_from(announcement.lifetime.as_millis()).unwrap_or(u32::MAX),
        subject: Some(match &announcement.subject {
            Subject::JobOpen(open) => Pb::JobOpen(pb::JobOpen {
                job: open.job.0.to_vec().into(),
                generation: open.generation,
                module: open.module.0.to_vec().into(),
                purpose: open.purpose.clone(),
                tags: open.tags.clone(),
                memory_bytes: open.memory_bytes,
                open_units: open.open_units,
                priority: open.priority.into(),
                contact: open.contact.clone().into(),
            }),
            Subject::JobClosed { job, generation } => Pb::JobClosed(pb::JobClosed { job: job.0.to_vec().into(), generation: *generation }),
            Subject::Capacity(capacity) => Pb::Capacity(pb::Capacity {
                slots: capacity.slots,
                memory_bytes: capacity.memory_bytes,
                validation_class: capacity.validation_class.clone(),
                idle_slots: capacity.idle_slots,
            }),
            Subject::Accusation(accusation) => Pb::Accusation(accusation::to_pb(accusation)),
        }),
    }
}

fn from_pb(message: pb::Announcement) -> Result<Announcement, Rejection> {
    use pb::announcement::Subject as Pb;
    let subject = match message.subject.ok_or(Rejection::Missing { what: "subject" })? {
        Pb::JobOpen(open) => {
            few("tags", open.tags.len(), TAGS_MAX)?;
            Subject::JobOpen(JobOpen {
                job: job_id(&open.job)?,
                generation: open.generation,
                module: digest("module", &open.module)?,
                purpose: open.purpose,
                tags: open.tags,
                memory_bytes: open.memory_bytes,
                open_units: open.open_units,
                priority: narrow_priority(open.priority)?,
                contact: open.contact.to_vec(),
            })
        }
        Pb::JobClosed(closed) => Subject::JobClosed { job: job_id(&closed.job)?, generation: closed.generation },
        Pb::Capacity(capacity) => Subject::Capacity(Capacity {
            slots: capacity.slots,
            memory_bytes: capacity.memory_bytes,
            validation_class: capacity.validation_class,
            idle_slots: capacity.idle_slots,
        }),
        Pb::Accusation(accusation) => Subject::Accusation(accusation::from_pb(accusation)?.into()),
    };
    let announcement = Announcement { sequence: message.sequence, lifetime: Duration::from_millis(message.lifetime_ms.into()), subject };
    announcement.check()?;
    Ok(announcement)
}

// A lifetime must fit the field that carries it.
const _: () = assert!(LIFETIME_MAX.as_millis() <= u32::MAX as u128);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{announce::AnnouncementError, ids::JobId};

    const GRID: GridId = GridId([5; 32]);

    fn open() -> JobOpen {
        JobOpen {
            job: JobId([1; 32]),
            generation: 2,
            module: Digest([3; 32]),
            purpose: "to count".into(),
            tags: vec!["maths".into()],
            memory_bytes: 1 << 20,
            open_units: 99,
            priority: -4,
            contact: vec![1, 2, 3],
        }
    }

    fn announcement(subject: Subject) -> Announcement {
        Announcement { sequence: 17, lifetime: Duration::from_secs(60), subject }
    }

    #[test]
    fn what_is_signed_arrives_and_is_bound_to_grid_and_author() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let capacity = Capacity { slots: 4, memory_bytes: 1 << 30, validation_class: "wasmtime-48".into(), idle_slots: 1 };
        for subject in [Subject::JobOpen(open()), Subject::JobClosed { job: JobId([1; 32]), generation: 3 }, Subject::Capacity(capacity)] {
            let signed = SignedAnnouncement::sign(&key, GRID, &announcement(subject.clone())).unwrap();
            let arrived = SignedAnnouncement::try_from(pb::SignedAnnouncement::from(&signed)).unwrap();
            assert_eq!(arrived, signed);
            assert_eq!(arrived.verify(GRID), Ok(()));
            assert_eq!(arrived.decode(), Ok(announcement(subject)));
            let bad = Err(Rejection::BadSignature { what: WHAT });
            assert_eq!(arrived.verify(GridId([6; 32])), bad);
            let stolen = SignedAnnouncement { author: signing::peer_of(&SecretKey::from_bytes(&[2; 32])), ..arrived.clone() };
            assert_eq!(stolen.verify(GRID), bad);
            assert_ne!(stolen.id(), arrived.id());
        }
    }

    #[test]
    fn breaches_are_named() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let long = JobOpen { contact: vec![0; 257], ..open() };
        let too_long = AnnouncementError::TooLong { what: "contact", found: 257, max: 256 };
        assert_eq!(SignedAnnouncement::sign(&key, GRID, &announcement(Subject::JobOpen(long))), Err(Rejection::Announcement(too_long)));
        let decode = |body: Vec<u8>| SignedAnnouncement { author: PeerId([0; 32]), body: body.into(), signature: [0; 64] }.decode();
        assert_eq!(decode(vec![]), Err(Rejection::Missing { what: "subject" }));
        let mut body = to_pb(&announcement(Subject::JobOpen(open()))).encode_to_vec();
        body.extend([0xf8, 0x01, 0x01]);
        assert_eq!(decode(body), Err(Rejection::NotCanonical { what: WHAT }));
        let oversized = pb::SignedAnnouncement { body: vec![0; 2049].into(), ..Default::default() };
        assert_eq!(SignedAnnouncement::try_from(oversized), Err(Rejection::TooLong { what: WHAT, found: 2049, max: 2048 }));
    }
}
