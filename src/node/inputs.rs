//! Inputs that came inside of leases, until a slot takes them: bounded in bytes, since their number is bounded for small ones only.

use crate::{
    protocol::worker::{RunId, WINDOW_MAX},
    wire::{bounds::INLINE_BYTES_MAX, work::UnitInput},
};
use std::collections::BTreeMap;

/// The most bytes of inputs that wait: twice the largest window of one coordinator, full of the largest inputs. Windows are shares of
/// the same slots, so those of many coordinators are hardly more together.
const BYTES_MAX: usize = 2 * WINDOW_MAX as usize * INLINE_BYTES_MAX;

/// Inputs of runs that wait, of those that have one.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    of: BTreeMap<RunId, UnitInput>,
    bytes: usize,
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
        let bytes = self.bytes + bytes_of(&input);
        if bytes > BYTES_MAX {
            return Err(Full);
        }
        self.bytes = bytes;
        self.of.insert(run, input);
        Ok(())
    }

    /// Gives the input of a run away, if it has one.
    pub fn take(&mut self, run: RunId) -> Option<UnitInput> {
        let input = self.of.remove(&run)?;
        self.bytes -= bytes_of(&input);
        Some(input)
    }
}

fn bytes_of(input: &UnitInput) -> usize {
    input.inline.as_ref().map_or(0, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{Attempt, Digest, JobId, PeerId, UnitIndex};
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
        let most = (BYTES_MAX / INLINE_BYTES_MAX) as u32;
        for unit in 0..most {
            inputs.hold(run(unit), input(&bytes)).unwrap();
            inputs.hold(run(unit), input(&bytes)).expect("the same again takes no more");
        }
        inputs.hold(run(most), input(&bytes)).unwrap_err();
        assert!(inputs.take(run(most)).is_none());
        inputs.hold(run(most), input(&Arc::from([]))).expect("an empty one");
        assert!(inputs.take(run(7)).is_some() && inputs.take(run(7)).is_none());
        inputs.hold(run(most + 1), input(&bytes)).unwrap();
    }
}
