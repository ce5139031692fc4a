//! The course of a stepped unit: its steps one after the other, its chain, and stopping and going on between two of them.

use super::{Guest, function};
use crate::{
    protocol::{
        chain::{Link, Links},
        ids::Digest,
    },
    sandbox::{
        step::{
            Exports, GLOBAL_PREFIX, INIT, Part, RESULT, STATE_BYTES_MAX, STEP, Snapshot, Watch,
            state::{Next, NoState, Saved, Still},
        },
        wasi::{CALL_GAS, Halt},
    },
};
use wasmtime::{Global, Instance, Module, ModuleExport, Store, V128, Val};

impl Exports {
    /// The exports of a module, if it is stepped. Admission has checked their types.
    pub(super) fn of(module: &Module) -> Option<Self> {
        let export = |name: &str| module.get_export_index(name);
        let globals = (0u32..).map_while(|number| export(&format!("{GLOBAL_PREFIX}{number}"))).collect();
        Some(Self { init: export(INIT)?, step: export(STEP)?, result: export(RESULT)?, globals })
    }
}

/// One run through a unit, or a part of it.
pub(super) struct Course<'p> {
    part: &'p Part,
    budget: u64,
    links: Links,
    stopped: Option<Snapshot>,
    watch: &'p mut dyn Watch,
}

impl<'p> Course<'p> {
    pub(super) fn new(part: &'p Part, budget: u64, watch: &'p mut dyn Watch) -> Self {
        let links = part.from.as_ref().map_or_else(Links::default, |(_, links)| links.clone());
        Self { part, budget, links, stopped: None, watch }
    }

    /// All the gas that the unit has.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    /// The state to go on from.
    pub(super) fn from(&self) -> Option<&'p [u8]> {
        self.part.from.as_ref().map(|(state, _)| &**state)
    }

    /// Where it stopped; else its links.
    pub(super) fn end(self) -> Result<Snapshot, Links> {
        self.stopped.ok_or(self.links)
    }

    /// Runs until the unit ends or stops.
    pub(super) fn run(
        &mut self,
        store: &mut Store<Guest>,
        instance: &Instance,
        start: Option<&ModuleExport>,
        steps: &Exports,
    ) -> wasmtime::Result<()> {
        let mut globals = Vec::with_capacity(steps.globals.len());
        for export in &steps.globals {
            let global = instance.get_module_export(&mut *store, export).and_then(wasmtime::Extern::into_global);
            globals.push(global.ok_or_else(|| wasmtime::Error::msg("the exports are not what the pass made"))?);
        }
        let step = function::<i32>(store, instance, &steps.step)?;
        let mut next = match &self.part.from {
            Some((state, _)) => self.go_on(store, &globals, state)?,
            None => {
                for export in start.into_iter().chain([&steps.init]) {
                    function::<()>(store, instance, export)?.call(&mut *store, ())?;
                }
                if self.stands(store, &globals, Next::Step)? {
                    return Ok(());
                }
                Next::Step
            }
        };
        while next == Next::Step {
            charge(store)?;
            next = if step.call(&mut *store, ())? == 0 { Next::Result } else { Next::Step };
            if self.stands(store, &globals, next)? {
                return Ok(());
            }
        }
        function::<()>(store, instance, &steps.result)?.call(&mut *store, ())
    }

    /// The unit stands still between two steps. Returns whether it stops here.
    fn stands(&mut self, store: &mut Store<Guest>, globals: &[Global], next: Next) -> wasmtime::Result<bool> {
        let handles = store.data().handles.expect("the unit runs");
        let gas = self.budget - left(store)?;
        let size = handles.memory.data_size(&*store) as u64 + store.data().world.state_bytes();
        let wanted = self.wanted(gas, size);
        if !wanted.is_something() {
            return Ok(false);
        }
        let globals: Vec<u128> = globals.iter().map(|global| bits(&global.get(&mut *store))).collect::<Result<_, _>>()?;
        let still = Still { next, gas, globals: &globals, world: &store.data().world, memory: handles.memory.data(&*store) };
        Ok(self.look(&still, wanted))
    }

    /// What the state at this moment is wanted for.
    pub(super) fn wanted(&mut self, gas: u64, size: u64) -> Wanted {
        let link = self.links.is_due(gas, size);
        Wanted { link, stop: self.part.until.is_some_and(|until| gas >= until), watch: self.watch.is_due() }
    }

    /// Takes the state for whatever it is wanted. Returns whether the unit stops here.
    pub(super) fn look(&mut self, still: &Still<'_>, wanted: Wanted) -> bool {
        let state = if wanted.watch { still.to_bytes(self.watch.bytes_max()) } else { Vec::new() };
        let digest = if state.is_empty() { still.digest() } else { Digest::of(&state) };
        let at = Link { gas: still.gas, state: digest };
        if wanted.link {
            self.links.record(at);
        }
        if wanted.watch {
            self.watch.take(Snapshot { at, state, links: self.links.clone() });
        }
        if wanted.stop {
            let state = if self.part.keep_state { still.to_bytes(STATE_BYTES_MAX) } else { Vec::new() };
            self.stopped = Some(Snapshot { at, state, links: self.links.clone() });
        }
        wanted.stop
    }

    /// Brings the instance into a saved state.
    fn go_on(&self, store: &mut Store<Guest>, globals: &[Global], state: &[u8]) -> wasmtime::Result<Next> {
        let handles = store.data().handles.expect("the unit runs");
        let saved = Saved::load(state, &mut store.data_mut().world)?;
        let left = self.budget.checked_sub(saved.gas).ok_or(NoState)?;
        handles.gas.set(&mut *store, Val::I64(left.cast_signed()))?;
        if saved.globals.len() != globals.len() {
            return Err(NoState.into());
        }
        for (global, bits) in globals.iter().zip(&saved.globals) {
            let value = with_bits(&global.get(&mut *store), *bits)?;
            global.set(&mut *store, value)?;
        }
        let more = saved.memory_bytes.checked_sub(handles.memory.data_size(&*store)).ok_or(NoState)?;
        let page = usize::try_from(handles.memory.page_size(&*store)).map_err(|_| NoState)?;
        if !more.is_multiple_of(page) {
            return Err(NoState.into());
        }
        // The host's own lack of memory is told from a state that is larger than the unit may be.
        let grown = handles.memory.grow(&mut *store, (more / page) as u64);
        grown.map_err(|error| if error.is::<Halt>() { error } else { NoState.into() })?;
        let next = saved.next;
        saved.fill(handles.memory.data_mut(&mut *store))?;
        Ok(next)
    }
}

/// What a unit's state between two steps is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Wanted {
    /// A link of the chain.
    link: bool,
    /// The part ends here.
    stop: bool,
    /// Somebody watches.
    watch: bool,
}

impl Wanted {
    /// Whether it is wanted at all.
    pub(super) fn is_something(self) -> bool {
        self != Self::default()
    }
}

/// Gas that is left.
fn left(store: &mut Store<Guest>) -> wasmtime::Result<u64> {
    let handles = store.data().handles.expect("the unit runs");
    let left = handles.gas.get(&mut *store).i64().and_then(|gas| u64::try_from(gas).ok());
    left.ok_or_else(|| Halt::OutOfGas.into())
}

/// Takes the gas for calling a step.
fn charge(store: &mut Store<Guest>) -> wasmtime::Result<()> {
    let handles = store.data().handles.expect("the unit runs");
    let rest = left(store)?.checked_sub(CALL_GAS);
    handles.gas.set(&mut *store, Val::I64(rest.map_or(-1, u64::cast_signed)))?;
    rest.map(drop).ok_or_else(|| Halt::OutOfGas.into())
}

fn bits(value: &Val) -> wasmtime::Result<u128> {
    match value {
        Val::I32(bits) => Ok(u128::from(bits.cast_unsigned())),
        Val::I64(bits) => Ok(u128::from(bits.cast_unsigned())),
        Val::F32(bits) => Ok(u128::from(*bits)),
        Val::F64(bits) => Ok(u128::from(*bits)),
        Val::V128(bits) => Ok(bits.as_u128()),
        _ => Err(wasmtime::Error::msg("a reference in a global, which is refused")),
    }
}

/// A value of the same type.
fn with_bits(like: &Val, bits: u128) -> Result<Val, NoState> {
    let half = || u32::try_from(bits).map_err(|_| NoState);
    let whole = || u64::try_from(bits).map_err(|_| NoState);
    Ok(match like {
        Val::I32(_) => Val::I32(half()?.cast_signed()),
        Val::I64(_) => Val::I64(whole()?.cast_signed()),
        Val::F32(_) => Val::F32(half()?),
        Val::F64(_) => Val::F64(whole()?),
        Val::V128(_) => Val::V128(V128::from(bits)),
        _ => return Err(NoState),
    })
}
