//! Liars that are caught by one owner, and liars that accuse others.

use super::*;
use crate::protocol::{
    fraud::{Accusation, Evidence, Receipt},
    ids::{JobId, PeerId, UnitIndex},
    peer::Event,
};
use core::time::Duration;
use std::sync::Arc;

const LIAR: usize = 3;
const PEERS: usize = 8;

/// Peers 0 and 1 own jobs; everybody has worked for both, honestly so far.
fn acquainted(seed: u64) -> (Grid, JobId) {
    let delay = (Duration::from_millis(5), Duration::from_millis(60));
    let peers = vec![PeerSpec { slots: 1, ..PeerSpec::default() }; PEERS];
    let mut grid = Grid::new(Scenario { peers, delay, faults: Faults::default(), conspiracy: false }, seed);
    let job = grid.submit(0, JobSpec::of_units(300));
    grid.submit(1, JobSpec::of_units(300));
    grid.run_until(Duration::from_secs(1800), Grid::all_ended).unwrap();
    (grid, job)
}

fn strikes(grid: &Grid, at: usize, of: usize) -> u32 {
    grid.peer(at).unwrap().owner().trust().standing(grid.key(of)).strikes
}

fn votes_of(grid: &Grid, job: JobId, worker: PeerId) -> u32 {
    let view = grid.view(job).unwrap();
    view.contributors.iter().find(|(peer, ..)| *peer == worker).map_or(0, |(_, given, _)| given.votes)
}

#[test]
fn a_liar_that_one_owner_convicts_is_refused_by_the_other_before_it_harms_it() {
    for seed in 0..4 {
        let (mut grid, _) = acquainted(seed);
        let liar = grid.key(LIAR);
        assert!(grid.peer(1).unwrap().owner().has_record_of(liar), "seed {seed}: it has something to lose");
        grid.machines[LIAR].spec.behaviour = Behaviour::Lies { per_mille: 1000 };
        grid.submit(0, JobSpec::of_units(100));
        grid.run_until(Duration::from_secs(900), |grid| strikes(grid, 0, LIAR) == 1).unwrap();
        // One hop by gossip, and one unit run again.
        grid.run_for(Duration::from_secs(10)).unwrap();
        assert_eq!((strikes(&grid, 0, LIAR), strikes(&grid, 1, LIAR)), (1, 1), "seed {seed}");
        let second = grid.submit(1, JobSpec::of_units(100));
        grid.run_until(Duration::from_secs(1800), Grid::all_ended).unwrap();
        assert_eq!(votes_of(&grid, second, liar), 0, "seed {seed}");
        let others = (0..PEERS).filter(|&other| other != LIAR);
        assert!(others.clone().all(|at| others.clone().all(|of| strikes(&grid, at, of) == 0)), "seed {seed}: nobody else is convicted");
        assert!(grid.rechecks <= PEERS as u32, "seed {seed}: {} units run again", grid.rechecks);
        grid.check_disks().unwrap();
    }
}

/// What `accuser` could say of what `accused` rightly signed for owner 0.
fn forged(grid: &Grid, job: JobId, accused: usize, unit: UnitIndex) -> Option<Event> {
    let receipt = Receipt::from(grid.machines[0].disk.vote(job, unit, grid.key(accused))?);
    let evidence = Evidence::Wrong(receipt);
    let accusation = Accusation { accused: grid.key(accused), job, manifest: Arc::from([]), unit, evidence };
    Some(Event::Evidence(Arc::new(accusation)))
}

#[test]
fn case_20_a_forged_fraud_proof_clears_the_accused_and_its_sender_is_not_heard_any_more() {
    let (mut grid, job) = acquainted(9);
    let (accuser, accused) = (5, 2);
    let forged: Vec<_> = (0..300).filter_map(|unit| forged(&grid, job, accused, UnitIndex(unit))).collect();
    assert!(forged.len() > 40, "a flood of {}", forged.len());
    for event in forged {
        grid.tell(accuser, event);
    }
    grid.run_for(Duration::from_secs(600)).unwrap();
    assert!((0..PEERS).all(|at| strikes(&grid, at, accused) == 0));
    let now = grid.now;
    for owner in [0, 1] {
        assert!(grid.peer(owner).unwrap().fraud().is_ignored(now, grid.key(accuser)), "{owner}");
        assert_eq!(grid.peer(owner).unwrap().fraud().waiting(), (0, false), "{owner}");
        assert_eq!(strikes(&grid, owner, accuser), 0, "never convicted of a vote");
    }
    assert!((2..=PEERS as u32).contains(&grid.rechecks), "one unit at each that knows the accused, not {}", grid.rechecks);
    let next = grid.submit(1, JobSpec::of_units(200));
    grid.run_until(Duration::from_secs(1800), Grid::all_ended).unwrap();
    assert!(votes_of(&grid, next, grid.key(accused)) > 0, "the accused is given work as before");
}
