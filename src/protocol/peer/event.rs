//! Everything that can happen to a peer, and who says so.

use crate::protocol::{
    announce::Announcement,
    chain::{End, Links},
    checkpoint::Checkpoint,
    fact::SavedJob,
    fraud::Accusation,
    gossip,
    ids::{JobId, PeerId, UnitIndex},
    job::Manifest,
    keeping::KeptJob,
    outcome::Value,
    owner::{Collected, Lease, Offer, OwnRun, Recovered, Report},
    platform::Platform,
    trust::Prefix,
    verify::JobSecret,
    worker::{Finished, RunId},
};
use std::sync::Arc;

/// Everything that can happen to a peer.
#[derive(Clone, Debug)]
pub enum Event {
    /// The shell's gossip streams; see [`gossip::Event`].
    Gossip(gossip::Event),
    /// The border has verified and decoded what [`super::Action::Heard`] handed out.
    Announced {
        /// Who says so.
        author: PeerId,
        /// What.
        announcement: Announcement,
    },
    /// Somebody accuses somebody. The border has checked the signatures, and that the unit depends on nothing but its manifest.
    Accused {
        /// Who says so.
        by: PeerId,
        /// Of what.
        accusation: Arc<Accusation>,
        /// This machine computes what that of the accused would: the same engine on the same instruction set.
        comparable: bool,
    },
    /// What the unit that [`super::Action::Recheck`] asked for came to; none when it could not be run.
    Rechecked(Option<Value>),
    /// The receipts that [`super::Action::Accuse`] asked for: everybody is to see them.
    Evidence(Arc<Accusation>),
    /// A peer has said hello.
    Met {
        /// Who.
        peer: PeerId,
        /// Its network, where that says something.
        prefix: Option<Prefix>,
        /// The guest through whose invitation it came.
        lineage: Option<PeerId>,
        /// It has shown to be this owner's device, or is this owner's inviter.
        own: bool,
    },
    /// A worker has opened a work stream. Answered by [`super::Action::Refuse`] if its results cannot be compared with ours.
    WorkerOpened {
        /// Who.
        peer: PeerId,
        /// Its validation class.
        class: Arc<str>,
        /// Its instruction set, as it says.
        platform: Platform,
        /// Its slots.
        slots: u32,
    },
    /// How many leases the worker is willing to hold.
    WorkerWindow {
        /// Who.
        peer: PeerId,
        /// In all.
        window: u32,
    },
    /// Its work stream is gone.
    WorkerClosed(PeerId),
    /// A worker hands in an outcome.
    Reported {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// What, checked by the border.
        report: Report,
    },
    /// A worker says again what it said of units of a job. The border has checked its signatures.
    Recovered {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// What.
        receipts: Vec<Recovered>,
        /// Where to go on; none when that was all, or when it did not come as an answer to [`super::Action::AskReceipts`].
        next: Option<u64>,
    },
    /// Votes on a job that somebody else collected. The border has checked their signatures.
    Collected {
        /// Of which job.
        job: JobId,
        /// What.
        votes: Vec<Collected>,
    },
    /// The votes on a job are lost, or some are: its workers are asked for their receipts.
    Recover(JobId),
    /// A coordinator asks for the receipts of a job that are kept here.
    ReceiptsAsked {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// Where to begin; zero at first.
        after: u64,
    },
    /// The stream asked for by [`super::Action::OpenWork`] is open.
    CoordinatorOpened(PeerId),
    /// It could not be opened, or is gone.
    CoordinatorClosed(PeerId),
    /// A coordinator leases units.
    Leased {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// Which.
        leases: Vec<Lease>,
    },
    /// A coordinator wants nothing more of a job.
    Revoked {
        /// Who.
        from: PeerId,
        /// Which job.
        job: JobId,
    },
    /// Outcomes are durable at the coordinator.
    Acknowledged {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// Which units.
        units: Vec<UnitIndex>,
    },
    /// An execution asked for by [`super::Action::Run`] has ended.
    Finished {
        /// Which.
        run: RunId,
        /// How.
        finished: Finished,
    },
    /// A run asked for by [`super::Action::Run`] has come so far; its state is held as a blob. It goes on.
    Saved {
        /// Which.
        run: RunId,
        /// How far.
        checkpoint: Checkpoint,
    },
    /// A worker has shown how far it has come with a unit. The state was fetched, has its digest, and is held.
    Offered {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// How far.
        offer: Offer,
    },
    /// A worker hands in the links that [`super::Action::AskLinks`] asked for.
    Links {
        /// Who.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// Of which unit.
        unit: UnitIndex,
        /// What; none when it does not have them any more.
        links: Option<Links>,
    },
    /// The state that [`super::Action::AskState`] asked a worker for was fetched and is held, or cannot be had.
    State {
        /// From whom.
        from: PeerId,
        /// Of which job.
        job: JobId,
        /// Of which unit.
        unit: UnitIndex,
        /// It is held.
        held: bool,
    },
    /// The segment asked for by [`super::Action::RunSegment`] was run.
    SegmentRan {
        /// Of which job.
        job: JobId,
        /// Of which unit.
        unit: UnitIndex,
        /// What was found at its end; none when this machine could not tell.
        found: Option<End>,
    },
    /// This peer's user submits a job, which is durable already.
    Submitted {
        /// Its name.
        job: JobId,
        /// Its description.
        manifest: Arc<Manifest>,
        /// Its secret.
        secret: JobSecret,
        /// How many peers are to keep it; at most [`KEEPERS_MAX`](crate::protocol::keeping::KEEPERS_MAX).
        keep: u8,
    },
    /// A peer answers to [`super::Action::Keep`]: it keeps the job from now on, all that was durable so far included; or it does not.
    KeeperAnswered {
        /// Who.
        from: PeerId,
        /// Which job.
        job: JobId,
        /// Whether it does.
        keeps: bool,
    },
    /// The keep stream to a keeper could not be opened or is gone, or it fell so far behind that nobody waits for it any more.
    KeeperLost(PeerId),
    /// A keeper is far behind with an own job, so that nothing more of it should be leased; or none is any more.
    KeepersBehind {
        /// Which job.
        job: JobId,
        /// Whether one is.
        behind: bool,
    },
    /// A keeper has handed back all that it had of the job.
    HandedBack {
        /// Who.
        from: PeerId,
        /// Which job.
        job: JobId,
    },
    /// This peer keeps a job for its author from now on, or its list of keepers has changed; durable already. The border has
    /// checked both signatures and that the list names this peer.
    Kept(KeptJob),
    /// Its author does not want this peer to keep the job any more, or the job has ended, or it was removed here.
    KeptNoMore {
        /// Which job.
        job: JobId,
    },
    /// The author of kept jobs has opened a keep stream, or said something on it.
    AuthorHeard(PeerId),
    /// What [`super::Action::Adopt`] asked for; boxed, since it is large.
    Adopted(Box<SavedJob>),
    /// The author of a job asks for what was collected while it was away. The border knows that it is the author.
    Recalled {
        /// Who.
        author: PeerId,
        /// Which job.
        job: JobId,
    },
    /// The user had a unit of an own job run here, beside all leases.
    Checked {
        /// Of which job.
        job: JobId,
        /// What came of it.
        run: OwnRun,
    },
    /// The user marks a peer as a friend, or no longer.
    Befriended {
        /// Whom.
        peer: PeerId,
        /// Whether it is one from now on.
        friend: bool,
    },
    /// The user stops a job.
    Cancel(JobId),
    /// The user runs failed units again.
    Retry(JobId),
    /// The user lends nothing for now, or lends again.
    Pause(bool),
    /// The deadline has passed.
    Timer,
}
