//! Accusations, between the machine that weighs them, the owner that convicts, and everybody else.

use super::{Action, Peer};
use crate::protocol::{
    announce::{LIFETIME_MAX, Subject},
    fraud::{Accusation, Circumstances, Finding, Hearing},
    ids::PeerId,
    outcome::Value,
    time::Instant,
};
use std::sync::Arc;

impl Peer {
    pub(super) fn on_accused(&mut self, now: Instant, by: PeerId, accusation: Arc<Accusation>, comparable: bool) {
        let accused = accusation.accused;
        if by == self.me() {
            return;
        }
        let about = Circumstances {
            accused_is_known: self.owner.could_convict(now, accused),
            accuser_is_known: self.owner.has_record_of(by),
            reproducible: comparable && self.config.slots > 0,
        };
        match self.fraud.hear(now, by, accusation, about) {
            Hearing::Guilty => {
                self.fraud.forget(accused);
                self.owner.convict(now, accused);
            }
            Hearing::Waits => {}
            Hearing::Ignored(reason) => self.actions.push(Action::AccusationIgnored { by, accused, reason }),
        }
    }

    pub(super) fn on_rechecked(&mut self, now: Instant, value: Option<Value>) {
        let Some(finding) = self.fraud.rechecked(now, value) else { return };
        if let Finding::Guilty { accused } = finding {
            self.owner.convict(now, accused);
        }
        self.actions.push(Action::Found(finding));
    }

    /// Own evidence goes to everybody. Whoever cannot check it does not believe it.
    pub(super) fn on_evidence(&mut self, accusation: Arc<Accusation>) {
        self.publish(LIFETIME_MAX, Subject::Accusation(accusation));
    }

    /// Has a unit run again when there is an accusation to check, unless the user lends nothing at the moment.
    pub(super) fn recheck(&mut self, now: Instant) {
        if self.worker.is_paused() {
            return;
        }
        if let Some((by, accusation)) = self.fraud.start(now) {
            self.actions.push(Action::Recheck { by, accusation });
        }
    }

    pub(super) fn recheck_deadline(&self) -> Option<Instant> {
        self.fraud.deadline().filter(|_| !self.worker.is_paused())
    }
}
