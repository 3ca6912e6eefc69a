//! An engine that goes on where another one's process has died.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::dma::{DmaLimits, GuestMemory, Iova};
use mdev::engine::EngineLease;
use mdev::irq::Interrupts;
use mdev::region_memory::RegionMemory;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::wire::dma::{DmaFlags, DmaMap};

use crate::edu::ended::STORE_LEN;
use crate::edu::engine::{Engine, TransferJob};
use crate::edu::interrupt::Interrupt;
use crate::edu::mover::Copier;
use crate::edu::registers::cause;
use crate::edu::settings::{DmaMask, Way};
use crate::edu::transfer::{BUFFER, Direction, Request};

fn memory() -> GuestMemory {
    let memory = GuestMemory::standing_alone(DmaLimits::default());
    let file: OwnedFd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 0x1000).unwrap();
    let map = DmaMap {
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        iova: 0,
        size: 0x1000,
    };
    memory.map(&map, Some(file)).unwrap();
    memory
}

/// From the beginning of memory to the buffer.
fn transfer(number: u64, count: u64) -> TransferJob {
    let request = Request {
        direction: Direction::FromRam,
        source: 0,
        destination: BUFFER,
        count,
    };
    TransferJob {
        number,
        transfer: request.check(DmaMask::default()),
        way: Way::Copy,
        interrupt: true,
    }
}

#[test]
fn a_transfer_that_has_ended_is_not_done_again_and_is_told_of_again() {
    let memory = memory();
    let store = Arc::new(RegionMemory::new("store", STORE_LEN).unwrap());
    let start = || {
        let interrupt = Arc::new(Interrupt::new(Interrupts::default()));
        let store = Some(Arc::clone(&store));
        let engine = Engine::start(
            memory.clone(),
            EngineLease::default(),
            Arc::clone(&interrupt),
            store.clone(),
            Box::new(Copier::new(store)),
        )
        .unwrap();
        (engine, interrupt)
    };
    let (first, _) = start();
    memory.write(Iova(0), b"one").unwrap();
    first.transfer(transfer(1, 3));
    first.stop();
    first.resume();
    first.transfer(transfer(2, 1 << 20));
    first.stop();
    memory.write(Iova(0), b"two").unwrap();

    let (next, interrupt) = start();
    let buffer = || {
        let mut bytes = [0; 3];
        store.read(0, &mut bytes).unwrap();
        bytes
    };
    for number in [1, 2] {
        next.transfer(transfer(number, 3));
        let state = next.state();
        assert!(!state.is_transferring);
        assert_eq!(
            (state.dma_error, state.dma_failures),
            (22, 1),
            "of the last"
        );
        assert_eq!(interrupt.causes(), cause::DMA);
        interrupt.acknowledge(cause::DMA);
        assert_eq!(buffer(), *b"one");
    }
    next.transfer(transfer(3, 3));
    next.stop();
    assert_eq!(buffer(), *b"two", "another one is done");
    assert_eq!(next.state().dma_error, 0);
}

#[test]
fn after_a_reset_no_transfer_has_ended() {
    let memory = memory();
    let store = Arc::new(RegionMemory::new("store", STORE_LEN).unwrap());
    let interrupt = Arc::new(Interrupt::new(Interrupts::default()));
    let engine = Engine::start(
        memory.clone(),
        EngineLease::default(),
        interrupt,
        Some(Arc::clone(&store)),
        Box::new(Copier::new(Some(Arc::clone(&store)))),
    )
    .unwrap();
    memory.write(Iova(0), b"one").unwrap();
    engine.transfer(transfer(7, 3));
    engine.stop();
    engine.reset();
    engine.transfer(transfer(7, 3));
    engine.stop();
    let mut bytes = [0; 3];
    store.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, *b"one");
}
