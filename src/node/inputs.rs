//! Inputs that came inside of leases, until a slot takes them: bounded in bytes, since their number is bounded for small ones only.

use crate::{
    protocol::{
        ids::PeerId,
        worker::{RunId, WINDOW_MAX},
    },
    wire::{bounds::INLINE_BYTES_MAX, work::UnitInput},
};
use std::collections::BTreeMap;

/// The most bytes of inputs that wait for one coordinator: its largest window, full of the largest inputs.
const OF_COORDINATOR_BYTES_MAX: usize = WINDOW_MAX as usize * INLINE_BYTES_MAX;
/// The most of all. Windows are shares of the same slots, so those of many coordinators are hardly more together than one's.
const BYTES_MAX: usize = 4 * OF_COORDINATOR_BYTES_MAX;

/// Inputs of runs that wait, of those that have one.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    of: BTreeMap<RunId, UnitInput>,
    bytes: BTreeMap<PeerId, usize>,
}

/// There is no room for one more.
#[derive(Debug)]
pub(super) struct Full;

impl Inputs {
    /// Holds the input of a run.
    ///
    /// # Errors
    /// What wait already are too many bytes.
    pub fn hold(&mut self, run: RunId, input: UnitInput) -> Result<(), Full> {
        self.take(run);
        let more = bytes_of(&input);
        let (held, in_all) = (self.bytes.get(&run.coordinator).copied().unwrap_or(0), self.bytes.values().sum::<usize>());
        if more > 0 && (held + more > OF_COORDINATOR_BYTES_MAX || in_all + more > BYTES_MAX) {
            return Err(Full);
        }
        if more > 0 {
            self.bytes.insert(run.coordinator, held + more);
        }
        self.of.insert(run, input);
        Ok(())
    }

    /// Gives the input of a run away, if it has one.
    pub fn take(&mut self, run: RunId) -> Option<UnitInput> {
        let input = self.of.remove(&run)?;
        let left = self.bytes.get(&run.coordinator).copied().unwrap_or(0).saturating_sub(bytes_of(&input));
        if left > 0 {
            self.bytes.insert(run.coordinator, left)
        } else {
            self.bytes.remove(&run.coordinator)
        };
        Some(input)
    }
}

fn bytes_of(input: &UnitInput) -> usize {
    input.inline.as_ref().map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{Attempt, Digest, JobId, UnitIndex};
    use std::sync::Arc;

    fn run(unit: u32) -> RunId {
        RunId { coordinator: PeerId([1; 32]), job: JobId([2; 32]), unit: UnitIndex(unit), attempt: Attempt(0) }
    }

    fn input(bytes: &Arc<[u8]>) -> UnitInput {
        UnitInput { name: String::new(), digest: Digest([3; 32]), size: bytes.len() as u64, inline: Some(bytes.clone()) }
    }

    #[test]
    fn no_more_bytes_wait_than_there_may_and_what_is_taken_makes_room() {
        let (mut inputs, bytes) = (Inputs::default(), Arc::from(vec![0; INLINE_BYTES_MAX]));
        let most = WINDOW_MAX;
        for unit in 0..most {
            inputs.hold(run(unit), input(&bytes)).unwrap();
            inputs.hold(run(unit), input(&bytes)).expect("the same again takes no more");
        }
        inputs.hold(run(most), input(&bytes)).unwrap_err();
        assert!(inputs.take(run(most)).is_none());
        inputs.hold(run(most), input(&Arc::from([]))).expect("an empty one");
        assert!(inputs.take(run(7)).is_some() && inputs.take(run(7)).is_none());
        inputs.hold(run(most + 1), input(&bytes)).unwrap();
        let of = |coordinator, unit| RunId { coordinator: PeerId([coordinator; 32]), ..run(unit) };
        inputs.hold(of(2, 0), input(&bytes)).expect("another coordinator has room of its own");
        let held = (3..=9).flat_map(|coordinator| (0..most).map(move |unit| of(coordinator, unit)));
        let held = held.take_while(|run| inputs.hold(*run, input(&bytes)).is_ok()).count();
        assert_eq!(held, 3 * most as usize - 1, "all together");
    }
}
