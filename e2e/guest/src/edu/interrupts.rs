//! Interrupts, counted by the stock driver for devices that have none, `uio_pci_generic`.
//!
//! Its handler switches the pin off in the command register and counts. The program that it wakes
//! takes the cause away and switches the pin on again.

use std::fs::{self, File};
use std::io::Read;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::device::{Device, Ending, PATIENCE, Transfer, Way};
use super::pages::Pages;
use crate::Failure;

/// What the device raises by itself.
const FACTORIAL_DONE: u32 = 0x001;
const TRANSFER_DONE: u32 = 0x100;

/// Has the device interrupt `count` times, for each of its reasons in turn; prints how often the
/// driver's handler saw it.
pub(super) fn run(device: &Device, count: u32) -> Result<(), Failure> {
    let pages = Pages::new(1, &(0..u64::MAX))?;
    let mut counter = Counter::open(device)?;
    for n in 0..count {
        // The handler of the last one has left the pin off. Every other interrupt is raised before
        // it is on, and has to wait.
        let is_on = n % 2 == 0;
        if is_on {
            device.enable_interrupt()?;
        }
        let bits = raise(device, &pages, n)?;
        if !is_on {
            device.enable_interrupt()?;
        }
        counter.wait()?;
        check(device, n, bits)?;
        device.acknowledge(bits);
        check(device, n, 0)?;
    }
    println!("{} interrupts", counter.seen()?);
    Ok(())
}

/// Looks at what the device has raised, and whether it would interrupt for that.
fn check(device: &Device, n: u32, bits: u32) -> Result<(), Failure> {
    let (raised, is_interrupting) = (device.interrupts(), device.is_interrupting()?);
    if (raised, is_interrupting) == (bits, bits != 0) {
        return Ok(());
    }
    let found = format!("has raised {raised:#x}, interrupts: {is_interrupting}");
    Err(format!("interrupt {n} is {bits:#x}, the device {found}").into())
}

/// Gives the device a reason; returns what it is to raise.
fn raise(device: &Device, pages: &Pages, n: u32) -> Result<u32, Failure> {
    match n % 3 {
        0 => {
            let bits = 1 << (n % 31);
            device.raise(bits);
            Ok(bits)
        }
        1 => {
            let run = pages.runs()[0];
            let transfer = Transfer {
                way: Way::ToMemory,
                physical: run.physical(0),
                at: 0,
                len: run.len,
            };
            device.start(transfer, Ending::Interrupt);
            device.wait_transfer()?;
            Ok(TRANSFER_DONE)
        }
        _ => {
            device.start_factorial(10);
            let product = device.wait_factorial()?;
            if product != 3_628_800 {
                return Err(format!("10! is {product}").into());
            }
            Ok(FACTORIAL_DONE)
        }
    }
}

/// An open `/dev/uioN`.
struct Counter {
    file: File,
    before: u32,
    last: u32,
}

impl Counter {
    fn open(device: &Device) -> Result<Self, Failure> {
        let mut entries = fs::read_dir(device.sysfs().join("uio"))?;
        let name = entries
            .next()
            .ok_or("no driver has the device")??
            .file_name();
        let name = name.to_string_lossy().into_owned();
        let events = fs::read_to_string(format!("/sys/class/uio/{name}/event"))?;
        let before = events.trim().parse()?;
        Ok(Self {
            file: File::open(format!("/dev/{name}"))?,
            before,
            last: before,
        })
    }

    /// Waits for the next interrupt. More than one is an error.
    fn wait(&mut self) -> Result<(), Failure> {
        if !self.is_ready(&Timespec::try_from(PATIENCE)?)? {
            return Err(format!("no interrupt after {}", self.last - self.before).into());
        }
        let mut count = [0; 4];
        self.file.read_exact(&mut count)?;
        let now = u32::from_ne_bytes(count);
        let more = now - std::mem::replace(&mut self.last, now);
        if more == 1 {
            Ok(())
        } else {
            Err(format!("{more} interrupts at once").into())
        }
    }

    /// How many interrupts there were. One that nobody waited for is an error.
    fn seen(&self) -> Result<u32, Failure> {
        if self.is_ready(&Timespec::default())? {
            return Err("an interrupt without a reason".into());
        }
        Ok(self.last - self.before)
    }

    fn is_ready(&self, patience: &Timespec) -> Result<bool, Failure> {
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        Ok(poll(&mut fds, Some(patience))? > 0)
    }
}
