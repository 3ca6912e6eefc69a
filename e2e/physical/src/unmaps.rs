//! Memory that is taken away while it is transferred to.

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use mdev::irq::IrqIndex;
use vfu::wire::dma::DmaFlags;

use crate::driver::{Guest, MEMORY, PAGE, Transfer};
use crate::edu::BUFFER_LEN;
use crate::{Failure, expect, seats};

/// What is transferred, and what the guest has in its memory once it has it back.
const DATA: [u8; BUFFER_LEN] = [0xa5; BUFFER_LEN];
const CANARY: [u8; BUFFER_LEN] = [0x5c; BUFFER_LEN];

pub(crate) fn run(address: &str, count: u64) -> Result<(), Failure> {
    seats::two(address, |socket, number| unmaps(socket, number, count))
}

fn unmaps(socket: UnixStream, number: u64, count: u64) -> Result<String, Failure> {
    let mut guest = Guest::new(socket, 2, IrqIndex::Msi)?;
    let transfer = |to_memory| Transfer {
        to_memory,
        memory: MEMORY,
        at: 0,
        len: PAGE,
    };
    guest.fill(0, &DATA)?;
    expect("the errno", &guest.transfer(transfer(false))?, &0)?;
    let (mut whole, mut refused) = (0, 0);
    for round in 0..count {
        guest.fill(0, &[0; BUFFER_LEN])?;
        guest.start(transfer(true))?;
        // At some moment of the transfer, or of another's that it waits for.
        thread::sleep(Duration::from_millis(round * (36 + number) % 240));
        guest.unmap(0, 1)?;
        let memory = guest.memory()?;
        guest.fill(0, &CANARY)?;
        match guest.finish()? {
            0 => {
                expect(
                    "bytes before the unmap",
                    &(memory[..BUFFER_LEN] == DATA),
                    &true,
                )?;
                whole += 1;
            }
            _ => {
                let is_untouched = memory[..BUFFER_LEN].iter().all(|&byte| byte == 0);
                expect("bytes of what was refused", &is_untouched, &true)?;
                refused += 1;
            }
        }
        let memory = guest.memory()?;
        let is_untouched = memory[..BUFFER_LEN] == CANARY;
        expect("bytes after the unmap", &is_untouched, &true)?;
        guest.map(0, 1, DmaFlags::READ | DmaFlags::WRITE)?;
    }
    expect("interrupts of others", &guest.spurious()?, &0)?;
    Ok(format!("{whole} whole, {refused} refused"))
}
