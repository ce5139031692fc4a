//! What is refused, and how it is called.

use super::*;

fn reject(wat: &str) -> Rejection {
    admit(&wat::parse_str(wat).unwrap()).unwrap_err()
}

#[test]
fn what_is_not_wasm_is_named() {
    let cases: &[(&[u8], Looks)] = &[
        (b"", Looks::Empty),
        (b"(module)", Looks::Wat),
        (b"#!/bin/sh\necho hello", Looks::Text),
        (b"<!DOCTYPE html><p>not found", Looks::Html),
        (b"\x7fELF\x02\x01\x01", Looks::Elf),
        (b"\x1f\x8b\x08\0", Looks::Gzip),
        (b"PK\x03\x04", Looks::Zip),
        (b"MZ\x90", Looks::Pe),
        (b"\0\x01\x02\x03", Looks::Unknown),
        (b"\0asm\x09\0\0\0", Looks::OtherWasm),
    ];
    for (bytes, looks) in cases {
        assert_eq!(admit(bytes), Err(Rejection::NotWasm(*looks)));
    }
    assert_eq!(admit(b"\0asm\x0d\0\x01\0"), Err(Rejection::Component));
}

#[test]
fn what_the_sandbox_lacks_is_named() {
    let whole = |body: &str| format!("(module (memory (export \"memory\") 1) (func (export \"_start\")) {body})");
    let unknown = reject("(module (import \"env\" \"abort\" (func)) (memory 1))");
    assert!(matches!(unknown, Rejection::UnknownImports { count: 1, names } if names == ["env.abort"]));
    let two = reject(&whole("(memory 1)"));
    assert!(matches!(two, Rejection::Feature { feature: "several memories", .. }), "{two:?}");
    assert!(matches!(reject("(module (memory 1 1 shared))"), Rejection::Feature { feature: "threads (shared memory, atomics)", .. }));
    assert!(matches!(reject("(module (memory i64 1))"), Rejection::Feature { feature: "64-bit memory", .. }));
    assert!(matches!(reject(&whole("(tag)")), Rejection::Feature { feature: "exception handling", .. }));
    assert!(matches!(reject(&whole("(type (struct))")), Rejection::Feature { .. }));
    assert!(matches!(reject(&whole("(global externref (ref.null extern))")), Rejection::Feature { .. } | Rejection::Invalid { .. }));
    let relaxed = "(func (param v128) (result v128) local.get 0 local.get 0 local.get 0 f32x4.relaxed_madd)";
    assert!(matches!(reject(&whole(relaxed)), Rejection::Feature { feature: "relaxed SIMD", .. }));
    assert_eq!(reject("(module (memory (export \"memory\") 1))"), Rejection::NoStart);
    assert_eq!(reject("(module (func (export \"_start\")))"), Rejection::NoMemory);
    assert_eq!(reject("(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))"), Rejection::WrongStart);
    assert_eq!(reject(&whole("(global (export \"manyhands:gas\") i64 (i64.const 1))")), Rejection::ReservedExport(GAS_EXPORT));
    let wrong = "(module (import \"wasi_snapshot_preview1\" \"fd_close\" (func (param i64) (result i32))))";
    assert!(matches!(reject(wrong), Rejection::WrongImportType { .. }));
    assert!(matches!(reject(&whole(&"(table 1 funcref)".repeat(9))), Rejection::TooMany { .. }));
}

#[test]
fn damaged_modules_are_refused_without_a_panic() {
    let good = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\") (loop (br_if 0 (i32.const 0)))))").unwrap();
    assert!(admit(&good).is_ok());
    for length in 0..good.len() {
        assert!(admit(&good[..length]).is_err());
    }
    for position in 8..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[position] ^= 1 << bit;
            if let Err(rejection) = admit(&bad) {
                assert!(!rejection.hint().is_empty());
            }
        }
    }
}
