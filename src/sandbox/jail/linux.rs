//! The jail on Linux. Entered once, by the only thread of a slot process, after the engine was set up and before the first
//! untrusted byte arrives. There is no way out.

#![allow(unsafe_code, reason = "signal handlers and process settings have no safe interface")]

use super::{Protection, Room, Violation};
use landlock::{ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use std::{collections::BTreeMap, io};

/// The largest file that may be written: the memory images of modules live in unnamed files.
const MAX_FILE: u64 = 256 << 20;

/// Open files: standard streams, the page map, the images.
const MAX_DESCRIPTORS: u64 = 32;

/// The `ioctl` with which the engine finds the pages that a unit has touched.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// The stack of the process: the unit's, and as much again.
const STACK: u64 = super::super::engine::THREAD_STACK as u64 * 2;

/// The newest Landlock that we know. Older kernels give what they have.
const LANDLOCK: ABI = ABI::V6;

/// The system calls of a running slot. None of them reaches anything outside of the process but the sockets and files that it
/// holds already.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_membarrier,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What must happen before the engine is set up: nothing inherited stays open, and the stack may grow.
pub(in crate::sandbox) fn prepare() {
    // SAFETY: runs first in the process, so no descriptor above the standard streams is owned by anything.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
    let limit = rustix::process::getrlimit(Resource::Stack);
    let wanted = limit.maximum.map_or(STACK, |maximum| maximum.min(STACK));
    if limit.current.is_some_and(|current| current < wanted) {
        // Where it is not granted, deep recursion ends sooner, as a failed attempt.
        let _ = rustix::process::setrlimit(Resource::Stack, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
    // When memory runs out on this machine, slots go before anything of the owner's.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Enters the jail.
///
/// # Errors
///
/// When the parent is gone, or when a filter that this kernel should take could not be installed.
pub(in crate::sandbox) fn enter(room: Room, violation: Violation) -> io::Result<Protection> {
    let mut protection = Protection { idle_priority: lowest_priority(), ..Protection::NONE };
    protection.no_privileges = give_up_privileges();
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(room.parent) {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "the parent process is gone"));
    }
    protection.resource_limits = limit_resources(room);
    match restrict_by_landlock() {
        RulesetStatus::FullyEnforced => (protection.landlock, protection.landlock_full) = (true, true),
        RulesetStatus::PartiallyEnforced => protection.landlock = true,
        RulesetStatus::NotEnforced => {}
    }
    protection.seccomp = match violation {
        Violation::Kills => filter(SeccompAction::KillProcess)?,
        Violation::Fails => filter(SeccompAction::Errno(libc::EPERM.cast_unsigned()))?,
        Violation::Unfiltered => false,
    };
    Ok(protection)
}

fn lowest_priority() -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: plain system calls on this process, with a valid structure.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        // Idle class for disk access.
        libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13);
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) == 0
    }
}

fn give_up_privileges() -> bool {
    // SAFETY: prctl with constant arguments.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
            && libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    }
}

fn limit_resources(room: Room) -> bool {
    let limits = [
        (Resource::Core, 0),
        (Resource::Fsize, MAX_FILE),
        (Resource::Nofile, MAX_DESCRIPTORS),
        (Resource::Memlock, 0),
        (Resource::Nproc, 0),
        (Resource::Data, room.memory_bytes),
    ];
    limits.into_iter().all(|(resource, value)| {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, limit).is_ok()
    })
}

fn restrict_by_landlock() -> RulesetStatus {
    let restrict = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .restrict_self()
    };
    restrict().map_or(RulesetStatus::NotEnforced, |status: landlock::RestrictionStatus| status.ruleset)
}

/// Installs the filter; `false` when this kernel or processor has none.
fn filter(action: SeccompAction) -> io::Result<bool> {
    let Ok(architecture) = std::env::consts::ARCH.try_into() else {
        return Ok(false);
    };
    let other = |error: seccompiler::BackendError| io::Error::other(error);
    let scan = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PAGEMAP_SCAN).map_err(other)?;
    // Sealing a memory image, and the look at a descriptor with which the standard library's debug build closes it.
    let command = |number: libc::c_int| {
        let condition = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number.cast_unsigned().into());
        SeccompRule::new(vec![condition.map_err(other)?]).map_err(other)
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![scan]).map_err(other)?]);
    rules.insert(libc::SYS_fcntl, vec![command(libc::F_ADD_SEALS)?, command(libc::F_GETFD)?]);
    let filter = SeccompFilter::new(rules, action, SeccompAction::Allow, architecture).map_err(other)?;
    let program: BpfProgram = filter.try_into().map_err(other)?;
    Ok(seccompiler::apply_filter_all_threads(&program).is_ok())
}
