//! Admission: whether a module can run here at all, and if not, why and what its author can do about it.
//!
//! Everything is decided from the bytes alone, before anything is compiled. A module that passes validates, needs nothing
//! that the sandbox lacks and stays within the named limits; [`super::instrument`] relies on it. Any bytes may come in.

use super::gas::{GAS_EXPORT, START_EXPORT};
use super::{step, wasi};
use crate::protocol::job::MODULE_BYTES_MAX;
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures};

mod looks;

pub use looks::Looks;

/// The largest module, in bytes. The largest real program that we know (Yosys) has 22 MB.
pub const MAX_MODULE_BYTES: usize = MODULE_BYTES_MAX as usize;

/// The most tables that a module may define. Compilers emit one, tools that merge modules a few; each costs address space.
pub const MAX_TABLES: u32 = 8;

/// The most unknown imports that a [`Rejection::UnknownImports`] names.
const MAX_NAMED_IMPORTS: usize = 8;

/// The longest import or export name, in bytes, that a rejection repeats.
const MAX_QUOTED_NAME: usize = 80;

/// The features that a module may use: WebAssembly 2.0 with tail calls and extended constants.
///
/// Without `GC_TYPES` there is no `externref`, which Wasmtime offers only with its collector.
pub(super) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::EXTENDED_CONST);

/// Why a module is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// The bytes are something else.
    #[error("not a WebAssembly module: it looks like {0}")]
    NotWasm(Looks),
    /// A component-model component, such as `wasm32-wasip2` produces.
    #[error("a WebAssembly component, where a core module is needed")]
    Component,
    /// Larger than [`MAX_MODULE_BYTES`].
    #[error("the module has {bytes} bytes, {limit} are allowed")]
    TooBig {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// It uses a proposal that is off here because it is not deterministic, not safe or not supported.
    #[error("the module uses {feature}, which the sandbox does not offer (at offset {offset:#x})")]
    Feature {
        /// The proposal's name.
        feature: &'static str,
        /// Where in the module.
        offset: u64,
    },
    /// It does not validate.
    #[error("the module is not valid: {message} (at offset {offset:#x})")]
    Invalid {
        /// What the validator says.
        message: String,
        /// Where in the module.
        offset: u64,
    },
    /// It imports what the sandbox does not provide.
    #[error("the module imports {count} function(s) or other things that the sandbox does not provide: {}", names.join(", "))]
    UnknownImports {
        /// How many.
        count: u32,
        /// The first few, as `module.name`.
        names: Vec<String>,
    },
    /// It imports a WASI function with another signature.
    #[error("the module imports {name} with the wrong signature")]
    WrongImportType {
        /// Which import.
        name: String,
    },
    /// It exports no function `_start`, so it is a library.
    #[error("the module exports no function `_start`")]
    NoStart,
    /// Its `_start` takes parameters or returns results.
    #[error("the module's `_start` has parameters or results")]
    WrongStart,
    /// It exports no memory named `memory`.
    #[error("the module exports no memory named `memory`")]
    NoMemory,
    /// It exports a name that the gas pass needs.
    #[error("the module exports `{0}`, a name that the sandbox reserves")]
    ReservedExport(&'static str),
    /// It exports some of the functions of a stepped module and not all.
    #[error("the module exports `{found}` and no function `{missing}`; a stepped module has both")]
    IncompleteSteps {
        /// One that is there.
        found: &'static str,
        /// One that is not.
        missing: &'static str,
    },
    /// One of the functions of a stepped module has other parameters or results than it must have.
    #[error("the module's `{name}` has the wrong parameters or results")]
    WrongStep {
        /// Which.
        name: &'static str,
    },
    /// It is stepped, and has state that cannot be saved between its steps.
    #[error("the module is stepped, and {what}, which cannot be saved between steps")]
    UnsavedState {
        /// What it does.
        what: &'static str,
    },
    /// It defines more of something than allowed.
    #[error("the module defines {count} {what}, {limit} are allowed")]
    TooMany {
        /// What is too many.
        what: &'static str,
        /// How many.
        count: u32,
        /// The limit.
        limit: u32,
    },
    /// It is valid, but the compiler does not take it, for example because a function became too large.
    #[error("the module could not be compiled: {0}")]
    Compile(String),
}

impl Rejection {
    /// What the module's author can try.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotWasm(_) => "pass a .wasm file, for example from `cargo build --release --target wasm32-wasip1`",
            Self::Component => "build for wasm32-wasip1 (a preview 1 command) and not for wasm32-wasip2",
            Self::TooBig { .. } => "build with optimisation for size, strip it, and pass data as inputs and not inside the module",
            Self::Feature { .. } => {
                "build without that feature; for Rust and C: no -Ctarget-feature/-m flags beyond simd128, no threads, no wasm exceptions"
            }
            Self::Invalid { .. } => "the file may be truncated or damaged; build it again",
            Self::UnknownImports { .. } => {
                "only wasi_snapshot_preview1 is there: no network, no JavaScript, no host functions; build a WASI command (AssemblyScript: with its wasi-shim)"
            }
            Self::WrongImportType { .. } => "build it with a current WASI SDK for preview 1",
            Self::NoStart => "build a command with a `main` function, not a library or reactor",
            Self::WrongStart => "build a WASI command; its `_start` takes nothing and returns nothing",
            Self::NoMemory => "export the memory as `memory`, as WASI asks for",
            Self::ReservedExport(_) => "rename that export",
            Self::IncompleteSteps { .. } => "export manyhands_init, manyhands_step and manyhands_result, or none of them",
            Self::WrongStep { .. } => {
                "manyhands_init and manyhands_result take and return nothing; manyhands_step takes nothing and returns an i32"
            }
            Self::UnsavedState { .. } => {
                "build it without that (in C: no changes of function tables), or export no manyhands_step and it runs in one go"
            }
            Self::TooMany { .. } => "merge them, or split the program",
            Self::Compile(_) => "split very large functions, or build with less inlining",
        }
    }

    pub(super) fn invalid(error: &wasmparser::Error) -> Self {
        let offset = error.offset() as u64;
        if let Some(missing) = error.missing_wasm_feature() {
            return Self::Feature { feature: feature_name(missing), offset };
        }
        Self::Invalid { message: error.message().chars().take(300).collect(), offset }
    }
}

/// The proposals that are off, by name.
const PROPOSALS: &[(WasmFeatures, &str)] = &[
    (WasmFeatures::THREADS, "threads (shared memory, atomics)"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "threads (shared-everything)"),
    (WasmFeatures::RELAXED_SIMD, "relaxed SIMD"),
    (WasmFeatures::EXCEPTIONS, "exception handling"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "exception handling (legacy)"),
    (WasmFeatures::MEMORY64, "64-bit memory"),
    (WasmFeatures::MULTI_MEMORY, "several memories"),
    (WasmFeatures::GC, "garbage collection"),
    (WasmFeatures::GC_TYPES, "garbage-collected references (externref)"),
    (WasmFeatures::FUNCTION_REFERENCES, "typed function references"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::COMPONENT_MODEL, "the component model"),
];

fn feature_name(missing: WasmFeatures) -> &'static str {
    PROPOSALS.iter().find(|(feature, _)| missing.intersects(*feature)).map_or("an unsupported proposal", |(_, name)| name)
}

/// Why a module does not validate. The validator does not always say which proposal is missing, so each is tried: the one with
/// which it gets further is named.
fn diagnose(bytes: &[u8], error: &wasmparser::Error) -> Rejection {
    let helps = |feature: WasmFeatures| match Validator::new_with_features(FEATURES.union(feature)).validate_all(bytes) {
        Ok(_) => true,
        Err(other) => other.offset() > error.offset(),
    };
    let needed = error.missing_wasm_feature().is_none().then(|| PROPOSALS.iter().find(|(feature, _)| helps(*feature))).flatten();
    match needed {
        Some((_, feature)) => Rejection::Feature { feature, offset: error.offset() as u64 },
        None => Rejection::invalid(error),
    }
}

/// What [`admit`] learned about a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// The memory that it needs from the start, in bytes.
    pub initial_memory_bytes: u64,
    /// The function of its start section.
    pub(super) start: Option<u32>,
    /// How many globals it defines.
    pub(super) globals: u32,
    /// Whether it is stepped (`sandbox::step`).
    pub stepped: bool,
}

/// Decides whether a module may run.
///
/// # Errors
///
/// The first reason to refuse it. Never panics, whatever the bytes.
pub fn admit(bytes: &[u8]) -> Result<Facts, Rejection> {
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(Rejection::TooBig { bytes: bytes.len() as u64, limit: MAX_MODULE_BYTES as u64 });
    }
    match bytes.get(..8) {
        Some(b"\0asm\x01\0\0\0") => {}
        Some([0, b'a', b's', b'm', _, 0, 1, 0]) => return Err(Rejection::Component),
        _ => return Err(Rejection::NotWasm(Looks::of(bytes))),
    }
    let invalid = |error| diagnose(bytes, &error);
    let mut census = Census::default();
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        if let wasmparser::ValidPayload::Func(func, body) = validator.payload(&payload).map_err(invalid)? {
            let mut func = func.into_validator(allocations);
            func.validate(&body).map_err(invalid)?;
            allocations = func.into_allocations();
            census.body(&body).map_err(invalid)?;
        }
        census.read(&payload)?;
    }
    census.judge()
}

/// What of a module the rules look at, gathered while it is validated.
#[derive(Default)]
struct Census {
    types: Vec<Option<wasmparser::FuncType>>,
    functions: Vec<u32>,
    unknown: Vec<String>,
    unknown_count: u32,
    tables: u32,
    start: Option<u32>,
    globals: u32,
    memory_pages: Option<u64>,
    exported_start: Option<u32>,
    exports_memory: bool,
    /// The functions of a stepped module, in the order of [`STEP_EXPORTS`].
    steps: [Option<u32>; 3],
    /// What could not be saved between steps.
    unsaved: Option<&'static str>,
}

/// The functions of a stepped module with their results; none has parameters.
const STEP_EXPORTS: [(&str, &[ValType]); 3] = [(step::INIT, &[]), (step::STEP, &[ValType::I32]), (step::RESULT, &[])];

impl Census {
    fn read(&mut self, payload: &Payload<'_>) -> Result<(), Rejection> {
        let invalid = |error| Rejection::invalid(&error);
        match payload {
            Payload::TypeSection(types) => {
                for group in types.clone() {
                    for sub_type in group.map_err(invalid)?.types() {
                        self.types.push(match &sub_type.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(func) => Some(func.clone()),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.clone().into_imports() {
                    self.import(&import.map_err(invalid)?)?;
                }
            }
            Payload::FunctionSection(functions) => {
                for function in functions.clone() {
                    self.functions.push(function.map_err(invalid)?);
                }
            }
            Payload::TableSection(tables) => self.tables = tables.count(),
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    self.memory_pages = Some(memory.map_err(invalid)?.initial);
                }
            }
            Payload::GlobalSection(globals) => {
                self.globals = globals.count();
                for global in globals.clone() {
                    let found = global.map_err(invalid)?.ty;
                    if found.mutable && matches!(found.content_type, ValType::Ref(_)) {
                        self.unsaved = Some("has a mutable global that holds a reference");
                    }
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(*func),
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    self.export(&export.map_err(invalid)?)?;
                }
            }
            // The validator has looked at the rest, and no rule of ours concerns it.
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), Rejection> {
        let TypeRef::Func(type_index) = import.ty else {
            self.unknown(import);
            return Ok(());
        };
        self.functions.push(type_index);
        let expected = (import.module == wasi::MODULE).then(|| wasi::signature(import.name)).flatten();
        let Some((params, results)) = expected else {
            self.unknown(import);
            return Ok(());
        };
        let found = self.types.get(type_index as usize).and_then(Option::as_ref);
        if found.is_some_and(|found| found.params() == params && found.results() == results) {
            return Ok(());
        }
        Err(Rejection::WrongImportType { name: quoted(import) })
    }

    fn unknown(&mut self, import: &wasmparser::Import<'_>) {
        self.unknown_count += 1;
        if self.unknown.len() < MAX_NAMED_IMPORTS {
            self.unknown.push(quoted(import));
        }
    }

    fn export(&mut self, export: &wasmparser::Export<'_>) -> Result<(), Rejection> {
        match (export.name, export.kind) {
            (GAS_EXPORT, _) => return Err(Rejection::ReservedExport(GAS_EXPORT)),
            (START_EXPORT, _) => return Err(Rejection::ReservedExport(START_EXPORT)),
            (name, _) if name.starts_with(step::GLOBAL_PREFIX) => return Err(Rejection::ReservedExport(step::GLOBAL_PREFIX)),
            ("_start", ExternalKind::Func) => self.exported_start = Some(export.index),
            ("memory", ExternalKind::Memory) => self.exports_memory = true,
            (name, ExternalKind::Func) => {
                if let Some(found) = STEP_EXPORTS.iter().position(|(step, _)| *step == name) {
                    self.steps[found] = Some(export.index);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks for what could not be saved between steps. The exports come before the code, so it is known whether there are any.
    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), wasmparser::Error> {
        use wasmparser::Operator as O;
        if self.steps == [None; 3] || self.unsaved.is_some() {
            return Ok(());
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let changes_tables = |op: &O<'_>| {
                matches!(op, O::TableSet { .. } | O::TableGrow { .. } | O::TableFill { .. } | O::TableCopy { .. } | O::TableInit { .. })
            };
            match operators.read()? {
                op if changes_tables(&op) => self.unsaved = Some("changes a table"),
                O::DataDrop { .. } | O::ElemDrop { .. } => self.unsaved = Some("drops a segment"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the module is stepped.
    fn judge_steps(&self) -> Result<bool, Rejection> {
        let name = |at: usize| STEP_EXPORTS[at].0;
        let Some(found) = self.steps.iter().position(Option::is_some) else { return Ok(false) };
        if let Some(missing) = self.steps.iter().position(Option::is_none) {
            return Err(Rejection::IncompleteSteps { found: name(found), missing: name(missing) });
        }
        for (function, (name, results)) in self.steps.iter().flatten().zip(STEP_EXPORTS) {
            if !self.type_of(*function).is_some_and(|found| found.params().is_empty() && found.results() == results) {
                return Err(Rejection::WrongStep { name });
            }
        }
        self.unsaved.map_or(Ok(true), |what| Err(Rejection::UnsavedState { what }))
    }

    fn type_of(&self, function: u32) -> Option<&wasmparser::FuncType> {
        self.functions.get(function as usize).and_then(|index| self.types.get(*index as usize)).and_then(Option::as_ref)
    }

    fn judge(self) -> Result<Facts, Rejection> {
        if self.unknown_count > 0 {
            return Err(Rejection::UnknownImports { count: self.unknown_count, names: self.unknown });
        }
        if self.tables > MAX_TABLES {
            return Err(Rejection::TooMany { what: "tables", count: self.tables, limit: MAX_TABLES });
        }
        let start = self.exported_start.ok_or(Rejection::NoStart)?;
        if !self.type_of(start).is_some_and(|found| found.params().is_empty() && found.results().is_empty()) {
            return Err(Rejection::WrongStart);
        }
        if !self.exports_memory {
            return Err(Rejection::NoMemory);
        }
        let stepped = self.judge_steps()?;
        let initial_memory_bytes = self.memory_pages.unwrap_or(0).saturating_mul(1 << 16);
        Ok(Facts { initial_memory_bytes, start: self.start, globals: self.globals, stepped })
    }
}

fn quoted(import: &wasmparser::Import<'_>) -> String {
    let clean = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(MAX_QUOTED_NAME).collect() };
    format!("{}.{}", clean(import.module), clean(import.name))
}

/// The signature type that [`wasi::signature`] speaks.
pub(super) type Signature = (&'static [ValType], &'static [ValType]);

#[cfg(test)]
mod tests;
