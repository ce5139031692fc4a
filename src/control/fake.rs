//! A node for tests of the local API and the command line: a list of jobs in memory, no network, no sandbox.

use super::{
    backend::{Backend, Replies, Reply, Stop},
    error::{ControlError, Kind},
    reference,
    server::{ServeError, Server},
    submission::{SubmitPart, SubmitParts, range_units},
};
use crate::{
    protocol::ids::{Digest, JobId},
    wire::control::*,
};
use futures_util::stream;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// One submitted job with what it consists of.
#[derive(Clone, Debug, Default)]
pub struct FakeJob {
    /// As it is shown.
    pub job: Job,
    /// As it was submitted.
    pub spec: JobSpec,
    /// Name and input of each unit.
    pub units: Vec<(String, Vec<u8>)>,
}

/// The fake node: every field is there for a test to set or to look at.
#[derive(Debug, Default)]
pub struct FakeNode {
    /// The oldest first.
    pub jobs: Mutex<Vec<FakeJob>>,
    /// What `status` answers.
    pub status: Mutex<Status>,
    /// What `peers` answers.
    pub peers: Mutex<Vec<PeerView>>,
    /// What `trusted` answers, and `trust` changes.
    pub trusted: Mutex<Vec<Trusted>>,
    /// How it was told to stop.
    pub stopped: Mutex<Option<Stop>>,
    /// Ends the server.
    pub ends: tokio::sync::Notify,
    /// How often `submit` ended in an error, which must leave nothing behind.
    pub submissions_failed: Mutex<u32>,
}

impl FakeNode {
    /// Serves a new fake node on `data_dir` until the task is aborted.
    pub async fn serve(data_dir: &Path) -> (Arc<Self>, tokio::task::JoinHandle<Result<(), ServeError>>) {
        let node = Arc::new(Self::default());
        let server = Server::bind(data_dir).await.expect("a port");
        let ended = node.clone();
        let task = tokio::spawn(server.run(node.clone(), async move { ended.ends.notified().await }));
        (node, task)
    }

    /// Adds a job whose id begins with `start`, and lets `change` set its numbers.
    pub fn add_job(&self, start: &str, change: impl FnOnce(&mut Job)) {
        let mut job = Job { id: format!("{start:0<64}"), short_id: start.to_owned(), name: "primes".to_owned(), ..Job::default() };
        job.set_state(JobState::Running);
        change(&mut job);
        self.jobs.lock().expect("lock").push(FakeJob { job, ..FakeJob::default() });
    }

    fn find(&self, reference: &str) -> Reply<FakeJob> {
        let jobs = self.jobs.lock().expect("lock");
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job.id.parse().expect("an id")).collect();
        let id = reference::resolve(reference, ids)?.to_string();
        Ok(jobs.iter().find(|job| job.job.id == id).expect("resolved").clone())
    }

    fn change(&self, reference: &str, change: impl FnOnce(&mut Job)) -> Reply<Job> {
        let id = self.find(reference)?.job.id;
        let mut jobs = self.jobs.lock().expect("lock");
        let job = &mut jobs.iter_mut().find(|job| job.job.id == id).expect("resolved").job;
        change(job);
        Ok(job.clone())
    }

    async fn collect(spec: &JobSpec, mut parts: SubmitParts) -> Reply<(Digest, Vec<(String, Vec<u8>)>)> {
        let (mut module, mut units, mut open) = (Vec::new(), Vec::<(String, Vec<u8>)>::new(), false);
        while let Some(part) = parts.next().await? {
            match part {
                SubmitPart::Module(data) => module.extend_from_slice(&data),
                SubmitPart::ReduceModule(_) => {}
                SubmitPart::Unit { name, data, more } => {
                    if !open {
                        units.push((name, Vec::new()));
                    }
                    units.last_mut().expect("just pushed").1.extend_from_slice(&data);
                    open = more;
                }
            }
        }
        if let Some(range) = &spec.range {
            let count = range_units(range.start, range.end, range.per_unit)?;
            units.extend((0..count).map(|_| (String::new(), Vec::new())));
        }
        Ok((Digest::of(&module), units))
    }
}

#[tonic::async_trait]
impl Backend for FakeNode {
    async fn status(&self) -> Reply<Status> {
        Ok(self.status.lock().expect("lock").clone())
    }

    async fn peers(&self) -> Reply<Vec<PeerView>> {
        Ok(self.peers.lock().expect("lock").clone())
    }

    async fn trusted(&self) -> Reply<Vec<Trusted>> {
        Ok(self.trusted.lock().expect("lock").clone())
    }

    async fn trust(&self, request: TrustPeerRequest) -> Reply<TrustPeerResponse> {
        let mut trusted = self.trusted.lock().expect("lock");
        let before = trusted.len();
        trusted.retain(|known| known.peer != request.peer);
        let was = before != trusted.len();
        let friend = Trusted { peer: request.peer, friend: !request.remove, because: "friend".to_owned(), ..Trusted::default() };
        trusted.extend((!request.remove).then(|| friend.clone()));
        Ok(TrustPeerResponse { trusted: Some(friend), unchanged: was != request.remove })
    }

    async fn invite(&self, request: CreateInviteRequest) -> Reply<CreateInviteResponse> {
        let kind = request.kind().as_str_name().trim_start_matches("INVITE_KIND_").to_ascii_lowercase();
        let ticket = format!("mh-{kind}-ticket");
        Ok(CreateInviteResponse { ticket, valid_ms: request.valid_ms, uses: request.uses })
    }

    async fn join(&self, ticket: String) -> Reply<JoinGridResponse> {
        if !ticket.starts_with("mh-") {
            let error = ControlError::new(Kind::Denied, "TICKET_EXPIRED", "the ticket has expired");
            return Err(error.hint("ask for a new one: manyhands invite"));
        }
        Ok(JoinGridResponse {
            grid: "00".repeat(32),
            inviter: "11".repeat(32),
            inviter_nickname: "quiet-otter".to_owned(),
            kind: InviteKind::Guest.into(),
            grid_changed: true,
        })
    }

    async fn submit(&self, spec: JobSpec, parts: SubmitParts) -> Reply<SubmitResponse> {
        let collected = Self::collect(&spec, parts).await;
        let Ok((module, units)) = collected else {
            *self.submissions_failed.lock().expect("lock") += 1;
            return Err(collected.expect_err("checked"));
        };
        let inputs: Vec<&[u8]> = units.iter().map(|(_, data)| data.as_slice()).collect();
        let digest =
            Digest::of_parts(&[module.as_bytes(), Digest::of_parts(&inputs).as_bytes(), spec.args.join("\0").as_bytes(), &spec.nonce]);
        let id = digest.to_string();
        let mut jobs = self.jobs.lock().expect("lock");
        if let Some(known) = jobs.iter().find(|job| job.job.id == id) {
            return Ok(SubmitResponse { job: Some(known.job.clone()), already_existed: true, bytes_received: 0 });
        }
        let bytes_received = units.iter().map(|(_, data)| data.len() as u64).sum();
        let mut job = Job { short_id: id[..5].to_owned(), id, name: spec.name.clone(), ..Job::default() };
        job.units = u32::try_from(units.len()).expect("bounded");
        job.policy.clone_from(&spec.policy);
        job.set_state(JobState::Running);
        jobs.push(FakeJob { job: job.clone(), spec, units });
        Ok(SubmitResponse { job: Some(job), already_existed: false, bytes_received })
    }

    async fn jobs(&self, request: ListJobsRequest) -> Reply<ListJobsResponse> {
        let jobs = self.jobs.lock().expect("lock");
        let skip: usize = request.page_token.parse().unwrap_or(0);
        let page: Vec<Job> = jobs.iter().rev().skip(skip).take(request.page_size as usize).map(|job| job.job.clone()).collect();
        let next = skip + page.len();
        let next_page_token = if next < jobs.len() { next.to_string() } else { String::new() };
        Ok(ListJobsResponse { jobs: page, next_page_token })
    }

    async fn job(&self, job: &str) -> Reply<Job> {
        Ok(self.find(job)?.job)
    }

    /// Runs through three steps to done, unless the job has ended or hangs (its name is `hang`).
    async fn watch(&self, job: &str) -> Reply<Replies<Job>> {
        let now = self.find(job)?.job;
        if now.name == "hang" {
            return Ok(Box::pin(stream::StreamExt::chain(stream::iter([Ok(now)]), stream::pending())));
        }
        if now.state() != JobState::Running {
            return Ok(Box::pin(stream::iter([Ok(now)])));
        }
        let mut middle = now.clone();
        middle.verified = now.units / 2;
        let done = self.change(job, |job| {
            job.verified = job.units;
            job.set_state(JobState::Done);
        })?;
        Ok(Box::pin(stream::iter([Ok(now), Ok(middle), Ok(done)])))
    }

    async fn cancel(&self, job: &str) -> Reply<Job> {
        self.change(job, |job| job.set_state(JobState::Cancelled))
    }

    async fn retry(&self, job: &str) -> Reply<Job> {
        self.change(job, |job| job.failed = 0)
    }

    async fn results(&self, request: GetResultsRequest) -> Reply<Replies<ResultChunk>> {
        let job = self.find(&request.job)?.job;
        if job.verified < job.units && !request.partial && !request.follow {
            return Err(ControlError::unverified(&job, &[]));
        }
        let chunks = (0..job.verified).map(|unit| {
            let data = format!("output {unit}\n").into();
            Ok(ResultChunk { unit, name: format!("in/{unit}.fa"), data, last: true, standing: "verified".to_owned() })
        });
        Ok(Box::pin(stream::iter(chunks.collect::<Vec<_>>())))
    }

    async fn units(&self, request: ListUnitsRequest) -> Reply<ListUnitsResponse> {
        let job = self.find(&request.job)?.job;
        let units = (0..job.disputed).map(|i| UnitView { unit: 4411 + i, state: "in dispute".to_owned(), ..UnitView::default() });
        Ok(ListUnitsResponse { units: units.collect(), next_page_token: String::new() })
    }

    async fn logs(&self, request: GetLogsRequest) -> Reply<Replies<LogChunk>> {
        self.find(&request.job)?;
        let chunks = (0..2).filter(|unit| request.unit.is_none_or(|wanted| wanted == *unit));
        let chunks = chunks.map(|unit| Ok(LogChunk { unit, data: format!("log of {unit}\n").into() }));
        Ok(Box::pin(stream::iter(chunks.collect::<Vec<_>>())))
    }

    async fn explain(&self, job: Option<&str>) -> Reply<ExplainResponse> {
        let job = job.map(|job| self.find(job)).transpose()?;
        let code = if job.is_some() { "NO_WORKERS" } else { "WAITING_FOR_WORK" };
        let reason = Reason { code: code.to_owned(), text: "no peer is here".to_owned(), hints: vec!["manyhands invite".to_owned()] };
        Ok(ExplainResponse { reasons: vec![reason] })
    }

    async fn verify(&self, request: VerifyJobRequest) -> Reply<Replies<VerifyProgress>> {
        let job = self.find(&request.job)?.job;
        let progress = VerifyProgress {
            receipts_checked: 2 * job.verified,
            sampled: request.sample,
            sample_size: request.sample,
            mismatches: job.disputed,
            verified_units: job.verified,
            units: job.units,
            finished: true,
            wrong_units: (0..job.disputed).collect(),
            verdict: "every receipt is genuine".to_owned(),
            ..VerifyProgress::default()
        };
        Ok(Box::pin(stream::iter([Ok(progress)])))
    }

    async fn export(&self, request: ExportBundleRequest) -> Reply<Replies<BundleChunk>> {
        self.find(&request.job)?;
        let chunks = [&b"mhbundle"[..], b" and so on"].map(|data| Ok(BundleChunk { data: data.into() }));
        Ok(Box::pin(stream::iter(chunks)))
    }

    async fn pause(&self, duration: Option<Duration>) -> Reply<Status> {
        let mut status = self.status.lock().expect("lock");
        status.paused = true;
        status.pause_left_ms = duration.map_or(0, |d| u64::try_from(d.as_millis()).expect("short"));
        Ok(status.clone())
    }

    async fn resume(&self) -> Reply<Status> {
        let mut status = self.status.lock().expect("lock");
        status.paused = false;
        Ok(status.clone())
    }

    async fn shutdown(&self, how: Stop) -> Reply<()> {
        *self.stopped.lock().expect("lock") = Some(how);
        self.ends.notify_one();
        Ok(())
    }
}
