//! Performs a peer's actions in their order, as a node would, and shows the checkers what they need to see.

use super::{
    checkers,
    grid::{Grid, Happening},
    net::Via,
};
use crate::protocol::{
    gossip,
    ids::PeerId,
    owner::Report,
    peer::{Action, Event},
    platform::Platform,
    worker::{Finished, Outgoing},
};
use std::sync::Arc;

impl Grid {
    /// Performs actions one after the other; the peer may die between any two.
    pub(super) fn perform(&mut self, me: usize, actions: Vec<Action>) {
        let life = self.machines[me].life;
        for action in actions {
            if let Some(per) = self.scenario.faults.crash_per_actions.filter(|_| self.faults_on)
                && self.draw(per) == 0
            {
                let down = self.draw(self.scenario.faults.down_for.as_micros() as u64 + 1);
                self.crash(me, core::time::Duration::from_micros(down));
            }
            if self.machines[me].life != life {
                return;
            }
            self.perform_one(me, action);
        }
        self.fill_slots(me);
        let machine = &self.machines[me];
        let held = machine.running.len() + machine.waiting.len();
        self.note(checkers::bounds::check(machine.peer.as_ref(), held));
    }

    fn perform_one(&mut self, me: usize, action: Action) {
        match action {
            Action::Persist(fact) => {
                let checked = self.checkers.verdicts.check(&self.jobs, &fact);
                if !self.scenario.conspiracy {
                    self.note(checked);
                }
                self.machines[me].disk.keep(fact);
            }
            Action::KeepOutput { .. } | Action::KeepLog { .. } | Action::Rejected { .. } => {}
            Action::Gossip(action) => self.perform_gossip(me, action),
            Action::Heard(envelope) => self.hear(me, &envelope),
            Action::Publish(announcement) => {
                let (lifetime, number) = (announcement.lifetime, self.announcements.len() as u64);
                self.announcements.push(announcement);
                let body: Arc<[u8]> = Arc::from(number.to_le_bytes());
                let envelope = gossip::Envelope::new(self.key(me), body, lifetime).expect("the body is short");
                let life = self.machines[me].life;
                self.at(self.now, Happening::Local { to: me, life, event: Event::Gossip(gossip::Event::Broadcast(envelope)) });
            }
            Action::OpenWork(peer) => {
                if let Some(coordinator) = self.number(peer) {
                    self.dial(me, coordinator, Via::Work { worker: me, coordinator });
                }
            }
            Action::CloseWork(peer) => self.hang_up(me, peer, |me, coordinator| Via::Work { worker: me, coordinator }),
            Action::Refuse(peer) => {
                self.machines[me].refused += 1;
                self.hang_up(me, peer, |me, worker| Via::Work { worker, coordinator: me });
            }
            Action::SendWindow { to, window } => self.send_to_coordinator(me, to, |peer| Event::WorkerWindow { peer, window }),
            Action::SendOutcomes { to, job, outcomes } => {
                let platform = self.machines[me].spec.platform;
                for outgoing in outcomes {
                    self.send_to_coordinator(me, to, |from| Event::Reported { from, job, report: report(outgoing, platform) });
                }
            }
            Action::SendLeases { to, job, leases } => {
                for lease in &leases {
                    self.note(checkers::repeats::check(&self.machines[me].disk, job, lease.unit));
                }
                self.send_to_worker(me, to, |from| Event::Leased { from, job, leases });
            }
            Action::SendAcknowledged { to, job, units } => self.send_to_worker(me, to, |from| Event::Acknowledged { from, job, units }),
            Action::SendRevoked { to, job } => self.send_to_worker(me, to, |from| Event::Revoked { from, job }),
            Action::Run(run) => {
                if run.coordinator == self.key(me) {
                    self.note(checkers::repeats::check(&self.machines[me].disk, run.job, run.unit));
                }
                self.machines[me].waiting.push_back(run);
            }
            Action::Stop(run) => {
                let machine = &mut self.machines[me];
                if !machine.running.remove(&run) {
                    machine.waiting.retain(|waiting| *waiting != run);
                }
            }
        }
    }

    fn perform_gossip(&mut self, me: usize, action: gossip::Action) {
        match action {
            gossip::Action::Connect(contact) => {
                if let Some(peer) = self.number(contact.peer) {
                    self.dial(me, peer, Via::gossip(me, peer));
                }
            }
            gossip::Action::Disconnect(peer) => self.hang_up(me, peer, Via::gossip),
            gossip::Action::Send { to, message } => {
                let Some(to) = self.number(to) else { return };
                let via = Via::gossip(me, to);
                if let Some(epoch) = self.links.epoch(via) {
                    let from = self.key(me);
                    self.send(me, to, via, epoch, Event::Gossip(gossip::Event::Received { from, message }));
                }
            }
            gossip::Action::Deliver(envelope) => self.hear(me, &envelope),
            gossip::Action::NeighbourUp(_, _) | gossip::Action::NeighbourDown(_) | gossip::Action::Reject { .. } => {}
        }
    }

    fn hear(&mut self, me: usize, envelope: &gossip::Envelope) {
        let mut number = [0; 8];
        number.copy_from_slice(envelope.body());
        let announcement = self.announcements[u64::from_le_bytes(number) as usize].clone();
        let life = self.machines[me].life;
        let event = Event::Announced { author: envelope.author(), announcement };
        self.at(self.now, Happening::Local { to: me, life, event });
    }

    pub(super) fn number(&self, peer: PeerId) -> Option<usize> {
        self.numbers.get(&peer).copied()
    }

    fn dial(&mut self, from: usize, to: usize, via: Via) {
        let delay = self.delay();
        let when = self.links.arrival(self.now, from, to, delay);
        let life = self.machines[from].life;
        self.at(when, Happening::Dial { from, life, via });
    }

    /// Closes a link from one end; the other learns of it after everything that was sent before.
    fn hang_up(&mut self, me: usize, peer: PeerId, via: impl Fn(usize, usize) -> Via) {
        let Some(other) = self.number(peer) else { return };
        let via = via(me, other);
        if self.links.close(via) {
            let (to_a, to_b) = self.closed_events(via);
            let event = if via.ends().0 == me { to_b } else { to_a };
            let delay = self.delay();
            let (when, life) = (self.links.arrival(self.now, me, other, delay), self.machines[other].life);
            self.at(when, Happening::Local { to: other, life, event });
        }
    }

    fn send_to_coordinator(&mut self, me: usize, to: PeerId, event: impl FnOnce(PeerId) -> Event) {
        if let Some(coordinator) = self.number(to) {
            self.on_work_stream(me, coordinator, Via::Work { worker: me, coordinator }, event);
        }
    }

    fn send_to_worker(&mut self, me: usize, to: PeerId, event: impl FnOnce(PeerId) -> Event) {
        if let Some(worker) = self.number(to) {
            self.on_work_stream(me, worker, Via::Work { worker, coordinator: me }, event);
        }
    }

    fn on_work_stream(&mut self, me: usize, to: usize, via: Via, event: impl FnOnce(PeerId) -> Event) {
        if let Some(epoch) = self.links.epoch(via) {
            let event = event(self.key(me));
            self.send(me, to, via, epoch, event);
        }
    }
}

/// What the border makes of an outcome.
pub(super) fn report(outgoing: Outgoing, platform: Platform) -> Report {
    let Outgoing { unit, attempt, ordinal, token, finished } = outgoing;
    let Finished { outcome, output_bytes, output, log, wall } = finished;
    Report { unit, attempt, ordinal, token, outcome, output_bytes, output, log, wall, platform, proof: Arc::from([1]) }
}
