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

/// Events that say that the client will send no more.
const HANG_UP: epoll::EventFlags = epoll::EventFlags::RDHUP
    .union(epoll::EventFlags::HUP)
    .union(epoll::EventFlags::ERR);

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
    /// Whether the socket may hold something that no event will tell of.
    is_unread: bool,
    /// Whether the client has closed its end: what it sent is read to the end.
    has_hung_up: bool,
}

impl Waiter {
    pub(super) fn new(
        server: &Server,
        mailbox: &Mailbox,
        patience: Duration,
    ) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // An edge costs less than a level: nothing is asked again after a read. What a read left
        // behind is kept in mind here instead.
        let socket_flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let socket = epoll::EventData::new_u64(SOCKET);
        epoll::add(&epoll, server.as_fd(), socket, socket_flags)?;
        let mail = epoll::EventData::new_u64(MAILBOX);
        epoll::add(&epoll, mailbox.as_fd(), mail, epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            patience,
            owed_since: None,
            had_mail: false,
            is_unread: false,
            has_hung_up: false,
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
        if self.is_unread {
            return self.receive(server).map(Woken::Received);
        }
        let Some(start) = window.begin() else {
            return self.sleep(server, mailbox);
        };
        if let Some(woken) = self.look(server, mailbox, window.window(), start)? {
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
            match self.receive(server)? {
                Received::Nothing => {}
                received => return Ok(Woken::Received(received)),
            }
        }
        Ok(Woken::Mail)
    }

    /// Reads once, and remembers whether there may be more that no event will tell of.
    fn receive(&mut self, server: &mut Server) -> Result<Received, SessionError> {
        let received = server.receive()?;
        self.is_unread = received == Received::Some && (self.has_hung_up || server.may_have_more());
        Ok(received)
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
        for event in &*ready {
            let (source, flags) = (event.data.u64(), event.flags);
            if source == SOCKET {
                self.is_unread = true;
                self.has_hung_up |= flags.intersects(HANG_UP);
            } else if !mailbox.has_mail() {
                // Something was noticed that is not mail.
                mailbox.rest();
            }
        }
        if mailbox.has_mail() {
            return Ok(Woken::Mail);
        }
        self.receive(server).map(Woken::Received)
    }

    /// Reads without sleeping until something comes or `window` is over.
    fn look(
        &mut self,
        server: &mut Server,
        mailbox: &Mailbox,
        window: Duration,
        start: Instant,
    ) -> Result<Option<Woken>, SessionError> {
        if window.is_zero() {
            return Ok(None);
        }
        loop {
            match self.receive(server)? {
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
