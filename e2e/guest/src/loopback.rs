//! Bytes sent round through a UART that loops back, each one checked.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

use guest::noise::Noise;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Failure;
use crate::tty::{self, Blocking};

/// Most bytes under way: within what the tty holds for a reader that is late.
const WINDOW: usize = 2048;

/// How long the line may stand still before the run has failed.
const STALL: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Sends `count` bytes of noise and reads them back; prints how many and how long it took.
pub(crate) fn run(path: &Path, count: usize, seed: u64) -> Result<(), Failure> {
    let line = tty::open_raw(path, Blocking::No)?;
    tty::loop_back(&line)?;
    let started = Instant::now();
    Round::new(&line, count, seed).run()?;
    let ms = started.elapsed().as_millis();
    println!("{count} bytes in {ms} ms");
    Ok(())
}

/// One run: what is to go out, and what is to come back.
struct Round<'a> {
    line: &'a File,
    outgoing: Vec<u8>,
    expected: Noise,
    sent: usize,
    received: usize,
}

impl<'a> Round<'a> {
    fn new(line: &'a File, count: usize, seed: u64) -> Self {
        let expected = Noise::new(seed);
        Self {
            line,
            outgoing: expected.clone().take(count).collect(),
            expected,
            sent: 0,
            received: 0,
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        while self.received < self.outgoing.len() {
            self.wait()?;
            self.send()?;
            self.receive()?;
        }
        Ok(())
    }

    /// The bytes that may be sent now.
    fn sendable(&self) -> &[u8] {
        let end = self.outgoing.len().min(self.received + WINDOW);
        &self.outgoing[self.sent..end]
    }

    /// Waits until the line takes bytes or has some.
    fn wait(&self) -> Result<(), Failure> {
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, !self.sendable().is_empty());
        let mut fds = [PollFd::new(self.line, events)];
        if poll(&mut fds, Some(&STALL))? == 0 {
            let (sent, received) = (self.sent, self.received);
            return Err(format!("stuck: {sent} bytes sent, {received} came back").into());
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = self.sendable();
        if !chunk.is_empty() {
            let mut line = self.line;
            self.sent += ready(line.write(chunk))?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; WINDOW];
        let mut line = self.line;
        let n = ready(line.read(&mut chunk))?;
        for (&got, want) in chunk[..n].iter().zip(&mut self.expected) {
            if got != want {
                let at = self.received;
                return Err(format!("byte {at} came back as {got:#04x}, not {want:#04x}").into());
            }
            self.received += 1;
        }
        Ok(())
    }
}

/// Counts "not now" as no bytes.
fn ready(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
