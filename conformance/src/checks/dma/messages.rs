//! DMA_READ and DMA_WRITE: what the server asks for. On edu, without files.

use super::{BOTH, PAGE, READ, WRITE};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::devices::edu::Way;
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{Guest, Wanted};
use crate::negotiated::OFFER;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_USER_DMA_READ",
        rule,
        needs: &[Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_read_asks_for_what_the_device_reads",
        "DMA_READ is a command of a 64-bit address and a 64-bit count, for just what is needed.",
        read_asks,
    ),
    check(
        "dma_write_brings_what_the_device_writes",
        "DMA_WRITE has address, count and, after 16 bytes, count bytes of data.",
        write_brings,
    ),
    check(
        "dma_read_reply_reaches_the_device",
        "The data of the reply are those that the device gets, whatever address and count.",
        reply_reaches,
    ),
    check(
        "dma_messages_keep_to_the_size_that_the_client_takes",
        "Count does not exceed the client's max_data_xfer_size, reads and writes alike.",
        keep_to_the_size,
    ),
    check(
        "dma_messages_stay_in_what_is_mapped",
        "Every address was exported: a transfer past the end of a region asks for nothing there.",
        stay_inside,
    ),
    check(
        "dma_of_what_is_not_mapped_asks_for_nothing",
        "An address must have been exported by DMA_MAP before.",
        not_mapped,
    ),
    check(
        "dma_after_an_unmap_asks_for_nothing",
        "Once DMA_UNMAP was answered the region is not accessed.",
        after_unmap,
    ),
    check(
        "dma_without_bus_mastering_asks_for_nothing",
        "A PCI device masters the bus only while its command register allows it.",
        without_mastering,
    ),
    check(
        "dma_write_to_a_readable_region_asks_for_nothing",
        "A region that is not writable is not written.",
        write_to_readable,
    ),
    check(
        "dma_read_of_a_writable_region_asks_for_nothing",
        "A region that is not readable is not read.",
        read_of_writable,
    ),
];

/// A guest of 16 pages of which the first 8 are mapped without a file; skips the check if the
/// server then asks for nothing.
pub(super) fn asked(target: &Target) -> Result<Guest, Unmet> {
    asked_of(Guest::new(target, 16)?)
}

fn asked_of(mut guest: Guest) -> Result<Guest, Unmet> {
    let pattern: Vec<u8> = (0..16 * PAGE).map(|at| (at * 31 / 7) as u8).collect();
    guest.put(0, &pattern)?;
    guest.map(0, 8, BOTH)?;
    if guest.transfer(Way::FromRam, 0, 16)?.is_empty() {
        return Err(Unmet::Skip("DMA by message".to_owned()));
    }
    Ok(guest)
}

/// Whether commands cover `count` bytes from `iova` on, each of them once.
fn covers(served: &[Wanted], iova: u64, count: u64) -> Verdict {
    let mut parts: Vec<_> = served.iter().map(|it| (it.iova, it.count)).collect();
    parts.sort_unstable();
    let mut at = iova;
    for (start, len) in &parts {
        ensure!(
            *start == at,
            "{count} bytes at {iova:#x} were asked for as {parts:x?}"
        );
        at += len;
    }
    ensure!(
        at == iova + count,
        "{count} bytes at {iova:#x} were asked for as {parts:x?}"
    );
    Ok(())
}

/// Addresses and counts around pages.
const RANGES: [(u64, u64); 7] = [
    (0x1234, 64),
    (0, 1),
    (3, 5),
    (PAGE - 1, 2),
    (PAGE, PAGE),
    (2 * PAGE - 7, 4000),
    (8 * PAGE - 1, 1),
];

fn read_asks(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    for (iova, count) in RANGES {
        let served = guest.transfer(Way::FromRam, iova, count)?;
        ensure!(
            !served.iter().any(Wanted::is_write),
            "a read asked to write"
        );
        covers(&served, iova, count)?;
    }
    Ok(())
}

fn write_brings(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    let data: Vec<u8> = (0..PAGE).map(|at| (at * 13 / 5 + 1) as u8).collect();
    guest.fill(0, &data)?;
    for (iova, count) in RANGES {
        let before = guest.look(0, 8 * PAGE as usize)?;
        let served = guest.transfer(Way::ToRam, iova, count)?;
        ensure!(served.iter().all(Wanted::is_write), "a write asked to read");
        covers(&served, iova, count)?;
        let mut expected = before;
        let (from, len) = (iova as usize, count as usize);
        let written = expected.get_mut(from..from + len);
        if let (Some(written), Some(data)) = (written, data.get(..len)) {
            written.copy_from_slice(data);
        }
        ensure!(
            guest.look(0, 8 * PAGE as usize)? == expected,
            "{count} bytes at {iova:#x}: the memory does not hold what was written"
        );
    }
    Ok(())
}

fn reply_reaches(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    for (iova, count) in RANGES {
        let expected = guest.look(iova, count as usize)?;
        guest.transfer(Way::FromRam, iova, count)?;
        guest.put(6 * PAGE, &vec![0xee; PAGE as usize])?;
        guest.transfer(Way::ToRam, 6 * PAGE, count)?;
        ensure!(
            guest.look(6 * PAGE, count as usize)? == expected,
            "{count} bytes at {iova:#x} are not what the device has got"
        );
    }
    Ok(())
}

fn keep_to_the_size(target: &Target) -> Verdict {
    for size in [512, 4096, 100] {
        let offer = OFFER.replace(
            r#""max_data_xfer_size":1048576"#,
            &format!(r#""max_data_xfer_size":{size}"#),
        );
        let client = target.client_offering(&offer)?;
        let mut guest = asked_of(Guest::of(client, 16)?)?;
        for way in [Way::FromRam, Way::ToRam] {
            let served = guest.transfer(way, PAGE, PAGE)?;
            let most = served.iter().map(|it| it.count).max().unwrap_or(0);
            ensure!(most <= size, "{most} bytes for a client that takes {size}");
            covers(&served, PAGE, PAGE)?;
        }
    }
    Ok(())
}

/// No command but those for nothing.
fn asks_for_nothing(guest: &mut Guest, way: Way, iova: u64, count: u64) -> Verdict {
    let served = guest.transfer(way, iova, count)?;
    ensure!(
        served.is_empty(),
        "{way:?} of {count} bytes at {iova:#x}: {} was asked for",
        served
            .first()
            .map_or_else(String::new, |it| format!("{} at {:#x}", it.count, it.iova))
    );
    Ok(())
}

fn stay_inside(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    let end = 8 * PAGE;
    for way in [Way::FromRam, Way::ToRam] {
        for (iova, count) in [(end - 8, 16), (end - 1, 2), (end - PAGE + 1, PAGE)] {
            let served = guest.transfer(way, iova, count)?;
            let outside = served.iter().find(|it| it.iova + it.count > end);
            ensure!(
                outside.is_none(),
                "{way:?} across the end of the region at {end:#x}: {outside:x?}"
            );
        }
    }
    Ok(())
}

fn not_mapped(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    for way in [Way::FromRam, Way::ToRam] {
        asks_for_nothing(&mut guest, way, 8 * PAGE, 16)?;
        asks_for_nothing(&mut guest, way, 12 * PAGE + 4, PAGE)?;
    }
    guest.client.is_in_step()
}

fn after_unmap(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    guest.map(8, 4, BOTH)?;
    guest.transfer(Way::FromRam, 8 * PAGE, 16)?;
    guest.unmap(8, 4)?;
    for way in [Way::FromRam, Way::ToRam] {
        asks_for_nothing(&mut guest, way, 8 * PAGE, 16)?;
    }
    let served = guest.transfer(Way::FromRam, 7 * PAGE, 16)?;
    covers(&served, 7 * PAGE, 16).within("the region beside it")
}

fn without_mastering(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    guest.master(false)?;
    for way in [Way::FromRam, Way::ToRam] {
        asks_for_nothing(&mut guest, way, PAGE, 16)?;
    }
    guest.master(true)?;
    let served = guest.transfer(Way::FromRam, PAGE, 16)?;
    covers(&served, PAGE, 16).within("switched on again")
}

fn write_to_readable(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    guest.map(8, 4, READ)?;
    asks_for_nothing(&mut guest, Way::ToRam, 9 * PAGE, 16)?;
    let served = guest.transfer(Way::FromRam, 9 * PAGE, 16)?;
    covers(&served, 9 * PAGE, 16)
}

fn read_of_writable(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    guest.map(8, 4, WRITE)?;
    asks_for_nothing(&mut guest, Way::FromRam, 9 * PAGE, 16)?;
    let served = guest.transfer(Way::ToRam, 9 * PAGE, 16)?;
    covers(&served, 9 * PAGE, 16)
}
