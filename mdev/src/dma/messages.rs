//! DMA by message: the client is asked to read or write guest memory that it gave no file for.
//!
//! A device's thread sends the request and waits; the session's thread, which goes on serving the
//! client, hands it the reply. So the session's own thread can never wait here. QEMU answers only
//! while no command of its own is unanswered.
//!
//! Who finds a mapping, lets go of the table and then sends could send after DMA_UNMAP was
//! answered. So every request has a `Permit`, which is made out while the table is held and is
//! worth nothing after the next unmap.

mod error;
mod transfer;

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use vfu::socket::Sender;
use vfu::wire::Header;

use super::iova::{Iova, IovaRange};
pub use error::MessageError;
use transfer::{Layout, Transfer};

/// Most bytes in one message. QEMU 11.1 loses the end of a reply that does not fit its socket's
/// buffer, whatever it says it takes.
const MAX_DATA: usize = 64 << 10;

/// Most requests at a time: their replies must fit the same buffer.
const MAX_IN_FLIGHT: usize = 3;

/// What a client takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageLimits {
    /// Bytes of data in one message, as it says.
    pub(crate) max_data: u64,
    /// How long it may take to answer.
    pub(crate) patience: Duration,
    /// The id of the first request.
    pub(crate) first_id: u16,
}

/// The right to send for an access that a mapping allows. Made out while the table is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permit {
    client: u64,
    unmaps: u64,
    /// An unmap of any of it ends the wait.
    range: IovaRange,
}

/// What a waiting thread gets.
type Outcome = Result<Vec<u8>, MessageError>;

/// The requests to one client, and who waits for them.
#[derive(Debug, Default)]
pub struct Messages {
    state: Mutex<State>,
    /// Whatever somebody may wait for here has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    client: Option<Client>,
    /// Clients so far.
    clients: u64,
    /// Unmaps so far.
    unmaps: u64,
    next_id: u16,
    in_flight: usize,
    waiting: HashMap<u16, Waiting>,
    /// Where nothing new begins.
    cancelling: Option<IovaRange>,
}

#[derive(Debug)]
struct Client {
    sender: Sender,
    limits: MessageLimits,
    session_thread: ThreadId,
    layout: Option<Layout>,
}

#[derive(Debug)]
struct Waiting {
    outcome: SyncSender<Outcome>,
    command: u16,
    is_sent: bool,
    ranges: Ranges,
}

/// What a request is for, and what it reads or writes.
#[derive(Clone, Copy, Debug)]
struct Ranges(IovaRange, Option<IovaRange>);

impl Ranges {
    fn overlap(self, range: IovaRange) -> bool {
        self.0.overlaps(range) || self.1.is_some_and(|own| own.overlaps(range))
    }
}

impl State {
    /// The client that a permit is for.
    fn client_of(&mut self, permit: Permit) -> Option<&mut Client> {
        self.client
            .as_mut()
            .filter(|_| self.clients == permit.client)
    }

    /// Dropping what is waited for tells those who wait.
    fn forget_client(&mut self) {
        self.client = None;
        self.waiting.clear();
    }
}

impl Messages {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to this client from now on. Called by the session's thread.
    pub(crate) fn connect(&self, sender: Sender, limits: MessageLimits) {
        let mut state = self.lock();
        state.forget_client();
        state.clients += 1;
        state.next_id = limits.first_id;
        state.client = Some(Client {
            sender,
            limits,
            session_thread: thread::current().id(),
            layout: None,
        });
    }

    /// Forgets the client; whoever waits for it is told so.
    pub(crate) fn disconnect(&self) {
        self.lock().forget_client();
        self.changed.notify_all();
    }

    /// Whether there is a client that this thread can ask.
    pub(super) fn can_ask(&self) -> bool {
        let me = thread::current().id();
        let state = self.lock();
        let client = state.client.as_ref();
        client.is_some_and(|client| client.session_thread != me)
    }

    /// The right to send for an access to `range`, of which the caller holds the mapping.
    pub(super) fn permit(&self, range: IovaRange) -> Permit {
        let state = self.lock();
        Permit {
            client: state.clients,
            unmaps: state.unmaps,
            range,
        }
    }

    /// Ends every wait for memory in `range`, and keeps new ones from beginning until the guard is
    /// dropped, when the memory is out of the table. A request that is on its way out has left
    /// when this returns.
    pub(crate) fn cancel(&self, range: IovaRange) -> Cancelling<'_> {
        let mut state = self.lock();
        state.cancelling = Some(range);
        let is_leaving = |waiting: &Waiting| !waiting.is_sent && waiting.ranges.overlap(range);
        while state.waiting.values().any(is_leaving) {
            // As long as the socket may be full; then the client is gone.
            state = self.wait(state);
        }
        let cancelled = |_: &u16, waiting: &mut Waiting| waiting.ranges.overlap(range);
        for (_, waiting) in state.waiting.extract_if(cancelled) {
            // It may just have given up by itself.
            let _ = waiting.outcome.try_send(Err(MessageError::Cancelled));
        }
        self.changed.notify_all();
        Cancelling { messages: self }
    }

    /// Takes a reply of the client's. One that nobody waits for any more is dropped.
    pub(crate) fn reply(&self, header: &Header, payload: &[u8]) {
        let Some(waiting) = self.lock().waiting.remove(&header.id) else {
            return;
        };
        let outcome = match header.error() {
            _ if header.command != waiting.command => Err(MessageError::Garbled),
            Some(errno) => Err(MessageError::Refused(errno)),
            None => Ok(payload.to_vec()),
        };
        let _ = waiting.outcome.try_send(outcome);
    }

    /// Reads the first bytes of `out`, as many as travel in one message, and tells how many.
    pub(super) fn read(
        &self,
        permit: Permit,
        at: Iova,
        out: &mut [u8],
    ) -> Result<usize, MessageError> {
        let len = self.len_of(permit, out.len())?;
        let layout = match self.layout(permit, at) {
            // Nothing may be written here. The layout is seen by the reply as well.
            Err(MessageError::Refused(_)) => None,
            layout => Some(layout?),
        };
        let asked_as = layout.unwrap_or(Layout::Specified);
        let reply = self.request(permit, &Transfer::read(at, len), asked_as)?;
        let (answered_as, data) = Layout::of_read(&reply, len)?;
        if layout.is_some_and(|layout| layout != answered_as) {
            return Err(MessageError::Garbled);
        }
        out[..len].copy_from_slice(data);
        Ok(len)
    }

    /// Writes the first bytes of `data`, as many as travel in one message, and tells how many.
    pub(super) fn write(
        &self,
        permit: Permit,
        at: Iova,
        data: &[u8],
    ) -> Result<usize, MessageError> {
        let len = self.len_of(permit, data.len())?;
        let layout = self.layout(permit, at)?;
        let reply = self.request(permit, &Transfer::write(at, &data[..len]), layout)?;
        if Layout::of_write(&reply, len)? != layout {
            return Err(MessageError::Garbled);
        }
        Ok(len)
    }

    /// How much of `len` bytes travels in one message.
    fn len_of(&self, permit: Permit, len: usize) -> Result<usize, MessageError> {
        let mut state = self.lock();
        let client = state.client_of(permit).ok_or(MessageError::Gone)?;
        let max_data = usize::try_from(client.limits.max_data).unwrap_or(usize::MAX);
        Ok(len.min(MAX_DATA).min(max_data.max(1)))
    }

    /// How the client lays out these messages. Found out by a write of nothing, which only the
    /// later layout answers with a payload: a layout taken wrongly would write shifted data.
    fn layout(&self, permit: Permit, at: Iova) -> Result<Layout, MessageError> {
        let known = self.lock().client_of(permit).map(|client| client.layout);
        if let Some(layout) = known.ok_or(MessageError::Gone)? {
            return Ok(layout);
        }
        let reply = self.request(permit, &Transfer::write(at, &[]), Layout::Specified)?;
        let layout = Layout::of_write(&reply, 0)?;
        if let Some(client) = self.lock().client_of(permit) {
            client.layout = Some(layout);
        }
        Ok(layout)
    }

    /// Sends one request and waits for its reply.
    fn request(&self, permit: Permit, transfer: &Transfer<'_>, layout: Layout) -> Outcome {
        let Sent {
            id,
            answered,
            patience,
        } = self.send(permit, transfer, layout)?;
        let outcome = match answered.recv_timeout(patience) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(MessageError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(MessageError::Gone),
        };
        let mut state = self.lock();
        state.in_flight -= 1;
        if outcome == Err(MessageError::TimedOut) && state.client_of(permit).is_some() {
            state.waiting.remove(&id);
        }
        self.changed.notify_all();
        outcome
    }

    fn send(
        &self,
        permit: Permit,
        transfer: &Transfer<'_>,
        layout: Layout,
    ) -> Result<Sent, MessageError> {
        let ranges = Ranges(permit.range, transfer.range());
        let mut state = self.turn(permit, ranges)?;
        let client = state.client_of(permit).ok_or(MessageError::Gone)?;
        let (sender, patience) = (client.sender.clone(), client.limits.patience);
        let mut id = state.next_id;
        while state.waiting.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        state.next_id = id.wrapping_add(1);
        let (outcome, answered) = mpsc::sync_channel(1);
        let waiting = Waiting {
            outcome,
            command: transfer.command as u16,
            is_sent: false,
            ranges,
        };
        state.waiting.insert(id, waiting);
        state.in_flight += 1;
        drop(state);
        // Without the lock: the session must take replies, or a client that sends them before it
        // reads on would wait for us as we wait for it.
        let result = sender.send(&transfer.emit(id, layout), &[]);
        let mut state = self.lock();
        if let Some(waiting) = state.waiting.get_mut(&id) {
            waiting.is_sent = true;
        }
        if result.is_err() && state.client_of(permit).is_some() {
            // The session sees the same, and ends; the wait ends with it.
            state.forget_client();
        }
        self.changed.notify_all();
        Ok(Sent {
            id,
            answered,
            patience,
        })
    }

    /// Waits until a request may begin.
    fn turn(&self, permit: Permit, ranges: Ranges) -> Result<MutexGuard<'_, State>, MessageError> {
        let mut state = self.lock();
        loop {
            let client = state.client_of(permit).ok_or(MessageError::Gone)?;
            if client.session_thread == thread::current().id() {
                return Err(MessageError::OnSessionThread);
            }
            if state.cancelling.is_some_and(|gone| ranges.overlap(gone)) {
                return Err(MessageError::Cancelled);
            }
            if state.unmaps != permit.unmaps {
                return Err(MessageError::Changed);
            }
            if state.in_flight < MAX_IN_FLIGHT {
                return Ok(state);
            }
            state = self.wait(state);
        }
    }
}

/// A request that has left.
struct Sent {
    id: u16,
    answered: mpsc::Receiver<Outcome>,
    patience: Duration,
}

/// While it lives, nothing begins in the range that is unmapped.
#[derive(Debug)]
pub(crate) struct Cancelling<'a> {
    messages: &'a Messages,
}

impl Drop for Cancelling<'_> {
    fn drop(&mut self) {
        let mut state = self.messages.lock();
        state.cancelling = None;
        // Permits that were made out before are for a table that is no more.
        state.unmaps += 1;
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
