//! Jobs that are kept for others, in the same tables as own ones; and own jobs page by page, to be copied to their keepers.

use super::{
    Store,
    error::StoreError,
    files::SMALL_BYTES_MAX,
    load::{load_failures, load_findings, load_job, load_manifest, load_verdict, load_vote, of_job, unit_of},
    reader::number_of,
    receipts::load_origin,
    schema,
    sheaves::bound_bytes,
    writer::Writer,
};
use crate::{
    protocol::{
        fact::{Failures, Findings, JobState, Origin, SavedJob, Verdict, Vote},
        ids::{Digest, JobId, PeerId, UnitIndex},
        keeping::{Keepers, KeptJob},
        outcome::Exit,
    },
    wire::{keep::SignedKeepers, number, work::UnitInput},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What this machine is to a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Its author.
    Own,
    /// A keeper.
    Kept,
    /// A keeper that coordinates it.
    Adopted,
    /// It is being copied here, and worth nothing before all of it is.
    Arriving,
}

impl Role {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Own => 0,
            Self::Kept => 1,
            Self::Adopted => 2,
            Self::Arriving => 3,
        }
    }

    fn numbered(number: i64) -> Result<Self, StoreError> {
        let roles = [Self::Own, Self::Kept, Self::Adopted, Self::Arriving];
        roles.into_iter().find(|role| role.number() == number).ok_or(StoreError::BadRow { what: "role of a job" })
    }
}

/// A job that begins to be kept.
#[derive(Clone, Debug)]
pub struct NewKept {
    /// Its name.
    pub id: JobId,
    /// Its encoded description.
    pub manifest: Vec<u8>,
    /// Its author's signature on that.
    pub signature: [u8; 64],
    /// Who keeps it.
    pub keepers: SignedKeepers,
}

/// What a job of somebody else takes of the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptSize {
    /// Its name.
    pub id: JobId,
    /// Whose it is.
    pub author: PeerId,
    /// Bytes, about.
    pub bytes: u64,
    /// When this machine learnt that it has ended, in seconds since 1970.
    pub ended_unix: Option<u64>,
    /// This machine went on with it, so what is here may be nowhere else.
    pub adopted: bool,
}

/// A blob that a job needs.
#[derive(Clone, Debug)]
pub struct BlobRow {
    /// Its name.
    pub digest: Digest,
    /// The bytes of a small one.
    pub bytes: Option<Arc<[u8]>>,
}

impl Store {
    /// What this machine is to a job; none when it is not here.
    pub fn role(&self, job: JobId) -> Result<Option<Role>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT role FROM job WHERE id = ?1")?;
            find.query_row([job.0], |row| row.get(0)).optional()?.map(Role::numbered).transpose()
        })
    }

    /// Jobs that had begun to be copied here, and were not complete.
    pub fn arriving(&self) -> Result<Vec<JobId>, StoreError> {
        self.jobs_as(Role::Arriving)
    }

    /// Jobs of others that this machine coordinates.
    pub fn adopted(&self) -> Result<Vec<JobId>, StoreError> {
        self.jobs_as(Role::Adopted)
    }

    fn jobs_as(&self, role: Role) -> Result<Vec<JobId>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT id FROM job WHERE role = ?1")?;
            let rows = find.query_map([role.number()], |row| row.get(0).map(JobId))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// All that is here of one job. Blocks; a million votes take about a second.
    pub fn saved_job(&self, job: JobId) -> Result<Option<SavedJob>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT * FROM job WHERE id = ?1")?;
            let mut rows = find.query([job.0])?;
            rows.next()?.map(|row| load_job(connection, row)).transpose()
        })
    }

    /// Who keeps a job of somebody else, as its author has signed it.
    pub fn signed_keepers(&self, job: JobId) -> Result<Option<SignedKeepers>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT * FROM job WHERE id = ?1 AND keepers_signature IS NOT NULL";
            let mut find = connection.prepare_cached(sql)?;
            let mut rows = find.query([job.0])?;
            let signed = |row: &Row<'_>| Ok(SignedKeepers { keepers: load_keepers(row)?, signature: row.get("keepers_signature")? });
            rows.next()?.map(signed).transpose()
        })
    }

    /// What each job of others takes, about: its blobs and rows, half a kibibyte for each vote, what is bound included, and for itself.
    pub fn kept_for_others(&self) -> Result<Vec<KeptSize>, StoreError> {
        const ROW_BYTES: i64 = 512;
        // Each sum for one job, with what a row and its place in an index take.
        const OF_ROWS: [&str; 5] = [
            "SELECT ifnull(sum(length(name) + ifnull(length(inline), 0) + 128), 0) FROM unit WHERE key BETWEEN ?1 AND ?2",
            "SELECT ifnull(sum(length(bytes) + 64), 0) FROM log WHERE key BETWEEN ?1 AND ?2",
            "SELECT 512 * count(*) FROM vote WHERE key BETWEEN ?1 AND ?2",
            "SELECT 128 * count(*) FROM verdict WHERE key BETWEEN ?1 AND ?2",
            "SELECT 64 * count(*) FROM failures WHERE key BETWEEN ?1 AND ?2",
        ];
        self.read(|connection| {
            let mut jobs = connection.prepare_cached("SELECT * FROM job WHERE role <> ?1")?;
            let mut rows = jobs.query([Role::Own.number()])?;
            let mut kept = vec![];
            while let Some(row) = rows.next()? {
                let number: i64 = row.get("number")?;
                let encoded = i64::try_from(row.get_ref("manifest")?.as_bytes().map_or(0, <[u8]>::len)).unwrap_or(i64::MAX);
                let mut bytes = bound_bytes(connection, number)?.saturating_add(ROW_BYTES).saturating_add(encoded);
                // Also blobs that are not here yet are named.
                let sql =
                    "SELECT ifnull(sum(ifnull(size, 0) + 128), 0) FROM pin LEFT JOIN blob ON blob.digest = pin.digest WHERE pin.job = ?1";
                bytes += connection.prepare_cached(sql)?.query_row([number], |row| row.get::<_, i64>(0))?;
                let (first, last) = schema::keys(number);
                for sql in OF_ROWS {
                    bytes += connection.prepare_cached(sql)?.query_row([first, last], |row| row.get::<_, i64>(0))?;
                }
                let (id, manifest) = load_manifest(row)?;
                let ended_unix: Option<i64> = row.get("ended_unix")?;
                kept.push(KeptSize {
                    id,
                    author: manifest.owner,
                    bytes: bytes.cast_unsigned(),
                    ended_unix: ended_unix.map(i64::cast_unsigned),
                    adopted: Role::numbered(row.get("role")?)? == Role::Adopted,
                });
            }
            Ok(kept)
        })
    }

    /// Votes with how they came here, in the order of their commitment, from the `first` number to before `end`, at most `count`;
    /// and the number behind the last.
    pub fn votes_with_origin(&self, job: JobId, first: u32, end: u32, count: u32) -> Result<(Vec<Vote>, u32), StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let sql = "SELECT * FROM vote WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3";
            votes_of(connection, sql, (schema::key(number, first), schema::key(number, end)), count, first)
        })
    }

    /// The same, of those votes alone that this machine took itself.
    pub fn votes_taken_here(&self, job: JobId, first: u32, count: u32) -> Result<(Vec<Vote>, u32), StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let sql = "SELECT * FROM vote WHERE key >= ?1 AND key <= ?2 AND NOT EXISTS (SELECT 1 FROM origin WHERE origin.key = vote.key)
                ORDER BY key LIMIT ?3";
            votes_of(connection, sql, (schema::key(number, first), schema::keys(number).1), count, first)
        })
    }

    /// The number behind that of the last vote.
    pub fn votes_end(&self, job: JobId) -> Result<u32, StoreError> {
        self.read(|connection| {
            let (first, last) = schema::keys(number_of(connection, job)?);
            let mut newest = connection.prepare_cached("SELECT max(key) FROM vote WHERE key BETWEEN ?1 AND ?2")?;
            let newest: Option<i64> = newest.query_row([first, last], |row| row.get(0))?;
            Ok(newest.map_or(0, |key| schema::key_part(key) + 1))
        })
    }

    /// Whether anybody's vote on a unit of the job may be here, in rows or bound.
    pub fn has_votes(&self, job: JobId) -> Result<bool, StoreError> {
        self.read(|connection| {
            let keys = schema::keys(number_of(connection, job)?);
            let any = |sql| connection.prepare_cached(sql)?.exists([keys.0, keys.1]);
            Ok(any("SELECT 1 FROM vote WHERE key BETWEEN ?1 AND ?2 LIMIT 1")?
                || any("SELECT 1 FROM sheaf WHERE key BETWEEN ?1 AND ?2 LIMIT 1")?)
        })
    }

    /// Decisions on units from `first` on, at most `count`.
    pub fn verdicts_page(&self, job: JobId, first: UnitIndex, count: u32) -> Result<Vec<(UnitIndex, Verdict)>, StoreError> {
        self.page(job, "verdict", first, count, |row| Ok((unit_of(row)?, load_verdict(row)?)))
    }

    /// Failed attempts of units from `first` on, at most `count`.
    pub fn failures_page(&self, job: JobId, first: UnitIndex, count: u32) -> Result<Vec<(UnitIndex, Failures)>, StoreError> {
        self.page(job, "failures", first, count, |row| Ok((unit_of(row)?, load_failures(row)?)))
    }

    fn page<T>(
        &self,
        job: JobId,
        table: &'static str,
        first: UnitIndex,
        count: u32,
        load: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let sql = format!("SELECT * FROM {table} WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3");
            let mut find = connection.prepare_cached(&sql)?;
            let mut rows = find.query([schema::key(number, first.0), schema::keys(number).1, i64::from(count)])?;
            let mut found = vec![];
            while let Some(row) = rows.next()? {
                found.push(load(row)?);
            }
            Ok(found)
        })
    }

    /// Blobs that a job needs, in the order of their names, behind `after`: at most `count`, and small ones of about `bytes` in all.
    pub fn blobs_page(&self, job: JobId, after: Option<Digest>, count: u32, bytes: usize) -> Result<Vec<BlobRow>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let sql = "SELECT pin.digest, blob.bytes FROM pin JOIN blob ON blob.digest = pin.digest
                WHERE pin.job = ?1 AND pin.digest > ?2 ORDER BY pin.digest LIMIT ?3";
            let mut find = connection.prepare_cached(sql)?;
            let after: Vec<u8> = after.map_or_else(Vec::new, |digest| digest.0.to_vec());
            let mut rows = find.query(params![number, after, count])?;
            let (mut page, mut left) = (vec![], bytes);
            while left > 0
                && let Some(row) = rows.next()?
            {
                let small: Option<Vec<u8>> = row.get(1)?;
                let small = small.filter(|bytes| bytes.len() <= SMALL_BYTES_MAX);
                left = left.saturating_sub(small.as_ref().map_or(1, |bytes| bytes.len() + 1));
                page.push(BlobRow { digest: Digest(row.get(0)?), bytes: small.map(Arc::from) });
            }
            Ok(page)
        })
    }

    /// Blobs that a job needs and that are not here, behind `after`; at most `count`.
    pub fn missing_blobs(&self, job: JobId, after: Option<Digest>, count: u32) -> Result<Vec<Digest>, StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let sql = "SELECT digest FROM pin WHERE job = ?1 AND digest > ?2 AND digest NOT IN (SELECT digest FROM blob)
                ORDER BY digest LIMIT ?3";
            let after: Vec<u8> = after.map_or_else(Vec::new, |digest| digest.0.to_vec());
            let mut find = connection.prepare_cached(sql)?;
            let rows = find.query_map(params![number, after, count], |row| row.get(0).map(Digest))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// How many rows a job's table of units has.
    pub fn units_held(&self, job: JobId) -> Result<u32, StoreError> {
        self.read(|connection| {
            let (first, last) = schema::keys(number_of(connection, job)?);
            let mut count = connection.prepare_cached("SELECT count(*) FROM unit WHERE key BETWEEN ?1 AND ?2")?;
            Ok(count.query_row([first, last], |row| row.get(0))?)
        })
    }

    /// Of a job's units, how many are verified, how many failed, and how many of the verified the owner's machine computed.
    pub fn verdict_counts(&self, job: JobId) -> Result<(u32, u32, u32), StoreError> {
        self.read(|connection| {
            let (first, last) = schema::keys(number_of(connection, job)?);
            let (kind, detail) = number::of_exit(Exit::Code(0));
            let sql = "SELECT ifnull(sum(kind = 2 AND exit_kind = ?3 AND exit_detail = ?4), 0),
                ifnull(sum(kind = 3 OR (kind = 2 AND NOT (exit_kind = ?3 AND exit_detail = ?4))), 0),
                ifnull(sum(kind = 2 AND by_owner), 0) FROM verdict WHERE key BETWEEN ?1 AND ?2";
            let mut count = connection.prepare_cached(sql)?;
            Ok(count.query_row(params![first, last, kind, detail], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
        })
    }

    /// Where a job stands, and what its checks have brought to light.
    pub fn state_and_findings(&self, job: JobId) -> Result<(JobState, Option<Findings>), StoreError> {
        self.read(|connection| {
            let number = number_of(connection, job)?;
            let mut find = connection.prepare_cached("SELECT state FROM job WHERE number = ?1")?;
            let state = find.query_row([number], |row| row.get(0))?;
            let state = number::to_job_state(state).map_err(|_| StoreError::BadRow { what: "job state" })?;
            Ok((state, of_job(connection, number, "findings", load_findings)?.pop()))
        })
    }
}

fn votes_of(connection: &Connection, sql: &str, keys: (i64, i64), count: u32, first: u32) -> Result<(Vec<Vote>, u32), StoreError> {
    let mut find = connection.prepare_cached(sql)?;
    let mut rows = find.query(params![keys.0, keys.1, count])?;
    let (mut votes, mut last) = (vec![], None);
    while let Some(row) = rows.next()? {
        let key: i64 = row.get(0)?;
        last = Some(key);
        votes.push((key, load_vote(row)?));
    }
    let mut origins = connection.prepare_cached("SELECT * FROM origin WHERE key BETWEEN ?1 AND ?2")?;
    let mut rows = origins.query([keys.0, last.unwrap_or(keys.0)])?;
    let mut origins: BTreeMap<i64, Origin> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        origins.insert(row.get(0)?, load_origin(row)?);
    }
    let votes = votes.into_iter().map(|(key, vote)| Vote { origin: origins.get(&key).copied().unwrap_or_default(), ..vote });
    Ok((votes.collect(), last.map_or(first, |key| schema::key_part(key) + 1)))
}

/// Who has voted on which unit of a job.
pub(super) fn voters(connection: &Connection, number: i64) -> Result<BTreeSet<(UnitIndex, PeerId)>, StoreError> {
    let (first, last) = schema::keys(number);
    let mut find = connection.prepare_cached("SELECT unit, worker FROM vote WHERE key BETWEEN ?1 AND ?2")?;
    let rows = find.query_map([first, last], |row| Ok((UnitIndex(row.get(0)?), PeerId(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The list of keepers in a row of the table `job`.
pub(super) fn load_keepers(row: &Row<'_>) -> Result<Keepers, StoreError> {
    let peers: Vec<u8> = row.get("keepers")?;
    let (peers, rest) = peers.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(StoreError::BadRow { what: "keepers" });
    }
    Ok(Keepers { version: row.get("keepers_version")?, peers: peers.iter().map(|peer| PeerId(*peer)).collect() })
}

/// Jobs that are kept for others.
pub(super) fn load_kept(connection: &Connection) -> Result<Vec<KeptJob>, StoreError> {
    let mut find = connection.prepare_cached("SELECT * FROM job WHERE role IN (?1, ?2) ORDER BY number")?;
    let mut rows = find.query([Role::Kept.number(), Role::Adopted.number()])?;
    let mut kept = vec![];
    while let Some(row) = rows.next()? {
        let (id, manifest) = load_manifest(row)?;
        let state = number::to_job_state(row.get("state")?).map_err(|_| StoreError::BadRow { what: "job state" })?;
        let adopted = Role::numbered(row.get("role")?)? == Role::Adopted;
        kept.push(KeptJob { id, manifest: Arc::new(manifest), keepers: load_keepers(row)?, adopted, ended: state.has_ended() });
    }
    Ok(kept)
}

fn encoded(keepers: &Keepers) -> Vec<u8> {
    keepers.peers.iter().flat_map(|peer| peer.0).collect()
}

impl Writer {
    pub(super) fn insert_kept(&mut self, kept: &NewKept) -> Result<(), StoreError> {
        let mut find = self.connection.prepare_cached("SELECT 1 FROM job WHERE id = ?1")?;
        let is_new = !find.exists([kept.id.0])?;
        drop(find);
        if is_new {
            self.connection.prepare_cached("INSERT INTO draft DEFAULT VALUES")?.execute([])?;
            let number = self.connection.last_insert_rowid();
            let sql = "INSERT INTO job (number, id, manifest, signature, secret, state, role) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let state = number::of_job_state(JobState::Running);
            let none = [0_u8; 32];
            let values = params![number, kept.id.0, kept.manifest, kept.signature, none, state, Role::Arriving.number()];
            self.connection.prepare_cached(sql)?.execute(values)?;
            self.connection.prepare_cached("DELETE FROM draft WHERE number = ?1")?.execute([number])?;
        }
        let SignedKeepers { keepers, signature } = &kept.keepers;
        let sql = "UPDATE job SET keepers_version = ?2, keepers = ?3, keepers_signature = ?4 WHERE id = ?1 AND role <> ?5";
        let values = params![kept.id.0, keepers.version, encoded(keepers), signature, Role::Own.number()];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    pub(super) fn insert_keepers(&mut self, job: JobId, wanted: u8, keepers: &Keepers) -> Result<(), StoreError> {
        let number = self.place(job)?.number;
        // Of a job of somebody else only the author's signed list is kept.
        let sql = "UPDATE job SET keepers_wanted = ?2, keepers_version = ?3, keepers = ?4 WHERE number = ?1 AND role = ?5";
        let values = params![number, wanted, keepers.version, encoded(keepers), Role::Own.number()];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    pub(super) fn insert_kept_units(&mut self, job: JobId, first: UnitIndex, units: &[UnitInput]) -> Result<(), StoreError> {
        let number = self.place(job)?.number;
        for (unit, input) in (first.0..).zip(units) {
            let mut insert = self.connection.prepare_cached("INSERT OR REPLACE INTO unit VALUES (?1, ?2, ?3, ?4, ?5)")?;
            let values = params![schema::key(number, unit), input.name, input.digest.0, input.size.cast_signed(), input.inline.as_deref()];
            insert.execute(values)?;
            drop(insert);
            if input.inline.is_none() {
                self.insert_pin(number, input.digest)?;
                self.recount_pins(input.digest)?;
            }
        }
        Ok(())
    }

    /// A keeper that gives up coordinating forgets what it decided itself: its author decides anew, and has the votes.
    pub(super) fn set_role(&mut self, job: JobId, role: Role, secret: Option<&[u8; 32]>) -> Result<(), StoreError> {
        let mut find = self.connection.prepare_cached("SELECT number, role FROM job WHERE id = ?1")?;
        let found: Option<(i64, i64)> = find.query_row([job.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        drop(find);
        // It may have been dismissed meanwhile.
        let Some((number, before)) = found else { return Ok(()) };
        let before = Role::numbered(before)?;
        let sql = "UPDATE job SET role = ?2, secret = ifnull(?3, secret) WHERE number = ?1 AND role <> ?4";
        let values = params![number, role.number(), secret, Role::Own.number()];
        self.connection.prepare_cached(sql)?.execute(values)?;
        if (before, role) == (Role::Adopted, Role::Kept) {
            let (first, last) = schema::keys(number);
            let sql = "DELETE FROM verdict WHERE key IN (SELECT ?1 + unit FROM vote WHERE key BETWEEN ?1 AND ?2
                AND NOT EXISTS (SELECT 1 FROM origin WHERE origin.key = vote.key))";
            self.connection.prepare_cached(sql)?.execute([first, last])?;
            let state = number::of_job_state(JobState::Running);
            self.connection
                .prepare_cached("UPDATE job SET state = ?2, ended_unix = NULL WHERE number = ?1")?
                .execute(params![number, state])?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "keeping_tests.rs"]
pub(super) mod tests;
