//! Cases 17 and 23 in whole grids, with networks, announcements and crashes.

use super::*;
use crate::{
    protocol::{board::JOBS_PER_AUTHOR_MAX, fact::JobState},
    sim::{Faults, Grid, PeerSpec, Program, Scenario, Sessions},
};
use std::collections::BTreeMap;

const CALM: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(60));

/// Case 17: peers come and go without a word, half of their sessions are over after an hour. The job finishes, nobody is convicted,
/// and nobody's record becomes shorter because it went away with leases.
fn churn(seed: u64, peers: u32, units: u32, half_life: Duration) {
    let sessions = Sessions { present: half_life, absent: half_life / 4 };
    let population = Population { peers, sessions: Some(sessions), ..Population::default() };
    let mut grid =
        Grid::new(Scenario { peers: population.draw(seed).peers, delay: CALM, faults: Faults::default(), conspiracy: false }, seed);
    grid.run_for(Duration::from_secs(60)).unwrap();
    let job = grid.submit(0, JobSpec { gas: 60 * JobSpec::default().gas, wall: Duration::from_secs(3600), ..JobSpec::of_units(units) });
    let mut records = BTreeMap::new();
    let mut drops = 0;
    while !grid.all_ended() {
        assert!(grid.elapsed() < LIMIT, "{:?}", grid.counts(job));
        grid.run_for(Duration::from_secs(60)).unwrap_or_else(|failure| panic!("{failure}"));
        let Some(owner) = grid.peer(0) else { continue };
        drops = 0;
        for (peer, standing) in owner.owner().standings() {
            let before = records.insert(peer, standing.verified_units).unwrap_or(0);
            assert!(standing.verified_units >= before, "{peer:?} has lost {before} to {}", standing.verified_units);
            assert_eq!(standing.strikes, 0);
            drops += standing.drops;
        }
    }
    let counts = grid.counts(job);
    println!("{counts:?} after {:?}, {} starts, {drops} drops", grid.elapsed(), grid.measure.starts);
    assert_eq!((grid.state(job), counts.verified), (JobState::Done, units));
    assert!(grid.measure.starts > u64::from(peers) && drops > 0, "peers came and went, and left leases behind");
    assert_eq!(grid.checkers.verdicts.wrong_ever(), 0);
}

#[test]
fn case_17_peers_that_come_and_go_delay_a_job_and_lose_no_trust() {
    churn(17, 20, 300, Duration::from_secs(600));
}

#[test]
#[ignore = "minutes in the development profile"]
fn full_size_case_17_peers_that_come_and_go_delay_a_job_and_lose_no_trust() {
    churn(17, 200, 20_000, Duration::from_secs(3600));
}

/// Case 23: an owner announces job after job. Everybody remembers a few of them, and another owner's job is done all the same.
#[test]
fn case_23_an_owner_that_announces_without_end_is_held_to_a_share() {
    let mut grid =
        Grid::new(Scenario { peers: vec![PeerSpec::default(); 8], delay: CALM, faults: Faults::default(), conspiracy: false }, 25);
    grid.run_for(Duration::from_secs(30)).unwrap();
    let wall = Duration::from_secs(20);
    for _ in 0..4 * JOBS_PER_AUTHOR_MAX {
        grid.submit(1, JobSpec { program: Program::NeverEnds, wall, priority: i8::MAX, ..JobSpec::of_units(1000) });
    }
    grid.run_for(Duration::from_secs(10)).unwrap();
    let job = grid.submit(2, JobSpec { wall, ..JobSpec::of_units(200) });
    grid.run_until(Duration::from_secs(7200), |grid| grid.state(job).has_ended()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, 200));
    for number in 3..8 {
        let board = grid.peer(number).unwrap().board();
        let of_spammer = board.open_jobs(grid.now).filter(|(author, _)| *author == grid.key(1)).count();
        assert!((1..=JOBS_PER_AUTHOR_MAX).contains(&of_spammer), "{of_spammer}");
    }
}
