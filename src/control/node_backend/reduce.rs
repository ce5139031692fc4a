//! A job's reducer: one more run of a program, on this machine, that reads all verified outputs in unit order.
//!
//! Nothing of it is kept or voted on: its owner runs it anew, in a slot, whenever its output is wanted.

use super::{
    NodeBackend,
    own_slot::{self, OwnSlot},
    results::{CHUNK_BYTES, lost},
    stream::{Ended, Outlet},
    units::LOOK_UNITS,
};
use crate::{
    control::{
        backend::Reply,
        error::{ControlError, Kind, clip, grouped},
    },
    protocol::{
        ids::{Digest, JobId},
        job::{INPUT_BYTES_MAX, Manifest, Reduce, reducer_seed},
        outcome::Outcome,
        owner::{UnitState, UnitView},
    },
    sandbox::{Report, SlotError, SlotProcess, Task},
    store::Store,
    wire::control::ResultChunk,
};
use bytes::Bytes;
use std::sync::Arc;

/// Lines of a failed reducer's standard error that are shown.
const LOG_LINES_SHOWN: usize = 5;

/// A job whose outputs are to be reduced.
pub(super) struct Reduction {
    job: JobId,
    manifest: Arc<Manifest>,
    module: Digest,
    args: Vec<String>,
}

impl NodeBackend {
    /// How an own job is reduced; none when no module does it.
    pub(super) async fn reduction(&self, job: JobId) -> Reply<Option<Reduction>> {
        let manifest = self.manifest(job).await?;
        Ok(match &manifest.reduce {
            Reduce::Concat | Reduce::Separate => None,
            Reduce::Module { module, args } => Some(Reduction { job, module: *module, args: args.clone(), manifest }),
        })
    }

    /// Runs the reducer and gives its output out, as one of a unit.
    pub(super) async fn give_reduced(self, reduction: Reduction, outlet: Outlet<ResultChunk>) -> Result<(), Ended> {
        let reduced = tokio::select! {
            reduced = self.reduced(reduction) => reduced?,
            gone = outlet.gone() => return Err(gone),
        };
        let mut rest = Bytes::from(reduced);
        loop {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            let last = rest.is_empty();
            outlet.put(ResultChunk { data, last, standing: "reduced".to_owned(), ..ResultChunk::default() }).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// What the reducer writes.
    async fn reduced(&self, reduction: Reduction) -> Reply<Vec<u8>> {
        let id = self.own_job(reduction.job).await?.short_id;
        let outputs = format!("manyhands results {id} --output DIR     (what the units wrote, a file for each)");
        let with_hint = |error: ControlError| if error.hints.is_empty() { error.hint(outputs.clone()) } else { error };
        let input = self.gather(&reduction).await.map_err(with_hint)?;
        let mut slot = {
            let handle = self.handle().await?;
            let store = handle.store.clone();
            OwnSlot::start(&handle, reduction.manifest.limits.memory_bytes, move |slot, sender| {
                let reduced = slot.map_err(|error| not_run(&error)).and_then(|slot| reduction.run(slot, &store, input));
                // Whoever wanted it may have gone.
                drop(sender.blocking_send(reduced));
            })
        };
        slot.next().await.unwrap_or_else(|| Err(broken())).map_err(with_hint)
    }

    /// All verified outputs, one after the other.
    async fn gather(&self, reduction: &Reduction) -> Reply<Vec<u8>> {
        let job = reduction.job;
        let (mut input, mut next) = (Vec::new(), 0);
        while next < reduction.manifest.units() {
            let views = self.unit_views(job, next, LOOK_UNITS).await?;
            let last = views.last().ok_or_else(|| ControlError::no_such_job(&job.to_string()))?;
            next = last.unit.0 + 1;
            // One that was verified may have been opened again since.
            let Some(outputs) = views.iter().map(verified).collect::<Option<Vec<_>>>() else {
                return Err(self.unverified(job).await?);
            };
            self.mend(job, outputs.clone()).await?;
            input = self.read(move |store| append(store, input, outputs, INPUT_BYTES_MAX)).await?;
        }
        Ok(input)
    }
}

fn verified(view: &UnitView) -> Option<(u32, Digest)> {
    view.value.filter(|_| view.state == UnitState::Verified).map(|value| (view.unit.0, value.output))
}

/// Appends the outputs of these units; `bytes_max` bounds the whole.
fn append(store: &Store, mut input: Vec<u8>, outputs: Vec<(u32, Digest)>, bytes_max: u64) -> Reply<Vec<u8>> {
    for (unit, output) in outputs {
        let size = store.blob_size(output)?.ok_or_else(|| lost(unit))?;
        if size.saturating_add(input.len() as u64) > bytes_max {
            let error = ControlError::new(Kind::Exhausted, "REDUCER_INPUT", "the outputs are too large for the reducer");
            return Err(error.cause(format!("it reads at most {} bytes; unit {unit} exceeds that", grouped(bytes_max))));
        }
        input.extend(store.read_blob(output)?.ok_or_else(|| lost(unit))?);
    }
    Ok(input)
}

impl Reduction {
    fn run(&self, mut slot: SlotProcess, store: &Store, input: Vec<u8>) -> Reply<Vec<u8>> {
        own_slot::load(&mut slot, store, self.module).map_err(|error| not_run(&error))?;
        let mut report = None;
        slot.run_batch(&[self.task(input)], &mut |_, ended| report = Some(ended));
        output(report.ok_or_else(broken)?)
    }

    fn task(&self, input: Vec<u8>) -> Task {
        let args = std::iter::once(&self.manifest.name).chain(&self.args);
        Task {
            module: self.module,
            args: args.map(|arg| arg.clone().into_bytes()).collect(),
            stdin: input.into(),
            files: Vec::new(),
            seed: reducer_seed(self.job),
            limits: self.manifest.limits,
        }
    }
}

/// What a reducer wrote that succeeded.
fn output(report: Report) -> Reply<Vec<u8>> {
    let why = match report.outcome {
        Outcome::Value(value) if value.exit.is_success() => return Ok(report.output),
        Outcome::Value(value) => value.exit.to_string(),
        Outcome::Failed(failure) => failure.to_string(),
    };
    let log = String::from_utf8_lossy(&report.log);
    let lines: Vec<String> = log.lines().map(clip).filter(|line| !line.is_empty()).take(LOG_LINES_SHOWN).collect();
    Err(ControlError::new(Kind::Failed, "REDUCER_FAILED", format!("the reducer failed: {why}")).cause(lines.join("\n")))
}

fn not_run(error: &SlotError) -> ControlError {
    ControlError::new(Kind::Internal, "REDUCER_NOT_RUN", "the reducer could not be run here").cause(error.to_string())
}

fn broken() -> ControlError {
    ControlError::new(Kind::Internal, "REDUCER_NOT_RUN", "the slot of the reducer reported nothing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        chain::Links,
        outcome::{AttemptFailure, Exit, Value},
    };
    use std::time::Duration;

    #[test]
    fn what_exceeds_the_bound_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        let put = |bytes: &[u8]| store.put_blob(bytes, None).expect("it is written");
        let outputs = vec![(0, put(b"one")), (1, put(b"two"))];
        assert_eq!(append(&store, Vec::new(), outputs.clone(), 6), Ok(b"onetwo".to_vec()));
        let error = append(&store, Vec::new(), outputs, 5).expect_err("too large");
        assert_eq!((error.kind, error.cause.as_str()), (Kind::Exhausted, "it reads at most 5 bytes; unit 1 exceeds that"));
        let error = append(&store, Vec::new(), vec![(7, Digest([9; 32]))], 5).expect_err("it is not there");
        assert_eq!(error.reason, "OUTPUT_LOST");
    }

    #[test]
    fn a_failed_reducer_is_told_with_its_first_words() {
        let report = |outcome, log: &[u8]| Report {
            outcome,
            output: b"half".to_vec(),
            log: log.to_vec(),
            wall: Duration::ZERO,
            links: Links::default(),
        };
        let exit = |code| Outcome::Value(Value { exit: Exit::Code(code), output: Digest::of(b"half"), gas: 1, chain: None });
        assert_eq!(output(report(exit(0), b"a warning")), Ok(b"half".to_vec()));
        let error = output(report(exit(3), b"bad line 7\n\n\x1b[31mred\xff\n3\n4\n5\n6\n")).expect_err("it failed");
        assert_eq!((error.kind, error.message.as_str()), (Kind::Failed, "the reducer failed: exit code 3"));
        assert_eq!(error.cause, "bad line 7\n[31mred\u{fffd}\n3\n4\n5");
        let late = output(report(Outcome::Failed(AttemptFailure::TimeOut), b"")).expect_err("it took too long");
        assert!(late.kind == Kind::Failed && late.message.contains("time-out") && late.cause.is_empty(), "{late:?}");
    }
}
