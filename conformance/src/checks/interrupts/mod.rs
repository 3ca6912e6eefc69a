//! DEVICE_SET_IRQS: what is refused, and what reaches an eventfd.

mod assignment;
mod delivery;
mod descriptors;
mod refusals;
mod vectors;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use vfu::wire::Command;
use vfu::wire::irq::IrqFlags;

use crate::check::{Check, Unmet, Verdict};
use crate::connection::{self, Answer};
use crate::negotiated::Client;
use crate::payload::words;

/// Every check of the group.
pub(super) fn all() -> impl Iterator<Item = Check> {
    [
        refusals::CHECKS,
        vectors::CHECKS,
        descriptors::CHECKS,
        assignment::CHECKS,
        delivery::CHECKS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

const SECTION: &str = "VFIO_USER_DEVICE_SET_IRQS";

/// `VFIO_IRQ_SET_*` in `linux/vfio.h`.
const NONE: u32 = 1 << 0;
const BOOL: u32 = 1 << 1;
const EVENTFD: u32 = 1 << 2;
const MASK: u32 = 1 << 3;
const UNMASK: u32 = 1 << 4;
const TRIGGER: u32 = 1 << 5;

/// `VFIO_PCI_*_IRQ_INDEX` in `linux/vfio.h`.
const INTX: u32 = 0;
const MSI: u32 = 1;
const ERR: u32 = 3;
const REQ: u32 = 4;

/// More groups than any device has; a server may say 4 billion.
const MOST_GROUPS: u32 = 64;

/// A group of interrupts that can be signalled.
#[derive(Clone, Copy, Debug)]
struct Group {
    index: u32,
    count: u32,
}

/// The groups that have vectors and take eventfds; skips the check if there is none.
fn groups(client: &mut Client) -> Result<Vec<Group>, Unmet> {
    let mut groups = Vec::new();
    for index in 0..client.device_info()?.num_irqs.min(MOST_GROUPS) {
        let info = client.irq_info(index)?;
        if info.count > 0 && info.flags.contains(IrqFlags::EVENTFD) {
            let count = info.count;
            groups.push(Group { index, count });
        }
    }
    if groups.is_empty() {
        return Err(Unmet::Skip("an interrupt".to_owned()));
    }
    Ok(groups)
}

/// The group with the most vectors.
fn widest(client: &mut Client) -> Result<Group, Unmet> {
    let widest = groups(client)?.into_iter().max_by_key(|group| group.count);
    widest.ok_or_else(|| Unmet::Skip("an interrupt".to_owned()))
}

/// The payload: `flags, index, start, count`, and data after them.
fn set([flags, index, start, count]: [u32; 4], data: &[u8]) -> Vec<u8> {
    let argsz = u32::try_from(20 + data.len()).unwrap_or(u32::MAX);
    let mut payload = words(&[argsz, flags, index, start, count]);
    payload.extend(data);
    payload
}

fn accepts(client: &mut Client, numbers: [u32; 4], data: &[u8]) -> Verdict {
    let payload = set(numbers, data);
    client.accepts(Command::DeviceSetIrqs, &payload).map(drop)
}

fn refuses(client: &mut Client, numbers: [u32; 4], data: &[u8]) -> Verdict {
    let payload = set(numbers, data);
    client.refuses(Command::DeviceSetIrqs, &payload).map(drop)
}

/// A message with descriptors that must be refused.
fn refuses_fds(client: &mut Client, numbers: [u32; 4], data: &[u8], fds: &[&OwnedFd]) -> Verdict {
    let payload = set(numbers, data);
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    client
        .refuses_fds(Command::DeviceSetIrqs, &payload, &fds)
        .map(drop)
}

/// Tells whether it was done.
fn tries(client: &mut Client, numbers: [u32; 4], data: &[u8]) -> Result<bool, Unmet> {
    let payload = set(numbers, data);
    let command = Command::DeviceSetIrqs as u16;
    match client.connection.ask(command, &payload, &[])? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

/// Gives vectors from `start` on an eventfd each.
fn assign(client: &mut Client, index: u32, start: u32, fds: &[&OwnedFd]) -> Verdict {
    let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
    let payload = set([EVENTFD | TRIGGER, index, start, count], &[]);
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
    let command = Command::DeviceSetIrqs as u16;
    client.connection.accepts(command, &payload, &fds).map(drop)
}

/// Takes a group out of use, as at the start.
fn disable(client: &mut Client, index: u32) -> Verdict {
    accepts(client, [NONE | TRIGGER, index, 0, 0], &[])
}

/// An eventfd of ours, which holds `value`.
fn new_eventfd(value: u32) -> Result<OwnedFd, Unmet> {
    Ok(eventfd(
        value,
        EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC,
    )?)
}

/// What an eventfd holds, taken out of it; 0 if nothing.
fn taken(eventfd: &OwnedFd) -> Result<u64, Unmet> {
    let mut count = [0; 8];
    match rustix::io::read(eventfd, &mut count) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// What an eventfd holds, waited for as long as the server may take; 0 if nothing comes.
fn awaited(client: &Client, eventfd: &OwnedFd) -> Result<u64, Unmet> {
    let deadline = Instant::now() + client.connection.patience();
    connection::wait(eventfd.as_fd(), PollFlags::IN, deadline)?;
    taken(eventfd)
}
