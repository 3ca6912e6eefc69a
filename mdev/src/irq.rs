//! Interrupts: the vectors of a device, the client's eventfds behind them, and INTx's level.

mod eventfd;
mod index;
mod lines;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfu::Errno;
use vfu::wire::irq::{IrqAction, SetIrqs};

use crate::keep::Keep;
use crate::keep::logs::IrqLog;
pub use eventfd::Eventfd;
pub use index::{IrqCounts, IrqIndex};
use lines::Lines;

/// Why SET_IRQS was refused.
#[derive(Debug, thiserror::Error)]
pub enum IrqError {
    /// There is no such group.
    #[error("there is no interrupt group {0}")]
    UnknownIndex(u32),
    /// The group has fewer vectors.
    #[error("vectors {start}+{count} are not within the {available} of {index:?}")]
    Range {
        /// The group.
        index: IrqIndex,
        /// First vector asked for.
        start: u32,
        /// How many.
        count: u32,
        /// How many there are.
        available: u32,
    },
    /// Only INTx can be masked, and only at once: not by an eventfd.
    #[error("{action:?} of {index:?} is not supported in that form")]
    NotMaskable {
        /// The group.
        index: IrqIndex,
        /// What was asked for.
        action: IrqAction,
    },
    /// A descriptor that is not an eventfd. Writing to it could do anything.
    #[error("the descriptor for vector {0} is not an eventfd")]
    NotAnEventfd(u32),
}

impl IrqError {
    /// What the client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::UnknownIndex(_) | Self::Range { .. } => Errno::INVAL,
            Self::NotMaskable { .. } => Errno::NOTTY,
            Self::NotAnEventfd(_) => Errno::BADF,
        }
    }
}

/// A device's way to interrupt its guest. Clones speak of the same vectors.
#[derive(Clone, Debug, Default)]
pub struct Interrupts {
    lines: Arc<Mutex<Lines>>,
}

impl Interrupts {
    /// Sets the level of the interrupt pin. The guest is told once when it rises, and again each
    /// time it unmasks the line while the level is still up.
    pub fn set_intx(&self, asserted: bool) {
        self.lock().set_level(asserted);
    }

    /// Fires a vector of MSI or MSI-X once. Nothing happens while the client has not set it up.
    pub fn trigger(&self, index: IrqIndex, vector: u32) {
        self.lock().signal(index, vector);
    }

    /// Whether the client has given an eventfd for any vector of this group: how a device with
    /// both learns that its guest has switched from INTx to MSI.
    pub fn is_enabled(&self, index: IrqIndex) -> bool {
        self.lock().is_enabled(index)
    }

    /// Whether the client has given an eventfd for this vector.
    pub fn is_set(&self, index: IrqIndex, vector: u32) -> bool {
        self.lock().is_set(index, vector)
    }

    /// How often an eventfd was written.
    pub fn raised(&self) -> u64 {
        self.lock().raised()
    }

    /// Says how many vectors there are. A session does so before it serves its client.
    pub(crate) fn set_counts(&self, counts: IrqCounts) {
        self.lock().set_counts(counts);
    }

    /// Follows bit 10 of the command register.
    pub(crate) fn set_intx_disabled(&self, disabled: bool) {
        self.lock().set_disabled(disabled);
    }

    /// Forgets the client: its eventfds are closed.
    pub(crate) fn disconnect(&self) {
        self.lock().disconnect();
    }

    /// Closes the client's eventfds, which another process goes on with: what is noted of them stays.
    pub(crate) fn abandon(&self) {
        self.lock().abandon();
    }

    /// Has the client's eventfds outlive this process from now on.
    pub(crate) fn kept_by(&self, keep: &Keep, log: &IrqLog) {
        self.lock().kept_by(keep.clone(), log.clone());
    }

    /// Takes those that another process has left.
    pub(crate) fn restore(&self) {
        self.lock().restore();
    }

    /// Does what SET_IRQS asks. On error nothing has changed.
    pub(crate) fn set_irqs(&self, set: SetIrqs<'_>) -> Result<(), IrqError> {
        self.lock().set_irqs(set)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
