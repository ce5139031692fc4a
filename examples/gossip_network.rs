//! Measures the gossip machine in a virtual network: `gossip_network PEERS LOSS_PERCENT [SEED] [BROADCASTS]`.
//!
//! The phases are those of the reference in the design notes: random origins, one origin, a fifth of all peers killed at once.

use core::time::Duration;
use manyhands::sim::gossip::{Network, Profile};

fn main() {
    let arguments: Vec<f64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let at = |index: usize, default: f64| arguments.get(index).copied().unwrap_or(default);
    let (peers, loss, seed, broadcasts) = (at(0, 1000.0) as usize, at(1, 0.0), at(2, 1.0) as u64, at(3, 50.0) as usize);
    let profile = Profile { seed, loss_ppm: (loss * 10_000.0) as u32, ..Profile::default() };
    let mut network = Network::new(profile);
    network.join(peers, Duration::from_millis(5));
    network.run_for(Duration::from_secs(130));
    let degrees = network.honest().into_iter().filter_map(|index| network.gossip(index)).map(|gossip| gossip.neighbours().count());
    let degrees: Vec<usize> = degrees.collect();
    let mean = degrees.iter().sum::<usize>() as f64 / peers as f64;
    println!("{peers} peers, {loss} % lost, seed {seed}: degree {mean:.2}, least {:?}", degrees.iter().min());
    let (second, rest) = (Duration::from_secs(1), Duration::from_secs(20));
    network.phase(10, second, None, rest);
    println!("random origins: {}", network.phase(broadcasts, second, None, rest));
    network.phase(10, second, Some(0), rest);
    println!("one origin: {}", network.phase(broadcasts, second, Some(0), rest));
    network.kill(peers / 5);
    println!("a fifth killed, unnoticed: {}", network.phase(10, second, None, Duration::from_secs(2)));
    network.run_for(Duration::from_secs(10));
    println!("a fifth killed, repaired: {}", network.phase(broadcasts, second, None, rest));
    println!("refused: {:?}", network.measure().rejections);
}
