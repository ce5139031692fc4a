//! Accusations in a simulated grid: the border, the store and the slot that a node has for them.

use super::{
    behaviour,
    grid::{Grid, Happening},
};
use crate::protocol::{
    announce::{Announcement, Subject},
    fact::Vote,
    fraud::{Accusation, Evidence, Receipt},
    ids::{JobId, PeerId, UnitIndex},
    outcome::Outcome,
    peer::Event,
};
use core::time::Duration;
use std::sync::Arc;

impl Grid {
    /// What the border makes of an announcement.
    pub(super) fn heard(&self, me: usize, author: PeerId, announcement: Announcement) -> Event {
        match &announcement.subject {
            Subject::Accusation(accusation) => {
                let class = |number: usize| self.machines[number].spec.class;
                let comparable = self.number(accusation.accused).is_some_and(|accused| class(accused) == class(me));
                Event::Accused { by: author, accusation: accusation.clone(), comparable }
            }
            Subject::JobOpen(_) | Subject::JobClosed { .. } | Subject::Capacity(_) => Event::Announced { author, announcement },
        }
    }

    /// Hands out the receipts of a convicted worker.
    pub(super) fn show_evidence(&mut self, me: usize, accused: PeerId, job: JobId, unit: UnitIndex, second: Option<&Vote>) {
        let Some(first) = self.machines[me].disk.vote(job, unit, accused).map(Receipt::from) else { return };
        let evidence = match second {
            Some(second) => Evidence::Equivocation(first, second.into()),
            None => Evidence::Wrong(first),
        };
        let accusation = Accusation { accused, job, manifest: Arc::from([]), unit, evidence };
        let (life, event) = (self.machines[me].life, Event::Evidence(Arc::new(accusation)));
        self.at(self.now, Happening::Local { to: me, life, event });
    }

    /// Runs a unit again beside the slots, as an honest machine would.
    pub(super) fn recheck(&mut self, me: usize, accusation: &Accusation) {
        let Accusation { job, unit, .. } = *accusation;
        let outcome = self.jobs.get(&job).map(|(_, spec)| (behaviour::truth(spec, job, unit), behaviour::gas(spec, job, unit)));
        let (value, gas) = match outcome {
            Some((Outcome::Value(value), gas)) => (Some(value), gas),
            Some((Outcome::Failed(_), _)) | None => (None, 0),
        };
        self.rechecks += 1;
        let machine = &self.machines[me];
        let took = Duration::from_secs_f64(gas as f64 / machine.spec.gas_per_second as f64);
        let (life, when) = (machine.life, self.now.after(took));
        self.at(when, Happening::Local { to: me, life, event: Event::Rechecked(value) });
    }
}
