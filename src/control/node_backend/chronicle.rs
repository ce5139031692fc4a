//! When jobs began and ended, and how fast they go: observed once a second, since the protocol knows no calendar.
//!
//! Beginnings and ends are notes in the store (`job-created/ID`, `job-ended/ID`, milliseconds since 1970, little endian);
//! speeds live in memory only.

use super::{Shared, millis};
use crate::{
    control::backend::Reply,
    node::Handle,
    protocol::ids::JobId,
    store::{Store, StoreError, Write},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, UNIX_EPOCH},
};
use tokio::time::Instant;

/// How often running jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What "the last seconds" are in units per second.
const RECENT: Duration = Duration::from_secs(10);
/// How far back speeds are remembered, for estimates.
const REMEMBERED: Duration = Duration::from_secs(60);
/// No estimate before a job has run for so long: before that, it says more about the start than about the job.
const ESTIMATE_AFTER: Duration = Duration::from_secs(30);
/// The share of units decided before which there is no estimate either.
const ESTIMATE_SHARE: f64 = 0.01;
/// How much the ends of an estimate lie apart at least, as factors of the faster and the slower speed seen.
const ESTIMATE_SPREAD: (f64, f64) = (0.9, 1.2);

/// When a job began and ended, in milliseconds since 1970; zero where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub created: u64,
    pub ended: u64,
}

impl Times {
    /// How long the job has run, or ran; zero where it is not known.
    pub fn elapsed(&self, now_unix_ms: u64) -> Duration {
        let until = if self.ended > 0 { self.ended } else { now_unix_ms };
        Duration::from_millis(if self.created == 0 { 0 } else { until.saturating_sub(self.created) })
    }
}

/// What is known about the course of jobs.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    times: Mutex<BTreeMap<JobId, Times>>,
    paces: Mutex<BTreeMap<JobId, Pace>>,
    /// Jobs that ran when they were last looked at.
    running: Mutex<BTreeSet<JobId>>,
}

/// How many units of a job were decided when.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(VecDeque<(Instant, u32)>);

impl Pace {
    fn add(&mut self, now: Instant, decided: u32) {
        // Units that were re-opened make speeds meaningless for a while.
        if self.0.back().is_some_and(|(_, before)| *before > decided) {
            self.0.clear();
        }
        self.0.push_back((now, decided));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > REMEMBERED) {
            self.0.pop_front();
        }
    }

    /// Units per second over the last `span`; zero where it is not known.
    fn rate(&self, span: Duration) -> f64 {
        let Some(&(last, decided)) = self.0.back() else { return 0.0 };
        let Some(&(first, before)) = self.0.iter().find(|(at, _)| last.duration_since(*at) <= span) else { return 0.0 };
        let seconds = last.duration_since(first).as_secs_f64();
        if seconds < 0.5 { 0.0 } else { f64::from(decided - before) / seconds }
    }
}

/// Between which times from now a job will be done, in milliseconds; none where it would mean nothing.
fn estimate(elapsed: Duration, units: u32, decided: u32, recent: f64) -> Option<(u64, u64)> {
    let left = f64::from(units.saturating_sub(decided));
    let early = elapsed < ESTIMATE_AFTER || f64::from(decided) < f64::from(units) * ESTIMATE_SHARE;
    let overall = f64::from(decided) / elapsed.as_secs_f64();
    if early || left == 0.0 || decided == 0 || !overall.is_finite() {
        return None;
    }
    let (fast, slow) = if recent > 0.0 { (overall.max(recent), overall.min(recent)) } else { (overall, overall) };
    let ms = |seconds: f64| millis(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    Some((ms(left / fast * ESTIMATE_SPREAD.0), ms(left / slow * ESTIMATE_SPREAD.1)))
}

impl Chronicle {
    /// When a job began and ended; one that has ended without having been followed ended now. Blocks on the disk.
    pub fn times(&self, store: &Store, job: JobId, has_ended: bool) -> Result<Times, StoreError> {
        let times = self.known_times(store, job)?;
        if has_ended && times.ended == 0 {
            self.note_ends(store, &[job], &[])?;
            return self.known_times(store, job);
        }
        Ok(times)
    }

    fn known_times(&self, store: &Store, job: JobId) -> Result<Times, StoreError> {
        if let Some(times) = lock(&self.times).get(&job) {
            return Ok(*times);
        }
        let times = Times { created: read(store, "created", job)?, ended: read(store, "ended", job)? };
        lock(&self.times).insert(job, times);
        Ok(times)
    }

    /// A job begins now. Blocks until that is durable.
    pub fn begin(&self, store: &Store, job: JobId) -> Result<(), StoreError> {
        let times = Times { created: unix_ms(), ended: 0 };
        store.commit_blocking(vec![note("created", job, times.created)])?;
        lock(&self.times).insert(job, times);
        lock(&self.running).insert(job);
        Ok(())
    }

    /// Notes that jobs have ended, or go on after they had. Blocks until that is durable.
    fn note_ends(&self, store: &Store, ended: &[JobId], running: &[JobId]) -> Result<(), StoreError> {
        let now = unix_ms();
        let mut writes = Vec::new();
        let marked = ended.iter().map(|job| (*job, now)).chain(running.iter().map(|job| (*job, 0)));
        for (job, ended) in marked {
            let times = self.known_times(store, job)?;
            if (times.ended == 0) != (ended == 0) {
                writes.push(note("ended", job, ended));
                lock(&self.times).insert(job, Times { ended, ..times });
            }
        }
        if !writes.is_empty() {
            store.commit_blocking(writes)?;
        }
        Ok(())
    }

    /// Units per second over the last seconds.
    pub fn rate(&self, job: JobId) -> f64 {
        lock(&self.paces).get(&job).map_or(0.0, |pace| pace.rate(RECENT))
    }

    /// Between which times from now a running job will be done, in milliseconds.
    pub fn estimate(&self, job: JobId, elapsed: Duration, units: u32, decided: u32) -> Option<(u64, u64)> {
        let recent = lock(&self.paces).get(&job).map_or(0.0, |pace| pace.rate(REMEMBERED));
        estimate(elapsed, units, decided, recent)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(what: &str, job: JobId, unix_ms: u64) -> Write {
    Write::Note { key: key(what, job), bytes: (unix_ms > 0).then(|| unix_ms.to_le_bytes().to_vec()) }
}

fn key(what: &str, job: JobId) -> String {
    format!("job-{what}/{job}")
}

fn read(store: &Store, what: &str, job: JobId) -> Result<u64, StoreError> {
    let bytes = store.note(&key(what, job))?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// Milliseconds since 1970, by this machine's clock.
pub(super) fn unix_ms() -> u64 {
    millis(UNIX_EPOCH.elapsed().unwrap_or_default())
}

/// Follows the jobs of whatever node runs, until the backend is dropped or no node will come any more.
pub(super) async fn follow(shared: Weak<Shared>) {
    let mut node_started = None;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.current.has_changed().is_err() {
            return;
        }
        let Some(handle) = shared.current.borrow().clone() else { continue };
        if node_started.replace(handle.facts.started) != Some(handle.facts.started) {
            shared.pause.tell(&handle).await;
        }
        if let Err(error) = look(&shared, &handle).await {
            tracing::debug!(%error, "running jobs cannot be followed at the moment");
        }
    }
}

/// Looks at running jobs once.
async fn look(shared: &Arc<Shared>, handle: &Handle) -> Reply<()> {
    let decided: BTreeMap<JobId, u32> = handle
        .view(|node| {
            let owner = node.peer().owner();
            let open = owner.job_ids().filter(|id| owner.open_units(*id) > 0);
            open.filter_map(|id| Some((id, owner.manifest(id)?.units() - owner.open_units(id)))).collect()
        })
        .await?;
    let now = Instant::now();
    {
        let mut paces = lock(&shared.chronicle.paces);
        paces.retain(|job, _| decided.contains_key(job));
        for (job, decided) in &decided {
            paces.entry(*job).or_default().add(now, *decided);
        }
    }
    let running = lock(&shared.chronicle.running).clone();
    let ended: Vec<JobId> = running.iter().filter(|job| !decided.contains_key(job)).copied().collect();
    let begun: Vec<JobId> = decided.keys().filter(|job| !running.contains(job)).copied().collect();
    if !ended.is_empty() || !begun.is_empty() {
        let shared = shared.clone();
        let note = move |store: &Store| {
            shared.chronicle.note_ends(store, &ended, &begun)?;
            let mut running = lock(&shared.chronicle.running);
            running.retain(|job| !ended.contains(job));
            running.extend(begun);
            Ok::<(), StoreError>(())
        };
        handle.store.blocking(note).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_waits_until_it_means_something() {
        let minute = Duration::from_secs(60);
        assert_eq!(estimate(Duration::from_secs(29), 1000, 500, 10.0), None, "too early");
        assert_eq!(estimate(minute, 1000, 9, 10.0), None, "too little is done");
        assert_eq!(estimate(minute, 1000, 1000, 10.0), None, "nothing is left");
        assert_eq!(estimate(minute, 1000, 0, 0.0), None);
        let (low, high) = estimate(minute, 1200, 600, 20.0).expect("half is done");
        assert!(low < 30_000 && high > 60_000, "{low} to {high}: 30 s at the speed of now, 60 s at that of the whole");
    }

    #[tokio::test]
    async fn a_speed_needs_two_looks_and_starts_anew_when_units_are_reopened() {
        let start = Instant::now();
        let at = |seconds| start.checked_add(Duration::from_secs(seconds)).expect("soon");
        let mut pace = Pace::default();
        pace.add(start, 0);
        assert!(pace.rate(RECENT) < 0.1);
        for second in 1..=20 {
            pace.add(at(second), u32::try_from(second * 3).expect("small"));
        }
        assert!((pace.rate(RECENT) - 3.0).abs() < 1e-9);
        pace.add(at(21), 10);
        assert!(pace.rate(RECENT) < 0.1);
        pace.add(at(200), 11);
        assert_eq!(pace.0.len(), 1, "the past is forgotten");
    }

    #[test]
    fn beginnings_and_ends_survive_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        let job = JobId([7; 32]);
        let chronicle = Chronicle::default();
        chronicle.begin(&store, job).expect("written");
        chronicle.note_ends(&store, &[job], &[]).expect("written");
        let times = chronicle.times(&store, job, true).expect("known");
        assert!(times.created > 0 && times.ended >= times.created);
        assert_eq!(Chronicle::default().times(&store, job, false).expect("read"), times);
        chronicle.note_ends(&store, &[], &[job]).expect("written");
        assert_eq!(Chronicle::default().times(&store, job, false).expect("read"), Times { ended: 0, ..times }, "it goes on");
    }
}
