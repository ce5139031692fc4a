//! Measures the gossip machine in a virtual network.
//!
//! `gossip_network PEERS [--loss PERCENT] [--delays] [--seed N] [--broadcasts N] [--hostile PERCENT] [--habit NAME]... [--prefixes N]
//! [--besiege PEERS] [--churn PERCENT] [--thin BYTES_PER_SECOND]`
//!
//! Without hostile peers the phases are those of the reference in the design notes: random origins, one origin, a fifth of all peers
//! killed at once. With them (percent of the honest ones, all habits in turn unless some are named) the honest grid is measured before
//! and after they come, and again after a part of the honest peers was replaced by newcomers.

use core::time::Duration;
use manyhands::sim::gossip::{Habit, Loss, Network, Profile};
use std::{error::Error, str::FromStr};

const SECOND: Duration = Duration::from_secs(1);
/// After each phase, until the last answers have come.
const REST: Duration = Duration::from_secs(20);

struct Run {
    peers: usize,
    profile: Profile,
    broadcasts: usize,
    hostile_percent: usize,
    habits: Vec<Habit>,
    prefixes: usize,
    besieged: Option<usize>,
    churn_percent: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let run = parse(std::env::args().skip(1))?;
    let mut network = Network::new(run.profile.clone());
    network.join(run.peers, Duration::from_millis(5));
    network.run_for(130 * SECOND);
    let degrees = network.honest().into_iter().filter_map(|index| network.gossip(index)).map(|gossip| gossip.neighbours().count());
    let degrees: Vec<usize> = degrees.collect();
    let mean = degrees.iter().sum::<usize>() as f64 / run.peers as f64;
    println!("{} peers, {:?}: degree {mean:.2}, least {:?}", run.peers, run.profile.links.loss, degrees.iter().min());
    if run.hostile_percent == 0 {
        reference(&mut network, &run)
    } else {
        hostile(&mut network, &run)
    }
    println!("refused: {:?}", network.measure().rejections);
    Ok(())
}

fn reference(network: &mut Network, run: &Run) {
    network.phase(10, SECOND, None, REST);
    println!("random origins: {}\n  {}", network.phase(run.broadcasts, SECOND, None, REST), network.load());
    network.phase(10, SECOND, Some(0), REST);
    println!("one origin: {}", network.phase(run.broadcasts, SECOND, Some(0), REST));
    network.kill(run.peers / 5);
    println!("a fifth killed, unnoticed: {}", network.phase(10, SECOND, None, 2 * SECOND));
    network.run_for(10 * SECOND);
    println!("a fifth killed, repaired: {}\n  {}", network.phase(run.broadcasts, SECOND, None, REST), network.load());
}

fn hostile(network: &mut Network, run: &Run) {
    network.phase(10, SECOND, None, REST);
    println!("before: {}\n  {}", network.phase(run.broadcasts, SECOND, None, REST), network.load());
    let count = run.peers * run.hostile_percent / 100;
    match run.besieged {
        Some(victims) => network.besiege(&run.habits, count, run.prefixes, victims),
        None => network.infiltrate(&run.habits, count, run.prefixes),
    }
    println!("{count} hostile: {:?}, {} prefixes", run.habits, run.prefixes);
    for stage in ["at once", "later", "much later"] {
        println!("{stage}: {}\n  {}\n  {}", network.phase(run.broadcasts, SECOND, None, REST), network.infiltration(), network.load());
        network.run_for(60 * SECOND);
    }
    let replaced = run.peers * run.churn_percent / 100;
    if replaced > 0 {
        network.kill(replaced);
        network.join(replaced, Duration::from_millis(20));
        network.run_for(20 * SECOND);
        println!("{replaced} replaced: {}\n  {}", network.phase(run.broadcasts, SECOND, None, REST), network.infiltration());
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Run, Box<dyn Error>> {
    let peers = number(arguments.next())?;
    let mut run = Run {
        peers,
        profile: Profile::default(),
        broadcasts: 20,
        hostile_percent: 0,
        habits: Vec::new(),
        prefixes: usize::MAX,
        besieged: None,
        churn_percent: 0,
    };
    while let Some(flag) = arguments.next() {
        match flag.as_str() {
            "--loss" => run.profile.loss_ppm = (number::<f64>(arguments.next())? * 10_000.0) as u32,
            "--delays" => run.profile.links.loss = Loss::Delays,
            "--seed" => run.profile.seed = number(arguments.next())?,
            "--broadcasts" => run.broadcasts = number(arguments.next())?,
            "--hostile" => run.hostile_percent = number(arguments.next())?,
            "--habit" => run.habits.push(number(arguments.next())?),
            "--prefixes" => run.prefixes = number(arguments.next())?,
            "--besiege" => run.besieged = Some(number(arguments.next())?),
            "--churn" => run.churn_percent = number(arguments.next())?,
            "--thin" => run.profile.links.bytes_per_second = number(arguments.next())?,
            _ => return Err(format!("no such flag: {flag}").into()),
        }
    }
    if run.habits.is_empty() {
        run.habits = Habit::ALL.to_vec();
    }
    Ok(run)
}

fn number<T: FromStr<Err: Error + 'static>>(word: Option<String>) -> Result<T, Box<dyn Error>> {
    Ok(word.ok_or("a value is missing")?.parse()?)
}
