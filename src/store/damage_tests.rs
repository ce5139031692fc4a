//! What was written by earlier versions is read; what is no longer what was written is refused.

use super::*;
use crate::protocol::{
    fact::{Fact, Failures, JobState, Verdict},
    ids::UnitIndex,
    outcome::AttemptFailure,
};
use rusqlite::Connection;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A database of each schema in use as its last version wrote it: a small job of two devices, all units verified.
const EARLIER: [&str; schema::IN_USE] = [include_str!("../../tests/schemas/1.sql")];

fn database(dir: &TempDir) -> PathBuf {
    dir.path().join("facts.sqlite")
}

/// A directory with the database of an earlier schema.
fn earlier(dump: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    Connection::open(database(&dir)).unwrap().execute_batch(dump).unwrap();
    dir
}

#[test]
fn every_earlier_schema_is_brought_up_to_date() {
    let fresh = tempfile::tempdir().unwrap();
    drop(Store::open(fresh.path()).unwrap());
    let columns = |dir: &TempDir| -> Vec<(String, String, String)> {
        let connection = Connection::open(database(dir)).unwrap();
        let sql = "SELECT m.name, c.name, c.type FROM sqlite_schema AS m, pragma_table_info(m.name) AS c ORDER BY 1, c.cid";
        let mut find = connection.prepare(sql).unwrap();
        find.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect()
    };
    for (number, dump) in EARLIER.iter().enumerate() {
        let dir = earlier(dump);
        let version: usize = Connection::open(database(&dir)).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, number + 1);
        let store = Store::open(dir.path()).unwrap();
        let saved = store.load().unwrap();
        let job = &saved.jobs[0];
        assert_eq!((job.state, job.verdicts.len(), saved.standings.len()), (JobState::Done, 4, 1), "schema {version}");
        for (unit, verdict) in &job.verdicts {
            let Verdict::Verified { value, .. } = verdict else { panic!("{unit:?} is {verdict:?}") };
            assert!(job.votes.iter().any(|vote| vote.unit == *unit && vote.value == *value));
            assert_eq!(store.output(job.id, *unit).unwrap().unwrap().size, Some(0));
            let positions: Vec<u32> = job.votes.iter().filter(|vote| vote.unit == *unit).map(|vote| vote.position).collect();
            assert!(positions.iter().copied().eq(0..positions.len() as u32), "{positions:?}");
        }
        // It can be written on.
        let vote = job.votes[0].clone();
        store.commit_blocking(vec![Write::Fact(Fact::Vote(job.id, vote.clone()))]).unwrap();
        assert_eq!(store.load().unwrap().jobs[0].votes.last(), Some(&vote));
        drop(store);
        assert_eq!(columns(&dir), columns(&fresh), "schema {version} became the present one");
    }
}

#[test]
fn a_changed_bit_in_a_sound_database_is_noticed() {
    let changes = [
        ("vote", "UPDATE vote SET gas = gas + 1"),
        ("vote", "UPDATE vote SET worker = x'0101010101010101010101010101010101010101010101010101010101010101'"),
        ("vote", "UPDATE vote SET position = position + 1"),
        ("vote", "UPDATE vote SET platform = platform + 1"),
        ("vote", "UPDATE vote SET chain = x'0303030303030303030303030303030303030303030303030303030303030303'"),
        ("verdict", "UPDATE verdict SET chain = x'0303030303030303030303030303030303030303030303030303030303030303'"),
        ("verdict", "UPDATE verdict SET by_owner = 1 - by_owner"),
        ("verdict", "UPDATE verdict SET output = x'0202020202020202020202020202020202020202020202020202020202020202'"),
        ("count of failures", "UPDATE failures SET count = 7"),
        ("manifest", "UPDATE job SET manifest = x'00'"),
    ];
    for (what, change) in changes {
        let dir = earlier(EARLIER[EARLIER.len() - 1]);
        let store = Store::open(dir.path()).unwrap();
        let saved = store.load().unwrap();
        let job = saved.jobs[0].id;
        // What is written now has its sum.
        let facts = [
            Fact::Vote(job, saved.jobs[0].votes[0].clone()),
            Fact::Verdict(job, saved.jobs[0].verdicts[0].0, saved.jobs[0].verdicts[0].1),
            Fact::Failures(job, UnitIndex(0), Failures { count: 1, last: AttemptFailure::TimeOut }),
        ];
        store.commit_blocking(facts.map(Write::Fact).into()).unwrap();
        store.load().unwrap();
        assert!(store.damage().is_none());
        drop(store);
        Connection::open(database(&dir)).unwrap().execute(change, []).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let error = store.load().unwrap_err();
        let StoreError::Damaged { path, detail } = &error else { panic!("{change}: {error}") };
        assert_eq!(path, &database(&dir));
        assert!(detail.contains(what), "{change}: {detail}");
        assert!(store.damage().is_some() && error.hint().is_some(), "{change}");
    }
}

#[test]
fn a_damaged_blob_is_not_given_out_in_parts_and_is_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let large = vec![5; SMALL_BYTES_MAX * 3];
    for (bytes, offset) in [(large.clone(), 0), (large, SMALL_BYTES_MAX as u64 * 2), (b"small".to_vec(), 0)] {
        let digest = store.put_blob(&bytes, None).unwrap();
        let given = store.read_blob_at(digest, offset, 4).unwrap();
        assert_eq!(given.as_deref(), Some(&bytes[offset as usize..][..4]));
        let file = store.0.files.blob(digest);
        if file.exists() {
            // The same size, and changed where nobody asks for it.
            let mut changed = bytes.clone();
            changed[SMALL_BYTES_MAX] ^= 1;
            fs::write(&file, changed).unwrap();
        } else {
            let writer = Connection::open(database(&dir)).unwrap();
            writer.execute("UPDATE blob SET bytes = x'736d616c6d'", []).unwrap();
        }
        assert_eq!(store.read_blob_at(digest, offset, 4).unwrap(), None);
        assert!(!store.has_blob(digest).unwrap() && !file.exists());
        assert_eq!(store.take_damaged_blobs(), [digest]);
        assert_eq!(store.take_damaged_blobs(), []);
    }
    assert!(store.damage().is_none(), "a blob that is gone can be had again; the database is sound");
}
