//! Units one by one: their state, who voted for what, and in words what that is worth.

use super::{NodeBackend, jobs::bad_token, others::kept_unit_views};
use crate::{
    control::backend::Reply,
    node::net::nickname::nickname,
    protocol::{
        ids::{JobId, UnitIndex},
        owner::{UnitState, UnitView},
    },
    wire::control::{ListUnitsRequest, ListUnitsResponse, UnitView as WireUnit, VoteView as WireVote},
};
use std::collections::{BTreeMap, BTreeSet};

/// Units that one look at the run loop takes in: it is not held up for longer than a millisecond or two.
pub(super) const LOOK_UNITS: usize = 1024;
/// Units that one page looks through for unfinished ones.
const SEARCHED_MAX: u32 = 100_000;

impl NodeBackend {
    /// Units of an own job from `first` on, as the run loop sees them.
    pub(super) async fn unit_views(&self, job: JobId, first: u32, count: usize) -> Reply<Vec<UnitView>> {
        let count = count.min(LOOK_UNITS);
        let seen = self.view(move |node| {
            let owner = node.peer().owner();
            owner.manifest(job).map(|_| owner.unit_views(job, UnitIndex(first), count))
        });
        match seen.await? {
            Some(views) => Ok(views),
            None => self.read(move |store| kept_unit_views(store, job, first, count)).await,
        }
    }

    pub(super) async fn unit_page(&self, request: ListUnitsRequest) -> Reply<ListUnitsResponse> {
        let job = self.own(&request.job).await?;
        let units = self.seen(job).await?.view.counts.units;
        let mut next: u32 = if request.page_token.is_empty() { 0 } else { request.page_token.parse().map_err(|_| bad_token())? };
        let (last, page) = (next.saturating_add(SEARCHED_MAX), request.page_size as usize);
        let mut found: Vec<UnitView> = Vec::new();
        while found.len() < page && next < units.min(last) {
            let wanted = if request.only_unfinished { LOOK_UNITS } else { page - found.len() };
            let views = self.unit_views(job, next, wanted).await?;
            if views.is_empty() {
                break;
            }
            for view in views {
                if found.len() == page {
                    break;
                }
                next = view.unit.0 + 1;
                if !request.only_unfinished || view.state != UnitState::Verified {
                    found.push(view);
                }
            }
        }
        let indices: Vec<u32> = found.iter().map(|view| view.unit.0).collect();
        let names = self.names(job, indices).await?;
        let next_page_token = if next < units { next.to_string() } else { String::new() };
        Ok(ListUnitsResponse { units: found.iter().map(|view| message(view, &names)).collect(), next_page_token })
    }

    /// The names of these units, ascending, as far as they have any.
    pub(super) async fn names(&self, job: JobId, units: Vec<u32>) -> Reply<BTreeMap<u32, String>> {
        self.read(move |store| {
            let mut names = BTreeMap::new();
            let mut rest = &units[..];
            while let Some(first) = rest.first() {
                // Neighbours are read together.
                let run = rest.iter().zip(*first..).take_while(|(unit, expected)| *unit == expected).count().max(1);
                let count = u32::try_from(run).unwrap_or(u32::MAX);
                let rows = store.units_page(job, UnitIndex(*first), count)?;
                if rows.is_empty() {
                    break;
                }
                names.extend(rows.into_iter().map(|row| (row.unit.0, row.name)));
                rest = &rest[run..];
            }
            Ok(names)
        })
        .await
    }
}

fn message(view: &UnitView, names: &BTreeMap<u32, String>) -> WireUnit {
    let failures = view.failures.filter(|failures| failures.count > 0);
    WireUnit {
        unit: view.unit.0,
        name: names.get(&view.unit.0).cloned().unwrap_or_default(),
        state: state_word(view.state).to_owned(),
        standing: standing(view),
        votes: view.votes.iter().map(vote).collect(),
        exit: view.value.map(|value| value.exit.to_string()).unwrap_or_default(),
        output: view.value.map(|value| value.output.to_string()).unwrap_or_default(),
        gas: view.value.map_or(0, |value| value.gas),
        failed_attempts: failures.map_or(0, |failures| failures.count),
        last_failure: failures.map(|failures| failures.last.to_string()).unwrap_or_default(),
        votes_needed: view.need,
        confidence: view.confidence.unwrap_or_default(),
        checkpoint_gas: view.checkpoint.map_or(0, |(gas, _)| gas),
        checkpoint_by: view.checkpoint.map(|(_, peer)| peer.to_string()).unwrap_or_default(),
    }
}

fn vote(vote: &crate::protocol::owner::VoteView) -> WireVote {
    WireVote {
        peer: vote.worker.to_string(),
        nickname: nickname(vote.worker),
        output: vote.value.output.to_string(),
        gas: vote.value.gas,
        counted: vote.counted,
        struck: vote.struck,
        exit: vote.value.exit.to_string(),
        set_aside: vote.set_aside,
        instruction_set: vote.platform.to_string(),
        rests_on: vote.rests_on.iter().map(|peer| peer.to_string()).collect(),
    }
}

fn state_word(state: UnitState) -> &'static str {
    match state {
        UnitState::Waiting => "waiting",
        UnitState::Running => "running",
        UnitState::AwaitingVote => "awaiting a vote",
        UnitState::Provisional => "provisional",
        UnitState::Disputed => "in dispute",
        UnitState::Rechecking => "re-checking",
        UnitState::Verified => "verified",
        UnitState::Failed => "failed",
    }
}

/// What a unit's state is worth, as a sentence.
fn standing(view: &UnitView) -> String {
    let counted = view.votes.iter().filter(|vote| vote.counted).count();
    let proven = view.votes.iter().filter(|vote| vote.counted && vote.proven).count();
    let live = view.votes.iter().filter(|vote| !vote.struck && !vote.set_aside).count();
    let need = usize::try_from(view.need).unwrap_or(usize::MAX).max(counted);
    let networks = if view.different_networks { ", different networks" } else { "" };
    let values: BTreeSet<_> = view.votes.iter().filter(|vote| !vote.struck && !vote.set_aside).map(|vote| vote.value).collect();
    match view.state {
        UnitState::Waiting => "not run yet".to_owned(),
        UnitState::Running => "runs now".to_owned(),
        UnitState::AwaitingVote if values.len() > 1 => format!("{live} votes, which disagree; one more is wanted"),
        UnitState::AwaitingVote => format!("{live} of {} votes", need.max(live + 1)),
        UnitState::Provisional => format!("provisional: {counted} newcomers agree, nobody proven has said anything"),
        UnitState::Disputed => "in dispute: proven voters disagree".to_owned(),
        UnitState::Rechecking if view.votes.iter().any(|vote| vote.struck) => "re-checking: a contributor was caught".to_owned(),
        UnitState::Rechecking if view.votes.iter().any(|vote| vote.set_aside) => {
            "re-checking: a vote does not count any more, since machines of different instruction sets disagree".to_owned()
        }
        UnitState::Rechecking => "re-checking: one more vote is wanted".to_owned(),
        UnitState::Verified if view.by_owner => "checked by you".to_owned(),
        UnitState::Verified => format!("verified {counted} of {need} ({proven} proven{networks})"),
        UnitState::Failed if view.by_owner => "failed, and so it does here".to_owned(),
        UnitState::Failed if view.value.is_some() => format!("failed, and {counted} of {need} agree on how ({proven} proven{networks})"),
        UnitState::Failed => "failed on several machines".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        checkpoint::Authors,
        ids::{Digest, PeerId},
        outcome::{Exit, Value},
        owner::VoteView,
        platform::Platform,
    };

    #[test]
    fn a_standing_counts_votes_and_says_who_checked() {
        let value = Value { exit: Exit::Code(0), output: Digest([1; 32]), gas: 5, chain: None };
        let vote = |peer, proven, counted, struck| {
            let (worker, platform) = (PeerId([peer; 32]), Platform::X86_64);
            VoteView { worker, value, counted, proven, struck, set_aside: false, platform, rests_on: Authors::NONE }
        };
        let votes = vec![vote(1, true, true, false), vote(2, false, true, false), vote(3, false, false, true)];
        let mut view = UnitView {
            unit: UnitIndex(3),
            state: UnitState::Verified,
            value: Some(value),
            by_owner: false,
            need: 2,
            confidence: Some(0.9999),
            different_networks: false,
            votes,
            failures: None,
            checkpoint: None,
            resumed: Vec::new(),
        };
        assert_eq!(standing(&view), "verified 2 of 2 (1 proven)");
        view.different_networks = true;
        assert_eq!(standing(&view), "verified 2 of 2 (1 proven, different networks)");
        view.state = UnitState::Rechecking;
        assert_eq!(standing(&view), "re-checking: a contributor was caught");
        view.state = UnitState::AwaitingVote;
        assert_eq!(standing(&view), "2 of 3 votes");
        view.state = UnitState::Verified;
        view.by_owner = true;
        assert_eq!(standing(&view), "checked by you");
        view.state = UnitState::Disputed;
        assert!(standing(&view).starts_with("in dispute"));
    }
}
