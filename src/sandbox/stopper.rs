//! Stopping, pausing and resuming a slot from another thread, and time that does not pass while it is paused.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A handle with which any thread can stop a slot. All of them act on the process that the slot has at that moment.
#[derive(Clone, Debug, Default)]
pub struct Stopper {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The processes, each from its start until just before it is reaped, so that a signal never reaches another one. The
    /// slot itself, and while it waits for its module to be compiled, the compiler.
    processes: Vec<(Pid, UnixStream)>,
    cancelled: bool,
    closed: bool,
    paused_since: Option<Instant>,
    paused_before: Duration,
}

impl Stopper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the process and with it the batch that runs: what it had left is reported as killed, and so is every later batch
    /// until the slot is given a module again ([`SlotProcess::load`](super::SlotProcess::load)). Ends a compilation too.
    pub fn kill(&self) {
        let mut state = self.state();
        state.cancelled = true;
        state.signal(Signal::KILL);
    }

    /// Kills the process and lets no other one take its place: for a node that shuts down. There is no way back.
    pub fn close(&self) {
        let mut state = self.state();
        (state.cancelled, state.closed) = (true, true);
        state.signal(Signal::KILL);
    }

    /// Pauses the process (SIGSTOP). Time limits pause with it.
    pub fn stop(&self) {
        let mut state = self.state();
        if state.paused_since.is_none() {
            state.paused_since = Some(Instant::now());
            state.signal(Signal::STOP);
        }
    }

    /// Resumes the process (SIGCONT).
    pub fn cont(&self) {
        let mut state = self.state();
        if let Some(since) = state.paused_since.take() {
            state.paused_before += since.elapsed();
            state.signal(Signal::CONT);
        }
    }

    /// Asks where the unit that runs stands. The slot answers at the next moment between two steps, if there is one, as it does now and
    /// then by itself; see [`SlotProcess::run_saving`](super::SlotProcess::run_saving).
    pub fn ask(&self) {
        for (_, bell) in &self.state().processes {
            // A full one has not been listened to for long; one that is gone needs no answer.
            let _ = (&*bell).write(&[1]);
        }
    }

    /// Whether it is paused.
    pub fn is_stopped(&self) -> bool {
        self.state().paused_since.is_some()
    }

    /// A module is given: what was cancelled before does not concern it. Says whether something was.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.state();
        let closed = state.closed;
        std::mem::replace(&mut state.cancelled, closed)
    }

    /// Whether what the slot runs is of no use to anybody any more.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// There is a process now, which hears what is written to `bell`.
    pub(super) fn attach(&self, process: Pid, bell: UnixStream) {
        let mut state = self.state();
        state.processes.push((process, bell));
        if state.closed {
            let _ = kill_process(process, Signal::KILL);
        } else if state.paused_since.is_some() {
            let _ = kill_process(process, Signal::STOP);
        }
    }

    /// The process is about to be reaped: forgets it.
    pub(super) fn detach(&self, process: Pid) {
        self.state().processes.retain(|(found, _)| *found != process);
    }

    /// How long the slot has been paused in all. The difference of two readings is the pause between them.
    pub(super) fn paused(&self) -> Duration {
        let state = self.state();
        state.paused_before + state.paused_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl State {
    fn signal(&self, signal: Signal) {
        for (process, _) in &self.processes {
            // It can only fail when the process is gone already.
            let _ = kill_process(*process, signal);
        }
    }
}

/// Measures the time in which the slot could run.
pub(super) struct Running<'a> {
    stopper: &'a Stopper,
    began: Instant,
    paused: Duration,
}

impl<'a> Running<'a> {
    pub(super) fn start(stopper: &'a Stopper) -> Self {
        Self { stopper, began: Instant::now(), paused: stopper.paused() }
    }

    /// The time since the start without the pauses.
    pub(super) fn elapsed(&self) -> Duration {
        let paused = self.stopper.paused().saturating_sub(self.paused);
        self.began.elapsed().saturating_sub(paused)
    }
}
