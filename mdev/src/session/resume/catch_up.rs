//! What was under way when the other process stopped: done again, answered, or given up.

use vfu::server::{Incoming, Reply, ServerError};
use vfu::wire::Request;
use vfu::wire::dma::DmaUnmap;

use crate::keep::checkpoint::Checkpoint;
use crate::keep::journal::Journal;
use crate::session::{Session, SessionError};

/// So many processes may die in one request. Then it is given up.
const MOST_DEATHS: u64 = 2;

impl Session<'_> {
    /// Does what was answered since the registers were noted once more, and goes on with the device.
    pub(in crate::session) fn catch_up(&mut self) -> Result<(), SessionError> {
        let Some(resumed) = self.resumed else {
            return Ok(());
        };
        self.server.leave_open(false);
        if let Some(recorder) = &self.recorder {
            recorder.journal.set_handed_over(false);
        }
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
    pub(in crate::session) fn serve_old(&mut self) -> Result<bool, SessionError> {
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

/// Decides what is to be done again, and what is not: that is told in words.
pub(super) fn plan(
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
pub(in crate::session) struct Resumed {
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
