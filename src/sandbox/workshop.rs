//! What all slots of a node share: the program that they run, and native code.

use super::{
    cache::{Cache, Key},
    frame::Kind,
    host::Process,
    inspect::{Rejection, admit},
    jail::Protection,
    stopper::Stopper,
};
use crate::protocol::{ids::Digest, outcome::UnitLimits};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// How long compiling may take. The largest module that we know takes half a minute.
const COMPILE_WALL: Duration = Duration::from_secs(600);

/// Writable memory of a compiling process, in bytes. The largest module that we know takes 1.5 GiB.
const COMPILE_MEMORY: u64 = 6 << 30;

/// Writable memory of a slot besides the unit's, in bytes: native code, buffered tasks and output.
const SLOT_MEMORY: u64 = 2 << 30;

/// Something went wrong with a slot.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The process could not be started.
    #[error("could not start a slot process: {0}")]
    Spawn(#[source] io::Error),
    /// The process ended, or never reached its jail.
    #[error("the slot process ended unexpectedly")]
    Died,
    /// The process took too long.
    #[error("the slot process took longer than {} s", limit.as_secs())]
    TooSlow {
        /// What it had.
        limit: Duration,
    },
    /// The process said something that makes no sense.
    #[error("the slot process broke the protocol")]
    Protocol,
    /// A module or its native code is too large to hand over.
    #[error("too large for a slot")]
    TooLarge,
    /// No module is loaded.
    #[error("no module is loaded")]
    NothingLoaded,
    /// The module's bytes could not be had.
    #[error("the module's bytes could not be had: {0}")]
    Module(#[source] io::Error),
    /// The bytes are not those of the module.
    #[error("the bytes are not those of module {expected:?}")]
    WrongModule {
        /// What was asked for.
        expected: Digest,
    },
    /// The module is refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The process could not do what it was asked.
    #[error("the slot process refused: {0}")]
    Refused(String),
}

/// What slots share. Cheap to keep: it starts processes only when asked.
pub struct Workshop {
    program: PathBuf,
    cache: Cache,
    memory_bytes: u64,
    /// Code that some slot has, so that another one need not read it again.
    shared: Mutex<BTreeMap<Digest, Weak<Vec<u8>>>>,
    /// Held while compiling: one at a time, so that a module that several slots want is compiled once.
    compiling: Mutex<()>,
}

impl Workshop {
    /// Prepares slots that run `program` (a binary whose `main` calls [`slot_main`](super::slot_main)) and keep native code
    /// in `cache`, a directory of their own. `memory_bytes` is the largest memory that a unit may have here.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made.
    pub fn new(program: PathBuf, cache: &Path, memory_bytes: u64) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            program,
            cache: Cache::open(cache)?,
            memory_bytes: memory_bytes.min(UnitLimits::MAX.memory_bytes),
            shared: Mutex::default(),
            compiling: Mutex::default(),
        }))
    }

    /// Prepares slots that run the present program.
    ///
    /// # Errors
    ///
    /// As [`Workshop::new`], and when the program's own path is unknown.
    pub fn of_this_program(cache: &Path, memory_bytes: u64) -> io::Result<Arc<Self>> {
        // On Linux this works even when the binary was replaced meanwhile.
        let program = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
        Self::new(program, cache, memory_bytes)
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Writable memory of a slot process.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.saturating_add(SLOT_MEMORY)
    }

    /// What holds around slots on this machine, from a slot that is started to find out.
    ///
    /// # Errors
    ///
    /// When no slot can be started.
    pub fn protection(&self) -> Result<Protection, SlotError> {
        Ok(Process::spawn(self, self.memory_bytes(), &Stopper::default())?.protection)
    }

    /// What code in a jail is denied, tried out: one line for each attempt. Empty where there is no jail.
    ///
    /// # Errors
    ///
    /// When the process cannot be started or ends before it has tried everything.
    pub fn probe(&self) -> Result<String, SlotError> {
        self.probe_with("probe")
    }

    /// As [`Workshop::probe`], without the system call filter, to see what the other layers deny.
    #[doc(hidden)]
    pub fn probe_without_filter(&self) -> Result<String, SlotError> {
        self.probe_with("probe-landlock")
    }

    fn probe_with(&self, mode: &str) -> Result<String, SlotError> {
        let arguments = [super::slot::SLOT_ARGUMENT, mode, &self.memory_bytes().to_string(), &std::process::id().to_string()];
        let output = Command::new(&self.program).args(arguments).env_clear().output().map_err(SlotError::Spawn)?;
        if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(SlotError::Died) }
    }

    /// The native code of a module, from memory, disk, or the compiler in its jail.
    pub(super) fn native(
        &self,
        module: Digest,
        engine: Digest,
        bytes: impl FnOnce() -> io::Result<Vec<u8>>,
        stopper: &Stopper,
    ) -> Result<Arc<Vec<u8>>, SlotError> {
        let key = Key::new(module, engine);
        if let Some(native) = self.present(key) {
            return Ok(native);
        }
        let _one_at_a_time = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Another slot may have compiled it meanwhile.
        if let Some(native) = self.present(key) {
            return Ok(native);
        }
        let wasm = bytes().map_err(SlotError::Module)?;
        if Digest::of(&wasm) != module {
            return Err(SlotError::WrongModule { expected: module });
        }
        let native = self.compile(&wasm, stopper)?;
        // Without room on the disk it is compiled again next time.
        let _ = self.cache.put(key, &native);
        Ok(self.share(key, native))
    }

    /// Forgets the native code of a module.
    pub(super) fn discard(&self, module: Digest, engine: Digest) {
        let key = Key::new(module, engine);
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.digest());
        self.cache.discard(key);
    }

    /// Native code that is in memory or on disk.
    fn present(&self, key: Key) -> Option<Arc<Vec<u8>>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(&key.digest()).and_then(Weak::upgrade);
        shared.or_else(|| Some(self.share(key, self.cache.get(key)?)))
    }

    fn share(&self, key: Key, native: Vec<u8>) -> Arc<Vec<u8>> {
        let native = Arc::new(native);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, code| code.strong_count() > 0);
        shared.insert(key.digest(), Arc::downgrade(&native));
        native
    }

    /// Instruments and compiles a module in a process of its own.
    fn compile(&self, wasm: &[u8], stopper: &Stopper) -> Result<Vec<u8>, SlotError> {
        // Done here too, where the reason for a refusal keeps its type.
        admit(wasm)?;
        let mut process = Process::spawn(self, COMPILE_MEMORY, stopper)?;
        match process.request(Kind::Compile, wasm, Kind::Native, COMPILE_WALL) {
            Err(SlotError::Refused(message)) => Err(Rejection::Compile(message).into()),
            Err(SlotError::Died) if !stopper.is_cancelled() => {
                Err(Rejection::Compile("the compiler ran out of memory or failed".to_owned()).into())
            }
            Err(SlotError::TooSlow { limit }) => {
                Err(Rejection::Compile(format!("the compiler took longer than {} s", limit.as_secs())).into())
            }
            other => other,
        }
    }
}
