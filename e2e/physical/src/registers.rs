//! Registers, in memory that is mapped and through the kernel; configuration space.

use mdev::host::{HostDevice, HostError, Interrupt};

use crate::edu::{BAR, BAR_LEN, Edu, IDENTIFICATION, LIVENESS};
use crate::{Failure, expect};

/// What the device says it is: version 1.0, and "edu" in its own way.
const ID: u32 = 0x0100_00ed;

/// Prints what there is of a device.
pub(crate) fn show(device: &HostDevice) -> Result<(), Failure> {
    for region in device.regions() {
        let (index, size, parts) = (region.index, region.size, &region.mappable);
        println!("region {index}: {size:#x} bytes, mappable {parts:x?}");
    }
    for kind in [
        Interrupt::Intx,
        Interrupt::Msi,
        Interrupt::Msix,
        Interrupt::Error,
        Interrupt::Request,
    ] {
        println!("{kind:?}: {}", device.interrupts(kind)?.count);
    }
    println!("can be reset: {}", device.can_reset());
    Ok(())
}

pub(crate) fn run(edu: &Edu) -> Result<(), Failure> {
    let host = &edu.host;
    expect("the identification", &edu.load(IDENTIFICATION)?, &ID)?;
    let mut bytes = [0; 4];
    host.read(BAR, IDENTIFICATION as u64, &mut bytes)?;
    expect(
        "the same, through the kernel",
        &u32::from_le_bytes(bytes),
        &ID,
    )?;
    host.write(BAR, LIVENESS as u64, &0x1234_5678_u32.to_le_bytes())?;
    expect("liveness", &edu.load(LIVENESS)?, &!0x1234_5678)?;
    expect("10!", &edu.factorial(10)?, &3_628_800)?;
    check_refusals(host)?;
    check_silence(host)?;
    println!("registers right");
    Ok(())
}

/// Accesses that are not in a region, mappings that are not in one.
fn check_refusals(host: &HostDevice) -> Result<(), Failure> {
    let mut bytes = [0; 4];
    for (region, offset) in [(BAR, BAR_LEN - 3), (BAR, u64::MAX), (1, 0), (99, 0)] {
        let read = host.read(region, offset, &mut bytes);
        expect_out_of_region(read)?;
        expect_out_of_region(host.write(region, offset, &bytes))?;
    }
    for (region, offset, len) in [
        (BAR, 0, BAR_LEN + 1),
        (BAR, 16, 4096),
        (7, 0, 4096),
        (1, 0, 1),
    ] {
        match host.map(region, offset, len) {
            Err(HostError::NotMappable { .. }) => {}
            other => return Err(format!("mapped {region}, {offset:#x}: {other:?}").into()),
        }
    }
    if !host.can_reset() && host.reset().is_ok() {
        return Err("it was reset, though it cannot be".into());
    }
    Ok(())
}

fn expect_out_of_region(done: Result<(), HostError>) -> Result<(), Failure> {
    match done {
        Err(HostError::OutOfRegion { .. }) => Ok(()),
        other => Err(format!("an access outside: {other:?}").into()),
    }
}

/// A device that does not answer in memory is an error, until it does again.
fn check_silence(host: &HostDevice) -> Result<(), Failure> {
    let mut bytes = [0; 4];
    host.read_config(0, &mut bytes)?;
    expect(
        "vendor and device",
        &u32::from_le_bytes(bytes),
        &0x11e8_1234,
    )?;
    host.set_memory(false)?;
    let silent = host.read(BAR, 0, &mut bytes);
    host.set_memory(true)?;
    if silent.is_ok() {
        return Err("it answers, though it does not decode memory".into());
    }
    host.read(BAR, 0, &mut bytes)?;
    expect("the identification", &u32::from_le_bytes(bytes), &ID)
}
