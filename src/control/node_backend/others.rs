//! Jobs of others: those that this node keeps, as their authors say that they stand; and those that it may read by a ticket.

use super::{
    NodeBackend,
    jobs::{Seen, WATCH_EVERY, wire_state, without_clock},
    results::CHUNK_BYTES,
    stream::{Ended, Outlet, replies},
};
use crate::{
    control::{
        backend::{Replies, Reply},
        error::{ControlError, Kind},
        reference,
    },
    node::net::{NetHandle, Source, Wanted, nickname::nickname, read_ticket::ReadTicket, ticket::TicketError},
    protocol::{
        fact::{Verdict, Vote},
        ids::{JobId, PeerId, UnitIndex},
        outcome::UnitLimits,
        owner::{Counts, JobView, UnitState, UnitView, VoteView},
    },
    store::{Store, VOTES_PAGE_MAX},
    wire::{
        control::{GetResultsRequest, Job, ResultChunk},
        manifest, read,
        read::{ReadHead, ReadPart, ReadRequest, ReadUnit, Word},
    },
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long further holders are waited for when one has answered: the author's own word is better than a copy of it.
const BETTER_WORD_WAIT: Duration = Duration::from_millis(500);
/// How long holders may take to answer.
const HEAD_WAIT: Duration = Duration::from_secs(8);
/// How often reading is begun again when a holder goes away in the middle.
const TRIES: u32 = 4;

impl From<TicketError> for ControlError {
    fn from(error: TicketError) -> Self {
        Self::new(Kind::Usage, "BAD_TICKET", error.to_string()).hint("copy the whole ticket; it begins with mhr1")
    }
}

/// A job that is kept here for somebody else who coordinates it. Blocks on the disk.
pub(super) fn kept_seen(store: &Store, job: JobId) -> Reply<Seen> {
    let unknown = || ControlError::no_such_job(&job.to_string());
    let signed = store.signed_manifest(job)?.ok_or_else(unknown)?;
    let manifest = Arc::new(manifest::decode(&signed.encoded).map_err(|_| unknown())?);
    store.unbind_blocking(job)?;
    let (state, findings) = store.state_and_findings(job)?;
    let (verified, failed, by_owner) = store.verdict_counts(job)?;
    let executions = store.votes_end(job)?.into();
    let counts = Counts { units: manifest.units(), verified, by_owner, failed, executions, ..Counts::default() };
    Ok(Seen::kept(JobView {
        id: job,
        author: Some(manifest.owner),
        manifest,
        state,
        counts,
        awaiting: 0,
        juries: 0,
        running: 0,
        workers: 0,
        saved: false,
        gas: 0,
        contributors: Vec::new(),
        waiting: None,
        findings: findings.unwrap_or_default(),
        nondeterminism: None,
        clean_audits: 0,
        audit_rate: 0.0,
    }))
}

/// Units of such a job. Who of their voters is proven its author alone knows. Blocks on the disk.
pub(super) fn kept_unit_views(store: &Store, job: JobId, first: u32, count: usize) -> Reply<Vec<UnitView>> {
    let units = kept_seen(store, job)?.view.counts.units;
    let last = units.min(first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX)));
    let verdicts: BTreeMap<UnitIndex, Verdict> =
        store.verdicts_page(job, UnitIndex(first), last.saturating_sub(first))?.into_iter().collect();
    let mut votes: BTreeMap<UnitIndex, Vec<Vote>> = BTreeMap::new();
    let numbers: Vec<u32> =
        store.vote_units(job, 0)?.into_iter().filter(|(unit, _)| (first..last).contains(&unit.0)).map(|(_, number)| number).collect();
    for part in numbers.chunks(VOTES_PAGE_MAX as usize) {
        store.votes_numbered(job, part)?.into_iter().for_each(|vote| votes.entry(vote.unit).or_default().push(vote));
    }
    let view = |index| {
        let unit = UnitIndex(index);
        kept_unit_view(unit, verdicts.get(&unit), votes.get(&unit).map_or(&[], Vec::as_slice))
    };
    Ok((first..last).map(view).collect())
}

fn kept_unit_view(unit: UnitIndex, verdict: Option<&Verdict>, votes: &[Vote]) -> UnitView {
    let (state, value, by_owner) = match verdict {
        Some(Verdict::Verified { value, by_owner }) if value.exit.is_success() => (UnitState::Verified, Some(*value), *by_owner),
        Some(Verdict::Verified { value, by_owner }) => (UnitState::Failed, Some(*value), *by_owner),
        Some(Verdict::Failed) => (UnitState::Failed, None, false),
        Some(Verdict::Open) | None if votes.is_empty() => (UnitState::Waiting, None, false),
        Some(Verdict::Open) | None => (UnitState::AwaitingVote, None, false),
    };
    let vote = |vote: &Vote| VoteView {
        worker: vote.worker,
        value: vote.value,
        counted: value == Some(vote.value),
        proven: false,
        struck: false,
        set_aside: false,
        platform: vote.platform,
        rests_on: vote.rests_on.without(vote.worker),
    };
    let (need, confidence, different_networks, failures) = (0, None, false, None);
    let (votes, checkpoint, resumed) = (votes.iter().map(vote).collect(), None, Vec::new());
    UnitView { unit, state, value, by_owner, need, confidence, different_networks, votes, failures, checkpoint, resumed }
}

/// A holder of a job that answers, and what it says.
struct Holder {
    peer: PeerId,
    head: ReadHead,
}

/// Asks everybody whom the ticket names, and takes the best word.
async fn best(net: &NetHandle, ticket: &ReadTicket) -> Reply<Holder> {
    let mut asked: FuturesUnordered<_> = ticket
        .holders
        .iter()
        .map(|(peer, contact)| {
            // When too much is asked at once it is dialled where it was known to be.
            drop(net.learn(*peer, contact.clone(), Source::Others));
            ask(net, ticket, *peer)
        })
        .collect();
    let mut found: Vec<Holder> = Vec::new();
    let deadline = tokio::time::Instant::now() + HEAD_WAIT;
    let mut until = deadline;
    while let Ok(Some(answer)) = tokio::time::timeout_at(until, asked.next()).await {
        if let Some(holder) = answer {
            let is_best = holder.head.word == Word::Author;
            found.push(holder);
            until = until.min(tokio::time::Instant::now() + BETTER_WORD_WAIT);
            if is_best {
                break;
            }
        }
    }
    let rank = |holder: &Holder| (holder.head.word == Word::Author, holder.head.progress.verified, holder.head.word == Word::Keeper);
    found.into_iter().max_by_key(rank).ok_or_else(|| {
        let error = ControlError::new(Kind::Unreachable, "NO_HOLDER", "nobody who has the job can be asked now");
        error.cause("its author and its keepers do not answer, or are in another grid").hint("manyhands peers")
    })
}

async fn ask(net: &NetHandle, ticket: &ReadTicket, peer: PeerId) -> Option<Holder> {
    let request = ReadRequest { job: ticket.job, permission: ticket.permission, first_unit: UnitIndex(0), head_only: true };
    let mut reading = net.read_job(peer, request).await.ok()?;
    match ReadPart::try_from(reading.next().await.ok()??) {
        Ok(ReadPart::Head(head)) if head.job == ticket.job && head.manifest.owner == ticket.author => Some(Holder { peer, head: *head }),
        Ok(_) | Err(_) => None,
    }
}

/// Whose word a result is, for people.
fn standing(author: PeerId, holder: PeerId, word: Word) -> String {
    match word {
        Word::Author => format!("verified by {}", nickname(author)),
        Word::Copy => format!("verified by {}, kept by {}", nickname(author), nickname(holder)),
        Word::Keeper => format!("collected by {}, a keeper; not yet judged by {}", nickname(holder), nickname(author)),
    }
}

fn shown(Holder { peer, head }: &Holder) -> Job {
    let progress = &head.progress;
    let mut job = Job {
        id: head.job.to_string(),
        short_id: reference::short_id(head.job, []),
        name: progress.name.clone(),
        units: head.manifest.units(),
        verified: progress.verified,
        provisional: progress.provisional,
        awaiting: progress.awaiting,
        disputed: progress.disputed,
        failed: progress.failed,
        running: progress.running,
        executions: progress.executions,
        workers: progress.workers,
        owner: head.manifest.owner.to_string(),
        owner_nickname: nickname(head.manifest.owner),
        kept: match head.word {
            Word::Author => String::new(),
            Word::Copy => "kept".to_owned(),
            Word::Keeper => "adopted".to_owned(),
        },
        keepers: vec![super::jobs::keeper(*peer, true)],
        ..Job::default()
    };
    job.set_state(wire_state(head.state));
    job
}

impl NodeBackend {
    /// A ticket with which others may read the results of an own job.
    pub(super) async fn read_ticket(&self, reference: &str) -> Reply<String> {
        let job = self.authored(reference).await?;
        let handle = self.handle().await?;
        let permission = read::permit(handle.identity.secret(), job);
        let keepers = self.view(move |node| {
            let keepers = node.peer().keeping().keepers(job).into_iter();
            keepers
                .map(|(peer, _)| (peer, node.connected().get(&peer).map(|hello| hello.contact.clone()).unwrap_or_default()))
                .collect::<Vec<_>>()
        });
        let author = handle.facts.me;
        let holders = std::iter::once((author, handle.net.contact())).chain(keepers.await?).collect();
        Ok(ReadTicket { job, author, permission, holders }.encode())
    }

    pub(super) async fn read_head(&self, ticket: &ReadTicket) -> Reply<Job> {
        let net = self.handle().await?.net;
        Ok(shown(&best(&net, ticket).await?))
    }

    pub(super) async fn follow_ticket(self, ticket: ReadTicket, first: Job, outlet: Outlet<Job>) -> Result<(), Ended> {
        let mut last = first;
        outlet.put(last.clone()).await?;
        while last.state() == crate::wire::control::JobState::Running {
            outlet.pause(WATCH_EVERY * 4).await?;
            let now = self.read_head(&ticket).await?;
            if without_clock(&now) != without_clock(&last) {
                outlet.put(now.clone()).await?;
                last = now;
            }
        }
        Ok(())
    }

    pub(super) async fn stream_by_ticket(&self, ticket: ReadTicket, request: GetResultsRequest) -> Reply<Replies<ResultChunk>> {
        let now = self.read_head(&ticket).await?;
        if now.verified < now.units && !request.partial && !request.follow {
            return Err(ControlError::unverified(&now, &[]));
        }
        let backend = self.clone();
        Ok(replies(move |outlet| backend.give_by_ticket(ticket, request, outlet)))
    }

    async fn give_by_ticket(self, ticket: ReadTicket, request: GetResultsRequest, outlet: Outlet<ResultChunk>) -> Result<(), Ended> {
        let (mut next, mut tries) = (request.first_unit, 0);
        loop {
            let net = self.handle().await?.net;
            let holder = best(&net, &ticket).await?;
            let units = holder.head.manifest.units();
            let whole = give_from(&net, &ticket, &holder, &request, &mut next, &outlet).await?;
            let has_ended = holder.head.state.has_ended();
            if next >= units || (whole && (has_ended || (request.partial && !request.follow))) {
                let complete = next >= units || request.partial;
                return if complete { Ok(()) } else { Err(Ended::Failed(ControlError::unverified(&shown(&holder), &[]))) };
            }
            tries += u32::from(!whole || !request.follow);
            if tries >= TRIES {
                return Err(Ended::Failed(ControlError::unverified(&shown(&holder), &[])));
            }
            outlet.pause(WATCH_EVERY).await?;
        }
    }
}

/// Gives out what a holder has from `next` on; whether it said all that it has.
async fn give_from(
    net: &NetHandle,
    ticket: &ReadTicket,
    holder: &Holder,
    request: &GetResultsRequest,
    next: &mut u32,
    outlet: &Outlet<ResultChunk>,
) -> Result<bool, Ended> {
    let asked = ReadRequest { job: ticket.job, permission: ticket.permission, first_unit: UnitIndex(*next), head_only: false };
    let Ok(mut reading) = net.read_job(holder.peer, asked).await else { return Ok(false) };
    let standing = standing(ticket.author, holder.peer, holder.head.word);
    loop {
        let part = match reading.next().await {
            Ok(Some(part)) => part,
            Ok(None) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let units = match ReadPart::try_from(part) {
            Ok(ReadPart::Units(units)) => units,
            Ok(ReadPart::Head(_)) => continue,
            Err(_) => return Ok(false),
        };
        for unit in units {
            if unit.unit.0 < *next || unit.unit.0 >= holder.head.manifest.units() {
                return Ok(false);
            }
            if unit.unit.0 > *next && !request.partial {
                return Ok(true);
            }
            let Some(data) = output(net, ticket, holder, &unit).await else { return Ok(false) };
            *next = unit.unit.0 + 1;
            give_unit(unit, &data, &standing, outlet).await?;
        }
    }
}

/// The bytes of a unit's output, which have the digest that was agreed on.
async fn output(net: &NetHandle, ticket: &ReadTicket, holder: &Holder, unit: &ReadUnit) -> Option<Arc<[u8]>> {
    if let Some(bytes) = &unit.output {
        return Some(bytes.clone());
    }
    let at_most = holder.head.manifest.limits.output_bytes.min(UnitLimits::MAX.output_bytes);
    let holders: Vec<PeerId> = std::iter::once(holder.peer).chain(ticket.holders.iter().map(|(peer, _)| *peer)).collect();
    let wanted = Wanted { digest: unit.value.output, length: None, at_most };
    net.fetch_blob(wanted, &holders, Vec::new()).await.ok().map(|fetched| fetched.sink.into())
}

async fn give_unit(unit: ReadUnit, data: &[u8], standing: &str, outlet: &Outlet<ResultChunk>) -> Result<(), Ended> {
    let mut rest = data;
    loop {
        let (chunk, left) = rest.split_at(rest.len().min(CHUNK_BYTES));
        let last = left.is_empty();
        let data = chunk.to_vec().into();
        outlet.put(ResultChunk { unit: unit.unit.0, name: unit.name.clone(), data, last, standing: standing.to_owned() }).await?;
        if last {
            return Ok(());
        }
        rest = left;
    }
}
