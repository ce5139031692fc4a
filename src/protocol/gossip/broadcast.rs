//! The broadcast tree after PlumTree (Leitão, Pereira, Rodrigues 2007): announcements travel along *eager* edges, their ids along the
//! *lazy* ones. An announcement that stays away is asked for along a lazy edge, which becomes eager when that happens often.
//!
//! An edge that brings a duplicate is pruned, so the eager edges become a spanning tree. Whatever a neighbour promises (`IHave`) is
//! bounded, asked for a bounded number of times and held against it when it does not come. What comes and is refused was no false promise.

use super::{
    Rejection, Turn,
    archive::Archive,
    message::{Envelope, MAX_IDS, Message, MessageId, Path},
};
use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// The most neighbours remembered as holders of one missing announcement; a view has hardly more.
const MAX_HOLDERS: usize = 8;
/// The least time between two prunes of one edge: what was under way when the first was sent needs no second.
const PRUNE_PAUSE: Duration = Duration::from_millis(250);

/// What one late announcement adds to the lateness; each that comes in time takes one away.
const LATENESS: u8 = 3;
/// The lateness at which the tree is mended instead of the gap filled: two late ones in a row, or more than a quarter of all.
/// Mending at once would answer each lost message with a new edge, its duplicates and a prune, here and in the whole subtree.
const LATENESS_TO_GRAFT: u8 = 6;

struct Edge {
    eager: bool,
    /// Ids to announce with the next flush, fewer than [`MAX_IDS`], and when that is due.
    unannounced: Vec<MessageId>,
    flush: Option<Instant>,
    /// How many missing announcements this neighbour promised.
    promises: usize,
    pruned: Option<Instant>,
}

struct Missing {
    holders: Vec<PeerId>,
    asked: Option<PeerId>,
    tries: u8,
    due: Instant,
}

/// The edges of the tree at this peer, and what it waits for.
#[derive(Default)]
pub(super) struct Broadcast {
    edges: BTreeMap<PeerId, Edge>,
    missing: BTreeMap<MessageId, Missing>,
    by_due: BTreeSet<(Instant, MessageId)>,
    /// How often announcements were late recently.
    lateness: u8,
    /// When the first flush of an edge is due, or before.
    flush: Option<Instant>,
}

impl Broadcast {
    /// A new neighbour starts eager: it may be the only one.
    pub(super) fn on_up(&mut self, peer: PeerId) {
        let edge = Edge { eager: true, unannounced: Vec::new(), flush: None, promises: 0, pruned: None };
        self.edges.insert(peer, edge);
    }

    /// Losing an eager edge may have cut us off, so the next gap is taken for one in the tree.
    pub(super) fn on_down(&mut self, peer: PeerId) {
        if self.edges.remove(&peer).is_some_and(|edge| edge.eager) {
            self.lateness = LATENESS_TO_GRAFT;
        }
    }

    /// Sends an announcement that is in the archive to all neighbours but those that `have` it: whole along the tree, as an id
    /// elsewhere.
    ///
    /// What came as a repair goes on as one: those who had it already, our parent in the tree above all, must not prune us for it.
    /// A leaf's only edge leads to that parent, who has it or will.
    pub(super) fn spread(&mut self, turn: &mut Turn<'_>, me: PeerId, envelope: &Envelope, path: Path, have: &[PeerId]) {
        let leaf = path == Path::Repair && self.edges.values().filter(|edge| edge.eager).count() == 1;
        for (peer, edge) in self.edges.iter_mut().filter(|(peer, _)| !have.contains(peer)) {
            if edge.eager && !leaf {
                turn.send(*peer, Message::Data { envelope: envelope.clone(), path });
                continue;
            }
            edge.unannounced.push(envelope.id());
            if edge.unannounced.len() >= MAX_IDS {
                turn.send(*peer, Message::IHave { ids: core::mem::take(&mut edge.unannounced) });
                edge.flush = None;
            } else if edge.flush.is_none() {
                let flush = turn.now.after(turn.config.tree.announce_delay[usize::from(me > *peer)]);
                edge.flush = Some(flush);
                self.flush = Some(self.flush.map_or(flush, |first| first.min(flush)));
            }
        }
    }

    /// A duplicate came. When both copies came along the tree, it has one edge too many.
    pub(super) fn on_duplicate(&mut self, turn: &mut Turn<'_>, from: PeerId, id: MessageId, copies: [Path; 2]) {
        let Some(edge) = self.edges.get_mut(&from) else { return };
        edge.unannounced.retain(|other| *other != id);
        if copies != [Path::Tree; 2] {
            return;
        }
        edge.eager = false;
        if edge.pruned.is_none_or(|pruned| turn.now.since(pruned) >= PRUNE_PAUSE) {
            edge.pruned = Some(turn.now);
            turn.send(from, Message::Prune);
        }
    }

    /// An announcement has come and is no longer missing. Names those that have it: they were all earlier than we.
    pub(super) fn on_arrival(&mut self, id: MessageId, from: PeerId, path: Path) -> Vec<PeerId> {
        if path == Path::Tree {
            self.lateness = self.lateness.saturating_sub(1);
            self.edges.entry(from).and_modify(|edge| edge.eager = true);
        }
        let mut have = self.forget_missing(id);
        have.push(from);
        have
    }

    /// An announcement has come and a quota of ours refuses it. It exists, so nobody is asked or blamed for it any more, and the repair
    /// may bring it later.
    ///
    /// Whoever announces it again is asked again, which earns it nothing: each round takes an id of its quota and either a message of its
    /// quota, which it could send us unasked, or a strike. We send one id for it.
    pub(super) fn on_refused(&mut self, id: MessageId) {
        self.forget_missing(id);
    }

    /// A neighbour sent an announcement without any life left. That is its word alone, which nobody signed: its own promise is settled,
    /// and those of others stand, or it could keep the announcement from us.
    pub(super) fn on_expired(&mut self, id: MessageId, from: PeerId) {
        let Some(missing) = self.missing.get_mut(&id) else { return };
        let Some(place) = missing.holders.iter().position(|holder| *holder == from) else { return };
        missing.holders.remove(place);
        missing.asked = missing.asked.filter(|asked| *asked != from);
        self.edges.entry(from).and_modify(|edge| edge.promises = edge.promises.saturating_sub(1));
        if missing.holders.is_empty() {
            self.forget_missing(id);
        }
    }

    /// A neighbour holds announcements: those that we lack are waited for.
    pub(super) fn on_announced(&mut self, turn: &mut Turn<'_>, archive: &Archive, from: PeerId, ids: &[MessageId]) {
        let leaf = self.edges.values().filter(|edge| edge.eager).count() <= 1;
        let patience = turn.config.tree.graft_first * if leaf { 3 } else { 2 } / 2;
        let Some(edge) = self.edges.get_mut(&from) else { return };
        for id in ids {
            if archive.knows(*id) {
                edge.unannounced.retain(|other| other != id);
                continue;
            }
            if edge.promises >= turn.config.quotas.promises {
                turn.reject(from, Rejection::PromiseQuota);
                return;
            }
            let missing = self.missing.entry(*id).or_insert_with(|| {
                let due = turn.now.after(patience);
                self.by_due.insert((due, *id));
                Missing { holders: Vec::new(), asked: None, tries: 0, due }
            });
            if missing.holders.len() < MAX_HOLDERS && !missing.holders.contains(&from) {
                missing.holders.push(from);
                edge.promises += 1;
            }
        }
    }

    /// A neighbour lacks announcements and wants the later ones too.
    pub(super) fn on_graft(&mut self, turn: &mut Turn<'_>, archive: &Archive, from: PeerId, ids: &[MessageId]) {
        if let Some(edge) = self.edges.get_mut(&from) {
            edge.eager = true;
            answer(turn, archive, from, ids, Path::Tree);
        }
    }

    /// A neighbour gets enough from others.
    pub(super) fn on_prune(&mut self, from: PeerId) {
        if let Some(edge) = self.edges.get_mut(&from) {
            edge.eager = false;
        }
    }

    /// Announces what has been collected and asks for what has been missing too long.
    pub(super) fn on_timer(&mut self, turn: &mut Turn<'_>) {
        if self.flush.is_some_and(|flush| flush <= turn.now) {
            for (peer, edge) in &mut self.edges {
                if edge.flush.take_if(|flush| *flush <= turn.now).is_some() && !edge.unannounced.is_empty() {
                    turn.send(*peer, Message::IHave { ids: core::mem::take(&mut edge.unannounced) });
                }
            }
            self.flush = self.edges.values().filter_map(|edge| edge.flush).min();
        }
        let mut asked: BTreeMap<PeerId, Vec<MessageId>> = BTreeMap::new();
        while let Some((due, id)) = self.by_due.first().copied()
            && due <= turn.now
        {
            if let Some(holder) = self.ask_next(turn, id) {
                asked.entry(holder).or_default().push(id);
            }
        }
        let graft = self.lateness >= LATENESS_TO_GRAFT;
        for (peer, ids) in asked {
            for ids in ids.chunks(MAX_IDS).map(<[MessageId]>::to_vec) {
                turn.send(peer, if graft { Message::Graft { ids } } else { Message::Want { ids } });
            }
            if graft {
                self.lateness = 0;
                self.edges.get_mut(&peer).expect("only neighbours are asked").eager = true;
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.by_due.first().map(|(due, _)| *due);
        self.flush.into_iter().chain(due).min()
    }

    /// How many edges are eager, and how many announcements are missing.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.edges.values().filter(|edge| edge.eager).count(), self.missing.len())
    }

    /// Decides whom to ask for a missing announcement; gives it up when there is nobody left to ask.
    fn ask_next(&mut self, turn: &mut Turn<'_>, id: MessageId) -> Option<PeerId> {
        let missing = self.missing.get_mut(&id).expect("what is due is missing");
        if let Some(asked) = missing.asked.take() {
            turn.reject(asked, Rejection::BrokenPromise);
        }
        missing.holders.retain(|holder| self.edges.contains_key(holder));
        if missing.holders.is_empty() || missing.tries >= turn.config.tree.graft_tries {
            self.forget_missing(id);
            return None;
        }
        if missing.tries == 0 {
            self.lateness = self.lateness.saturating_add(LATENESS).min(LATENESS_TO_GRAFT);
        }
        let holder = missing.holders[usize::from(missing.tries) % missing.holders.len()];
        missing.tries += 1;
        missing.asked = Some(holder);
        self.by_due.remove(&(missing.due, id));
        missing.due = turn.now.after(turn.config.tree.graft_next);
        self.by_due.insert((missing.due, id));
        Some(holder)
    }

    /// Frees the promises of those that announced it, and names them.
    fn forget_missing(&mut self, id: MessageId) -> Vec<PeerId> {
        let Some(missing) = self.missing.remove(&id) else { return Vec::new() };
        self.by_due.remove(&(missing.due, id));
        for holder in &missing.holders {
            if let Some(edge) = self.edges.get_mut(holder) {
                edge.promises = edge.promises.saturating_sub(1);
            }
        }
        missing.holders
    }
}

/// Sends what is asked for and still live; what has expired is nobody's loss.
pub(super) fn answer(turn: &mut Turn<'_>, archive: &Archive, to: PeerId, ids: &[MessageId], path: Path) {
    let now = turn.now;
    for envelope in ids.iter().filter_map(|id| archive.get(now, *id)) {
        turn.send(to, Message::Data { envelope, path });
    }
}
