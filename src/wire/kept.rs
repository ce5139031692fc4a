//! Receipts that workers keep, as they are stored and as they are said again.

use super::{
    bounds::{BATCH_MAX, Rejection, SIGNATURE_BYTES, at_most, digest, few, fixed, job_id},
    chain::{chain_from, chain_to},
    checkpoint::{authors_from, authors_to},
    number, peer as pb,
    receipt::{self, CheckedRoots, Claim, ReceiptError},
};
use crate::protocol::{
    fact::Vote,
    ids::{Attempt, Digest, JobId, UnitIndex},
    outcome::{UnitLimits, Value},
    owner::LeaseToken,
    platform::Platform,
    worker::{KEPT_OUTPUT_BYTES_MAX, Kept},
};
use prost::Message as _;
use std::sync::Arc;

const WHAT: &str = "kept receipts";

/// Some of the receipts of a job, signed together.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceiptPage {
    /// The job.
    pub job: JobId,
    /// At most [`BATCH_MAX`].
    pub receipts: Vec<Kept>,
    /// On all of them; all zeroes when there are none.
    pub signature: [u8; SIGNATURE_BYTES],
    /// Where to go on; none when this is the last page.
    pub next: Option<u64>,
}

/// What a receipt says.
pub fn claim(kept: &Kept) -> Claim {
    let Kept { unit, attempt, ordinal, rests_on, value, output_bytes, input, .. } = *kept;
    Claim { unit, attempt, ordinal, value, output_bytes, input, rests_on }
}

/// Receipts as they are stored.
pub fn encode(receipts: &[Kept]) -> Vec<u8> {
    pb::KeptReceipts { receipts: receipts.iter().map(kept_to).collect() }.encode_to_vec()
}

/// Stored receipts.
pub fn decode(bytes: &[u8]) -> Result<Vec<Kept>, Rejection> {
    let stored = pb::KeptReceipts::decode(bytes).map_err(|source| Rejection::Undecodable { what: WHAT, source })?;
    stored.receipts.into_iter().map(kept_from).collect()
}

/// Why a vote that somebody else has collected is not handed in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CollectedError {
    /// Its worker did not sign it.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// It was made by an engine whose results cannot be compared with ours.
    #[error("it was made by another engine")]
    OtherEngine,
    /// It was computed on another instruction set than it says.
    #[error("its receipt names another instruction set")]
    OtherPlatform,
    /// It does not say what its unit was given.
    #[error("its receipt does not name the unit's input")]
    NoInput,
}

/// Checks a vote on a unit of `job` that somebody else has collected: all that can be known of it without trusting whoever did. `class` is
/// this machine's validation class, `input` what the unit is to be given (see [`Claim::input`]). Of votes
/// that were signed together the signature is checked once.
pub fn check_collected(
    vote: &Vote,
    job: JobId,
    input: Option<Digest>,
    class: &str,
    checked: &mut CheckedRoots,
) -> Result<(), CollectedError> {
    checked.check(&vote.proof, vote.worker, job, &Claim::of_vote(vote, input))?;
    if input.is_some() && !receipt::covers_input(&vote.proof) {
        return Err(CollectedError::NoInput);
    }
    match receipt::made_with(&vote.proof) {
        Some((made_with, _)) if made_with != class.as_bytes() => Err(CollectedError::OtherEngine),
        Some((_, instruction_set)) if Platform::named(instruction_set) != vote.platform => Err(CollectedError::OtherPlatform),
        Some(_) => Ok(()),
        None => Err(ReceiptError::Malformed.into()),
    }
}

impl TryFrom<pb::ReceiptPage> for ReceiptPage {
    type Error = Rejection;

    fn try_from(page: pb::ReceiptPage) -> Result<Self, Rejection> {
        few(WHAT, page.receipts.len(), BATCH_MAX)?;
        let receipts = page.receipts.into_iter().map(kept_from).collect::<Result<Vec<_>, _>>()?;
        let signature = match (receipts.is_empty(), page.signature.is_empty()) {
            (true, true) => [0; SIGNATURE_BYTES],
            (true, false) => return Err(Rejection::Inconsistent { what: "signature", with: "page without receipts" }),
            (false, _) => fixed("signature", &page.signature)?,
        };
        Ok(Self { job: job_id(&page.job)?, receipts, signature, next: (page.next > 0).then_some(page.next) })
    }
}

impl From<ReceiptPage> for pb::ReceiptPage {
    fn from(page: ReceiptPage) -> Self {
        let ReceiptPage { job, receipts, signature, next } = page;
        Self {
            job: job.0.to_vec().into(),
            signature: if receipts.is_empty() { bytes::Bytes::new() } else { signature.to_vec().into() },
            receipts: receipts.iter().map(kept_to).collect(),
            next: next.unwrap_or(0),
        }
    }
}

fn kept_to(kept: &Kept) -> pb::KeptReceipt {
    let Kept { unit, attempt, ordinal, token, input, rests_on, value, output_bytes, output } = kept;
    pb::KeptReceipt {
        unit: unit.0,
        attempt: attempt.0,
        token: token.0.to_vec().into(),
        ordinal: *ordinal,
        input: input.map_or_else(bytes::Bytes::new, |input| input.0.to_vec().into()),
        value: Some(value_to(*value, *output_bytes)),
        has_output: output.is_some(),
        output: output.as_ref().map_or_else(bytes::Bytes::new, |output| output.to_vec().into()),
        rests_on: authors_to(*rests_on),
    }
}

fn kept_from(kept: pb::KeptReceipt) -> Result<Kept, Rejection> {
    at_most("output of a kept receipt", kept.output.len(), KEPT_OUTPUT_BYTES_MAX)?;
    let (value, output_bytes) = value_from(kept.value)?;
    let output: Option<Arc<[u8]>> = match (kept.has_output, kept.output.is_empty()) {
        (true, _) if kept.output.len() as u64 != output_bytes => return Err(Rejection::Inconsistent { what: "output", with: "its size" }),
        (true, _) if Digest::of(&kept.output) != value.output => return Err(Rejection::WrongDigest { what: "output" }),
        (true, _) => Some(Arc::from(&*kept.output)),
        (false, true) => None,
        (false, false) => return Err(Rejection::Inconsistent { what: "output", with: "the mark that there is none" }),
    };
    let token = LeaseToken(fixed("token", &kept.token)?);
    let (unit, attempt, ordinal) = (UnitIndex(kept.unit), Attempt(kept.attempt), kept.ordinal);
    let input = if kept.input.is_empty() { None } else { Some(digest("input", &kept.input)?) };
    let rests_on = authors_from(&kept.rests_on)?;
    Ok(Kept { unit, attempt, ordinal, token, input, rests_on, value, output_bytes, output })
}

pub(super) fn value_to(value: Value, output_bytes: u64) -> pb::UnitValue {
    let (exit_kind, exit_detail) = number::of_exit(value.exit);
    let (output, chain) = (value.output.0.to_vec().into(), chain_to(value.chain));
    pb::UnitValue { exit_kind, exit_detail, output, gas: value.gas, output_bytes, chain }
}

pub(super) fn value_from(value: Option<pb::UnitValue>) -> Result<(Value, u64), Rejection> {
    let value = value.ok_or(Rejection::Missing { what: "value of a receipt" })?;
    if value.output_bytes > UnitLimits::MAX.output_bytes {
        let found = usize::try_from(value.output_bytes).unwrap_or(usize::MAX);
        return Err(Rejection::TooLong { what: "output", found, max: usize::try_from(UnitLimits::MAX.output_bytes).unwrap_or(usize::MAX) });
    }
    let exit = number::to_exit(value.exit_kind, value.exit_detail)?;
    Ok((Value { exit, output: digest("output", &value.output)?, gas: value.gas, chain: chain_from(&value.chain)? }, value.output_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{fact::Origin, outcome::Exit},
        wire::{receipt::Receipts, signing},
    };
    use iroh::SecretKey;

    fn kept(unit: u32, output: &[u8]) -> Kept {
        let value = Value { exit: Exit::Code(0), output: Digest::of(output), gas: 1000, chain: None };
        let output_bytes = output.len() as u64;
        let output = (output.len() <= KEPT_OUTPUT_BYTES_MAX).then(|| Arc::from(output));
        Kept {
            unit: UnitIndex(unit),
            attempt: Attempt(1),
            ordinal: 2,
            token: LeaseToken([4; 16]),
            rests_on: crate::protocol::checkpoint::Authors::NONE,
            input: None,
            value,
            output_bytes,
            output,
        }
    }

    #[test]
    fn receipts_survive_the_store_and_the_wire() {
        let receipts = vec![kept(0, b""), Kept { input: Some(Digest([8; 32])), ..kept(1, b"42") }, kept(1, &[7; 300])];
        let bytes = encode(&receipts);
        println!("{} bytes for 3", bytes.len());
        assert_eq!(decode(&bytes), Ok(receipts.clone()));
        for next in [None, Some(7)] {
            let page = ReceiptPage { job: JobId([1; 32]), receipts: receipts.clone(), signature: [3; 64], next };
            assert_eq!(ReceiptPage::try_from(pb::ReceiptPage::from(page.clone())), Ok(page));
        }
        let none = ReceiptPage { job: JobId([1; 32]), receipts: vec![], signature: [0; 64], next: None };
        assert_eq!(ReceiptPage::try_from(pb::ReceiptPage::from(none.clone())), Ok(none));
    }

    #[test]
    fn case_18_forged_receipts_are_rejected_by_name() {
        let (job, key) = (JobId([1; 32]), SecretKey::from_bytes(&[1; 32]));
        let claims = [claim(&kept(0, b"42")), claim(&kept(1, b"43"))];
        let receipts = Receipts::new(job, "v1", "x86_64", &claims).unwrap();
        let proof = receipts.proof(1, &receipts.sign(&key));
        let Claim { unit, attempt, ordinal, value, output_bytes, input: _, rests_on } = claims[1];
        let (worker, position, platform, origin) = (signing::peer_of(&key), 2, Platform::X86_64, Origin::Leased);
        let vote = Vote { unit, worker, attempt, ordinal, position, platform, value, output_bytes, origin, rests_on, proof };
        assert_eq!(check_collected(&vote, job, None, "v1", &mut CheckedRoots::default()), Ok(()));
        let forged = Err(CollectedError::Receipt(ReceiptError::BadSignature));
        let liar = signing::peer_of(&SecretKey::from_bytes(&[2; 32]));
        let richer = Value { gas: 9, ..value };
        for bent in [
            Vote { worker: liar, ..vote.clone() },
            Vote { value: richer, ..vote.clone() },
            Vote { ordinal: 0, ..vote.clone() },
            Vote { unit: UnitIndex(0), ..vote.clone() },
        ] {
            assert_eq!(check_collected(&bent, job, None, "v1", &mut CheckedRoots::default()), forged);
        }
        assert_eq!(check_collected(&vote, JobId([2; 32]), None, "v1", &mut CheckedRoots::default()), forged);
        let nothing = Vote { proof: Arc::from([]), ..vote.clone() };
        assert_eq!(
            check_collected(&nothing, job, None, "v1", &mut CheckedRoots::default()),
            Err(CollectedError::Receipt(ReceiptError::Malformed))
        );
        assert_eq!(check_collected(&vote, job, None, "v2", &mut CheckedRoots::default()), Err(CollectedError::OtherEngine));
        let input = Some(Digest([6; 32]));
        assert_eq!(check_collected(&vote, job, input, "v1", &mut CheckedRoots::default()), forged, "it was computed from something else");
        let mut older = vote.proof.to_vec();
        older[0] = 1;
        let older = Vote { proof: older.into(), ..vote.clone() };
        assert_eq!(check_collected(&older, job, None, "v1", &mut CheckedRoots::default()), Ok(()));
        assert_eq!(check_collected(&older, job, input, "v1", &mut CheckedRoots::default()), Err(CollectedError::NoInput));
        let elsewhere = Vote { platform: Platform::Aarch64, ..vote };
        assert_eq!(check_collected(&elsewhere, job, None, "v1", &mut CheckedRoots::default()), Err(CollectedError::OtherPlatform));
    }

    #[test]
    fn breaches_are_named() {
        let page = |change: fn(&mut pb::ReceiptPage)| {
            let page = ReceiptPage { job: JobId([1; 32]), receipts: vec![kept(1, b"42")], signature: [3; 64], next: None };
            let mut message = pb::ReceiptPage::from(page);
            change(&mut message);
            ReceiptPage::try_from(message).unwrap_err()
        };
        let other = page(|page| page.receipts[0].output = bytes::Bytes::from_static(b"43"));
        assert_eq!(other, Rejection::WrongDigest { what: "output" });
        let long = page(|page| page.receipts[0].output = vec![0; 257].into());
        assert_eq!(long, Rejection::TooLong { what: "output of a kept receipt", found: 257, max: 256 });
        let many = page(|page| page.receipts = vec![page.receipts[0].clone(); 1025]);
        assert_eq!(many, Rejection::TooMany { what: WHAT, found: 1025, max: 1024 });
        assert_eq!(page(|page| page.signature.clear()), Rejection::WrongLength { what: "signature", found: 0, expected: 64 });
        assert_eq!(page(|page| page.receipts[0].value = None), Rejection::Missing { what: "value of a receipt" });
    }
}
