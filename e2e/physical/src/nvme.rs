//! An NVMe controller, driven as its specification (2.0, chapters 3 to 5) says: it has what the
//! educational device has not. Its interrupts are messages of MSI-X, and it can be reset.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use mdev::dma::view::Access;
use mdev::host::{DeviceAccess, DmaBuffer, HostDevice, Interrupt, RegionMapping};
use vm_memory::Bytes;

use crate::eventfd::Eventfd;
use crate::pins::Memory;
use crate::{Failure, expect};

const BAR: u32 = 0;
const PAGE: u64 = 4096;

const CAPABILITIES_HIGH: usize = 0x04;
const CONFIGURATION: usize = 0x14;
const STATUS: usize = 0x1c;
const ADMIN_ATTRIBUTES: usize = 0x24;
const ADMIN_SUBMISSION: usize = 0x28;
const ADMIN_COMPLETION: usize = 0x30;
const DOORBELLS: usize = 0x1000;

/// Enabled, with entries of 64 and of 16 bytes.
const ENABLED: u32 = 1 | 6 << 16 | 4 << 20;
const READY: u32 = 1;

const READ: u32 = 0x02;
const CREATE_SUBMISSION: u32 = 0x01;
const CREATE_COMPLETION: u32 = 0x05;
const IDENTIFY: u32 = 0x06;

/// Entries of a queue: as many as fit a page of the smaller kind.
const ENTRIES: u32 = 64;
/// The vector of the second pair's queue.
const VECTOR: usize = 3;

/// How long the device may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pair of queues.
struct Queue {
    number: usize,
    submission: DmaBuffer,
    completion: DmaBuffer,
    /// Commands so far: fewer than entries, so that neither ring wraps.
    sent: u32,
}

struct Nvme<'a> {
    host: &'a HostDevice,
    registers: RegionMapping,
    events: Vec<Eventfd>,
}

impl<'a> Nvme<'a> {
    fn new(host: &'a HostDevice) -> Result<Self, Failure> {
        host.set_memory(true)?;
        let bar = host.regions().iter().find(|region| region.index == BAR);
        let registers = host.map(BAR, 0, bar.ok_or("no registers")?.size)?;
        host.set_bus_master(true)?;
        let events = (0..=VECTOR)
            .map(|_| Eventfd::new())
            .collect::<Result<Vec<_>, _>>()?;
        let fds: Vec<_> = events.iter().map(AsFd::as_fd).collect();
        host.signal(Interrupt::Msix, &fds)?;
        Ok(Self {
            host,
            registers,
            events,
        })
    }

    fn load(&self, register: usize) -> Result<u32, Failure> {
        Ok(self
            .registers
            .read_u32(register)
            .ok_or("no such register")?)
    }

    fn store(&self, register: usize, value: u32) -> Result<(), Failure> {
        let stored = self.registers.write_u32(register, value);
        Ok(stored.ok_or("no such register")?)
    }

    fn store_address(&self, register: usize, address: u64) -> Result<(), Failure> {
        self.store(register, address as u32)?;
        self.store(register + 4, (address >> 32) as u32)
    }

    fn queue(&self, number: usize) -> Result<Queue, Failure> {
        let page = || DmaBuffer::new(self.host.dma(), PAGE as usize, DeviceAccess::Write);
        Ok(Queue {
            number,
            submission: page()?,
            completion: page()?,
            sent: 0,
        })
    }

    fn wait_until_ready(&self) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while self.load(STATUS)? & READY == 0 {
            if Instant::now() > end {
                return Err("the controller does not get ready".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Enables the controller, with its first pair of queues.
    fn enable(&self) -> Result<Queue, Failure> {
        let admin = self.queue(0)?;
        self.store(ADMIN_ATTRIBUTES, (ENTRIES - 1) << 16 | (ENTRIES - 1))?;
        self.store_address(ADMIN_SUBMISSION, admin.submission.device_address())?;
        self.store_address(ADMIN_COMPLETION, admin.completion.device_address())?;
        self.store(CONFIGURATION, ENABLED)?;
        self.wait_until_ready()?;
        Ok(admin)
    }

    /// Sends a command, and waits for the interrupt of the vector and the status that is none.
    fn command(&self, queue: &mut Queue, vector: usize, words: [u32; 16]) -> Result<(), Failure> {
        let (at, id) = (queue.sent, queue.sent);
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[2..4].copy_from_slice(&(id as u16).to_le_bytes());
        queue
            .submission
            .slice()
            .write_slice(&bytes, 64 * at as usize)?;
        queue.sent += 1;
        let stride = 4 << (self.load(CAPABILITIES_HIGH)? & 0xf);
        let doorbell = DOORBELLS + 2 * queue.number * stride;
        self.store(doorbell, queue.sent)?;
        expect("messages", &self.events[vector].wait()?, &1)?;
        let mut answer = [0; 16];
        queue
            .completion
            .slice()
            .read_slice(&mut answer, 16 * at as usize)?;
        let [.., low, high, status, more] = answer;
        expect(
            "the command's number",
            &u16::from_le_bytes([low, high]),
            &(id as u16),
        )?;
        // The first round's entries have their phase set, and no bit for an error.
        expect("the status", &u16::from_le_bytes([status, more]), &1)?;
        self.store(doorbell + stride, queue.sent)
    }

    /// No vector but this has been signalled since.
    fn check_silent(&self) -> Result<(), Failure> {
        for event in &self.events {
            expect("messages of a vector", &event.take()?, &0)?;
        }
        Ok(())
    }
}

fn words(operation: u32, namespace: u32, memory: u64, parameters: [u32; 3]) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = operation;
    words[1] = namespace;
    words[6] = memory as u32;
    words[7] = (memory >> 32) as u32;
    words[10..13].copy_from_slice(&parameters);
    words
}

/// Identifies the controller, reads the first block of its disk into a guest's memory, and resets it:
/// then all of that once more. Prints its serial number and what the block begins with.
pub(crate) fn run(host: &HostDevice) -> Result<(), Failure> {
    expect("whether it can be reset", &host.can_reset(), &true)?;
    for _ in 0..2 {
        let nvme = Nvme::new(host)?;
        expect(
            "whether it is enabled",
            &(nvme.load(CONFIGURATION)? & 1),
            &0,
        )?;
        let mut admin = nvme.enable()?;
        let serial = identify(&nvme, &mut admin)?;
        let block = read(&nvme, &mut admin)?;
        nvme.check_silent()?;
        println!("{serial}: {block}");
        check_reset(&nvme)?;
    }
    Ok(())
}

fn identify(nvme: &Nvme<'_>, admin: &mut Queue) -> Result<String, Failure> {
    let buffer = DmaBuffer::new(nvme.host.dma(), PAGE as usize, DeviceAccess::Write)?;
    let identify = words(IDENTIFY, 0, buffer.device_address(), [1, 0, 0]);
    nvme.command(admin, 0, identify)?;
    let mut serial = [0; 20];
    buffer.slice().read_slice(&mut serial, 4)?;
    Ok(String::from_utf8_lossy(&serial).trim().to_owned())
}

/// With a second pair of queues, whose interrupt is another.
fn read(nvme: &Nvme<'_>, admin: &mut Queue) -> Result<String, Failure> {
    let mut queue = nvme.queue(1)?;
    let (size, contiguous, interrupts) = ((ENTRIES - 1) << 16, 1, 2);
    let completion = queue.completion.device_address();
    let how = contiguous | interrupts | (VECTOR as u32) << 16;
    nvme.command(
        admin,
        0,
        words(CREATE_COMPLETION, 0, completion, [size | 1, how, 0]),
    )?;
    let submission = queue.submission.device_address();
    let how = contiguous | 1 << 16;
    nvme.command(
        admin,
        0,
        words(CREATE_SUBMISSION, 0, submission, [size | 1, how, 0]),
    )?;

    let memory = Memory::new(nvme.host, 2)?;
    let pin = memory.guest.pin(memory.range(0, 512)?, Access::Write)?;
    let [at] = pin.device_ranges()[..] else {
        return Err("not one range".into());
    };
    nvme.command(&mut queue, VECTOR, words(READ, 1, at.start().0, [0, 0, 0]))?;
    drop(pin);
    let bytes = memory.bytes()?;
    expect(
        "what was not asked for",
        &bytes[512..].iter().any(|byte| *byte != 0),
        &false,
    )?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Afterwards it is as it was switched on, and no bus master.
fn check_reset(nvme: &Nvme<'_>) -> Result<(), Failure> {
    expect("ready", &(nvme.load(STATUS)? & READY), &READY)?;
    nvme.host.silence(Interrupt::Msix)?;
    nvme.host.reset()?;
    nvme.host.set_memory(true)?;
    expect("ready after a reset", &(nvme.load(STATUS)? & READY), &0)?;
    expect(
        "configuration after a reset",
        &nvme.load(CONFIGURATION)?,
        &0,
    )
}
