//! One split queue in guest memory (Virtio 1.2, section 2.7).
//!
//! The guest may change any of it at any time, so every word is read once and checked, and nothing
//! that was checked is read again. It is reached like all guest memory, by messages too.

use std::sync::atomic::{Ordering, fence};

use mdev::dma::view::Access;
use mdev::dma::{AccessError, GuestMemory, Iova, IovaRange};

use crate::chain::{Buffer, Cancelled, Chain, ChainError};
use crate::feature;

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;

/// Flags of a descriptor; `VIRTQ_DESC_F_*`.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Flag of the available ring: the driver wants no interrupt; `VIRTQ_AVAIL_F_NO_INTERRUPT`.
const NO_INTERRUPT: u16 = 1;

/// Flag of the used ring: the device wants no notification; `VIRTQ_USED_F_NO_NOTIFY`.
const NO_NOTIFY: u16 = 1;

/// Where a queue lies, and how it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ring {
    /// A power of two.
    pub(crate) size: u16,
    /// The table of descriptors.
    pub(crate) descriptors: u64,
    /// The available ring: the driver area.
    pub(crate) available: u64,
    /// The used ring: the device area.
    pub(crate) used: u64,
    /// What was negotiated.
    pub(crate) features: u64,
}

/// What a driver must not do. The queue is dead until the device is reset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    #[error("a ring is not in memory: {0}")]
    Memory(AccessError),
    #[error("{0} requests are said to be there, and the queue holds {1}")]
    Index(u16, u16),
    #[error("there is no descriptor {0}")]
    NoDescriptor(u16),
    #[error("a chain has more descriptors than the queue")]
    TooLong,
    #[error("a buffer to be read follows one to be written")]
    Order,
    #[error("a table of descriptors is not one")]
    Table,
    #[error("a chain has more than 4 GiB")]
    TooLarge,
}

impl From<AccessError> for RingError {
    fn from(error: AccessError) -> Self {
        match ChainError::from(error) {
            ChainError::Memory(error) => Self::Memory(error),
            _ => Self::Cancelled(Cancelled),
        }
    }
}

/// A word that is read and written whole: the copy is as aligned as what it is copied from.
#[repr(align(8))]
struct Aligned<const N: usize>([u8; N]);

/// One descriptor.
struct Descriptor {
    at: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// The buffers of a chain that is being followed.
#[derive(Default)]
struct Buffers {
    readable: Vec<Buffer>,
    writable: Vec<Buffer>,
    total: u64,
}

impl Buffers {
    fn push(&mut self, descriptor: &Descriptor) -> Result<(), RingError> {
        let buffer = Buffer {
            at: descriptor.at,
            len: descriptor.len,
        };
        self.total += u64::from(buffer.len);
        // Section 2.7.4: no chain is longer than 2^32 bytes.
        if self.total > 1 << 32 {
            return Err(RingError::TooLarge);
        }
        if descriptor.flags & WRITE != 0 {
            self.writable.push(buffer);
        } else if self.writable.is_empty() {
            self.readable.push(buffer);
        } else {
            return Err(RingError::Order);
        }
        Ok(())
    }
}

impl Ring {
    fn read<const N: usize>(memory: &GuestMemory, at: u64) -> Result<[u8; N], RingError> {
        let mut bytes = Aligned([0; N]);
        memory.read(Iova(at), &mut bytes.0)?;
        Ok(bytes.0)
    }

    fn read_u16(memory: &GuestMemory, at: u64) -> Result<u16, RingError> {
        Self::read(memory, at).map(u16::from_le_bytes)
    }

    fn write_u16(memory: &GuestMemory, at: u64, value: u16) -> Result<(), RingError> {
        let bytes = Aligned(value.to_le_bytes());
        Ok(memory.write(Iova(at), &bytes.0)?)
    }

    /// Whether it is one: a size, and three areas that are aligned (section 2.7) and do not wrap.
    pub(crate) fn is_sound(&self) -> bool {
        let size = u64::from(self.size);
        let area = |at: u64, len: u64, alignment: u64| {
            at.is_multiple_of(alignment) && at.checked_add(len).is_some()
        };
        self.size.is_power_of_two()
            && area(self.descriptors, DESCRIPTOR * size, 16)
            && area(self.available, 6 + 2 * size, 2)
            && area(self.used, 6 + 8 * size, 4)
    }

    fn slot(&self, position: u16) -> u64 {
        // The size is a power of two.
        u64::from(position & (self.size - 1))
    }

    /// The chain at this position, and the number of its first descriptor; `None` if the driver has
    /// put none there yet.
    pub(crate) fn pop<'a>(
        &self,
        memory: &'a GuestMemory,
        position: u16,
    ) -> Result<Option<(u16, Chain<'a>)>, RingError> {
        let index = Self::read_u16(memory, self.available + 2)?;
        // What the driver wrote before the index is read after it.
        fence(Ordering::Acquire);
        let waiting = index.wrapping_sub(position);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.size {
            return Err(RingError::Index(waiting, self.size));
        }
        let head = Self::read_u16(memory, self.available + 4 + 2 * self.slot(position))?;
        let buffers = self.follow(memory, head)?;
        let chain = Chain::new(memory, buffers.readable, buffers.writable);
        Ok(Some((head, chain)))
    }

    /// Follows a chain, and the table that it may lead to.
    fn follow(&self, memory: &GuestMemory, head: u16) -> Result<Buffers, RingError> {
        let mut buffers = Buffers::default();
        let (mut table, mut len, mut next) = (self.descriptors, self.size, head);
        let mut is_indirect = false;
        // A chain is at most as long as the queue, tables included: so no loop goes on for ever.
        for _ in 0..=self.size {
            if next >= len {
                return Err(RingError::NoDescriptor(next));
            }
            let descriptor = descriptor(memory, table.wrapping_add(DESCRIPTOR * u64::from(next)))?;
            if descriptor.flags & INDIRECT != 0 {
                let is_allowed = self.features & feature::INDIRECT_DESC != 0;
                if is_indirect || !is_allowed || descriptor.flags & NEXT != 0 {
                    return Err(RingError::Table);
                }
                is_indirect = true;
                (table, next) = (descriptor.at, 0);
                len = table_len(&descriptor)?;
                continue;
            }
            if buffers.readable.len() + buffers.writable.len() == usize::from(self.size) {
                break;
            }
            buffers.push(&descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(buffers);
            }
            next = descriptor.next;
        }
        Err(RingError::TooLong)
    }

    /// Says that the chain at this position has been used, with `len` bytes written.
    pub(crate) fn push(
        &self,
        memory: &GuestMemory,
        position: u16,
        head: u16,
        len: u32,
    ) -> Result<(), RingError> {
        let [a, b, c, d] = u32::from(head).to_le_bytes();
        let [e, f, g, h] = len.to_le_bytes();
        let element = Aligned([a, b, c, d, e, f, g, h]);
        memory.write(Iova(self.used + 4 + 8 * self.slot(position)), &element.0)?;
        // The index says that all before it is there.
        fence(Ordering::Release);
        Self::write_u16(memory, self.used + 2, position.wrapping_add(1))
    }

    /// How many chains have been used, as the driver sees it.
    pub(crate) fn used_index(&self, memory: &GuestMemory) -> Result<u16, RingError> {
        Self::read_u16(memory, self.used + 2)
    }

    /// Whether the driver wants an interrupt for the chain at this position, which was just pushed.
    pub(crate) fn wants_interrupt(
        &self,
        memory: &GuestMemory,
        position: u16,
    ) -> Result<bool, RingError> {
        // The driver sees our index, or we see what it wants.
        fence(Ordering::SeqCst);
        if self.features & feature::EVENT_IDX == 0 {
            let flags = Self::read_u16(memory, self.available)?;
            return Ok(flags & NO_INTERRUPT == 0);
        }
        let event = Self::read_u16(memory, self.available + 4 + 2 * u64::from(self.size))?;
        Ok(event == position)
    }

    /// Whether the driver has put a chain at this position.
    pub(crate) fn has_more(&self, memory: &GuestMemory, position: u16) -> Result<bool, RingError> {
        Ok(Self::read_u16(memory, self.available + 2)? != position)
    }

    /// Whether the available ring is memory to point to: to look there costs no message.
    pub(crate) fn is_direct(&self, memory: &GuestMemory) -> bool {
        let index = IovaRange::new(Iova(self.available + 2), 2);
        index.zip(memory.view().ok()).is_some_and(|(index, view)| {
            let mut slices = view.slices(index, Access::Read);
            slices.all(|slice| slice.is_ok())
        })
    }

    /// Asks for no notification until [`Self::arm`]. Where events are agreed on, the driver has
    /// been asked for one once it puts a chain where one is already, so there is nothing to do.
    pub(crate) fn hush(&self, memory: &GuestMemory) -> Result<(), RingError> {
        match self.features & feature::EVENT_IDX {
            0 => Self::write_u16(memory, self.used, NO_NOTIFY),
            _ => Ok(()),
        }
    }

    /// Asks for a notification once the driver puts a chain at this position. `false` if one is
    /// there already.
    pub(crate) fn arm(
        &self,
        memory: &GuestMemory,
        position: u16,
        may_be_hushed: bool,
    ) -> Result<bool, RingError> {
        if self.features & feature::EVENT_IDX != 0 {
            let event = self.used + 4 + 8 * u64::from(self.size);
            Self::write_u16(memory, event, position)?;
        } else if may_be_hushed {
            Self::write_u16(memory, self.used, 0)?;
        }
        // The driver sees what we want, or we see its index.
        fence(Ordering::SeqCst);
        Ok(Self::read_u16(memory, self.available + 2)? == position)
    }
}

/// How many descriptors the table has that this one leads to.
fn table_len(descriptor: &Descriptor) -> Result<u16, RingError> {
    let bytes = u64::from(descriptor.len);
    if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR) {
        return Err(RingError::Table);
    }
    u16::try_from(bytes / DESCRIPTOR).map_err(|_| RingError::Table)
}

fn descriptor(memory: &GuestMemory, at: u64) -> Result<Descriptor, RingError> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = Ring::read::<16>(memory, at)?;
    let [l0, l1, l2, l3, f0, f1, n0, n1] = rest;
    Ok(Descriptor {
        at: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        len: u32::from_le_bytes([l0, l1, l2, l3]),
        flags: u16::from_le_bytes([f0, f1]),
        next: u16::from_le_bytes([n0, n1]),
    })
}
