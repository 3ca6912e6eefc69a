//! The spin register: the engine is busy for a time, alone or for its turn.

use std::time::{Duration, Instant};

use mdev::device::Reset;
use mdev::engine::EngineLease;
use mdev::region::RegionIndex;
use mdev::state::Fields;
use mdev::{MediatedDevice, Services};

use super::guest::build;
use crate::edu::registers::{Register, spin};

/// Longer than anything here takes: a test fails after it rather than hang.
const DEADLINE: Duration = Duration::from_secs(20);
const ON: &[(&str, &str)] = &[("spin-register", "on")];

fn read(device: &mut dyn MediatedDevice, register: Register) -> u64 {
    let mut data = [0; 8];
    device
        .read(RegionIndex::Bar0, register as u64, &mut data)
        .unwrap();
    u64::from_le_bytes(data)
}

fn spin(device: &mut dyn MediatedDevice, value: u32) {
    let data = value.to_le_bytes();
    device
        .write(RegionIndex::Bar0, Register::Spin as u64, &data)
        .unwrap();
}

fn wait_for(device: &mut dyn MediatedDevice, register: Register, value: u64) {
    let begun = Instant::now();
    while read(device, register) != value {
        assert!(begun.elapsed() < DEADLINE, "{register:?} is not {value}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Services under which a job waits for ever, since nobody grants time.
fn scheduled() -> Services {
    let mut services = Services::default();
    services.engine = EngineLease::awaited().unwrap();
    services
}

#[test]
fn without_the_attribute_there_is_no_register() {
    let mut device = build(&[], Services::default());
    for register in [Register::Spin, Register::SpinsEnded] {
        let offset = register as u64;
        assert!(device.read(RegionIndex::Bar0, offset, &mut [0; 8]).is_err());
        assert!(device.write(RegionIndex::Bar0, offset, &[0; 8]).is_err());
    }
}

#[test]
fn spins_end_one_after_the_other_and_a_reset_ends_them_all() {
    let mut device = build(ON, Services::default());
    let device = &mut *device;
    for _ in 0..3 {
        spin(device, 100);
    }
    wait_for(device, Register::SpinsEnded, 3);
    assert_eq!(read(device, Register::Spin), 0);
    for _ in 0..spin::MOST + 5 {
        spin(device, u32::MAX);
    }
    assert_eq!(read(device, Register::Spin), spin::MOST as u64);
    device.reset(Reset::Device);
    assert_eq!(read(device, Register::Spin), 0);
    assert_eq!(read(device, Register::SpinsEnded), 0);
    spin(device, 100);
    wait_for(device, Register::SpinsEnded, 1);
}

#[test]
fn what_waits_for_its_turn_holds_up_neither_a_reset_nor_an_unmap_nor_a_stop() {
    let mut device = build(ON, scheduled());
    let device = &mut *device;
    let write = |device: &mut dyn MediatedDevice, register: Register, value: u64| {
        let data = value.to_le_bytes();
        device
            .write(RegionIndex::Bar0, register as u64, &data)
            .unwrap();
    };
    spin(device, 100);
    for (register, value) in [
        (Register::DmaSource, 0x1000),
        (Register::DmaDestination, 0x4_0000),
        (Register::DmaCount, 16),
        (Register::DmaCommand, 1),
    ] {
        write(device, register, value);
    }
    let range = mdev::dma::IovaRange::new(mdev::dma::Iova(0x1000), 4096).unwrap();
    device.dma_unmap(range);
    let migration = device.migration().unwrap();
    migration.stop();
    let mut saved = Vec::new();
    migration.save(&mut saved);
    migration.resume();
    assert_eq!(read(device, Register::DmaCommand) & 1, 1);
    assert_eq!(read(device, Register::Spin), 1);
    device.reset(Reset::Device);
    assert_eq!(read(device, Register::DmaCommand) & 1, 0);
    // Where it is restored, and nobody has to wait, it is done.
    let mut other = build(ON, Services::default());
    let migration = other.migration().unwrap();
    migration.stop();
    migration.restore(2, Fields::of_registers(&saved)).unwrap();
    migration.resume();
    wait_for(&mut *other, Register::SpinsEnded, 1);
    wait_for(&mut *other, Register::DmaFailures, 1);
}

#[test]
fn a_state_with_too_many_spins_is_refused() {
    let mut device = build(ON, Services::default());
    let migration = device.migration().unwrap();
    migration.stop();
    let mut saved = Vec::new();
    migration.save(&mut saved);
    let count = saved.len() - 4;
    for waiting in [0, 1, spin::MOST as u32, spin::MOST as u32 + 1, u32::MAX] {
        let mut changed = saved.clone();
        changed[count..].copy_from_slice(&waiting.to_le_bytes());
        changed.extend(vec![0; 4 * waiting.min(64) as usize]);
        let taken = migration.restore(2, Fields::of_registers(&changed));
        assert_eq!(taken.is_ok(), waiting <= spin::MOST as u32, "{waiting}");
    }
    // One of before has none, and is taken.
    let before = &saved[..saved.len() - 12];
    migration.restore(1, Fields::of_registers(before)).unwrap();
}
