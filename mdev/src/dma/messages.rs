//! DMA by message: the client is asked to read or write guest memory that it gave no file for.
//!
//! A device's thread sends the request and waits; the session's thread, which goes on serving the
//! client, hands it the reply. So the session's own thread can never wait here. QEMU answers only
//! while no command of its own is unanswered.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use vfu::Errno;
use vfu::socket::Sender;
use vfu::wire::dma::DmaAccess;
use vfu::wire::{Command, Header};

use super::iova::{Iova, IovaRange};

/// Most bytes in one message. QEMU 11.1 loses the end of a reply that does not fit its socket's
/// buffer, whatever it says it takes.
const MAX_DATA: usize = 64 << 10;

/// Most requests at a time: their replies must fit the same buffer.
const MAX_IN_FLIGHT: usize = 3;

/// How long the client may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a message did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The client refused.
    #[error("the client refused: {0}")]
    Refused(Errno),
    /// No client is connected, or it went away meanwhile.
    #[error("the client is gone")]
    Gone,
    /// The memory is being unmapped.
    #[error("the transfer was cancelled")]
    Cancelled,
    /// The client did not answer.
    #[error("the client did not answer in time")]
    TimedOut,
    /// The client does not know DMA_READ and DMA_WRITE.
    #[error("the client takes no messages")]
    NotSpoken,
    /// The session's own thread would wait for itself.
    #[error("the session's own thread cannot wait for its client")]
    OnSessionThread,
    /// The reply is not one to this request.
    #[error("the client's answer makes no sense")]
    Garbled,
}

impl MessageError {
    /// The errno that fits.
    pub fn errno(self) -> Errno {
        match self {
            Self::Refused(errno) => errno,
            Self::Gone => Errno::NODEV,
            Self::Cancelled => Errno::CANCELED,
            Self::TimedOut => Errno::TIMEDOUT,
            Self::NotSpoken => Errno::OPNOTSUPP,
            Self::OnSessionThread => Errno::DEADLK,
            Self::Garbled => Errno::PROTO,
        }
    }
}

/// How a client lays out DMA_READ and DMA_WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// As the specification says: data after 16 bytes.
    Specified,
    /// QEMU 10: a 32-bit count, data after 12 bytes, replies to writes without a payload.
    Early,
}

impl Layout {
    fn data_at(self) -> usize {
        match self {
            Self::Specified => 16,
            Self::Early => 12,
        }
    }
}

/// What a waiting thread gets.
type Outcome = Result<Vec<u8>, MessageError>;

/// The requests to one client, and who waits for them.
#[derive(Debug, Default)]
pub struct Messages {
    state: Mutex<State>,
    /// A request has ended, so another may begin.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    client: Option<Client>,
    in_flight: usize,
    /// Where nothing new begins.
    cancelling: Option<IovaRange>,
}

#[derive(Debug)]
struct Client {
    sender: Sender,
    session_thread: ThreadId,
    layout: Option<Layout>,
    next_id: u16,
    waiting: HashMap<u16, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    outcome: SyncSender<Outcome>,
    /// What is read or written; `None` where nothing is.
    range: Option<IovaRange>,
}

impl Waiting {
    fn overlaps(&self, range: IovaRange) -> bool {
        self.range.is_some_and(|own| own.overlaps(range))
    }
}

impl Messages {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends to this client from now on. Called by the session's thread.
    pub(crate) fn connect(&self, sender: Sender) {
        self.lock().client = Some(Client {
            sender,
            session_thread: thread::current().id(),
            layout: None,
            next_id: 0,
            waiting: HashMap::new(),
        });
    }

    /// Forgets the client; whoever waits for it is told so.
    pub(crate) fn disconnect(&self) {
        self.lock().client = None;
    }

    /// Whether there is a client that can be asked.
    pub(super) fn is_connected(&self) -> bool {
        self.lock().client.is_some()
    }

    /// Ends every wait for memory in `range`, and keeps new ones from beginning until the guard is
    /// dropped.
    pub(crate) fn cancel(&self, range: IovaRange) -> Cancelling<'_> {
        let mut state = self.lock();
        state.cancelling = Some(range);
        if let Some(client) = &mut state.client {
            let cancelled = client
                .waiting
                .extract_if(|_, waiting| waiting.overlaps(range));
            for (_, waiting) in cancelled {
                // It may just have given up by itself.
                let _ = waiting.outcome.try_send(Err(MessageError::Cancelled));
            }
        }
        Cancelling { messages: self }
    }

    /// Takes a reply of the client's. One that nobody waits for any more is dropped.
    pub(crate) fn reply(&self, header: &Header, payload: &[u8]) {
        let mut state = self.lock();
        let waiting = state
            .client
            .as_mut()
            .and_then(|client| client.waiting.remove(&header.id));
        if let Some(waiting) = waiting {
            let outcome = match header.error() {
                Some(errno) => Err(MessageError::Refused(errno)),
                None => Ok(payload.to_vec()),
            };
            let _ = waiting.outcome.try_send(outcome);
        }
    }

    /// Reads the first bytes of `out`, as many as travel in one message, and tells how many.
    pub(super) fn read(&self, at: Iova, out: &mut [u8]) -> Result<usize, MessageError> {
        let len = out.len().min(MAX_DATA);
        let layout = self.layout(at)?;
        let payload = self.request(&Transfer::read(at, len), layout)?;
        let data = payload.get(layout.data_at()..).unwrap_or_default();
        if data.len() != len {
            return Err(MessageError::Garbled);
        }
        out[..len].copy_from_slice(data);
        Ok(len)
    }

    /// Writes the first bytes of `data`, as many as travel in one message, and tells how many.
    pub(super) fn write(&self, at: Iova, data: &[u8]) -> Result<usize, MessageError> {
        let len = data.len().min(MAX_DATA);
        let layout = self.layout(at)?;
        self.request(&Transfer::write(at, &data[..len]), layout)?;
        Ok(len)
    }

    /// How the client lays out these messages. Found out by a write of nothing, which only the
    /// later layout answers with a payload: a layout taken wrongly would write shifted data.
    fn layout(&self, at: Iova) -> Result<Layout, MessageError> {
        let known = self.lock().client.as_ref().and_then(|client| client.layout);
        if let Some(layout) = known {
            return Ok(layout);
        }
        let payload = self.request(&Transfer::write(at, &[]), Layout::Specified)?;
        let layout = match payload.len() {
            0 => Layout::Early,
            DmaAccess::LEN => Layout::Specified,
            _ => return Err(MessageError::Garbled),
        };
        if let Some(client) = &mut self.lock().client {
            client.layout = Some(layout);
        }
        Ok(layout)
    }

    /// Sends one request and waits for its reply.
    fn request(&self, transfer: &Transfer<'_>, layout: Layout) -> Outcome {
        let (id, answered) = self.begin(transfer, layout)?;
        let outcome = match answered.recv_timeout(PATIENCE) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(MessageError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(MessageError::Gone),
        };
        let mut state = self.lock();
        state.in_flight -= 1;
        if let Some(client) = &mut state.client {
            client.waiting.remove(&id);
        }
        self.ended.notify_one();
        outcome
    }

    fn begin(
        &self,
        transfer: &Transfer<'_>,
        layout: Layout,
    ) -> Result<(u16, mpsc::Receiver<Outcome>), MessageError> {
        let (outcome, answered) = mpsc::sync_channel(1);
        let range = IovaRange::new(transfer.at, transfer.len as u64);
        let mut state = self.turn(range)?;
        let client = state.client.as_mut().ok_or(MessageError::Gone)?;
        let id = client.next_id;
        client.next_id = id.wrapping_add(1);
        client.waiting.insert(id, Waiting { outcome, range });
        let sender = client.sender.clone();
        state.in_flight += 1;
        drop(state);
        if sender.send(&transfer.emit(id, layout), &[]).is_err() {
            // The session sees the same, and ends; the wait ends with it.
            self.lock().client = None;
        }
        Ok((id, answered))
    }

    /// Waits until a request may begin.
    fn turn(&self, range: Option<IovaRange>) -> Result<MutexGuard<'_, State>, MessageError> {
        let mut state = self.lock();
        loop {
            let client = state.client.as_ref().ok_or(MessageError::Gone)?;
            if client.session_thread == thread::current().id() {
                return Err(MessageError::OnSessionThread);
            }
            let cancelling = state.cancelling.zip(range);
            if cancelling.is_some_and(|(gone, wanted)| gone.overlaps(wanted)) {
                return Err(MessageError::Cancelled);
            }
            if state.in_flight < MAX_IN_FLIGHT {
                return Ok(state);
            }
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What one message carries.
struct Transfer<'a> {
    command: Command,
    at: Iova,
    /// At most [`MAX_DATA`].
    len: usize,
    /// Empty for a read.
    data: &'a [u8],
}

impl<'a> Transfer<'a> {
    fn read(at: Iova, len: usize) -> Self {
        Self {
            command: Command::DmaRead,
            at,
            len,
            data: &[],
        }
    }

    fn write(at: Iova, data: &'a [u8]) -> Self {
        Self {
            command: Command::DmaWrite,
            at,
            len: data.len(),
            data,
        }
    }

    fn emit(&self, id: u16, layout: Layout) -> Vec<u8> {
        let fixed = layout.data_at();
        let header = Header::command(id, self.command, fixed + self.data.len());
        let mut message = Vec::with_capacity(Header::LEN + fixed + self.data.len());
        message.extend(header.to_bytes());
        match layout {
            Layout::Specified => DmaAccess {
                address: self.at.0,
                count: self.len as u64,
            }
            .emit(&mut message),
            Layout::Early => {
                message.extend(self.at.0.to_ne_bytes());
                message.extend((self.len as u32).to_ne_bytes());
            }
        }
        message.extend(self.data);
        message
    }
}

/// While it lives, no message is waited for.
#[derive(Debug)]
pub(crate) struct Cancelling<'a> {
    messages: &'a Messages,
}

impl Drop for Cancelling<'_> {
    fn drop(&mut self) {
        self.messages.lock().cancelling = None;
    }
}
