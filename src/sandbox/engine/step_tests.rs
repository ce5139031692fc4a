//! Stepped units: the same whole or in parts, on every optimisation level, and states that are none.

use super::{
    tests::{deep, given},
    *,
};
use crate::{
    protocol::chain::{FINEST_INTERVAL, GAS_PER_STATE_BYTE},
    sandbox::{Rejection, admit, instrument},
};

/// A stepped module: each step spins for a while, draws a random number of an odd length, reads a byte of standard input and writes it,
/// looks at the clock, appends to a file through a descriptor that stays open, and mixes all of it into globals of every type.
/// Its result writes all of that. `steps` is how many, `spin` the turns of each, `pages` what memory grows by.
fn module(steps: u32, spin: u32, pages: u32) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 2)
        (data (i32.const 64) "some/scratch")
        (global $left (mut i32) (i32.const 7))
        (global $fixed i32 (i32.const {steps}))
        (global $mix (export "mix") (mut i64) (i64.const 1))
        (global $half (mut f32) (f32.const 0.5))
        (global $float (mut f64) (f64.const 1.5))
        (global $vector (mut v128) (v128.const i64x2 3 4))
        (global $file (mut i32) (i32.const 0))
        (func $write (param $fd i32) (param $at i32) (param $length i32)
          (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $length))
          (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func $start (global.set $left (i32.const 8)))
        (start $start)
        (func $init (export "manyhands_init")
          (global.set $left (i32.sub (global.get $fixed) (i32.sub (i32.const 8) (global.get $left))))
          (drop (call $open (i32.const 3) (i32.const 0) (i32.const 69) (i32.const 7) (i32.const 1)
            (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16)))
          (global.set $file (i32.load (i32.const 16)))
          ;; It lives on because it is open.
          (drop (call $unlink (i32.const 3) (i32.const 69) (i32.const 7)))
          (drop (memory.grow (i32.const {pages})))
          (i32.store (i32.const 100000) (i32.const 77)))
        (func $step (export "manyhands_step") (result i32) (local $i i32)
          (if (i32.eqz (global.get $left)) (then (return (i32.const 0))))
          (loop $spin
            (global.set $mix (i64.add (i64.mul (global.get $mix) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $spin (i32.lt_u (local.get $i) (i32.const {spin}))))
          (drop (call $random (i32.const 200) (i32.const 5)))
          (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 208)))
          (i32.store (i32.const 0) (i32.const 216)) (i32.store (i32.const 4) (i32.const 1))
          (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $write (i32.const 1) (i32.const 216) (i32.load (i32.const 8)))
          (call $write (i32.const 2) (i32.const 216) (i32.const 1))
          (call $write (global.get $file) (i32.const 200) (i32.const 13))
          (global.set $mix (i64.xor (global.get $mix) (i64.xor (i64.load (i32.const 200)) (i64.load (i32.const 208)))))
          (global.set $half (f32.add (global.get $half) (f32.const 1)))
          (global.set $float (f64.div (global.get $float) (f64.const 1.0000001)))
          (global.set $vector (i64x2.add (global.get $vector) (i64x2.splat (global.get $mix))))
          ;; Pages that become zero again, and one far away.
          (i64.store (i32.const 70000) (i64.and (global.get $mix) (i64.const 1)))
          (i64.store (i32.const 130000) (i64.add (i64.load (i32.const 130000)) (i64.const 1)))
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))
          (i32.ne (global.get $left) (i32.const 0)))
        (func $result (export "manyhands_result")
          (i64.store (i32.const 300) (global.get $mix)) (f32.store (i32.const 308) (global.get $half))
          (f64.store (i32.const 312) (global.get $float)) (v128.store (i32.const 320) (global.get $vector))
          (i64.store (i32.const 336) (i64.load (i32.const 130000))) (i32.store (i32.const 344) (i32.load (i32.const 100000)))
          (i32.store (i32.const 348) (memory.size))
          (call $write (i32.const 1) (i32.const 300) (i32.const 52))
          (i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 500))
          (drop (call $fd_pread (global.get $file) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 8)))
          (call $write (i32.const 1) (i32.const 1000) (i32.load (i32.const 8)))
          (drop (call $random (i32.const 200) (i32.const 9))) (call $write (i32.const 1) (i32.const 200) (i32.const 9)))
        (func (export "_start") (call $init) (loop (br_if 0 (call $step))) (call $result)))"#
    )
}

fn long() -> Given {
    let mut given = given("abcdefghijklmnopqrstuvwxyz", &["unit"]);
    given.limits.gas = 1 << 40;
    given
}

fn machine(level: OptLevel, wat: &str) -> (Machine, Program) {
    let machine = Machine::with(&configuration(level)).unwrap();
    let native = machine.compile(&instrument(&wat::parse_str(wat).unwrap()).unwrap()).unwrap();
    let program = machine.load(&native).unwrap();
    (machine, program)
}

fn same(one: &Finished, other: &Finished) {
    assert_eq!((one.end, one.gas, &one.output, &one.log), (other.end, other.gas, &other.output, &other.log));
    assert_eq!(one.links, other.links);
}

fn ended(came: Came) -> Finished {
    match came {
        Came::Ended(finished) => finished,
        Came::Stopped(_) => panic!("it ended"),
    }
}

fn stopped(came: Came) -> Snapshot {
    match came {
        Came::Ended(finished) => panic!("it stopped: {:?}", finished.end),
        Came::Stopped(snapshot) => snapshot,
    }
}

const TURNS: u32 = 2_000_000;

#[test]
fn a_stepped_unit_is_the_same_in_parts_and_on_every_level() {
    let wat = module(20, TURNS, 3);
    deep(|| {
        let (fast, program) = machine(OptLevel::Speed, &wat);
        let whole = fast.run(&program, long());
        assert_eq!(whole.end, Ok(Exit::Code(0)));
        assert!(whole.output.starts_with(b"abcdefghijklmnopqrst"));
        let links = whole.links.as_slice();
        assert!(links.len() > 3 && whole.links.interval() < whole.gas / 4, "{} links, {} gas", links.len(), whole.gas);
        let Outcome::Value(value) = whole.outcome() else { panic!("a value") };
        assert!(whole.links.belong_to(&value));
        // Another engine, with other native code, goes on from each of the states.
        let (slow, slow_program) = machine(OptLevel::None, &wat);
        same(&slow.run(&slow_program, long()), &whole);
        for (number, link) in links.iter().enumerate() {
            let part = Part { until: Some(link.gas), keep_state: true, ..Part::default() };
            let snapshot = stopped(fast.run_part(&program, long(), &part, &mut Unwatched));
            assert_eq!((snapshot.at, Digest::of(&snapshot.state)), (*link, link.state));
            let part = Part { from: Some((snapshot.state.clone(), snapshot.links)), ..Part::default() };
            same(&ended(slow.run_part(&slow_program, long(), &part, &mut Unwatched)), &whole);
            // Without the chain so far, one segment shows the next link.
            let Some(next) = links.get(number + 1) else { continue };
            let until = (number as u64 + 2) * whole.links.interval();
            let part = Part { from: Some((snapshot.state, Links::default())), until: Some(until), keep_state: false };
            let end = stopped(slow.run_part(&slow_program, long(), &part, &mut Unwatched));
            assert_eq!((end.at, end.state.len()), (*next, 0));
        }
    });
}

#[test]
fn hopping_from_machine_to_machine_after_each_step_changes_nothing() {
    let wat = module(6, 1000, 0);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let whole = machine.run(&program, long());
        assert_eq!((whole.end, whole.links.head()), (Ok(Exit::Code(0)), None), "short units have no chain");
        let mut part = Part { until: Some(0), keep_state: true, ..Part::default() };
        let mut hops = 0;
        let end = loop {
            match machine.run_part(&program, long(), &part, &mut Unwatched) {
                Came::Ended(finished) => break finished,
                Came::Stopped(snapshot) => {
                    hops += 1;
                    part = Part { until: Some(snapshot.at.gas + 1), from: Some((snapshot.state, snapshot.links)), keep_state: true };
                }
            }
        };
        assert_eq!(hops, 7, "before the first step and after each, the last one included");
        same(&end, &whole);
    });
}

#[test]
fn however_a_stepped_unit_ends_its_value_is_deterministic() {
    let wat = module(20, TURNS, 0);
    let with = |bad: &str, steps_before: u32| {
        let trap = format!("(if (i32.eq (global.get $left) (i32.const {})) (then {bad}))\n (loop $spin", 20 - steps_before);
        wat.replacen("(loop $spin", &trap, 1)
    };
    let spin = with("(loop (br 0))", 5);
    let trap = with("unreachable", 5);
    let leak = with("(drop (memory.grow (i32.const 65535))) (i32.store (i32.const -4) (i32.const 1))", 5);
    deep(|| {
        for (wat, exit) in [(&spin, Exit::OutOfGas), (&trap, Exit::Trap(Trap::Unreachable)), (&leak, Exit::Trap(Trap::MemoryOutOfBounds))] {
            let bounded = || {
                let mut given = long();
                given.limits.gas = 40 * FINEST_INTERVAL;
                given
            };
            let (fast, program) = machine(OptLevel::Speed, wat);
            let (slow, slow_program) = machine(OptLevel::None, wat);
            let whole = fast.run(&program, bounded());
            assert_eq!(whole.end, Ok(exit));
            assert!(whole.links.head().is_some());
            same(&slow.run(&slow_program, bounded()), &whole);
            let part = Part { until: Some(2 * FINEST_INTERVAL), keep_state: true, ..Part::default() };
            let snapshot = stopped(fast.run_part(&program, bounded(), &part, &mut Unwatched));
            let part = Part { from: Some((snapshot.state, snapshot.links)), ..Part::default() };
            same(&ended(slow.run_part(&slow_program, bounded(), &part, &mut Unwatched)), &whole);
        }
    });
}

#[test]
fn a_large_state_is_hashed_less_often() {
    let pages = 61;
    let state = u64::from(pages + 2) << 16;
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &module(12, 40 * TURNS, pages));
        let mut unit = long();
        unit.limits.memory_bytes = 64 << 20;
        let whole = machine.run(&program, unit);
        assert_eq!(whole.end, Ok(Exit::Code(0)));
        assert!(whole.links.as_slice().len() > 1);
        assert!(whole.links.interval() >= state * GAS_PER_STATE_BYTE && whole.links.interval() < state * GAS_PER_STATE_BYTE * 4);
    });
}

#[test]
fn what_is_no_state_of_the_unit_is_refused_and_nothing_panics() {
    let wat = module(6, 1000, 1);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let part = Part { until: Some(3000), keep_state: true, ..Part::default() };
        // A bent counter must not make it run for hours.
        let short = || given("abcdefgh", &["unit"]);
        let state = stopped(machine.run_part(&program, short(), &part, &mut Unwatched)).state;
        let go_on = |state: Vec<u8>| {
            let mut unit = short();
            unit.limits.gas = 200_000;
            let part = Part { from: Some((state, Links::default())), ..Part::default() };
            ended(machine.run_part(&program, unit, &part, &mut Unwatched)).end
        };
        assert_eq!(go_on(state.clone()), Ok(Exit::Code(0)));
        for length in (0..state.len()).step_by(61) {
            assert_eq!(go_on(state[..length].to_vec()), Err(AttemptFailure::Refused), "{length}");
        }
        let mut longer = state.clone();
        longer.push(0);
        assert_eq!(go_on(longer), Err(AttemptFailure::Refused));
        // The front is structure; bent, it is refused or some other unit's state, which ends somehow.
        for index in 0..600.min(state.len()) {
            for bit in [1, 0x80] {
                let mut bent = state.clone();
                bent[index] ^= bit;
                let _ = go_on(bent);
            }
        }
        // A state beyond the unit's limits.
        let mut small = short();
        small.limits.memory_bytes = 2 << 16;
        let stopped_state = state.clone();
        let part = Part { from: Some((state, Links::default())), ..Part::default() };
        assert_eq!(ended(machine.run_part(&program, small, &part, &mut Unwatched)).end, Err(AttemptFailure::Refused));
        // A module that never stands still has no parts but the whole, and no states.
        let plain = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
        let (machine, program) = super::step_tests::machine(OptLevel::Speed, plain);
        let part = Part { until: Some(5), ..Part::default() };
        assert_eq!(ended(machine.run_part(&program, long(), &part, &mut Unwatched)).end, Ok(Exit::Code(0)));
        let part = Part { from: Some((stopped_state, Links::default())), ..Part::default() };
        assert_eq!(ended(machine.run_part(&program, long(), &part, &mut Unwatched)).end, Err(AttemptFailure::Refused));
    });
}

#[test]
fn modules_whose_state_cannot_be_saved_are_refused_with_the_reason() {
    let refused = |wat: &str| admit(&wat::parse_str(wat).unwrap()).unwrap_err();
    let steps = r#"(func (export "manyhands_init")) (func (export "manyhands_result"))"#;
    let step = |body: &str, more: &str| {
        format!(
            r#"(module (memory (export "memory") 1) (func (export "_start")) {steps} {more}
               (func (export "manyhands_step") (result i32) {body} (i32.const 0)))"#
        )
    };
    assert!(admit(&wat::parse_str(step("", "")).unwrap()).unwrap().stepped);
    let table = "(table $t 2 funcref)";
    for body in [
        "(table.set $t (i32.const 0) (ref.null func))",
        "(drop (table.grow $t (ref.null func) (i32.const 0)))",
        "(table.fill $t (i32.const 0) (ref.null func) (i32.const 0))",
        "(table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 0))",
    ] {
        assert_eq!(refused(&step(body, table)), Rejection::UnsavedState { what: "changes a table" }, "{body}");
    }
    let init = step("(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 0))", &format!("{table} (elem $e func)"));
    assert_eq!(refused(&init), Rejection::UnsavedState { what: "changes a table" });
    for (body, more) in [("(elem.drop $e)", "(elem $e func)"), ("(data.drop $d)", "(data $d \"x\")")] {
        assert_eq!(refused(&step(body, more)), Rejection::UnsavedState { what: "drops a segment" });
    }
    let reference = step("", "(global (mut funcref) (ref.null func))");
    assert!(matches!(refused(&reference), Rejection::UnsavedState { .. }));
    let partial = r#"(module (memory (export "memory") 1) (func (export "_start")) (func (export "manyhands_init")))"#;
    assert_eq!(refused(partial), Rejection::IncompleteSteps { found: "manyhands_init", missing: "manyhands_step" });
    let wrong = step("", "").replace(r#""manyhands_init")"#, r#""manyhands_init") (param i32)"#);
    assert_eq!(refused(&wrong), Rejection::WrongStep { name: "manyhands_init" });
    let taken = step("", r#"(global (export "manyhands:global:0") i32 (i32.const 0))"#);
    assert_eq!(refused(&taken), Rejection::ReservedExport("manyhands:global:"));
    // All of that is fine in a module that runs in one go.
    let plain = r#"(module (memory (export "memory") 1) (table 1 funcref)
        (func (export "_start") (table.set (i32.const 0) (ref.null func))))"#;
    assert!(!admit(&wat::parse_str(plain).unwrap()).unwrap().stepped);
}

/// When this fails, chains of older versions mean something else: raise `PASS_VERSION` and the state's version, then set the figures anew.
#[test]
fn states_and_chains_are_what_they_were_in_this_version() {
    let wat = module(20, TURNS, 3);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let whole = machine.run(&program, long());
        let first = whole.links.as_slice()[0];
        assert_eq!(
            (first.gas, first.state.to_string().as_str()),
            (80_008_984, "c3473cc119889a270c486e8d7a5176844921e759e89999cd1bf04e184cd35747")
        );
        assert_eq!(whole.links.head().unwrap().to_string(), "7792f66a43b1fa038c5cecccb706c53df597bdfc3db6557f73224ae183815a56");
    });
}
