//! The author's side: who keeps its jobs, whether they do, and who takes the place of those that are lost.

use super::{KEEPERS_MAX, Keepers, Step};
use crate::protocol::{
    fact::{Fact, JobState},
    ids::{Digest, JobId, PeerId},
    owner::Owner,
    time::Instant,
};
use core::{cmp::Reverse, time::Duration};
use std::collections::{BTreeMap, BTreeSet};

/// A keeper that is lost may come back for so long before another takes its place.
const GRACE: Duration = Duration::from_secs(30);
/// How often a keeper that is attached but cannot be asked is tried again, once in [`GRACE`].
const TRIES_MAX: u8 = 3;
/// Newcomers are not made keepers before: those whom this peer knows may be on their way.
const SETTLE: Duration = Duration::from_secs(3);
/// After a restart nothing is leased for so long at most while keepers are asked what they have collected.
const RECALL_WAIT: Duration = Duration::from_secs(10);
/// Whoever has refused is not asked again for so long.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// How many refusals are remembered for a job: more peers than this are rarely asked.
const REFUSALS_MAX: usize = 64;
/// How many former keepers are remembered for a job, in case they come back with something.
const FORMER_MAX: usize = 16;

/// The keepers of this peer's jobs.
#[derive(Clone, Debug, Default)]
pub struct Author {
    jobs: BTreeMap<JobId, Own>,
    steps: Vec<Step>,
    /// Something has happened by which a job may find a keeper, or lose one.
    look: bool,
    /// When something is due although nothing happens until then.
    due: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Own {
    wanted: u8,
    list: Keepers,
    /// Of each that is listed.
    links: BTreeMap<PeerId, Link>,
    /// How often one that is listed was tried in vain.
    tries: BTreeMap<PeerId, u8>,
    /// Lost, and replaced: they may have gone on with the job, and come back with votes.
    former: BTreeSet<PeerId>,
    refused: BTreeMap<PeerId, Instant>,
    since: Instant,
    runs: bool,
    /// After a restart, until its keepers have been asked.
    recalling_until: Option<Instant>,
}

/// How far a keeper is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// Asked to keep the job.
    Asked,
    /// It has everything that is durable.
    Holds,
    /// Not reached since then.
    Lost(Instant),
    /// Asked what it has collected.
    Recalled,
}

impl Own {
    fn new(since: Instant, wanted: u8, list: Keepers) -> Self {
        let (links, tries, former, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let wanted = wanted.min(KEEPERS_MAX);
        Self { wanted, list, links, tries, former, refused, since, runs: true, recalling_until: None }
    }

    fn is_recalling(&self) -> bool {
        self.links.values().any(|link| *link == Link::Recalled)
    }

    /// Whether a keeper has been away for long enough to be replaced.
    fn is_given_up(&self, peer: PeerId, now: Instant) -> bool {
        matches!(self.links.get(&peer), Some(Link::Lost(since)) if since.after(GRACE) <= now)
    }

    fn remove(&mut self, peer: PeerId) {
        self.list.peers.retain(|other| *other != peer);
        self.links.remove(&peer);
        self.tries.remove(&peer);
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let lacks = self.list.peers.len() < usize::from(self.wanted);
        let lost = self.links.values().filter_map(|link| match link {
            Link::Lost(since) => Some(since.after(GRACE)),
            Link::Asked | Link::Holds | Link::Recalled => None,
        });
        let settled = self.since.after(SETTLE);
        let refusals = self.refused.values().map(|at| at.after(REFUSED_FOR));
        let wanting = refusals.chain([settled]).filter(|_| lacks);
        // What is past waits for somebody to come.
        lost.chain(wanting).filter(|at| *at > now).chain(self.recalling_until).min()
    }
}

impl Author {
    /// What was durable: each own job with keepers wanted, and whether it runs. The keepers of those that run are recalled; the second of
    /// the pair are the jobs of which nothing is leased before, and until when.
    pub fn restore(now: Instant, jobs: impl IntoIterator<Item = (JobId, u8, Keepers, bool)>) -> (Self, Vec<(JobId, Instant)>) {
        let mut author = Self { look: true, ..Self::default() };
        let mut held = Vec::new();
        for (job, wanted, list, runs) in jobs {
            let mut own = Own { runs, ..Own::new(now, wanted, list) };
            let link = if runs { Link::Recalled } else { Link::Holds };
            own.links = own.list.peers.iter().map(|peer| (*peer, link)).collect();
            if runs && !own.list.peers.is_empty() {
                let until = now.after(RECALL_WAIT);
                own.recalling_until = Some(until);
                held.push((job, until));
                author.steps.extend(own.list.peers.iter().map(|peer| Step::Recall { to: *peer, job }));
            }
            author.jobs.insert(job, own);
        }
        (author, held)
    }

    /// A job was submitted, and so many peers are to keep it.
    pub fn submitted(&mut self, now: Instant, job: JobId, wanted: u8) {
        if wanted > 0 && !self.jobs.contains_key(&job) {
            let own = Own::new(now, wanted, Keepers::default());
            self.steps.push(Step::Persist(Fact::Keepers(job, own.wanted, Keepers::default())));
            self.jobs.insert(job, own);
            self.look = true;
        }
    }

    /// The state of a job may have changed. Keepers of one that has ended keep its results; of one that was cancelled, nothing.
    pub fn state(&mut self, job: JobId, state: Option<JobState>) {
        let Some(own) = self.jobs.get_mut(&job) else { return };
        let before = core::mem::replace(&mut own.runs, state == Some(JobState::Running));
        if own.runs {
            if !before {
                self.look = true;
                self.tell_all(job);
            }
            return;
        }
        if own.recalling_until.take().is_some() {
            self.steps.push(Step::Lease(job));
        }
        if matches!(state, None | Some(JobState::Cancelled)) && !own.list.peers.is_empty() {
            let gone = core::mem::take(&mut own.list.peers);
            own.list.version = own.list.version.saturating_add(1);
            own.links.clear();
            self.steps.push(Step::Persist(Fact::Keepers(job, own.wanted, own.list.clone())));
            self.steps.extend(gone.into_iter().map(|to| Step::Dismiss { to, job }));
        }
    }

    /// Tells everybody on the list of it who is not being recalled or lost.
    fn tell_all(&mut self, job: JobId) {
        let Some(own) = self.jobs.get_mut(&job) else { return };
        for peer in &own.list.peers {
            let link = own.links.entry(*peer).or_insert(Link::Asked);
            if matches!(link, Link::Asked | Link::Holds) {
                self.steps.push(Step::Keep { to: *peer, job, keepers: own.list.clone() });
            }
        }
    }

    /// A peer says whether it keeps a job.
    pub fn answered(&mut self, now: Instant, from: PeerId, job: JobId, keeps: bool) {
        let Some(own) = self.jobs.get_mut(&job).filter(|own| own.list.peers.contains(&from)) else { return };
        if keeps {
            own.tries.remove(&from);
            if own.links.get(&from) == Some(&Link::Asked) {
                own.links.insert(from, Link::Holds);
            }
            return;
        }
        own.remove(from);
        if own.refused.len() >= REFUSALS_MAX
            && let Some(oldest) = own.refused.iter().min_by_key(|(_, at)| **at).map(|(peer, _)| *peer)
        {
            own.refused.remove(&oldest);
        }
        own.refused.insert(from, now);
        self.changed(job);
        self.recalled(job);
        self.look = true;
    }

    /// The list of a job has changed.
    fn changed(&mut self, job: JobId) {
        let Some(own) = self.jobs.get_mut(&job) else { return };
        own.list.version = own.list.version.saturating_add(1);
        self.steps.push(Step::Persist(Fact::Keepers(job, own.wanted, own.list.clone())));
        // Of one that has ended nobody does anything any more; all are told when it runs again.
        if own.runs {
            self.tell_all(job);
        }
    }

    /// A keeper cannot be reached.
    pub fn lost(&mut self, now: Instant, peer: PeerId) {
        let mut unasked = Vec::new();
        for (job, own) in self.jobs.iter_mut().filter(|(_, own)| own.runs) {
            let Some(link) = own.links.get_mut(&peer) else { continue };
            if core::mem::replace(link, Link::Lost(now)) == Link::Recalled && own.recalling_until.is_some() {
                self.steps.push(Step::AskWorkers(*job));
                unasked.push(*job);
            }
        }
        unasked.into_iter().for_each(|job| self.recalled(job));
        self.look = true;
    }

    /// A worker has attached. A keeper that was away may have gone on with the job meanwhile, so it is asked for what it has first.
    pub fn attached(&mut self, peer: PeerId) {
        for (job, own) in self.jobs.iter_mut().filter(|(_, own)| own.runs) {
            let lost = own.links.get_mut(&peer).filter(|link| matches!(link, Link::Lost(_)));
            if let Some(link) = lost {
                *link = Link::Recalled;
                self.steps.push(Step::Recall { to: peer, job: *job });
            } else if own.former.contains(&peer) {
                self.steps.push(Step::Recall { to: peer, job: *job });
            }
        }
        self.look = true;
    }

    /// A keeper has handed back what it had of a job.
    pub fn handed_back(&mut self, from: PeerId, job: JobId) {
        let Some(own) = self.jobs.get_mut(&job) else { return };
        if own.former.remove(&from) {
            self.steps.push(Step::Dismiss { to: from, job });
        }
        if let Some(link) = own.links.get_mut(&from).filter(|link| **link == Link::Recalled) {
            *link = Link::Asked;
            if own.runs {
                self.steps.push(Step::Keep { to: from, job, keepers: own.list.clone() });
            }
        }
        self.recalled(job);
    }

    /// If nobody is asked any more, the job is leased again.
    fn recalled(&mut self, job: JobId) {
        let Some(own) = self.jobs.get_mut(&job) else { return };
        if own.recalling_until.is_some() && !own.is_recalling() {
            own.recalling_until = None;
            self.steps.push(Step::Lease(job));
        }
    }

    /// What is to be done. Looks for keepers where something has happened.
    pub fn take_steps(&mut self, now: Instant, owner: &Owner) -> Vec<Step> {
        self.look |= self.due.is_some_and(|due| due <= now);
        if core::mem::take(&mut self.look) {
            let overdue = |own: &Own| own.recalling_until.is_some_and(|until| until <= now);
            for (job, own) in self.jobs.iter_mut().filter(|(_, own)| overdue(own)) {
                own.recalling_until = None;
                self.steps.push(Step::Lease(*job));
            }
            let jobs: Vec<JobId> = self.jobs.iter().filter(|(_, own)| own.runs).map(|(job, _)| *job).collect();
            jobs.into_iter().for_each(|job| self.fill(now, job, owner));
            self.due = self.jobs.values().filter(|own| own.runs).filter_map(|own| own.deadline(now)).min();
        }
        core::mem::take(&mut self.steps)
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Replaces who is given up or barred, and finds whom a job lacks.
    fn fill(&mut self, now: Instant, job: JobId, owner: &Owner) {
        let Some(own) = self.jobs.get_mut(&job) else { return };
        own.refused.retain(|_, at| at.after(REFUSED_FOR) > now);
        let mut changed = false;
        for peer in own.list.peers.clone() {
            if owner.trust().is_barred(peer, now) {
                own.remove(peer);
                self.steps.push(Step::Dismiss { to: peer, job });
                changed = true;
            } else if own.is_given_up(peer, now) && owner.is_attached(peer) {
                let tries = own.tries.entry(peer).or_default();
                if *tries < TRIES_MAX {
                    *tries += 1;
                    own.links.insert(peer, Link::Recalled);
                    self.steps.push(Step::Recall { to: peer, job });
                }
            }
        }
        loop {
            let gone = own.list.peers.iter().copied().find(|peer| own.is_given_up(*peer, now));
            let lacks = own.list.peers.len() < usize::from(own.wanted);
            if !lacks && gone.is_none() {
                break;
            }
            let Some(chosen) = choose(own, now, job, owner) else { break };
            if let Some(gone) = gone.filter(|_| !lacks) {
                own.remove(gone);
                if own.former.len() < FORMER_MAX {
                    own.former.insert(gone);
                }
            }
            own.former.remove(&chosen);
            own.list.peers.push(chosen);
            own.links.insert(chosen, Link::Asked);
            changed = true;
        }
        if changed {
            self.changed(job);
            self.recalled(job);
        }
    }

    /// For each keeper of an own job, whether it holds all that is durable so far.
    pub fn keepers(&self, job: JobId) -> Vec<(PeerId, bool)> {
        let Some(own) = self.jobs.get(&job) else { return Vec::new() };
        own.list.peers.iter().map(|peer| (*peer, own.links.get(peer) == Some(&Link::Holds))).collect()
    }
}

/// The attached worker that is to keep the job: own devices and friends before those proven, and these before newcomers; independent of
/// those that keep it already; with the longest record.
fn choose(own: &Own, now: Instant, job: JobId, owner: &Owner) -> Option<PeerId> {
    let trust = owner.trust();
    let settled = own.since.after(SETTLE) <= now;
    let known = |peer: PeerId| own.list.peers.contains(&peer) || own.refused.contains_key(&peer);
    let rank = |peer: PeerId| {
        let standing = trust.standing(peer);
        let proven = owner.is_proven_for(peer, job);
        let class = match () {
            () if standing.is_anchor() => 0,
            () if proven => 1,
            () if standing.strikes == 0 => 2,
            () => 3,
        };
        let (prefix, lineage) = (trust.prefix(peer), trust.lineage(peer));
        let depends = own.list.peers.iter().any(|other| {
            let (same_network, line) = (prefix.is_some() && trust.prefix(*other) == prefix, trust.lineage(*other));
            same_network || (lineage.is_some() && (line == lineage || lineage == Some(*other))) || line == Some(peer)
        });
        // Whoever makes up keys gains nothing by low ones.
        let lot = Digest::of_parts(&[b"keeper", job.as_bytes(), peer.as_bytes()]);
        (class, depends, Reverse(standing.verified_units), lot.0)
    };
    let candidates = owner.attached_workers().filter(|peer| *peer != owner.me() && !known(*peer) && !trust.is_barred(*peer, now));
    let best = candidates.map(|peer| (rank(peer), peer)).min()?;
    (settled || best.0.0 < 2).then_some(best.1)
}
