//! Slots as a node uses them: real processes of the real binary, in their jail.

#![cfg(all(feature = "sandbox", unix))]

use manyhands::{
    protocol::{
        chain::Links,
        ids::Digest,
        outcome::{AttemptFailure, Exit, Outcome, UnitLimits, Value},
    },
    sandbox::{Part, PartReport, Rejection, Report, SlotError, SlotProcess, Snapshot, Task, Workshop, run_in_process},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

fn workshop(cache: &Path) -> Arc<Workshop> {
    Workshop::new(PathBuf::from(env!("CARGO_BIN_EXE_manyhands")), cache, 256 << 20).unwrap()
}

fn slot() -> (SlotProcess, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    (SlotProcess::spawn(workshop(cache.path())).unwrap(), cache)
}

fn limits() -> UnitLimits {
    UnitLimits { memory_bytes: 128 << 20, gas: 1 << 50, wall: Duration::from_secs(120), output_bytes: 1 << 20, log_bytes: 1 << 10 }
}

/// A module whose behaviour its first input byte chooses: `e`cho, `s`pin, `t`rap, `3` exit, `d`eep recursion, `w`rite without end.
fn module() -> Vec<u8> {
    wat::parse_str(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 20)
        (func $deep (param i64) (result i64) (i64.add (call $deep (local.get 0)) (i64.const 1)))
        (func (export "_start") (local $c i32)
          (i32.store (i32.const 0) (i32.const 1000)) (i32.store (i32.const 4) (i32.const 1000000))
          (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
          (local.set $c (i32.load8_u (i32.const 1000)))
          (if (i32.eq (local.get $c) (i32.const 115)) (then (loop (br 0))))
          (if (i32.eq (local.get $c) (i32.const 116)) (then unreachable))
          (if (i32.eq (local.get $c) (i32.const 51)) (then (call $exit (i32.const 3))))
          (if (i32.eq (local.get $c) (i32.const 100)) (then (drop (call $deep (i64.const 1)))))
          (loop $again
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br_if $again (i32.eq (local.get $c) (i32.const 119))))))"#,
    )
    .unwrap()
}

fn task(module: &[u8], stdin: &[u8], limits: UnitLimits) -> Task {
    Task { module: Digest::of(module), args: vec![b"unit".to_vec()], stdin: stdin.into(), files: Vec::new(), seed: [1; 32], limits }
}

fn run(slot: &mut SlotProcess, tasks: &[Task]) -> Vec<Report> {
    let mut reports = Vec::new();
    slot.run_batch(tasks, &mut |index, report| {
        assert_eq!(index, reports.len(), "reports come in order");
        reports.push(report);
    });
    assert_eq!(reports.len(), tasks.len(), "each task is reported once");
    reports
}

fn exit(report: &Report) -> Result<Exit, AttemptFailure> {
    match report.outcome {
        Outcome::Value(value) => Ok(value.exit),
        Outcome::Failed(failure) => Err(failure),
    }
}

#[test]
fn units_end_as_they_do_and_the_slot_goes_on() {
    let (mut slot, _cache) = slot();
    let module = module();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    let short = UnitLimits { wall: Duration::from_millis(200), ..limits() };
    let tasks: Vec<Task> = [&b"echo"[..], b"t", b"3", b"s", b"d", b"w", b"echo", b""]
        .into_iter()
        .map(|stdin| task(&module, stdin, if stdin == b"s" { short } else { limits() }))
        .collect();
    let reports = run(&mut slot, &tasks);
    let ends: Vec<_> = reports.iter().map(exit).collect();
    assert_eq!(ends[0], Ok(Exit::Code(0)));
    assert_eq!(reports[0].output, b"echo");
    assert!(matches!(ends[1], Ok(Exit::Trap(_))));
    assert_eq!(ends[2], Ok(Exit::Code(3)));
    assert_eq!(ends[3], Err(AttemptFailure::TimeOut));
    assert_eq!(ends[4], Err(AttemptFailure::StackOverflow));
    assert_eq!((ends[5], reports[5].output.len()), (Ok(Exit::OutputLimit), 1 << 20));
    assert_eq!((reports[6].outcome, &reports[6].output), (reports[0].outcome, &reports[0].output));
    let overrun = reports[3].wall.saturating_sub(short.wall);
    println!("a runaway died {overrun:?} after its limit");
    assert!(overrun < Duration::from_millis(500));
}

#[test]
fn a_slot_and_this_process_agree_cold_and_warm() {
    let cache = tempfile::tempdir().unwrap();
    let module = module();
    let tasks: Vec<Task> = [&b"a"[..], b"t", b"3", b"w"].into_iter().map(|stdin| task(&module, stdin, limits())).collect();
    let mut here = Vec::new();
    run_in_process(&module, &tasks, &mut |_, report| here.push(report.outcome)).unwrap();
    for warm in [false, true] {
        let mut slot = SlotProcess::spawn(workshop(cache.path())).unwrap();
        slot.load(Digest::of(&module), || if warm { panic!("compiled twice") } else { Ok(module.clone()) }).unwrap();
        let there: Vec<Outcome> = run(&mut slot, &tasks).into_iter().map(|report| report.outcome).collect();
        assert_eq!(there, here);
    }
    // A damaged entry is compiled anew.
    let entry = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&entry, b"damaged").unwrap();
    let mut slot = SlotProcess::spawn(workshop(cache.path())).unwrap();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    assert_eq!(run(&mut slot, &tasks[..1])[0].outcome, here[0]);
}

#[test]
fn a_runaway_is_stopped_from_another_thread() {
    let (mut slot, _cache) = slot();
    let module = module();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    let stopper = slot.stopper();
    let (ready, wait) = std::sync::mpsc::channel();
    let tasks = [task(&module, b"a", limits()), task(&module, b"s", limits()), task(&module, b"a", limits())];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            wait.recv().unwrap();
            stopper.stop();
            assert!(stopper.is_stopped());
            stopper.cont();
            stopper.kill();
        });
        let mut ends = Vec::new();
        slot.run_batch(&tasks, &mut |_, report| {
            ends.push(exit(&report));
            let _ = ready.send(());
        });
        assert_eq!(ends, [Ok(Exit::Code(0)), Err(AttemptFailure::Killed), Err(AttemptFailure::Killed)]);
    });
    assert_eq!(exit(&run(&mut slot, &tasks[..1])[0]), Err(AttemptFailure::Killed));
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    assert_eq!(exit(&run(&mut slot, &tasks[..1])[0]), Ok(Exit::Code(0)));
    // A slot that is killed while it does nothing starts anew; one that is closed does not.
    slot.stopper().kill();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    assert_eq!(exit(&run(&mut slot, &tasks[..1])[0]), Ok(Exit::Code(0)));
}

#[test]
fn a_closed_slot_stays_closed() {
    let (mut slot, _cache) = slot();
    let module = module();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    slot.stopper().close();
    assert!(slot.load(Digest::of(&module), || Ok(module.clone())).is_err());
    assert_eq!(exit(&run(&mut slot, &[task(&module, b"s", limits())])[0]), Err(AttemptFailure::Killed));
}

#[test]
fn a_pause_does_not_count() {
    let (mut slot, _cache) = slot();
    let module = module();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    let stopper = slot.stopper();
    stopper.stop();
    let wall = Duration::from_millis(100);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Longer than the unit may run: what is tested is that this time passes without harm.
            std::thread::park_timeout(wall * 3);
            stopper.cont();
        });
        let began = Instant::now();
        let reports = run(&mut slot, &[task(&module, b"a", UnitLimits { wall, ..limits() })]);
        assert_eq!(exit(&reports[0]), Ok(Exit::Code(0)));
        assert!(began.elapsed() >= wall * 2);
    });
}

#[test]
fn modules_are_refused_with_a_reason_and_replaced_with_a_new_process() {
    let (mut slot, _cache) = slot();
    let refused = slot.load(Digest::of(b"nonsense"), || Ok(b"nonsense".to_vec()));
    assert!(matches!(refused, Err(SlotError::Rejected(Rejection::NotWasm(_)))));
    let wrong = slot.load(Digest::of(b"other"), || Ok(b"nonsense".to_vec()));
    assert!(matches!(wrong, Err(SlotError::WrongModule { .. })));
    let module = module();
    assert_eq!(exit(&run(&mut slot, &[task(&module, b"a", limits())])[0]), Err(AttemptFailure::Refused));
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    assert_eq!(exit(&run(&mut slot, &[task(&module, b"a", limits())])[0]), Ok(Exit::Code(0)));
    let first = slot.process_id();
    let other = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    slot.load(Digest::of(&other), || Ok(other.clone())).unwrap();
    assert_ne!(slot.process_id(), first);
    assert_eq!(exit(&run(&mut slot, &[task(&other, b"", limits())])[0]), Ok(Exit::Code(0)));
}

#[test]
fn large_inputs_and_outputs_pass_in_both_directions_at_once() {
    let (mut slot, _cache) = slot();
    let module = module();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    let tasks: Vec<Task> = (0..20_u8).map(|index| task(&module, &vec![b'A' + index; 900_000], limits())).collect();
    for (index, report) in run(&mut slot, &tasks).iter().enumerate() {
        assert_eq!(report.output, vec![b'A' + u8::try_from(index).unwrap(); 900_000]);
    }
}

/// Memory that the job promises and the machine cannot give fails the attempt, and the slot goes on.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_the_machine_lacks_is_no_value() {
    let cache = tempfile::tempdir().unwrap();
    let workshop = Workshop::new(PathBuf::from(env!("CARGO_BIN_EXE_manyhands")), cache.path(), 0).unwrap();
    let mut slot = SlotProcess::spawn(workshop).unwrap();
    let grow = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "_start")
          (if (i32.eq (memory.grow (i32.const 50000)) (i32.const -1)) (then unreachable))))"#,
    )
    .unwrap();
    slot.load(Digest::of(&grow), || Ok(grow.clone())).unwrap();
    let large = UnitLimits { memory_bytes: 4 << 30, ..limits() };
    let ends: Vec<_> = run(&mut slot, &[task(&grow, b"", large), task(&grow, b"", limits())]).iter().map(exit).collect();
    assert_eq!(ends[0], Err(AttemptFailure::OutOfMemory));
    assert!(matches!(ends[1], Ok(Exit::Trap(_))));
}

/// A slot whose parent lets go of it ends by itself, and not by breaking out of its jail.
#[cfg(target_os = "linux")]
#[test]
fn a_slot_ends_in_peace() {
    use std::{os::fd::OwnedFd, os::unix::net::UnixStream, process::Command};
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_manyhands"))
        .args(["__slot", "run", "4294967296", &std::process::id().to_string()])
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    // The beginning of the message that it is ready.
    std::io::Read::read_exact(&mut &ours, &mut [0; 5]).unwrap();
    drop(ours);
    assert!(child.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn escaped_code_can_do_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let workshop = workshop(cache.path());
    let protection = workshop.protection().unwrap();
    println!("protection: {protection}");
    let report = workshop.probe().unwrap();
    println!("{report}");
    assert!(protection.is_enough_for_strangers());
    assert!(report.lines().count() > 12 && !report.contains("ALLOWED"), "{report}");
    let without = workshop.probe_without_filter().unwrap();
    println!("without seccomp:\n{without}");
    if protection.landlock {
        assert!(without.contains("open a file: denied") && without.contains("create a file: denied"));
    }
}

#[test]
fn tiny_units_run_by_the_ten_thousand_a_second() {
    let (mut slot, _cache) = slot();
    let module = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).unwrap();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    let tasks = vec![task(&module, b"", limits()); 20_000];
    let mut rate = 0.0_f64;
    for _ in 0..3 {
        let began = Instant::now();
        let mut count = 0;
        slot.run_batch(&tasks, &mut |_, report| {
            assert!(matches!(report.outcome, Outcome::Value(Value { exit: Exit::Code(0), .. })));
            count += 1;
        });
        rate = rate.max(f64::from(count) / began.elapsed().as_secs_f64());
    }
    println!("{rate:.0} units a second through a slot");
    let began = Instant::now();
    for _ in 0..2_000 {
        run(&mut slot, &tasks[..1]);
    }
    println!("{:?} for a unit by itself", began.elapsed() / 2_000);
    // The release build on an idle machine does ten times as much; this catches a lost pipeline, not a slow machine.
    assert!(rate > 1_000.0);
}

/// A module with initial data has a memory image, which takes system calls of its own; many units share it.
#[test]
fn a_module_with_much_data_runs_again_and_again() {
    let (mut slot, _cache) = slot();
    let module = wat::parse_str(format!(
        r#"(module (memory (export "memory") 64) (data (i32.const 65536) "{}")
        (func (export "_start")
          (if (i32.ne (i32.load8_u (i32.const 165535)) (i32.const 120)) (then unreachable))
          (i32.store8 (i32.const 165535) (i32.const 0))
          (memory.fill (i32.const 200000) (i32.const 1) (i32.const 3000000))))"#,
        "x".repeat(100_000)
    ))
    .unwrap();
    slot.load(Digest::of(&module), || Ok(module.clone())).unwrap();
    for report in run(&mut slot, &vec![task(&module, b"", limits()); 50]) {
        assert_eq!(exit(&report), Ok(Exit::Code(0)));
    }
}

fn bundled(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/bin").join(name)).unwrap()
}

fn with_args(module: &[u8], args: &[&str]) -> Task {
    let args = std::iter::once("unit").chain(args.iter().copied()).map(|arg| arg.as_bytes().to_vec()).collect();
    Task { args, ..task(module, b"", limits()) }
}

fn stopped(report: PartReport) -> Snapshot {
    match report {
        PartReport::Stopped { snapshot, .. } => snapshot,
        PartReport::Ended(report) => panic!("it stands still: {:?}", report.outcome),
    }
}

fn ended(report: PartReport) -> Report {
    match report {
        PartReport::Ended(report) => report,
        PartReport::Stopped { .. } => panic!("it ends"),
    }
}

/// A stepped unit is taken out of one process and goes on in another, again and again: same output, same gas, same chain.
#[test]
fn a_stepped_unit_moves_from_process_to_process() {
    let cache = tempfile::tempdir().unwrap();
    let module = bundled("life.wasm");
    for args in [&["5", "20000"][..], &["--side", "1024", "6", "1000"]] {
        let task = with_args(&module, args);
        let fresh = || {
            let mut slot = SlotProcess::spawn(workshop(cache.path())).unwrap();
            slot.load(task.module, || Ok(module.clone())).unwrap();
            slot
        };
        let whole = run(&mut fresh(), std::slice::from_ref(&task)).pop().unwrap();
        let Outcome::Value(value) = whole.outcome else { panic!("{:?}", whole.outcome) };
        assert_eq!(value.exit, Exit::Code(0));
        assert!(whole.links.belong_to(&value) && whole.links.as_slice().len() >= 4, "{:?}", whole.links);
        let mut part = Part { until: Some(value.gas / 4), keep_state: true, ..Part::default() };
        let mut moves = 0;
        let end = loop {
            match fresh().run_part(&task, &part) {
                PartReport::Ended(report) => break report,
                PartReport::Stopped { snapshot, .. } => {
                    moves += 1;
                    let until = snapshot.at.gas + value.gas / 4;
                    part = Part { from: Some((snapshot.state, snapshot.links)), until: Some(until), keep_state: true };
                }
            }
        };
        assert!(moves >= 3);
        assert_eq!((end.outcome, &end.output, &end.links), (whole.outcome, &whole.output, &whole.links));
        // One segment alone shows the link at its end.
        let links = whole.links.as_slice();
        let (from, to) = (links[links.len() / 2], links[links.len() / 2 + 1]);
        let mut slot = fresh();
        let state = stopped(slot.run_part(&task, &Part { until: Some(from.gas), keep_state: true, ..Part::default() }));
        assert_eq!(state.at, from);
        let part = Part { from: Some((state.state.clone(), Links::default())), until: Some(to.gas), keep_state: false };
        assert_eq!(stopped(slot.run_part(&task, &part)).at, to);
        // Another unit's state is another state; what is none is refused, and the slot goes on.
        let part = Part { from: Some((state.state[..100].to_vec(), Links::default())), ..Part::default() };
        assert_eq!(exit(&ended(slot.run_part(&task, &part))), Err(AttemptFailure::Refused));
        let brief = Task { limits: UnitLimits { wall: Duration::ZERO, ..limits() }, ..task.clone() };
        assert_eq!(exit(&ended(slot.run_part(&brief, &Part::default()))), Err(AttemptFailure::TimeOut));
        assert_eq!(ended(slot.run_part(&task, &Part::default())).outcome, whole.outcome);
    }
}
