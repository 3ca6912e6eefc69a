//! A driver of a virtio GPU that costs as little as a driver can: its memory is mapped here and
//! there, a request is some stores and a posted message, and the answer is seen in memory.

#![expect(
    unsafe_code,
    reason = "memory that a server writes to is reached by pointers"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::raw_client::{RawClient, Wait};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The control queue: how long, and where its parts, its requests and its answers lie.
const SIZE: u16 = 256;
const TABLE: usize = 0x1000;
const AVAILABLE: usize = 0x2000;
const USED: usize = 0x3000;
const REQUESTS: usize = 0x10_0000;
const ANSWERS: usize = 0x20_0000;
const SLOT: usize = 0x1000;
/// From here on memory is the caller's.
pub(crate) const FREE: usize = 0x40_0000;

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Registers, of which the specification tells.
const REGISTERS: u32 = 0;
const CONFIG_SPACE: u32 = 7;
const STATUS: u64 = 0x14;
const NOTIFY: u64 = 0x3000;
const EVENT_IDX: u32 = 1 << 29;

/// Shared memory, mapped and touched.
pub(crate) struct Ram {
    pub(crate) file: OwnedFd,
    base: NonNull<u8>,
    len: usize,
}

impl Ram {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let file = memfd_create("bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, len as u64)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe { mmap(ptr::null_mut(), len, access, flags, &file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { file, base, len })
    }

    fn at(&self, at: usize, len: usize) -> *mut u8 {
        assert!(at + len <= self.len, "{len} bytes at {at:#x}");
        // SAFETY: it lies in the mapping.
        unsafe { self.base.as_ptr().add(at) }
    }

    fn word(&self, at: usize) -> &AtomicU16 {
        assert!(at.is_multiple_of(2));
        // SAFETY: it is aligned, lies in the mapping, and whoever else writes it does so whole.
        unsafe { AtomicU16::from_ptr(self.at(at, 2).cast()) }
    }

    pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
        // SAFETY: they lie in the mapping, and nobody forms references to them.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.at(at, bytes.len()), bytes.len()) }
    }

    pub(crate) fn look<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        // SAFETY: as in `put`.
        unsafe { ptr::copy_nonoverlapping(self.at(at, N), bytes.as_mut_ptr(), N) };
        bytes
    }

    /// `memcpy`, from here to there.
    pub(crate) fn copy_to(&self, from: usize, other: &Self, to: usize, len: usize) {
        let (from, to) = (self.at(from, len), other.at(to, len));
        // SAFETY: both lie in mappings, which are not the same.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `new` mapped.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The driver, of the control queue alone.
pub(crate) struct GpuDriver {
    client: RawClient,
    pub(crate) ram: Ram,
    interrupt: OwnedFd,
    sent: u16,
    /// Up to where the device was told, or did not want to be.
    told: u16,
    /// How often it was told.
    pub(crate) notifications: u64,
}

impl GpuDriver {
    /// Sets the device up.
    pub(crate) fn new(mut client: RawClient, len: usize) -> io::Result<Self> {
        let ram = Ram::new(len)?;
        client.map(&ram.file, 0, 0, len as u64)?;
        client.write(CONFIG_SPACE, 4, &[6, 0])?;
        let interrupt = eventfd(0, EventfdFlags::CLOEXEC)?;
        client.set_first_vector(&interrupt)?;
        let places = [TABLE, AVAILABLE, USED].map(|at| (at as u64).to_le_bytes());
        let [table, available, used] = &places;
        let setup: [(u64, &[u8]); 15] = [
            (STATUS, &[0]),
            (STATUS, &[3]),
            (8, &[0, 0, 0, 0]),
            (0xc, &EVENT_IDX.to_le_bytes()),
            (8, &[1, 0, 0, 0]),
            (0xc, &[1, 0, 0, 0]),
            (STATUS, &[11]),
            (0x16, &[0, 0]),
            (0x18, &SIZE.to_le_bytes()),
            (0x1a, &[0, 0]),
            (0x20, table),
            (0x28, available),
            (0x30, used),
            (0x1c, &[1, 0]),
            (STATUS, &[15]),
        ];
        for (register, value) in setup {
            client.write(REGISTERS, register, value)?;
        }
        Ok(Self {
            client,
            ram,
            interrupt,
            sent: 0,
            told: 0,
            notifications: 0,
        })
    }

    fn slot(&self, position: u16) -> usize {
        usize::from(position % (SIZE / 2))
    }

    /// Puts a command into the ring, with room for an answer.
    pub(crate) fn offer(&mut self, command: &[u8], room: u32) {
        let slot = self.slot(self.sent);
        let (request, answer) = (REQUESTS + slot * SLOT, ANSWERS + slot * SLOT);
        self.ram.put(request, command);
        let head = 2 * slot;
        let descriptors = [
            (request, command.len() as u32, NEXT, head as u16 + 1),
            (answer, room, WRITE, 0),
        ];
        for (number, (at, len, flags, next)) in (head..).zip(descriptors) {
            let mut bytes = (at as u64).to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            self.ram.put(TABLE + 16 * number, &bytes);
        }
        let entry = AVAILABLE + 4 + 2 * usize::from(self.sent % SIZE);
        self.ram.put(entry, &(head as u16).to_le_bytes());
        self.sent = self.sent.wrapping_add(1);
        let index = self.ram.word(AVAILABLE + 2);
        index.store(self.sent, Ordering::Release);
    }

    /// Tells the device of what was offered, if it wants to know.
    pub(crate) fn kick(&mut self) -> io::Result<()> {
        fence(Ordering::SeqCst);
        let event = self.ram.word(USED + 4 + 8 * usize::from(SIZE));
        let event = event.load(Ordering::Relaxed);
        let (new, old) = (self.sent, self.told);
        self.told = new;
        if new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old) {
            self.notifications += 1;
            self.client.post(REGISTERS, NOTIFY, &[0, 0])?;
        }
        Ok(())
    }

    /// Waits until all is answered.
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let begin = Instant::now();
        // An interrupt is wanted for the last.
        let wanted = self.ram.word(AVAILABLE + 4 + 2 * usize::from(SIZE));
        wanted.store(self.sent.wrapping_sub(1), Ordering::SeqCst);
        let mut looked = 0_u32;
        while self.ram.word(USED + 2).load(Ordering::Acquire) != self.sent {
            match wait {
                Wait::Poll => std::hint::spin_loop(),
                Wait::Sleep => {
                    rustix::io::read(&self.interrupt, &mut [0; 8])?;
                }
            }
            looked = looked.wrapping_add(1);
            if looked.is_multiple_of(1 << 16) && begin.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// One command, which is to be answered so.
    pub(crate) fn ask(&mut self, command: &[u8], answer: u32) -> io::Result<()> {
        let slot = self.slot(self.sent);
        self.offer(command, 1080);
        self.kick()?;
        self.wait(Wait::Poll)?;
        self.check(slot, answer)
    }

    /// What the last command was answered.
    pub(crate) fn check_last(&self, answer: u32) -> io::Result<()> {
        self.check(self.slot(self.sent.wrapping_sub(1)), answer)
    }

    fn check(&self, slot: usize, answer: u32) -> io::Result<()> {
        match u32::from_le_bytes(self.ram.look(ANSWERS + slot * SLOT)) {
            found if found == answer => Ok(()),
            found => Err(io::Error::other(format!("answered {found:#x}"))),
        }
    }
}

/// A command of the GPU, and its words.
pub(crate) fn command(number: u32, words: &[u32]) -> Vec<u8> {
    let header = [number, 0, 0, 0, 0, 0];
    let all = header.iter().chain(words);
    all.flat_map(|word| word.to_le_bytes()).collect()
}
