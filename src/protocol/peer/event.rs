//! Everything that can happen to a peer, and who says so.

use crate::protocol::{
    announce::Announcement,
    gossip,
    ids::{JobId, PeerId, UnitIndex},
    job::Manifest,
    owner::{Lease, Report},
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
    /// A peer has said hello.
    Met {
        /// Who.
        peer: PeerId,
        /// Its network, where that says something.
        prefix: Option<Prefix>,
        /// The guest through whose invitation it came.
        lineage: Option<PeerId>,
        /// It has shown to be this owner's device.
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
    /// This peer's user submits a job, which is durable already.
    Submitted {
        /// Its name.
        job: JobId,
        /// Its description.
        manifest: Arc<Manifest>,
        /// Its secret.
        secret: JobSecret,
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
