//! Tests of [`super`].

use super::*;
use crate::{
    protocol::{
        fact::{Failures, Origin},
        ids::Attempt,
        outcome::{AttemptFailure, Exit},
        platform::Platform,
    },
    store::keeping::tests::arrives,
    wire::{
        kept::check_collected,
        receipt::{CheckedRoots, Claim, Receipts},
        sheaf::BatchVote,
        signing,
    },
};
use iroh::SecretKey;
use std::sync::Arc;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

/// A signed batch on these units, each decided at once.
fn batch(job: JobId, units: &[u32]) -> Batch {
    let vote = |unit: &u32| BatchVote {
        unit: UnitIndex(*unit),
        attempt: Attempt(0),
        ordinal: 0,
        position: 0,
        exit: Exit::Code(0),
        gas: 3,
        output: 0,
        decided: Some(false),
    };
    let outputs = vec![BatchOutput::Inline(Arc::from(&b"42"[..]))];
    let (class, instruction_set) = ("v1".to_owned(), "x86_64".to_owned());
    let votes = units.iter().map(vote).collect();
    let mut batch = Batch { worker: signing::peer_of(&key()), signature: [0; 64], class, instruction_set, outputs, votes };
    let claims: Vec<Claim> = batch.unbind(job, &[]).unwrap().iter().map(|(vote, _)| Claim::of_vote(vote, None)).collect();
    batch.signature = Receipts::new(job, "v1", "x86_64", &claims).unwrap().sign(&key());
    batch
}

fn bound(job: JobId, again: bool, parts: Vec<Part>) -> Write {
    let sheaf = Sheaf { parts };
    let (count, bytes) = (sheaf.count() as u32, sheaf.encode().into());
    Write::Sheaf { job, sheaf: BoundSheaf { count, again, bytes } }
}

fn rows(store: &Store) -> i64 {
    store.read(|connection| Ok(connection.query_row("SELECT count(*) FROM sheaf", [], |row| row.get(0))?)).unwrap()
}

#[test]
fn what_was_bound_is_found_when_it_is_taken_apart_in_the_order_in_which_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    let open = |unit| Part::Record(Record::Verdict(UnitIndex(unit), Verdict::Open));
    let failures = Failures { count: 2, last: AttemptFailure::TimeOut };
    let failed = Part::Record(Record::Failures(UnitIndex(7), failures));
    let log = Part::Record(Record::Log(UnitIndex(7), Arc::from(&b"warning"[..])));
    store.commit_blocking(vec![bound(job, false, vec![open(1), Part::Batch(batch(job, &[0, 1, 2])), failed])]).unwrap();
    store.commit_blocking(vec![bound(job, false, vec![open(2), log])]).unwrap();
    assert_eq!((store.votes_end(job).unwrap(), store.has_votes(job).unwrap(), rows(&store)), (0, true, 2));
    let before = store.kept_for_others().unwrap()[0].bytes;
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    store.unbind_blocking(job).unwrap();
    assert_eq!(rows(&store), 0);
    let (votes, _) = store.votes_with_origin(job, 0, u32::MAX, 100).unwrap();
    assert_eq!(votes.iter().map(|vote| vote.unit.0).collect::<Vec<_>>(), [0, 1, 2]);
    for vote in &votes {
        assert_eq!((vote.origin, vote.platform), (Origin::Collected { output: true }, Platform::X86_64));
        assert_eq!(check_collected(vote, job, None, "v1", &mut CheckedRoots::default()), Ok(()));
    }
    let verdicts = store.verdicts_page(job, UnitIndex(0), 10).unwrap();
    let value = votes[0].value;
    let verified = Verdict::Verified { value, by_owner: false };
    assert_eq!(verdicts, [(UnitIndex(0), verified), (UnitIndex(1), verified), (UnitIndex(2), Verdict::Open)]);
    assert_eq!(store.failures_page(job, UnitIndex(0), 10).unwrap(), [(UnitIndex(7), failures)]);
    assert_eq!(store.log(job, UnitIndex(7)).unwrap().as_deref(), Some(&b"warning"[..]));
    assert_eq!(store.read_blob(value.output).unwrap().as_deref(), Some(&b"42"[..]));
    assert!(store.missing_blobs(job, None, 9).unwrap().is_empty());
    let after = store.kept_for_others().unwrap()[0].bytes;
    assert!(before >= 3 * BOUND_VOTE_BYTES && after >= 3 * BOUND_VOTE_BYTES, "{before} and {after}");
    store.unbind_blocking(JobId([9; 32])).unwrap();
}

#[test]
fn what_comes_again_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    store.commit_blocking(vec![bound(job, false, vec![Part::Batch(batch(job, &[0, 1]))])]).unwrap();
    let again = vec![Part::Batch(batch(job, &[0, 1, 2])), Part::Batch(batch(job, &[3, 2]))];
    store.commit_blocking(vec![bound(job, true, again)]).unwrap();
    store.unbind_blocking(job).unwrap();
    assert_eq!(store.votes_end(job).unwrap(), 4);
    assert_eq!(store.verdict_counts(job).unwrap(), (4, 0, 0));
}

#[test]
fn what_comes_again_in_many_rows_is_stored_once_even_if_a_vote_comes_otherwise_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    let rows_in_all = ROWS_AT_ONCE + 20;
    let sheaf = |unit: u32| bound(job, true, vec![Part::Batch(batch(job, &[unit % 200, 1000 + unit]))]);
    store.commit_blocking((0..rows_in_all).map(sheaf).collect()).unwrap();
    store.commit_blocking(vec![Write::Unbind(job)]).unwrap();
    assert_eq!((rows(&store), store.votes_end(job).unwrap()), (20, 200 + ROWS_AT_ONCE));
    let (vote, _) = batch(job, &[1000 + ROWS_AT_ONCE]).unbind(job, &[]).unwrap().remove(0);
    store.commit_blocking(vec![Write::Fact(Fact::Vote(job, vote))]).unwrap();
    store.unbind_blocking(job).unwrap();
    assert_eq!((rows(&store), store.votes_end(job).unwrap()), (0, 200 + rows_in_all));
}

#[test]
fn bound_rows_go_with_their_job_and_a_damaged_one_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    store.commit_blocking(vec![bound(job, false, vec![Part::Batch(batch(job, &[0, 1]))])]).unwrap();
    store.commit_blocking(vec![Write::RemoveJob(job)]).unwrap();
    while rows(&store) > 0 {
        store.commit_blocking(vec![]).unwrap();
    }
    assert_eq!(arrives(&store, 2), job);
    store.commit_blocking(vec![bound(job, false, vec![Part::Batch(batch(job, &[0, 1]))])]).unwrap();
    drop(store);
    let connection = rusqlite::Connection::open(dir.path().join("facts.sqlite")).unwrap();
    connection.execute("UPDATE sheaf SET count = count + 1", []).unwrap();
    drop(connection);
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(store.unbind_blocking(job), Err(StoreError::Damaged { .. })));
    assert!(store.damage().is_some());
}
