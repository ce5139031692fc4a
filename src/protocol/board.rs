//! The board: open jobs and lent capacity, as announced by others. A bounded table, fair per key.

use super::{
    announce::{Announcement, Capacity, JobOpen, Subject},
    ids::{Digest, JobId, PeerId},
    time::Instant,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most jobs remembered of one author; the oldest goes first. More would let one key fill the table.
pub const JOBS_PER_AUTHOR_MAX: usize = 32;
/// The most authors of jobs remembered. At 2 KiB an announcement the table stays below 64 MiB in the worst case.
pub const AUTHORS_MAX: usize = 1024;
/// The most peers whose capacity is remembered, apart from the authors of jobs: those with the lowest lots. They are a random sample
/// of the grid, from which its size is estimated to about a sixth.
pub const CAPACITIES_MAX: usize = 48;
/// About so many peers of a large grid announce what they lend; in one that is not larger, everybody does.
pub const ANNOUNCERS: u32 = 32;
/// With fewer heard the grid is taken for as small as it looks.
const SAMPLE_MIN: usize = 20;

/// What others have announced.
#[derive(Clone, Debug, Default)]
pub struct Board {
    authors: BTreeMap<PeerId, Author>,
    capacities: BTreeMap<PeerId, Heard<Capacity>>,
    /// Whose capacities these are, by their lots.
    by_lot: BTreeSet<(Lot, PeerId)>,
    /// Nothing expires before it.
    next_expiry: Option<Instant>,
    /// Grows with every change of the open jobs.
    revision: u64,
}

#[derive(Clone, Debug, Default)]
struct Author {
    jobs: BTreeMap<JobId, Heard<Option<JobOpen>>>,
}

/// Something heard, the newest by its sequence, until it expires. A closed job is remembered as `None`, so that an older
/// announcement which arrives later does not open it again.
#[derive(Clone, Debug)]
struct Heard<T> {
    sequence: u64,
    expiry: Instant,
    what: T,
}

/// A number that belongs to a key like one drawn at random. The lower half of all lots is held by half of all peers, and so on: who
/// knows the lowest knows about how many there are. Keys with low lots can be made up, and then the estimate is too high; it is shown to
/// people and spares announcements, no more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Lot(u64);

impl Lot {
    fn of(peer: PeerId) -> Self {
        let mut head = [0; 8];
        head.copy_from_slice(&Digest::of_parts(&[b"capacity", peer.as_bytes()]).0[..8]);
        Self(u64::from_le_bytes(head))
    }

    /// The part of all lots that is not above this one.
    fn share(self) -> f64 {
        (self.0 as f64 + 1.0) / u64::MAX as f64
    }
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
        let Announcement { sequence, lifetime, subject } = announcement;
        let expiry = now.after(lifetime);
        let taken = match subject {
            Subject::JobOpen(open) => self.hear_job(now, author, open.job, Heard { sequence, expiry, what: Some(open) }),
            Subject::JobClosed { job, .. } => self.hear_job(now, author, job, Heard { sequence, expiry, what: None }),
            Subject::Capacity(capacity) => self.hear_capacity(now, author, Heard { sequence, expiry, what: capacity }),
            // Heard elsewhere.
            Subject::Accusation(_) => false,
        };
        if taken {
            self.next_expiry = Some(self.next_expiry.map_or(expiry, |next| next.min(expiry)));
        }
    }

    fn hear_job(&mut self, now: Instant, author: PeerId, job: JobId, heard: Heard<Option<JobOpen>>) -> bool {
        if !self.authors.contains_key(&author) && self.authors.len() >= AUTHORS_MAX {
            self.drop_expired(now);
            // Whoever has open work goes before those whose jobs are closed.
            let idle = self.authors.iter().find(|(_, known)| known.jobs.values().all(|job| job.what.is_none())).map(|(peer, _)| *peer);
            match idle.filter(|_| heard.what.is_some() && self.authors.len() >= AUTHORS_MAX) {
                Some(idle) => drop(self.authors.remove(&idle)),
                None if self.authors.len() >= AUTHORS_MAX => return false,
                None => {}
            }
        }
        let taken = self.authors.entry(author).or_default().hear_job(job, heard);
        self.revision += u64::from(taken);
        taken
    }

    fn hear_capacity(&mut self, now: Instant, author: PeerId, heard: Heard<Capacity>) -> bool {
        match self.capacities.get(&author) {
            Some(known) if known.sequence >= heard.sequence => return false,
            Some(_) => {}
            None => {
                if self.by_lot.len() >= CAPACITIES_MAX {
                    self.drop_expired(now);
                }
                self.by_lot.insert((Lot::of(author), author));
            }
        }
        self.capacities.insert(author, heard);
        if self.by_lot.len() > CAPACITIES_MAX
            && let Some((_, highest)) = self.by_lot.pop_last()
        {
            self.capacities.remove(&highest);
            return highest != author;
        }
        true
    }

    /// Whether this peer is one of those that tell the grid what they lend. All are in a small grid; in a large one about
    /// [`ANNOUNCERS`], drawn by their keys, so that what everybody carries and remembers does not grow with the grid.
    pub fn is_announcer(&self, me: PeerId) -> bool {
        Lot::of(me).share() * self.peers() <= f64::from(ANNOUNCERS)
    }

    /// How many capacities are remembered; at most [`CAPACITIES_MAX`].
    pub fn capacities(&self) -> usize {
        self.capacities.len()
    }

    /// How many peers lend something, this one apart, from those heard.
    fn peers(&self) -> f64 {
        let heard = self.by_lot.len();
        let spread = self.by_lot.last().map_or(1.0, |(lot, _)| lot.share());
        if heard < SAMPLE_MIN || spread > 0.5 { heard as f64 } else { heard as f64 / spread }
    }

    /// Changes whenever the open jobs may have changed, so that who follows them looks only then.
    pub fn revision(&self) -> u64 {
        self.revision
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

    /// An estimate of the grid without this peer. What has just expired counts until it is dropped.
    pub fn estimate(&self) -> GridEstimate {
        let heard: f64 = self.capacities.values().map(|heard| f64::from(heard.what.slots)).sum();
        let peers = self.peers();
        let slots = heard * peers / self.capacities.len().max(1) as f64;
        GridEstimate { peers: peers as u32, slots: slots as u32 }
    }

    /// What one peer lends, if it is among those whose capacity is remembered.
    pub fn capacity(&self, peer: PeerId) -> Option<&Capacity> {
        self.capacities.get(&peer).map(|heard| &heard.what)
    }

    /// When the next announcement may expire: never later than it does.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Forgets what has expired.
    pub fn drop_expired(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        for author in self.authors.values_mut() {
            author.jobs.retain(|_, heard| heard.expiry > now);
        }
        self.authors.retain(|_, author| !author.jobs.is_empty());
        self.capacities.retain(|_, heard| heard.expiry > now);
        self.by_lot.retain(|(_, peer)| self.capacities.contains_key(peer));
        let jobs = self.authors.values().flat_map(|author| author.jobs.values().map(|heard| heard.expiry));
        self.next_expiry = jobs.chain(self.capacities.values().map(|heard| heard.expiry)).min();
        self.revision += 1;
    }
}

impl Author {
    fn hear_job(&mut self, job: JobId, heard: Heard<Option<JobOpen>>) -> bool {
        if self.jobs.get(&job).is_some_and(|known| known.sequence >= heard.sequence) {
            return false;
        }
        if self.jobs.len() >= JOBS_PER_AUTHOR_MAX && !self.jobs.contains_key(&job) {
            let oldest = self.jobs.iter().min_by_key(|(_, known)| known.expiry).map(|(job, _)| *job);
            oldest.map(|oldest| self.jobs.remove(&oldest));
        }
        self.jobs.insert(job, heard);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn key(number: u32) -> PeerId {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        PeerId(key)
    }

    fn lend(board: &mut Board, peers: core::ops::Range<u32>) {
        let capacity = Capacity { slots: 2, memory_bytes: 1, validation_class: String::new(), idle_slots: 1 };
        for peer in peers {
            let subject = Subject::Capacity(capacity.clone());
            board.hear(NOW, key(peer), Announcement { sequence: 1, lifetime: Duration::from_secs(60), subject });
        }
    }

    #[test]
    fn a_small_grid_is_counted_and_a_large_one_estimated_from_a_sample() {
        let mut board = Board::default();
        lend(&mut board, 0..19);
        assert_eq!(board.estimate(), GridEstimate { peers: 19, slots: 38 });
        assert!((0..1000).all(|peer| board.is_announcer(key(peer))));
        lend(&mut board, 19..10_000);
        let GridEstimate { peers, slots } = board.estimate();
        assert!((6_500..15_000).contains(&peers), "{peers}");
        assert!(slots.abs_diff(2 * peers) <= 2, "{slots}");
        assert_eq!((board.capacities.len(), board.by_lot.len()), (CAPACITIES_MAX, CAPACITIES_MAX));
        let announcers = (0..10_000).filter(|&peer| board.is_announcer(key(peer))).count();
        assert!((18..56).contains(&announcers), "{announcers}");
        // Whoever hears those alone, a newcomer for instance, comes to about the same.
        let mut other = Board::default();
        (0..10_000).filter(|&peer| board.is_announcer(key(peer))).for_each(|peer| lend(&mut other, peer..peer + 1));
        assert!((6_000..16_000).contains(&other.estimate().peers), "{}", other.estimate().peers);
        board.drop_expired(NOW.after(Duration::from_secs(60)));
        assert_eq!((board.estimate(), board.by_lot.len()), (GridEstimate::default(), 0));
    }

    #[test]
    fn capacities_and_closed_jobs_do_not_crowd_out_open_jobs() {
        let mut board = Board::default();
        lend(&mut board, 0..2 * CAPACITIES_MAX as u32);
        assert_eq!(board.capacities.len(), CAPACITIES_MAX);
        for peer in 0..2 * AUTHORS_MAX as u32 {
            board.hear(NOW, key(peer), closed(1, 1));
        }
        board.hear(NOW, AUTHOR, open(7, 1, 5));
        assert_eq!(board.coordinators(NOW), BTreeSet::from([AUTHOR]));
        for peer in 0..2 * AUTHORS_MAX as u32 {
            board.hear(NOW, key(peer), open(1, 2, 5));
        }
        assert_eq!(board.coordinators(NOW).len(), AUTHORS_MAX);
        assert!(board.coordinators(NOW).contains(&AUTHOR), "open jobs displace no open jobs");
    }
}
