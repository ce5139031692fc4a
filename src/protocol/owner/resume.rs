//! Checkpoints of own units: which are held, and which a new lease goes on from.
//!
//! They are soft: a coordinator that is restarted has none, and its units begin anew or come to their end where they are. A worker
//! shows how far it has come, and the shell fetches the state before it is entered here.
//!
//! What somebody else has computed is only his word. So a lease is given another worker's checkpoint only where that worker's attempt is
//! lost: it does not run any more, and no vote was taken since it was leased. The result then stands for both: it counts where both
//! would count, as one vote, and speaks neither for nor against whoever finished it; see `protocol/verify.rs`. The owner's own machine,
//! whose word ends every question, goes on from nothing but its own.

use super::{LeaseToken, Owner, OwnerAction, lease::LeaseKey, unit::Want};
use crate::protocol::{
    checkpoint::{Authors, Checkpoint},
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    time::Instant,
    verify::Voter,
};
use std::{collections::BTreeMap, sync::Arc};

/// Bytes of all checkpoints that are held.
const BYTES_MAX: u64 = 1 << 30;
/// Of these, of one worker: nobody fills the disk alone.
const BYTES_PER_AUTHOR_MAX: u64 = 256 << 20;
/// The most checkpoints that are held; with their chains 40 MB of memory.
const HELD_MAX: usize = 1024;
/// The most of one worker, which would fill all places with tiny ones else.
const HELD_OF_AUTHOR_MAX: usize = 256;
/// The most of one unit, each of another worker, so that one is left when a liar's is dropped.
const PER_UNIT_MAX: usize = 3;

/// A worker shows how far it has come with a unit that it was leased.
#[derive(Clone, PartialEq, Debug)]
pub struct Offer {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// From the lease.
    pub ordinal: u32,
    /// From the lease.
    pub token: LeaseToken,
    /// How far.
    pub checkpoint: Arc<Checkpoint>,
}

/// One that is held.
#[derive(Clone, Debug)]
struct Kept {
    author: PeerId,
    ordinal: u32,
    checkpoint: Arc<Checkpoint>,
}

/// Where the units of one job stood that are not decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Checkpoints {
    of: BTreeMap<UnitIndex, Vec<Kept>>,
    /// From where votes and leases went on, for people; the gas that was not spent again.
    resumed: BTreeMap<(UnitIndex, PeerId), u64>,
}

impl Checkpoints {
    /// Who went on with a unit, and from where.
    pub fn resumed(&self, unit: UnitIndex) -> impl Iterator<Item = (PeerId, u64)> {
        let (first, last) = ((unit, PeerId([0; 32])), (unit, PeerId([u8::MAX; 32])));
        self.resumed.range(first..=last).map(|((_, worker), gas)| (*worker, *gas))
    }

    /// Whether there is anything to tell about.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty() && self.resumed.is_empty()
    }

    /// The newest of a unit: gas and its author.
    pub fn newest(&self, unit: UnitIndex) -> Option<(u64, PeerId)> {
        self.of.get(&unit)?.iter().map(|kept| (kept.checkpoint.gas, kept.author)).max()
    }

    /// Units of which this worker has made one, the last first.
    pub fn by(&self, author: PeerId) -> impl Iterator<Item = UnitIndex> {
        let made = move |kept: &[Kept]| kept.iter().any(|kept| kept.author == author);
        self.of.iter().rev().filter(move |(_, kept)| made(kept)).map(|(unit, _)| *unit)
    }

    fn all(&self) -> impl Iterator<Item = &Kept> {
        self.of.values().flatten()
    }

    /// Takes out those of which this holds.
    fn take(&mut self, such: impl Fn(UnitIndex, &Kept) -> bool) -> Vec<Kept> {
        let mut taken = Vec::new();
        self.of.retain(|unit, kept| {
            let (out, rest) = core::mem::take(kept).into_iter().partition(|kept| such(*unit, kept));
            taken.extend::<Vec<Kept>>(out);
            *kept = rest;
            !kept.is_empty()
        });
        taken
    }
}

impl Owner {
    /// Whether a vote is struck as soon as it comes: its worker is barred, or somebody on whose checkpoint it rests.
    pub(super) fn is_vote_struck(&self, worker: PeerId, rests_on: Authors, now: Instant) -> bool {
        core::iter::once(worker).chain(rests_on.iter()).any(|peer| peer != self.me && self.trust.is_barred(peer, now))
    }

    /// Whether the state of an offer is worth fetching: the worker runs the unit, and it is newer than what it showed before.
    pub fn is_offer_welcome(&self, now: Instant, from: PeerId, id: JobId, offer: &Offer) -> bool {
        let key = LeaseKey { job: id, unit: offer.unit, attempt: offer.attempt };
        self.leases.get(&key).is_some_and(|held| held.worker == from && !held.superseded) && self.could_use(now, from, id, offer)
    }

    fn could_use(&self, now: Instant, from: PeerId, id: JobId, offer: &Offer) -> bool {
        let Offer { unit: index, attempt, ordinal, token, checkpoint } = offer;
        let Some(job) = self.jobs.get(&id).filter(|_| self.running.contains(&id)) else { return false };
        let Some(unit) = job.unit(*index).filter(|unit| !unit.phase.is_decided()) else { return false };
        let genuine = LeaseToken::make(&job.secret, id, *index, *attempt, *ordinal, from).resting_on(&job.secret, checkpoint.rests_on);
        let voted = unit.votes.iter().any(|vote| vote.worker == from);
        if *token != genuine || voted || !checkpoint.is_sensible() || self.is_vote_struck(from, checkpoint.rests_on, now) {
            return false;
        }
        let of_unit = job.checkpoints.of.get(index).map(Vec::as_slice).unwrap_or_default();
        let before = of_unit.iter().find(|kept| kept.author == from).map(|kept| &kept.checkpoint);
        let replaced = before.map_or(0, |before| before.bytes);
        let all = || self.jobs.values().flat_map(|job| job.checkpoints.all());
        let of_author: u64 = all().filter(|kept| kept.author == from).map(|kept| kept.checkpoint.bytes).sum();
        before.is_none_or(|before| before.gas < checkpoint.gas)
            && self.checkpoint_bytes - replaced + checkpoint.bytes <= BYTES_MAX
            && of_author - replaced + checkpoint.bytes <= BYTES_PER_AUTHOR_MAX
            && (before.is_some() || (all().count() < HELD_MAX && all().filter(|kept| kept.author == from).count() < HELD_OF_AUTHOR_MAX))
    }

    /// Takes in how far a worker has come; the state is held.
    pub fn offered(&mut self, now: Instant, from: PeerId, id: JobId, offer: Offer) {
        let Offer { unit, attempt, ordinal, ref checkpoint, .. } = offer;
        if !self.could_use(now, from, id, &offer) {
            return self.drop_state(checkpoint.state);
        }
        self.leases.note_seen(&LeaseKey { job: id, unit, attempt }, now);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let of_unit = job.checkpoints.of.entry(unit).or_default();
        let mut gone: Vec<Kept> = of_unit.extract_if(.., |kept| kept.author == from).collect();
        of_unit.push(Kept { author: from, ordinal, checkpoint: offer.checkpoint.clone() });
        of_unit.sort_by_key(|kept| core::cmp::Reverse(kept.checkpoint.gas));
        gone.extend(of_unit.drain(PER_UNIT_MAX.min(of_unit.len())..));
        self.checkpoint_bytes += offer.checkpoint.bytes;
        self.let_go(gone);
    }

    fn let_go(&mut self, gone: Vec<Kept>) {
        for kept in gone {
            self.checkpoint_bytes -= kept.checkpoint.bytes;
            self.drop_state(kept.checkpoint.state);
        }
    }

    /// Two who are honest may stand at the same place.
    fn drop_state(&mut self, state: Digest) {
        let mut all = self.jobs.values().flat_map(|job| job.checkpoints.all());
        if all.all(|kept| kept.checkpoint.state != state) {
            self.actions.push(OwnerAction::DropState(state));
        }
    }

    /// Forgets where decided units stood, and those of a job that has ended.
    pub(super) fn forget_checkpoints(&mut self, id: JobId) {
        let runs = self.running.contains(&id);
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.checkpoints.of.is_empty()) else { return };
        let units = &job.units;
        let gone = job.checkpoints.take(|unit, _| !runs || units[unit.0 as usize].phase.is_decided());
        self.let_go(gone);
    }

    /// Forgets all that this worker has made or was part of: it was convicted.
    pub(super) fn forget_checkpoints_of(&mut self, author: PeerId) {
        let such = |_, kept: &Kept| kept.author == author || kept.checkpoint.rests_on.contains(author);
        let gone = self.jobs.values_mut().flat_map(|job| job.checkpoints.take(such)).collect();
        self.let_go(gone);
    }

    /// From where a new lease goes on, and on whom its result will rest.
    pub(super) fn where_to_begin(
        &mut self,
        now: Instant,
        id: JobId,
        index: UnitIndex,
        want: Want,
        worker: PeerId,
    ) -> (Option<Arc<Checkpoint>>, Authors) {
        let job = &self.jobs[&id];
        let Some(of_unit) = job.checkpoints.of.get(&index) else { return (None, Authors::NONE) };
        // The newest first.
        let usable = of_unit.iter().find_map(|kept| Some((kept, self.rests_for(now, id, index, want, worker, kept)?)));
        let Some((checkpoint, rests_on)) = usable.map(|(kept, rests_on)| (kept.checkpoint.clone(), rests_on)) else {
            return (None, Authors::NONE);
        };
        if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.checkpoints.resumed.len() < HELD_MAX) {
            job.checkpoints.resumed.insert((index, worker), checkpoint.gas);
        }
        (Some(checkpoint), rests_on)
    }

    /// On whom a result of this worker would rest that goes on from there: itself where on nobody else; none when it may not.
    fn rests_for(&self, now: Instant, id: JobId, index: UnitIndex, want: Want, worker: PeerId, kept: &Kept) -> Option<Authors> {
        let job = &self.jobs[&id];
        let unit = job.unit(index).filter(|unit| !unit.output_wanted)?;
        let own = kept.checkpoint.rests_on;
        let authors = if kept.author == worker { own } else { own.without(worker).with(kept.author)? }.without(worker);
        if authors.is_empty() {
            // It is told that it goes on from its own word, for it cannot know that, and signs so.
            return authors.with(worker);
        }
        let proven = match want {
            Want::First | Want::Another(Voter::Anyone) => false,
            Want::Another(Voter::Proven) => true,
            // They are asked for what they themselves are.
            Want::Another(Voter::OnPlatform(_)) | Want::Owner => return None,
        };
        let gas = job.gas_estimate();
        let fits = |author: PeerId| {
            let lost = !self.leases.is_held(id, index, author);
            let good = author == self.me
                || (!self.trust.is_barred(author, now)
                    && !job.excused.contains_key(&author)
                    && (!proven || self.trust.is_proven(author, gas))
                    && job.is_independent(index, author, &self.trust));
            lost && good && unit.votes.iter().all(|vote| vote.worker != author)
        };
        // Where votes disagree, one that rests on somebody else counts for nothing.
        let mut said = unit.votes.iter().filter(|vote| !vote.struck).map(|vote| vote.value);
        let agreed = said.next().is_none_or(|first| said.all(|value| value == first));
        let allowed = worker != self.me && agreed && job.nondeterminism.is_none() && kept.ordinal == unit.next_position();
        (allowed && authors.iter().all(fits)).then_some(authors)
    }
}
