//! Proven voters stand behind several values: who decides.

use super::{Ballot, Decision, Judgement, Platforms, Rules, Tally, Trusted, Value, Voter, Weight, independent, settle, tally};
use crate::protocol::{platform::Platform, verify::Reach};
use core::cmp::Reverse;
use std::collections::BTreeSet;

/// So many proven voters more than all who contradict them decide a dispute without the owner. Where a share f of the proven conspires, and
/// one of them spoke first, the wrong side comes so far with a probability of about (f / (1 - f)) to the 15th (the ruin of a gambler):
/// 3e-6 for the 30 % of a coup, 1e-9 for a fifth; a few times that where they vote before all others. That is far below what two or three
/// equal votes let pass.
///
/// A juror who was drawn and does not answer counts as one who contradicts: else conspirators would only have to answer sooner than others.
///
/// All of them may be asked at once, although votes count only in sequence elsewhere: whoever conspires against a unit that is in dispute
/// already can ask its fellows whether they have lied about it.
pub const JURY_LEAD: usize = 16;

/// How many more independent proven voters stand behind `value` than behind all others.
pub(super) fn lead(ballots: &[Ballot], value: Value) -> usize {
    let proven = || ballots.iter().filter(|ballot| ballot.weight == Weight::Proven && !ballot.is_shared());
    let mut agreeing: Vec<&Ballot> = Vec::new();
    for ballot in proven().filter(|ballot| ballot.value == value) {
        if agreeing.iter().all(|other| independent(other, ballot)) {
            agreeing.push(ballot);
        }
    }
    agreeing.len().saturating_sub(proven().filter(|ballot| ballot.value != value).count())
}

/// How many more proven voters it would take at least to decide between values that proven voters hold, if all said the same; none where
/// they hold one value at most, which is nothing for a jury. `absent` jurors gave no answer, see [`Rules::absent`].
pub fn jurors_missing(ballots: &[Ballot], absent: usize) -> usize {
    let held: BTreeSet<Value> = ballots.iter().filter(|ballot| ballot.weight == Weight::Proven).map(|ballot| ballot.value).collect();
    let best = held.iter().map(|value| lead(ballots, *value)).max().unwrap_or(0);
    if held.len() > 1 { (JURY_LEAD + absent).saturating_sub(best) } else { 0 }
}

/// Whether a jury has decided for `value`, of whom so many gave no answer.
pub(super) fn jury_decided(ballots: &[Ballot], value: Value, absent: usize) -> bool {
    ballots.len() >= JURY_LEAD && lead(ballots, value) >= JURY_LEAD + absent
}

/// Proven voters stand behind several values: the owner decides, or a jury of very many. Where the owner's machine runs nothing, and no
/// instruction set has proven voters on two sides, fewer votes can: of the side whose instruction sets have more proven workers here, which
/// must be confirmed by somebody who was drawn when the quarrel was known, so that no two who happened to meet decide it.
pub(super) fn adjudicate(ballots: &[Ballot], held: &[Value], rules: Rules) -> Judgement {
    if let Some(value) = held.iter().find(|value| jury_decided(ballots, **value, rules.absent)) {
        return settle(ballots, *value, false, rules);
    }
    let sides: Vec<Side> = held.iter().map(|value| Side::new(ballots, *value, &rules.reach)).collect();
    let apart = (1..sides.len()).all(|at| sides[..at].iter().all(|other| !other.platforms.meets(sides[at].platforms)));
    let strongest = sides.iter().max_by_key(|side| (side.here, side.tally.proven, Reverse(side.value)));
    let (Some(leader), None, true) = (strongest, rules.reach.owner, apart) else { return Judgement::of(Decision::Disputed) };
    let known_at = sides.iter().map(|side| side.first_proven).max().unwrap_or(0);
    let confirms = |ballot: &Ballot| ballot.value == leader.value && ballot.weight == Weight::Proven && ballot.ordinal > known_at;
    if leader.tally.proven >= 2 && ballots.iter().any(confirms) {
        return settle(ballots, leader.value, false, rules);
    }
    let asked = leader.platforms.iter().find(|platform| rules.reach.at_hand.contains(*platform));
    Judgement::of(asked.map_or(Decision::Disputed, |platform| Decision::Want(Voter::OnPlatform(platform))))
}

/// One of several values that proven voters stand behind.
struct Side {
    value: Value,
    tally: Tally,
    /// Of its proven voters.
    platforms: Platforms,
    /// Where the first of them stands.
    first_proven: u32,
    /// Workers of its instruction sets.
    here: Trusted,
}

impl Side {
    fn new(ballots: &[Ballot], value: Value, reach: &Reach) -> Self {
        let proven = || ballots.iter().filter(|ballot| ballot.value == value && ballot.weight == Weight::Proven);
        let platforms: Platforms = proven().map(|ballot| ballot.platform).collect();
        let here = Platform::ALL.iter().zip(reach.trusted).filter(|(platform, _)| platforms.contains(**platform));
        let here =
            here.fold(Trusted::default(), |sum, (_, one)| Trusted { anchors: sum.anchors + one.anchors, proven: sum.proven + one.proven });
        let first_proven = proven().map(|ballot| ballot.position).min().unwrap_or(0);
        Self { value, tally: tally(ballots, value), platforms, first_proven, here }
    }
}
