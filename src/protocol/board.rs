//! The board: open jobs and lent capacity, as announced by others. A bounded table, fair per key.

use super::{
    announce::{Announcement, Capacity, JobOpen, Subject},
    ids::{JobId, PeerId},
    time::Instant,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most jobs remembered of one author; the oldest goes first. More would let one key fill the table.
pub const JOBS_PER_AUTHOR_MAX: usize = 32;
/// The most authors remembered. At 2 KiB an announcement the table stays below 64 MiB in the worst case.
pub const AUTHORS_MAX: usize = 1024;

/// What others have announced.
#[derive(Clone, Debug, Default)]
pub struct Board {
    authors: BTreeMap<PeerId, Author>,
}

#[derive(Clone, Debug, Default)]
struct Author {
    jobs: BTreeMap<JobId, Heard<Option<JobOpen>>>,
    capacity: Option<Heard<Capacity>>,
}

/// Something heard, the newest by its sequence, until it expires. A closed job is remembered as `None`, so that an older
/// announcement which arrives later does not open it again.
#[derive(Clone, Debug)]
struct Heard<T> {
    sequence: u64,
    expiry: Instant,
    what: T,
}

/// What the capacity announcements add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GridEstimate {
    /// Peers that lend something.
    pub peers: u32,
    /// Their slots.
    pub slots: u32,
}

impl Board {
    /// Takes in an announcement, which the border has verified and bounded.
    pub fn hear(&mut self, now: Instant, author: PeerId, announcement: Announcement) {
        if !self.authors.contains_key(&author) && self.authors.len() >= AUTHORS_MAX {
            self.drop_expired(now);
            if self.authors.len() >= AUTHORS_MAX {
                return;
            }
        }
        let Announcement { sequence, lifetime, subject } = announcement;
        let expiry = now.after(lifetime);
        let author = self.authors.entry(author).or_default();
        match subject {
            Subject::JobOpen(open) => author.hear_job(open.job, Heard { sequence, expiry, what: Some(open) }),
            Subject::JobClosed { job, .. } => author.hear_job(job, Heard { sequence, expiry, what: None }),
            Subject::Capacity(capacity) => {
                if author.capacity.as_ref().is_none_or(|known| known.sequence < sequence) {
                    author.capacity = Some(Heard { sequence, expiry, what: capacity });
                }
            }
        }
    }

    /// Jobs with open units, and who coordinates them.
    pub fn open_jobs(&self, now: Instant) -> impl Iterator<Item = (PeerId, &JobOpen)> {
        self.authors.iter().flat_map(move |(author, heard)| {
            let live = heard.jobs.values().filter(move |job| job.expiry > now).filter_map(|job| job.what.as_ref());
            live.filter(|open| open.open_units > 0).map(|open| (*author, open))
        })
    }

    /// Who coordinates a job, if it was announced.
    pub fn coordinator_of(&self, job: JobId) -> Option<PeerId> {
        self.authors.iter().find(|(_, heard)| heard.jobs.contains_key(&job)).map(|(author, _)| *author)
    }

    /// All jobs whose name begins with these hexadecimal digits, ended ones included as long as they are remembered.
    pub fn jobs_named(&self, prefix: &str) -> BTreeSet<JobId> {
        let jobs = self.authors.values().flat_map(|heard| heard.jobs.keys());
        jobs.filter(|job| job.to_string().starts_with(prefix)).copied().collect()
    }

    /// Coordinators with open jobs.
    pub fn coordinators(&self, now: Instant) -> BTreeSet<PeerId> {
        self.open_jobs(now).map(|(author, _)| author).collect()
    }

    /// An estimate of the grid without this peer.
    pub fn estimate(&self, now: Instant) -> GridEstimate {
        let live = self.authors.values().filter_map(|author| author.capacity.as_ref()).filter(|heard| heard.expiry > now);
        live.fold(GridEstimate::default(), |sum, heard| GridEstimate {
            peers: sum.peers + 1,
            slots: sum.slots.saturating_add(heard.what.slots),
        })
    }

    /// What one peer lends.
    pub fn capacity(&self, peer: PeerId) -> Option<&Capacity> {
        self.authors.get(&peer).and_then(|author| author.capacity.as_ref()).map(|heard| &heard.what)
    }

    /// When the next announcement expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.authors.values().filter_map(Author::next_expiry).min()
    }

    /// Forgets what has expired.
    pub fn drop_expired(&mut self, now: Instant) {
        for author in self.authors.values_mut() {
            author.jobs.retain(|_, heard| heard.expiry > now);
            author.capacity.take_if(|heard| heard.expiry <= now);
        }
        self.authors.retain(|_, author| !author.jobs.is_empty() || author.capacity.is_some());
    }
}

impl Author {
    fn hear_job(&mut self, job: JobId, heard: Heard<Option<JobOpen>>) {
        if self.jobs.get(&job).is_some_and(|known| known.sequence >= heard.sequence) {
            return;
        }
        if self.jobs.len() >= JOBS_PER_AUTHOR_MAX && !self.jobs.contains_key(&job) {
            let oldest = self.jobs.iter().min_by_key(|(_, known)| known.expiry).map(|(job, _)| *job);
            oldest.map(|oldest| self.jobs.remove(&oldest));
        }
        self.jobs.insert(job, heard);
    }

    fn next_expiry(&self) -> Option<Instant> {
        let jobs = self.jobs.values().map(|heard| heard.expiry);
        jobs.chain(self.capacity.iter().map(|heard| heard.expiry)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::Digest;
    use core::time::Duration;

    fn open(job: u8, sequence: u64, open_units: u32) -> Announcement {
        let job = JobOpen {
            job: JobId([job; 32]),
            generation: 0,
            module: Digest([0; 32]),
            purpose: String::new(),
            tags: vec![],
            memory_bytes: 0,
            open_units,
            priority: 0,
            contact: vec![],
        };
        Announcement { sequence, lifetime: Duration::from_secs(60), subject: Subject::JobOpen(job) }
    }

    fn closed(job: u8, sequence: u64) -> Announcement {
        let subject = Subject::JobClosed { job: JobId([job; 32]), generation: 0 };
        Announcement { sequence, lifetime: Duration::from_secs(60), subject }
    }

    const NOW: Instant = Instant(0);
    const AUTHOR: PeerId = PeerId([1; 32]);

    #[test]
    fn the_newest_announcement_wins_in_any_order() {
        let mut board = Board::default();
        board.hear(NOW, AUTHOR, closed(1, 2));
        board.hear(NOW, AUTHOR, open(1, 1, 5));
        assert_eq!(board.open_jobs(NOW).count(), 0);
        board.hear(NOW, AUTHOR, open(1, 3, 5));
        assert_eq!(board.open_jobs(NOW).count(), 1);
        board.hear(NOW, AUTHOR, open(1, 4, 0));
        assert_eq!(board.coordinators(NOW).len(), 0, "nothing left to hand out");
    }

    #[test]
    fn announcements_expire() {
        let mut board = Board::default();
        board.hear(NOW, AUTHOR, open(1, 1, 5));
        let later = NOW.after(Duration::from_secs(60));
        assert_eq!(board.deadline(), Some(later));
        assert_eq!(board.open_jobs(later).count(), 0);
        board.drop_expired(later);
        assert_eq!(board.deadline(), None);
    }

    #[test]
    fn one_author_cannot_fill_the_board() {
        let mut board = Board::default();
        for job in 0..200 {
            board.hear(Instant(job.into()), AUTHOR, open(job, 1, 5));
        }
        board.hear(NOW, PeerId([2; 32]), open(7, 1, 5));
        assert_eq!(board.open_jobs(NOW).count(), JOBS_PER_AUTHOR_MAX + 1);
    }
}
