//! One peer's machine: its slots, what runs in them, and its disk.

use super::{keep::Shell, kept::Kept as KeptHere, measure::Traffic, scenario::PeerSpec};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Fact, Failures, Findings, JobState, Saved, Standing, Verdict, Vote},
    ids::{Attempt, JobId, PeerId, UnitIndex},
    job::Manifest,
    keeping::Keepers,
    outcome::Value,
    owner::{LeaseToken, Output, Recovered},
    peer::Peer,
    platform::Platform,
    time::Instant,
    verify::JobSecret,
    worker::{Kept, RunId},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

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
    /// Workers that it refused.
    pub refused: u32,
    /// What it does for its keepers.
    pub(super) keep: Shell,
    /// What it has sent.
    pub sent: Traffic,
    /// How often its peer's actions were performed.
    pub performed: u32,
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
            keep: Shell::default(),
            sent: Traffic::default(),
            performed: 0,
        }
    }

    /// Everything but the disk is gone.
    pub fn crash(&mut self) {
        self.peer = None;
        self.life += 1;
        self.wake = None;
        self.running.clear();
        self.waiting.clear();
        self.keep = Shell::default();
    }

    /// Stops an execution, or does not start it.
    pub fn stop(&mut self, run: RunId) {
        if !self.running.remove(&run) {
            self.waiting.retain(|waiting| *waiting != run);
        }
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

/// Receipts on one page.
const RECEIPTS_PAGE: usize = 64;

/// A worker's own receipt, without what simulated units never have; a large grid keeps millions.
#[derive(Clone, Debug)]
struct Receipt {
    unit: UnitIndex,
    attempt: Attempt,
    ordinal: u32,
    token: LeaseToken,
    value: Value,
    output_bytes: u64,
}

impl Receipt {
    fn of(kept: Kept) -> Self {
        let Kept { unit, attempt, ordinal, token, input: _, rests_on: _, value, output_bytes, output: _ } = kept;
        Self { unit, attempt, ordinal, token, value, output_bytes }
    }

    fn recovered(&self, platform: Platform) -> Recovered {
        let Self { unit, attempt, ordinal, token, value, output_bytes } = *self;
        let (output, proof) = (Output::Bytes(Arc::from([0; 8])), Arc::from([1]));
        Recovered { unit, attempt, ordinal, token, rests_on: Authors::NONE, value, output_bytes, output, platform, proof }
    }
}

/// What a peer has made durable.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub(super) jobs: BTreeMap<JobId, OnDisk>,
    pub(super) order: Vec<JobId>,
    standings: BTreeMap<PeerId, Standing>,
    receipts: BTreeMap<(PeerId, JobId), Vec<Receipt>>,
}

/// What is known of a job.
#[derive(Clone, Debug)]
pub(super) struct OnDisk {
    pub manifest: Manifest,
    pub secret: JobSecret,
    pub state: JobState,
    pub votes: Vec<Vote>,
    pub verdicts: BTreeMap<UnitIndex, Verdict>,
    pub failures: BTreeMap<UnitIndex, Failures>,
    pub findings: Option<Findings>,
    pub keepers: (u8, Keepers),
    /// It is kept for somebody else.
    pub kept: Option<KeptHere>,
}

impl Disk {
    /// Keeps a submitted job.
    pub fn keep_job(&mut self, id: JobId, manifest: Manifest, secret: JobSecret) {
        self.order.push(id);
        self.jobs.insert(id, OnDisk::new(manifest, secret));
    }

    /// Keeps receipts of what was acknowledged.
    pub fn keep_receipts(&mut self, coordinator: PeerId, job: JobId, receipts: Vec<Kept>) {
        self.receipts.entry((coordinator, job)).or_default().extend(receipts.into_iter().map(Receipt::of));
    }

    /// A page of them, whoever leased the units, as the border at the coordinator makes it, and where the next one begins.
    pub fn receipts(&self, job: JobId, after: u64, platform: Platform) -> (Vec<Recovered>, Option<u64>) {
        let kept = || self.receipts.iter().filter(|((_, of), _)| *of == job).flat_map(|(_, kept)| kept);
        let page: Vec<_> = kept().skip(after as usize).take(RECEIPTS_PAGE).map(|kept| kept.recovered(platform)).collect();
        let next = after as usize + page.len();
        (page, (next < kept().count()).then_some(next as u64))
    }

    /// The receipts kept for others are gone.
    pub fn forget_receipts(&mut self) {
        self.receipts.clear();
    }

    /// All that is known of jobs is gone but their manifests and secrets, and what is known of other peers unless that is kept.
    pub fn forget(&mut self, records_kept: bool) {
        for job in self.jobs.values_mut() {
            (job.state, job.votes, job.verdicts, job.failures) = (JobState::Running, Vec::new(), BTreeMap::new(), BTreeMap::new());
        }
        if !records_kept {
            self.standings.clear();
        }
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
            Fact::Keepers(job, wanted, keepers) => self.job(job).keepers = (wanted, keepers),
        }
    }

    pub(super) fn job(&mut self, id: JobId) -> &mut OnDisk {
        self.jobs.get_mut(&id).expect("a peer persists facts of its own jobs and of those that it has adopted")
    }

    /// A worker's vote on a unit.
    pub fn vote(&self, job: JobId, unit: UnitIndex, worker: PeerId) -> Option<&Vote> {
        self.jobs.get(&job)?.votes.iter().find(|vote| vote.unit == unit && vote.worker == worker)
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
        let coordinated = |id: &&JobId| self.jobs[*id].kept.as_ref().is_none_or(|kept| kept.adopted);
        Saved {
            jobs: self.order.iter().filter(coordinated).map(|id| self.jobs[id].saved(*id)).collect(),
            kept: self.all_kept(),
            standings: self.standings.iter().map(|(p, s)| (*p, *s)).collect(),
            ..Saved::default()
        }
    }
}
