//! What guests and their VMMs do, by hand.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use vfu::client::{Client, ClientError};
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

pub(crate) const PAGE: u64 = 4096;

const CONFIG: u32 = 7;

/// Registers of `edu`: `docs/specs/edu.rst` of QEMU.
mod edu {
    pub(super) const RAISE: u64 = 0x60;
    pub(super) const ACKNOWLEDGE: u64 = 0x64;
    pub(super) const DMA: [u64; 4] = [0x80, 0x88, 0x90, 0x98];
    pub(super) const COMMAND: u64 = 0x98;
    pub(super) const BUFFER: u64 = 0x4_0000;
    pub(super) const START: u64 = 1;
    pub(super) const TO_RAM: u64 = 2;
}

/// Guest memory, in a file.
pub(crate) fn memory(len: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, len).unwrap();
    fd
}

pub(crate) fn map(client: &mut Client, file: &impl AsFd, size: u64) -> Result<(), ClientError> {
    let map = DmaMap {
        flags: DmaFlags::all(),
        offset: 0,
        iova: 0,
        size,
    };
    client.dma_map(&map, Some(file.as_fd()))
}

/// Lets the device reach memory.
pub(crate) fn enable(client: &mut Client) {
    let command = 0b110_u16.to_le_bytes();
    client.region_write(CONFIG, 4, &command).unwrap();
}

/// An edu device fetches a page and stores it behind that page.
pub(crate) fn copy_a_page(client: &mut Client) -> Result<(), ClientError> {
    enable(client);
    for (source, destination, command) in [
        (0, edu::BUFFER, edu::START),
        (edu::BUFFER, PAGE, edu::START | edu::TO_RAM),
    ] {
        let values = [source, destination, PAGE, command];
        for (register, value) in edu::DMA.into_iter().zip(values) {
            client.region_write(0, register, &value.to_le_bytes())?;
        }
        let mut busy = [1; 4];
        while busy[0] & 1 != 0 {
            client.region_read(0, edu::COMMAND, &mut busy)?;
        }
    }
    Ok(())
}

/// Maps two pages for an edu device, has it copy the first, and looks.
pub(crate) fn transfer(client: &mut Client) {
    let file = memory(2 * PAGE);
    let bytes = [0x5a; PAGE as usize];
    pwrite(&file, &bytes, 0).unwrap();
    map(client, &file, 2 * PAGE).unwrap();
    copy_a_page(client).unwrap();
    let mut copied = [0; PAGE as usize];
    pread(&file, &mut copied, PAGE).unwrap();
    assert!(copied == bytes);
    client.dma_unmap(&DmaUnmap::All).unwrap();
}

/// An edu device interrupts by an eventfd of ours. The worker must find that it is one.
pub(crate) fn interrupt(client: &mut Client) {
    let line = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let set = |action, data| SetIrqs {
        index: 0,
        start: 0,
        count: 1,
        action,
        data,
    };
    let trigger = |fd| set(IrqAction::Trigger, IrqData::Eventfd(vec![Some(fd)]));
    assert!(
        client.set_irqs(&trigger(memory(PAGE))).is_err(),
        "no eventfd"
    );
    client
        .set_irqs(&trigger(line.try_clone().unwrap()))
        .unwrap();
    client
        .region_write(0, edu::RAISE, &1_u32.to_le_bytes())
        .unwrap();
    let limit = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(&line, PollFlags::IN)], Some(&limit));
    assert_eq!(ready, Ok(1));
    client
        .region_write(0, edu::ACKNOWLEDGE, &1_u32.to_le_bytes())
        .unwrap();
    // The line was masked when it fired.
    client
        .set_irqs(&set(IrqAction::Unmask, IrqData::None))
        .unwrap();
}

/// A guest sets a mode on a bochs display.
pub(crate) fn set_mode(client: &mut Client, width: u16, height: u16) {
    for (index, value) in [(1, width), (2, height), (3, 32), (6, width), (4, 0x41)] {
        let at = 0x500 + 2 * index;
        client.region_write(2, at, &value.to_le_bytes()).unwrap();
    }
}

/// A serial port receives what it transmits.
pub(crate) fn loop_back(client: &mut Client) {
    client.region_write(0, 0, b"x").unwrap();
    let mut byte = [0];
    client.region_read(0, 0, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
}
