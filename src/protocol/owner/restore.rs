//! Rebuilding a job from its facts.
//!
//! Verdicts stand as they were made. What a crash may have cut off (a conviction whose consequences were not durable yet) is found
//! again by judging anew every unit whose votes contradict its verdict, see [`OwnJob::unsettled`].

use super::{
    own_job::OwnJob,
    unit::{FailureRecord, Phase, Unit},
};
use crate::protocol::{
    fact::{JobState, SavedJob, Verdict},
    ids::{PeerId, UnitIndex},
    outcome::Value,
    time::Instant,
    trust::Trust,
    verify::{JobSecret, PROVEN_UNITS},
};
use std::{collections::BTreeSet, sync::Arc};

impl OwnJob {
    /// Rebuilds a job. The caller judges [`OwnJob::unsettled`] next.
    pub fn restore(saved: SavedJob, owner: PeerId, trust: &Trust) -> Self {
        let mut job = Self::new(saved.id, Arc::new(saved.manifest), JobSecret(saved.secret));
        job.state = saved.state;
        let struck = |worker: PeerId| worker != owner && trust.standing(worker).strikes > 0;
        for vote in &saved.votes {
            let known = job.unit(vote.unit).is_none_or(|unit| unit.votes.iter().any(|other| other.worker == vote.worker));
            if !known {
                job.push_vote(vote, struck(vote.worker));
            }
        }
        for (unit, seen) in saved.failures.into_iter().filter(|(_, seen)| seen.count > 0) {
            let (proven, workers) = (BTreeSet::new(), BTreeSet::new());
            let record = FailureRecord { seen, own: 0, proven, last_at: Instant::default(), workers };
            job.failures.insert(unit, record);
        }
        for (unit, verdict) in saved.verdicts {
            job.restore_verdict(unit, verdict);
        }
        job.restore_audit(trust);
        // It went on although nothing had succeeded: its owner wanted it so.
        job.insisted = job.state == JobState::Running && job.has_only_failures();
        job
    }

    fn restore_verdict(&mut self, index: UnitIndex, verdict: Verdict) {
        let phase = match verdict {
            Verdict::Open => Phase::Reopened,
            Verdict::Verified { value, by_owner } => Phase::Verified { value, by_owner },
            Verdict::Failed => Phase::Failed,
        };
        let Some(unit) = self.units.get_mut(index.0 as usize) else { return };
        for vote in &mut unit.votes {
            vote.credited = matches!(phase, Phase::Verified { value, .. } if value == vote.value && !vote.struck);
        }
        self.set_phase(index, phase);
        if phase.is_decided() {
            self.wanted.remove(index);
        }
    }

    /// Convictions and collusion as the votes still show them.
    fn restore_audit(&mut self, trust: &Trust) {
        let convicted = |worker: &PeerId| trust.standing(*worker).strikes > 0;
        // A newcomer has few units pending; whoever voted on more before it was caught was proven.
        let proven = self.voted_on.iter().filter(|(worker, units)| convicted(worker) && units.len() as u64 > PROVEN_UNITS);
        self.audit.convicted = proven.count() as u32;
        self.audit.collusion = self.units.iter().any(Unit::shows_collusion);
        self.audit_rate = self.audit.rate(self.counts.decided());
    }

    /// Units to be judged after a restart: the undecided ones that were ever leased, and those decided whose votes disagree.
    pub fn unsettled(&self) -> Vec<UnitIndex> {
        let touched = (0..self.wanted.fresh).map(UnitIndex).zip(&self.units);
        touched.filter(|(_, unit)| unit.is_unsettled()).map(|(index, _)| index).collect()
    }
}

impl Unit {
    fn is_unsettled(&self) -> bool {
        match self.phase {
            Phase::Verified { value, by_owner } => {
                self.votes.iter().any(|vote| (vote.struck && !by_owner) || (!vote.struck && vote.value != value))
            }
            Phase::Failed => false,
            Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed => true,
        }
    }

    /// Two convicted voters said the same, and it was wrong.
    fn shows_collusion(&self) -> bool {
        let Phase::Verified { value, .. } = self.phase else { return false };
        let mut seen: BTreeSet<Value> = BTreeSet::new();
        self.votes.iter().filter(|vote| vote.struck && vote.value != value).any(|vote| !seen.insert(vote.value))
    }
}
