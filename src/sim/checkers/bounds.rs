//! Nothing grows without bound: queues, windows and tables.

use super::Violation;
use crate::protocol::{
    board::CAPACITIES_MAX,
    gossip::Config,
    peer::Peer,
    worker::{COORDINATORS_MAX, HELD_MAX},
};

/// Checks a peer's tables, and how many executions its machine holds.
///
/// # Errors
/// The first that is too large.
pub fn check(peer: &Peer, held: usize) -> Result<(), Violation> {
    let (sizes, quotas) = (peer.gossip().sizes(), Config::default().quotas);
    let windows = COORDINATORS_MAX * HELD_MAX;
    bounded("executions held", held, windows)?;
    bounded("executions running or waiting", peer.worker().running(), windows)?;
    bounded("capacities", peer.board().capacities(), CAPACITIES_MAX)?;
    bounded("coordinators", peer.worker().attached(), COORDINATORS_MAX)?;
    bounded("live announcements", sizes.live, quotas.live)?;
    bounded("remembered announcements", sizes.remembered, quotas.remembered)
}

fn bounded(what: &'static str, found: usize, max: usize) -> Result<(), Violation> {
    if found <= max { Ok(()) } else { Err(Violation::Unbounded { what, found, max }) }
}
