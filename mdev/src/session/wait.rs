//! Waiting for the client and the mailbox at once.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::Timespec;
use vfu::Errno;
use vfu::server::Server;
use vfu::socket::Received;

use super::SessionError;
use crate::mailbox::Mailbox;
use crate::polling::PollWindow;

/// How long a client may stay silent while it owes us its VERSION or the rest of a message.
/// Nobody else can connect meanwhile.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

const SOCKET: u64 = 0;
const MAILBOX: u64 = 1;

/// What there is to do.
pub(super) enum Woken {
    /// The socket was read.
    Received(Received),
    /// The mailbox holds something.
    Mail,
}

/// Sleeps on the socket and the mailbox.
pub(super) struct Waiter {
    epoll: OwnedFd,
}

impl Waiter {
    pub(super) fn new(server: &Server, mailbox: &Mailbox) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN;
        epoll::add(
            &epoll,
            server.as_fd(),
            epoll::EventData::new_u64(SOCKET),
            readable,
        )?;
        epoll::add(
            &epoll,
            mailbox.as_fd(),
            epoll::EventData::new_u64(MAILBOX),
            readable,
        )?;
        Ok(Self { epoll })
    }

    /// Looks for a message as long as `window` says, then sleeps until there is one.
    pub(super) fn wait(
        &self,
        server: &mut Server,
        mailbox: &Mailbox,
        window: &mut PollWindow,
    ) -> Result<Woken, SessionError> {
        if mailbox.has_mail() {
            return Ok(Woken::Mail);
        }
        let start = Instant::now();
        if let Some(woken) = look(server, mailbox, window.window(), start)? {
            return Ok(woken);
        }
        let woken = self.sleep(server, mailbox)?;
        window.waited(start.elapsed());
        Ok(woken)
    }

    fn sleep(&self, server: &mut Server, mailbox: &Mailbox) -> Result<Woken, SessionError> {
        let patience = server.awaits_client().then_some(&PATIENCE);
        let mut events = [const { MaybeUninit::uninit() }; 2];
        let (ready, _) = loop {
            match epoll::wait(&self.epoll, &mut events, patience) {
                Err(Errno::INTR) => {}
                ready => break ready?,
            }
        };
        if ready.is_empty() {
            return Err(SessionError::Silent);
        }
        if mailbox.has_mail() {
            return Ok(Woken::Mail);
        }
        Ok(Woken::Received(server.receive()?))
    }
}

/// Reads without sleeping until something comes or `window` is over.
fn look(
    server: &mut Server,
    mailbox: &Mailbox,
    window: Duration,
    start: Instant,
) -> Result<Option<Woken>, SessionError> {
    if window.is_zero() {
        return Ok(None);
    }
    loop {
        match server.receive()? {
            Received::Nothing => {}
            received => return Ok(Some(Woken::Received(received))),
        }
        if mailbox.has_mail() {
            return Ok(Some(Woken::Mail));
        }
        if start.elapsed() >= window {
            return Ok(None);
        }
        std::hint::spin_loop();
    }
}
