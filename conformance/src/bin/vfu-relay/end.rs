//! One connection, for whole messages.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use vfu::socket::{Received, Receiver, Sender};
use vfu::wire::header::MessageType;
use vfu::wire::{Command, Header};

/// Longer than any message that a server announces.
const MAX_FRAME: usize = 64 << 20;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The id of commands of our own. The VMM has none under way then.
const OWN_ID: u16 = 0xfffe;

/// One whole message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct End {
    receiver: Receiver,
    sender: Sender,
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl End {
    pub(crate) fn new(socket: UnixStream) -> Self {
        let socket = Arc::new(OwnedFd::from(socket));
        Self {
            receiver: Receiver::new(Arc::clone(&socket), MAX_FRAME),
            sender: Sender::new(socket),
        }
    }

    pub(crate) fn connect(path: &Path) -> anyhow::Result<Self> {
        let socket = UnixStream::connect(path);
        let socket = socket.with_context(|| format!("no server is at {}", path.display()))?;
        Ok(Self::new(socket))
    }

    pub(crate) fn send(&self, message: &Message) -> anyhow::Result<()> {
        let bytes = [&message.header.to_bytes()[..], &message.payload].concat();
        let fds: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
        self.sender
            .send(&bytes, &fds)
            .context("cannot pass a message on")
    }

    /// The next message that is here. An error if the other end has closed.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Message>> {
        loop {
            if let Some(frame) = self.receiver.next_frame()? {
                return Ok(Some(Message {
                    header: frame.header,
                    payload: frame.payload.to_vec(),
                    fds: frame.fds,
                }));
            }
            match self.receiver.receive(RecvFlags::DONTWAIT)? {
                Received::Some => {}
                Received::Nothing => return Ok(None),
                Received::Closed => bail!("the connection was closed"),
            }
        }
    }

    /// Sends a command of our own and waits for what it gives. The server says nothing else
    /// meanwhile: its device is idle, or stopped.
    pub(crate) fn call(
        &mut self,
        command: Command,
        fds: Vec<OwnedFd>,
        payload: Vec<u8>,
    ) -> anyhow::Result<Vec<u8>> {
        let header = Header::command(OWN_ID, command, payload.len());
        self.send(&Message {
            header,
            payload,
            fds,
        })?;
        loop {
            if let Some(message) = self.next()? {
                let is_reply = message.header.message_type() == MessageType::Reply;
                ensure!(
                    is_reply && message.header.id == OWN_ID,
                    "the server sent {:?} while it was asked for {command:?}",
                    message.header
                );
                return match message.header.error() {
                    None => Ok(message.payload),
                    Some(errno) => bail!("{command:?} was refused: {errno}"),
                };
            }
            let mut fds = [PollFd::new(&*self, PollFlags::IN)];
            let limit = Timespec::try_from(PATIENCE)?;
            ensure!(
                poll(&mut fds, Some(&limit))? > 0,
                "{command:?} was not answered"
            );
        }
    }
}
