//! Rebuilding a job from its facts.
//!
//! Verdicts stand as they were made, and so do the votes that they agree with: a conviction re-opens in the same commit what rested
//! on the convicted, so whatever is verified rests on votes that counted when it was judged, also where their worker was caught once.
//! What a crash may have cut off (a conviction whose consequences were not durable yet) is found again by judging anew every unit
//! whose votes contradict its verdict, see [`OwnJob::unsettled`].

use super::{
    foreign::{Foreign, sift},
    own_job::OwnJob,
    unit::{FailureRecord, Phase, Unit, UnitVote},
};
use crate::protocol::{
    fact::{JobState, SavedJob, Verdict, Vote},
    ids::{PeerId, UnitIndex},
    outcome::Value,
    time::Instant,
    trust::Trust,
    verify::{self, JobSecret, PROVEN_UNITS},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl OwnJob {
    /// Rebuilds a job. The caller judges [`OwnJob::unsettled`] next.
    pub fn restore(mut saved: SavedJob, owner: PeerId, trust: &Trust) -> Self {
        let foreign = saved.manifest.owner != owner;
        let by_author = if foreign { sift(&mut saved, owner) } else { BTreeSet::new() };
        let mut job = Self::new(saved.id, Arc::new(saved.manifest), JobSecret(saved.secret));
        job.state = saved.state;
        job.foreign = foreign.then(Foreign::default);
        job.findings_kept = saved.findings.unwrap_or_default();
        job.nondeterminism = job.findings_kept.nondeterminism;
        let verified = |(unit, verdict): &(UnitIndex, Verdict)| match *verdict {
            Verdict::Verified { value, by_owner: _ } => Some((*unit, value)),
            Verdict::Open | Verdict::Failed => None,
        };
        let verified: BTreeMap<UnitIndex, Value> = saved.verdicts.iter().filter_map(verified).collect();
        let caught = |worker: PeerId| worker != owner && trust.standing(worker).strikes > 0;
        let any_caught = |vote: &Vote| caught(vote.worker) || vote.rests_on.iter().any(caught);
        let struck = |vote: &Vote| any_caught(vote) && verified.get(&vote.unit) != Some(&vote.value);
        // In whatever order they come, and however often: of a worker's votes on a unit the first that was committed holds.
        let mut votes: Vec<&Vote> = saved.votes.iter().collect();
        votes.sort_by_key(|vote| {
            (vote.unit, vote.position, vote.worker, vote.attempt, vote.ordinal, vote.value, vote.platform, vote.rests_on)
        });
        for vote in votes {
            let known = job.unit(vote.unit).is_none_or(|unit| unit.votes.iter().any(|other| other.worker == vote.worker));
            if !known {
                job.push_vote(vote, struck(vote));
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
        for unit in by_author {
            if let Some(unit) = job.units.get_mut(unit.0 as usize) {
                unit.by_author = true;
            }
        }
        job.restore_credit(owner, trust);
        job.restore_records();
        match saved.findings {
            Some(findings) => job.audit = findings.audit,
            None => job.derive_audit(trust),
        }
        job.audit_rate = job.audit.rate(job.counts.decided());
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
        self.set_phase(index, phase);
        if phase.is_decided() {
            self.wanted.remove(index);
        }
    }

    /// Which votes their workers' records include: those which a judgement would credit now. One taken for credited that never was
    /// would cost its worker a unit at the next judgement.
    fn restore_credit(&mut self, owner: PeerId, trust: &Trust) {
        for at in 0..self.units.len() {
            let Phase::Verified { value, by_owner: _ } = self.units[at].phase else { continue };
            let ballots = self.ballots(UnitIndex(at as u32), trust, owner);
            let credit = verify::backed_voters(&ballots, value);
            // Who was proven in an adopted job is only known by these units, so there whoever agreed with somebody was backed.
            let backed = |voter| credit.contains(&voter) || (self.foreign.is_some() && verify::keeps_credit(&ballots, value, voter));
            for vote in &mut self.units[at].votes {
                vote.credited = vote.origin.earns_credit() && backed(vote.worker);
            }
            self.note_checks(UnitIndex(at as u32), &ballots);
        }
    }

    /// Convictions and collusion as the votes still show them, where nothing was said about them: before there were findings, and
    /// where a crash took them.
    fn derive_audit(&mut self, trust: &Trust) {
        let convicted = |worker: &PeerId| trust.standing(*worker).strikes > 0;
        // A newcomer has few units pending; whoever voted on more before it was caught was proven.
        let proven = self.voted_on.iter().filter(|(worker, units)| convicted(worker) && units.len() as u64 > PROVEN_UNITS);
        self.audit.convicted = proven.count() as u32;
        let indexed = (0..).map(UnitIndex).zip(&self.units);
        self.audit.collusion =
            indexed.into_iter().any(|(index, unit)| unit.shows_collusion(|worker| !self.authors(index, worker).is_empty()));
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
            Phase::Verified { value, by_owner: _ } => self.votes.iter().any(|vote| !vote.struck && vote.value != value),
            Phase::Failed => false,
            Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed => true,
        }
    }

    /// Two convicted voters said the same, and it was wrong.
    fn shows_collusion(&self, is_shared: impl Fn(PeerId) -> bool) -> bool {
        let Phase::Verified { value, .. } = self.phase else { return false };
        let mut seen: BTreeSet<Value> = BTreeSet::new();
        let wrong = |vote: &&UnitVote| vote.struck && vote.value != value && !is_shared(vote.worker);
        self.votes.iter().filter(wrong).any(|vote| !seen.insert(vote.value))
    }
}
