//! Descriptors to send along: some that a message takes, more that none does.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use super::noise::Noise;
use crate::check::Unmet;

const SIZE: u64 = 0x4_0000;

/// One of each kind.
#[derive(Debug)]
pub(super) struct Arsenal {
    fds: Vec<OwnedFd>,
    /// Two more that are cut short now and then.
    loose: [OwnedFd; 2],
}

impl Arsenal {
    pub(super) fn new() -> Result<Self, Unmet> {
        let sealed = memory()?;
        fcntl_add_seals(&sealed, SealFlags::SHRINK | SealFlags::GROW)?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let null = OFlags::RDWR | OFlags::CLOEXEC;
        let mut fds = vec![sealed, reader, writer, one, other];
        fds.push(rustix::fs::open("/dev/null", null, Mode::empty())?);
        fds.push(rustix::fs::open(
            "/",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?);
        for _ in 0..4 {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            fds.push(eventfd(0, flags)?);
        }
        // One that is full, and would block whoever writes it.
        fds.push(eventfd(u32::MAX, EventfdFlags::CLOEXEC)?);
        let full = u64::MAX - 1 - u64::from(u32::MAX);
        if let Some(last) = fds.last() {
            rustix::io::write(last, &full.to_ne_bytes())?;
        }
        Ok(Self {
            fds,
            loose: [memory()?, memory()?],
        })
    }

    /// One of them.
    pub(super) fn any(&self, noise: &mut Noise) -> &OwnedFd {
        if noise.one_in(4) {
            return noise.pick(&[&self.loose[0], &self.loose[1]]);
        }
        let len = u64::try_from(self.fds.len()).unwrap_or(1);
        let place = usize::try_from(noise.below(len)).unwrap_or(0);
        &self.fds[place]
    }

    /// Cuts memory that the server may have mapped short, or gives it its length back.
    pub(super) fn cut(&self, noise: &mut Noise) {
        let size = noise.pick(&[0, 0x1000, 0x800, SIZE, SIZE]);
        let file = noise.pick(&[&self.loose[0], &self.loose[1]]);
        // It cannot fail for a file of ours; were it to, nothing would be cut.
        let _ = ftruncate(file, size);
    }
}

fn memory() -> Result<OwnedFd, Unmet> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create("hostile", flags)?;
    ftruncate(&memory, SIZE)?;
    Ok(memory)
}
