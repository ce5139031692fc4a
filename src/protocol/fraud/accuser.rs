//! What is remembered of those who accuse others: how often lately, and whether they lied.

use crate::protocol::{ids::PeerId, time::Instant};
use core::time::Duration;
use std::collections::BTreeMap;

/// Accusations of one key that are checked in an hour. An honest owner that convicts is believed as soon as one of them was checked.
pub(super) const CHECKS_PER_HOUR: u32 = 6;
/// How long a key that accused somebody wrongly is not heard: as long as receipts are kept.
pub(super) const IGNORED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most accusers remembered. Beyond it the one goes that would be forgiven first; to be heard, a key must accuse somebody with a
/// record, and an entry is 60 bytes.
pub(super) const ACCUSERS_MAX: usize = 4096;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
struct Accuser {
    /// Accusations since `since`.
    spent: u32,
    /// Not heard at all.
    ignored: bool,
    /// When it is forgotten.
    until: Instant,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Accusers {
    known: BTreeMap<PeerId, Accuser>,
}

impl Accusers {
    fn entry(&mut self, now: Instant, peer: PeerId) -> &mut Accuser {
        if self.known.get(&peer).is_some_and(|known| known.until <= now) {
            self.known.remove(&peer);
        }
        if self.known.len() >= ACCUSERS_MAX && !self.known.contains_key(&peer) {
            let first = self.known.iter().min_by_key(|(_, known)| known.until).map(|(peer, _)| *peer);
            first.map(|first| self.known.remove(&first));
        }
        self.known.entry(peer).or_insert(Accuser { spent: 0, ignored: false, until: now.after(HOUR) })
    }

    /// Takes one of the peer's accusations of this hour; `false` when it has none left.
    pub fn spend(&mut self, now: Instant, peer: PeerId) -> bool {
        let accuser = self.entry(now, peer);
        let may = accuser.spent < CHECKS_PER_HOUR;
        accuser.spent += u32::from(may);
        may
    }

    /// It accused somebody wrongly.
    pub fn lied(&mut self, now: Instant, peer: PeerId) {
        let accuser = self.entry(now, peer);
        (accuser.ignored, accuser.until) = (true, now.after(IGNORED_FOR));
    }

    pub fn is_ignored(&self, now: Instant, peer: PeerId) -> bool {
        self.known.get(&peer).is_some_and(|known| known.ignored && known.until > now)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
