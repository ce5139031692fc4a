//! How one unit of an own job is judged, and what follows: its phase, what it wants next, whom it credits or convicts.
//!
//! The decision itself is `verify::accept`; this file feeds it and applies it.

use super::{
    foreign::taken_here,
    own_job::{Consequences, OwnJob},
    roster::Roster,
    unit::{FAILED_WORKERS_KEPT, FailureRecord, Phase, Unit, UnitVote, Want},
};
use crate::protocol::{
    checkpoint::Authors,
    fact::{Fact, Failures, Nondeterminism, Origin, Verdict},
    ids::{PeerId, UnitIndex},
    job::Policy,
    outcome::AttemptFailure,
    platform::{Platform, Platforms},
    time::Instant,
    trust::{Trust, VoterFacts},
    verify::{self, Author, Ballot, Decision, Judgement, NOBODY, Reach, Rules, Voter, Weight},
};
use std::collections::{BTreeMap, BTreeSet};

/// So many proven peers, each counted once, and attempts of the owner's own failed: then the unit has failed.
const FAILURES_BY_PROVEN_MAX: usize = 3;
/// Failed attempts by anybody after which a unit has failed once all who could be asked have failed on it, so that none is tried for
/// ever where few are attached.
pub(super) const FAILURES_MAX: u32 = 12;
/// Failed attempts by newcomers after which proven peers try, so that no swarm of new keys makes units fail.
const FAILURES_BY_NEWCOMERS_MAX: u32 = 3;

/// What a judgement needs to know of the world around the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// This peer.
    pub owner: PeerId,
    /// Few proven peers are attached: equal newcomers may be shown as provisional.
    pub cold: bool,
    /// The owner's slots or a proven peer are attached, so a proven vote can be had.
    pub proven_within_reach: bool,
    /// Who is attached.
    pub roster: &'a Roster,
}

impl OwnJob {
    /// Judges one unit and applies the judgement.
    pub fn judge(&mut self, index: UnitIndex, trust: &mut Trust, around: &Surroundings<'_>, out: &mut Consequences) {
        if self.units[index.0 as usize].by_author {
            return;
        }
        let mut ballots = self.ballots(index, trust, around.owner);
        ballots.extend(self.check(index, &ballots, around.owner));
        let rules = Rules { reach: self.reach(index, &ballots, trust, around), ..self.rules(index, &ballots, trust, around.cold) };
        let Judgement { decision, convict, excuse, collusion, credit } = verify::accept(&ballots, rules);
        if let Decision::SetAside { platforms, against } = decision {
            self.set_aside_for_good(index, platforms, against, out);
            return;
        }
        let decision = self.with_output(index, decision);
        self.audit.collusion |= collusion;
        self.convict(index, convict.into_iter().collect(), &ballots, out);
        if let Decision::Accept { value, .. } = decision {
            out.acquit = self.acquitted_by(index, value);
        }
        excuse.into_iter().for_each(|worker| self.excuse(worker, &ballots, out));
        let failed = matches!(self.units[index.0 as usize].phase, Phase::Failed);
        // Two have computed a disputed unit: what jurors say of their machines makes it no failure.
        let of_others = !matches!(decision, Decision::Disputed);
        let exhausted = failed || self.failures.get(&index).is_some_and(|record| self.is_exhausted(record, of_others, trust, around));
        let phase = match decision {
            Decision::Accept { value, by_owner } => Phase::Verified { value, by_owner },
            Decision::Provisional { .. } | Decision::Disputed | Decision::SetAside { .. } | Decision::Want(_) if exhausted => Phase::Failed,
            Decision::Provisional { value } => Phase::Provisional(value),
            Decision::Disputed => Phase::Disputed,
            Decision::SetAside { .. } | Decision::Want(_) => match self.units[index.0 as usize].phase {
                Phase::Verified { .. } | Phase::Reopened => Phase::Reopened,
                Phase::Open | Phase::Failed | Phase::Provisional(_) | Phase::Disputed => Phase::Open,
            },
        };
        self.settle(index, phase, (&ballots, &credit), trust, out);
        self.note_checks(index, &ballots);
        if self.stays_before_jury(index, &ballots) || self.bisects(index, decision, &ballots, around, out) {
            self.wanted.remove(index);
        } else {
            self.want(index, decision, around);
        }
    }

    /// Machines of these instruction sets say something else than the others: none of their votes counts from now on.
    fn set_aside_for_good(&mut self, index: UnitIndex, platforms: Platforms, against: Platforms, out: &mut Consequences) {
        let before = self.nondeterminism.unwrap_or(Nondeterminism { unit: index, set_aside: Platforms::NONE, against });
        let (set_aside, against) = (before.set_aside.union(platforms), before.against.union(against));
        self.nondeterminism = Some(Nondeterminism { set_aside, against, ..before });
        out.set_aside = platforms;
        let concerned = |unit: &Unit| unit.votes.iter().any(|vote| platforms.contains(vote.platform));
        out.again.extend((0..).map(UnitIndex).zip(&self.units).filter(|(_, unit)| concerned(unit)).map(|(index, _)| index));
    }

    /// The worker's dissent may be its instruction set's doing: none of its votes in this job counts from now on.
    fn excuse(&mut self, worker: PeerId, ballots: &[Ballot], out: &mut Consequences) {
        let platforms = ballots.iter().filter(|ballot| ballot.worker == worker).map(|ballot| ballot.platform).collect();
        if self.excused.insert(worker, platforms).is_none() {
            out.excused.insert(worker);
            out.again.extend(self.voted_on.get(&worker).into_iter().flatten());
        }
    }

    /// Who could say whether an instruction set explains a dissent. Looked for only where there may be one.
    fn reach(&self, index: UnitIndex, ballots: &[Ballot], trust: &Trust, around: &Surroundings<'_>) -> Reach {
        let quarrel = ballots.iter().any(|ballot| ballot.value != ballots[0].value && ballot.weight != Weight::Struck);
        if !quarrel || ballots.iter().all(|ballot| ballot.platform == ballots[0].platform) {
            return Reach::default();
        }
        let owner = around.roster.get(around.owner).filter(|_| around.roster.is_working(around.owner)).map(|worker| worker.platform);
        let mut reach = Reach { owner, ..Reach::default() };
        let (gas, gas_here) = (self.gas_estimate(), self.gas_of(index));
        // Those who are away now are known by their votes: what a split of the network hides must not decide which machines stay.
        let mut trusted: BTreeMap<PeerId, Platform> = BTreeMap::new();
        for (peer, units) in &self.voted_on {
            let votes = units.last().and_then(|unit| self.unit(*unit)).map_or(&[][..], |unit| &unit.votes);
            trusted.extend(votes.iter().filter(|vote| vote.worker == *peer).map(|vote| (*peer, vote.platform)));
        }
        for peer in around.roster.working() {
            let Some(worker) = around.roster.get(peer) else { continue };
            trusted.insert(peer, worker.platform);
            let failed = self.failures.get(&index).is_some_and(|record| record.workers.contains(&peer));
            let may_vote = peer != around.owner && self.trusts(peer, gas_here, trust) && !self.bars(peer, worker.platform);
            if may_vote && !failed && trust.rest(peer).is_none() && self.is_independent(index, peer, trust) {
                reach.at_hand.insert(worker.platform);
            }
        }
        for (peer, platform) in trusted {
            let may_count = peer != around.owner && self.trusts(peer, gas, trust) && !self.bars(peer, platform);
            let here = &mut reach.trusted[platform as usize];
            here.proven += u32::from(may_count);
            here.anchors += u32::from(may_count && trust.voter(peer, gas).anchor);
        }
        reach
    }

    /// Whether a vote of this worker's would be independent of all that the unit has.
    pub fn is_independent(&self, index: UnitIndex, worker: PeerId, trust: &Trust) -> bool {
        let Some(unit) = self.unit(index) else { return false };
        let (prefix, lineage) = (trust.prefix(worker), trust.lineage(worker));
        let mut votes = unit.votes.iter().filter(|vote| vote.worker == worker || !vote.struck);
        let strangers = |voter: PeerId| {
            let other = trust.lineage(voter);
            voter != worker
                && (prefix.is_none() || trust.prefix(voter) != prefix)
                && (lineage.is_none() || (other != lineage && lineage != Some(voter)))
                && other != Some(worker)
        };
        votes.all(|vote| strangers(vote.worker) && self.authors(index, vote.worker).iter().all(strangers))
    }

    /// Keeps count of what the decided unit's votes say beyond its decision.
    pub fn note_checks(&mut self, index: UnitIndex, ballots: &[Ballot]) {
        let unit = &mut self.units[index.0 as usize];
        let (mut clean, mut contradicted) = (false, false);
        if let Phase::Verified { value, by_owner } = unit.phase {
            let unanimous = ballots.iter().all(|ballot| ballot.value == value);
            // One more than the policy asks for, or the owner's machine beside another's.
            let usual = match self.manifest.policy {
                Policy::Economy => 1,
                Policy::Standard => 2,
                Policy::Strict => 3,
            };
            let beyond = if by_owner { ballots.len() > 1 } else { verify::counted_ballots(ballots, value).len() > usual };
            clean = unanimous && beyond;
            let explained = |ballot: &Ballot| matches!(ballot.weight, Weight::Excused | Weight::SetAside);
            contradicted = ballots.iter().any(|ballot| ballot.value != value && explained(ballot));
        }
        self.clean_audits = self.clean_audits + u32::from(clean) - u32::from(core::mem::replace(&mut unit.clean_audit, clean));
        if contradicted {
            self.contradicted.insert(index);
        } else {
            self.contradicted.remove(&index);
        }
    }

    /// What the unit takes, for the weight of records. The lowest claim counts where nothing is known: a liar's high one must not devalue
    /// everybody's record.
    pub fn gas_of(&self, index: UnitIndex) -> u64 {
        let votes = self.unit(index).map(|unit| &*unit.votes).unwrap_or_default();
        self.gas_estimate().max(votes.iter().map(|vote| vote.value.gas).min().unwrap_or(0))
    }

    /// The votes with what is known about the voters now.
    pub fn ballots(&self, index: UnitIndex, trust: &Trust, owner: PeerId) -> Vec<Ballot> {
        let votes = self.unit(index).map(|unit| &*unit.votes).unwrap_or_default();
        let gas = self.gas_of(index);
        let checked = votes.iter().any(|vote| vote.worker == owner);
        let ballot = |vote: &UnitVote| {
            let known = self.voter(vote.worker, gas, trust);
            let weight = match vote {
                vote if vote.worker == owner => Weight::Owner,
                UnitVote { struck: true, .. } => Weight::Struck,
                vote if self.set_aside().contains(vote.platform) => Weight::SetAside,
                vote if self.excused.contains_key(&vote.worker) => Weight::Excused,
                // Whoever collected them could make up newcomers: they count beside a vote that was taken here. And it could withhold the
                // rest: what is not compared with others is held against nobody, unless the owner knows better.
                UnitVote { origin: Origin::Collected { .. }, value, .. }
                    if known.weight == Weight::Newcomer && !taken_here(votes, *value) =>
                {
                    if checked {
                        Weight::Excused
                    } else {
                        Weight::SetAside
                    }
                }
                _ => known.weight,
            };
            let VoterFacts { weight: _, anchor, prefix, lineage } = known;
            let UnitVote { worker, ordinal, position, platform, value, .. } = *vote;
            let ballot = Ballot { worker, weight, anchor, prefix, lineage, ordinal, position, platform, value, rests_on: NOBODY };
            self.shared(ballot, index, trust, owner, gas)
        };
        votes.iter().map(ballot).collect()
    }

    /// On whose checkpoints a vote rests.
    pub fn authors(&self, index: UnitIndex, worker: PeerId) -> Authors {
        self.rests.get(&(index, worker)).copied().unwrap_or_default()
    }

    /// A ballot with all who stand behind it.
    fn shared(&self, mut ballot: Ballot, index: UnitIndex, trust: &Trust, owner: PeerId, gas: u64) -> Ballot {
        let authors = self.authors(index, ballot.worker);
        for (place, author) in ballot.rests_on.iter_mut().zip(authors.iter()) {
            let VoterFacts { weight, anchor, prefix, lineage } = trust.voter(author, gas);
            let weight = match weight {
                _ if author == owner => Weight::Owner,
                _ if self.excused.contains_key(&author) => Weight::Excused,
                weight => weight,
            };
            ballot.weight = ballot.weight.shared(weight);
            ballot.anchor &= anchor || author == owner;
            *place = Some(Author { worker: author, prefix, lineage });
        }
        ballot
    }

    /// What holds for a unit with these votes.
    pub fn rules(&self, index: UnitIndex, ballots: &[Ballot], trust: &Trust, cold: bool) -> Rules {
        // The owner's vote stands whatever the rules are, and the secret numbers cost a digest each.
        if ballots.is_empty() || ballots.iter().any(|ballot| ballot.weight == Weight::Owner) {
            return Rules { need: 2, provisional_allowed: false, collusion: false, absent: 0, reach: Reach::default() };
        }
        // The owner's own devices and friends are not audited: two of them alone could finish no job.
        let live = || ballots.iter().filter(|ballot| matches!(ballot.weight, Weight::Proven | Weight::Newcomer));
        let anchored = live().all(|ballot| ballot.anchor);
        let audited = !anchored && self.secret.audit_number(index) < self.audit_rate.max(self.audit_floor(index));
        let record = live().next().filter(|ballot| ballot.weight == Weight::Proven).map(|ballot| {
            let behind = core::iter::once(ballot.worker).chain(self.authors(index, ballot.worker).iter());
            let records = behind.map(|peer| self.record_in_units(peer, self.gas_estimate(), trust));
            records.min().unwrap_or(0).max(verify::PROVEN_UNITS)
        });
        let need = verify::votes_needed(self.manifest.policy, audited, || self.secret.lottery_number(index), record, self.audit_rate);
        // Where few are proven there may never be so many.
        let (provisional_allowed, collusion) = (cold && !self.audit.collusion, !cold && self.audit.collusion);
        Rules { need, provisional_allowed, collusion, absent: self.juries.absent(index, ballots), reach: Reach::default() }
    }

    /// Brings the unit into `phase`, with all that hangs on it.
    fn settle(
        &mut self,
        index: UnitIndex,
        phase: Phase,
        (ballots, credit): (&[Ballot], &[PeerId]),
        trust: &mut Trust,
        out: &mut Consequences,
    ) {
        let before = self.units[index.0 as usize].phase;
        self.adjust_credit(index, phase, (ballots, credit), trust, out);
        if before == phase {
            return;
        }
        let verdict = match (before.is_decided(), phase) {
            (_, Phase::Verified { value, by_owner }) => Some(Verdict::Verified { value, by_owner }),
            (_, Phase::Failed) => Some(Verdict::Failed),
            (true, Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed) => Some(Verdict::Open),
            (false, Phase::Open | Phase::Reopened | Phase::Provisional(_) | Phase::Disputed) => None,
        };
        out.facts.extend(verdict.map(|verdict| Fact::Verdict(self.id, index, verdict)));
        self.set_phase(index, phase);
    }

    /// Credit is given to whom `credit` names, and stays for as long as the unit stays verified with the voter's value and somebody
    /// else who counts still says the same: if it also went whenever its backer is proven no longer, of two voters who back one
    /// another, one with just enough units if this is among them and one with one too few, each judgement would give it to the other.
    /// So whatever is taken was given up by a unit that was re-opened, each at most once, and what follows from a judgement ends.
    fn adjust_credit(
        &mut self,
        index: UnitIndex,
        phase: Phase,
        (ballots, credit): (&[Ballot], &[PeerId]),
        trust: &mut Trust,
        out: &mut Consequences,
    ) {
        let typical = self.gas_estimate();
        let mut proven_no_more = Vec::new();
        for vote in &mut self.units[index.0 as usize].votes {
            let stays = || matches!(phase, Phase::Verified { value, .. } if verify::keeps_credit(ballots, value, vote.worker));
            let earned = credit.contains(&vote.worker) || (vote.credited && stays());
            let due = !vote.struck && vote.origin.earns_credit() && earned;
            match (&mut self.foreign, vote.credited, due) {
                (Some(foreign), false, true) => foreign.credit(vote.worker, vote.value.gas),
                (Some(foreign), true, false) => {
                    let lost = !vote.struck && foreign.discredit(vote.worker, vote.value.gas, typical);
                    proven_no_more.extend(lost.then_some(vote.worker));
                }
                (None, false, true) => trust.credit(vote.worker, vote.value.gas),
                (None, true, false) if !vote.struck => {
                    out.before.entry(vote.worker).or_insert_with(|| trust.standing(vote.worker));
                    trust.discredit(vote.worker, vote.value.gas);
                }
                (_, true, false | true) | (_, false, false) => {
                    vote.credited = due;
                    continue;
                }
            }
            vote.credited = due;
            if self.foreign.is_none() {
                out.touched.insert(vote.worker);
            }
        }
        for worker in proven_no_more {
            out.again.extend(self.rest_on(worker));
        }
    }

    /// Enters the unit where it belongs among those that want a lease; nowhere while one is out, since votes are sequential.
    fn want(&mut self, index: UnitIndex, decision: Decision, around: &Surroundings<'_>) {
        let unit = &self.units[index.0 as usize];
        if unit.leased > 0 || unit.phase.is_decided() {
            self.wanted.remove(index);
            return;
        }
        let beyond_newcomers = |record: &FailureRecord| record.seen.count >= FAILURES_BY_NEWCOMERS_MAX && around.proven_within_reach;
        let want = match decision {
            Decision::Accept { .. } | Decision::SetAside { .. } => return,
            Decision::Want(Voter::OnPlatform(platform)) => Want::Another(Voter::OnPlatform(platform)),
            Decision::Provisional { .. } => Want::Another(Voter::Proven),
            Decision::Disputed => Want::Owner,
            Decision::Want(_) if self.failures.get(&index).is_some_and(beyond_newcomers) => Want::Another(Voter::Proven),
            Decision::Want(_) if unit.votes.iter().all(|vote| vote.struck) => Want::First,
            Decision::Want(voter) => Want::Another(voter),
        };
        self.wanted.insert(index, want);
    }

    /// An attempt ended without a value. The caller judges the unit next.
    pub fn record_failure(&mut self, now: Instant, index: UnitIndex, worker: PeerId, weight: Weight, failure: AttemptFailure) -> Fact {
        let record = self.failures.entry(index).or_insert_with(|| FailureRecord {
            seen: Failures { count: 0, last: failure },
            own: 0,
            proven: BTreeSet::new(),
            last_at: now,
            workers: BTreeSet::new(),
        });
        record.seen = Failures { count: record.seen.count.saturating_add(1), last: failure };
        match (weight, failure) {
            // What befell the owner's machine says nothing about the unit.
            (Weight::Owner, AttemptFailure::Killed | AttemptFailure::MissingBlob)
            | (Weight::Newcomer | Weight::Excused | Weight::SetAside | Weight::Struck, _) => {}
            (Weight::Owner, _) => record.own = record.own.saturating_add(1),
            (Weight::Proven, _) if record.proven.len() < FAILURES_BY_PROVEN_MAX => drop(record.proven.insert(worker)),
            (Weight::Proven, _) => {}
        }
        record.last_at = now;
        if record.workers.len() < FAILED_WORKERS_KEPT {
            record.workers.insert(worker);
        }
        Fact::Failures(self.id, index, record.seen)
    }

    /// Whether a unit has failed on enough machines: one machine alone that always fails must not make the units of others fail.
    fn is_exhausted(&self, record: &FailureRecord, of_others: bool, trust: &Trust, around: &Surroundings<'_>) -> bool {
        if record.own as usize + if of_others { record.proven.len() } else { 0 } >= FAILURES_BY_PROVEN_MAX {
            return true;
        }
        if record.seen.count < FAILURES_MAX || !of_others {
            return false;
        }
        // Where proven ones are within reach, nobody else is asked any more.
        let gas = self.gas_estimate();
        let asked = |peer: &PeerId| !around.proven_within_reach || *peer == around.owner || self.trusts(*peer, gas, trust);
        let mut could_be_asked = around.roster.working().filter(asked).peekable();
        let all_failed = could_be_asked.peek().is_some() && could_be_asked.all(|peer| record.workers.contains(&peer));
        all_failed || record.workers.len() >= FAILED_WORKERS_KEPT
    }

    /// Strikes all votes of a convicted worker. Returns the units to judge again: those that the owner did not check itself; none where
    /// it had not voted.
    pub fn strike(&mut self, worker: PeerId, was_proven: bool) -> Option<Vec<UnitIndex>> {
        let (mut again, mut any) = (Vec::new(), false);
        if let Some(foreign) = &mut self.foreign {
            foreign.forget(worker);
        }
        for &index in self.voted_on.get(&worker).into_iter().flatten() {
            let unit = &mut self.units[index.0 as usize];
            let mut found = false;
            for vote in unit.votes.iter_mut().filter(|vote| vote.worker == worker && !vote.struck) {
                vote.struck = true;
                vote.credited = false;
                found = true;
            }
            any |= found;
            if found && !matches!(unit.phase, Phase::Verified { by_owner: true, .. }) {
                again.push(index);
            }
        }
        self.audit.convicted = self.audit.convicted.saturating_add(u32::from(was_proven && any));
        any |= self.strike_what_rests_on(worker, &mut again);
        any.then_some(again)
    }

    /// Strikes the votes that rest on a checkpoint of a convicted worker. Returns whether there are any.
    fn strike_what_rests_on(&mut self, author: PeerId, again: &mut Vec<UnitIndex>) -> bool {
        let mut any = false;
        for ((index, voter), _) in self.rests.iter().filter(|(_, authors)| authors.contains(author)) {
            let unit = &mut self.units[index.0 as usize];
            let votes = unit.votes.iter_mut().filter(|vote| vote.worker == *voter && !vote.struck);
            let found = votes.map(|vote| vote.struck = true).count() > 0;
            any |= found;
            if found && !matches!(unit.phase, Phase::Verified { by_owner: true, .. }) {
                again.push(*index);
            }
        }
        any
    }

    /// The accepted units that the worker voted on: judged again when it is proven no longer.
    pub fn rest_on(&self, worker: PeerId) -> impl Iterator<Item = UnitIndex> {
        let stands = |index: &UnitIndex| matches!(self.units[index.0 as usize].phase, Phase::Verified { by_owner: false, .. });
        let shared = self.rests.iter().filter(move |(_, authors)| authors.contains(worker)).map(|((index, _), _)| *index);
        self.voted_on.get(&worker).into_iter().flatten().copied().chain(shared).filter(stands)
    }

    /// Follows the audit rate. Returns the accepted units which a higher rate now selects.
    pub fn update_audit_rate(&mut self) -> Vec<UnitIndex> {
        let before = self.audit_rate;
        self.audit_rate = self.audit.rate(self.counts.decided());
        if self.audit_rate <= before {
            return Vec::new();
        }
        let selected = |&index: &UnitIndex| {
            let number = match self.manifest.policy {
                Policy::Standard | Policy::Strict => self.secret.audit_number(index),
                Policy::Economy => self.secret.lottery_number(index),
            };
            before <= number && number < self.audit_rate
        };
        let provisional = |unit: &Unit| self.audit.collusion && matches!(unit.phase, Phase::Provisional(_));
        let standing = |unit: &Unit| matches!(unit.phase, Phase::Verified { by_owner: false, .. });
        let units = (0..).map(UnitIndex).zip(&self.units);
        units.filter(|(index, unit)| provisional(unit) || (standing(unit) && selected(index))).map(|(index, _)| index).collect()
    }
}
