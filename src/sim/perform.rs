//! Performs a peer's actions in their order, as a node would, and shows the checkers what they need to see.

use super::{
    checkers,
    grid::{Grid, Happening},
    measure::Kind,
    net::Via,
    sizes,
};
use crate::protocol::{
    announce::{Announcement, JobOpen, Subject},
    fact::Fact,
    gossip,
    ids::{JobId, PeerId},
    owner::{Lease, Report},
    peer::{Action, Event},
    platform::Platform,
    worker::{Finished, Outgoing},
};
use std::sync::Arc;

/// In a larger grid a peer's tables are looked at at every [`LOOKED_AT_EVERY`]th event only.
const LOOKED_AT_ALWAYS_MAX: usize = 64;
/// See [`LOOKED_AT_ALWAYS_MAX`].
const LOOKED_AT_EVERY: u32 = 16;

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
        self.look_at_tables(me);
    }

    /// In a large grid at every few events only.
    fn look_at_tables(&mut self, me: usize) {
        let seldom = self.machines.len() > LOOKED_AT_ALWAYS_MAX;
        let machine = &mut self.machines[me];
        machine.performed = machine.performed.wrapping_add(1);
        if seldom && !machine.performed.is_multiple_of(LOOKED_AT_EVERY) {
            return;
        }
        let machine = &self.machines[me];
        let Some(peer) = &machine.peer else { return };
        let held = machine.running.len() + machine.waiting.len();
        let checked = checkers::bounds::check(peer, held);
        let (links, planned) = (self.links.count(), self.planned());
        let peaks = &mut self.measure.peaks;
        peaks.see(peer, held);
        (peaks.links, peaks.planned) = (peaks.links.max(links), peaks.planned.max(planned));
        self.note(checked);
    }

    fn count(&mut self, me: usize, kind: Kind, bytes: usize) {
        self.measure.sent(&mut self.machines[me], kind, bytes);
    }

    fn perform_one(&mut self, me: usize, action: Action) {
        match action {
            Action::Persist(fact) => self.persist(me, fact),
            Action::KeepOutput { .. } | Action::KeepLog { .. } | Action::Rejected { .. } => {}
            Action::KeepReceipts { coordinator, job, receipts } => {
                self.machines[me].disk.keep_receipts(coordinator, job, receipts);
            }
            Action::AskReceipts { to, job, after } => self.send_to_worker(me, to, |from| Event::ReceiptsAsked { from, job, after }),
            Action::SendReceipts { to, job, after } => {
                let machine = &self.machines[me];
                let (receipts, next) = machine.disk.receipts(job, after, machine.spec.platform);
                self.send_to_coordinator(me, to, |from| Event::Recovered { from, job, receipts, next });
            }
            Action::AccusationIgnored { .. } | Action::Found(_) => {}
            Action::Recheck { accusation, .. } => self.recheck(me, &accusation),
            Action::Accuse { accused, job, unit, second } => self.show_evidence(me, accused, job, unit, second.as_ref()),
            Action::Gossip(action) => self.perform_gossip(me, action),
            Action::Heard(envelope) => self.hear(me, &envelope),
            Action::Publish(announcement) => self.publish(me, announcement),
            Action::OpenWork(peer) => {
                if let Some(coordinator) = self.number(peer) {
                    self.dial(me, Via::Work { worker: me, coordinator });
                }
            }
            Action::CloseWork(peer) => self.hang_up(me, peer, |me, coordinator| Via::Work { worker: me, coordinator }),
            // No simulated unit has a chain.
            Action::AskLinks { .. } | Action::AskState { .. } | Action::RunSegment { .. } => {}
            Action::Refuse(peer) => {
                self.machines[me].refused += 1;
                self.hang_up(me, peer, |me, worker| Via::Work { worker, coordinator: me });
            }
            Action::SendWindow { to, window } => {
                self.count(me, Kind::Windows, sizes::window(window));
                self.send_to_coordinator(me, to, |peer| Event::WorkerWindow { peer, window });
            }
            Action::SendOutcomes { to, job, outcomes } => {
                self.count(me, Kind::Outcomes, sizes::outcomes(&outcomes));
                let platform = self.machines[me].spec.platform;
                for outgoing in outcomes {
                    self.send_to_coordinator(me, to, |from| Event::Reported { from, job, report: report(outgoing, platform) });
                }
            }
            Action::SendLeases { to, job, leases } => {
                self.see_leases(me, to, job, &leases);
                self.count(me, Kind::Leases, sizes::leases(&leases));
                self.send_to_worker(me, to, |from| Event::Leased { from, job, leases });
            }
            Action::SendAcknowledged { to, job, units } => {
                self.count(me, Kind::Acknowledgements, sizes::acknowledged(&units));
                self.acknowledge(me, to, job, units);
            }
            Action::SendRevoked { to, job } => {
                self.count(me, Kind::Windows, sizes::revoked());
                self.send_to_worker(me, to, |from| Event::Revoked { from, job });
            }
            // Simulated units are never saved.
            Action::SendOffer { .. } | Action::DropState(_) => {}
            Action::Run { run, from: _ } => {
                if run.coordinator == self.key(me) {
                    self.note(checkers::repeats::check(&self.machines[me].disk, run.job, run.unit));
                }
                self.machines[me].waiting.push_back(run);
            }
            Action::Stop(run) => self.machines[me].stop(run),
            action
            @ (Action::Keep { .. } | Action::Dismiss { .. } | Action::Adopt(_) | Action::Recall { .. } | Action::HandBack { .. }) => {
                self.perform_keeping(me, action);
            }
        }
    }

    fn persist(&mut self, me: usize, fact: Fact) {
        // What a liar shows to itself of somebody else's job concerns nobody.
        let judged = if self.believes_lies(me, &fact) { Ok(()) } else { self.checkers.verdicts.check(&self.jobs, &fact) };
        if !self.scenario.conspiracy {
            self.note(judged);
        }
        self.count_fact(&fact);
        self.copy_fact(me, &fact);
        self.machines[me].disk.keep(fact);
    }

    fn publish(&mut self, me: usize, announcement: Announcement) {
        let (lifetime, number) = (announcement.lifetime, self.announcements.len() as u64);
        let bytes = sizes::announcement(&announcement);
        self.announcements.push((announcement, bytes));
        let body: Arc<[u8]> = Arc::from(number.to_le_bytes());
        let envelope = gossip::Envelope::new(self.key(me), body, lifetime).expect("the body is short");
        let life = self.machines[me].life;
        self.at(self.now, Happening::Local { to: me, life, event: Event::Gossip(gossip::Event::Broadcast(envelope)) });
    }

    fn perform_gossip(&mut self, me: usize, action: gossip::Action) {
        match action {
            gossip::Action::Connect(contact) => {
                if let Some(peer) = self.number(contact.peer) {
                    self.dial(me, Via::gossip(me, peer));
                }
            }
            gossip::Action::Disconnect(peer) => self.hang_up(me, peer, Via::gossip),
            gossip::Action::Send { to, message } => {
                let Some(to) = self.number(to) else { return };
                let via = Via::gossip(me, to);
                if let Some(epoch) = self.links.epoch(via) {
                    let (kind, signed) = match &message {
                        gossip::Message::Data { envelope, .. } => (Kind::Announcements, self.announcements[announced(envelope)].1),
                        _ => (Kind::Upkeep, 0),
                    };
                    self.count(me, kind, sizes::gossip(&message, signed));
                    let from = self.key(me);
                    self.send(me, to, via, epoch, Event::Gossip(gossip::Event::Received { from, message }));
                }
            }
            gossip::Action::Deliver(envelope) => self.hear(me, &envelope),
            gossip::Action::NeighbourUp(_, _) | gossip::Action::NeighbourDown(_) | gossip::Action::Reject { .. } => {}
        }
    }

    fn hear(&mut self, me: usize, envelope: &gossip::Envelope) {
        let announcement = self.announcements[announced(envelope)].0.clone();
        let life = self.machines[me].life;
        if let Subject::JobOpen(JobOpen { job, .. }) = &announcement.subject
            && self.machines[me].spec.lies_as_keeper
            && self.machines[me].disk.kept(*job) == Some(true)
        {
            return;
        }
        let event = self.heard(me, envelope.author(), announcement);
        self.at(self.now, Happening::Local { to: me, life, event });
    }

    /// Shows leases to the checkers, and to those who conspire.
    fn see_leases(&mut self, me: usize, to: PeerId, job: JobId, leases: &[Lease]) {
        for lease in leases {
            let checked = checkers::repeats::check(&self.machines[me].disk, job, lease.unit);
            if checked.is_err() && !self.peer(me).is_some_and(|peer| peer.owner().is_spot_check(job, lease.unit, to)) {
                self.note(checked);
            }
        }
        if let Some(worker) = self.number(to) {
            self.crowd.leased(to, self.machines[worker].spec.behaviour, job, leases);
        }
    }

    fn count_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Standing(peer, standing) if standing.strikes > 0 => drop(self.measure.convicted.insert(*peer)),
            Fact::JobState(_, state) if state.has_ended() => self.measure.ended_at = self.now,
            Fact::Standing(..)
            | Fact::JobState(..)
            | Fact::Vote(..)
            | Fact::Verdict(..)
            | Fact::Failures(..)
            | Fact::Findings(..)
            | Fact::Keepers(..) => {}
        }
    }

    pub(super) fn number(&self, peer: PeerId) -> Option<usize> {
        self.numbers.get(&peer).copied()
    }

    pub(super) fn dial(&mut self, from: usize, via: Via) {
        let (when, life) = (self.arrival(via, from), self.machines[from].life);
        self.at(when, Happening::Dial { from, life, via });
    }

    /// Closes a link from one end; the other learns of it after everything that was sent before.
    fn hang_up(&mut self, me: usize, peer: PeerId, via: impl Fn(usize, usize) -> Via) {
        let Some(other) = self.number(peer) else { return };
        let via = via(me, other);
        if let Some(epoch) = self.links.close(via, &[other]) {
            let when = self.arrival(via, me);
            self.at(when, Happening::Gone { end: other, via, epoch });
        }
    }

    fn send_to_coordinator(&mut self, me: usize, to: PeerId, event: impl FnOnce(PeerId) -> Event) {
        if let Some(coordinator) = self.number(to) {
            self.on_work_stream(me, coordinator, Via::Work { worker: me, coordinator }, event);
        }
    }

    pub(super) fn send_to_worker(&mut self, me: usize, to: PeerId, event: impl FnOnce(PeerId) -> Event) {
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

/// Which announcement it is.
fn announced(envelope: &gossip::Envelope) -> usize {
    let mut number = [0; 8];
    number.copy_from_slice(envelope.body());
    u64::from_le_bytes(number) as usize
}

/// What the border makes of an outcome.
pub(super) fn report(outgoing: Outgoing, platform: Platform) -> Report {
    let Outgoing { unit, attempt, ordinal, token, input: _, rests_on, finished } = outgoing;
    let Finished { outcome, output_bytes, output, log, wall } = finished;
    Report { unit, attempt, ordinal, token, rests_on, outcome, output_bytes, output, log, wall, platform, proof: Arc::from([1]) }
}
