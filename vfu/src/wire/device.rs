//! DEVICE_GET_INFO.

use super::{Malformed, Reader, check_argsz};

bitflags::bitflags! {
    /// `VFIO_DEVICE_FLAGS_*` in `linux/vfio.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceFlags: u32 {
        /// DEVICE_RESET does something.
        const RESET = 1 << 0;
        /// Regions and interrupts are those of a PCI device.
        const PCI = 1 << 1;
    }
}

/// `struct vfio_device_info`: `u32 argsz, u32 flags, u32 num_regions, u32 num_irqs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What kind of device this is.
    pub flags: DeviceFlags,
    /// One more than the largest region index.
    pub num_regions: u32,
    /// One more than the largest interrupt index.
    pub num_irqs: u32,
}

impl DeviceInfo {
    /// Bytes of the structure.
    pub const LEN: usize = 16;

    /// Checks a request, whose fields after `argsz` say nothing.
    ///
    /// The client of the crate `vfio_user` counts the header into `argsz`: more is not less.
    pub fn parse_request(payload: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(payload);
        check_argsz(reader.u32()?, Self::LEN)?;
        reader.bytes(12).map(drop)
    }

    /// Parses a reply.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        check_argsz(reader.u32()?, Self::LEN)?;
        Ok(Self {
            flags: DeviceFlags::from_bits_retain(reader.u32()?),
            num_regions: reader.u32()?,
            num_irqs: reader.u32()?,
        })
    }

    /// Appends the structure.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(16_u32.to_ne_bytes());
        out.extend(self.flags.bits().to_ne_bytes());
        out.extend(self.num_regions.to_ne_bytes());
        out.extend(self.num_irqs.to_ne_bytes());
    }
}
