//! Accusations at the border, and running an accused peer's unit again: its module fetched, in a slot of its own.

use super::{
    border::{Fetch, Goal},
    net::Wanted,
    own_slot::{self, OwnSlot},
    run_loop::Node,
};
use crate::{
    protocol::{
        fact::Vote,
        fraud::{Accusation, Evidence, MANIFEST_BYTES_MAX, Receipt},
        ids::{JobId, PeerId, UnitIndex},
        job::{Manifest, unit_seed},
        outcome::{Outcome, Value},
        peer::Event,
    },
    sandbox::{SlotError, SlotProcess, Task},
    store::Store,
    wire,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A unit that takes longer here is not run to its end: nobody may have this machine work for hours by accusing somebody.
const WALL_MAX: Duration = Duration::from_secs(300);
/// A larger module is not fetched to check an accusation.
const MODULE_BYTES_MAX: u64 = 64 << 20;

/// A unit to run again.
#[derive(Debug)]
pub(super) struct Recheck {
    job: JobId,
    unit: UnitIndex,
    manifest: Manifest,
}

impl Node {
    /// Checks an accusation's signatures, and that the unit can be run from what it names, before the core hears of it.
    pub(super) fn hear_accusation(&mut self, by: PeerId, accusation: Arc<Accusation>) {
        match wire::accusation::check(&accusation, &self.validation_class, &self.instruction_set) {
            Ok(checked) => self.event(Event::Accused { by, accusation, comparable: checked.comparable }),
            Err(reason) => tracing::info!(by = %by.short(), %reason, "an accusation says nothing"),
        }
    }

    /// Looks up the receipts of a worker that was convicted here.
    pub(super) fn accuse(&mut self, accused: PeerId, job: JobId, unit: UnitIndex, second: Option<&Vote>) {
        let found = tokio::task::block_in_place(|| Ok((self.store.vote(job, unit, accused)?, self.store.signed_manifest(job)?)));
        let (first, signed) = match found {
            // Who was given a state to go on from can show nobody that it was its own.
            Ok((Some(first), _)) if !first.rests_on.is_empty() || second.is_some_and(|second| !second.rests_on.is_empty()) => return,
            Ok((Some(first), Some(signed))) => (Receipt::from(&first), signed),
            // What was never durable convicts nobody elsewhere.
            Ok(_) => return,
            Err::<_, crate::store::StoreError>(error) => return tracing::error!(%error, "a receipt cannot be read"),
        };
        if signed.encoded.len() > MANIFEST_BYTES_MAX {
            return tracing::debug!(job = %job.short(), "the job's manifest is too long to accuse anybody with");
        }
        let evidence = match second {
            Some(second) => Evidence::Equivocation(first, second.into()),
            None => Evidence::Wrong(first),
        };
        self.event(Event::Evidence(Arc::new(Accusation { accused, job, manifest: signed.encoded.into(), unit, evidence })));
    }

    /// Runs a unit again, by way of its module.
    pub(super) fn recheck(&mut self, by: PeerId, accusation: &Accusation) {
        let Accusation { job, unit, manifest, .. } = accusation;
        let Ok(manifest) = wire::manifest::decode(manifest) else { return self.event(Event::Rechecked(None)) };
        if manifest.limits.memory_bytes > self.handle.facts.memory_bytes || manifest.module_bytes > MODULE_BYTES_MAX {
            return self.event(Event::Rechecked(None));
        }
        let (module, length) = (manifest.module, manifest.module_bytes);
        let recheck = Recheck { job: *job, unit: *unit, manifest };
        if self.holds(module) {
            return self.start_recheck(recheck);
        }
        let wanted = Wanted { digest: module, length: Some(length), at_most: length };
        let fetch = Fetch { wanted, holders: self.holders(by), goal: Goal::Recheck(Box::new(recheck)) };
        if !self.fetches.push(fetch) {
            self.event(Event::Rechecked(None));
        }
    }

    pub(super) fn on_recheck_fetched(&mut self, recheck: Recheck, result: Result<(), String>) {
        match result {
            Ok(()) => self.start_recheck(recheck),
            Err(reason) => {
                tracing::info!(job = %recheck.job.short(), reason, "the module of an accused peer's unit could not be fetched");
                self.event(Event::Rechecked(None));
            }
        }
    }

    fn start_recheck(&mut self, recheck: Recheck) {
        let (handle, store) = (self.handle.clone(), self.store.clone());
        let memory_bytes = recheck.manifest.limits.memory_bytes;
        self.watchers.spawn(async move {
            let mut slot = OwnSlot::start(&handle, memory_bytes, move |slot, results| {
                // Nobody waits any more when the node ends.
                let _ = results.blocking_send(slot.ok().and_then(|slot| run(slot, &store, &recheck)));
            });
            let value = timeout(WALL_MAX, slot.next()).await.ok().flatten().flatten();
            // The node may be ending.
            let _ = handle.event(Event::Rechecked(value)).await;
        });
    }
}

fn run(mut slot: SlotProcess, store: &Store, recheck: &Recheck) -> Option<Value> {
    let Recheck { job, unit, manifest } = recheck;
    let loaded: Result<(), SlotError> = own_slot::load(&mut slot, store, manifest.module);
    if let Err(error) = loaded {
        tracing::info!(job = %job.short(), %error, "the unit of an accused peer cannot be run");
        return None;
    }
    let task = Task {
        module: manifest.module,
        args: manifest.args_for(*unit, ""),
        stdin: Arc::from([]),
        files: Vec::new(),
        seed: unit_seed(*job, *unit),
        // As they are: a program sees how long it may sleep.
        limits: manifest.limits,
    };
    let mut value = None;
    slot.run_batch(std::slice::from_ref(&task), &mut |_, report| {
        value = match report.outcome {
            Outcome::Value(value) => Some(value),
            Outcome::Failed(_) => None,
        };
    });
    value
}
