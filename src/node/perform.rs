//! From the core to the world: facts first, durably, then everything else in its order.

use super::{
    net::{Contact, Source},
    run_loop::{Inputs, Node},
    streams::DESCRIBED_TRUSTED,
};
use crate::{
    protocol::{
        announce::{Announcement, Subject},
        fact::Fact,
        gossip,
        ids::{JobId, PeerId},
        owner::Lease,
        peer::{Action, Event},
        worker::Outgoing,
    },
    store::{SMALL_BYTES_MAX, StoreError, Write},
    wire::{
        self,
        announce::SignedAnnouncement,
        bounds::{BATCH_INLINE_BYTES_MAX, LOG_BYTES_MAX, SIGNATURE_BYTES},
        receipt::{Claim, Receipts},
        work::{CoordinatorMessage, JobDescription, OutcomeBatch, UnitInput, UnitOutcome, WorkerMessage},
    },
};
use std::time::Duration;

/// A link of a chain in a lease.
const LINK_BYTES: usize = 40;

/// How long the node waits before it tries again to make something durable.
const DISK_RETRY: Duration = Duration::from_secs(1);

impl Node {
    /// Performs actions in their order. Facts are durable before anything else of the same turn happens.
    ///
    /// `false` when the node ends before they could be made durable: nobody was told anything then.
    pub(super) async fn perform(&mut self, actions: Vec<Action>, inputs: &mut Inputs) -> bool {
        let mut rest = Vec::with_capacity(actions.len());
        let mut writes: Vec<Write> = self.acquaintances.take_note().into_iter().collect();
        writes.extend(self.runs.take_dropped().into_iter().map(Write::DropBlob));
        writes.extend(self.keeping.take_writes());
        let of_others = writes.len();
        for action in actions {
            match action {
                Action::Persist(fact) => writes.push(Write::Fact(fact)),
                Action::KeepOutput { job, digest, bytes } => writes.push(match bytes {
                    Some(bytes) => Write::Blob { digest, bytes: bytes.to_vec(), pin: Some(job) },
                    None => Write::Pin { job, digest },
                }),
                Action::DropState(state) => writes.push(Write::DropBlob(state)),
                Action::KeepLog { job, unit, bytes } => writes.push(Write::Log { job, unit, bytes: bytes.to_vec() }),
                other => rest.push(other),
            }
        }
        self.gather(&writes[of_others..]);
        writes.extend(self.keeping.take_removals());
        if !writes.is_empty() && !self.make_durable(writes, inputs).await {
            return false;
        }
        self.after_commit();
        for action in rest {
            self.perform_one(action);
        }
        self.fetches.start(&self.net, &self.store);
        self.runs.dispatch();
        self.disputes.start(&self.store);
        true
    }

    /// Commits, and tries again for as long as the disk is full: nobody is told anything meanwhile, and nothing is lost.
    async fn make_durable(&mut self, mut writes: Vec<Write>, inputs: &mut Inputs) -> bool {
        loop {
            let again: Vec<Write> = writes.iter().filter_map(copy).collect();
            match self.store.commit(writes).await {
                Ok(()) => break,
                Err(error @ StoreError::Closed) => {
                    tracing::error!(%error, "the store has closed; the node stops");
                    self.handle.stop();
                    return false;
                }
                // The run loop ends because of it.
                Err(StoreError::Damaged { .. } | StoreError::BadRow { .. }) => return false,
                Err(error) => {
                    tracing::error!(%error, "cannot make facts durable; the node waits");
                    self.stalled = Some(error.to_string());
                    self.wait_answering_views(inputs, DISK_RETRY).await;
                    if inputs.end.borrow().is_some() {
                        return false;
                    }
                    writes = again;
                }
            }
        }
        self.stalled = None;
        true
    }

    fn perform_one(&mut self, action: Action) {
        match action {
            Action::Persist(_) | Action::KeepOutput { .. } | Action::KeepLog { .. } | Action::DropState(_) => {}
            Action::Gossip(action) => self.perform_gossip(action),
            Action::Heard(envelope) => self.hear(&envelope),
            Action::Publish(announcement) => self.publish(&announcement),
            Action::OpenWork(peer) => {
                if self.net.open_work(peer).is_err() {
                    self.event(Event::CoordinatorClosed(peer));
                }
            }
            Action::CloseWork(peer) => drop(self.coordinators.remove(&peer)),
            Action::SendWindow { to, window } => self.send_to_coordinator(to, WorkerMessage::Credits(window)),
            Action::SendOutcomes { to, job, outcomes } => self.send_outcomes(to, job, outcomes),
            Action::SendLeases { to, job, leases } => self.send_leases(to, job, &leases),
            Action::SendAcknowledged { to, job, units } => self.acknowledge(to, job, units),
            Action::SendRevoked { to, job } => self.send_to_worker(to, CoordinatorMessage::Revoke { job, units: Vec::new() }),
            Action::AskLinks { to, job, unit } => self.send_to_worker(to, CoordinatorMessage::LinksWanted { job, unit }),
            Action::AskState { to, job, unit, link } => self.ask_state(to, job, unit, link),
            Action::RunSegment { job, unit, from, until } => self.run_segment(job, unit, from, until),
            Action::Refuse(peer) => self.refuse_worker(peer),
            Action::Run { run, from } => self.start_run(run, from),
            Action::SendOffer { to, job, offer } => self.send_to_coordinator(to, WorkerMessage::Offer { job, offer }),
            Action::Stop(run) => self.runs.stop(run),
            Action::Keep { to, job, keepers } => self.keep(to, job, keepers),
            Action::Dismiss { to, job } => self.dismiss(to, job),
            Action::Adopt(job) => self.adopt(job),
            Action::Recall { to, job } => self.recall(to, job),
            Action::HandBack { to, job } => self.hand_back(to, job),
            Action::Recheck { by, accusation } => self.recheck(by, &accusation),
            Action::Accuse { accused, job, unit, second } => self.accuse(accused, job, unit, second.as_ref()),
            Action::KeepReceipts { coordinator, job, receipts } => self.kept.add(coordinator, job, receipts),
            Action::AskReceipts { to, job, after } => self.ask_receipts(to, job, after),
            Action::SendReceipts { to, job, after } => self.send_receipts(to, job, after),
            Action::AccusationIgnored { by, accused, reason } => {
                tracing::debug!(by = %by.short(), accused = %accused.short(), %reason, "an accusation is not followed up");
            }
            Action::Found(finding) => tracing::info!(?finding, "an accusation was checked"),
            Action::Rejected { from, reason } => tracing::debug!(peer = %from.short(), %reason, "a report is not taken"),
        }
    }

    fn perform_gossip(&mut self, action: gossip::Action) {
        match action {
            gossip::Action::Connect(contact) => {
                self.learn(contact.peer, &contact.hint);
                if self.net.open_gossip(contact.peer).is_err() {
                    self.event(Event::Gossip(gossip::Event::Disconnected(contact.peer)));
                }
            }
            gossip::Action::Disconnect(peer) => drop(self.gossip.remove(&peer)),
            gossip::Action::Send { to, message } => {
                if let (Some(outbound), Some(message)) = (self.gossip.get(&to), wire::gossip::write(&message)) {
                    // A stream that has ended says so by an event of its own; the machine lives with dropped messages.
                    let _ = outbound.send_dropping_oldest(message);
                }
            }
            gossip::Action::Deliver(envelope) => self.hear(&envelope),
            gossip::Action::NeighbourUp(peer, direction) => tracing::debug!(peer = %peer.short(), ?direction, "a neighbour"),
            gossip::Action::NeighbourDown(peer) => tracing::debug!(peer = %peer.short(), "no neighbour any more"),
            gossip::Action::Reject { from, reason } => tracing::debug!(peer = %from.short(), %reason, "refused in gossip"),
        }
    }

    fn learn(&mut self, peer: PeerId, hint: &[u8]) {
        if let Ok(contact) = Contact::decode(hint)
            && !contact.addresses.is_empty()
        {
            // When too much is asked at once the address is learned another time.
            drop(self.net.learn(peer, contact, Source::Others));
        }
    }

    fn hear(&mut self, envelope: &gossip::Envelope) {
        let Ok(announcement) = wire::gossip::unseal(envelope).and_then(|signed| signed.decode()) else { return };
        if let Subject::JobOpen(open) = &announcement.subject {
            self.learn(envelope.author(), &open.contact);
        }
        match announcement.subject {
            Subject::Accusation(accusation) => self.hear_accusation(envelope.author(), accusation),
            Subject::JobOpen(_) | Subject::JobClosed { .. } | Subject::Capacity(_) => {
                self.event(Event::Announced { author: envelope.author(), announcement });
            }
        }
    }

    fn publish(&mut self, announcement: &Announcement) {
        let signed = match SignedAnnouncement::sign(self.identity.secret(), self.grid, announcement) {
            Ok(signed) => signed,
            Err(error) => return tracing::error!(%error, "an own announcement is not sensible"),
        };
        match wire::gossip::seal(&signed, announcement.lifetime) {
            Ok(envelope) => self.event(Event::Gossip(gossip::Event::Broadcast(envelope))),
            Err(error) => tracing::error!(%error, "an own announcement is too long"),
        }
    }

    pub(super) fn send_to_coordinator(&mut self, to: PeerId, message: WorkerMessage) {
        let Some(stream) = self.coordinators.get_mut(&to) else { return };
        if stream.send(message.into()).is_err() {
            self.coordinators.remove(&to);
            self.event(Event::CoordinatorClosed(to));
        }
    }

    pub(super) fn send_to_worker(&mut self, to: PeerId, message: CoordinatorMessage) {
        let Some(worker) = self.workers.get_mut(&to) else { return };
        if worker.stream.send(message.into()).is_err() {
            self.refuse_worker(to);
        }
    }

    fn send_outcomes(&mut self, to: PeerId, job: JobId, outcomes: Vec<Outgoing>) {
        let (inputs, outcomes): (Vec<_>, Vec<UnitOutcome>) = outcomes.into_iter().map(|one| (one.input, outcome(one))).unzip();
        let claims: Vec<Claim> = outcomes.iter().zip(inputs).filter_map(|(outcome, input)| Claim::of_outcome(outcome, input)).collect();
        let mut signature = [0; SIGNATURE_BYTES];
        if !claims.is_empty() {
            match Receipts::new(job, &self.validation_class, &self.instruction_set, &claims) {
                Ok(receipts) => signature = receipts.sign(self.identity.secret()),
                Err(error) => return tracing::error!(%error, "own receipts cannot be made"),
            }
        }
        self.send_to_coordinator(to, WorkerMessage::Outcomes(OutcomeBatch { job, outcomes, signature }));
    }

    /// Hands leases out with the units' inputs, in messages that keep to the bound on inline bytes.
    fn send_leases(&mut self, to: PeerId, job: JobId, leases: &[Lease]) {
        if !self.describe(to, job) {
            return;
        }
        let units: Vec<_> = leases.iter().map(|lease| lease.unit).collect();
        let inputs = match tokio::task::block_in_place(|| self.store.unit_inputs(job, &units)) {
            Ok(inputs) => inputs,
            Err(error) => {
                tracing::error!(%error, "the inputs of units cannot be read");
                return self.refuse_worker(to);
            }
        };
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (lease, input) in leases.iter().zip(inputs) {
            let size =
                input.as_ref().map_or(0, input_bytes) + lease.from.as_ref().map_or(0, |from| from.links.as_slice().len() * LINK_BYTES);
            if bytes + size > BATCH_INLINE_BYTES_MAX {
                self.send_to_worker(to, CoordinatorMessage::Leases { job, leases: std::mem::take(&mut batch) });
                bytes = 0;
            }
            bytes += size;
            let Lease { unit, attempt, ordinal, token, duration, input: _, ref from, rests_on } = *lease;
            batch.push(wire::work::Lease { unit, attempt, token: token.0, ordinal, duration, input, from: from.clone(), rests_on });
        }
        self.send_to_worker(to, CoordinatorMessage::Leases { job, leases: batch });
    }

    /// A worker gives whoever has described the job to it what it keeps of the job, whoever leased it.
    fn ask_receipts(&mut self, to: PeerId, job: JobId, after: u64) {
        if self.describe(to, job) {
            self.send_to_worker(to, CoordinatorMessage::AskReceipts { job, after });
        }
    }

    /// Describes a job to a worker that does not know it on this stream yet.
    pub(super) fn describe(&mut self, to: PeerId, job: JobId) -> bool {
        let Some(worker) = self.workers.get_mut(&to) else { return false };
        if worker.described.contains(&job) {
            return true;
        }
        if worker.described.len() >= DESCRIBED_TRUSTED {
            worker.described.pop_front();
        }
        worker.described.push_back(job);
        let described = tokio::task::block_in_place(|| Ok((self.store.signed_manifest(job)?, self.store.signed_keepers(job)?)));
        let (Ok::<_, StoreError>((Some(signed), keepers)), Some(manifest)) = (described, self.peer.owner().manifest(job)) else {
            tracing::error!(job = %job.short(), "a job's description cannot be read");
            self.refuse_worker(to);
            return false;
        };
        let (encoded, signature) = (signed.encoded, signed.signature);
        let description = JobDescription { job, manifest: (*manifest).clone(), encoded, signature, keepers };
        self.send_to_worker(to, CoordinatorMessage::Job(Box::new(description)));
        true
    }
}

/// What can be written again after a failure. Blobs that are staged in files never come by this way.
fn copy(write: &Write) -> Option<Write> {
    match write {
        Write::Fact(fact) => Some(Write::Fact(Fact::clone(fact))),
        Write::Blob { digest, bytes, pin } => Some(Write::Blob { digest: *digest, bytes: bytes.clone(), pin: *pin }),
        Write::Pin { job, digest } => Some(Write::Pin { job: *job, digest: *digest }),
        Write::Log { job, unit, bytes } => Some(Write::Log { job: *job, unit: *unit, bytes: bytes.clone() }),
        Write::Note { key, bytes } => Some(Write::Note { key: key.clone(), bytes: bytes.clone() }),
        Write::Receipts { coordinator, job, at, count, bytes } => {
            Some(Write::Receipts { coordinator: *coordinator, job: *job, at: *at, count: *count, bytes: bytes.clone() })
        }
        Write::ForgetReceipts => Some(Write::ForgetReceipts),
        Write::RemoveJob(job) => Some(Write::RemoveJob(*job)),
        Write::RemoveBlob(digest) => Some(Write::RemoveBlob(*digest)),
        Write::Arrive(kept) => Some(Write::Arrive(kept.clone())),
        Write::KeptUnits { job, first, units } => Some(Write::KeptUnits { job: *job, first: *first, units: units.clone() }),
        Write::Role { job, role, secret } => Some(Write::Role { job: *job, role: *role, secret: *secret }),
        Write::Sheaf { job, sheaf } => Some(Write::Sheaf { job: *job, sheaf: sheaf.clone() }),
        Write::Unbind(job) => Some(Write::Unbind(*job)),
        Write::DropBlob(digest) => Some(Write::DropBlob(*digest)),
        Write::Staged { .. } => None,
    }
}

fn input_bytes(input: &UnitInput) -> usize {
    input.name.len() + input.inline.as_ref().map_or(0, |bytes| bytes.len())
}

fn outcome(outgoing: Outgoing) -> UnitOutcome {
    let Outgoing { unit, attempt, ordinal, token, input: _, rests_on, finished } = outgoing;
    let mut log = finished.log.to_vec();
    log.truncate(LOG_BYTES_MAX);
    UnitOutcome {
        unit,
        attempt,
        token: token.0,
        ordinal,
        outcome: finished.outcome,
        output_bytes: finished.output_bytes,
        inline_output: finished.output.map(|output| output.to_vec()),
        log,
        wall: finished.wall,
        rests_on,
    }
}

// What travels inline is kept in the database.
const _: () = assert!(wire::bounds::INLINE_BYTES_MAX <= SMALL_BYTES_MAX);
