//! What is to happen, in the order of time; what is planned for one moment happens in the order in which it was planned.
//!
//! Tens of millions of happenings pass through, most of them due within a second, so it is a wheel of milliseconds: to plan one is to
//! put a small key into the vector of its millisecond, which is sorted once, when it comes. What is due later waits in a heap.

use super::grid::Happening;
use crate::protocol::time::Instant;
use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How many milliseconds the wheel spans: most messages, executions and timers are due before that.
const SPAN: u64 = 4096;
/// Microseconds of one place in the wheel, about a millisecond.
const TICK: u64 = 1 << 10;

/// When it is due, how many were planned before it, and where it lies.
type Key = (Instant, u64, u32);

/// The queue of a grid.
pub(super) struct Queue {
    /// Those due within the wheel's span after `tick`, by tick.
    wheel: Vec<Vec<Key>>,
    /// How many are in the wheel.
    in_wheel: usize,
    /// Those of the present tick, the next one last.
    present: Vec<Key>,
    tick: u64,
    later: BinaryHeap<Reverse<Key>>,
    planned: Vec<Option<Happening>>,
    free: Vec<u32>,
    sequence: u64,
    /// For the moment that is now: before anything else.
    at_once: VecDeque<Happening>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            wheel: (0..SPAN).map(|_| Vec::new()).collect(),
            in_wheel: 0,
            present: Vec::new(),
            tick: 0,
            later: BinaryHeap::new(),
            planned: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            at_once: VecDeque::new(),
        }
    }
}

impl Queue {
    /// Plans a happening; `now` is the present moment.
    pub fn plan(&mut self, now: Instant, when: Instant, happening: Happening) {
        if when <= now {
            self.at_once.push_back(happening);
            return;
        }
        self.sequence += 1;
        let key = (when, self.sequence, self.put(happening));
        match (when.0 / TICK).saturating_sub(self.tick) {
            0 => {
                let place = self.present.partition_point(|other| *other > key);
                self.present.insert(place, key);
            }
            ahead if ahead < SPAN => self.put_in_wheel(key),
            _ => self.later.push(Reverse(key)),
        }
    }

    fn put(&mut self, happening: Happening) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.planned[place as usize] = Some(happening);
                place
            }
            None => {
                self.planned.push(Some(happening));
                u32::try_from(self.planned.len() - 1).expect("fewer happenings are planned than memory holds")
            }
        }
    }

    fn put_in_wheel(&mut self, key: Key) {
        self.wheel[(key.0.0 / TICK % SPAN) as usize].push(key);
        self.in_wheel += 1;
    }

    /// Turns the wheel to the next tick in which something is due, if there is any.
    fn turn(&mut self) {
        while self.present.is_empty() && self.in_wheel + self.later.len() > 0 {
            self.tick = match self.later.peek() {
                Some(Reverse((when, _, _))) if self.in_wheel == 0 => when.0 / TICK,
                Some(_) | None => self.tick + 1,
            };
            while let Some(Reverse(key)) = self.later.peek().copied()
                && key.0.0 / TICK < self.tick + SPAN
            {
                self.later.pop();
                self.put_in_wheel(key);
            }
            self.present.append(&mut self.wheel[(self.tick % SPAN) as usize]);
            self.in_wheel -= self.present.len();
            self.present.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    /// When the next happening is due.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        if !self.at_once.is_empty() {
            return Some(now);
        }
        self.turn();
        self.present.last().map(|(when, _, _)| *when)
    }

    /// The next happening, and when it is due.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Happening)> {
        if let Some(happening) = self.at_once.pop_front() {
            return Some((now, happening));
        }
        self.turn();
        let (when, _, place) = self.present.pop()?;
        self.free.push(place);
        Some((when, self.planned[place as usize].take().expect("what is planned lies at its place")))
    }

    /// How many happenings are planned.
    pub fn len(&self) -> usize {
        self.planned.len() - self.free.len() + self.at_once.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    #[test]
    fn happenings_come_in_the_order_of_time_and_then_of_planning() {
        let (mut rng, mut queue, mut now) = (ChaCha8Rng::seed_from_u64(1), Queue::default(), Instant(5));
        let mut expected = std::collections::BTreeMap::new();
        for number in 0..20_000_usize {
            // Soon, within the wheel, beyond it, and far beyond it.
            let ahead = rng.next_u64() % [2, 3_000, 3_000_000, 9_000_000, 4_000_000_000][number % 5];
            let when = Instant(now.0 + ahead);
            queue.plan(now, when, Happening::Wake(number));
            expected.insert((when, number), number);
            if number % 3 != 0 {
                assert_eq!(queue.len(), expected.len());
                assert_eq!(queue.next(now), expected.first_key_value().map(|((when, _), _)| *when));
                let (when, happening) = queue.pop(now).unwrap();
                let ((due, first), _) = expected.pop_first().unwrap();
                let Happening::Wake(number) = happening else { panic!("{happening:?}") };
                assert_eq!((when, number), (due, first));
                now = when;
            }
        }
        assert!(queue.len() > 6_000);
    }
}
