//! The NaN half of the instrumentation: results do not depend on which NaN a machine's arithmetic happens to produce.
//!
//! The bits of a NaN that arithmetic returns are not specified and differ between processors. The program behaves *exactly as
//! if* each arithmetic result were replaced by the canonical NaN when it is one, but the replacement is done lazily: only
//! where a value's bits can be seen. Most arithmetic feeds arithmetic or a comparison, where they cannot.
//!
//! Each value has a [`Class`], known statically. Values that did not come from arithmetic (loads, parameters, constants) keep
//! their bits, payload and all. Where a raw value would merge with such a value (a local set to either, the two sides of a
//! `select`, a block's result) it is made canonical first. An instruction that is not listed here as one that cannot see
//! the bits is taken to see them, so that a forgotten instruction costs speed and not determinism.

use wasm_encoder::Instruction as I;
use wasmparser::Operator as O;

/// How a value is divided into floats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// What is known about a value's bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Making it canonical changes nothing: zero, a converted integer, what was made canonical already.
    Neutral,
    /// The bits are determined and must be kept.
    Fixed,
    /// From arithmetic: a NaN in it may have any bits.
    Raw(Shape),
    /// Raw or fixed, depending on the way that was taken; the number is that of a local where the ways met. Only a scalar.
    Mixed(u32),
}

impl Class {
    /// The class of a place into which both may flow. A raw value that flows into a fixed place is made canonical on its way.
    /// Mixed values are joined by [`super::flow`].
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Neutral, class) | (class, Self::Neutral) => class,
            (Self::Raw(a), Self::Raw(b)) if a == b => self,
            (Self::Raw(_) | Self::Fixed | Self::Mixed(_), Self::Raw(_) | Self::Fixed | Self::Mixed(_)) => Self::Fixed,
        }
    }

    pub(super) fn raw(self) -> Option<Shape> {
        match self {
            Self::Raw(shape) => Some(shape),
            Self::Neutral | Self::Fixed | Self::Mixed(_) => None,
        }
    }
}

/// How an instruction treats its operands' NaNs.
pub(super) enum Effect {
    /// It cannot see them when they have this shape, and its result has this class.
    Blind(Shape, Class),
    /// It cannot see them at all: `drop`.
    Ignores,
    /// It returns the operand, or one of the operands, of this shape bit for bit.
    Passes(Shape),
    /// Like `Passes`, for any shape, and with a condition on top: `select`.
    Selects,
    /// It makes a value of the second shape of operands of the first, bit for bit.
    Reshapes(Shape, Shape),
    /// It puts a scalar of the second shape into a vector of the first.
    Inserts(Shape, Shape),
    /// It writes or reads this local.
    Sets(u32),
    /// As `Sets`, and leaves the value.
    Tees(u32),
    /// It reads this local.
    Gets(u32),
    /// It makes a value of this class from nothing that matters.
    Makes(Class),
    /// It sees its operands' bits; its results are fixed.
    Sees,
}

/// The shape of what an arithmetic instruction returns.
pub(super) fn arithmetic(op: &O<'_>) -> Option<Shape> {
    match op {
        O::F32Add
        | O::F32Sub
        | O::F32Mul
        | O::F32Div
        | O::F32Sqrt
        | O::F32Min
        | O::F32Max
        | O::F32Ceil
        | O::F32Floor
        | O::F32Trunc
        | O::F32Nearest
        | O::F32DemoteF64 => Some(Shape::F32),
        O::F64Add
        | O::F64Sub
        | O::F64Mul
        | O::F64Div
        | O::F64Sqrt
        | O::F64Min
        | O::F64Max
        | O::F64Ceil
        | O::F64Floor
        | O::F64Trunc
        | O::F64Nearest
        | O::F64PromoteF32 => Some(Shape::F64),
        O::F32x4Add
        | O::F32x4Sub
        | O::F32x4Mul
        | O::F32x4Div
        | O::F32x4Sqrt
        | O::F32x4Min
        | O::F32x4Max
        | O::F32x4Ceil
        | O::F32x4Floor
        | O::F32x4Trunc
        | O::F32x4Nearest
        | O::F32x4DemoteF64x2Zero => Some(Shape::F32x4),
        O::F64x2Add
        | O::F64x2Sub
        | O::F64x2Mul
        | O::F64x2Div
        | O::F64x2Sqrt
        | O::F64x2Min
        | O::F64x2Max
        | O::F64x2Ceil
        | O::F64x2Floor
        | O::F64x2Trunc
        | O::F64x2Nearest
        | O::F64x2PromoteLowF32x4 => Some(Shape::F64x2),
        _ => None,
    }
}

/// How an instruction treats NaNs.
pub(super) fn effect(op: &O<'_>) -> Effect {
    if let Some(result) = arithmetic(op) {
        let operands = match op {
            O::F32DemoteF64 => Shape::F64,
            O::F64PromoteF32 => Shape::F32,
            O::F32x4DemoteF64x2Zero => Shape::F64x2,
            O::F64x2PromoteLowF32x4 => Shape::F32x4,
            _ => result,
        };
        return Effect::Blind(operands, Class::Raw(result));
    }
    match op {
        O::LocalGet { local_index } => Effect::Gets(*local_index),
        O::LocalSet { local_index } => Effect::Sets(*local_index),
        O::LocalTee { local_index } => Effect::Tees(*local_index),
        O::Drop => Effect::Ignores,
        O::Select | O::TypedSelect { .. } => Effect::Selects,
        O::F32Abs => Effect::Passes(Shape::F32),
        O::F64Abs => Effect::Passes(Shape::F64),
        O::F32x4Abs | O::F32x4PMin | O::F32x4PMax => Effect::Passes(Shape::F32x4),
        O::F64x2Abs | O::F64x2PMin | O::F64x2PMax => Effect::Passes(Shape::F64x2),
        O::F32x4Splat => Effect::Reshapes(Shape::F32, Shape::F32x4),
        O::F64x2Splat => Effect::Reshapes(Shape::F64, Shape::F64x2),
        O::F32x4ExtractLane { .. } => Effect::Reshapes(Shape::F32x4, Shape::F32),
        O::F64x2ExtractLane { .. } => Effect::Reshapes(Shape::F64x2, Shape::F64),
        O::F32x4ReplaceLane { .. } => Effect::Inserts(Shape::F32x4, Shape::F32),
        O::F64x2ReplaceLane { .. } => Effect::Inserts(Shape::F64x2, Shape::F64),
        _ => constant(op).or_else(|| comparison(op)).or_else(|| conversion(op)).unwrap_or(Effect::Sees),
    }
}

fn constant(op: &O<'_>) -> Option<Effect> {
    let neutral = match op {
        O::F32Const { value } => !f32::from_bits(value.bits()).is_nan() || value.bits() == CANONICAL_F32,
        O::F64Const { value } => !f64::from_bits(value.bits()).is_nan() || value.bits() == CANONICAL_F64,
        O::V128Const { value } => value.bytes().iter().all(|byte| *byte == 0),
        _ => return None,
    };
    Some(Effect::Makes(if neutral { Class::Neutral } else { Class::Fixed }))
}

fn comparison(op: &O<'_>) -> Option<Effect> {
    let shape = match op {
        O::F32Eq | O::F32Ne | O::F32Lt | O::F32Gt | O::F32Le | O::F32Ge => Shape::F32,
        O::F64Eq | O::F64Ne | O::F64Lt | O::F64Gt | O::F64Le | O::F64Ge => Shape::F64,
        O::F32x4Eq | O::F32x4Ne | O::F32x4Lt | O::F32x4Gt | O::F32x4Le | O::F32x4Ge => Shape::F32x4,
        O::F64x2Eq | O::F64x2Ne | O::F64x2Lt | O::F64x2Gt | O::F64x2Le | O::F64x2Ge => Shape::F64x2,
        _ => return None,
    };
    Some(Effect::Blind(shape, Class::Fixed))
}

fn conversion(op: &O<'_>) -> Option<Effect> {
    Some(match op {
        O::I32TruncF32S
        | O::I32TruncF32U
        | O::I64TruncF32S
        | O::I64TruncF32U
        | O::I32TruncSatF32S
        | O::I32TruncSatF32U
        | O::I64TruncSatF32S
        | O::I64TruncSatF32U => Effect::Blind(Shape::F32, Class::Fixed),
        O::I32TruncF64S
        | O::I32TruncF64U
        | O::I64TruncF64S
        | O::I64TruncF64U
        | O::I32TruncSatF64S
        | O::I32TruncSatF64U
        | O::I64TruncSatF64S
        | O::I64TruncSatF64U => Effect::Blind(Shape::F64, Class::Fixed),
        O::I32x4TruncSatF32x4S | O::I32x4TruncSatF32x4U => Effect::Blind(Shape::F32x4, Class::Fixed),
        O::I32x4TruncSatF64x2SZero | O::I32x4TruncSatF64x2UZero => Effect::Blind(Shape::F64x2, Class::Fixed),
        O::F32ConvertI32S
        | O::F32ConvertI32U
        | O::F32ConvertI64S
        | O::F32ConvertI64U
        | O::F64ConvertI32S
        | O::F64ConvertI32U
        | O::F64ConvertI64S
        | O::F64ConvertI64U => Effect::Makes(Class::Neutral),
        _ => return None,
    })
}

const CANONICAL_F32: u32 = 0x7fc0_0000;
const CANONICAL_F64: u64 = 0x7ff8_0000_0000_0000;
const CANONICAL_F32X4: i128 = 0x7fc0_0000_7fc0_0000_7fc0_0000_7fc0_0000;
const CANONICAL_F64X2: i128 = 0x7ff8_0000_0000_0000_7ff8_0000_0000_0000;

impl Shape {
    /// Whether it has several lanes.
    pub(super) fn is_vector(self) -> bool {
        matches!(self, Self::F32x4 | Self::F64x2)
    }

    /// The type of the local that [`Shape::canonicalise`] needs.
    pub(super) fn temporary_type(self) -> wasmparser::ValType {
        wasmparser::ValType::V128
    }

    /// Replaces NaNs in the value on top of the stack by the canonical one. `temporary` is a local of its own type.
    pub(super) fn canonicalise(self, out: &mut Vec<u8>, temporary: u32) {
        let (nan, equal) = match self {
            Self::F32 | Self::F32x4 => (I::V128Const(CANONICAL_F32X4), I::F32x4Eq),
            Self::F64 | Self::F64x2 => (I::V128Const(CANONICAL_F64X2), I::F64x2Eq),
        };
        // Scalars too are compared as vectors: choosing by a mask costs half of choosing by a flag.
        let (widen, narrow) = match self {
            Self::F32 => (Some(I::F32x4Splat), Some(I::F32x4ExtractLane(0))),
            Self::F64 => (Some(I::F64x2Splat), Some(I::F64x2ExtractLane(0))),
            Self::F32x4 | Self::F64x2 => (None, None),
        };
        super::gas::encode(out, widen.as_slice());
        // A NaN is the one value that does not equal itself.
        let choose = [I::LocalTee(temporary), nan, I::LocalGet(temporary), I::LocalGet(temporary), equal, I::V128Bitselect];
        super::gas::encode(out, &choose);
        super::gas::encode(out, narrow.as_slice());
    }
}
