//! Disputes that the owner's machine has no time for: many proven voters decide them.
//!
//! A tenth of ten thousand workers who conspire are hundreds of disputes for each owner, whose two slots would need longer for them than
//! the whole grid for the job. So where more disputes wait than the owner decides in a while, those whose voters have most others are put
//! before juries: proven workers are asked, all at once, until [`JURY_LEAD`](crate::protocol::verify::JURY_LEAD) more say one thing than
//! another.
//!
//! Jurors are drawn from all proven workers, whoever has room just then: else conspirators could make room at the right moment and fill a
//! jury. A seat is kept until its worker has answered, goes, or lets the jury wait for too long.
//! Which units are before a jury is not durable: a restart begins again with the votes that there are.

use super::{
    Owner,
    judge::FAILURES_MAX,
    merge::VOTES_PER_UNIT_MAX,
    own_job::OwnJob,
    unit::{Phase, Want},
};
use crate::protocol::{
    ids::{JobId, PeerId, UnitIndex},
    time::Instant,
    trust::Trust,
    verify::{Ballot, JURY_LEAD, jurors_missing},
};
use core::time::Duration;
use std::collections::BTreeMap;

/// So many disputes may wait for each slot that the owner lends itself, before juries are asked: a minute or so of short units.
const DISPUTES_PER_SLOT: usize = 8;
/// One jury at a time for so many proven workers: the juries of a job, with all jurors asked at once, take a little more than a quarter.
const PROVEN_PER_JURY: usize = 64;
/// The most juries of one job at a time: picking a unit looks at all of them.
const JURIES_MAX: usize = 64;
/// So many more jurors are asked at once than are missing, for those who are slow or go.
const SPARE_JURORS: usize = 2;
/// A unit with more votes than this is the owner's: few who disagree could hang its jury.
const VOTES_BEFORE_MAX: usize = VOTES_PER_UNIT_MAX - JURY_LEAD - JURY_LEAD / 2;
/// How often juries are seated and the disputes looked through for the worst, and so how long one may wait for its jury.
const SEATED_EVERY: Duration = Duration::from_secs(1);
/// A juror who has not answered after this and [`PATIENCE_UNITS`] typical units is replaced; its vote counts all the same when it comes.
const PATIENCE: Duration = Duration::from_secs(60);
/// See [`PATIENCE`].
const PATIENCE_UNITS: f64 = 3.0;
/// How many are drawn for each seat before it stays empty for now.
const DRAWS_PER_SEAT: usize = 8;
/// How many disputes are compared to find the worst.
const DISPUTES_LOOKED_AT: usize = 1024;

/// A dispute before its jury.
#[derive(Clone, Debug)]
struct Jury {
    /// How many more must say the same at least.
    missing: usize,
    /// Who was drawn and has not answered.
    seats: BTreeMap<PeerId, Seat>,
    /// How many of them have no lease yet.
    unasked: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    drawn: Instant,
    asked: bool,
}

/// The units of a job that are before a jury.
#[derive(Clone, Debug, Default)]
pub(super) struct Juries {
    open: BTreeMap<UnitIndex, Jury>,
    next_look: Option<Instant>,
}

impl Juries {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn has(&self, unit: UnitIndex) -> bool {
        self.open.contains_key(&unit)
    }

    pub fn units(&self) -> impl Iterator<Item = UnitIndex> {
        self.open.keys().copied()
    }

    /// How many jurors have no lease yet.
    pub fn unasked(&self) -> usize {
        self.open.values().map(|jury| jury.unasked).sum()
    }

    /// The units that this worker was drawn for and has no lease of.
    pub fn units_of(&self, worker: PeerId) -> impl Iterator<Item = UnitIndex> {
        let drawn = move |jury: &Jury| jury.unasked > 0 && jury.seats.get(&worker).is_some_and(|seat| !seat.asked);
        self.open.iter().filter(move |(_, jury)| drawn(jury)).map(|(unit, _)| *unit)
    }

    /// The worker gets a lease of the unit.
    pub fn note_asked(&mut self, unit: UnitIndex, worker: PeerId) {
        let Some(jury) = self.open.get_mut(&unit) else { return };
        if let Some(seat) = jury.seats.get_mut(&worker).filter(|seat| !seat.asked) {
            seat.asked = true;
            jury.unasked -= 1;
        }
    }
}

impl OwnJob {
    /// The unit was judged again. Whether it stays before its jury; not when it is decided, or no jury can.
    pub(super) fn stays_before_jury(&mut self, unit: UnitIndex, ballots: &[Ballot]) -> bool {
        let Some(jury) = self.juries.open.get_mut(&unit) else { return false };
        let fails = self.failures.get(&unit).is_some_and(|record| record.seen.count >= FAILURES_MAX);
        let disputed = self.units[unit.0 as usize].phase == Phase::Disputed && ballots.len() < VOTES_PER_UNIT_MAX && !fails;
        jury.missing = if disputed { jurors_missing(ballots) } else { 0 };
        let stays = jury.missing > 0;
        if !stays {
            self.juries.open.remove(&unit);
        }
        stays
    }

    /// Disputes that wait for the owner, those first whose trusted voters have most to do with others: conspirators who met often are
    /// caught first, two by one decision, and with them go their other disputes.
    pub fn worst_disputes(&self, trust: &Trust) -> Vec<UnitIndex> {
        let gas = self.gas_estimate();
        let disputed = || self.wanted.set(Want::Owner).iter().copied().take(DISPUTES_LOOKED_AT);
        let voters = |unit: UnitIndex| {
            let votes = self.unit(unit).map_or(&[][..], |unit| &unit.votes);
            votes.iter().filter(|vote| !vote.struck && trust.is_proven(vote.worker, gas)).map(|vote| vote.worker)
        };
        let mut disputes: BTreeMap<PeerId, u32> = BTreeMap::new();
        disputed().flat_map(voters).for_each(|voter| *disputes.entry(voter).or_default() += 1);
        let mut worst: Vec<_> = disputed().map(|unit| (voters(unit).map(|voter| disputes[&voter]).sum::<u32>(), unit)).collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        worst.into_iter().map(|(_, unit)| unit).collect()
    }
}

impl Owner {
    /// Puts disputes of one of this peer's own jobs before juries, as far as there are too many of them, and fills the seats of all.
    pub(super) fn seat_juries(&mut self, now: Instant, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.is_foreign()) else { return };
        let most = (self.roster.proven_at_last() / PROVEN_PER_JURY).min(JURIES_MAX);
        let own_slots = if self.roster.is_working(self.me) { self.own_slots() } else { 0 };
        let beyond = job.wanted.set(Want::Owner).len().saturating_sub(DISPUTES_PER_SLOT * own_slots);
        let room = most.saturating_sub(job.juries.len()).min(beyond);
        if room == 0 && job.juries.len() == 0 {
            return;
        }
        if let Some(next) = job.juries.next_look.filter(|next| *next > now) {
            return self.wake_by(next);
        }
        let next = now.after(SEATED_EVERY);
        self.wake_by(next);
        let summoned = if room > 0 { self.summoned(id, room) } else { Vec::new() };
        let jurors = self.jurors_at_hand(now, id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let mut juries = core::mem::take(&mut job.juries);
        juries.next_look = Some(next);
        for (unit, missing) in summoned {
            job.wanted.remove(unit);
            juries.open.insert(unit, Jury { missing, seats: BTreeMap::new(), unasked: 0 });
        }
        for (unit, jury) in &mut juries.open {
            self.seat(now, id, *unit, jury, &jurors);
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.juries = juries;
        }
    }

    /// The worst disputes that a jury can decide, with how many jurors each lacks.
    fn summoned(&self, id: JobId, most: usize) -> Vec<(UnitIndex, usize)> {
        let job = &self.jobs[&id];
        let can_decide = |unit: &UnitIndex| job.unit(*unit).is_some_and(|unit| unit.votes.len() <= VOTES_BEFORE_MAX);
        let lacking = |unit: UnitIndex| Some((unit, jurors_missing(&job.ballots(unit, &self.trust, self.me)))).filter(|(_, m)| *m > 0);
        job.worst_disputes(&self.trust).into_iter().filter(can_decide).filter_map(lacking).take(most).collect()
    }

    /// The proven workers of whom jurors are drawn.
    fn jurors_at_hand(&self, now: Instant, id: JobId) -> Vec<PeerId> {
        let job = &self.jobs[&id];
        self.roster.working().filter(|peer| self.may_judge(now, job, *peer)).collect()
    }

    fn may_judge(&self, now: Instant, job: &OwnJob, peer: PeerId) -> bool {
        let platform = self.roster.get(peer).filter(|worker| worker.window > 0).map(|worker| worker.platform);
        let trusted = peer != self.me && job.trusts(peer, job.gas_estimate(), &self.trust) && self.trust.rest(peer).is_none();
        trusted && !self.trust.is_barred(peer, now) && platform.is_some_and(|platform| !job.bars(peer, platform))
    }

    /// Empties the seats of those who do not answer, and draws others.
    fn seat(&mut self, now: Instant, id: JobId, unit: UnitIndex, jury: &mut Jury, jurors: &[PeerId]) {
        let job = &self.jobs[&id];
        let typical = Duration::try_from_secs_f64(PATIENCE_UNITS * job.unit_seconds.unwrap_or_default()).unwrap_or(PATIENCE);
        let failed = |peer: PeerId| job.failures.get(&unit).is_some_and(|record| record.workers.contains(&peer));
        jury.seats.retain(|peer, seat| {
            let waited = now.since(seat.drawn) < PATIENCE.saturating_add(typical);
            let answers = if seat.asked { self.leases.is_held(id, unit, *peer) } else { job.is_independent(unit, *peer, &self.trust) };
            waited && answers && !failed(*peer) && self.may_judge(now, job, *peer)
        });
        for _ in 0..DRAWS_PER_SEAT * (jury.missing + SPARE_JURORS) {
            if jury.seats.len() >= jury.missing + SPARE_JURORS || jurors.is_empty() {
                break;
            }
            let drawn = jurors[self.draw(jurors.len())];
            let job = &self.jobs[&id];
            let failed = job.failures.get(&unit).is_some_and(|record| record.workers.contains(&drawn));
            let stranger = || jury.seats.keys().all(|seated| self.trust.are_strangers(*seated, drawn));
            let out = self.leases.is_held(id, unit, drawn);
            if !failed && !out && stranger() && job.is_independent(unit, drawn, &self.trust) {
                jury.seats.insert(drawn, Seat { drawn: now, asked: false });
            }
        }
        jury.unasked = jury.seats.values().filter(|seat| !seat.asked).count();
    }
}
