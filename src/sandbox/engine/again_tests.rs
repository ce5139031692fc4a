//! Programs that ask to be run again: the same whole or interrupted anywhere, on every optimisation level, and exits that only look so.

use super::{
    tests::{deep, given},
    *,
};
use crate::{
    protocol::chain::FINEST_INTERVAL,
    sandbox::{
        instrument,
        step::{AGAIN_GAS, EXIT_AGAIN, STATE_FILE_BYTES_MAX},
    },
};

/// A program that keeps a count of its runs and a mixture of all that it sees in its state file: the clock, a random number, a byte of
/// standard input, what memory holds at its beginning, and how long another file has grown. It writes one byte each time and leaves
/// descriptors open. `name` is its state file's.
fn program(name: &str, runs: u32, spin: u32) -> String {
    let length = name.len();
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 2)
        (data (i32.const 64) "{name}") (data (i32.const 128) "more")
        (func $vector (param $at i32) (param $length i32)
          (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $length)))
        (func $write (param $fd i32) (param $at i32) (param $length i32)
          (call $vector (local.get $at) (local.get $length))
          (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func $read (param $fd i32) (param $at i32) (param $length i32)
          (call $vector (local.get $at) (local.get $length))
          (drop (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func $opened (param $at i32) (param $length i32) (param $how i32) (result i32)
          (i32.store (i32.const 16) (i32.const 99))
          (drop (call $open (i32.const 3) (i32.const 0) (local.get $at) (local.get $length) (local.get $how)
            (i64.const 102) (i64.const 0) (i32.const 0) (i32.const 16)))
          (i32.load (i32.const 16)))
        (func (export "_start") (local $file i32) (local $mix i64) (local $i i32)
          ;; 200: runs so far, 208: the mixture; nothing of it is there but by the state file.
          (local.set $file (call $opened (i32.const 64) (i32.const {length}) (i32.const 0)))
          (call $read (local.get $file) (i32.const 200) (i32.const 16))
          (local.set $mix (i64.add (i64.load (i32.const 208)) (i64.load (i32.const 70000))))
          (i64.store (i32.const 70000) (i64.const 5))
          (loop $spin
            (local.set $mix (i64.add (i64.mul (local.get $mix) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $spin (i32.lt_u (local.get $i) (i32.const {spin}))))
          (drop (call $random (i32.const 300) (i32.const 5)))
          (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 308)))
          (call $read (i32.const 0) (i32.const 320) (i32.const 1))
          (local.set $file (call $opened (i32.const 128) (i32.const 4) (i32.const 1)))
          (drop (call $fd_seek (local.get $file) (i64.const 0) (i32.const 2) (i32.const 328)))
          (call $write (local.get $file) (i32.const 300) (i32.const 3))
          (local.set $mix (i64.xor (local.get $mix) (i64.xor (i64.load (i32.const 300)) (i64.load (i32.const 308)))))
          (local.set $mix (i64.add (local.get $mix) (i64.add (i64.load (i32.const 320)) (i64.load (i32.const 328)))))
          (i64.store (i32.const 208) (local.get $mix))
          (i64.store (i32.const 200) (i64.add (i64.load (i32.const 200)) (i64.const 1)))
          (call $write (i32.const 1) (i32.const 208) (i32.const 1))
          (call $write (i32.const 2) (i32.const 320) (i32.const 1))
          (if (i64.lt_u (i64.load (i32.const 200)) (i64.const {runs})) (then
            (local.set $file (call $opened (i32.const 64) (i32.const {length}) (i32.const 9)))
            (call $write (local.get $file) (i32.const 200) (i32.const 16))
            (call $exit (i32.const 75))))
          (call $write (i32.const 1) (i32.const 200) (i32.const 16))))"#
    )
}

const RUNS: u32 = 12;

fn long() -> Given {
    let mut given = given("abc", &["unit"]);
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

/// Takes every snapshot that it can get.
#[derive(Default)]
struct Greedy(Vec<Snapshot>);

impl Watch for Greedy {
    fn is_due(&mut self) -> bool {
        true
    }

    fn take(&mut self, snapshot: Snapshot) {
        self.0.push(snapshot);
    }

    fn bytes_max(&self) -> usize {
        1 << 20
    }
}

fn ended(came: Came) -> Finished {
    match came {
        Came::Ended(finished) => finished,
        Came::Stopped(_) => panic!("it ended"),
    }
}

#[test]
fn a_program_that_runs_again_is_the_same_from_each_of_its_states() {
    // The second one is long enough for a chain.
    for spin in [1000, 1_500_000] {
        let wat = program("manyhands.state", RUNS, spin);
        deep(|| {
            let (fast, quick) = machine(OptLevel::Speed, &wat);
            let whole = fast.run(&quick, long());
            assert_eq!((whole.end, whole.output.len()), (Ok(Exit::Code(0)), RUNS as usize + 16));
            assert_eq!(whole.output[RUNS as usize..][..8], u64::from(RUNS).to_le_bytes());
            assert_eq!(whole.log, *b"aaaaaaaaaaaa", "standard input is at its beginning each time");
            assert_eq!(whole.links.head().is_some(), spin > 1000);
            let mut greedy = Greedy::default();
            same(&ended(fast.run_part(&quick, long(), &Part::default(), &mut greedy)), &whole);
            assert_eq!(greedy.0.len(), RUNS as usize - 1);
            let (slow, program) = machine(OptLevel::None, &wat);
            for Snapshot { at, state, links } in greedy.0 {
                assert_eq!(Digest::of(&state), at.state);
                let part = Part { from: Some((state, links)), ..Part::default() };
                let mut again = Greedy::default();
                same(&ended(slow.run_part(&program, long(), &part, &mut again)), &whole);
                assert!(again.0.iter().all(|snapshot| snapshot.at.gas > at.gas));
            }
        });
    }
}

#[test]
fn a_chain_of_runs_is_bisected_like_one_of_steps() {
    let wat = program("manyhands.state", RUNS, 1_500_000);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let whole = machine.run(&program, long());
        let links = whole.links.as_slice();
        assert!(links.len() > 2);
        for (number, link) in links.iter().enumerate() {
            let until = (number as u64 + 1) * whole.links.interval();
            let part = Part { from: None, until: Some(until), keep_state: true };
            let Came::Stopped(snapshot) = machine.run_part(&program, long(), &part, &mut Unwatched) else { panic!("it stops") };
            assert_eq!((snapshot.at, Digest::of(&snapshot.state)), (*link, link.state));
        }
    });
}

#[test]
fn limits_hold_for_all_runs_together() {
    let wat = program("manyhands.state", RUNS, 1000);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let whole = machine.run(&program, long());
        let limited = |change: &dyn Fn(&mut UnitLimits)| {
            let mut given = long();
            change(&mut given.limits);
            machine.run(&program, given)
        };
        let exact = limited(&|limits| limits.gas = whole.gas);
        assert_eq!((exact.end, exact.gas), (Ok(Exit::Code(0)), whole.gas));
        let short = limited(&|limits| limits.gas = whole.gas - 1);
        assert_eq!((short.end, short.gas), (Ok(Exit::OutOfGas), whole.gas - 1));
        assert!(whole.gas > u64::from(RUNS - 1) * AGAIN_GAS);
        let narrow = limited(&|limits| limits.output_bytes = 5);
        assert_eq!(narrow.output.len(), 5);
        assert_eq!(limited(&|limits| limits.log_bytes = 3).log, b"aaa");
    });
    // One that never comes to an end.
    let wat = program("manyhands.state", u32::MAX, 1000);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let mut given = long();
        given.limits.gas = 20 * AGAIN_GAS;
        let endless = machine.run(&program, given);
        assert_eq!((endless.end, endless.gas), (Ok(Exit::OutOfGas), 20 * AGAIN_GAS));
    });
}

#[test]
fn without_a_state_file_of_a_sensible_size_it_is_an_exit_like_any_other() {
    let exit = Ok(Exit::Code(EXIT_AGAIN));
    let run = |wat: &str, given: Given| {
        deep(|| {
            let (machine, program) = machine(OptLevel::Speed, wat);
            machine.run(&program, given)
        })
    };
    let other = run(&program("manyhands.other", RUNS, 10), long());
    assert_eq!((other.end, other.output.len()), (exit, 1));
    // What the task gave is nothing that the program has kept.
    let mut given = long();
    given.files.push(crate::sandbox::InputFile { path: "manyhands.state".into(), bytes: [0; 16].into() });
    assert_eq!(run(&program("manyhands.state", RUNS, 10), given).end, exit);
    let large = program("manyhands.state", RUNS, 10)
        .replace("(call $exit (i32.const 75))", "(drop (call $size (local.get $file) (i64.const {})))\n (call $exit (i32.const 75))")
        .replace("(memory", r#"(import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $size (param i32 i64) (result i32))) (memory"#)
        .replace("(i64.const 102)", "(i64.const 4194406)");
    for (bytes, runs) in [(STATE_FILE_BYTES_MAX, RUNS), (STATE_FILE_BYTES_MAX + 1, 1)] {
        let mut given = long();
        given.limits.memory_bytes = 4 * STATE_FILE_BYTES_MAX;
        let finished = run(&large.replace("{}", &bytes.to_string()), given);
        assert_eq!(finished.end, if runs == 1 { exit } else { Ok(Exit::Code(0)) }, "{bytes} bytes");
        assert_eq!(finished.output.len(), if runs == 1 { 1 } else { RUNS as usize + 16 }, "{bytes} bytes");
    }
}

#[test]
fn what_is_no_state_of_the_program_is_refused_and_nothing_panics() {
    let wat = program("manyhands.state", 5, 10);
    deep(|| {
        let (machine, program) = machine(OptLevel::Speed, &wat);
        let short = || {
            let mut given = given("abc", &["unit"]);
            given.limits.gas = 8 * AGAIN_GAS;
            given
        };
        let mut greedy = Greedy::default();
        let whole = ended(machine.run_part(&program, short(), &Part::default(), &mut greedy));
        assert_eq!(whole.end, Ok(Exit::Code(0)));
        let go_on = |state: Vec<u8>| {
            let part = Part { from: Some((state, Links::default())), ..Part::default() };
            ended(machine.run_part(&program, short(), &part, &mut Unwatched)).end
        };
        let state = greedy.0[1].state.clone();
        assert_eq!(go_on(state.clone()), Ok(Exit::Code(0)));
        for length in 0..state.len() {
            assert_eq!(go_on(state[..length].to_vec()), Err(AttemptFailure::Refused), "{length}");
        }
        for index in 0..state.len() {
            for bit in [1, 0x80] {
                let mut bent = state.clone();
                bent[index] ^= bit;
                let _ = go_on(bent);
            }
        }
        // The state of a unit with memory.
        let stepped = r#"(module (memory (export "memory") 1) (func (export "_start"))
            (func (export "manyhands_init")) (func (export "manyhands_step") (result i32) (i32.const 0))
            (func (export "manyhands_result")))"#;
        let (other, steps) = super::again_tests::machine(OptLevel::Speed, stepped);
        let mut greedy = Greedy::default();
        ended(other.run_part(&steps, short(), &Part::default(), &mut greedy));
        assert_eq!(go_on(greedy.0[0].state.clone()), Err(AttemptFailure::Refused));
        const { assert!(FINEST_INTERVAL > 8 * AGAIN_GAS, "short units have no chain") };
    });
}
