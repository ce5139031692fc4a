//! What bytes that are no module may be, so that a refusal can say so.

use std::fmt;

/// What bytes that are no module look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looks {
    /// Nothing at all.
    Empty,
    /// WebAssembly text.
    Wat,
    /// An HTML page, such as a server's error page.
    Html,
    /// A script or program text.
    Text,
    /// A Linux program.
    Elf,
    /// A Windows program.
    Pe,
    /// A macOS program.
    MachO,
    /// A gzip archive.
    Gzip,
    /// A ZIP archive.
    Zip,
    /// A Zstandard archive.
    Zstd,
    /// A WebAssembly module of an unknown version.
    OtherWasm,
    /// A module that was already compiled for Wasmtime.
    Precompiled,
    /// None of these.
    Unknown,
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Wat => "WebAssembly text (.wat), not the binary format",
            Self::Html => "an HTML page",
            Self::Text => "text",
            Self::Elf => "an ELF program or object for Linux",
            Self::Pe => "a Windows program",
            Self::MachO => "a macOS program",
            Self::Gzip => "a gzip archive",
            Self::Zip => "a ZIP archive",
            Self::Zstd => "a Zstandard archive",
            Self::OtherWasm => "WebAssembly of an unknown version",
            Self::Precompiled => "a module that was already compiled by Wasmtime",
            Self::Unknown => "unknown binary data",
        })
    }
}

impl Looks {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        if bytes.is_empty() {
            Self::Empty
        } else if starts(b"\0asm") {
            Self::OtherWasm
        } else if starts(b"\x7fELF") {
            let precompiled = bytes.windows(8).take(4096).any(|window| window == b"wasmtime");
            if precompiled { Self::Precompiled } else { Self::Elf }
        } else if starts(b"MZ") {
            Self::Pe
        } else if starts(&[0xcf, 0xfa, 0xed, 0xfe]) || starts(&[0xca, 0xfe, 0xba, 0xbe]) {
            Self::MachO
        } else if starts(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if starts(b"PK\x03\x04") {
            Self::Zip
        } else if starts(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::of_text(bytes)
        }
    }

    fn of_text(bytes: &[u8]) -> Self {
        let head = &bytes[..bytes.len().min(512)];
        if head.iter().any(|byte| *byte < 9 || (14..27).contains(byte)) {
            return Self::Unknown;
        }
        let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
        if text.starts_with("(module") || text.starts_with("(component") || text.starts_with(";;") {
            Self::Wat
        } else if text.starts_with("<!doctype") || text.starts_with("<html") {
            Self::Html
        } else if text.contains('\u{fffd}') && bytes.len() <= 512 {
            Self::Unknown
        } else {
            Self::Text
        }
    }
}
