//! `manyhands demo` from beginning to end, and interrupted.

use crate::grid::until;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

fn demo(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manyhands"));
    let temporary = directory.join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    command.arg("demo").args(arguments).env_clear().env("HOME", directory).env("TMPDIR", &temporary).current_dir(directory);
    command.stdin(Stdio::null());
    command
}

fn left_behind(directory: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(directory.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_demo_draws_a_picture_with_others_hands_and_leaves_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("mandelbrot.png");
    fs::write(&other, "something else").unwrap();
    let ran = demo(directory.path(), &["--width", "128", "-o", "json"]).output().unwrap();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{err}");
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["picture"], "mandelbrot-2.png", "another file is never replaced");
    assert_eq!(fs::read_to_string(other).unwrap(), "something else");
    assert_eq!((&told["job"]["verified"], &told["job"]["checked_by_owner"]), (&told["job"]["units"], &Value::from(0)));
    let workers = told["job"]["contributors"].as_array().unwrap();
    assert!(workers.iter().filter(|one| one["units"].as_u64() > Some(0)).count() >= 3, "{told:#}");

    let file = fs::File::open(directory.path().join("mandelbrot-2.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!((reader.info().width, reader.info().height), (128, 80));
    let colours: std::collections::BTreeSet<&[u8]> = pixels.chunks(3).collect();
    assert!(colours.len() > 1000, "{} colours", colours.len());
    assert_eq!(left_behind(directory.path()), [""; 0].map(std::path::PathBuf::from));
}

#[cfg(unix)]
#[test]
fn an_interrupted_demo_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = demo(directory.path(), &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let nodes = until("all nodes run", || {
        let [demo] = &left_behind(directory.path())[..] else { return None };
        let nodes: Vec<i32> = (1..=4).filter_map(|n| process_of(&demo.join(format!("peer-{n}")))).collect();
        (nodes.len() == 4).then_some(nodes)
    });
    let pid = rustix_pid(i32::try_from(child.id()).unwrap());
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for node in nodes {
        assert!(rustix::process::test_kill_process(rustix_pid(node)).is_err(), "node {node} has ended");
    }
    assert!(left_behind(directory.path()).is_empty());
    assert!(!directory.path().join("mandelbrot.png").exists());
}

#[cfg(unix)]
fn rustix_pid(pid: i32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[cfg(unix)]
fn process_of(data_dir: &Path) -> Option<i32> {
    let control: Value = serde_json::from_str(&fs::read_to_string(data_dir.join("control.json")).ok()?).ok()?;
    control["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
}

#[test]
fn a_place_that_is_not_there_is_an_error_before_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let ran = demo(directory.path(), &["--output", "nowhere/a.png"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("there is no directory nowhere"));
    assert!(left_behind(directory.path()).is_empty());
}
