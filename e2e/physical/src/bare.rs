//! The kernel's VFIO without anything of ours: what the bench measures us against.

#![expect(
    unsafe_code,
    reason = "the kernel is told addresses of this process, for a device to reach"
)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::Failure;

const SET_IOMMU: Opcode = opcode::none(b';', 102);
const SET_CONTAINER: Opcode = opcode::none(b';', 104);
const MAP_DMA: Opcode = opcode::none(b';', 113);
const UNMAP_DMA: Opcode = opcode::none(b';', 114);

const TYPE1_V2: usize = 3;
const READ_AND_WRITE: u32 = 3;

/// `struct vfio_iommu_type1_dma_map`.
#[repr(C)]
struct Map {
    size: u32,
    flags: u32,
    memory: u64,
    address: u64,
    len: u64,
}

/// `struct vfio_iommu_type1_dma_unmap`.
#[repr(C)]
struct Unmap {
    size: u32,
    flags: u32,
    address: u64,
    len: u64,
}

/// A group of devices in an address space of its own, and memory to map there.
pub(crate) struct Bare {
    container: File,
    _group: File,
    /// Where the memory is in this process, for as long as that lives.
    memory: u64,
}

impl Bare {
    pub(crate) fn new(group: u32, memory: &OwnedFd, len: usize) -> Result<Self, Failure> {
        let open = |path: &str| File::options().read(true).write(true).open(path);
        let container = open("/dev/vfio/vfio")?;
        let group = open(&format!("/dev/vfio/{group}"))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: VFIO's own opcodes: the first takes a pointer to a descriptor, the second a number.
        // The kernel chooses where the memory is mapped.
        let memory = unsafe {
            ioctl(
                &group,
                Setter::<SET_CONTAINER, i32>::new(container.as_raw_fd()),
            )?;
            ioctl(&container, IntegerSetter::<SET_IOMMU>::new_usize(TYPE1_V2))?;
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                memory,
                0,
            )?
        };
        Ok(Self {
            container,
            _group: group,
            memory: memory as u64,
        })
    }

    /// Maps so many bytes of the memory, and unmaps them.
    pub(crate) fn map_and_unmap(&self, address: u64, len: u64) -> Result<(), Failure> {
        let mut map = Map {
            size: u32::try_from(size_of::<Map>())?,
            flags: READ_AND_WRITE,
            memory: self.memory,
            address,
            len,
        };
        let mut unmap = Unmap {
            size: u32::try_from(size_of::<Unmap>())?,
            flags: 0,
            address,
            len,
        };
        // SAFETY: VFIO's own opcodes and structures. The memory is mapped until the process ends, no
        // reference into it is formed, and no device of the group is open.
        unsafe {
            ioctl(&self.container, Updater::<MAP_DMA, Map>::new(&mut map))?;
            ioctl(
                &self.container,
                Updater::<UNMAP_DMA, Unmap>::new(&mut unmap),
            )?;
        }
        match unmap.len == len {
            true => Ok(()),
            false => Err("not all of it was mapped".into()),
        }
    }
}
