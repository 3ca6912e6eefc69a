//! A client with a guest in it: memory that the device under test reaches by mapping or by
//! message, and an edu device that does so when told to.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use vfu::wire::header::MessageType;
use vfu::wire::{Command, Header};

use crate::check::{Unmet, Verdict, Within};
use crate::connection::{self, Connection, Message};
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::negotiated::{CONFIG, Client, OFFER};
use crate::payload::{self, dma, longs};
use crate::target::Target;

/// The page size that everybody supports; section "VFIO_USER_VERSION", `pgsizes`.
pub const PAGE: u64 = 4096;
/// Flag of DMA_MAP: the device may read.
pub const READ: u32 = 1 << 0;
/// Flag of DMA_MAP: the device may write.
pub const WRITE: u32 = 1 << 1;
/// The device may read and write.
pub const BOTH: u32 = READ | WRITE;

/// Command register of PCI config space.
const COMMAND: u64 = 4;
/// Of the command register: memory and bus mastering.
const MASTER: u8 = 6;

/// Memory of so many pages, sealed against shrinking as QEMU's is: a server may take no other.
pub fn memory(pages: u64) -> Result<OwnedFd, Unmet> {
    let file = unsealed(pages)?;
    fcntl_add_seals(&file, SealFlags::SHRINK)?;
    Ok(file)
}

/// Memory of so many pages that can be taken away.
pub fn unsealed(pages: u64) -> Result<OwnedFd, Unmet> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("conformance", flags)?;
    ftruncate(&file, pages * PAGE)?;
    Ok(file)
}

/// A DMA_READ or DMA_WRITE of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// To be echoed.
    pub id: u16,
    /// DMA_READ or DMA_WRITE.
    pub command: u16,
    /// Whether the server waits for a reply.
    pub wants_reply: bool,
    /// Guest address.
    pub iova: u64,
    /// Bytes.
    pub count: u64,
    /// What is to be written.
    pub data: Vec<u8>,
}

impl Wanted {
    /// Whether guest memory is to be written; one of no bytes writes nothing.
    pub fn is_write(&self) -> bool {
        self.command == Command::DmaWrite as u16
    }

    /// Reads a command of the server as the specification lays it out: `u64 address, u64 count`,
    /// then the data.
    pub fn parse(message: &Message) -> Result<Self, Unmet> {
        let Header { id, command, .. } = message.header;
        let is_write = command == Command::DmaWrite as u16;
        ensure!(
            is_write || command == Command::DmaRead as u16,
            "the server sent command {command}"
        );
        ensure!(
            message.fds.is_empty(),
            "descriptors came with command {command}"
        );
        let Some((head, data)) = message.payload.split_at_checked(16) else {
            let len = message.payload.len();
            return Err(Unmet::fail(format!("command {command} of {len} bytes")));
        };
        let number = |at: usize| {
            let bytes = head.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        let count = number(8);
        let expected = if is_write { count } else { 0 };
        ensure!(
            data.len() as u64 == expected,
            "command {command} for {count} bytes has {} bytes of data",
            data.len()
        );
        Ok(Self {
            id,
            command,
            wants_reply: message.header.flags & payload::NO_REPLY == 0,
            iova: number(0),
            count,
            data: data.to_vec(),
        })
    }
}

/// A client, its guest's memory, and what the server asked of it.
#[derive(Debug)]
pub struct Guest {
    /// The connection.
    pub client: Client,
    /// The guest's memory: address 0 is its first byte.
    pub ram: OwnedFd,
    /// The socket for the server's commands, if it has opened one.
    pub twin: Option<Connection>,
    /// Every command of the server that was served.
    pub served: Vec<Wanted>,
}

impl Guest {
    /// A guest with so many pages, that lets the device master the bus.
    pub fn new(target: &Target, pages: u64) -> Result<Self, Unmet> {
        Self::of(target.client()?, pages)
    }

    /// A guest whose client names no `max_dma_maps`. Our server asks such a client nothing, and
    /// reaches what comes with a file by mapping it at once.
    pub fn believed(target: &Target, pages: u64) -> Result<Self, Unmet> {
        let offer = OFFER.replace(r#""max_dma_maps":65535,"#, "");
        Self::of(target.client_offering(&offer)?, pages)
    }

    /// The guest behind a client.
    pub fn of(client: Client, pages: u64) -> Result<Self, Unmet> {
        let mut guest = Self {
            client,
            ram: memory(pages)?,
            twin: None,
            served: Vec::new(),
        };
        guest.master(true)?;
        Ok(guest)
    }

    /// Switches bus mastering on or off.
    pub fn master(&mut self, is_on: bool) -> Verdict {
        let command = if is_on { MASTER } else { 2 };
        self.client.write(CONFIG, COMMAND, &[command, 0])
    }

    /// Maps pages of the memory where they are, without a file.
    pub fn map(&mut self, page: u64, pages: u64, flags: u32) -> Verdict {
        let payload = dma(32, flags, &[0, page * PAGE, pages * PAGE]);
        self.client.accepts(Command::DmaMap, &payload).map(drop)
    }

    /// Maps pages of the memory where they are, with its file.
    pub fn map_shared(&mut self, page: u64, pages: u64) -> Verdict {
        self.map_file(BOTH, [page * PAGE, page * PAGE, pages * PAGE])
    }

    /// Maps `size` bytes of the memory's file from `offset` on at `iova`.
    pub fn map_file(&mut self, flags: u32, [offset, iova, size]: [u64; 3]) -> Verdict {
        let payload = dma(32, flags, &[offset, iova, size]);
        let connection = &mut self.client.connection;
        let command = Command::DmaMap as u16;
        connection
            .accepts(command, &payload, &[self.ram.as_fd()])
            .map(drop)
    }

    /// Unmaps pages.
    pub fn unmap(&mut self, page: u64, pages: u64) -> Verdict {
        let payload = dma(24, 0, &[page * PAGE, pages * PAGE]);
        self.client.accepts(Command::DmaUnmap, &payload).map(drop)
    }

    /// Writes guest memory.
    pub fn put(&self, at: u64, data: &[u8]) -> Verdict {
        let put = pwrite(&self.ram, data, at)?;
        ensure!(put == data.len(), "the suite itself failed: a short write");
        Ok(())
    }

    /// Reads guest memory.
    pub fn look(&self, at: u64, len: usize) -> Result<Vec<u8>, Unmet> {
        let mut bytes = vec![0; len];
        let looked = pread(&self.ram, &mut bytes, at)?;
        ensure!(looked == len, "the suite itself failed: a short read");
        Ok(bytes)
    }

    /// The next command of the server, or `None` if none begins to come within `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Wanted>, Unmet> {
        if let Some(message) = self.next_message(limit)? {
            return Wanted::parse(&message).map(Some);
        }
        Ok(None)
    }

    /// The next command of the server, which must come.
    pub fn wanted(&mut self) -> Result<Wanted, Unmet> {
        let patience = self.client.connection.patience();
        self.next_within(patience)?
            .ok_or_else(|| Unmet::fail("the device asks for no memory"))
    }

    fn next_message(&mut self, limit: Duration) -> Result<Option<Message>, Unmet> {
        let connection = self.twin.as_mut().unwrap_or(&mut self.client.connection);
        if connection.has_commands() {
            return connection.next_command().map(Some);
        }
        match connection.receive_within(limit)? {
            None => Ok(None),
            Some(connection::Received::Message(message))
                if message.header.message_type() == MessageType::Command =>
            {
                Ok(Some(message))
            }
            Some(other) => Err(Unmet::fail(format!(
                "a command should come, and there came {}",
                connection::describe(&other)
            ))),
        }
    }

    /// Does what was asked for, and says so.
    pub fn serve(&mut self, wanted: &Wanted) -> Verdict {
        let mut reply = longs(&[wanted.iova, wanted.count]);
        if wanted.is_write() {
            self.put(wanted.iova, &wanted.data)?;
        } else {
            let len = usize::try_from(wanted.count).unwrap_or(usize::MAX);
            ensure!(len <= 1 << 26, "the server asks for {len} bytes at once");
            reply.extend(self.look(wanted.iova, len).within("what was asked for")?);
        }
        self.served.push(wanted.clone());
        if wanted.wants_reply {
            self.reply(wanted, 1, 0, &reply)?;
        }
        Ok(())
    }

    /// Replies with these flags, errno and payload, be they right or wrong.
    pub fn reply(&mut self, wanted: &Wanted, flags: u32, errno: u32, payload: &[u8]) -> Verdict {
        let size = u32::try_from(Header::LEN + payload.len()).unwrap_or(u32::MAX);
        let header = Header {
            id: wanted.id,
            command: wanted.command,
            size,
            flags,
            errno,
        };
        let mut message = header.to_bytes().to_vec();
        message.extend(payload);
        let connection = self.twin.as_mut().unwrap_or(&mut self.client.connection);
        connection.send(&message, &[])
    }

    /// Replies with an error.
    pub fn refuse(&mut self, wanted: &Wanted, errno: u32) -> Verdict {
        self.reply(wanted, 1 | payload::ERROR, errno, &[])
    }

    /// Serves what the device asks for until its transfer has ended.
    pub fn serve_all(&mut self) -> Verdict {
        let deadline = Instant::now() + 2 * self.client.connection.patience();
        while edu::is_transferring(&mut self.client)? {
            ensure!(Instant::now() < deadline, "the transfer does not end");
            while let Some(wanted) = self.next_within(Duration::from_millis(1))? {
                self.serve(&wanted)?;
            }
        }
        while let Some(wanted) = self.next_within(Duration::ZERO)? {
            self.serve(&wanted)?;
        }
        Ok(())
    }

    /// A transfer between guest memory at `iova` and the beginning of the device's buffer, served
    /// until it has ended. Tells which commands it took; those of no bytes are left out.
    pub fn transfer(&mut self, way: Way, iova: u64, count: u64) -> Result<Vec<Wanted>, Unmet> {
        self.serve_all()?;
        self.served.clear();
        edu::start(&mut self.client, way, iova, 0, count)?;
        self.serve_all()?;
        let served = self.served.iter().filter(|wanted| wanted.count > 0);
        Ok(served.cloned().collect())
    }

    /// Puts bytes into the device's buffer, by way of guest memory at `iova`, which holds what it
    /// did before.
    pub fn fill(&mut self, iova: u64, data: &[u8]) -> Verdict {
        let before = self.look(iova, data.len())?;
        self.put(iova, data)?;
        self.transfer(Way::FromRam, iova, data.len() as u64)?;
        self.put(iova, &before)
    }

    /// Whether the main socket has something to read.
    pub fn is_main_readable(&self) -> Result<bool, Unmet> {
        let socket = self.client.connection.as_fd();
        Ok(connection::wait(socket, PollFlags::IN, Instant::now())?)
    }
}
