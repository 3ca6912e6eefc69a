//! Going on where another process stopped, under the same client, which sees nothing of it.
//!
//! 1. [`Left::find`]: the journal that was left, and the descriptors that it speaks of.
//! 2. `prepare`: a session of them. The device gets its registers back as they were
//!    between two requests; nothing is done yet.
//! 3. `catch_up`: what was answered since then is done again, without an answer. A request
//!    that was not answered is served as any other, unless two processes have died in it.

mod catch_up;
mod prepare;

use std::io;
use std::os::fd::OwnedFd;

use super::recorder::Recorder;
use super::{SessionError, able};
use crate::device::{MediatedDevice, Reset};
use crate::dma::{DmaError, DmaLimits};
use crate::keep::checkpoint::Checkpoint;
use crate::keep::journal::{Journal, Stream};
use crate::keep::{CLIENT, Held, JOURNAL, Keep, TWIN};
use crate::state::{Fields, Tag};

pub(super) use catch_up::Resumed;

/// Why nobody can go on from what was left.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Nothing was parked, or another program's.
    #[error("there is no journal that this program understands: {0}")]
    Journal(#[source] io::Error),
    /// A descriptor of the session could not be parked.
    #[error("not all of the session was kept")]
    Incomplete,
    /// A client is connected, and its socket is not there.
    #[error("the client's socket was not kept")]
    NoClient,
    /// Half an answer has left, and its end is lost.
    #[error("the answer to the last request had left in part")]
    HalfAnAnswer,
    /// The device does not take its registers, and who stands still can go on with them.
    #[error("the device does not take the registers that it had")]
    Registers,
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
        if journal.memories.is_incomplete() {
            return Err(ResumeError::Incomplete);
        }
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
    ) -> Result<(Recorder, Stream, Outlook), ResumeError> {
        let had_client = self.stream.0.end() > 0;
        let exact = if had_client {
            device.reset(Reset::Close);
            true
        } else {
            put_back(
                device,
                self.journal.checkpoints.get().as_ref(),
                &self.journal,
            )?
        };
        self.journal.set_handed_over(false);
        keep.set_memory_log(self.journal.memories.clone());
        keep.settle();
        let outlook = Outlook {
            exact,
            ..Outlook::default()
        };
        let recorder = Recorder::new(self.journal, keep.clone());
        Ok((recorder, self.stream, outlook))
    }
}

/// Puts registers and configuration space back into the device, and leaves it stopped. If that
/// cannot be, the device is reset, and keeps what it can of the second; unless another process
/// stands still that can go on with them. `true` if all is there.
fn put_back(
    device: &mut dyn MediatedDevice,
    checkpoint: Option<&Checkpoint>,
    journal: &Journal,
) -> Result<bool, ResumeError> {
    if checkpoint.is_some_and(|checkpoint| recall(device, checkpoint)) {
        return Ok(true);
    }
    if journal.is_handed_over() {
        // Before anything is done to memory that is that process's too.
        return Err(ResumeError::Registers);
    }
    device.reset(Reset::Device);
    let config = checkpoint.and_then(|it| device.config().restored(&it.config));
    if let Some(config) = config {
        *device.config() = config;
    }
    Ok(false)
}

/// Whether the device has taken all of a checkpoint. Else it has taken nothing.
fn recall(device: &mut dyn MediatedDevice, checkpoint: &Checkpoint) -> bool {
    let Some(config) = device.config().restored(&checkpoint.config) else {
        return false;
    };
    let Some(((version, registers), migration)) =
        checkpoint.registers.as_ref().zip(device.migration())
    else {
        return false;
    };
    migration.stop();
    if let Err(error) = migration.recall(*version, Fields::new(Tag::Registers, registers)) {
        tracing::warn!("the device does not take its registers: {error}");
        return false;
    }
    *device.config() = config;
    device.migration().into_iter().for_each(|it| it.restored());
    true
}
