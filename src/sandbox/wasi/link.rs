//! The list of all WASI functions: their names, their signatures, and where each is.

use super::{Call, Halt, MODULE, Stop, fd, path, system};
use crate::sandbox::{engine::Guest, inspect::Signature};
use wasmparser::ValType;
use wasmtime::{Caller, Linker, Val};

/// A parameter's WebAssembly type.
macro_rules! wasm_type {
    (u32) => {
        ValType::I32
    };
    (u64) => {
        ValType::I64
    };
}

macro_rules! functions {
    ($($name:literal ($($arg:ident: $type:tt),*) = $body:path;)*) => {
        /// The parameters and results of a WASI function, if there is one of this name.
        pub(in crate::sandbox) fn signature(name: &str) -> Option<Signature> {
            match name {
                $($name => Some((&[$(wasm_type!($type)),*], &[ValType::I32])),)*
                "proc_exit" => Some((&[ValType::I32], &[])),
                _ => None,
            }
        }

        /// Gives a linker all of them.
        pub(in crate::sandbox) fn add_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
            $(linker.func_wrap(MODULE, $name, |mut caller: Caller<'_, Guest>, $($arg: $type),*| -> wasmtime::Result<u32> {
                enter(&mut caller, |call| $body(call, $($arg),*))
            })?;)*
            linker.func_wrap(MODULE, "proc_exit", |mut caller: Caller<'_, Guest>, code: u32| -> wasmtime::Result<()> {
                enter(&mut caller, |call| system::proc_exit(call, code)).map(drop)
            })?;
            Ok(())
        }

        #[cfg(test)]
        pub(super) const NAMES: &[&str] = &[$($name,)* "proc_exit"];

        /// Calls a function by its name with so many of the arguments as it takes.
        #[cfg(test)]
        pub(super) fn call_by_name(name: &str, call: &mut Call<'_>, arguments: &[u64]) -> Result<(), Stop> {
            let mut arguments = arguments.iter();
            match name {
                $($name => {
                    $(let $arg = *arguments.next().expect("as many as any function takes") as $type;)*
                    $body(call, $($arg),*)
                })*
                other => unreachable!("{other}"),
            }
        }
    };
}

functions! {
    "args_get"(pointers: u32, bytes: u32) = system::args_get;
    "args_sizes_get"(count: u32, bytes: u32) = system::args_sizes_get;
    "environ_get"(pointers: u32, bytes: u32) = system::environ_get;
    "environ_sizes_get"(count: u32, bytes: u32) = system::environ_sizes_get;
    "clock_res_get"(clock: u32, result: u32) = system::clock_res_get;
    "clock_time_get"(clock: u32, precision: u64, result: u32) = system::clock_time_get;
    "fd_advise"(fd: u32, offset: u64, length: u64, advice: u32) = fd::advise;
    "fd_allocate"(fd: u32, offset: u64, length: u64) = fd::allocate;
    "fd_close"(fd: u32) = fd::close;
    "fd_datasync"(fd: u32) = fd::sync;
    "fd_fdstat_get"(fd: u32, result: u32) = fd::fdstat_get;
    "fd_fdstat_set_flags"(fd: u32, flags: u32) = fd::fdstat_set_flags;
    "fd_fdstat_set_rights"(fd: u32, base: u64, inheriting: u64) = fd::fdstat_set_rights;
    "fd_filestat_get"(fd: u32, result: u32) = fd::filestat_get;
    "fd_filestat_set_size"(fd: u32, length: u64) = fd::filestat_set_size;
    "fd_filestat_set_times"(fd: u32, accessed: u64, modified: u64, flags: u32) = fd::filestat_set_times;
    "fd_pread"(fd: u32, pieces: u32, count: u32, offset: u64, result: u32) = fd::pread;
    "fd_prestat_get"(fd: u32, result: u32) = fd::prestat_get;
    "fd_prestat_dir_name"(fd: u32, at: u32, length: u32) = fd::prestat_dir_name;
    "fd_pwrite"(fd: u32, pieces: u32, count: u32, offset: u64, result: u32) = fd::pwrite;
    "fd_read"(fd: u32, pieces: u32, count: u32, result: u32) = fd::read;
    "fd_readdir"(fd: u32, at: u32, length: u32, cookie: u64, result: u32) = fd::readdir;
    "fd_renumber"(from: u32, to: u32) = fd::renumber;
    "fd_seek"(fd: u32, offset: u64, whence: u32, result: u32) = fd::seek;
    "fd_sync"(fd: u32) = fd::sync;
    "fd_tell"(fd: u32, result: u32) = fd::tell;
    "fd_write"(fd: u32, pieces: u32, count: u32, result: u32) = fd::write;
    "path_create_directory"(fd: u32, at: u32, length: u32) = path::create_directory;
    "path_filestat_get"(fd: u32, flags: u32, at: u32, length: u32, result: u32) = path::filestat_get;
    "path_filestat_set_times"(fd: u32, flags: u32, at: u32, length: u32, accessed: u64, modified: u64, which: u32) =
        path::filestat_set_times;
    "path_link"(old_fd: u32, flags: u32, old: u32, old_length: u32, new_fd: u32, new: u32, new_length: u32) = path::link;
    "path_open"(
        fd: u32, lookup: u32, at: u32, length: u32, how: u32, rights: u64, inheriting: u64, flags: u32, result: u32
    ) = path::open;
    "path_readlink"(fd: u32, at: u32, length: u32, to: u32, to_length: u32, result: u32) = path::readlink;
    "path_remove_directory"(fd: u32, at: u32, length: u32) = path::remove_directory;
    "path_rename"(old_fd: u32, old: u32, old_length: u32, new_fd: u32, new: u32, new_length: u32) = path::rename;
    "path_symlink"(old: u32, old_length: u32, fd: u32, new: u32, new_length: u32) = path::symlink;
    "path_unlink_file"(fd: u32, at: u32, length: u32) = path::unlink_file;
    "poll_oneoff"(input: u32, output: u32, count: u32, result: u32) = system::poll_oneoff;
    "proc_raise"(signal: u32) = system::proc_raise;
    "sched_yield"() = system::sched_yield;
    "random_get"(at: u32, length: u32) = system::random_get;
    "sock_accept"(fd: u32, flags: u32, result: u32) = system::sock_accept;
    "sock_recv"(fd: u32, pieces: u32, count: u32, flags: u32, read: u32, out_flags: u32) = system::sock_recv;
    "sock_send"(fd: u32, pieces: u32, count: u32, flags: u32, written: u32) = system::sock_send;
    "sock_shutdown"(fd: u32, how: u32) = system::sock_shutdown;
}

/// Makes a host call: takes the guest's gas and memory, runs it, puts the gas back.
fn enter(caller: &mut Caller<'_, Guest>, body: impl FnOnce(&mut Call<'_>) -> Result<(), Stop>) -> wasmtime::Result<u32> {
    let handles = caller.data().handles.expect("the guest runs only after its handles are known");
    let left = handles.gas.get(&mut *caller).i64().and_then(|gas| u64::try_from(gas).ok()).unwrap_or(0);
    let (memory, guest) = handles.memory.data_and_store_mut(&mut *caller);
    let mut call = Call { memory, world: &mut guest.world, left };
    let result = call.charge(super::CALL_GAS).and_then(|()| body(&mut call));
    let left = match result {
        Err(Stop::Halt(Halt::OutOfGas)) => -1,
        _ => i64::try_from(call.left).unwrap_or(i64::MAX),
    };
    handles.gas.set(&mut *caller, Val::I64(left))?;
    match result {
        Ok(()) => Ok(0),
        Err(Stop::Errno(errno)) => Ok(u32::from(errno as u16)),
        Err(Stop::Halt(halt)) => Err(halt.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_46_functions_are_there() {
        assert_eq!(NAMES.len(), 46);
        assert!(NAMES.iter().all(|name| signature(name).is_some()));
    }
}
