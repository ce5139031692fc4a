//! Peers that do not follow the protocol, each in one way.

use crate::protocol::{
    gossip::{Action, Contact, Event, MAX_CONTACTS, MAX_IDS, Message, MessageId},
    ids::PeerId,
    time::Instant,
};
use core::{fmt, str::FromStr, time::Duration};
use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};
use std::{collections::BTreeSet, sync::Arc};

/// How often a hostile peer does what it does.
const EVERY: Duration = Duration::from_secs(1);

/// How often an eclipser names its fellows, and a deaf peer says something: as often as goes unnoticed.
const ROUNDS_PER_WORD: u32 = 10;

/// How many messages a flooder sends to each neighbour at a time: more than any quota's burst for them.
const FLOOD: usize = 300;

/// How many peers a joiner asks for a place at a time.
const JOINS: usize = 8;

/// What a hostile peer does once it is a neighbour. All of them ask everybody for places, always urgently, and take whatever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Never says anything more.
    Mute,
    /// Never reads, and says now and then what a living neighbour would.
    Deaf,
    /// Announces ids that do not exist, and the ids that it hears of, and never sends an announcement.
    Liar,
    /// Sends what breaks the bounds.
    Garbler,
    /// Sends far too much.
    Flooder,
    /// Asks eight times as many peers for places as the others, again and again.
    Joiner,
    /// Answers every question, forwards nothing, and names only its fellows as contacts.
    Eclipser,
}

impl Habit {
    /// Every habit.
    pub const ALL: [Self; 7] = [Self::Mute, Self::Deaf, Self::Liar, Self::Garbler, Self::Flooder, Self::Joiner, Self::Eclipser];
}

impl fmt::Display for Habit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// A word that names no habit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such habit: {0}")]
pub struct UnknownHabit(String);

impl FromStr for Habit {
    type Err = UnknownHabit;

    fn from_str(word: &str) -> Result<Self, UnknownHabit> {
        Self::ALL.into_iter().find(|habit| habit.to_string() == word).ok_or_else(|| UnknownHabit(word.to_owned()))
    }
}

/// Whom hostile peers know: those they ask for places, and one another.
#[derive(Clone)]
pub(super) struct Gang {
    pub(super) victims: Arc<[PeerId]>,
    pub(super) fellows: Arc<[PeerId]>,
}

/// One hostile peer.
pub struct Hostile {
    habit: Habit,
    gang: Gang,
    rng: ChaCha8Rng,
    neighbours: BTreeSet<PeerId>,
    heard: Vec<MessageId>,
    rounds: u32,
    next: Instant,
}

impl Hostile {
    pub(super) fn new(habit: Habit, now: Instant, gang: Gang, rng: ChaCha8Rng) -> Self {
        Self { habit, gang, rng, neighbours: BTreeSet::new(), heard: Vec::new(), rounds: 0, next: now }
    }

    /// There are other peers to ask for places now.
    pub(super) fn learn(&mut self, victims: &Arc<[PeerId]>) {
        self.gang.victims = Arc::clone(victims);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next
    }

    /// Whether it reads what it is sent.
    pub(super) fn reads(&self) -> bool {
        self.habit != Habit::Deaf
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Connected { peer, prefix: _ } => {
                out.push(Action::Send { to: peer, message: Message::Request { hint: Arc::from([]), urgent: true } });
                if !self.reads() {
                    self.neighbours.insert(peer);
                }
            }
            Event::Disconnected(peer) => {
                self.neighbours.remove(&peer);
            }
            Event::Received { from, message } => self.on_message(from, message, out),
            Event::Timer if self.next <= now => {
                self.next = now.after(EVERY);
                self.molest(out);
            }
            Event::Timer | Event::Broadcast(_) | Event::Learned(_) | Event::Bootstrap(_) | Event::OwnHint(_) => {}
        }
    }

    fn on_message(&mut self, from: PeerId, message: Message, out: &mut Vec<Action>) {
        let answers = self.habit != Habit::Mute;
        let reply = match message {
            Message::Request { .. } => {
                self.neighbours.insert(from);
                Some(Message::Accept { contacts: self.fellows() })
            }
            Message::Accept { .. } => {
                self.neighbours.insert(from);
                None
            }
            Message::Refuse { .. } => {
                out.push(Action::Disconnect(from));
                None
            }
            Message::Shuffle { .. } => answers.then(|| Message::ShuffleReply { contacts: self.fellows() }),
            Message::Probe(_) => answers.then_some(Message::Echo(None)),
            Message::Data { envelope, .. } => {
                self.heard.push(envelope.id());
                None
            }
            Message::IHave { ids } => {
                self.heard.extend(ids);
                None
            }
            Message::ShuffleReply { .. } | Message::Graft { .. } | Message::Prune | Message::Want { .. } | Message::Echo(_) => None,
        };
        out.extend(reply.map(|message| Action::Send { to: from, message }));
    }

    /// Dials victims, and treats the neighbours in its own way.
    fn molest(&mut self, out: &mut Vec<Action>) {
        self.rounds += 1;
        for _ in 0..if self.habit == Habit::Joiner { JOINS } else { 1 } {
            let chosen = self.below(self.gang.victims.len());
            let victim = self.gang.victims[chosen];
            if !self.neighbours.contains(&victim) {
                out.push(Action::Connect(Contact::bare(victim)));
            }
        }
        let mut ids: Vec<MessageId> = core::mem::take(&mut self.heard);
        ids.truncate(MAX_IDS / 2);
        let speaks = self.rounds.is_multiple_of(ROUNDS_PER_WORD);
        for neighbour in self.neighbours.clone() {
            let mut say = |message: Message| out.push(Action::Send { to: neighbour, message });
            match self.habit {
                Habit::Mute | Habit::Joiner => {}
                Habit::Deaf if speaks => say(Message::Echo(None)),
                Habit::Eclipser if speaks => say(Message::Shuffle { contacts: self.fellows() }),
                Habit::Deaf | Habit::Eclipser => {}
                Habit::Liar => {
                    let mut ids = ids.clone();
                    ids.extend((0..MAX_IDS / 2).map(|_| self.invent()));
                    say(Message::IHave { ids });
                }
                Habit::Garbler => say(Message::IHave { ids: vec![MessageId::MIN; MAX_IDS + 1] }),
                Habit::Flooder => (0..FLOOD).for_each(|_| say(Message::Prune)),
            }
        }
    }

    fn fellows(&mut self) -> Vec<Contact> {
        let chosen: Vec<usize> = (0..MAX_CONTACTS).map(|_| self.below(self.gang.fellows.len())).collect();
        chosen.into_iter().map(|index| Contact::bare(self.gang.fellows[index])).collect()
    }

    fn invent(&mut self) -> MessageId {
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        MessageId(id)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % bound as u64).expect("a remainder is below its divisor")
    }
}
