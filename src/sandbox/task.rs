//! What a slot is asked to run, and what it answers.

use super::{
    engine::{Finished, Machine, THREAD_STACK},
    inspect::Rejection,
    instrument,
    wasi::{Given, InputFile},
};
use crate::protocol::{
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
    let instrumented = instrument(module)?;
    let failed = |error: super::EngineError| Rejection::Compile(error.to_string());
    let work = || {
        let machine = Machine::new().map_err(failed)?;
        let native = machine.compile(&instrumented).map_err(failed)?;
        let program = machine.load(&native).map_err(failed)?;
        for (index, task) in tasks.iter().enumerate() {
            let began = Instant::now();
            let finished = machine.run(&program, task.given());
            let outcome = finished.outcome();
            let Finished { output, log, .. } = finished;
            report(index, Report { outcome, output, log, wall: began.elapsed() });
        }
        Ok(())
    };
    // The units need more stack than a thread usually has.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Rejection::Compile(format!("no thread to run on: {error}")))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
