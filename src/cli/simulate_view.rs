//! What `simulate` prints: a table for people, `manyhands.simulate/v1` for programs.

use super::human;
use crate::{
    control::error::grouped,
    sim::{
        Campaign, Report,
        measure::{Kind, Peaks},
    },
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// `manyhands.simulate/v1`
#[derive(Serialize)]
pub struct SimulationJson<'a> {
    schema: &'static str,
    seed: u64,
    again: &'a str,
    clean: bool,
    violation: Option<String>,
    peers: u32,
    submitters: u32,
    jobs: u32,
    units: u32,
    verified: u32,
    failed: u32,
    open: u32,
    checked_by_owner: u32,
    executions: u64,
    executions_per_unit: f64,
    wrong_settled: u64,
    wrong_ever: u64,
    wrong_provisional: u64,
    makespan_seconds: f64,
    ideal_seconds: f64,
    virtual_seconds: f64,
    wall_seconds: f64,
    populations: Vec<PopulationJson<'a>>,
    honest_convicted: u32,
    messages: u64,
    bytes: u64,
    messages_per_peer: f64,
    bytes_per_peer: f64,
    bytes_of_busiest_peer: u64,
    traffic: BTreeMap<&'static str, TrafficJson>,
    peaks: PeaksJson,
    starts: u64,
    links_broken: u64,
}

#[derive(Serialize)]
struct PopulationJson<'a> {
    kind: &'a str,
    peers: u32,
    convicted: u32,
}

#[derive(Serialize)]
struct TrafficJson {
    messages: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct PeaksJson {
    executions_held: usize,
    coordinators: usize,
    workers: usize,
    leases: usize,
    gossip_links: usize,
    live_announcements: usize,
    remembered_announcements: usize,
    links: usize,
    planned: usize,
}

#[expect(clippy::cast_precision_loss, reason = "an average")]
fn each(sum: u64, peers: u32) -> f64 {
    sum as f64 / f64::from(peers.max(1))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Announcements => "announcements",
        Kind::Upkeep => "gossip_upkeep",
        Kind::Leases => "leases",
        Kind::Outcomes => "outcomes",
        Kind::Acknowledgements => "acknowledgements",
        Kind::Windows => "windows",
    }
}

impl<'a> SimulationJson<'a> {
    /// Of a run that took so long.
    pub fn of(report: &'a Report, campaign: &Campaign, took: Duration, again: &'a str) -> Self {
        let (counts, total) = (&report.counts, report.traffic_total());
        let populations = report.convicted.iter().map(|of| PopulationJson { kind: &of.kind, peers: of.peers, convicted: of.convicted });
        let traffic = report.traffic.iter().map(|(kind, of)| (word(*kind), TrafficJson { messages: of.messages, bytes: of.bytes }));
        Self {
            schema: "manyhands.simulate/v1",
            seed: report.seed,
            again,
            clean: report.is_clean(),
            violation: report.failure.as_ref().map(|failure| failure.violation.to_string()),
            peers: report.peers,
            submitters: campaign.population.submitters,
            jobs: report.jobs,
            units: campaign.units,
            verified: counts.verified,
            failed: counts.failed,
            open: campaign.units.saturating_sub(counts.decided()),
            checked_by_owner: counts.by_owner,
            executions: report.executions,
            executions_per_unit: report.executions_per_unit,
            wrong_settled: report.wrong_settled,
            wrong_ever: report.wrong_ever,
            wrong_provisional: report.wrong_provisional,
            makespan_seconds: report.makespan.as_secs_f64(),
            ideal_seconds: report.ideal.as_secs_f64(),
            virtual_seconds: report.elapsed.as_secs_f64(),
            wall_seconds: took.as_secs_f64(),
            populations: populations.collect(),
            honest_convicted: report.honest_convicted(),
            messages: total.messages,
            bytes: total.bytes,
            messages_per_peer: each(total.messages, report.peers),
            bytes_per_peer: each(total.bytes, report.peers),
            bytes_of_busiest_peer: report.traffic_most.bytes,
            traffic: traffic.collect(),
            peaks: PeaksJson::of(&report.peaks),
            starts: report.starts,
            links_broken: report.broken,
        }
    }
}

impl PeaksJson {
    fn of(peaks: &Peaks) -> Self {
        let Peaks { executions_held, coordinators, workers, leases, gossip_links, live, remembered, links, planned } = *peaks;
        Self {
            executions_held,
            coordinators,
            workers,
            leases,
            gossip_links,
            live_announcements: live,
            remembered_announcements: remembered,
            links,
            planned,
        }
    }
}

/// The table for people.
pub fn lines(report: &Report) -> Vec<String> {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |what: &str, value: String| rows.push([what.to_owned(), value]);
    let counts = &report.counts;
    row("units verified", format!("{} of {}, {} failed", grouped(counts.verified), grouped(counts.units), grouped(counts.failed)));
    row("executions per unit", format!("{:.3}", report.executions_per_unit));
    row(
        "wrong",
        format!(
            "{} settled, {} ever shown as verified, {} as provisional at one time",
            grouped(report.wrong_settled),
            grouped(report.wrong_ever),
            grouped(report.wrong_provisional)
        ),
    );
    let ratio = report.makespan.as_secs_f64() / report.ideal.as_secs_f64().max(f64::MIN_POSITIVE);
    let (makespan, ideal) = (human::duration(millis(report.makespan)), human::duration(millis(report.ideal)));
    row("makespan", format!("{makespan}, {ratio:.2} times the ideal {ideal}"));
    for of in &report.convicted {
        row(&format!("{} peers", of.kind), format!("{}, of which {} convicted", grouped(of.peers), grouped(of.convicted)));
    }
    let total = report.traffic_total();
    let (messages, bytes) = (each(total.messages, report.peers), total.bytes / u64::from(report.peers.max(1)));
    row("sent by a peer", format!("{messages:.0} messages, {}; at most {}", human::size(bytes), human::size(report.traffic_most.bytes)));
    for (kind, of) in report.traffic.iter().filter(|(_, of)| of.messages > 0) {
        row(&format!("  {}", word(*kind).replace('_', " ")), format!("{} messages, {}", grouped(of.messages), human::size(of.bytes)));
    }
    let Peaks { executions_held, coordinators, workers, leases, gossip_links, live, remembered, .. } = report.peaks;
    row("at most at a peer", format!("{executions_held} executions held, {coordinators} coordinators, {gossip_links} gossip links"));
    row("", format!("{live} live announcements, {remembered} remembered"));
    row("at most at a submitter", format!("{} workers, {} leases", grouped(workers as u64), grouped(leases as u64)));
    row("peers started", format!("{} times; {} links broke", grouped(report.starts), grouped(report.broken)));
    row("virtual time", human::duration(millis(report.elapsed)));
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    human::table(&["SIMULATED", &format!("{} peers, seed {}", grouped(report.peers), report.seed)], &rows)
}
