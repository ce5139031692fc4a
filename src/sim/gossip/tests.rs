//! Whole networks: delivery, lateness and price, with losses, churn, partitions and hostile peers.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn network(peers: usize, loss_percent: u32) -> Network {
    let mut network = Network::new(Profile { loss_ppm: loss_percent * 10_000, ..Profile::default() });
    network.join(peers, Duration::from_millis(5));
    network.run_for(30 * SECOND);
    network
}

/// Announces from random peers until the tree has formed, then measures.
fn steady(network: &mut Network) -> Report {
    network.phase(20, SECOND / 2, None, 5 * SECOND);
    network.phase(20, SECOND / 2, None, 15 * SECOND)
}

/// No honest peer holds more than its bounds allow, whatever was done to it.
fn check_bounds(network: &Network) {
    let quotas = &network.profile.config.quotas;
    for gossip in network.honest().into_iter().filter_map(|index| network.gossip(index)) {
        let sizes = gossip.sizes();
        assert!(sizes.links <= 80 && sizes.contacts <= 96 && sizes.shunned <= 256, "{sizes:?}");
        assert!(sizes.live <= quotas.live && sizes.remembered <= quotas.remembered, "{sizes:?}");
        assert!(sizes.missing <= 10 * quotas.promises && sizes.accounts <= 80 + 4096, "{sizes:?}");
        assert!(gossip.neighbours().count() <= 10);
    }
}

#[test]
fn without_losses_everybody_hears_everything_about_once() {
    let mut network = network(200, 0);
    let report = steady(&mut network);
    println!("{report}");
    assert!(report.delivery >= 1.0 && report.data <= 1.15 && report.latency_ms[1] <= 1100.0, "{report}");
}

#[test]
fn with_a_twentieth_lost_everybody_still_hears_everything() {
    let mut network = network(200, 5);
    let report = steady(&mut network);
    println!("{report}");
    assert!(report.delivery >= 0.9999 && report.data <= 1.35 && report.latency_ms[1] <= 2200.0, "{report}");
}

#[test]
fn a_late_joiner_catches_up() {
    let mut network = network(50, 5);
    network.phase(100, SECOND / 10, None, SECOND);
    network.join(1, SECOND);
    network.run_for(60 * SECOND);
    assert_eq!(network.gossip(50).unwrap().sizes().live, 100);
}

#[test]
fn both_sides_of_a_partition_catch_up_when_it_heals() {
    let mut network = network(60, 2);
    network.part(20);
    network.run_for(60 * SECOND);
    let report = network.phase(20, SECOND, None, 60 * SECOND);
    assert!(report.delivery < 0.7, "the sides do not hear one another: {report}");
    network.part(usize::MAX);
    network.run_for(300 * SECOND);
    assert!(network.measure().report(60).delivery >= 1.0, "{}", network.measure().report(60));
}

#[test]
fn a_fifth_of_all_peers_may_die_at_once() {
    let mut network = network(100, 0);
    steady(&mut network);
    network.kill(20);
    let report = network.phase(10, SECOND, None, 20 * SECOND);
    println!("{report}");
    assert!(report.delivery >= 0.9999, "{report}");
    let report = network.phase(10, SECOND, None, 20 * SECOND);
    assert!(report.delivery >= 1.0 && report.latency_ms[1] <= 1500.0, "{report}");
}

#[test]
fn churn_of_a_peer_per_second_loses_nothing_for_those_who_stay() {
    let mut network = network(80, 1);
    network.measure.clear();
    for _ in 0..40 {
        network.kill(1);
        network.join(1, SECOND / 2);
        network.broadcast(Some(0), 600 * SECOND);
        network.run_for(SECOND / 2);
    }
    network.run_for(30 * SECOND);
    let staying = network.honest();
    let report = network.measure().report_for(&staying);
    println!("{report}");
    assert!(report.delivery >= 0.9999, "{report}");
}

#[test]
fn one_seed_gives_one_run() {
    let [first, second] = [(), ()].map(|()| steady(&mut network(60, 5)).to_string());
    assert_eq!(first, second);
}

#[test]
fn losses_that_only_delay_cost_less_time_than_losses_that_drop() {
    let links = Links { loss: Loss::Delays, ..Links::default() };
    let mut network = Network::new(Profile { loss_ppm: 50_000, links, ..Profile::default() });
    network.join(200, SECOND / 200);
    network.run_for(30 * SECOND);
    let report = steady(&mut network);
    println!("{report}");
    assert!(report.delivery >= 1.0 && report.data <= 1.3 && report.latency_ms[1] <= 1270.0, "{report}");
}

#[test]
fn a_burst_over_thin_links_overflows_queues_and_still_arrives() {
    let links = Links { bytes_per_second: 4000, queue: 16, ..Links::default() };
    let mut network = Network::new(Profile { links, ..Profile::default() });
    network.join(30, SECOND / 200);
    network.run_for(30 * SECOND);
    let report = network.phase(80, SECOND / 100, None, 120 * SECOND);
    let load = network.load();
    println!("{report}\n{load}");
    assert!(load.gave_way > 0 && load.queued_bytes <= 10 * 16 * 400, "{load}");
    assert!(report.delivery >= 1.0, "{report}");
}

fn infiltrated(habits: &[Habit], prefixes: usize) -> (Network, Report, Infiltration) {
    // A queue and a window that fill within the test.
    let links = Links { queue: 16, window: 2000, ..Links::default() };
    let mut network = Network::new(Profile { loss_ppm: 10_000, links, ..Profile::default() });
    network.join(100, SECOND / 200);
    network.run_for(130 * SECOND);
    network.infiltrate(habits, 20, prefixes);
    network.run_for(20 * SECOND);
    let report = steady(&mut network);
    let infiltration = network.infiltration();
    println!("{habits:?}: {report}, {infiltration}\n{}\n{:?}", network.load(), network.measure().rejections);
    (network, report, infiltration)
}

/// A fifth as many hostile peers as honest ones ask everybody for places.
fn withstands(habits: &[Habit], prefixes: usize, most: f64) {
    let (network, report, infiltration) = infiltrated(habits, prefixes);
    assert!(report.delivery >= 0.999 && infiltration.eclipsed == 0, "{report}");
    assert!(infiltration.outbound < most, "{infiltration}");
    check_bounds(&network);
}

#[test]
fn mute_neighbours_are_withstood() {
    withstands(&[Habit::Mute], 8, 0.1);
}

#[test]
fn neighbours_that_do_not_read_fill_a_bounded_queue() {
    withstands(&[Habit::Deaf], 20, 0.2);
}

#[test]
fn lying_neighbours_are_expelled() {
    withstands(&[Habit::Liar], 8, 0.1);
}

#[test]
fn garbling_neighbours_are_expelled() {
    withstands(&[Habit::Garbler], 8, 0.1);
}

#[test]
fn flooding_neighbours_are_expelled() {
    withstands(&[Habit::Flooder], 8, 0.1);
}

#[test]
fn forced_joins_are_withstood() {
    withstands(&[Habit::Joiner], 20, 0.3);
}

#[test]
fn an_eclipse_from_one_network_is_withstood() {
    let (network, report, infiltration) = infiltrated(&[Habit::Eclipser], 1);
    assert!(report.delivery >= 0.999 && infiltration.eclipsed + infiltration.besieged == 0, "{report}");
    for gossip in network.honest().into_iter().filter_map(|index| network.gossip(index)) {
        let strangers = gossip.neighbours().filter(|(peer, _)| network.is_hostile(*peer)).count();
        assert!(strangers <= 2 * network.profile.config.views.per_prefix, "a network has its share of each direction and no more");
    }
}

#[test]
fn an_eclipse_from_everywhere_is_withstood() {
    withstands(&[Habit::Eclipser], 20, 0.25);
}

#[test]
fn all_kinds_of_hostile_neighbours_at_once_are_withstood() {
    withstands(&Habit::ALL, 20, 0.2);
}

#[test]
fn a_siege_of_three_peers_does_not_cut_them_off() {
    let mut network = network(60, 1);
    steady(&mut network);
    network.besiege(&[Habit::Eclipser, Habit::Joiner, Habit::Deaf], 60, 60, 3);
    network.run_for(60 * SECOND);
    let report = steady(&mut network);
    let infiltration = network.infiltration();
    println!("{report}, {infiltration}");
    assert!(report.delivery >= 0.999 && infiltration.eclipsed + infiltration.besieged == 0, "{report}, {infiltration}");
    check_bounds(&network);
}

/// Takes minutes; `examples/gossip_network.rs` prints the figures.
#[test]
#[ignore = "ten thousand peers take minutes"]
fn ten_thousand_peers_withstand_two_thousand_hostile_ones() {
    let mut network = network(10_000, 1);
    steady(&mut network);
    network.infiltrate(&Habit::ALL, 2000, usize::MAX);
    for _ in 0..3 {
        let report = steady(&mut network);
        println!("{report}, {}\n{}", network.infiltration(), network.load());
        assert!(report.delivery >= 0.999, "{report}");
        check_bounds(&network);
    }
}
