//! The simulator states how long messages are, since it knows no encodings; here its numbers are held against the encodings.
#![cfg(feature = "net")]

use manyhands::{
    protocol::{
        announce::{Announcement, Capacity, JobOpen, Subject},
        checkpoint::Authors,
        gossip::{Contact, Message, MessageId, Path, Summary, Window},
        ids::{Attempt, Digest, GridId, JobId, PeerId, UnitIndex},
        outcome::{AttemptFailure, Exit, Outcome, Value},
        owner::{Lease, LeaseToken},
        worker::{Finished, Outgoing},
    },
    sim::sizes,
    wire::{
        announce::SignedAnnouncement,
        gossip, peer as pb,
        work::{self, CoordinatorMessage, OutcomeBatch, UnitOutcome, WorkerMessage},
    },
};
use prost::Message as _;
use std::{sync::Arc, time::Duration};

const JOB: JobId = JobId([7; 32]);
/// How far a stated size may be from the real one, of a hundred, and in bytes for the shortest messages.
const TOLERANCE: (usize, usize) = (10, 2);

fn close(what: &str, stated: usize, real: usize) {
    let off = stated.abs_diff(real);
    assert!(off <= TOLERANCE.1 || off * 100 <= real * TOLERANCE.0, "{what}: {stated} bytes are stated, {real} are sent");
}

fn units() -> Vec<UnitIndex> {
    (0..300).map(|unit| UnitIndex(unit * 37)).collect()
}

#[test]
fn leases_and_acknowledgements() {
    for count in [1, 3, 300] {
        let lease = |unit: &UnitIndex| Lease {
            unit: *unit,
            attempt: Attempt(unit.0 % 3),
            ordinal: unit.0 % 2,
            token: LeaseToken([9; 16]),
            duration: Duration::from_millis(91_234),
            from: None,
            rests_on: Authors::NONE,
            input: None,
        };
        let leases: Vec<_> = units().iter().take(count).map(lease).collect();
        let sent = leases.iter().map(|lease| work::Lease {
            unit: lease.unit,
            attempt: lease.attempt,
            token: lease.token.0,
            ordinal: lease.ordinal,
            duration: lease.duration,
            input: None,
            from: None,
            rests_on: Authors::NONE,
        });
        let message = CoordinatorMessage::Leases { job: JOB, leases: sent.collect() };
        close("leases", sizes::leases(&leases), pb::CoordinatorMessage::from(message).encoded_len());
        let units = units()[..count].to_vec();
        let message = CoordinatorMessage::Acknowledged { job: JOB, units: units.clone() };
        close("an acknowledgement", sizes::acknowledged(&units), pb::CoordinatorMessage::from(message).encoded_len());
    }
    let message = CoordinatorMessage::Revoke { job: JOB, units: vec![] };
    close("a revocation", sizes::revoked(), pb::CoordinatorMessage::from(message).encoded_len());
}

#[test]
fn outcomes_and_windows() {
    let value = Outcome::Value(Value { exit: Exit::Code(0), output: Digest::of(b"output"), gas: 12_345_678_901, chain: None });
    for (count, outcome) in [(1, value), (40, value), (5, Outcome::Failed(AttemptFailure::OutOfMemory))] {
        let output = matches!(outcome, Outcome::Value(_)).then(|| Arc::from([1; 8]));
        let finished = Finished { outcome, output_bytes: 8, output, log: Arc::from([]), wall: Duration::from_millis(12_345) };
        let outgoing = |unit: &UnitIndex| Outgoing {
            unit: *unit,
            attempt: Attempt(unit.0 % 3),
            ordinal: unit.0 % 2,
            token: LeaseToken([9; 16]),
            rests_on: Authors::NONE,
            input: None,
            finished: finished.clone(),
        };
        let outcomes: Vec<_> = units().iter().take(count).map(outgoing).collect();
        let sent = outcomes.iter().map(|outgoing| UnitOutcome {
            unit: outgoing.unit,
            attempt: outgoing.attempt,
            token: outgoing.token.0,
            ordinal: outgoing.ordinal,
            outcome: outgoing.finished.outcome,
            output_bytes: outgoing.finished.output_bytes,
            inline_output: outgoing.finished.output.as_ref().map(|output| output.to_vec()),
            log: vec![],
            wall: outgoing.finished.wall,
            rests_on: Authors::NONE,
        });
        let batch = OutcomeBatch { job: JOB, outcomes: sent.collect(), signature: [3; 64] };
        let message = pb::WorkerMessage::from(WorkerMessage::Outcomes(batch));
        close("outcomes", sizes::outcomes(&outcomes), message.encoded_len());
    }
    for window in [0, 3, 4096] {
        close("a window", sizes::window(window), pb::WorkerMessage::from(WorkerMessage::Credits(window)).encoded_len());
    }
}

#[test]
fn gossip_messages() {
    let ids: Vec<_> = (0..100).map(|number| MessageId([number; 16])).collect();
    let contacts: Vec<_> = (0..8).map(|peer| Contact { peer: PeerId([peer; 32]), hint: Arc::from([1; 64]) }).collect();
    let window = Window { first: MessageId::MIN, last: MessageId::MAX, ids: ids.clone() };
    let messages = [
        Message::Request { hint: Arc::from([1; 64]), urgent: true },
        Message::Accept { contacts: contacts.clone() },
        Message::Refuse { contacts: vec![] },
        Message::Shuffle { contacts: contacts.clone() },
        Message::ShuffleReply { contacts },
        Message::IHave { ids: ids[..1].to_vec() },
        Message::Graft { ids: ids[..3].to_vec() },
        Message::Want { ids },
        Message::Prune,
        Message::Probe(Summary { count: 300, fold: 7 }),
        Message::Echo(None),
        Message::Echo(Some(window)),
    ];
    for message in messages {
        let sent = gossip::write(&message).expect("it is sent");
        close(&format!("{message:?}").chars().take(20).collect::<String>(), sizes::gossip(&message, 0), sent.encoded_len());
    }
}

#[test]
fn announcements_on_their_way() {
    let open = JobOpen {
        job: JOB,
        generation: 0,
        module: Digest([2; 32]),
        purpose: String::new(),
        tags: vec![],
        memory_bytes: 512 << 20,
        open_units: 50_000,
        priority: 0,
        contact: vec![1; 64],
    };
    let capacity = Capacity { slots: 2, memory_bytes: 1 << 32, validation_class: "v1".into(), idle_slots: 1 };
    let subjects = [Subject::JobOpen(open), Subject::JobClosed { job: JOB, generation: 0 }, Subject::Capacity(capacity)];
    for (subject, path) in subjects.into_iter().zip([Path::Tree, Path::Repair, Path::Tree]) {
        let announcement = Announcement { sequence: 61_234_567, lifetime: Duration::from_secs(120), subject };
        let key = iroh::SecretKey::from_bytes(&[42; 32]);
        let signed = SignedAnnouncement::sign(&key, GridId([8; 32]), &announcement).expect("it is in bounds");
        close("an announcement", sizes::announcement(&announcement), pb::SignedAnnouncement::from(&signed).encoded_len());
        let envelope = gossip::seal(&signed, announcement.lifetime).expect("it is short");
        let message = Message::Data { envelope, path };
        let stated = sizes::gossip(&message, sizes::announcement(&announcement));
        close("an announcement on its way", stated, gossip::write(&message).expect("it is sent").encoded_len());
    }
}
