//! Which pages the log says were written. On edu, whose writes are known to the byte.

use crate::check::{Check, Unmet, Verdict, Within};
use crate::devices::edu::Way;
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{BOTH, Guest, PAGE};
use crate::target::Target;
use crate::write_log::{report, stop_logging, tries_to_log, tries_to_report};

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
        rule,
        needs: &[Feature::DmaLogging, Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_log_has_just_the_pages_that_were_written",
        "Each page that the device has written has its bit, and no other has.",
        just_the_pages,
    ),
    check(
        "dma_log_is_cleared_by_the_report",
        "A page is told once: until it is written again.",
        cleared,
    ),
    check(
        "dma_log_does_not_have_what_was_read",
        "Only DMA writes are logged.",
        not_reads,
    ),
    check(
        "dma_log_is_told_in_pages_of_any_size",
        "Bits are made fewer for larger pages, in which one written byte counts.",
        any_page_size,
    ),
    check(
        "dma_log_in_pages_smaller_than_the_devices_has_all_that_was_written",
        "Smaller pages are refused, or have their bits wherever the device has written.",
        smaller_pages,
    ),
    check(
        "dma_log_of_part_of_a_mapping_leaves_the_rest",
        "A report is of the range that it names: other pages keep their bits.",
        part_of_a_mapping,
    ),
    check(
        "dma_log_has_memory_that_was_mapped_later",
        "Without ranges all writes are logged, those to later regions too.",
        mapped_later,
    ),
    check(
        "dma_log_begins_with_the_start",
        "What was written before, or before a stop, is not in it.",
        begins_with_start,
    ),
    check(
        "dma_log_ends_with_the_mapping",
        "Memory that is unmapped and mapped again is clean.",
        ends_with_mapping,
    ),
    check(
        "dma_log_does_not_have_what_was_written_by_message",
        "The client that was asked to write knows it; it may be told or not, of these pages alone.",
        by_message,
    ),
];

/// A guest whose pages from 1 MiB on are mapped with their file, and the log started. The buffer
/// of its device is not empty.
fn logging(target: &Target, pages: u64) -> Result<Guest, Unmet> {
    let mut guest = Guest::believed(target, pages)?;
    guest.map_shared(0, pages)?;
    let served = guest.transfer(Way::ToRam, 0, 16)?;
    if !served.is_empty() {
        return Err(Unmet::Skip("DMA to mapped memory at once".to_owned()));
    }
    start(&mut guest)?;
    Ok(guest)
}

fn start(guest: &mut Guest) -> Verdict {
    ensure!(
        tries_to_log(&mut guest.client, PAGE, &[])?,
        "start was refused"
    );
    Ok(())
}

fn write(guest: &mut Guest, iova: u64, count: u64) -> Verdict {
    guest.transfer(Way::ToRam, iova, count).map(drop)
}

fn is_told(guest: &mut Guest, pages: u64, expected: &[u64], when: &str) -> Verdict {
    let written = report(&mut guest.client, 0, pages * PAGE, PAGE).within(when)?;
    ensure!(
        written == expected,
        "{when}: pages {written:?} are dirty, they should be {expected:?}"
    );
    Ok(())
}

fn just_the_pages(target: &Target) -> Verdict {
    let mut guest = logging(target, 130)?;
    is_told(&mut guest, 130, &[], "nothing was written")?;
    for (iova, count, expected) in [
        (0, 1, &[0][..]),
        (PAGE - 1, 1, &[0]),
        (PAGE, PAGE, &[1]),
        (PAGE - 1, 2, &[0, 1]),
        (7 * PAGE + 1, PAGE, &[7, 8]),
        (63 * PAGE + 4000, 200, &[63, 64]),
        (129 * PAGE + 4095, 1, &[129]),
        (50 * PAGE, 0, &[]),
    ] {
        write(&mut guest, iova, count)?;
        is_told(&mut guest, 130, expected, &format!("{count} at {iova:#x}"))?;
    }
    for page in [3, 77, 100, 3] {
        write(&mut guest, page * PAGE + 5, 3)?;
    }
    is_told(&mut guest, 130, &[3, 77, 100], "several writes")
}

fn cleared(target: &Target) -> Verdict {
    let mut guest = logging(target, 16)?;
    for round in 0..3 {
        write(&mut guest, 5 * PAGE, 16)?;
        is_told(&mut guest, 16, &[5], &format!("round {round}"))?;
        is_told(&mut guest, 16, &[], &format!("again in round {round}"))?;
    }
    Ok(())
}

fn not_reads(target: &Target) -> Verdict {
    let mut guest = logging(target, 16)?;
    for page in 0..16 {
        guest.transfer(Way::FromRam, page * PAGE, PAGE)?;
    }
    is_told(&mut guest, 16, &[], "16 pages were read")
}

fn any_page_size(target: &Target) -> Verdict {
    const PAGES: u64 = 2048;
    let mut guest = logging(target, PAGES)?;
    for (page_size, expected) in [
        (4096, &[0, 3, 20, 1024, 1500][..]),
        (8192, &[0, 1, 10, 512, 750]),
        (65_536, &[0, 1, 64, 93]),
        (2 << 20, &[0, 2]),
        (8 << 20, &[0]),
        (1 << 30, &[0]),
    ] {
        for page in [0, 3, 20, 1024, 1500] {
            write(&mut guest, page * PAGE + 9, 16)?;
        }
        let written = report(&mut guest.client, 0, PAGES * PAGE, page_size)?;
        ensure!(
            written == expected,
            "in pages of {page_size:#x}, {written:?} are dirty, they should be {expected:?}"
        );
        is_told(&mut guest, PAGES, &[], "afterwards")?;
    }
    Ok(())
}

fn smaller_pages(target: &Target) -> Verdict {
    let mut guest = logging(target, 16)?;
    for page_size in [2048, 512, 64] {
        write(&mut guest, 5 * PAGE + 3000, 300)?;
        let told = tries_to_report(&mut guest.client, 0, 16 * PAGE, page_size)?;
        let Some(told) = told else {
            // What was refused is still to be told.
            is_told(&mut guest, 16, &[5], "after a refusal")?;
            continue;
        };
        let (first, last) = (5 * PAGE + 3000, 5 * PAGE + 3299);
        for bit in first / page_size..=last / page_size {
            ensure!(
                told.contains(&bit),
                "in pages of {page_size}, {bit} is not among {told:?}"
            );
        }
        let beyond = told.iter().find(|bit| **bit * page_size / PAGE != 5);
        ensure!(
            beyond.is_none(),
            "in pages of {page_size}, {beyond:?} is dirty"
        );
    }
    Ok(())
}

fn part_of_a_mapping(target: &Target) -> Verdict {
    let mut guest = logging(target, 32)?;
    for page in [2, 10, 11, 30] {
        write(&mut guest, page * PAGE, 16)?;
    }
    let part = tries_to_report(&mut guest.client, 10 * PAGE, 4 * PAGE, PAGE)?;
    let Some(part) = part else {
        return Err(Unmet::Skip("reports on part of a region".to_owned()));
    };
    ensure!(part == [0, 1], "pages {part:?} of the part are dirty");
    is_told(&mut guest, 32, &[2, 30], "the rest")
}

fn mapped_later(target: &Target) -> Verdict {
    let mut guest = Guest::believed(target, 32)?;
    guest.map_shared(0, 8)?;
    start(&mut guest)?;
    guest.map_shared(16, 8)?;
    write(&mut guest, 20 * PAGE, 16)?;
    let written = report(&mut guest.client, 16 * PAGE, 8 * PAGE, PAGE)?;
    ensure!(written == [4], "pages {written:?} of it are dirty");
    is_told(&mut guest, 8, &[], "the region from before")
}

fn begins_with_start(target: &Target) -> Verdict {
    let mut guest = logging(target, 16)?;
    write(&mut guest, 3 * PAGE, 16)?;
    stop_logging(&mut guest.client)?;
    write(&mut guest, 4 * PAGE, 16)?;
    start(&mut guest)?;
    is_told(&mut guest, 16, &[], "started anew")?;
    write(&mut guest, 5 * PAGE, 16)?;
    is_told(&mut guest, 16, &[5], "written since")
}

fn ends_with_mapping(target: &Target) -> Verdict {
    let mut guest = logging(target, 16)?;
    write(&mut guest, 3 * PAGE, 16)?;
    guest.unmap(0, 16)?;
    guest.map_shared(0, 16)?;
    is_told(&mut guest, 16, &[], "mapped again")?;
    write(&mut guest, 9 * PAGE, 16)?;
    is_told(&mut guest, 16, &[9], "written since")
}

fn by_message(target: &Target) -> Verdict {
    let mut guest = Guest::new(target, 16)?;
    guest.map(0, 16, BOTH)?;
    start(&mut guest)?;
    let served = guest.transfer(Way::ToRam, 6 * PAGE, 16)?;
    if served.is_empty() {
        return Err(Unmet::Skip("DMA by message".to_owned()));
    }
    let written = tries_to_report(&mut guest.client, 0, 16 * PAGE, PAGE)?;
    let written = written.unwrap_or_default();
    ensure!(
        written.is_empty() || written == [6],
        "pages {written:?} are dirty"
    );
    Ok(())
}
