//! What follows from a judgement beyond the unit: convictions, excuses, instruction sets set aside, and the units that they re-open.

use super::{
    Owner, OwnerAction,
    own_job::{Consequences, OwnJob},
    unit::Want,
};
use crate::protocol::{
    fact::Fact,
    ids::{JobId, PeerId, UnitIndex},
    time::Instant,
    trust::Trust,
    verify::Voter,
};
use std::collections::{BTreeSet, VecDeque};

impl Owner {
    pub(super) fn keep_findings(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let findings = job.findings();
        if core::mem::replace(&mut job.findings_kept, findings) != findings {
            self.actions.push(OwnerAction::Persist(Fact::Findings(id, findings)));
        }
    }

    /// Units that wait for a worker of some instruction set, or for the owner's machine, when such a one has just gone; and for somebody
    /// proven, when few of those are here any more.
    pub(super) fn stranded(&mut self, cold: bool) -> Vec<(JobId, UnitIndex)> {
        let turned_cold = !core::mem::replace(&mut self.cold, cold) && cold;
        if !core::mem::take(&mut self.somebody_left) && !turned_cold {
            return Vec::new();
        }
        let waits = |job: &OwnJob| {
            let proven = job.wanted.set(Want::Another(Voter::Proven)).iter().filter(|_| turned_cold);
            job.wanted.for_whom_is_here().chain(job.juries.units()).chain(proven.copied()).collect::<Vec<_>>()
        };
        self.running.iter().flat_map(|id| waits(&self.jobs[id]).into_iter().map(|unit| (*id, unit))).collect()
    }

    /// What follows from a judgement in the job `id`, here and in others. Returns the jobs that are concerned.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        id: JobId,
        consequences: Consequences,
        queue: &mut VecDeque<(JobId, UnitIndex)>,
    ) -> BTreeSet<JobId> {
        let mut concerned = BTreeSet::new();
        self.actions.extend(consequences.facts.into_iter().map(OwnerAction::Persist));
        for (worker, (job, unit)) in consequences.evidence {
            self.accuse(worker, job, unit, None);
        }
        queue.extend(consequences.again.into_iter().map(|unit| (id, unit)));
        let gas = self.jobs.get(&id).map_or(0, OwnJob::gas_estimate);
        for worker in consequences.excused {
            if !self.jobs.get(&id).is_some_and(OwnJob::is_foreign) {
                self.trust.excuse(worker, gas, now);
            }
            self.withdraw(worker, Some(id), queue);
        }
        for worker in self.roster.on_platforms(consequences.set_aside) {
            self.withdraw(worker, Some(id), queue);
        }
        for worker in consequences.barred {
            self.bar(id, worker, queue);
            concerned.insert(id);
        }
        for worker in consequences.convict {
            concerned.extend(self.strike_everywhere(now, worker, queue));
        }
        for worker in consequences.acquit {
            concerned.extend(self.acquit(worker, queue));
        }
        for (worker, before) in consequences.before {
            for (id, job) in &self.jobs {
                let gas = job.gas_estimate();
                if Trust::would_be_proven(before, gas) && !self.trust.is_proven(worker, gas) {
                    // It vouches for nothing any more.
                    queue.extend(job.rest_on(worker).map(|unit| (*id, unit)));
                }
            }
        }
        for worker in consequences.touched {
            self.note_standing(worker);
            self.touched.insert(worker);
        }
        concerned
    }

    /// A convicted worker gets no more work, and what it holds is offered to others.
    pub(super) fn expel(&mut self, worker: PeerId, queue: &mut VecDeque<(JobId, UnitIndex)>) {
        self.note_standing(worker);
        self.roster.set_window(worker, 0);
        self.withdraw(worker, None, queue);
        self.somebody_left = true;
        queue.extend(self.stranded(self.cold));
    }

    /// What the worker holds, of this job or of all, is offered to others.
    pub(super) fn withdraw(&mut self, worker: PeerId, of: Option<JobId>, queue: &mut VecDeque<(JobId, UnitIndex)>) {
        let mut held = self.roster.get(worker).map(|state| state.leases.clone()).unwrap_or_default();
        held.retain(|key| of.is_none_or(|job| job == key.job));
        for key in &held {
            self.release(key);
            queue.push_back((key.job, key.unit));
        }
        let jobs: BTreeSet<_> = held.iter().map(|key| key.job).collect();
        self.actions.extend(jobs.into_iter().map(|job| OwnerAction::Revoke { to: worker, job }));
    }
}
