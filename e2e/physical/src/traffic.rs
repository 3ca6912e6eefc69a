//! Two guests at once, with transfers at random: each knows every byte of its memory and of its buffer.

use std::os::unix::net::UnixStream;

use guest::noise::Noise;
use mdev::irq::IrqIndex;
use rustix::io::Errno;

use crate::driver::{Guest, MEMORY, PAGE, Transfer};
use crate::edu::BUFFER_LEN;
use crate::{Failure, expect, seats};

/// Pages of memory; the last is for reading.
const PAGES: u64 = 6;
/// Every so many transfers comes one that cannot be done.
const BAD: usize = 10;

pub(crate) fn run(address: &str, count: usize) -> Result<(), Failure> {
    seats::two(address, |socket, number| traffic(socket, number, count))
}

/// What a guest knows to be where.
struct Known {
    memory: Vec<u8>,
    buffer: Vec<u8>,
}

/// A stream of numbers.
struct Random(Noise);

impl Random {
    /// One from `0..end`.
    fn below(&mut self, end: u64) -> u64 {
        let bytes = self.0.by_ref().take(4);
        let number = bytes.fold(0, |number, byte| number << 8 | u64::from(byte));
        number % end
    }
}

fn traffic(socket: UnixStream, number: u64, count: usize) -> Result<String, Failure> {
    let irq = match number {
        1 => IrqIndex::Msi,
        _ => IrqIndex::Intx,
    };
    let mut guest = Guest::new(socket, PAGES, irq)?;
    guest.check_registers(number as u32 + 5)?;
    let mut random = Random(Noise::new(number));
    let mut known = Known {
        memory: Noise::new(!number).take((PAGES * PAGE) as usize).collect(),
        buffer: vec![0; BUFFER_LEN],
    };
    guest.fill(0, &known.memory)?;
    // Nothing was transferred yet: the buffer has none of the other's bytes.
    let (mut good, mut bad) = (0, 0);
    while good < count {
        transfer(&mut guest, &mut known, &mut random, good == 0)?;
        good += 1;
        if good % BAD == 0 {
            bad += 1;
            refused(&mut guest, &known, bad)?;
        }
    }
    expect("interrupts of others", &guest.spurious()?, &0)?;
    Ok(format!("{good} transfers, {bad} refused"))
}

/// One transfer of one kind or the other; the first of all tells what the buffer holds.
fn transfer(
    guest: &mut Guest,
    known: &mut Known,
    random: &mut Random,
    is_first: bool,
) -> Result<(), Failure> {
    let all = BUFFER_LEN as u64;
    let (at, len) = match is_first {
        true => (0, all),
        false => {
            let at = random.below(all);
            (at, 1 + random.below(all - at))
        }
    };
    let to_memory = is_first || random.below(2) == 1;
    // What is for reading may be read.
    let pages = if to_memory { PAGES - 1 } else { PAGES };
    let offset = random.below(pages * PAGE - len + 1);
    let place = offset as usize..(offset + len) as usize;
    let part = at as usize..(at + len) as usize;
    if to_memory {
        known.memory[place].copy_from_slice(&known.buffer[part]);
    } else {
        let fresh: Vec<u8> = random.0.by_ref().take(place.len()).collect();
        guest.fill(offset, &fresh)?;
        known.memory[place].copy_from_slice(&fresh);
        known.buffer[part].copy_from_slice(&fresh);
    }
    let transfer = Transfer {
        to_memory,
        memory: MEMORY + offset,
        at,
        len,
    };
    expect("the errno", &guest.transfer(transfer)?, &0)?;
    check(guest, known, transfer)
}

/// One that cannot be done, and does nothing.
fn refused(guest: &mut Guest, known: &Known, number: usize) -> Result<(), Failure> {
    let end = MEMORY + PAGES * PAGE;
    let bad = |to_memory, memory, at, len| Transfer {
        to_memory,
        memory,
        at,
        len,
    };
    let (transfer, errno) = [
        (bad(false, end, 0, 1), Errno::FAULT),
        (bad(true, MEMORY - 1, 0, 2), Errno::FAULT),
        (bad(true, 0x1000, 0, PAGE), Errno::FAULT),
        (bad(true, end - PAGE, 0, 4), Errno::ACCESS),
        (bad(true, end - PAGE - 1, 0, 2), Errno::ACCESS),
        (bad(true, MEMORY, 1, PAGE), Errno::INVAL),
        (bad(false, MEMORY, u64::MAX, 1), Errno::INVAL),
        (bad(false, MEMORY, 0, PAGE + 1), Errno::INVAL),
        (bad(false, 0xfff_ffff, 0, 2), Errno::RANGE),
        (bad(true, u64::MAX, 0, 1), Errno::RANGE),
    ][number % 10];
    let found = guest.transfer(transfer)?;
    expect("the errno", &found, &errno.raw_os_error())?;
    check(guest, known, transfer)
}

/// All of the memory is as it has to be: what was transferred, and what lies around.
fn check(guest: &Guest, known: &Known, transfer: Transfer) -> Result<(), Failure> {
    let memory = guest.memory()?;
    match memory.iter().zip(&known.memory).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("byte {at:#x} is wrong after {transfer:x?}").into()),
    }
}
