//! Going on where another process stopped, under the same client, which sees nothing of it.
//!
//! 1. [`Left::find`]: the journal that was left, and the descriptors that it speaks of.
//! 2. `Session::resume`: a session of them. The device gets its registers back as they were
//!    between two requests; nothing is done yet.
//! 3. `Session::catch_up`: what was answered since then is done again, without an answer. A request
//!    that was not answered is served as any other, unless two processes have died in it.

use std::io;
use std::os::fd::OwnedFd;

use vfu::server::{Incoming, Reply, Server, ServerError};
use vfu::wire::Request;
use vfu::wire::dma::DmaUnmap;

use super::doorbells::Doorbells;
use super::recorder::Recorder;
use super::wait::Waiter;
use super::{Session, SessionError, Surroundings, able};
use crate::device::{MediatedDevice, Reset};
use crate::dma::{DmaError, DmaLimits};
use crate::keep::checkpoint::Checkpoint;
use crate::keep::journal::{Journal, Stream};
use crate::keep::{CLIENT, Held, JOURNAL, Keep, TWIN};
use crate::mailbox::Mailbox;
use crate::migration::migrator::Migrator;
use crate::state::{Fields, Tag};

/// So many processes may die in one request. Then it is given up.
const MOST_DEATHS: u64 = 2;

/// Why nobody can go on from what was left.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Nothing was parked, or another program's.
    #[error("there is no journal that this program understands: {0}")]
    Journal(#[source] io::Error),
    /// A client is connected, and its socket is not there.
    #[error("the client's socket was not kept")]
    NoClient,
    /// Half an answer has left, and its end is lost.
    #[error("the answer to the last request had left in part")]
    HalfAnAnswer,
    /// A mapping cannot be made again.
    #[error("the client's memory cannot be mapped again: {0}")]
    Dma(#[from] DmaError),
    /// The rest of a session.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// What another process has left of a device and its session.
#[derive(Debug)]
pub struct Left {
    journal: Journal,
    stream: Stream,
    client: Option<(OwnedFd, Held)>,
    twin: Option<(OwnedFd, Held)>,
}

/// How the device goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Whether a client is connected.
    pub connected: bool,
    /// Whether the device has the registers that it had. Else it was reset, and only its
    /// configuration space is what it was.
    pub exact: bool,
    /// A request that is given up, in words.
    pub given_up: Option<String>,
}

impl Left {
    /// Looks at what was left, before the device is built: it gets its memories back.
    pub fn find(keep: &Keep, limits: &DmaLimits) -> Result<Self, ResumeError> {
        let missing = || ResumeError::Journal(io::ErrorKind::NotFound.into());
        let (file, held) = keep.claim(JOURNAL).ok_or_else(missing)?;
        let opened = Journal::open(file, held, &able(), limits.max_mappings);
        let (journal, stream) = opened.map_err(ResumeError::Journal)?;
        keep.set_left_memories(journal.memories.get());
        let is_connected = journal.is_connected();
        let client = is_connected.then(|| keep.claim(CLIENT)).flatten();
        if is_connected && client.is_none() {
            return Err(ResumeError::NoClient);
        }
        Ok(Self {
            journal,
            stream,
            client,
            twin: is_connected.then(|| keep.claim(TWIN)).flatten(),
        })
    }

    /// Whether a client is connected.
    pub fn is_connected(&self) -> bool {
        self.client.is_some()
    }

    /// The device alone gets its registers back: no client is there. If one was, its process died
    /// before all of it was gone, and the device is as after any client.
    pub(crate) fn restore_device(
        self,
        device: &mut dyn MediatedDevice,
        keep: &Keep,
    ) -> (Recorder, Stream, Outlook) {
        let had_client = self.stream.0.end() > 0;
        let exact = if had_client {
            device.reset(Reset::Close);
            true
        } else {
            put_back(device, self.journal.checkpoints.get().as_ref())
        };
        keep.set_memory_log(self.journal.memories.clone());
        keep.settle();
        let outlook = Outlook {
            exact,
            ..Outlook::default()
        };
        (
            Recorder::new(self.journal, keep.clone()),
            self.stream,
            outlook,
        )
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

/// Puts registers and configuration space back into the device, and leaves it stopped; if that
/// cannot be, the device is reset, and keeps what it can of the second. `true` if all is there.
fn put_back(device: &mut dyn MediatedDevice, checkpoint: Option<&Checkpoint>) -> bool {
    let Some(checkpoint) = checkpoint else {
        return false;
    };
    let Some(config) = device.config().restored(&checkpoint.config) else {
        return false;
    };
    if let Some(migration) = device.migration() {
        migration.stop();
        if let Some((version, registers)) = &checkpoint.registers {
            match migration.recall(*version, Fields::new(Tag::Registers, registers)) {
                Ok(()) => {
                    *device.config() = config;
                    device.migration().into_iter().for_each(|it| it.restored());
                    return true;
                }
                Err(error) => tracing::warn!("the device is reset: {error}"),
            }
        }
    }
    device.reset(Reset::Device);
    *device.config() = config;
    false
}

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
        let exact = put_back(device, checkpoint.as_ref());
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
        };
        let outlook = Outlook {
            connected: true,
            exact,
            given_up,
        };
        Ok((session, outlook))
    }

    /// Does what was answered since the registers were noted once more, and goes on with the device.
    pub(super) fn catch_up(&mut self) -> Result<(), SessionError> {
        let Some(resumed) = self.resumed else {
            return Ok(());
        };
        self.server.leave_open(false);
        let generation = self
            .recorder
            .as_ref()
            .map_or(0, |it| it.journal.generation());
        // What the other processes had in flight is answered too, and must not be taken for ours.
        self.connect_messages((generation as u16).wrapping_mul(0x1000));
        self.handler().prepare();
        self.around.keep.settle();
        if !self.migrator.is_stopped()
            && let Some(migration) = self.device.migration()
        {
            migration.resume();
        }
        let mut position = resumed.replay_from;
        let (server, _, mut handler) = self.parts();
        while let Some((request, range)) = server.past_request(position) {
            if resumed.given_up != Some(position) {
                handler.begin(position);
                if let Ok(request) = request {
                    handler.replay(&request);
                }
            }
            position = range.end;
        }
        self.finish_old();
        if let Some(recorder) = &self.recorder {
            recorder.journal.set_under_way(None);
        }
        if resumed.old_until == self.server.inbox().next() {
            self.forget_past();
        }
        self.waiter.watch(&self.server, &self.doorbells)?;
        self.note();
        Ok(())
    }

    /// Waits for what the device's threads do again: the client may know that it has ended.
    fn finish_old(&mut self) {
        if !self.migrator.is_stopped()
            && let Some(migration) = self.device.migration()
        {
            migration.stop();
            migration.resume();
        }
    }

    /// Nothing is here any more that another process has received.
    fn forget_past(&mut self) {
        self.resumed = None;
        if let Some(recorder) = &self.recorder {
            recorder.journal.forget_deaths();
        }
    }

    /// Whether a request that another process has received is answered otherwise than any other.
    /// What it did is not done twice, and what cannot be done is refused.
    pub(super) fn serve_old(&mut self) -> Result<bool, SessionError> {
        let Some(resumed) = self.resumed else {
            return Ok(false);
        };
        let position = self.server.inbox().next();
        if position >= resumed.old_until {
            self.forget_past();
            return Ok(false);
        }
        let is_given_up = resumed.given_up == Some(position);
        let takes_messages = self.takes_messages();
        let journal = self.recorder.as_ref().map(|recorder| &recorder.journal);
        let was_done = journal.is_some_and(|journal| journal.was_carried_out(position));
        let was_begun = journal.is_some_and(|journal| journal.has_died_in(position));
        let Some(Incoming { request, reply }) = self.server.next_request_if(|range| {
            let lost_fds = range.start < resumed.fds_end && resumed.fds_end <= range.end;
            is_given_up || was_done || lost_fds
        })?
        else {
            return Ok(false);
        };
        let Ok(request) = request else {
            reply.error(vfu::Errno::IO)?;
            return Ok(true);
        };
        if let Some(recorder) = &self.recorder {
            recorder.journal.set_under_way(Some(position));
        }
        if was_done {
            answer_done(&request, reply)?;
        } else if is_given_up {
            self.around.metrics.faults.add(1);
            answer_given_up(&request, reply)?;
        } else {
            let memory = &self.around.memory;
            match request {
                Request::DmaMap(map, _) if was_begun && memory.is_mapped(&map) => reply.empty()?,
                // Its memory is reached by messages, if the client takes any.
                Request::DmaMap(map, _) if takes_messages => match memory.map(&map, None) {
                    Ok(()) => reply.empty()?,
                    Err(error) => reply.error(error.errno())?,
                },
                _ => reply.error(vfu::Errno::IO)?,
            }
        }
        Ok(true)
    }
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

/// Decides what is to be done again, and what is not: that is told in words.
fn plan(
    inbox: &kept::Inbox,
    journal: &Journal,
    checkpoint: Option<&Checkpoint>,
) -> (Resumed, Option<String>) {
    let death = journal.count_death();
    let given_up = death.filter(|(_, deaths)| *deaths >= MOST_DEATHS);
    let resumed = Resumed {
        replay_from: checkpoint.map_or(inbox.start(), |it| it.position),
        given_up: given_up.map(|(position, _)| position),
        old_until: inbox.end(),
        fds_end: inbox.fds_end(),
    };
    let words = given_up.map(|(position, deaths)| {
        format!("the request at byte {position} of the stream, in which {deaths} workers died")
    });
    (resumed, words)
}

/// What a session that goes on has still to mind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resumed {
    /// From here on requests are done again.
    replay_from: u64,
    /// The request that is given up.
    given_up: Option<u64>,
    /// Before this, another process has received the bytes.
    old_until: u64,
    /// See [`kept::Inbox::fds_end`].
    fds_end: u64,
}

/// Answers a request whose effects are there.
fn answer_done(request: &Request<'_>, reply: Reply<'_>) -> Result<(), ServerError> {
    match request {
        Request::DmaUnmap(unmap @ (DmaUnmap::All | DmaUnmap::One { .. })) => {
            reply.with(|out| unmap.emit(out))
        }
        _ => reply.empty(),
    }
}

/// Answers a request that is not carried out: a read gives all-ones, a write is dropped.
fn answer_given_up(request: &Request<'_>, reply: Reply<'_>) -> Result<(), ServerError> {
    match request {
        Request::RegionRead(access) => reply.with(|out| {
            access.emit(out);
            out.resize(out.len() + access.count as usize, 0xff);
        }),
        Request::RegionWrite(access, _) => reply.with(|out| access.emit(out)),
        Request::RegionWriteMulti(multi) => {
            reply.with(|out| out.extend((multi.len() as u64).to_ne_bytes()))
        }
        _ => reply.error(vfu::Errno::IO),
    }
}
