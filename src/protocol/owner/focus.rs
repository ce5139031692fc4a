//! Whom proven executions go to first: a few newcomers at a time, until each of them is proven.
//!
//! A newcomer is proven by twenty units that proven voters back. Spread evenly over thousands of newcomers, their executions would prove
//! nobody for a long time; spent on as many newcomers as there are proven voters, they double that number in about the time of twenty units
//! each. Which newcomers is of no importance, so they are taken in the order of their keys from a place that moves on.

use super::own_job::OwnJob;
use crate::protocol::ids::PeerId;

/// The most newcomers at a time: with more proven voters than this their number grows fast enough.
const FOCUS_MAX: usize = 128;
/// Voters looked at when there is room: a warm job has no newcomers, and must not pay for looking for them.
const LOOKED_AT: usize = 8;

/// The newcomers of a job who are to be proven next.
#[derive(Clone, Debug, Default)]
pub(super) struct Focus {
    members: Vec<PeerId>,
    /// Where the search for more goes on.
    cursor: Option<PeerId>,
}

impl Focus {
    /// One of them, drawn by `pivot`, after looking for more where there are fewer than proven voters.
    pub fn draw(
        &mut self,
        pivot: u32,
        proven_online: usize,
        job: &OwnJob,
        is_newcomer: impl Fn(PeerId) -> bool,
    ) -> Option<(usize, PeerId)> {
        if self.members.len() < proven_online.clamp(1, FOCUS_MAX) {
            for voter in job.undecided_voters_after(self.cursor).take(LOOKED_AT) {
                self.cursor = Some(voter);
                if is_newcomer(voter) && !self.members.contains(&voter) {
                    self.members.push(voter);
                    break;
                }
            }
        }
        let at = pivot as usize % self.members.len().max(1);
        self.members.get(at).map(|voter| (at, *voter))
    }

    /// There is nothing to be done for this one now.
    pub fn drop(&mut self, at: usize) {
        self.members.swap_remove(at);
    }
}
