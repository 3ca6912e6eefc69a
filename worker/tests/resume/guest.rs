//! A guest with a driver of the educational device: it knows what it copied, and that it was told.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::client::{Client, ClientError};
use vfu::wire::dma::{DmaFlags, DmaMap};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::version::Capabilities;

use crate::host::DEADLINE;

pub(crate) const PAGE: u64 = 4096;
/// Bytes of its memory.
const RAM: u64 = 4 * PAGE;
/// Registers of BAR0, and what is written there.
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const ACKNOWLEDGE: u64 = 0x64;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const BUFFER: u64 = 0x4_0000;
const START: u64 = 1;
const TO_RAM: u64 = 2;
const INTERRUPT: u64 = 4;
/// The vector of a transfer's end.
const DMA_VECTOR: usize = 1;

pub(crate) struct Guest {
    pub(crate) client: Client,
    pub(crate) ram: OwnedFd,
    eventfds: Vec<OwnedFd>,
}

/// Without naming mappings its files are believed, and it is asked nothing.
pub(crate) fn offer() -> Capabilities {
    Capabilities {
        max_msg_fds: Some(16),
        ..Capabilities::default()
    }
}

pub(crate) fn new_eventfd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// Its memory from `iova` on.
pub(crate) fn mapping(iova: u64, size: u64) -> DmaMap {
    DmaMap {
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        iova,
        size,
    }
}

impl Guest {
    pub(crate) fn new(socket: UnixStream) -> Self {
        let ram = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&ram, RAM).unwrap();
        let mut guest = Self {
            client: Client::negotiate(socket.into(), offer()).unwrap(),
            ram,
            eventfds: (0..4).map(|_| new_eventfd()).collect(),
        };
        let ram = guest.ram.as_fd();
        guest.client.dma_map(&mapping(0, RAM), Some(ram)).unwrap();
        guest.set_irqs().unwrap();
        // Memory and bus mastering.
        guest.client.region_write(7, 4, &[6, 0]).unwrap();
        guest
    }

    /// Gives each vector of MSI its eventfd.
    pub(crate) fn set_irqs(&mut self) -> Result<(), ClientError> {
        let fds = self.eventfds.iter();
        self.client.set_irqs(&SetIrqs {
            index: 1,
            start: 0,
            count: 4,
            action: IrqAction::Trigger,
            data: IrqData::Eventfd(fds.map(|fd| Some(fd.try_clone().unwrap())).collect()),
        })
    }

    fn write(&mut self, register: u64, value: u64) {
        let value = value.to_le_bytes();
        let len = if register < SOURCE { 4 } else { 8 };
        self.client
            .region_write(0, register, &value[..len])
            .unwrap();
    }

    fn read(&mut self, register: u64) -> u64 {
        let mut value = [0; 8];
        let len = if register < SOURCE { 4 } else { 8 };
        let read = self.client.region_read(0, register, &mut value[..len]);
        read.unwrap();
        u64::from_le_bytes(value)
    }

    fn wait_until_clear(&mut self, register: u64, bit: u64) {
        let begin = Instant::now();
        while self.read(register) & bit != 0 {
            assert!(begin.elapsed() < DEADLINE, "{register:#x} stays busy");
        }
    }

    /// One transfer, as registers tell it, and the interrupt at its end.
    fn transfer(&mut self, source: u64, destination: u64, command: u64) {
        let vector = &self.eventfds[DMA_VECTOR];
        // A second one for a transfer before this may have come: there may be more than one each.
        let _ = rustix::io::read(vector, &mut [0; 8]);
        self.write(SOURCE, source);
        self.write(DESTINATION, destination);
        self.write(COUNT, PAGE);
        self.write(COMMAND, START | INTERRUPT | command);
        self.wait_until_clear(COMMAND, START);
        let patience = Timespec::try_from(Duration::from_secs(10)).unwrap();
        let vector = &self.eventfds[DMA_VECTOR];
        let told = poll(&mut [PollFd::new(vector, PollFlags::IN)], Some(&patience));
        assert_eq!(told, Ok(1), "no interrupt came");
        self.write(ACKNOWLEDGE, 0x100);
    }

    /// Copies a page through the device's buffer. What the page holds is another thing before the
    /// second half of it.
    pub(crate) fn copy(&mut self, seed: u64) {
        let page = |seed: u64| {
            let words = (0..PAGE / 8).map(|at| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at);
            words.flat_map(u64::to_le_bytes).collect::<Vec<_>>()
        };
        self.put(0, &page(seed));
        self.transfer(0, BUFFER, 0);
        self.put(0, &page(!seed));
        self.transfer(BUFFER, 2 * PAGE, TO_RAM);
        assert!(self.look(2 * PAGE) == page(seed), "copy {seed}");
        self.put(2 * PAGE, &page(!seed));
    }

    /// The first word of a page, as the device reads it.
    pub(crate) fn fetch(&mut self, at: u64) -> u64 {
        self.transfer(at, BUFFER, 0);
        self.transfer(BUFFER, 2 * PAGE, TO_RAM);
        let page = self.look(2 * PAGE);
        u64::from_le_bytes(*page.first_chunk().unwrap())
    }

    /// Has the device compute 5 and more.
    pub(crate) fn compute(&mut self, seed: u64) {
        let number = 5 + seed % 8;
        self.write(FACTORIAL, number);
        self.wait_until_clear(STATUS, 1);
        let product: u64 = (1..=number).product();
        assert_eq!(self.read(FACTORIAL), product, "{number}!");
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        rustix::io::pwrite(&self.ram, bytes, at).unwrap();
    }

    fn look(&self, at: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        rustix::io::pread(&self.ram, &mut bytes, at).unwrap();
        bytes
    }
}
