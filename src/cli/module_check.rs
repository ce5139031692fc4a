//! Looks at a module before anything is sent: what is not WebAssembly is told apart by its first bytes.

use super::failure::Failure;
use crate::control::submission::MODULE_BYTES_MAX;
use std::{fs, io, path::Path};

/// Reads the module at `path` and checks it.
///
/// # Errors
/// There is no such file, it is none, it is too large, or it is not a module that the sandbox takes.
pub fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let hint = "manyhands submit app.wasm   (a program compiled for wasm32-wasip1)";
    let metadata = fs::metadata(path).map_err(|error| missing(path, &error).hint(hint))?;
    if !metadata.is_file() {
        return Err(Failure::usage("NOT_A_FILE", format!("the module {shown} is not a file")).hint(hint));
    }
    if metadata.len() > MODULE_BYTES_MAX {
        return Err(Failure::usage("MODULE_TOO_LARGE", format!("the module {shown} is too large"))
            .cause(format!("it has {} MiB, and the limit is {} MiB", metadata.len() >> 20, MODULE_BYTES_MAX >> 20))
            .hint("strip it: wasm-tools strip, or --release with strip = true"));
    }
    let bytes = fs::read(path).map_err(|error| missing(path, &error))?;
    check_module(&bytes).map_err(|failure| Failure { message: format!("{shown} {}", failure.message), ..failure })?;
    Ok(bytes)
}

/// The failure of a file that cannot be opened.
pub fn missing(path: &Path, error: &io::Error) -> Failure {
    let cause = match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::usage("FILE", format!("{} cannot be read", path.display())).cause(cause).hint(format!("ls -l {}", path.display()))
}

/// Checks a module as the sandbox does; the node repeats it in any case. The usual mistakes are told apart by the first bytes.
///
/// # Errors
/// It is not a core WebAssembly module. The message continues a sentence that begins with the file's name.
pub fn check_module(bytes: &[u8]) -> Result<(), Failure> {
    let wrong = |message: &str| Failure::usage("NOT_A_MODULE", message);
    let rust = "cargo build --release --target wasm32-wasip1";
    match bytes {
        [] => Err(wrong("is empty").hint(rust)),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => match crate::sandbox::admit(bytes) {
            Ok(_) => Ok(()),
            Err(rejection) => Err(wrong("cannot run in the sandbox").cause(rejection.to_string()).hint(rejection.hint())),
        },
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => {
            let failure = wrong("is a WebAssembly component, not a module").cause("units are WASI preview 1 programs");
            Err(failure.hint(format!("build for preview 1: {rust}")))
        }
        [0, b'a', b's', b'm', ..] => Err(wrong("is WebAssembly of a version that nothing here knows, or cut short")),
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] | [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => {
            Err(wrong("is a native program, not WebAssembly").cause("strangers' machines run WebAssembly only").hint(rust))
        }
        [b'(', ..] => Err(wrong("is WebAssembly in its text form").hint("wasm-tools parse app.wat -o app.wasm")),
        _ => Err(wrong("is not a WebAssembly module").hint(rust)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A program with a memory and a `_start` that returns.
    pub const DOES_NOTHING: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

    #[test]
    fn the_usual_mistakes_are_told_apart() {
        let message = |bytes: &[u8]| check_module(bytes).map_err(|failure| failure.message);
        assert_eq!(message(DOES_NOTHING), Ok(()));
        assert!(message(b"\0asm\x01\0\0\0").is_err_and(|text| text.contains("cannot run")), "it does not begin anywhere");
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"\0asm\x0d\0\x01\0", "component"),
            (b"\0asm", "cut short"),
            (b"\x7fELF\x02", "native"),
            (b"(module)", "text form"),
            (b"#!/bin/sh", "not a WebAssembly module"),
        ] {
            assert!(message(bytes).is_err_and(|text| text.contains(part)), "{part}");
        }
    }
}
