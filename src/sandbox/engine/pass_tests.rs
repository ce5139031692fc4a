//! Random programs through the pass: NaNs against Cranelift's own canonicalization, which replaces every arithmetic result at
//! once; gas against itself on other optimisation levels; and damaged modules against panics.

use super::{fuzz::module, tests::deep, *};
use crate::sandbox::instrument;
use wasmtime::{Instance, OptLevel};

/// What a module leaves behind: its memory and its globals, or the trap that it ended in.
#[derive(PartialEq, Eq, Debug)]
struct Effect {
    end: Option<wasmtime::Trap>,
    memory: Digest,
    globals: Vec<String>,
    gas: Option<i64>,
}

fn effect(config: &Config, wasm: &[u8]) -> Effect {
    effect_within(config, wasm, 1 << 40)
}

fn effect_within(config: &Config, wasm: &[u8], budget: i64) -> Effect {
    let engine = Engine::new(config).unwrap();
    let module = wasmtime::Module::new(&engine, wasm).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    if let Some(gas) = instance.get_global(&mut store, GAS_EXPORT) {
        gas.set(&mut store, Val::I64(budget)).unwrap();
    }
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
    let end = start.call(&mut store, ()).err().map(|error| *error.downcast_ref::<wasmtime::Trap>().unwrap());
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    let memory = Digest::of(memory.data(&store));
    let mut globals = Vec::new();
    for index in 0..5 {
        let value = instance.get_global(&mut store, &format!("g{index}")).unwrap().get(&mut store);
        globals.push(match value {
            Val::F32(bits) => format!("{bits:08x}"),
            Val::F64(bits) => format!("{bits:016x}"),
            other => format!("{other:?}"),
        });
    }
    let gas = instance.get_global(&mut store, GAS_EXPORT).map(|gas| gas.get(&mut store).unwrap_i64());
    Effect { end, memory, globals, gas }
}

fn compare(seeds: std::ops::Range<u64>) -> (u32, u32) {
    let mut canonical = configuration(OptLevel::Speed);
    canonical.cranelift_nan_canonicalization(true);
    let (mut visible, mut trapped) = (0, 0);
    for seed in seeds {
        let original = module(seed);
        if let Err(error) = wasmparser::validate(&original) {
            panic!("seed {seed}: {error}\n");
        }
        let ours = instrument(&original).unwrap();
        if let Err(error) = wasmparser::validate(&ours) {
            panic!("seed {seed}: instrumented: {error}");
        }
        let expected = effect(&canonical, &original);
        let found = effect(&configuration(OptLevel::Speed), &ours);
        let unoptimised = effect(&configuration(OptLevel::None), &ours);
        assert_eq!(found, unoptimised, "seed {seed}");
        let found = Effect { gas: None, ..found };
        assert_eq!(found, expected, "seed {seed}");
        trapped += u32::from(expected.end.is_some());
        visible += u32::from(effect(&configuration(OptLevel::Speed), &original) != expected);
    }
    (visible, trapped)
}

#[test]
fn lazy_and_eager_canonicalization_agree() {
    let (visible, trapped) = deep(|| compare(0..60));
    println!("NaN bits are visible without the pass in {visible} of 60 programs; {trapped} trap");
    // Otherwise the programs would not test anything.
    assert!(visible > 15 && trapped < 10);
}

/// As many seeds as `SEEDS` says, from `FIRST_SEED` on.
#[test]
#[ignore = "long; run with --ignored after a change of the pass"]
fn lazy_and_eager_canonicalization_agree_for_many_seeds() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let first = number("FIRST_SEED", 1_000);
    let result = deep(move || compare(first..first + number("SEEDS", 5_000)));
    println!("visible without the pass, trapped: {result:?}");
}

#[test]
fn gas_cuts_off_at_the_same_point_on_every_level() {
    deep(|| {
        let (fast, plain) = (configuration(OptLevel::Speed), configuration(OptLevel::None));
        for seed in 0..12 {
            let ours = instrument(&module(seed)).unwrap();
            let whole = effect(&fast, &ours);
            let needed = (1 << 40) - whole.gas.unwrap();
            let enough = effect_within(&fast, &ours, needed);
            assert_eq!(enough, Effect { gas: Some(0), ..whole }, "seed {seed}");
            for budget in [1, needed / 3, needed / 2, needed - 1] {
                let cut = effect_within(&fast, &ours, budget);
                assert_eq!(cut.end, Some(wasmtime::Trap::UnreachableCodeReached), "seed {seed}");
                assert!(cut.gas.unwrap() < 0);
                assert_eq!(cut, effect_within(&plain, &ours, budget), "seed {seed}");
            }
        }
    });
}

#[test]
fn damaged_programs_do_no_damage() {
    let mut random = super::random::Random::new(5);
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..20 {
        let original = module(seed);
        for _ in 0..50 {
            let mut damaged = original.clone();
            for _ in 0..1 + random.below(3) {
                let position = random.below(damaged.len());
                damaged[position] = random.next() as u8;
            }
            match instrument(&damaged) {
                Ok(instrumented) => {
                    wasmparser::validate(&instrumented).unwrap();
                    taken += 1;
                }
                Err(rejection) => {
                    assert!(!rejection.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
}
