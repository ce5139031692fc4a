//! Tests of [`super`].

use super::*;
use crate::wire::{kept::check_collected, receipt::CheckedRoots, signing};
use iroh::SecretKey;

const JOB: JobId = JobId([7; 32]);

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

fn vote(unit: u32) -> BatchVote {
    let output = unit % 2;
    BatchVote {
        unit: UnitIndex(unit),
        attempt: Attempt(unit % 3),
        ordinal: 0,
        position: 1,
        exit: Exit::Code(0),
        gas: 9,
        output,
        decided: None,
    }
}

/// A batch of a worker's that it has signed.
fn batch(count: u32, inputs: &[Option<Digest>]) -> Batch {
    let mut votes: Vec<BatchVote> = (0..count).map(vote).collect();
    votes[0].decided = Some(true);
    votes[1].decided = Some(false);
    let outputs = vec![BatchOutput::Inline(Arc::from(&b"even"[..])), BatchOutput::Named { digest: Digest::of(b"odd"), bytes: 20_000 }];
    let (class, instruction_set) = ("v1".to_owned(), "x86_64".to_owned());
    let mut batch = Batch { worker: signing::peer_of(&key()), signature: [0; SIGNATURE_BYTES], class, instruction_set, outputs, votes };
    let votes = batch.unbind(JOB, inputs).unwrap();
    let inputs = inputs.iter().copied().chain(core::iter::repeat(None));
    let claims: Vec<Claim> = votes.iter().zip(inputs).map(|((vote, _), input)| Claim::of_vote(vote, input)).collect();
    batch.signature = Receipts::new(JOB, "v1", "x86_64", &claims).unwrap().sign(&key());
    batch
}

fn sheaf() -> Sheaf {
    let open = Part::Record(Record::Verdict(UnitIndex(3), Verdict::Open));
    Sheaf { parts: vec![Part::Batch(batch(5, &[])), open, Part::Record(Record::Blob(Arc::from(&b"blob"[..])))] }
}

#[test]
fn sheaves_survive_and_say_what_is_in_them() {
    let sheaf = sheaf();
    let bytes = sheaf.encode();
    assert_eq!(Sheaf::decode(&bytes), Ok(sheaf.clone()));
    assert_eq!((sheaf.count(), sheaf.inline_bytes()), (7, 8));
    assert_eq!(sheaf.units().map(|unit| unit.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 3]);
    assert_eq!(Sheaf::decode(&[]), Ok(Sheaf::default()));
}

#[test]
fn proofs_are_made_again_and_hold_for_the_inputs_that_the_worker_was_given() {
    let inputs: Vec<Option<Digest>> = (0..5).map(|unit| (unit != 2).then_some(Digest([unit; 32]))).collect();
    let batch = batch(5, &inputs);
    let check = |inputs: &[Option<Digest>]| -> usize {
        let votes = batch.unbind(JOB, inputs).unwrap();
        votes
            .iter()
            .zip(inputs)
            .filter(|((vote, _), input)| check_collected(vote, JOB, **input, "v1", &mut CheckedRoots::default()).is_ok())
            .count()
    };
    assert_eq!(check(&inputs), 5);
    assert_eq!(check(&[None; 5]), 0, "none of a batch that is not whole");
    let votes = batch.unbind(JOB, &inputs).unwrap();
    assert_eq!((votes[0].0.value.output, votes[0].0.output_bytes), (Digest::of(b"even"), 4));
    assert_eq!((votes[1].0.value.output, votes[1].0.output_bytes), (Digest::of(b"odd"), 20_000));
    let decided: Vec<_> = votes.iter().map(|(vote, verdict)| (*verdict, vote.value)).collect();
    assert_eq!(decided[0].0, Some(Verdict::Verified { value: decided[0].1, by_owner: true }));
    assert_eq!(decided[1].0, Some(Verdict::Verified { value: decided[1].1, by_owner: false }));
    assert_eq!(decided[2].0, None);
}

fn refused(change: impl FnOnce(&mut pb::KeptBatch)) -> Rejection {
    let mut message = batch_to(&batch(5, &[]));
    change(&mut message);
    let part = Some(pb::kept_sheaf_part::Part::Batch(message));
    Sheaf::decode(&pb::KeptSheaf { parts: vec![pb::KeptSheafPart { part }] }.encode_to_vec()).unwrap_err()
}

#[test]
fn breaches_are_named() {
    assert_eq!(refused(|batch| batch.units.clear()), Rejection::TooMany { what: "outputs of a batch", found: 2, max: 0 });
    assert_eq!(refused(|batch| (batch.units, batch.outputs) = (vec![], vec![])), Rejection::Missing { what: "votes of a batch" });
    let many = Rejection::TooMany { what: "votes of a batch", found: BATCH_MAX + 1, max: BATCH_MAX };
    assert_eq!(refused(|batch| batch.units = vec![1; BATCH_MAX + 1]), many);
    assert_eq!(refused(|batch| batch.gas.truncate(2)), Rejection::WrongLength { what: "gas", found: 2, expected: 5 });
    assert_eq!(refused(|batch| batch.output[4] = 2), {
        Rejection::Inconsistent { what: "an output's number", with: "the outputs of the batch" }
    });
    assert_eq!(refused(|batch| batch.decisions[4] = 3), Rejection::UnknownNumber { what: "decision", found: 3 });
    assert_eq!(refused(|batch| batch.exit_kinds.clear()), Rejection::UnknownNumber { what: "exit", found: 0 });
    assert_eq!(refused(|batch| batch.worker = vec![1].into()), Rejection::WrongLength { what: "worker", found: 1, expected: 32 });
    let long = refused(|batch| batch.outputs[0].output = Some(pb::kept_output::Output::Inline(vec![0; INLINE_BYTES_MAX + 1].into())));
    assert_eq!(long, Rejection::TooLong { what: "inline output", found: INLINE_BYTES_MAX + 1, max: INLINE_BYTES_MAX });
    assert!(matches!(refused(|batch| batch.outputs[1].bytes = u64::MAX), Rejection::TooLong { what: "output", .. }));
    assert!(matches!(Sheaf::decode(&[9; 40]), Err(Rejection::Undecodable { .. })));
    let state = Sheaf { parts: vec![Part::Record(Record::LargeBlob(Digest([1; 32])))] };
    assert!(matches!(Sheaf::decode(&state.encode()), Err(Rejection::Inconsistent { .. })), "it must be known at once");
    let open = Part::Record(Record::Verdict(UnitIndex(3), Verdict::Open));
    let full = Sheaf { parts: (0..4).map(|_| Part::Batch(batch(1024, &[]))).chain([open]).collect() };
    let many = Rejection::TooMany { what: "votes and records", found: RECORDS_MAX + 1, max: RECORDS_MAX };
    assert_eq!(Sheaf::decode(&full.encode()), Err(many));
}

#[test]
fn a_vote_that_decides_its_unit_costs_few_bytes() {
    let votes = |count| Sheaf { parts: vec![Part::Batch(batch(count, &[]))] }.encode().len();
    let each = (votes(1024) - votes(24)) / 1000;
    assert!(each <= 8, "{each} bytes");
}
