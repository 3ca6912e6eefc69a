//! The guest's memory: a file that the device maps, and that the driver reaches by a mapping of its
//! own. The crate has no place for a handle to it, so there is one for all tests of this program.

#![expect(
    unsafe_code,
    reason = "the crate's driver is given pointers into the mapping"
)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Where it lies for the device: 0 is no address to the crate.
pub(crate) const START: u64 = 0x4000_0000;

const PAGES: usize = 0x4000;
pub(crate) const LEN: u64 = (PAGES * PAGE_SIZE) as u64;

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::new);

/// The file, its mapping, and which of its pages are taken.
struct Memory {
    file: OwnedFd,
    /// Where it is mapped, as long as the process lives.
    base: NonNull<u8>,
    taken: Mutex<Vec<bool>>,
}

// SAFETY: the mapping stays for good, and who has which page of it is decided under the lock.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new() -> Self {
        let file = memfd_create("driver", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, LEN).unwrap();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe { mmap(null_mut(), LEN as usize, access, MapFlags::SHARED, &file, 0) };
        Self {
            file,
            base: NonNull::new(base.unwrap().cast()).unwrap(),
            taken: Mutex::new(vec![false; PAGES]),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes pages in a row, zeroed.
    fn take(&self, count: usize) -> Option<(PhysAddr, NonNull<u8>)> {
        let mut taken = self.taken();
        let mut rows = taken.windows(count);
        let first = rows.position(|row| row.iter().all(|is_taken| !is_taken))?;
        taken[first..first + count].fill(true);
        let at = START + (first * PAGE_SIZE) as u64;
        let pointer = self.pointer(at);
        // SAFETY: the pages lie in the mapping, and nobody else has them.
        unsafe { pointer.write_bytes(0, count * PAGE_SIZE) };
        Some((at, pointer))
    }

    fn give_back(&self, at: PhysAddr, count: usize) {
        let first = (at - START) as usize / PAGE_SIZE;
        let mut taken = self.taken();
        let pages = &mut taken[first..first + count];
        assert!(pages.iter().all(|is_taken| *is_taken), "given back twice");
        pages.fill(false);
    }

    fn pointer(&self, at: PhysAddr) -> NonNull<u8> {
        assert!((START..START + LEN).contains(&at));
        // SAFETY: it lies in the mapping.
        unsafe { self.base.add((at - START) as usize) }
    }
}

/// The file behind it.
pub(crate) fn file() -> BorrowedFd<'static> {
    MEMORY.file.as_fd()
}

/// The memory, as the crate's drivers ask for it. Buffers of theirs lie anywhere, so they are copied
/// into it and out of it.
#[derive(Debug)]
pub(crate) struct Ram;

fn pages(len: usize) -> usize {
    len.div_ceil(PAGE_SIZE).max(1)
}

// SAFETY: pages are given to one at a time, aligned, zeroed, and mapped for as long as the process
// lives.
unsafe impl Hal for Ram {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        MEMORY.take(pages).unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(at: PhysAddr, _: NonNull<u8>, pages: usize) -> i32 {
        MEMORY.give_back(at, pages);
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("registers are reached by messages")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let (at, pointer) = MEMORY.take(pages(buffer.len())).expect("memory is left");
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the buffer is the driver's, and so many pages are ours.
            unsafe { pointer.copy_from_nonoverlapping(buffer.cast(), buffer.len()) };
        }
        at
    }

    unsafe fn unshare(at: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction != BufferDirection::DriverToDevice {
            let pointer = MEMORY.pointer(at);
            // SAFETY: as in `share`, and the device is done with it.
            unsafe { pointer.copy_to_nonoverlapping(buffer.cast(), buffer.len()) };
        }
        MEMORY.give_back(at, pages(buffer.len()));
    }
}
