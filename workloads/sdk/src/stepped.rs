//! Stepped workloads: three functions instead of one, between which the grid may look at the program's state.

use crate::{Args, Error, Output, system};

/// A workload whose units run for long and give control back between their steps.
///
/// The grid hashes the program's memory between steps, takes it out and goes on with it on another machine, so nothing that
/// matters may live anywhere but in `self`. A step should do a hundred thousand instructions or more, and well below a second.
pub trait Stepped: Sized {
    /// Begins from the command line, and from standard input where it is used.
    ///
    /// # Errors
    /// Whatever makes the unit fail; it ends with the error's exit code.
    fn begin(args: Args) -> Result<Self, Error>;

    /// Does one step. Returns whether there is more to do.
    ///
    /// # Errors
    /// Whatever makes the unit fail; it ends with the error's exit code.
    fn step(&mut self, output: &mut Output) -> Result<bool, Error>;

    /// Writes what was found.
    ///
    /// # Errors
    /// Whatever makes the unit fail; it ends with the error's exit code.
    fn result(&mut self, output: &mut Output) -> Result<(), Error>;
}

/// Makes the program's entries from a type that is [`Stepped`] and a usage text: `_start` for any engine, and the functions by
/// which manyhands runs it step by step.
///
/// Errors and `--help` are as in [`command!`](crate::command).
#[macro_export]
macro_rules! stepped {
    ($workload:ty, $usage:expr) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            static PROGRAM: $crate::Cell<$crate::Program<$workload>> = $crate::Cell::new($crate::Program::new($usage));

            #[unsafe(no_mangle)]
            extern "C" fn manyhands_init() {
                PROGRAM.with($crate::Program::init);
            }

            #[unsafe(no_mangle)]
            extern "C" fn manyhands_step() -> i32 {
                i32::from(PROGRAM.with($crate::Program::step))
            }

            #[unsafe(no_mangle)]
            extern "C" fn manyhands_result() {
                PROGRAM.with($crate::Program::result);
            }

            #[unsafe(no_mangle)]
            extern "C" fn _start() {
                manyhands_init();
                while manyhands_step() != 0 {}
                manyhands_result();
            }
        };

        #[cfg(not(target_family = "wasm"))]
        fn main() {
            let mut program = $crate::Program::<$workload>::new($usage);
            program.init();
            while program.step() {}
            program.result();
        }
    };
}

/// A stepped program between its entries; used by [`stepped!`](crate::stepped).
#[derive(Debug)]
pub struct Program<W> {
    usage: &'static str,
    workload: Option<W>,
    output: Output,
}

impl<W: Stepped> Program<W> {
    /// A program that has not begun.
    pub const fn new(usage: &'static str) -> Self {
        Self { usage, workload: None, output: Output::stdout() }
    }

    /// Begins.
    pub fn init(&mut self) {
        let begun = Args::of_program().and_then(|mut args| {
            if args.asks_for_help() {
                self.output.write(self.usage.as_bytes())?;
                self.output.write(b"\n")?;
                self.output.flush()?;
                system::exit(0);
            }
            W::begin(args)
        });
        self.workload = Some(self.or_end(begun));
    }

    /// Does one step. Returns whether there is more to do; there is not before [`Program::init`].
    pub fn step(&mut self) -> bool {
        let Some(workload) = &mut self.workload else { return false };
        let more = workload.step(&mut self.output);
        self.or_end(more)
    }

    /// Writes the result.
    pub fn result(&mut self) {
        let Some(workload) = &mut self.workload else { return };
        let written = workload.result(&mut self.output).and_then(|()| self.output.flush());
        self.or_end(written);
    }

    fn or_end<T>(&self, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|error| crate::command::fail(&error, self.usage))
    }
}

/// A static that is changed; used by [`stepped!`](crate::stepped).
#[cfg(target_family = "wasm")]
#[derive(Debug)]
pub struct Cell<T>(core::cell::UnsafeCell<T>);

// SAFETY: a module has one thread.
#[cfg(target_family = "wasm")]
unsafe impl<T> Sync for Cell<T> {}

#[cfg(target_family = "wasm")]
impl<T> Cell<T> {
    /// A static with this in it.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Changes it. The entries do not call one another while it is borrowed.
    pub fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: there is one thread, and no entry is called from within another's borrow.
        change(unsafe { &mut *self.0.get() })
    }
}
