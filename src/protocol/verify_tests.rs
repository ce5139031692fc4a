//! What `accept` makes of the votes on one unit.

use super::*;
use crate::protocol::outcome::Exit;

fn value(n: u8) -> Value {
    Value { exit: Exit::Code(0), output: Digest([n; 32]), gas: 1000, chain: None }
}

fn ballot(worker: u8, weight: Weight, ordinal: u32, said: u8) -> Ballot {
    let (anchor, prefix, lineage, platform) = (false, None, None, Platform::X86_64);
    // As if committed when it was leased; those leased together in the order of their workers' numbers.
    Ballot {
        worker: PeerId([worker; 32]),
        weight,
        anchor,
        prefix,
        lineage,
        ordinal,
        position: ordinal,
        platform,
        value: value(said),
        rests_on: super::NOBODY,
    }
}

const NOBODY: Reach = Reach { owner: None, at_hand: Platforms::NONE, trusted: [Trusted { anchors: 0, proven: 0 }; 5] };
const WARM: Rules = Rules { need: 2, provisional_allowed: false, collusion: false, absent: 0, reach: NOBODY };
const COLD: Rules = Rules { need: 2, provisional_allowed: true, collusion: false, absent: 0, reach: NOBODY };
use Weight::{Newcomer, Owner, Proven, Struck};

fn decide(ballots: &[Ballot], rules: Rules) -> Decision {
    accept(ballots, rules).decision
}

#[test]
fn two_equal_votes_with_one_proven_are_accepted_and_the_newcomer_is_credited() {
    let judgement = accept(&[ballot(1, Newcomer, 0, 7), ballot(2, Proven, 1, 7)], WARM);
    assert_eq!(judgement.decision, Decision::Accept { value: value(7), by_owner: false });
    assert_eq!(judgement.credit, [PeerId([1; 32])], "the proven one is backed by nobody proven");
}

#[test]
fn a_single_vote_wants_another() {
    assert_eq!(decide(&[], WARM), Decision::Want(Voter::Anyone));
    assert_eq!(decide(&[ballot(1, Proven, 0, 7)], WARM), Decision::Want(Voter::Anyone));
    assert_eq!(decide(&[ballot(1, Newcomer, 0, 7)], WARM), Decision::Want(Voter::Proven));
    assert_eq!(decide(&[ballot(1, Newcomer, 0, 7)], COLD), Decision::Want(Voter::Anyone));
}

#[test]
fn newcomers_alone_are_provisional_when_cold_and_wait_for_a_proven_vote_otherwise() {
    let pair = [ballot(1, Newcomer, 0, 7), ballot(2, Newcomer, 1, 7)];
    assert_eq!(decide(&pair, COLD), Decision::Provisional { value: value(7) });
    assert_eq!(decide(&pair, WARM), Decision::Want(Voter::Proven));
}

#[test]
fn a_vote_leased_before_the_first_was_committed_adds_no_weight() {
    let concurrent = [ballot(1, Proven, 0, 7), ballot(2, Proven, 0, 7)];
    assert_eq!(decide(&concurrent, WARM), Decision::Want(Voter::Anyone));
    let third = [concurrent[0], concurrent[1], ballot(3, Proven, 2, 7)];
    assert_eq!(decide(&third, WARM), Decision::Accept { value: value(7), by_owner: false });
}

#[test]
fn an_anchor_conspires_with_nobody_so_its_vote_counts_out_of_sequence() {
    let mut concurrent = [ballot(1, Newcomer, 0, 7), ballot(2, Proven, 0, 7), ballot(3, Newcomer, 0, 7)];
    concurrent[1].anchor = true;
    assert!(matches!(decide(&concurrent[..2], WARM), Decision::Accept { .. }));
    assert_eq!(counted_ballots(&concurrent, value(7)), [0, 1], "the third was leased before the first was committed");
}

#[test]
fn the_same_key_network_or_lineage_never_counts_twice() {
    let mut pair = [ballot(1, Proven, 0, 7), ballot(1, Proven, 1, 7)];
    assert_eq!(decide(&pair, WARM), Decision::Want(Voter::Anyone));
    pair[1].worker = PeerId([2; 32]);
    assert!(matches!(decide(&pair, WARM), Decision::Accept { .. }));
    for ballot in &mut pair {
        ballot.prefix = Some(Prefix(9));
    }
    assert_eq!(decide(&pair, WARM), Decision::Want(Voter::Anyone));
    for (ballot, prefix) in pair.iter_mut().zip([1, 2]) {
        ballot.prefix = Some(Prefix(prefix));
        ballot.lineage = Some(PeerId([3; 32]));
    }
    assert_eq!(decide(&pair, WARM), Decision::Want(Voter::Anyone));
}

#[test]
fn newcomer_against_proven_asks_a_second_proven_voter_and_convicts_the_newcomer() {
    let two = [ballot(1, Newcomer, 0, 6), ballot(2, Proven, 1, 7)];
    assert_eq!(decide(&two, WARM), Decision::Want(Voter::Proven));
    let judgement = accept(&[two[0], two[1], ballot(3, Proven, 2, 7)], WARM);
    assert!(matches!(judgement.decision, Decision::Accept { .. }));
    assert_eq!(judgement.convict, [PeerId([1; 32])]);
}

#[test]
fn where_some_conspire_two_or_three_who_meet_convict_no_newcomer() {
    let conspired = Rules { collusion: true, ..WARM };
    let mut ballots = vec![ballot(1, Newcomer, 0, 6)];
    for proven in 1..=3 {
        ballots.push(ballot(1 + proven, Proven, u32::from(proven), 7));
        let judgement = accept(&ballots, conspired);
        assert_eq!((judgement.decision, judgement.convict), (Decision::Want(Voter::Proven), vec![]), "{proven}");
    }
    ballots.push(ballot(5, Proven, 4, 7));
    assert_eq!(accept(&ballots, conspired).convict, [PeerId([1; 32])]);
    assert!(matches!(decide(&ballots[1..4], conspired), Decision::Accept { .. }), "where nobody dissents nothing changes");
}

#[test]
fn proven_against_proven_is_disputed_until_the_owner_has_run_it() {
    let two = [ballot(1, Proven, 0, 6), ballot(2, Proven, 1, 7)];
    assert_eq!(decide(&two, WARM), Decision::Disputed);
    let judgement = accept(&[two[0], two[1], ballot(9, Owner, 2, 7)], WARM);
    assert_eq!(judgement.decision, Decision::Accept { value: value(7), by_owner: true });
    assert_eq!(judgement.convict, [PeerId([1; 32])]);
    assert_eq!(judgement.credit, [PeerId([2; 32])]);
}

#[test]
fn struck_votes_neither_count_nor_conflict() {
    let votes = [ballot(1, Struck, 0, 6), ballot(2, Proven, 1, 7), ballot(3, Newcomer, 2, 7)];
    assert!(matches!(decide(&votes, WARM), Decision::Accept { .. }));
    assert_eq!(decide(&votes[..2], WARM), Decision::Want(Voter::Anyone));
}

#[test]
fn different_gas_is_a_different_value() {
    let mut votes = [ballot(1, Proven, 0, 7), ballot(2, Proven, 1, 7)];
    votes[1].value.gas += 1;
    assert_eq!(decide(&votes, WARM), Decision::Disputed);
}

#[test]
fn votes_needed_follow_the_policy() {
    let need = |policy, audited, first| votes_needed(policy, audited, || 0.5, first, AUDIT_RATE);
    assert_eq!(need(Policy::Standard, false, None), 2);
    assert_eq!(need(Policy::Standard, true, None), 3);
    assert_eq!(need(Policy::Strict, true, None), 3);
    assert_eq!(need(Policy::Economy, false, None), 2);
    assert_eq!(need(Policy::Economy, false, Some(1000)), 1);
    assert_eq!(need(Policy::Economy, false, Some(6)), 2);
}

#[test]
fn the_audit_rate_rises_with_convictions_and_selects_its_share() {
    let rate = |convicted, done| AuditState { convicted, collusion: false }.rate(done);
    assert!((rate(2, 0) - 0.05).abs() < 1e-12);
    assert!((rate(4, 0) - 0.20).abs() < 1e-12);
    assert!((rate(4, 20_000) - 0.05).abs() < 1e-12, "calmed by finished units");
    assert!((rate(99, 0) - 1.0).abs() < 1e-12);
    assert!((AuditState { convicted: 0, collusion: true }.rate(0) - 1.0).abs() < 1e-12);
    let secret = JobSecret([5; 32]);
    let audited = (0..20_000).filter(|&unit| secret.audit_number(UnitIndex(unit)) < AUDIT_RATE).count();
    assert!((900..1100).contains(&audited), "{audited} of 20,000");
}

/// A small generator of its own: the test draws many small ballots.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn drawn_ballots(state: &mut u64) -> Vec<Ballot> {
    let count = 1 + draw(state, 6) as u8;
    let weights = [Newcomer, Newcomer, Proven, Proven, Struck];
    let drawn = (0..count).map(|at| ballot(at, weights[draw(state, 5) as usize], u32::from(at), 7 + u8::from(draw(state, 4) == 0)));
    drawn.collect()
}

#[test]
fn repeated_receipts_change_nothing() {
    let mut state = 1;
    for _ in 0..2000 {
        let ballots = drawn_ballots(&mut state);
        let mut repeated = ballots.clone();
        for _ in 0..draw(&mut state, 4) {
            let again = draw(&mut state, ballots.len() as u64) as usize;
            repeated.push(ballots[again]);
        }
        for rules in [WARM, COLD, Rules { need: 3, ..WARM }] {
            let (once, twice) = (accept(&ballots, rules), accept(&repeated, rules));
            assert_eq!(once.decision, twice.decision, "{ballots:?}");
            let names = |mut peers: Vec<PeerId>| {
                peers.sort_unstable();
                peers.dedup();
                peers
            };
            assert_eq!((names(once.convict), names(once.credit)), (names(twice.convict), names(twice.credit)));
        }
    }
}

#[test]
fn receipts_in_any_order_never_verify_another_value_and_the_owners_word_is_free_of_order() {
    let mut state = 2;
    for _ in 0..2000 {
        let mut ballots = drawn_ballots(&mut state);
        let in_order = accept(&ballots, WARM).decision;
        let owned = draw(&mut state, 3) == 0;
        if owned {
            ballots.push(ballot(99, Owner, 0, 7));
        }
        let before = accept(&ballots, WARM);
        for index in (1..ballots.len()).rev() {
            ballots.swap(index, draw(&mut state, index as u64 + 1) as usize);
        }
        let shuffled = accept(&ballots, WARM);
        if owned {
            assert_eq!(before.decision, shuffled.decision);
        } else if let (Decision::Accept { value: first, .. }, Decision::Accept { value: second, .. }) = (in_order, shuffled.decision) {
            assert_eq!(first, second);
        }
        // The order of commitment is in the receipts themselves when votes were sequential.
        ballots.sort_by_key(|ballot| ballot.ordinal);
        assert_eq!(accept(&ballots, WARM).decision, before.decision);
    }
}

#[test]
fn a_crowd_of_newcomers_is_overruled_by_more_than_two() {
    let mut ballots = vec![ballot(1, Newcomer, 0, 7), ballot(2, Newcomer, 1, 7), ballot(3, Proven, 2, 8), ballot(4, Proven, 3, 8)];
    assert_eq!(accept(&ballots, WARM).convict, [PeerId([1; 32]), PeerId([2; 32])], "two newcomers against two who are proven");
    ballots.push(ballot(5, Newcomer, 4, 7));
    let judgement = accept(&ballots, WARM);
    assert_eq!((judgement.decision, judgement.convict), (Decision::Want(Voter::Proven), vec![]), "three of them may be right");
    let mut overruled = ballots.clone();
    overruled.push(ballot(6, Proven, 5, 8));
    assert_eq!(accept(&overruled, WARM).convict.len(), 3);
    ballots.push(ballot(6, Proven, 5, 7));
    assert_eq!(decide(&ballots, WARM), Decision::Disputed);
}

#[test]
fn nobody_is_convicted_before_the_unit_has_all_its_votes() {
    let audited = Rules { need: 3, ..WARM };
    let mut ballots = vec![ballot(1, Newcomer, 0, 7), ballot(2, Proven, 1, 8), ballot(3, Proven, 2, 8)];
    let judgement = accept(&ballots, audited);
    assert_eq!((judgement.decision, judgement.convict), (Decision::Want(Voter::Anyone), vec![]));
    ballots.push(ballot(4, Newcomer, 3, 8));
    assert_eq!(accept(&ballots, audited).convict, [PeerId([1; 32])]);
}
