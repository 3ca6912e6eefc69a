//! The buffers of one request.

use mdev::dma::messages::MessageError;
use mdev::dma::{AccessError, GuestMemory, Iova};

/// A part of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) at: u64,
    pub(crate) len: u32,
}

/// The device is being stopped or reset, or memory is being unmapped: the request is not done, and
/// comes again if it is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request was cancelled")]
pub struct Cancelled;

/// Why bytes of a request could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// See [`Cancelled`].
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The buffers have fewer bytes than that.
    #[error("the buffers are too short")]
    Short,
    /// A buffer is not in the guest's memory, or not to be used so.
    #[error(transparent)]
    Memory(AccessError),
}

impl From<AccessError> for ChainError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Message(MessageError::Cancelled | MessageError::Changed) => {
                Self::Cancelled(Cancelled)
            }
            error => Self::Memory(error),
        }
    }
}

/// A request: first what the driver says, then room for the answer. Every byte is read from guest
/// memory once, when it is asked for.
#[derive(Debug)]
pub struct Chain<'a> {
    memory: &'a GuestMemory,
    readable: Cursor,
    writable: Cursor,
    written: u32,
}

/// Buffers, and how far they are used.
#[derive(Debug, Default)]
struct Cursor {
    buffers: Vec<Buffer>,
    /// The first that is not used up, and how much of it is.
    current: usize,
    used: u32,
}

impl Cursor {
    fn left(&self) -> u64 {
        let rest = self.buffers.iter().skip(self.current);
        let all: u64 = rest.map(|buffer| u64::from(buffer.len)).sum();
        all - u64::from(self.used)
    }

    /// The next stretch of at most `len` bytes.
    fn next(&mut self, len: usize) -> Option<(Iova, usize)> {
        loop {
            let buffer = self.buffers.get(self.current)?;
            let left = buffer.len - self.used;
            if left == 0 {
                self.current += 1;
                self.used = 0;
                continue;
            }
            let taken = u32::try_from(len).map_or(left, |len| len.min(left));
            let at = buffer.at.wrapping_add(self.used.into());
            self.used += taken;
            return Some((Iova(at), taken as usize));
        }
    }
}

impl<'a> Chain<'a> {
    pub(crate) fn new(
        memory: &'a GuestMemory,
        readable: Vec<Buffer>,
        writable: Vec<Buffer>,
    ) -> Self {
        let cursor = |buffers| Cursor {
            buffers,
            ..Cursor::default()
        };
        Self {
            memory,
            readable: cursor(readable),
            writable: cursor(writable),
            written: 0,
        }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }

    /// How many bytes are left to be read.
    pub fn readable(&self) -> u64 {
        self.readable.left()
    }

    /// How many bytes can still be written.
    pub fn writable(&self) -> u64 {
        self.writable.left()
    }

    /// How many bytes were written.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Reads the next bytes, as many as `out` has.
    pub fn read(&mut self, mut out: &mut [u8]) -> Result<(), ChainError> {
        if self.readable.left() < out.len() as u64 {
            return Err(ChainError::Short);
        }
        while !out.is_empty() {
            let (at, len) = self.readable.next(out.len()).ok_or(ChainError::Short)?;
            let (part, rest) = out.split_at_mut(len);
            self.memory.read(at, part)?;
            out = rest;
        }
        Ok(())
    }

    /// Writes all of `data`, or nothing if there is no room for it.
    pub fn write(&mut self, mut data: &[u8]) -> Result<(), ChainError> {
        if self.writable.left() < data.len() as u64 {
            return Err(ChainError::Short);
        }
        while !data.is_empty() {
            let (at, len) = self.writable.next(data.len()).ok_or(ChainError::Short)?;
            let (part, rest) = data.split_at(len);
            self.memory.write(at, part)?;
            self.written = self.written.saturating_add(len as u32);
            data = rest;
        }
        Ok(())
    }
}
