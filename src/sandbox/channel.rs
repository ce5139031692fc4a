//! The parent's end of a slot's socket: frames out, frames in, without ever waiting for a slot that does not read or write.

use super::frame::{self, HEADER, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

/// Read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// A buffer that grew beyond this is given back when it is empty.
const KEEP: usize = 1 << 20;

/// One end of the socket.
pub(super) struct Channel {
    socket: UnixStream,
    inbox: Vec<u8>,
    /// Bytes of the inbox that were taken already.
    taken: usize,
    outbox: Vec<u8>,
    sent: usize,
    chunk: Box<[u8]>,
}

/// What came of reading a frame.
pub(super) enum Incoming {
    /// Not all of it is here yet.
    Incomplete,
    /// A frame.
    Frame(Kind, Vec<u8>),
    /// The slot broke the rules: an unknown kind, or more than was allowed.
    Broken,
}

impl Channel {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, inbox: Vec::new(), taken: 0, outbox: Vec::new(), sent: 0, chunk: vec![0; CHUNK].into() })
    }

    /// Puts a frame into the outbox; [`Channel::exchange`] sends it.
    pub(super) fn push(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        self.outbox.extend_from_slice(&frame::header(kind, body.len())?);
        self.outbox.extend_from_slice(body);
        Ok(())
    }

    /// The outbox, to append frames to.
    pub(super) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Sends and receives what can be at once; waits up to `timeout` when nothing can. Fails when the slot is gone.
    pub(super) fn exchange(&mut self, timeout: Duration) -> io::Result<()> {
        self.send()?;
        let mut interest = PollFlags::IN;
        if self.sent < self.outbox.len() {
            interest |= PollFlags::OUT;
        }
        // Rounded up, so that a deadline is over when the wait for it is.
        let timeout = Timespec::try_from(timeout + Duration::from_micros(1)).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        let mut polled = [PollFd::new(&self.socket, interest)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let ready = polled[0].revents();
        if ready.contains(PollFlags::OUT) {
            self.send()?;
        }
        if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.receive()?;
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.outbox.len() {
            match self.socket.write(&self.outbox[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.outbox.clear();
        self.outbox.shrink_to(KEEP);
        Ok(())
    }

    /// Reads one chunk; the next call reads the next one, so that no slot fills the memory.
    fn receive(&mut self) -> io::Result<()> {
        match self.socket.read(&mut self.chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.inbox.extend_from_slice(&self.chunk[..count]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes the next frame out of the inbox, when its body has at most `most` bytes.
    pub(super) fn pop(&mut self, most: u64) -> Incoming {
        let waiting = &self.inbox[self.taken..];
        let Some((header, rest)) = waiting.split_first_chunk::<HEADER>() else {
            self.tidy();
            return Incoming::Incomplete;
        };
        let Some((kind, length)) = frame::parse_header(*header).filter(|(_, length)| *length as u64 <= most) else {
            return Incoming::Broken;
        };
        let Some(body) = rest.get(..length) else {
            self.tidy();
            return Incoming::Incomplete;
        };
        let body = body.to_vec();
        self.taken += HEADER + length;
        Incoming::Frame(kind, body)
    }

    /// Moves what is left of the inbox to its front.
    fn tidy(&mut self) {
        if self.taken > 0 {
            self.inbox.drain(..self.taken);
            self.taken = 0;
            self.inbox.shrink_to(KEEP);
        }
    }
}
