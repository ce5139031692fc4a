//! What escaped code would try. Run by the tests and by `doctor` in a process of its own, inside the jail, with plain system
//! calls; each line of the answer says whether an attempt was denied.

#![allow(unsafe_code, reason = "tries plain system calls, as escaped code would")]

use std::{fmt::Write as _, io};

/// Tries everything; one line each: the attempt, `denied` or `ALLOWED`, and the error.
pub(in crate::sandbox) fn probe(parent: u32) -> String {
    let parent = parent.cast_signed();
    let mut report = String::new();
    let attempts: [(&str, &dyn Fn() -> i64); 12] = [
        ("open a file", &|| open(c"/etc/passwd", libc::O_RDONLY)),
        ("create a file", &|| open(c"manyhands-probe", libc::O_CREAT | libc::O_WRONLY)),
        ("create a file in /tmp", &|| open(c"/tmp/manyhands-probe", libc::O_CREAT | libc::O_WRONLY)),
        ("list a directory", &|| open(c"/", libc::O_RDONLY | libc::O_DIRECTORY)),
        ("read the parent's memory as a file", &|| {
            let path = std::ffi::CString::new(format!("/proc/{parent}/mem")).expect("no zero inside");
            open(&path, libc::O_RDONLY)
        }),
        ("make an internet socket", &|| socket(libc::AF_INET)),
        ("connect to this machine", &connect),
        ("make a local socket", &|| socket(libc::AF_UNIX)),
        ("start a process", &fork),
        ("run a program", &execute),
        ("signal the parent", &|| {
            // SAFETY: signal 0 does nothing.
            i64::from(unsafe { libc::kill(parent, 0) })
        }),
        ("read the parent's memory", &|| read_memory(parent)),
    ];
    for (name, attempt) in attempts {
        let result = attempt();
        let error = io::Error::last_os_error();
        let verdict = if result < 0 { format!("denied: {error}") } else { "ALLOWED".to_owned() };
        let _ = writeln!(report, "{name}: {verdict}");
    }
    report
}

fn open(path: &std::ffi::CStr, flags: libc::c_int) -> i64 {
    // SAFETY: a valid path; the descriptor is kept until the process ends.
    i64::from(unsafe { libc::open(path.as_ptr(), flags, 0o600) })
}

fn socket(family: libc::c_int) -> i64 {
    // SAFETY: no memory is passed.
    i64::from(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })
}

/// Connects to port 9 of this machine; that nobody listens there shows that the attempt was allowed.
fn connect() -> i64 {
    let socket = socket(libc::AF_INET);
    if socket < 0 {
        return socket;
    }
    // SAFETY: an all-zero address is a valid value, and its length is passed.
    let result = unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = 9_u16.to_be();
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let length = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
        libc::connect(socket as libc::c_int, (&raw const address).cast(), length)
    };
    let refused = io::Error::last_os_error().kind() == io::ErrorKind::ConnectionRefused;
    if refused { 0 } else { i64::from(result) }
}

fn fork() -> i64 {
    // SAFETY: a child that should not exist ends at once.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(0);
        }
        i64::from(pid)
    }
}

fn execute() -> i64 {
    let arguments = [c"/bin/true".as_ptr(), std::ptr::null()];
    // SAFETY: a valid path and null-terminated lists.
    i64::from(unsafe { libc::execve(arguments[0], arguments.as_ptr(), arguments[1..].as_ptr()) })
}

fn read_memory(parent: i32) -> i64 {
    // SAFETY: no memory of the target is read or written: attaching alone is the attempt, and the process ends soon after.
    unsafe { libc::ptrace(libc::PTRACE_SEIZE, parent, 0, 0) }
}
