//! What a slot is asked to run, and what it answers.

use super::{
    engine::{Came, EngineError, Finished, Machine, Program, THREAD_STACK},
    inspect::Rejection,
    instrument,
    step::{Part, Snapshot, Unwatched},
    wasi::{Given, InputFile},
};
use crate::protocol::{
    chain::Links,
    ids::Digest,
    outcome::{Outcome, UnitLimits},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// One unit to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// The module, as its author built it.
    pub module: Digest,
    /// Its arguments, the program's name first.
    pub args: Vec<Vec<u8>>,
    /// Its standard input.
    pub stdin: Arc<[u8]>,
    /// Files that it finds below `/`.
    pub files: Vec<InputFile>,
    /// What its random numbers come from.
    pub seed: [u8; 32],
    /// What it may use.
    pub limits: UnitLimits,
}

/// What came of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The value, or why there is none.
    pub outcome: Outcome,
    /// Its standard output; empty without a value.
    pub output: Vec<u8>,
    /// What was kept of its standard error.
    pub log: Vec<u8>,
    /// How long it ran, pauses excluded.
    pub wall: Duration,
    /// The links of its chain, whose head is part of the value; empty where there is none.
    pub links: Links,
}

/// What a slot says of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It has come so far, and goes on.
    Saved(Snapshot),
    /// It ended.
    Ended(Report),
}

/// What came of a part of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartReport {
    /// The unit ended. The chain in its value is whole only if it was followed from the beginning.
    Ended(Report),
    /// It stands still where it was asked to.
    Stopped {
        /// Where.
        snapshot: Snapshot,
        /// How long it ran, pauses excluded.
        wall: Duration,
    },
}

impl Task {
    fn given(&self) -> Given {
        Given { args: self.args.clone(), stdin: Arc::clone(&self.stdin), files: self.files.clone(), seed: self.seed, limits: self.limits }
    }
}

/// Runs tasks of one module in this process, without a jail and without enforcing wall time; gas alone ends them.
///
/// For platforms where there is no slot process, for one's own modules, and for tests. Strangers' code belongs into a slot.
/// The values are the same as there.
///
/// # Errors
///
/// When the module is refused.
pub fn run_in_process(module: &[u8], tasks: &[Task], report: &mut (dyn FnMut(usize, Report) + Send)) -> Result<(), Rejection> {
    with_program(module, |machine, program| {
        for (index, task) in tasks.iter().enumerate() {
            let began = Instant::now();
            let finished = machine.run(program, task.given());
            report(index, Report::of(finished, began.elapsed()));
        }
    })
}

/// Runs a part of a unit in this process, as [`run_in_process`] runs whole ones.
///
/// # Errors
///
/// When the module is refused.
pub fn run_part_in_process(module: &[u8], task: &Task, part: &Part) -> Result<PartReport, Rejection> {
    with_program(module, |machine, program| {
        let began = Instant::now();
        match machine.run_part(program, task.given(), part, &mut Unwatched) {
            Came::Ended(finished) => PartReport::Ended(Report::of(finished, began.elapsed())),
            Came::Stopped(snapshot) => PartReport::Stopped { snapshot, wall: began.elapsed() },
        }
    })
}

impl Report {
    pub(super) fn of(finished: Finished, wall: Duration) -> Self {
        let outcome = finished.outcome();
        let Finished { output, log, links, .. } = finished;
        Self { outcome, output, log, wall, links }
    }
}

/// Compiles a module in this process and runs it on a thread of its own.
fn with_program<T: Send>(module: &[u8], run: impl FnOnce(&Machine, &Program) -> T + Send) -> Result<T, Rejection> {
    let instrumented = instrument(module)?;
    let failed = |error: EngineError| Rejection::Compile(error.to_string());
    let work = || {
        let machine = Machine::new().map_err(failed)?;
        let native = machine.compile(&instrumented).map_err(failed)?;
        let program = machine.load(&native).map_err(failed)?;
        Ok(run(&machine, &program))
    };
    // The units need more stack than a thread usually has.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Rejection::Compile(format!("no thread to run on: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
