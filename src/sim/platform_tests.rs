//! Case 22 of `src/TRUST.md`: instruction sets that make something else of the same unit, and liars who hide behind a claim of one.

use super::*;
use crate::protocol::{
    fact::JobState,
    ids::JobId,
    owner::{JobView, UnitState, WaitReason},
    platform::{Platform, Platforms},
};
use core::time::Duration;

const CALM: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(60));

fn on(platform: Platform, spec: PeerSpec) -> PeerSpec {
    PeerSpec { platform, ..spec }
}

/// The grid when all jobs have ended; peer 0 is the owner.
fn run(peers: Vec<PeerSpec>, seed: u64, spec: JobSpec) -> (Grid, JobId) {
    let mut grid = Grid::new(Scenario { peers, delay: CALM, faults: Faults::default(), conspiracy: false }, seed);
    let job = grid.submit(0, spec);
    let done = grid.run_until(Duration::from_secs(7200), Grid::all_ended).and_then(|()| grid.check_disks());
    done.unwrap_or_else(|failure| panic!("{failure}\n{:?}", grid.view(job)));
    (grid, job)
}

fn convicted(grid: &Grid) -> Vec<usize> {
    let trust = grid.peer(0).unwrap().owner().trust();
    (0..grid.machines.len()).filter(|&number| trust.standing(grid.key(number)).strikes > 0).collect()
}

/// Every unit is verified, nobody is convicted, and what is said is that these machines differ.
fn assert_reported(grid: &Grid, job: JobId, units: u32, dissenting: Platform, set_aside: bool) -> JobView {
    let view = grid.view(job).unwrap();
    assert_eq!((view.state, view.counts.verified), (JobState::Done, units));
    assert_eq!(convicted(grid), [0; 0]);
    let found = view.nondeterminism.expect("it is reported");
    assert!(found.units >= 1, "{found:?}");
    assert_eq!((found.dissenting, found.set_aside), (Platforms::from_iter([dissenting]), set_aside), "{found:?}");
    assert!(found.against.contains(Platform::X86_64), "{found:?}");
    view
}

#[test]
fn newcomers_of_another_instruction_set_are_excused_and_the_job_finishes_without_them() {
    for seed in 0..4 {
        let mut peers = vec![PeerSpec::default(); 6];
        peers.extend(vec![on(Platform::Aarch64, PeerSpec::default()); 6]);
        let (grid, job) = run(peers, seed, JobSpec { program: Program::DependsOnPlatform(1), ..JobSpec::of_units(300) });
        assert_reported(&grid, job, 300, Platform::Aarch64, false);
    }
}

#[test]
fn an_instruction_set_whose_proven_workers_differ_is_set_aside() {
    for seed in 0..4 {
        let mut peers = vec![PeerSpec::default(); 6];
        peers.extend(vec![on(Platform::Aarch64, PeerSpec::default()); 6]);
        // Most units are the same everywhere, so that both kinds become proven.
        let (grid, job) = run(peers, seed, JobSpec { program: Program::DependsOnPlatform(40), ..JobSpec::of_units(1500) });
        let view = assert_reported(&grid, job, 1500, Platform::Aarch64, true);
        let found = view.findings.nondeterminism.unwrap();
        assert_eq!(found.unit.0 % 40, 0);
        for unit in grid.units(job) {
            let counted = unit.votes.iter().filter(|vote| vote.counted);
            assert!(counted.into_iter().all(|vote| vote.platform == Platform::X86_64), "{unit:?}");
        }
    }
}

#[test]
fn where_the_owner_lends_nothing_the_instruction_set_with_more_proven_workers_stays() {
    for seed in 0..4 {
        // All of them are the owner's own devices, and proven.
        let mut peers = vec![PeerSpec { slots: 0, ..on(Platform::Aarch64, PeerSpec::of_household(1)) }];
        peers.extend(vec![PeerSpec::of_household(1); 5]);
        peers.extend(vec![on(Platform::Aarch64, PeerSpec::of_household(1)); 3]);
        let (grid, job) = run(peers, 10 + seed, JobSpec { program: Program::DependsOnPlatform(10), ..JobSpec::of_units(300) });
        assert_reported(&grid, job, 300, Platform::Aarch64, true);
    }
}

#[test]
fn the_owners_own_instruction_set_stays_also_where_it_is_the_rarer_one() {
    let mut peers = vec![PeerSpec::default(); 3];
    peers.extend(vec![on(Platform::Aarch64, PeerSpec::default()); 9]);
    let (grid, job) = run(peers, 20, JobSpec { program: Program::DependsOnPlatform(40), ..JobSpec::of_units(1500) });
    assert_reported(&grid, job, 1500, Platform::Aarch64, true);
}

#[test]
fn a_liar_on_a_rare_instruction_set_is_convicted_where_another_of_it_is_at_hand() {
    for seed in 0..6 {
        let mut peers = vec![PeerSpec { household: Some(1), ..PeerSpec::default() }];
        peers.extend(vec![PeerSpec::default(); 6]);
        peers.push(on(Platform::Aarch64, PeerSpec::of_household(1)));
        peers.push(on(Platform::Aarch64, PeerSpec::that(Behaviour::Lies { per_mille: 100 })));
        let (grid, job) = run(peers, 30 + seed, JobSpec::of_units(400));
        let view = grid.view(job).unwrap();
        assert_eq!((view.state, view.counts.verified, convicted(&grid)), (JobState::Done, 400, vec![8]), "seed {seed}");
        assert_eq!(view.nondeterminism, None, "seed {seed}");
    }
}

#[test]
fn a_liar_who_claims_an_instruction_set_that_nobody_has_gains_nothing_and_gets_nothing_more() {
    for seed in 0..6 {
        let mut peers = vec![PeerSpec::default(); 7];
        peers.push(on(Platform::S390x, PeerSpec::that(Behaviour::Lies { per_mille: 200 })));
        let (grid, job) = run(peers, 40 + seed, JobSpec::of_units(400));
        assert_eq!((grid.state(job), convicted(&grid)), (JobState::Done, vec![]), "seed {seed}");
        let view = grid.view(job).unwrap();
        let (liar, given, _) = *view.contributors.iter().find(|(peer, _, _)| *peer == grid.key(7)).expect("it took part");
        // At most what it held when it was seen through, and what a newcomer may have pending.
        assert!(given.votes <= 60, "seed {seed}: {given:?}");
        assert!(grid.units(job).iter().all(|unit| unit.state == UnitState::Verified));
        let counted = grid.units(job).iter().flat_map(|unit| unit.votes.clone()).any(|vote| vote.worker == liar && vote.counted);
        assert!(!counted, "seed {seed}: none of its votes counts");
        assert!(!view.nondeterminism.unwrap().set_aside);
    }
}

/// Faults of every kind in a grid of two instruction sets, with liars on both and programs that differ now and then: no honest worker is
/// convicted, and everything ends when healed.
#[test]
fn with_faults_of_every_kind_too_everything_ends_and_no_honest_worker_is_convicted() {
    for seed in 0..24 {
        let mut peers = vec![PeerSpec { household: Some(1), ..PeerSpec::default() }; 2];
        peers.extend(vec![PeerSpec::default(); 3]);
        peers.extend(vec![on(Platform::Aarch64, PeerSpec::default()); 3]);
        peers.push(on(Platform::Aarch64, PeerSpec { household: Some(seed as u32 % 2), ..PeerSpec::default() }));
        peers.push(on(Platform::Aarch64, PeerSpec::that(Behaviour::Lies { per_mille: 200 })));
        peers.push(PeerSpec::that([Behaviour::Silent, Behaviour::Colludes { per_mille: 100 }][seed as usize / 2 % 2]));
        peers[0].slots = [2, 0][seed as usize / 4 % 2];
        let delay = (Duration::from_millis(1), Duration::from_millis(10 + seed % 7 * 100));
        let mut grid = Grid::new(Scenario { peers, delay, faults: Faults::HARSH, conspiracy: false }, 1000 + seed);
        let job = grid.submit(0, JobSpec { program: Program::DependsOnPlatform(8), ..JobSpec::of_units(80) });
        grid.submit(0, JobSpec::of_units(60));
        grid.run_for(Duration::from_secs(90)).unwrap();
        grid.heal();
        // Without slots of the owner nobody settles a quarrel of proven workers of one instruction set, and that is said.
        let stuck = |view: JobView| view.waiting == Some(WaitReason::Disputed) && seed / 4 % 2 == 1;
        let settled = |grid: &Grid| {
            let ended = |job: &JobId| grid.state(*job).has_ended() || grid.view(*job).is_some_and(stuck);
            grid.peer(0).is_some() && grid.jobs.keys().all(ended)
        };
        if let Err(failure) = grid.run_until(Duration::from_secs(7200), settled).and_then(|()| grid.check_disks()) {
            panic!("{failure}\n{:?}", grid.view(job));
        }
        assert!(convicted(&grid).iter().all(|number| *number >= 9), "seed {seed}: {:?}", convicted(&grid));
    }
}
