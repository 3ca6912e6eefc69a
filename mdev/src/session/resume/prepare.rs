//! A session of what was left. Nothing is done yet that its client or its device could tell.

use vfu::server::Server;

use super::catch_up::plan;
use super::{Left, Outlook, ResumeError, put_back};
use crate::device::MediatedDevice;
use crate::dma::DmaError;
use crate::keep::checkpoint::Checkpoint;
use crate::keep::journal::Journal;
use crate::mailbox::Mailbox;
use crate::migration::migrator::Migrator;
use crate::session::doorbells::Doorbells;
use crate::session::recorder::Recorder;
use crate::session::wait::Waiter;
use crate::session::{Session, SessionError, Surroundings, able};

impl<'a> Session<'a> {
    /// Prepares to go on. The client is not answered, and the device does nothing, before
    /// [`Session::run`].
    pub(crate) fn resume(
        left: Left,
        device: &'a mut dyn MediatedDevice,
        mailbox: &'a Mailbox,
        around: Surroundings,
    ) -> Result<(Self, Outlook), ResumeError> {
        let Some((socket, client)) = left.client else {
            return Err(ResumeError::NoClient);
        };
        let journal = left.journal;
        let (inbox, outbox) = left.stream;
        let sent = outbox.last();
        if sent == kept::Sent::Part {
            return Err(ResumeError::HalfAnAnswer);
        }
        let mut server = Server::kept(socket, able(), inbox, outbox);
        // Until it may go on, the client is the other process's.
        server.leave_open(true);
        // VERSION comes first. Until it is answered it is to be agreed on anew.
        let is_agreed = server.inbox().start() > 0 || sent == kept::Sent::Answer(0);
        let (twin, twin_held) = left.twin.filter(|_| is_agreed).unzip();
        let agreement = if is_agreed { journal.agreement() } else { &[] };
        let resumed = server.resume(agreement, twin);
        resumed.map_err(SessionError::from)?;
        let checkpoint = last_checkpoint(&journal, server.inbox());
        let exact = put_back(device, checkpoint.as_ref(), &journal)?;
        let mut recorder = Recorder::new(journal, around.keep.clone());
        recorder.reconnect([client].into_iter().chain(twin_held));
        let truncation = around.memory.connect(around.limits);
        truncation.wake_by(rustix::io::fcntl_dupfd_cloexec(mailbox, 0).map_err(SessionError::Os)?);
        restore_surroundings(&around, &recorder.journal)?;
        let doorbells = Doorbells::restore(device.regions(), recorder.claim_doorbells());
        around
            .keep
            .set_memory_log(recorder.journal.memories.clone());
        let waiter = Waiter::new(&server, mailbox, around.patience).map_err(SessionError::Os)?;
        if sent == kept::Sent::Answer(server.inbox().start()) {
            // Another process had answered it, and had no time to note that.
            server.pass_over().map_err(SessionError::from)?;
        }
        let mut migrator = Migrator::default();
        if recorder.journal.is_migrating(server.inbox().start()) {
            migrator.fail();
        }
        let checkpoint = checkpoint.filter(|_| exact);
        let (resumed, given_up) = plan(server.inbox(), &recorder.journal, checkpoint.as_ref());
        // Nothing fails from here on: the end of a session would be that of its client.
        let session = Self {
            server,
            device,
            mailbox,
            around,
            truncation,
            migrator,
            doorbells,
            waiter,
            recorder: Some(recorder),
            resumed: Some(resumed),
            is_abandoned: false,
        };
        let outlook = Outlook {
            connected: true,
            exact,
            given_up,
        };
        Ok((session, outlook))
    }
}

/// The last checkpoint; without registers if what was done since cannot be done again.
fn last_checkpoint(journal: &Journal, inbox: &kept::Inbox) -> Option<Checkpoint> {
    let mut checkpoint = journal.checkpoints.get()?;
    // It may have what is not answered yet.
    let since = checkpoint.position..inbox.start().max(checkpoint.position);
    if inbox.bytes(since).is_none() {
        checkpoint.registers = None;
    }
    Some(checkpoint)
}

/// Maps the client's memory again, and takes its eventfds. None of them is written yet.
fn restore_surroundings(around: &Surroundings, journal: &Journal) -> Result<(), DmaError> {
    around.memory.kept_by(&around.keep, &journal.mappings);
    around
        .memory
        .restore(&around.keep, &journal.mappings.get())?;
    around.interrupts.kept_by(&around.keep, &journal.irqs);
    around.interrupts.set_intx_disabled(true);
    around.interrupts.restore();
    Ok(())
}
