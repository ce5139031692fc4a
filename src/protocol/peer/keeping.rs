//! Keepers, between the machine that chooses them or is one, the owner that leases, and everybody else.

use super::{Action, JOB_LIFETIME, Peer};
use crate::protocol::{
    announce::{Announcement, JobOpen, Subject},
    fact::{Saved, SavedJob},
    ids::{JobId, PeerId},
    job::Manifest,
    keeping::{Author, Heard, Keeper, Keeping, KeptJob, Step},
    owner::Owner,
    time::Instant,
};

impl Keeping {
    /// From what was durable.
    pub(super) fn restore(now: Instant, config: &super::PeerConfig, saved: &Saved) -> (Self, Vec<(JobId, Instant)>) {
        let me = config.me.peer;
        let own = saved.jobs.iter().filter(|job| job.manifest.owner == me && job.keepers.0 > 0);
        let own = own.map(|job| (job.id, job.keepers.0, job.keepers.1.clone(), !job.state.has_ended()));
        let (author, held) = Author::restore(now, own);
        let keeper = Keeper::restore(now, me, config.keeper_silence, config.slots > 0, saved.kept.clone());
        (Self { author, keeper }, held)
    }
}

impl Peer {
    /// Who keeps what, for views, and for the shell to ask whether a job may be kept.
    pub fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    pub(super) fn on_announced(&mut self, now: Instant, author: PeerId, announcement: Announcement) {
        if author == self.me() {
            return;
        }
        if let Heard::Author(job) = self.keeping.keeper.hear(now, author, &announcement)
            && self.owner.has_adopted(job)
        {
            self.hand_back(now, author, job);
        }
        self.board.hear(now, author, announcement);
    }

    /// An author has sent a list: it is here, and coordinates its job itself.
    pub(super) fn on_kept(&mut self, now: Instant, job: KeptJob) {
        let (id, author) = (job.id, job.manifest.owner);
        if self.owner.has_adopted(id) {
            self.hand_back(now, author, id);
        }
        self.keeping.keeper.keep(now, job);
    }

    pub(super) fn on_kept_no_more(&mut self, job: JobId) {
        self.stop_coordinating(job);
        self.keeping.keeper.forget(job);
    }

    pub(super) fn on_adopted(&mut self, now: Instant, saved: SavedJob) {
        let (job, author, ended) = (saved.id, saved.manifest.owner, saved.state.has_ended());
        if self.keeping.keeper.adopt(job) && self.owner.adopt(now, saved) {
            self.on_recover(now, job);
        } else if !self.owner.has_adopted(job) {
            // It is durable that this peer coordinates it, and it does not.
            self.hand_back(now, author, job);
            if ended {
                self.keeping.keeper.forget(job);
            }
        }
    }

    /// The author asks for its job, whether it was adopted here or not.
    pub(super) fn on_recalled(&mut self, now: Instant, author: PeerId, job: JobId) {
        let owner = self.keeping.keeper.get(job).map(|kept| kept.manifest.owner).or_else(|| Some(self.owner.manifest(job)?.owner));
        if owner.is_none_or(|owner| owner == author) {
            self.hand_back(now, author, job);
        }
    }

    fn hand_back(&mut self, now: Instant, author: PeerId, job: JobId) {
        self.stop_coordinating(job);
        // What was taken last is durable before it is handed back.
        let left = self.owner.take_actions(now);
        self.perform_all_of_owner(now, left);
        self.keeping.keeper.hand_back(now, job);
        self.actions.push(Action::HandBack { to: author, job });
    }

    /// Everything that is out is revoked at once, before anything is handed back, and workers are told that there is nothing here.
    fn stop_coordinating(&mut self, job: JobId) {
        let Some(manifest) = self.owner.manifest(job) else { return };
        if !self.owner.forsake(job) {
            return;
        }
        self.job_repeats.remove(&job);
        let subject = Subject::JobOpen(self.job_open(job, &manifest, 0));
        self.publish(JOB_LIFETIME, subject);
    }

    pub(super) fn job_open(&self, job: JobId, manifest: &Manifest, open_units: u32) -> JobOpen {
        JobOpen {
            job,
            generation: self.generation(job),
            module: manifest.module,
            purpose: manifest.purpose.clone(),
            tags: manifest.tags.clone(),
            memory_bytes: manifest.limits.memory_bytes,
            open_units,
            priority: manifest.priority,
            contact: self.config.me.hint.to_vec(),
        }
    }

    /// The number of this peer's reign over a job; zero for its own.
    pub(super) fn generation(&self, job: JobId) -> u32 {
        self.keeping.keeper.generation(job).max(u32::from(self.owner.has_adopted(job)))
    }

    pub(super) fn note_lending(&mut self) {
        self.keeping.keeper.set_lending(self.config.slots > 0 && !self.worker.is_paused());
    }

    /// What authors and keepers want done.
    pub(super) fn keep(&mut self, now: Instant) {
        for step in self.keeping.author.take_steps(now, &self.owner) {
            self.perform_step(now, step);
        }
        if self.keeping.keeper.deadline().is_some_and(|deadline| deadline <= now) {
            let owner = &self.owner;
            let due = self.keeping.keeper.due(now, |job| owner.has_adopted(job) && owner.open_units(job) > 0);
            self.actions.extend(due.into_iter().map(Action::Adopt));
        }
    }

    fn perform_step(&mut self, now: Instant, step: Step) {
        match step {
            Step::Persist(fact) => self.actions.push(Action::Persist(fact)),
            Step::Keep { to, job, keepers } => self.actions.push(Action::Keep { to, job, keepers }),
            Step::Dismiss { to, job } => self.actions.push(Action::Dismiss { to, job }),
            Step::Recall { to, job } => self.actions.push(Action::Recall { to, job }),
            Step::Lease(job) => self.owner.hold_back(job, None),
            Step::AskWorkers(job) => {
                if self.owner.begin_recovery_from_elsewhere(now, job) {
                    self.ask_attached();
                }
            }
        }
    }

    pub(super) fn keeping_deadline(&self) -> Option<Instant> {
        self.keeping.author.deadline().into_iter().chain(self.keeping.keeper.deadline()).min()
    }
}

/// After a restart: nothing of these jobs is leased before their keepers have been asked, and what is not here was not adopted.
pub(super) fn begin(owner: &mut Owner, keeping: &mut Keeping, held: Vec<(JobId, Instant)>) {
    held.into_iter().for_each(|(job, until)| owner.hold_back(job, Some(until)));
    keeping.keeper.only_adopted(|job| owner.has_adopted(job));
}
