//! DMA_MAP, DMA_UNMAP, DMA_READ, DMA_WRITE: the guest's memory.

use super::{Malformed, Reader, check_argsz};

bitflags::bitflags! {
    /// What a mapping allows the device to do; specification, section "VFIO_USER_DMA_MAP".
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DmaFlags: u32 {
        /// The device may read.
        const READ = 1 << 0;
        /// The device may write.
        const WRITE = 1 << 1;
    }
}

/// DMA_MAP: `u32 argsz, u32 flags, u64 offset, u64 iova, u64 size`.
///
/// A file descriptor may come with it. Without one the memory is reached by DMA_READ and
/// DMA_WRITE only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaMap {
    /// What the device may do.
    pub flags: DmaFlags,
    /// Where in the file the memory begins.
    pub offset: u64,
    /// Where the device sees it.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
}

impl DmaMap {
    /// Bytes of the payload.
    pub const LEN: usize = 32;

    /// Parses a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        check_argsz(reader.u32()?, Self::LEN)?;
        let flags = reader.u32()?;
        let map = Self {
            flags: DmaFlags::from_bits(flags).ok_or(Malformed::Flags(flags))?,
            offset: reader.u64()?,
            iova: reader.u64()?,
            size: reader.u64()?,
        };
        reader.end()?;
        Ok(map)
    }

    /// Appends the payload.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(32_u32.to_ne_bytes());
        out.extend(self.flags.bits().to_ne_bytes());
        out.extend(self.offset.to_ne_bytes());
        out.extend(self.iova.to_ne_bytes());
        out.extend(self.size.to_ne_bytes());
    }
}

/// What DMA_UNMAP takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaUnmap {
    /// One mapping, exactly as it was mapped.
    One {
        /// Its first address.
        iova: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// Every mapping; QEMU sends it with address and size 0.
    All,
}

impl DmaUnmap {
    /// Bytes of the payload, in the request and in the reply.
    pub const LEN: usize = 24;
    const ALL: u32 = 1 << 1;

    /// Parses a payload: `u32 argsz, u32 flags, u64 iova, u64 size`.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        check_argsz(reader.u32()?, Self::LEN)?;
        let flags = reader.u32()?;
        let (iova, size) = (reader.u64()?, reader.u64()?);
        match flags {
            0 => {
                reader.end()?;
                Ok(Self::One { iova, size })
            }
            Self::ALL if iova == 0 && size == 0 => {
                reader.end()?;
                Ok(Self::All)
            }
            Self::ALL => Err(Malformed::Range),
            // Bit 0 asks for the dirty bitmap; tracking is not offered.
            _ => Err(Malformed::Flags(flags)),
        }
    }

    /// Appends the payload.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let (flags, iova, size) = match *self {
            Self::One { iova, size } => (0, iova, size),
            Self::All => (Self::ALL, 0, 0),
        };
        out.extend(24_u32.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend(iova.to_ne_bytes());
        out.extend(size.to_ne_bytes());
    }
}

/// DMA_READ and DMA_WRITE, sent by the server: `u64 address, u64 count`, then the data.
///
/// QEMU before 11 had a 32-bit count here, and so the data four bytes earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaAccess {
    /// Guest address.
    pub address: u64,
    /// Bytes.
    pub count: u64,
}

impl DmaAccess {
    /// Bytes before the data.
    pub const LEN: usize = 16;

    /// Splits a payload into the access and the bytes after it.
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(payload);
        let access = Self {
            address: reader.u64()?,
            count: reader.u64()?,
        };
        Ok((access, reader.rest()))
    }

    /// Appends the fixed part.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.address.to_ne_bytes());
        out.extend(self.count.to_ne_bytes());
    }
}
