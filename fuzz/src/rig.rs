//! A virtio GPU and the memory of its guest, with no client between: registers are written as a
//! session writes them, and the thread that serves the queues runs as ever.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mdev::dma::{DmaLimits, GuestMemory};
use mdev::polling::Polling;
use mdev::region::RegionIndex;
use mdev::{Attributes, MediatedDevice, Services};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};

/// The guest's memory: so much is mapped, and before and behind it in the file as much that is not.
pub(crate) const RAM: u64 = 1 << 20;
pub(crate) const MARGIN: u64 = 1 << 16;

/// Queues, and how long each is at most.
pub(crate) const QUEUES: u16 = 2;
pub(crate) const SIZE: u16 = 16;

/// Where the parts of a queue lie, from its first.
pub(crate) const QUEUE: u64 = 0x4000;
pub(crate) const AVAILABLE: u64 = 0x1000;
pub(crate) const USED: u64 = 0x2000;

/// Registers.
pub(crate) const STATUS: u64 = 0x14;
pub(crate) const NOTIFY: u64 = 0x3000;

/// The device says that it needs a reset.
const NEEDS_RESET: u8 = 0x40;

/// Longer than any request takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

/// One descriptor: address, length, flags, the next.
pub(crate) type Descriptor = (u64, u32, u16, u16);

/// A device and its guest.
pub(crate) struct Rig {
    pub(crate) device: Box<dyn MediatedDevice>,
    pub(crate) memory: GuestMemory,
    ram: OwnedFd,
    is_mapped: bool,
    /// How many chains of each queue were put there.
    sent: [u16; QUEUES as usize],
}

/// What became of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// So many bytes were written.
    Used(u32),
    NeedsReset,
}

impl Rig {
    pub(crate) fn new(polling: Polling) -> Self {
        let mut services = Services::default();
        services.memory = GuestMemory::standing_alone(DmaLimits::default());
        services.polling = polling;
        let memory = services.memory.clone();
        let (driver, spec) = drivers::find_type("gpu-2d-hd").expect("the type exists");
        let device = driver.build(&spec, &Attributes::default(), services);
        let ram = memfd_create("guest", MemfdFlags::CLOEXEC).expect("a memory file");
        ftruncate(&ram, MARGIN + RAM + MARGIN).expect("its size");
        let mut rig = Self {
            device: device.expect("a GPU can be built"),
            memory,
            ram,
            is_mapped: false,
            sent: [0; QUEUES as usize],
        };
        rig.map();
        rig
    }

    fn map(&mut self) {
        let map = DmaMap {
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: MARGIN,
            iova: 0,
            size: RAM,
        };
        let file = self.ram.try_clone().expect("a descriptor");
        self.memory.map(&map, Some(file)).expect("it can be mapped");
        self.is_mapped = true;
    }

    /// Has the memory mapped, or not.
    pub(crate) fn set_mapped(&mut self, mapped: bool) {
        match (self.is_mapped, mapped) {
            (false, true) => self.map(),
            (true, false) => {
                let all = DmaUnmap::All;
                let unmapped = self.memory.unmap(&all, &mut *self.device);
                unmapped.expect("nothing is pinned");
                self.is_mapped = false;
            }
            _ => {}
        }
    }

    /// Writes a register; what is none is a fault, and no more.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let _ = self.device.write(RegionIndex::Bar0, offset, data);
    }

    pub(crate) fn read(&mut self, offset: u64, data: &mut [u8]) -> bool {
        self.device.read(RegionIndex::Bar0, offset, data).is_ok()
    }

    fn read_u16(&mut self, offset: u64) -> u16 {
        let mut data = [0; 2];
        assert!(self.read(offset, &mut data), "no register at {offset:#x}");
        u16::from_le_bytes(data)
    }

    pub(crate) fn status(&mut self) -> u8 {
        let mut status = [0];
        assert!(self.read(STATUS, &mut status), "no status");
        status[0]
    }

    /// Stores bytes in the guest's memory.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        let stored = rustix::io::pwrite(&self.ram, bytes, MARGIN + at);
        assert_eq!(stored, Ok(bytes.len()), "at {at:#x}");
    }

    /// Bytes of the guest's memory.
    pub(crate) fn look(&self, at: u64, len: usize) -> Vec<u8> {
        self.look_in_file(MARGIN + at, len)
    }

    fn look_in_file(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(rustix::io::pread(&self.ram, &mut bytes, at), Ok(len));
        bytes
    }

    /// Nothing was written beside what is mapped.
    pub(crate) fn check_margins(&self) {
        for at in [0, MARGIN + RAM] {
            let margin = self.look_in_file(at, MARGIN as usize);
            assert!(margin.iter().all(|byte| *byte == 0), "written at {at:#x}");
        }
    }

    /// Resets the device and sets it up with these features, and VERSION_1.
    pub(crate) fn set_up(&mut self, features: u64) {
        self.set_mapped(true);
        self.write(STATUS, &[0]);
        self.write(STATUS, &[3]);
        let features = features | 1 << 32;
        for (select, half) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            self.write(8, &select.to_le_bytes());
            self.write(0xc, &half.to_le_bytes());
        }
        self.write(STATUS, &[11]);
        for queue in 0..QUEUES {
            self.set_up_queue(queue);
        }
        self.write(STATUS, &[15]);
    }

    pub(crate) fn set_up_queue(&mut self, queue: u16) {
        let base = u64::from(queue) * QUEUE;
        self.put(base, &[0; QUEUE as usize]);
        self.write(0x16, &queue.to_le_bytes());
        self.write(0x18, &SIZE.to_le_bytes());
        for (register, at) in [(0x20, 0), (0x28, AVAILABLE), (0x30, USED)] {
            self.write(register, &(base + at).to_le_bytes());
        }
        self.write(0x1c, &[1, 0]);
        self.sent[usize::from(queue)] = 0;
    }

    /// Writes descriptors anywhere.
    pub(crate) fn describe(&self, at: u64, descriptors: &[Descriptor]) {
        for (number, (address, len, flags, next)) in (0..).zip(descriptors) {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            self.put(at + 16 * number, &bytes);
        }
    }

    /// Makes the chain that begins with the first descriptor available, and notifies.
    pub(crate) fn kick(&mut self, queue: u16) {
        let ring = u64::from(queue) * QUEUE + AVAILABLE;
        let sent = &mut self.sent[usize::from(queue)];
        let slot = *sent % SIZE;
        *sent = sent.wrapping_add(1);
        let sent = *sent;
        self.put(ring + 4 + 2 * u64::from(slot), &[0, 0]);
        self.put(ring + 2, &sent.to_le_bytes());
        self.write(NOTIFY + 4 * u64::from(queue), &queue.to_le_bytes());
    }

    /// Waits until the device has used what was sent, or says that it cannot.
    pub(crate) fn wait(&mut self, queue: u16) -> End {
        let begin = Instant::now();
        let (sent, used) = (
            self.sent[usize::from(queue)],
            u64::from(queue) * QUEUE + USED,
        );
        loop {
            if self.look(used + 2, 2) == sent.to_le_bytes() {
                let slot = sent.wrapping_sub(1) % SIZE;
                let len = self.look(used + 8 + 8 * u64::from(slot), 4);
                let len = len.first_chunk().copied().unwrap_or_default();
                return End::Used(u32::from_le_bytes(len));
            }
            if self.status() & NEEDS_RESET != 0 {
                return End::NeedsReset;
            }
            assert!(begin.elapsed() < PATIENCE, "queue {queue} is not served");
            std::thread::yield_now();
        }
    }

    /// A driver that behaves is served as if nothing had been: there is all memory to be had.
    pub(crate) fn check_that_it_works(&mut self) {
        const CREATE: u32 = 0x101;
        const OK: u32 = 0x1100;
        const PLACE: u64 = RAM / 2;
        self.set_up(0);
        assert_eq!(self.status(), 15, "it is up");
        assert_eq!(self.read_u16(0x1c), 1, "and its queue");
        let request = [CREATE, 0, 0, 0, 0, 0, 1, 1, 4096, 4096];
        self.put(PLACE, &request.map(u32::to_le_bytes).concat());
        let chain = [(PLACE, 40, NEXT, 1), (PLACE + 64, 24, WRITE, 0)];
        self.describe(0, &chain);
        self.kick(0);
        assert_eq!(self.wait(0), End::Used(24));
        assert_eq!(self.look(PLACE + 64, 4), OK.to_le_bytes());
    }
}
