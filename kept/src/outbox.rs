//! How much of the last message has left.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use crate::header::{self, Header};
use crate::inbox::Inbox;
use crate::memory::{Memory, Words};

/// Words that it takes.
const WORDS: usize = 8;

/// Its words, by their number.
mod word {
    /// The position of what is answered, [`super::NOTHING`] or [`super::NO_ANSWER`].
    pub(super) const ANSWERED: usize = 0;
    /// Bytes of the message.
    pub(super) const LEN: usize = 1;
    /// Bytes that have left, if `FOLDING` is 0: and what the header says beside.
    pub(super) const SENT: usize = 2;
    /// If `FOLDING` is 1, this is in place of it.
    pub(super) const NEXT_SENT: usize = 3;
    pub(super) const FOLDING: usize = 4;
}

/// No message was begun, or the last has left whole.
const NOTHING: u64 = 0;

/// The message is no answer. Positions of answers are stored one higher.
const NO_ANSWER: u64 = u64::MAX;

/// What became of the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// There is none that matters.
    Nothing,
    /// The answer to what begins at this position has left whole.
    Answer(u64),
    /// Part of a message has left, and the rest is lost: the stream is out of step.
    Part,
}

/// The last message of a stream.
#[derive(Debug)]
pub struct Outbox {
    words: Words,
    header: Header,
    /// Where it is noted that what was answered is dealt with.
    dealt: Option<(Words, usize)>,
    sent: u64,
}

impl Outbox {
    /// How much memory it takes.
    pub const LEN_IN_MEMORY: usize = (WORDS + header::WORDS) * 8;

    /// Takes an outbox, fresh or as it was left, off the front of `memory`.
    pub fn new(memory: &mut Memory) -> io::Result<Self> {
        let words = memory.words(WORDS)?;
        let header = Header::new(memory.words(header::WORDS)?);
        Ok(Self {
            words,
            header,
            dealt: None,
            sent: 0,
        })
    }

    /// One in memory of its own.
    pub fn private() -> Self {
        let mut memory = Memory::private(Self::LEN_IN_MEMORY);
        Self::new(&mut memory).expect("zeros are an outbox")
    }

    /// Answers are to what comes in `inbox`: what is answered is dealt with.
    pub fn answers(&mut self, inbox: &Inbox) {
        self.dealt = Some(inbox.start_word());
    }

    /// What became of the last message of who had this before.
    pub fn last(&self) -> Sent {
        let sent = match self.words.get(word::FOLDING) {
            0 => self
                .words
                .get(word::SENT)
                .saturating_add(self.header.moved()),
            _ => self.words.get(word::NEXT_SENT),
        };
        let is_whole = sent >= self.words.get(word::LEN);
        match self.words.get(word::ANSWERED) {
            NOTHING => Sent::Nothing,
            _ if sent == 0 => Sent::Nothing,
            _ if !is_whole => Sent::Part,
            NO_ANSWER => Sent::Nothing,
            answered => Sent::Answer(answered - 1),
        }
    }

    /// Begins a message of `len` bytes; if it is an answer, with where begins what it answers.
    pub fn begin(&mut self, answered: Option<u64>, len: usize) {
        self.words.set(word::ANSWERED, NOTHING);
        self.words.set(word::LEN, len as u64);
        self.words.set(word::SENT, 0);
        self.words.set(word::FOLDING, 0);
        self.header.clear();
        self.sent = 0;
        let answered = answered.map_or(NO_ANSWER, |position| position + 1);
        self.words.set(word::ANSWERED, answered);
    }

    /// Sends the next part of it, as much as the socket takes.
    pub fn send(
        &mut self,
        socket: impl AsFd,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
        flags: rustix::net::SendFlags,
    ) -> io::Result<usize> {
        let flags = flags.bits().cast_signed();
        let moved = self.header.send(socket, bytes, fds, flags)?;
        self.sent += moved as u64;
        if self.sent < self.words.get(word::LEN) {
            self.note_sent();
        }
        Ok(moved)
    }

    /// Notes what has left, which the header tells until then. At no moment do both count.
    fn note_sent(&self) {
        self.words.set(word::NEXT_SENT, self.sent);
        self.words.set(word::FOLDING, 1);
        self.words.set(word::SENT, self.sent);
        self.header.clear();
        self.words.set(word::FOLDING, 0);
    }

    /// The answer has left whole: what it answers, which lies in `range`, is dealt with.
    pub fn end(&mut self, range: &Range<u64>) {
        if let Some((words, index)) = &self.dealt {
            words.set(*index, range.end);
        }
        self.words.set(word::ANSWERED, NOTHING);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::net::SendFlags;

    use super::*;

    fn reopen(memory: &Memory) -> Outbox {
        let file = memory.file().unwrap().try_clone().unwrap();
        Outbox::new(&mut Memory::open(file, Outbox::LEN_IN_MEMORY).unwrap()).unwrap()
    }

    #[test]
    fn who_takes_over_knows_whether_the_last_answer_has_left() {
        let (_peer, socket) = UnixStream::pair().unwrap();
        let mut memory = Memory::new("test", Outbox::LEN_IN_MEMORY).unwrap();
        let mut outbox = Outbox::new(&mut memory).unwrap();
        assert_eq!(reopen(&memory).last(), Sent::Nothing);
        for position in [0, 36, 72] {
            outbox.begin(Some(position), 16);
            assert_eq!(reopen(&memory).last(), Sent::Nothing, "not yet");
            outbox
                .send(&socket, &[0; 16], &[], SendFlags::empty())
                .unwrap();
            assert_eq!(reopen(&memory).last(), Sent::Answer(position));
            outbox.end(&(position..position + 36));
            assert_eq!(reopen(&memory).last(), Sent::Nothing);
        }
        outbox.begin(None, 16);
        outbox
            .send(&socket, &[0; 16], &[], SendFlags::empty())
            .unwrap();
        assert_eq!(reopen(&memory).last(), Sent::Nothing, "it was no answer");
    }

    #[test]
    fn half_a_message_is_told_from_a_whole_one_and_from_none() {
        let (_peer, socket) = UnixStream::pair().unwrap();
        for answered in [None, Some(7)] {
            let mut memory = Memory::new("test", Outbox::LEN_IN_MEMORY).unwrap();
            let mut outbox = Outbox::new(&mut memory).unwrap();
            outbox.begin(answered, 3);
            outbox.send(&socket, b"a", &[], SendFlags::empty()).unwrap();
            assert_eq!(reopen(&memory).last(), Sent::Part);
            // Another part, of which the process had no time to take note.
            outbox.header.send(&socket, b"b", &[], 0).unwrap();
            assert_eq!(reopen(&memory).last(), Sent::Part);
            outbox.sent += 1;
            outbox.note_sent();
            outbox.send(&socket, b"c", &[], SendFlags::empty()).unwrap();
            let whole = answered.map_or(Sent::Nothing, Sent::Answer);
            assert_eq!(reopen(&memory).last(), whole);
        }
    }

    #[test]
    fn what_is_answered_is_dealt_with() {
        let mut memory = Memory::new("test", 65536).unwrap();
        let mut inbox = Inbox::new(&mut memory, 8192).unwrap();
        let (peer, socket) = UnixStream::pair().unwrap();
        rustix::net::send(&peer, b"what", SendFlags::empty()).unwrap();
        inbox
            .receive(&socket, 99, rustix::net::RecvFlags::empty())
            .unwrap();
        let mut outbox = Outbox::new(&mut memory).unwrap();
        outbox.answers(&inbox);
        inbox.hand_out(4);
        assert_eq!(inbox.start(), 0);
        outbox.begin(Some(0), 1);
        outbox.send(&socket, b"!", &[], SendFlags::empty()).unwrap();
        outbox.end(&(0..4));
        assert_eq!(inbox.start(), 4);
    }
}
