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
    patience: Duration,
    /// Since when the client has owed us its VERSION or the rest of a message.
    owed_since: Option<Instant>,
    /// Whether mail was opened last.
    had_mail: bool,
}

impl Waiter {
    pub(super) fn new(
        server: &Server,
        mailbox: &Mailbox,
        patience: Duration,
    ) -> Result<Self, Errno> {
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
        Ok(Self {
            epoll,
            patience,
            owed_since: None,
            had_mail: false,
        })
    }

    /// A message came whole: the next one has its own time.
    pub(super) fn client_paid(&mut self) {
        self.owed_since = None;
    }

    /// Looks for a message as long as `window` says, then sleeps until there is one.
    pub(super) fn wait(
        &mut self,
        server: &mut Server,
        mailbox: &Mailbox,
        window: &mut PollWindow,
    ) -> Result<Woken, SessionError> {
        if mailbox.has_mail() {
            return self.mail_or_socket(server);
        }
        let start = Instant::now();
        if let Some(woken) = look(server, mailbox, window.window(), start)? {
            return Ok(woken);
        }
        let woken = self.sleep(server, mailbox)?;
        window.waited(start.elapsed());
        Ok(woken)
    }

    /// Mail goes first, but not twice while the client has something to say: clients that come
    /// to be refused are mail too, and must not hold up the one that is served.
    fn mail_or_socket(&mut self, server: &mut Server) -> Result<Woken, SessionError> {
        let had_mail = std::mem::replace(&mut self.had_mail, true);
        if had_mail {
            self.had_mail = false;
            match server.receive()? {
                Received::Nothing => {}
                received => return Ok(Woken::Received(received)),
            }
        }
        Ok(Woken::Mail)
    }

    fn sleep(&mut self, server: &mut Server, mailbox: &Mailbox) -> Result<Woken, SessionError> {
        let patience = self.patience_left(server);
        let mut events = [const { MaybeUninit::uninit() }; 2];
        let (ready, _) = loop {
            match epoll::wait(&self.epoll, &mut events, patience.as_ref()) {
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

    /// How long to sleep at most; `None` for ever. Time runs on while mail is opened, and while
    /// a message comes byte by byte.
    fn patience_left(&mut self, server: &Server) -> Option<Timespec> {
        if !server.awaits_client() {
            self.owed_since = None;
            return None;
        }
        let owed_since = *self.owed_since.get_or_insert_with(Instant::now);
        // A time past what the kernel can count is for ever.
        Timespec::try_from(self.patience.saturating_sub(owed_since.elapsed())).ok()
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
