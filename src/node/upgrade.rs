//! What another engine has computed: after an update whose validation class is another one, results of before say nothing about those
//! that are computed from now on. Gas may differ.

use crate::{
    protocol::{fact::Vote, platform::Platform},
    store::{Store, StoreError, Write},
    wire::receipt,
};

/// Receipts that are kept for others are signed anew when somebody asks, as made by this engine: those of another one are forgotten.
pub(super) fn forget_receipts(store: &Store, class: &str, instruction_set: &str) -> Result<(), StoreError> {
    const NOTE: &str = "engine";
    let now = format!("{class}\n{instruction_set}").into_bytes();
    let before = store.note(NOTE)?;
    if before.as_ref() == Some(&now) {
        return Ok(());
    }
    let forget = before.map(|_| Write::ForgetReceipts);
    match store.commit_blocking(forget.into_iter().chain([Write::Note { key: NOTE.to_owned(), bytes: Some(now) }]).collect()) {
        // A node without room on its disk starts all the same; what it was is found out again when there is.
        Ok(()) | Err(StoreError::DiskFull) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Votes of another engine are those of another instruction set: what differs may be the engine's doing, and convicts nobody
/// (`protocol/verify.rs`).
pub(super) fn set_apart(votes: &mut [Vote], class: &str) {
    let other = |vote: &&mut Vote| receipt::made_with(&vote.proof).is_some_and(|(made, _)| made != class.as_bytes());
    votes.iter_mut().filter(other).for_each(|vote| vote.platform = Platform::Other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{
            checkpoint::Authors,
            fact::Origin,
            ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
            outcome::{Exit, Value},
            owner::LeaseToken,
            worker::Kept,
        },
        wire::{
            self,
            receipt::{Claim, Receipts},
        },
    };
    use iroh::SecretKey;
    use std::sync::Arc;

    const JOB: JobId = JobId([4; 32]);

    fn vote(unit: u32, class: Option<&str>) -> Vote {
        let value = Value { exit: Exit::Code(0), output: Digest([5; 32]), gas: 7, chain: None };
        let mut vote = Vote {
            unit: UnitIndex(unit),
            worker: PeerId([1; 32]),
            attempt: Attempt(0),
            ordinal: 0,
            position: 0,
            platform: Platform::X86_64,
            value,
            output_bytes: 1,
            origin: Origin::Leased,
            rests_on: Authors::NONE,
            proof: Arc::from([]),
        };
        if let Some(class) = class {
            let receipts = Receipts::new(JOB, class, "x86_64", &[Claim::of_vote(&vote, None)]).unwrap();
            let signature = receipts.sign(&SecretKey::from_bytes(&[5; 32]));
            vote.proof = receipts.proof(0, &signature);
        }
        vote
    }

    #[test]
    fn votes_of_another_engine_are_told_from_those_of_this_one() {
        let mut votes = [vote(0, Some("v1")), vote(1, Some("v2")), vote(2, None)];
        set_apart(&mut votes, "v2");
        assert_eq!(votes.map(|vote| vote.platform), [Platform::Other, Platform::X86_64, Platform::X86_64]);
    }

    #[test]
    fn receipts_of_another_engine_are_forgotten_and_others_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let count = || store.kept_receipts(None, JOB, 0, 10).unwrap().0.len();
        let add = || {
            let Vote { unit, attempt, ordinal, rests_on, value, output_bytes, .. } = vote(0, None);
            let token = LeaseToken([0; 16]);
            let kept = Kept { unit, attempt, ordinal, token, input: None, rests_on, value, output_bytes, output: None };
            let bytes = wire::kept::encode(&[kept]);
            store
                .commit_blocking(vec![Write::Receipts { coordinator: PeerId([1; 32]), job: JOB, at: 1_800_000_000, count: 1, bytes }])
                .unwrap();
        };
        forget_receipts(&store, "v1", "x86_64").unwrap();
        add();
        forget_receipts(&store, "v1", "x86_64").unwrap();
        assert_eq!(count(), 1);
        forget_receipts(&store, "v2", "x86_64").unwrap();
        assert_eq!(count(), 0);
        add();
        forget_receipts(&store, "v2", "x86_64").unwrap();
        assert_eq!(count(), 1);
    }
}
