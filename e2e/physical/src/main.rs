//! `physical`: tries `mdev::host` on a device that the guest's kernel gives to user space.
//!
//! The guest has an IOMMU, and an educational device of QEMU's is its physical device.
//!
//! - [`edu`]: the device's registers.
//! - [`registers`], [`transfers`], [`interrupts`], [`pins`]: what is tried; each says what it saw.
//! - [`keeping`]: workers that have the device, killed and replaced.
//! - [`limits`]: where the kernel ends it.
//! - [`seats`]: vGPUs on the device, served in this process; [`driver`] is what a guest of one does,
//!   [`traffic`] its transfers at random, [`unmaps`] memory taken away under them.
//! - [`nvme`]: another device, with what that one has not.
//! - [`bench`](mod@bench): what it costs, against the kernel's calls alone: [`bare`].
//! - [`eventfd`]: what interrupts are waited for with.

mod bare;
mod bench;
mod driver;
mod edu;
mod eventfd;
mod interrupts;
mod keeping;
mod killed;
mod limits;
mod nvme;
mod pins;
mod registers;
mod seats;
mod traffic;
mod transfers;
mod unmaps;

use std::error::Error;
use std::process::ExitCode;

use mdev::host::{HostDevice, HostError, Interrupt, PciBus};

use edu::Edu;

/// What a check may fail with: its words are all that anyone uses.
type Failure = Box<dyn Error>;

const USAGE: &str = "usage: physical COMMAND
  show ADDRESS              print the regions and interrupts of a device
  registers ADDRESS         try the registers of an edu, mapped and through the kernel
  transfers ADDRESS BITS    try its transfers with buffers, its addresses being of so many bits
  interrupts ADDRESS COUNT  count that many interrupts of each kind
  notices ADDRESS           have the kernel say what it has to say of a device
  wanted ADDRESS            wait until the kernel wants a device back
  lost ADDRESS              wait until the kernel says that the bus has failed
  pins ADDRESS BITS         try its transfers with pinned pages of a guest's memory
  guests ADDRESS BITS       the same with two guests that have the same addresses
  seats ADDRESS COUNT       have two vGPUs on it do so many transfers each, at once
  unmaps ADDRESS COUNT      have two vGPUs lose memory in the middle of so many transfers each
  killed PID SOCKET...      have who serves guests killed in the middle of their transfers
  locked ADDRESS PAGES      be a user who may lock so many pages for a device, and try
  entries ADDRESS COUNT     try that so many mappings are allowed
  addresses ADDRESS         try how many pages have addresses of 16 bits
  kills ADDRESS WORKER      kill the workers that have it, in the middle of transfers
  held ADDRESS WORKER       try how many vGPUs one has that may lock three pages
  alone ADDRESS WORKER      have one that opens it itself
  truncated ADDRESS         try to pin memory that its client has cut short
  nvme ADDRESS              drive an NVMe controller, and reset it
  bench-pins ADDRESS OTHER ROUNDS
                            measure pins against bare mappings for another device";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("physical: {error}");
            if let Some(remedy) = error.downcast_ref().and_then(HostError::remedy) {
                eprintln!("{remedy}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<(), Failure> {
    match *args {
        ["show", address] => registers::show(&open(address, "64")?),
        ["registers", address] => registers::run(&Edu::new(open(address, "32")?)?),
        ["transfers", address, bits] => transfers::run(&Edu::new(open(address, bits)?)?),
        ["interrupts", address, count] => {
            interrupts::run(&Edu::new(open(address, "32")?)?, count.parse()?)
        }
        ["notices", address] => interrupts::notices(&open(address, "64")?),
        ["wanted", address] => interrupts::told(&open(address, "64")?, Interrupt::Request),
        ["lost", address] => interrupts::told(&open(address, "64")?, Interrupt::Error),
        ["pins", address, bits] => pins::run(&Edu::new(open(address, bits)?)?),
        ["guests", address, bits] => pins::guests(&Edu::new(open(address, bits)?)?),
        ["seats", address, count] => traffic::run(address, count.parse()?),
        ["unmaps", address, count] => unmaps::run(address, count.parse()?),
        ["killed", pid, ref sockets @ ..] => killed::run(pid, sockets),
        ["locked", address, pages] => limits::locked(address, pages.parse()?),
        ["entries", address, count] => limits::entries(&open(address, "32")?, count.parse()?),
        // The page at 0 is not given out.
        ["addresses", address] => limits::addresses(&open(address, "16")?, 15),
        ["kills", address, program] => keeping::kills(address, program),
        ["held", address, program] => keeping::locked(address, program),
        ["alone", address, program] => keeping::alone(address, program),
        ["truncated", address] => limits::truncated(&open(address, "32")?),
        ["nvme", address] => nvme::run(&open(address, "64")?),
        ["bench-pins", address, other, rounds] => {
            bench::pins(&open(address, "32")?, other, rounds.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

fn open(address: &str, bits: &str) -> Result<HostDevice, Failure> {
    let bus = PciBus::new("/");
    Ok(HostDevice::open(&bus, address.parse()?, bits.parse()?)?)
}

/// What was seen, if it is what was expected.
fn expect<T: PartialEq + std::fmt::Debug + ?Sized>(
    what: &str,
    seen: &T,
    expected: &T,
) -> Result<(), Failure> {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("{what}: {seen:x?} instead of {expected:x?}").into())
    }
}
