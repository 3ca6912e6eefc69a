//! DMA_UNMAP: its form, and its flags.

use vfu::wire::Command;

use super::{ALL, BOTH, GET_BITMAP, PAGE, UNMAP_SECTION, map, unmap, unmap_refused, was_mapped};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::negotiated::Client;
use crate::payload::{dma, longs};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: UNMAP_SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_unmap_needs_its_24_bytes",
        "A message that ends before the 24 bytes of its structure is refused.",
        needs_24_bytes,
    ),
    check(
        "dma_unmap_argsz_has_room_for_the_reply",
        "argsz is the most that the reply may have, which is 24 bytes at least.",
        argsz_has_room,
    ),
    check(
        "dma_unmap_reply_repeats_the_entry",
        "The reply is the entry of the request: flags, address and size.",
        repeats_the_entry,
    ),
    check(
        "dma_unmap_unknown_flags_are_refused",
        "Flags that nobody has defined are refused (type1: EINVAL).",
        unknown_flags,
    ),
    check(
        "dma_unmap_with_a_bitmap_nobody_tracks_is_refused_or_plain",
        "Flags are not used: a bitmap that is asked for is refused, or the reply has 24 bytes.",
        bitmap_untracked,
    ),
    check(
        "dma_unmap_bitmap_size_does_not_overflow",
        "A bitmap of nearly 2^64 bytes is refused, or not looked at.",
        bitmap_overflow,
    ),
    check(
        "dma_unmap_all_ends_every_mapping_or_is_refused",
        "Bit 1 is libvfio-user's and QEMU's for all regions; whoever takes it ends them all.",
        all_ends_every,
    ),
    check(
        "dma_unmap_all_names_no_region",
        "Bit 1 together with an address or a size is refused.",
        all_names_none,
    ),
    check(
        "dma_unmap_all_takes_no_bitmap",
        "Bit 1 together with bit 0 is refused.",
        all_takes_no_bitmap,
    ),
];

const BASE: u64 = 0x10_0000;

fn needs_24_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    let whole = dma(24, 0, &[BASE, PAGE]);
    for len in 0..whole.len() {
        let payload = whole.get(..len).unwrap_or_default();
        client
            .refuses(Command::DmaUnmap, payload)
            .within(&format!("{len} bytes"))?;
    }
    unmap(&mut client, BASE, PAGE).within("the region from before")
}

fn argsz_has_room(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    for argsz in [0, 8, 16, 23] {
        client
            .refuses(Command::DmaUnmap, &dma(argsz, 0, &[BASE, PAGE]))
            .within(&format!("argsz {argsz}"))?;
    }
    unmap(&mut client, BASE, PAGE).within("the region from before")
}

fn repeats_the_entry(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (iova, pages) in [(BASE, 1), (0x7654_3000, 3)] {
        map(&mut client, iova, pages * PAGE)?;
        let entry = dma(24, 0, &[iova, pages * PAGE]);
        let reply = client.accepts(Command::DmaUnmap, &entry)?;
        ensure!(
            reply.payload == entry,
            "the entry was {entry:x?}, the reply is {:x?}",
            reply.payload
        );
    }
    Ok(())
}

fn unknown_flags(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    for bit in 3..32 {
        client
            .refuses(Command::DmaUnmap, &dma(24, 1 << bit, &[BASE, PAGE]))
            .within(&format!("bit {bit}"))?;
    }
    unmap(&mut client, BASE, PAGE).within("the region from before")
}

fn bitmap_untracked(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    let mut payload = dma(24 + 16 + 8, GET_BITMAP, &[BASE, PAGE]);
    payload.extend(longs(&[PAGE, 8, 0]));
    let command = Command::DmaUnmap as u16;
    match client.connection.ask(command, &payload, &[])? {
        Answer::Refused(_) => unmap(&mut client, BASE, PAGE).within("the region from before"),
        Answer::Success(reply) => {
            ensure!(
                reply.payload.len() == 24,
                "the reply has {} bytes",
                reply.payload.len()
            );
            ensure!(!was_mapped(&mut client, BASE, PAGE)?, "it is mapped still");
            Ok(())
        }
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

fn bitmap_overflow(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for size in [u64::MAX, u64::MAX - 24 - 16 + 8, 1 << 63, 1 << 40] {
        map(&mut client, BASE, PAGE)?;
        for argsz in [40, u32::MAX] {
            let mut payload = dma(argsz, GET_BITMAP, &[BASE, PAGE]);
            payload.extend(longs(&[PAGE, size]));
            let place = format!("{size:#x} bytes, argsz {argsz}");
            let command = Command::DmaUnmap as u16;
            if let Answer::Success(reply) = client
                .connection
                .ask(command, &payload, &[])
                .within(&place)?
            {
                let len = reply.payload.len();
                ensure!(len <= 48, "{place}: the reply has {len} bytes");
            }
        }
        was_mapped(&mut client, BASE, PAGE)?;
    }
    client.is_in_step()
}

/// Maps three regions apart, and asks for the end of all.
fn tries_all(client: &mut Client) -> Result<bool, Unmet> {
    for place in [0, 2, 9] {
        map(client, BASE + place * PAGE, PAGE)?;
    }
    let command = Command::DmaUnmap as u16;
    let answer = client
        .connection
        .ask(command, &dma(24, ALL, &[0, 0]), &[])?;
    match answer {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

fn all_ends_every(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let is_done = tries_all(&mut client)?;
    for place in [0, 2, 9] {
        let is_mapped = was_mapped(&mut client, BASE + place * PAGE, PAGE)?;
        ensure!(
            is_mapped != is_done,
            "it was {}, and a region is {}",
            if is_done { "done" } else { "refused" },
            if is_mapped { "mapped" } else { "gone" }
        );
    }
    if is_done {
        let again = client.accepts(Command::DmaUnmap, &dma(24, ALL, &[0, 0]));
        again.within("when nothing is mapped")?;
        map(&mut client, BASE, 10 * PAGE).within("afterwards")?;
    }
    Ok(())
}

fn all_names_none(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    for (iova, size) in [(BASE, PAGE), (BASE, 0), (0, PAGE), (u64::MAX, u64::MAX)] {
        client
            .refuses(Command::DmaUnmap, &dma(24, ALL, &[iova, size]))
            .within(&format!("{size:#x} at {iova:#x}"))?;
    }
    unmap(&mut client, BASE, PAGE).within("the region from before")
}

fn all_takes_no_bitmap(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.accepts(Command::DmaMap, &dma(32, BOTH, &[0, BASE, PAGE]))?;
    let mut payload = dma(48, ALL | GET_BITMAP, &[0, 0]);
    payload.extend(longs(&[PAGE, 8]));
    client.refuses(Command::DmaUnmap, &payload)?;
    unmap(&mut client, BASE, PAGE).within("the region from before")?;
    unmap_refused(&mut client, BASE, PAGE)
}
