//! The servers that are not vgpud. Each is this program, started again with a socket as its
//! standard input.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use anyhow::Context;
use clap::ValueEnum;
use rustix::fs::{fcntl_getfl, fstat};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Server, ServerBackend, ServerRegion};

use crate::raw_client::{HEADER, LONG, MAP, SHORT};

/// `VFIO_PCI_NUM_REGIONS`.
const REGIONS: u32 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// The least that an answer can cost.
    Floor,
    /// Takes the descriptor of a DMA_MAP, asks the kernel what every server must ask of it, and
    /// answers; keeps nothing.
    BareMaps,
    /// The server of the crate `vfio_user`. Standard input is a listening socket.
    VfioUser,
}

impl Peer {
    /// Serves until the client hangs up.
    pub(crate) fn serve(self) -> anyhow::Result<()> {
        match self {
            Self::Floor => serve_floor(io::stdin()),
            Self::BareMaps => serve_bare_maps(io::stdin()),
            Self::VfioUser => {
                let listener = io::stdin().as_fd().try_clone_to_owned()?;
                let regions = vec![trapped_region(); REGIONS as usize];
                let server = Server::from_owned_fd(listener, false, Vec::new(), regions);
                server.run(&mut Register::default())?;
                Ok(())
            }
        }
    }

    /// The word for it on the command line.
    pub(crate) fn key(self) -> anyhow::Result<String> {
        let value = self.to_possible_value().context("a peer without a name")?;
        Ok(value.get_name().to_owned())
    }

    /// What its figures are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::BareMaps => "the checks alone",
            Self::VfioUser => "crate vfio_user",
        }
    }
}

/// Receives and sends: a short message for a long one, and the other way round.
fn serve_floor(socket: impl AsFd) -> anyhow::Result<()> {
    let mut request = [0; LONG];
    let reply = [0; LONG];
    loop {
        let (len, _) = recv(&socket, &mut request, RecvFlags::empty())?;
        if len == 0 {
            return Ok(());
        }
        let reply = &reply[..SHORT + LONG - len];
        send(&socket, reply, SendFlags::NOSIGNAL)?;
    }
}

/// Answers DMA_MAP with a header and DMA_UNMAP with what it asked.
fn serve_bare_maps(socket: impl AsFd) -> anyhow::Result<()> {
    let mut buffer = [0; MAP];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(&mut buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let len = recvmsg(&socket, &mut room, &mut ancillary, flags)?.bytes;
        if len == 0 {
            return Ok(());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    fstat(&fd)?;
                    fcntl_getfl(&fd)?;
                }
            }
        }
        let answer = if len == MAP { HEADER } else { len };
        buffer[4..8].copy_from_slice(&(answer as u32).to_le_bytes());
        buffer[8] = 1; // a reply
        send(&socket, &buffer[..answer], SendFlags::NOSIGNAL)?;
    }
}

fn trapped_region() -> ServerRegion {
    ServerRegion {
        region_info: Default::default(),
        sparse_areas: Vec::new(),
        mmap_fd: None,
    }
}

/// A device that is one register, at every place.
#[derive(Default)]
struct Register([u8; 4]);

impl ServerBackend for Register {
    fn region_read(&mut self, _: u32, _: u64, data: &mut [u8]) -> io::Result<()> {
        copy(&self.0, data);
        Ok(())
    }

    fn region_write(&mut self, _: u32, _: u64, data: &[u8]) -> io::Result<()> {
        copy(data, &mut self.0);
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}

/// Copies what there is room for.
fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
