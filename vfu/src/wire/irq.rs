//! DEVICE_GET_IRQ_INFO and DEVICE_SET_IRQS.

use std::os::fd::OwnedFd;

use super::{Malformed, Reader, check_argsz};

bitflags::bitflags! {
    /// `VFIO_IRQ_INFO_*` in `linux/vfio.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IrqFlags: u32 {
        /// An eventfd can be set.
        const EVENTFD = 1 << 0;
        /// MASK and UNMASK work.
        const MASKABLE = 1 << 1;
        /// Masked by the device each time it fires.
        const AUTOMASKED = 1 << 2;
        /// Vectors can only be changed all together.
        const NORESIZE = 1 << 3;
    }
}

/// `struct vfio_irq_info`: `u32 argsz, u32 flags, u32 index, u32 count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqInfo {
    /// What the client may do.
    pub flags: IrqFlags,
    /// Which group.
    pub index: u32,
    /// Vectors in it.
    pub count: u32,
}

impl IrqInfo {
    /// Bytes of the structure.
    pub const LEN: usize = 16;

    /// Parses a request: the index of the group it asks for.
    pub fn parse_request(payload: &[u8]) -> Result<u32, Malformed> {
        Self::parse(payload).map(|info| info.index)
    }

    /// Parses a reply.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        check_argsz(reader.u32()?, Self::LEN)?;
        Ok(Self {
            flags: IrqFlags::from_bits_retain(reader.u32()?),
            index: reader.u32()?,
            count: reader.u32()?,
        })
    }

    /// Appends the structure.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.extend(16_u32.to_ne_bytes());
        out.extend(self.flags.bits().to_ne_bytes());
        out.extend(self.index.to_ne_bytes());
        out.extend(self.count.to_ne_bytes());
    }
}

/// What SET_IRQS does; `VFIO_IRQ_SET_ACTION_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IrqAction {
    Mask = 1 << 3,
    Unmask = 1 << 4,
    Trigger = 1 << 5,
}

/// What SET_IRQS does it with; `VFIO_IRQ_SET_DATA_*`.
#[derive(Debug)]
pub enum IrqData<'a> {
    /// All of the vectors.
    None,
    /// Those vectors whose byte is not 0.
    Bool(&'a [u8]),
    /// An eventfd for each vector; `None` takes the one that is there away.
    Eventfd(Vec<Option<OwnedFd>>),
}

/// `struct vfio_irq_set`: `u32 argsz, u32 flags, u32 index, u32 start, u32 count`, then data.
#[derive(Debug)]
pub struct SetIrqs<'a> {
    /// Which group.
    pub index: u32,
    /// The first vector.
    pub start: u32,
    /// How many. 0 with TRIGGER and no data switches the group off.
    pub count: u32,
    /// What to do.
    pub action: IrqAction,
    /// What to do it with. Holds `count` entries, unless it is `None`.
    pub data: IrqData<'a>,
}

impl<'a> SetIrqs<'a> {
    /// Bytes of the fixed part.
    pub const LEN: usize = 20;
    /// Most vectors of one message: what MSI-X can have. A bound on what is allocated.
    pub const MAX_VECTORS: u32 = 2048;
    const DATA_MASK: u32 = 7;
    const DATA_NONE: u32 = 1 << 0;
    const DATA_BOOL: u32 = 1 << 1;
    const DATA_EVENTFD: u32 = 1 << 2;

    /// Parses a payload. The eventfds are those that came with the message.
    pub fn parse(payload: &'a [u8], fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        check_argsz(reader.u32()?, Self::LEN)?;
        let flags = reader.u32()?;
        let (index, start, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if count > Self::MAX_VECTORS || start.checked_add(count).is_none() {
            return Err(Malformed::Range);
        }
        let action = [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger]
            .into_iter()
            .find(|action| *action as u32 == flags & !Self::DATA_MASK)
            .ok_or(Malformed::Flags(flags))?;
        let data = match flags & Self::DATA_MASK {
            Self::DATA_EVENTFD => IrqData::Eventfd(Self::assign(count, reader, fds)?),
            _ if !fds.is_empty() => return Err(Malformed::Fds(fds.len(), "none")),
            Self::DATA_NONE => IrqData::None,
            Self::DATA_BOOL => {
                let count = usize::try_from(count).map_err(|_| Malformed::Range)?;
                IrqData::Bool(reader.bytes(count)?)
            }
            _ => return Err(Malformed::Flags(flags)),
        };
        Ok(Self {
            index,
            start,
            count,
            action,
            data,
        })
    }

    /// Gives each vector its eventfd: one each, or none at all.
    ///
    /// Alioth sends an `i32` for each vector as well, and -1 for one that has no eventfd.
    fn assign(
        count: u32,
        mut array: Reader<'_>,
        fds: Vec<OwnedFd>,
    ) -> Result<Vec<Option<OwnedFd>>, Malformed> {
        let mismatch = Malformed::Fds(fds.len(), "one for each vector, or none");
        let has_array = !array.rest().is_empty();
        let has_fds = !fds.is_empty();
        let mut fds = fds.into_iter();
        let mut assigned = Vec::new();
        for _ in 0..count {
            let is_set = if has_array {
                array.u32()?.cast_signed() >= 0
            } else {
                has_fds
            };
            assigned.push(if is_set {
                Some(fds.next().ok_or(mismatch)?)
            } else {
                None
            });
        }
        match fds.next() {
            None => Ok(assigned),
            Some(_) => Err(mismatch),
        }
    }

    /// Appends the payload. The eventfds travel beside it; where only some vectors have one, an
    /// array says which.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let array;
        let (data_flag, data): (u32, &[u8]) = match &self.data {
            IrqData::None => (Self::DATA_NONE, &[]),
            IrqData::Bool(bytes) => (Self::DATA_BOOL, bytes),
            IrqData::Eventfd(fds) => {
                array = Self::array(fds);
                (Self::DATA_EVENTFD, &array)
            }
        };
        let argsz = u32::try_from(data.len())
            .unwrap_or(u32::MAX)
            .saturating_add(20);
        out.extend(argsz.to_ne_bytes());
        out.extend((self.action as u32 | data_flag).to_ne_bytes());
        out.extend(self.index.to_ne_bytes());
        out.extend(self.start.to_ne_bytes());
        out.extend(self.count.to_ne_bytes());
        out.extend(data);
    }

    /// Alioth's array: for each vector its place among the eventfds, or -1. Empty where all have
    /// one, or none has.
    fn array(fds: &[Option<OwnedFd>]) -> Vec<u8> {
        let is_mixed = fds.iter().any(Option::is_some) && fds.iter().any(Option::is_none);
        let mut places = 0_i32..;
        let place = |fd: &Option<OwnedFd>| fd.as_ref().and_then(|_| places.next()).unwrap_or(-1);
        let array = fds.iter().map(place);
        array
            .filter(|_| is_mixed)
            .flat_map(i32::to_ne_bytes)
            .collect()
    }
}
