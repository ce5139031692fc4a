//! Peers that do not follow the protocol, each in one way.

use crate::protocol::{
    gossip::{Action, Contact, Event, MAX_CONTACTS, MAX_IDS, Message, MessageId},
    ids::PeerId,
    time::Instant,
};
use core::time::Duration;
use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};
use std::{collections::BTreeSet, sync::Arc};

/// How often a hostile peer does what it does.
const EVERY: Duration = Duration::from_secs(1);

/// How often an eclipser names its fellows: as often as goes unnoticed.
const ROUNDS_PER_SHUFFLE: u32 = 10;

/// What a hostile peer does once it is a neighbour. All of them ask everybody for places, always urgently, and take whatever comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Never says anything more.
    Mute,
    /// Announces ids that do not exist, and the ids that it hears of, and never sends an announcement.
    Liar,
    /// Sends what breaks the bounds, and far too much of the rest.
    Flooder,
    /// Answers every question, forwards nothing, and names only its fellows as contacts.
    Eclipser,
}

/// One hostile peer.
pub struct Hostile {
    habit: Habit,
    victims: Vec<PeerId>,
    fellows: Vec<PeerId>,
    rng: ChaCha8Rng,
    neighbours: BTreeSet<PeerId>,
    heard: Vec<MessageId>,
    rounds: u32,
    next: Instant,
}

impl Hostile {
    pub(super) fn new(habit: Habit, now: Instant, victims: Vec<PeerId>, fellows: Vec<PeerId>, rng: ChaCha8Rng) -> Self {
        Self { habit, victims, fellows, rng, neighbours: BTreeSet::new(), heard: Vec::new(), rounds: 0, next: now }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Connected { peer, prefix: _ } => {
                out.push(Action::Send { to: peer, message: Message::Request { hint: Arc::from([]), urgent: true } });
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

    /// Dials a victim, and treats the neighbours in its own way.
    fn molest(&mut self, out: &mut Vec<Action>) {
        self.rounds += 1;
        let chosen = self.below(self.victims.len());
        let victim = self.victims[chosen];
        if !self.neighbours.contains(&victim) {
            out.push(Action::Connect(Contact::bare(victim)));
        }
        let mut ids: Vec<MessageId> = core::mem::take(&mut self.heard);
        ids.truncate(MAX_IDS / 2);
        for neighbour in self.neighbours.clone() {
            match self.habit {
                Habit::Mute => {}
                Habit::Eclipser if !self.rounds.is_multiple_of(ROUNDS_PER_SHUFFLE) => {}
                Habit::Eclipser => {
                    let contacts = self.fellows();
                    out.push(Action::Send { to: neighbour, message: Message::Shuffle { contacts } });
                }
                Habit::Liar => {
                    let mut ids = ids.clone();
                    ids.extend((0..MAX_IDS / 2).map(|_| self.invent()));
                    out.push(Action::Send { to: neighbour, message: Message::IHave { ids } });
                }
                Habit::Flooder => {
                    for _ in 0..300 {
                        let message = Message::Graft { ids: vec![self.invent(); 1] };
                        out.push(Action::Send { to: neighbour, message });
                    }
                    if self.below(10) == 0 {
                        let message = Message::IHave { ids: vec![MessageId::MIN; MAX_IDS + 1] };
                        out.push(Action::Send { to: neighbour, message });
                    }
                }
            }
        }
    }

    fn fellows(&mut self) -> Vec<Contact> {
        let chosen: Vec<usize> = (0..MAX_CONTACTS).map(|_| self.below(self.fellows.len())).collect();
        chosen.into_iter().map(|index| Contact::bare(self.fellows[index])).collect()
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
