//! One client connected to one device: each request becomes one call, and one reply.

mod doorbells;
mod features;
mod handler;
pub(crate) mod recorder;
mod regions;
pub mod resume;
mod serve;
mod surroundings;
mod wait;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfu::Errno;
use vfu::server::{Server, ServerError};
use vfu::socket::Received;
use vfu::wire::version::{Capabilities, TwinSocket};

use crate::device::{MediatedDevice, Reset};
use crate::dma::sigbus::Truncation;
use crate::dma::{DmaTable, IovaRange};
use crate::keep::journal::Stream;
use crate::mailbox::{Mail, Mailbox};
use crate::migration::migrator::Migrator;
use crate::polling::PollWindow;

use doorbells::Doorbells;
use handler::Handler;
use recorder::Recorder;
use resume::Resumed;
pub use surroundings::Surroundings;
use wait::{Waiter, Woken};

/// How a session came to its end.
#[derive(Debug)]
pub enum Ended {
    /// The client closed the connection.
    ClientGone,
    /// The client closed it, and another one is waiting.
    Replaced(OwnedFd),
    /// The session was told to stop.
    Stopped,
}

/// Why a session was broken off.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection is of no use any more.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The client owes us its VERSION or the rest of a message.
    #[error("the client went silent in the middle of a message")]
    Silent,
    /// Its memory was to be unmapped, and the device still used it.
    #[error("the device did not let go of {0:?} in time")]
    StillPinned(IovaRange),
    /// It made a file smaller that it had given us as memory.
    #[error("the client truncated its memory")]
    Truncated,
    /// The kernel refused something that a session needs.
    #[error("a session cannot be set up: {0}")]
    Os(#[from] Errno),
}

/// One client connected to one device.
pub struct Session<'a> {
    server: Server,
    device: &'a mut dyn MediatedDevice,
    mailbox: &'a Mailbox,
    around: Surroundings,
    truncation: Arc<Truncation>,
    migrator: Migrator,
    doorbells: Doorbells,
    waiter: Waiter,
    /// Notes how things stand, if another process is to go on should this one die.
    recorder: Option<Recorder>,
    /// What is to be minded of what another process has left.
    resumed: Option<Resumed>,
    /// Another process goes on with the client.
    is_abandoned: bool,
}

/// What clients are offered.
pub(crate) fn able() -> Capabilities {
    Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(Capabilities::DEFAULT_MAX_DATA_XFER_SIZE),
        max_dma_maps: Some(65_535),
        pgsizes: Some(DmaTable::PAGE_SIZE),
        // QEMU gathers writes only where no region can be mapped; others may elsewhere.
        write_multiple: Some(true),
        twin_socket: Some(TwinSocket {
            supported: true,
            fd_index: None,
        }),
    }
}

impl<'a> Session<'a> {
    /// Serves the client behind `socket`.
    pub fn new(
        socket: OwnedFd,
        device: &'a mut dyn MediatedDevice,
        mailbox: &'a Mailbox,
        around: Surroundings,
    ) -> Result<Self, SessionError> {
        Self::recorded(socket, device, mailbox, around, None)
    }

    /// As [`Self::new`], and notes how things stand.
    pub(crate) fn recorded(
        socket: OwnedFd,
        device: &'a mut dyn MediatedDevice,
        mailbox: &'a Mailbox,
        around: Surroundings,
        record: Option<(Recorder, Stream)>,
    ) -> Result<Self, SessionError> {
        let truncation = around.memory.connect(around.limits);
        truncation.wake_by(rustix::io::fcntl_dupfd_cloexec(mailbox, 0)?);
        let (server, recorder) = match record {
            None => (Server::new(socket, able()), None),
            Some((mut recorder, (inbox, outbox))) => {
                around
                    .memory
                    .kept_by(&around.keep, &recorder.journal.mappings);
                around
                    .interrupts
                    .kept_by(&around.keep, &recorder.journal.irqs);
                recorder.connect(socket.as_fd());
                let server = Server::kept(socket, able(), inbox, outbox);
                (server, Some(recorder))
            }
        };
        let waiter = Waiter::new(&server, mailbox, around.patience)?;
        let mut session = Self {
            server,
            device,
            mailbox,
            around,
            truncation,
            migrator: Migrator::default(),
            doorbells: Doorbells::default(),
            waiter,
            recorder,
            resumed: None,
            is_abandoned: false,
        };
        session.handler().prepare();
        session.note();
        Ok(session)
    }

    /// Leaves the client and all that is noted of it to another process, before this has gone on: only
    /// what is here of its memory and its descriptors is let go.
    pub(crate) fn abandon(mut self) {
        self.around.keep.abandon();
        self.server.leave_open(true);
        self.is_abandoned = true;
    }

    /// Serves until the client is gone, cannot be served, or mail says to stop.
    pub fn run(mut self) -> Result<Ended, SessionError> {
        self.around.metrics.sessions.add(1);
        self.around.metrics.connected.store(true, Ordering::Relaxed);
        let mut window = PollWindow::new(self.around.polling);
        if self.resumed.is_some() {
            self.catch_up()?;
            self.serve_received()?;
        }
        loop {
            let waiter = &mut self.waiter;
            match waiter.wait(&mut self.server, self.mailbox, &mut window)? {
                Woken::Received(Received::Some) => {
                    if self.serve_received()? {
                        self.waiter.client_paid();
                        self.waiter.watch(&self.server, &self.doorbells)?;
                    }
                }
                Woken::Received(Received::Nothing) => {}
                Woken::Received(Received::Closed) => return Ok(Ended::ClientGone),
                Woken::Mail => {
                    if let Some(ended) = self.open_mail() {
                        return Ok(ended);
                    }
                }
                Woken::Twin => {
                    if self.receive_twin() {
                        self.waiter.twin_is_unread();
                    }
                }
                Woken::Doorbell(number) => {
                    self.handler().ring(number);
                    self.note();
                }
            }
            if self.truncation.is_noticed() {
                return Err(SessionError::Truncated);
            }
        }
    }

    /// Opens one message. It ends the session, or not.
    fn open_mail(&mut self) -> Option<Ended> {
        match self.mailbox.next_mail()? {
            Mail::Client(socket) => self.meet_next_client(socket),
            Mail::Call(call) => {
                self.handler().call(call);
                self.note();
                None
            }
            Mail::Pause(until) => {
                self.pause(until);
                None
            }
            Mail::Stop => {
                // Whoever waits for a reply gets it: without one QEMU stops the guest for 5 s.
                self.server.refuse_more();
                self.finish();
                Some(Ended::Stopped)
            }
        }
    }

    /// Another client is there. If this one has closed, though not all that it sent has been
    /// served, the other takes its place; else it is told that the device is taken.
    fn meet_next_client(&mut self, socket: OwnedFd) -> Option<Ended> {
        if self.has_hung_up() {
            self.finish();
            return Some(Ended::Replaced(socket));
        }
        self.around.metrics.refused_clients.add(1);
        self.around.log.warn(format_args!(
            "a second client was refused: a device has one at a time"
        ));
        vfu::server::refuse_client(&socket, Errno::BUSY);
        None
    }

    /// Whether the client will send no more. What it has sent may still be unread.
    fn has_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.server, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == 1)
    }

    /// Serves what is left of a session that is over, whatever comes of it.
    fn finish(&mut self) {
        if let Err(error) = self.serve_the_rest() {
            self.around.log.warn(format_args!("session ended: {error}"));
        }
    }

    /// Serves what a client left that sends no more: as much as its socket holds.
    fn serve_the_rest(&mut self) -> Result<(), SessionError> {
        while self.server.receive()? == Received::Some {
            self.serve_received()?;
        }
        Ok(())
    }

    /// Stands still until `until` returns.
    fn pause(&mut self, until: Box<dyn FnOnce() + Send>) {
        self.around.interrupts.set_intx_disabled(true);
        if let Some(migration) = self.device.migration() {
            migration.stop();
        }
        self.note();
        self.set_handed_over(true);
        until();
        self.set_handed_over(false);
        self.handler().go_on();
    }

    fn set_handed_over(&self, handed_over: bool) {
        if let Some(recorder) = &self.recorder {
            recorder.journal.set_handed_over(handed_over);
        }
    }

    /// What receives, what waits, and what serves.
    fn parts(&mut self) -> (&mut Server, &mut Waiter, Handler<'_>) {
        let handler = Handler {
            device: &mut *self.device,
            mailbox: self.mailbox,
            around: &self.around,
            migrator: &mut self.migrator,
            doorbells: &mut self.doorbells,
            recorder: self.recorder.as_mut(),
        };
        (&mut self.server, &mut self.waiter, handler)
    }

    fn handler(&mut self) -> Handler<'_> {
        self.parts().2
    }

    /// Hands on what the client answers to commands of our own. `true` if there may be more.
    fn receive_twin(&mut self) -> bool {
        let messages = self.around.memory.messages();
        let may_have_more = self
            .server
            .receive_twin(|header, payload| messages.reply(header, payload));
        if self.server.twin().is_none() {
            // Nobody is there to be asked any more.
            messages.disconnect();
        }
        may_have_more
    }
}

impl Drop for Session<'_> {
    /// VFIO's close: nothing of the client is left. If another process goes on with it, nothing is here.
    fn drop(&mut self) {
        if self.is_abandoned {
            self.around.interrupts.abandon();
            self.around.memory.disconnect();
            return;
        }
        if let Some(recorder) = &self.recorder {
            recorder.journal.set_connected(false);
        }
        self.around
            .metrics
            .connected
            .store(false, Ordering::Relaxed);
        self.around.interrupts.disconnect();
        // Whoever waits for the client must not hold up the device's end.
        self.around.memory.messages().disconnect();
        self.around.metrics.resets.add(1);
        self.device.reset(Reset::Close);
        self.around.memory.disconnect();
    }
}
