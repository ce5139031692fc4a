//! Everything that a peer may want done.

use crate::protocol::{
    announce::Announcement,
    chain::Link,
    checkpoint::Checkpoint,
    fact::{Fact, Vote},
    fraud::{Accusation, Finding, Ignored},
    gossip,
    ids::{Digest, JobId, PeerId, UnitIndex},
    keeping::Keepers,
    owner::{Lease, Offer, ReportRejected},
    worker::{Kept, Outgoing, RunId},
};
use std::sync::Arc;

/// What the shell must do, in this order; it decides nothing.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make durable before anything that follows is performed.
    Persist(Fact),
    /// Keep this output of an own job, durably, like a fact.
    KeepOutput {
        /// The job.
        job: JobId,
        /// SHA-256 of it.
        digest: Digest,
        /// The bytes; `None` when they are held as a blob already.
        bytes: Option<Arc<[u8]>>,
    },
    /// Keep the standard error of a unit of an own job, durably, like a fact.
    KeepLog {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// The bytes.
        bytes: Arc<[u8]>,
    },
    /// See [`gossip::Action`]; never `Deliver`.
    Gossip(gossip::Action),
    /// Decode this and hand it back as [`super::Event::Announced`].
    Heard(gossip::Envelope),
    /// Sign this and hand it back as [`gossip::Event::Broadcast`].
    Publish(Announcement),
    /// Run this unit of somebody's job again in a slot of its own, fetching the module from whoever has it, the accuser first;
    /// [`super::Event::Rechecked`] follows. One at a time.
    Recheck {
        /// Who says that the value is wrong.
        by: PeerId,
        /// What to run.
        accusation: Arc<Accusation>,
    },
    /// A worker was convicted by own evidence: look up its receipt and hand it back as [`super::Event::Evidence`].
    Accuse {
        /// Who.
        accused: PeerId,
        /// The job.
        job: JobId,
        /// The unit of the wrong receipt.
        unit: UnitIndex,
        /// Another receipt of the same worker for the same unit, which says something else.
        second: Option<Vote>,
    },
    /// Open a work stream to this coordinator.
    OpenWork(PeerId),
    /// Close it.
    CloseWork(PeerId),
    /// Tell a coordinator how many leases are welcome.
    SendWindow {
        /// Whom.
        to: PeerId,
        /// In all.
        window: u32,
    },
    /// Sign outcomes and hand them in.
    SendOutcomes {
        /// To whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// What.
        outcomes: Vec<Outgoing>,
    },
    /// Hand leases to a worker, with the units' inputs.
    SendLeases {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which.
        leases: Vec<Lease>,
    },
    /// Tell a worker that outcomes are durable.
    SendAcknowledged {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which units.
        units: Vec<UnitIndex>,
    },
    /// Tell a worker that nothing more of a job is wanted.
    SendRevoked {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
    },
    /// Ask a worker for the receipts of a job that it keeps; [`super::Event::Recovered`] follows.
    AskReceipts {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Where to begin; zero at first.
        after: u64,
    },
    /// Sign a page of the receipts of a job that are kept, whoever leased its units, and send it. The border knows that the asker is the
    /// author of the job or on its signed list of keepers.
    SendReceipts {
        /// To whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Where to begin.
        after: u64,
    },
    /// Keep receipts for a while. Nothing waits for their being durable.
    KeepReceipts {
        /// Who leased the units.
        coordinator: PeerId,
        /// Of which job.
        job: JobId,
        /// What.
        receipts: Vec<Kept>,
    },
    /// Ask a worker for the links of its execution of a unit; [`super::Event::Links`] follows, or nothing.
    AskLinks {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
    },
    /// Ask a worker for a state of its execution of a unit, and fetch it; [`super::Event::State`] follows, or nothing.
    AskState {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
        /// Which state.
        link: Link,
    },
    /// Run a part of a unit of an own job beside the slots; [`super::Event::SegmentRan`] follows.
    RunSegment {
        /// Of which job.
        job: JobId,
        /// Which unit.
        unit: UnitIndex,
        /// The state to go on from, which is held as a blob; none for the beginning.
        from: Option<Link>,
        /// It stops at the first moment between two steps at which so much gas is used.
        until: u64,
    },
    /// Ask a peer to keep an own job, or tell a keeper that the list has changed: sign the list, open a keep stream if there is none,
    /// and copy everything about the job that is durable, and from then on whatever becomes so.
    /// [`super::Event::KeeperAnswered`] or [`super::Event::KeeperLost`] follows.
    Keep {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
        /// The new list, which names `to`.
        keepers: Keepers,
    },
    /// Tell a keeper that it does not keep the job any more.
    Dismiss {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
    },
    /// The author of a kept job is not heard: load what is kept of it, draw a secret, make durable that it is adopted, and hand it
    /// back as [`super::Event::Adopted`].
    Adopt(JobId),
    /// Ask a keeper for the votes that it may have taken while this author was away; [`super::Event::Collected`] follows for each
    /// page, then [`super::Event::HandedBack`]; or [`super::Event::KeeperLost`].
    Recall {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
    },
    /// Hand what is kept of a job back to its author, page by page, own votes signed; and make durable that it is not adopted any
    /// more.
    HandBack {
        /// Whom.
        to: PeerId,
        /// Which job.
        job: JobId,
    },
    /// Close a worker's stream: its results cannot be compared with ours, or there is no room.
    Refuse(PeerId),
    /// Run a unit in a slot, fetching what it needs; [`super::Event::Finished`] follows, and [`super::Event::Saved`] now and then.
    Run {
        /// Which.
        run: RunId,
        /// Go on from there. Where the state cannot be had from its coordinator, or is none of this unit, from the beginning.
        from: Option<Arc<Checkpoint>>,
    },
    /// Show a coordinator how far a unit has come; it fetches the state if it likes.
    SendOffer {
        /// Whom.
        to: PeerId,
        /// Of which job.
        job: JobId,
        /// How far.
        offer: Offer,
    },
    /// The state of a checkpoint is of no more use: the blob may go, unless something else needs it.
    DropState(Digest),
    /// Stop it, or do not start it; nothing follows.
    Stop(RunId),
    /// An accusation is not followed up. For logs.
    AccusationIgnored {
        /// Whose.
        by: PeerId,
        /// Against whom.
        accused: PeerId,
        /// Why.
        reason: Ignored,
    },
    /// What checking an accusation has shown. For logs.
    Found(Finding),
    /// A report was not taken. For logs.
    Rejected {
        /// Whose.
        from: PeerId,
        /// Why.
        reason: ReportRejected,
    },
}
