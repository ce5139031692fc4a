//! What holds for any ballots whatever: drawn at random, far stranger than a coordinator would ever see.

use super::*;
use crate::protocol::outcome::Exit;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

const ROUNDS: usize = 20_000;

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, below: u32) -> u32 {
        self.0.next_u32() % below
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    fn ballot(&mut self, at: u32) -> Ballot {
        use Weight::{Excused, Newcomer, Proven, SetAside, Struck};
        let weight = self.one_of(&[Newcomer, Newcomer, Proven, Proven, Proven, Struck, Excused, SetAside]);
        let position = if self.below(8) == 0 { self.below(at + 1) } else { at };
        Ballot {
            worker: PeerId([self.below(10) as u8; 32]),
            weight,
            anchor: weight == Proven && self.below(8) == 0,
            prefix: (self.below(3) == 0).then(|| Prefix(u64::from(self.below(4)))),
            lineage: (self.below(4) == 0).then(|| PeerId([self.below(12) as u8; 32])),
            ordinal: if self.below(4) == 0 { self.below(position + 1) } else { position },
            position,
            platform: self.one_of(&[Platform::X86_64, Platform::X86_64, Platform::Aarch64, Platform::Riscv64]),
            value: value(self.one_of(&[7, 7, 7, 6, 5])),
            rests_on: self.rests_on(),
        }
    }

    /// Now and then a vote rests on somebody, who may vote as well.
    fn rests_on(&mut self) -> [Option<Author>; AUTHORS_MAX] {
        let mut found = NOBODY;
        if self.below(5) == 0 {
            for place in found.iter_mut().take(1 + self.0.next_u32() as usize % 2) {
                let prefix = (self.below(3) == 0).then(|| Prefix(u64::from(self.below(4))));
                let lineage = (self.below(4) == 0).then(|| PeerId([self.below(12) as u8; 32]));
                *place = Some(Author { worker: PeerId([self.below(10) as u8; 32]), prefix, lineage });
            }
        }
        found
    }

    fn ballots(&mut self) -> Vec<Ballot> {
        let count = 1 + self.below(7);
        let mut ballots: Vec<Ballot> = (0..count).map(|at| self.ballot(at)).collect();
        if self.below(4) == 0 {
            let at = self.below(count) as usize;
            (ballots[at].weight, ballots[at].worker, ballots[at].anchor) = (Weight::Owner, PeerId([99; 32]), false);
            ballots[at].rests_on = NOBODY;
        }
        // What is known of a voter is the same for all of its ballots.
        for at in 0..ballots.len() {
            let first = ballots.iter().position(|ballot| ballot.worker == ballots[at].worker).unwrap_or(at);
            let Ballot { weight, anchor, prefix, lineage, .. } = ballots[first];
            let rests_on = if weight == Weight::Owner { NOBODY } else { ballots[at].rests_on };
            ballots[at] = Ballot { weight, anchor, prefix, lineage, rests_on, ..ballots[at] };
        }
        ballots
    }

    fn rules(&mut self) -> Rules {
        let mut reach = Reach::default();
        for trusted in &mut reach.trusted {
            *trusted = Trusted { anchors: self.below(6) / 5, proven: self.below(4) };
        }
        for platform in Platform::ALL {
            if self.below(3) == 0 {
                reach.at_hand.insert(platform);
            }
        }
        reach.owner = self.one_of(&[None, None, Some(Platform::X86_64), Some(Platform::Aarch64)]);
        let need = 1 + self.below(3) as usize;
        Rules { need, provisional_allowed: self.below(2) == 0, collusion: self.below(2) == 0, absent: 0, reach }
    }
}

fn value(n: u8) -> Value {
    Value { exit: Exit::Code(0), output: Digest([n; 32]), gas: 1000, chain: None }
}

fn accepted(judgement: &Judgement) -> Option<(Value, bool)> {
    match judgement.decision {
        Decision::Accept { value, by_owner } => Some((value, by_owner)),
        Decision::Provisional { .. } | Decision::Disputed | Decision::Want(_) | Decision::SetAside { .. } => None,
    }
}

/// Calls `check` for many ballots and rules. How often it said that it had something to check must not be too rare.
fn for_many(seed: u64, at_least: usize, check: impl Fn(&[Ballot], Rules, &mut Draw) -> bool) {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
    let mut checked = 0;
    for _ in 0..ROUNDS {
        let (ballots, rules) = (draw.ballots(), draw.rules());
        checked += usize::from(check(&ballots, rules, &mut draw));
    }
    assert!(checked >= at_least, "only {checked} of {ROUNDS} had anything to check");
}

#[test]
fn neither_order_nor_repetition_matters() {
    for_many(1, ROUNDS, |ballots, rules, draw| {
        let expected = accept(ballots, rules);
        let mut again = ballots.to_vec();
        for _ in 0..draw.below(4) {
            again.push(draw.one_of(ballots));
        }
        for at in (1..again.len()).rev() {
            again.swap(at, draw.below(at as u32 + 1) as usize);
        }
        assert_eq!(accept(&again, rules), expected, "{ballots:?}\n{again:?}");
        true
    });
}

#[test]
fn no_two_counted_votes_share_key_network_or_lineage_nor_were_leased_together() {
    for_many(2, ROUNDS / 4, |ballots, _, _| {
        let ballots = in_order(ballots);
        let counted = counted_ballots(&ballots, value(7));
        for (n, &second) in counted.iter().enumerate() {
            let b = &ballots[second];
            assert!(matches!(b.weight, Weight::Owner | Weight::Proven | Weight::Newcomer), "{b:?}");
            for &first in &counted[..n] {
                let a = &ballots[first];
                assert_ne!(a.worker, b.worker);
                assert!(a.prefix.is_none() || a.prefix != b.prefix, "{a:?}\n{b:?}");
                assert!(a.lineage.is_none() || a.lineage != b.lineage, "{a:?}\n{b:?}");
                assert!(a.lineage != Some(b.worker) && b.lineage != Some(a.worker), "{a:?}\n{b:?}");
                assert!(b.ordinal > a.position || a.anchor || b.anchor, "{a:?}\n{b:?}");
                for (one, other) in a.behind().flat_map(|one| b.behind().map(move |other| (one, other))) {
                    assert_ne!(one.worker, other.worker, "{a:?}\n{b:?}");
                    assert!(one.prefix.is_none() || one.prefix != other.prefix, "{a:?}\n{b:?}");
                    assert!(one.lineage.is_none() || one.lineage != other.lineage, "{a:?}\n{b:?}");
                }
            }
        }
        counted.len() > 1
    });
}

#[test]
fn nobody_convicted_or_set_aside_weighs_anything() {
    for_many(3, ROUNDS / 4, |ballots, rules, _| {
        let judgement = accept(ballots, rules);
        let weighs = |ballot: &Ballot| matches!(ballot.weight, Weight::Owner | Weight::Proven | Weight::Newcomer);
        let named = [&judgement.excuse, &judgement.credit].into_iter().flatten();
        assert!(named.into_iter().all(|worker| ballots.iter().any(|ballot| ballot.worker == *worker && weighs(ballot))), "{judgement:?}");
        let without: Vec<Ballot> = ballots.iter().filter(|ballot| weighs(ballot)).copied().collect();
        let bare = accept(&without, rules);
        // But for those who are asked because of somebody excused, who weighs nothing and may still be convicted.
        if ballots.iter().all(|ballot| ballot.weight != Weight::Excused) {
            assert_eq!((bare.decision, &bare.convict, &bare.excuse), (judgement.decision, &judgement.convict, &judgement.excuse));
        }
        without.len() < ballots.len()
    });
}

#[test]
fn a_vote_out_of_sequence_adds_no_weight() {
    for_many(4, ROUNDS / 8, |ballots, rules, draw| {
        let ordered = in_order(ballots).into_owned();
        let counted = counted_ballots(&ordered, value(7));
        let Some(first) = counted.first().map(|&at| ordered[at]).filter(|first| !first.anchor) else { return false };
        let mut late = draw.ballot(20);
        (late.worker, late.anchor, late.ordinal, late.position, late.value) = (PeerId([50; 32]), false, first.position, 20, value(7));
        let mut more = ordered.clone();
        more.push(late);
        assert_eq!(counted_ballots(&more, value(7)), counted, "{ordered:?}\n{late:?}");
        let values: BTreeSet<Value> = ordered.iter().map(|ballot| ballot.value).collect();
        if values.len() == 1 {
            assert_eq!(accept(&more, rules).decision, accept(&ordered, rules).decision, "{ordered:?}\n{late:?}");
        }
        true
    });
}

#[test]
fn more_proven_voters_who_agree_never_verify_another_value() {
    for_many(5, ROUNDS / 20, |ballots, rules, draw| {
        let Some((value, by_owner)) = accepted(&accept(ballots, rules)) else { return false };
        let mut more = ballots.to_vec();
        for n in 0..1 + draw.below(3) {
            let (position, platform) = (20 + n, draw.one_of(&Platform::ALL));
            let (anchor, prefix, lineage, worker) = (false, None, None, PeerId([50 + n as u8; 32]));
            more.push(Ballot {
                worker,
                weight: Weight::Proven,
                anchor,
                prefix,
                lineage,
                ordinal: position,
                position,
                platform,
                value,
                rests_on: NOBODY,
            });
            let judgement = accept(&more, rules);
            let alone = |ballot: &Ballot| ballot.weight != Weight::Proven || ballot.value == value;
            match accepted(&judgement) {
                Some(now) => assert_eq!(now, (value, by_owner), "{more:?}"),
                // Where others who are proven disagree, a voter of their instruction set makes it a quarrel that the owner settles.
                None => assert!(!more.iter().all(alone), "{more:?}\n{judgement:?}"),
            }
        }
        true
    });
}

#[test]
fn the_owners_value_always_stands() {
    for_many(6, ROUNDS / 8, |ballots, rules, _| {
        let Some(owner) = ballots.iter().find(|ballot| ballot.weight == Weight::Owner) else { return false };
        let judgement = accept(ballots, rules);
        let stands = Decision::Accept { value: owner.value, by_owner: true };
        match judgement.decision {
            Decision::Accept { .. } => assert_eq!(judgement.decision, stands),
            // It waits for a witness, or for those whose machines differ to be set aside; never for another value.
            Decision::Want(Voter::OnPlatform(platform)) => assert!(rules.reach.at_hand.contains(platform)),
            Decision::SetAside { platforms, against } => {
                assert!(!platforms.contains(owner.platform) && against.contains(owner.platform));
            }
            Decision::Provisional { .. } | Decision::Disputed | Decision::Want(Voter::Anyone | Voter::Proven) => panic!("{judgement:?}"),
        }
        let nobody = Rules { reach: Reach { at_hand: Platforms::NONE, ..rules.reach }, ..rules };
        assert!(matches!(accept(ballots, nobody).decision, Decision::Accept { .. } | Decision::SetAside { .. }));
        assert!(!judgement.convict.contains(&owner.worker));
        true
    });
}

#[test]
fn nobody_is_convicted_but_by_somebody_trusted_of_its_own_instruction_set() {
    for_many(7, ROUNDS / 20, |ballots, rules, _| {
        let judgement = accept(ballots, rules);
        let ballots = in_order(ballots);
        for worker in &judgement.convict {
            let convict = ballots.iter().find(|ballot| ballot.worker == *worker).unwrap();
            let trusted = |ballot: &Ballot| matches!(ballot.weight, Weight::Owner | Weight::Proven);
            let contradicts = |ballot: &Ballot| ballot.value != convict.value && ballot.platform == convict.platform;
            assert!(ballots.iter().any(|ballot| trusted(ballot) && contradicts(ballot)), "{ballots:?}\n{judgement:?}");
            assert!(!matches!(convict.weight, Weight::Struck | Weight::SetAside | Weight::Owner));
            assert!(!judgement.excuse.contains(worker) && !judgement.credit.contains(worker));
        }
        !judgement.convict.is_empty()
    });
}

#[test]
fn who_went_on_from_anothers_checkpoint_is_neither_credited_nor_blamed() {
    for_many(8, ROUNDS / 4, |ballots, rules, _| {
        let judgement = accept(ballots, rules);
        let ordered = in_order(ballots);
        let shared = || ordered.iter().filter(|ballot| ballot.is_shared());
        for ballot in shared() {
            for named in [&judgement.convict, &judgement.excuse, &judgement.credit] {
                assert!(!named.contains(&ballot.worker), "{ballots:?}\n{judgement:?}");
            }
        }
        shared().next().is_some()
    });
}

#[test]
fn a_contradicted_share_is_as_if_it_had_not_been_cast() {
    for_many(9, ROUNDS / 8, |ballots, rules, _| {
        let ordered = in_order(ballots).into_owned();
        let values: BTreeSet<Value> = ordered.iter().filter(|ballot| is_live(ballot)).map(|ballot| ballot.value).collect();
        if values.len() < 2 || !ordered.iter().any(Ballot::is_shared) {
            return false;
        }
        let without: Vec<Ballot> = ordered.iter().filter(|ballot| !ballot.is_shared()).copied().collect();
        assert_eq!(accept(&ordered, rules), accept(&without, rules), "{ordered:?}");
        true
    });
}

#[test]
fn a_share_beside_its_authors_vote_adds_no_weight() {
    for_many(10, ROUNDS / 8, |ballots, rules, draw| {
        let ordered = in_order(ballots).into_owned();
        let counted = counted_ballots(&ordered, value(7));
        let values: BTreeSet<Value> = ordered.iter().filter(|ballot| is_live(ballot)).map(|ballot| ballot.value).collect();
        let Some(first) = counted.first().map(|&at| ordered[at]).filter(|_| values.len() == 1) else { return false };
        let mut share = Ballot { worker: PeerId([50; 32]), position: 20, ordinal: 20, value: value(7), anchor: false, ..draw.ballot(20) };
        (share.prefix, share.lineage, share.weight, share.rests_on) = (None, None, Weight::Newcomer, NOBODY);
        share.rests_on[0] = first.behind().next();
        let mut more = ordered.clone();
        more.push(share);
        assert_eq!(counted_ballots(&more, value(7)), counted, "{more:?}");
        assert_eq!(accept(&more, rules).decision, accept(&ordered, rules).decision, "{more:?}");
        true
    });
}

#[test]
fn shared_weight_is_never_more_than_either() {
    use Weight::{Excused, Newcomer, Owner, Proven, SetAside, Struck};
    let all = [Struck, SetAside, Excused, Newcomer, Proven, Owner];
    for (at, one) in all.into_iter().enumerate() {
        for (other_at, other) in all.into_iter().enumerate() {
            let least = all[at.min(other_at)];
            assert_eq!(one.shared(other), if least == Owner { Proven } else { least });
        }
    }
}

#[test]
fn without_the_owner_a_dispute_is_decided_by_a_lead_of_so_many_independent_proven_voters_and_by_no_fewer() {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(8));
    let mut decided = 0;
    for _ in 0..ROUNDS / 4 {
        let (jurors, wrong_in) = (18 + draw.below(14), 2 + draw.below(20));
        let mut ballots: Vec<Ballot> = Vec::new();
        for at in 0..jurors {
            let said = if at == 0 || (at > 1 && draw.below(wrong_in) == 0) { 6 } else { 7 };
            let weight = if draw.below(20) == 0 { Weight::Newcomer } else { Weight::Proven };
            let prefix = (draw.below(10) == 0).then(|| Prefix(u64::from(draw.below(4))));
            let drawn = draw.ballot(at);
            let (worker, ordinal, position) = (PeerId([100 + at as u8; 32]), at.min(2), at);
            let quiet = Ballot { anchor: false, lineage: None, platform: Platform::X86_64, rests_on: NOBODY, ..drawn };
            ballots.push(Ballot { worker, weight, prefix, ordinal, position, value: value(said), ..quiet });
        }
        (ballots[0].weight, ballots[1].weight) = (Weight::Proven, Weight::Proven);
        let proven = |said: u8| ballots.iter().filter(move |b| b.weight == Weight::Proven && b.value == value(said));
        let networks: BTreeSet<Prefix> = proven(7).filter_map(|ballot| ballot.prefix).collect();
        let agreeing = proven(7).filter(|ballot| ballot.prefix.is_none()).count() + networks.len();
        let absent = draw.below(3) as usize;
        let enough = agreeing >= JURY_LEAD + absent + proven(6).count();
        let judgement = accept(&ballots, Rules { absent, ..draw.rules() });
        assert_eq!(accepted(&judgement), enough.then_some((value(7), false)), "{ballots:?}");
        let liars: BTreeSet<PeerId> = ballots.iter().filter(|ballot| ballot.value == value(6)).map(|ballot| ballot.worker).collect();
        let convicted: BTreeSet<PeerId> = judgement.convict.into_iter().collect();
        assert_eq!(convicted, if enough { liars } else { BTreeSet::new() });
        assert_eq!(jurors_missing(&ballots, absent) == 0, enough, "{ballots:?}");
        decided += usize::from(enough);
    }
    assert!((ROUNDS / 40..ROUNDS / 5).contains(&decided), "{decided}");
}
