//! Virtual time.
//!
//! Time moves by rule and not by itself: one nanosecond for [`GAS_PER_NANOSECOND`] gas, [`TICK`] for each look at a clock, and
//! by what the unit sleeps, which takes no real time. A program that waits for a moment gets there, and every machine sees the same times.

use std::time::Duration;

/// The date when every unit begins: 2020-01-01T00:00:00Z, in nanoseconds since 1970.
pub(super) const BIRTH: u64 = 1_577_836_800_000_000_000;

/// Gas that makes a nanosecond: about what a fast core does in one, so that virtual time runs about as real time does.
const GAS_PER_NANOSECOND: u64 = 4;

/// What each look at a clock moves it by, in nanoseconds.
const TICK: u64 = 1_000;

/// A unit's clock, which counts from its beginning.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) ticked: u64,
    pub(super) slept: u64,
}

impl Clock {
    /// Nanoseconds since the unit began, when it has used so much gas.
    pub(super) fn now(&self, gas_used: u64) -> u64 {
        self.awake(gas_used).saturating_add(self.slept)
    }

    /// The same without its sleep: its processor time.
    pub(super) fn awake(&self, gas_used: u64) -> u64 {
        (gas_used / GAS_PER_NANOSECOND).saturating_add(self.ticked)
    }

    /// Somebody looks.
    pub(super) fn tick(&mut self) {
        self.ticked = self.ticked.saturating_add(TICK);
    }

    /// Sleeps; returns whether all sleep so far is within `limit`.
    pub(super) fn sleep(&mut self, nanoseconds: u64, limit: Duration) -> bool {
        self.slept = self.slept.saturating_add(nanoseconds);
        u128::from(self.slept) <= limit.as_nanos()
    }
}
