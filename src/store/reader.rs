//! Connections for reading. Each sees the newest commit and never waits for the writer.

use super::{Store, error::StoreError, schema};
use crate::protocol::ids::JobId;
use rusqlite::{Connection, OptionalExtension as _};
use std::{
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Connections that read at once; each may keep 2 MiB of pages. Others wait for their turn.
const READERS_MAX: usize = 4;

/// A few connections, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    database: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
}

impl Readers {
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, state: Mutex::default(), returned: Condvar::new() }
    }

    /// Closes the connections that are idle; all are when nobody has the store any more.
    pub(super) fn close(&self) {
        self.state().idle.clear();
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let state = self.returned.wait_while(self.state(), |state| state.lent == READERS_MAX);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.lent += 1;
        let idle = state.idle.pop();
        drop(state);
        let mut turn = Turn { readers: self, connection: idle };
        let connection = match turn.connection.take() {
            Some(connection) => connection,
            None => schema::open_reader(&self.database)?,
        };
        read(turn.connection.insert(connection))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the connection back, whatever happens.
struct Turn<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state();
        state.lent -= 1;
        state.idle.extend(self.connection.take());
        drop(state);
        self.readers.returned.notify_one();
    }
}

impl Store {
    /// Reads from one consistent state of the database.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = self.0.readers.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let result = read(&transaction)?;
            transaction.finish()?;
            Ok(result)
        });
        result.map_err(|error| error.in_database(&self.0.files.database())).inspect_err(|error| self.0.mailbox.note_damage(error))
    }
}

/// The number of a job's rows.
pub(super) fn number_of(connection: &Connection, job: JobId) -> Result<i64, StoreError> {
    let mut find = connection.prepare_cached("SELECT number FROM job WHERE id = ?1")?;
    find.query_row([job.0], |row| row.get(0)).optional()?.ok_or(StoreError::NoSuchJob(job))
}
