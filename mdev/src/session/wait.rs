//! Waiting for the client, its doorbells and the mailbox at once.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::Timespec;
use vfu::Errno;
use vfu::server::Server;
use vfu::socket::Received;

use super::SessionError;
use super::doorbells::Doorbells;
use crate::mailbox::Mailbox;
use crate::polling::PollWindow;

const SOCKET: u64 = 0;
const MAILBOX: u64 = 1;
const TWIN: u64 = 2;
/// The first doorbell; the others follow.
const DOORBELLS: u64 = 3;

/// After so many messages that came without sleep it is looked whether anything else has come.
const LOOK_AROUND: u32 = 16;

/// Events that are taken at a time.
const EVENTS: usize = 8;

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
    /// The twin socket holds something.
    Twin,
    /// A doorbell rang.
    Doorbell(usize),
}

/// Sleeps on the socket and the mailbox.
pub(super) struct Waiter {
    epoll: OwnedFd,
    patience: Duration,
    /// Since when the client has owed us its VERSION or the rest of a message.
    owed_since: Option<Instant>,
    /// Whether mail was opened last.
    had_mail: bool,
    /// Whether the twin socket or a doorbell had its turn last.
    had_noted: bool,
    /// Of these two, whether it was the twin socket.
    had_twin: bool,
    /// Whether the socket may hold something that no event will tell of.
    is_unread: bool,
    /// Whether the client has closed its end: what it sent is read to the end.
    has_hung_up: bool,
    /// Whether the twin socket may hold something.
    is_twin_unread: bool,
    is_twin_watched: bool,
    /// How many doorbells are watched.
    watched: usize,
    /// Doorbells that rang, each once however often it did.
    rung: VecDeque<usize>,
    /// Messages that came without sleep.
    busy: u32,
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
            had_noted: false,
            had_twin: false,
            is_unread: false,
            has_hung_up: false,
            is_twin_unread: false,
            is_twin_watched: false,
            watched: 0,
            rung: VecDeque::new(),
            busy: 0,
        })
    }

    /// Watches the twin socket and doorbells as well, once there are any.
    pub(super) fn watch(&mut self, server: &Server, doorbells: &Doorbells) -> Result<(), Errno> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        if let (false, Some(twin)) = (self.is_twin_watched, server.twin()) {
            epoll::add(&self.epoll, twin, epoll::EventData::new_u64(TWIN), flags)?;
            self.is_twin_watched = true;
        }
        // An edge for each write of an eventfd, so that it need not be read: its mode is the
        // client's to change, and a read could block.
        for (number, bell) in doorbells.from(self.watched) {
            let data = epoll::EventData::new_u64(DOORBELLS + number as u64);
            epoll::add(&self.epoll, bell, data, flags)?;
        }
        self.watched = doorbells.len();
        Ok(())
    }

    /// The twin socket may still hold something.
    pub(super) fn twin_is_unread(&mut self) {
        self.is_twin_unread = true;
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
        self.look_around(mailbox)?;
        if mailbox.has_mail() {
            return self.mail_or_socket(server);
        }
        if let Some(woken) = self.by_turns(server, self.is_unread)? {
            return Ok(woken);
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
            if let Some(woken) = self.by_turns(server, true)? {
                return Ok(woken);
            }
        }
        Ok(Woken::Mail)
    }

    /// What the client has for us, without sleep: its socket, if that is to be read, and what else
    /// events told of, by turns. Whichever it never stops on, the others are heard.
    fn by_turns(
        &mut self,
        server: &mut Server,
        is_read: bool,
    ) -> Result<Option<Woken>, SessionError> {
        if !std::mem::take(&mut self.had_noted)
            && let Some(woken) = self.noted()
        {
            return Ok(Some(woken));
        }
        if is_read {
            match self.receive(server)? {
                Received::Nothing => {}
                received => return Ok(Some(Woken::Received(received))),
            }
        }
        Ok(self.noted())
    }

    /// Reads once, and remembers whether there may be more that no event will tell of.
    fn receive(&mut self, server: &mut Server) -> Result<Received, SessionError> {
        let received = server.receive()?;
        self.is_unread = received == Received::Some && (self.has_hung_up || server.may_have_more());
        Ok(received)
    }

    fn sleep(&mut self, server: &mut Server, mailbox: &Mailbox) -> Result<Woken, SessionError> {
        let patience = self.patience_left(server);
        self.busy = 0;
        if !self.take_events(mailbox, patience.as_ref())? {
            return Err(SessionError::Silent);
        }
        if mailbox.has_mail() {
            return Ok(Woken::Mail);
        }
        if let Some(woken) = self.noted() {
            return Ok(woken);
        }
        self.receive(server).map(Woken::Received)
    }

    /// A client that keeps us busy with messages must not keep its doorbells from being heard.
    fn look_around(&mut self, mailbox: &Mailbox) -> Result<(), SessionError> {
        if self.watched == 0 && !self.is_twin_watched {
            return Ok(());
        }
        self.busy += 1;
        if self.busy > LOOK_AROUND {
            self.busy = 0;
            self.take_events(mailbox, Some(&Timespec::default()))?;
        }
        Ok(())
    }

    /// Waits for events, and notes them. `false` if there was none in time.
    fn take_events(
        &mut self,
        mailbox: &Mailbox,
        limit: Option<&Timespec>,
    ) -> Result<bool, SessionError> {
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        let (ready, _) = loop {
            match epoll::wait(&self.epoll, &mut events, limit) {
                Err(Errno::INTR) => {}
                ready => break ready?,
            }
        };
        for event in &*ready {
            let (source, flags) = (event.data.u64(), event.flags);
            match source {
                SOCKET => {
                    self.is_unread = true;
                    self.has_hung_up |= flags.intersects(HANG_UP);
                }
                // Something was noticed that is not mail.
                MAILBOX if !mailbox.has_mail() => mailbox.rest(),
                MAILBOX => {}
                TWIN => self.is_twin_unread = true,
                bell => {
                    let bell = (bell - DOORBELLS) as usize;
                    if !self.rung.contains(&bell) {
                        self.rung.push_back(bell);
                    }
                }
            }
        }
        Ok(!ready.is_empty())
    }

    /// Every doorbell that has rung until now.
    pub(super) fn take_rung(&mut self, mailbox: &Mailbox) -> Result<VecDeque<usize>, SessionError> {
        if self.watched == 0 {
            return Ok(VecDeque::new());
        }
        // Each look brings others, if more than it has room for are ready.
        for _ in 0..(self.watched + DOORBELLS as usize).div_ceil(EVENTS) {
            self.take_events(mailbox, Some(&Timespec::default()))?;
        }
        Ok(std::mem::take(&mut self.rung))
    }

    /// What events told of beside the socket and the mailbox: one or the other by turns.
    fn noted(&mut self) -> Option<Woken> {
        let is_twins_turn = !self.had_twin || self.rung.is_empty();
        self.had_twin = self.is_twin_unread && is_twins_turn;
        let woken = if self.had_twin {
            self.is_twin_unread = false;
            Some(Woken::Twin)
        } else {
            self.rung.pop_front().map(Woken::Doorbell)
        };
        self.had_noted = woken.is_some();
        woken
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
