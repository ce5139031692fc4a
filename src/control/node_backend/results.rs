//! Outputs in unit order, streamed from the store in bounded memory.

use super::{
    NodeBackend,
    stream::{Ended, Outlet, replies},
};
use crate::{
    control::{
        backend::{Replies, Reply},
        error::{ControlError, Kind},
    },
    node::net::read_ticket::ReadTicket,
    protocol::{
        ids::{Digest, JobId},
        owner::{UnitState, UnitView},
    },
    store::Store,
    wire::control::{GetResultsRequest, JobState, ResultChunk},
};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Bytes in one part, and of small outputs that are read together.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Units looked at together.
const UNITS_AT_ONCE: usize = 256;
/// How often units that are waited for are looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// The most units in dispute that an error names.
const DISPUTED_NAMED_MAX: usize = 10;

/// An output that can be given out.
#[derive(Clone, Debug)]
struct Ready {
    unit: u32,
    name: String,
    output: Digest,
    standing: &'static str,
}

/// What to do about a unit.
enum Step {
    Give(Digest, &'static str),
    /// It will not be given.
    Skip,
    /// It may be given later.
    Wait,
    /// It is wanted and will not come.
    Missing,
}

fn step(view: &UnitView, request: &GetResultsRequest, has_ended: bool) -> Step {
    match (view.state, view.value) {
        (UnitState::Verified, Some(value)) => Step::Give(value.output, if view.by_owner { "checked by you" } else { "verified" }),
        (UnitState::Provisional, Some(value)) if request.partial && (has_ended || !request.follow) => {
            Step::Give(value.output, "provisional")
        }
        (UnitState::Failed, _) if request.partial => Step::Skip,
        (UnitState::Failed, _) => Step::Missing,
        _ if request.follow && !has_ended => Step::Wait,
        _ if request.partial => Step::Skip,
        _ => Step::Missing,
    }
}

impl NodeBackend {
    pub(super) async fn stream_results(&self, request: GetResultsRequest) -> Reply<Replies<ResultChunk>> {
        if let Some(ticket) = ReadTicket::of(&request.job)? {
            return self.stream_by_ticket(ticket, request).await;
        }
        let job = self.own(&request.job).await?;
        let counts = self.seen(job).await?.view.counts;
        if counts.verified < counts.units && !request.partial && !request.follow {
            return Err(self.unverified(job).await?);
        }
        let backend = self.clone();
        let is_plain = request.plain || request.partial || request.follow || request.first_unit > 0;
        if !is_plain && let Some(reduction) = self.reduction(job).await? {
            return Ok(replies(move |outlet| backend.give_reduced(reduction, outlet)));
        }
        Ok(replies(move |outlet| backend.give_results(job, request, counts.units, outlet)))
    }

    pub(super) async fn unverified(&self, job: JobId) -> Reply<ControlError> {
        let now = self.own_job(job).await?;
        let mut disputed = Vec::new();
        let wanted = DISPUTED_NAMED_MAX.min(now.disputed as usize);
        let mut next = 0;
        while disputed.len() < wanted {
            let views = self.unit_views(job, next, super::units::LOOK_UNITS).await?;
            let Some(last) = views.last() else { break };
            next = last.unit.0 + 1;
            let found = views.iter().filter(|view| view.state == UnitState::Disputed).map(|view| view.unit.0);
            disputed.extend(found.take(wanted - disputed.len()));
        }
        Ok(ControlError::unverified(&now, &disputed))
    }

    async fn give_results(self, job: JobId, request: GetResultsRequest, units: u32, outlet: Outlet<ResultChunk>) -> Result<(), Ended> {
        let mut next = request.first_unit;
        while next < units {
            // In this order, so that what is said of the units is not older than the job's end.
            let has_ended = self.own_job(job).await?.state() != JobState::Running;
            let views = self.unit_views(job, next, UNITS_AT_ONCE).await?;
            if views.is_empty() {
                break;
            }
            let names = self.names(job, views.iter().map(|view| view.unit.0).collect()).await?;
            let mut ready = Vec::new();
            let mut then = None;
            for view in &views {
                match step(view, &request, has_ended) {
                    Step::Give(output, standing) => {
                        let name = names.get(&view.unit.0).cloned().unwrap_or_default();
                        ready.push(Ready { unit: view.unit.0, name, output, standing });
                    }
                    Step::Skip => {}
                    halt @ (Step::Wait | Step::Missing) => {
                        then = Some(halt);
                        break;
                    }
                }
                next = view.unit.0 + 1;
            }
            self.give(job, ready, &outlet).await?;
            match then {
                Some(Step::Missing) => return Err(Ended::Failed(self.unverified(job).await?)),
                Some(Step::Wait) => outlet.pause(FOLLOW_EVERY).await?,
                Some(Step::Give(..) | Step::Skip) | None => {}
            }
        }
        Ok(())
    }

    /// Gives outputs out, small ones read many at a time.
    async fn give(&self, job: JobId, ready: Vec<Ready>, outlet: &Outlet<ResultChunk>) -> Result<(), Ended> {
        let mut rest = std::collections::VecDeque::from(ready);
        while !rest.is_empty() {
            let same = rest.clone();
            let (chunks, left) = match self.read(move |store| read_small(store, rest)).await {
                Err(error) if is_lost(&error) => {
                    self.mend(job, same.iter().map(|ready| (ready.unit, ready.output)).collect()).await?;
                    self.read(move |store| read_small(store, same)).await?
                }
                read => read?,
            };
            rest = left;
            if chunks.is_empty()
                && let Some(large) = rest.pop_front()
            {
                self.give_large(job, large, outlet).await?;
            }
            for chunk in chunks {
                outlet.put(chunk).await?;
            }
        }
        Ok(())
    }

    /// Gives out an output that is not read at once, and compares it with its digest on the way.
    async fn give_large(&self, job: JobId, ready: Ready, outlet: &Outlet<ResultChunk>) -> Result<(), Ended> {
        let Ready { unit, name, output, standing } = ready;
        let (mut offset, mut hasher) = (0, Sha256::new());
        loop {
            let mut bytes = self.read(move |store| Ok(store.read_blob_at(output, offset, CHUNK_BYTES)?)).await?;
            if bytes.is_none() {
                self.mend(job, vec![(unit, output)]).await?;
                bytes = self.read(move |store| Ok(store.read_blob_at(output, offset, CHUNK_BYTES)?)).await?;
            }
            let data = bytes.ok_or_else(|| lost(unit))?;
            hasher.update(&data);
            offset += data.len() as u64;
            let last = data.len() < CHUNK_BYTES;
            if last && hasher.clone().finalize()[..] != output.as_bytes()[..] {
                return Err(Ended::Failed(lost(unit)));
            }
            let chunk = ResultChunk { unit, name: name.clone(), data: data.into(), last, standing: standing.to_owned() };
            outlet.put(chunk).await?;
            if last {
                return Ok(());
            }
        }
    }
}

type Left = std::collections::VecDeque<Ready>;

/// Reads outputs from the front until a chunk's worth is there, or a large one comes.
fn read_small(store: &Store, mut ready: Left) -> Reply<(Vec<ResultChunk>, Left)> {
    let (mut chunks, mut bytes) = (Vec::new(), 0);
    while bytes < CHUNK_BYTES
        && let Some(next) = ready.pop_front()
    {
        let size = store.blob_size(next.output)?.ok_or_else(|| lost(next.unit))?;
        if size > CHUNK_BYTES as u64 {
            ready.push_front(next);
            break;
        }
        let data = store.read_blob(next.output)?.ok_or_else(|| lost(next.unit))?;
        bytes += data.len();
        chunks.push(ResultChunk { unit: next.unit, name: next.name, data: data.into(), last: true, standing: next.standing.to_owned() });
    }
    Ok((chunks, ready))
}

/// Why the output of a unit cannot be given, though it was verified.
const OUTPUT_LOST: &str = "OUTPUT_LOST";

pub(super) fn is_lost(error: &ControlError) -> bool {
    error.reason == OUTPUT_LOST
}

pub(super) fn lost(unit: u32) -> ControlError {
    let error = ControlError::new(Kind::Internal, OUTPUT_LOST, format!("the output of unit {unit} is damaged or lost on this disk"));
    let error = error.cause("it was verified, no connected peer holds it any more, and it could not be computed again here");
    error.hint("check the disk; then ask again when other peers are connected").hint("or submit the job anew with --new")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        ids::UnitIndex,
        outcome::{Exit, Value},
    };

    fn view(state: UnitState) -> UnitView {
        let value = Value { exit: Exit::Code(0), output: Digest([1; 32]), gas: 5, chain: None };
        let value = matches!(state, UnitState::Verified | UnitState::Provisional).then_some(value);
        let (need, confidence, different_networks) = (2, None, false);
        UnitView {
            unit: UnitIndex(0),
            state,
            value,
            by_owner: false,
            need,
            confidence,
            different_networks,
            votes: vec![],
            failures: None,
            checkpoint: None,
            resumed: vec![],
        }
    }

    #[test]
    fn only_verified_outputs_are_given_unless_parts_are_wanted() {
        let asked = |partial, follow| GetResultsRequest { partial, follow, ..GetResultsRequest::default() };
        let decide = |state, request: &GetResultsRequest, ended| match step(&view(state), request, ended) {
            Step::Give(_, standing) => standing,
            Step::Skip => "skip",
            Step::Wait => "wait",
            Step::Missing => "missing",
        };
        assert_eq!(decide(UnitState::Verified, &asked(false, false), true), "verified");
        assert_eq!(decide(UnitState::Provisional, &asked(false, false), true), "missing");
        assert_eq!(decide(UnitState::Provisional, &asked(true, false), false), "provisional");
        assert_eq!(decide(UnitState::Provisional, &asked(true, true), false), "wait", "it may still become verified");
        assert_eq!(decide(UnitState::Waiting, &asked(true, false), false), "skip");
        assert_eq!(decide(UnitState::Waiting, &asked(false, true), false), "wait");
        assert_eq!(decide(UnitState::Waiting, &asked(false, true), true), "missing", "the job ended without it");
        assert_eq!(decide(UnitState::Failed, &asked(true, true), false), "skip");
        assert_eq!(decide(UnitState::Failed, &asked(false, true), false), "missing");
    }
}
