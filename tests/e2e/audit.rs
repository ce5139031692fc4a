//! What a node left on the disk when it ended, looked at without the program: a sound database, and no file too many.

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A data directory of a node that does not run.
pub struct Audit {
    directory: PathBuf,
    database: Connection,
}

/// A vote as it was kept: who, and how many votes there were when the unit was leased.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptVote {
    pub worker: String,
    pub ordinal: u32,
}

/// What lies in a data directory beside the store's own.
const FILES: [&str; 8] =
    ["facts.sqlite", "facts.sqlite-wal", "facts.sqlite-shm", "lock", "node.key", "settings.json", "invites.json", "log"];
const FOLDERS: [&str; 3] = ["blobs", "native", "tmp"];

impl Audit {
    pub fn of(directory: &Path) -> Self {
        let database = Connection::open_with_flags(directory.join("facts.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        Self { directory: directory.to_owned(), database }
    }

    /// Everything that is wrong, one line for each.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        let sound: String = self.database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        if sound != "ok" {
            findings.push(format!("integrity_check: {sound}"));
        }
        for (what, sql) in [
            ("drafts", "SELECT count(*) FROM draft"),
            ("pins without a job", "SELECT count(*) FROM pin WHERE job NOT IN (SELECT number FROM job)"),
            ("miscounted pins", "SELECT count(*) FROM blob WHERE pins <> (SELECT count(*) FROM pin WHERE pin.digest = blob.digest)"),
            ("pinned blobs that are gone", "SELECT count(*) FROM pin WHERE digest NOT IN (SELECT digest FROM blob)"),
            (
                "verified outputs that are gone",
                "SELECT count(*) FROM verdict WHERE kind = 2 AND output NOT IN (SELECT digest FROM blob WHERE pins > 0)",
            ),
            ("verdicts without a job", "SELECT count(*) FROM verdict WHERE key >> 32 NOT IN (SELECT number FROM job)"),
        ] {
            let count: i64 = self.database.query_row(sql, [], |row| row.get(0)).unwrap();
            if count > 0 {
                findings.push(format!("{count} {what}"));
            }
        }
        self.look_at_files(&mut findings);
        self.look_at_blobs(&mut findings);
        findings.iter().map(|finding| format!("{}: {finding}", self.directory.display())).collect()
    }

    /// Files that nobody needs any more.
    fn look_at_files(&self, findings: &mut Vec<String>) {
        for entry in fs::read_dir(&self.directory).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !FILES.contains(&&*name) && !FOLDERS.contains(&&*name) {
                findings.push(format!("a file too many: {name}"));
            }
        }
        for entry in fs::read_dir(self.directory.join("tmp")).unwrap() {
            findings.push(format!("left in tmp: {:?}", entry.unwrap().file_name()));
        }
        for entry in fs::read_dir(self.directory.join("native")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "native") {
                findings.push(format!("left in native: {:?}", path.file_name()));
            }
        }
    }

    /// Blobs' files and rows, compared with one another and with their names.
    fn look_at_blobs(&self, findings: &mut Vec<String>) {
        let mut find = self.database.prepare("SELECT lower(hex(digest)), size FROM blob WHERE bytes IS NULL").unwrap();
        let rows = find.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))).unwrap();
        let known: BTreeMap<String, u64> = rows.map(Result::unwrap).collect();
        let mut there = BTreeSet::new();
        for folder in fs::read_dir(self.directory.join("blobs")).unwrap() {
            let folder = folder.unwrap();
            for file in fs::read_dir(folder.path()).unwrap() {
                let file = file.unwrap();
                let name = format!("{}{}", folder.file_name().display(), file.file_name().display());
                let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(fs::read(file.path()).unwrap()));
                if name != digest {
                    findings.push(format!("blob {name} has the bytes of {digest}"));
                }
                there.insert(name);
            }
        }
        findings.extend(there.iter().filter(|name| !known.contains_key(*name)).map(|name| format!("a blob that no row knows: {name}")));
        findings.extend(known.keys().filter(|name| !there.contains(*name)).map(|name| format!("a blob without its file: {name}")));
    }

    /// All votes on a job's units in the order of their commitment.
    pub fn votes(&self, job: &str) -> BTreeMap<u32, Vec<KeptVote>> {
        let sql = "SELECT vote.unit, lower(hex(vote.worker)), vote.ordinal FROM vote JOIN job ON vote.key >> 32 = job.number
            WHERE lower(hex(job.id)) = ?1 ORDER BY vote.key";
        let mut find = self.database.prepare(sql).unwrap();
        let rows = find.query_map([job], |row| Ok((row.get(0)?, KeptVote { worker: row.get(1)?, ordinal: row.get(2)? }))).unwrap();
        let mut votes: BTreeMap<u32, Vec<KeptVote>> = BTreeMap::new();
        for row in rows {
            let (unit, vote) = row.unwrap();
            votes.entry(unit).or_default().push(vote);
        }
        votes
    }
}
