//! One peer's machine: its slots, what runs in them, and its disk.

use super::scenario::PeerSpec;
use crate::protocol::{
    fact::{Fact, Failures, Findings, JobState, Saved, SavedJob, Standing, Verdict},
    ids::{JobId, PeerId, UnitIndex},
    job::Manifest,
    peer::Peer,
    time::Instant,
    verify::JobSecret,
    worker::RunId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A machine, whether its peer runs or not.
pub struct Machine {
    /// Its key.
    pub id: PeerId,
    /// What it is like.
    pub spec: PeerSpec,
    /// The peer, unless it is down.
    pub peer: Option<Peer>,
    /// Grows with each crash: what was under way for an earlier life is lost.
    pub life: u32,
    /// What survives a crash.
    pub disk: Disk,
    /// When it is to be woken; earlier wakes are stale.
    pub wake: Option<Instant>,
    /// Executions in slots.
    pub running: BTreeSet<RunId>,
    /// Executions that wait for a slot.
    pub waiting: VecDeque<RunId>,
    /// It lends nothing while paused.
    pub refused: u32,
}

impl Machine {
    /// A machine that is down and has an empty disk.
    pub fn new(id: PeerId, spec: PeerSpec) -> Self {
        Self {
            id,
            spec,
            peer: None,
            life: 0,
            disk: Disk::default(),
            wake: None,
            running: BTreeSet::new(),
            waiting: VecDeque::new(),
            refused: 0,
        }
    }

    /// Everything but the disk is gone.
    pub fn crash(&mut self) {
        self.peer = None;
        self.life += 1;
        self.wake = None;
        self.running.clear();
        self.waiting.clear();
    }

    /// Puts the next execution into a free slot, if there are both.
    pub fn start_next(&mut self) -> Option<RunId> {
        if self.running.len() >= self.spec.slots as usize {
            return None;
        }
        let run = self.waiting.pop_front()?;
        self.running.insert(run);
        Some(run)
    }
}

/// What a peer has made durable.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    jobs: BTreeMap<JobId, OnDisk>,
    order: Vec<JobId>,
    standings: BTreeMap<PeerId, Standing>,
}

#[derive(Clone, Debug)]
struct OnDisk {
    manifest: Manifest,
    secret: JobSecret,
    state: JobState,
    votes: Vec<crate::protocol::fact::Vote>,
    verdicts: BTreeMap<UnitIndex, Verdict>,
    failures: BTreeMap<UnitIndex, Failures>,
    findings: Option<Findings>,
}

impl Disk {
    /// Keeps a submitted job.
    pub fn keep_job(&mut self, id: JobId, manifest: Manifest, secret: JobSecret) {
        self.order.push(id);
        let (votes, verdicts, failures, findings) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), None);
        self.jobs.insert(id, OnDisk { manifest, secret, state: JobState::Running, votes, verdicts, failures, findings });
    }

    /// Keeps a fact.
    pub fn keep(&mut self, fact: Fact) {
        match fact {
            Fact::Vote(job, vote) => self.job(job).votes.push(vote),
            Fact::Verdict(job, unit, verdict) => drop(self.job(job).verdicts.insert(unit, verdict)),
            Fact::Failures(job, unit, failures) => drop(self.job(job).failures.insert(unit, failures)),
            Fact::JobState(job, state) => self.job(job).state = state,
            Fact::Findings(job, findings) => self.job(job).findings = Some(findings),
            Fact::Standing(peer, standing) => drop(self.standings.insert(peer, standing)),
        }
    }

    fn job(&mut self, id: JobId) -> &mut OnDisk {
        self.jobs.get_mut(&id).expect("a peer persists facts of its own jobs only")
    }

    /// A unit's newest verdict.
    pub fn verdict(&self, job: JobId, unit: UnitIndex) -> Option<Verdict> {
        self.jobs.get(&job)?.verdicts.get(&unit).copied()
    }

    /// A job's newest state.
    pub fn state(&self, job: JobId) -> Option<JobState> {
        self.jobs.get(&job).map(|job| job.state)
    }

    /// The jobs, oldest first.
    pub fn jobs(&self) -> &[JobId] {
        &self.order
    }

    /// What a restarted peer is given.
    pub fn saved(&self) -> Saved {
        let job = |id: &JobId| {
            let OnDisk { manifest, secret, state, votes, verdicts, failures, findings } = self.jobs[id].clone();
            let (verdicts, failures) = (verdicts.into_iter().collect(), failures.into_iter().collect());
            SavedJob { id: *id, manifest, secret: secret.0, state, votes, verdicts, failures, findings }
        };
        Saved {
            jobs: self.order.iter().map(job).collect(),
            standings: self.standings.iter().map(|(p, s)| (*p, *s)).collect(),
            ..Saved::default()
        }
    }
}
