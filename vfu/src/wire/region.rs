//! DEVICE_GET_REGION_INFO, with its capability chain.

use std::ops::Range;

use super::{Malformed, Reader, check_argsz};

bitflags::bitflags! {
    /// `VFIO_REGION_INFO_FLAG_*` in `linux/vfio.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RegionFlags: u32 {
        /// REGION_READ works.
        const READ = 1 << 0;
        /// REGION_WRITE works.
        const WRITE = 1 << 1;
        /// The file that came with the reply can be mapped.
        const MMAP = 1 << 2;
        /// A capability chain follows the fixed part.
        const CAPS = 1 << 3;
    }
}

/// A request for region info: which one, and how much reply fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfoRequest {
    /// Most bytes that the client takes.
    pub argsz: u32,
    /// Which region.
    pub index: u32,
}

impl RegionInfoRequest {
    /// Parses a payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let argsz = check_argsz(reader.u32()?, RegionInfo::LEN)?;
        let _flags = reader.u32()?;
        let index = reader.u32()?;
        reader.bytes(20)?;
        Ok(Self { argsz, index })
    }

    /// Appends the payload.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.argsz.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(self.index.to_ne_bytes());
        out.extend([0; 20]);
    }
}

/// `struct vfio_region_info`:
/// `u32 argsz, u32 flags, u32 index, u32 cap_offset, u64 size, u64 offset`, then capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// What the client may do. CAPS is set and unset by [`Self::emit`].
    pub flags: RegionFlags,
    /// Which region.
    pub index: u32,
    /// Bytes.
    pub size: u64,
    /// What to add to an offset in the region to find it in the file.
    pub offset: u64,
    /// The parts that can be mapped; empty if all of it can, or none.
    pub sparse: Vec<Range<u64>>,
}

impl RegionInfo {
    /// Bytes of the fixed part.
    pub const LEN: usize = 32;
    const CAP_SPARSE_MMAP: u16 = 1;
    /// `struct vfio_info_cap_header` and the two words that open a sparse area list.
    const SPARSE_HEAD: u32 = 16;
    const SPARSE_AREA: u32 = 16;

    /// Bytes of the whole structure, its capabilities included.
    pub fn argsz(&self) -> u32 {
        let fixed = 32_u32;
        if self.sparse.is_empty() {
            return fixed;
        }
        let areas = u32::try_from(self.sparse.len()).unwrap_or(u32::MAX);
        fixed
            .saturating_add(Self::SPARSE_HEAD)
            .saturating_add(areas.saturating_mul(Self::SPARSE_AREA))
    }

    /// Appends as much as fits a client that takes `argsz` bytes: all, or the fixed part.
    ///
    /// The fixed part alone carries the full `argsz`, and already where the capabilities will
    /// be: QEMU gives up if that is 0 while the CAPS flag is set.
    pub fn emit(&self, argsz: u32, out: &mut Vec<u8>) {
        let mut flags = self.flags.difference(RegionFlags::CAPS);
        let mut cap_offset = 0_u32;
        if !self.sparse.is_empty() {
            flags |= RegionFlags::CAPS;
            cap_offset = 32;
        }
        out.extend(self.argsz().to_ne_bytes());
        out.extend(flags.bits().to_ne_bytes());
        out.extend(self.index.to_ne_bytes());
        out.extend(cap_offset.to_ne_bytes());
        out.extend(self.size.to_ne_bytes());
        out.extend(self.offset.to_ne_bytes());
        if argsz >= self.argsz() && !self.sparse.is_empty() {
            self.emit_sparse(out);
        }
    }

    /// `struct vfio_region_info_cap_sparse_mmap`.
    fn emit_sparse(&self, out: &mut Vec<u8>) {
        let areas = u32::try_from(self.sparse.len()).unwrap_or(u32::MAX);
        out.extend(Self::CAP_SPARSE_MMAP.to_ne_bytes());
        out.extend(1_u16.to_ne_bytes()); // version
        out.extend(0_u32.to_ne_bytes()); // no next capability
        out.extend(areas.to_ne_bytes());
        out.extend(0_u32.to_ne_bytes());
        for area in &self.sparse {
            out.extend(area.start.to_ne_bytes());
            out.extend(area.end.saturating_sub(area.start).to_ne_bytes());
        }
    }

    /// Parses a reply, and tells the `argsz` that the whole of it needs.
    pub fn parse(payload: &[u8]) -> Result<(Self, u32), Malformed> {
        let mut reader = Reader::new(payload);
        let argsz = check_argsz(reader.u32()?, Self::LEN)?;
        let flags = RegionFlags::from_bits_retain(reader.u32()?);
        let index = reader.u32()?;
        let cap_offset = reader.u32()?;
        let mut info = Self {
            flags,
            index,
            size: reader.u64()?,
            offset: reader.u64()?,
            sparse: Vec::new(),
        };
        if flags.contains(RegionFlags::CAPS) && usize::try_from(argsz) == Ok(payload.len()) {
            info.sparse = Self::parse_capabilities(payload, cap_offset)?;
        }
        Ok((info, argsz))
    }

    /// Walks the chain from `offset`. Offsets must rise, so that it ends.
    fn parse_capabilities(payload: &[u8], offset: u32) -> Result<Vec<Range<u64>>, Malformed> {
        let mut at = offset;
        while at != 0 {
            let from = usize::try_from(at).map_err(|_| Malformed::Range)?;
            let mut reader = Reader::new(payload.get(from..).ok_or(Malformed::Range)?);
            let (id, _version, next) = (reader.u16()?, reader.u16()?, reader.u32()?);
            if id == Self::CAP_SPARSE_MMAP {
                return Self::parse_sparse(reader);
            }
            if next != 0 && next <= at {
                return Err(Malformed::Range);
            }
            at = next;
        }
        Ok(Vec::new())
    }

    fn parse_sparse(mut reader: Reader<'_>) -> Result<Vec<Range<u64>>, Malformed> {
        let count = reader.u32()?;
        reader.u32()?;
        let mut areas = Vec::new();
        for _ in 0..count {
            let (start, size) = (reader.u64()?, reader.u64()?);
            areas.push(start..start.checked_add(size).ok_or(Malformed::Range)?);
        }
        Ok(areas)
    }
}
