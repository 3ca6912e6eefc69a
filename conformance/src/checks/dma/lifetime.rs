//! How long a server holds a file, and what a client may do to it meanwhile.
//!
//! The kernel does not seal a file against writing while somebody has it mapped for that, and so
//! tells from outside whether a server has let go.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::ftruncate;

use super::{
    BOTH, MAP_SECTION, PAGE, UNMAP_SECTION, is_let_go, map, map_file, map_file_refused, memory,
    try_map_file, unmap,
};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{Guest, unsealed};
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "dma_unmap_lets_go_of_the_file",
        section: UNMAP_SECTION,
        rule: "Before the reply the server has released all references to the region.",
        needs: &[],
        run: unmap_lets_go,
    },
    Check {
        name: "dma_unmap_of_the_last_slice_lets_go_of_the_file",
        section: UNMAP_SECTION,
        rule: "A file of several regions is released with the last of them.",
        needs: &[],
        run: last_slice,
    },
    Check {
        name: "dma_map_that_is_refused_lets_go_of_the_file",
        section: MAP_SECTION,
        rule: "The file of a refused message is not held.",
        needs: &[],
        run: refused_lets_go,
    },
    Check {
        name: "dma_files_are_let_go_when_the_client_disconnects",
        section: "Client Disconnection",
        rule: "All client memory is unmapped, and the descriptors are closed.",
        needs: &[],
        run: disconnect_lets_go,
    },
    Check {
        name: "dma_mappings_end_with_their_client",
        section: "Client Disconnection",
        rule: "The next client starts with no region mapped.",
        needs: &[],
        run: end_with_client,
    },
    Check {
        name: "dma_file_truncated_after_the_map_harms_nobody_else",
        section: "Security Considerations",
        rule: "A client that takes its memory back ends its own session at most, not the server.",
        needs: &[],
        run: truncated,
    },
    Check {
        name: "dma_file_truncated_under_a_transfer_harms_nobody_else",
        section: "Security Considerations",
        rule: "A device that reaches for memory which is gone does not end the server.",
        needs: &[Feature::Edu],
        run: truncated_under_a_transfer,
    },
];

const BASE: u64 = 0x10_0000;

/// Skips a check if the server does not keep what it may map.
fn is_held(file: &OwnedFd) -> Verdict {
    if is_let_go(file)? {
        return Err(Unmet::Skip(
            "files that it maps and holds while they are mapped".to_owned(),
        ));
    }
    Ok(())
}

fn unmap_lets_go(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(4)?;
    map_file(&mut client, &file, BOTH, [PAGE, BASE, 2 * PAGE])?;
    is_held(&file)?;
    unmap(&mut client, BASE, 2 * PAGE)?;
    ensure!(is_let_go(&file)?, "the server still has it mapped");
    Ok(())
}

fn last_slice(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(8)?;
    for slice in 0..4 {
        let numbers = [slice * PAGE, BASE + slice * 2 * PAGE, PAGE];
        map_file(&mut client, &file, BOTH, numbers)?;
    }
    is_held(&file)?;
    for slice in [2, 0, 3] {
        unmap(&mut client, BASE + slice * 2 * PAGE, PAGE)?;
    }
    ensure!(!is_let_go(&file)?, "it is not held for the last region");
    unmap(&mut client, BASE + 2 * PAGE, PAGE)?;
    ensure!(is_let_go(&file)?, "the server still has it mapped");
    Ok(())
}

fn refused_lets_go(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    let file = memory(4)?;
    for (what, flags, numbers) in [
        ("over another", BOTH, [0, BASE, PAGE]),
        ("past its end", BOTH, [0, BASE + PAGE, 5 * PAGE]),
        ("for nothing", 0, [0, BASE + PAGE, PAGE]),
        ("of no bytes", BOTH, [0, BASE + PAGE, 0]),
        ("not a page", BOTH, [0, BASE + PAGE + 1, PAGE]),
    ] {
        map_file_refused(&mut client, &[&file], flags, numbers).within(what)?;
    }
    ensure!(is_let_go(&file)?, "the server has it mapped");
    Ok(())
}

fn disconnect_lets_go(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(4)?;
    map_file(&mut client, &file, BOTH, [0, BASE, 4 * PAGE])?;
    is_held(&file)?;
    let deadline = Instant::now() + client.connection.patience();
    drop(client);
    while !is_let_go(&file)? {
        ensure!(
            Instant::now() < deadline,
            "the client has gone, and the server still has its memory mapped"
        );
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn end_with_client(target: &Target) -> Verdict {
    let mut first = target.client()?;
    let file = memory(1)?;
    map(&mut first, BASE, PAGE)?;
    map_file(&mut first, &file, BOTH, [0, BASE + PAGE, PAGE])?;
    drop(first);
    let mut second = target.client()?;
    map(&mut second, BASE, 2 * PAGE).within("where the last client's memory was")
}

fn truncated(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = unsealed(16)?;
    // A server may take no file that can shrink.
    try_map_file(&mut client, &[&file], BOTH, [0, BASE, 16 * PAGE])?;
    ftruncate(&file, 0)?;
    // Whatever becomes of this client.
    let _ = unmap(&mut client, BASE, 16 * PAGE);
    drop(client);
    target.client()?.is_in_step()
}

fn truncated_under_a_transfer(target: &Target) -> Verdict {
    for way in [Way::FromRam, Way::ToRam] {
        let mut guest = Guest::believed(target, 16)?;
        guest.ram = unsealed(16)?;
        if guest.map_shared(0, 16).is_err() {
            // A server may take no file that can shrink.
            return guest.client.is_in_step();
        }
        ftruncate(&guest.ram, 0)?;
        // Whatever becomes of this client.
        let _ = guest.transfer(way, 3 * PAGE, 64);
        drop(guest);
        let mut next = target.client()?;
        next.is_in_step().within("the next client")?;
        edu::read(&mut next, edu::STATUS)?;
    }
    Ok(())
}
