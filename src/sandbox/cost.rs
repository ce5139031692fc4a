//! What each instruction costs in gas.
//!
//! One gas is about one machine instruction: a fast core does one to ten in a nanosecond. The table is part of the meaning of a
//! result ([`super::PASS_VERSION`]): a change makes every gas figure different. Structure and what a compiler turns into nothing
//! (locals, constants) are free, so that the same work costs about the same whatever the compiler that made it.

use wasmparser::Operator as O;

/// What entering a function costs before its instructions.
pub(super) const ENTRY: i64 = 2;

/// How many declared locals cost one gas at entry: each may have to be zeroed.
pub(super) const LOCALS_PER_GAS: u32 = 8;

/// Each time through a loop costs this, so that an empty loop is not free.
const LOOP: i64 = 1;

/// A direct call, and the host's share of an import.
const CALL: i64 = 3;

/// A call through a table: the signature check and the missed prediction.
const CALL_INDIRECT: i64 = 6;

/// The slow arithmetic: divisions and roots.
const DIVIDE: i64 = 4;

/// Entering a bulk operation; its length is charged on top.
const BULK: i64 = 20;

/// Growing a memory or a table: a system call.
const GROW: i64 = 1_000;

/// Bytes that a bulk memory operation (or a host call) moves for one gas, as a power of two.
pub(super) const BYTES_PER_GAS_LOG2: i64 = 4;

/// The static cost of an instruction.
pub(super) fn of(op: &O<'_>) -> i64 {
    match op {
        O::Nop
        | O::Block { .. }
        | O::End
        | O::Else
        | O::Drop
        | O::LocalGet { .. }
        | O::LocalSet { .. }
        | O::LocalTee { .. }
        | O::I32Const { .. }
        | O::I64Const { .. }
        | O::F32Const { .. }
        | O::F64Const { .. }
        | O::V128Const { .. }
        | O::RefNull { .. }
        | O::RefFunc { .. } => 0,
        O::Loop { .. } => LOOP,
        O::Call { .. } | O::ReturnCall { .. } => CALL,
        O::CallIndirect { .. } | O::ReturnCallIndirect { .. } => CALL_INDIRECT,
        O::I32DivS
        | O::I32DivU
        | O::I32RemS
        | O::I32RemU
        | O::I64DivS
        | O::I64DivU
        | O::I64RemS
        | O::I64RemU
        | O::F32Div
        | O::F64Div
        | O::F32Sqrt
        | O::F64Sqrt
        | O::F32x4Div
        | O::F64x2Div
        | O::F32x4Sqrt
        | O::F64x2Sqrt => DIVIDE,
        O::MemoryCopy { .. }
        | O::MemoryFill { .. }
        | O::MemoryInit { .. }
        | O::TableCopy { .. }
        | O::TableFill { .. }
        | O::TableInit { .. } => BULK,
        O::MemoryGrow { .. } | O::TableGrow { .. } => GROW,
        // Everything else is one or two machine instructions.
        _ => 1,
    }
}
