//! A client of bytes with a guest in it, whose memory it reads and writes when it is asked to.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mdev::dma::GuestMemory;
use vfu::Errno;
use vfu::wire::version::{Capabilities, TwinSocket};
use vfu::wire::{Command, Header};

use super::raw::{Outcome, Raw, access, dma, message};
use super::{Instance, memfd, offer};

pub(crate) const PAGE: u64 = 4096;

/// How the client lays out DMA_READ and DMA_WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qemu {
    /// As QEMU 11 does.
    New,
    /// As QEMU 10 did: a 32-bit count, and data after it.
    Old,
}

/// A request for memory, as this client understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) at: u64,
    pub(crate) count: usize,
    /// What is to be written.
    pub(crate) data: Vec<u8>,
}

pub(crate) struct Guest {
    pub(crate) raw: Raw,
    pub(crate) ram: OwnedFd,
    qemu: Qemu,
    /// Requests that came before the reply to an unmap.
    early: VecDeque<(Header, Outcome)>,
}

impl Guest {
    /// A guest that lets the device master the bus, with so many pages of memory.
    pub(crate) fn new(instance: &Instance, qemu: Qemu, pages: u64) -> Self {
        Self::offering(instance, qemu, pages, offer())
    }

    pub(crate) fn offering(
        instance: &Instance,
        qemu: Qemu,
        pages: u64,
        offer: Capabilities,
    ) -> Self {
        let mut raw = Raw::new(instance.connect());
        raw.agree_on(offer);
        let ram = memfd(pages * PAGE);
        let mut guest = Self {
            raw,
            ram,
            qemu,
            early: VecDeque::new(),
        };
        guest.command_register(6);
        guest
    }

    /// A guest with a socket of its own for the device's commands, and that socket's end of it.
    pub(crate) fn with_twin(instance: &Instance, pages: u64) -> (Self, Self) {
        let twin_socket = Some(TwinSocket {
            supported: true,
            fd_index: None,
        });
        let offer = Capabilities {
            twin_socket,
            ..offer()
        };
        let mut main = Self::offering(instance, Qemu::New, pages, offer);
        let twin = Self {
            raw: Raw::new(main.raw.fds.remove(0).into()),
            ram: main.ram.try_clone().unwrap(),
            qemu: Qemu::New,
            early: VecDeque::new(),
        };
        (main, twin)
    }

    pub(crate) fn command_register(&mut self, value: u8) {
        let write = access(4, 7, 2, &[value, 0]);
        let answer = self.raw.ask(Command::RegionWrite as u16, &write, &[]);
        assert!(matches!(answer, Outcome::Success(_)));
    }

    /// Maps pages of the guest's memory where they are; with this file, if any.
    pub(crate) fn map(&mut self, page: u64, pages: u64, fd: Option<&OwnedFd>) -> Outcome {
        let at = page * PAGE;
        let offset = if fd.is_some() { at } else { 0 };
        let payload = dma(32, 3, &[offset, at, pages * PAGE]);
        let fds: Vec<_> = fd.into_iter().map(AsFd::as_fd).collect();
        self.raw.ask(Command::DmaMap as u16, &payload, &fds)
    }

    pub(crate) fn unmap(&mut self, page: u64, pages: u64) -> Outcome {
        let payload = dma(24, 0, &[page * PAGE, pages * PAGE]);
        let unmap = Command::DmaUnmap as u16;
        self.raw.send(&message(7, unmap, &payload), &[]);
        loop {
            let (header, outcome) = self.raw.receive();
            match header {
                Some(header) if header.command != unmap => self.early.push_back((header, outcome)),
                _ => return outcome,
            }
        }
    }

    pub(crate) fn put(&self, at: u64, data: &[u8]) {
        assert_eq!(rustix::io::pwrite(&self.ram, data, at), Ok(data.len()));
    }

    pub(crate) fn look(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        assert_eq!(rustix::io::pread(&self.ram, &mut bytes, at), Ok(len));
        bytes
    }

    /// The next request for memory.
    pub(crate) fn wanted(&mut self) -> Wanted {
        let early = self.early.pop_front();
        let (header, outcome) = early.unwrap_or_else(|| {
            let (header, outcome) = self.raw.receive();
            (header.expect("the session goes on"), outcome)
        });
        let Outcome::Success(payload) = outcome else {
            panic!("a request is no error");
        };
        assert_eq!(header.flags, 0, "a command that wants a reply");
        let at = u64::from_ne_bytes(payload[..8].try_into().unwrap());
        let (count, data_at) = match self.qemu {
            Qemu::New => (u64::from_ne_bytes(payload[8..16].try_into().unwrap()), 16),
            Qemu::Old => {
                let count = u32::from_ne_bytes(payload[8..12].try_into().unwrap());
                (u64::from(count), 12)
            }
        };
        let count = usize::try_from(count).unwrap();
        let is_write = header.command == Command::DmaWrite as u16;
        let written = if is_write { count } else { 0 };
        Wanted {
            id: header.id,
            command: header.command,
            at,
            count,
            data: payload[data_at..data_at + written].to_vec(),
        }
    }

    /// Whether a request comes soon.
    pub(crate) fn is_asked(&mut self) -> bool {
        self.has_message(Duration::from_millis(50))
    }

    fn has_message(&mut self, within: Duration) -> bool {
        !self.early.is_empty() || self.raw.has_message(within)
    }

    /// Does what was asked for, and says so.
    pub(crate) fn serve(&self, wanted: &Wanted) {
        let head = |count: usize| {
            let mut head = wanted.at.to_ne_bytes().to_vec();
            match self.qemu {
                Qemu::New => head.extend((count as u64).to_ne_bytes()),
                Qemu::Old => head.extend((count as u32).to_ne_bytes()),
            }
            head
        };
        let mut payload = head(wanted.count);
        if wanted.command == Command::DmaRead as u16 {
            payload.extend(self.look(wanted.at, wanted.count));
        } else {
            self.put(wanted.at, &wanted.data);
            if self.qemu == Qemu::Old {
                payload.clear();
            }
        }
        self.reply(wanted, &payload);
    }

    pub(crate) fn reply(&self, wanted: &Wanted, payload: &[u8]) {
        let mut reply = message(wanted.id, wanted.command, payload);
        reply[8] = 1;
        self.raw.send(&reply, &[]);
    }

    pub(crate) fn refuse(&self, wanted: &Wanted, errno: Errno) {
        let header = Header {
            id: wanted.id,
            command: wanted.command,
            size: 16,
            flags: 0x21,
            errno: errno.raw_os_error().unsigned_abs(),
        };
        self.raw.send(&header.to_bytes(), &[]);
    }

    /// Does what a thread asks for until it is done. Tells what it was, and what came of it.
    pub(crate) fn serve_all<R>(&mut self, thread: JoinHandle<R>) -> (Vec<Wanted>, R) {
        let mut served = Vec::new();
        while !thread.is_finished() {
            if self.has_message(Duration::from_millis(1)) {
                let wanted = self.wanted();
                self.serve(&wanted);
                served.push(wanted);
            }
        }
        (served, thread.join().unwrap())
    }

    /// Runs something in a thread of the device's, and serves it.
    pub(crate) fn serve_while<R: Send + 'static>(
        &mut self,
        instance: &Instance,
        work: impl FnOnce(&GuestMemory) -> R + Send + 'static,
    ) -> (Vec<Wanted>, R) {
        let thread = in_thread(instance, work);
        self.serve_all(thread)
    }
}

/// Runs something in a thread of the device's.
pub(crate) fn in_thread<R: Send + 'static>(
    instance: &Instance,
    work: impl FnOnce(&GuestMemory) -> R + Send + 'static,
) -> JoinHandle<R> {
    let memory = instance.memory.clone();
    thread::spawn(move || work(&memory))
}
