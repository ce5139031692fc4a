//! The parent side of a slot: spawns it, gives it work, enforces wall time, and survives whatever it does.
//!
//! One thread owns a [`SlotProcess`] and blocks in it. Tasks are pipelined so that a slot never waits for the next one; the
//! window is bounded in number and in bytes. A slot that overruns its unit's wall time, breaks the rules or dies is
//! replaced, and the batch goes on behind the unit it happened to.
//!
//! The child is killed when the *thread* that spawned it ends (`PR_SET_PDEATHSIG`), so a slot stays on its thread.

use super::{
    channel::{Channel, Incoming},
    frame::{self, Kind, MAX_BODY, REPORT_OVERHEAD, SAVED_MAX, STOPPED_MAX, TaskBody},
    jail::Protection,
    slot::SLOT_ARGUMENT,
    step::{Part, Snapshot},
    stopper::{Running, Stopper},
    task::{PartReport, Progress, Report, Task},
    workshop::{SlotError, Workshop},
};
use crate::protocol::{
    chain::Links,
    ids::Digest,
    outcome::{AttemptFailure, Outcome},
};
use rustix::process::{Pid, Signal};
use std::{
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// Tasks that are with the slot at once. The round trip is hidden with two or three; more save wake-ups.
const WINDOW_TASKS: usize = 64;

/// Bytes of tasks that are with the slot at once, unless a single one is larger.
const WINDOW_BYTES: u64 = 1 << 20;

/// How long a new process may take until it is in its jail. It takes some milliseconds.
const READY_WALL: Duration = Duration::from_secs(60);

/// How long making native code ready may take. It takes milliseconds, even for large modules.
const LOAD_WALL: Duration = Duration::from_secs(60);

/// How often a paused slot's clock is looked at.
const PAUSE_POLL: Duration = Duration::from_millis(20);

/// How long a process whose socket is closed may take to end by itself.
const LAST_BREATH: Duration = Duration::from_millis(20);

/// The longest message of a failed request, in bytes.
const MAX_MESSAGE: u64 = 64 << 10;

/// A process of ours, alive.
pub(super) struct Process {
    child: Child,
    pub(super) channel: Channel,
    pub(super) protection: Protection,
    pub(super) engine: Digest,
    stopper: Stopper,
}

impl Process {
    /// Spawns a process and waits until it is in its jail.
    pub(super) fn spawn(workshop: &Workshop, memory_bytes: u64, stopper: &Stopper) -> Result<Self, SlotError> {
        let (ours, theirs) = UnixStream::pair().map_err(SlotError::Spawn)?;
        let channel = Channel::new(ours).map_err(SlotError::Spawn)?;
        let (bell, hears) = UnixStream::pair().map_err(SlotError::Spawn)?;
        for end in [&bell, &hears] {
            end.set_nonblocking(true).map_err(SlotError::Spawn)?;
        }
        let child = Command::new(workshop.program())
            .args([SLOT_ARGUMENT, "run", &memory_bytes.to_string(), &std::process::id().to_string()])
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(hears)))
            .stderr(Stdio::null())
            .spawn()
            .map_err(SlotError::Spawn)?;
        let pid = Pid::from_child(&child);
        stopper.attach(pid, bell);
        let mut process = Self { child, channel, protection: Protection::NONE, engine: Digest([0; 32]), stopper: stopper.clone() };
        let body = match process.receive(READY_WALL, MAX_MESSAGE)? {
            (Kind::Ready, body) => body,
            (Kind::Failed, message) => return Err(SlotError::Refused(shown(&message))),
            _ => return Err(SlotError::Protocol),
        };
        (process.protection, process.engine) = frame::decode_ready(&body).map_err(|_| SlotError::Protocol)?;
        Ok(process)
    }

    /// Waits for one frame.
    pub(super) fn receive(&mut self, limit: Duration, most: u64) -> Result<(Kind, Vec<u8>), SlotError> {
        let stopper = self.stopper.clone();
        let running = Running::start(&stopper);
        loop {
            match self.channel.pop(most) {
                Incoming::Frame(kind, body) => return Ok((kind, body)),
                Incoming::Broken => return Err(SlotError::Protocol),
                Incoming::Incomplete => {}
            }
            let rest = limit.saturating_sub(running.elapsed());
            if rest.is_zero() {
                return Err(SlotError::TooSlow { limit });
            }
            let timeout = if stopper.is_stopped() { PAUSE_POLL } else { rest };
            self.channel.exchange(timeout).map_err(|_| SlotError::Died)?;
        }
    }

    /// Makes a request that is answered by `expected` or by a message.
    pub(super) fn request(&mut self, kind: Kind, body: &[u8], expected: Kind, limit: Duration) -> Result<Vec<u8>, SlotError> {
        self.channel.push(kind, body).map_err(|_| SlotError::TooLarge)?;
        match self.receive(limit, MAX_BODY)? {
            (kind, body) if kind == expected => Ok(body),
            (Kind::Failed, message) => Err(SlotError::Refused(shown(&message))),
            _ => Err(SlotError::Protocol),
        }
    }

    /// Why a process is gone that closed its socket: the kernel kills it (or it aborts) when memory runs out.
    fn autopsy(&mut self) -> AttemptFailure {
        let running = Running::start(&self.stopper);
        while running.elapsed() < LAST_BREATH {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    return match status.signal().and_then(Signal::from_named_raw) {
                        Some(Signal::KILL | Signal::ABORT) => AttemptFailure::OutOfMemory,
                        Some(_) | None => AttemptFailure::Killed,
                    };
                }
                Ok(None) => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        AttemptFailure::Killed
    }
}

/// What a process said went wrong, as far as it is shown.
fn shown(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(1000)]).chars().filter(|c| !c.is_control()).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        // Unless it is gone already. It does not take long then, and that it was reaped by someone else does not matter.
        self.stopper.detach(Pid::from_child(&self.child));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A slot: one jailed process at a time, replaced when needed.
pub struct SlotProcess {
    workshop: Arc<Workshop>,
    stopper: Stopper,
    process: Option<Process>,
    /// The module that is loaded, with its native code for a replacement.
    loaded: Option<(Digest, Arc<Vec<u8>>)>,
    protection: Protection,
}

impl SlotProcess {
    /// Starts a slot.
    ///
    /// # Errors
    ///
    /// When the process cannot be started or does not reach its jail.
    pub fn spawn(workshop: Arc<Workshop>) -> Result<Self, SlotError> {
        Self::spawn_with(workshop, Stopper::default())
    }

    /// As [`SlotProcess::spawn`], to be stopped by a handle that others have already.
    ///
    /// # Errors
    ///
    /// When the process cannot be started or does not reach its jail.
    pub fn spawn_with(workshop: Arc<Workshop>, stopper: Stopper) -> Result<Self, SlotError> {
        let process = Process::spawn(&workshop, workshop.memory_bytes(), &stopper)?;
        let protection = process.protection;
        Ok(Self { workshop, stopper, process: Some(process), loaded: None, protection })
    }

    /// What holds around this slot.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// A handle to stop it from other threads.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The process id, when there is a process.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Makes a module ready. A process that ran another module is replaced first, so nothing passes from one to the next.
    ///
    /// `bytes` is called only when the module has to be compiled.
    ///
    /// # Errors
    ///
    /// When the module is refused or its bytes cannot be had, or when the machine fails.
    pub fn load(&mut self, module: Digest, bytes: impl FnOnce() -> std::io::Result<Vec<u8>>) -> Result<(), SlotError> {
        if self.stopper.begin() {
            // Killed, though nobody may have noticed yet.
            self.process = None;
        }
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == module) {
            return if self.process.is_some() { Ok(()) } else { self.reload() };
        }
        if self.loaded.take().is_some() {
            self.process = None;
        }
        let engine = self.process()?.engine;
        let native = self.workshop.native(module, engine, bytes, &self.stopper)?;
        self.loaded = Some((module, native));
        let result = self.reload();
        if result.is_err() {
            (self.loaded, self.process) = (None, None);
            // Should it lie with what was stored, the next attempt compiles anew.
            self.workshop.discard(module, engine);
        }
        result
    }

    fn process(&mut self) -> Result<&mut Process, SlotError> {
        if self.process.is_none() {
            let process = Process::spawn(&self.workshop, self.workshop.memory_bytes(), &self.stopper)?;
            self.protection = process.protection;
            self.process = Some(process);
        }
        Ok(self.process.as_mut().expect("just spawned"))
    }

    /// Gives the process the module that is loaded.
    fn reload(&mut self) -> Result<(), SlotError> {
        let native = self.loaded.as_ref().map(|(_, native)| Arc::clone(native)).ok_or(SlotError::NothingLoaded)?;
        self.process()?.request(Kind::Load, &native, Kind::Loaded, LOAD_WALL).map(drop)
    }

    /// Runs tasks in order and reports each as soon as it ends, exactly once, with its place in `tasks`.
    ///
    /// A task of a module that is not loaded is refused. When the slot is killed by a [`Stopper`], the rest is reported as
    /// killed.
    pub fn run_batch(&mut self, tasks: &[Task], report: &mut dyn FnMut(usize, Report)) {
        self.run_saving(tasks, None, &mut |index, progress| match progress {
            Progress::Saved(_) => {}
            Progress::Ended(ended) => report(index, ended),
        });
    }

    /// As [`SlotProcess::run_batch`]. Those that stand still now and then say where they are about so often, less often where that would
    /// cost too much, and whenever a [`Stopper::ask`] asks.
    pub fn run_saving(&mut self, tasks: &[Task], save_every: Option<Duration>, report: &mut dyn FnMut(usize, Progress)) {
        let ended = |report| Progress::Ended(report);
        let body = |task| body(task, save_every);
        let mut done = 0;
        while done < tasks.len() {
            if self.stopper.is_cancelled() {
                report(done, ended(Report::failed(AttemptFailure::Killed, Duration::ZERO)));
                done += 1;
                continue;
            }
            let module = tasks[done].module;
            let loaded = self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == module);
            if !loaded || body(&tasks[done]).size() > MAX_BODY {
                report(done, ended(Report::failed(AttemptFailure::Refused, Duration::ZERO)));
                done += 1;
                continue;
            }
            // Only the first of a run of equal modules is checked above, so the run ends where the module changes.
            let run = tasks[done..].iter().take_while(|task| task.module == module && body(task).size() <= MAX_BODY).count();
            if self.process.is_none() && self.reload().is_err() {
                self.process = None;
                report(done, ended(Report::failed(AttemptFailure::Killed, Duration::ZERO)));
                done += 1;
                continue;
            }
            let start = done;
            let broken = self.run_some(&tasks[start..start + run], save_every, &mut |index, progress| {
                if matches!(progress, Progress::Ended(_)) {
                    done = start + index + 1;
                }
                report(start + index, progress);
            });
            if let Err((failure, elapsed)) = broken {
                self.process = None;
                let failure = if self.stopper.is_cancelled() { AttemptFailure::Killed } else { failure };
                report(done, ended(Report::failed(failure, elapsed)));
                done += 1;
            }
        }
    }

    /// Runs a part of a stepped unit of the loaded module.
    ///
    /// It is refused when the module is not loaded or not stepped, or when the state to go on from is none of this unit.
    pub fn run_part(&mut self, task: &Task, part: &Part) -> PartReport {
        self.run_part_saving(task, part, None, &mut |_| {})
    }

    /// As [`SlotProcess::run_part`], and says where it is as [`SlotProcess::run_saving`] does.
    pub fn run_part_saving(
        &mut self,
        task: &Task,
        part: &Part,
        save_every: Option<Duration>,
        saved: &mut dyn FnMut(Snapshot),
    ) -> PartReport {
        let failed = |failure| PartReport::Ended(Report::failed(failure, Duration::ZERO));
        let size = body(task, save_every).size() + part.from.as_ref().map_or(0, |(state, _)| state.len() as u64) + REPORT_OVERHEAD;
        if self.stopper.is_cancelled() {
            return failed(AttemptFailure::Killed);
        }
        if self.loaded.as_ref().is_none_or(|(loaded, _)| *loaded != task.module) || size > MAX_BODY {
            return failed(AttemptFailure::Refused);
        }
        if self.process.is_none() && self.reload().is_err() {
            self.process = None;
            return failed(AttemptFailure::Killed);
        }
        self.ask_for_part(task, part, save_every, saved).unwrap_or_else(|(failure, elapsed)| {
            self.process = None;
            let failure = if self.stopper.is_cancelled() { AttemptFailure::Killed } else { failure };
            PartReport::Ended(Report::failed(failure, elapsed))
        })
    }

    fn ask_for_part(
        &mut self,
        task: &Task,
        part: &Part,
        save_every: Option<Duration>,
        saved: &mut dyn FnMut(Snapshot),
    ) -> Result<PartReport, (AttemptFailure, Duration)> {
        let process = self.process.as_mut().expect("the caller has made sure of it");
        let running = Running::start(&self.stopper);
        let most = task.limits.output_bytes.saturating_add(task.limits.log_bytes).saturating_add(REPORT_OVERHEAD).max(STOPPED_MAX);
        let mut answer =
            process.channel.push(Kind::Part, &body(task, save_every).encode_part(part)).map_err(|_| SlotError::TooLarge).map(|()| None);
        while let Ok(None) = answer {
            answer = match process.receive(task.limits.wall.saturating_sub(running.elapsed()), most) {
                Ok((Kind::Saved, body)) if save_every.is_some() => {
                    frame::decode_stopped(&body).map_err(|_| SlotError::Protocol).map(|snapshot| {
                        saved(snapshot);
                        None
                    })
                }
                other => other.map(Some),
            };
        }
        let elapsed = running.elapsed();
        let broken = |_| (AttemptFailure::Killed, elapsed);
        match answer.map(|answer| answer.expect("the loop ends with one")) {
            Ok((Kind::Report, body)) => {
                let (finished, wall) = frame::decode_report(&body, &task.limits).map_err(broken)?;
                Ok(PartReport::Ended(Report::of(finished, wall.min(elapsed))))
            }
            Ok((Kind::Stopped, body)) if part.until.is_some() => {
                let snapshot = frame::decode_stopped(&body).map_err(broken)?;
                Ok(PartReport::Stopped { snapshot, wall: elapsed })
            }
            Ok(_) | Err(SlotError::Protocol) => Err((AttemptFailure::Killed, elapsed)),
            Err(SlotError::TooSlow { .. }) => Err((AttemptFailure::TimeOut, elapsed)),
            Err(_) => Err((process.autopsy(), elapsed)),
        }
    }

    /// Runs tasks of the loaded module until one of them ends the process: then its failure and how long it ran.
    fn run_some(
        &mut self,
        tasks: &[Task],
        save_every: Option<Duration>,
        report: &mut dyn FnMut(usize, Progress),
    ) -> Result<(), (AttemptFailure, Duration)> {
        let process = self.process.as_mut().expect("the caller has made sure of it");
        let mut window = Window { save_every, ..Window::default() };
        let saved_max = if save_every.is_some() { SAVED_MAX } else { 0 };
        let mut current = 0;
        let mut running = Running::start(&self.stopper);
        while let Some(task) = tasks.get(current) {
            window.fill(tasks, &mut process.channel);
            let most = task.limits.output_bytes.saturating_add(task.limits.log_bytes).saturating_add(REPORT_OVERHEAD);
            match process.channel.pop(most.max(saved_max)) {
                Incoming::Frame(Kind::Saved, body) if save_every.is_some() => {
                    let snapshot = frame::decode_stopped(&body).map_err(|_| (AttemptFailure::Killed, running.elapsed()))?;
                    report(current, Progress::Saved(snapshot));
                    continue;
                }
                Incoming::Frame(Kind::Report, body) => {
                    let elapsed = running.elapsed();
                    let (finished, wall) = frame::decode_report(&body, &task.limits).map_err(|_| (AttemptFailure::Killed, elapsed))?;
                    report(current, Progress::Ended(Report::of(finished, wall.min(elapsed))));
                    window.returned(task);
                    current += 1;
                    running = Running::start(&self.stopper);
                    continue;
                }
                Incoming::Frame(..) | Incoming::Broken => return Err((AttemptFailure::Killed, running.elapsed())),
                Incoming::Incomplete => {}
            }
            let rest = task.limits.wall.saturating_sub(running.elapsed());
            if rest.is_zero() {
                return Err((AttemptFailure::TimeOut, running.elapsed()));
            }
            let timeout = if self.stopper.is_stopped() { PAUSE_POLL } else { rest };
            if process.channel.exchange(timeout).is_err() {
                return Err((process.autopsy(), running.elapsed()));
            }
        }
        Ok(())
    }
}

fn body(task: &Task, save_every: Option<Duration>) -> TaskBody<'_> {
    TaskBody { args: &task.args, stdin: &task.stdin, files: &task.files, seed: &task.seed, limits: &task.limits, save_every }
}

/// The tasks that are with the slot.
#[derive(Default)]
struct Window {
    sent: usize,
    tasks: usize,
    bytes: u64,
    save_every: Option<Duration>,
}

impl Window {
    /// Sends tasks while there is room.
    fn fill(&mut self, tasks: &[Task], channel: &mut Channel) {
        // Filled again only when half empty, so that tasks travel in groups.
        if self.tasks > WINDOW_TASKS / 2 {
            return;
        }
        while let Some(task) = tasks.get(self.sent) {
            let body = body(task, self.save_every);
            let size = body.size();
            if self.tasks >= WINDOW_TASKS || (self.tasks > 0 && self.bytes + size > WINDOW_BYTES) {
                return;
            }
            body.encode(channel.outbox());
            self.sent += 1;
            self.tasks += 1;
            self.bytes += size;
        }
    }

    fn returned(&mut self, task: &Task) {
        self.tasks -= 1;
        self.bytes -= body(task, self.save_every).size();
    }
}

impl Report {
    fn failed(failure: AttemptFailure, wall: Duration) -> Self {
        Self { outcome: Outcome::Failed(failure), output: Vec::new(), log: Vec::new(), wall, links: Links::default() }
    }
}
