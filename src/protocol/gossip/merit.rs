//! Which neighbours earn their places: those that lately brought or announced something before anybody else did.
//!
//! Answering questions is cheap and proves nothing. What cannot be feigned without forwarding is having, in time, what others
//! announce. A neighbour that stands behind us in the tree looks idle though it is honest, so idleness alone ends nothing: the place
//! of an idle neighbour is given to a newcomer that asks for it, after a fair time, and among idle ones the youngest goes.
//!
//! What an attacker can still do: announce things of its own and bring them itself, which costs it what an author's quota allows and
//! shows its keys to everybody; or forward honestly until the day it stops, which is noticed after one trial.

use crate::protocol::time::Instant;
use core::time::Duration;

/// How many announcements must have come from elsewhere before a neighbour that brought none of them is idle. Somebody who is not
/// behind us is first with one in ten or more.
const TRIAL_NEWS: u64 = 16;
/// Where hardly anything is announced, how many trials long a neighbour may bring nothing.
const QUIET_TRIALS: u32 = 10;

/// How many trials without any news make us doubt all neighbours. Grids with anybody in them announce more often.
pub(super) const SILENT_TRIALS: u32 = 4;

/// How much was heard from anybody, to compare one neighbour with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    count: u64,
    last: Instant,
}

impl News {
    /// Nothing yet.
    pub(super) const fn none(now: Instant) -> Self {
        Self { count: 0, last: now }
    }

    /// Something new has come.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.count, self.last) = (self.count + 1, now);
    }

    /// Whether nothing came from anybody for very long: nothing is announced, or we are cut off.
    pub(super) fn silent(self, now: Instant, trial: Duration) -> bool {
        self.count == 0 || now.since(self.last) >= trial * SILENT_TRIALS
    }

    /// Whether nothing has ever come.
    pub(super) const fn never(self) -> bool {
        self.count == 0
    }
}

/// When a neighbour was last useful, counted from when it got its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merit {
    earned: bool,
    last: Instant,
    news: u64,
}

impl Merit {
    /// It is new.
    pub(super) const fn unproven(now: Instant, news: News) -> Self {
        Self { earned: false, last: now, news: news.count }
    }

    /// It was useful now.
    pub(super) const fn earned(now: Instant, news: News) -> Self {
        Self { earned: true, last: now, news: news.count }
    }

    /// Whether it brought something once.
    pub(super) const fn has_earned(self) -> bool {
        self.earned
    }

    /// Whether it brought nothing for a whole trial, in which others brought enough, or for very long.
    pub(super) fn idles(self, now: Instant, trial: Duration, news: News) -> bool {
        let rest = now.since(self.last);
        rest >= trial && (news.count - self.news >= TRIAL_NEWS || rest >= trial * QUIET_TRIALS)
    }

    /// Whether it had its chance to show that it is useful.
    pub(super) fn disappoints(self, now: Instant, trial: Duration, news: News) -> bool {
        let chance = !self.earned && now.since(self.last) >= trial / 6 && news.count - self.news >= TRIAL_NEWS / 2;
        chance || self.idles(now, trial, news)
    }

    /// Whether it brought something and does not idle.
    pub(super) fn is_useful(self, now: Instant, trial: Duration, news: News) -> bool {
        self.earned && !self.idles(now, trial, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_idles_when_others_bring_what_it_does_not_or_after_very_long() {
        let (at, trial) = (|seconds: u64| Instant(seconds * 1_000_000), Duration::from_secs(30));
        let mut news = News::default();
        let merit = Merit::unproven(at(0), news);
        assert!(!merit.idles(at(31), trial, news), "nobody brought anything");
        (0..TRIAL_NEWS).for_each(|second| news.heard(at(second)));
        assert!(!merit.idles(at(29), trial, news), "its trial is not over");
        assert!(merit.idles(at(31), trial, news));
        assert!(!Merit::earned(at(20), news).idles(at(31), trial, news));
        assert!(Merit::earned(at(20), news).idles(at(320), trial, news));
    }
}
