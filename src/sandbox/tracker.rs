//! Follows the [`Class`] of every value through a function and inserts what [`super::nan`] asks for.
//!
//! It runs over a function several times: first without emitting, until what is known about the locals ([`super::flow`]) no
//! longer changes, then once more with the code going to its place. Unreachable code is left alone, since nothing in it ever
//! runs.

use super::{
    flow::Flow,
    nan::{Class, Effect, Shape, effect},
};
use wasm_encoder::Instruction as I;
use wasmparser::{FuncValidator, Operator as O, ValType, ValidatorResources};

/// Rounds over a function before all its locals are pinned. Compilers' output needs two to four.
pub(super) const MAX_ROUNDS: u32 = 10;

/// The classes of one function's values.
pub(super) struct Tracker {
    /// The locals.
    pub(super) flow: Flow,
    /// The class of each operand on the stack.
    stack: Vec<Class>,
    /// Whether to insert code.
    pub(super) emit: bool,
    temporaries: Temporaries,
}

impl Tracker {
    /// A tracker whose own locals come from `first_temporary` on.
    pub(super) fn new(flow: Flow, first_temporary: u32) -> Self {
        let temporaries = Temporaries { first: first_temporary, types: Vec::new(), used: Vec::new() };
        Self { flow, stack: Vec::new(), emit: false, temporaries }
    }

    /// Begins a round.
    pub(super) fn restart(&mut self) {
        self.stack.clear();
        self.flow.restart();
    }

    /// The locals that the inserted code needs.
    pub(super) fn temporary_types(&self) -> &[ValType] {
        &self.temporaries.types
    }

    /// Before an instruction: inserts what must happen to its operands and says what its result will be.
    pub(super) fn before(&mut self, out: &mut Vec<u8>, op: &O<'_>, validator: &FuncValidator<ValidatorResources>) -> Pending {
        let height = validator.operand_stack_height() as usize;
        self.stack.resize(height, Class::Fixed);
        if validator.get_control_frame(0).is_some_and(|frame| frame.unreachable) {
            self.flow.control(op);
            return Pending { kept: height, result: Class::Fixed };
        }
        let (pops, _) = op.operator_arity(validator).unwrap_or((0, 0));
        let kept = height.saturating_sub(pops as usize);
        let mut site = Site { kept, validator, out };
        let result = match effect(op) {
            Effect::Blind(shape, result) => {
                self.canonicalise(&mut site, |class| class.raw().is_some_and(|raw| raw != shape));
                result
            }
            Effect::Ignores => Class::Fixed,
            Effect::Makes(result) => result,
            Effect::Gets(local) => self.flow.get(local),
            Effect::Sets(local) => self.set(&mut site, local),
            Effect::Tees(local) => self.set(&mut site, local),
            Effect::Passes(shape) => {
                self.canonicalise(&mut site, |class| class.raw().is_some_and(|raw| raw != shape));
                self.merge(&mut site, kept, height)
            }
            Effect::Selects => self.merge(&mut site, kept, height.saturating_sub(1)),
            Effect::Reshapes(from, to) => self.reshape(&mut site, from, to),
            Effect::Inserts(vector, scalar) => self.insert(&mut site, vector, scalar),
            Effect::Sees => {
                self.canonicalise(&mut site, seen);
                self.flow.control(op);
                Class::Fixed
            }
        };
        Pending { kept, result }
    }

    /// After the instruction has been validated: its results take their places.
    pub(super) fn after(&mut self, pending: &Pending, height: u32) {
        let height = height as usize;
        self.stack.truncate(pending.kept.min(height));
        self.stack.resize(height, pending.result);
    }

    fn set(&mut self, site: &mut Site<'_, '_>, local: u32) -> Class {
        let value = self.stack.last().copied().unwrap_or(Class::Fixed);
        if !self.flow.set(local, value) {
            self.canonicalise(site, seen);
        }
        self.stack.last().copied().unwrap_or(Class::Fixed)
    }

    /// The class of a result that is one of the operands `from..to`.
    fn merge(&mut self, site: &mut Site<'_, '_>, from: usize, to: usize) -> Class {
        let mut joined = Class::Neutral;
        for position in from..to {
            joined = self.flow.join(None, joined, self.stack[position]);
        }
        if joined == Class::Fixed {
            self.canonicalise(site, seen);
        }
        joined
    }

    fn reshape(&mut self, site: &mut Site<'_, '_>, from: Shape, to: Shape) -> Class {
        let operand = self.stack.last().copied().unwrap_or(Class::Fixed);
        if operand == Class::Raw(from) {
            return Class::Raw(to);
        }
        self.canonicalise(site, seen);
        Class::Fixed
    }

    fn insert(&mut self, site: &mut Site<'_, '_>, vector: Shape, scalar: Shape) -> Class {
        let fits = |class: &Class| matches!(class, Class::Neutral) || class.raw().is_some_and(|raw| raw == vector || raw == scalar);
        let operands = &self.stack[site.kept..];
        if operands.iter().all(fits) && operands.iter().any(|class| class.raw().is_some()) {
            return Class::Raw(vector);
        }
        self.canonicalise(site, seen);
        Class::Fixed
    }

    /// Makes those operands canonical that `wanted` names. What lies above the deepest of them waits in temporaries.
    fn canonicalise(&mut self, site: &mut Site<'_, '_>, wanted: impl Fn(Class) -> bool) {
        for class in &mut self.stack[site.kept..] {
            if let (Class::Mixed(origin), true) = (*class, wanted(*class)) {
                self.flow.pin(origin);
                *class = Class::Fixed;
            }
        }
        let Some(first) = (site.kept..self.stack.len()).find(|position| wanted(self.stack[*position])) else {
            return;
        };
        if self.emit {
            self.temporaries.used.fill(false);
            let mut waiting = Vec::new();
            for position in (first + 1..self.stack.len()).rev() {
                let depth = self.stack.len() - 1 - position;
                let value_type = site.validator.get_operand_type(depth).flatten().expect("operands of reachable code have a type");
                let local = self.temporaries.take(value_type);
                super::gas::encode(site.out, &[I::LocalSet(local)]);
                waiting.push(local);
            }
            for position in first..self.stack.len() {
                if position > first {
                    let local = waiting.pop().expect("one per operand above the first");
                    super::gas::encode(site.out, &[I::LocalGet(local)]);
                }
                if let (true, Some(shape)) = (wanted(self.stack[position]), self.stack[position].raw()) {
                    let local = self.temporaries.take(shape.temporary_type());
                    shape.canonicalise(site.out, local);
                    self.temporaries.give_back(local);
                }
            }
        }
        for class in &mut self.stack[first..] {
            // Two halves of a canonical pair of doubles need not be canonical as four floats, so a vector is fixed now.
            match class {
                Class::Raw(Shape::F32 | Shape::F64) if wanted(*class) => *class = Class::Neutral,
                Class::Raw(Shape::F32x4 | Shape::F64x2) if wanted(*class) => *class = Class::Fixed,
                Class::Neutral | Class::Fixed | Class::Raw(_) | Class::Mixed(_) => {}
            }
        }
    }
}

/// Whether it matters that somebody sees such a value's bits.
fn seen(class: Class) -> bool {
    matches!(class, Class::Raw(_) | Class::Mixed(_))
}

/// An instruction's result, until the validator has taken the instruction.
pub(super) struct Pending {
    /// Operands that the instruction leaves alone.
    kept: usize,
    result: Class,
}

/// Where code is inserted.
struct Site<'a, 'b> {
    kept: usize,
    validator: &'a FuncValidator<ValidatorResources>,
    out: &'b mut Vec<u8>,
}

/// Locals for values that wait, shared by all sites of a function.
struct Temporaries {
    first: u32,
    types: Vec<ValType>,
    used: Vec<bool>,
}

impl Temporaries {
    fn take(&mut self, value_type: ValType) -> u32 {
        let free = self.types.iter().zip(&self.used).position(|(found, used)| *found == value_type && !used);
        let index = free.unwrap_or_else(|| {
            self.types.push(value_type);
            self.used.push(false);
            self.types.len() - 1
        });
        self.used[index] = true;
        self.first + u32::try_from(index).expect("fewer temporaries than operands")
    }

    fn give_back(&mut self, local: u32) {
        self.used[(local - self.first) as usize] = false;
    }
}
