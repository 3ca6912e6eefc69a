//! DMA_MAP without a file: its form, and mappings over others.

use rustix::io::Errno;
use vfu::wire::Command;

use super::{BOTH, MAP_SECTION, PAGE, READ, WRITE, map, map_refused, unmap, was_mapped};
use crate::check::{Check, Verdict, Within};
use crate::connection::errno_words;
use crate::ensure;
use crate::feature::Feature;
use crate::payload::dma;
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
        "dma_map_needs_its_32_bytes",
        "A message that ends before the 32 bytes of its structure is refused.",
        needs_32_bytes,
    ),
    check(
        "dma_map_has_no_more_than_its_32_bytes",
        "The structure has 32 bytes and the message 48; a longer one is refused.",
        no_more,
    ),
    check(
        "dma_map_argsz_has_room_for_the_structure",
        "argsz is the size of the structure, and so at least 32.",
        argsz_has_room,
    ),
    check(
        "dma_map_reply_has_no_payload",
        "The reply is a header alone.",
        reply_is_empty,
    ),
    check(
        "dma_map_is_readable_or_writable_or_both",
        "Each of the two flags may stand alone.",
        either_flag,
    ),
    check(
        "dma_map_for_nothing_is_refused",
        "A region that can be neither read nor written is none (type1: EINVAL).",
        for_nothing,
    ),
    check(
        "dma_map_unknown_flags_are_refused",
        "Flags that no version has defined are not known.",
        unknown_flags,
    ),
    check(
        "dma_map_over_the_same_is_eexist",
        "To map a region a second time fails with EEXIST.",
        over_the_same,
    ),
    check(
        "dma_map_over_part_of_another_is_eexist",
        "A region that overlaps another in any way fails with EEXIST.",
        over_part,
    ),
    check(
        "dma_map_that_is_refused_maps_nothing",
        "After an error neither the whole nor a part is mapped.",
        refused_maps_nothing,
    ),
    check(
        "dma_map_beside_another_works",
        "Regions may touch each other on both sides.",
        beside,
    ),
    check(
        "dma_map_far_away_is_answered",
        "Addresses at the far end of 64 bits are answered, mapped or not, and cost no memory.",
        far_away,
    ),
    Check {
        name: "dma_mappings_outlive_a_reset",
        section: "VFIO_USER_DEVICE_RESET",
        rule: "A reset is the device's; the client's regions stay mapped.",
        needs: &[Feature::Reset],
        run: outlive_reset,
    },
];

const BASE: u64 = 0x10_0000;

fn needs_32_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let whole = dma(32, BOTH, &[0, BASE, PAGE]);
    for len in 0..whole.len() {
        let payload = whole.get(..len).unwrap_or_default();
        client
            .refuses(Command::DmaMap, payload)
            .within(&format!("{len} bytes"))?;
    }
    ensure!(
        !was_mapped(&mut client, BASE, PAGE)?,
        "part of a message has mapped memory"
    );
    Ok(())
}

fn no_more(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for more in [1, 8, 32] {
        let mut payload = dma(32, BOTH, &[0, BASE, PAGE]);
        payload.resize(32 + more, 0);
        client
            .refuses(Command::DmaMap, &payload)
            .within(&format!("{more} bytes more"))?;
    }
    client.is_in_step()
}

fn argsz_has_room(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [0, 1, 24, 31] {
        client
            .refuses(Command::DmaMap, &dma(argsz, BOTH, &[0, BASE, PAGE]))
            .within(&format!("argsz {argsz}"))?;
    }
    client.is_in_step()
}

fn reply_is_empty(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let reply = client.accepts(Command::DmaMap, &dma(32, BOTH, &[0, BASE, PAGE]))?;
    ensure!(
        reply.payload.is_empty() && reply.fds.is_empty(),
        "the reply has {} bytes and {} descriptors",
        reply.payload.len(),
        reply.fds.len()
    );
    Ok(())
}

fn either_flag(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (place, flags) in [READ, WRITE, BOTH].into_iter().enumerate() {
        let iova = BASE + place as u64 * PAGE;
        client
            .accepts(Command::DmaMap, &dma(32, flags, &[0, iova, PAGE]))
            .within(&format!("flags {flags:#x}"))?;
    }
    Ok(())
}

fn for_nothing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.refuses(Command::DmaMap, &dma(32, 0, &[0, BASE, PAGE]))?;
    client.is_in_step()
}

/// Bits 2 and 3 are not among them: libvfio-user has given them a meaning.
fn unknown_flags(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for bit in 4..32 {
        let payload = dma(32, BOTH | 1 << bit, &[0, BASE, PAGE]);
        client
            .refuses(Command::DmaMap, &payload)
            .within(&format!("bit {bit}"))?;
    }
    client.is_in_step()
}

fn over_the_same(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    for _ in 0..2 {
        let errno = map_refused(&mut client, BASE, PAGE)?;
        ensure!(
            errno == Some(Errno::EXIST),
            "the error is: {}",
            errno_words(errno)
        );
    }
    unmap(&mut client, BASE, PAGE).within("the region from before")
}

/// First page and pages of what is mapped over the pages 4 to 7.
const OVERLAPS: [(&str, u64, u64); 6] = [
    ("its first page", 4, 1),
    ("a page within", 5, 1),
    ("its last page", 7, 1),
    ("its beginning, and what is before", 2, 4),
    ("its end, and what is after", 7, 3),
    ("more on both sides", 3, 6),
];

fn over_part(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE + 4 * PAGE, 4 * PAGE)?;
    for (what, first, pages) in OVERLAPS {
        let errno = map_refused(&mut client, BASE + first * PAGE, pages * PAGE).within(what)?;
        ensure!(
            errno == Some(Errno::EXIST),
            "{what}: the error is: {}",
            errno_words(errno)
        );
    }
    unmap(&mut client, BASE + 4 * PAGE, 4 * PAGE).within("the region from before")
}

fn refused_maps_nothing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    map_refused(&mut client, BASE - PAGE, 3 * PAGE)?;
    ensure!(
        !was_mapped(&mut client, BASE - PAGE, 3 * PAGE)?,
        "all of it is mapped"
    );
    map(&mut client, BASE - PAGE, PAGE).within("the part before")?;
    map(&mut client, BASE + PAGE, PAGE).within("the part after")
}

fn beside(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    map(&mut client, BASE + PAGE, 2 * PAGE).within("after")?;
    map(&mut client, BASE - 2 * PAGE, 2 * PAGE).within("before")?;
    for (iova, size) in [
        (BASE, PAGE),
        (BASE + PAGE, 2 * PAGE),
        (BASE - 2 * PAGE, 2 * PAGE),
    ] {
        unmap(&mut client, iova, size)?;
    }
    Ok(())
}

fn far_away(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, 0, PAGE)?;
    for (iova, size) in [
        (1 << 40, 1 << 30),
        (1 << 52, PAGE),
        (1 << 63, PAGE),
        (u64::MAX - PAGE + 1, PAGE),
        (1 << 62, 1 << 62),
    ] {
        let place = format!("{size:#x} at {iova:#x}");
        let payload = dma(32, BOTH, &[0, iova, size]);
        let command = Command::DmaMap as u16;
        client
            .connection
            .ask(command, &payload, &[])
            .within(&place)?;
        client.is_in_step().within(&place)?;
    }
    unmap(&mut client, 0, PAGE)
}

fn outlive_reset(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    client.reset()?;
    map_refused(&mut client, BASE, PAGE).within("mapped again after the reset")?;
    unmap(&mut client, BASE, PAGE)
}
