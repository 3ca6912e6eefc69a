//! Transfers between the device and buffers that are mapped for it.

use guest::noise::Noise;
use mdev::host::{DeviceAccess, DmaBuffer, HostDma};
use std::sync::Arc;
use vm_memory::Bytes;

use crate::edu::{BUFFER_LEN, Edu, Way};
use crate::{Failure, expect};

/// Where in a page a transfer begins, and how long it is: not a multiple of anything.
const AT: usize = 101;
const LEN: usize = 3001;

pub(crate) fn run(edu: &Edu) -> Result<(), Failure> {
    let dma = edu.host.dma();
    let noise: Vec<u8> = Noise::new(1).take(LEN).collect();
    check_both_ways(edu, dma, &noise)?;
    check_read_only(edu, dma)?;
    check_quiet(edu, dma)?;
    check_gone(edu, dma)?;
    println!("transfers right");
    Ok(())
}

/// What a buffer holds.
pub(crate) fn bytes_of(buffer: &DmaBuffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.slice().len()];
    buffer.slice().copy_to(&mut bytes[..]);
    bytes
}

/// The same bytes go out and come back, and none beside them change.
fn check_both_ways(edu: &Edu, dma: &Arc<HostDma>, noise: &[u8]) -> Result<(), Failure> {
    let from = DmaBuffer::new(dma, BUFFER_LEN, DeviceAccess::Read)?;
    let to = DmaBuffer::new(dma, 3 * BUFFER_LEN, DeviceAccess::Write)?;
    from.slice().write_slice(noise, AT)?;
    edu.transfer(Way::ToDevice, from.device_address() + AT as u64, LEN)?;
    // Across a border of pages.
    let at = 2 * BUFFER_LEN - AT;
    edu.transfer(Way::ToMemory, to.device_address() + at as u64, LEN)?;
    let mut expected = vec![0; 3 * BUFFER_LEN];
    expected[at..at + LEN].copy_from_slice(noise);
    if bytes_of(&to) == expected {
        Ok(())
    } else {
        Err("what comes back is not what went out".into())
    }
}

/// What is in the device by now goes to where it may not.
fn check_unchanged(edu: &Edu, buffer: &DmaBuffer, what: &str) -> Result<(), Failure> {
    let before = bytes_of(buffer);
    edu.transfer(Way::ToMemory, buffer.device_address(), LEN)?;
    if bytes_of(buffer) == before {
        Ok(())
    } else {
        Err(format!("the device has written {what}").into())
    }
}

fn check_read_only(edu: &Edu, dma: &Arc<HostDma>) -> Result<(), Failure> {
    let buffer = DmaBuffer::new(dma, BUFFER_LEN, DeviceAccess::Read)?;
    check_unchanged(edu, &buffer, "where it may only read")
}

/// A device that is no bus master reaches nothing, and everything once it is one again.
fn check_quiet(edu: &Edu, dma: &Arc<HostDma>) -> Result<(), Failure> {
    let buffer = DmaBuffer::new(dma, BUFFER_LEN, DeviceAccess::Write)?;
    edu.host.set_bus_master(false)?;
    check_unchanged(edu, &buffer, "without being a bus master")?;
    edu.host.set_bus_master(true)?;
    match check_unchanged(edu, &buffer, "") {
        Err(_) => Ok(()),
        Ok(()) => Err("the device writes nothing, though it is a bus master".into()),
    }
}

/// An address that was a buffer's is nobody's, also where its neighbours still are; then it is
/// another buffer's.
fn check_gone(edu: &Edu, dma: &Arc<HostDma>) -> Result<(), Failure> {
    let make = || DmaBuffer::new(dma, BUFFER_LEN, DeviceAccess::Write);
    let (before, gone, after) = (make()?, make()?, make()?);
    let address = gone.device_address();
    expect(
        "where a buffer is",
        &before.device_address(),
        &(address - BUFFER_LEN as u64),
    )?;
    expect(
        "where a buffer is",
        &after.device_address(),
        &(address + BUFFER_LEN as u64),
    )?;
    drop(gone);
    edu.transfer(Way::ToMemory, address, BUFFER_LEN)?;
    for buffer in [&before, &after] {
        expect("a neighbour", &bytes_of(buffer)[..], &[0; BUFFER_LEN][..])?;
    }
    let next = make()?;
    expect("where the next is", &next.device_address(), &address)?;
    expect("the next", &bytes_of(&next)[..], &[0; BUFFER_LEN][..])
}
