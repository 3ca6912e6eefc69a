//! Where clients come from: a path that is claimed, or a descriptor that was inherited.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, ensure};
use mdev::instance::Clients;
use mdev::mailbox::{Mail, MailSender};
use rustix::net::{SocketType, sockopt};
use worker::arguments::Arguments;
use worker::claimed::{ClaimedPath, claim};
use worker::control::PATIENCE;
use worker::{inherited, seqpacket};

use crate::accept;
use crate::attendants::Attendants;

/// Claims the control socket.
pub(crate) fn claim_control(path: &Path) -> anyhow::Result<(OwnedFd, ClaimedPath)> {
    claim(path, seqpacket::listen_at, |path| {
        seqpacket::connect_to(path, PATIENCE).map(drop)
    })
}

/// Where clients come from.
pub(crate) enum ClientSource {
    /// A path of ours.
    Path(UnixListener, ClaimedPath),
    /// A listening socket of somebody else, who keeps its path.
    Listener(UnixListener),
    /// The one client there will be.
    Connected(OwnedFd),
}

/// Checks that a descriptor is a socket of that kind. In words it is `name`.
fn check_kind(fd: &OwnedFd, kind: SocketType, name: &str) -> anyhow::Result<()> {
    let found = sockopt::socket_type(fd).with_context(|| format!("{name} is not a socket"))?;
    let expected = match kind {
        SocketType::SEQPACKET => "seqpacket",
        _ => "stream",
    };
    ensure!(found == kind, "{name} is not a {expected} socket");
    Ok(())
}

fn listens(fd: &OwnedFd, name: &str) -> anyhow::Result<bool> {
    sockopt::socket_acceptconn(fd).with_context(|| format!("cannot ask about {name}"))
}

/// Checks that control requests can be taken from a socket that came with a request.
pub(crate) fn check_control(fd: &OwnedFd) -> anyhow::Result<()> {
    let name = "the control socket";
    check_kind(fd, SocketType::SEQPACKET, name)?;
    ensure!(listens(fd, name)?, "{name} does not listen");
    Ok(())
}

impl ClientSource {
    /// A listening socket that came with a request.
    pub(crate) fn of_seat(fd: OwnedFd) -> anyhow::Result<Self> {
        let name = "the socket for clients";
        check_kind(&fd, SocketType::STREAM, name)?;
        ensure!(listens(&fd, name)?, "{name} does not listen");
        Ok(Self::Listener(fd.into()))
    }

    pub(crate) fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        if let Some(path) = &arguments.socket_path {
            let (listener, claimed) = claim(
                path,
                |path| UnixListener::bind(path),
                |path| UnixStream::connect(path).map(drop),
            )?;
            return Ok(Self::Path(listener, claimed));
        }
        let number = arguments.fd.context("neither a path nor a descriptor")?;
        let fd = inherited::take("--fd", number)?;
        let name = format!("--fd {number}");
        check_kind(&fd, SocketType::STREAM, &name)?;
        if listens(&fd, &name)? {
            Ok(Self::Listener(fd.into()))
        } else {
            Ok(Self::Connected(fd))
        }
    }

    /// The socket on which clients connect, if it is somebody else's.
    pub(crate) fn inherited_listener(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Listener(listener) => Some(listener.as_fd()),
            Self::Path(..) | Self::Connected(_) => None,
        }
    }

    /// The path of ours, if that is where they come from.
    pub(crate) fn path(&self) -> Option<&ClaimedPath> {
        match self {
            Self::Path(_, claimed) => Some(claimed),
            Self::Listener(_) | Self::Connected(_) => None,
        }
    }

    /// Sends clients to the device's thread from now on. The path must be kept while it runs.
    pub(crate) fn start(
        self,
        mail: &MailSender,
        attendants: &Attendants,
    ) -> anyhow::Result<(Clients, Option<ClaimedPath>)> {
        let (listener, claimed) = match self {
            Self::Connected(client) => {
                mail.send(Mail::Client(client))?;
                return Ok((Clients::One, None));
            }
            Self::Listener(listener) => (listener, None),
            Self::Path(listener, claimed) => (listener, Some(claimed)),
        };
        let (mail, ends) = (mail.clone(), attendants.clone());
        attendants.spawn("accept", move || accept::run(&listener, &mail, ends.over()))?;
        Ok((Clients::Any, claimed))
    }
}
