//! What can be written, and each kind of change as rows.

use super::{
    error::StoreError,
    files::StagedBlob,
    keeping::{NewKept, Role},
    load::{ANCHOR, FRIEND},
    rows, schema,
    sheaves::{BoundSheaf, next_sheaf},
    writer::{Place, Writer},
};
use crate::{
    protocol::{
        fact::{Fact, Failures, Findings, JobState, Standing, Verdict, Vote},
        ids::{Digest, JobId, PeerId, UnitIndex},
    },
    wire::{number, work::UnitInput},
};
use rusqlite::{OptionalExtension as _, params};
use std::time::UNIX_EPOCH;

/// The most bytes of a note's key.
pub const NOTE_KEY_BYTES_MAX: usize = 128;
/// The most bytes of a note: what does not fit is a blob.
pub const NOTE_BYTES_MAX: usize = 1 << 20;

/// Something to be made durable.
#[derive(Debug)]
pub enum Write {
    /// A fact of the protocol.
    Fact(Fact),
    /// A small blob, such as an output that came inline; at most [`SMALL_BYTES_MAX`](super::SMALL_BYTES_MAX).
    Blob {
        /// SHA-256 of the bytes; checked.
        digest: Digest,
        /// The bytes.
        bytes: Vec<u8>,
        /// The own job that needs it; without one it may be evicted.
        pin: Option<JobId>,
    },
    /// A blob written with [`Store::blob_writer`](super::Store::blob_writer), of any size.
    Staged {
        /// The blob.
        blob: StagedBlob,
        /// The own job that needs it; without one it may be evicted.
        pin: Option<JobId>,
    },
    /// An own job needs a blob, which may already be here.
    Pin {
        /// The job.
        job: JobId,
        /// The blob.
        digest: Digest,
    },
    /// The kept standard error of a unit; replaces an earlier one.
    Log {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitIndex,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Receipts of what this machine computed for others, as `wire::kept` encodes them. The oldest go when they are a week old, or
    /// when there are too many.
    Receipts {
        /// For whom.
        coordinator: PeerId,
        /// Of which job.
        job: JobId,
        /// When, in seconds since 1970.
        at: u64,
        /// How many.
        count: u32,
        /// The receipts.
        bytes: Vec<u8>,
    },
    /// All receipts of what this machine computed for others are forgotten.
    ForgetReceipts,
    /// A job and everything about it is forgotten, blobs that no other job needs included.
    RemoveJob(JobId),
    /// A blob turned out to be damaged, and is removed.
    RemoveBlob(Digest),
    /// A job of somebody else begins to be copied here, or its list of keepers is a new one. It counts as kept when its
    /// [`Role`] says so.
    Arrive(Box<NewKept>),
    /// Rows of the table of units of a kept job, from this unit on.
    KeptUnits {
        /// The job.
        job: JobId,
        /// The first.
        first: UnitIndex,
        /// The rows.
        units: Vec<UnitInput>,
    },
    /// Votes and decisions of a kept job, as they came.
    Sheaf {
        /// The job.
        job: JobId,
        /// The sheaf.
        sheaf: BoundSheaf,
    },
    /// Some sheaves of a job are taken apart, the oldest first, see [`Store::unbind`](super::Store::unbind).
    Unbind(JobId),
    /// What this machine is to a kept job; with the secret that it drew when it adopts it.
    Role {
        /// The job.
        job: JobId,
        /// What it is.
        role: Role,
        /// The secret.
        secret: Option<[u8; 32]>,
    },
    /// Forget a blob that is of no more use, unless a job needs it.
    DropBlob(Digest),
    /// Anything small that another part wants to find again under this key; removed when there are no bytes.
    Note {
        /// At most [`NOTE_KEY_BYTES_MAX`].
        key: String,
        /// At most [`NOTE_BYTES_MAX`].
        bytes: Option<Vec<u8>>,
    },
}

/// Which blobs may be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BlobsRemoved {
    /// One that is damaged, whoever needs it.
    Any,
    /// One that no job needs.
    Unpinned,
}

/// What the writer does; more than others may ask for.
#[derive(Debug)]
pub(super) enum Change {
    Write(Write),
    /// A submission begins.
    OpenDraft,
    /// A submission's next unit.
    Unit {
        draft: i64,
        index: u32,
        name: String,
        input: StagedBlob,
    },
    /// A submission's module.
    Module {
        draft: i64,
        blob: StagedBlob,
    },
    /// A submission becomes a job.
    CloseDraft {
        draft: i64,
        job: NewJob,
    },
}

/// A job as it is submitted.
#[derive(Debug)]
pub(super) struct NewJob {
    pub id: JobId,
    pub manifest: Vec<u8>,
    pub signature: [u8; 64],
    pub secret: [u8; 32],
}

/// What the last change of a request answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// The number of the draft that was opened.
    pub draft: i64,
    /// The job was already there.
    pub already_existed: bool,
}

impl Writer {
    pub(super) fn apply(&mut self, change: &Change) -> Result<Done, StoreError> {
        let mut done = Done::default();
        match change {
            Change::Write(write) => self.write(write)?,
            Change::OpenDraft => {
                self.connection.prepare_cached("INSERT INTO draft DEFAULT VALUES")?.execute([])?;
                done.draft = self.connection.last_insert_rowid();
                self.live.insert(done.draft);
            }
            Change::Unit { draft, .. } | Change::Module { draft, .. } | Change::CloseDraft { draft, .. } if !self.live.contains(draft) => {
                return Err(StoreError::Closed);
            }
            Change::Unit { draft, index, name, input } => self.insert_unit(*draft, *index, name, input)?,
            Change::Module { draft, blob } => self.insert_blob(blob, Some(*draft))?,
            Change::CloseDraft { draft, job } => done.already_existed = !self.insert_job(*draft, job)?,
        }
        Ok(done)
    }

    pub(super) fn write(&mut self, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Fact(fact) => self.insert_fact(fact),
            Write::Blob { digest, bytes, pin } => {
                let too_long = StoreError::TooLong { what: "a small blob", found: bytes.len() as u64, max: super::SMALL_BYTES_MAX as u64 };
                if bytes.len() > super::SMALL_BYTES_MAX {
                    return Err(too_long);
                }
                let found = Digest::of(bytes);
                if found != *digest {
                    return Err(StoreError::WrongDigest { expected: *digest, found });
                }
                let pin = self.pin_number(*pin)?;
                self.insert_row(*digest, bytes.len() as u64, Some(bytes), pin).map(drop)
            }
            Write::Staged { blob, pin } => {
                let pin = self.pin_number(*pin)?;
                self.insert_blob(blob, pin)
            }
            Write::Pin { job, digest } => {
                let number = self.place(*job)?.number;
                self.insert_pin(number, *digest)?;
                self.recount_pins(*digest).map(drop)
            }
            Write::Log { job, unit, bytes } => {
                let key = schema::key(self.place(*job)?.number, unit.0);
                self.connection.prepare_cached("INSERT OR REPLACE INTO log VALUES (?1, ?2)")?.execute(params![key, bytes])?;
                Ok(())
            }
            Write::RemoveJob(job) => {
                let number = self.place(*job)?.number;
                self.connection.prepare_cached("DELETE FROM job WHERE number = ?1")?.execute([number])?;
                self.connection.prepare_cached("INSERT INTO draft VALUES (?1)")?.execute([number])?;
                self.places.remove(job);
                self.pending.garbage.push(number);
                Ok(())
            }
            Write::RemoveBlob(digest) => self.remove_blob(*digest, BlobsRemoved::Any),
            Write::DropBlob(digest) => self.remove_blob(*digest, BlobsRemoved::Unpinned),
            Write::Receipts { coordinator, job, at, count, bytes } => self.keep_receipts(*coordinator, *job, *at, *count, bytes),
            Write::ForgetReceipts => self.forget_receipts(),
            Write::Arrive(kept) => self.insert_kept(kept),
            Write::KeptUnits { job, first, units } => self.insert_kept_units(*job, *first, units),
            Write::Sheaf { job, sheaf } => self.insert_sheaf(*job, sheaf),
            Write::Unbind(job) => self.unbind_some(*job),
            Write::Role { job, role, secret } => self.set_role(*job, *role, secret.as_ref()),
            Write::Note { key, bytes } => self.insert_note(key, bytes.as_deref()),
        }
    }

    fn insert_note(&mut self, key: &str, bytes: Option<&[u8]>) -> Result<(), StoreError> {
        let found = bytes.map_or(0, <[u8]>::len);
        for (what, found, max) in [("the key of a note", key.len(), NOTE_KEY_BYTES_MAX), ("a note", found, NOTE_BYTES_MAX)] {
            if found > max {
                return Err(StoreError::TooLong { what, found: found as u64, max: max as u64 });
            }
        }
        match bytes {
            Some(bytes) => self.connection.prepare_cached("INSERT OR REPLACE INTO note VALUES (?1, ?2)")?.execute(params![key, bytes])?,
            None => self.connection.prepare_cached("DELETE FROM note WHERE key = ?1")?.execute([key])?,
        };
        Ok(())
    }

    fn insert_fact(&mut self, fact: &Fact) -> Result<(), StoreError> {
        match fact {
            Fact::Vote(job, vote) => self.insert_vote(*job, vote),
            Fact::Verdict(job, unit, verdict) => self.insert_verdict(*job, *unit, *verdict),
            Fact::Failures(job, unit, Failures { count, last }) => {
                let key = schema::key(self.place(*job)?.number, unit.0);
                let sql = "INSERT OR REPLACE INTO failures (key, count, last, sum) VALUES (?1, ?2, ?3, ?4)";
                rows::write(&self.connection, sql, params![key, count, number::of_failure(*last)])
            }
            Fact::JobState(job, state) => {
                let number = self.place(*job)?.number;
                let sql = "UPDATE job SET state = ?2, ended_unix = CASE WHEN ?3 THEN ifnull(ended_unix, unixepoch()) END WHERE number = ?1";
                self.connection.prepare_cached(sql)?.execute(params![number, number::of_job_state(*state), state.has_ended()])?;
                Ok(())
            }
            Fact::Findings(job, findings) => self.insert_findings(*job, findings),
            Fact::Keepers(job, wanted, keepers) => self.insert_keepers(*job, *wanted, keepers),
            Fact::Standing(peer, standing) => self.insert_standing(*peer, standing),
        }
    }

    fn insert_vote(&mut self, job: JobId, vote: &Vote) -> Result<(), StoreError> {
        let place = self.place(job)?;
        self.voters.take_if(|(number, _)| *number == place.number);
        let key = schema::key(place.number, place.next_vote);
        let next_vote = place.next_vote.checked_add(1).ok_or(StoreError::BadRow { what: "number of votes" })?;
        let (exit_kind, exit_detail) = number::of_exit(vote.value.exit);
        let sql = "INSERT INTO vote
            (key, unit, worker, attempt, ordinal, exit_kind, exit_detail, output, gas, output_bytes, proof, position, platform, chain,
            rests_on, sum)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
        // SQLite knows signed numbers only; the bits are kept.
        let (gas, output_bytes) = (vote.value.gas.cast_signed(), vote.output_bytes.cast_signed());
        let values = params![
            key,
            vote.unit.0,
            vote.worker.0,
            vote.attempt.0,
            vote.ordinal,
            exit_kind,
            exit_detail,
            vote.value.output.0,
            gas,
            output_bytes,
            &*vote.proof,
            vote.position,
            number::of_platform(vote.platform),
            vote.value.chain.map(|chain| chain.0),
            Some(vote.rests_on.to_bytes()).filter(|authors| !authors.is_empty()),
        ];
        rows::write(&self.connection, sql, values)?;
        self.insert_origin(key, vote.origin)?;
        self.places.insert(job, Place { next_vote, ..place });
        Ok(())
    }

    fn insert_verdict(&mut self, job: JobId, unit: UnitIndex, verdict: Verdict) -> Result<(), StoreError> {
        let key = schema::key(self.place(job)?.number, unit.0);
        let (kind, value) = match verdict {
            Verdict::Open => (1, None),
            Verdict::Verified { value, by_owner } => (2, Some((value, by_owner))),
            Verdict::Failed => (3, None),
        };
        let exit = value.map(|(value, _)| number::of_exit(value.exit));
        let sql = "INSERT OR REPLACE INTO verdict (key, kind, exit_kind, exit_detail, output, gas, by_owner, chain, sum)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let values = params![
            key,
            kind,
            exit.map(|(kind, _)| kind),
            exit.map(|(_, detail)| detail),
            value.map(|(value, _)| value.output.0),
            value.map(|(value, _)| value.gas.cast_signed()),
            value.map(|(_, by_owner)| by_owner),
            value.and_then(|(value, _)| value.chain).map(|chain| chain.0),
        ];
        rows::write(&self.connection, sql, values)
    }

    fn insert_findings(&mut self, job: JobId, findings: &Findings) -> Result<(), StoreError> {
        let Findings { audit, nondeterminism } = findings;
        let key = schema::key(self.place(job)?.number, 0);
        let mut insert = self.connection.prepare_cached("INSERT OR REPLACE INTO findings VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let (unit, set_aside, against) = match nondeterminism {
            Some(found) => (Some(found.unit.0), Some(found.set_aside.bits()), Some(found.against.bits())),
            None => (None, None, None),
        };
        insert.execute(params![key, audit.convicted, audit.collusion, unit, set_aside, against])?;
        Ok(())
    }

    fn insert_standing(&mut self, peer: PeerId, standing: &Standing) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO standing VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (peer) DO UPDATE SET
                verified_units = excluded.verified_units, verified_gas = excluded.verified_gas, strikes = excluded.strikes,
                drops = excluded.drops, gas_per_second = excluded.gas_per_second, anchor = excluded.anchor, lineage = excluded.lineage,
                struck_unix = iif(excluded.strikes > strikes, excluded.struck_unix, struck_unix)",
        )?;
        // When it was convicted: the core has no clock, and its quarantine outlives this process.
        let struck = (standing.strikes > 0).then(|| UNIX_EPOCH.elapsed().unwrap_or_default().as_secs().cast_signed());
        insert.execute(params![
            peer.0,
            standing.verified_units.cast_signed(),
            standing.verified_gas.cast_signed(),
            standing.strikes,
            standing.drops,
            standing.gas_per_second,
            if standing.anchor { ANCHOR } else { 0 } | if standing.friend { FRIEND } else { 0 },
            standing.lineage.map(|peer| peer.0),
            struck,
        ])?;
        Ok(())
    }

    fn insert_unit(&mut self, draft: i64, index: u32, name: &str, input: &StagedBlob) -> Result<(), StoreError> {
        if input.bytes().is_none() {
            self.insert_blob(input, Some(draft))?;
        }
        let mut insert = self.connection.prepare_cached("INSERT INTO unit VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![schema::key(draft, index), name, input.digest().0, input.size().cast_signed(), input.bytes()])?;
        Ok(())
    }

    /// Makes a draft a job; says no when the same job is already there, and leaves the draft to be swept.
    fn insert_job(&mut self, draft: i64, job: &NewJob) -> Result<bool, StoreError> {
        let sql = "INSERT OR IGNORE INTO job (number, id, manifest, signature, secret, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = self.connection.prepare_cached(sql)?;
        let state = number::of_job_state(JobState::Running);
        let is_new = insert.execute(params![draft, job.id.0, job.manifest, job.signature, job.secret, state])? == 1;
        drop(insert);
        if is_new {
            self.connection.prepare_cached("DELETE FROM draft WHERE number = ?1")?.execute([draft])?;
        } else {
            self.pending.garbage.push(draft);
        }
        self.pending.closed.push(draft);
        Ok(is_new)
    }

    /// Where a job's rows are.
    pub(super) fn place(&mut self, job: JobId) -> Result<Place, StoreError> {
        if let Some(place) = self.places.get(&job) {
            return Ok(*place);
        }
        let mut find = self.connection.prepare_cached("SELECT number FROM job WHERE id = ?1")?;
        let number: i64 = find.query_row([job.0], |row| row.get(0)).optional()?.ok_or(StoreError::NoSuchJob(job))?;
        let (first, last) = schema::keys(number);
        let mut newest = self.connection.prepare_cached("SELECT max(key) FROM vote WHERE key BETWEEN ?1 AND ?2")?;
        let newest: Option<i64> = newest.query_row([first, last], |row| row.get(0))?;
        drop(find);
        let next_vote = newest.map_or(0, |key| schema::key_part(key).saturating_add(1));
        let place = Place { number, next_vote, next_sheaf: next_sheaf(&self.connection, number)? };
        self.places.insert(job, place);
        Ok(place)
    }

    fn pin_number(&mut self, pin: Option<JobId>) -> Result<Option<i64>, StoreError> {
        pin.map(|job| self.place(job).map(|place| place.number)).transpose()
    }

    pub(super) fn insert_pin(&mut self, number: i64, digest: Digest) -> Result<(), StoreError> {
        self.connection.prepare_cached("INSERT OR IGNORE INTO pin VALUES (?1, ?2)")?.execute(params![number, digest.0])?;
        Ok(())
    }

    fn insert_blob(&mut self, blob: &StagedBlob, pin: Option<i64>) -> Result<(), StoreError> {
        let is_new = self.insert_row(blob.digest(), blob.size(), blob.bytes(), pin)?;
        let Some(staged) = blob.path() else { return Ok(()) };
        if is_new {
            self.pending.removed.remove(&blob.digest());
            // In the same group it may have been placed already, and moved once is enough.
            if !self.pending.placed.contains_key(&blob.digest()) {
                self.files.place(staged, blob.digest())?;
                self.pending.placed.insert(blob.digest(), staged.to_owned());
            }
        }
        Ok(())
    }

    /// Says whether the blob was not there before.
    fn insert_row(&mut self, digest: Digest, size: u64, bytes: Option<&[u8]>, pin: Option<i64>) -> Result<bool, StoreError> {
        if let Some(number) = pin {
            self.insert_pin(number, digest)?;
        }
        self.clock += 1;
        let sql = "INSERT INTO blob (digest, size, used, pins, bytes)
            VALUES (?1, ?2, ?3, (SELECT count(*) FROM pin WHERE digest = ?1), ?4) ON CONFLICT (digest) DO NOTHING RETURNING pins";
        let mut insert = self.connection.prepare_cached(sql)?;
        let size_signed = size.cast_signed();
        let pins: Option<i64> = insert.query_row(params![digest.0, size_signed, self.clock, bytes], |row| row.get(0)).optional()?;
        drop(insert);
        match pins {
            Some(0) => self.unpinned_bytes += size,
            Some(_) => {}
            None => drop(self.recount_pins(digest)?),
        }
        Ok(pins.is_some())
    }

    /// Counts a blob's pins anew; none when it is not here.
    pub(super) fn recount_pins(&mut self, digest: Digest) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT size, pins, (SELECT count(*) FROM pin WHERE pin.digest = blob.digest) FROM blob WHERE digest = ?1";
        let found: Option<(i64, i64, i64)> =
            self.connection.prepare_cached(sql)?.query_row([digest.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        let Some((size, before, now)) = found else { return Ok(None) };
        if before != now {
            self.connection.prepare_cached("UPDATE blob SET pins = ?2 WHERE digest = ?1")?.execute(params![digest.0, now])?;
        }
        match (before, now) {
            (0, 0) => {}
            (0, _) => self.unpinned_bytes = self.unpinned_bytes.saturating_sub(size.cast_unsigned()),
            (_, 0) => self.unpinned_bytes += size.cast_unsigned(),
            (_, _) => {}
        }
        Ok(Some(now))
    }

    /// Removes a blob's row now and its file once that is durable. Pins stay, and hold again when the blob comes back.
    pub(super) fn remove_blob(&mut self, digest: Digest, which: BlobsRemoved) -> Result<(), StoreError> {
        let sql = match which {
            BlobsRemoved::Any => "DELETE FROM blob WHERE digest = ?1 RETURNING size, pins, bytes IS NULL",
            BlobsRemoved::Unpinned => "DELETE FROM blob WHERE digest = ?1 AND pins = 0 RETURNING size, pins, bytes IS NULL",
        };
        let removed: Option<(i64, i64, bool)> =
            self.connection.prepare_cached(sql)?.query_row([digest.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        if let Some((size, pins, is_file)) = removed {
            if pins == 0 {
                self.unpinned_bytes = self.unpinned_bytes.saturating_sub(size.cast_unsigned());
            }
            if is_file {
                self.pending.removed.insert(digest);
            }
        }
        Ok(())
    }
}
