//! Running units of an own job once more on this machine, in a slot of their own, to compare what comes out.

use crate::{
    node::Handle,
    protocol::{
        ids::{JobId, UnitIndex},
        job::{Manifest, unit_seed},
        outcome::{Outcome, Value},
    },
    sandbox::{SlotError, SlotProcess, Stopper, Task, Workshop},
    store::{Store, StoreError},
};
use std::{io, sync::Arc};
use tokio::sync::mpsc;

/// What came of one unit: its value, or why there is none, for people.
pub(super) type Rerun = (UnitIndex, Result<Value, String>);

/// Units being run again. Dropping it ends the slot.
pub(super) struct Reruns {
    results: mpsc::Receiver<Rerun>,
    stopper: Stopper,
}

impl Drop for Reruns {
    fn drop(&mut self) {
        self.results.close();
        self.stopper.kill();
    }
}

impl Reruns {
    /// Starts to run these units of `job`, one after the other.
    pub fn start(handle: &Handle, job: JobId, manifest: Arc<Manifest>, units: Vec<UnitIndex>) -> Self {
        let (sender, results) = mpsc::channel(1);
        let stopper = Stopper::default();
        let cache = handle.facts.data_dir.join("native");
        // A machine that lends little memory to others still checks its owner's own job.
        let memory_bytes = handle.facts.memory_bytes.max(manifest.limits.memory_bytes);
        let work = Work { store: handle.store.clone(), job, manifest, stopper: stopper.clone() };
        tokio::task::spawn_blocking(move || {
            let slot = Workshop::of_this_program(&cache, memory_bytes)
                .map_err(SlotError::Spawn)
                .and_then(|workshop| SlotProcess::spawn_with(workshop, work.stopper.clone()));
            match slot {
                Ok(slot) => work.run(slot, &units, &sender),
                Err(error) => {
                    let reason = error.to_string();
                    let all = units.into_iter().map(|unit| (unit, Err(reason.clone())));
                    all.map(|rerun| sender.blocking_send(rerun)).take_while(Result::is_ok).for_each(drop);
                }
            }
        });
        Self { results, stopper }
    }

    /// The next that has ended; none when all have.
    pub async fn next(&mut self) -> Option<Rerun> {
        self.results.recv().await
    }
}

/// What the slot's thread works with.
struct Work {
    store: Store,
    job: JobId,
    manifest: Arc<Manifest>,
    stopper: Stopper,
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

    fn run_one(&self, slot: &mut SlotProcess, unit: UnitIndex) -> Result<Value, String> {
        let module = self.manifest.module;
        let read = || match self.store.read_blob(module) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(io::Error::from(io::ErrorKind::NotFound)),
            Err(error) => Err(io::Error::other(error)),
        };
        slot.load(module, read).map_err(|error| error.to_string())?;
        let task = self.task(unit).map_err(|error| error.to_string())?.ok_or("its input is not here")?;
        let mut outcome = None;
        slot.run_batch(std::slice::from_ref(&task), &mut |_, report| outcome = Some(report.outcome));
        match outcome {
            Some(Outcome::Value(value)) => Ok(value),
            Some(Outcome::Failed(failure)) => Err(failure.to_string()),
            None => Err("the slot reported nothing".to_owned()),
        }
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
