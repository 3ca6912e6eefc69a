//! The answer to a request.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::ServerError;
use crate::Errno;
use crate::socket::Sender;
use crate::wire::Header;

/// The one answer to one request. Where the client wants none, nothing is sent.
#[derive(Debug)]
#[must_use = "a client waits 5 s for each reply"]
pub struct Reply<'a> {
    pub(super) sender: &'a Sender,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) header: Header,
    /// Where the request lies in the stream.
    pub(super) position: Range<u64>,
}

impl Reply<'_> {
    /// Success, with nothing to say.
    pub fn empty(self) -> Result<(), ServerError> {
        self.with(|_| ())
    }

    /// Success, with the payload that `emit` appends.
    pub fn with(self, emit: impl FnOnce(&mut Vec<u8>)) -> Result<(), ServerError> {
        self.with_fds(&[], emit)
    }

    /// Success, with a payload and file descriptors.
    pub fn with_fds(
        self,
        fds: &[BorrowedFd<'_>],
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ServerError> {
        self.out.clear();
        self.out.extend([0; Header::LEN]);
        emit(self.out);
        if self.header.is_no_reply() {
            return Ok(());
        }
        let header = self.header.reply(self.out.len() - Header::LEN);
        self.out[..Header::LEN].copy_from_slice(&header.to_bytes());
        self.sender
            .answer(&self.position, self.out, fds)
            .map_err(ServerError::Send)
    }

    /// Failure.
    pub fn error(self, errno: Errno) -> Result<(), ServerError> {
        if self.header.is_no_reply() {
            return Ok(());
        }
        let header = self.header.error_reply(errno);
        self.sender
            .answer(&self.position, &header.to_bytes(), &[])
            .map_err(ServerError::Send)
    }

    /// Where the request lies in the stream of what the client sent, in bytes from its beginning.
    pub fn position(&self) -> &Range<u64> {
        &self.position
    }

    /// The command that is being answered, for the log.
    pub fn command(&self) -> u16 {
        self.header.command
    }
}
