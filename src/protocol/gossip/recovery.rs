//! Anti-entropy: now and then two neighbours compare their archives and give one another what is missing.
//!
//! This is how late joiners and the survivors of a partition catch up, how the rare announcement that every edge lost arrives, and
//! how a neighbour that never answers is noticed. Only the side that began a comparison moves anything, so a neighbour cannot make
//! us do more than answer its probes.

use super::{
    Rejection, Turn,
    archive::Archive,
    broadcast, draw,
    message::{Message, MessageId, Path, Summary, Window},
};
use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;
use rand_chacha::rand_core::Rng as _;
use std::collections::BTreeMap;

/// The most announcements given away per comparison; the rest follows with the next one.
const MAX_GIVEN: usize = 32;
/// The most announcements asked for per comparison. With the shortest pause between two it stays below what a neighbour's quota allows.
const MAX_WANTED: usize = 64;
/// The least time between two windows shown to one neighbour: a window is 400 times as long as the probe that asks for it.
const WINDOW_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Contacted {
    /// Probes in a row that stayed without an answer.
    unanswered: u8,
    /// Whether it said anything since it was last probed.
    spoke: bool,
    shown: Option<Instant>,
}

/// Whom to compare with next, and who owes an answer.
#[derive(Default)]
pub(super) struct Recovery {
    neighbours: BTreeMap<PeerId, Contacted>,
    probed: Option<PeerId>,
    next: Option<Instant>,
    last: Option<PeerId>,
}

impl Recovery {
    /// Compares with a new neighbour soon, since one of the two may know much that the other does not.
    pub(super) fn on_up(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        let pause = if self.neighbours.is_empty() { turn.config.repair.catch_up } else { turn.config.repair.every };
        let soon = turn.now.after(draw::jitter(turn.rng, pause));
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        self.neighbours.insert(peer, Contacted::default());
    }

    pub(super) fn on_down(&mut self, peer: PeerId) {
        self.neighbours.remove(&peer);
        self.probed = self.probed.filter(|probed| *probed != peer);
        if self.neighbours.is_empty() {
            self.next = None;
        }
    }

    /// A neighbour said something.
    pub(super) fn on_word(&mut self, from: PeerId) {
        if let Some(contacted) = self.neighbours.get_mut(&from) {
            contacted.spoke = true;
        }
    }

    /// Starts a comparison: again with whoever did not answer, else with the next neighbour in turn, silent ones first.
    pub(super) fn on_timer(&mut self, turn: &mut Turn<'_>, summary: Summary) {
        if self.next.is_none_or(|next| next > turn.now) {
            return;
        }
        self.next = Some(turn.now.after(draw::jitter(turn.rng, turn.config.repair.every)));
        let mut silent = None;
        if let Some(peer) = self.probed.take()
            && let Some(contacted) = self.neighbours.get_mut(&peer)
        {
            contacted.unanswered += 1;
            if contacted.unanswered >= turn.config.repair.silence {
                turn.reject(peer, Rejection::Unresponsive);
                return;
            }
            silent = Some(peer);
            self.next = Some(turn.now.after(draw::jitter(turn.rng, turn.config.repair.catch_up)));
        }
        let Some(peer) = silent.or_else(|| self.in_turn()) else { return };
        (self.probed, self.last) = (Some(peer), Some(peer));
        self.neighbours.entry(peer).and_modify(|contacted| contacted.spoke = false);
        turn.send(peer, Message::Probe(summary));
    }

    /// Answers a neighbour's comparison.
    pub(super) fn on_probe(&mut self, turn: &mut Turn<'_>, archive: &Archive, from: PeerId, theirs: Summary) {
        let Some(contacted) = self.neighbours.get_mut(&from) else { return };
        let rested = contacted.shown.is_none_or(|shown| turn.now.since(shown) >= WINDOW_PAUSE);
        let window = (theirs != archive.summary() && rested).then(|| {
            contacted.shown = Some(turn.now);
            let mut start = [0; 16];
            turn.rng.fill_bytes(&mut start);
            archive.window(MessageId(start))
        });
        turn.send(from, Message::Echo(window));
    }

    /// Takes the answer to our probe: asks for what we lack and gives what the neighbour lacks.
    pub(super) fn on_echo(&mut self, turn: &mut Turn<'_>, archive: &Archive, from: PeerId, window: Option<Window>) {
        if self.probed != Some(from) {
            turn.reject(from, Rejection::Unsolicited);
            return;
        }
        self.probed = None;
        if let Some(contacted) = self.neighbours.get_mut(&from) {
            contacted.unanswered = 0;
        }
        let Some(window) = window else { return };
        let wanted: Vec<MessageId> = window.ids.iter().copied().filter(|id| !archive.knows(*id)).take(MAX_WANTED).collect();
        let given = archive.absent_from(&window, MAX_GIVEN);
        if wanted.is_empty() && given.is_empty() {
            return;
        }
        if !wanted.is_empty() {
            turn.send(from, Message::Want { ids: wanted });
        }
        broadcast::answer(turn, archive, from, &given, Path::Repair);
        self.next = Some(turn.now.after(draw::jitter(turn.rng, turn.config.repair.catch_up)));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    fn in_turn(&self) -> Option<PeerId> {
        let last = self.last;
        let turn = |(peer, contacted): &(&PeerId, &Contacted)| (contacted.spoke, last.is_some_and(|last| **peer <= last), **peer);
        self.neighbours.iter().min_by_key(turn).map(|(peer, _)| *peer)
    }
}
