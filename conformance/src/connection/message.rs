//! What comes from the server.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use vfu::wire::Header;
use vfu::wire::header::MessageType;

use crate::check::Unmet;
use crate::payload;

/// One message from the server.
#[derive(Debug)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What follows the header.
    pub payload: Vec<u8>,
    /// The file descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// What waiting for the server brought.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Message),
    /// The server closed the connection.
    Closed,
}

/// What the server made of a command.
#[derive(Debug)]
pub enum Answer {
    /// A reply that tells of success.
    Success(Message),
    /// A reply that tells of an error; of this errno, where the server names one.
    Refused(Option<Errno>),
    /// No reply: the connection is closed.
    Closed,
}

impl Answer {
    /// The reply, which must tell of success.
    pub fn success(self) -> Result<Message, Unmet> {
        match self {
            Self::Success(message) => Ok(message),
            Self::Refused(errno) => {
                let errno = errno_words(errno);
                Err(Unmet::fail(format!("it was refused ({errno})")))
            }
            Self::Closed => Err(Unmet::fail("the connection was closed")),
        }
    }
}

/// What came, in words.
pub fn describe(received: &Received) -> String {
    match received {
        Received::Closed => "the end of the connection".to_owned(),
        Received::Message(message) => {
            let header = &message.header;
            let kind = match header.message_type() {
                MessageType::Command => "command",
                MessageType::Reply if header.flags & payload::ERROR != 0 => "an error reply to",
                MessageType::Reply => "a reply to",
                MessageType::Unknown => "a message of unknown type,",
            };
            format!("{kind} {} of {} bytes", header.command, header.size)
        }
    }
}

/// An errno, in words.
pub fn errno_words(errno: Option<Errno>) -> String {
    errno.map_or_else(|| "no errno".to_owned(), |errno| errno.to_string())
}
