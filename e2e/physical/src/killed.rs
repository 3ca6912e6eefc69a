//! The process that serves guests is killed in the middle of their transfers: each of those is done
//! once it is served again, and nothing else was written to.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use mdev::irq::IrqIndex;

use crate::driver::{Guest, MEMORY, PAGE, Transfer};
use crate::edu::BUFFER_LEN;
use crate::{Failure, expect};

/// What lies around.
const CANARY: [u8; BUFFER_LEN] = [0x5c; BUFFER_LEN];

/// Pages of memory: the one in the middle is transferred to, the last is for reading.
const PAGES: u64 = 4;

/// In the middle of the first transfer, which takes a tenth of a second; the others wait for it.
const MOMENT: Duration = Duration::from_millis(40);

pub(crate) fn run(pid: &str, sockets: &[&str]) -> Result<(), Failure> {
    let mut guests = Vec::new();
    for (socket, number) in sockets.iter().zip(1_u8..) {
        let stream = UnixStream::connect(socket)?;
        guests.push((Guest::new(stream, PAGES, IrqIndex::Msi)?, number));
    }
    for (guest, number) in &mut guests {
        guest.fill(PAGE, &[*number; BUFFER_LEN])?;
        expect("the errno", &guest.transfer(transfer(false))?, &0)?;
        for page in 0..PAGES {
            guest.fill(page * PAGE, &CANARY)?;
        }
    }
    for (guest, _) in &mut guests {
        guest.start(transfer(true))?;
    }
    thread::sleep(MOMENT);
    let killed = Command::new("kill").args(["-KILL", pid]).status()?;
    expect("the kill", &killed.success(), &true)?;
    for (guest, number) in &mut guests {
        expect("the errno", &guest.finish_after_both()?, &0)?;
        let memory = guest.memory()?;
        let pages: Vec<_> = memory.chunks_exact(BUFFER_LEN).collect();
        let number = [*number; BUFFER_LEN];
        let expected = [&CANARY, &number, &CANARY, &CANARY];
        let is_right = pages.iter().zip(expected).all(|(seen, it)| *seen == it);
        expect("bytes where they belong", &is_right, &true)?;
        // The second word of the same end may have come by now.
        expect("interrupts of others", &(guest.spurious()? <= 1), &true)?;
    }
    println!("{} transfers right", guests.len());
    Ok(())
}

/// Of a whole page, to the second of memory or from it.
fn transfer(to_memory: bool) -> Transfer {
    Transfer {
        to_memory,
        memory: MEMORY + PAGE,
        at: 0,
        len: PAGE,
    }
}
