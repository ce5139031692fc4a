//! What the owner's user does about trust: units run here beside all leases, whose values stand, and friends.

use super::{LeaseToken, Owner, Report, own_job::OwnJob};
use crate::protocol::{
    checkpoint::Authors,
    ids::{Attempt, JobId, PeerId, UnitIndex},
    outcome::{Outcome, Value},
    platform::Platform,
    time::Instant,
};
use core::time::Duration;
use std::{collections::VecDeque, sync::Arc};

/// What such a run came to. One that ended without a value says nothing about the unit and is not handed in.
#[derive(Clone, PartialEq, Debug)]
pub struct OwnRun {
    /// Which.
    pub unit: UnitIndex,
    /// What it computed.
    pub value: Value,
    /// Bytes of output.
    pub output_bytes: u64,
    /// The output; none when it is held as a blob already.
    pub output: Option<Arc<[u8]>>,
    /// How long it took.
    pub wall: Duration,
}

impl Owner {
    /// Takes in the owner's own value, computed on this machine's `platform`: it decides the unit, whatever its state, and convicts
    /// whoever said otherwise. Returns whether it was taken: not when there is no such unit, or the owner's value was known before.
    pub fn checked(&mut self, now: Instant, id: JobId, run: OwnRun, platform: Platform) -> bool {
        let OwnRun { unit, value, output_bytes, output, wall } = run;
        let Some(known) = self.jobs.get(&id).and_then(|job| job.unit(unit)) else { return false };
        if known.votes.iter().any(|vote| vote.worker == self.me) {
            return false;
        }
        let report = Report {
            unit,
            attempt: Attempt(known.next_attempt),
            ordinal: known.next_position(),
            // Nobody shows it: there was no lease.
            token: LeaseToken([0; 16]),
            rests_on: Authors::NONE,
            outcome: Outcome::Value(value),
            output_bytes,
            output,
            log: Arc::from([]),
            wall,
            platform,
            proof: Arc::from([]),
        };
        self.on_value(now, id, self.me, value, report, false);
        self.judge_all(now, VecDeque::from([(id, unit)]));
        true
    }

    /// The user marks a peer as a friend, or no longer; durable at once. What it voted on and is not decided is judged again: as an
    /// anchor it may carry the verdict. What was decided stays so. `false` when there are too many friends.
    pub fn befriend(&mut self, now: Instant, peer: PeerId, friend: bool) -> bool {
        if peer == self.me || !self.trust.befriend(peer, friend) {
            return false;
        }
        self.touched.insert(peer);
        self.note_standing(peer);
        let undecided = |job: &OwnJob| -> Vec<(JobId, UnitIndex)> {
            let units = job.voted_on.get(&peer).into_iter().flatten();
            units.filter(|unit| !job.units[unit.0 as usize].phase.is_decided()).map(|unit| (job.id, *unit)).collect()
        };
        let again: VecDeque<_> = self.running.iter().flat_map(|id| undecided(&self.jobs[id])).collect();
        self.judge_all(now, again);
        true
    }
}
