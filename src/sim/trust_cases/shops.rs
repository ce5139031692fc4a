//! Cases 1, 11 to 16 and 22: what populations of attackers achieve.

use super::*;
use crate::{
    protocol::platform::Platform,
    sim::{PeerSpec, Program},
};

/// Case 1: honest peers, four jobs one after the other. Nothing is wrong, little is done more than twice, and most of a warm job is
/// done in about the time that two executions take.
fn honest(seed: u64, size: Size) -> Vec<Figures> {
    let mut shop = shop(seed, size.peers, 0.0, Behaviour::Honest);
    let figures: Vec<_> = (0..4).map(|_| finish(&mut shop, size.job())).collect();
    settle(&mut shop);
    assert_clean(&shop);
    assert_eq!((shop.tally.wrong_shown, shop.liars()), (0, 0));
    assert!(figures.iter().all(|figures| figures.verified == size.units));
    let (ratio, warm) = (shop.tally.executions as f64 / (4.0 * f64::from(size.units)), figures[3]);
    println!("r of all {ratio:.3}, of the last job {:.3}, slowness {:.3}", warm.ratio(), warm.slowness());
    assert!(ratio <= 2.3 && warm.ratio() <= 2.12, "{ratio} {}", warm.ratio());
    figures
}

#[test]
fn case_1_honest_peers_cost_little_more_than_two_executions() {
    honest(1, SMALL);
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_1_honest_peers_cost_little_more_than_two_executions() {
    for seed in 1..3 {
        let figures = honest(seed, FULL);
        let all: u64 = figures.iter().map(|figures| figures.executions).sum();
        assert!(all as f64 <= 2.12 * 4.0 * f64::from(FULL.units), "{all}");
        let warm = figures[1..].iter().map(Figures::slowness).sum::<f64>() / 3.0;
        assert!(warm <= 2.1, "{warm}");
    }
}

/// Case 11: after a first honest job five strangers come for each peer, and their answers are garbage. The job costs more, nothing
/// wrong is shown, and the next one costs as little as ever.
fn sybils_with_garbage(seed: u64, size: Size) {
    let mut shop = shop(seed, size.peers, 0.0, Behaviour::Honest);
    finish(&mut shop, size.job());
    for _ in 0..5 * size.peers {
        shop.join(PeerSpec { slots: 1, ..PeerSpec::that(Behaviour::Lies { per_mille: 1000 }) });
    }
    let attacked = finish(&mut shop, size.job());
    assert!(attacked.ratio() <= 4.5, "{}", attacked.ratio());
    let next = finish(&mut shop, size.job());
    assert!(next.ratio() <= 2.12, "{}", next.ratio());
    settle(&mut shop);
    assert_clean(&shop);
    assert_eq!(shop.tally.wrong_shown, 0);
}

#[test]
fn case_11_garbage_of_five_strangers_for_each_peer_is_only_a_cost() {
    sybils_with_garbage(11, SMALL);
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_11_garbage_of_five_strangers_for_each_peer_is_only_a_cost() {
    sybils_with_garbage(11, FULL);
}

/// Case 12: the same while nobody is known, and they agree among themselves. Provisional results may be wrong; verified ones are not,
/// and everything is audited as soon as the first two are caught. Of one lineage they have but one vote each time.
fn sybils_in_agreement(seed: u64, size: Size, one_lineage: bool) {
    let mut shop = shop(seed, size.peers, 0.0, Behaviour::Honest);
    let lineage = one_lineage.then(|| shop.key(1));
    for _ in 0..5 * size.peers {
        shop.join(PeerSpec { slots: 1, lineage, ..PeerSpec::that(Behaviour::Colludes { per_mille: 1000 }) });
    }
    let job = shop.submit(size.job());
    let provisional = |shop: &Shop| shop.owner().job_view(job).map_or(0, |view| view.counts.provisional);
    if !one_lineage {
        shop.run_until(LIMIT, |shop| provisional(shop) > 0).unwrap();
        assert_eq!(shop.owner().job_view(job).unwrap().audit_rate, 0.05);
        shop.run_until(LIMIT, |shop| shop.owner().job_view(job).unwrap().audit_rate == 1.0).expect("lockdown");
        assert_eq!(provisional(&shop), 0);
    }
    shop.run_until(LIMIT, Shop::all_ended).unwrap();
    settle(&mut shop);
    assert_clean(&shop);
    assert_eq!(shop.tally.wrong_shown, 0);
}

#[test]
fn case_12_strangers_who_agree_get_nothing_wrong_verified() {
    sybils_in_agreement(12, Size { peers: 40, units: 500 }, false);
}

#[test]
fn case_12_strangers_of_one_lineage_get_nothing_wrong_verified() {
    sybils_in_agreement(12, Size { peers: 40, units: 500 }, true);
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_12_strangers_who_agree_get_nothing_wrong_verified() {
    sybils_in_agreement(12, FULL, false);
    sybils_in_agreement(12, FULL, true);
}

/// Cases 13 and 14: a tenth of the peers conspires. Returns executions per unit.
fn conspiracy(seed: u64, size: Size, jobs: u32, behaviour: Behaviour) -> f64 {
    let mut shop = shop(seed, size.peers, 0.1, behaviour);
    for _ in 0..jobs {
        finish(&mut shop, size.job());
    }
    settle(&mut shop);
    assert_clean(&shop);
    assert!(shop.liars() > 0);
    shop.tally.executions as f64 / f64::from(jobs * size.units)
}

/// Case 13: a tenth conspires and lies in 5 % of the units that it gets first.
#[test]
fn case_13_conspirators_who_lie_now_and_then_are_all_caught() {
    for behaviour in [Behaviour::Gambles { per_mille: 50 }, Behaviour::LiesInPairs { kept_per_mille: 50 }] {
        assert!(conspiracy(13, SMALL, 2, behaviour) < 4.0);
    }
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_13_conspirators_who_lie_now_and_then_are_all_caught() {
    for (seed, behaviour) in [
        (13, Behaviour::Gambles { per_mille: 50 }),
        (14, Behaviour::Colludes { per_mille: 50 }),
        (15, Behaviour::LiesInPairs { kept_per_mille: 50 }),
        (16, Behaviour::Sleeps { until: 100, per_mille: 50 }),
    ] {
        println!("{behaviour:?}: r {:.3}", conspiracy(seed, FULL, 20, behaviour));
    }
}

/// Case 14: a tenth lies once, after a hundred units.
#[test]
fn case_14_single_lies_after_a_hundred_units_are_found() {
    let size = Size { units: 6000, ..SMALL };
    let ratio = conspiracy(17, size, 1, Behaviour::LiesOnce { after: 100 });
    assert!(ratio <= 3.3, "{ratio}");
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_14_single_lies_after_a_hundred_units_are_found() {
    let ratio = conspiracy(17, FULL, 20, Behaviour::LiesOnce { after: 100 });
    assert!(ratio <= 3.3, "{ratio}");
}

/// Case 15: in the middle of the second job three in ten of the proven turn at the same moment, and all say the same.
fn coup(seed: u64, size: Size) {
    let mut shop = shop(seed, size.peers, 0.0, Behaviour::Honest);
    finish(&mut shop, size.job());
    let job = shop.submit(size.job());
    shop.run_until(LIMIT, |shop| shop.tally.decided(job) >= size.units / 2).unwrap();
    let proven: Vec<usize> =
        (1..shop.machines()).filter(|&number| shop.owner().trust().is_proven(shop.key(number), size.job().gas)).collect();
    let (at, turning) = (shop.elapsed(), proven.len() * 3 / 10);
    assert!(turning > 0);
    proven.into_iter().take(turning).for_each(|number| shop.becomes(number, Behaviour::Turns { at }));
    shop.run_until(LIMIT, Shop::all_ended).unwrap_or_else(|failure| panic!("{failure}"));
    settle(&mut shop);
    assert_clean(&shop);
    assert!(shop.liars() > 0);
    assert_eq!(shop.tally.decided(job), size.units);
    finish(&mut shop, size.job());
    assert_clean(&shop);
}

#[test]
fn case_15_a_coup_of_three_in_ten_leaves_nothing_wrong() {
    coup(18, SMALL);
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_15_a_coup_of_three_in_ten_leaves_nothing_wrong() {
    coup(18, FULL);
}

/// Case 16: nobody is known, and the owner has two slots. After three jobs everything is verified, nearly all of it by others.
fn from_nothing(seed: u64, size: Size) {
    let mut shop = shop(seed, size.peers, 0.0, Behaviour::Honest);
    let figures: Vec<_> = (0..3).map(|_| finish(&mut shop, size.job())).collect();
    let sum = |of: fn(&Figures) -> u32| f64::from(figures.iter().map(of).sum::<u32>());
    assert!(sum(|figures| figures.verified) >= 0.99 * sum(|figures| figures.units));
    assert!(sum(|figures| figures.by_owner) <= 0.2 * sum(|figures| figures.units));
    println!("slowness {:?}", figures.iter().map(Figures::slowness).collect::<Vec<_>>());
    assert!(figures[0].slowness() <= 40.0 && figures[2].slowness() <= 3.0, "{} {}", figures[0].slowness(), figures[2].slowness());
    assert_clean(&shop);
}

#[test]
fn case_16_two_slots_of_the_owner_prove_a_grid_of_strangers() {
    from_nothing(19, SMALL);
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_16_two_slots_of_the_owner_prove_a_grid_of_strangers() {
    from_nothing(19, Size { units: 20_000, ..FULL });
}

/// Case 22: two instruction sets compute different outputs. Nobody is convicted, and the job says what is the matter.
fn two_instruction_sets(seed: u64, size: Size) {
    let mut shop = shop(seed, size.peers * 7 / 10, 0.0, Behaviour::Honest);
    for _ in 0..size.peers * 3 / 10 {
        shop.join(PeerSpec { slots: 1, platform: Platform::Aarch64, ..PeerSpec::default() });
    }
    finish(&mut shop, size.job());
    let spec = JobSpec { program: Program::DependsOnPlatform(10), ..size.job() };
    let job = shop.submit(spec);
    shop.run_until(LIMIT, Shop::all_ended).unwrap_or_else(|failure| panic!("{failure}"));
    let view = shop.owner().job_view(job).unwrap();
    println!("{:?}, {:?}, r {:.3}", view.nondeterminism, view.counts, view.counts.executions as f64 / f64::from(size.units));
    assert!(view.nondeterminism.is_some());
    assert!(shop.wronged().is_empty());
    assert_eq!(shop.tally.wrong, 0);
}

#[test]
fn case_22_two_instruction_sets_that_differ_convict_nobody() {
    two_instruction_sets(22, SMALL);
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_22_two_instruction_sets_that_differ_convict_nobody() {
    two_instruction_sets(22, FULL);
}
