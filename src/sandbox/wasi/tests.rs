//! Host calls without a guest: what libc expects of files, and what a hostile guest gets for its trouble.

use super::{
    link::{NAMES, call_by_name},
    *,
};
use std::time::Duration;

/// A guest's memory and world, and calls into it. Paths and data are put at fixed places.
struct Bench {
    memory: Vec<u8>,
    world: World,
    left: u64,
}

const PATH: u32 = 1_000;
const OTHER_PATH: u32 = 2_000;
const PIECES: u32 = 3_000;
const RESULT: u32 = 4_000;
const DATA: u32 = 8_000;

const READ: u64 = 1 << 1;
const WRITE: u64 = 1 << 6;
const CREATE: u64 = 1;
const EXCLUSIVE: u64 = 4;
const TRUNCATE: u64 = 8;
const APPEND: u64 = 1;

impl Bench {
    fn new() -> Self {
        let limits = UnitLimits { memory_bytes: 1 << 18, gas: 1 << 40, wall: Duration::from_secs(10), output_bytes: 100, log_bytes: 10 };
        let files = vec![InputFile { path: "in/data.txt".into(), bytes: Arc::from(&b"input"[..]) }];
        let given = Given { args: vec![b"unit".to_vec()], stdin: Arc::from(&b"stdin"[..]), files, seed: [3; 32], limits };
        Self { memory: vec![0; 1 << 16], world: World::new(given).unwrap(), left: limits.gas }
    }

    fn call(&mut self, name: &str, arguments: &[u64]) -> Result<u32, u16> {
        let mut call = Call { memory: &mut self.memory, world: &mut self.world, left: self.left };
        let result = call_by_name(name, &mut call, arguments);
        self.left = call.left;
        match result {
            Ok(()) => Ok(guest::u32_at(&self.memory, RESULT).unwrap()),
            Err(Stop::Errno(errno)) => Err(errno as u16),
            Err(Stop::Halt(halt)) => panic!("{name}: {halt}"),
        }
    }

    fn path(&mut self, at: u32, path: &str) -> (u64, u64) {
        guest::put(&mut self.memory, at, path.as_bytes()).unwrap();
        (u64::from(at), path.len() as u64)
    }

    fn open(&mut self, path: &str, how: u64, rights: u64, flags: u64) -> Result<u64, u16> {
        let (at, length) = self.path(PATH, path);
        self.call("path_open", &[3, 0, at, length, how, rights, 0, flags, u64::from(RESULT)]).map(u64::from)
    }

    fn path_call(&mut self, name: &str, path: &str) -> Result<u32, u16> {
        let (at, length) = self.path(PATH, path);
        self.call(name, &[3, at, length])
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<u32, u16> {
        let (at, length) = self.path(PATH, from);
        let (to, to_length) = self.path(OTHER_PATH, to);
        self.call("path_rename", &[3, at, length, 3, to, to_length])
    }

    fn pieces(&mut self, length: usize) {
        guest::put(&mut self.memory, PIECES, &DATA.to_le_bytes()).unwrap();
        guest::put(&mut self.memory, PIECES + 4, &u32::try_from(length).unwrap().to_le_bytes()).unwrap();
    }

    fn write(&mut self, fd: u64, bytes: &[u8]) -> Result<u32, u16> {
        guest::put(&mut self.memory, DATA, bytes).unwrap();
        self.pieces(bytes.len());
        self.call("fd_write", &[fd, u64::from(PIECES), 1, u64::from(RESULT)])
    }

    fn read(&mut self, fd: u64, length: usize) -> Result<Vec<u8>, u16> {
        self.pieces(length);
        let count = self.call("fd_read", &[fd, u64::from(PIECES), 1, u64::from(RESULT)])?;
        Ok(guest::slice(&self.memory, DATA, count).unwrap().to_vec())
    }

    fn size(&mut self, fd: u64) -> u64 {
        self.call("fd_filestat_get", &[fd, u64::from(DATA)]).unwrap();
        guest::u64_at(&self.memory, DATA + 32).unwrap()
    }

    fn seek(&mut self, fd: u64, offset: i64, whence: u64) -> Result<u32, u16> {
        self.call("fd_seek", &[fd, offset.cast_unsigned(), whence, u64::from(RESULT)])
    }

    fn list(&mut self, path: &str) -> Vec<String> {
        let fd = self.open(path, 2, READ, 0).unwrap();
        let length = self.call("fd_readdir", &[fd, u64::from(DATA), 4096, 0, u64::from(RESULT)]).unwrap();
        self.call("fd_close", &[fd]).unwrap();
        let listing = guest::slice(&self.memory, DATA, length).unwrap();
        let (mut names, mut at) = (Vec::new(), 0);
        while at < length {
            let name = guest::u32_at(listing, at + 16).unwrap();
            names.push(String::from_utf8(guest::slice(listing, at + 24, name).unwrap().to_vec()).unwrap());
            at += 24 + name;
        }
        names
    }
}

#[test]
fn files_are_written_read_moved_and_removed() {
    let mut bench = Bench::new();
    assert_eq!(bench.path_call("path_create_directory", "d"), Ok(0));
    assert_eq!(bench.path_call("path_create_directory", "d"), Err(Errno::Exist as u16));
    assert_eq!(bench.open("d/f", 0, READ, 0), Err(Errno::Noent as u16));
    let fd = bench.open("d/f", CREATE | EXCLUSIVE, READ | WRITE, 0).unwrap();
    assert_eq!(bench.open("d/f", CREATE | EXCLUSIVE, WRITE, 0), Err(Errno::Exist as u16));
    assert_eq!(bench.write(fd, b"hello"), Ok(5));
    assert_eq!(bench.seek(fd, 1, 0), Ok(1));
    assert_eq!(bench.read(fd, 10).unwrap(), b"ello");
    assert_eq!(bench.seek(fd, -6, 1), Err(Errno::Inval as u16));
    assert_eq!(bench.seek(fd, 3, 2), Ok(8));
    assert_eq!(bench.write(fd, b"!"), Ok(1));
    assert_eq!(bench.size(fd), 9);
    let appending = bench.open("d/f", 0, WRITE, APPEND).unwrap();
    bench.write(appending, b"+").unwrap();
    assert_eq!((bench.size(fd), bench.read(appending, 1)), (10, Err(Errno::Badf as u16)));
    assert_eq!(bench.rename("d", "d/sub"), Err(Errno::Inval as u16));
    assert!(bench.rename("d/f", "g").is_ok());
    assert_eq!(bench.list("."), [".", "..", "d", "g", "in"]);
    assert!(bench.path_call("path_remove_directory", "d").is_ok());
    assert!(bench.path_call("path_unlink_file", "g").is_ok());
    // An unlinked file lives until it is closed.
    bench.seek(fd, 0, 0).unwrap();
    assert_eq!(bench.read(fd, 5).unwrap(), b"hello");
    let used = bench.world.file_bytes();
    for fd in [fd, appending] {
        bench.call("fd_close", &[fd]).unwrap();
        assert_eq!(bench.call("fd_close", &[fd]), Err(Errno::Badf as u16));
    }
    assert!(used > 0 && bench.world.file_bytes() == 0);
    let again = bench.open("new", CREATE | TRUNCATE, WRITE, 0).unwrap();
    assert_eq!(again, fd);
}

#[test]
fn inputs_are_read_only_and_nothing_lies_outside() {
    let mut bench = Bench::new();
    let fd = bench.open("in/data.txt", 0, READ, 0).unwrap();
    assert_eq!(bench.read(fd, 100).unwrap(), b"input");
    assert_eq!(bench.open("in/data.txt", 0, WRITE, 0), Err(Errno::Rofs as u16));
    assert_eq!(bench.path_call("path_unlink_file", "in/data.txt"), Err(Errno::Rofs as u16));
    assert_eq!(bench.rename("in/data.txt", "x"), Err(Errno::Rofs as u16));
    for outside in ["..", "in/../..", "/etc/passwd", "../x"] {
        assert_eq!(bench.open(outside, 0, READ, 0), Err(Errno::Notcapable as u16), "{outside}");
    }
    assert_eq!(bench.open("in/data.txt/x", 0, READ, 0), Err(Errno::Notdir as u16));
    assert_eq!(bench.path_call("path_remove_directory", "in"), Err(Errno::Notempty as u16));
    assert_eq!(bench.path_call("path_unlink_file", "in"), Err(Errno::Isdir as u16));
}

#[test]
fn a_directory_that_is_gone_takes_nothing_in() {
    let mut bench = Bench::new();
    bench.path_call("path_create_directory", "a").unwrap();
    bench.path_call("path_create_directory", "a/b").unwrap();
    let gone = bench.open("a/b", 2, READ, 0).unwrap();
    bench.path_call("path_remove_directory", "a/b").unwrap();
    bench.path_call("path_remove_directory", "a").unwrap();
    bench.path_call("path_create_directory", "c").unwrap();
    let (at, length) = bench.path(PATH, "c");
    let (to, to_length) = bench.path(OTHER_PATH, "x");
    assert_eq!(bench.call("path_rename", &[3, at, length, gone, to, to_length]), Err(Errno::Noent as u16));
    assert_eq!(bench.call("path_create_directory", &[gone, to, to_length]), Err(Errno::Noent as u16));
    let listing = bench.call("fd_readdir", &[gone, u64::from(DATA), 4096, 0, u64::from(RESULT)]);
    assert!(listing.is_ok());
}

#[test]
fn files_count_toward_the_memory_limit() {
    let mut bench = Bench::new();
    let fd = bench.open("big", CREATE, WRITE, 0).unwrap();
    // The limit is 256 KiB, of which the memory takes 64.
    assert_eq!(bench.call("fd_filestat_set_size", &[fd, 1 << 18]), Err(Errno::Nospc as u16));
    assert!(bench.call("fd_filestat_set_size", &[fd, 150 << 10]).is_ok());
    assert_eq!(bench.call("fd_allocate", &[fd, 0, 200 << 10]), Err(Errno::Nospc as u16));
    bench.seek(fd, 1 << 40, 0).unwrap();
    assert_eq!(bench.write(fd, b"x"), Err(Errno::Nospc as u16));
    let mut made = 0;
    while bench.path_call("path_create_directory", &format!("d{made}")).is_ok() {
        made += 1;
    }
    assert!((100..200).contains(&made), "{made}");
}

#[test]
fn descriptors_are_few_and_can_be_moved() {
    let mut bench = Bench::new();
    let mut last = 0;
    while let Ok(fd) = bench.open("in/data.txt", 0, READ, 0) {
        last = fd;
    }
    assert_eq!(last, 1023);
    assert_eq!(bench.open("in", 0, READ, 0), Err(Errno::Mfile as u16));
    assert!(bench.call("fd_renumber", &[last, 1]).is_ok());
    assert_eq!(bench.read(1, 100).unwrap(), b"input");
    assert_eq!(bench.call("fd_renumber", &[last, 1]), Err(Errno::Badf as u16));
    assert_eq!(bench.call("sock_shutdown", &[0, 0]), Err(Errno::Notsup as u16));
}

#[test]
fn whatever_a_guest_passes_nothing_panics_and_it_is_paid_for() {
    let mut random = 1_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 24
    };
    let mut bench = Bench::new();
    bench.world.given.limits.wall = Duration::MAX;
    for _ in 0..200_000 {
        let name = NAMES[usize::try_from(next()).unwrap() % (NAMES.len() - 1)];
        let arguments: Vec<u64> = (0..9)
            .map(|_| match next() % 8 {
                0 => next(),
                1 => u64::MAX - next() % 70_000,
                2 => 65_536 - next() % 64,
                3 => next() % 65_536,
                _ => next() % 12,
            })
            .collect();
        // Garbage that is sometimes a path, a list of pieces or a subscription.
        let at = u32::try_from(next() % 60_000).unwrap();
        let bytes = [next() as u8, b'/', b'.', b'a' + (next() % 4) as u8, 0, 0, next() as u8 % 3, 0];
        guest::put(&mut bench.memory, at % 40, &bytes).unwrap();
        guest::put(&mut bench.memory, at, &bytes).unwrap();
        let before = bench.left;
        let mut call = Call { memory: &mut bench.memory, world: &mut bench.world, left: before };
        let result = call_by_name(name, &mut call, &arguments);
        assert!(matches!(result, Ok(()) | Err(Stop::Errno(_) | Stop::Halt(Halt::OutputLimit | Halt::OutOfGas))), "{name}");
        bench.left = call.left.max(1 << 30);
        let limit = bench.world.limits();
        assert!(bench.world.output.len() as u64 <= limit.output_bytes && bench.world.log.len() as u64 <= limit.log_bytes);
        assert!(bench.world.file_bytes() + bench.memory.len() as u64 <= limit.memory_bytes);
    }
}
