//! The messages between a slot and its parent, which share one socket.
//!
//! A frame is a kind, a length and a body. The child believes its parent; the parent believes nothing: once a slot runs a
//! stranger's code, whatever it says is bounded, parsed and checked against what it was asked.

use super::{
    engine::Finished,
    jail::Protection,
    step::{Part, STATE_BYTES_MAX, Snapshot},
    wasi::{Given, InputFile},
};
use crate::protocol::{
    chain::{LINKS_MAX, Link, Links},
    checkpoint::CHECKPOINT_BYTES_MAX,
    ids::Digest,
    outcome::{AttemptFailure, Exit, Trap, UnitLimits},
};
use std::{io, sync::Arc, time::Duration};

/// Kind and length.
pub(super) const HEADER: usize = 5;

/// The largest body, in bytes: native code, or a unit with its input.
pub(super) const MAX_BODY: u64 = 1 << 30;

/// What a frame is. Values below 16 go to the child, the others to the parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Native code to run from now on. Answered by `Loaded` or `Failed`.
    Load = 1,
    /// A module to instrument and compile. Answered by `Native` or `Failed`.
    Compile = 2,
    /// A unit to run. Answered by `Report`.
    Task = 3,
    /// A part of a unit to run. Answered by `Report` or `Stopped`.
    Part = 4,
    /// The child is in its jail.
    Ready = 16,
    /// The code is ready to run.
    Loaded = 17,
    /// The request failed; the body says why.
    Failed = 18,
    /// Native code.
    Native = 19,
    /// What a unit ended in.
    Report = 20,
    /// Where a unit stands still.
    Stopped = 21,
    /// Where the unit that runs stood between two steps; its body is that of `Stopped`. The unit goes on.
    Saved = 22,
}

impl Kind {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        use Kind as K;
        [K::Load, K::Compile, K::Task, K::Part, K::Ready, K::Loaded, K::Failed, K::Native, K::Report, K::Stopped, K::Saved]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The header of a frame.
pub(super) fn header(kind: Kind, length: usize) -> io::Result<[u8; HEADER]> {
    let length = u32::try_from(length).ok().filter(|length| u64::from(*length) <= MAX_BODY);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too large for one frame"))?;
    let mut header = [kind as u8, 0, 0, 0, 0];
    header[1..].copy_from_slice(&length.to_le_bytes());
    Ok(header)
}

/// Reads a header.
pub(super) fn parse_header(header: [u8; HEADER]) -> Option<(Kind, usize)> {
    let [kind, length @ ..] = header;
    let length = u32::from_le_bytes(length);
    (u64::from(length) <= MAX_BODY).then_some(())?;
    Some((Kind::from_byte(kind)?, length as usize))
}

/// A body that does not parse.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message does not parse")]
pub(super) struct Malformed;

/// Reads a body from its front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    pub(super) fn array32(&mut self) -> Result<[u8; 32], Malformed> {
        Ok(self.take(32)?.try_into().expect("32 bytes"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn links(&mut self) -> Result<Links, Malformed> {
        let (doublings, count) = (self.byte()?, self.u32()? as usize);
        if count > LINKS_MAX {
            return Err(Malformed);
        }
        let links = (0..count).map(|_| Ok(Link { gas: self.u64()?, state: Digest(self.array32()?) }));
        Links::new(doublings, links.collect::<Result<_, Malformed>>()?).map_err(|_| Malformed)
    }

    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_links(out: &mut Vec<u8>, links: &Links) {
    out.push(links.doublings());
    out.extend_from_slice(&u32::try_from(links.as_slice().len()).unwrap_or(u32::MAX).to_le_bytes());
    for link in links.as_slice() {
        out.extend_from_slice(&link.gas.to_le_bytes());
        out.extend_from_slice(link.state.as_bytes());
    }
}

/// What a unit is given, by reference.
pub(super) struct TaskBody<'a> {
    pub(super) args: &'a [Vec<u8>],
    pub(super) stdin: &'a [u8],
    pub(super) files: &'a [InputFile],
    pub(super) seed: &'a [u8; 32],
    pub(super) limits: &'a UnitLimits,
    /// How often the parent wants to know where the unit stands; never where there is nothing.
    pub(super) save_every: Option<Duration>,
}

impl TaskBody<'_> {
    /// About the size of its frame.
    pub(super) fn size(&self) -> u64 {
        let args: usize = self.args.iter().map(|arg| arg.len() + 4).sum();
        let files: usize = self.files.iter().map(|file| file.path.len() + file.bytes.len() + 8).sum();
        (args + files + self.stdin.len() + 128) as u64
    }

    /// Appends the frame; the task must fit one.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        self.encode_body(out);
        let header = header(Kind::Task, out.len() - start - HEADER).expect("the caller has checked the size");
        out[start..start + HEADER].copy_from_slice(&header);
    }

    /// The body of the frame that asks for a part of this task.
    pub(super) fn encode_part(&self, part: &Part) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(u8::from(part.from.is_some()) | u8::from(part.until.is_some()) << 1 | u8::from(part.keep_state) << 2);
        out.extend_from_slice(&part.until.unwrap_or(0).to_le_bytes());
        if let Some((state, links)) = &part.from {
            put_bytes(&mut out, state);
            put_links(&mut out, links);
        }
        self.encode_body(&mut out);
        out
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.seed);
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        out.extend_from_slice(&self.save_every.map_or(0, nanos).to_le_bytes());
        let wall = nanos(self.limits.wall);
        for limit in [self.limits.memory_bytes, self.limits.gas, wall, self.limits.output_bytes, self.limits.log_bytes] {
            out.extend_from_slice(&limit.to_le_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.args.len()).unwrap_or(u32::MAX).to_le_bytes());
        for arg in self.args {
            put_bytes(out, arg);
        }
        put_bytes(out, self.stdin);
        out.extend_from_slice(&u32::try_from(self.files.len()).unwrap_or(u32::MAX).to_le_bytes());
        for file in self.files {
            put_bytes(out, file.path.as_bytes());
            put_bytes(out, &file.bytes);
        }
    }
}

/// Reads a task, and how often it is to be saved.
pub(super) fn decode_task(body: &[u8]) -> Result<(Given, Option<Duration>), Malformed> {
    read_task(Reader(body))
}

/// Reads a part of a task.
pub(super) fn decode_part(body: &[u8]) -> Result<(Given, Option<Duration>, Part), Malformed> {
    let mut reader = Reader(body);
    let flags = reader.byte()?;
    let until = reader.u64()?;
    let from = if flags & 1 != 0 { Some((reader.bytes()?.to_vec(), reader.links()?)) } else { None };
    let part = Part { from, until: (flags & 2 != 0).then_some(until), keep_state: flags & 4 != 0 };
    let (given, save_every) = read_task(reader)?;
    Ok((given, save_every, part))
}

fn read_task(mut reader: Reader<'_>) -> Result<(Given, Option<Duration>), Malformed> {
    let seed = reader.array32()?;
    let save_every = Some(Duration::from_nanos(reader.u64()?)).filter(|every| !every.is_zero());
    let limits = UnitLimits {
        memory_bytes: reader.u64()?,
        gas: reader.u64()?,
        wall: Duration::from_nanos(reader.u64()?),
        output_bytes: reader.u64()?,
        log_bytes: reader.u64()?,
    };
    let mut args = Vec::new();
    for _ in 0..reader.u32()? {
        args.push(reader.bytes()?.to_vec());
    }
    let stdin: Arc<[u8]> = reader.bytes()?.into();
    let mut files = Vec::new();
    for _ in 0..reader.u32()? {
        let path = core::str::from_utf8(reader.bytes()?).map_err(|_| Malformed)?.to_owned();
        files.push(InputFile { path, bytes: reader.bytes()?.into() });
    }
    reader.end()?;
    Ok((Given { args, stdin, files, seed, limits }, save_every))
}

/// The body of `Ready`.
pub(super) fn encode_ready(protection: &Protection, engine: Digest) -> Vec<u8> {
    let mut body = engine.0.to_vec();
    body.push(protection.to_byte());
    body
}

/// Reads the body of `Ready`.
pub(super) fn decode_ready(body: &[u8]) -> Result<(Protection, Digest), Malformed> {
    let mut reader = Reader(body);
    let engine = Digest(reader.array32()?);
    let protection = Protection::from_byte(reader.byte()?)?;
    reader.end()?;
    Ok((protection, engine))
}

/// The largest chain.
const LINKS_BYTES: u64 = 5 + LINKS_MAX as u64 * 40;

/// Bytes of a report besides output and log.
pub(super) const REPORT_OVERHEAD: u64 = 32 + LINKS_BYTES;

/// The largest body of `Saved`.
pub(super) const SAVED_MAX: u64 = 8 + 32 + 4 + CHECKPOINT_BYTES_MAX + LINKS_BYTES;

/// The largest body of `Stopped`.
pub(super) const STOPPED_MAX: u64 = 8 + 32 + 4 + STATE_BYTES_MAX as u64 + LINKS_BYTES;

const TRAPS: [Trap; 7] = [
    Trap::Unreachable,
    Trap::MemoryOutOfBounds,
    Trap::TableOutOfBounds,
    Trap::BadIndirectCall,
    Trap::DivisionByZero,
    Trap::IntegerOverflow,
    Trap::BadConversion,
];

const FAILURES: [AttemptFailure; 6] = [
    AttemptFailure::TimeOut,
    AttemptFailure::OutOfMemory,
    AttemptFailure::StackOverflow,
    AttemptFailure::Killed,
    AttemptFailure::MissingBlob,
    AttemptFailure::Refused,
];

fn index_of<T: PartialEq>(all: &[T], one: &T) -> u32 {
    u32::try_from(all.iter().position(|found| found == one).expect("the list is complete")).expect("a short list")
}

/// Appends a report's frame.
pub(super) fn encode_report(finished: &Finished, wall: Duration, out: &mut Vec<u8>) -> io::Result<()> {
    let (tag, detail) = match finished.end {
        Ok(Exit::Code(code)) => (0u8, code),
        Ok(Exit::Trap(trap)) => (1, index_of(&TRAPS, &trap)),
        Ok(Exit::OutOfGas) => (2, 0),
        Ok(Exit::OutputLimit) => (3, 0),
        Ok(Exit::SleepLimit) => (4, 0),
        Err(failure) => (5, index_of(&FAILURES, &failure)),
    };
    let length = 1 + 4 + 8 + 8 + 4 + finished.output.len() + 4 + finished.log.len() + 5 + finished.links.as_slice().len() * 40;
    out.extend_from_slice(&header(Kind::Report, length)?);
    out.push(tag);
    out.extend_from_slice(&detail.to_le_bytes());
    out.extend_from_slice(&finished.gas.to_le_bytes());
    out.extend_from_slice(&u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
    put_bytes(out, &finished.output);
    put_bytes(out, &finished.log);
    put_links(out, &finished.links);
    Ok(())
}

/// The body of `Stopped`.
pub(super) fn encode_stopped(snapshot: &Snapshot) -> Vec<u8> {
    let mut body = snapshot.at.gas.to_le_bytes().to_vec();
    body.extend_from_slice(snapshot.at.state.as_bytes());
    put_bytes(&mut body, &snapshot.state);
    put_links(&mut body, &snapshot.links);
    body
}

/// Reads the body of `Stopped`. A state that is there has the digest that it is said to have.
pub(super) fn decode_stopped(body: &[u8]) -> Result<Snapshot, Malformed> {
    let mut reader = Reader(body);
    let at = Link { gas: reader.u64()?, state: Digest(reader.array32()?) };
    let (state, links) = (reader.bytes()?.to_vec(), reader.links()?);
    reader.end()?;
    if state.is_empty() || Digest::of(&state) == at.state { Ok(Snapshot { at, state, links }) } else { Err(Malformed) }
}

/// Reads a report, which must respect the limits that its task had.
pub(super) fn decode_report(body: &[u8], limits: &UnitLimits) -> Result<(Finished, Duration), Malformed> {
    let mut reader = Reader(body);
    let (tag, detail, gas) = (reader.byte()?, reader.u32()?, reader.u64()?);
    let wall = Duration::from_nanos(reader.u64()?);
    let (output, log) = (reader.bytes()?, reader.bytes()?);
    let links = reader.links()?;
    reader.end()?;
    let end = match tag {
        0 => Ok(Exit::Code(detail)),
        1 => Ok(Exit::Trap(*TRAPS.get(detail as usize).ok_or(Malformed)?)),
        2 => Ok(Exit::OutOfGas),
        3 => Ok(Exit::OutputLimit),
        4 => Ok(Exit::SleepLimit),
        5 => Err(*FAILURES.get(detail as usize).ok_or(Malformed)?),
        _ => return Err(Malformed),
    };
    let bounded = gas <= limits.gas && links.as_slice().last().is_none_or(|link| link.gas <= gas);
    let bounded = bounded && output.len() as u64 <= limits.output_bytes && log.len() as u64 <= limits.log_bytes;
    if !bounded {
        return Err(Malformed);
    }
    Ok((Finished { end, gas, output: output.to_vec(), log: log.to_vec(), links }, wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_reports_survive_the_journey() {
        let limits = UnitLimits::default();
        let files = [InputFile { path: "a/b".into(), bytes: Arc::from(&b"content"[..]) }];
        let args = [b"unit".to_vec(), Vec::new()];
        let save_every = Some(Duration::from_millis(1500));
        let task = TaskBody { args: &args, stdin: b"in", files: &files, seed: &[9; 32], limits: &limits, save_every };
        let mut frame = Vec::new();
        task.encode(&mut frame);
        let (kind, length) = parse_header(frame[..HEADER].try_into().unwrap()).unwrap();
        assert_eq!((kind, length), (Kind::Task, frame.len() - HEADER));
        assert!(frame.len() as u64 <= task.size());
        let (given, every) = decode_task(&frame[HEADER..]).unwrap();
        assert_eq!(every, save_every);
        assert_eq!((given.args.as_slice(), &*given.stdin, given.files.as_slice()), (&args[..], &b"in"[..], &files[..]));
        assert_eq!((given.seed, given.limits), ([9; 32], limits));
        let ends = TRAPS.iter().map(|trap| Ok(Exit::Trap(*trap))).chain(FAILURES.iter().map(|failure| Err(*failure)));
        let links = Links::new(1, vec![Link { gas: 1 << 26, state: Digest([7; 32]) }]).unwrap();
        for end in ends.chain([Ok(Exit::Code(7)), Ok(Exit::OutOfGas), Ok(Exit::OutputLimit), Ok(Exit::SleepLimit)]) {
            let finished = Finished { end, gas: 1 << 27, output: b"out".to_vec(), log: b"log".to_vec(), links: links.clone() };
            let mut frame = Vec::new();
            encode_report(&finished, Duration::from_millis(3), &mut frame).unwrap();
            let (back, wall) = decode_report(&frame[HEADER..], &limits).unwrap();
            assert_eq!(wall, Duration::from_millis(3));
            assert_eq!((back.end, back.gas, back.output, back.log), (end, 1 << 27, b"out".to_vec(), b"log".to_vec()));
            assert_eq!(back.links, links);
            for length in 0..frame.len() - HEADER {
                assert!(decode_report(&frame[HEADER..HEADER + length], &limits).is_err());
            }
        }
    }

    fn ended() -> Finished {
        Finished { end: Ok(Exit::Code(0)), ..Finished::failed(AttemptFailure::Killed) }
    }

    #[test]
    fn parts_and_snapshots_survive_the_journey() {
        let limits = UnitLimits::default();
        let task = TaskBody { args: &[b"unit".to_vec()], stdin: b"in", files: &[], seed: &[9; 32], limits: &limits, save_every: None };
        let links = Links::new(0, vec![Link { gas: 1 << 24, state: Digest([7; 32]) }]).unwrap();
        let state = b"state".to_vec();
        for part in [
            Part::default(),
            Part { from: Some((state.clone(), links.clone())), until: None, keep_state: true },
            Part { from: None, until: Some(77), keep_state: false },
        ] {
            let body = task.encode_part(&part);
            let (given, every, back) = decode_part(&body).unwrap();
            assert_eq!((given.args, &*given.stdin, every), (vec![b"unit".to_vec()], &b"in"[..], None));
            assert_eq!((back.from, back.until, back.keep_state), (part.from, part.until, part.keep_state));
            assert!((0..body.len()).all(|length| decode_part(&body[..length]).is_err()));
        }
        let at = Link { gas: 3, state: Digest::of(&state) };
        let snapshot = Snapshot { at, state, links };
        let body = encode_stopped(&snapshot);
        assert_eq!(decode_stopped(&body).unwrap(), snapshot);
        assert!((0..body.len()).all(|length| decode_stopped(&body[..length]).is_err()));
        let lied = Snapshot { at: Link { gas: 3, state: Digest([1; 32]) }, ..snapshot };
        assert!(decode_stopped(&encode_stopped(&lied)).is_err());
    }

    #[test]
    fn a_report_beyond_its_limits_is_refused() {
        let limits = UnitLimits { gas: 4, output_bytes: 2, log_bytes: 2, ..UnitLimits::default() };
        for (gas, output, log) in [(5, 0, 0), (0, 3, 0), (0, 0, 3)] {
            let finished = Finished { gas, output: vec![0; output], log: vec![0; log], ..ended() };
            let mut frame = Vec::new();
            encode_report(&finished, Duration::from_millis(3), &mut frame).unwrap();
            assert!(decode_report(&frame[HEADER..], &limits).is_err());
        }
    }
}
