//! Who keeps a place: what becomes of neighbours that bring nothing, and who yields to a newcomer.
//!
//! A peer without enough useful neighbours of its own choice goes on replacing them. An inbound neighbour loses its place only to a
//! newcomer that asks for it, and only when it idles or its network prefix is crowded; of those that idle the youngest goes, after
//! Bitcoin's rule, so that a crowd of strangers turns over one place among themselves and spares those who were here before.

use super::{Direction, Link, Membership, Stage};
use crate::protocol::{
    gossip::{Prefix, Turn, draw, merit::SILENT_TRIALS},
    ids::PeerId,
    time::Instant,
};

/// How many of the oldest outbound neighbours are never rotated away unless they idle. Whoever poisons our contacts comes too late
/// for them.
const ANCHORS: usize = 2;
/// How many outbound neighbours should be useful. While there are fewer, one is replaced at each review.
const USEFUL: usize = 2;
/// How many trials make an inbound neighbour a standing one. Those that stand behind us in the tree look idle for good, and are honest
/// as a rule when they were here before a crowd.
const STANDING_TRIALS: u32 = 4;
/// How many trials must pass after somebody lost its place for being idle before a standing one may.
const CLEARING_TRIALS: u32 = 10;
/// How many reviews there are in the time of a trial: whoever stands alone among strangers must not wait for all of it.
pub(super) const REVIEWS_PER_TRIAL: u32 = 6;

impl Membership {
    /// Looks whether enough of the neighbours that we chose are useful, and starts to replace one if not: seldom, where nothing is
    /// announced at all and none can be.
    pub(super) fn review(&mut self, turn: &mut Turn<'_>) {
        let views = &turn.config.views;
        let silent = self.news.silent(turn.now, views.trial);
        let least = if silent && !self.news.never() { views.trial * SILENT_TRIALS } else { views.trial / REVIEWS_PER_TRIAL };
        self.review_period = if silent { (self.review_period * 2).max(least).min(views.rotate_most) } else { least };
        self.review = turn.now.after(draw::jitter(turn.rng, self.review_period));
        let useful = self.outbound().filter(|(_, link)| link.merit.is_useful(turn.now, views.trial, self.news)).count();
        let disappoints = self.outbound().any(|(_, link)| link.merit.disappoints(turn.now, views.trial, self.news));
        if silent || (useful < USEFUL && disappoints) {
            self.rotating = true;
            self.retry = turn.now;
        }
    }

    /// How many neighbours of a direction share a prefix. Peers without one crowd nobody.
    pub(super) fn crowd(&self, prefix: Option<Prefix>, direction: Direction) -> usize {
        if prefix.is_none() {
            return 0;
        }
        self.links.values().filter(|link| link.stage == Stage::Neighbour(direction) && link.prefix == prefix).count()
    }

    /// The neighbours that we chose.
    pub(super) fn outbound(&self) -> impl Iterator<Item = (PeerId, &Link)> {
        let chosen = self.links.iter().filter(|(_, link)| link.stage == Stage::Neighbour(Direction::Outbound));
        chosen.map(|(peer, link)| (*peer, link))
    }

    /// Whom to give up for a new one, of neighbours that we chose, oldest first: whoever idles longest while others do not, else one
    /// that is no anchor.
    pub(super) fn worst(&mut self, turn: &mut Turn<'_>, chosen: &[(Instant, PeerId)]) -> PeerId {
        let idle = |peer: &PeerId| self.links[peer].merit.disappoints(turn.now, turn.config.views.trial, self.news);
        let idlers = chosen.iter().map(|(_, peer)| *peer).filter(idle);
        if let Some(idler) = idlers.clone().min_by_key(|peer| self.links[peer].merit)
            && idlers.count() < chosen.len()
        {
            self.book.disappointed(turn.now, idler);
            return idler;
        }
        let loose = chosen.iter().skip(ANCHORS.min(chosen.len() - 1)).map(|(_, peer)| *peer);
        let useless = loose.clone().filter(|peer| !self.links[peer].merit.has_earned());
        draw::one(turn.rng, useless).or_else(|| draw::one(turn.rng, loose)).expect("at least one is left")
    }

    /// The youngest of the inbound neighbours that idle, unless another is on trial: strangers that ask all the time turn over one
    /// place, and those who stood here before them keep theirs.
    pub(super) fn youngest_idle(&self, turn: &Turn<'_>) -> Option<PeerId> {
        let inbound = self.links.iter().filter(|(_, link)| link.stage == Stage::Neighbour(Direction::Inbound));
        let trial = turn.config.views.trial;
        if inbound.clone().any(|(_, link)| !link.merit.has_earned() && turn.now.since(link.since) < trial) {
            return None;
        }
        let idle = inbound.filter(|(_, link)| link.merit.idles(turn.now, trial, self.news));
        let (peer, link) = idle.max_by_key(|(_, link)| link.since)?;
        let stands = turn.now.since(link.since) >= trial * STANDING_TRIALS;
        let rested = self.cleared.is_none_or(|cleared| turn.now.since(cleared) >= trial * CLEARING_TRIALS);
        (!stands || rested).then_some(*peer)
    }

    /// The youngest inbound neighbour of the prefix that has most of them, and how many it has.
    pub(super) fn most_crowded(&self) -> Option<(PeerId, usize)> {
        let inbound = self.links.iter().filter(|(_, link)| link.stage == Stage::Neighbour(Direction::Inbound));
        inbound
            .map(|(peer, link)| (self.crowd(link.prefix, Direction::Inbound), link.since, *peer))
            .max()
            .map(|(size, _, peer)| (peer, size))
    }
}
