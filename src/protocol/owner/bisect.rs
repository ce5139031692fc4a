//! Disputes about long stepped units: the stretch about which two voters disagree is found from their hash chains, and only that is
//! run by the owner.
//!
//! Both parties are asked for the links whose head they signed. The chains are bisected
//! ([`Segment::first_difference`]), the state before the difference is fetched from either party, since its digest is what they agree
//! on, and the owner's machine runs from there to the next link. Whoever is contradicted is convicted. Nothing that a party sends
//! convicts it: links that are not those it signed, no answer, or a machine that leaves only end the attempt, and the owner runs the
//! whole unit as it would have without chains.
//!
//! The owner's check shows the loser to be wrong, and the winner to be right in one segment. So it counts like one more proven vote for
//! the winner's value, and not as the owner's own execution, whose value would stand whatever the rules ask for: two conspirators who
//! disagree on purpose gain no more by it than by agreeing.

use super::{
    Owner, OwnerAction,
    judge::Surroundings,
    own_job::{Consequences, OwnJob},
    unit::{Phase, UnitVote},
};
use crate::protocol::{
    chain::{End, Link, Links, Segment},
    ids::{JobId, PeerId, UnitIndex},
    outcome::Value,
    platform::Platform,
    time::Instant,
    verify::{Ballot, Decision, NOBODY, Weight},
};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Units of less gas, about a second's, are run whole at once: asking would take longer.
pub const WORTH_BISECTING: u64 = 1 << 32;
/// How long links may take, which the parties hold ready.
const LINKS_WAIT: Duration = Duration::from_secs(30);
/// Added to the job's own time limit for a state, for which the unit is run again, and fetched.
const STATE_SLACK: Duration = Duration::from_secs(300);
/// Units of one job that are bisected at once; the owner runs the others whole.
const OPEN_MAX: usize = 64;

/// One side of a dispute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Party {
    pub peer: PeerId,
    pub value: Value,
}

/// What is to be done next.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// Wait.
    Wait,
    /// Ask both parties for this state.
    AskState(Link),
    /// Run this segment.
    Run(Segment),
    /// These values are wrong; a value that was upheld is backed by the owner's check.
    Decided { wrong: Vec<Value>, upheld: Option<Value> },
    /// It cannot be decided so.
    GiveUp,
}

#[derive(Clone, Debug)]
enum Stage {
    Links([Option<Links>; 2]),
    State { segment: Segment, from: Link, refused: [bool; 2] },
    Run(Segment),
}

/// One dispute under way.
#[derive(Clone, Debug)]
pub(super) struct Bisection {
    parties: [Party; 2],
    stage: Stage,
    /// When it is given up.
    until: Instant,
}

impl Bisection {
    pub fn new(parties: [Party; 2], until: Instant) -> Self {
        Self { parties, stage: Stage::Links([None, None]), until }
    }

    fn side(&self, peer: PeerId) -> Option<usize> {
        self.parties.iter().position(|party| party.peer == peer)
    }

    /// A party hands in its links; none when it does not have them any more.
    pub fn on_links(&mut self, from: PeerId, links: Option<Links>) -> Step {
        let (Some(side), Stage::Links(known)) = (self.side(from), &mut self.stage) else { return Step::Wait };
        let Some(links) = links.filter(|links| links.belong_to(&self.parties[side].value)) else { return Step::GiveUp };
        known[side] = Some(links);
        let [Some(left), Some(right)] = known else { return Step::Wait };
        let [one, other] = self.parties;
        let Some(segment) = Segment::first_difference((left, one.value), (right, other.value)) else { return Step::GiveUp };
        match segment.from {
            None => self.run(segment),
            Some(from) => {
                self.stage = Stage::State { segment, from, refused: [false; 2] };
                Step::AskState(from)
            }
        }
    }

    fn run(&mut self, segment: Segment) -> Step {
        self.stage = Stage::Run(segment);
        Step::Run(segment)
    }

    /// The state that this peer may hand in now.
    pub fn wanted_state(&self, from: PeerId) -> Option<Link> {
        match &self.stage {
            Stage::State { from: link, .. } if self.side(from).is_some() => Some(*link),
            Stage::State { .. } | Stage::Links(_) | Stage::Run(_) => None,
        }
    }

    /// The state that was asked for is held here, or cannot be had from this party.
    pub fn on_state(&mut self, from: PeerId, held: bool) -> Step {
        let (Some(side), Stage::State { segment, refused, .. }) = (self.side(from), &mut self.stage) else { return Step::Wait };
        let segment = *segment;
        refused[side] |= !held;
        match (held, *refused) {
            (true, _) => self.run(segment),
            (false, [true, true]) => Step::GiveUp,
            (false, _) => Step::Wait,
        }
    }

    /// What the owner's machine found at the segment's end; none when it could not tell.
    pub fn on_run(&mut self, found: Option<End>) -> Step {
        let Stage::Run(segment) = &self.stage else { return Step::Wait };
        let Some(found) = found else { return Step::GiveUp };
        let right = |side: &usize| segment.claims[*side] == found;
        let wrong = (0..2).filter(|side| !right(side)).map(|side| self.parties[side].value).collect();
        Step::Decided { wrong, upheld: (0..2).find(right).map(|side| self.parties[side].value) }
    }
}

/// The bisections of one job.
#[derive(Clone, Debug, Default)]
pub(super) struct Bisections {
    open: BTreeMap<UnitIndex, Bisection>,
    /// Units which the owner runs whole, since it did not work.
    given_up: BTreeSet<UnitIndex>,
    /// Values that the owner's check has upheld, and on which instruction set.
    /// Forgotten when the node restarts, which costs another vote at most.
    upheld: BTreeMap<UnitIndex, (Value, Platform)>,
}

impl OwnJob {
    /// The owner's check of a segment as a ballot for the value that it upheld, as long as somebody stands for that.
    pub fn check(&self, index: UnitIndex, ballots: &[Ballot], owner: PeerId) -> Option<Ballot> {
        let (value, platform) = *self.bisections.upheld.get(&index)?;
        let standing = |ballot: &&Ballot| ballot.value == value && matches!(ballot.weight, Weight::Proven | Weight::Newcomer);
        let backed = *ballots.iter().find(standing)?;
        let ran = ballots.iter().any(|ballot| ballot.worker == owner);
        let place = u32::try_from(ballots.len()).unwrap_or(u32::MAX);
        let check = Ballot { worker: owner, weight: Weight::Proven, anchor: true, prefix: None, lineage: None, rests_on: NOBODY, ..backed };
        (!ran).then_some(Ballot { ordinal: place, position: place, platform, ..check })
    }

    /// Whether a unit that was judged so is being bisected, or is to be.
    pub fn bisects(
        &mut self,
        index: UnitIndex,
        decision: Decision,
        ballots: &[Ballot],
        around: &Surroundings<'_>,
        out: &mut Consequences,
    ) -> bool {
        let parties = match decision {
            Decision::Disputed if self.units[index.0 as usize].phase == Phase::Disputed => parties(ballots, around),
            _ => None,
        };
        let known = self.bisections.open.get(&index).map(|bisection| bisection.parties);
        if known.is_some() && known == parties {
            return true;
        }
        self.bisections.open.remove(&index);
        let leased = self.units[index.0 as usize].leased > 0;
        let room = self.bisections.open.len() < OPEN_MAX && !self.bisections.given_up.contains(&index);
        out.bisect = parties.filter(|_| room && !leased);
        out.bisect.is_some()
    }
}

/// The first two values that proven voters hold, with a voter of each who can be asked: attached, and on an instruction set like
/// the owner's, so that nothing but a lie explains a difference.
fn parties(ballots: &[Ballot], around: &Surroundings<'_>) -> Option<[Party; 2]> {
    // The check runs beside the slots, so it does not matter whether they lend anything now.
    let platform = around.roster.get(around.owner)?.platform;
    let can_be_asked = |ballot: &&Ballot| {
        let worth = ballot.value.chain.is_some() && ballot.value.gas >= WORTH_BISECTING;
        let own = ballot.rests_on == NOBODY;
        worth && own && ballot.weight == Weight::Proven && ballot.platform == platform && ballot.worker != around.owner
    };
    let attached = |ballot: &&Ballot| around.roster.get(ballot.worker).is_some();
    let mut found: BTreeMap<Value, PeerId> = BTreeMap::new();
    for ballot in ballots.iter().filter(can_be_asked).filter(attached) {
        found.entry(ballot.value).or_insert(ballot.worker);
    }
    let mut sides = found.into_iter().map(|(value, peer)| Party { peer, value });
    Some([sides.next()?, sides.next()?])
}

impl Owner {
    /// Begins to bisect a unit.
    pub(super) fn begin_bisection(&mut self, now: Instant, id: JobId, unit: UnitIndex, parties: [Party; 2]) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.bisections.open.insert(unit, Bisection::new(parties, now.after(LINKS_WAIT)));
        self.actions.extend(parties.map(|Party { peer, .. }| OwnerAction::AskLinks { to: peer, job: id, unit }));
    }

    /// When the next bisection is given up.
    pub(super) fn bisections_until(&self) -> Option<Instant> {
        let open = self.running.iter().flat_map(|id| self.jobs[id].bisections.open.values());
        open.map(|bisection| bisection.until).min()
    }

    /// Gives up what took too long.
    pub(super) fn expire_bisections(&mut self, now: Instant) {
        for (id, unit) in self.bisected(|bisection| bisection.until <= now) {
            self.follow(now, id, unit, Step::GiveUp);
        }
    }

    /// Judges again what this peer, which has left, was a party to.
    pub(super) fn leave_bisections(&mut self, now: Instant, peer: PeerId) {
        let concerned = self.bisected(|bisection| bisection.side(peer).is_some());
        if !concerned.is_empty() {
            self.judge_all(now, concerned.into());
        }
    }

    /// The units whose bisection is such.
    fn bisected(&self, such: impl Fn(&Bisection) -> bool) -> Vec<(JobId, UnitIndex)> {
        let mut found = Vec::new();
        for id in &self.running {
            let open = self.jobs[id].bisections.open.iter().filter(|(_, bisection)| such(bisection));
            found.extend(open.map(|(unit, _)| (*id, *unit)));
        }
        found
    }

    /// A worker hands in the links of its execution of a unit; none when it does not have them any more.
    pub fn links(&mut self, now: Instant, from: PeerId, id: JobId, unit: UnitIndex, links: Option<Links>) {
        self.step(now, id, unit, |bisection| bisection.on_links(from, links));
    }

    /// The state that a worker may hand in now.
    pub fn wanted_state(&self, from: PeerId, id: JobId, unit: UnitIndex) -> Option<Link> {
        self.jobs.get(&id)?.bisections.open.get(&unit)?.wanted_state(from)
    }

    /// The state that a worker was asked for is held here, or cannot be had from it.
    pub fn state_ready(&mut self, now: Instant, from: PeerId, id: JobId, unit: UnitIndex, held: bool) {
        self.step(now, id, unit, |bisection| bisection.on_state(from, held));
    }

    /// What this machine found at the end of a segment; none when it could not tell.
    pub fn segment_ran(&mut self, now: Instant, id: JobId, unit: UnitIndex, found: Option<End>) {
        self.step(now, id, unit, |bisection| bisection.on_run(found));
    }

    fn step(&mut self, now: Instant, id: JobId, unit: UnitIndex, take: impl FnOnce(&mut Bisection) -> Step) {
        let open = self.jobs.get_mut(&id).and_then(|job| job.bisections.open.get_mut(&unit));
        if let Some(step) = open.map(take) {
            self.follow(now, id, unit, step);
        }
    }

    fn follow(&mut self, now: Instant, id: JobId, unit: UnitIndex, step: Step) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(bisection) = job.bisections.open.get_mut(&unit) else { return };
        // From here on somebody runs the unit, or a part of it.
        let patience = job.manifest.limits.wall.saturating_add(STATE_SLACK);
        match step {
            Step::Wait => {}
            Step::AskState(link) => {
                bisection.until = now.after(patience);
                let parties = bisection.parties;
                self.actions.extend(parties.map(|Party { peer, .. }| OwnerAction::AskState { to: peer, job: id, unit, link }));
            }
            Step::Run(Segment { from, until, .. }) => {
                bisection.until = now.after(patience);
                self.actions.push(OwnerAction::RunSegment { job: id, unit, from, until });
            }
            Step::GiveUp => {
                job.bisections.open.remove(&unit);
                job.bisections.given_up.insert(unit);
                self.judge_all(now, VecDeque::from([(id, unit)]));
            }
            Step::Decided { wrong, upheld } => {
                let parties = bisection.parties;
                job.bisections.open.remove(&unit);
                job.bisections.upheld.remove(&unit);
                // Both parties are of the owner's instruction set, see `parties`.
                let votes = &job.units[unit.0 as usize].votes;
                let Some(platform) = votes.iter().find(|vote| vote.worker == parties[0].peer).map(|vote| vote.platform) else { return };
                job.bisections.upheld.extend(upheld.map(|value| (unit, (value, platform))));
                self.convict_all(now, id, unit, &wrong, platform);
            }
        }
    }

    /// Convicts whoever vouched for these values of a unit on the owner's instruction set. What another could explain is judged as ever.
    fn convict_all(&mut self, now: Instant, id: JobId, unit: UnitIndex, wrong: &[Value], platform: Platform) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let of_value = |value: &Value| {
            let votes = job.units[unit.0 as usize].votes.iter();
            // Who went on from somebody else's checkpoint may be right about what it did itself.
            let own = |vote: &&UnitVote| vote.worker != self.me && !job.rests.contains_key(&(unit, vote.worker));
            let alike = |vote: &&UnitVote| vote.platform == platform && !job.bars(vote.worker, platform);
            votes.filter(|vote| vote.value == *value).filter(own).filter(alike).map(|vote| vote.worker).collect::<BTreeSet<_>>()
        };
        let liars: Vec<BTreeSet<PeerId>> = wrong.iter().map(of_value).collect();
        // Two keys signed the same wrong thing.
        job.audit.collusion |= liars.iter().any(|liars| liars.len() > 1);
        let caught = liars.into_iter().flatten().filter(|worker| !self.trust.is_barred(*worker, now));
        let (convict, barred) = caught.partition(|worker| !job.is_foreign() || job.leased_itself(unit, *worker));
        let mut queue = VecDeque::from([(id, unit)]);
        let concerned = self.apply(now, id, Consequences { convict, barred, ..Consequences::default() }, &mut queue);
        self.judge_all(now, queue);
        for id in concerned {
            self.keep_findings(id);
        }
    }
}
