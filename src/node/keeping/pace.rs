//! How far a keeper is behind with one job, and what follows from that. Pure: instants come from outside.
//!
//! A keeper that is behind is waited for: acknowledgements come later, and when a lot of bytes is on its way nothing more is leased until
//! it has taken most of them. It is given up in two cases only. It says nothing at all for [`KEEPER_STUCK_AFTER`] although something was
//! sent to it: then it is broken, and workers wait for their acknowledgements in vain. Or it has held up the leasing for
//! [`KEEPER_HOLDS_UP_MAX`] in a row: the job would run as slowly as its slowest keeper.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A keeper that lets nothing arrive for so long although it was sent something is given up. Workers hold their results for so long;
/// a disk that is merely slow flushes several times in this.
pub(super) const KEEPER_STUCK_AFTER: Duration = Duration::from_secs(5);
/// With so many bytes on their way to a keeper nothing is leased until it has half of them: some seconds of the smallest units, and no
/// more than one process can spare for one job.
pub(super) const KEEPER_BEHIND_BYTES: usize = 32 << 20;
/// A keeper that does not take half of that in so long while next to nothing new comes (half a megabyte a second) is too slow for
/// the job.
pub(super) const KEEPER_HOLDS_UP_MAX: Duration = Duration::from_secs(30);

/// What is on its way to a keeper.
#[derive(Debug)]
pub(super) struct Pace {
    /// It has the copy: acknowledgements wait for it.
    accepted: bool,
    /// Everything up to this number is durable there.
    kept: u64,
    /// What was handed to its stream since: numbers and bytes.
    flying: VecDeque<(u64, usize)>,
    bytes: usize,
    /// When it last said something new, or was first sent something after it had everything.
    moved: Instant,
    /// Since when too much is on its way.
    holds_up: Option<Instant>,
}

impl Pace {
    /// A keeper to which everything up to `number` is copied.
    pub fn new(now: Instant, number: u64) -> Self {
        Self { accepted: false, kept: number, flying: VecDeque::new(), bytes: 0, moved: now, holds_up: None }
    }

    /// Something more is on its way.
    pub fn sent(&mut self, now: Instant, number: u64, bytes: usize) {
        if self.flying.is_empty() {
            self.moved = now;
        }
        self.flying.push_back((number, bytes));
        self.bytes += bytes;
        if self.bytes > KEEPER_BEHIND_BYTES {
            self.holds_up.get_or_insert(now);
        }
    }

    /// The copy is complete. What it has not said yet lies behind that.
    pub fn accepted(&mut self, now: Instant) {
        self.accepted = true;
        self.moved = now;
    }

    /// Everything up to `number`, of `sent` in all, is durable there.
    pub fn kept(&mut self, now: Instant, number: u64, sent: u64) {
        // What was never sent cannot be kept.
        let number = number.min(sent);
        if number > self.kept {
            self.kept = number;
            self.moved = now;
        }
        while let Some((_, bytes)) = self.flying.pop_front_if(|(sent, _)| *sent <= number) {
            self.bytes -= bytes;
        }
        if self.bytes <= KEEPER_BEHIND_BYTES / 2 {
            self.holds_up = None;
        }
    }

    /// The number up to which it has everything, where that is waited for.
    pub fn waited_for(&self) -> Option<u64> {
        self.accepted.then_some(self.kept)
    }

    /// Whether so much is on its way that nothing more should be leased.
    pub fn holds_up(&self) -> bool {
        self.holds_up.is_some()
    }

    /// Whether it is to be given up.
    pub fn is_hopeless(&self, now: Instant) -> bool {
        let silent = self.accepted && !self.flying.is_empty() && now.duration_since(self.moved) > KEEPER_STUCK_AFTER;
        silent || self.holds_up.is_some_and(|since| now.duration_since(since) > KEEPER_HOLDS_UP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(1);

    #[test]
    fn a_keeper_that_makes_progress_is_not_given_up_however_much_is_on_its_way() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now, 0);
        pace.accepted(now);
        let mut sent = 0;
        for second in 1..=1000_u64 {
            now += STEP;
            for _ in 0..3 {
                sent += 1;
                pace.sent(now, sent, 1 << 20);
            }
            pace.kept(now, second, sent);
            if pace.holds_up() {
                assert!(pace.bytes > KEEPER_BEHIND_BYTES / 2);
                break;
            }
            assert!(!pace.is_hopeless(now), "after {second} seconds");
        }
        // Nothing more is leased, so nothing more comes, and it gets there.
        let behind = pace.waited_for().unwrap();
        for number in behind + 1..=sent {
            now += STEP;
            assert!(!pace.is_hopeless(now), "{number} of {sent}");
            pace.kept(now, number, sent);
        }
        assert!(!pace.holds_up() && pace.bytes == 0 && pace.waited_for() == Some(sent));
    }

    #[test]
    fn a_silent_keeper_is_given_up_and_one_with_nothing_to_say_is_not() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 7);
        assert_eq!(pace.waited_for(), None, "nobody waits for a copy");
        pace.sent(start, 8, 100);
        assert!(!pace.is_hopeless(start + KEEPER_HOLDS_UP_MAX), "it is being copied");
        let accepted = start + KEEPER_HOLDS_UP_MAX;
        pace.accepted(accepted);
        assert_eq!(pace.waited_for(), Some(7));
        assert!(!pace.is_hopeless(accepted + KEEPER_STUCK_AFTER));
        assert!(pace.is_hopeless(accepted + KEEPER_STUCK_AFTER + STEP));
        let later = accepted + KEEPER_STUCK_AFTER * 2;
        pace.kept(later, 9, 8);
        assert_eq!(pace.waited_for(), Some(8), "not what was never sent");
        assert!(!pace.is_hopeless(later + KEEPER_STUCK_AFTER * 9), "everything is there");
        pace.sent(later + KEEPER_STUCK_AFTER * 9, 9, 100);
        assert!(!pace.is_hopeless(later + KEEPER_STUCK_AFTER * 10));
        pace.kept(later + KEEPER_STUCK_AFTER * 10, 8, 9);
        assert!(pace.is_hopeless(later + KEEPER_STUCK_AFTER * 11), "what it said before is no news");
    }

    #[test]
    fn a_keeper_that_is_too_slow_holds_the_job_up_for_so_long_and_no_longer() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 0);
        pace.sent(start, 1, KEEPER_BEHIND_BYTES);
        assert!(!pace.holds_up());
        pace.sent(start, 2, 1);
        assert!(pace.holds_up(), "also while it is being copied");
        pace.accepted(start);
        for second in 1..=30 {
            let now = start + STEP * second;
            pace.moved = now;
            assert!(!pace.is_hopeless(now));
        }
        pace.moved = start + STEP * 31;
        assert!(pace.is_hopeless(start + STEP * 31));
        pace.kept(start + STEP * 31, 1, 2);
        assert!(!pace.holds_up() && !pace.is_hopeless(start + STEP * 32));
    }
}
