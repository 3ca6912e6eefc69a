//! Interrupts of every kind, counted.

use std::os::fd::AsFd;

use mdev::host::{DeviceAccess, DmaBuffer, HostDevice, HostError, Interrupt};

use crate::edu::{BUFFER_LEN, Edu, Way};
use crate::eventfd::Eventfd;
use crate::{Failure, expect};

pub(crate) fn run(edu: &Edu, count: usize) -> Result<(), Failure> {
    let host = &edu.host;
    let event = Eventfd::new()?;

    host.signal(Interrupt::Msi, &[event.as_fd()])?;
    for _ in 0..count {
        edu.raise()?;
        expect("messages", &event.wait()?, &1)?;
        edu.acknowledge()?;
    }
    let buffer = DmaBuffer::new(host.dma(), BUFFER_LEN, DeviceAccess::Write)?;
    edu.start_with_interrupt(Way::ToMemory, buffer.device_address(), BUFFER_LEN)?;
    expect("messages at the end of a transfer", &event.wait()?, &1)?;
    edu.acknowledge()?;
    host.silence(Interrupt::Msi)?;

    host.signal(Interrupt::Intx, &[event.as_fd()])?;
    for _ in 0..count {
        edu.raise()?;
        expect("interrupts of the pin", &event.wait()?, &1)?;
        edu.acknowledge()?;
        host.unmask()?;
    }
    // Held back, it comes once it is let through.
    host.mask()?;
    edu.raise()?;
    expect("interrupts that are held back", &event.take()?, &0)?;
    host.unmask()?;
    expect("interrupts let through", &event.wait()?, &1)?;
    edu.acknowledge()?;
    host.silence(Interrupt::Intx)?;

    let none = host.signal(Interrupt::Msix, &[event.as_fd()]);
    let many = host.signal(Interrupt::Msi, &[event.as_fd(); 2]);
    match (none, many) {
        (Err(HostError::NoInterrupt), Err(HostError::NoInterrupt)) => {}
        other => return Err(format!("interrupts that there are none of: {other:?}").into()),
    }
    println!("{count} interrupts of each kind");
    Ok(())
}

/// What the kernel has to say of a device: that it is lost, that it is wanted back. Prints which of
/// the two it says of such a device.
pub(crate) fn notices(host: &HostDevice) -> Result<(), Failure> {
    for kind in [Interrupt::Error, Interrupt::Request] {
        if host.interrupts(kind)?.count == 0 {
            continue;
        }
        let event = Eventfd::new()?;
        host.signal(kind, &[event.as_fd()])?;
        host.raise(kind)?;
        expect("a notice", &event.wait()?, &1)?;
        host.silence(kind)?;
        // Nobody is told, which the kernel may call an error.
        let _ = host.raise(kind);
        expect("a notice to nobody", &event.take()?, &0)?;
        println!("{kind:?}");
    }
    Ok(())
}

/// Waits until the kernel says what it has to say of a device, and gives that back.
pub(crate) fn told(host: &HostDevice, kind: Interrupt) -> Result<(), Failure> {
    let event = Eventfd::new()?;
    host.signal(kind, &[event.as_fd()])?;
    println!("waits");
    event.wait()?;
    println!("{kind:?}");
    Ok(())
}
