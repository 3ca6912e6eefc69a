//! A socket read by line or by length, each read with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// When a wait ends, and what it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline<'a> {
    what: &'a str,
    limit: Duration,
    at: Instant,
}

impl<'a> Deadline<'a> {
    /// A wait of `limit` from now on, for `what`.
    pub(crate) fn new(what: &'a str, limit: Duration) -> Self {
        let at = Instant::now() + limit;
        Self { what, limit, at }
    }

    /// The time left, never zero; an error when there is none.
    pub(crate) fn left(&self) -> Result<Duration> {
        self.at
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or_else(|| self.passed())
    }

    /// The error that says so.
    pub(crate) fn passed(&self) -> Error {
        Error::Timeout {
            what: self.what.to_owned(),
            limit: self.limit,
        }
    }
}

/// A connection to QEMU, and what came on it but has not been asked for yet.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: UnixStream,
    pending: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            pending: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket
            .write_all(bytes)
            .map_err(|error| Error::Gone(format!("QEMU: {error}")))
    }

    /// Returns everything up to `mark`, and takes the mark off.
    pub(crate) fn read_until(&mut self, mark: &[u8], deadline: &Deadline<'_>) -> Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = self.pending[searched..]
                .windows(mark.len())
                .position(|window| window == mark);
            if let Some(at) = found {
                let mut bytes = self.take(searched + at + mark.len());
                bytes.truncate(searched + at);
                return Ok(bytes);
            }
            searched = (self.pending.len() + 1).saturating_sub(mark.len());
            self.fill(deadline)?;
        }
    }

    /// Returns the next `len` bytes.
    pub(crate) fn read_exact(&mut self, len: usize, deadline: &Deadline<'_>) -> Result<Vec<u8>> {
        while self.pending.len() < len {
            self.fill(deadline)?;
        }
        Ok(self.take(len))
    }

    /// Whether a read would find a byte at once.
    pub(crate) fn is_ready(&mut self) -> Result<bool> {
        let now = Deadline::new("byte", Duration::from_millis(1));
        match self.fill(&now) {
            Ok(()) => Ok(true),
            Err(Error::Timeout { .. }) => Ok(!self.pending.is_empty()),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.pending.split_off(len);
        std::mem::replace(&mut self.pending, rest)
    }

    /// Waits for bytes, and adds them to those pending.
    fn fill(&mut self, deadline: &Deadline<'_>) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        let gone = |error: std::io::Error| Error::Gone(format!("QEMU: {error}"));
        self.socket
            .set_read_timeout(Some(deadline.left()?))
            .map_err(gone)?;
        match self.socket.read(&mut chunk) {
            Ok(0) => Err(Error::Gone("QEMU closed a connection".to_owned())),
            Ok(n) => {
                self.pending.extend_from_slice(&chunk[..n]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(deadline.passed()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(gone(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_the_reads_cut_it() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let mut host = Stream::new(host);
        let deadline = Deadline::new("test", Duration::from_secs(10));
        guest.write_all(b"noise\x01vg").unwrap();
        assert!(host.is_ready().unwrap());
        guest.write_all(b"pud line\nabcde").unwrap();
        assert_eq!(host.read_until(b"\x01vgpud ", &deadline).unwrap(), b"noise");
        assert_eq!(host.read_until(b"\n", &deadline).unwrap(), b"line");
        assert_eq!(host.read_exact(3, &deadline).unwrap(), b"abc");
        assert_eq!(host.read_exact(2, &deadline).unwrap(), b"de");
        let short = Deadline::new("more", Duration::from_millis(5));
        let error = host.read_exact(1, &short).unwrap_err();
        assert_eq!(error.to_string(), "no more within 5ms");
        drop(guest);
        assert!(matches!(host.read_exact(1, &deadline), Err(Error::Gone(_))));
    }
}
