//! Running units of an own job once more on this machine, in a slot of their own, to compare what comes out.

use super::own_slot::{self, OwnSlot};
use crate::{
    node::Handle,
    protocol::{
        ids::{JobId, UnitIndex},
        job::{Manifest, unit_seed},
        outcome::Outcome,
        owner::OwnRun,
    },
    sandbox::{Report, SlotProcess, Task},
    store::{SMALL_BYTES_MAX, Store, StoreError},
};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What came of one unit, or why there is no value, for people.
pub(super) type Rerun = (UnitIndex, Result<OwnRun, String>);

/// Starts to run these units of `job`, one after the other.
pub(super) fn start(handle: &Handle, job: JobId, manifest: Arc<Manifest>, units: Vec<UnitIndex>) -> OwnSlot<Rerun> {
    let memory_bytes = manifest.limits.memory_bytes;
    let work = Work { store: handle.store.clone(), job, manifest };
    OwnSlot::start(handle, memory_bytes, move |slot, results| match slot {
        Ok(slot) => work.run(slot, &units, results),
        Err(error) => {
            let reason = error.to_string();
            let all = units.into_iter().map(|unit| (unit, Err(reason.clone())));
            all.take_while(|rerun| results.blocking_send(rerun.clone()).is_ok()).for_each(drop);
        }
    })
}

/// Starts to run a unit of `job` for its output alone; why there is none, for people.
pub(super) fn output(handle: &Handle, job: JobId, manifest: Arc<Manifest>, unit: UnitIndex) -> OwnSlot<Result<Vec<u8>, String>> {
    let memory_bytes = manifest.limits.memory_bytes;
    let work = Work { store: handle.store.clone(), job, manifest };
    OwnSlot::start(handle, memory_bytes, move |slot, outputs| {
        let report = slot.map_err(|error| error.to_string()).and_then(|mut slot| work.report(&mut slot, unit));
        // Whoever wanted it may have gone.
        drop(outputs.blocking_send(report.map(|report| report.output)));
    })
}

/// What the slot's thread works with.
struct Work {
    store: Store,
    job: JobId,
    manifest: Arc<Manifest>,
}

impl Work {
    fn run(&self, mut slot: SlotProcess, units: &[UnitIndex], results: &mpsc::Sender<Rerun>) {
        for unit in units {
            // A slot that was killed because nobody waits for it must not be started again.
            if results.is_closed() {
                return;
            }
            let result = self.run_one(&mut slot, *unit);
            if results.blocking_send((*unit, result)).is_err() {
                return;
            }
        }
    }

    fn run_one(&self, slot: &mut SlotProcess, unit: UnitIndex) -> Result<OwnRun, String> {
        let Report { outcome, output, log: _, wall, links: _ } = self.report(slot, unit)?;
        let value = match outcome {
            Outcome::Value(value) => value,
            Outcome::Failed(failure) => return Err(failure.to_string()),
        };
        let output_bytes = output.len() as u64;
        let inline = output.len() <= SMALL_BYTES_MAX;
        if !inline {
            self.store.put_blob(&output, None).map_err(|error| error.to_string())?;
        }
        Ok(OwnRun { unit, value, output_bytes, output: inline.then(|| output.into()), wall })
    }

    fn report(&self, slot: &mut SlotProcess, unit: UnitIndex) -> Result<Report, String> {
        own_slot::load(slot, &self.store, self.manifest.module).map_err(|error| error.to_string())?;
        let task = self.task(unit).map_err(|error| error.to_string())?.ok_or("its input is not here")?;
        let mut ended = None;
        slot.run_batch(std::slice::from_ref(&task), &mut |_, report| ended = Some(report));
        ended.ok_or_else(|| "the slot reported nothing".to_owned())
    }

    /// What the unit was given when it first ran; none when its input is not here.
    fn task(&self, unit: UnitIndex) -> Result<Option<Task>, StoreError> {
        let input = if self.manifest.has_table() { self.store.unit_input(self.job, unit)? } else { None };
        let stdin: Arc<[u8]> = match &input {
            None if self.manifest.has_table() => return Ok(None),
            None => Arc::from([]),
            Some(input) => match &input.inline {
                Some(bytes) => bytes.clone(),
                None => match self.store.read_blob(input.digest)? {
                    Some(bytes) => bytes.into(),
                    None => return Ok(None),
                },
            },
        };
        let name = input.as_ref().map_or("", |input| input.name.as_str());
        Ok(Some(Task {
            module: self.manifest.module,
            args: self.manifest.args_for(unit, name),
            stdin,
            files: Vec::new(),
            seed: unit_seed(self.job, unit),
            limits: self.manifest.limits,
        }))
    }
}
