//! The vectors, the eventfds behind them, and the state of the interrupt pin.

use std::os::fd::OwnedFd;

use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

use super::{Eventfd, IrqCounts, IrqError, IrqIndex};

/// The vectors of one device.
#[derive(Debug, Default)]
pub(super) struct Lines {
    counts: IrqCounts,
    intx: Intx,
    /// The client's eventfds, as long as the highest vector that was ever set.
    vectors: [Vec<Option<Eventfd>>; IrqIndex::COUNT as usize],
    raised: u64,
}

/// The interrupt pin. The client's eventfd carries edges, so a level is signalled once and the
/// line then masked, until the client unmasks it: VFIO's AUTOMASKED.
///
/// As in the kernel, a mask outlives the eventfd: it ends when the client unmasks the line,
/// switches the group off or leaves.
#[derive(Debug, Default)]
struct Intx {
    level: bool,
    masked: bool,
    /// Bit 10 of the command register.
    disabled: bool,
}

impl Lines {
    pub(super) fn set_level(&mut self, asserted: bool) {
        self.intx.level = asserted;
        self.update_intx();
    }

    pub(super) fn set_disabled(&mut self, disabled: bool) {
        self.intx.disabled = disabled;
        self.update_intx();
    }

    pub(super) fn set_counts(&mut self, counts: IrqCounts) {
        self.counts = counts;
    }

    pub(super) fn is_enabled(&self, index: IrqIndex) -> bool {
        self.vectors[index as usize].iter().any(Option::is_some)
    }

    pub(super) fn is_set(&self, index: IrqIndex, vector: u32) -> bool {
        let vector = self.vectors[index as usize].get(vector as usize);
        vector.is_some_and(Option::is_some)
    }

    pub(super) fn raised(&self) -> u64 {
        self.raised
    }

    /// Writes the eventfd of a vector; `false` if it has none.
    pub(super) fn signal(&mut self, index: IrqIndex, vector: u32) -> bool {
        let Some(Some(eventfd)) = self.vectors[index as usize].get(vector as usize) else {
            return false;
        };
        eventfd.signal();
        self.raised += 1;
        true
    }

    pub(super) fn disconnect(&mut self) {
        for index in IrqIndex::ALL {
            self.switch_off(index);
        }
        self.intx.disabled = false;
    }

    pub(super) fn set_irqs(&mut self, set: SetIrqs<'_>) -> Result<(), IrqError> {
        let index = IrqIndex::from_u32(set.index).ok_or(IrqError::UnknownIndex(set.index))?;
        let is_nothing = (set.start, set.count) == (0, 0);
        if is_nothing && set.action == IrqAction::Trigger && matches!(set.data, IrqData::None) {
            self.switch_off(index);
            return Ok(());
        }
        self.check_range(index, &set)?;
        match (set.action, set.data) {
            (IrqAction::Trigger, IrqData::Eventfd(fds)) => self.assign(index, set.start, fds)?,
            (IrqAction::Trigger, data) => {
                for vector in chosen(set.start, set.count, &data) {
                    self.signal(index, vector);
                }
            }
            (action @ (IrqAction::Mask | IrqAction::Unmask), data) => {
                if index != IrqIndex::Intx || matches!(data, IrqData::Eventfd(_)) {
                    return Err(IrqError::NotMaskable { index, action });
                }
                if chosen(set.start, set.count, &data).next().is_some() {
                    self.intx.masked = action == IrqAction::Mask;
                    self.update_intx();
                }
            }
        }
        Ok(())
    }

    fn check_range(&self, index: IrqIndex, set: &SetIrqs<'_>) -> Result<(), IrqError> {
        let available = self.counts.of(index);
        let end = set.start.checked_add(set.count);
        if set.count > 0 && end.is_some_and(|end| end <= available) {
            return Ok(());
        }
        Err(IrqError::Range {
            index,
            start: set.start,
            count: set.count,
            available,
        })
    }

    /// Gives vectors from `start` on their eventfds, or takes them away.
    fn assign(
        &mut self,
        index: IrqIndex,
        start: u32,
        fds: Vec<Option<OwnedFd>>,
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
        self.update_intx();
        Ok(())
    }

    fn switch_off(&mut self, index: IrqIndex) {
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
