//! Tests of [`super`].

use super::*;
use crate::{
    protocol::{
        fact::Fact,
        ids::Attempt,
        job::{Inputs, Manifest, Policy, Reduce, UnitRange},
        outcome::{UnitLimits, Value},
        platform::Platform,
    },
    store::Write,
    wire::manifest,
};

const ME: PeerId = PeerId([9; 32]);

pub fn arrives(store: &Store, version: u32) -> JobId {
    let manifest = Manifest {
        owner: PeerId([1; 32]),
        name: "job".into(),
        module: Digest([2; 32]),
        module_bytes: 8,
        args: vec![],
        inputs: Inputs::Range(UnitRange { start: 0, end: 10, per_unit: 1 }),
        limits: UnitLimits::default(),
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    };
    let encoded = manifest::encode(&manifest);
    let id = manifest::job_id(&encoded);
    let keepers = SignedKeepers { keepers: Keepers { version, peers: vec![ME, PeerId([3; 32])] }, signature: [8; 64] };
    let kept = NewKept { id, manifest: encoded, signature: [7; 64], keepers };
    store.commit_blocking(vec![Write::Arrive(Box::new(kept))]).unwrap();
    id
}

fn role(store: &Store, job: JobId, role: Role, secret: Option<[u8; 32]>) {
    store.commit_blocking(vec![Write::Role { job, role, secret }]).unwrap();
}

fn vote(unit: u32, worker: u8, origin: Origin) -> Vote {
    Vote {
        unit: UnitIndex(unit),
        worker: PeerId([worker; 32]),
        attempt: Attempt(0),
        ordinal: 0,
        position: 0,
        platform: Platform::X86_64,
        value: value(unit),
        output_bytes: 1,
        origin,
        rests_on: crate::protocol::checkpoint::Authors::NONE,
        proof: Arc::from(&[1][..]),
    }
}

fn value(unit: u32) -> Value {
    Value { exit: Exit::Code(0), output: Digest([unit as u8; 32]), gas: 1, chain: None }
}

#[test]
fn a_copy_counts_when_it_is_complete_and_comes_back_as_kept_or_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    assert_eq!((store.role(job).unwrap(), store.arriving().unwrap(), store.job_ids().unwrap()), (Some(Role::Arriving), vec![job], vec![]));
    assert!(store.load().unwrap().kept.is_empty());
    role(&store, job, Role::Kept, None);
    assert_eq!(arrives(&store, 5), job, "a new list of the same job");
    let saved = store.load().unwrap();
    assert!(saved.jobs.is_empty(), "its author coordinates it");
    assert_eq!((saved.kept.len(), saved.kept[0].keepers.version, saved.kept[0].adopted, saved.kept[0].ended), (1, 5, false, false));
    role(&store, job, Role::Adopted, Some([4; 32]));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let saved = store.load().unwrap();
    assert_eq!((saved.jobs.len(), saved.jobs[0].secret, saved.kept[0].adopted), (1, [4; 32], true));
    assert_eq!(store.signed_keepers(job).unwrap().unwrap().keepers.peers, [ME, PeerId([3; 32])]);
    store.commit_blocking(vec![Write::RemoveJob(job)]).unwrap();
    assert_eq!(store.role(job).unwrap(), None);
}

#[test]
fn a_job_that_is_handed_back_keeps_the_votes_and_the_authors_decisions_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    role(&store, job, Role::Adopted, Some([4; 32]));
    let copied = Origin::Collected { output: true };
    let votes = [vote(0, 1, copied), vote(0, 2, copied), vote(1, 1, copied), vote(1, 2, Origin::Leased), vote(2, 1, Origin::Leased)];
    let verified = |unit| Write::Fact(Fact::Verdict(job, UnitIndex(unit), Verdict::Verified { value: value(unit), by_owner: false }));
    let facts = votes.iter().map(|vote| Write::Fact(Fact::Vote(job, vote.clone())));
    store.commit_blocking(facts.chain((0..3).map(verified)).collect()).unwrap();
    assert_eq!(store.verdict_counts(job).unwrap(), (3, 0, 0));
    role(&store, job, Role::Kept, None);
    let left: Vec<u32> = store.verdicts_page(job, UnitIndex(0), 10).unwrap().iter().map(|(unit, _)| unit.0).collect();
    assert_eq!(left, [0], "the others were decided here");
    let (taken, next) = store.votes_taken_here(job, 0, 10).unwrap();
    assert_eq!((taken, next), (votes[3..].to_vec(), 5));
    let (first, next) = store.votes_with_origin(job, 0, 4, 3).unwrap();
    assert_eq!((first, next), (votes[..3].to_vec(), 3));
    assert_eq!(store.votes_with_origin(job, next, 4, 3).unwrap(), (votes[3..4].to_vec(), 4), "not beyond the end that was asked for");
    assert!(store.has_votes(job).unwrap());
}

#[test]
fn blobs_of_a_job_come_page_by_page_and_missing_ones_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    let bytes: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 100]).collect();
    let small = bytes.iter().map(|bytes| Write::Blob { digest: Digest::of(bytes), bytes: bytes.clone(), pin: Some(job) });
    let missing = Digest([0xee; 32]);
    store.commit_blocking(small.chain([Write::Pin { job, digest: missing }]).collect()).unwrap();
    let (mut found, mut after) = (vec![], None);
    loop {
        let page = store.blobs_page(job, after, 2, 1 << 20).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.digest);
        found.extend(page.into_iter().map(|row| row.bytes.unwrap().to_vec()));
    }
    found.sort();
    assert_eq!(found, bytes);
    assert_eq!(store.missing_blobs(job, None, 10).unwrap(), [missing]);
    let kept = store.kept_for_others().unwrap();
    assert!(kept.len() == 1 && (1500..2500).contains(&kept[0].bytes), "{kept:?}");
    let row = UnitInput { name: "a".repeat(100), digest: Digest([1; 32]), size: 900, inline: Some(Arc::from([0; 900])) };
    store.commit_blocking(vec![Write::KeptUnits { job, first: UnitIndex(0), units: vec![row] }]).unwrap();
    store.commit_blocking(vec![Write::Log { job, unit: UnitIndex(0), bytes: vec![0; 5000] }]).unwrap();
    let more = store.kept_for_others().unwrap()[0].bytes - kept[0].bytes;
    assert!((6000..7000).contains(&more), "{more}");
}

#[test]
fn when_a_job_ended_is_known_and_forgotten_when_it_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let job = arrives(&store, 1);
    let state = |state| store.commit_blocking(vec![Write::Fact(Fact::JobState(job, state))]).unwrap();
    let ended = || store.kept_for_others().unwrap()[0].ended_unix;
    assert_eq!((ended(), store.kept_for_others().unwrap()[0].author), (None, PeerId([1; 32])));
    state(JobState::Done);
    let first = ended().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&first), "{first}");
    let long_ago = "UPDATE job SET ended_unix = 5";
    drop(store);
    rusqlite::Connection::open(dir.path().join("facts.sqlite")).unwrap().execute(long_ago, []).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let state = |state| store.commit_blocking(vec![Write::Fact(Fact::JobState(job, state))]).unwrap();
    state(JobState::Done);
    assert_eq!(store.kept_for_others().unwrap()[0].ended_unix, Some(5), "it ended once");
    state(JobState::Running);
    assert_eq!(store.kept_for_others().unwrap()[0].ended_unix, None);
}
