//! Gossip messages as types that cannot be wrong, and their conversion from and to protobuf.
//!
//! An announcement inside is verified here, before the gossip machine sees it: nothing unsigned is ever forwarded.

use super::{
    announce::SignedAnnouncement,
    bounds::{Rejection, SIGNATURE_BYTES, at_most, few, fixed, peer_id},
    peer as pb,
};
use crate::protocol::{
    announce::ANNOUNCEMENT_BYTES_MAX,
    gossip::{
        Contact, Envelope, Garbage, MAX_CONTACTS, MAX_HINT, MAX_IDS, MAX_LIFETIME, MAX_WINDOW, Message, MessageId, Path, Summary, Window,
    },
    ids::GridId,
};
use core::time::Duration;
use std::sync::Arc;

const ID_BYTES: usize = 16;

// An announcement with its signature must fit an envelope.
const _: () = assert!(ANNOUNCEMENT_BYTES_MAX + SIGNATURE_BYTES <= crate::protocol::gossip::MAX_BODY);

/// Seals a signed announcement for the gossip machine: its body is the signature, then what was signed.
pub fn seal(signed: &SignedAnnouncement, lifetime: Duration) -> Result<Envelope, Garbage> {
    let body: Vec<u8> = signed.signature.iter().chain(signed.body.iter()).copied().collect();
    Envelope::new(signed.author, body, lifetime)
}

/// The announcement in an envelope. Every envelope was made by [`seal`] or [`read`], so it has a signature in front.
pub fn unseal(envelope: &Envelope) -> Result<SignedAnnouncement, Rejection> {
    let body = envelope.body();
    let (signature, signed) = body.split_at_checked(SIGNATURE_BYTES).ok_or(Rejection::Missing { what: "signature" })?;
    Ok(SignedAnnouncement { author: envelope.author(), body: Arc::from(signed), signature: fixed("signature", signature)? })
}

/// Reads a neighbour's message; an announcement in it must be signed for `grid`.
pub fn read(message: pb::GossipMessage, grid: GridId) -> Result<Message, Rejection> {
    use pb::gossip_message::Kind;
    Ok(match message.kind.ok_or(Rejection::Missing { what: "kind of message" })? {
        Kind::Request(request) => Message::Request { hint: hint(&request.hint)?, urgent: request.urgent },
        Kind::Accept(contacts) => Message::Accept { contacts: contacts_from(&contacts)? },
        Kind::Refuse(contacts) => Message::Refuse { contacts: contacts_from(&contacts)? },
        Kind::Shuffle(contacts) => Message::Shuffle { contacts: contacts_from(&contacts)? },
        Kind::ShuffleReply(contacts) => Message::ShuffleReply { contacts: contacts_from(&contacts)? },
        Kind::Data(data) => data_from(data, grid)?,
        Kind::Ihave(ids) => Message::IHave { ids: ids_from("ids", &ids.ids, MAX_IDS)? },
        Kind::Graft(ids) => Message::Graft { ids: ids_from("ids", &ids.ids, MAX_IDS)? },
        Kind::Want(ids) => Message::Want { ids: ids_from("ids", &ids.ids, MAX_IDS)? },
        Kind::Prune(pb::GossipPrune {}) => Message::Prune,
        Kind::Probe(summary) => Message::Probe(Summary { count: summary.count, fold: summary.fold }),
        Kind::Echo(echo) => Message::Echo(echo.window.map(|window| window_from(&window)).transpose()?),
    })
}

fn data_from(data: pb::GossipData, grid: GridId) -> Result<Message, Rejection> {
    let signed = SignedAnnouncement::try_from(data.announcement.ok_or(Rejection::Missing { what: "announcement" })?)?;
    signed.verify(grid)?;
    let lifetime = Duration::from_millis(data.lifetime_ms.into());
    // No longer than its author allowed, whatever the neighbour says.
    let lifetime = lifetime.min(signed.decode()?.lifetime).min(MAX_LIFETIME);
    let too_long = |_| Rejection::TooLong { what: "announcement", found: signed.body.len(), max: ANNOUNCEMENT_BYTES_MAX };
    let envelope = seal(&signed, lifetime).map_err(too_long)?;
    Ok(Message::Data { envelope, path: if data.repair { Path::Repair } else { Path::Tree } })
}

fn contacts_from(contacts: &pb::GossipContacts) -> Result<Vec<Contact>, Rejection> {
    few("contacts", contacts.contacts.len(), MAX_CONTACTS)?;
    contacts.contacts.iter().map(|contact| Ok(Contact { peer: peer_id("contact", &contact.peer)?, hint: hint(&contact.hint)? })).collect()
}

fn hint(bytes: &[u8]) -> Result<Arc<[u8]>, Rejection> {
    at_most("hint", bytes.len(), MAX_HINT)?;
    Ok(Arc::from(bytes))
}

fn ids_from(what: &'static str, bytes: &[u8], max: usize) -> Result<Vec<MessageId>, Rejection> {
    few(what, bytes.len().div_ceil(ID_BYTES), max)?;
    bytes.chunks(ID_BYTES).map(|id| fixed(what, id).map(MessageId)).collect()
}

fn window_from(window: &pb::GossipWindow) -> Result<Window, Rejection> {
    let end = |what, id: &[u8]| fixed(what, id).map(MessageId);
    Ok(Window {
        first: end("first id", &window.first)?,
        last: end("last id", &window.last)?,
        ids: ids_from("ids of a window", &window.ids, MAX_WINDOW)?,
    })
}

/// Writes a message to a neighbour. `None` for an envelope that carries no announcement, which this peer never makes.
pub fn write(message: &Message) -> Option<pb::GossipMessage> {
    use pb::gossip_message::Kind;
    let kind = match message {
        Message::Request { hint, urgent } => Kind::Request(pb::GossipRequest { hint: hint.to_vec().into(), urgent: *urgent }),
        Message::Accept { contacts } => Kind::Accept(contacts_to(contacts)),
        Message::Refuse { contacts } => Kind::Refuse(contacts_to(contacts)),
        Message::Shuffle { contacts } => Kind::Shuffle(contacts_to(contacts)),
        Message::ShuffleReply { contacts } => Kind::ShuffleReply(contacts_to(contacts)),
        Message::Data { envelope, path } => Kind::Data(pb::GossipData {
            announcement: Some(pb::SignedAnnouncement::from(&unseal(envelope).ok()?)),
            lifetime_ms: u32::try_from(envelope.lifetime().as_millis()).unwrap_or(u32::MAX),
            repair: *path == Path::Repair,
        }),
        Message::IHave { ids } => Kind::Ihave(ids_to(ids)),
        Message::Graft { ids } => Kind::Graft(ids_to(ids)),
        Message::Want { ids } => Kind::Want(ids_to(ids)),
        Message::Prune => Kind::Prune(pb::GossipPrune {}),
        Message::Probe(summary) => Kind::Probe(pb::GossipSummary { count: summary.count, fold: summary.fold }),
        Message::Echo(window) => Kind::Echo(pb::GossipEcho {
            window: window.as_ref().map(|window| pb::GossipWindow {
                first: window.first.0.to_vec().into(),
                last: window.last.0.to_vec().into(),
                ids: ids_to(&window.ids).ids,
            }),
        }),
    };
    Some(pb::GossipMessage { kind: Some(kind) })
}

fn contacts_to(contacts: &[Contact]) -> pb::GossipContacts {
    let contact = |contact: &Contact| pb::Contact { peer: contact.peer.0.to_vec().into(), hint: contact.hint.to_vec().into() };
    pb::GossipContacts { contacts: contacts.iter().map(contact).collect() }
}

fn ids_to(ids: &[MessageId]) -> pb::GossipIds {
    pb::GossipIds { ids: ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        announce::{Announcement, Capacity, Subject},
        ids::PeerId,
    };
    use iroh::SecretKey;

    const GRID: GridId = GridId([5; 32]);

    fn data(path: Path) -> Message {
        let capacity = Capacity { slots: 4, memory_bytes: 1 << 30, validation_class: "class".into(), idle_slots: 1 };
        let announcement = Announcement { sequence: 17, lifetime: Duration::from_secs(60), subject: Subject::Capacity(capacity) };
        let signed = SignedAnnouncement::sign(&SecretKey::from_bytes(&[1; 32]), GRID, &announcement).unwrap();
        Message::Data { envelope: seal(&signed, Duration::from_secs(30)).unwrap(), path }
    }

    #[test]
    fn every_message_arrives_as_it_was_sent() {
        let contacts = vec![Contact { peer: PeerId([3; 32]), hint: Arc::from([1, 2, 3]) }, Contact::bare(PeerId([4; 32]))];
        let ids = vec![MessageId([1; 16]), MessageId([2; 16])];
        let window = Window { first: MessageId::MIN, last: MessageId::MAX, ids: ids.clone() };
        for message in [
            Message::Request { hint: Arc::from([7]), urgent: true },
            Message::Accept { contacts: contacts.clone() },
            Message::Refuse { contacts: contacts.clone() },
            Message::Shuffle { contacts: contacts.clone() },
            Message::ShuffleReply { contacts },
            data(Path::Tree),
            data(Path::Repair),
            Message::IHave { ids: ids.clone() },
            Message::Graft { ids: ids.clone() },
            Message::Want { ids },
            Message::Prune,
            Message::Probe(Summary { count: 3, fold: 9 }),
            Message::Echo(None),
            Message::Echo(Some(window)),
        ] {
            assert_eq!(read(write(&message).unwrap(), GRID), Ok(message));
        }
    }

    #[test]
    fn an_announcement_for_another_grid_or_with_a_longer_life_is_not_believed() {
        let sent = write(&data(Path::Tree)).unwrap();
        assert_eq!(read(sent.clone(), GridId([6; 32])), Err(Rejection::BadSignature { what: "announcement" }));
        let Some(pb::gossip_message::Kind::Data(mut inner)) = sent.kind else { panic!("data") };
        inner.lifetime_ms = u32::MAX;
        let message = pb::GossipMessage { kind: Some(pb::gossip_message::Kind::Data(inner)) };
        let Ok(Message::Data { envelope, .. }) = read(message, GRID) else { panic!("data") };
        assert_eq!(envelope.lifetime(), Duration::from_secs(60));
    }

    #[test]
    fn breaches_are_named() {
        use pb::gossip_message::Kind;
        let read = |kind| read(pb::GossipMessage { kind: Some(kind) }, GRID).unwrap_err();
        let contact = pb::Contact { peer: vec![1; 32].into(), hint: vec![].into() };
        let many = pb::GossipContacts { contacts: vec![contact; 17] };
        assert_eq!(read(Kind::Shuffle(many)), Rejection::TooMany { what: "contacts", found: 17, max: 16 });
        let ids = |bytes: usize| pb::GossipIds { ids: vec![0; bytes].into() };
        assert_eq!(read(Kind::Graft(ids(129 * 16))), Rejection::TooMany { what: "ids", found: 129, max: 128 });
        assert_eq!(read(Kind::Graft(ids(17))), Rejection::WrongLength { what: "ids", found: 1, expected: 16 });
        let long = pb::GossipRequest { hint: vec![0; 257].into(), urgent: false };
        assert_eq!(read(Kind::Request(long)), Rejection::TooLong { what: "hint", found: 257, max: 256 });
        assert_eq!(read(Kind::Data(pb::GossipData::default())), Rejection::Missing { what: "announcement" });
    }
}
