//! Measurements, run by hand: `cargo test --lib measure -- --ignored --nocapture`.

use super::{tests::deep, *};
use crate::sandbox::instrument;
use std::{sync::Arc, time::Instant};
use wasmtime::{Instance, OptLevel, TypedFunc};

/// Runs the module that `MODULE` names with `ARGS`, and says how long each step took.
#[test]
#[ignore = "needs MODULE, a file"]
fn one_module() {
    let Ok(path) = std::env::var("MODULE") else { return };
    let wasm = std::fs::read(&path).unwrap();
    let args = std::env::var("ARGS").unwrap_or_default();
    let stdin = std::env::var("STDIN").unwrap_or_default();
    deep(move || {
        let timed = |what: &str, began: Instant| println!("{what:12} {:?}", began.elapsed());
        let began = Instant::now();
        crate::sandbox::admit(&wasm).unwrap();
        timed("admit", began);
        let began = Instant::now();
        let module = instrument(&wasm).unwrap();
        timed("instrument", began);
        println!("{} -> {} bytes", wasm.len(), module.len());
        let machine = Machine::new().unwrap();
        let began = Instant::now();
        let native = machine.compile(&module).unwrap();
        timed("compile", began);
        println!("{} bytes of native code", native.len());
        let began = Instant::now();
        let program = machine.load(&native).unwrap();
        timed("load", began);
        let limits = UnitLimits::default();
        let given = Given {
            args: std::iter::once("unit").chain(args.split_whitespace()).map(|arg| arg.as_bytes().to_vec()).collect(),
            stdin: stdin.as_bytes().into(),
            files: Vec::new(),
            seed: [0; 32],
            limits,
        };
        let began = Instant::now();
        let finished = machine.run(&program, given);
        timed("run", began);
        println!("{:?}, gas {}", finished.end, finished.gas);
        println!("{}\n-- log --\n{}", String::from_utf8_lossy(&finished.output), String::from_utf8_lossy(&finished.log));
    });
}

/// One engine with the kernels of a module.
struct Kernels {
    store: Store<()>,
    instance: Instance,
    run: TypedFunc<(u32, u32), u64>,
}

impl Kernels {
    fn new(config: &Config, wasm: &[u8]) -> Self {
        let engine = Engine::new(config).unwrap();
        let module = wasmtime::Module::new(&engine, wasm).unwrap();
        let mut store = Store::new(&engine, ());
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let instance: Instance = linker.instantiate(&mut store, &module).unwrap();
        if let Some(gas) = instance.get_global(&mut store, GAS_EXPORT) {
            gas.set(&mut store, Val::I64(i64::MAX)).unwrap();
        }
        let run = instance.get_typed_func(&mut store, "run").unwrap();
        Self { store, instance, run }
    }

    /// The gas of the last run, when this is an instrumented module.
    fn gas(&mut self) -> Option<i64> {
        let gas = self.instance.get_global(&mut self.store, GAS_EXPORT)?;
        let left = gas.get(&mut self.store).unwrap_i64();
        gas.set(&mut self.store, Val::I64(i64::MAX)).unwrap();
        Some(i64::MAX - left)
    }

    fn time(&mut self, kernel: u32, size: u32) -> (f64, u64) {
        let began = Instant::now();
        let result = self.run.call(&mut self.store, (kernel, size)).unwrap();
        (began.elapsed().as_secs_f64(), result)
    }
}

/// The kernels of the module that `KERNELS` names, which exports `run(kernel, size) -> u64`: plain, with our pass, and with
/// Cranelift's canonicalization; the best of several interleaved runs.
#[test]
#[ignore = "needs KERNELS, a file"]
fn overhead_of_the_pass() {
    let Ok(path) = std::env::var("KERNELS") else { return };
    let wasm = std::fs::read(&path).unwrap();
    let sizes = [
        (60_000, "primes"),
        (60_000, "nbody"),
        (200, "mandelbrot"),
        (180, "matmul"),
        (3_000_000, "sieve"),
        (29, "fib"),
        (400_000, "sort"),
        (20_000, "dot"),
    ];
    deep(move || {
        let plain = configuration(OptLevel::Speed);
        let mut eager = configuration(OptLevel::Speed);
        eager.cranelift_nan_canonicalization(true);
        let passed = instrument(&wasm).unwrap();
        let mut all = [Kernels::new(&plain, &wasm), Kernels::new(&plain, &passed), Kernels::new(&eager, &wasm)];
        println!("{:12} {:>10} {:>8} {:>8} {:>8}", "kernel", "plain ms", "pass", "eager", "gas/ns");
        let mut means = [0.0; 3];
        for (kernel, (size, name)) in (0..).zip(sizes) {
            let mut best = [f64::MAX; 3];
            for _ in 0..9 {
                let results: Vec<u64> = all
                    .iter_mut()
                    .zip(&mut best)
                    .map(|(kernels, best)| {
                        let (seconds, result) = kernels.time(kernel, size);
                        *best = best.min(seconds);
                        result
                    })
                    .collect();
                assert!(results.iter().all(|result| *result == results[0]), "{name}: {results:?}");
            }
            all[1].gas();
            let (seconds, _) = all[1].time(kernel, size);
            let rate = all[1].gas().unwrap() as f64 / seconds * 1e-9;
            println!("{name:12} {:10.2} {:8.3} {:8.3} {rate:8.2}", best[0] * 1e3, best[1] / best[0], best[2] / best[0]);
            for (mean, time) in means.iter_mut().zip(best) {
                *mean += (time / best[0]).ln() / sizes.len() as f64;
            }
        }
        println!("{:12} {:10} {:8.3} {:8.3}", "geomean", "", means[1].exp(), means[2].exp());
    });
}

/// Processor time of this thread, which other programs do not lengthen.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1e-9
}

/// A stepped module by its steps, with the chain, and by its `_start`, which does the same without: best of several interleaved runs.
#[test]
#[ignore = "a measurement"]
fn cost_of_the_chain() {
    let wasm = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/bin/life.wasm")).unwrap();
    deep(move || {
        let machine = Machine::new().unwrap();
        let module = instrument(&wasm).unwrap();
        let stepped = machine.load(&machine.compile(&module).unwrap()).unwrap();
        let mut plain = machine.load(&machine.compile(&module).unwrap()).unwrap();
        plain.steps = None;
        for args in ["1 100000", "--side 64 1 1000000", "--side 1024 1 5000", "--side 4096 1 400"] {
            let given = || Given {
                args: std::iter::once("unit").chain(args.split_whitespace()).map(|arg| arg.as_bytes().to_vec()).collect(),
                stdin: Arc::from([]),
                files: Vec::new(),
                seed: [0; 32],
                limits: UnitLimits::default(),
            };
            let mut best = [f64::MAX; 2];
            let mut finished = None;
            for _ in 0..5 {
                for (best, program) in best.iter_mut().zip([&plain, &stepped]) {
                    let began = processor_seconds();
                    let ended = machine.run(program, given());
                    *best = best.min(processor_seconds() - began);
                    finished = Some(ended);
                }
            }
            let finished = finished.unwrap();
            let part = Part { until: Some(finished.gas / 2), keep_state: true, ..Part::default() };
            let Came::Stopped(snapshot) = machine.run_part(&stepped, given(), &part, &mut Unwatched) else { panic!("it stops half-way") };
            println!(
                "life {args:24} plain {:7.1} ms, with chain {:+.2} %; {} links of {} gas of {}; state {} KiB",
                best[0] * 1e3,
                (best[1] / best[0] - 1.0) * 1e2,
                finished.links.as_slice().len(),
                finished.links.interval(),
                finished.gas,
                snapshot.state.len() >> 10,
            );
        }
    });
}
