//! The device: 256 bytes of config space, some of which can be written.

use super::Fault;

/// Where what is written stays: the command register and the interrupt line.
const WRITABLE: [usize; 2] = [0x04, 0x3c];
const SIZE: usize = 256;

pub(crate) struct Device {
    fault: Option<Fault>,
    config: [u8; SIZE],
    /// Written, and not yet done.
    pub(crate) late: Vec<(u64, Vec<u8>)>,
}

impl Device {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        let mut config = [0; SIZE];
        config[..4].copy_from_slice(&[0xfe, 0xff, 1, 0]);
        Self {
            fault,
            config,
            late: Vec::new(),
        }
    }

    pub(crate) fn reset(&mut self) {
        if self.fault != Some(Fault::ForgetsItsReset) {
            *self = Self::new(self.fault);
        }
    }

    /// The part of config space that an access is to, if there is one.
    fn range(offset: u64, count: u32) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(count as usize)?;
        (count > 0 && end <= SIZE).then_some(start..end)
    }

    pub(crate) fn read(&self, offset: u64, count: u32) -> Option<Vec<u8>> {
        match Self::range(offset, count) {
            Some(range) => Some(self.config[range].to_vec()),
            None if self.fault == Some(Fault::ReadsPastTheEnd) && count < 0x10_0000 => {
                Some(vec![0; count as usize])
            }
            None => None,
        }
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Option<()> {
        let range = Self::range(offset, u32::try_from(data.len()).ok()?)?;
        if self.fault != Some(Fault::DropsWrites) {
            for (at, byte) in range.zip(data) {
                if WRITABLE.contains(&at) {
                    self.config[at] = *byte;
                }
            }
        }
        Some(())
    }
}
