//! Programs for units: the bundled ones, and small ones that misbehave.

use std::path::Path;

/// The path of a bundled program.
pub fn bundled(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/bin").join(name);
    path.into_os_string().into_string().unwrap()
}

/// A program from a text whose `_start` has `body`; what it may import is there.
pub fn with_body(body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 4)
            (data (i32.const 64) "these words go on and on and on\n")
            (func $recurse (param i64) (result i64)
                (i64.add (call $recurse (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
            (func $say (param $at i32) (param $length i32) (param $to i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $length))
                (drop (call $fd_write (local.get $to) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (local $i i64) (local $at i32)
                {body}))"#
    ))
    .unwrap()
}

/// A program that counts `rounds` down (a hundred million take about a tenth of a second), then prints its last argument.
pub fn slow_echo(rounds: u64) -> Vec<u8> {
    with_body(&format!(
        "(local.set $i (i64.const {rounds}))
         (loop $more (br_if $more (i64.ne (local.tee $i (i64.sub (local.get $i) (i64.const 1))) (i64.const 0))))
         (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
         (drop (call $args_get (i32.const 1024) (i32.const 4096)))
         (local.set $at (i32.load (i32.add (i32.const 1020) (i32.mul (i32.load (i32.const 16)) (i32.const 4)))))
         (call $say (local.get $at)
            (i32.sub (i32.sub (i32.add (i32.const 4096) (i32.load (i32.const 20))) (local.get $at)) (i32.const 1)) (i32.const 1))
         (i32.store8 (i32.const 32) (i32.const 10))
         (call $say (i32.const 32) (i32.const 1) (i32.const 1))"
    ))
}
