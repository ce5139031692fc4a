//! Whole grids.

use super::*;
use crate::protocol::{fact::JobState, ids::JobId, job::Policy, owner::UnitState};
use core::time::Duration;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const CALM: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(60));

/// Peer 0 is the owner.
fn grid(peers: Vec<PeerSpec>, seed: u64) -> Grid {
    Grid::new(Scenario { peers, delay: CALM, faults: Faults::default(), conspiracy: false }, seed)
}

fn executions_per_unit(grid: &Grid, job: JobId) -> f64 {
    f64::from(grid.checkers.executions.of_job(job)) / f64::from(grid.counts(job).units)
}

fn finish(grid: &mut Grid, limit: Duration) {
    let done = grid.run_until(limit, Grid::all_ended).and_then(|()| grid.check_disks());
    if let Err(failure) = done {
        let views: Vec<_> =
            grid.jobs.keys().filter_map(|&job| grid.view(job)).map(|v| (v.state, v.counts, v.awaiting, v.running, v.waiting)).collect();
        panic!("{failure}\n{views:?}");
    }
}

#[test]
fn honest_strangers_finish_with_about_two_executions_per_unit() {
    let mut grid = grid(vec![PeerSpec::default(); 20], 1);
    let job = grid.submit(0, JobSpec::of_units(2000));
    finish(&mut grid, seconds(900));
    let counts = grid.counts(job);
    assert_eq!((grid.state(job), counts.verified), (JobState::Done, 2000));
    let ratio = executions_per_unit(&grid, job);
    println!("executions per unit {ratio}, {:?}", grid.elapsed());
    assert!(ratio <= 2.2, "{ratio}");
}

#[test]
fn own_devices_trust_one_another_at_once() {
    let mut grid = grid(
        vec![PeerSpec { household: Some(1), slots: 0, ..PeerSpec::default() }; 1]
            .into_iter()
            .chain(vec![PeerSpec::of_household(1); 4])
            .collect(),
        2,
    );
    let job = grid.submit(0, JobSpec::of_units(200));
    finish(&mut grid, seconds(300));
    assert_eq!(grid.counts(job).verified, 200);
    assert!(executions_per_unit(&grid, job) <= 2.2);
    assert_eq!(grid.counts(job).by_owner, 0);
}

#[test]
fn a_liar_among_five_is_convicted_and_what_it_alone_vouched_for_is_judged_again() {
    for (seed, behaviour) in (0..6).zip([Behaviour::Lies { per_mille: 100 }, Behaviour::Lies { per_mille: 1000 }].into_iter().cycle()) {
        let mut peers = vec![PeerSpec { slots: 1, ..PeerSpec::default() }; 5];
        peers[3].behaviour = behaviour;
        let mut grid = grid(peers, seed);
        let job = grid.submit(0, JobSpec::of_units(300));
        finish(&mut grid, seconds(1800));
        assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, 300), "seed {seed}");
        let strikes = grid.peer(0).unwrap().owner().trust().standing(grid.key(3)).strikes;
        assert_eq!(strikes, 1, "seed {seed}");
    }
}

#[test]
fn an_owner_that_dies_in_the_middle_computes_nothing_verified_again() {
    let mut grid = grid(vec![PeerSpec::default(); 8], 3);
    let job = grid.submit(0, JobSpec::of_units(400));
    grid.run_until(seconds(300), |grid| grid.counts(job).verified >= 150).unwrap();
    grid.crash(0, seconds(20));
    grid.run_for(seconds(1)).unwrap();
    assert!(grid.view(job).is_none());
    finish(&mut grid, seconds(600));
    assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, 400));
    // The checker of repeats has seen that no verified unit was leased; only what was under way may have run again.
    assert!(executions_per_unit(&grid, job) <= 2.4, "{}", executions_per_unit(&grid, job));
}

#[test]
fn workers_that_die_delay_a_job_and_no_more() {
    let mut grid = grid(vec![PeerSpec::default(); 6], 4);
    let job = grid.submit(0, JobSpec::of_units(200));
    for number in 1..5 {
        grid.run_for(seconds(8)).unwrap();
        grid.crash(number, seconds(3600));
    }
    finish(&mut grid, seconds(600));
    assert_eq!(grid.counts(job).verified, 200);
}

#[test]
fn newcomers_are_provisional_until_the_owners_slot_has_proven_some() {
    let mut peers = vec![PeerSpec { slots: 4, ..PeerSpec::default() }; 5];
    peers[0].slots = 1;
    let mut grid = grid(peers, 5);
    let job = grid.submit(0, JobSpec::of_units(300));
    grid.run_until(seconds(120), |grid| grid.counts(job).provisional > 0).unwrap();
    finish(&mut grid, seconds(900));
    assert_eq!((grid.counts(job).verified, grid.counts(job).provisional), (300, 0));
}

#[test]
fn newcomers_alone_get_as_far_as_provisional_and_the_reason_is_given() {
    let mut peers = vec![PeerSpec::default(); 5];
    peers[0] = PeerSpec::idle();
    let mut grid = grid(peers, 6);
    let job = grid.submit(0, JobSpec::of_units(100));
    grid.run_until(seconds(600), |grid| grid.counts(job).provisional == 100).unwrap();
    grid.run_for(seconds(60)).unwrap();
    let view = grid.view(job).unwrap();
    assert_eq!((view.state, view.counts.verified), (JobState::Running, 0));
    assert_eq!(view.waiting, Some(crate::protocol::owner::WaitReason::NeedsProvenVoter));
}

#[test]
fn a_broken_job_is_stopped_before_it_burns_the_grid() {
    let mut grid = grid(vec![PeerSpec::default(); 10], 7);
    let job = grid.submit(0, JobSpec { program: Program::Exits(3), ..JobSpec::of_units(5000) });
    finish(&mut grid, seconds(300));
    assert_eq!(grid.state(job), JobState::Stopped);
    assert!(grid.checkers.executions.of_job(job) <= 40, "{}", grid.checkers.executions.of_job(job));
}

#[test]
fn a_stopped_job_goes_on_when_its_owner_insists() {
    let mut grid = grid(vec![PeerSpec::default(); 4], 8);
    let job = grid.submit(0, JobSpec { program: Program::Exits(3), ..JobSpec::of_units(30) });
    finish(&mut grid, seconds(300));
    grid.tell(0, crate::protocol::peer::Event::Retry(job));
    assert_eq!(grid.state(job), JobState::Running);
    finish(&mut grid, seconds(300));
    assert_eq!((grid.state(job), grid.counts(job).failed), (JobState::Failed, 30));
}

#[test]
fn units_that_never_end_fail_also_with_a_single_worker() {
    for (seed, peers) in
        [(9, vec![PeerSpec::default()]), (10, vec![PeerSpec::idle(), PeerSpec::default()]), (11, vec![PeerSpec::default(); 6])]
    {
        let mut grid = grid(peers, seed);
        let program = Program::SometimesNeverEnds(4);
        let job = grid.submit(0, JobSpec { program, wall: seconds(10), ..JobSpec::of_units(12) });
        let failed = |grid: &Grid| grid.counts(job).failed == 3;
        grid.run_until(seconds(3600), failed).unwrap_or_else(|failure| panic!("{failure} {:?}", grid.view(job)));
        for view in grid.units(job).iter().filter(|view| view.unit.0 % 4 == 1) {
            assert_eq!(view.state, UnitState::Failed);
            assert!((3..=12).contains(&view.failures.unwrap().count), "{:?}", view.failures);
        }
    }
}

#[test]
fn a_job_whose_units_all_never_end_is_stopped() {
    let mut grid = grid(vec![PeerSpec::default(); 6], 12);
    let job = grid.submit(0, JobSpec { program: Program::NeverEnds, wall: seconds(30), ..JobSpec::of_units(500) });
    finish(&mut grid, seconds(3600));
    assert_eq!(grid.state(job), JobState::Stopped);
    assert!(grid.checkers.executions.of_job(job) < 200, "{}", grid.checkers.executions.of_job(job));
}

#[test]
fn two_owners_share_one_worker_fairly() {
    let lent = |slots| PeerSpec { slots, household: Some(1), ..PeerSpec::default() };
    let peers = vec![lent(0), lent(0), lent(4)];
    let mut grid = grid(peers, 13);
    let jobs = [grid.submit(0, JobSpec::of_units(1000)), grid.submit(1, JobSpec::of_units(1000))];
    grid.run_for(seconds(200)).unwrap();
    let [first, second] = jobs.map(|job| grid.checkers.executions.of_job(job));
    assert!(first + second > 500, "{first} {second}");
    assert!(first.abs_diff(second) * 4 < first + second, "{first} {second}");
}

#[test]
fn a_worker_of_another_validation_class_is_refused_and_not_asked_all_the_time() {
    let mut peers = vec![PeerSpec::default(); 2];
    peers[1].class = "v2";
    let mut grid = grid(peers, 14);
    let job = grid.submit(0, JobSpec::of_units(100));
    finish(&mut grid, seconds(300));
    assert_eq!(grid.counts(job).by_owner, 100);
    assert!((1..10).contains(&grid.machines[0].refused), "{}", grid.machines[0].refused);
}

#[test]
fn cancelling_stops_what_runs() {
    let mut grid = grid(vec![PeerSpec::default(); 6], 15);
    let job = grid.submit(0, JobSpec { gas: 100_000_000_000, wall: seconds(1000), ..JobSpec::of_units(100) });
    grid.run_for(seconds(60)).unwrap();
    assert!(grid.machines.iter().any(|machine| !machine.running.is_empty()));
    grid.tell(0, crate::protocol::peer::Event::Cancel(job));
    grid.run_for(seconds(1)).unwrap();
    assert_eq!(grid.state(job), JobState::Cancelled);
    assert!(grid.machines.iter().all(|machine| machine.running.is_empty() && machine.waiting.is_empty()));
    grid.tell(0, crate::protocol::peer::Event::Retry(job));
    finish(&mut grid, seconds(36_000));
    assert_eq!(grid.counts(job).verified, 100);
}

#[test]
fn silent_workers_hold_up_neither_the_canary_nor_the_end() {
    let mut peers = vec![PeerSpec::default(); 6];
    for peer in &mut peers[1..4] {
        peer.behaviour = Behaviour::Silent;
    }
    peers[0].slots = 0;
    peers[4].household = Some(1);
    peers[5].household = Some(1);
    peers[0].household = Some(1);
    let mut grid = grid(peers, 16);
    let job = grid.submit(0, JobSpec { wall: seconds(3600), ..JobSpec::of_units(100) });
    finish(&mut grid, seconds(600));
    assert_eq!(grid.counts(job).verified, 100);
}

#[test]
fn machines_without_memory_make_no_unit_fail_while_others_can_run_it() {
    let mut peers = vec![PeerSpec::default(); 8];
    for peer in &mut peers[1..5] {
        peer.behaviour = Behaviour::OutOfMemory;
    }
    let mut grid = grid(peers, 17);
    let job = grid.submit(0, JobSpec::of_units(200));
    finish(&mut grid, seconds(900));
    assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, 200));
}

#[test]
fn a_conspiracy_of_three_in_ten_is_found_and_nothing_wrong_is_left() {
    for seed in 0..4 {
        let mut peers = vec![PeerSpec::default(); 10];
        for peer in &mut peers[2..5] {
            peer.behaviour = Behaviour::Colludes { per_mille: 50 };
        }
        let mut grid = Grid::new(Scenario { peers, delay: CALM, faults: Faults::default(), conspiracy: true }, 100 + seed);
        let job = grid.submit(0, JobSpec::of_units(500));
        finish(&mut grid, seconds(3600));
        assert_eq!(grid.counts(job).verified, 500, "seed {seed}");
        let caught = (2..5).filter(|&number| grid.peer(0).unwrap().owner().trust().standing(grid.key(number)).strikes > 0).count();
        assert_eq!(caught, 3, "seed {seed}");
    }
}

#[test]
fn the_last_units_are_spread_over_the_grid() {
    let mut grid = grid(vec![PeerSpec { slots: 4, ..PeerSpec::default() }; 10], 18);
    let job = grid.submit(0, JobSpec { policy: Policy::Strict, ..JobSpec::of_units(40) });
    finish(&mut grid, seconds(200));
    let given = grid.view(job).unwrap().contributors;
    assert!(given.len() >= 8, "{} of 10 took part", given.len());
}

/// Faults of every kind with liars among the peers, then the grid heals and everything ends.
fn fault_scenario(seed: u64) {
    let mut peers = vec![PeerSpec { household: Some(1), ..PeerSpec::default() }; 2];
    peers.extend(vec![PeerSpec::default(); 5]);
    peers.push(PeerSpec { gas_per_second: 100_000_000, ..PeerSpec::default() });
    peers.push(PeerSpec::that([Behaviour::Lies { per_mille: 200 }, Behaviour::Colludes { per_mille: 100 }][seed as usize % 2]));
    peers.push(PeerSpec::that([Behaviour::Lies { per_mille: 100 }, Behaviour::OutOfMemory, Behaviour::Silent][seed as usize % 3]));
    let delay = (Duration::from_millis(1), Duration::from_millis(10 + seed % 7 * 100));
    let mut grid = Grid::new(Scenario { peers, delay, faults: Faults::HARSH, conspiracy: false }, seed);
    let policy = [Policy::Standard, Policy::Economy, Policy::Strict][seed as usize % 3];
    grid.submit(0, JobSpec { policy, ..JobSpec::of_units(60) });
    grid.submit(0, JobSpec { program: Program::SometimesNeverEnds(20), wall: seconds(5), ..JobSpec::of_units(40) });
    grid.submit(2, JobSpec { policy, ..JobSpec::of_units(60) });
    if let Err(failure) = grid.run(seconds(90), seconds(3600)) {
        let views: Vec<_> =
            grid.jobs.keys().filter_map(|&job| grid.view(job)).map(|v| (v.state, v.counts, v.awaiting, v.running, v.waiting)).collect();
        panic!("{failure}\n{views:?}");
    }
}

/// Seeds of one test: tests run side by side, so the many seeds are divided among a few.
fn fifty_seeds_from(first: u64) {
    (first..first + 50).for_each(fault_scenario);
}

#[test]
fn faults_of_every_kind_show_nothing_wrong_and_end_when_healed_from_seed_0() {
    fifty_seeds_from(0);
}

#[test]
fn faults_of_every_kind_show_nothing_wrong_and_end_when_healed_from_seed_50() {
    fifty_seeds_from(50);
}

#[test]
fn faults_of_every_kind_show_nothing_wrong_and_end_when_healed_from_seed_100() {
    fifty_seeds_from(100);
}

#[test]
fn faults_of_every_kind_show_nothing_wrong_and_end_when_healed_from_seed_150() {
    fifty_seeds_from(150);
}

#[test]
fn a_seed_replays_exactly() {
    let run = || {
        let mut grid =
            Grid::new(Scenario { peers: vec![PeerSpec::default(); 6], delay: CALM, faults: Faults::HARSH, conspiracy: false }, 77);
        let job = grid.submit(0, JobSpec::of_units(100));
        grid.run(seconds(60), seconds(3600)).unwrap();
        (grid.elapsed(), grid.checkers.executions.of_job(job), grid.rng)
    };
    assert_eq!(run(), run());
}

/// `MANYHANDS_SEEDS=1000..3000 cargo test --release --no-default-features -- --ignored fresh_seeds`
#[test]
#[ignore = "many seeds, for the release profile"]
#[allow(clippy::disallowed_methods, reason = "the seeds to try are a setting of who runs this")]
fn fresh_seeds_of_the_fault_scenario() {
    let range = std::env::var("MANYHANDS_SEEDS").unwrap_or_else(|_| "1000..2000".into());
    let (first, last) = range.split_once("..").expect("FIRST..LAST");
    (first.parse().unwrap()..last.parse().unwrap()).for_each(fault_scenario);
}

/// An owner with two slots and hundreds of strangers: each proven execution backs two of those who are to be proven next, so that their
/// number doubles again and again.
#[test]
fn a_cold_grid_of_strangers_warms_up_within_minutes() {
    let mut grid = grid(vec![PeerSpec::default(); 150], 19);
    let job = grid.submit(0, JobSpec::of_units(6000));
    finish(&mut grid, seconds(3600));
    let ratio = executions_per_unit(&grid, job);
    println!("executions per unit {ratio}, {:?}", grid.elapsed());
    assert!(grid.elapsed() <= seconds(130) && ratio <= 2.4, "{:?} {ratio}", grid.elapsed());
    let by_owner = grid.counts(job).by_owner;
    assert!(by_owner <= 300, "{by_owner} units ran on the owner's two slots");
}

/// While nearly all are strangers, a part of them votes on the same units; when they are proven, nobody does any more.
#[test]
fn many_strangers_are_examined_in_classes_and_proven_peers_are_not() {
    let mut grid = grid(vec![PeerSpec::default(); 150], 23);
    let shared = |grid: &Grid, job: JobId| grid.units(job).iter().filter(|unit| unit.votes.len() > 4).count();
    let cold = grid.submit(0, JobSpec::of_units(6000));
    finish(&mut grid, seconds(3600));
    let examined = shared(&grid, cold);
    assert!((20..600).contains(&examined), "{examined}");
    let warm = grid.submit(0, JobSpec::of_units(3000));
    finish(&mut grid, seconds(3600));
    assert_eq!(shared(&grid, warm), 0);
    // A job too small for that is none to be examined with.
    let mut grid = self::grid(vec![PeerSpec::default(); 150], 24);
    let small = grid.submit(0, JobSpec::of_units(300));
    finish(&mut grid, seconds(3600));
    assert!(shared(&grid, small) == 0 && executions_per_unit(&grid, small) <= 3.3, "{}", executions_per_unit(&grid, small));
}

/// `MANYHANDS_PEERS=1000 MANYHANDS_UNITS=50000 MANYHANDS_ATTACK=colluders=0.1
/// cargo test --release --no-default-features -- --ignored --nocapture a_large_grid`
#[test]
#[ignore = "a measurement, for the release profile"]
#[allow(clippy::disallowed_methods, reason = "the size is a setting of who runs this")]
fn a_large_grid() {
    let number = |name: &str, default: u32| std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default);
    let (peers, units) = (number("MANYHANDS_PEERS", 1000), number("MANYHANDS_UNITS", 50_000));
    let submitters = number("MANYHANDS_SUBMITTERS", peers.div_ceil(2500));
    let attack = std::env::var("MANYHANDS_ATTACK").ok();
    let attack = attack.as_deref().and_then(|attack| attack.split_once('=')).map(|(name, amount)| Attack {
        known: attacks::Known::of_name(name).expect("an attack"),
        amount: amount.parse().expect("an amount"),
    });
    let (attacks, arrive_within) = (attack.into_iter().collect(), seconds(u64::from(peers / 100).max(10)));
    let campaign = Campaign {
        population: Population { peers, submitters, attacks, arrive_within, ..Population::default() },
        delay: CALM,
        faults: Faults::default(),
        units,
        jobs: submitters,
        job: JobSpec { gas: u64::from(number("MANYHANDS_SECONDS", 1)) * 1_000_000_000, wall: seconds(3600), ..JobSpec::default() },
        limit: seconds(36_000),
    };
    let report = campaign.run(u64::from(number("MANYHANDS_SEED", 1)), |progress| {
        println!("{progress:?}");
        true
    });
    println!("{report:#?}");
    assert!(report.is_clean());
}
