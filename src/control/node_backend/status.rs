//! This node and the peers that it knows.

use super::{NodeBackend, explain};
use crate::{
    control::backend::Reply,
    node::{
        Node,
        net::{PeerHello, nickname::nickname},
    },
    protocol::{fact::Standing, ids::PeerId, verify::PROVEN_UNITS},
    wire::control::{PeerView, Status},
};
use std::collections::BTreeMap;

/// The most peers that are listed: connected ones first, then those with the longest records.
const PEERS_SHOWN_MAX: usize = 1000;

impl NodeBackend {
    pub(super) async fn status_now(&self) -> Reply<Status> {
        let handle = self.handle().await?;
        let mut status = handle.view(of_loop).await?;
        let facts = &handle.facts;
        let membership = &handle.settings.membership;
        status.peer = facts.me.to_string();
        status.nickname = nickname(facts.me);
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        status.data_dir = facts.data_dir.display().to_string();
        status.grid = membership.grid.to_string();
        status.private_grid = membership.grid_secret.is_some();
        status.addresses = handle.net.contact().addresses.iter().map(ToString::to_string).collect();
        status.slots = facts.slots;
        status.memory_bytes = facts.memory_bytes;
        status.protection.clone_from(&facts.protection);
        status.validation_class.clone_from(&facts.validation_class);
        status.instruction_set.clone_from(&facts.instruction_set);
        status.uptime_ms = super::millis(facts.started.elapsed());
        status.pause_left_ms = if status.paused { self.0.pause.left_ms() } else { 0 };
        if facts.slots > 0 {
            status.grid_peers_estimate += 1;
            status.grid_slots_estimate = status.grid_slots_estimate.saturating_add(facts.slots);
        }
        if facts.slots > 0 && facts.protection.is_empty() {
            status.warnings.push("no layer of protection holds around strangers' code on this machine".to_owned());
        }
        status.idle_reason = explain::idle_reason(&status).into_iter().next();
        Ok(status)
    }

    pub(super) async fn peer_views(&self) -> Reply<Vec<PeerView>> {
        self.view(|node| {
            let owner = node.peer().owner();
            let mut standings: BTreeMap<PeerId, Standing> = owner.standings().collect();
            for peer in node.connected().keys() {
                standings.entry(*peer).or_default();
            }
            standings.remove(&node.peer().me());
            let mut known: Vec<(bool, PeerId, Standing)> =
                standings.into_iter().map(|(peer, standing)| (node.connected().contains_key(&peer), peer, standing)).collect();
            known.sort_by_key(|(connected, peer, standing)| {
                use std::cmp::Reverse;
                (Reverse(*connected), Reverse(standing.is_anchor()), Reverse(standing.verified_gas), *peer)
            });
            known.truncate(PEERS_SHOWN_MAX);
            known.into_iter().map(|(_, peer, standing)| peer_view(node, peer, &standing)).collect()
        })
        .await
    }
}

/// What the run loop knows of a status.
fn of_loop(node: &Node) -> Status {
    let (peer, now) = (node.peer(), node.now());
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let estimate = peer.board().estimate();
    let lost = Some(node.lost_blobs()).filter(|lost| *lost > 0).map(|lost| {
        let what = "damaged on this disk, and no connected peer holds them: outputs are computed again when results are read";
        format!("{lost} blobs of your jobs are {what}; submit a job again whose module or inputs are among them")
    });
    let held_up = node.is_held_up_by_disk() && node.stalled().is_none();
    let held_up = held_up.then(|| "the disk takes no writes, so no units are taken until it does".to_owned());
    let stalled = node.stalled().map(|reason| format!("nothing can be kept, so the node waits: {reason}"));
    let open = || peer.owner().job_ids().filter(|job| peer.owner().open_units(*job) > 0);
    let own = || open().filter(|job| !peer.owner().has_adopted(*job));
    let differing = open().filter_map(|job| peer.owner().job_view(job)).filter_map(|view| {
        let differing = explain::nondeterminism(&view)?;
        Some(format!("job {}: {differing}", view.id.short()))
    });
    Status {
        peers_connected: count(node.connected().len()),
        peers_known: count(peer.gossip().sizes().contacts.max(node.connected().len())),
        slots_busy: node.busy_slots(),
        paused: node.is_paused(),
        units_run: node.units_run(),
        gas_given: node.gas_given(),
        jobs_open_here: count(own().count()),
        jobs_kept_elsewhere: count(own().filter(|job| peer.keeping().keepers(*job).iter().any(|(_, holds)| *holds)).count()),
        jobs_heard: count(peer.board().open_jobs(now).count()),
        grid_peers_estimate: estimate.peers,
        grid_slots_estimate: estimate.slots,
        warnings: stalled.into_iter().chain(held_up).chain(lost).chain(differing).collect(),
        ..Status::default()
    }
}

fn peer_view(node: &Node, peer: PeerId, standing: &Standing) -> PeerView {
    let hello = node.connected().get(&peer);
    PeerView {
        peer: peer.to_string(),
        nickname: nickname(peer),
        connected: hello.is_some(),
        standing: standing_word(node, peer).to_owned(),
        verified_units: u32::try_from(standing.verified_units).unwrap_or(u32::MAX),
        verified_gas: standing.verified_gas,
        strikes: standing.strikes,
        slots: node.peer().board().capacity(peer).map_or(0, |capacity| capacity.slots),
        addresses: hello.map(addresses).unwrap_or_default(),
        version: hello.map(|hello| hello.version.clone()).unwrap_or_default(),
        lineage: standing.lineage.map(|inviter| inviter.to_string()).unwrap_or_default(),
    }
}

fn addresses(hello: &PeerHello) -> Vec<String> {
    hello.contact.addresses.iter().map(ToString::to_string).collect()
}

/// How a peer stands with this node, in a word.
pub(super) fn standing_word(node: &Node, peer: PeerId) -> &'static str {
    if peer == node.peer().me() {
        return "own";
    }
    let trust = node.peer().owner().trust();
    word(&trust.standing(peer), node.inviter() == Some(peer), trust.is_barred(peer, node.now()))
}

fn word(standing: &Standing, is_inviter: bool, is_barred: bool) -> &'static str {
    if standing.strikes > 1 {
        "banned"
    } else if is_barred {
        "quarantined"
    } else if standing.is_anchor() {
        match (standing.anchor, is_inviter) {
            (true, true) => "inviter",
            (true, false) => "own",
            (false, _) => "friend",
        }
    } else if standing.verified_units >= PROVEN_UNITS {
        "proven"
    } else {
        "newcomer"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_has_one_word_and_convictions_come_first() {
        let stranger = Standing::default();
        let proven = Standing { verified_units: PROVEN_UNITS, ..stranger };
        let own = Standing { anchor: true, ..stranger };
        assert_eq!(word(&stranger, false, false), "newcomer");
        assert_eq!(word(&proven, false, false), "proven");
        assert_eq!(word(&own, false, false), "own");
        assert_eq!(word(&own, true, false), "inviter");
        assert_eq!(word(&Standing { friend: true, ..stranger }, false, false), "friend");
        assert_eq!(word(&Standing { friend: true, strikes: 1, ..stranger }, false, true), "quarantined");
        assert_eq!(word(&Standing { strikes: 1, ..own }, false, true), "quarantined");
        assert_eq!(word(&Standing { strikes: 1, ..proven }, false, false), "proven", "it has earned its trust anew");
        assert_eq!(word(&Standing { strikes: 2, ..proven }, false, true), "banned");
    }
}
