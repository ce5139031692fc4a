//! The child side of a slot: the process in which strangers' code runs.
//!
//! The order is what makes it safe: first the engine, which needs files and more; then the jail; only then the first byte
//! that a stranger had a hand in. The process serves its one socket until that closes. It has one thread, and no state that
//! outlives a unit but the module.

use super::{
    engine::{Came, Finished, Machine, Program},
    frame::{self, HEADER, Kind},
    instrument,
    jail::{self, Room, Violation},
    step::{Part, Unwatched},
    wasi::Given,
    watch::Saver,
};
use crate::protocol::outcome::AttemptFailure;
use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::ExitCode,
    time::{Duration, Instant},
};

/// The hidden subcommand of the binary that runs [`slot_main`].
pub const SLOT_ARGUMENT: &str = "__slot";

/// What is read ahead of the socket, in bytes: the tasks that wait while one runs.
const READ_AHEAD: usize = 256 << 10;

/// Runs a slot. `main` calls it before anything else when its first argument is [`SLOT_ARGUMENT`].
///
/// The other arguments are the mode (`run`, `probe` or `probe-landlock`), the memory in bytes and the parent's process id.
/// Standard input is the socket to the parent; the probes write to standard output.
pub fn slot_main() -> ExitCode {
    let mut args = std::env::args().skip(2);
    let mode = args.next();
    let mut number = || args.next().and_then(|arg| arg.parse::<u64>().ok());
    let (Some(mode), Some(memory_bytes), Some(parent)) = (mode, number(), number()) else {
        eprintln!("error: {SLOT_ARGUMENT} is for manyhands itself");
        return ExitCode::from(2);
    };
    let room = Room { memory_bytes, parent: u32::try_from(parent).unwrap_or(0) };
    let result = match mode.as_str() {
        "run" => serve(room),
        #[cfg(target_os = "linux")]
        "probe" => probe(room, Violation::Fails),
        #[cfg(target_os = "linux")]
        "probe-landlock" => probe(room, Violation::Unfiltered),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "unknown mode")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The parent has let go.
        Err(error) if is_end(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: slot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[cfg(target_os = "linux")]
fn probe(room: Room, violation: Violation) -> io::Result<()> {
    jail::prepare();
    let _machine = Machine::new().map_err(io::Error::other)?;
    let protection = jail::enter(room, violation)?;
    let report = jail::probe(room.parent);
    io::stdout().write_all(format!("protection: {protection}\n{report}").as_bytes())
}

fn serve(room: Room) -> io::Result<()> {
    jail::prepare();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let bell = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let set_up = || -> io::Result<_> {
        let machine = Machine::new().map_err(io::Error::other)?;
        let protection = jail::enter(room, Violation::Kills)?;
        Ok((machine, protection))
    };
    let (machine, protection) = match set_up() {
        Ok(both) => both,
        Err(error) => {
            // Standard error leads nowhere, so the parent is told.
            let message = error.to_string();
            (&socket).write_all(&frame::header(Kind::Failed, message.len())?)?;
            return (&socket).write_all(message.as_bytes());
        }
    };
    let engine = machine.compatibility();
    let mut slot = Slot { reader: io::BufReader::with_capacity(READ_AHEAD, &socket), writer: &socket, bell: &bell, machine, program: None };
    slot.send(Kind::Ready, &frame::encode_ready(&protection, engine))?;
    loop {
        slot.answer()?;
    }
}

struct Slot<'a> {
    reader: io::BufReader<&'a UnixStream>,
    writer: &'a UnixStream,
    /// What is written there asks where the unit stands.
    bell: &'a UnixStream,
    machine: Machine,
    program: Option<Program>,
}

impl Slot<'_> {
    fn send(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        self.writer.write_all(&frame::header(kind, body.len())?)?;
        self.writer.write_all(body)
    }

    /// Waits for one request and answers it.
    fn answer(&mut self) -> io::Result<()> {
        let mut header = [0; HEADER];
        self.reader.read_exact(&mut header)?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the parent sent nonsense");
        let (kind, length) = frame::parse_header(header).ok_or_else(wrong)?;
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        match kind {
            Kind::Load => match self.machine.load(&body) {
                Ok(program) => {
                    self.program = Some(program);
                    self.send(Kind::Loaded, &[])
                }
                Err(error) => self.send(Kind::Failed, error.to_string().as_bytes()),
            },
            Kind::Compile => {
                let native = instrument(&body).map_err(|rejection| rejection.to_string());
                match native.and_then(|module| self.machine.compile(&module).map_err(|error| error.to_string())) {
                    Ok(native) => self.send(Kind::Native, &native),
                    Err(message) => self.send(Kind::Failed, message.as_bytes()),
                }
            }
            Kind::Task => {
                let (finished, wall) = self.run(&body).ok_or_else(wrong)?;
                let mut report = Vec::with_capacity(finished.output.len() + finished.log.len() + 64);
                frame::encode_report(&finished, wall, &mut report)?;
                self.writer.write_all(&report)
            }
            Kind::Part => match self.run_part(&body).ok_or_else(wrong)? {
                (Came::Stopped(snapshot), _) => self.send(Kind::Stopped, &frame::encode_stopped(&snapshot)),
                (Came::Ended(finished), wall) => {
                    let mut report = Vec::new();
                    frame::encode_report(&finished, wall, &mut report)?;
                    self.writer.write_all(&report)
                }
            },
            Kind::Ready | Kind::Loaded | Kind::Failed | Kind::Native | Kind::Report | Kind::Stopped | Kind::Saved => Err(wrong()),
        }
    }

    fn run_part(&self, body: &[u8]) -> Option<(Came, Duration)> {
        let (given, save_every, part) = frame::decode_part(body).ok()?;
        Some(self.run_given(given, save_every, &part))
    }

    fn run(&self, body: &[u8]) -> Option<(Finished, Duration)> {
        let (given, save_every) = frame::decode_task(body).ok()?;
        match self.run_given(given, save_every, &Part::default()) {
            (Came::Ended(finished), wall) => Some((finished, wall)),
            (Came::Stopped(_), _) => unreachable!("a unit that is not asked to stop runs to its end"),
        }
    }

    fn run_given(&self, given: Given, save_every: Option<Duration>, part: &Part) -> (Came, Duration) {
        let began = Instant::now();
        let Some(program) = &self.program else { return (Came::Ended(Finished::failed(AttemptFailure::Refused)), Duration::ZERO) };
        let came = match save_every {
            Some(every) => self.machine.run_part(program, given, part, &mut Saver::new(self.writer, self.bell, every)),
            None => self.machine.run_part(program, given, part, &mut Unwatched),
        };
        (came, began.elapsed())
    }
}
