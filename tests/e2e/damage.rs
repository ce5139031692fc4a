//! Bytes that have changed on the disk: noticed when they are read, never given out, and had again from elsewhere; a database that
//! can no longer be believed is refused with its name and what to do about it.

use crate::{
    audit::Audit,
    grid::{Grid, until},
    large::{table, text},
    modules::{bundled, slow_echo},
};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const SOON: Duration = Duration::from_secs(30);

/// Files of a directory and those below.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Changes a byte in the middle.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// Whether a blob is there with the bytes that its name says.
fn is_whole(path: &Path) -> bool {
    let name = format!("{}{}", path.parent().unwrap().file_name().unwrap().display(), path.file_name().unwrap().display());
    fs::read(path).is_ok_and(|bytes| data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)) == name)
}

fn stop(grid: &mut Grid, at: usize) {
    let _ = grid.run(at, &["stop"]).ok();
    assert!(grid.ends_within(at, SOON).is_some(), "node {at} ends");
}

/// Submits a job of large inputs and outputs from node 0, and waits for it; what it prints.
fn run_books(grid: &Grid) -> (String, String) {
    let books: Vec<_> = (0..3).map(text).collect();
    for (at, (text, _)) in books.iter().enumerate() {
        grid.file(&format!("book-{at}.txt"), text);
    }
    let job = grid.submit(0, &[&bundled("wordcount.wasm"), "--files", "book-*.txt"]);
    assert_eq!(grid.wait(0, &job)["state"], "done");
    (job, books.iter().map(|(_, counts)| table(counts)).collect())
}

#[test]
fn damaged_outputs_are_computed_again() {
    let mut grid = Grid::alone();
    let (job, expected) = run_books(&grid);
    let small = grid.submit(0, &[&grid.file("echo.wasm", slow_echo(10)), "--range", "0..3", "--per-unit", "1", "--", "{index}"]);
    assert_eq!(grid.wait(0, &small)["state"], "done");
    stop(&mut grid, 0);
    let database = Connection::open(grid.data_dir(0).join("facts.sqlite")).unwrap();
    let outputs: Vec<String> = {
        let mut find = database.prepare("SELECT lower(hex(output)) FROM verdict JOIN blob ON digest = output WHERE bytes IS NULL").unwrap();
        find.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(outputs.len(), 3, "each table is a file");
    for output in outputs {
        flip(&grid.data_dir(0).join("blobs").join(&output[..2]).join(&output[2..]));
    }
    // One that lies in the database.
    assert_eq!(database.execute("UPDATE blob SET bytes = x'320a' WHERE bytes = x'310a'", []).unwrap(), 1);
    drop(database);
    grid.start(0);
    assert_eq!(grid.run(0, &["results", &job]).ok(), expected);
    assert_eq!(grid.run(0, &["results", &small]).ok(), "0\n1\n2\n");
    assert_eq!(grid.log(0).matches("computed again").count(), 4, "{}", grid.log(0));
    stop(&mut grid, 0);
    assert_eq!(Audit::of(grid.data_dir(0)).findings(), Vec::<String>::new());
}

#[test]
fn damaged_outputs_inputs_and_modules_are_fetched_again_and_never_handed_out() {
    let mut grid = Grid::new();
    grid.add(0);
    grid.add(1);
    grid.add(1);
    grid.join_own_devices();
    let (job, expected) = run_books(&grid);
    stop(&mut grid, 0);
    let blobs = files(&grid.data_dir(0).join("blobs"));
    assert_eq!(blobs.len(), 7, "a module, three inputs and three outputs");
    blobs.iter().for_each(|blob| flip(blob));
    grid.start(0);
    grid.wait_for_peers(0, 2);
    assert_eq!(grid.run(0, &["results", &job]).ok(), expected);
    // Checking it needs the module and the inputs. Each is missed once, and looked for.
    until("everything is whole again", || {
        let _ = grid.run(0, &["verify", &job]);
        blobs.iter().all(|blob| is_whole(blob)).then_some(())
    });
    assert!(grid.log(0).contains("fetched again from a peer"), "{}", grid.log(0));
    stop(&mut grid, 0);
    assert_eq!(Audit::of(grid.data_dir(0)).findings(), Vec::<String>::new());
}

#[test]
fn a_damaged_database_is_refused_by_name_with_what_to_do() {
    for was_killed in [false, true] {
        let mut grid = Grid::alone();
        let module = grid.file("echo.wasm", slow_echo(10));
        let job = grid.submit(0, &[&module, "--range", "0..3000", "--per-unit", "1", "--", "{index}"]);
        assert_eq!(grid.wait(0, &job)["state"], "done");
        // Everything that was committed moves from the log into the database.
        stop(&mut grid, 0);
        if was_killed {
            grid.start(0);
            grid.kill(0);
        }
        let path = grid.data_dir(0).join("facts.sqlite");
        let mut bytes = fs::read(&path).unwrap();
        let pages = bytes.len() / 4096;
        assert!(pages > 100, "{pages} pages");
        bytes[pages / 2 * 4096..(pages / 2 + 1) * 4096].fill(0xa5);
        fs::write(&path, &bytes).unwrap();
        drop(fs::remove_file(grid.data_dir(0).join("facts.sqlite-wal")));
        grid.spawn(0, &[]);
        let status = grid.ends_within(0, SOON).expect("it does not start");
        assert_eq!(status.code(), Some(1));
        let said = grid.log(0);
        assert!(said.contains(&format!("the database {} is damaged", path.display())) && said.contains("move it"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was made worse");
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_name() {
    let mut grid = Grid::alone();
    stop(&mut grid, 0);
    let database = Connection::open(grid.data_dir(0).join("facts.sqlite")).unwrap();
    database.pragma_update(None, "user_version", 1000).unwrap();
    drop(database);
    grid.spawn(0, &[]);
    assert_eq!(grid.ends_within(0, SOON).and_then(|status| status.code()), Some(1));
    let said = grid.log(0);
    assert!(said.contains("a newer version of this program wrote") && said.contains("run the newer version"), "{said}");
}
