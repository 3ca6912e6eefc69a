//! A VMM that gives no file with its memory: it is asked for it by messages.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use vfu::socket::{Received, Receiver, Sender};
use vfu::wire::access::RegionAccess;
use vfu::wire::dma::{DmaAccess, DmaFlags, DmaMap};
use vfu::wire::header::MessageType;
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Command, Header};

use super::guest::{BAR0, BUS_MASTER, COMMAND, CONFIG, Instance, PAGE, Ram};
use crate::edu::registers::{Register, command};
use crate::edu::transfer::BUFFER;

/// A VMM that gives no file with its memory.
pub(crate) struct Vmm {
    sender: Sender,
    receiver: Receiver,
    next_id: u16,
    /// What lies from address 0 on.
    pub(crate) ram: Vec<u8>,
    /// Whether it answers at all.
    pub(crate) is_silent: bool,
    /// What it was asked, and has not answered.
    pub(crate) asked: VecDeque<(Header, Vec<u8>)>,
}

impl Vmm {
    pub(crate) fn new(instance: &Instance) -> Self {
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
    pub(crate) fn call(&mut self, command: Command, emit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        self.call_with(command, &[], emit)
    }

    pub(crate) fn call_with(
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

    pub(crate) fn answer(&mut self) {
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
    pub(crate) fn map(&mut self, iova: u64, size: u64, file: Option<&Ram>) {
        let map = DmaMap {
            flags: DmaFlags::all(),
            offset: 0,
            iova,
            size,
        };
        let fds: Vec<_> = file.map(AsFd::as_fd).into_iter().collect();
        self.call_with(Command::DmaMap, &fds, |out| map.emit(out));
    }

    pub(crate) fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) {
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

    pub(crate) fn write(&mut self, register: Register, value: u64) {
        self.region_write(BAR0, register as u64, &value.to_le_bytes());
    }

    pub(crate) fn read(&mut self, register: Register) -> u64 {
        let access = RegionAccess {
            offset: register as u64,
            region: BAR0,
            count: 8,
        };
        let reply = self.call(Command::RegionRead, |out| access.emit(out));
        let (_, value) = RegionAccess::parse_write(&reply).unwrap();
        u64::from_le_bytes(value.try_into().unwrap())
    }

    /// A register of four bytes.
    pub(crate) fn read_narrow(&mut self, register: Register) -> u32 {
        let access = RegionAccess {
            offset: register as u64,
            region: BAR0,
            count: 4,
        };
        let reply = self.call(Command::RegionRead, |out| access.emit(out));
        let (_, value) = RegionAccess::parse_write(&reply).unwrap();
        u32::from_le_bytes(value.try_into().unwrap())
    }

    pub(crate) fn start(&mut self, source: u64, destination: u64, count: u64, command: u64) {
        self.write(Register::DmaSource, source);
        self.write(Register::DmaDestination, destination);
        self.write(Register::DmaCount, count);
        self.write(Register::DmaCommand, command::START | command);
    }

    /// Waits for the end of a transfer, and tells its errno.
    pub(crate) fn finish(&mut self) -> Option<Errno> {
        while self.read(Register::DmaCommand) & command::START != 0 {}
        match self.read(Register::DmaError) {
            0 => None,
            errno => Some(Errno::from_raw_os_error(errno as i32)),
        }
    }

    /// Lets the device ask for the page at `ram`, and answers nothing from now on.
    pub(crate) fn let_wait(&mut self, ram: u64) {
        self.start_silently(ram, BUFFER, PAGE, 0);
    }

    /// Starts a transfer, lets the device ask for memory, and answers nothing from now on.
    pub(crate) fn start_silently(&mut self, source: u64, to: u64, count: u64, command: u64) {
        self.is_silent = true;
        self.start(source, to, count, command);
        while self.asked.is_empty() {
            let asked = self.receive();
            assert_eq!(asked.0.message_type(), MessageType::Command);
            self.asked.push_back(asked);
        }
        assert_ne!(self.read(Register::DmaCommand) & command::START, 0);
    }
}
