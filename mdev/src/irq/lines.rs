//! The vectors, the eventfds behind them, and the state of the interrupt pin.

use std::os::fd::{AsFd, OwnedFd};

use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

use super::{Eventfd, IrqCounts, IrqError, IrqIndex};
use crate::keep::Keep;
use crate::keep::logs::IrqLog;

/// The vectors of one device.
#[derive(Debug, Default)]
pub(super) struct Lines {
    counts: IrqCounts,
    intx: Intx,
    /// The client's eventfds, as long as the highest vector that was ever set.
    vectors: [Vec<Option<Eventfd>>; IrqIndex::COUNT as usize],
    raised: u64,
    /// Where eventfds are kept and noted, for another process to go on.
    kept: Option<(Keep, IrqLog)>,
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
        self.kept = None;
    }

    /// Closes the client's eventfds, and leaves what is noted of them to another process.
    pub(super) fn abandon(&mut self) {
        self.kept = None;
        self.disconnect();
    }

    /// Has eventfds outlive this process from now on.
    pub(super) fn kept_by(&mut self, keep: Keep, log: IrqLog) {
        self.kept = Some((keep, log));
    }

    /// Takes the eventfds that another process has left. A pin that was masked since it was told of
    /// is told of once more, when the command register allows: the client may have unmasked it.
    pub(super) fn restore(&mut self) {
        let Some((keep, log)) = self.kept.clone() else {
            return;
        };
        for index in IrqIndex::ALL {
            for (vector, id) in log.get(index) {
                let eventfd = keep.claim(id).and_then(|(fd, held)| {
                    let mut eventfd = Eventfd::from_client(fd)?;
                    eventfd.held_by(held);
                    Some(eventfd)
                });
                let vectors = &mut self.vectors[index as usize];
                if vectors.len() <= vector {
                    vectors.resize_with(vector + 1, || None);
                }
                vectors[vector] = eventfd;
            }
        }
        self.intx.masked = log.is_masked();
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
                    if let Some((_, log)) = &self.kept {
                        log.set_masked(self.intx.masked);
                    }
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
        let mut eventfds = (start..)
            .zip(fds)
            .map(|(vector, fd)| {
                fd.map(|fd| Eventfd::from_client(fd).ok_or(IrqError::NotAnEventfd(vector)))
                    .transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.keep(&mut eventfds);
        let vectors = &mut self.vectors[index as usize];
        let start = start as usize;
        if let Some((_, log)) = &self.kept {
            for (vector, eventfd) in (start..).zip(&eventfds) {
                let id = eventfd.as_ref().and_then(Eventfd::held_id);
                log.set(index, vector, id.unwrap_or(0));
            }
        }
        if vectors.len() < start + eventfds.len() {
            vectors.resize_with(start + eventfds.len(), || None);
        }
        for (vector, eventfd) in vectors.iter_mut().skip(start).zip(eventfds) {
            *vector = eventfd;
        }
        self.update_intx();
        Ok(())
    }

    /// Has eventfds outlive this process, all in one packet.
    fn keep(&self, eventfds: &mut [Option<Eventfd>]) {
        let Some((keep, _)) = &self.kept else {
            return;
        };
        let fds: Vec<_> = eventfds.iter().flatten().map(AsFd::as_fd).collect();
        let held = match fds.is_empty() {
            true => Vec::new(),
            false => keep.hold_eventfds(&fds),
        };
        for (eventfd, held) in eventfds.iter_mut().flatten().zip(held) {
            eventfd.held_by(held);
        }
    }

    fn switch_off(&mut self, index: IrqIndex) {
        if let Some((_, log)) = &self.kept {
            for vector in 0..self.vectors[index as usize].len() {
                log.set(index, vector, 0);
            }
            if index == IrqIndex::Intx {
                log.set_masked(false);
            }
        }
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
