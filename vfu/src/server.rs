//! The server's end of one connection: agrees on a version, hands out requests, takes replies.
//!
//! - `agreement`: VERSION, and how it is kept for another process.
//! - [`Reply`]: the one answer to one request.
//! - `twin`: the socket for the server's own commands, where the client took one.
//! - [`refuse_client`], [`hang_up`]: the end of a connection that a client can bear.

mod agreement;
mod parting;
mod reply;
mod twin;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use kept::{Inbox, Outbox};
use rustix::net::{RecvFlags, Shutdown};

use crate::Errno;
use crate::socket::{BrokenStream, Received, Receiver, Sender};
use crate::wire::version::{Capabilities, Version, VersionError};
use crate::wire::{Header, Malformed, Request};

pub use parting::{hang_up, refuse_client};
pub use reply::Reply;
use twin::Twin;

/// Bytes around the data of the largest messages: the header and the head of an access.
const FRAME_OVERHEAD: usize = 32;

/// Data that every frame may carry, however little was agreed on: that bounds the data of an
/// access only, and QEMU's longest REGION_WRITE_MULTI has 4824 bytes.
const MIN_FRAME_DATA: usize = 8 << 10;

/// Why a connection came to an end that the client did not ask for.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The stream failed, or is out of step.
    #[error(transparent)]
    Broken(#[from] BrokenStream),
    /// The two ends have no version in common.
    #[error("no version could be agreed on: {0}")]
    Version(#[from] VersionError),
    /// Something else came where VERSION must come first.
    #[error("the first message was command {0}, not VERSION")]
    NotVersion(u16),
    /// A reply could not be sent; the client may have stopped reading.
    #[error("a reply could not be sent")]
    Send(#[source] io::Error),
    /// There is no socket for the server's own commands.
    #[error("no twin socket can be made")]
    Twin(#[source] io::Error),
}

/// The server's end of one connection.
#[derive(Debug)]
pub struct Server {
    receiver: Receiver,
    sender: Sender,
    able: Capabilities,
    /// Most data of one access; 0 until a version was agreed on.
    max_data_xfer_size: usize,
    agreed: Option<Version>,
    /// Most data that the client takes in one message.
    client_max_data_xfer_size: u64,
    /// Where the server's own commands go, if not the way of the client's.
    twin: Option<Twin>,
    out: Vec<u8>,
    /// Whether another process goes on with the client.
    is_left_open: bool,
}

/// A request, and the means to answer it.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// What the client asks, or why it is refused. The refusal is the caller's to send, so that
    /// it can say why in its log.
    pub request: Result<Request<'a>, Malformed>,
    /// Where the answer goes.
    pub reply: Reply<'a>,
}

impl Server {
    /// Serves the client behind `socket`, offering `able`.
    pub fn new(socket: OwnedFd, able: Capabilities) -> Self {
        let socket = Arc::new(socket);
        let max_frame = FRAME_OVERHEAD + Version::MAX_JSON;
        let receiver = Receiver::new(Arc::clone(&socket), max_frame);
        Self::with(receiver, Sender::new(socket), able)
    }

    /// As [`Self::new`], with what has come and what has left noted where it may outlive this
    /// process. The capacity of the inbox is [`Self::inbox_capacity`].
    pub fn kept(socket: OwnedFd, able: Capabilities, inbox: Inbox, mut outbox: Outbox) -> Self {
        let socket = Arc::new(socket);
        outbox.answers(&inbox);
        let max_frame = FRAME_OVERHEAD + Version::MAX_JSON;
        let receiver = Receiver::resume(Arc::clone(&socket), max_frame, inbox);
        Self::with(receiver, Sender::resume(socket, outbox), able)
    }

    /// Whether dropping this leaves the connection as it is: another process goes on with it.
    pub fn leave_open(&mut self, is_left_open: bool) {
        self.is_left_open = is_left_open;
    }

    /// The capacity of an inbox for clients that are offered `able`.
    pub fn inbox_capacity(able: &Capabilities) -> usize {
        let data = usize::try_from(able.max_data_xfer_size()).unwrap_or(usize::MAX);
        let data = data.max(MIN_FRAME_DATA).max(Version::MAX_JSON);
        Receiver::kept_capacity(data.saturating_add(FRAME_OVERHEAD))
    }

    fn with(receiver: Receiver, sender: Sender, able: Capabilities) -> Self {
        Self {
            receiver,
            sender,
            able,
            max_data_xfer_size: 0,
            agreed: None,
            client_max_data_xfer_size: Capabilities::DEFAULT_MAX_DATA_XFER_SIZE,
            twin: None,
            out: Vec::new(),
            is_left_open: false,
        }
    }

    /// What was agreed on; `None` until the client has sent its VERSION.
    pub fn agreed(&self) -> Option<&Version> {
        self.agreed.as_ref()
    }

    /// Most data that the client takes in one message.
    pub fn client_max_data_xfer_size(&self) -> u64 {
        self.client_max_data_xfer_size
    }

    /// The writing end for commands of the server's own.
    pub fn sender(&self) -> &Sender {
        self.twin.as_ref().map_or(&self.sender, Twin::sender)
    }

    /// The socket that brings the replies to them, if it is another than the client's.
    pub fn twin(&self) -> Option<BorrowedFd<'_>> {
        self.twin.as_ref().map(|twin| twin.as_fd())
    }

    /// Reads once what has come on the twin socket, without waiting, and hands each reply to
    /// `take`. Anything else there is dropped. `true` if there may be more.
    ///
    /// Once that socket is of no more use it is closed: what it was for fails, and the client's
    /// own commands do not.
    pub fn receive_twin(&mut self, mut take: impl FnMut(&Header, &[u8])) -> bool {
        let Some(twin) = &mut self.twin else {
            return false;
        };
        let received = twin.receive(&mut take);
        if received.is_err() {
            self.twin = None;
        }
        received.is_ok_and(|received| received == Received::Some)
    }

    /// Whether the client owes us something: its VERSION, or the rest of a message.
    pub fn awaits_client(&self) -> bool {
        self.agreed.is_none() || self.receiver.is_mid_message()
    }

    /// Takes no more requests: what was sent is still to be received, what follows fails at once.
    pub fn refuse_more(&self) {
        // It fails only where the client is gone, and then there is no more either.
        let _ = rustix::net::shutdown(&self.receiver, Shutdown::Read);
    }

    /// Whether to read again before waiting to be told that something has come.
    pub fn may_have_more(&self) -> bool {
        self.receiver.may_have_more()
    }

    /// Reads what has come, without waiting.
    pub fn receive(&mut self) -> Result<Received, ServerError> {
        match self.receiver.receive(RecvFlags::DONTWAIT) {
            Ok(received) => Ok(received),
            Err(broken) => Err(refuse_frame(&self.sender, broken)),
        }
    }

    /// The next request that is here whole, or `None` until more has been received. VERSION is
    /// answered in here. An error means that the connection must be closed.
    pub fn next_request(&mut self) -> Result<Option<Incoming<'_>>, ServerError> {
        self.next_request_if(|_| true)
    }

    /// The next request, if `is_wanted` says so of where it lies in the stream. Else it is still
    /// the next.
    pub fn next_request_if(
        &mut self,
        is_wanted: impl FnOnce(&Range<u64>) -> bool,
    ) -> Result<Option<Incoming<'_>>, ServerError> {
        if self.agreed.is_none() && self.agree()?.is_none() {
            return Ok(None);
        }
        let frame = match self.receiver.next_frame_if(is_wanted) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(broken) => return Err(refuse_frame(&self.sender, broken)),
        };
        let header = frame.header;
        let has_twin = self.agreed.as_ref().is_some_and(has_twin);
        let request = Request::parse(&header, frame.payload, frame.fds)
            .and_then(|request| check_size(request, self.max_data_xfer_size))
            .and_then(|request| check_way(request, has_twin));
        let reply = Reply {
            sender: &self.sender,
            out: &mut self.out,
            header,
            position: frame.position,
        };
        Ok(Some(Incoming { request, reply }))
    }

    /// What has come, and how far it is dealt with.
    pub fn inbox(&self) -> &Inbox {
        self.receiver.inbox()
    }

    /// Passes over the next request: another process has answered it.
    pub fn pass_over(&mut self) -> Result<(), ServerError> {
        self.receiver.next_frame()?;
        self.receiver.inbox().deal();
        Ok(())
    }

    /// A request that was dealt with and is still here: the first from `position` on, and where it
    /// ends. Descriptors that came with it are gone.
    pub fn past_request(
        &self,
        position: u64,
    ) -> Option<(Result<Request<'_>, Malformed>, Range<u64>)> {
        let frame = self.receiver.past_frame(position)?;
        let request = Request::parse(&frame.header, frame.payload, frame.fds);
        Some((request, frame.position))
    }
}

/// Holds an access to the size that was agreed on.
fn check_size(request: Request<'_>, max: usize) -> Result<Request<'_>, Malformed> {
    match &request {
        Request::RegionRead(access) | Request::RegionWrite(access, _)
            if usize::try_from(access.count).map_or(true, |count| count > max) =>
        {
            Err(Malformed::Range)
        }
        Request::MigDataRead(read) if usize::try_from(read.size).map_or(true, |it| it > max) => {
            Err(Malformed::Range)
        }
        Request::MigDataWrite(write) if write.data.len() > max => Err(Malformed::Range),
        _ => Ok(request),
    }
}

fn has_twin(version: &Version) -> bool {
    version.capabilities.twin_socket.is_some()
}

/// Replies to the server's commands come the way that the commands went.
fn check_way(request: Request<'_>, has_twin: bool) -> Result<Request<'_>, Malformed> {
    match request {
        Request::DmaReply(..) if has_twin => Err(Malformed::UnexpectedReply),
        _ => Ok(request),
    }
}

/// Tells the sender of an impossible frame that it was refused, before the connection closes.
fn refuse_frame(sender: &Sender, broken: BrokenStream) -> ServerError {
    if let BrokenStream::FrameSize { header, .. } = &broken
        && !header.is_no_reply()
    {
        // The connection is lost either way.
        let _ = sender.send(&header.error_reply(Errno::INVAL).to_bytes(), &[]);
    }
    broken.into()
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_left_open {
            hang_up(&self.receiver);
        }
    }
}
