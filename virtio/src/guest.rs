//! A driver, for tests of devices: it reaches the device as a VMM would, without one.
//!
//! Its memory is a file that the device maps. It sends one request at a time, or anything at all.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it is for tests: where one fails, it says so"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::client::{Client, ClientError};
use vfu::wire::Command;
use vfu::wire::dma::{DmaFlags, DmaMap};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::version::Capabilities;

use crate::feature;

/// Longer than anything here takes: a test fails after it rather than hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of its memory, at address 0.
pub const RAM: u64 = 16 << 20;
/// From here on its memory is the test's.
pub const FREE: u64 = 1 << 20;

/// The status bit that a device sets; `VIRTIO_CONFIG_S_NEEDS_RESET`.
pub const NEEDS_RESET: u8 = 0x40;

/// Flags of a descriptor: another follows, the device writes, and it leads to a table.
pub const NEXT: u16 = 1;
#[expect(missing_docs, reason = "as above")]
pub const WRITE: u16 = 2;
#[expect(missing_docs, reason = "as above")]
pub const INDIRECT: u16 = 4;

const REGISTERS: u32 = 0;
const CONFIG_SPACE: u32 = 7;
/// Offsets in BAR0.
const STATUS: u64 = 0x14;
const DEVICE_CONFIG: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;

/// Where the rings of a queue lie, and its buffers.
const QUEUE: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
/// Where it lies after a reset in one go, beside where it lay.
const OTHER_PLACE: u64 = 0x4_0000;
const REQUEST: u64 = 0x8_0000;
const ANSWER: u64 = 0xc_0000;

/// One descriptor: address, length, flags, the next.
pub type Descriptor = (u64, u32, u16, u16);

/// What became of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The device used it, and said that it wrote so many bytes.
    Used(u32),
    /// The device says that it needs a reset.
    NeedsReset,
}

/// The registers that say where a queue lies that begins here, and what is written to each.
fn queue_registers(base: u64) -> [(u64, [u8; 8]); 3] {
    [(0x20, 0), (0x28, AVAILABLE), (0x30, USED)]
        .map(|(register, at)| (register, (base + at).to_le_bytes()))
}

/// A guest with a driver.
pub struct Guest {
    /// The way to the device.
    pub client: Client,
    ram: OwnedFd,
    /// How many chains of each queue were put there.
    sent: Vec<u16>,
    /// Where each lies.
    places: Vec<u64>,
    sizes: Vec<u16>,
    interrupts: Vec<OwnedFd>,
}

impl Guest {
    /// Sets a device up with these features.
    pub fn new(socket: UnixStream, features: u64) -> Self {
        Self::try_new(socket, features).unwrap()
    }

    /// The same, unless the server refuses: it may not have noticed yet that another guest has gone.
    pub fn try_new(socket: UnixStream, features: u64) -> Result<Self, ClientError> {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let offer = Capabilities {
            max_msg_fds: Some(16),
            ..Capabilities::default()
        };
        let client = Client::negotiate(socket.into(), offer)?;
        let ram = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&ram, RAM).unwrap();
        let mut guest = Self {
            client,
            ram,
            sent: Vec::new(),
            places: Vec::new(),
            sizes: Vec::new(),
            interrupts: Vec::new(),
        };
        let map = DmaMap {
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: 0,
            iova: 0,
            size: RAM,
        };
        guest.client.dma_map(&map, Some(guest.ram.as_fd())).unwrap();
        // Memory and bus mastering.
        guest.client.region_write(CONFIG_SPACE, 4, &[6, 0]).unwrap();
        guest.give_eventfds();
        guest.set_up(features);
        Ok(guest)
    }

    /// Resets the device and sets it up.
    pub fn set_up(&mut self, features: u64) {
        self.write(STATUS, &[0]);
        assert_eq!(self.status(), 0);
        self.write(STATUS, &[1 | 2]);
        let features = features | feature::VERSION_1;
        for (select, half) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            self.write(8, &select.to_le_bytes());
            self.write(0xc, &half.to_le_bytes());
        }
        self.write(STATUS, &[1 | 2 | 8]);
        assert_eq!(self.status() & 8, 8, "the features were not accepted");
        let count = self.read_u16(0x12);
        self.sent = vec![0; count.into()];
        self.places = (0..count).map(|queue| u64::from(queue) * QUEUE).collect();
        self.sizes = (0..count).map(|queue| self.set_up_queue(queue)).collect();
        self.write(STATUS, &[1 | 2 | 8 | 4]);
    }

    fn give_eventfds(&mut self) {
        let count = u32::from(self.read_u16(0x12)) + 1;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        self.interrupts = (0..count).map(|_| eventfd(0, flags).unwrap()).collect();
        let fds = self.interrupts.iter();
        let fds = fds.map(|fd| Some(fd.try_clone().unwrap())).collect();
        let set = SetIrqs {
            index: 2,
            start: 0,
            count,
            action: IrqAction::Trigger,
            data: IrqData::Eventfd(fds),
        };
        self.client.set_irqs(&set).unwrap();
    }

    /// Resets one queue and sets it up again. Chains in it are gone.
    pub fn reset_queue(&mut self, queue: u16) {
        self.write(0x16, &queue.to_le_bytes());
        self.write(0x3a, &[1, 0]);
        assert_eq!(self.read_u16(0x3a), 0, "the queue is being reset");
        assert_eq!(self.read_u16(0x1c), 0, "the queue is enabled");
        self.sent[usize::from(queue)] = 0;
        self.set_up_queue(queue);
    }

    /// Resets one queue, sets it up with these descriptors, of which the first begins a chain, and
    /// notifies, all in one message: no answer is waited for. More writes follow, to keep the device
    /// busy with it.
    pub fn reset_queue_in_one_go(&mut self, queue: u16, descriptors: &[Descriptor]) {
        // The ring of before is the device's until it has heard.
        self.places[usize::from(queue)] ^= OTHER_PLACE;
        let base = self.place(queue);
        self.put(base, &[0; QUEUE as usize]);
        self.describe(queue, descriptors);
        self.sent[usize::from(queue)] = 0;
        self.offer(queue, 0, 1);
        let number = queue.to_le_bytes();
        let places = queue_registers(base);
        let set_up = places.iter().map(|(at, place)| (*at, &place[..]));
        let mut writes = vec![(0x16, &number[..]), (0x3a, &[1, 0]), (0x1a, &number)];
        writes.extend(set_up);
        writes.extend([
            (0x1c, &[1, 0][..]),
            (NOTIFY + 4 * u64::from(queue), &number),
        ]);
        writes.extend([(8, &[0; 4][..]); 2000]);
        let emit = |out: &mut Vec<u8>| {
            out.extend((writes.len() as u64).to_ne_bytes());
            for (offset, data) in &writes {
                out.extend(offset.to_ne_bytes());
                out.extend(REGISTERS.to_ne_bytes());
                out.extend((data.len() as u32).to_ne_bytes());
                out.extend(data.iter().chain(&[0; 8]).take(8));
            }
        };
        let multi = Command::RegionWriteMulti;
        self.client.post(multi, &[], emit).unwrap();
    }

    fn place(&self, queue: u16) -> u64 {
        self.places[usize::from(queue)]
    }

    fn set_up_queue(&mut self, queue: u16) -> u16 {
        let base = self.place(queue);
        self.put(base, &[0; QUEUE as usize]);
        self.write(0x16, &queue.to_le_bytes());
        let size = self.read_u16(0x18);
        self.write(0x1a, &queue.to_le_bytes());
        for (register, at) in queue_registers(base) {
            self.write(register, &at);
        }
        self.write(0x1c, &[1, 0]);
        assert_eq!(self.read_u16(0x1c), 1, "the queue was not enabled");
        size
    }

    /// Writes a register of BAR0.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        self.client.region_write(REGISTERS, at, data).unwrap();
    }

    /// Reads a register of BAR0.
    pub fn read<const N: usize>(&mut self, at: u64) -> [u8; N] {
        let mut data = [0; N];
        self.client.region_read(REGISTERS, at, &mut data).unwrap();
        data
    }

    fn read_u16(&mut self, at: u64) -> u16 {
        u16::from_le_bytes(self.read(at))
    }

    /// The device status.
    pub fn status(&mut self) -> u8 {
        self.read::<1>(STATUS)[0]
    }

    /// A word of the device's configuration.
    pub fn config(&mut self, at: u64) -> u32 {
        u32::from_le_bytes(self.read(DEVICE_CONFIG + at))
    }

    /// How often a vector fired since this was last asked.
    pub fn fired(&self, vector: usize) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.interrupts[vector], &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// Stores bytes in its memory.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        assert_eq!(rustix::io::pwrite(&self.ram, bytes, at), Ok(bytes.len()));
    }

    /// Bytes of its memory.
    pub fn look(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(rustix::io::pread(&self.ram, &mut bytes, at), Ok(len));
        bytes
    }

    fn look_u16(&self, at: u64) -> u16 {
        let bytes = self.look(at, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// How many chains of a queue the device has used.
    pub fn used(&self, queue: u16) -> u16 {
        self.look_u16(self.place(queue) + USED + 2)
    }

    /// The flags of a queue's used ring: whether the device wants notifications, where no feature
    /// says when.
    pub fn used_flags(&self, queue: u16) -> u16 {
        self.look_u16(self.place(queue) + USED)
    }

    /// For which chain the device wants a notification with `EVENT_IDX`, counted from 0.
    pub fn notified_at(&self, queue: u16) -> u16 {
        let behind = 4 + 8 * u64::from(self.sizes[usize::from(queue)]);
        self.look_u16(self.place(queue) + USED + behind)
    }

    /// Says whether an interrupt is wanted for what is used, where no feature says when.
    pub fn want_interrupts(&self, queue: u16, wanted: bool) {
        let flags = u16::from(!wanted);
        self.put(self.place(queue) + AVAILABLE, &flags.to_le_bytes());
    }

    /// Says with `EVENT_IDX` for which chain an interrupt is wanted, counted from 0.
    pub fn want_interrupt_at(&self, queue: u16, position: u16) {
        let behind = 4 + 2 * u64::from(self.sizes[usize::from(queue)]);
        let at = self.place(queue) + AVAILABLE + behind;
        self.put(at, &position.to_le_bytes());
    }

    /// Writes descriptors from the first of a queue's table on.
    pub fn describe(&self, queue: u16, descriptors: &[Descriptor]) {
        self.describe_at(self.place(queue), descriptors);
    }

    /// Writes descriptors anywhere.
    pub fn describe_at(&self, at: u64, descriptors: &[Descriptor]) {
        for (number, (address, len, flags, next)) in (0..).zip(descriptors) {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            self.put(at + 16 * number, &bytes);
        }
    }

    /// Makes the chain that begins with a descriptor available, as one of `count` at once, and
    /// notifies.
    pub fn kick(&mut self, queue: u16, head: u16, count: u16) {
        self.offer(queue, head, count);
        self.write(NOTIFY + 4 * u64::from(queue), &queue.to_le_bytes());
    }

    /// As [`Self::kick`], and nobody is told.
    pub fn offer(&mut self, queue: u16, head: u16, count: u16) {
        let ring = self.place(queue) + AVAILABLE;
        let sent = &mut self.sent[usize::from(queue)];
        let slot = *sent % self.sizes[usize::from(queue)];
        *sent = sent.wrapping_add(count);
        let sent = *sent;
        self.put(ring + 4 + 2 * u64::from(slot), &head.to_le_bytes());
        self.put(ring + 2, &sent.to_le_bytes());
    }

    /// Waits until the device has used what was sent, or says that it cannot.
    pub fn wait(&mut self, queue: u16) -> End {
        let begin = Instant::now();
        let sent = self.sent[usize::from(queue)];
        loop {
            if self.used(queue) == sent {
                let slot = sent.wrapping_sub(1) % self.sizes[usize::from(queue)];
                let at = self.place(queue) + USED + 4 + 8 * u64::from(slot);
                let len = self.look(at + 4, 4);
                return End::Used(u32::from_le_bytes(len.try_into().unwrap()));
            }
            if self.status() & NEEDS_RESET != 0 {
                return End::NeedsReset;
            }
            assert!(begin.elapsed() < PATIENCE, "queue {queue} is not served");
        }
    }

    /// Sends a request and waits for its answer.
    pub fn ask(&mut self, queue: u16, request: &[u8], room: u32) -> Vec<u8> {
        self.put(REQUEST, request);
        self.put(ANSWER, &vec![0xee; room as usize]);
        let descriptors = [
            (REQUEST, request.len() as u32, NEXT, 1),
            (ANSWER, room, WRITE, 0),
        ];
        self.describe(queue, &descriptors);
        self.kick(queue, 0, 1);
        let End::Used(len) = self.wait(queue) else {
            panic!("the device needs a reset");
        };
        assert!(len <= room);
        self.look(ANSWER, len as usize)
    }
}
