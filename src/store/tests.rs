//! Tests of the store, each in a directory of its own.

use super::*;
use crate::protocol::{
    fact::{Fact, Failures, Findings, JobState, Nondeterminism, Origin, Standing, Verdict, Vote},
    ids::{Attempt, JobId, PeerId, UnitIndex},
    job::{Inputs, Manifest, Policy, Reduce, UnitRange},
    outcome::{AttemptFailure, Exit, UnitLimits, Value},
    platform::{Platform, Platforms},
    verify::AuditState,
};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};
use tempfile::TempDir;

const OWNER: PeerId = PeerId([1; 32]);
/// Makes [`child_commits_until_it_is_killed`] do so.
const CHILD: &str = "MANYHANDS_TEST_STORE_CHILD";

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory for the test")
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path()).expect("the store opens")
}

fn manifest(parts: &Parts, nonce: u8) -> Manifest {
    Manifest {
        owner: OWNER,
        name: "job".into(),
        module: parts.module,
        module_bytes: parts.module_bytes,
        args: vec![],
        inputs: parts.table.unwrap_or(Inputs::Range(UnitRange { start: 0, end: 1000, per_unit: 1 })),
        limits: UnitLimits::default(),
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![nonce],
    }
}

fn submit(store: &Store, nonce: u8, inputs: &[&[u8]]) -> Submitted {
    let mut submission = Submission::begin(store, OWNER).unwrap();
    submission.module_chunk(b"\0asm\x01\0").unwrap();
    submission.module_chunk(b"\0\0").unwrap();
    for (index, input) in inputs.iter().enumerate() {
        let (head, tail) = input.split_at(input.len() / 2);
        submission.unit(&format!("u{index}"), head, true).unwrap();
        submission.unit(&format!("u{index}"), tail, false).unwrap();
    }
    submission.finish(|parts| manifest(parts, nonce), |_| [7; 64]).unwrap()
}

fn vote(n: u32) -> Vote {
    Vote {
        unit: UnitIndex(n % 7),
        worker: PeerId([3; 32]),
        attempt: Attempt(n),
        ordinal: n % 2,
        position: n % 3,
        platform: Platform::ALL[n as usize % 5],
        value: Value {
            exit: Exit::Code(n),
            output: Digest::of(&n.to_le_bytes()),
            gas: u64::MAX - u64::from(n),
            chain: n.is_multiple_of(2).then_some(Digest([6; 32])),
        },
        output_bytes: u64::from(n),
        origin: [Origin::Leased, Origin::Recovered { output: n % 2 == 1 }, Origin::Collected { output: n % 2 == 1 }][n as usize % 3],
        rests_on: if n.is_multiple_of(4) {
            crate::protocol::checkpoint::Authors::NONE.with(PeerId([n as u8; 32])).unwrap()
        } else {
            crate::protocol::checkpoint::Authors::NONE
        },
        proof: vec![1; 100].into(),
    }
}

fn large(seed: u8) -> Vec<u8> {
    (0..SMALL_BYTES_MAX * 3).map(|i| u8::try_from(i % 251).unwrap() ^ seed).collect()
}

/// Waits until what belongs to no job has been swept, which one commit after the other helps along.
fn settle(store: &Store) {
    while count(store, "draft") > 0 {
        store.commit_blocking(vec![]).unwrap();
    }
}

fn count(store: &Store, table: &str) -> i64 {
    store.read(|connection| Ok(connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?)).unwrap()
}

fn files_below(dir: &TempDir) -> usize {
    let list = |name: &str| fs::read_dir(dir.path().join(name)).unwrap().map(|entry| entry.unwrap().path());
    list("tmp").count() + list("blobs").map(|folder| fs::read_dir(folder).unwrap().count()).sum::<usize>()
}

#[test]
fn what_was_committed_is_loaded_again() {
    let dir = dir();
    let store = open(&dir);
    let first = submit(&store, 1, &[]);
    let second = submit(&store, 2, &[b"in"]);
    assert!(!first.already_existed && !second.already_existed);
    let value = Value { exit: Exit::OutOfGas, output: Digest([9; 32]), gas: u64::MAX, chain: Some(Digest([8; 32])) };
    let verified = Verdict::Verified { value, by_owner: true };
    let failures = Failures { count: 3, last: AttemptFailure::StackOverflow };
    let standing =
        Standing { verified_gas: u64::MAX, gas_per_second: 1.5, anchor: true, friend: true, lineage: Some(OWNER), ..Standing::default() };
    let votes = [vote(4), vote(3), vote(5)];
    let (set_aside, against) = (Platforms::from_iter([Platform::Aarch64, Platform::Other]), Platforms::from_iter([Platform::X86_64]));
    let nondeterminism = Some(Nondeterminism { unit: UnitIndex(3), set_aside, against });
    let findings = Findings { audit: AuditState { convicted: 2, collusion: true }, nondeterminism };
    let writes = votes.iter().map(|vote| Fact::Vote(first.job, vote.clone())).chain([
        Fact::Vote(second.job, vote(8)),
        Fact::Verdict(first.job, UnitIndex(4), Verdict::Failed),
        Fact::Verdict(first.job, UnitIndex(2), Verdict::Open),
        Fact::Verdict(first.job, UnitIndex(4), verified),
        Fact::Failures(first.job, UnitIndex(6), failures),
        Fact::JobState(second.job, JobState::Stopped),
        Fact::Findings(first.job, Findings::default()),
        Fact::Findings(first.job, findings),
        Fact::Standing(PeerId([5; 32]), Standing::default()),
        Fact::Standing(PeerId([5; 32]), standing),
    ]);
    store.commit_blocking(writes.map(Write::Fact).collect()).unwrap();
    let log = Write::Log { job: first.job, unit: UnitIndex(1), bytes: b"warning".to_vec() };
    store.commit_blocking(vec![log, Write::Note { key: "book".into(), bytes: Some(vec![1, 2]) }]).unwrap();
    drop(store);

    let store = open(&dir);
    let saved = store.load().unwrap();
    let [one, two] = &saved.jobs[..] else { panic!("two jobs") };
    assert_eq!((one.id, &one.manifest, one.state), (first.job, &first.manifest, JobState::Running));
    assert_eq!((two.id, &two.manifest, two.state), (second.job, &second.manifest, JobState::Stopped));
    assert_ne!(one.secret, two.secret);
    assert_eq!(one.votes, votes);
    assert_eq!(two.votes, [vote(8)]);
    assert_eq!(one.verdicts, [(UnitIndex(2), Verdict::Open), (UnitIndex(4), verified)]);
    assert_eq!(one.failures, [(UnitIndex(6), failures)]);
    assert_eq!((one.findings, two.findings), (Some(findings), None));
    assert_eq!(saved.standings, [(PeerId([5; 32]), standing)]);
    assert_eq!(store.output(first.job, UnitIndex(4)).unwrap(), Some(Output { value, by_owner: true, size: None }));
    assert_eq!(store.output(first.job, UnitIndex(2)).unwrap(), None);
    assert_eq!(store.log(first.job, UnitIndex(1)).unwrap(), Some(b"warning".to_vec()));
    assert_eq!(store.note("book").unwrap(), Some(vec![1, 2]));
    assert_eq!(store.signed_manifest(first.job).unwrap().map(|signed| signed.signature), Some([7; 64]));
    store.commit_blocking(vec![Write::Fact(Fact::Vote(first.job, vote(6)))]).unwrap();
    assert_eq!(store.load().unwrap().jobs[0].votes.last(), Some(&vote(6)), "votes go on where they ended");
}

#[tokio::test]
async fn waiting_commits_share_a_transaction_and_keep_their_order() {
    let dir = dir();
    let (store, job) = {
        let path = dir.path().to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path).unwrap();
            let job = submit(&store, 1, &[]).job;
            (store, job)
        });
        opened.await.unwrap()
    };
    let votes = |n: u32| (40 * n..40 * (n + 1)).map(|n| Write::Fact(Fact::Vote(job, vote(n)))).collect();
    // Few enough to be polled in this order, hence queued in this order; one bad commit among them harms no other.
    let commits = (0..25).map(|n| store.commit(votes(n)));
    let bad = store.commit(vec![Write::Fact(Fact::Vote(job, vote(9999))), Write::Fact(Fact::Vote(JobId([0; 32]), vote(0)))]);
    let (good, bad) = tokio::join!(futures_util::future::join_all(commits), bad);
    assert!(good.iter().all(Result::is_ok));
    assert!(matches!(bad, Err(StoreError::NoSuchJob(JobId(id))) if id == [0; 32]));
    let saved = store.blocking(|store: &Store| store.load()).await.unwrap();
    let expected: Vec<Vote> = (0..1000).map(vote).collect();
    assert!(saved.jobs[0].votes == expected, "found {}", saved.jobs[0].votes.len());
}

#[test]
fn a_second_node_is_refused() {
    let dir = dir();
    let store = open(&dir);
    let refused = Store::open(dir.path()).unwrap_err();
    assert!(matches!(&refused, StoreError::InUse { pid: Some(pid), .. } if *pid == std::process::id()), "{refused}");
    assert!(refused.hint().is_some());
    drop(store);
    open(&dir);
}

#[test]
fn a_newer_schema_is_refused_untouched() {
    let dir = dir();
    drop(open(&dir));
    let database = dir.path().join("facts.sqlite");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = fs::read(&database).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NewerSchema { found: 99, known: 1.., .. })));
    assert_eq!(fs::read(&database).unwrap(), before);
}

#[test]
fn a_damaged_database_is_noticed_after_an_unclean_stop() {
    let dir = dir();
    let store = open(&dir);
    let inputs = vec![&b"some bytes to fill a page with"[..]; 2000];
    submit(&store, 1, &inputs);
    drop(store);
    let database = dir.path().join("facts.sqlite");
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xa5);
    fs::write(&database, bytes).unwrap();
    fs::write(dir.path().join("lock"), "1\n").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn inputs_are_found_by_unit_inline_or_as_blobs() {
    let dir = dir();
    let store = open(&dir);
    let big = large(1);
    let job = submit(&store, 1, &[b"small", &big, b"", &big]).job;
    let units: Vec<UnitIndex> = [3, 0, 2, 9].map(UnitIndex).to_vec();
    let inputs = store.unit_inputs(job, &units).unwrap();
    let [Some(third), Some(first), Some(empty), None] = &inputs[..] else { panic!("three of four: {inputs:?}") };
    assert_eq!((third.digest, third.size, &third.inline), (Digest::of(&big), big.len() as u64, &None));
    assert_eq!((first.name.as_str(), first.inline.as_deref()), ("u0", Some(&b"small"[..])));
    assert_eq!((empty.size, empty.inline.as_deref()), (0, Some(&b""[..])));
    assert_eq!(store.unit_input(job, UnitIndex(0)).unwrap().as_ref(), Some(first));
    assert_eq!(store.read_blob(third.digest).unwrap(), Some(big.clone()));
    assert_eq!(store.read_blob_at(third.digest, 20_000, 10).unwrap().as_deref(), Some(&big[20_000..20_010]));
    assert_eq!(store.read_blob_at(third.digest, big.len() as u64 - 1, 10).unwrap().map(|bytes| bytes.len()), Some(1));
    assert_eq!(store.read_blob_at(third.digest, u64::MAX, 10).unwrap(), Some(vec![]));
    let page = store.units_page(job, UnitIndex(1), 2).unwrap();
    assert_eq!(
        page.iter().map(|row| (row.unit.0, row.name.as_str(), row.size)).collect::<Vec<_>>(),
        [(1, "u1", big.len() as u64), (2, "u2", 0)]
    );
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_submission_that_is_dropped_leaves_nothing() {
    let dir = dir();
    let store = open(&dir);
    let mut submission = Submission::begin(&store, OWNER).unwrap();
    submission.module_chunk(&large(2)).unwrap();
    for unit in 0..5000 {
        submission.unit(&format!("u{unit}"), b"x", false).unwrap();
    }
    submission.unit("big", &large(3), false).unwrap();
    submission.unit("cut", b"x", true).unwrap();
    drop(submission);
    settle(&store);
    assert_eq!([count(&store, "unit"), count(&store, "blob"), count(&store, "pin"), count(&store, "job")], [0; 4]);
    assert_eq!(files_below(&dir), 0);
}

#[test]
fn a_submission_under_way_when_the_node_stops_is_swept_at_the_next_start() {
    let dir = dir();
    let store = open(&dir);
    let mut submission = Submission::begin(&store, OWNER).unwrap();
    for unit in 0..10_000 {
        submission.unit(&format!("u{unit}"), b"x", false).unwrap();
    }
    submission.unit("big", &large(3), false).unwrap();
    // As if the process had died: nobody gives the draft up.
    std::mem::forget(submission);
    store.commit_blocking(vec![]).unwrap();
    assert!(count(&store, "unit") > 0);
    drop(store);
    let copy = tempfile::tempdir().unwrap();
    for name in ["facts.sqlite", "facts.sqlite-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = open(&copy);
    settle(&store);
    assert_eq!([count(&store, "unit"), count(&store, "blob"), count(&store, "pin")], [0; 3]);
}

#[test]
fn the_same_job_twice_is_one_job() {
    let dir = dir();
    let store = open(&dir);
    let big = large(4);
    let first = submit(&store, 1, &[&big]);
    store.commit_blocking(vec![Write::Fact(Fact::Vote(first.job, vote(1)))]).unwrap();
    let again = submit(&store, 1, &[&big]);
    assert_eq!((again.job, again.already_existed), (first.job, true));
    settle(&store);
    let saved = store.load().unwrap();
    assert_eq!((saved.jobs.len(), saved.jobs[0].votes.len()), (1, 1));
    assert_eq!(count(&store, "unit"), 1);
    assert_eq!(store.read_blob(Digest::of(&big)).unwrap(), Some(big), "the first job's input stays");
}

#[test]
fn what_the_manifest_does_not_describe_is_refused() {
    let dir = dir();
    let store = open(&dir);
    let mut submission = Submission::begin(&store, OWNER).unwrap();
    submission.module_chunk(b"\0asm\x01\0\0\0").unwrap();
    let other = |parts: &Parts| Manifest { module: Digest([0; 32]), ..manifest(parts, 1) };
    assert!(matches!(submission.finish(other, |_| [0; 64]), Err(SubmissionError::Mismatch { what: "module" })));
    let mut submission = Submission::begin(&store, OWNER).unwrap();
    submission.unit("a", b"", true).unwrap();
    assert!(matches!(submission.unit("b", b"", true), Err(SubmissionError::UnitNotEnded)));
    let empty = Submission::begin(&store, OWNER).unwrap();
    assert!(matches!(empty.finish(|parts| manifest(parts, 1), |_| [0; 64]), Err(SubmissionError::Manifest(_))));
}

#[test]
fn a_torn_blob_is_found_removed_and_may_come_back() {
    let dir = dir();
    let store = open(&dir);
    let job = submit(&store, 1, &[]).job;
    for damage in
        [&|path: &Path| fs::write(path, b"cut").unwrap() as _, &|path: &Path| fs::write(path, large(6)).unwrap(), &|path: &Path| {
            fs::remove_file(path).unwrap();
        }] as [&dyn Fn(&Path); 3]
    {
        let digest = store.put_blob(&large(5), Some(job)).unwrap();
        damage(&store.0.files.blob(digest));
        assert_eq!(store.read_blob(digest).unwrap(), None);
        assert!(!store.has_blob(digest).unwrap());
        assert_eq!(files_below(&dir), 0);
    }
    let digest = store.put_blob(&large(5), None).unwrap();
    assert_eq!(store.read_blob_at(digest, 0, 3).unwrap().as_deref(), Some(&large(5)[..3]));
    let pins: i64 =
        store.read(|connection| Ok(connection.query_row("SELECT max(pins) FROM blob WHERE bytes IS NULL", [], |row| row.get(0))?)).unwrap();
    assert_eq!(pins, 1, "the job's pin holds again");
}

#[test]
fn a_blob_that_is_not_what_was_announced_is_refused() {
    let dir = dir();
    let store = open(&dir);
    let mut writer = store.blob_writer();
    writer.write(&large(1)).unwrap();
    assert!(matches!(writer.finish_as(Digest([0; 32])), Err(StoreError::WrongDigest { .. })));
    let wrong = Write::Blob { digest: Digest([0; 32]), bytes: b"x".to_vec(), pin: None };
    assert!(matches!(store.commit_blocking(vec![wrong]), Err(StoreError::WrongDigest { .. })));
    assert_eq!((files_below(&dir), count(&store, "blob")), (0, 0));
}

#[test]
fn the_quota_evicts_the_longest_unused_and_keeps_what_is_pinned() {
    let dir = dir();
    let size = large(0).len() as u64;
    let options = Options { blob_quota_bytes: 2 * size, ..Options::default() };
    let store = Store::open_with(dir.path(), options).unwrap();
    let job = submit(&store, 1, &[&large(1)]).job;
    let pinned = Digest::of(&large(1));
    let [first, second] = [2, 3].map(|seed| store.put_blob(&large(seed), None).unwrap());
    store.read_blob(first).unwrap();
    let third = store.put_blob(&large(4), None).unwrap();
    assert_eq!([first, second, third, pinned].map(|digest| store.has_blob(digest).unwrap()), [true, false, true, true]);
    assert_eq!(files_below(&dir), 3);
    store.commit_blocking(vec![Write::Pin { job, digest: first }]).unwrap();
    let [fourth, fifth] = [5, 6].map(|seed| store.put_blob(&large(seed), None).unwrap());
    assert_eq!([first, third, fourth, fifth, pinned].map(|digest| store.has_blob(digest).unwrap()), [true, false, true, true, true]);
    store.commit_blocking(vec![Write::RemoveJob(job)]).unwrap();
    settle(&store);
    assert_eq!(
        [first, fourth, fifth, pinned].map(|digest| store.has_blob(digest).unwrap()),
        [false, true, true, false],
        "what it needed goes with it"
    );
    assert!(store.load().unwrap().jobs.is_empty());
    assert!(matches!(store.unit_input(job, UnitIndex(0)), Err(StoreError::NoSuchJob(_))));
    assert_eq!(files_below(&dir), 2);
}

#[test]
fn a_full_disk_leaves_nothing_half_written_and_the_store_usable() {
    let dir = dir();
    let options = Options { database_bytes_max: 1 << 20, ..Options::default() };
    let store = Store::open_with(dir.path(), options).unwrap();
    let job = submit(&store, 1, &[]).job;
    let mut blob = store.blob_writer();
    blob.write(&large(1)).unwrap();
    let blob = blob.finish().unwrap();
    let mut writes: Vec<Write> = vec![Write::Staged { blob, pin: Some(job) }];
    writes.extend((0..10_000).map(|n| Write::Fact(Fact::Vote(job, vote(n)))));
    assert!(matches!(store.commit_blocking(writes), Err(StoreError::DiskFull)));
    assert_eq!((store.load().unwrap().jobs[0].votes.len(), files_below(&dir)), (0, 0));
    store.commit_blocking(vec![Write::Fact(Fact::Vote(job, vote(1)))]).unwrap();
    assert_eq!(store.load().unwrap().jobs[0].votes, [vote(1)]);
}

#[test]
fn a_file_that_no_row_knows_is_removed_after_an_unclean_stop() {
    let dir = dir();
    let store = open(&dir);
    let known = store.put_blob(&large(1), None).unwrap();
    let stray = store.0.files.blob(Digest::of(b"stray"));
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, b"stray").unwrap();
    drop(store);
    fs::write(dir.path().join("lock"), "1\n").unwrap();
    let store = open(&dir);
    assert!(!stray.exists());
    assert!(store.read_blob(known).unwrap().is_some());
}

/// Not a test by itself: what the next test kills.
#[test]
fn child_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    let job = submit(&store, 1, &[]).job;
    for n in 0.. {
        store.commit_blocking(vec![Write::Fact(Fact::Vote(job, vote(2 * n))), Write::Fact(Fact::Vote(job, vote(2 * n + 1)))]).unwrap();
        println!("committed {n}");
    }
}

#[test]
fn a_killed_process_keeps_every_commit_that_it_was_told_of() {
    let dir = dir();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::child_commits_until_it_is_killed", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).filter(|line| line.contains("committed")).take(25).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(told, 25);
    let votes = open(&dir).load().unwrap().jobs.remove(0).votes;
    assert!(votes.len() >= 2 * told && votes.len().is_multiple_of(2), "whole commits only: {}", votes.len());
    assert!(votes.iter().zip(0..).all(|(found, n)| *found == vote(n)));
}

/// Votes with proofs of batches of 1,024, in commits of 1,024. Run it with optimisation and `--nocapture`.
#[test]
#[ignore = "a measurement"]
fn measure_votes_and_units() {
    let dir = dir();
    let store = open(&dir);
    let job = submit(&store, 1, &[]).job;
    let commits: Vec<Vec<Write>> = (0..400)
        .map(|batch| {
            (0..1024).map(|n| Write::Fact(Fact::Vote(job, Vote { proof: vec![1; 416].into(), ..vote(batch * 1024 + n) }))).collect()
        })
        .collect();
    let start = std::time::Instant::now();
    let replies: Vec<_> =
        commits.into_iter().map(|writes| store.begin_request(writes.into_iter().map(Change::Write).collect()).unwrap()).collect();
    assert!(replies.into_iter().all(|reply| reply.blocking_recv().unwrap().is_ok()));
    let per_second = |count: f64, start: std::time::Instant| count / start.elapsed().as_secs_f64();
    println!("{:.0} votes/s, fsync included", per_second(409_600.0, start));
    let start = std::time::Instant::now();
    assert_eq!(store.load().unwrap().jobs[0].votes.len(), 409_600);
    println!("{:.0} votes/s loaded", per_second(409_600.0, start));
    let start = std::time::Instant::now();
    let mut submission = Submission::begin(&store, OWNER).unwrap();
    submission.module_chunk(b"\0asm\x01\0\0\0").unwrap();
    for unit in 0..200_000 {
        submission.unit(&format!("unit-{unit}"), &[7; 100], false).unwrap();
    }
    let units = submission.finish(|parts| manifest(parts, 3), |_| [7; 64]).unwrap();
    println!("{:.0} units/s submitted", per_second(200_000.0, start));
    let start = std::time::Instant::now();
    for batch in 0..100 {
        let asked: Vec<UnitIndex> = (batch * 1000..batch * 1000 + 1000).map(UnitIndex).collect();
        assert_eq!(store.unit_inputs(units.job, &asked).unwrap().len(), 1000);
    }
    println!("{:.0} inputs/s read for leases", per_second(100_000.0, start));
    let start = std::time::Instant::now();
    for n in 0..100 {
        store.commit_blocking(vec![Write::Fact(Fact::Vote(job, vote(n)))]).unwrap();
    }
    println!("{:.2} ms for a commit alone", start.elapsed().as_secs_f64() * 10.0);
    let start = std::time::Instant::now();
    for batch in 0..20_u32 {
        let writes = (0..1000_u32).map(|n| {
            let bytes = (batch * 1000 + n).to_le_bytes().repeat(10);
            Write::Blob { digest: Digest::of(&bytes), bytes, pin: Some(job) }
        });
        store.commit_blocking(writes.collect()).unwrap();
    }
    println!("{:.0} small outputs/s, fsync included", per_second(20_000.0, start));
}
