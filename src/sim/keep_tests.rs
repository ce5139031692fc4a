//! Jobs that outlive their submitters, in whole grids: authors and keepers that die, keepers that lie.

use super::*;
use crate::protocol::{
    fact::{JobState, Verdict},
    ids::{JobId, UnitIndex},
    owner::UnitState,
};
use core::time::Duration;

const CALM: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(60));
const FOR_EVER: Duration = Duration::from_secs(100_000_000);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grid(peers: Vec<PeerSpec>, conspiracy: bool, seed: u64) -> Grid {
    Grid::new(Scenario { peers, delay: CALM, faults: Faults::default(), conspiracy }, seed)
}

fn keepers(grid: &Grid, job: JobId) -> Vec<usize> {
    let author = grid.jobs[&job].0;
    grid.machines[author].disk.keepers(job).into_iter().filter_map(|keeper| grid.number(keeper)).collect()
}

/// Verified units as a keeper sees them.
fn verified_at(grid: &Grid, keeper: usize, job: JobId) -> u32 {
    let owner = grid.peer(keeper).map(|peer| peer.owner());
    owner.filter(|owner| owner.has_adopted(job)).and_then(|owner| owner.counts(job)).map_or(0, |counts| counts.verified)
}

fn decided(grid: &Grid, number: usize, job: JobId, units: u32) -> Vec<UnitIndex> {
    let disk = &grid.machines[number].disk;
    let is_decided = |unit: &UnitIndex| matches!(disk.verdict(job, *unit), Some(Verdict::Verified { .. }));
    (0..units).map(UnitIndex).filter(is_decided).collect()
}

#[test]
fn a_job_outlives_its_author_and_one_of_its_keepers() {
    const UNITS: u32 = 2000;
    let peers = vec![PeerSpec { slots: 4, ..PeerSpec::default() }; 12];
    let mut grid = grid(peers, false, 1);
    let job = grid.submit(0, JobSpec { keep: 2, ..JobSpec::of_units(UNITS) });
    grid.run_until(seconds(900), |grid| grid.counts(job).verified >= UNITS / 5).unwrap();
    let kept = keepers(&grid, job);
    assert_eq!(kept.len(), 2);
    grid.crash(0, FOR_EVER);
    // What workers still hold for the author ends meanwhile.
    grid.run_for(seconds(40)).unwrap();
    let before = grid.checkers.executions.clone();
    let of_author = decided(&grid, kept[0], job, UNITS);
    println!("dead at {:?} with {} decided, {} executions", grid.elapsed(), of_author.len(), before.of_job(job));
    assert!(of_author.len() as u32 >= UNITS / 5 - 1, "all but what was under way has reached a keeper");
    grid.run_until(seconds(900), |grid| verified_at(grid, kept[0], job) >= UNITS / 2).unwrap();
    println!("half at {:?}, {} executions", grid.elapsed(), grid.checkers.executions.of_job(job));
    let mut known = decided(&grid, kept[0], job, UNITS);
    grid.crash(kept[0], FOR_EVER);
    let of_first = grid.checkers.executions.of_job(job);
    let ended = |grid: &Grid| grid.peer(kept[1]).and_then(|peer| peer.owner().state(job)) == Some(JobState::Done);
    grid.run_until(seconds(1800), ended).unwrap();
    println!("done at {:?}, {} executions", grid.elapsed(), grid.checkers.executions.of_job(job));
    let view = grid.peer(kept[1]).unwrap().owner().job_view(job).unwrap();
    assert_eq!((view.author, view.counts.verified), (Some(grid.key(0)), UNITS));
    let again = of_author.iter().filter(|unit| grid.checkers.executions.of_unit(job, **unit) > before.of_unit(job, **unit)).count();
    assert_eq!(again, 0, "what the author had decided is not computed again");
    known.retain(|unit| !of_author.contains(unit));
    let rest = UNITS - of_author.len() as u32 - known.len() as u32;
    let executions = grid.checkers.executions.of_job(job) - of_first;
    println!("{} decided by the first keeper, {rest} left, {executions} executions by the second", known.len());
    assert!(executions < 2 * rest + 3 * known.len() as u32 / 2, "workers hand over what the first keeper took: {executions}");
    assert_nobody_wronged(&grid);
}

/// Nobody that is honest has convicted anybody that is.
fn assert_nobody_wronged(grid: &Grid) {
    let is_honest = |spec: &PeerSpec| !spec.lies_as_keeper && spec.behaviour.is_truthful();
    for peer in grid.machines.iter().filter(|machine| is_honest(&machine.spec)).filter_map(|machine| machine.peer.as_ref()) {
        for (accused, _) in peer.owner().standings().filter(|(_, standing)| standing.strikes > 0) {
            let spec = &grid.machines[grid.number(accused).unwrap()].spec;
            assert!(!is_honest(spec), "{accused:?} is honest");
        }
    }
}

#[test]
fn an_author_that_comes_back_takes_over_what_its_keepers_did() {
    const UNITS: u32 = 1000;
    let peers = vec![PeerSpec { slots: 2, ..PeerSpec::default() }; 12];
    let mut grid = grid(peers, false, 2);
    let job = grid.submit(0, JobSpec { keep: 2, ..JobSpec::of_units(UNITS) });
    grid.run_until(seconds(900), |grid| grid.counts(job).verified >= UNITS / 4).unwrap();
    let kept = keepers(&grid, job);
    grid.crash(0, seconds(150));
    grid.run_for(seconds(149)).unwrap();
    let (of_author, of_keeper) = (decided(&grid, 0, job, UNITS).len(), verified_at(&grid, kept[0], job));
    let before = grid.checkers.executions.of_job(job);
    grid.run_until(seconds(900), Grid::all_ended).unwrap();
    grid.check_disks().unwrap();
    let after = grid.checkers.executions.of_job(job) - before;
    println!("{of_author} by the author, {of_keeper} at the keeper, {after} executions after the return");
    assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, UNITS));
    assert!(of_keeper as usize > of_author + 100);
    // Of what the keeper collected some is audited, and some needs a vote that the author took itself.
    assert!(after < 2 * (UNITS - of_keeper) + (of_keeper - of_author as u32), "{after}");
    assert!(grid.peer(kept[0]).unwrap().owner().job_view(job).is_none(), "it was handed back");
    assert_nobody_wronged(&grid);
}

/// Case 18: the author is away; the first of its keepers lies, with accomplices whom nobody knows, and the second dies. Or both keepers
/// lie, and so does a worker that they tell what they will say.
fn lying_keeper(seed: u64, proven: bool) {
    const UNITS: u32 = 600;
    let mut peers = vec![PeerSpec { slots: 2, ..PeerSpec::default() }; 12];
    // They lend nothing, and sign whatever the liar wants.
    peers.extend(vec![PeerSpec { lies_as_keeper: true, ..PeerSpec::idle() }; 2]);
    let mut grid = grid(peers, proven, seed);
    let job = grid.submit(0, JobSpec { keep: 2, ..JobSpec::of_units(UNITS) });
    grid.run_until(seconds(900), |grid| grid.counts(job).verified >= UNITS / 3).unwrap();
    let kept = keepers(&grid, job);
    let liars = if proven { &kept[..] } else { &kept[..1] };
    for &liar in liars {
        grid.machines[liar].spec.lies_as_keeper = true;
        grid.crash(liar, seconds(1));
    }
    grid.run_for(seconds(5)).unwrap();
    grid.crash(0, seconds(300));
    if proven {
        // A worker that knows what they will say.
        let accomplice = (1..12).find(|number| !kept.contains(number)).unwrap();
        grid.machines[accomplice].spec.behaviour = Behaviour::Colludes { per_mille: 1000 };
    } else {
        grid.crash(kept[1], FOR_EVER);
    }
    grid.run_for(seconds(290)).unwrap();
    assert!(verified_at(&grid, kept[0], job) > UNITS / 3, "the liar has adopted it");
    grid.run_until(seconds(3600), Grid::all_ended).unwrap_or_else(|failure| panic!("{failure} {:?}", grid.view(job)));
    grid.check_disks().unwrap();
    assert_eq!((grid.state(job), grid.counts(job).verified), (JobState::Done, UNITS));
    let honest = |view: &crate::protocol::owner::UnitView| {
        view.state == UnitState::Verified && behaviour::is_true(&grid.jobs[&job].1, job, view.unit, view.value.unwrap())
    };
    assert!(grid.units(job).iter().all(honest), "seed {seed}");
    let owner = grid.peer(0).unwrap().owner();
    assert!(liars.iter().all(|liar| owner.trust().standing(grid.key(*liar)).strikes > 0), "seed {seed}: the liars are convicted");
    assert_nobody_wronged(&grid);
}

#[test]
fn case_18_a_keeper_that_lies_gets_nothing_wrong_shown_and_nobody_convicted() {
    (0..4).for_each(|seed| lying_keeper(seed, false));
}

#[test]
fn case_18_two_keepers_that_lie_together_are_found_out_and_nothing_wrong_is_left() {
    (10..13).for_each(|seed| lying_keeper(seed, true));
}

#[test]
fn a_network_that_splits_between_author_and_keepers_costs_executions_and_no_more() {
    const UNITS: u32 = 1500;
    let mut grid = grid(vec![PeerSpec { slots: 2, ..PeerSpec::default() }; 10], false, 5);
    let job = grid.submit(0, JobSpec { keep: 2, ..JobSpec::of_units(UNITS) });
    grid.run_until(seconds(900), |grid| grid.counts(job).verified >= UNITS / 5).unwrap();
    let kept = keepers(&grid, job);
    let far = (1..10).filter(|number| number % 2 == 0 || kept.contains(number)).collect();
    grid.split(far);
    grid.run_for(seconds(150)).unwrap();
    assert!(grid.peer(kept[0]).unwrap().owner().has_adopted(job), "both sides go on");
    assert!(!grid.all_ended());
    grid.split(Default::default());
    grid.run_until(seconds(900), Grid::all_ended).unwrap();
    grid.check_disks().unwrap();
    assert_eq!(grid.counts(job).verified, UNITS);
    let executions = grid.checkers.executions.of_job(job);
    println!("{executions} executions");
    assert!(executions < 3 * UNITS, "{executions}");
    grid.run_for(seconds(200)).unwrap();
    assert!((1..10).all(|number| !grid.peer(number).unwrap().owner().has_adopted(job)));
    assert_nobody_wronged(&grid);
}

/// Authors and keepers that stay away for long, and everything else that goes wrong.
fn fault_scenario(seed: u64) {
    let mut peers = vec![PeerSpec::default(); 9];
    peers.push(PeerSpec::that([Behaviour::Lies { per_mille: 200 }, Behaviour::Silent][seed as usize % 2]));
    let faults = Faults {
        crash_every: Some(seconds(40)),
        down_for: seconds(240),
        partition_every: Some(seconds(200)),
        partition_for: seconds(150),
        break_every: Some(seconds(10)),
        ..Faults::HARSH
    };
    let delay = (Duration::from_millis(1), Duration::from_millis(10 + seed % 5 * 100));
    let mut grid = Grid::new(Scenario { peers, delay, faults, conspiracy: false }, seed);
    grid.submit(0, JobSpec { keep: 2, ..JobSpec::of_units(80) });
    grid.submit(1, JobSpec { keep: 3, gas: 10_000_000_000, ..JobSpec::of_units(40) });
    if let Err(failure) = grid.run(seconds(600), seconds(3600)) {
        let views: Vec<_> =
            grid.jobs.keys().filter_map(|&job| grid.view(job)).map(|v| (v.state, v.counts, v.awaiting, v.running, v.waiting)).collect();
        panic!("{failure}\n{views:?}");
    }
    assert_nobody_wronged(&grid);
}

#[test]
fn faults_of_every_kind_with_keepers_show_nothing_wrong_and_end_when_healed() {
    (0..20).for_each(fault_scenario);
}

/// `MANYHANDS_SEEDS=1000..3000 cargo test --release --no-default-features -- --ignored fresh_seeds`
#[test]
#[ignore = "many seeds, for the release profile"]
#[allow(clippy::disallowed_methods, reason = "the seeds to try are a setting of who runs this")]
fn fresh_seeds_of_the_fault_scenario_with_keepers() {
    let range = std::env::var("MANYHANDS_SEEDS").unwrap_or_else(|_| "1000..1200".into());
    let (first, last) = range.split_once("..").expect("FIRST..LAST");
    (first.parse().unwrap()..last.parse().unwrap()).for_each(fault_scenario);
}
