//! REGION_READ, REGION_WRITE, REGION_WRITE_MULTI: the device's registers.

use super::{Malformed, Reader};

/// The head of a region access: `u64 offset, u32 region, u32 count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionAccess {
    /// Where in the region.
    pub offset: u64,
    /// Which region.
    pub region: u32,
    /// Bytes.
    pub count: u32,
}

impl RegionAccess {
    /// Bytes before the data.
    pub const LEN: usize = 16;

    /// Splits a payload into the access and the bytes after it.
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(payload);
        let access = Self {
            offset: reader.u64()?,
            region: reader.u32()?,
            count: reader.u32()?,
        };
        Ok((access, reader.rest()))
    }

    /// Parses the payload of a read, which has no data.
    pub fn parse_read(payload: &[u8]) -> Result<Self, Malformed> {
        let (access, rest) = Self::parse(payload)?;
        if rest.is_empty() {
            Ok(access)
        } else {
            Err(Malformed::TooLong)
        }
    }

    /// Parses the payload of a write: exactly `count` bytes of data follow.
    pub fn parse_write(payload: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (access, data) = Self::parse(payload)?;
        let count = usize::try_from(access.count).map_err(|_| Malformed::Range)?;
        match data.len().cmp(&count) {
            std::cmp::Ordering::Less => Err(Malformed::Short),
            std::cmp::Ordering::Greater => Err(Malformed::TooLong),
            std::cmp::Ordering::Equal => Ok((access, data)),
        }
    }

    /// Appends the fixed part.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.offset.to_ne_bytes());
        out.extend(self.region.to_ne_bytes());
        out.extend(self.count.to_ne_bytes());
    }
}

/// REGION_WRITE_MULTI: `u64 count`, then that many writes of at most 8 bytes each.
///
/// Every entry was checked when the message was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteMulti<'a> {
    entries: &'a [u8],
}

impl<'a> WriteMulti<'a> {
    /// Bytes of one entry: `u64 offset, u32 region, u32 count, u8 data[8]`.
    pub const ENTRY_LEN: usize = 24;
    /// Most bytes that one entry writes.
    pub const MAX_DATA: usize = 8;

    /// Parses a payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let announced = reader.u64()?;
        let multi = Self {
            entries: reader.rest(),
        };
        if !multi.entries.len().is_multiple_of(Self::ENTRY_LEN) {
            return Err(Malformed::Short);
        }
        let present = multi.entries.chunks_exact(Self::ENTRY_LEN).len();
        if u64::try_from(present) != Ok(announced) {
            return Err(Malformed::Range);
        }
        for entry in multi.entries.chunks_exact(Self::ENTRY_LEN) {
            Self::parse_entry(entry)?;
        }
        Ok(multi)
    }

    fn parse_entry(entry: &'a [u8]) -> Result<(RegionAccess, &'a [u8]), Malformed> {
        let (access, data) = RegionAccess::parse(entry)?;
        let count = usize::try_from(access.count).map_err(|_| Malformed::Range)?;
        let data = data.get(..count).ok_or(Malformed::Range)?;
        Ok((access, data))
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.entries.chunks_exact(Self::ENTRY_LEN).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The writes, in order.
    pub fn writes(&self) -> impl Iterator<Item = (RegionAccess, &'a [u8])> + use<'a> {
        self.entries
            .chunks_exact(Self::ENTRY_LEN)
            .filter_map(|entry| Self::parse_entry(entry).ok())
    }

    /// Appends a payload of these writes; data past 8 bytes is cut.
    pub fn emit(writes: &[(RegionAccess, &[u8])], out: &mut Vec<u8>) {
        out.extend(
            u64::try_from(writes.len())
                .unwrap_or(u64::MAX)
                .to_ne_bytes(),
        );
        for (access, data) in writes {
            access.emit(out);
            let padding = std::iter::repeat(&0);
            out.extend(data.iter().chain(padding).take(Self::MAX_DATA));
        }
    }
}
