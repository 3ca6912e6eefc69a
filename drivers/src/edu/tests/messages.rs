//! Guest memory that is reached by messages, as QEMU serves them: it answers none while a command
//! of its own is unanswered.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use vfu::socket::{Received, Receiver, Sender};
use vfu::wire::access::RegionAccess;
use vfu::wire::dma::{DmaAccess, DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::header::MessageType;
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Command, Header};

use super::guest::{BAR0, BUS_MASTER, COMMAND, CONFIG, Instance, PAGE, Ram, pattern};
use crate::edu::registers::{Register, command};
use crate::edu::transfer::BUFFER;

/// QEMU gives up an answer after 5 s.
const LIMIT: Duration = Duration::from_secs(4);

/// A VMM that gives no file with its memory.
struct Vmm {
    sender: Sender,
    receiver: Receiver,
    next_id: u16,
    /// What lies from address 0 on.
    ram: Vec<u8>,
    /// Whether it answers at all.
    is_silent: bool,
    /// What it was asked, and has not answered.
    asked: VecDeque<(Header, Vec<u8>)>,
}

impl Vmm {
    fn new(instance: &Instance) -> Self {
        let socket = Arc::new(OwnedFd::from(instance.connect()));
        let mut vmm = Self {
            sender: Sender::new(Arc::clone(&socket)),
            receiver: Receiver::new(socket, 1 << 20),
            next_id: 0,
            ram: vec![0; 4 * PAGE as usize],
            is_silent: false,
            asked: VecDeque::new(),
        };
        let version = Version {
            major: 0,
            minor: 0,
            capabilities: Capabilities {
                max_dma_maps: Some(65_535),
                ..Capabilities::default()
            },
        };
        vmm.call(Command::Version, |out| version.emit(out));
        let bus_master = BUS_MASTER.to_le_bytes();
        vmm.region_write(CONFIG, COMMAND, &bus_master);
        vmm
    }

    /// Sends a command, waits for its reply, and answers what it was asked meanwhile.
    fn call(&mut self, command: Command, emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        self.call_with(command, &[], emit)
    }

    fn call_with(
        &mut self,
        command: Command,
        fds: &[BorrowedFd<'_>],
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let mut payload = Vec::new();
        emit(&mut payload);
        self.next_id += 1;
        let header = Header::command(self.next_id, command, payload.len());
        self.send(&header, &payload, fds);
        let reply = loop {
            let (header, payload) = self.receive();
            if header.message_type() == MessageType::Reply {
                assert_eq!((header.id, header.error()), (self.next_id, None));
                break payload;
            }
            self.asked.push_back((header, payload));
        };
        if !self.is_silent {
            self.answer();
        }
        reply
    }

    fn receive(&mut self) -> (Header, Vec<u8>) {
        loop {
            if let Some(frame) = self.receiver.next_frame().unwrap() {
                return (frame.header, frame.payload.to_vec());
            }
            let received = self.receiver.receive(RecvFlags::empty());
            assert_eq!(received.unwrap(), Received::Some);
        }
    }

    fn send(&self, header: &Header, payload: &[u8], fds: &[BorrowedFd<'_>]) {
        let message = [&header.to_bytes(), payload].concat();
        self.sender.send(&message, fds).unwrap();
    }

    fn answer(&mut self) {
        while let Some((header, payload)) = self.asked.pop_front() {
            let (place, data) = payload.split_at(DmaAccess::LEN);
            let place: [u64; 2] = [&place[..8], &place[8..]]
                .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
            let end = (place[0] + place[1]) as usize;
            let mut reply = payload[..DmaAccess::LEN].to_vec();
            let Some(ram) = self.ram.get_mut(place[0] as usize..end) else {
                self.send(&header.error_reply(Errno::NODEV), &[], &[]);
                continue;
            };
            match Command::try_from(header.command).unwrap() {
                Command::DmaRead => reply.extend_from_slice(ram),
                _ => ram.copy_from_slice(data),
            }
            self.send(&header.reply(reply.len()), &reply, &[]);
        }
    }

    /// Maps memory, which is in a file or is not.
    fn map(&mut self, iova: u64, size: u64, file: Option<&Ram>) {
        let map = DmaMap {
            flags: DmaFlags::all(),
            offset: 0,
            iova,
            size,
        };
        let fds: Vec<_> = file.map(AsFd::as_fd).into_iter().collect();
        self.call_with(Command::DmaMap, &fds, |out| map.emit(out));
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let access = RegionAccess {
            offset,
            region,
            count: data.len() as u32,
        };
        self.call(Command::RegionWrite, |out| {
            access.emit(out);
            out.extend(data);
        });
    }

    fn write(&mut self, register: Register, value: u64) {
        self.region_write(BAR0, register as u64, &value.to_le_bytes());
    }

    fn read(&mut self, register: Register) -> u64 {
        let access = RegionAccess {
            offset: register as u64,
            region: BAR0,
            count: 8,
        };
        let reply = self.call(Command::RegionRead, |out| access.emit(out));
        let (_, value) = RegionAccess::parse_write(&reply).unwrap();
        u64::from_le_bytes(value.try_into().unwrap())
    }

    fn start(&mut self, source: u64, destination: u64, count: u64, command: u64) {
        self.write(Register::DmaSource, source);
        self.write(Register::DmaDestination, destination);
        self.write(Register::DmaCount, count);
        self.write(Register::DmaCommand, command::START | command);
    }

    /// Waits for the end of a transfer, and tells its errno.
    fn finish(&mut self) -> Option<Errno> {
        while self.read(Register::DmaCommand) & command::START != 0 {}
        match self.read(Register::DmaError) {
            0 => None,
            errno => Some(Errno::from_raw_os_error(errno as i32)),
        }
    }

    /// Lets the device ask for the page at `ram`, and answers nothing from now on.
    fn let_wait(&mut self, ram: u64) {
        self.is_silent = true;
        self.start(ram, BUFFER, PAGE, 0);
        while self.asked.is_empty() {
            let asked = self.receive();
            assert_eq!(asked.0.message_type(), MessageType::Command);
            self.asked.push_back(asked);
        }
        assert_ne!(self.read(Register::DmaCommand) & command::START, 0);
    }
}

#[test]
fn memory_that_cannot_be_pinned_is_copied() {
    for way in ["pin", "copy"] {
        let instance = Instance::new(&[("dma", way)]);
        let mut vmm = Vmm::new(&instance);
        vmm.map(0, 2 * PAGE, None);
        vmm.map(2 * PAGE, 2 * PAGE, None);
        let bytes = pattern(6, PAGE);
        vmm.ram[..PAGE as usize].copy_from_slice(&bytes);
        vmm.start(0, BUFFER, PAGE, 0);
        assert_eq!(vmm.finish(), None, "{way}");
        // Over both mappings.
        vmm.start(BUFFER, 2 * PAGE - 1000, PAGE, command::TO_RAM);
        assert_eq!(vmm.finish(), None, "{way}");
        let written = &vmm.ram[2 * PAGE as usize - 1000..][..PAGE as usize];
        assert_eq!(written, bytes, "{way}");
    }
}

#[test]
fn what_the_vmm_refuses_is_an_error() {
    let instance = Instance::new(&[]);
    let mut vmm = Vmm::new(&instance);
    vmm.map(0x10_0000, PAGE, None);
    vmm.start(0x10_0000, BUFFER, 8, 0);
    assert_eq!(vmm.finish(), Some(Errno::NODEV));
    assert_eq!(vmm.read(Register::DmaFailures), 1);
}

/// What a device waits for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// To find out how the VMM lays out messages.
    Layout,
    /// To find out whether the VMM's file is the guest's memory.
    Trust,
    /// For the first of two messages, the second of which is for the second page.
    First,
    /// For the second.
    Second,
}

const WAITS: [Wait; 4] = [Wait::Layout, Wait::Trust, Wait::First, Wait::Second];

/// A VMM whose device is in the middle of a transfer that touches its first page.
fn waiting_for(instance: &Instance, wait: Wait) -> Vmm {
    let mut vmm = Vmm::new(instance);
    let file = Ram::new(PAGE);
    let file = matches!(wait, Wait::Trust | Wait::Second).then_some(&file);
    vmm.map(0, PAGE, file);
    vmm.map(PAGE, PAGE, None);
    match wait {
        Wait::Layout | Wait::Trust => vmm.let_wait(0),
        Wait::First => {
            vmm.start(0, BUFFER, PAGE, 0);
            assert_eq!(vmm.finish(), None);
            vmm.let_wait(PAGE / 2);
        }
        Wait::Second => {
            // So that the file is believed, and read without a message.
            file.unwrap().write(0, &[1; 8]);
            vmm.ram[..8].fill(1);
            vmm.start(0, BUFFER, PAGE, 0);
            assert_eq!(vmm.finish(), None);
            vmm.let_wait(PAGE / 2);
        }
    }
    vmm
}

#[test]
fn an_unmap_cancels_the_transfer_that_touches_its_memory() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let mut vmm = waiting_for(&instance, wait);
        let unmap = DmaUnmap::One {
            iova: 0,
            size: PAGE,
        };
        let begin = Instant::now();
        vmm.call(Command::DmaUnmap, |out| unmap.emit(out));
        assert!(begin.elapsed() < LIMIT, "{wait:?}");
        assert_eq!(vmm.finish(), Some(Errno::CANCELED), "{wait:?}");
    }
}

#[test]
fn an_unmap_of_other_memory_does_not_wait_for_a_transfer() {
    let instance = Instance::new(&[]);
    let mut vmm = Vmm::new(&instance);
    vmm.map(0, PAGE, None);
    vmm.map(PAGE, PAGE, None);
    vmm.let_wait(0);
    let unmap = DmaUnmap::One {
        iova: PAGE,
        size: PAGE,
    };
    vmm.call(Command::DmaUnmap, |out| unmap.emit(out));
    assert_ne!(vmm.read(Register::DmaCommand) & command::START, 0);
    vmm.is_silent = false;
    assert_eq!(vmm.finish(), None, "it was not cancelled");
}

#[test]
fn a_reset_cancels_the_transfer_that_waits_for_the_vmm() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let mut vmm = waiting_for(&instance, wait);
        let begin = Instant::now();
        vmm.call(Command::DeviceReset, |_| ());
        assert!(begin.elapsed() < LIMIT, "{wait:?}");
        assert_eq!(vmm.read(Register::DmaCommand), 0);
    }
}

#[test]
fn a_vmm_that_leaves_ends_the_transfer_that_waits_for_it() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let begin = Instant::now();
        drop(waiting_for(&instance, wait));
        let mut next = Vmm::new(&instance);
        assert!(begin.elapsed() < LIMIT, "{wait:?}");
        assert_eq!(next.read(Register::DmaCommand), 0, "{wait:?}");
        assert_eq!(next.read(Register::DmaCount), 0, "{wait:?}");
    }
}

#[test]
fn without_bus_mastering_the_vmm_is_asked_nothing() {
    for way in ["pin", "copy"] {
        let instance = Instance::new(&[("dma", way)]);
        let mut vmm = Vmm::new(&instance);
        vmm.map(0, PAGE, Some(&Ram::new(PAGE)));
        vmm.map(PAGE, PAGE, None);
        vmm.region_write(CONFIG, COMMAND, &[0b010, 0]);
        vmm.is_silent = true;
        for ram in [0, PAGE] {
            vmm.start(ram, BUFFER, 8, 0);
            assert_eq!(vmm.finish(), Some(Errno::PERM), "{way}");
        }
        assert_eq!(vmm.asked.len(), 0, "{way}");
    }
}
