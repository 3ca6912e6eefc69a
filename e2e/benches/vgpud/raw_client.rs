//! A client that costs as little as a client can: prepared requests, plain send and receive.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg,
};

/// Bytes of a message without its data: a header, and which access it is.
pub(crate) const SHORT: usize = 32;

/// The same with four bytes of data.
pub(crate) const LONG: usize = SHORT + DATA.len();

const DATA: [u8; 4] = [0; 4];

/// Bytes of a header.
pub(crate) const HEADER: usize = 16;

/// Bytes of a DMA_MAP.
pub(crate) const MAP: usize = HEADER + 32;

/// Commands of the specification, `VFIO_USER_*`.
const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;

/// What flags of a reply are, without an error.
const REPLY: u32 = 1;

/// Flag of a command that wants no reply.
const NO_REPLY: u8 = 0x10;

/// A register that is trapped and harmless: `VIRT_WIDTH` and `VIRT_HEIGHT` of a bochs display that
/// shows nothing. The peers take any.
const REGION: u32 = 2;
const OFFSET: u64 = 0x50c;

/// Four bytes, read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A short request, a long reply.
    Read,
    /// A long request, a short reply.
    Write,
}

impl Access {
    pub(crate) const BOTH: [Self; 2] = [Self::Read, Self::Write];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    fn request(self) -> Vec<u8> {
        if self == Self::Write {
            return region_write(REGION, OFFSET, &DATA);
        }
        let mut payload = OFFSET.to_le_bytes().to_vec();
        payload.extend(REGION.to_le_bytes());
        payload.extend((DATA.len() as u32).to_le_bytes());
        message(REGION_READ, &payload)
    }

    fn reply_len(self) -> usize {
        match self {
            Self::Read => LONG,
            Self::Write => SHORT,
        }
    }
}

/// How the client waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// In the kernel.
    Sleep,
    /// By asking again and again.
    Poll,
}

/// A connection, and the two requests that are sent over it.
pub(crate) struct RawClient {
    socket: OwnedFd,
    read: Vec<u8>,
    write: Vec<u8>,
    reply: [u8; LONG],
}

impl RawClient {
    /// A client of something that answers at once.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            read: Access::Read.request(),
            write: Access::Write.request(),
            reply: [0; LONG],
        }
    }

    /// A client of the vfio-user server at `path`.
    pub(crate) fn connect(path: &Path) -> anyhow::Result<Self> {
        let socket = UnixStream::connect(path)
            .with_context(|| format!("cannot connect to {}", path.display()))?;
        let mut client = Self::new(socket.into());
        client.agree().context("no version was agreed on")?;
        for access in Access::BOTH {
            client.trip(access, Wait::Sleep)?;
            client.check_reply(access)?;
        }
        Ok(client)
    }

    /// A second descriptor of the connection.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Makes `count` round trips, and adds how long each took, in nanoseconds.
    pub(crate) fn trips(
        &mut self,
        access: Access,
        wait: Wait,
        count: usize,
        took: &mut Vec<f64>,
    ) -> io::Result<()> {
        let mut begin = Instant::now();
        for _ in 0..count {
            self.trip(access, wait)?;
            let end = Instant::now();
            took.push((end - begin).as_nanos() as f64);
            begin = end;
        }
        Ok(())
    }

    fn trip(&mut self, access: Access, wait: Wait) -> io::Result<()> {
        let request = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        send(&self.socket, request, SendFlags::NOSIGNAL)?;
        let reply = &mut self.reply[..access.reply_len()];
        receive(&self.socket, reply, wait)
    }

    /// Writes a register, and waits for the reply.
    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        send(
            &self.socket,
            &region_write(region, offset, data),
            SendFlags::NOSIGNAL,
        )?;
        self.expect(SHORT)
    }

    /// Writes a register, as QEMU writes one: nobody replies.
    pub(crate) fn post(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut request = region_write(region, offset, data);
        request[8] = NO_REPLY;
        send(&self.socket, &request, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Gives the first vector of MSI-X an eventfd.
    pub(crate) fn set_first_vector(&mut self, eventfd: &OwnedFd) -> io::Result<()> {
        // Its own length, an action that triggers an eventfd, the group, the first, how many.
        let payload = [20_u32, 0x24, 2, 0, 1].map(u32::to_le_bytes).concat();
        self.send_with(SET_IRQS, &payload, eventfd)?;
        self.expect(HEADER)
    }

    fn send_with(&mut self, command: u16, payload: &[u8], fd: &OwnedFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        let request = message(command, payload);
        let parts = [IoSlice::new(&request)];
        sendmsg(&self.socket, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Maps part of a file, for reading and writing.
    pub(crate) fn map(
        &mut self,
        file: &OwnedFd,
        offset: u64,
        iova: u64,
        size: u64,
    ) -> io::Result<()> {
        let mut payload = [0; MAP - HEADER];
        payload[..8].copy_from_slice(&[32, 0, 0, 0, 3, 0, 0, 0]); // argsz, flags
        for (at, value) in [(8, offset), (16, iova), (24, size)] {
            payload[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        self.send_with(DMA_MAP, &payload, file)?;
        self.expect(HEADER)
    }

    /// Takes a mapping away.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) -> io::Result<()> {
        let mut payload = [0; 24];
        payload[0] = 24; // argsz
        for (at, value) in [(8, iova), (16, size)] {
            payload[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let request = message(DMA_UNMAP, &payload);
        send(&self.socket, &request, SendFlags::NOSIGNAL)?;
        self.expect(HEADER + payload.len())
    }

    /// Receives a reply of `len` bytes, which must be a good one.
    fn expect(&mut self, len: usize) -> io::Result<()> {
        let mut reply = [0; HEADER + 24];
        // A refusal is as long as a header; then nothing else comes, and the watchdog closes.
        receive(&self.socket, &mut reply[..len], Wait::Sleep)?;
        if size_and_flags(&reply) != (len, REPLY) {
            return Err(io::Error::other(format!("answered by {reply:x?}")));
        }
        Ok(())
    }

    /// Exchanges versions, in words that every server takes.
    fn agree(&self) -> anyhow::Result<()> {
        let mut payload = vec![0, 0, 1, 0];
        payload.extend(br#"{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}"#);
        payload.push(0);
        send(
            &self.socket,
            &message(VERSION, &payload),
            SendFlags::NOSIGNAL,
        )?;
        let mut header = [0; HEADER];
        receive(&self.socket, &mut header, Wait::Sleep)?;
        let (size, flags) = size_and_flags(&header);
        ensure!(flags == REPLY, "refused: {header:x?}");
        let mut rest = vec![0; size.saturating_sub(HEADER)];
        receive(&self.socket, &mut rest, Wait::Sleep)?;
        Ok(())
    }

    fn check_reply(&self, access: Access) -> anyhow::Result<()> {
        let found = size_and_flags(&self.reply);
        ensure!(
            found == (access.reply_len(), REPLY),
            "a {} was answered by {:x?}",
            access.name(),
            self.reply
        );
        Ok(())
    }
}

/// Reads until `buffer` is full.
fn receive(socket: &OwnedFd, buffer: &mut [u8], wait: Wait) -> io::Result<()> {
    let flags = match wait {
        Wait::Sleep => RecvFlags::empty(),
        Wait::Poll => RecvFlags::DONTWAIT,
    };
    let mut done = 0;
    while done < buffer.len() {
        match recv(socket, &mut buffer[done..], flags) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((bytes, _)) => done += bytes,
            Err(Errno::AGAIN) => std::hint::spin_loop(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn region_write(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_le_bytes().to_vec();
    payload.extend(region.to_le_bytes());
    payload.extend((data.len() as u32).to_le_bytes());
    payload.extend(data);
    message(REGION_WRITE, &payload)
}

fn message(command: u16, payload: &[u8]) -> Vec<u8> {
    let id = 1_u16;
    let size = (HEADER + payload.len()) as u32;
    let mut message = id.to_le_bytes().to_vec();
    message.extend(command.to_le_bytes());
    message.extend(size.to_le_bytes());
    message.extend([0; 8]); // no flags, no error
    message.extend(payload);
    message
}

/// Two fields of the header that `message` begins with.
fn size_and_flags(message: &[u8]) -> (usize, u32) {
    let word = |at: usize| {
        let bytes = message[at..].first_chunk().copied().unwrap_or_default();
        u32::from_le_bytes(bytes)
    };
    (word(4) as usize, word(8))
}
