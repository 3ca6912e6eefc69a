//! Interrupts: the vectors of a device, the client's eventfds behind them, and INTx's level.

mod eventfd;
mod index;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfu::Errno;
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

pub use eventfd::Eventfd;
pub use index::{IrqCounts, IrqIndex};

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

#[derive(Debug, Default)]
struct Lines {
    counts: IrqCounts,
    intx: Intx,
    /// The client's eventfds, as long as the highest vector that was ever set.
    vectors: [Vec<Option<Eventfd>>; IrqIndex::COUNT as usize],
    raised: u64,
}

/// The interrupt pin. The client's eventfd carries edges, so a level is signalled once and the
/// line then masked, until the client unmasks it: VFIO's AUTOMASKED.
#[derive(Debug, Default)]
struct Intx {
    level: bool,
    masked: bool,
    /// Bit 10 of the command register.
    disabled: bool,
}

impl Interrupts {
    /// Sets the level of the interrupt pin. The guest is told once for each rise, and again when
    /// it unmasks the line while the level is still up.
    pub fn set_intx(&self, asserted: bool) {
        let mut lines = self.lock();
        lines.intx.level = asserted;
        lines.update_intx();
    }

    /// Fires a vector of MSI or MSI-X once. Nothing happens while the client has not set it up.
    pub fn trigger(&self, index: IrqIndex, vector: u32) {
        self.lock().signal(index, vector);
    }

    /// Whether the client has given an eventfd for any vector of this group: how a device with
    /// both learns that its guest has switched from INTx to MSI.
    pub fn is_enabled(&self, index: IrqIndex) -> bool {
        self.lock().vectors[index as usize]
            .iter()
            .any(Option::is_some)
    }

    /// How often an eventfd was written.
    pub fn raised(&self) -> u64 {
        self.lock().raised
    }

    /// Says how many vectors there are. A session does so before it serves its client.
    pub(crate) fn set_counts(&self, counts: IrqCounts) {
        self.lock().counts = counts;
    }

    /// Follows bit 10 of the command register.
    pub(crate) fn set_intx_disabled(&self, disabled: bool) {
        let mut lines = self.lock();
        lines.intx.disabled = disabled;
        lines.update_intx();
    }

    /// Forgets the client: its eventfds are closed.
    pub(crate) fn disconnect(&self) {
        let mut lines = self.lock();
        lines.vectors = Default::default();
        lines.intx.masked = false;
        lines.intx.disabled = false;
    }

    /// Does what SET_IRQS asks. On error nothing has changed.
    pub(crate) fn set_irqs(&self, set: SetIrqs<'_>) -> Result<(), IrqError> {
        let index = IrqIndex::from_u32(set.index).ok_or(IrqError::UnknownIndex(set.index))?;
        let mut lines = self.lock();
        let switches_off =
            set.count == 0 && set.action == IrqAction::Trigger && matches!(set.data, IrqData::None);
        if switches_off {
            lines.disable(index);
            return Ok(());
        }
        lines.check_range(index, &set)?;
        match (set.action, set.data) {
            (IrqAction::Trigger, IrqData::Eventfd(fds)) => lines.assign(index, set.start, fds),
            (IrqAction::Trigger, data) => {
                for vector in chosen(set.start, set.count, &data) {
                    lines.signal(index, vector);
                }
                Ok(())
            }
            (action, IrqData::Eventfd(_)) => Err(IrqError::NotMaskable { index, action }),
            (action, _) if index != IrqIndex::Intx => Err(IrqError::NotMaskable { index, action }),
            (action, data) => {
                if chosen(set.start, set.count, &data).next().is_some() {
                    lines.intx.masked = action == IrqAction::Mask;
                    lines.update_intx();
                }
                Ok(())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The vectors that a message speaks of.
fn chosen(start: u32, count: u32, data: &IrqData<'_>) -> impl Iterator<Item = u32> {
    (start..start.saturating_add(count)).enumerate().filter_map(
        move |(position, vector)| match data {
            IrqData::Bool(bytes) => {
                (bytes.get(position).copied().unwrap_or(0) != 0).then_some(vector)
            }
            IrqData::None | IrqData::Eventfd(_) => Some(vector),
        },
    )
}

impl Lines {
    fn check_range(&self, index: IrqIndex, set: &SetIrqs<'_>) -> Result<(), IrqError> {
        let available = self.counts.of(index);
        let fits = set
            .start
            .checked_add(set.count)
            .is_some_and(|end| end <= available);
        if fits && set.count > 0 {
            return Ok(());
        }
        Err(IrqError::Range {
            index,
            start: set.start,
            count: set.count,
            available,
        })
    }

    fn assign(
        &mut self,
        index: IrqIndex,
        start: u32,
        fds: Vec<Option<std::os::fd::OwnedFd>>,
    ) -> Result<(), IrqError> {
        let eventfds = (start..)
            .zip(fds)
            .map(|(vector, fd)| {
                fd.map(|fd| Eventfd::from_client(fd).ok_or(IrqError::NotAnEventfd(vector)))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let vectors = &mut self.vectors[index as usize];
        let start = start as usize;
        if vectors.len() < start + eventfds.len() {
            vectors.resize_with(start + eventfds.len(), || None);
        }
        for (vector, eventfd) in vectors.iter_mut().skip(start).zip(eventfds) {
            *vector = eventfd;
        }
        if index == IrqIndex::Intx {
            self.intx.masked = false;
            self.update_intx();
        }
        Ok(())
    }

    fn disable(&mut self, index: IrqIndex) {
        self.vectors[index as usize].clear();
        if index == IrqIndex::Intx {
            self.intx.masked = false;
        }
    }

    fn update_intx(&mut self) {
        let Intx {
            level,
            masked,
            disabled,
        } = self.intx;
        if level && !masked && !disabled && self.signal(IrqIndex::Intx, 0) {
            self.intx.masked = true;
        }
    }

    /// Writes the eventfd of a vector; `false` if it has none.
    fn signal(&mut self, index: IrqIndex, vector: u32) -> bool {
        let Some(Some(eventfd)) = self.vectors[index as usize].get(vector as usize) else {
            return false;
        };
        eventfd.signal();
        self.raised += 1;
        true
    }
}
