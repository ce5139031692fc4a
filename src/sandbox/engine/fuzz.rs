//! Random programs, to compare the pass with an independent implementation of the same meaning.
//!
//! A seed gives a valid module full of floats: arithmetic, moves, merges through locals, blocks, selects, calls and globals,
//! vectors, and NaNs with payloads from everywhere. Its effect is what it leaves in memory.

use super::random::Random;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    Instruction as I, MemArg, MemorySection, MemoryType, Module, TypeSection, ValType as T,
};

const TYPES: [T; 5] = [T::I32, T::I64, T::F32, T::F64, T::V128];
const FLOATS: [T; 3] = [T::F32, T::F64, T::V128];

struct Signature {
    params: Vec<T>,
    results: Vec<T>,
}

/// Makes one function.
struct Maker<'a> {
    random: &'a mut Random,
    code: Vec<I<'static>>,
    locals: Vec<T>,
    /// Functions that may be called, by index.
    callees: &'a [Signature],
    /// Results of the enclosing labels, innermost last.
    labels: Vec<Vec<T>>,
    budget: usize,
}

/// Global `n` has the type `TYPES[n]`.
fn global_of(value_type: T) -> u32 {
    u32::try_from(TYPES.iter().position(|found| *found == value_type).unwrap()).unwrap()
}

fn at(offset: u64) -> MemArg {
    MemArg { offset, align: 0, memory_index: 0 }
}

impl Maker<'_> {
    fn emit(&mut self, instruction: I<'static>) {
        self.code.push(instruction);
    }

    fn local(&mut self, value_type: T) -> u32 {
        let fitting: Vec<usize> = (0..self.locals.len()).filter(|index| self.locals[*index] == value_type).collect();
        u32::try_from(self.random.pick(&fitting)).unwrap()
    }

    fn address(&mut self) {
        let address = i32::try_from(self.random.below(4000)).unwrap();
        self.emit(I::I32Const(address));
    }

    fn constant(&mut self, value_type: T) {
        let (low, high) = (self.random.float_bits(), self.random.float_bits());
        let small = i32::try_from(self.random.below(100)).unwrap();
        self.emit(match value_type {
            T::I32 => I::I32Const(small),
            T::I64 => I::I64Const(low.cast_signed()),
            T::F32 => I::F32Const(f32::from_bits((low >> 32) as u32).into()),
            T::F64 => I::F64Const(f64::from_bits(low).into()),
            _ => I::V128Const((u128::from(low) | (u128::from(high) << 64)).cast_signed()),
        });
    }

    /// Emits code that leaves a value.
    fn value(&mut self, value_type: T) {
        if self.budget == 0 {
            let local = self.local(value_type);
            return self.emit(I::LocalGet(local));
        }
        self.budget -= 1;
        match self.random.below(16) {
            0 => self.constant(value_type),
            1..=3 => {
                let local = self.local(value_type);
                self.emit(I::LocalGet(local));
            }
            4 => self.emit(I::GlobalGet(global_of(value_type))),
            5 => self.load(value_type),
            6 => {
                self.value(value_type);
                self.value(value_type);
                self.value(T::I32);
                let select = self.random.pick(&[I::Select, I::TypedSelect(value_type)]);
                self.emit(if value_type == T::V128 { I::TypedSelect(value_type) } else { select });
            }
            7 => self.block(vec![value_type]),
            8 => self.choice(value_type),
            9 => self.call_for(value_type),
            10 => {
                self.value(value_type);
                let local = self.local(value_type);
                self.emit(I::LocalTee(local));
            }
            _ => self.operation(value_type),
        }
    }

    fn load(&mut self, value_type: T) {
        self.address();
        self.emit(match value_type {
            T::I32 => I::I32Load(at(0)),
            T::I64 => I::I64Load(at(0)),
            T::F32 => I::F32Load(at(0)),
            T::F64 => I::F64Load(at(0)),
            _ => I::V128Load(at(0)),
        });
    }

    fn store(&mut self, value_type: T) {
        self.address();
        self.value(value_type);
        self.emit(match value_type {
            T::I32 => I::I32Store(at(0)),
            T::I64 => I::I64Store(at(0)),
            T::F32 => I::F32Store(at(0)),
            T::F64 => I::F64Store(at(0)),
            _ => I::V128Store(at(0)),
        });
    }

    /// A block with branches out of it that carry values.
    fn block(&mut self, results: Vec<T>) {
        let Some(block_type) = self.block_type(&results) else {
            return self.values(&results);
        };
        self.emit(I::Block(block_type));
        self.labels.push(results.clone());
        for _ in 0..self.random.below(3) {
            self.statement();
        }
        self.values(&results);
        if self.random.below(2) == 0 {
            self.value(T::I32);
            self.emit(I::BrIf(0));
        }
        if self.random.below(4) == 0 {
            self.emit(I::Br(0));
            self.values(&results);
        }
        self.labels.pop();
        self.emit(I::End);
    }

    fn block_type(&mut self, results: &[T]) -> Option<BlockType> {
        match results {
            [] => Some(BlockType::Empty),
            [one] => Some(BlockType::Result(*one)),
            // Type 1 is () -> (f64, f32, v128).
            [T::F64, T::F32, T::V128] => Some(BlockType::FunctionType(1)),
            _ => None,
        }
    }

    fn values(&mut self, types: &[T]) {
        for value_type in types {
            self.value(*value_type);
        }
    }

    fn choice(&mut self, value_type: T) {
        self.value(T::I32);
        self.emit(I::If(BlockType::Result(value_type)));
        self.labels.push(vec![value_type]);
        self.value(value_type);
        self.emit(I::Else);
        self.value(value_type);
        self.labels.pop();
        self.emit(I::End);
    }

    /// Calls a function and keeps its last result of this type, or makes a value another way.
    fn call_for(&mut self, value_type: T) {
        let fitting: Vec<usize> =
            (0..self.callees.len()).filter(|index| self.callees[*index].results.last() == Some(&value_type)).collect();
        if fitting.is_empty() {
            return self.operation(value_type);
        }
        let index = self.random.pick(&fitting);
        for param in self.callees[index].params.clone() {
            self.value(param);
        }
        self.emit(I::Call(u32::try_from(index).unwrap()));
        let results = self.callees[index].results.clone();
        let kept = self.local(value_type);
        self.emit(I::LocalSet(kept));
        for result in results.iter().rev().skip(1) {
            let local = self.local(*result);
            let instruction = self.random.pick(&[I::LocalSet(local), I::Drop]);
            self.emit(instruction);
        }
        self.emit(I::LocalGet(kept));
    }

    fn operands(&mut self, types: &[T], instruction: I<'static>) {
        self.values(types);
        self.emit(instruction);
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn operation(&mut self, value_type: T) {
        use T::{F32, F64, I32, I64, V128};
        let unary = |operand: T, instruction: I<'static>| (vec![operand], instruction);
        let binary = |operand: T, instruction: I<'static>| (vec![operand; 2], instruction);
        let lane = u8::try_from(self.random.below(2)).unwrap();
        let table = match value_type {
            I32 => vec![
                binary(F32, I::F32Lt),
                binary(F64, I::F64Ge),
                binary(F64, I::F64Ne),
                unary(F32, I::I32ReinterpretF32),
                unary(F64, I::I32TruncSatF64S),
                unary(F32, I::I32TruncSatF32U),
                binary(I32, I::I32And),
                unary(V128, I::I32x4ExtractLane(lane)),
                unary(V128, I::I32x4Bitmask),
            ],
            I64 => vec![
                unary(F64, I::I64ReinterpretF64),
                unary(F32, I::I64TruncSatF32S),
                binary(I64, I::I64Add),
                unary(V128, I::I64x2ExtractLane(lane)),
                unary(I32, I::I64ExtendI32U),
            ],
            F32 => vec![
                binary(F32, I::F32Add),
                binary(F32, I::F32Sub),
                binary(F32, I::F32Mul),
                binary(F32, I::F32Div),
                binary(F32, I::F32Min),
                binary(F32, I::F32Max),
                binary(F32, I::F32Copysign),
                unary(F32, I::F32Neg),
                unary(F32, I::F32Abs),
                unary(F32, I::F32Sqrt),
                unary(F32, I::F32Nearest),
                unary(F64, I::F32DemoteF64),
                unary(I32, I::F32ReinterpretI32),
                unary(I64, I::F32ConvertI64S),
                unary(V128, I::F32x4ExtractLane(lane)),
            ],
            F64 => vec![
                binary(F64, I::F64Add),
                binary(F64, I::F64Sub),
                binary(F64, I::F64Mul),
                binary(F64, I::F64Div),
                binary(F64, I::F64Min),
                binary(F64, I::F64Max),
                binary(F64, I::F64Copysign),
                unary(F64, I::F64Neg),
                unary(F64, I::F64Abs),
                unary(F64, I::F64Sqrt),
                unary(F64, I::F64Floor),
                unary(F32, I::F64PromoteF32),
                unary(I64, I::F64ReinterpretI64),
                unary(I32, I::F64ConvertI32U),
                unary(V128, I::F64x2ExtractLane(lane)),
            ],
            _ => vec![
                binary(V128, I::F32x4Add),
                binary(V128, I::F32x4Mul),
                binary(V128, I::F32x4Div),
                binary(V128, I::F32x4Min),
                binary(V128, I::F32x4PMin),
                binary(V128, I::F64x2Sub),
                binary(V128, I::F64x2Div),
                binary(V128, I::F64x2Max),
                binary(V128, I::F64x2PMax),
                unary(V128, I::F64x2Sqrt),
                unary(V128, I::F32x4Abs),
                unary(V128, I::F64x2Abs),
                unary(V128, I::F32x4Neg),
                unary(V128, I::F64x2Neg),
                unary(V128, I::F64x2Ceil),
                unary(V128, I::F32x4DemoteF64x2Zero),
                unary(V128, I::F64x2PromoteLowF32x4),
                unary(V128, I::F32x4ConvertI32x4S),
                unary(V128, I::F64x2ConvertLowI32x4U),
                unary(V128, I::I32x4TruncSatF32x4S),
                unary(F32, I::F32x4Splat),
                unary(F64, I::F64x2Splat),
                binary(V128, I::F32x4Lt),
                binary(V128, I::V128Xor),
                (vec![V128; 3], I::V128Bitselect),
                (vec![V128, F32], I::F32x4ReplaceLane(lane)),
                (vec![V128, F64], I::F64x2ReplaceLane(lane)),
                binary(V128, I::I8x16Shuffle([0, 1, 2, 3, 20, 21, 22, 23, 8, 9, 10, 11, 28, 29, 30, 31])),
            ],
        };
        let (types, instruction) = self.random.pick(&table);
        self.operands(&types, instruction);
    }

    fn statement(&mut self) {
        let value_type = self.random.pick(&FLOATS);
        let any = self.random.pick(&TYPES);
        match self.random.below(12) {
            0..=3 => {
                self.value(value_type);
                let local = self.local(value_type);
                self.emit(I::LocalSet(local));
            }
            4 | 5 => self.store(any),
            6 => {
                self.value(any);
                self.emit(I::GlobalSet(global_of(any)));
            }
            7 => self.repeat(),
            8 => {
                self.value(T::I32);
                self.emit(I::If(BlockType::Empty));
                self.labels.push(Vec::new());
                self.statement_within();
                self.labels.pop();
                self.emit(I::End);
            }
            9 => self.branch(),
            10 => {
                self.block(vec![T::F64, T::F32, T::V128]);
                for result in [T::V128, T::F32, T::F64] {
                    let local = self.local(result);
                    self.emit(I::LocalSet(local));
                }
            }
            _ => {
                self.value(any);
                self.emit(I::Drop);
            }
        }
    }

    fn statement_within(&mut self) {
        if self.budget > 0 {
            self.budget -= 1;
            self.statement();
        }
    }

    /// A loop with a value that goes round, three turns by its own counter.
    fn repeat(&mut self) {
        if self.labels.len() > 2 || self.budget < 8 {
            return self.store(T::F64);
        }
        let carried = self.random.pick(&[T::F32, T::F64]);
        // Types 2 and 3 are (f32) -> f32 and (f64) -> f64. The counter is a local of its own for each depth of nesting.
        let counter = u32::try_from(self.labels.len()).unwrap() + FIRST_COUNTER;
        self.emit(I::I32Const(0));
        self.emit(I::LocalSet(counter));
        self.value(carried);
        self.emit(I::Loop(BlockType::FunctionType(if carried == T::F32 { 2 } else { 3 })));
        let local = self.local(carried);
        self.emit(I::LocalSet(local));
        // A branch to this label would skip the counter, so the body does not see it.
        let outer = std::mem::replace(&mut self.labels, vec![Vec::new(); 3]);
        self.statement_within();
        self.value(carried);
        self.labels = outer;
        for instruction in
            [I::LocalGet(counter), I::I32Const(1), I::I32Add, I::LocalTee(counter), I::I32Const(3), I::I32LtS, I::BrIf(0), I::End]
        {
            self.emit(instruction);
        }
        let local = self.local(carried);
        self.emit(I::LocalSet(local));
    }

    /// Leaves some label, sometimes through a table, with its values.
    fn branch(&mut self) {
        let depth = self.random.below(self.labels.len().max(1));
        let Some(results) = self.labels.iter().rev().nth(depth).cloned().filter(|_| !self.in_loop()) else {
            return self.store(T::V128);
        };
        self.emit(I::Block(BlockType::Empty));
        self.labels.push(Vec::new());
        self.value(T::I32);
        self.emit(I::BrIf(0));
        self.values(&results);
        let target = u32::try_from(depth).unwrap() + 1;
        if self.random.below(2) == 0 {
            self.emit(I::Br(target));
        } else {
            self.value(T::I32);
            self.emit(I::BrTable(vec![target, target].into(), target));
        }
        self.labels.pop();
        self.emit(I::End);
    }

    /// Inside a loop the labels are stand-ins that must not be branched to.
    fn in_loop(&self) -> bool {
        self.labels.len() >= 3 && self.labels[..3].iter().all(Vec::is_empty)
    }
}

/// Counters come after the parameters (at most 8) and two locals of each type.
const FIRST_COUNTER: u32 = 18;
const COUNTERS: u32 = 16;

fn signature(random: &mut Random) -> Signature {
    let params = (0..8).map(|_| random.pick(&TYPES)).collect();
    let results = (0..1 + random.below(3)).map(|_| random.pick(&FLOATS)).collect();
    Signature { params, results }
}

fn function(random: &mut Random, callees: &[Signature], own: &Signature, budget: usize) -> Function {
    let mut locals = own.params.clone();
    locals.resize(8, T::I32);
    let padding = 8 - own.params.len();
    let declared: Vec<T> = TYPES.into_iter().chain(TYPES).collect();
    locals.extend(&declared);
    let mut groups: Vec<(u32, T)> = vec![(u32::try_from(padding).unwrap(), T::I32)];
    groups.extend(declared.iter().map(|value_type| (1, *value_type)));
    groups.push((COUNTERS, T::I32));
    let mut maker = Maker { random, code: Vec::new(), locals, callees, labels: vec![own.results.clone()], budget };
    for _ in 0..if own.results.is_empty() { 24 } else { 8 } {
        maker.budget = budget;
        maker.statement();
    }
    for value_type in FLOATS.into_iter().cycle().take(9) {
        maker.budget = 2;
        maker.store(value_type);
    }
    maker.budget = budget;
    maker.values(&own.results.clone());
    maker.emit(I::End);
    let mut function = Function::new(groups);
    for instruction in &maker.code {
        function.instruction(instruction);
    }
    function
}

/// The module of a seed.
pub(super) fn module(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut signatures: Vec<Signature> = (0..3).map(|_| signature(&mut random)).collect();
    signatures.push(Signature { params: Vec::new(), results: Vec::new() });
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([], [T::F64, T::F32, T::V128]);
    types.ty().function([T::F32], [T::F32]);
    types.ty().function([T::F64], [T::F64]);
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    for (index, own) in signatures.iter().enumerate() {
        types.ty().function(own.params.iter().copied(), own.results.iter().copied());
        functions.function(u32::try_from(index).unwrap() + 4);
        let budget = 10 + random.below(40);
        code.function(&function(&mut random, &signatures[..index], own, budget));
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    let zeros = [
        ConstExpr::i32_const(0),
        ConstExpr::i64_const(0),
        ConstExpr::f32_const(0.0.into()),
        ConstExpr::f64_const(0.0.into()),
        ConstExpr::v128_const(0),
    ];
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("_start", ExportKind::Func, 3);
    for (index, (value_type, zero)) in TYPES.into_iter().zip(&zeros).enumerate() {
        globals.global(GlobalType { val_type: value_type, mutable: true, shared: false }, zero);
        exports.export(&format!("g{index}"), ExportKind::Global, u32::try_from(index).unwrap());
    }
    let bytes: Vec<u8> = (0..512).flat_map(|_| random.float_bits().to_le_bytes()).collect();
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(0), bytes);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&globals).section(&exports).section(&code).section(&data);
    module.finish()
}
