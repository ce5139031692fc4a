//! The instrumentation pass: from a module as its author built it to the module that runs.
//!
//! It adds gas ([`super::gas`]) and makes NaNs deterministic ([`super::nan`]), moves the start section behind an export so
//! that it too runs on gas, and drops custom sections. Function bodies are copied byte for byte around what is inserted, so
//! no index changes. The result is a function of the module's bytes and of [`super::PASS_VERSION`] and of nothing else.

use super::{
    flow::Flow,
    gas::{GAS_EXPORT, Meter, Plan, START_EXPORT},
    inspect::{FEATURES, Rejection, admit},
    step,
    tracker::{MAX_ROUNDS, Tracker},
};
use wasm_encoder::{
    CodeSection, ConstExpr, ExportKind, ExportSection, GlobalSection, GlobalType, Module, RawSection, ValType as EncodedType,
    reencode::{Reencode, RoundtripReencoder},
};
use wasmparser::{
    FuncToValidate, FuncValidator, FuncValidatorAllocations, FunctionBody, Parser, Payload, ValType, ValidPayload, Validator,
    ValidatorResources, WasmModuleResources,
};

/// Turns a module into the one that runs.
///
/// # Errors
///
/// A [`Rejection`] when the module is not admitted.
pub fn instrument(module: &[u8]) -> Result<Vec<u8>, Rejection> {
    let facts = admit(module)?;
    let mut validator = Validator::new_with_features(FEATURES);
    let mut pass = Pass { gas: facts.globals, allocations: FuncValidatorAllocations::default(), scratch: Vec::new() };
    let mut out = Module::new();
    let mut code = CodeSection::new();
    let mut bodies = 0;
    let mut has_globals = false;
    let mut mutable = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| Rejection::invalid(&error))?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload).map_err(|error| Rejection::invalid(&error))? {
            code.raw(&pass.function(function, &body)?);
            bodies -= 1;
            if bodies == 0 {
                out.section(&code);
            }
            continue;
        }
        match &payload {
            Payload::GlobalSection(globals) => {
                has_globals = true;
                let found = (0u32..).zip(globals.clone());
                mutable.extend(found.filter_map(|(index, global)| global.is_ok_and(|global| global.ty.mutable).then_some(index)));
                let mut section = GlobalSection::new();
                RoundtripReencoder.parse_global_section(&mut section, globals.clone()).map_err(|error| reencoding(&error))?;
                out.section(with_gas(&mut section));
            }
            Payload::ExportSection(exports) => {
                if !has_globals {
                    out.section(with_gas(&mut GlobalSection::new()));
                }
                let mut section = ExportSection::new();
                RoundtripReencoder.parse_export_section(&mut section, exports.clone()).map_err(|error| reencoding(&error))?;
                section.export(GAS_EXPORT, ExportKind::Global, pass.gas);
                if facts.stepped {
                    for (number, global) in mutable.iter().enumerate() {
                        section.export(&format!("{}{number}", step::GLOBAL_PREFIX), ExportKind::Global, *global);
                    }
                }
                if let Some(start) = facts.start {
                    section.export(START_EXPORT, ExportKind::Func, start);
                }
                out.section(&section);
            }
            Payload::CodeSectionStart { count, .. } => bodies = *count,
            Payload::StartSection { .. } | Payload::CustomSection(_) => {}
            other => {
                if let Some((id, range)) = other.as_section() {
                    out.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(out.finish())
}

fn with_gas(section: &mut GlobalSection) -> &mut GlobalSection {
    section.global(GlobalType { val_type: EncodedType::I64, mutable: true, shared: false }, &ConstExpr::i64_const(0))
}

fn reencoding(error: &wasm_encoder::reencode::Error) -> Rejection {
    Rejection::Compile(error.to_string())
}

/// What the bodies share.
struct Pass {
    /// The gas global's index.
    gas: u32,
    allocations: FuncValidatorAllocations,
    scratch: Vec<u8>,
}

impl Pass {
    /// Instruments one function; returns its body without the size in front.
    fn function(&mut self, function: FuncToValidate<ValidatorResources>, body: &FunctionBody<'_>) -> Result<Vec<u8>, Rejection> {
        let again = || FuncToValidate {
            resources: function.resources.clone(),
            index: function.index,
            ty: function.ty,
            features: function.features,
        };
        let parameters = parameters(&function);
        let declared = declared_locals(body)?;
        let count: u32 = declared.iter().map(|(count, _)| count).sum();
        let plan = Plan::of(body, count).map_err(|error| Rejection::invalid(&error))?;
        let (tracked, joins) = (plan.float_arithmetic, plan.joins);
        let first_new = u32::try_from(parameters.len()).expect("the format allows a thousand parameters") + count;
        let mut new_locals = vec![ValType::I64];
        if plan.bulk {
            new_locals.push(ValType::I32);
        }
        let first_temporary = first_new + u32::try_from(new_locals.len()).expect("two at most");
        let mut meter = Meter { global: self.gas, left: first_new, length: first_new + 1, plan, next_loop: 0 };
        let mut tracker = tracked.then(|| Tracker::new(Flow::new(&parameters, &declared, joins), first_temporary));
        if let Some(tracker) = &mut tracker {
            self.settle(tracker, again, body)?;
        }
        self.scratch.clear();
        self.walk(again(), body, tracker.as_mut(), Some(&mut meter))?;
        if let Some(tracker) = &tracker {
            new_locals.extend_from_slice(tracker.temporary_types());
        }
        Ok(assemble(&declared, &new_locals, &self.scratch))
    }

    /// Runs the tracker until what it knows about the locals is stable, and tells it to emit from then on.
    fn settle(
        &mut self,
        tracker: &mut Tracker,
        again: impl Fn() -> FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(), Rejection> {
        for round in 0.. {
            if round == MAX_ROUNDS {
                tracker.flow.follow_none();
            }
            tracker.restart();
            self.walk(again(), body, Some(tracker), None)?;
            if !tracker.flow.changed {
                break;
            }
        }
        tracker.restart();
        tracker.emit = true;
        Ok(())
    }

    /// Goes over a body once. With a meter the instrumented instructions go to `scratch`; without, nothing is written.
    fn walk(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        mut tracker: Option<&mut Tracker>,
        mut meter: Option<&mut Meter>,
    ) -> Result<(), Rejection> {
        let invalid = |error| Rejection::invalid(&error);
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        validator.read_locals(&mut body.get_binary_reader()).map_err(invalid)?;
        if let Some(meter) = &meter {
            meter.enter(&mut self.scratch);
        }
        let mut operators = body.get_operators_reader().map_err(invalid)?;
        let start = body.range().start;
        while !operators.eof() {
            let from = operators.original_position();
            let op = operators.read().map_err(invalid)?;
            let to = operators.original_position();
            let pending = tracker.as_mut().map(|tracker| tracker.before(&mut self.scratch, &op, &validator));
            let height = validator.control_stack_height();
            validator.op(from, &op).map_err(invalid)?;
            if let Some(meter) = &mut meter {
                meter.before(&mut self.scratch, &op, height);
                self.scratch.extend_from_slice(&body.as_bytes()[from - start..to - start]);
                meter.after(&mut self.scratch, &op);
            }
            if let (Some(tracker), Some(pending)) = (&mut tracker, pending) {
                tracker.after(&pending, validator.operand_stack_height());
            }
        }
        self.allocations = FuncValidator::into_allocations(validator);
        Ok(())
    }
}

fn parameters(function: &FuncToValidate<ValidatorResources>) -> Vec<ValType> {
    let sub_type = function.resources.sub_type_at(function.ty).expect("the validator knows the function's type");
    sub_type.unwrap_func().params().to_vec()
}

fn declared_locals(body: &FunctionBody<'_>) -> Result<Vec<(u32, ValType)>, Rejection> {
    let locals = body.get_locals_reader().map_err(|error| Rejection::invalid(&error))?;
    locals.into_iter().collect::<Result<_, _>>().map_err(|error| Rejection::invalid(&error))
}

fn assemble(declared: &[(u32, ValType)], new_locals: &[ValType], code: &[u8]) -> Vec<u8> {
    let added = new_locals.iter().map(|value_type| (1, *value_type));
    let locals = declared.iter().copied().chain(added);
    let encoded = locals
        .map(|(count, value_type)| (count, RoundtripReencoder.val_type(value_type).expect("value types are encoded as they were read")));
    let mut function = wasm_encoder::Function::new(encoded.collect::<Vec<_>>());
    function.raw(code.iter().copied());
    function.into_raw_body()
}
