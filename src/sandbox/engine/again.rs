//! Programs that ask to be run again: each run is a step, and between two runs the WASI world is all the state there is.
//!
//! See [`crate::sandbox::step`] for what a program has to do.

use super::{Course, Guest, Machine, Program, Run, function};
use crate::sandbox::{
    step::{
        AGAIN_GAS, EXIT_AGAIN, STATE_FILE, STATE_FILE_BYTES_MAX,
        state::{Next, NoState, Saved, Still},
    },
    wasi::{Halt, World},
};
use wasmtime::{Instance, Store};

impl Machine {
    /// Runs a program until it exits for good, or where the course stops it between two runs.
    pub(super) fn run_again_and_again(&self, program: &Program, mut world: World, course: &mut Course<'_>) -> Run {
        let mut gas = course.budget();
        if let Some(state) = course.from() {
            match begin_from(state, &mut world, gas) {
                Ok(left) => gas = left,
                Err(error) => return Run { result: Err(error.into()), left: gas.cast_signed(), world },
            }
        }
        loop {
            let run = self.instance(world, program, gas, |store, instance| start(store, instance, program));
            let asks = matches!(&run.result, Err(error) if error.downcast_ref::<Halt>() == Some(&Halt::Exit(EXIT_AGAIN)));
            if !asks || !run.world.has_state_file(STATE_FILE, STATE_FILE_BYTES_MAX) {
                return run;
            }
            let Some(left) = u64::try_from(run.left).ok().and_then(|left| left.checked_sub(AGAIN_GAS)) else {
                return Run { result: Err(Halt::OutOfGas.into()), left: -1, world: run.world };
            };
            (world, gas) = (run.world, left);
            world.begin_again();
            if stands(&world, gas, course) {
                return Run { result: Ok(()), left: gas.cast_signed(), world };
            }
        }
    }
}

fn start(store: &mut Store<Guest>, instance: &Instance, program: &Program) -> wasmtime::Result<()> {
    for export in program.start.iter().chain([&program.main]) {
        function::<()>(store, instance, export)?.call(&mut *store, ())?;
    }
    Ok(())
}

/// The program is between two runs. Returns whether it stops here.
fn stands(world: &World, left: u64, course: &mut Course<'_>) -> bool {
    let gas = course.budget() - left;
    let wanted = course.wanted(gas, world.state_bytes());
    wanted.is_something() && course.look(&Still { next: Next::Step, gas, globals: &[], world, memory: &[] }, wanted)
}

/// Brings a new world into a saved state. Returns the gas that is left then.
fn begin_from(state: &[u8], world: &mut World, budget: u64) -> Result<u64, NoState> {
    let saved = Saved::load(state, world)?;
    if saved.next != Next::Step || !saved.globals.is_empty() || saved.memory_bytes != 0 {
        return Err(NoState);
    }
    let left = budget.checked_sub(saved.gas).ok_or(NoState)?;
    saved.fill(&mut []).map(|()| left)
}
