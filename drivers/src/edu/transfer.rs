//! One transfer between guest memory and the buffer of the device.

use std::ops::Range;

use mdev::dma::view::Access;
use mdev::dma::{AccessError, GuestMemory, Iova, IovaRange, Pin};
use rustix::io::Errno;

use super::settings::{DmaMask, Way};

/// Where the device sees its buffer ("DMA controller" in `docs/specs/edu.rst`).
pub(crate) const BUFFER: u64 = 0x4_0000;
/// Bytes of it.
pub(crate) const BUFFER_LEN: usize = 4096;

/// The memory of the device, which no address of the guest reaches: only transfers do.
pub(crate) type Buffer = [u8; BUFFER_LEN];

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    FromRam,
    ToRam,
}

/// A transfer as the guest asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) direction: Direction,
    pub(crate) source: u64,
    pub(crate) destination: u64,
    pub(crate) count: u64,
}

/// A transfer that the device is able to do, if the guest's memory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) direction: Direction,
    /// `None` for a transfer of nothing.
    pub(crate) ram: Option<IovaRange>,
    /// As long as `ram`, and within the buffer.
    pub(crate) buffer: Range<usize>,
}

/// Why a transfer was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The device has only the one buffer.
    #[error("{count} bytes at {at:#x} are not in the device's buffer")]
    OutsideBuffer {
        /// Where, on the bus.
        at: u64,
        /// Bytes.
        count: u64,
    },
    /// The address does not fit its mask.
    #[error("{count} bytes at {at:#x} are past the device's mask")]
    PastMask {
        /// Where, in guest memory.
        at: u64,
        /// Bytes.
        count: u64,
    },
    /// Guest memory is not there, or not to be used so.
    #[error(transparent)]
    Memory(#[from] AccessError),
    /// The physical device did not do it.
    #[error("the device did not do it: {0}")]
    Device(&'static str),
    /// It is to be done another time, or never.
    #[error("the transfer was interrupted")]
    Interrupted,
}

impl TransferError {
    /// What the guest is told.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::OutsideBuffer { .. } => Errno::INVAL,
            Self::PastMask { .. } => Errno::RANGE,
            Self::Memory(error) => error.errno(),
            Self::Device(_) => Errno::IO,
            Self::Interrupted => Errno::INTR,
        }
    }
}

impl Request {
    /// The transfer, if the device can do it.
    pub(crate) fn check(&self, mask: DmaMask) -> Result<Transfer, TransferError> {
        let (ram, bus) = match self.direction {
            Direction::FromRam => (self.source, self.destination),
            Direction::ToRam => (self.destination, self.source),
        };
        Ok(Transfer {
            direction: self.direction,
            buffer: self.buffer_at(bus)?,
            ram: self.ram_at(ram, mask)?,
        })
    }

    fn buffer_at(&self, bus: u64) -> Result<Range<usize>, TransferError> {
        let range = || {
            let start = usize::try_from(bus.checked_sub(BUFFER)?).ok()?;
            let end = start.checked_add(usize::try_from(self.count).ok()?)?;
            (end <= BUFFER_LEN).then_some(start..end)
        };
        range().ok_or(TransferError::OutsideBuffer {
            at: bus,
            count: self.count,
        })
    }

    fn ram_at(&self, at: u64, mask: DmaMask) -> Result<Option<IovaRange>, TransferError> {
        if self.count == 0 {
            return Ok(None);
        }
        IovaRange::new(Iova(at), self.count)
            .filter(|range| range.last().0 <= mask.last())
            .map(Some)
            .ok_or(TransferError::PastMask {
                at,
                count: self.count,
            })
    }
}

impl Transfer {
    /// Whether it reads or writes guest memory in this range.
    pub(crate) fn touches(&self, range: IovaRange) -> bool {
        self.ram.is_some_and(|ram| ram.overlaps(range))
    }

    /// Does all of it, or, on error, nothing to the buffer. Guest memory that is reached by
    /// messages may be half written if the client refuses the second of two.
    pub(crate) fn run(
        &self,
        memory: &GuestMemory,
        buffer: &mut Buffer,
        way: Way,
    ) -> Result<(), TransferError> {
        let Some(ram) = self.ram else {
            return Ok(());
        };
        let part = &mut buffer[self.buffer.clone()];
        let pinned = match way {
            Way::Pin => self.pin(memory, ram)?,
            Way::Copy => None,
        };
        match (self.direction, pinned) {
            (Direction::FromRam, Some(pin)) => read_pinned(&pin, part),
            (Direction::ToRam, Some(pin)) => write_pinned(&pin, part),
            (Direction::FromRam, None) => {
                let mut read = vec![0; part.len()];
                memory.read(ram.start(), &mut read)?;
                part.copy_from_slice(&read);
            }
            (Direction::ToRam, None) => memory.write(ram.start(), part)?,
        }
        Ok(())
    }

    /// Holds the memory; `None` if it can only be copied.
    fn pin(&self, memory: &GuestMemory, ram: IovaRange) -> Result<Option<Pin>, AccessError> {
        let access = match self.direction {
            Direction::FromRam => Access::Read,
            Direction::ToRam => Access::Write,
        };
        match memory.pin(ram, access) {
            Ok(pin) => Ok(Some(pin)),
            Err(AccessError::NeedsMessages(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Copies out of pinned memory, as long as `out`.
fn read_pinned(pin: &Pin, mut out: &mut [u8]) {
    for slice in pin.slices() {
        if let Some(part) = out.split_off_mut(..slice.len()) {
            slice.copy_to(part);
        }
    }
}

/// Copies into pinned memory, as long as `data`.
fn write_pinned(pin: &Pin, mut data: &[u8]) {
    for slice in pin.slices() {
        if let Some(part) = data.split_off(..slice.len()) {
            slice.copy_from(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: u64 = BUFFER_LEN as u64;

    #[test]
    fn a_transfer_lies_in_the_buffer_and_under_the_mask() {
        let top = DmaMask::default().last();
        for (ram, bus, count, errno) in [
            (0x1000, BUFFER, WHOLE, None),
            (0x1001, BUFFER + WHOLE - 1, 1, None),
            (top, BUFFER, 1, None),
            (0x1000, BUFFER + WHOLE, 0, None),
            (u64::MAX, BUFFER, 0, None),
            (0x1000, BUFFER, WHOLE + 1, Some(Errno::INVAL)),
            (0x1000, BUFFER + 1, WHOLE, Some(Errno::INVAL)),
            (0x1000, BUFFER - 1, 1, Some(Errno::INVAL)),
            (0x1000, BUFFER + WHOLE, 1, Some(Errno::INVAL)),
            (0x1000, 0, 1, Some(Errno::INVAL)),
            (0x1000, u64::MAX, 1, Some(Errno::INVAL)),
            (0x1000, BUFFER, u64::MAX, Some(Errno::INVAL)),
            (top, BUFFER, 2, Some(Errno::RANGE)),
            (top + 1, BUFFER, 1, Some(Errno::RANGE)),
            (u64::MAX, BUFFER, 2, Some(Errno::RANGE)),
        ] {
            for direction in [Direction::FromRam, Direction::ToRam] {
                let (source, destination) = match direction {
                    Direction::FromRam => (ram, bus),
                    Direction::ToRam => (bus, ram),
                };
                let request = Request {
                    direction,
                    source,
                    destination,
                    count,
                };
                let checked = request.check(DmaMask::default());
                let found = checked.as_ref().err().map(TransferError::errno);
                assert_eq!(found, errno, "{request:x?}");
                let touches = |transfer: &Transfer| {
                    IovaRange::new(Iova(ram), 1).is_some_and(|first| transfer.touches(first))
                };
                let is_anywhere = checked.is_ok_and(|transfer| touches(&transfer));
                assert_eq!(is_anywhere, errno.is_none() && count > 0, "{request:x?}");
            }
        }
    }
}
