//! The keeper's side: jobs kept for others, and when their coordinators have been silent for so long that this peer adopts them.

use super::{
    ADOPTED_JOBS_MAX, ADOPTED_JOBS_PER_AUTHOR_MAX, ADOPTED_UNITS_MAX, KEPT_JOBS_MAX, KEPT_JOBS_PER_AUTHOR_MAX, KeepRefused, KeptJob,
};
use crate::protocol::{
    announce::{Announcement, Subject},
    ids::{JobId, PeerId},
    time::Instant,
};
use core::time::Duration;
use std::collections::BTreeMap;

/// Another keeper that announces a job and decides none of its units for so many times the silence is not listened to any more: it must
/// not hold the job up for ever.
const STALLED_SILENCES: u32 = 30;
/// And however much it says that it decides, its word is not enough any more when the author was away for so long.
const OTHERS_HEARD_FOR: Duration = Duration::from_hours(7 * 24);
/// Another keeper says that the job has ended, and its author does not come back to say the same: after this the word of one keeper is
/// not enough any more.
const CLOSED_FOR: Duration = Duration::from_hours(24);

/// Jobs that this peer keeps for others.
#[derive(Clone, Debug)]
pub struct Keeper {
    me: PeerId,
    silence: Duration,
    lends: bool,
    jobs: BTreeMap<JobId, Entry>,
}

/// A kept job that has not ended.
#[derive(Clone, Debug)]
struct Entry {
    job: KeptJob,
    /// When a coordinator was last heard.
    heard_at: Instant,
    /// When the author was.
    author_at: Instant,
    /// The last announcement of this job by each who counts; one that is said again says nothing new.
    heard: BTreeMap<PeerId, u64>,
    /// When the shell was asked to load the job, to be adopted.
    asked_at: Option<Instant>,
    /// When another keeper said that it has ended.
    closed_at: Option<Instant>,
    /// The fewest open units that another keeper has announced, and since when.
    progress: (u32, Instant),
}

/// What an announcement means for a kept job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Nothing is to be done.
    Nothing,
    /// Its author is back: this peer stops coordinating it.
    Author(JobId),
}

impl Entry {
    fn new(now: Instant, job: KeptJob) -> Self {
        let heard = BTreeMap::new();
        Self { job, heard_at: now, author_at: now, heard, asked_at: None, closed_at: None, progress: (u32::MAX, now) }
    }

    fn rank(&self, me: PeerId) -> u32 {
        let place = self.job.keepers.peers.iter().position(|peer| *peer == me);
        place.unwrap_or(self.job.keepers.peers.len()) as u32
    }

    fn due(&self, me: PeerId, silence: Duration) -> Option<Instant> {
        let patience = silence.saturating_mul(self.rank(me) + 1);
        // Where the shell could not load it, it is asked again.
        let silent = self.heard_at.max(self.asked_at.unwrap_or_default()).after(patience);
        let closed = self.closed_at.map(|at| at.after(CLOSED_FOR));
        (!self.job.adopted && !self.job.ended).then(|| silent.max(closed.unwrap_or_default()))
    }

    fn hear_author(&mut self, now: Instant) {
        (self.heard_at, self.author_at, self.closed_at, self.progress) = (now, now, None, (u32::MAX, now));
    }

    /// Whether this announcement is newer than the last one of the same peer.
    fn is_news(&mut self, from: PeerId, sequence: u64) -> bool {
        let last = self.heard.entry(from).or_default();
        core::mem::replace(last, sequence.max(*last)) < sequence
    }
}

impl Keeper {
    /// What was durable. All authors count as heard now. `lends`: this peer lends something.
    pub fn restore(now: Instant, me: PeerId, silence: Duration, lends: bool, kept: Vec<KeptJob>) -> Self {
        let entries = kept.into_iter().filter(|job| !job.ended).map(|job| (job.id, Entry::new(now, job)));
        Self { me, silence, lends, jobs: entries.collect() }
    }

    /// This peer lends something from now on, or nothing.
    pub fn set_lending(&mut self, lends: bool) {
        self.lends = lends;
    }

    /// Whether this peer would keep a job of this author.
    pub fn may_keep(&self, author: PeerId, job: JobId) -> Result<(), KeepRefused> {
        let of_author = self.jobs.values().filter(|entry| entry.job.manifest.owner == author).count();
        match () {
            () if author == self.me => Err(KeepRefused::OwnJob),
            () if self.jobs.contains_key(&job) => Ok(()),
            () if !self.lends => Err(KeepRefused::NotLending),
            () if self.jobs.len() >= KEPT_JOBS_MAX => Err(KeepRefused::TooMany),
            () if of_author >= KEPT_JOBS_PER_AUTHOR_MAX => Err(KeepRefused::TooManyOfAuthor),
            () => Ok(()),
        }
    }

    /// The jobs that are kept.
    pub fn kept(&self) -> impl Iterator<Item = &KeptJob> {
        self.jobs.values().map(|entry| &entry.job)
    }

    /// One of them.
    pub fn get(&self, job: JobId) -> Option<&KeptJob> {
        self.jobs.get(&job).map(|entry| &entry.job)
    }

    /// The number of this peer's reign over a job: the author's is the lowest, and each keeper's its own.
    pub fn generation(&self, job: JobId) -> u32 {
        self.jobs.get(&job).map_or(0, |entry| entry.rank(self.me) + 1)
    }

    /// Its author has made this peer its keeper, or sent a new list: it is here.
    pub fn keep(&mut self, now: Instant, job: KeptJob) {
        if job.ended || job.manifest.owner == self.me {
            self.jobs.remove(&job.id);
            return;
        }
        if !self.jobs.contains_key(&job.id) && self.jobs.len() >= KEPT_JOBS_MAX {
            return;
        }
        let entry = self.jobs.entry(job.id).or_insert_with(|| Entry::new(now, job.clone()));
        // Whether it is adopted is for this peer to say.
        let adopted = entry.job.adopted;
        entry.job = KeptJob { adopted, ..job };
        entry.hear_author(now);
    }

    /// Nothing is kept of the job any more.
    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    /// The author of jobs is heard.
    pub fn hear_author(&mut self, now: Instant, author: PeerId) {
        self.jobs.values_mut().filter(|entry| entry.job.manifest.owner == author).for_each(|entry| entry.hear_author(now));
    }

    /// An announcement, which its author has signed.
    pub fn hear(&mut self, now: Instant, from: PeerId, announcement: &Announcement) -> Heard {
        let (job, open) = match &announcement.subject {
            Subject::JobOpen(open) => (open.job, Some(open.open_units)),
            Subject::JobClosed { job, .. } => (*job, None),
            Subject::Capacity(_) | Subject::Accusation(_) => return Heard::Nothing,
        };
        let stalled = self.silence.saturating_mul(STALLED_SILENCES);
        let Some(entry) = self.jobs.get_mut(&job) else { return Heard::Nothing };
        let by_author = from == entry.job.manifest.owner;
        if !(by_author || entry.job.keepers.peers.contains(&from)) || !entry.is_news(from, announcement.sequence) {
            return Heard::Nothing;
        }
        if by_author {
            entry.hear_author(now);
            entry.job.ended = open.is_none();
            return Heard::Author(job);
        }
        match open {
            // Whoever says it again says nothing new.
            None => drop(entry.closed_at.get_or_insert(now)),
            // It coordinates the job no longer.
            Some(0) => {}
            Some(units) => {
                if units < entry.progress.0 {
                    entry.progress = (units, now);
                }
                if now.since(entry.progress.1) < stalled && now.since(entry.author_at) < OTHERS_HEARD_FOR {
                    entry.heard_at = now;
                }
            }
        }
        Heard::Nothing
    }

    /// When a job may have to be adopted.
    pub fn deadline(&self) -> Option<Instant> {
        self.jobs.values().filter_map(|entry| entry.due(self.me, self.silence)).min()
    }

    /// The jobs to adopt now; those for which there is no room beside those that run wait for as long again.
    pub fn due(&mut self, now: Instant, runs: impl Fn(JobId) -> bool) -> Vec<JobId> {
        let due = |entry: &Entry, keeper: &Self| entry.due(keeper.me, keeper.silence).is_some_and(|at| at <= now);
        let jobs: Vec<JobId> = self.jobs.iter().filter(|(_, entry)| due(entry, self)).map(|(job, _)| *job).collect();
        let mut adopt = Vec::new();
        for job in jobs {
            let has_room = self.lends && self.has_room(job, |other| adopt.contains(&other) || runs(other));
            let Some(entry) = self.jobs.get_mut(&job) else { continue };
            if has_room {
                entry.asked_at = Some(now);
                adopt.push(job);
            } else {
                entry.heard_at = now;
            }
        }
        adopt
    }

    /// Whether one more may be adopted, beside those that run.
    fn has_room(&self, job: JobId, runs: impl Fn(JobId) -> bool) -> bool {
        let Some(wanted) = self.get(job).map(|job| &job.manifest) else { return false };
        let here = || self.jobs.values().map(|entry| &entry.job).filter(|kept| runs(kept.id));
        let units: u32 = here().map(|kept| kept.manifest.units()).fold(0, u32::saturating_add);
        here().count() < ADOPTED_JOBS_MAX
            && here().filter(|kept| kept.manifest.owner == wanted.owner).count() < ADOPTED_JOBS_PER_AUTHOR_MAX
            && (units == 0 || units.saturating_add(wanted.units()) <= ADOPTED_UNITS_MAX)
    }

    /// The shell has loaded a job. Whether this peer coordinates it from now on: not if its author was heard meanwhile.
    pub fn adopt(&mut self, job: JobId) -> bool {
        let Some(entry) = self.jobs.get_mut(&job) else { return false };
        let asked = entry.asked_at.take();
        entry.job.adopted = asked.is_some_and(|asked| entry.heard_at <= asked) && !entry.job.ended;
        entry.job.adopted
    }

    /// After a restart: what is not here was not adopted.
    pub fn only_adopted(&mut self, here: impl Fn(JobId) -> bool) {
        self.jobs.iter_mut().for_each(|(job, entry)| entry.job.adopted &= here(*job));
    }

    /// This peer coordinates the job no longer, and begins to listen anew.
    pub fn hand_back(&mut self, now: Instant, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.job.adopted = false;
            entry.asked_at = None;
            entry.hear_author(now);
        }
    }
}
