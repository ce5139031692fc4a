//! The links of a unit's hash chain on the work stream.

use super::{
    bounds::{Rejection, digest, few, job_id},
    peer as pb,
    work::WorkerMessage,
};
use crate::protocol::{
    chain::{LINKS_MAX, Link, Links},
    ids::{Digest, JobId, UnitIndex},
};

/// Gas and digest.
const LINK_BYTES: usize = 8 + 32;

/// The head of a value's chain as a field; empty where there is none.
pub(super) fn chain_to(head: Option<Digest>) -> bytes::Bytes {
    head.map_or_else(bytes::Bytes::new, |head| head.0.to_vec().into())
}

/// Reads such a field.
pub(super) fn chain_from(field: &[u8]) -> Result<Option<Digest>, Rejection> {
    if field.is_empty() { Ok(None) } else { digest("chain", field).map(Some) }
}

/// Reads links, which must be some that a unit can have.
pub(super) fn links_from(message: &pb::UnitLinks) -> Result<WorkerMessage, Rejection> {
    let links = links_of(message.doublings, &message.links)?;
    Ok(WorkerMessage::Links { job: job_id(&message.job)?, unit: UnitIndex(message.unit), links })
}

/// Reads the fields of links; none where there are no links.
pub(super) fn links_of(doublings: u32, links: &[u8]) -> Result<Option<Links>, Rejection> {
    let wrong = || Rejection::Inconsistent { what: "links", with: "the rules of a chain" };
    let (links, rest) = links.as_chunks::<LINK_BYTES>();
    few("links", links.len(), LINKS_MAX)?;
    if !rest.is_empty() {
        return Err(wrong());
    }
    let link = |bytes: &[u8; LINK_BYTES]| {
        let (gas, state) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        Ok(Link { gas: u64::from_le_bytes(*gas), state: digest("state", state)? })
    };
    let links = links.iter().map(link).collect::<Result<Vec<_>, Rejection>>()?;
    let doublings = u8::try_from(doublings).map_err(|_| wrong())?;
    if links.is_empty() { Ok(None) } else { Links::new(doublings, links).map(Some).map_err(|_| wrong()) }
}

pub(super) fn links_to(job: JobId, unit: UnitIndex, links: &Links) -> pb::UnitLinks {
    let encoded: Vec<u8> = links.as_slice().iter().flat_map(|link| [&link.gas.to_le_bytes()[..], &link.state.0].concat()).collect();
    pb::UnitLinks { job: job.0.to_vec().into(), unit: unit.0, doublings: links.doublings().into(), links: encoded.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{chain::FINEST_INTERVAL, ids::Digest};

    #[test]
    fn links_survive_the_journey_and_nonsense_does_not() {
        let (job, unit) = (JobId([7; 32]), UnitIndex(3));
        let link = |number: u64| Link { gas: 2 * number * FINEST_INTERVAL + 5, state: Digest::of(&number.to_le_bytes()) };
        for count in [1, 2, LINKS_MAX as u64] {
            let links = Links::new(1, (1..=count).map(link).collect()).unwrap();
            let message = links_to(job, unit, &links);
            assert_eq!(links_from(&message), Ok(WorkerMessage::Links { job, unit, links: Some(links) }));
            let bent = |change: &dyn Fn(&mut pb::UnitLinks)| {
                let mut bent = message.clone();
                change(&mut bent);
                assert!(links_from(&bent).is_err());
            };
            bent(&|bent| bent.doublings = 2);
            bent(&|bent| bent.doublings = 300);
            bent(&|bent| bent.job = bent.job.slice(..31));
            bent(&|bent| bent.links = bent.links.slice(1..));
            bent(&|bent| bent.links = [bent.links.as_ref(), &[0; 40]].concat().into());
        }
        let none = links_to(job, unit, &Links::default());
        assert_eq!(links_from(&none), Ok(WorkerMessage::Links { job, unit, links: None }));
    }
}
