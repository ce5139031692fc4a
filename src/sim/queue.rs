//! What is to happen, in the order of time; what is planned for one moment happens in the order in which it was planned.
//!
//! Millions of happenings pass through, so the heap holds small keys only and the happenings lie still beside it.

use super::grid::Happening;
use crate::protocol::time::Instant;
use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The queue of a grid.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    planned: Vec<Option<Happening>>,
    free: Vec<u32>,
    sequence: u64,
    /// For the moment that is now: before anything in the heap.
    at_once: VecDeque<Happening>,
}

impl Queue {
    /// Plans a happening; `now` is the present moment.
    pub fn plan(&mut self, now: Instant, when: Instant, happening: Happening) {
        if when <= now {
            self.at_once.push_back(happening);
            return;
        }
        self.sequence += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.planned[place as usize] = Some(happening);
                place
            }
            None => {
                self.planned.push(Some(happening));
                u32::try_from(self.planned.len() - 1).expect("fewer happenings are planned than memory holds")
            }
        };
        self.heap.push(Reverse((when, self.sequence, place)));
    }

    /// When the next happening is due.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        if self.at_once.is_empty() { self.heap.peek().map(|Reverse((when, _, _))| *when) } else { Some(now) }
    }

    /// The next happening, and when it is due.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Happening)> {
        if let Some(happening) = self.at_once.pop_front() {
            return Some((now, happening));
        }
        let Reverse((when, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((when, self.planned[place as usize].take().expect("a place in the heap holds a happening")))
    }

    /// How many happenings are planned.
    pub fn len(&self) -> usize {
        self.heap.len() + self.at_once.len()
    }
}
