//! The real binary: exit codes, what goes to which stream, a closed pipe. What commands say is tested inside the library.
#![cfg(feature = "node")]

use std::process::{Command, Output, Stdio};

fn manyhands(directory: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manyhands"));
    command.args(arguments).env_clear().env("MANYHANDS_DATA_DIR", directory).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    manyhands(directory.path(), arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_and_version_are_data_and_a_wrong_command_line_is_not() {
    for words in [&["--help"][..], &["submit", "--help"], &["--version"]] {
        let ran = run(words);
        assert_eq!((ran.status.code(), text(&ran.stderr).as_str()), (Some(0), ""), "{words:?}");
        assert!(!ran.stdout.is_empty());
    }
    for words in [&["sumbit"][..], &["submit", "--memory", "lots"], &["status", "--nonsense"], &[]] {
        let ran = run(words);
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(2), ""), "{words:?}");
        assert!(!ran.stderr.is_empty());
    }
}

#[test]
fn errors_go_to_standard_error_without_colour_and_as_json_where_asked() {
    let plain = run(&["status"]);
    assert_eq!((plain.status.code(), text(&plain.stdout).as_str()), (Some(3), ""));
    assert!(text(&plain.stderr).starts_with("error: no node is running on "), "{}", text(&plain.stderr));
    assert!(!text(&plain.stderr).contains('\x1b'));
    for words in [&["status", "-o", "json"][..], &["status", "--nonsense", "-o", "json"]] {
        let ran = run(words);
        let error: serde_json::Value = serde_json::from_slice(&ran.stderr).expect("one document");
        assert_eq!(error["schema"], "manyhands.error/v1");
        assert_eq!(error["exit_code"].as_i64(), ran.status.code().map(i64::from));
    }
}

#[test]
fn a_closed_pipe_is_quiet() {
    let directory = tempfile::tempdir().expect("a directory");
    let module = directory.path().join("app.wasm");
    let program = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#).expect("a program");
    std::fs::write(&module, program).expect("written");
    let arguments = ["submit", module.to_str().expect("text"), "--dry-run", "--quiet"];
    for words in [&arguments[..], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ran = manyhands(directory.path(), words).stdout(writer).output().expect("it runs");
        assert_eq!((ran.status.code(), text(&ran.stderr).as_str()), (Some(0), ""), "{words:?}");
    }
}
