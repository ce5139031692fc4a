//! The gas half of the instrumentation: what is inserted where, so that a unit's work is counted and bounded.
//!
//! The gas that is left lives in a global that only the inserted code and the host can reach. A function without loops
//! pays for all its instructions at its entry. A function with loops keeps what is left in a local, pays at its entry for
//! what lies outside its loops and at each loop header for one turn of that loop, and writes the local back wherever somebody
//! else may look: around calls, before it returns, before `unreachable`. When the amount falls below zero the code sets
//! the global to -1 and traps, which is how the host tells this trap from the guest's own. Bulk operations pay by length
//! before they begin.
//!
//! Every cycle in a program goes through a loop header or a function entry, so the budget cannot be escaped. All this is
//! ordinary WebAssembly, so the figure is the same on every engine, optimisation level and platform; after a trap it is what
//! had been written back, which is just as exact.

use super::cost;
use wasm_encoder::{BlockType, Encode, Instruction as I};
use wasmparser::{FunctionBody, Operator as O};

/// The export through which the host sets and reads the gas that is left.
pub(super) const GAS_EXPORT: &str = "manyhands:gas";

/// The export of the module's start function, which runs only once there is gas.
pub(super) const START_EXPORT: &str = "manyhands:start";

/// What a first look at a function tells.
#[derive(Default)]
pub(super) struct Plan {
    /// Gas for what lies outside the loops.
    pub(super) entry: i64,
    /// Gas for one turn of each loop, in the order of their headers.
    pub(super) loops: Vec<i64>,
    /// Whether there are bulk operations, which need a local for their length.
    pub(super) bulk: bool,
    /// Whether there is floating-point arithmetic, whose NaNs need care.
    pub(super) float_arithmetic: bool,
    /// Places where paths may meet: blocks and branches.
    pub(super) joins: u64,
}

impl Plan {
    /// Adds up what a function's parts cost. `locals` is the number of its declared locals.
    pub(super) fn of(body: &FunctionBody<'_>, locals: u32) -> Result<Self, wasmparser::Error> {
        let mut plan = Self { entry: cost::ENTRY + i64::from(locals / cost::LOCALS_PER_GAS), ..Self::default() };
        // For each open block the loop that its instructions belong to.
        let mut open: Vec<Option<usize>> = vec![None];
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let op = operators.read()?;
            let current = open.last().copied().flatten();
            plan.joins += joins(&op);
            match op {
                O::Loop { .. } => {
                    open.push(Some(plan.loops.len()));
                    plan.loops.push(cost::of(&op));
                    continue;
                }
                O::Block { .. } | O::If { .. } => open.push(current),
                O::End => {
                    open.pop();
                }
                _ => {
                    plan.bulk |= is_bulk(&op);
                    plan.float_arithmetic |= super::nan::arithmetic(&op).is_some();
                }
            }
            match current {
                Some(index) => plan.loops[index] += cost::of(&op),
                None => plan.entry += cost::of(&op),
            }
        }
        Ok(plan)
    }

    /// Whether the function keeps its gas in a local.
    pub(super) fn has_loops(&self) -> bool {
        !self.loops.is_empty()
    }
}

fn joins(op: &O<'_>) -> u64 {
    match op {
        O::Block { .. } | O::Loop { .. } | O::If { .. } | O::Br { .. } | O::BrIf { .. } => 1,
        O::BrTable { targets } => u64::from(targets.len()) + 1,
        _ => 0,
    }
}

/// Whether the operand on top of the stack is a length that is charged for.
fn is_bulk(op: &O<'_>) -> bool {
    is_bulk_memory(op) || matches!(op, O::TableCopy { .. } | O::TableFill { .. } | O::TableInit { .. } | O::TableGrow { .. })
}

fn is_bulk_memory(op: &O<'_>) -> bool {
    matches!(op, O::MemoryCopy { .. } | O::MemoryFill { .. } | O::MemoryInit { .. })
}

/// Inserts the gas code of one function.
pub(super) struct Meter {
    /// The gas global.
    pub(super) global: u32,
    /// The i64 local with the gas that is left.
    pub(super) left: u32,
    /// The i32 local for a bulk operation's length; there only when the plan says `bulk`.
    pub(super) length: u32,
    /// What to charge.
    pub(super) plan: Plan,
    /// The next loop's number.
    pub(super) next_loop: usize,
}

impl Meter {
    /// At the function's entry.
    pub(super) fn enter(&self, out: &mut Vec<u8>) {
        encode(out, &[I::GlobalGet(self.global), I::I64Const(self.plan.entry), I::I64Sub, I::LocalTee(self.left)]);
        if !self.plan.has_loops() {
            encode(out, &[I::GlobalSet(self.global), I::LocalGet(self.left)]);
        }
        self.trap_below_zero(out);
    }

    /// Before an instruction; `height` is the number of open blocks, the function's own included.
    pub(super) fn before(&self, out: &mut Vec<u8>, op: &O<'_>, height: u32) {
        let outermost = height.saturating_sub(1);
        let leaves = match op {
            O::Call { .. } | O::CallIndirect { .. } | O::ReturnCall { .. } | O::ReturnCallIndirect { .. } | O::Return | O::Unreachable => {
                true
            }
            O::End => height == 1,
            O::Br { relative_depth } | O::BrIf { relative_depth } => *relative_depth == outermost,
            O::BrTable { targets } => {
                targets.default() == outermost || targets.targets().any(|target| target.is_ok_and(|depth| depth == outermost))
            }
            _ => false,
        };
        if leaves {
            self.write_back(out);
        }
        if is_bulk(op) {
            self.charge_length(out, is_bulk_memory(op));
        }
    }

    /// After an instruction.
    pub(super) fn after(&mut self, out: &mut Vec<u8>, op: &O<'_>) {
        match op {
            O::Loop { .. } => {
                let turn = self.plan.loops[self.next_loop];
                self.next_loop += 1;
                encode(out, &[I::LocalGet(self.left), I::I64Const(turn), I::I64Sub, I::LocalTee(self.left)]);
                self.trap_below_zero(out);
            }
            O::Call { .. } | O::CallIndirect { .. } if self.plan.has_loops() => {
                encode(out, &[I::GlobalGet(self.global), I::LocalSet(self.left)]);
            }
            _ => {}
        }
    }

    fn write_back(&self, out: &mut Vec<u8>) {
        if self.plan.has_loops() {
            encode(out, &[I::LocalGet(self.left), I::GlobalSet(self.global)]);
        }
    }

    fn charge_length(&self, out: &mut Vec<u8>, bytes: bool) {
        let left = if self.plan.has_loops() { I::LocalGet(self.left) } else { I::GlobalGet(self.global) };
        encode(out, &[I::LocalTee(self.length), left, I::LocalGet(self.length), I::I64ExtendI32U]);
        if bytes {
            encode(out, &[I::I64Const(cost::BYTES_PER_GAS_LOG2), I::I64ShrU]);
        }
        encode(out, &[I::I64Sub, I::LocalTee(self.left)]);
        if !self.plan.has_loops() {
            encode(out, &[I::GlobalSet(self.global), I::LocalGet(self.left)]);
        }
        self.trap_below_zero(out);
    }

    /// Consumes the amount on top of the stack and ends the unit when it is negative.
    fn trap_below_zero(&self, out: &mut Vec<u8>) {
        let end = [I::I64Const(-1), I::GlobalSet(self.global), I::Unreachable, I::End];
        encode(out, &[I::I64Const(0), I::I64LtS, I::If(BlockType::Empty)]);
        encode(out, &end);
    }
}

/// Appends instructions.
pub(super) fn encode(out: &mut Vec<u8>, instructions: &[I<'_>]) {
    for instruction in instructions {
        instruction.encode(out);
    }
}
