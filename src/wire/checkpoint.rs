//! Checkpoints on the work stream, and lists of those on whom a result rests.

use super::{
    bounds::{Rejection, digest, fixed, job_id},
    chain::{links_of, links_to},
    peer as pb,
    work::{CoordinatorMessage, WorkerMessage},
};
use crate::protocol::{
    chain::Links,
    checkpoint::{Authors, Checkpoint},
    ids::{Attempt, JobId, UnitIndex},
    owner::{LeaseToken, Offer},
};
use std::sync::Arc;

pub(super) fn authors_to(authors: Authors) -> bytes::Bytes {
    authors.to_bytes().into()
}

pub(super) fn authors_from(field: &[u8]) -> Result<Authors, Rejection> {
    Authors::from_bytes(field).ok_or(Rejection::Inconsistent { what: "list of authors", with: "its rules" })
}

pub(super) fn checkpoint_to(checkpoint: &Checkpoint) -> pb::Checkpoint {
    let Checkpoint { gas, state, bytes, links, rests_on } = checkpoint;
    // What names the unit is said beside it.
    let pb::UnitLinks { doublings, links, .. } = links_to(JobId([0; 32]), UnitIndex(0), links);
    pb::Checkpoint { gas: *gas, state: state.0.to_vec().into(), bytes: *bytes, doublings, links, rests_on: authors_to(*rests_on) }
}

pub(super) fn checkpoint_from(message: &pb::Checkpoint) -> Result<Arc<Checkpoint>, Rejection> {
    let links: Option<Links> = links_of(message.doublings, &message.links)?;
    let found = Checkpoint {
        gas: message.gas,
        state: digest("state", &message.state)?,
        bytes: message.bytes,
        links: Arc::new(links.unwrap_or_default()),
        rests_on: authors_from(&message.rests_on)?,
    };
    if found.is_sensible() {
        Ok(Arc::new(found))
    } else {
        Err(Rejection::Inconsistent { what: "checkpoint", with: "its size or its chain" })
    }
}

pub(super) fn offer_to(job: JobId, offer: &Offer) -> pb::UnitCheckpoint {
    pb::UnitCheckpoint {
        job: job.0.to_vec().into(),
        unit: offer.unit.0,
        attempt: offer.attempt.0,
        token: offer.token.0.to_vec().into(),
        ordinal: offer.ordinal,
        checkpoint: Some(checkpoint_to(&offer.checkpoint)),
    }
}

pub(super) fn offer_from(message: &pb::UnitCheckpoint) -> Result<WorkerMessage, Rejection> {
    let checkpoint = message.checkpoint.as_ref().ok_or(Rejection::Missing { what: "checkpoint" })?;
    let offer = Offer {
        unit: UnitIndex(message.unit),
        attempt: Attempt(message.attempt),
        ordinal: message.ordinal,
        token: LeaseToken(fixed("token", &message.token)?),
        checkpoint: checkpoint_from(checkpoint)?,
    };
    Ok(WorkerMessage::Offer { job: job_id(&message.job)?, offer })
}

pub(super) fn taken_from(message: &pb::CheckpointTaken) -> Result<CoordinatorMessage, Rejection> {
    let (job, unit, state) = (job_id(&message.job)?, UnitIndex(message.unit), digest("state", &message.state)?);
    Ok(CoordinatorMessage::CheckpointTaken { job, unit, state })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        chain::{FINEST_INTERVAL, Link},
        checkpoint::CHECKPOINT_BYTES_MAX,
        ids::{Digest, PeerId},
    };

    #[test]
    fn offers_survive_the_journey_and_nonsense_does_not() {
        let link = Link { gas: FINEST_INTERVAL + 7, state: Digest([3; 32]) };
        let rests_on = Authors::new(&[PeerId([4; 32]), PeerId([5; 32])]).unwrap();
        for (links, bytes, rests_on) in [(vec![link], 70_000, Authors::NONE), (vec![], CHECKPOINT_BYTES_MAX, rests_on)] {
            let links = Arc::new(Links::new(0, links).unwrap());
            let checkpoint = Arc::new(Checkpoint { gas: FINEST_INTERVAL + 7, state: Digest([8; 32]), bytes, links, rests_on });
            let (job, token) = (JobId([7; 32]), LeaseToken([9; 16]));
            let offer = Offer { unit: UnitIndex(3), attempt: Attempt(1), ordinal: 2, token, checkpoint };
            let message = offer_to(job, &offer);
            assert_eq!(offer_from(&message), Ok(WorkerMessage::Offer { job, offer }));
            let bent = |change: &dyn Fn(&mut pb::UnitCheckpoint, &mut pb::Checkpoint)| {
                let mut bent = message.clone();
                let mut inner = bent.checkpoint.take().unwrap();
                change(&mut bent, &mut inner);
                bent.checkpoint = Some(inner);
                assert!(offer_from(&bent).is_err());
            };
            bent(&|bent, _| bent.job = bent.job.slice(1..));
            bent(&|bent, _| bent.token = bent.token.slice(1..));
            bent(&|_, inner| inner.state = inner.state.slice(1..));
            bent(&|_, inner| inner.bytes = 0);
            bent(&|_, inner| inner.bytes = CHECKPOINT_BYTES_MAX + 1);
            bent(&|_, inner| inner.links = vec![1; 39].into());
            bent(&|_, inner| inner.links = vec![1; 40].into());
            bent(&|_, inner| inner.rests_on = vec![1; 33].into());
            bent(&|_, inner| inner.rests_on = [[2; 32], [1; 32]].concat().into());
            bent(&|_, inner| inner.rests_on = [[1; 32], [2; 32], [3; 32], [4; 32]].concat().into());
            assert!(offer_from(&pb::UnitCheckpoint { checkpoint: None, ..message.clone() }).is_err());
        }
        // A chain that is longer than what was used.
        let links = Arc::new(Links::new(0, vec![link]).unwrap());
        let checkpoint = Checkpoint { gas: FINEST_INTERVAL + 6, state: Digest([8; 32]), bytes: 9, links, rests_on: Authors::NONE };
        assert!(checkpoint_from(&checkpoint_to(&checkpoint)).is_err());
    }
}
