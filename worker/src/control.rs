//! The asking end of a worker's control socket.

mod shown;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use mdev::input::Report;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{Shutdown, shutdown};
use serde::Serialize;

use crate::protocol::{Answer, Envelope, InputRecord, Request, SeatRequest, Status, VERSION};
use crate::seat::SeatFiles;
use crate::{seqpacket, state_file};

pub use shown::{Picture, Pointer};

/// How long a worker may take to answer. It answers between two messages of its VMM.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers there.
    #[error("cannot reach the worker: {0}")]
    Io(#[from] io::Error),
    /// The worker said no.
    #[error("{message}")]
    Refused {
        /// The errno that fits, by name.
        errno: String,
        /// Why.
        message: String,
    },
    /// The other end is not a worker, or another version of it.
    #[error("the answer makes no sense: {0}")]
    Garbled(String),
}

/// A connection to a worker.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
}

impl Control {
    /// Connects to the control socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        let socket = seqpacket::connect_to(path, PATIENCE)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(io::Error::from)?;
        Ok(Self { socket })
    }

    /// The connection, which another process may go on with.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Goes on with a connection that another process made.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Asks, and waits for the answer.
    fn ask(&self, request: Request) -> Result<(Answer, Option<OwnedFd>), ControlError> {
        self.ask_with(request, None)
    }

    /// Asks with a descriptor beside the request.
    fn ask_with(
        &self,
        request: Request,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(Answer, Option<OwnedFd>), ControlError> {
        self.exchange(&envelope(request), fd)
    }

    /// Sends a document, and waits for the answer.
    fn exchange(
        &self,
        document: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(Answer, Option<OwnedFd>), ControlError> {
        self.send(document, fd)?;
        self.answer()
    }

    fn send(
        &self,
        document: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), ControlError> {
        let document = serde_json::to_vec(document).map_err(|error| garbled(&error))?;
        Ok(seqpacket::send(&self.socket, &document, fd)?)
    }

    fn answer(&self) -> Result<(Answer, Option<OwnedFd>), ControlError> {
        let Some((document, fd)) = seqpacket::receive(&self.socket)? else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        match serde_json::from_slice(&document).map_err(|error| garbled(&error))? {
            Answer::Error { errno, message } => Err(ControlError::Refused { errno, message }),
            answer => Ok((answer, fd)),
        }
    }

    /// How the worker is.
    pub fn status(&self) -> Result<Status, ControlError> {
        match self.ask(Request::Status)? {
            (Answer::Status(status), _) => Ok(status),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// What a head of the worker's display shows.
    pub fn scanout(&self, head: u32) -> Result<Picture, ControlError> {
        match self.ask(Request::Scanout { head })? {
            (
                Answer::Scanout {
                    geometry,
                    sequence,
                    drawn,
                    cursor,
                },
                Some(memory),
            ) => Ok(Picture {
                memory,
                geometry,
                sequence,
                drawn,
                cursor,
            }),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The cursor of a head.
    pub fn cursor(&self, head: u32) -> Result<Pointer, ControlError> {
        let (answer, memory) = self.ask(Request::Cursor { head })?;
        let Answer::Cursor {
            image,
            x,
            y,
            sequence,
        } = answer
        else {
            return Err(unexpected(&answer));
        };
        if image.is_some() && memory.is_none() {
            return Err(unexpected(&answer));
        }
        Ok(Pointer {
            image: image.zip(memory),
            x,
            y,
            sequence,
        })
    }

    /// What tells that something else is shown or drawn, or the cursor has changed: an eventfd. From
    /// here on this connection is good for [`Self::scanout`], [`Self::cursor`] and [`Self::resize`] of
    /// this head alone.
    pub fn watch(&self, head: u32) -> Result<OwnedFd, ControlError> {
        match self.ask(Request::Watch { head })? {
            (Answer::Done, Some(eventfd)) => Ok(eventfd),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Begins to give the device input. From here on this connection is good for [`Self::give`]
    /// alone. See [`Request::Input`].
    pub fn input(&self, stream: u64) -> Result<(), ControlError> {
        self.ask(Request::Input { stream }).map(drop)
    }

    /// Gives the device input. If the worker is gone, the same record can be given to the next one.
    pub fn give(&self, number: u64, report: Report) -> Result<(), ControlError> {
        let record = InputRecord { number, report };
        match self.exchange(&record, None)? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Has a head ask its guest for a picture of this size. Refused with ENOTSUP if no display of
    /// this type can, with EINVAL if it is no size for this one.
    pub fn resize(&self, head: u32, width: u32, height: u32) -> Result<(), ControlError> {
        self.ask(Request::Resize {
            head,
            width,
            height,
        })
        .map(drop)
    }

    /// Changes an attribute.
    pub fn set_attribute(&self, name: &str, value: &str) -> Result<(), ControlError> {
        self.ask(Request::SetAttribute {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .map(drop)
    }

    /// The state of the device, in a memory file.
    pub fn save(&self) -> Result<File, ControlError> {
        match self.ask(Request::Save)? {
            (Answer::State { .. }, Some(state)) => Ok(state_file::open(state)?),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Puts a state into the device. The file is one that [`state_file::create`] made.
    pub fn restore(&self, state: &File) -> Result<(), ControlError> {
        self.ask_with(Request::Restore, Some(state.as_fd()))
            .map(drop)
    }

    /// Has it park its descriptors with whoever has the other end of `keeper`.
    pub fn adopt(&self, keeper: BorrowedFd<'_>) -> Result<(), ControlError> {
        self.ask_with(Request::Adopt, Some(keeper)).map(drop)
    }

    /// Grants it time over the other end of `socket`: [`crate::lending`].
    pub fn lend(&self, socket: BorrowedFd<'_>) -> Result<(), ControlError> {
        self.ask_with(Request::Lend, Some(socket)).map(drop)
    }

    /// Resets the device.
    pub fn reset(&self) -> Result<(), ControlError> {
        self.ask(Request::Reset).map(drop)
    }

    /// Has it wait between two requests of its client, for another worker to take over.
    pub fn hand_over(&self) -> Result<(), ControlError> {
        self.ask(Request::HandOver).map(drop)
    }

    /// Has it serve again.
    pub fn go_on(&self) -> Result<(), ControlError> {
        self.ask(Request::GoOn).map(drop)
    }

    /// Ends it, its client being another worker's now.
    pub fn leave(&self) -> Result<(), ControlError> {
        self.ask(Request::Leave).map(drop)
    }

    /// Has a worker of a physical device serve one more vGPU. What is given back can be read once that
    /// has ended; it is ended by [`Self::stop`] on its own control socket. `meanwhile` is done while the
    /// worker takes in what another has left: [`crate::resume::Handing::hand_over`], if it is to go on
    /// from that, whose answer is to be waited for after this.
    pub fn serve(
        &self,
        seat: &SeatRequest,
        files: &SeatFiles,
        meanwhile: impl FnOnce() -> io::Result<()>,
    ) -> Result<OwnedFd, ControlError> {
        let (line, theirs) = files.offer()?;
        self.send(
            &envelope(Request::Serve(seat.clone())),
            Some(theirs.as_fd()),
        )?;
        // The worker's alone from here on, so that its end is seen.
        drop(theirs);
        let done = meanwhile();
        // Also if that failed: a worker that refuses takes nothing in, and says why.
        let answer = self.answer_at_last();
        match (done, answer) {
            (Ok(()), answer) => answer.map(|_| line),
            (Err(_), Err(refused @ ControlError::Refused { .. })) => Err(refused),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Waits for an answer that is the last: one that comes too late cannot be sent.
    fn answer_at_last(&self) -> Result<(Answer, Option<OwnedFd>), ControlError> {
        let answer = self.answer();
        match &answer {
            Err(ControlError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                // It may have come since.
                let _ = shutdown(&self.socket, Shutdown::Read);
                self.answer().or(answer)
            }
            _ => answer,
        }
    }

    /// Ends the worker.
    pub fn stop(&self) -> Result<(), ControlError> {
        self.ask(Request::Stop).map(drop)
    }
}

impl AsFd for Control {
    /// Can be read once the worker is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn envelope(request: Request) -> Envelope {
    Envelope {
        version: VERSION,
        request,
    }
}

fn garbled(error: &serde_json::Error) -> ControlError {
    ControlError::Garbled(error.to_string())
}

fn unexpected(answer: &Answer) -> ControlError {
    ControlError::Garbled(format!("{answer:?}"))
}
