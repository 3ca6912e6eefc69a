//! The calls of the kernel's VFIO, and the memory that they are made with.

#![expect(
    unsafe_code,
    reason = "an ioctl tells the kernel a pointer, which it reads and writes through"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
};

/// A structure of the kernel's that begins with its own size, `argsz`.
///
/// Fields are read and written by their offset in the structures of `vfio-bindings`; past the end
/// there are zeroes.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    /// Words, since the kernel's structures begin at multiples of eight.
    words: Vec<u64>,
    /// Bytes: what `argsz` says.
    len: u32,
}

impl Argument {
    /// Zeroes, `len` bytes of them.
    pub(super) fn new(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(8)],
            // What is asked of the kernel here is small.
            len: u32::try_from(len).unwrap_or(u32::MAX),
        }
    }

    /// The same fields, and room for what the kernel has said would have gone in.
    pub(super) fn grown(mut self, len: u32) -> Self {
        self.len = self.len.max(len);
        self.words.resize((self.len as usize).div_ceil(8), 0);
        self
    }

    /// Bytes that it is long.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn u16(&self, at: usize) -> u16 {
        u16::from_ne_bytes(self.bytes(at))
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(at))
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(at))
    }

    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        self.set(at, value.to_ne_bytes());
    }

    #[cfg(test)]
    pub(super) fn set_u64(&mut self, at: usize, value: u64) {
        self.set(at, value.to_ne_bytes());
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|n| {
            let at = at.saturating_add(n);
            let word = self.words.get(at / 8).copied().unwrap_or_default();
            word.to_ne_bytes()[at % 8]
        })
    }

    fn set<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        for (n, byte) in value.into_iter().enumerate() {
            let at = at + n;
            if let Some(word) = self.words.get_mut(at / 8) {
                let mut bytes = word.to_ne_bytes();
                bytes[at % 8] = byte;
                *word = u64::from_ne_bytes(bytes);
            }
        }
    }
}

/// Calls whose argument is an [`Argument`], and that touch no other memory of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    GroupStatus = 3,
    DeviceInfo = 7,
    RegionInfo = 8,
    IrqInfo = 9,
    SetIrqs = 10,
    IommuInfo = 12,
}

/// Calls whose argument is a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbered {
    ApiVersion = 0,
    CheckExtension = 1,
    SetIommu = 2,
    DeviceReset = 11,
}

const SET_CONTAINER: u32 = 4;
const GET_DEVICE_FD: u32 = 6;
const MAP_DMA: u32 = 13;
const UNMAP_DMA: u32 = 14;

/// Makes a call with an argument, which says what it is said to be long.
pub(super) fn ask(fd: &OwnedFd, request: Request, argument: &mut Argument) -> io::Result<()> {
    argument.set_u32(0, argument.len);
    let pointer = argument.words.as_mut_ptr();
    // SAFETY: the argument is as long as its `argsz` says, which is all that the kernel reads and
    // writes; these calls follow no pointer in it.
    unsafe { call(fd, request as u32, pointer as usize) }.map(drop)
}

/// Makes a call with a number.
pub(super) fn tell(fd: &OwnedFd, request: Numbered, number: u32) -> io::Result<RawFd> {
    // SAFETY: these calls take the argument for a number.
    unsafe { call(fd, request as u32, number as usize) }
}

/// Puts a group into a container.
pub(super) fn set_container(group: &OwnedFd, container: BorrowedFd<'_>) -> io::Result<()> {
    let number = container.as_raw_fd();
    // SAFETY: the kernel reads one `int`.
    unsafe { call(group, SET_CONTAINER, ptr::from_ref(&number) as usize) }.map(drop)
}

/// Opens the device of that name in a group.
pub(super) fn device_fd(group: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads a string up to its end.
    let fd = unsafe { call(group, GET_DEVICE_FD, name.as_ptr() as usize) }?;
    // SAFETY: the kernel has just made it, for us alone. It closes on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Gives devices access to memory.
///
/// # Safety
///
/// Until it is unmapped, devices may read what is at `vaddr` at any time and, if the argument lets
/// them, write it: it must be memory that is accessed as volatile alone.
pub(super) unsafe fn map_dma(
    container: &OwnedFd,
    mut argument: vfio_iommu_type1_dma_map,
) -> io::Result<()> {
    argument.argsz = size_of_val(&argument) as u32;
    let pointer = ptr::from_mut(&mut argument);
    // SAFETY: the argument is as long as its `argsz` says; for the memory that it names the caller
    // answers.
    unsafe { call(container, MAP_DMA, pointer.expose_provenance()) }.map(drop)
}

/// Takes memory from devices, whatever was mapped within `size` bytes from `iova`, or what `flags`
/// say. Returns how many bytes that was.
pub(super) fn unmap_dma(container: &OwnedFd, flags: u32, iova: u64, size: u64) -> io::Result<u64> {
    let mut argument = vfio_iommu_type1_dma_unmap {
        argsz: size_of::<vfio_iommu_type1_dma_unmap>() as u32,
        flags,
        iova,
        size,
        ..Default::default()
    };
    let pointer = ptr::from_mut(&mut argument);
    // SAFETY: the argument is as long as its `argsz` says, and asks for nothing behind it: whatever
    // `flags` say, there is no room.
    unsafe { call(container, UNMAP_DMA, pointer.expose_provenance()) }?;
    Ok(argument.size)
}

struct Call {
    number: u32,
    argument: usize,
}

/// # Safety
///
/// The argument is what the kernel takes it for.
unsafe fn call(fd: &OwnedFd, number: u32, argument: usize) -> io::Result<RawFd> {
    let call = Call { number, argument };
    // SAFETY: the opcode is VFIO's own, and for the argument the caller answers.
    Ok(unsafe { rustix::ioctl::ioctl(fd.as_fd(), call) }?)
}

// SAFETY: it says of itself what it is: an opcode, and an argument that the kernel may write to.
unsafe impl Ioctl for Call {
    type Output = RawFd;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        // Numbers from 100 on, of one byte.
        opcode::none(VFIO_TYPE, (VFIO_BASE + self.number) as u8)
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        ptr::with_exposed_provenance_mut(self.argument)
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _argument: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<RawFd> {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_they_are_put_and_nothing_lies_past_the_end() {
        let mut argument = Argument::new(20);
        argument.set_u32(4, 0x1122_3344);
        argument.set_u64(8, 0x5566_7788_99aa_bbcc);
        argument.set_u32(16, 0xddee_ff00);
        assert_eq!(argument.u32(4), 0x1122_3344);
        assert_eq!(argument.u64(8), 0x5566_7788_99aa_bbcc);
        assert_eq!(argument.u32(16), 0xddee_ff00);
        assert_eq!(argument.u16(16), 0xff00);
        assert_eq!((argument.u32(0), argument.u64(64)), (0, 0));
        let grown = argument.grown(64);
        assert_eq!((grown.len(), grown.u32(4)), (64, 0x1122_3344));
        assert_eq!(grown.grown(8).len(), 64);
    }

    #[test]
    fn a_call_on_what_is_no_vfio_file_is_refused() {
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut argument = Argument::new(16);
        let error = ask(&null, Request::DeviceInfo, &mut argument).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(argument.u32(0), 16);
        let error = tell(&null, Numbered::ApiVersion, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert!(device_fd(&null, c"0000:00:00.0").is_err());
    }
}
