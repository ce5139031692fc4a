//! Room for other people's jobs: what they take of the disk, whose they are, and which of them go. Pure: the store counts what is
//! there, and the keeper removes what is named here.
//!
//! A job is kept as long as it runs, unless its author takes too much. What is kept of one that has ended is a convenience, since its
//! author has it too: it goes after [`ENDED_KEPT_FOR`], or earlier where the room is needed. What this machine itself went on with,
//! while the author was away, may be nowhere else, and stays that long.

use crate::{
    protocol::ids::{JobId, PeerId},
    store::KeptSize,
};
use std::{collections::BTreeMap, time::Duration};

/// When kept jobs take so much of the disk together no further ones are taken: a quarter of what other people's blobs may. Those that run
/// may go on growing, by as much as this again at most, since it meets who has more than an equal share.
const BYTES_MAX: u64 = 1 << 30;
/// What those of one author may take of it, so that none takes all.
const OF_AUTHOR_BYTES_MAX: u64 = BYTES_MAX / 4 * 3;
/// Beyond this, jobs that have ended go before their time.
const TIGHT_BYTES: u64 = BYTES_MAX / 2;
/// The most jobs, running or not: a small one takes little more than its row, and all are counted once a minute.
const JOBS_MAX: usize = 4096;
/// The most jobs of one author that have ended.
const ENDED_OF_AUTHOR_MAX: usize = 64;
/// How long what is kept of a job stays when it has ended: an author may be on holiday, or its readers.
const ENDED_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long it stays at least, so that nobody pushes out what others still read; unless its author has more than
/// [`ENDED_OF_AUTHOR_MAX`] of them.
const ENDED_KEPT_AT_LEAST: Duration = Duration::from_secs(24 * 3600);

const NO_ROOM: &str = "no room for other people's jobs";

/// What other people's jobs take.
#[derive(Debug, Default)]
pub(super) struct Room {
    jobs: BTreeMap<JobId, (PeerId, u64)>,
    bytes: BTreeMap<PeerId, u64>,
}

impl Room {
    /// Counts what is stored.
    pub fn of(kept: &[KeptSize]) -> Self {
        let mut room = Self::default();
        kept.iter().for_each(|job| room.add(job.author, job.id, job.bytes));
        room
    }

    /// More has come for a job, or its first.
    pub fn add(&mut self, author: PeerId, job: JobId, bytes: u64) {
        let (_, of_job) = self.jobs.entry(job).or_insert((author, 0));
        *of_job = of_job.saturating_add(bytes);
        let of_author = self.bytes.entry(author).or_default();
        *of_author = of_author.saturating_add(bytes);
    }

    /// A job goes.
    pub fn remove(&mut self, job: JobId) {
        let Some((author, bytes)) = self.jobs.remove(&job) else { return };
        let left = self.bytes.get(&author).copied().unwrap_or(0).saturating_sub(bytes);
        if left > 0 {
            self.bytes.insert(author, left)
        } else {
            self.bytes.remove(&author)
        };
    }

    /// Why nothing more comes of a job of this author, if so. Where there is no room it meets those who take more than others.
    pub fn refusal(&self, author: PeerId) -> Option<&'static str> {
        let of_author = self.bytes.get(&author).copied().unwrap_or(0);
        let equal_share = BYTES_MAX / (self.bytes.len() as u64).max(1);
        match () {
            () if of_author > OF_AUTHOR_BYTES_MAX => Some("no room for more jobs of this author"),
            () if self.is_full() && of_author >= equal_share => Some(NO_ROOM),
            () => None,
        }
    }

    /// Why no further job of this author is kept, if so.
    pub fn refusal_of_another(&self, author: PeerId) -> Option<&'static str> {
        match () {
            () if self.jobs.len() >= JOBS_MAX => Some("too many jobs of others are kept"),
            () if self.is_full() => Some(NO_ROOM),
            () => self.refusal(author),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)) >= BYTES_MAX
    }
}

/// The jobs that go, at this time in seconds since 1970.
pub(super) fn outdated(kept: &[KeptSize], now_unix: u64) -> Vec<JobId> {
    let mut ended: Vec<(u64, &KeptSize)> = kept.iter().filter_map(|job| Some((job.ended_unix?, job))).collect();
    ended.sort_by_key(|(at, job)| (*at, job.id));
    let mut of_author: BTreeMap<PeerId, usize> = BTreeMap::new();
    ended.iter().for_each(|(_, job)| *of_author.entry(job.author).or_default() += 1);
    let mut bytes = kept.iter().fold(0, |sum: u64, job| sum.saturating_add(job.bytes));
    let mut jobs = kept.len();
    let mut outdated = Vec::new();
    for (at, job) in ended {
        let age = Duration::from_secs(now_unix.saturating_sub(at));
        let left = of_author.entry(job.author).or_default();
        // Small jobs cost nothing, so where there are too many nobody may keep the places for a day.
        let too_many = jobs > JOBS_MAX / 2;
        let goes = match job.adopted {
            _ if age >= ENDED_KEPT_FOR => true,
            true => too_many && age >= ENDED_KEPT_AT_LEAST,
            false => too_many || *left > ENDED_OF_AUTHOR_MAX || (bytes > TIGHT_BYTES && age >= ENDED_KEPT_AT_LEAST),
        };
        if goes {
            bytes = bytes.saturating_sub(job.bytes);
            jobs -= 1;
            *left -= 1;
            outdated.push(job.id);
        }
    }
    outdated
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 24 * 3600;

    fn job(id: u16, author: u8, bytes: u64, days: Option<u64>) -> KeptSize {
        let mut name = [0; 32];
        name[..2].copy_from_slice(&id.to_be_bytes());
        KeptSize { id: JobId(name), author: PeerId([author; 32]), bytes, ended_unix: days.map(|days| NOW - days * DAY), adopted: false }
    }

    fn gone(kept: &[KeptSize]) -> Vec<u16> {
        outdated(kept, NOW).into_iter().map(|job| u16::from_be_bytes([job.0[0], job.0[1]])).collect()
    }

    #[test]
    fn what_ended_a_month_ago_goes_and_what_runs_never_does() {
        assert_eq!(gone(&[job(1, 1, 9, Some(30)), job(2, 1, 9, Some(29)), job(3, 1, 9, None)]), [1]);
        assert_eq!(gone(&[job(1, 1, BYTES_MAX, None)]), [0_u16; 0]);
        let ahead = KeptSize { ended_unix: Some(NOW + 5 * DAY), ..job(1, 1, BYTES_MAX, None) };
        assert_eq!(gone(&[ahead]), [0_u16; 0], "a clock that was ahead");
    }

    #[test]
    fn where_it_is_tight_the_oldest_go_first_and_none_within_a_day() {
        let third = BYTES_MAX / 3;
        let kept = [job(1, 1, third, Some(2)), job(2, 2, third, Some(5)), job(3, 3, third, Some(3)), job(4, 4, 9, None)];
        assert_eq!(gone(&kept), [2, 3], "then half of it is free");
        assert_eq!(gone(&[job(1, 1, BYTES_MAX, Some(0)), job(2, 1, 9, Some(1))]), [2]);
    }

    #[test]
    fn what_may_be_nowhere_else_stays_longer() {
        let adopted = |id, days| KeptSize { adopted: true, ..job(id, 1, BYTES_MAX, Some(days)) };
        assert_eq!(gone(&[adopted(1, 29), adopted(2, 30), job(3, 1, 9, Some(1))]), [2, 3]);
        assert_eq!(gone(&(0..70).map(|n| adopted(n, 0)).collect::<Vec<_>>()), [0_u16; 0]);
    }

    #[test]
    fn places_are_not_held_by_many_small_jobs() {
        let kept: Vec<KeptSize> = (0..3000).map(|n| job(n, (n / 60) as u8, 9, Some(0))).collect();
        assert_eq!(gone(&kept).len(), 3000 - JOBS_MAX / 2);
    }

    #[test]
    fn one_author_has_few_that_have_ended_and_no_others_go_for_them() {
        let mut kept: Vec<KeptSize> = (0..70).map(|n| job(n, 1, 9, Some(0))).collect();
        kept.push(job(100, 2, 9, Some(20)));
        assert_eq!(gone(&kept), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_author_gets_no_more_than_its_share_and_all_together_no_more_than_there_is() {
        let (greedy, other, small) = (PeerId([1; 32]), PeerId([2; 32]), job(2, 1, 0, None).id);
        let mut room = Room::of(&[job(1, 1, OF_AUTHOR_BYTES_MAX, None)]);
        assert_eq!((room.refusal(greedy), room.refusal(other)), (None, None));
        room.add(greedy, small, 1);
        assert!(room.refusal(greedy).is_some() && room.refusal_of_another(other).is_none());
        let mut room = Room::of(&[job(1, 1, OF_AUTHOR_BYTES_MAX, None)]);
        room.add(other, small, BYTES_MAX - OF_AUTHOR_BYTES_MAX);
        assert!(room.refusal_of_another(other).is_some(), "there is no room");
        assert!(room.refusal(other).is_none() && room.refusal(greedy).is_some(), "for him who has most of it");
        room.remove(job(1, 1, 0, None).id);
        assert!(room.refusal(greedy).is_none(), "what has gone makes room at once");
        let many: Vec<KeptSize> = (0..4096).map(|n| job(n, 1, 0, None)).collect();
        assert!(Room::of(&many).refusal_of_another(other).is_some() && Room::of(&many).refusal(other).is_none());
    }
}
