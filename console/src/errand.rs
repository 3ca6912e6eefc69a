//! What the process that viewers talk to may not do itself, and has the one that started it do: to
//! connect to the worker, which is another one after an upgrade or a crash.
//!
//! There is a socket for each worker: that of the display, and those of functions that take input.
//!
//! It can ask for nothing else, and name nothing. What it gets is a connection that is good for the
//! picture alone (`worker::protocol::Request::Watch`).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use serde::{Deserialize, Serialize};
use worker::control::Control;
use worker::seqpacket;

/// Asks to be connected to the worker.
const CONNECT: &[u8] = b"connect";

/// How long an errand may take: a worker has 5 s to answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// The asking end.
#[derive(Debug)]
pub struct Errands(OwnedFd);

/// What the asking end is told first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// What the picture is called.
    pub name: String,
    /// Which head of the display is shown.
    pub head: u32,
    /// What TCP asks for.
    pub password: Option<String>,
    /// How long the worker may be gone.
    pub patience: Duration,
    /// Between two looks at a picture that changes.
    pub apart: Duration,
}

/// How an errand went.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// A descriptor comes with it: the connection first, then what tells of changes.
    Done,
    Refused(String),
}

/// Why an errand was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The worker is not there, or says no.
    #[error("{0}")]
    Refused(String),
    /// Nobody runs errands any more.
    #[error("nobody runs errands any more")]
    Orphaned,
}

/// Both ends for the display's worker, the asking one first.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    let (asking, running) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&asking, Timeout::Recv, Some(PATIENCE))?;
    Ok((asking, running))
}

/// Both ends for a function's worker, the asking one first.
pub fn input_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SocketType::SEQPACKET;
    Ok(socketpair(
        AddressFamily::UNIX,
        kind,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

impl Errands {
    /// The asking end, and what it is told.
    pub fn begin(socket: OwnedFd) -> anyhow::Result<(Self, Instructions)> {
        let document = seqpacket::receive(&socket)?;
        let (document, _) = document.ok_or(Failed::Orphaned)?;
        Ok((Self(socket), serde_json::from_slice(&document)?))
    }

    /// A connection to the worker, and what tells of changes.
    pub fn connect(&self) -> Result<(Control, OwnedFd), Failed> {
        seqpacket::send(&self.0, CONNECT, None).map_err(|_| Failed::Orphaned)?;
        let control = receive(&self.0)?;
        let changes = receive(&self.0)?;
        Ok((Control::from_socket(control), changes))
    }
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd, Failed> {
    match seqpacket::receive(socket) {
        Ok(Some((document, fd))) => match (serde_json::from_slice(&document), fd) {
            (Ok(Outcome::Done), Some(fd)) => Ok(fd),
            (Ok(Outcome::Refused(why)), _) => Err(Failed::Refused(why)),
            _ => Err(Failed::Orphaned),
        },
        // It is late: nothing that comes after this can be told apart.
        Ok(None) | Err(_) => Err(Failed::Orphaned),
    }
}

impl AsFd for Errands {
    /// Can be read once nobody runs errands any more.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs errands to the worker behind `control`, until nobody asks any more.
pub fn run(socket: &OwnedFd, control: &Path, instructions: &Instructions) -> io::Result<()> {
    seqpacket::send(socket, &serde_json::to_vec(instructions)?, None)?;
    let mut last = Last::default();
    while let Some((document, _)) = seqpacket::receive(socket)? {
        if document != CONNECT {
            return Err(io::Error::other("an errand that nobody knows"));
        }
        let reached = Control::connect(control).and_then(|control| {
            let changes = control.watch(instructions.head)?;
            Ok((control.into_socket(), changes))
        });
        match reached {
            Ok((control, changes)) => {
                answer(socket, &Outcome::Done, Some(control.as_fd()))?;
                answer(socket, &Outcome::Done, Some(changes.as_fd()))?;
                last.is(control);
            }
            Err(error) => answer(socket, &Outcome::Refused(error.to_string()), None)?,
        }
    }
    Ok(())
}

/// The asking end for a function that takes input.
#[derive(Debug)]
pub struct InputErrands(OwnedFd);

impl InputErrands {
    /// The asking end.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// A connection to the function's worker that is good for input alone
    /// (`worker::protocol::Request::Input`). It takes as long as the worker does.
    pub fn connect(&self) -> Result<Control, Failed> {
        seqpacket::send(&self.0, CONNECT, None).map_err(|_| Failed::Orphaned)?;
        receive(&self.0).map(Control::from_socket)
    }
}

/// Runs errands to the worker of a function behind `control`, until nobody asks any more.
pub fn run_input(socket: &OwnedFd, control: &Path) -> io::Result<()> {
    // By it the next worker knows who comes back.
    let stream = RandomState::new().build_hasher().finish().max(1);
    let mut last = Last::default();
    while let Some((document, _)) = seqpacket::receive(socket)? {
        if document != CONNECT {
            return Err(io::Error::other("an errand that nobody knows"));
        }
        let reached = Control::connect(control).and_then(|control| {
            control.input(stream)?;
            Ok(control.into_socket())
        });
        match reached {
            Ok(control) => {
                answer(socket, &Outcome::Done, Some(control.as_fd()))?;
                last.is(control);
            }
            Err(error) => answer(socket, &Outcome::Refused(error.to_string()), None)?,
        }
    }
    Ok(())
}

/// The connection that was handed out last. There is one at a time: a worker has places for few, and
/// who has broken into a console could take them all.
#[derive(Debug, Default)]
struct Last(Option<OwnedFd>);

impl Last {
    /// It is this one now, and the one before is good for nothing more.
    fn is(&mut self, connection: OwnedFd) {
        if let Some(before) = self.0.replace(connection) {
            // One that the worker has closed is as good.
            let _ = shutdown(&before, Shutdown::Both);
        }
    }
}

fn answer(socket: &OwnedFd, outcome: &Outcome, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    seqpacket::send(socket, &serde_json::to_vec(outcome)?, fd)
}
