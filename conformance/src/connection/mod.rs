//! A client of bytes: it sends what no client would, and never waits longer than it was told.

mod message;
mod socket;

pub use message::{Answer, Message, Received, describe, errno_words};
pub use socket::{receive_some, send_some, wait};

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use vfu::wire::Header;
use vfu::wire::header::MessageType;

use crate::check::{Unmet, Verdict, Within};
use crate::ensure;
use crate::payload;

/// The largest message that is taken from a server: QEMU takes 64 MiB of data.
const MAX_MESSAGE: usize = (64 << 20) + 32;

/// One connection to the server.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    patience: Duration,
    next_id: u16,
    /// Commands of the server that came while a reply was waited for.
    commands: VecDeque<Message>,
    /// Held so that the target can tell whether a connection is open.
    _open: Arc<()>,
}

impl Connection {
    /// A connection over `socket`, on which nothing takes longer than `patience`.
    pub fn new(socket: OwnedFd, patience: Duration, open: Arc<()>) -> Self {
        Self {
            socket,
            patience,
            next_id: 0x1000,
            commands: VecDeque::new(),
            _open: open,
        }
    }

    /// The longest that one wait may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Sends bytes as they are, with `fds` on the first of them.
    pub fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Verdict {
        match self.send_while_taken(bytes, fds)? {
            true => Ok(()),
            false => Err(Unmet::fail("the server closed the connection too early")),
        }
    }

    /// Sends bytes to a server that may close meanwhile; tells whether it took them all.
    pub fn send_while_taken(
        &mut self,
        mut bytes: &[u8],
        mut fds: &[BorrowedFd<'_>],
    ) -> Result<bool, Unmet> {
        let deadline = Instant::now() + self.patience;
        while !bytes.is_empty() {
            match send_some(self.socket.as_fd(), bytes, fds) {
                Ok(sent) => (bytes, fds) = (bytes.get(sent..).unwrap_or_default(), &[]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let is_ready = wait(self.socket.as_fd(), PollFlags::OUT, deadline)?;
                    ensure!(is_ready, "the server stopped reading what was sent");
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The next message of the server, or its end; fails if neither comes in time.
    pub fn receive(&mut self) -> Result<Received, Unmet> {
        let patience = self.patience;
        let received = self.receive_within(patience)?;
        received.ok_or_else(|| {
            let limit = patience.as_secs_f32();
            Unmet::fail(format!("neither a message nor the end within {limit} s"))
        })
    }

    /// The next message, the end, or `None` if nothing begins to come within `limit`.
    pub fn receive_within(&mut self, limit: Duration) -> Result<Option<Received>, Unmet> {
        if !wait(self.socket.as_fd(), PollFlags::IN, Instant::now() + limit)? {
            return Ok(None);
        }
        let deadline = Instant::now() + self.patience;
        let mut fds = Vec::new();
        let mut head = [0; Header::LEN];
        match self.fill(&mut head, &mut fds, deadline)? {
            0 => return Ok(Some(Received::Closed)),
            Header::LEN => {}
            some => return Err(truncated(some)),
        }
        let Ok(header) = Header::parse(&head) else {
            return Err(Unmet::fail("the suite itself failed: a header of 16 bytes"));
        };
        let len = usize::try_from(header.size).unwrap_or(usize::MAX);
        ensure!(
            (Header::LEN..=MAX_MESSAGE).contains(&len),
            "a message of the server announces {len} bytes"
        );
        let mut payload = vec![0; len - Header::LEN];
        let filled = self.fill(&mut payload, &mut fds, deadline)?;
        if filled < payload.len() {
            return Err(truncated(Header::LEN + filled));
        }
        Ok(Some(Received::Message(Message {
            header,
            payload,
            fds,
        })))
    }

    /// Reads until `bytes` are full or the end; never more, so that descriptors which come are
    /// those of this message.
    fn fill(
        &mut self,
        bytes: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Instant,
    ) -> Result<usize, Unmet> {
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match receive_some(self.socket.as_fd(), room, fds) {
                Ok(0) | Err(Errno::CONNRESET) => break,
                Ok(received) => filled += received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let is_ready = wait(self.socket.as_fd(), PollFlags::IN, deadline)?;
                    ensure!(is_ready, "a message of the server stopped in the middle");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    /// The next reply; commands of the server are kept for [`Self::next_command`].
    pub fn receive_reply(&mut self) -> Result<Received, Unmet> {
        // A server may send any number of commands, but none of ours makes one send as many.
        for _ in 0..10_000 {
            match self.receive()? {
                Received::Message(message)
                    if message.header.message_type() == MessageType::Command =>
                {
                    self.commands.push_back(message);
                }
                other => return Ok(other),
            }
        }
        Err(Unmet::fail("the server sends commands, and no reply"))
    }

    /// Whether a command of the server is kept.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// The next command of the server, kept or to come.
    pub fn next_command(&mut self) -> Result<Message, Unmet> {
        if let Some(message) = self.commands.pop_front() {
            return Ok(message);
        }
        match self.receive()? {
            Received::Message(message) if message.header.message_type() == MessageType::Command => {
                Ok(message)
            }
            other => Err(Unmet::fail(format!(
                "the server should send a command, and there came {}",
                describe(&other)
            ))),
        }
    }

    /// A message ID that was not used before, for the first 65,536.
    pub fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Sends a command and looks at what comes of it. A reply of any kind must have a right head.
    pub fn ask(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, Unmet> {
        let id = self.take_id();
        let message = payload::message(id, command, 0, payload);
        if self.send_while_taken(&message, fds)? {
            self.answer_to(id, command)
        } else {
            Ok(Answer::Closed)
        }
    }

    /// Waits for the reply to the command with this ID. A reply must have a right head.
    pub fn answer_to(&mut self, id: u16, command: u16) -> Result<Answer, Unmet> {
        let message = match self.receive_reply()? {
            Received::Closed => return Ok(Answer::Closed),
            Received::Message(message) => message,
        };
        let header = &message.header;
        ensure!(
            header.message_type() == MessageType::Reply,
            "the type in flags {:#x} is neither command nor reply",
            header.flags
        );
        ensure!(
            header.id == id,
            "the reply has message ID {:#x}, the command had {id:#x}",
            header.id
        );
        ensure!(
            header.command == command,
            "the reply has command {}, the command was {command}",
            header.command
        );
        if header.flags & payload::ERROR == 0 {
            return Ok(Answer::Success(message));
        }
        ensure!(
            message.payload.is_empty(),
            "the error reply has {} bytes after its header",
            message.payload.len()
        );
        ensure!(message.fds.is_empty(), "descriptors came with an error");
        Ok(Answer::Refused(
            header.error().filter(|_| header.errno != 0),
        ))
    }

    /// Sends a command that must succeed.
    pub fn accepts(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Message, Unmet> {
        let answer = self.ask(command, payload, fds)?;
        answer.success().within(&format!("command {command}"))
    }

    /// Sends a command that must be answered with an error.
    pub fn refuses(
        &mut self,
        command: u16,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Option<Errno>, Unmet> {
        match self.ask(command, payload, fds)? {
            Answer::Refused(errno) => Ok(errno),
            Answer::Success(_) => Err(Unmet::fail(format!("command {command} succeeded"))),
            Answer::Closed => Err(Unmet::fail(format!(
                "the connection was closed at command {command}, with no error reply"
            ))),
        }
    }

    /// Waits for the end of the connection; a message before it is a failure.
    pub fn expect_closed(&mut self) -> Verdict {
        match self.receive()? {
            Received::Closed => Ok(()),
            other => Err(Unmet::fail(format!(
                "the server should close, and there came {}",
                describe(&other)
            ))),
        }
    }

    /// Nothing comes within `limit`.
    pub fn expect_silence(&mut self, limit: Duration) -> Verdict {
        match self.receive_within(limit)? {
            None => Ok(()),
            Some(received) => Err(Unmet::fail(format!(
                "nothing should come, and there came {}",
                describe(&received)
            ))),
        }
    }

    /// Says that no more will be sent.
    pub fn finish_sending(&mut self) -> Verdict {
        Ok(rustix::net::shutdown(
            &self.socket,
            rustix::net::Shutdown::Write,
        )?)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn truncated(len: usize) -> Unmet {
    Unmet::fail(format!("the server closed {len} bytes into a message"))
}
