//! The announcements that a peer holds, and the ids that it remembers: bounded, fair per author, forgotten with time.
//!
//! An id is *remembered* from the moment it is first seen until some time after its announcement has expired, so that nothing is
//! delivered twice. The announcement is *live* until it expires, so that whoever lacks it can still get it here.

use super::{
    config::Config,
    message::{Envelope, MAX_WINDOW, MessageId, Path, Summary, Window},
};
use crate::protocol::{ids::PeerId, time::Instant};
use std::collections::{BTreeMap, BTreeSet};

struct Live {
    envelope: Envelope,
    expires: Instant,
}

/// The table of announcements.
#[derive(Default)]
pub(super) struct Archive {
    live: BTreeMap<MessageId, Live>,
    by_expiry: BTreeSet<(Instant, MessageId)>,
    by_author: BTreeSet<(PeerId, Instant, MessageId)>,
    remembered: BTreeMap<MessageId, Path>,
    by_forgetting: BTreeSet<(Instant, MessageId)>,
    fold: u64,
    body_bytes: usize,
    /// Nothing expires or is forgotten before.
    purge_at: Instant,
}

impl Archive {
    /// Whether this announcement has been here, live or not.
    pub(super) fn knows(&self, id: MessageId) -> bool {
        self.remembered.contains_key(&id)
    }

    /// How this announcement came first, if it has been here.
    pub(super) fn came_by(&self, id: MessageId) -> Option<Path> {
        self.remembered.get(&id).copied()
    }

    /// The announcement with what remains of its life, if any of it does.
    pub(super) fn get(&self, now: Instant, id: MessageId) -> Option<Envelope> {
        let live = self.live.get(&id)?;
        let left = live.expires.since(now);
        (!left.is_zero()).then(|| live.envelope.aged(left))
    }

    /// Takes in an announcement that is not known yet, making room where a bound is reached.
    pub(super) fn insert(&mut self, now: Instant, envelope: Envelope, path: Path, config: &Config) {
        let (id, author) = (envelope.id(), envelope.author());
        let expires = now.after(envelope.lifetime());
        let forgotten = expires.after(config.tree.remember);
        if self.remembered.len() >= config.quotas.remembered {
            self.forget_soonest();
        }
        self.remembered.insert(id, path);
        self.by_forgetting.insert((forgotten, id));
        if self.of_author(author).count() >= config.quotas.live_per_author {
            self.drop_soonest_of(author);
        } else if self.live.len() >= config.quotas.live {
            self.drop_soonest_of(self.loudest().expect("a full table has an author"));
        }
        self.by_expiry.insert((expires, id));
        self.purge_at = self.purge_at.min(expires);
        self.by_author.insert((author, expires, id));
        self.fold ^= id.fold();
        self.body_bytes += envelope.body().len();
        self.live.insert(id, Live { envelope, expires });
    }

    /// Drops what has expired and forgets what has been remembered long enough.
    pub(super) fn purge(&mut self, now: Instant) {
        if now < self.purge_at {
            return;
        }
        while let Some((expires, id)) = self.by_expiry.first().copied()
            && expires <= now
        {
            self.drop_live(id);
        }
        while let Some((forgotten, _)) = self.by_forgetting.first()
            && *forgotten <= now
        {
            self.forget_soonest();
        }
        let next = [self.by_expiry.first().map(|(at, _)| *at), self.by_forgetting.first().map(|(at, _)| *at)];
        self.purge_at = next.into_iter().flatten().min().unwrap_or(Instant(u64::MAX));
    }

    /// The live announcements in two numbers.
    pub(super) fn summary(&self) -> Summary {
        Summary { count: u32::try_from(self.live.len()).unwrap_or(u32::MAX), fold: self.fold }
    }

    /// As many live ids as fit into a window that starts at `start`; all of them, when all of them fit.
    pub(super) fn window(&self, start: MessageId) -> Window {
        let first = if self.live.len() <= MAX_WINDOW { MessageId::MIN } else { start };
        let ids: Vec<MessageId> = self.live.range(first..).map(|(id, _)| *id).take(MAX_WINDOW).collect();
        let last = if ids.len() < MAX_WINDOW { MessageId::MAX } else { *ids.last().expect("a full window has an end") };
        Window { first, last, ids }
    }

    /// At most `count` live ids which the owner of `window` lacks.
    pub(super) fn absent_from(&self, window: &Window, count: usize) -> Vec<MessageId> {
        let ours = self.live.range(window.first..=window.last).map(|(id, _)| *id);
        ours.filter(|id| window.ids.binary_search(id).is_err()).take(count).collect()
    }

    /// How many announcements are live, how many ids are remembered, and how many bytes the live bodies take.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.live.len(), self.remembered.len(), self.body_bytes)
    }

    fn forget_soonest(&mut self) {
        if let Some((_, id)) = self.by_forgetting.pop_first() {
            self.remembered.remove(&id);
            self.drop_live(id);
        }
    }

    /// The live announcements of one author, the soonest to expire first.
    fn of_author(&self, author: PeerId) -> impl Iterator<Item = MessageId> {
        let first = (author, Instant(0), MessageId::MIN);
        self.by_author.range(first..).take_while(move |(other, _, _)| *other == author).map(|(_, _, id)| *id)
    }

    /// Who has most live announcements.
    fn loudest(&self) -> Option<PeerId> {
        let mut counts: BTreeMap<PeerId, usize> = BTreeMap::new();
        self.by_author.iter().for_each(|(author, _, _)| *counts.entry(*author).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(author, _)| author)
    }

    fn drop_soonest_of(&mut self, author: PeerId) {
        let soonest = self.of_author(author).next();
        self.drop_live(soonest.expect("an author with announcements has a first one"));
    }

    fn drop_live(&mut self, id: MessageId) {
        let Some(Live { envelope, expires }) = self.live.remove(&id) else { return };
        self.by_expiry.remove(&(expires, id));
        self.fold ^= id.fold();
        self.body_bytes -= envelope.body().len();
        self.by_author.remove(&(envelope.author(), expires, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn envelope(author: u8, number: u16, seconds: u64) -> Envelope {
        Envelope::new(PeerId([author; 32]), number.to_le_bytes().to_vec(), Duration::from_secs(seconds)).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    fn small() -> Config {
        let mut config = Config::default();
        (config.quotas.live, config.quotas.live_per_author, config.quotas.remembered) = (4, 3, 6);
        config
    }

    #[test]
    fn an_announcement_expires_and_its_id_is_remembered_longer() {
        let (mut archive, config) = (Archive::default(), Config::default());
        let id = envelope(1, 1, 10).id();
        archive.insert(at(0), envelope(1, 1, 10), Path::Tree, &config);
        assert_eq!(archive.get(at(4), id).unwrap().lifetime(), Duration::from_secs(6));
        archive.purge(at(10));
        assert_eq!((archive.get(at(10), id), archive.knows(id), archive.summary()), (None, true, Summary::default()));
        archive.purge(at(10).after(config.tree.remember));
        assert!(!archive.knows(id));
    }

    #[test]
    fn a_loud_author_displaces_its_own_announcements_only() {
        let (mut archive, config) = (Archive::default(), small());
        archive.insert(at(0), envelope(2, 0, 5), Path::Tree, &config);
        for number in 0..5 {
            archive.insert(at(0), envelope(1, number, 10 + u64::from(number)), Path::Tree, &config);
        }
        assert_eq!(archive.sizes(), (4, 6, 8));
        assert!(archive.get(at(0), envelope(2, 0, 5).id()).is_some());
        assert!(archive.get(at(0), envelope(1, 1, 11).id()).is_none(), "the soonest to expire went");
        archive.insert(at(0), envelope(3, 0, 10), Path::Tree, &config);
        assert_eq!(archive.sizes(), (4, 6, 8), "the loudest author made room");
        assert!(archive.get(at(0), envelope(3, 0, 10).id()).is_some());
    }

    #[test]
    fn a_window_shows_what_either_side_lacks() {
        let (mut ours, mut theirs, config) = (Archive::default(), Archive::default(), Config::default());
        for number in 0..20 {
            ours.insert(at(0), envelope(1, number, 10), Path::Tree, &config);
            if number % 2 == 0 {
                theirs.insert(at(0), envelope(1, number, 10), Path::Tree, &config);
            }
        }
        assert_ne!(ours.summary(), theirs.summary());
        let absent = ours.absent_from(&theirs.window(MessageId([7; 16])), 100);
        assert_eq!(absent.len(), 10);
        for id in absent {
            theirs.insert(at(0), ours.get(at(0), id).unwrap(), Path::Tree, &config);
        }
        assert_eq!(ours.summary(), theirs.summary());
    }
}
