//! Jobs whose authors are not heard: loaded for the core, without what their authors only say.

use super::After;
use crate::{
    node::{run_loop::Node, upgrade},
    protocol::{
        fact::{Origin, SavedJob, Verdict},
        ids::{JobId, UnitIndex},
        owner::VOTES_PER_UNIT_MAX,
        peer::Event,
    },
    store::{Role, Store, StoreError, Write},
    wire::{kept::check_collected, receipt::CheckedRoots},
};
use std::collections::{BTreeMap, BTreeSet};

/// A job that was adopted, as it is here.
pub(in crate::node) type Loaded = (JobId, Result<Option<Box<SavedJob>>, StoreError>);

impl Node {
    /// Draws a secret for a job whose author is not heard; the rest follows when that is durable.
    pub(in crate::node) fn adopt(&mut self, job: JobId) {
        let mut secret = [0; 32];
        if let Err(error) = getrandom::fill(&mut secret) {
            return tracing::error!(%error, "no randomness for the secret of an adopted job");
        }
        tracing::info!(job = %job.short(), "the author of a kept job is not heard: this peer goes on with it");
        self.keeping.writes.push(Write::Role { job, role: Role::Adopted, secret: Some(secret) });
        self.keeping.after.push(After::Load(job));
    }

    /// Loads a job and checks what its author says: of a large one that takes a while, so not here.
    pub(super) fn load_adopted(&mut self, job: JobId) {
        let (store, class) = (self.store.clone(), self.validation_class.clone());
        let load = move |store: &Store| {
            store.unbind_blocking(job)?;
            let mut saved = store.saved_job(job)?;
            if let Some(saved) = &mut saved {
                believe_signed(store, saved, &class)?;
                upgrade::set_apart(&mut saved.votes, &class);
            }
            Ok::<_, StoreError>(saved.map(Box::new))
        };
        self.keeping.loading.spawn(async move { (job, store.blocking(load).await) });
    }

    pub(in crate::node) fn on_loaded(&mut self, (job, loaded): Loaded) {
        match loaded {
            Ok(Some(saved)) => self.event(Event::Adopted(saved)),
            Ok(None) => self.event(Event::KeptNoMore { job }),
            Err(error) => tracing::error!(%error, "a kept job cannot be read"),
        }
    }
}

/// Leaves out, of what an author said that it has collected, what its workers did not sign. Where the author has decided a unit, and
/// nothing was taken here, the votes do not matter.
pub(in crate::node) fn believe_signed(store: &Store, saved: &mut SavedJob, class: &str) -> Result<(), StoreError> {
    let decided: BTreeSet<UnitIndex> =
        saved.verdicts.iter().filter(|(_, verdict)| *verdict != Verdict::Open).map(|(unit, _)| *unit).collect();
    let is_collected = |origin: Origin| matches!(origin, Origin::Collected { .. });
    let taken: BTreeSet<UnitIndex> = saved.votes.iter().filter(|vote| !is_collected(vote.origin)).map(|vote| vote.unit).collect();
    let id = saved.id;
    let inputs = store.input_digests(id, saved.votes.iter().map(|vote| vote.unit))?;
    let (mut inputs, mut checked) = (inputs.into_iter(), CheckedRoots::default());
    let mut of_unit: BTreeMap<UnitIndex, usize> = BTreeMap::new();
    saved.votes.retain(|vote| {
        let input = inputs.next().flatten();
        let matters = !decided.contains(&vote.unit) || taken.contains(&vote.unit);
        if !is_collected(vote.origin) || !matters {
            return true;
        }
        let count = of_unit.entry(vote.unit).or_default();
        *count += 1;
        *count <= VOTES_PER_UNIT_MAX && check_collected(vote, id, input, class, &mut checked).is_ok()
    });
    Ok(())
}
