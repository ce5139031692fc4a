//! What neighbours say to one another, and the bounds of each message.
//!
//! These types do not know how they are encoded: `wire` does. It refuses whatever exceeds a bound below before it allocates; the
//! machine checks again, because a bound that is only checked once is a bound until somebody edits the other file.

use crate::protocol::ids::PeerId;
use core::{fmt, time::Duration};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// The most bytes of an announcement, signature included. A job with its requirements and unit ranges fits into a quarter of it.
pub const MAX_BODY: usize = 4096;
/// The most bytes of a contact's hint: a relay and a handful of socket addresses.
pub const MAX_HINT: usize = 256;
/// The most contacts in one message: twice a view, so that one reply is enough to fill one.
pub const MAX_CONTACTS: usize = 16;
/// The most ids in one announcement or request: 2 KiB on the wire.
pub const MAX_IDS: usize = 128;
/// The most ids in one window of the archive: 8 KiB on the wire, once per repair and only when the two archives differ.
pub const MAX_WINDOW: usize = 512;
/// The longest that an announcement may live; whoever wants it longer announces it again.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// The name of an announcement: the first half of the SHA-256 over its author and its body.
///
/// Sixteen bytes, because ids are most of the control traffic: finding a second body for somebody else's id costs 2^128, and two of
/// one's own bodies with one id only suppress one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// The lowest id, where a window of the whole archive starts.
    pub const MIN: Self = Self([0; 16]);
    /// The highest id, where a window of the whole archive ends.
    pub const MAX: Self = Self([0xff; 16]);

    fn of(author: PeerId, body: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::new().chain_update(author.as_bytes()).chain_update(body).finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// The first eight bytes as a number, to fold many ids into one.
    pub(super) fn fold(self) -> u64 {
        let mut head = [0; 8];
        head.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(head)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({:010x})", self.fold() >> 24)
    }
}

/// One announcement on its way. Its id always belongs to its author and body, since nothing else can make one.
///
/// The body is opaque here. It carries the author's signature, which `wire` has verified before this value exists: nothing that is
/// not signed is ever forwarded. It should also carry a sequence number, because an id is forgotten some time after it expires
/// ([`super::Config`]) and an old announcement may then be played again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    id: MessageId,
    author: PeerId,
    body: Arc<[u8]>,
    lifetime: Duration,
}

impl Envelope {
    /// Seals `body`; `lifetime` is what remains of it, cut to [`MAX_LIFETIME`].
    ///
    /// # Errors
    /// The body is longer than [`MAX_BODY`].
    pub fn new(author: PeerId, body: impl Into<Arc<[u8]>>, lifetime: Duration) -> Result<Self, Garbage> {
        let body = body.into();
        if body.len() > MAX_BODY {
            return Err(Garbage::LongBody { bytes: body.len() });
        }
        Ok(Self { id: MessageId::of(author, &body), author, body, lifetime: lifetime.min(MAX_LIFETIME) })
    }

    /// The announcement's name.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// Who signed it.
    pub const fn author(&self) -> PeerId {
        self.author
    }

    /// The signed bytes with their signature.
    pub const fn body(&self) -> &Arc<[u8]> {
        &self.body
    }

    /// How much longer it is worth forwarding.
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The same announcement with what remains of its life.
    pub(super) fn aged(&self, lifetime: Duration) -> Self {
        Self { lifetime, ..self.clone() }
    }
}

/// A peer, and what its dialler may need to find it. The hint is opaque and unsigned: a false one makes a dial fail, no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The peer's key.
    pub peer: PeerId,
    /// Its addresses as the shell encodes them, at most [`MAX_HINT`] bytes; may be empty.
    pub hint: Arc<[u8]>,
}

impl Contact {
    /// A peer of which nothing but the key is known.
    pub fn bare(peer: PeerId) -> Self {
        Self { peer, hint: Arc::from([]) }
    }
}

/// Why an announcement was sent, which decides what a duplicate of it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Along the broadcast tree: a duplicate shows an edge too many, which is pruned.
    Tree,
    /// To fill a gap, or forwarded by somebody whose gap was filled so: a duplicate means nothing.
    Repair,
}

/// The live announcements of an archive in two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many there are.
    pub count: u32,
    /// Their ids folded together. Forging it deceives nobody about anything but the forger.
    pub fold: u64,
}

/// All live ids of an archive between two ids, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where it starts.
    pub first: MessageId,
    /// Where it ends.
    pub last: MessageId,
    /// The ids, ascending, at most [`MAX_WINDOW`].
    pub ids: Vec<MessageId>,
}

/// One message between two connected peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks a peer to be a neighbour; the first message of whoever dialled. Answered by `Accept` or `Refuse`.
    Request {
        /// Where the asking peer may be found.
        hint: Arc<[u8]>,
        /// It has no neighbour at all.
        urgent: bool,
    },
    /// Yes, and whom else to try.
    Accept {
        /// At most [`MAX_CONTACTS`].
        contacts: Vec<Contact>,
    },
    /// No place, but these may have one. The asking peer hangs up.
    Refuse {
        /// At most [`MAX_CONTACTS`].
        contacts: Vec<Contact>,
    },
    /// A sample of the contacts that the sender knows. Answered by `ShuffleReply`.
    Shuffle {
        /// At most [`MAX_CONTACTS`].
        contacts: Vec<Contact>,
    },
    /// A sample in return.
    ShuffleReply {
        /// At most [`MAX_CONTACTS`].
        contacts: Vec<Contact>,
    },
    /// An announcement itself.
    Data {
        /// The announcement.
        envelope: Envelope,
        /// Why it comes.
        path: Path,
    },
    /// Announcements which the sender holds and did not send.
    IHave {
        /// Between one and [`MAX_IDS`].
        ids: Vec<MessageId>,
    },
    /// Asks for announcements, and to be sent all later ones as they come.
    Graft {
        /// Between one and [`MAX_IDS`].
        ids: Vec<MessageId>,
    },
    /// From now on only `IHave`, please.
    Prune,
    /// Asks for announcements, once.
    Want {
        /// Between one and [`MAX_IDS`].
        ids: Vec<MessageId>,
    },
    /// Asks whether the archives agree, and whether the neighbour is alive. Answered by `Echo`.
    Probe(Summary),
    /// Nothing when they agree, otherwise a part of the sender's archive to compare.
    Echo(Option<Window>),
}

/// How a message breaks its own bounds; no honest peer sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbage {
    /// A body longer than [`MAX_BODY`].
    #[error("a body of {bytes} bytes, at most {MAX_BODY} are allowed")]
    LongBody {
        /// Its length.
        bytes: usize,
    },
    /// A hint longer than [`MAX_HINT`].
    #[error("a hint of {bytes} bytes, at most {MAX_HINT} are allowed")]
    LongHint {
        /// Its length.
        bytes: usize,
    },
    /// More contacts than [`MAX_CONTACTS`].
    #[error("{count} contacts, at most {MAX_CONTACTS} are allowed")]
    ManyContacts {
        /// How many.
        count: usize,
    },
    /// No ids, or more than [`MAX_IDS`].
    #[error("{count} ids, between 1 and {MAX_IDS} are allowed")]
    CountOfIds {
        /// How many.
        count: usize,
    },
    /// A window that is too long, out of order, or reaches outside its ends.
    #[error("a malformed window of {count} ids")]
    Window {
        /// How many ids it has.
        count: usize,
    },
}

impl Message {
    /// Checks the message against the bounds of this module.
    ///
    /// # Errors
    /// Names the first bound that it breaks.
    pub fn check(&self) -> Result<(), Garbage> {
        match self {
            Self::Request { hint, urgent: _ } => check_hint(hint),
            Self::Accept { contacts } | Self::Refuse { contacts } | Self::Shuffle { contacts } | Self::ShuffleReply { contacts } => {
                if contacts.len() > MAX_CONTACTS {
                    return Err(Garbage::ManyContacts { count: contacts.len() });
                }
                contacts.iter().try_for_each(|contact| check_hint(&contact.hint))
            }
            Self::IHave { ids } | Self::Graft { ids } | Self::Want { ids } => {
                if ids.is_empty() || ids.len() > MAX_IDS {
                    Err(Garbage::CountOfIds { count: ids.len() })
                } else {
                    Ok(())
                }
            }
            Self::Echo(Some(window)) => window.check(),
            Self::Data { .. } | Self::Prune | Self::Probe(_) | Self::Echo(None) => Ok(()),
        }
    }
}

impl Window {
    fn check(&self) -> Result<(), Garbage> {
        let inside = self.ids.first().is_none_or(|id| *id >= self.first) && self.ids.last().is_none_or(|id| *id <= self.last);
        if self.ids.len() <= MAX_WINDOW && self.first <= self.last && inside && self.ids.is_sorted_by(|a, b| a < b) {
            Ok(())
        } else {
            Err(Garbage::Window { count: self.ids.len() })
        }
    }
}

fn check_hint(hint: &[u8]) -> Result<(), Garbage> {
    if hint.len() > MAX_HINT { Err(Garbage::LongHint { bytes: hint.len() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_belongs_to_its_author_and_body() {
        let seal = |author: u8, body: &[u8]| Envelope::new(PeerId([author; 32]), body, MAX_LIFETIME).unwrap().id();
        assert_eq!(seal(1, b"a"), seal(1, b"a"));
        assert_ne!(seal(1, b"a"), seal(2, b"a"));
        assert_ne!(seal(1, b"a"), seal(1, b"b"));
    }

    #[test]
    fn each_bound_is_checked() {
        let check = |message: Message| message.check().unwrap_err();
        let contact = Contact::bare(PeerId([1; 32]));
        let (low, high) = (MessageId::MIN, MessageId::MAX);
        assert_eq!(Envelope::new(PeerId([1; 32]), vec![0; 4097], MAX_LIFETIME), Err(Garbage::LongBody { bytes: 4097 }));
        assert_eq!(check(Message::Request { hint: Arc::from([0; 257]), urgent: false }), Garbage::LongHint { bytes: 257 });
        assert_eq!(check(Message::Shuffle { contacts: vec![contact; 17] }), Garbage::ManyContacts { count: 17 });
        assert_eq!(check(Message::IHave { ids: vec![] }), Garbage::CountOfIds { count: 0 });
        assert_eq!(check(Message::Graft { ids: vec![low; 129] }), Garbage::CountOfIds { count: 129 });
        for window in [
            Window { first: high, last: low, ids: vec![] },
            Window { first: low, last: high, ids: vec![high, low] },
            Window { first: low, last: low, ids: vec![high] },
            Window { first: low, last: high, ids: vec![low; 513] },
        ] {
            assert_eq!(check(Message::Echo(Some(window.clone()))), Garbage::Window { count: window.ids.len() });
        }
    }
}
