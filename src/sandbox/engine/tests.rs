//! Units run in this process, without a slot: what they end in, on every optimisation level.

use super::*;
use crate::sandbox::instrument;
use std::{sync::Arc, time::Duration};

/// Limits that keep the tests fast.
fn limits() -> UnitLimits {
    UnitLimits { memory_bytes: 64 << 20, gas: 50_000_000, wall: Duration::from_secs(60), output_bytes: 1 << 16, log_bytes: 16 }
}

pub(super) fn given(stdin: &str, args: &[&str]) -> Given {
    Given {
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        stdin: stdin.as_bytes().into(),
        files: Vec::new(),
        seed: [7; 32],
        limits: limits(),
    }
}

/// Runs on a thread whose stack is large enough for any unit.
pub(super) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK).spawn_scoped(scope, work).unwrap();
        thread.join().unwrap()
    })
}

fn run_with(level: OptLevel, wat: &str, given: Given) -> Finished {
    let module = instrument(&wat::parse_str(wat).unwrap()).unwrap();
    deep(move || {
        let machine = Machine::with(&configuration(level)).unwrap();
        let native = machine.compile(&module).unwrap();
        let program = machine.load(&native).unwrap();
        machine.run(&program, given)
    })
}

/// Runs a unit on all optimisation levels, which must agree.
fn run_given(wat: &str, given: impl Fn() -> Given) -> Finished {
    let finished = run_with(OptLevel::Speed, wat, given());
    for level in [OptLevel::None, OptLevel::SpeedAndSize] {
        let other = run_with(level, wat, given());
        assert_eq!((other.end, other.gas, &other.output, &other.log), (finished.end, finished.gas, &finished.output, &finished.log));
    }
    finished
}

fn run(wat: &str) -> Finished {
    run_given(wat, || given("", &["unit"]))
}

/// A module whose `_start` is this body.
fn program(body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (memory (export "memory") 1 2000)
        (table 2 2 funcref)
        (func $write (param $fd i32) (param $at i32) (param $length i32)
          (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $length))
          (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start") {body}))"#
    )
}

#[test]
fn values_are_what_the_module_does() {
    let cases = [
        ("", Exit::Code(0)),
        ("(call $exit (i32.const 3))", Exit::Code(3)),
        ("unreachable", Exit::Trap(Trap::Unreachable)),
        ("(drop (i32.load (i32.const -4)))", Exit::Trap(Trap::MemoryOutOfBounds)),
        ("(drop (table.get (i32.const 5)))", Exit::Trap(Trap::TableOutOfBounds)),
        ("(call_indirect (i32.const 5))", Exit::Trap(Trap::TableOutOfBounds)),
        ("(call_indirect (i32.const 1))", Exit::Trap(Trap::BadIndirectCall)),
        ("(drop (i32.div_s (i32.const 1) (i32.load (i32.const 64))))", Exit::Trap(Trap::DivisionByZero)),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", Exit::Trap(Trap::IntegerOverflow)),
        ("(drop (i32.trunc_f64_s (f64.const 1e300)))", Exit::Trap(Trap::IntegerOverflow)),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", Exit::Trap(Trap::BadConversion)),
        ("(loop (br 0))", Exit::OutOfGas),
        ("(loop (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 16))) (br 0))", Exit::OutOfGas),
        ("(loop (call $write (i32.const 1) (i32.const 0) (i32.const 1000)) (br 0))", Exit::OutputLimit),
        (
            "(i64.store (i32.const 124) (i64.const 100000000000)) (drop (call $poll (i32.const 100) (i32.const 200) (i32.const 1) (i32.const 300)))",
            Exit::SleepLimit,
        ),
        (
            "(loop (i64.store (i32.const 124) (i64.const 1000000000)) (drop (call $poll (i32.const 100) (i32.const 200) (i32.const 1) (i32.const 300))) (br 0))",
            Exit::SleepLimit,
        ),
        ("(memory.fill (i32.const 0) (i32.const 0) (i32.const 65537))", Exit::Trap(Trap::MemoryOutOfBounds)),
    ];
    for (body, exit) in cases {
        let finished = run(&program(body));
        assert_eq!(finished.end, Ok(exit), "{body}");
        if exit == Exit::OutOfGas {
            assert_eq!(finished.gas, limits().gas);
        } else {
            assert!(finished.gas > 0 && finished.gas < limits().gas, "{body}: {}", finished.gas);
        }
    }
}

#[test]
fn a_budget_cannot_be_escaped() {
    let modules = [
        // Recursion through a direct call, through the table, through a tail call, and mutual.
        r#"(func $f (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1))) (func (export "_start") (return_call $main)) (func $main (return_call $main))"#,
        r#"(type $t (func)) (table 1 funcref) (elem (i32.const 0) $g) (func $g (return_call_indirect (type $t) (i32.const 0))) (func (export "_start") (call $g))"#,
        // A back edge by br_if, by br_table, out of nested blocks, and in code that follows an endless loop.
        r#"(func (export "_start") (loop $l (block (br_if $l (i32.const 1)))))"#,
        r#"(func (export "_start") (loop $l (block (br_table 0 $l $l (i32.const 7)))))"#,
        r#"(func (export "_start") (loop $l (br $l)) (unreachable) (loop (br 0)))"#,
        // A loop with parameters and results.
        r#"(func (export "_start") (drop (i32.const 1) (loop $l (param i32) (result i32) (br $l))))"#,
        // Bulk operations in a function without and with loops.
        r#"(func (export "_start") (loop (call $fill) (br 0))) (func $fill (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)))"#,
        r#"(func (export "_start") (loop (memory.copy (i32.const 0) (i32.const 1) (i32.const 60000)) (br 0)))"#,
        // Growing by nothing, for ever.
        r#"(func (export "_start") (loop (drop (memory.grow (i32.const 0))) (br 0)))"#,
        // The start section.
        r#"(func $s (loop (br 0))) (start $s) (func (export "_start"))"#,
    ];
    for module in modules {
        let finished = run(&format!("(module (memory (export \"memory\") 1) {module})"));
        assert_eq!((finished.end, finished.gas), (Ok(Exit::OutOfGas), limits().gas), "{module}");
    }
}

#[test]
fn gas_is_exact_when_a_unit_traps() {
    // 1000 turns, then a trap; the panic path writes the counter back, other traps leave what was written back last.
    let turns =
        "(local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))";
    let whole = run(&program(turns));
    let panicked = run(&program(&format!("{turns} unreachable")));
    assert_eq!(panicked.end, Ok(Exit::Trap(Trap::Unreachable)));
    assert_eq!(panicked.gas, whole.gas + 1);
}

#[test]
fn what_depends_on_the_machine_is_no_value() {
    let recursion = r#"(module (memory (export "memory") 1) (func $f (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1))) (func (export "_start") (drop (call $f (i64.const 1)))))"#;
    let unlimited = || {
        let mut given = given("", &[]);
        given.limits.gas = 1 << 50;
        given
    };
    assert_eq!(run_with(OptLevel::Speed, recursion, unlimited()).end, Err(AttemptFailure::StackOverflow));
    let hungry = r#"(module (memory (export "memory") 2000) (func (export "_start")))"#;
    assert_eq!(run(hungry).end, Err(AttemptFailure::Refused));
}

#[test]
fn memory_grows_to_the_limit_and_no_further() {
    // Grows page by page until it fails; the number of pages is the exit code.
    let bomb = r#"(module (memory (export "memory") 1) (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (call $exit (memory.size))))"#
        .replace("(memory (export", "(memory $m (export");
    let bomb = bomb.replace(
        r#"(memory $m (export "memory") 1) (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)"#,
    );
    assert_eq!(run(&bomb).end, Ok(Exit::Code(1024)));
    assert_eq!(run(&bomb.replace("\"memory\") 1)", "\"memory\") 1 20)")).end, Ok(Exit::Code(20)));
}

#[test]
fn output_is_kept_to_the_limit_and_the_log_to_its_own() {
    let flood = run(&program("(loop (call $write (i32.const 1) (i32.const 0) (i32.const 1000)) (br 0))"));
    assert_eq!(flood.output.len() as u64, limits().output_bytes);
    let talk = run(&program(
        "(loop (call $write (i32.const 2) (i32.const 0) (i32.const 10)) (br_if 0 (i32.const 0))) (call $write (i32.const 2) (i32.const 0) (i32.const 10))",
    ));
    assert_eq!((talk.end, talk.log.len()), (Ok(Exit::Code(0)), 16));
}

#[test]
fn a_unit_sees_its_input_its_arguments_and_its_seed() {
    let echo = program(
        "(i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 100))
         (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (call $write (i32.const 1) (i32.const 1000) (i32.load (i32.const 8)))
         (drop (call $args (i32.const 2000) (i32.const 2100))) (call $write (i32.const 1) (i32.const 2100) (i32.const 9))
         (drop (call $random (i32.const 3000) (i32.const 4))) (call $write (i32.const 1) (i32.const 3000) (i32.const 4))
         (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 3000))) (call $write (i32.const 1) (i32.const 3000) (i32.const 8))",
    );
    let first = run_given(&echo, || given("hello ", &["unit", "two"]));
    assert!(first.output.starts_with(b"hello unit\0two\0"));
    let again = run_given(&echo, || given("hello ", &["unit", "two"]));
    assert_eq!(first.output, again.output);
    let other = run_given(&echo, || Given { seed: [8; 32], ..given("hello ", &["unit", "two"]) });
    assert_ne!(first.output, other.output);
}

#[test]
fn the_named_engine_version_is_the_one_in_use() {
    let manifest = include_str!("../../../Cargo.toml");
    assert!(manifest.contains(&format!("wasmtime = {{ version = \"{WASMTIME_MAJOR}.")));
    assert!(validation_class().contains("wasmtime-48"));
}

#[test]
fn engines_of_one_program_understand_each_others_code() {
    let (one, two) = (Machine::new().unwrap(), Machine::new().unwrap());
    assert_eq!(one.compatibility(), two.compatibility());
    let other = Machine::with(&configuration(OptLevel::None)).unwrap();
    assert_ne!(one.compatibility(), other.compatibility());
}

#[test]
fn input_files_are_there_and_nothing_else_is() {
    let open = r#"(module
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (data (i32.const 16) "data/in.txt")
        (func (export "_start")
            (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 11) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))))"#;
    let with_file = || {
        let mut given = given("", &[]);
        given.files.push(wasi::InputFile { path: "data/in.txt".into(), bytes: Arc::from(&b"x"[..]) });
        given
    };
    assert_eq!(run_given(open, with_file).end, Ok(Exit::Code(0)));
    assert_eq!(run(open).end, Ok(Exit::Code(44)));
}

/// When this fails, results of older versions mean something else: raise `PASS_VERSION`, then set the figures anew.
#[test]
fn gas_is_what_it_was_in_this_version() {
    assert_eq!(crate::sandbox::PASS_VERSION, 2);
    let loops = "(local $i i32) (local $x f64) (loop (local.set $x (f64.div (f64.convert_i32_s (local.get $i)) (f64.const 3)))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 100))))";
    let figures = [
        ("", 2),
        (loops, 902),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 100))", 218),
        ("(memory.fill (i32.const 0) (i32.const 1) (i32.const 4096))", 278),
        ("(drop (memory.grow (i32.const 1)))", 1002),
        ("(drop (call $random (i32.const 0) (i32.const 100)))", 305),
    ];
    for (body, gas) in figures {
        assert_eq!(run(&program(body)).gas, gas, "{body}");
    }
}
