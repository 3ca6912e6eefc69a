//! DEVICE_FEATURE: migration and the log of DMA writes, each a feature to probe, get or set.

use super::migration::MigState;
use super::{Malformed, Reader, check_argsz};

/// The features that the protocol has; specification, section "Device Features".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Feature {
    Migration = 1,
    MigDeviceState = 2,
    DmaLoggingStart = 6,
    DmaLoggingStop = 7,
    DmaLoggingReport = 8,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Migration,
        Self::MigDeviceState,
        Self::DmaLoggingStart,
        Self::DmaLoggingStop,
        Self::DmaLoggingReport,
    ];

    /// What can be done with it.
    pub fn methods(self) -> FeatureFlags {
        match self {
            Self::Migration | Self::DmaLoggingReport => FeatureFlags::GET,
            Self::MigDeviceState => FeatureFlags::GET | FeatureFlags::SET,
            Self::DmaLoggingStart | Self::DmaLoggingStop => FeatureFlags::SET,
        }
    }
}

impl TryFrom<u16> for Feature {
    type Error = Malformed;

    fn try_from(index: u16) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|feature| *feature as u16 == index)
            .ok_or(Malformed::Feature(index))
    }
}

bitflags::bitflags! {
    /// What is to be done with a feature; `VFIO_DEVICE_FEATURE_*` in `linux/vfio.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FeatureFlags: u32 {
        /// The feature's data are asked for.
        const GET = 1 << 16;
        /// The feature's data are given.
        const SET = 1 << 17;
        /// Nothing is done; the answer tells whether it could be.
        const PROBE = 1 << 18;
    }
}

/// The head of a request and of a reply: `u32 argsz, u32 flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureHead {
    /// In a request the most payload that the reply may have; in a reply what it has.
    pub argsz: u32,
    /// Which feature.
    pub feature: Feature,
    /// What to do with it.
    pub flags: FeatureFlags,
}

impl FeatureHead {
    /// Bytes before the feature's data.
    pub const LEN: usize = 8;
    const INDEX: u32 = 0xffff;

    /// Splits a payload into the head and the feature's data.
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(payload);
        let argsz = check_argsz(reader.u32()?, Self::LEN)?;
        let word = reader.u32()?;
        let index = u16::try_from(word & Self::INDEX).map_err(|_| Malformed::Range)?;
        let head = Self {
            argsz,
            feature: Feature::try_from(index)?,
            flags: FeatureFlags::from_bits(word & !Self::INDEX).ok_or(Malformed::Flags(word))?,
        };
        Ok((head, reader.rest()))
    }

    /// Appends the head.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(self.argsz.to_ne_bytes());
        out.extend((self.feature as u32 | self.flags.bits()).to_ne_bytes());
    }
}

/// What DEVICE_FEATURE asks, once it is known that the reply fits what the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFeature<'a> {
    /// Whether a feature is there, for the methods in the head. The answer is the request.
    Probe {
        /// The feature and the methods.
        head: FeatureHead,
        /// Data that a probe has no use for; they are sent back.
        data: &'a [u8],
    },
    /// Which states the device knows.
    GetMigration,
    /// In which state it is.
    GetState,
    /// Which state it is to take.
    SetState(MigState),
    /// To note which pages it writes.
    StartLogging(DmaLogging<'a>),
    /// To note it no longer.
    StopLogging,
    /// Which pages it has written.
    ReportLogging(DmaReport),
}

impl<'a> DeviceFeature<'a> {
    /// Parses a payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let (head, data) = FeatureHead::parse(payload)?;
        let methods = head.flags.difference(FeatureFlags::PROBE);
        if !head.feature.methods().contains(methods) {
            return Err(Malformed::Flags(head.flags.bits()));
        }
        if head.flags.contains(FeatureFlags::PROBE) {
            check_argsz(head.argsz, payload.len())?;
            return Ok(Self::Probe { head, data });
        }
        // Of a feature with both methods one has to be chosen.
        if methods != FeatureFlags::GET && methods != FeatureFlags::SET {
            return Err(Malformed::Flags(head.flags.bits()));
        }
        let is_get = methods == FeatureFlags::GET;
        let (request, reply_len) = Self::parse_data(head.feature, is_get, data)?;
        let needed = FeatureHead::LEN.saturating_add(reply_len);
        check_argsz(head.argsz, needed)?;
        Ok(request)
    }

    /// The request, and how many bytes of data its reply has.
    fn parse_data(
        feature: Feature,
        is_get: bool,
        data: &'a [u8],
    ) -> Result<(Self, usize), Malformed> {
        let mut reader = Reader::new(data);
        let (request, reply_len) = match feature {
            // A client may leave room for the data that it asks for.
            Feature::Migration => return Ok((Self::GetMigration, 8)),
            Feature::MigDeviceState if is_get => return Ok((Self::GetState, MigState::LEN)),
            Feature::MigDeviceState => {
                let state = MigState::parse(&mut reader)?;
                (Self::SetState(state), MigState::LEN)
            }
            Feature::DmaLoggingStart => {
                return Ok((Self::StartLogging(DmaLogging::parse(data)?), data.len()));
            }
            Feature::DmaLoggingStop => (Self::StopLogging, 0),
            Feature::DmaLoggingReport => {
                let report = DmaReport::parse(&mut reader)?;
                let reply_len = report.reply_len()?;
                // Here too room may have been left, for the bitmap.
                return Ok((Self::ReportLogging(report), reply_len));
            }
        };
        reader.end()?;
        Ok((request, reply_len))
    }
}

/// DMA_LOGGING_START: `u64 page_size, u32 num_ranges, u32 reserved`, then the ranges, each
/// `u64 iova, u64 length`. None means everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaLogging<'a> {
    /// The granularity that the client would like; a power of two.
    pub page_size: u64,
    /// The ranges, each checked not to wrap and not to be empty.
    ranges: &'a [u8],
}

impl<'a> DmaLogging<'a> {
    /// Bytes before the ranges.
    pub const LEN: usize = 16;
    const RANGE_LEN: usize = 16;

    fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(data);
        let page_size = reader.u64()?;
        let announced = reader.u32()?;
        let _reserved = reader.u32()?;
        let ranges = reader.rest();
        let logging = Self { page_size, ranges };
        let present = ranges.chunks_exact(Self::RANGE_LEN);
        if !present.remainder().is_empty() {
            return Err(Malformed::Short);
        }
        let is_sound = |&(iova, length): &(u64, u64)| {
            length > 0 && iova.checked_add(length.wrapping_sub(1)).is_some()
        };
        if !page_size.is_power_of_two()
            || u32::try_from(present.len()) != Ok(announced)
            || !logging.ranges().all(|range| is_sound(&range))
        {
            return Err(Malformed::Range);
        }
        Ok(logging)
    }

    /// First address and length of each range.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.ranges
            .chunks_exact(Self::RANGE_LEN)
            .filter_map(|range| {
                let mut reader = Reader::new(range);
                Some((reader.u64().ok()?, reader.u64().ok()?))
            })
    }

    /// Appends the data of a reply: the request's, with the page size that was chosen.
    pub fn emit(&self, page_size: u64, out: &mut Vec<u8>) {
        let count = self.ranges.chunks_exact(Self::RANGE_LEN).len();
        out.extend(page_size.to_ne_bytes());
        out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_ne_bytes());
        out.extend([0; 4]);
        out.extend(self.ranges);
    }
}

/// DMA_LOGGING_REPORT: `u64 iova, u64 length, u64 page_size`; the reply has the bitmap after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaReport {
    /// The first address.
    pub iova: u64,
    /// Bytes; not 0, and not past the end of the address space.
    pub length: u64,
    /// Bytes that one bit stands for; a power of two.
    pub page_size: u64,
}

impl DmaReport {
    /// Bytes before the bitmap.
    pub const LEN: usize = 24;

    fn parse(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let report = Self {
            iova: reader.u64()?,
            length: reader.u64()?,
            page_size: reader.u64()?,
        };
        let last = report.length.checked_sub(1);
        last.and_then(|last| report.iova.checked_add(last))
            .filter(|_| report.page_size.is_power_of_two())
            .ok_or(Malformed::Range)?;
        Ok(report)
    }

    /// Bits of the bitmap.
    pub fn bits(&self) -> u64 {
        self.length.div_ceil(self.page_size)
    }

    fn reply_len(&self) -> Result<usize, Malformed> {
        usize::try_from(self.bits().div_ceil(64))
            .ok()
            .and_then(|words| words.checked_mul(8)?.checked_add(Self::LEN))
            .ok_or(Malformed::Range)
    }

    /// Appends the data, of the request, or of the reply with its bitmap.
    pub fn emit(&self, bitmap: &[u64], out: &mut Vec<u8>) {
        out.extend(self.iova.to_ne_bytes());
        out.extend(self.length.to_ne_bytes());
        out.extend(self.page_size.to_ne_bytes());
        for word in bitmap {
            out.extend(word.to_ne_bytes());
        }
    }
}
