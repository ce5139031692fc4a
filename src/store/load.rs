//! Facts from rows: what a restarted peer is rebuilt from.

use super::{
    Store,
    error::StoreError,
    keeping::{Role, load_keepers, load_kept},
    receipts::load_origin,
    rows, schema,
};
use crate::{
    protocol::{
        checkpoint::Authors,
        fact::{Failures, Findings, Nondeterminism, Origin, Saved, SavedJob, Standing, Verdict, Vote},
        ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
        job::Manifest,
        outcome::{Exit, Value},
        platform::{Platform, Platforms},
        trust::QUARANTINE,
        verify::AuditState,
    },
    wire::{manifest, number, receipt},
};
use rusqlite::{Connection, Row};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// In the column `anchor`: its first bit.
pub(super) const ANCHOR: i64 = 1;
/// The second.
pub(super) const FRIEND: i64 = 2;

/// What a worker is shown of a job before its first lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedManifest {
    /// The manifest as it was signed.
    pub encoded: Vec<u8>,
    /// The owner's signature.
    pub signature: [u8; 64],
}

impl Store {
    /// Everything that a restarted peer needs, in one consistent state. Blocks; a million votes take about a second.
    pub fn load(&self) -> Result<Saved, StoreError> {
        self.read(|connection| {
            let (jobs, standings) = (load_jobs(connection)?, load_standings(connection)?);
            Ok(Saved { jobs, standings, quarantines: load_quarantines(connection)?, kept: load_kept(connection)? })
        })
    }

    /// A job's encoded manifest and its owner's signature on it.
    pub fn signed_manifest(&self, job: JobId) -> Result<Option<SignedManifest>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT manifest, signature FROM job WHERE id = ?1")?;
            let mut rows = find.query([job.0])?;
            rows.next()?.map(|row| Ok(SignedManifest { encoded: row.get(0)?, signature: row.get(1)? })).transpose()
        })
    }

    /// What was last written as [`Write::Note`](super::Write::Note) under this key.
    pub fn note(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| {
            let mut find = connection.prepare_cached("SELECT bytes FROM note WHERE key = ?1")?;
            let mut rows = find.query([key])?;
            rows.next()?.map(|row| Ok(row.get(0)?)).transpose()
        })
    }
}

/// Own jobs and adopted ones.
fn load_jobs(connection: &Connection) -> Result<Vec<SavedJob>, StoreError> {
    let mut find = connection.prepare_cached("SELECT * FROM job WHERE role IN (?1, ?2) ORDER BY number")?;
    let mut rows = find.query([Role::Own.number(), Role::Adopted.number()])?;
    let mut jobs = vec![];
    while let Some(row) = rows.next()? {
        jobs.push(load_job(connection, row)?);
    }
    Ok(jobs)
}

/// The description in a row of the table `job`.
pub(super) fn load_manifest(row: &Row<'_>) -> Result<(JobId, Manifest), StoreError> {
    let encoded = row.get_ref("manifest")?.as_blob().map_err(|_| StoreError::BadRow { what: "manifest" })?;
    let id = JobId(row.get("id")?);
    if manifest::job_id(encoded) != id {
        return Err(StoreError::damaged_row("manifest"));
    }
    Ok((id, manifest::decode(encoded).map_err(|_| StoreError::BadRow { what: "manifest" })?))
}

/// Everything about the job in a row of the table `job`.
pub(super) fn load_job(connection: &Connection, row: &Row<'_>) -> Result<SavedJob, StoreError> {
    let job: i64 = row.get("number")?;
    let (id, manifest) = load_manifest(row)?;
    Ok(SavedJob {
        id,
        manifest,
        secret: row.get("secret")?,
        state: number::to_job_state(row.get("state")?).map_err(|_| StoreError::BadRow { what: "job state" })?,
        votes: load_votes(connection, job)?,
        verdicts: of_job(connection, job, "verdict", |row| Ok((unit_of(row)?, load_verdict(row)?)))?,
        failures: of_job(connection, job, "failures", |row| Ok((unit_of(row)?, load_failures(row)?)))?,
        findings: of_job(connection, job, "findings", load_findings)?.pop(),
        keepers: (row.get("keepers_wanted")?, load_keepers(row)?),
    })
}

fn load_votes(connection: &Connection, job: i64) -> Result<Vec<Vote>, StoreError> {
    let origins = of_job(connection, job, "origin", |row| Ok((row.get::<_, i64>(0)?, load_origin(row)?)))?;
    let origins: BTreeMap<i64, Origin> = origins.into_iter().collect();
    of_job(connection, job, "vote", |row| {
        let origin = origins.get(&row.get(0)?).copied().unwrap_or_default();
        Ok(Vote { origin, ..load_vote(row)? })
    })
}

/// All rows of a job in one of its tables, in the order of their keys.
pub(super) fn of_job<T>(
    connection: &Connection,
    job: i64,
    table: &'static str,
    load: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let (first, last) = schema::keys(job);
    let mut find = connection.prepare_cached(&format!("SELECT * FROM {table} WHERE key BETWEEN ?1 AND ?2 ORDER BY key"))?;
    let mut rows = find.query([first, last])?;
    let mut found = vec![];
    while let Some(row) = rows.next()? {
        found.push(load(row)?);
    }
    Ok(found)
}

pub(super) fn unit_of(row: &Row<'_>) -> Result<UnitIndex, StoreError> {
    Ok(UnitIndex(schema::key_part(row.get(0)?)))
}

fn load_exit(row: &Row<'_>, kind: usize) -> Result<Exit, StoreError> {
    number::to_exit(row.get(kind)?, row.get(kind + 1)?).map_err(|_| StoreError::BadRow { what: "exit" })
}

fn load_chain(row: &Row<'_>) -> Result<Option<Digest>, StoreError> {
    Ok(row.get::<_, Option<[u8; 32]>>("chain")?.map(Digest))
}

/// The vote in a row of the table `vote`.
pub(super) fn load_vote(row: &Row<'_>) -> Result<Vote, StoreError> {
    rows::check(row, "vote")?;
    let proof = row.get_ref(10)?.as_blob().map_err(|_| StoreError::BadRow { what: "proof" })?;
    let platform = match row.get::<_, Option<u32>>(12)? {
        Some(number) => number::to_platform(number).map_err(|_| StoreError::BadRow { what: "instruction set" })?,
        // From before it was kept here: the receipt names it, and what has none was computed on this machine.
        None => receipt::platform(proof).unwrap_or(Platform::named(std::env::consts::ARCH.as_bytes())),
    };
    Ok(Vote {
        unit: UnitIndex(row.get(1)?),
        worker: PeerId(row.get(2)?),
        attempt: Attempt(row.get(3)?),
        ordinal: row.get(4)?,
        position: row.get(11)?,
        platform,
        value: Value {
            exit: load_exit(row, 5)?,
            output: Digest(row.get(7)?),
            gas: row.get::<_, i64>(8)?.cast_unsigned(),
            chain: load_chain(row)?,
        },
        output_bytes: row.get::<_, i64>(9)?.cast_unsigned(),
        origin: Origin::Leased,
        rests_on: match row.get_ref("rests_on")?.as_blob_or_null().map_err(|_| StoreError::BadRow { what: "rests_on" })? {
            None => Authors::NONE,
            Some(bytes) => Authors::from_bytes(bytes).ok_or(StoreError::BadRow { what: "rests_on" })?,
        },
        proof: Arc::from(proof),
    })
}

/// The verdict in a row of the table `verdict`.
pub(super) fn load_verdict(row: &Row<'_>) -> Result<Verdict, StoreError> {
    rows::check(row, "verdict")?;
    match row.get(1)? {
        1 => Ok(Verdict::Open),
        2 => {
            let gas = row.get::<_, i64>(5)?.cast_unsigned();
            let value = Value { exit: load_exit(row, 2)?, output: Digest(row.get(4)?), gas, chain: load_chain(row)? };
            Ok(Verdict::Verified { value, by_owner: row.get(6)? })
        }
        3 => Ok(Verdict::Failed),
        _ => Err(StoreError::BadRow { what: "verdict" }),
    }
}

pub(super) fn load_failures(row: &Row<'_>) -> Result<Failures, StoreError> {
    rows::check(row, "count of failures")?;
    let last = number::to_failure(row.get(2)?).map_err(|_| StoreError::BadRow { what: "failure" })?;
    Ok(Failures { count: row.get(1)?, last })
}

pub(super) fn load_findings(row: &Row<'_>) -> Result<Findings, StoreError> {
    let audit = AuditState { convicted: row.get(1)?, collusion: row.get(2)? };
    let platforms =
        |bits: Option<u8>| bits.and_then(Platforms::from_bits).ok_or(StoreError::BadRow { what: "instruction sets of a finding" });
    let nondeterminism = match row.get::<_, Option<u32>>(3)? {
        Some(unit) => {
            let (set_aside, against) = (platforms(row.get(4)?)?, platforms(row.get(5)?)?);
            Some(Nondeterminism { unit: UnitIndex(unit), set_aside, against })
        }
        None => None,
    };
    Ok(Findings { audit, nondeterminism })
}

fn load_standings(connection: &Connection) -> Result<Vec<(PeerId, Standing)>, StoreError> {
    let mut find = connection.prepare_cached("SELECT * FROM standing ORDER BY peer")?;
    let mut found = find.query([])?;
    let mut standings = vec![];
    while let Some(row) = found.next()? {
        let standing = Standing {
            verified_units: row.get::<_, i64>(1)?.cast_unsigned(),
            verified_gas: row.get::<_, i64>(2)?.cast_unsigned(),
            strikes: row.get(3)?,
            drops: row.get(4)?,
            gas_per_second: row.get(5)?,
            anchor: row.get::<_, i64>(6)? & ANCHOR != 0,
            friend: row.get::<_, i64>(6)? & FRIEND != 0,
            lineage: row.get::<_, Option<[u8; 32]>>(7)?.map(PeerId),
        };
        standings.push((PeerId(row.get(0)?), standing));
    }
    Ok(standings)
}

/// What is left of quarantines, by this machine's clock; where that was set back they have just begun.
fn load_quarantines(connection: &Connection) -> Result<BTreeMap<PeerId, Duration>, StoreError> {
    let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let mut find = connection.prepare_cached("SELECT peer, struck_unix FROM standing WHERE strikes > 0 AND struck_unix IS NOT NULL")?;
    let rows = find.query_map([], |row| {
        let gone = now.saturating_sub(u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0));
        Ok((PeerId(row.get(0)?), QUARANTINE.saturating_sub(Duration::from_secs(gone))))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::fact::Fact, store::Write};

    #[test]
    fn a_quarantine_goes_on_while_the_node_is_down() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let caught = Standing { strikes: 1, ..Standing::default() };
        let keep =
            |store: &Store, peer: u8, standing| store.commit_blocking(vec![Write::Fact(Fact::Standing(PeerId([peer; 32]), standing))]);
        keep(&store, 1, Standing::default()).unwrap();
        (1..=3).for_each(|peer| keep(&store, peer, caught).unwrap());
        drop(store);
        let connection = rusqlite::Connection::open(dir.path().join("facts.sqlite")).unwrap();
        let back = "UPDATE standing SET struck_unix = struck_unix - ?2 WHERE peer = ?1";
        connection.execute(back, rusqlite::params![[1u8; 32], 3600]).unwrap();
        connection.execute(back, rusqlite::params![[2u8; 32], 1_000_000]).unwrap();
        drop(connection);
        let store = Store::open(dir.path()).unwrap();
        // What is said of it later does not begin it anew.
        keep(&store, 1, Standing { drops: 5, ..caught }).unwrap();
        let left = |store: &Store, peer: u8| store.load().unwrap().quarantines[&PeerId([peer; 32])].as_secs();
        assert!((22 * 3600..=23 * 3600).contains(&left(&store, 1)), "{}", left(&store, 1));
        assert_eq!(left(&store, 2), 0);
        assert!(left(&store, 3) > 23 * 3600);
        keep(&store, 2, Standing { strikes: 2, ..caught }).unwrap();
        assert!(left(&store, 2) > 23 * 3600, "convicted again");
    }
}
