//! The system of a WASI command: six imports, the allocator and what a panic does.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

use crate::Error;
use crate::decimal::{DIGITS_MAX, digits};
use crate::heap::{Heap, Memory};

const STDIN: i32 = 0;
const STDOUT: i32 = 1;
const STDERR: i32 = 2;

/// The exit code of a panic, as that of native Rust programs.
const PANIC: u8 = 101;

const PAGE_BYTES: usize = 64 * 1024;

/// A piece of memory in the layout that WASI prescribes for `iovec` and `ciovec`.
#[repr(C)]
struct Piece {
    start: *const u8,
    length: usize,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn args_get(words: *mut *const u8, text: *mut u8) -> i32;
    fn args_sizes_get(count: *mut usize, text_bytes: *mut usize) -> i32;
    fn fd_read(file: i32, pieces: *const Piece, count: usize, read: *mut usize) -> i32;
    fn fd_write(file: i32, pieces: *const Piece, count: usize, written: *mut usize) -> i32;
    fn proc_exit(code: i32) -> !;
}

/// The words of the command line, the program's name first.
pub(crate) fn arguments() -> Result<Vec<&'static str>, Error> {
    const UNREADABLE: Error = Error::failure("the arguments cannot be read");
    let (mut count, mut text_bytes) = (0, 0);
    // SAFETY: both pointers are valid for one write.
    if unsafe { args_sizes_get(&raw mut count, &raw mut text_bytes) } != 0 {
        return Err(UNREADABLE);
    }
    let mut words = alloc::vec![core::ptr::null(); count];
    // Arguments live as long as the program.
    let text = alloc::vec![0_u8; text_bytes].leak();
    // SAFETY: both buffers are as large as the system asked for.
    if unsafe { args_get(words.as_mut_ptr(), text.as_mut_ptr()) } != 0 {
        return Err(UNREADABLE);
    }
    // The words stand one after the other, each with a zero behind it.
    let words = text.split(|byte| *byte == 0).take(count);
    words.map(|word| core::str::from_utf8(word).map_err(|_| Error::usage("an argument is not UTF-8"))).collect()
}

/// Reads standard input; 0 is the end.
pub(crate) fn read(buffer: &mut [u8]) -> Result<usize, Error> {
    let piece = Piece { start: buffer.as_mut_ptr(), length: buffer.len() };
    let mut count = 0;
    // SAFETY: the piece is the exclusively borrowed buffer, and `count` is valid for one write.
    let status = unsafe { fd_read(STDIN, &raw const piece, 1, &raw mut count) };
    if status != 0 || count > buffer.len() {
        return Err(Error::failure("standard input cannot be read"));
    }
    Ok(count)
}

/// Writes all of `bytes` to standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    if write_all(STDOUT, bytes) { Ok(()) } else { Err(Error::failure("standard output cannot be written")) }
}

/// Writes to standard error as far as that is possible.
pub(crate) fn write_error(bytes: &[u8]) {
    // There is nowhere left to report to.
    let _ = write_all(STDERR, bytes);
}

/// Writes until nothing is left; false where the system refuses or takes nothing.
fn write_all(file: i32, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let piece = Piece { start: bytes.as_ptr(), length: bytes.len() };
        let mut count = 0;
        // SAFETY: the piece is the borrowed slice, which the system only reads, and `count` is valid for one write.
        let status = unsafe { fd_write(file, &raw const piece, 1, &raw mut count) };
        match bytes.get(count..) {
            Some(rest) if status == 0 && count > 0 => bytes = rest,
            Some(_) | None => return false,
        }
    }
    true
}

/// Ends the program.
pub(crate) fn exit(code: u8) -> ! {
    // SAFETY: the call does not return and touches no memory.
    unsafe { proc_exit(i32::from(code)) }
}

/// Prints where and, for a fixed text, why; then ends with [`PANIC`].
///
/// Texts with values in them are left out: the formatting machinery is larger than most workloads.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    write_error(b"panic");
    if let Some(location) = info.location() {
        write_error(b" at ");
        write_error(location.file().as_bytes());
        write_error(b":");
        write_error(digits(u64::from(location.line()), &mut [0; DIGITS_MAX]));
    }
    if let Some(message) = info.message().as_str() {
        write_error(b": ");
        write_error(message.as_bytes());
    }
    write_error(b"\n");
    exit(PANIC)
}

/// Compares memory as C's `memcmp` does. The compiler calls it and there is no libc; copying and filling are instructions.
///
/// # Safety
/// Both addresses are valid for reads of `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: the index is below the length, for which the caller vouches.
        let (a, b) = unsafe { (*one.add(index), *other.add(index)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// The heap of the module's only thread.
struct OneThread(UnsafeCell<Heap<Pages>>);

// SAFETY: a WASI preview 1 command has one thread, and no method calls back into the allocator.
unsafe impl Sync for OneThread {}

#[global_allocator]
static HEAP: OneThread = OneThread(UnsafeCell::new(Heap::new()));

// SAFETY: blocks are disjoint, aligned and as large as asked for, see `Heap`; it has all memory behind `__heap_base`.
unsafe impl GlobalAlloc for OneThread {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe extern "C" {
            /// The end of the stack and of static data; the linker defines it.
            static __heap_base: u8;
        }
        // SAFETY: no other reference to the heap is alive: there is one thread, and none leaves a method.
        let heap = unsafe { &mut *self.0.get() };
        if heap.is_unused() {
            heap.begin(&raw const __heap_base as usize, wasm32::memory_size::<0>() * PAGE_BYTES);
        }
        // SAFETY: the memory behind `__heap_base` belongs to this heap alone.
        match unsafe { heap.allocate(layout) } {
            Some(address) => address as *mut u8,
            None => out_of_memory(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`; the caller promises that the block came from here with this layout.
        unsafe { (*self.0.get()).release(pointer as usize, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        if unsafe { (*self.0.get()).resize_in_place(pointer as usize, layout, new_size) } {
            return pointer;
        }
        // SAFETY: the caller promises a valid new size; the old block is as long as `layout` says, and the new one is
        // another block of at least `new_size` bytes.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            core::ptr::copy_nonoverlapping(pointer, moved, layout.size().min(new_size));
            self.dealloc(pointer, layout);
            moved
        }
    }
}

/// The pages of the module's memory.
struct Pages;

impl Memory for Pages {
    fn grow(wanted: usize) -> Option<usize> {
        let held = wasm32::memory_size::<0>();
        let pages = wanted.div_ceil(PAGE_BYTES).saturating_sub(held);
        if wasm32::memory_grow::<0>(pages) == usize::MAX { None } else { Some((held + pages).saturating_mul(PAGE_BYTES)) }
    }
}

/// Says so and traps. An exit code would be a result; a trap leaves the judgement to whoever set the memory limit.
fn out_of_memory() -> ! {
    write_error(b"out of memory\n");
    wasm32::unreachable()
}
