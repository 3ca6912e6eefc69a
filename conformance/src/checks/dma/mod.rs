//! DMA_MAP, DMA_UNMAP, and what the server does with the memory.

mod aligned;
mod exact;
mod files;
mod lifetime;
mod map;
mod mapped;
mod messages;
mod open;
mod replies;
mod twin;
mod unmap;
mod walk;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{SealFlags, fcntl_add_seals};
use rustix::io::Errno;
use vfu::wire::Command;

use crate::check::{Check, Unmet, Verdict};
use crate::connection::Answer;
use crate::guest::{BOTH, PAGE, READ, WRITE, memory};
use crate::negotiated::Client;
use crate::payload::dma;
pub(crate) use walk::Numbers;

/// Every check of the group.
pub(super) fn all() -> impl Iterator<Item = Check> {
    [
        map::CHECKS,
        aligned::CHECKS,
        unmap::CHECKS,
        exact::CHECKS,
        walk::CHECKS,
        files::CHECKS,
        lifetime::CHECKS,
        messages::CHECKS,
        replies::CHECKS,
        open::CHECKS,
        mapped::CHECKS,
        twin::CHECKS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

const MAP_SECTION: &str = "VFIO_USER_DMA_MAP";
const UNMAP_SECTION: &str = "VFIO_USER_DMA_UNMAP";

/// Flags of DMA_UNMAP, from `linux/vfio.h`: libvfio-user and QEMU have them, the specification
/// says that flags are not used.
const GET_BITMAP: u32 = 1 << 0;
const ALL: u32 = 1 << 1;

/// Maps without a file, for reading and writing.
fn map(client: &mut Client, iova: u64, size: u64) -> Verdict {
    let payload = dma(32, BOTH, &[0, iova, size]);
    client.accepts(Command::DmaMap, &payload).map(drop)
}

/// A mapping without a file that must be refused; of which the errno is told.
fn map_refused(client: &mut Client, iova: u64, size: u64) -> Result<Option<Errno>, Unmet> {
    client.refuses(Command::DmaMap, &dma(32, BOTH, &[0, iova, size]))
}

/// Maps `size` bytes of a file from `offset` on, or may not; tells whether it was done.
fn try_map_file(
    client: &mut Client,
    fds: &[&OwnedFd],
    flags: u32,
    [offset, iova, size]: [u64; 3],
) -> Result<bool, Unmet> {
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    let payload = dma(32, flags, &[offset, iova, size]);
    let command = Command::DmaMap as u16;
    match client.connection.ask(command, &payload, &fds)? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

/// Maps `size` bytes of a file from `offset` on.
fn map_file(client: &mut Client, fd: &OwnedFd, flags: u32, numbers: [u64; 3]) -> Verdict {
    match try_map_file(client, &[fd], flags, numbers)? {
        true => Ok(()),
        false => Err(Unmet::fail("DMA_MAP with a file was refused")),
    }
}

/// DMA_MAP with descriptors that must be refused.
fn map_file_refused(
    client: &mut Client,
    fds: &[&OwnedFd],
    flags: u32,
    numbers: [u64; 3],
) -> Verdict {
    match try_map_file(client, fds, flags, numbers)? {
        true => Err(Unmet::fail("DMA_MAP succeeded")),
        false => Ok(()),
    }
}

fn unmap(client: &mut Client, iova: u64, size: u64) -> Verdict {
    let payload = dma(24, 0, &[iova, size]);
    client.accepts(Command::DmaUnmap, &payload).map(drop)
}

fn unmap_refused(client: &mut Client, iova: u64, size: u64) -> Verdict {
    let payload = dma(24, 0, &[iova, size]);
    client.refuses(Command::DmaUnmap, &payload).map(drop)
}

/// Whether exactly this is mapped. It is not any more.
fn was_mapped(client: &mut Client, iova: u64, size: u64) -> Result<bool, Unmet> {
    let payload = dma(24, 0, &[iova, size]);
    let command = Command::DmaUnmap as u16;
    match client.connection.ask(command, &payload, &[])? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed at DMA_UNMAP")),
    }
}

/// Whether nobody has the file mapped for writing: only then the kernel seals it against that.
fn is_let_go(file: &OwnedFd) -> Result<bool, Unmet> {
    match fcntl_add_seals(file, SealFlags::WRITE) {
        Ok(()) => Ok(true),
        Err(Errno::BUSY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
