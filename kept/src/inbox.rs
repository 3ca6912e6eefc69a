//! What has come on a stream, from its first byte that is not dealt with.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use crate::header::{self, Header};
use crate::memory::{Bytes, Memory, Words};

/// Words that it takes.
const WORDS: usize = 8;

/// Its words, by their number. Positions count the bytes of the stream from its beginning.
mod word {
    /// The position of the first byte of the buffer.
    pub(super) const BASE: usize = 0;
    /// Before this, everything is dealt with.
    pub(super) const START: usize = 1;
    /// Before this, everything has come, if `FOLDING` is 0: and what the header says beside.
    pub(super) const END: usize = 2;
    /// If `FOLDING` is 1, this is in place of it.
    pub(super) const NEXT_END: usize = 3;
    pub(super) const FOLDING: usize = 4;
    /// The end of the last read that brought descriptors.
    pub(super) const FDS_END: usize = 5;
}

/// What one attempt to receive brought.
#[derive(Debug)]
pub struct Received {
    /// How many bytes.
    pub bytes: usize,
    /// Whether they are as many as there was room for.
    pub is_full: bool,
    /// Descriptors that came with them.
    pub fds: Vec<OwnedFd>,
    /// Whether more descriptors came than could be taken.
    pub is_cut_off: bool,
}

/// The bytes of a stream that have come, are handed out one message after the other, and are dealt
/// with in that order.
///
/// # Invariants
///
/// `base <= start <= next <= end <= base + buffer.len()`. A byte that was handed out stays where it
/// is until [`Self::make_room`].
#[derive(Debug)]
pub struct Inbox {
    words: Words,
    header: Header,
    bytes: Bytes,
    /// What comes next is handed out next.
    next: u64,
    end: u64,
}

impl Inbox {
    /// How much memory it takes with a buffer of `capacity` bytes, parts of pages included.
    pub const fn len_in_memory(capacity: usize) -> usize {
        (WORDS + header::WORDS) * 8 + capacity + 2 * 4096
    }

    /// Takes an inbox, empty or as it was left, off the front of `memory`.
    ///
    /// Messages of up to half its capacity can be received.
    pub fn new(memory: &mut Memory, capacity: usize) -> io::Result<Self> {
        let words = memory.words(WORDS)?;
        let header = Header::new(memory.words(header::WORDS)?);
        let bytes = memory.bytes(capacity)?;
        let mut inbox = Self {
            next: words.get(word::START),
            end: words.get(word::END).saturating_add(header.moved()),
            words,
            header,
            bytes,
        };
        if inbox.words.get(word::FOLDING) != 0 {
            inbox.end = inbox.words.get(word::NEXT_END);
        } else if inbox.header.moved() != 0 && inbox.header.had_fds() {
            inbox.words.set(word::FDS_END, inbox.end);
        }
        inbox.note_end();
        let base = inbox.base();
        let is_sound = base <= inbox.next
            && inbox.next <= inbox.end
            && inbox.end - base <= inbox.bytes.len() as u64;
        is_sound
            .then_some(inbox)
            .ok_or(io::ErrorKind::InvalidData.into())
    }

    /// One in memory of its own.
    pub fn private(capacity: usize) -> Self {
        let mut memory = Memory::private(Self::len_in_memory(capacity));
        Self::new(&mut memory, capacity).expect("zeros are an empty inbox")
    }

    /// One in memory of its own that goes on from this one, with another capacity.
    #[must_use]
    pub fn moved(&self, capacity: usize) -> Self {
        let mut other = Self::private(capacity);
        let unread = self.unread();
        other.bytes[..unread.len()].copy_from_slice(unread);
        (other.next, other.end) = (self.next, self.end);
        for (index, value) in [
            (word::BASE, self.next),
            (word::START, self.start()),
            (word::END, self.end),
        ] {
            other.words.set(index, value);
        }
        other
    }

    fn base(&self) -> u64 {
        self.words.get(word::BASE)
    }

    /// Where a byte of the stream lies, if it is here.
    fn place(&self, position: u64) -> Option<usize> {
        let place = usize::try_from(position.checked_sub(self.base())?).ok()?;
        (place <= self.bytes.len()).then_some(place)
    }

    /// Where the first byte lies that was not handed out.
    fn next_place(&self) -> usize {
        (self.next - self.base()) as usize
    }

    fn end_place(&self) -> usize {
        (self.end - self.base()) as usize
    }

    /// How many bytes it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The position of the first byte that was not handed out.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The position up to which everything is dealt with.
    pub fn start(&self) -> u64 {
        self.words.get(word::START)
    }

    /// The position up to which everything has come.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The position after the last byte of the last read that brought descriptors: they belong to
    /// the message that holds that byte. Whoever takes over does not have them.
    pub fn fds_end(&self) -> u64 {
        self.words.get(word::FDS_END)
    }

    /// What has come and was not handed out.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.next_place()..self.end_place()]
    }

    /// Bytes that are here still, though they may be dealt with. `None` if they are not.
    pub fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        let places = self.place(range.start)?..self.place(range.end)?;
        self.bytes.get(places).filter(|_| range.end <= self.end)
    }

    /// Hands out the next `len` bytes of [`Self::unread`].
    pub fn hand_out(&mut self, len: usize) -> &[u8] {
        let at = self.next_place();
        self.next += len as u64;
        debug_assert!(self.next <= self.end);
        &self.bytes[at..at + len]
    }

    /// Everything that was handed out is dealt with.
    pub fn deal(&self) {
        self.words.set(word::START, self.next);
    }

    /// What tells from elsewhere that bytes are dealt with: [`crate::Outbox`] with the answer.
    pub(crate) fn start_word(&self) -> (Words, usize) {
        (self.words.clone(), word::START)
    }

    /// Makes room for `len` bytes from [`Self::next`] on. Everything that was handed out is dealt
    /// with, and is not kept.
    ///
    /// A byte moves only if its message does not fit where it began, and never over itself: who is
    /// killed half-way leaves it where it was.
    pub fn make_room(&mut self, len: usize) {
        debug_assert!(self.start() == self.next && 2 * len <= self.bytes.len());
        if self.next == self.end {
            self.words.set(word::BASE, self.next);
        } else if self.next_place() + len > self.bytes.len() {
            let places = self.next_place()..self.end_place();
            debug_assert!(places.len() <= places.start);
            self.bytes.copy_within(places, 0);
            self.words.set(word::BASE, self.next);
        }
    }

    /// Gives memory past the first `len` bytes of the buffer back. Nothing lies there.
    pub fn shrink(&mut self, len: usize) {
        if self.end_place() <= len {
            self.bytes.release(len);
        }
    }

    /// Receives once, at most `most` bytes.
    pub fn receive(
        &mut self,
        socket: impl AsFd,
        most: usize,
        flags: rustix::net::RecvFlags,
    ) -> io::Result<Received> {
        let at = self.end_place();
        let room = self.bytes.len().min(at.saturating_add(most));
        let flags = flags.bits().cast_signed();
        let (bytes, fds, is_cut_off) =
            self.header
                .receive(socket, &mut self.bytes[at..room], flags)?;
        self.end += bytes as u64;
        if !fds.is_empty() {
            self.words.set(word::FDS_END, self.end);
        }
        self.note_end();
        Ok(Received {
            bytes,
            is_full: bytes == room - at,
            fds,
            is_cut_off,
        })
    }

    /// Notes the end, which the header tells until then. At no moment do both count.
    fn note_end(&self) {
        self.words.set(word::NEXT_END, self.end);
        self.words.set(word::FOLDING, 1);
        self.words.set(word::END, self.end);
        self.header.clear();
        self.words.set(word::FOLDING, 0);
    }
}

#[cfg(test)]
mod tests;
