//! Disputes that the owner's machine has no time for: many proven voters decide them.
//!
//! A tenth of ten thousand workers who conspire are hundreds of disputes for each owner, whose two slots would need longer for them than
//! the whole grid for the job. So where more disputes wait than the owner decides in a while, those whose voters have most others are put
//! before juries: proven workers are asked, all at once, until [`JURY_LEAD`](crate::protocol::verify::JURY_LEAD) more say one thing than
//! another.
//!
//! Jurors are drawn from all proven workers, whoever has room just then: else conspirators could make room at the right moment and fill a
//! jury. A seat is kept until its worker has answered, goes, or lets the jury wait for too long; then another is drawn, and the lead must
//! be greater by one, as if the absent had contradicted it: so nothing is won by being there sooner than others.
//!
//! A jury that cannot agree, or of which too many are absent or fail, leaves the unit to the owner for good. Which units are or were
//! before a jury is not durable: a restart begins again with the votes that there are.

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
use std::collections::{BTreeMap, BTreeSet};

/// So many disputes may wait for each slot that the owner lends itself, before juries are asked: a minute or so of short units.
const DISPUTES_PER_SLOT: usize = 8;
/// One jury at a time for so many proven workers: the juries of a job, with all jurors asked at once, take a little more than a quarter.
const PROVEN_PER_JURY: usize = 64;
/// The most juries of one job at a time: picking a unit looks at all of them.
const JURIES_MAX: usize = 64;
/// So many more jurors are asked at once than are missing, for those who are slow or go.
const SPARE_JURORS: usize = 2;
/// A unit for which this and the jurors that it lacks would be too many votes is the owner's: few who disagree could hang its jury.
const VOTES_SPARE: usize = JURY_LEAD / 2;
/// A jury of which more are absent leaves the unit to the owner: most of those who are proven have no room, or the network is split.
const ABSENT_MAX: usize = JURY_LEAD / 2;
/// How often juries are seated and the disputes looked through for the worst, and so how long one may wait for its jury.
const SEATED_EVERY: Duration = Duration::from_secs(1);
/// A juror who has not answered after this and [`PATIENCE_UNITS`] typical units is absent; its vote counts all the same when it comes.
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
    /// Who was drawn and lost the seat without an answer.
    absent: BTreeSet<PeerId>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    drawn: Instant,
    asked: bool,
}

/// What becomes of a seat.
enum Attendance {
    Awaited,
    Absent,
    /// It has answered, or its answer would not count.
    Over,
}

/// The units of a job that are before a jury.
#[derive(Clone, Debug, Default)]
pub(super) struct Juries {
    open: BTreeMap<UnitIndex, Jury>,
    /// Disputes that a jury has left to the owner, with those who were absent.
    left: BTreeMap<UnitIndex, BTreeSet<PeerId>>,
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

    /// How many jurors of the unit were drawn and gave no answer, see [`Rules::absent`](crate::protocol::verify::Rules::absent).
    pub fn absent(&self, unit: UnitIndex, ballots: &[Ballot]) -> usize {
        let absent = self.open.get(&unit).map(|jury| &jury.absent).or(self.left.get(&unit));
        let silent = |peer: &&PeerId| ballots.iter().all(|ballot| ballot.worker != **peer);
        absent.map_or(0, |absent| absent.iter().filter(silent).count())
    }

    /// The jury leaves the unit to the owner.
    fn leave(&mut self, unit: UnitIndex) {
        if let Some(jury) = self.open.remove(&unit) {
            self.left.insert(unit, jury.absent);
        }
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
        if self.units[unit.0 as usize].phase != Phase::Disputed {
            self.juries.open.remove(&unit);
            self.juries.left.remove(&unit);
            return false;
        }
        let missing = jurors_missing(ballots, self.juries.absent(unit, ballots));
        if missing == 0 || ballots.len() >= VOTES_PER_UNIT_MAX || self.is_failing(unit) {
            self.juries.leave(unit);
        }
        let jury = self.juries.open.get_mut(&unit);
        jury.map(|jury| jury.missing = missing).is_some()
    }

    /// Whether so many attempts failed that no jury is asked.
    fn is_failing(&self, unit: UnitIndex) -> bool {
        self.failures.get(&unit).is_some_and(|record| record.seen.count >= FAILURES_MAX)
    }

    fn has_failed_on(&self, unit: UnitIndex, worker: PeerId) -> bool {
        self.failures.get(&unit).is_some_and(|record| record.workers.contains(&worker))
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
            juries.open.insert(unit, Jury { missing, seats: BTreeMap::new(), unasked: 0, absent: BTreeSet::new() });
        }
        let mut hung = Vec::new();
        for (unit, jury) in &mut juries.open {
            self.seat(now, id, *unit, jury, &jurors);
            if jury.absent.len() > ABSENT_MAX {
                hung.push(*unit);
            }
        }
        hung.iter().for_each(|unit| juries.leave(*unit));
        if let Some(job) = self.jobs.get_mut(&id) {
            job.juries = juries;
            // What is still out is waited for.
            let free = |unit: &UnitIndex| job.units[unit.0 as usize].leased == 0;
            hung.into_iter().filter(free).for_each(|unit| job.wanted.insert(unit, Want::Owner));
        }
    }

    /// The worst disputes that a jury can decide, with how many jurors each lacks.
    fn summoned(&self, id: JobId, most: usize) -> Vec<(UnitIndex, usize)> {
        let job = &self.jobs[&id];
        let missing = |unit: UnitIndex| {
            let ballots = job.ballots(unit, &self.trust, self.me);
            let missing = jurors_missing(&ballots, 0);
            (missing > 0 && ballots.len() + missing + VOTES_SPARE <= VOTES_PER_UNIT_MAX).then_some((unit, missing))
        };
        let may_come = |unit: &UnitIndex| !job.juries.left.contains_key(unit) && !job.is_failing(*unit);
        job.worst_disputes(&self.trust).into_iter().filter(may_come).filter_map(missing).take(most).collect()
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
        let before = jury.absent.len();
        jury.seats.retain(|peer, seat| match self.attendance(now, &self.jobs[&id], unit, *peer, *seat) {
            Attendance::Awaited => true,
            Attendance::Absent => !jury.absent.insert(*peer),
            Attendance::Over => false,
        });
        jury.missing += jury.absent.len() - before;
        for _ in 0..DRAWS_PER_SEAT * (jury.missing + SPARE_JURORS) {
            if jury.seats.len() >= jury.missing + SPARE_JURORS || jurors.is_empty() {
                break;
            }
            let drawn = jurors[self.draw(jurors.len())];
            let job = &self.jobs[&id];
            let carries = || job.trusts(drawn, job.gas_of(unit), &self.trust) && !job.has_failed_on(unit, drawn);
            let stranger = || jury.seats.keys().all(|seated| self.trust.are_strangers(*seated, drawn));
            let out = self.leases.is_held(id, unit, drawn) || jury.absent.contains(&drawn);
            if !out && stranger() && job.is_independent(unit, drawn, &self.trust) && carries() {
                jury.seats.insert(drawn, Seat { drawn: now, asked: false });
            }
        }
        jury.unasked = jury.seats.values().filter(|seat| !seat.asked).count();
    }

    fn attendance(&self, now: Instant, job: &OwnJob, unit: UnitIndex, peer: PeerId, seat: Seat) -> Attendance {
        let voted = job.unit(unit).is_some_and(|unit| unit.votes.iter().any(|vote| vote.worker == peer));
        let counts = seat.asked || job.is_independent(unit, peer, &self.trust);
        let barred = self.roster.get(peer).is_some_and(|worker| job.bars(peer, worker.platform)) || self.trust.is_barred(peer, now);
        if voted || !counts || barred {
            return Attendance::Over;
        }
        let typical = Duration::try_from_secs_f64(PATIENCE_UNITS * job.unit_seconds.unwrap_or_default()).unwrap_or(PATIENCE);
        let waited = now.since(seat.drawn) >= PATIENCE.saturating_add(typical);
        let out = !seat.asked || self.leases.is_held(job.id, unit, peer);
        let comes = !waited && out && !job.has_failed_on(unit, peer) && self.may_judge(now, job, peer);
        if comes { Attendance::Awaited } else { Attendance::Absent }
    }
}
