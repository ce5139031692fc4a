//! Jobs: found by what people call them, shown, followed, cancelled and retried; own ones and, as far as they tell, others'.

use super::{
    NodeBackend,
    chronicle::{Chronicle, Times, unix_ms},
    explain,
    others::kept_seen,
    status::standing_word,
    stream::{Ended, Outlet, replies},
};
use crate::{
    control::{
        backend::{Replies, Reply},
        error::{ControlError, Kind},
        reference::{self, PREFIX_DIGITS_MIN},
    },
    node::{
        Node,
        net::{event::ConnectError, network::JobWatch, nickname::nickname, read_ticket::ReadTicket},
    },
    protocol::{
        fact::JobState,
        ids::{JobId, PeerId},
        job::{Manifest, Policy, Reduce},
        owner::JobView,
        peer::Event,
    },
    store::{Role, Store},
    wire::{
        control::{Contributor, Job, JobKeeper, JobState as WireState, ListJobsRequest, ListJobsResponse},
        peer::JobProgress,
        progress,
    },
};
use std::{sync::Arc, time::Duration};

/// How often a followed job is looked at: four times a second at most.
pub(super) const WATCH_EVERY: Duration = Duration::from_millis(250);
/// The most contributors that are shown of a job.
const CONTRIBUTORS_MAX: usize = 100;

/// What a reference names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Named {
    /// Own, or kept here for somebody else.
    Own(JobId),
    /// By the author's permission.
    Ticket(Box<ReadTicket>),
    Others {
        job: JobId,
        coordinator: PeerId,
    },
}

/// An own job with what is known of its contributors, as the run loop sees them.
pub(super) struct Seen {
    pub view: JobView,
    standings: Vec<&'static str>,
    /// Who keeps it, and whether each has everything.
    keepers: Vec<(PeerId, bool)>,
    /// What this node is to a job of somebody else.
    pub kept: Option<Role>,
}

impl Seen {
    /// A job that is kept here, as its author says that it stands.
    pub fn kept(view: JobView) -> Self {
        Self { view, standings: Vec::new(), keepers: Vec::new(), kept: Some(Role::Kept) }
    }

    fn of(node: &Node, job: JobId) -> Option<Self> {
        let mut view = node.peer().owner().job_view(job)?;
        view.contributors.truncate(CONTRIBUTORS_MAX);
        let standings = view.contributors.iter().map(|(peer, _, _)| standing_word(node, *peer)).collect();
        let keepers = node.peer().keeping().keepers(job);
        let kept = view.author.map(|_| Role::Adopted);
        Some(Self { view, standings, keepers, kept })
    }
}

impl NodeBackend {
    /// All own jobs, the oldest first.
    async fn own_ids(&self) -> Reply<Vec<JobId>> {
        self.read(|store| Ok(store.job_ids()?)).await
    }

    /// The own job that `reference` names.
    pub(super) async fn own(&self, reference: &str) -> Reply<JobId> {
        match self.named(reference).await? {
            Named::Own(job) => Ok(job),
            Named::Ticket(ticket) => Err(not_own(ticket.job, ticket.author)),
            Named::Others { job, coordinator } => Err(not_own(job, coordinator)),
        }
    }

    /// The own job that `reference` names: its author alone decides what becomes of it.
    pub(super) async fn authored(&self, reference: &str) -> Reply<JobId> {
        let job = self.own(reference).await?;
        match self.seen(job).await? {
            Seen { kept: Some(_), view, .. } => Err(not_own(job, view.manifest.owner)),
            Seen { .. } => Ok(job),
        }
    }

    async fn named(&self, reference: &str) -> Reply<Named> {
        if let Some(ticket) = ReadTicket::of(reference)? {
            return Ok(Named::Ticket(Box::new(ticket)));
        }
        let error = match reference::resolve(reference, self.own_ids().await?) {
            Ok(job) => return Ok(Named::Own(job)),
            Err(error) => error,
        };
        let prefix = reference.to_ascii_lowercase();
        let is_prefix = prefix.len() >= PREFIX_DIGITS_MIN && prefix.bytes().all(|digit| digit.is_ascii_hexdigit());
        if error.kind != Kind::NotFound || !is_prefix {
            return Err(error);
        }
        let heard = self.view(move |node| {
            let board = node.peer().board();
            let jobs = board.jobs_named(&prefix).into_iter();
            jobs.filter_map(|job| Some((job, board.coordinator_of(job)?))).collect::<Vec<_>>()
        });
        let heard = heard.await?;
        if heard.is_empty() {
            return Err(error.hint("a job of another peer: only while it is announced in this grid"));
        }
        let job = reference::resolve(reference, heard.iter().map(|(job, _)| *job))?;
        let found = heard.iter().find(|(heard, _)| *heard == job).ok_or(error)?;
        Ok(Named::Others { job, coordinator: found.1 })
    }

    /// An own job as the run loop sees it.
    pub(super) async fn seen(&self, job: JobId) -> Reply<Seen> {
        if let Some(seen) = self.view(move |node| Seen::of(node, job)).await? {
            return Ok(seen);
        }
        self.read(move |store| kept_seen(store, job)).await
    }

    /// What an own job consists of.
    pub(super) async fn manifest(&self, job: JobId) -> Reply<Arc<Manifest>> {
        Ok(self.seen(job).await?.view.manifest)
    }

    /// An own job as people are shown it.
    pub(super) async fn own_job(&self, job: JobId) -> Reply<Job> {
        let seen = self.seen(job).await?;
        let shared = self.0.clone();
        self.read(move |store| {
            let ids = store.job_ids()?;
            message(&shared.chronicle, store, &ids, seen)
        })
        .await
    }

    pub(super) async fn any_job(&self, reference: &str) -> Reply<Job> {
        match self.named(reference).await? {
            Named::Own(job) => self.own_job(job).await,
            Named::Ticket(ticket) => self.read_head(&ticket).await,
            Named::Others { job, coordinator } => {
                let mut watch = self.watch_others(job, coordinator).await?;
                next_report(&mut watch, job, coordinator).await?.ok_or_else(|| ControlError::no_such_job(reference))
            }
        }
    }

    pub(super) async fn job_page(&self, request: ListJobsRequest) -> Reply<ListJobsResponse> {
        let ids = self.own_ids().await?;
        let newest: Vec<JobId> = ids.iter().rev().copied().collect();
        let start = match request.page_token.as_str() {
            "" => 0,
            token => {
                let after: JobId = token.parse().map_err(|_| bad_token())?;
                newest.iter().position(|job| *job == after).ok_or_else(bad_token)? + 1
            }
        };
        let page: Vec<JobId> = newest[start..].iter().take(request.page_size as usize).copied().collect();
        let more = start + page.len() < newest.len();
        let next_page_token = page.last().filter(|_| more).map(ToString::to_string).unwrap_or_default();
        let mut seen = Vec::with_capacity(page.len());
        for job in page {
            seen.push(self.seen(job).await?);
        }
        let shared = self.0.clone();
        let jobs = self.read(move |store| seen.into_iter().map(|seen| message(&shared.chronicle, store, &ids, seen)).collect()).await?;
        Ok(ListJobsResponse { jobs, next_page_token })
    }

    pub(super) async fn watch_any(&self, reference: &str) -> Reply<Replies<Job>> {
        match self.named(reference).await? {
            Named::Own(job) => {
                let first = self.own_job(job).await?;
                let backend = self.clone();
                Ok(replies(move |outlet| backend.follow_own(job, first, outlet)))
            }
            Named::Ticket(ticket) => {
                let first = self.read_head(&ticket).await?;
                let backend = self.clone();
                Ok(replies(move |outlet| backend.follow_ticket(*ticket, first, outlet)))
            }
            Named::Others { job, coordinator } => {
                let watch = self.watch_others(job, coordinator).await?;
                Ok(replies(move |outlet| follow_others(watch, job, coordinator, outlet)))
            }
        }
    }

    async fn follow_own(self, job: JobId, first: Job, outlet: Outlet<Job>) -> Result<(), Ended> {
        let mut shown = first;
        outlet.put(shown.clone()).await?;
        while shown.state() == WireState::Running {
            outlet.pause(WATCH_EVERY).await?;
            let now = self.own_job(job).await?;
            if without_clock(&now) != without_clock(&shown) {
                outlet.put(now.clone()).await?;
                shown = now;
            }
        }
        Ok(())
    }

    async fn watch_others(&self, job: JobId, coordinator: PeerId) -> Reply<JobWatch> {
        let net = self.handle().await?.net;
        net.watch_job(coordinator, job).await.map_err(|error| unreachable_coordinator(coordinator, &error))
    }

    pub(super) async fn cancel_own(&self, reference: &str) -> Reply<Job> {
        let job = self.authored(reference).await?;
        self.handle().await?.event(Event::Cancel(job)).await?;
        self.own_job(job).await
    }

    pub(super) async fn retry_own(&self, reference: &str) -> Reply<Job> {
        let job = self.authored(reference).await?;
        self.handle().await?.event(Event::Retry(job)).await?;
        self.own_job(job).await
    }
}

async fn follow_others(mut watch: JobWatch, job: JobId, coordinator: PeerId, outlet: Outlet<Job>) -> Result<(), Ended> {
    let mut shown = None;
    loop {
        let report = tokio::select! {
            report = next_report(&mut watch, job, coordinator) => report?,
            gone = outlet.gone() => return Err(gone),
        };
        let Some(now) = report else { return Ok(()) };
        let has_ended = now.state() != WireState::Running;
        if shown.as_ref() != Some(&without_clock(&now)) {
            shown = Some(without_clock(&now));
            outlet.put(now).await?;
        }
        if has_ended {
            return Ok(());
        }
    }
}

/// The next that a coordinator says about its job, checked.
async fn next_report(watch: &mut JobWatch, job: JobId, coordinator: PeerId) -> Reply<Option<Job>> {
    let report = watch.next().await.map_err(|error| unreachable_coordinator(coordinator, &error))?;
    report.map(|report| others_message(job, coordinator, report)).transpose()
}

fn others_message(job: JobId, coordinator: PeerId, report: JobProgress) -> Reply<Job> {
    let malformed = |error: crate::wire::Rejection| {
        let what = format!("{} says something malformed about its job", nickname(coordinator));
        ControlError::new(Kind::Internal, "MALFORMED_PROGRESS", what).cause(error.to_string())
    };
    let state = progress::check(&report).map_err(malformed)?;
    let mut shown = Job {
        id: job.to_string(),
        short_id: reference::short_id(job, []),
        name: report.name,
        units: report.units,
        verified: report.verified,
        provisional: report.provisional,
        awaiting: report.awaiting,
        disputed: report.disputed,
        failed: report.failed,
        running: report.running,
        executions: report.executions,
        workers: report.workers,
        elapsed_ms: report.elapsed_ms,
        owner: coordinator.to_string(),
        ..Job::default()
    };
    shown.set_state(wire_state(state));
    Ok(shown)
}

/// The job without what changes with every look.
pub(super) fn without_clock(job: &Job) -> Job {
    Job { elapsed_ms: 0, eta_low_ms: 0, eta_high_ms: 0, ..job.clone() }
}

/// An own job as people are shown it. `ids` are all own jobs. Blocks on the disk.
fn message(chronicle: &Chronicle, store: &Store, ids: &[JobId], seen: Seen) -> Reply<Job> {
    let times = chronicle.times(store, seen.view.id, seen.view.state.has_ended())?;
    Ok(describe(chronicle, times, ids, &seen))
}

fn describe(chronicle: &Chronicle, times: Times, ids: &[JobId], seen: &Seen) -> Job {
    let JobView { id, manifest, state, counts, awaiting, running, workers, gas, contributors, .. } = &seen.view;
    let elapsed = times.elapsed(unix_ms());
    let is_running = !state.has_ended();
    let eta = Some(()).filter(|()| is_running).and_then(|()| chronicle.estimate(*id, elapsed, counts.units, counts.decided()));
    let contributors = contributors.iter().zip(&seen.standings).map(|((peer, given, convicted), standing)| Contributor {
        peer: peer.to_string(),
        nickname: nickname(*peer),
        units: given.votes,
        gas: given.gas,
        standing: (*standing).to_owned(),
        convicted: *convicted,
    });
    let mut job = Job {
        id: id.to_string(),
        short_id: reference::short_id(*id, ids.iter().copied()),
        name: manifest.name.clone(),
        units: counts.units,
        verified: counts.verified,
        checked_by_owner: counts.by_owner,
        provisional: counts.provisional,
        awaiting: *awaiting,
        disputed: counts.disputed,
        rechecking: counts.rechecking,
        failed: counts.failed,
        running: *running,
        executions: counts.executions,
        workers: *workers,
        gas: *gas,
        elapsed_ms: super::millis(elapsed),
        units_per_second: if is_running { chronicle.rate(*id) } else { 0.0 },
        eta_low_ms: eta.map_or(0, |(low, _)| low),
        eta_high_ms: eta.map_or(0, |(_, high)| high),
        created_unix_ms: times.created,
        owner: manifest.owner.to_string(),
        own: seen.kept.is_none(),
        kept: kept_word(seen.kept).to_owned(),
        owner_nickname: nickname(manifest.owner),
        keepers: seen.keepers.iter().map(|(peer, holds)| keeper(*peer, *holds)).collect(),
        policy: policy_word(manifest.policy).to_owned(),
        reduce: reduce_word(&manifest.reduce).to_owned(),
        reason: explain::job_reason(&seen.view),
        output_bytes: counts.output_bytes,
        contributors: contributors.collect(),
        module: manifest.module.to_string(),
        args: manifest.args.clone(),
        clean_audits: seen.view.clean_audits,
        audit_rate: seen.view.audit_rate,
        caught: seen.view.findings.audit.convicted,
        collusion: seen.view.findings.audit.collusion,
        contradicted: seen.view.nondeterminism.map_or(0, |found| found.units),
        nondeterminism: explain::nondeterminism(&seen.view).unwrap_or_default(),
        ..Job::default()
    };
    job.set_state(wire_state(*state));
    job
}

pub(super) fn keeper(peer: PeerId, holds: bool) -> JobKeeper {
    JobKeeper { peer: peer.to_string(), nickname: nickname(peer), holds }
}

fn kept_word(kept: Option<Role>) -> &'static str {
    match kept {
        None | Some(Role::Own) => "",
        Some(Role::Kept | Role::Arriving) => "kept",
        Some(Role::Adopted) => "adopted",
    }
}

pub(super) fn wire_state(state: JobState) -> WireState {
    match state {
        JobState::Running => WireState::Running,
        JobState::Done => WireState::Done,
        JobState::Failed => WireState::Failed,
        JobState::Cancelled => WireState::Cancelled,
        JobState::Stopped => WireState::Stopped,
    }
}

fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Economy => "economy",
        Policy::Standard => "standard",
        Policy::Strict => "strict",
    }
}

fn reduce_word(reduce: &Reduce) -> &'static str {
    match reduce {
        Reduce::Concat => "concat",
        Reduce::Separate => "none",
        Reduce::Module { .. } => "module",
    }
}

fn not_own(job: JobId, coordinator: PeerId) -> ControlError {
    let text = format!("the job {} is not yours", job.short());
    ControlError::new(Kind::Denied, "NOT_OWNER", text)
        .cause(format!("{} submitted it, and keeps its results", nickname(coordinator)))
        .hint(format!("manyhands watch {}", job.short()))
}

fn unreachable_coordinator(coordinator: PeerId, error: &ConnectError) -> ControlError {
    let text = format!("{}, whose job this is, cannot be asked", nickname(coordinator));
    ControlError::new(Kind::Unreachable, "OWNER_UNREACHABLE", text).cause(error.to_string())
}

/// The error of a page token that no earlier page gave out.
pub(super) fn bad_token() -> ControlError {
    ControlError::new(Kind::Usage, "BAD_PAGE_TOKEN", "no page has given out this token").hint("begin with the first page")
}
