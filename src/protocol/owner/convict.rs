//! Convictions that do not come from judging a unit: by evidence that proves itself, or that this machine has checked.

use super::{Owner, OwnerAction, Report};
use crate::protocol::{
    fact::{Origin, Vote},
    ids::{JobId, PeerId, UnitIndex},
    outcome::Value,
    time::Instant,
};
use std::collections::{BTreeSet, VecDeque};

impl Owner {
    /// Whether a conviction would change anything here: the peer has a record or a place, and is not barred already.
    pub fn could_convict(&self, now: Instant, peer: PeerId) -> bool {
        let here = self.roster.get(peer).is_some() || self.has_record_of(peer);
        peer != self.me && here && !self.trust.is_barred(peer, now)
    }

    /// Whether this peer has seen something of it that speaks for it.
    pub fn has_record_of(&self, peer: PeerId) -> bool {
        let standing = self.trust.standing(peer);
        peer == self.me || standing.anchor || standing.verified_units > 0
    }

    /// The peer signed something wrong, beyond doubt: it loses all trust, and everything that it alone vouched for is judged again.
    /// Returns whether that changed anything.
    pub fn convict(&mut self, now: Instant, peer: PeerId) -> bool {
        if !self.could_convict(now, peer) {
            return false;
        }
        self.convict_now(now, peer);
        true
    }

    pub(super) fn convict_now(&mut self, now: Instant, peer: PeerId) {
        let mut queue = VecDeque::new();
        let concerned = self.strike_everywhere(now, peer, &mut queue);
        self.judge_on(now, queue, concerned);
    }

    /// Takes a worker's trust and its votes, and whatever it holds. Returns the jobs that are concerned.
    pub(super) fn strike_everywhere(&mut self, now: Instant, worker: PeerId, queue: &mut VecDeque<(JobId, UnitIndex)>) -> BTreeSet<JobId> {
        let gas = self.running.iter().map(|id| self.jobs[id].gas_estimate()).min().unwrap_or(0);
        let was_proven = self.trust.is_proven(worker, gas);
        self.trust.convict(worker, now);
        self.touched.insert(worker);
        let mut concerned = BTreeSet::new();
        for (id, job) in &mut self.jobs {
            let Some(again) = job.strike(worker, was_proven) else { continue };
            concerned.insert(*id);
            queue.extend(again.into_iter().map(|unit| (*id, unit)));
        }
        self.forget_checkpoints_of(worker);
        self.expel(worker, queue);
        concerned
    }

    /// A worker signs another value than before for the same unit: one of them is a lie, whatever the truth is.
    pub(super) fn on_contradiction(&mut self, now: Instant, id: JobId, from: PeerId, value: Value, report: Report) {
        if from == self.me {
            return;
        }
        let Report { unit, attempt, ordinal, rests_on, output_bytes, platform, proof, .. } = report;
        // What rests on others may have been spoilt by them: it shows nothing about whoever went on from there.
        let rested = self.jobs.get(&id).is_some_and(|job| job.rests.contains_key(&(unit, from)));
        if rested || !rests_on.without(from).is_empty() {
            return;
        }
        let (worker, position, origin) = (from, ordinal, Origin::Leased);
        let second = Vote { unit, worker, attempt, ordinal, position, platform, value, output_bytes, origin, rests_on, proof };
        let job = self.jobs.get(&id);
        if job.is_some_and(|job| job.is_foreign() && !job.leased_itself(unit, from)) {
            self.bar_now(now, id, from);
            return;
        }
        self.accuse(from, id, unit, Some(second));
        self.convict_now(now, from);
    }

    /// Has the evidence shown to everybody, where it says something: what a unit with an input of its own was given is not in the
    /// receipt, so nobody else can tell whether its worker or its coordinator lied.
    pub(super) fn accuse(&mut self, accused: PeerId, job: JobId, unit: UnitIndex, second: Option<Vote>) {
        let self_contained = self.jobs.get(&job).is_some_and(|job| !job.manifest.has_table());
        if self_contained && accused != self.me {
            self.actions.push(OwnerAction::Accuse { accused, job, unit, second });
        }
    }
}
