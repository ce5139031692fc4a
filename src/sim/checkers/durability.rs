//! What a peer shows is what it has made durable: a restart rebuilds the same verdicts.

use super::Violation;
use crate::{
    protocol::{
        fact::Verdict,
        ids::UnitIndex,
        owner::{UnitState, UnitView},
        peer::Peer,
    },
    sim::machine::Disk,
};

/// Compares all units that a peer shows with its disk.
///
/// # Errors
/// The first unit that differs.
pub fn check(peer: &Peer, disk: &Disk) -> Result<(), Violation> {
    for &job in disk.jobs() {
        for view in peer.owner().unit_views(job, UnitIndex(0), usize::MAX) {
            let durable = disk.verdict(job, view.unit);
            if !agree(&view, durable) {
                let shown = format!("{:?} {:?}", view.state, view.value);
                return Err(Violation::NotDurable { job, unit: view.unit, shown, durable: Box::new(durable) });
            }
        }
    }
    Ok(())
}

fn agree(view: &UnitView, durable: Option<Verdict>) -> bool {
    match (view.state, durable) {
        (UnitState::Verified | UnitState::Failed, Some(Verdict::Verified { value, .. })) => view.value == Some(value),
        (UnitState::Failed, Some(Verdict::Failed)) => view.value.is_none(),
        (UnitState::Verified | UnitState::Failed, Some(Verdict::Open | Verdict::Failed) | None) => false,
        (
            UnitState::Waiting
            | UnitState::Running
            | UnitState::AwaitingVote
            | UnitState::Provisional
            | UnitState::Disputed
            | UnitState::Rechecking,
            durable,
        ) => matches!(durable, None | Some(Verdict::Open)),
    }
}
