//! DEVICE_GET_REGION_IO_FDS: descriptors that stand for writes to parts of a region.

use super::{Malformed, Reader, check_argsz};

bitflags::bitflags! {
    /// `KVM_IOEVENTFD_FLAG_*` in `linux/kvm.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IoEventFlags: u32 {
        /// Only a write of [`IoEvent::datamatch`] counts.
        const DATAMATCH = 1 << 0;
        /// The region is one of I/O ports.
        const PIO = 1 << 1;
    }
}

/// A part of a region whose writes an eventfd tells of: `u64 offset, u64 size, u32 fd_index,
/// u32 type, u32 flags, u32 padding, u64 datamatch`; the type of an ioeventfd is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoEvent {
    /// Where in the region.
    pub offset: u64,
    /// Bytes of a write.
    pub size: u64,
    /// Which of the descriptors that come with the reply.
    pub fd_index: u32,
    /// Which writes count.
    pub flags: IoEventFlags,
    /// The value that counts, if only one does.
    pub datamatch: u64,
}

impl IoEvent {
    /// Bytes of one entry; libvfio-user sends 48, and the specification warns to rely on neither.
    pub const LEN: usize = 40;
    const TYPE_IOEVENTFD: u32 = 0;

    fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.offset.to_ne_bytes());
        out.extend(self.size.to_ne_bytes());
        out.extend(self.fd_index.to_ne_bytes());
        out.extend(Self::TYPE_IOEVENTFD.to_ne_bytes());
        out.extend(self.flags.bits().to_ne_bytes());
        out.extend([0; 4]);
        out.extend(self.datamatch.to_ne_bytes());
    }

    fn parse(entry: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(entry);
        let (offset, size, fd_index) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let (kind, flags) = (reader.u32()?, reader.u32()?);
        if kind != Self::TYPE_IOEVENTFD {
            return Err(Malformed::Flags(kind));
        }
        reader.u32()?;
        Ok(Self {
            offset,
            size,
            fd_index,
            flags: IoEventFlags::from_bits_retain(flags),
            datamatch: reader.u64()?,
        })
    }
}

/// What a client asks: `u32 argsz, u32 flags, u32 index, u32 count`, flags and count being 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionIoFdsRequest {
    /// Most bytes that the client takes.
    pub argsz: u32,
    /// Which region.
    pub index: u32,
}

impl RegionIoFdsRequest {
    /// Parses a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let argsz = check_argsz(reader.u32()?, RegionIoFds::LEN)?;
        let flags = reader.u32()?;
        let index = reader.u32()?;
        let count = reader.u32()?;
        reader.end()?;
        match (flags, count) {
            (0, 0) => Ok(Self { argsz, index }),
            (0, _) => Err(Malformed::Range),
            _ => Err(Malformed::Flags(flags)),
        }
    }

    /// Appends the payload.
    pub fn emit(&self, out: &mut Vec<u8>) {
        for field in [self.argsz, 0, self.index, 0] {
            out.extend(field.to_ne_bytes());
        }
    }
}

/// The answer: the same four fields, then the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionIoFds {
    /// Which region.
    pub index: u32,
    /// Its parts.
    pub events: Vec<IoEvent>,
}

impl RegionIoFds {
    /// Bytes before the entries.
    pub const LEN: usize = 16;

    /// Bytes of the whole structure.
    pub fn argsz(&self) -> u32 {
        let entries = self.events.len().saturating_mul(IoEvent::LEN);
        u32::try_from(entries.saturating_add(Self::LEN)).unwrap_or(u32::MAX)
    }

    /// Whether all of it fits a client that takes `argsz` bytes.
    pub fn fits(&self, argsz: u32) -> bool {
        argsz >= self.argsz()
    }

    /// Appends all, or the fixed part alone if the rest does not fit `argsz` bytes.
    pub fn emit(&self, argsz: u32, out: &mut Vec<u8>) {
        let count = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        for field in [self.argsz(), 0, self.index, count] {
            out.extend(field.to_ne_bytes());
        }
        if self.fits(argsz) {
            for event in &self.events {
                event.emit(out);
            }
        }
    }

    /// Parses a reply, and tells the `argsz` that the whole of it needs. The entries may be
    /// longer than [`IoEvent::LEN`].
    pub fn parse(payload: &[u8]) -> Result<(Self, u32), Malformed> {
        let mut reader = Reader::new(payload);
        let argsz = check_argsz(reader.u32()?, Self::LEN)?;
        let _flags = reader.u32()?;
        let index = reader.u32()?;
        let count = usize::try_from(reader.u32()?).map_err(|_| Malformed::Range)?;
        let entries = reader.rest();
        let mut fds = Self {
            index,
            events: Vec::new(),
        };
        if entries.is_empty() || count == 0 {
            return Ok((fds, argsz));
        }
        let entry_len = entries.len().checked_div(count).unwrap_or(0);
        if entry_len < IoEvent::LEN {
            return Err(Malformed::Short);
        }
        for entry in entries.chunks_exact(entry_len).take(count) {
            fds.events.push(IoEvent::parse(entry)?);
        }
        Ok((fds, argsz))
    }
}
