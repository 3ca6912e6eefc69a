//! QEMU's educational device, driven from user space through its `resource0`.
//!
//! - [`device`]: its registers.
//! - [`pages`]: memory of this process, and where it is.
//! - [`mapping`]: what both are made of.
//! - [`exchange`]: transfers with pages, every byte checked.
//! - [`interrupts`]: interrupts, counted.
//! - [`spins`]: the device is kept busy.

mod device;
mod exchange;
mod interrupts;
mod mapping;
mod pages;
mod spins;

use std::ops::Range;
use std::time::Instant;

use guest::noise::Noise;

use crate::Failure;
use device::{BUFFER_LEN, Device, Transfer, Way};
use exchange::Exchange;
use pages::Pages;

/// How many pages an exchange goes over.
const POOL: usize = 256;

/// All memory.
const ANYWHERE: Range<u64> = 0..u64::MAX;

/// Runs one subcommand on the device at a PCI function.
pub(crate) fn run(function: &str, args: &[&str]) -> Result<(), Failure> {
    let device = Device::open(function)?;
    match *args {
        ["transfers", count, seed] => transfers(&device, &ANYWHERE, count.parse()?, seed.parse()?),
        ["transfers", count, seed, start, end] => {
            let within = address(start)?..address(end)?;
            transfers(&device, &within, count.parse()?, seed.parse()?)
        }
        ["panic"] => {
            device.panic();
            Ok(())
        }
        ["spins", micros, ms] => spins::run(&device, micros.parse()?, ms.parse()?),
        ["interrupts", count] => interrupts::run(&device, count.parse()?),
        ["fetch", at, len] => fetch(&device, address(at)?, length(len)?),
        ["store", at, len, seed] => store(&device, address(at)?, length(len)?, seed.parse()?),
        _ => Err("no such thing to do with edu".into()),
    }
}

/// Makes `count` transfers each way with pages within a range; prints how many bytes went over,
/// and how long it took.
fn transfers(device: &Device, within: &Range<u64>, count: usize, seed: u64) -> Result<(), Failure> {
    let pages = Pages::new(POOL, within)?;
    let mut exchange = Exchange::new(device, &pages, seed)?;
    let started = Instant::now();
    let mut bytes = 0;
    for n in 0..count {
        let round = exchange.round();
        bytes += round.map_err(|error| format!("round {n}: {error}"))?;
    }
    exchange.check_all()?;
    let ms = started.elapsed().as_millis();
    println!("{count} transfers each way, {bytes} bytes in {ms} ms");
    Ok(())
}

/// Has the device fetch from an address that need not be ours; prints the device's errno and, in
/// hexadecimal, what it has then. It had zeroes.
fn fetch(device: &Device, physical: u64, len: usize) -> Result<(), Failure> {
    let page = Pages::new(1, &ANYWHERE)?;
    let own = Transfer {
        way: Way::ToDevice,
        physical: page.runs()[0].physical(0),
        at: 0,
        len,
    };
    device.transfer(own)?;
    device.transfer(Transfer { physical, ..own })?;
    let errno = device.transfer_errno();
    device.transfer(Transfer {
        way: Way::ToMemory,
        ..own
    })?;
    let mut bytes = vec![0; len];
    page.memory().read(0, &mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{errno} {hex}");
    Ok(())
}

/// Has the device store noise at an address that need not be ours; prints the device's errno.
fn store(device: &Device, physical: u64, len: usize, seed: u64) -> Result<(), Failure> {
    let page = Pages::new(1, &ANYWHERE)?;
    let noise: Vec<u8> = Noise::new(seed).take(len).collect();
    page.memory().write(0, &noise);
    let own = Transfer {
        way: Way::ToDevice,
        physical: page.runs()[0].physical(0),
        at: 0,
        len,
    };
    device.transfer(own)?;
    let way = Way::ToMemory;
    device.transfer(Transfer {
        way,
        physical,
        ..own
    })?;
    println!("{}", device.transfer_errno());
    Ok(())
}

/// Reads a hexadecimal number, with its `0x`.
fn address(text: &str) -> Result<u64, Failure> {
    let digits = text.strip_prefix("0x").ok_or("an address begins with 0x")?;
    Ok(u64::from_str_radix(digits, 16)?)
}

/// Reads how many bytes of the device's buffer are wanted.
fn length(text: &str) -> Result<usize, Failure> {
    let len = text.parse()?;
    if len <= BUFFER_LEN {
        Ok(len)
    } else {
        Err(format!("the device's buffer has no {len} bytes").into())
    }
}
