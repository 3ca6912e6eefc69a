//! What the kernel sets bounds to: memory that is locked for a device, and how many mappings it has.

use mdev::dma::view::Access;
use mdev::dma::{Iova, IovaRange};
use mdev::host::{DeviceAccess, DmaBuffer, HostDevice, HostError};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::bench::guest;
use crate::pins::Memory;
use crate::{Failure, expect, open};

const PAGE: u64 = 4096;
/// Any that is not root.
pub(crate) const USER: u32 = 1000;

/// As a user who may lock so many pages: so many are mapped and no more, and again once they are
/// let go.
pub(crate) fn locked(address: &str, pages: u64) -> Result<(), Failure> {
    let limit = Some(pages * PAGE);
    setrlimit(
        Resource::Memlock,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    // There is one thread.
    set_thread_groups(&[])?;
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let device = open(address, "32")?;
    fill(&device, pages, |error| {
        matches!(error, HostError::MemoryLock)
    })?;
    pin(&device, pages, rustix::io::Errno::NOMEM)?;
    println!("{pages} pages can be locked");
    Ok(())
}

/// With so many mappings allowed.
pub(crate) fn entries(device: &HostDevice, count: u64) -> Result<(), Failure> {
    fill(device, count, |error| {
        matches!(error, HostError::TooManyMappings)
    })?;
    for _ in 0..2 {
        pin_each(device, count)?;
    }
    println!("{count} mappings are allowed");
    Ok(())
}

/// Pins so many pages, each by itself, and one too many; all of them together are few mappings.
fn pin_each(device: &HostDevice, count: u64) -> Result<(), Failure> {
    let memory = Memory::new(device, count + 2)?;
    let page = |page| memory.range(page * PAGE, PAGE);
    let mut pins = Vec::new();
    for number in 0..count {
        pins.push(memory.guest.pin(page(number)?, Access::Read)?);
    }
    match memory.guest.pin(page(count)?, Access::Read) {
        Ok(_) => return Err("more is pinned than may be".into()),
        Err(error) => expect("the errno", &error.errno(), &rustix::io::Errno::NOSPC)?,
    }
    expect(
        "pages that are pinned",
        &memory.guest.counts().1,
        &(count as usize),
    )?;
    drop(pins);
    let all = memory.range(0, (count + 2) * PAGE)?;
    drop(memory.guest.pin(all, Access::Read)?);
    Ok(())
}

/// Of a client that has cut its file short: what is left can be pinned, and nothing beyond it.
pub(crate) fn truncated(device: &HostDevice) -> Result<(), Failure> {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, 4 * PAGE)?;
    let guest = guest(device, &file, 4 * PAGE)?;
    ftruncate(&file, 2 * PAGE)?;
    let range = |pages| IovaRange::new(Iova(0), pages * PAGE).ok_or("not a range");
    for _ in 0..2 {
        match guest.pin(range(4)?, Access::Write) {
            Ok(_) => return Err("what is not there is pinned".into()),
            Err(error) => expect("the errno", &error.errno(), &rustix::io::Errno::FAULT)?,
        }
        expect("pages that are left", &guest.counts().1, &0)?;
        drop(guest.pin(range(2)?, Access::Write)?);
    }
    println!("what is left is pinned");
    Ok(())
}

/// With so few addresses that they are all taken by so many pages.
pub(crate) fn addresses(device: &HostDevice, pages: u64) -> Result<(), Failure> {
    fill(device, pages, |error| {
        matches!(error, HostError::NoAddress(_))
    })?;
    pin(device, pages, rustix::io::Errno::NOSPC)?;
    println!("{pages} pages have addresses");
    Ok(())
}

/// Maps pages until the kernel refuses one, twice.
fn fill(
    device: &HostDevice,
    pages: u64,
    is_expected: impl Fn(&HostError) -> bool,
) -> Result<(), Failure> {
    for _ in 0..2 {
        let mut buffers = Vec::new();
        let error = loop {
            match DmaBuffer::new(device.dma(), 1, DeviceAccess::Write) {
                Ok(buffer) => buffers.push(buffer),
                Err(error) => break error,
            }
        };
        expect("pages", &(buffers.len() as u64), &pages)?;
        if !is_expected(&error) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Pins as many pages, and one too many, which holds none.
fn pin(device: &HostDevice, pages: u64, errno: rustix::io::Errno) -> Result<(), Failure> {
    let memory = Memory::new(device, pages + 1)?;
    for _ in 0..2 {
        let many = memory
            .guest
            .pin(memory.range(0, (pages + 1) * PAGE)?, Access::Read);
        match many {
            Ok(_) => return Err("more is pinned than may be".into()),
            Err(error) => expect("the errno", &error.errno(), &errno)?,
        }
        expect("pages that are left", &memory.guest.counts().1, &0)?;
        drop(
            memory
                .guest
                .pin(memory.range(0, pages * PAGE)?, Access::Read)?,
        );
    }
    Ok(())
}
