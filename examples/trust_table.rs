//! Measures what the rules of verification are worth, with the real coordinator: executions per unit and wrong results, for each policy
//! against each kind of attacker.
//!
//! `cargo run --release --no-default-features --example trust_table -- [PEERS [UNITS [WORLDS [POLICY]]]]`
//!
//! A world is `PEERS` peers, a tenth of them attackers, and four jobs of `UNITS` units one after the other; with Sybils it is five
//! more for each peer, which come after the first job. Every world is cold at its beginning. Virtual time, so the numbers depend on
//! nothing but the seeds, which are the numbers of the worlds.

use core::time::Duration;
use manyhands::{
    protocol::job::Policy,
    sim::{Behaviour, JobSpec, PeerSpec, Population, shop::Shop},
};

/// Jobs in a world.
const JOBS: u32 = 4;
/// A unit takes this on a peer of the typical speed.
const UNIT_SECONDS: u64 = 5;
/// Far longer than any job takes.
const LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Who attacks.
#[derive(Clone, Copy, PartialEq)]
enum Attackers {
    None,
    Tenth(Behaviour),
    SybilsTimesFive(Behaviour),
}

/// The columns of the table.
const COLUMNS: [(&str, Attackers); 7] = [
    ("honest", Attackers::None),
    ("saboteurs", Attackers::Tenth(Behaviour::Lies { per_mille: 50 })),
    ("colluders paired", Attackers::Tenth(Behaviour::LiesInPairs { kept_per_mille: 100 })),
    ("colluders 5 %", Attackers::Tenth(Behaviour::Gambles { per_mille: 50 })),
    ("sleepers", Attackers::Tenth(Behaviour::Sleeps { until: 100, per_mille: 1000 })),
    ("cheat once", Attackers::Tenth(Behaviour::LiesOnce { after: 100 })),
    ("Sybil x5", Attackers::SybilsTimesFive(Behaviour::Colludes { per_mille: 1000 })),
];

/// Sums over the worlds of one cell.
#[derive(Default)]
struct Cell {
    units: u64,
    executions: u64,
    wrong_shown: u64,
    wrong_settled: u64,
    by_owner: u64,
    /// Executions for each unit of the last job, which is warm.
    last: f64,
    liars: usize,
    at_large: usize,
    wronged: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u32| arguments.next().and_then(|argument| argument.parse().ok()).unwrap_or(default);
    let (peers, units, worlds) = (number(1000), number(50_000), number(1));
    let chosen = arguments.next();
    println!("{peers} peers, {JOBS} jobs of {units} units in a world, {worlds} worlds in a cell");
    println!(
        "policy    attackers          units      r      r of the last job  wrong settled  wrong shown  by owner  liars at large  honest convicted"
    );
    for policy in [Policy::Standard, Policy::Economy, Policy::Strict] {
        let name = format!("{policy:?}").to_lowercase();
        if chosen.as_ref().is_some_and(|chosen| *chosen != name) {
            continue;
        }
        for (attack, attackers) in COLUMNS {
            let mut cell = Cell::default();
            for seed in 0..worlds {
                world(&mut cell, u64::from(seed), peers, units, policy, attackers);
            }
            let Cell { units, wrong_shown, wrong_settled, by_owner, liars, at_large, wronged, .. } = cell;
            let (ratio, last) = (cell.executions as f64 / units as f64, cell.last / f64::from(worlds));
            println!(
                "{name:<9} {attack:<17} {units:>9}  {ratio:.3}  {last:.3}              {wrong_settled:<6} {:<8.1e} {wrong_shown:<12} {by_owner:<9} \
                 {at_large:>5} of {liars:<6} {wronged}",
                wrong_settled as f64 / units as f64
            );
        }
    }
}

fn world(cell: &mut Cell, seed: u64, peers: u32, units: u32, policy: Policy, attackers: Attackers) {
    let population = Population { peers, ..Population::default() };
    let mut shop = Shop::new(seed, 4, Duration::from_millis(50));
    for (number, peer) in population.draw(seed).peers.into_iter().enumerate() {
        // Speeds are drawn, so those who come first are like the others.
        shop.join(match attackers {
            Attackers::Tenth(behaviour) if number < peers as usize / 10 => PeerSpec { behaviour, ..peer },
            Attackers::Tenth(_) | Attackers::None | Attackers::SybilsTimesFive(_) => peer,
        });
    }
    let spec = JobSpec { policy, gas: UNIT_SECONDS * JobSpec::default().gas, ..JobSpec::of_units(units) };
    for job in 0..JOBS {
        if let (1, Attackers::SybilsTimesFive(behaviour)) = (job, attackers) {
            for _ in 0..5 * peers {
                shop.join(PeerSpec::that(behaviour));
            }
        }
        match shop.finish(spec, LIMIT) {
            Ok(figures) => {
                cell.by_owner += u64::from(figures.by_owner);
                cell.last += if job + 1 == JOBS { figures.ratio() } else { 0.0 };
            }
            Err(failure) => println!("job {job} did not end: {failure}"),
        }
        cell.units += u64::from(units);
    }
    // Jobs that had ended may be open again because of what was found later.
    if let Err(failure) = shop.run_until(LIMIT, Shop::all_ended) {
        println!("not all settled: {failure}");
    }
    cell.liars += shop.liars();
    cell.executions += shop.tally.executions;
    cell.wrong_shown += shop.tally.wrong_shown;
    cell.wrong_settled += shop.tally.wrong;
    cell.at_large += shop.liars_at_large().len();
    cell.wronged += shop.wronged().len();
}
