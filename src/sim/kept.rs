//! What a disk holds of jobs that are kept for others.

use super::machine::{Disk, OnDisk};
use crate::protocol::{
    fact::{Fact, JobState, Origin, SavedJob, Vote},
    ids::{JobId, PeerId},
    job::Manifest,
    keeping::{Keepers, KeptJob},
    owner::{Collected, Output},
    verify::JobSecret,
};
use std::sync::Arc;

/// What is known of a job that is kept for its author, beside what is known of any.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub keepers: Keepers,
    pub adopted: bool,
}

/// What a keeper holds of a vote: outputs are copied with facts.
fn copied(vote: Vote) -> Vote {
    Vote { origin: Origin::Collected { output: true }, ..vote }
}

impl Disk {
    /// All that is durable about an own job, for a keeper.
    pub fn snapshot(&self, id: JobId) -> Option<SavedJob> {
        self.jobs.get(&id).filter(|job| job.kept.is_none()).map(|job| job.saved(id))
    }

    /// Keeps a job for its author. What the author says replaces whatever was known.
    pub fn keep_for_author(&mut self, saved: SavedJob, keepers: Keepers) -> KeptJob {
        let SavedJob { id, manifest, state, votes, verdicts, failures, findings, .. } = saved;
        if !self.jobs.contains_key(&id) {
            self.keep_job(id, manifest.clone(), JobSecret([0; 32]));
        }
        let kept = KeptJob { id, manifest: Arc::new(manifest), keepers: keepers.clone(), adopted: false, ended: state.has_ended() };
        let job = self.job(id);
        (job.state, job.findings, job.kept) = (state, findings, Some(Kept { keepers, adopted: false }));
        // The author has signed nothing of what its own machine said.
        job.votes = votes.into_iter().filter(|vote| !vote.proof.is_empty()).map(copied).collect();
        (job.verdicts, job.failures) = (verdicts.into_iter().collect(), failures.into_iter().collect());
        kept
    }

    /// Keeps a copied fact. Returns the job when it has ended by it.
    pub fn copy(&mut self, fact: Fact) -> Option<JobId> {
        let (Fact::Vote(id, _)
        | Fact::Verdict(id, ..)
        | Fact::Failures(id, ..)
        | Fact::JobState(id, _)
        | Fact::Findings(id, _)
        | Fact::Keepers(id, ..)) = &fact
        else {
            return None;
        };
        let id = *id;
        let kept = self.jobs.get(&id).and_then(|job| job.kept.as_ref());
        if kept.is_none_or(|kept| kept.adopted) {
            return None;
        }
        let ended = matches!(fact, Fact::JobState(_, state) if state.has_ended());
        match fact {
            Fact::Vote(_, vote) if vote.proof.is_empty() => {}
            Fact::Vote(_, vote) => self.job(id).votes.push(copied(vote)),
            Fact::Keepers(..) => {}
            fact @ (Fact::Verdict(..) | Fact::Failures(..) | Fact::JobState(..) | Fact::Findings(..) | Fact::Standing(..)) => {
                self.keep(fact);
            }
        }
        ended.then_some(id)
    }

    /// A kept job is adopted, with a secret of this machine's own.
    pub fn adopt(&mut self, id: JobId, secret: JobSecret) -> Option<SavedJob> {
        let job = self.jobs.get_mut(&id)?;
        let kept = job.kept.as_mut()?;
        (kept.adopted, job.secret) = (true, secret);
        Some(job.saved(id))
    }

    /// It is so no longer. Returns what was collected.
    pub fn hand_back(&mut self, id: JobId) -> Vec<Collected> {
        let Some(job) = self.jobs.get_mut(&id) else { return Vec::new() };
        let Some(kept) = job.kept.as_mut() else { return Vec::new() };
        kept.adopted = false;
        let own = job.votes.iter().filter(|vote| !matches!(vote.origin, Origin::Collected { .. })).cloned();
        own.map(|vote| Collected { vote: Vote { proof: Arc::from([1]), ..vote }, output: Output::Held }).collect()
    }

    /// Nothing is kept of a job any more.
    pub fn dismiss(&mut self, id: JobId) {
        if self.jobs.get(&id).is_some_and(|job| job.kept.is_some()) {
            self.jobs.remove(&id);
            self.order.retain(|other| *other != id);
        }
    }

    /// Whether a job is kept for another, and adopted.
    pub fn kept(&self, id: JobId) -> Option<bool> {
        self.jobs.get(&id)?.kept.as_ref().map(|kept| kept.adopted)
    }

    /// The jobs that are kept for others.
    pub fn all_kept(&self) -> Vec<KeptJob> {
        let all = self.jobs.iter().filter_map(|(id, job)| Some((*id, job, job.kept.clone()?)));
        all.map(|(id, job, Kept { keepers, adopted })| {
            let ended = job.state.has_ended() && !adopted;
            KeptJob { id, manifest: Arc::new(job.manifest.clone()), keepers, adopted, ended }
        })
        .collect()
    }

    /// Who keeps an own job.
    pub fn keepers(&self, id: JobId) -> Vec<PeerId> {
        self.jobs.get(&id).map(|job| job.keepers.1.peers.clone()).unwrap_or_default()
    }
}

impl OnDisk {
    pub fn new(manifest: Manifest, secret: JobSecret) -> Self {
        Self {
            manifest,
            secret,
            state: JobState::Running,
            votes: Vec::new(),
            verdicts: Default::default(),
            failures: Default::default(),
            findings: None,
            keepers: Default::default(),
            kept: None,
        }
    }

    pub fn saved(&self, id: JobId) -> SavedJob {
        let Self { manifest, secret, state, votes, verdicts, failures, findings, keepers, kept } = self.clone();
        let (verdicts, failures) = (verdicts.into_iter().collect(), failures.into_iter().collect());
        let keepers = kept.map_or(keepers, |kept| (kept.keepers.peers.len() as u8, kept.keepers));
        SavedJob { id, manifest, secret: secret.0, state, votes, verdicts, failures, findings, keepers }
    }
}
