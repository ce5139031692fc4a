//! The engine: Wasmtime, hardened, and the execution of one unit in it.
//!
//! The configuration admits what [`super::inspect`] admits and nothing more, and leaves out what costs and is not needed
//! (epochs, fuel, address maps, unwind tables): gas is in the module, wall time is enforced from outside the process. Each
//! unit gets a fresh instance; pooled memory is copy-on-write and is reset between units by the kernel's page map.

use super::{
    gas::{GAS_EXPORT, START_EXPORT},
    inspect::MAX_TABLES,
    step::{self, Part, Snapshot, Unwatched, Watch, state::NoState},
    wasi::{self, Given, Halt, World},
};
use crate::protocol::{
    chain::Links,
    ids::Digest,
    outcome::{AttemptFailure, Exit, Outcome, Trap, UnitLimits, Value},
};
use std::hash::{Hash as _, Hasher};
use stepped::Course;
use wasmtime::{
    Config, Enabled, Engine, Global, Instance, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module, ModuleExport, OptLevel,
    PoolingAllocationConfig, ResourceLimiter, Store, TypedFunc, Val,
};

/// The native stack that a unit may use, in bytes. Its depth in frames differs between platforms, so a unit that exhausts it
/// has no value. Programs keep their large variables elsewhere; this is room for some ten thousand nested calls.
pub(super) const WASM_STACK: usize = 4 << 20;

/// The stack of a thread that runs units: the unit's and the host's.
pub(super) const THREAD_STACK: usize = WASM_STACK + (4 << 20);

/// The most elements of a table. The largest that we know (Yosys) has twenty thousand.
const MAX_TABLE_ELEMENTS: usize = 1 << 20;

/// The largest memory that the format knows.
const MAX_MEMORY: usize = 4 << 30;

/// Memory of a finished unit that is kept and cleared by hand, which is faster than giving it back.
const KEEP_RESIDENT: usize = 1 << 20;

/// The most that an instance's own record may take; it grows with the number of functions and globals.
const MAX_INSTANCE: usize = 64 << 20;

/// The engine could not do something that has nothing to do with a module.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine failed: {0}")]
pub struct EngineError(String);

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// The state of one instance.
pub(super) struct Guest {
    pub(super) world: World,
    /// Known once the instance exists.
    pub(super) handles: Option<Handles>,
}

/// What host calls need of the instance.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    pub(super) memory: Memory,
    pub(super) gas: Global,
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = (desired as u64).saturating_add(self.world.file_bytes());
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && total <= self.world.limits().memory_bytes)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        // The unit was promised this memory, so a failure of the machine must not become a value.
        Err(Halt::OutOfMemory.into())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Halt::OutOfMemory.into())
    }
}

/// An engine with its WASI.
pub(super) struct Machine {
    engine: Engine,
    linker: Linker<Guest>,
}

/// A module that is ready to run.
pub(super) struct Program {
    instance: InstancePre<Guest>,
    start: Option<ModuleExport>,
    main: ModuleExport,
    /// What a stepped module is run by instead of `main`.
    steps: Option<step::Exports>,
    memory: ModuleExport,
    gas: ModuleExport,
    initial_memory_bytes: u64,
}

/// What a unit ended in.
pub(super) struct Finished {
    /// How, or why it has no value.
    pub(super) end: Result<Exit, AttemptFailure>,
    /// What it used; meaningless without a value.
    pub(super) gas: u64,
    pub(super) output: Vec<u8>,
    pub(super) log: Vec<u8>,
    /// Its chain; empty where it is not stepped.
    pub(super) links: Links,
}

/// What a part of a unit came to.
pub(super) enum Came {
    /// The unit ended.
    Ended(Finished),
    /// It stands still where it was asked to.
    Stopped(Snapshot),
}

impl Finished {
    pub(super) fn failed(failure: AttemptFailure) -> Self {
        Self { end: Err(failure), gas: 0, output: Vec::new(), log: Vec::new(), links: Links::default() }
    }

    /// What is reported.
    pub(super) fn outcome(&self) -> Outcome {
        match self.end {
            Ok(exit) => Outcome::Value(Value { exit, output: Digest::of(&self.output), gas: self.gas, chain: self.links.head() }),
            Err(failure) => Outcome::Failed(failure),
        }
    }
}

fn configuration(level: OptLevel) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(2)
        .total_memories(2)
        .total_tables(2 * MAX_TABLES)
        .max_memories_per_module(1)
        .max_tables_per_module(MAX_TABLES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_core_instance_size(MAX_INSTANCE)
        .max_memory_size(MAX_MEMORY)
        .max_unused_warm_slots(2)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_tail_call(true)
        .wasm_extended_const(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .gc_support(false)
        .concurrency_support(false)
        .memory_may_move(false)
        .memory_init_cow(true)
        .generate_address_map(false)
        .wasm_backtrace_max_frames(None)
        .native_unwind_info(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(THREAD_STACK)
        .cranelift_opt_level(level)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

impl Machine {
    /// An engine that compiles for speed.
    pub(super) fn new() -> Result<Self, EngineError> {
        Self::with(&configuration(OptLevel::Speed))
    }

    fn with(config: &Config) -> Result<Self, EngineError> {
        let engine = Engine::new(config)?;
        let mut linker = Linker::new(&engine);
        wasi::add_to(&mut linker)?;
        Ok(Self { engine, linker })
    }

    /// Names everything that native code of this engine depends on. Another engine with the same name can run it.
    pub(super) fn compatibility(&self) -> Digest {
        let mut bytes = Bytes(Vec::new());
        self.engine.precompile_compatibility_hash().hash(&mut bytes);
        Digest::of(&bytes.0)
    }

    /// Compiles an instrumented module to native code.
    pub(super) fn compile(&self, instrumented: &[u8]) -> Result<Vec<u8>, EngineError> {
        Ok(self.engine.precompile_module(instrumented)?)
    }

    /// Makes native code ready.
    ///
    /// The code must come from [`Machine::compile`], in this process or another one of ours: it is as trusted as that process.
    #[allow(unsafe_code, reason = "Wasmtime cannot check that native code is its own")]
    pub(super) fn load(&self, native: &[u8]) -> Result<Program, EngineError> {
        // SAFETY: the caller passes only what `compile` returned; it travels through our own checksummed cache and our own
        // sockets, never through the network. Should a compiler in its jail have been subverted, what it made runs in a jail too.
        let module = unsafe { Module::deserialize(&self.engine, native) }?;
        let export = |name: &str| module.get_export_index(name).ok_or_else(|| EngineError(format!("no export {name}")));
        let initial_memory_bytes = module.resources_required().max_initial_memory_size.unwrap_or(0).saturating_mul(1 << 16);
        Ok(Program {
            start: module.get_export_index(START_EXPORT),
            main: export("_start")?,
            steps: step::Exports::of(&module),
            memory: export("memory")?,
            gas: export(GAS_EXPORT)?,
            instance: self.linker.instantiate_pre(&module)?,
            initial_memory_bytes,
        })
    }

    /// Runs one unit.
    pub(super) fn run(&self, program: &Program, given: Given) -> Finished {
        match self.run_part(program, given, &Part::default(), &mut Unwatched) {
            Came::Ended(finished) => finished,
            Came::Stopped(_) => unreachable!("a unit that is not asked to stop runs to its end"),
        }
    }

    /// Runs a part of a unit; all of it where the part says nothing else. A part of one that never stands still is all of it.
    pub(super) fn run_part(&self, program: &Program, mut given: Given, part: &Part, watch: &mut dyn Watch) -> Came {
        let failed = |failure| Came::Ended(Finished::failed(failure));
        if program.initial_memory_bytes > given.limits.memory_bytes {
            return failed(AttemptFailure::Refused);
        }
        if !floating_point_mode_is_right() {
            return failed(AttemptFailure::Killed);
        }
        // Beyond this the counter, which is signed, could overflow.
        given.limits.gas = given.limits.gas.min(UnitLimits::MAX.gas);
        let budget = given.limits.gas;
        let Some(world) = World::new(given) else { return failed(AttemptFailure::Refused) };
        let mut course = Course::new(part, budget, watch);
        let Run { result, left, world } = match &program.steps {
            Some(steps) => {
                self.instance(world, program, budget, |store, instance| course.run(store, instance, program.start.as_ref(), steps))
            }
            None => self.run_again_and_again(program, world, &mut course),
        };
        let links = match course.end() {
            Ok(snapshot) => return Came::Stopped(snapshot),
            Err(links) => links,
        };
        let end = judge(result, left);
        let gas = budget - u64::try_from(left).unwrap_or(0);
        Came::Ended(Finished { end, gas, output: world.output, log: world.log, links })
    }

    /// Does something with a new instance that has so much gas.
    fn instance(
        &self,
        world: World,
        program: &Program,
        gas: u64,
        run: impl FnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<()>,
    ) -> Run {
        let mut store = Store::new(&self.engine, Guest { world, handles: None });
        store.limiter(|guest| guest);
        let result = set_up(&mut store, program, gas).and_then(|instance| run(&mut store, &instance));
        let left = store.data().handles.map(|handles| handles.gas.get(&mut store).i64().unwrap_or(-1));
        let Guest { world, .. } = store.into_data();
        Run { result, left: left.unwrap_or(gas.cast_signed()), world }
    }
}

/// What came of an instance.
struct Run {
    result: wasmtime::Result<()>,
    /// Gas; below zero when it ran out in the middle of something.
    left: i64,
    world: World,
}

fn set_up(store: &mut Store<Guest>, program: &Program, budget: u64) -> wasmtime::Result<Instance> {
    let instance = program.instance.instantiate(&mut *store)?;
    let memory = instance.get_module_export(&mut *store, &program.memory).and_then(wasmtime::Extern::into_memory);
    let gas = instance.get_module_export(&mut *store, &program.gas).and_then(wasmtime::Extern::into_global);
    let (Some(memory), Some(gas)) = (memory, gas) else {
        return Err(wasmtime::Error::msg("the exports are not what the pass made"));
    };
    gas.set(&mut *store, Val::I64(budget.cast_signed()))?;
    store.data_mut().handles = Some(Handles { memory, gas });
    Ok(instance)
}

/// An exported function without parameters.
fn function<R: wasmtime::WasmResults>(
    store: &mut Store<Guest>,
    instance: &Instance,
    export: &ModuleExport,
) -> wasmtime::Result<TypedFunc<(), R>> {
    let function = instance.get_module_export(&mut *store, export).and_then(wasmtime::Extern::into_func);
    function.ok_or_else(|| wasmtime::Error::msg("the exports are not what the pass made"))?.typed::<(), R>(&*store)
}

/// Tells values from failures.
fn judge(result: wasmtime::Result<()>, left: i64) -> Result<Exit, AttemptFailure> {
    use wasmtime::Trap as T;
    let Err(error) = result else {
        return Ok(Exit::Code(0));
    };
    if let Some(halt) = error.downcast_ref::<Halt>() {
        return match halt {
            Halt::Exit(code) => Ok(Exit::Code(*code)),
            Halt::OutOfGas => Ok(Exit::OutOfGas),
            Halt::OutputLimit => Ok(Exit::OutputLimit),
            Halt::SleepLimit => Ok(Exit::SleepLimit),
            Halt::OutOfMemory => Err(AttemptFailure::OutOfMemory),
        };
    }
    if error.is::<NoState>() {
        return Err(AttemptFailure::Refused);
    }
    let trap = match error.downcast_ref::<T>() {
        Some(T::StackOverflow) => return Err(AttemptFailure::StackOverflow),
        Some(_) if left < 0 => return Ok(Exit::OutOfGas),
        Some(T::UnreachableCodeReached) => Trap::Unreachable,
        Some(T::MemoryOutOfBounds) => Trap::MemoryOutOfBounds,
        Some(T::TableOutOfBounds) => Trap::TableOutOfBounds,
        Some(T::IndirectCallToNull | T::BadSignature) => Trap::BadIndirectCall,
        Some(T::IntegerDivisionByZero) => Trap::DivisionByZero,
        Some(T::IntegerOverflow) => Trap::IntegerOverflow,
        Some(T::BadConversionToInteger) => Trap::BadConversion,
        // Traps of features that are off, and errors of the host: nothing that the module did.
        Some(_) => return Err(AttemptFailure::Refused),
        None => return Err(AttemptFailure::OutOfMemory),
    };
    Ok(Exit::Trap(trap))
}

/// Whether arithmetic rounds to nearest and keeps subnormal numbers, as the units expect.
fn floating_point_mode_is_right() -> bool {
    use std::hint::black_box;
    let (one, step) = (black_box(1.0_f64), black_box(f64::EPSILON));
    let nearest = one + step * 0.25 == 1.0 && one + step * 0.75 == 1.0 + f64::EPSILON && -one - step * 0.25 == -1.0;
    nearest && black_box(f64::MIN_POSITIVE) / black_box(2.0) > 0.0
}

/// Collects what is hashed.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Names what two machines must have in common for their results to be compared.
///
/// It is the version of the pass (and with it the gas table and WASI's rules) and of the engine. The processor is not part of
/// it: memory limits, NaN bits and everything else that could differ between instruction sets are made equal.
pub fn validation_class() -> String {
    format!("manyhands-{}+wasmtime-{}", super::PASS_VERSION, WASMTIME_MAJOR)
}

/// The engine's major version, as in `Cargo.toml`; a test compares.
const WASMTIME_MAJOR: u32 = 48;

mod again;
mod stepped;

#[cfg(test)]
mod again_tests;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod pass_tests;
#[cfg(test)]
mod random;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod tests;
