//! DMA_MAP: sizes, addresses, and how many.

use std::os::fd::{AsFd, OwnedFd};

use vfu::wire::Command;

use super::{BOTH, MAP_SECTION, PAGE, map, map_refused, memory, unmap};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Received;
use crate::ensure;
use crate::negotiated::Client;
use crate::payload::{self, dma};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: MAP_SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_map_of_no_bytes_is_refused",
        "A region has a size (type1: EINVAL).",
        no_bytes,
    ),
    check(
        "dma_map_size_is_whole_pages",
        "A size that is no multiple of a supported page size is refused.",
        size_is_pages,
    ),
    check(
        "dma_map_address_is_a_page",
        "An address that is no multiple of a supported page size is refused.",
        address_is_a_page,
    ),
    check(
        "dma_map_does_not_wrap",
        "A region that goes past the last address is refused.",
        does_not_wrap,
    ),
    check(
        "dma_map_a_large_region_at_once",
        "Without a file a region of many gibibytes is as good as a small one.",
        large_region,
    ),
    Check {
        name: "dma_maps_are_as_many_as_promised",
        section: "VFIO_USER_VERSION",
        rule: "As many regions as max_dma_maps says can be mapped, all of one file, and one more is answered.",
        needs: &[],
        run: as_many_as_promised,
    },
];

const BASE: u64 = 0x10_0000;

fn no_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for iova in [0, BASE, u64::MAX - PAGE + 1] {
        map_refused(&mut client, iova, 0).within(&format!("at {iova:#x}"))?;
    }
    client.is_in_step()
}

fn size_is_pages(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for size in [1, 8, 2048, PAGE - 1, PAGE + 1, 3 * PAGE / 2] {
        map_refused(&mut client, BASE, size).within(&format!("{size} bytes"))?;
    }
    client.is_in_step()
}

fn address_is_a_page(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for more in [1, 8, 2048, PAGE - 1] {
        map_refused(&mut client, BASE + more, PAGE).within(&format!("{more} into a page"))?;
    }
    client.is_in_step()
}

fn does_not_wrap(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let last = u64::MAX - PAGE + 1;
    for (iova, size) in [
        (last, 2 * PAGE),
        (2 * PAGE, last),
        (last, last),
        (1 << 63, (1 << 63) + PAGE),
    ] {
        map_refused(&mut client, iova, size).within(&format!("{size:#x} at {iova:#x}"))?;
    }
    client.is_in_step()
}

fn large_region(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, 1 << 32, 64 << 30)?;
    unmap(&mut client, 1 << 32, 64 << 30)
}

/// What the server promises, up to what the protocol promises in its place.
fn promised(client: &Client) -> u64 {
    let named = client.capabilities()["max_dma_maps"].as_u64();
    named.unwrap_or(65_535).min(65_535)
}

/// Sends so many maps at a time, and then takes as many replies.
const BATCH: u64 = 128;

/// Maps page after page; each is page 0 of the file or page 1.
fn map_many(client: &mut Client, file: &OwnedFd, from: u64, to: u64) -> Verdict {
    for first in (from..to).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        let batch = first..to.min(first + BATCH);
        for page in batch.clone() {
            // None beside the next, so that they cannot be made one.
            let payload = dma(32, BOTH, &[page % 2 * PAGE, BASE + 2 * page * PAGE, PAGE]);
            let message = payload::message(1, Command::DmaMap as u16, 0, &payload);
            client.connection.send(&message, &[file.as_fd()])?;
        }
        for page in batch {
            let is_done = match client.connection.receive_reply()? {
                Received::Message(reply) => reply.header.flags & payload::ERROR == 0,
                Received::Closed => return Err(Unmet::fail("the connection was closed")),
            };
            ensure!(is_done, "region {} of {to} was refused", page + 1);
        }
    }
    Ok(())
}

fn as_many_as_promised(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let file = memory(2)?;
    let count = promised(&client);
    map_many(&mut client, &file, 0, count)?;
    let past = dma(32, BOTH, &[0, BASE + 2 * count * PAGE, PAGE]);
    client
        .connection
        .ask(Command::DmaMap as u16, &past, &[file.as_fd()])
        .within("one more than promised")?;
    for page in [0, count / 2, count.saturating_sub(1)] {
        unmap(&mut client, BASE + 2 * page * PAGE, PAGE).within(&format!("region {page}"))?;
    }
    map_many(&mut client, &file, 0, 1).within("in the place of one that is gone")
}
