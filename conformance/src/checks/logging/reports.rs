//! DMA_LOGGING_REPORT: its form.

use std::os::fd::{AsFd, OwnedFd};

use vfu::wire::Command;

use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{BOTH, memory};
use crate::negotiated::Client;
use crate::payload::dma;
use crate::target::Target;
use crate::write_log::{
    report, report_len, report_payload, stop_logging, tries_to_log, tries_to_report,
};

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
        rule,
        needs: &[Feature::DmaLogging],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_logging_report_needs_a_start",
        "A report is valid only after the log was started.",
        needs_a_start,
    ),
    check(
        "dma_logging_report_after_a_stop_is_refused",
        "What was stopped is not started.",
        after_a_stop,
    ),
    check(
        "dma_logging_report_of_a_quiet_device_is_clean",
        "The reply has the request, and a bit for each page, none of them set.",
        quiet_device,
    ),
    check(
        "dma_logging_report_page_size_is_a_power_of_two",
        "0, and what is between the powers of two, is no page size.",
        page_size,
    ),
    check(
        "dma_logging_report_reply_fits_argsz",
        "A bitmap that argsz has no room for is refused, or left out.",
        fits_argsz,
    ),
    check(
        "dma_logging_report_of_no_bytes_is_refused_or_empty",
        "A length of 0 has no bits.",
        no_bytes,
    ),
    check(
        "dma_logging_report_range_does_not_wrap",
        "A range that goes past the last address is none.",
        does_not_wrap,
    ),
    check(
        "dma_logging_report_of_huge_ranges_allocates_nothing",
        "Length and argsz are the client's words: neither makes the server allocate gibibytes.",
        huge_ranges,
    ),
    check(
        "dma_logging_report_of_what_is_not_mapped_is_refused_or_clean",
        "There were no writes where nothing is mapped.",
        not_mapped,
    ),
    check(
        "dma_logging_report_of_memory_without_a_file_is_refused_or_clean",
        "The client itself knows what was written by message.",
        without_a_file,
    ),
];

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000;

/// A client with so many pages mapped, whose log was started.
fn logging(target: &Target, pages: u64) -> Result<(Client, OwnedFd), Unmet> {
    let mut client = target.client()?;
    let file = memory(pages)?;
    let map = dma(32, BOTH, &[0, BASE, pages * PAGE]);
    let command = Command::DmaMap as u16;
    client.connection.accepts(command, &map, &[file.as_fd()])?;
    ensure!(tries_to_log(&mut client, PAGE, &[])?, "start was refused");
    Ok((client, file))
}

fn needs_a_start(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let map = dma(32, BOTH, &[0, BASE, 16 * PAGE]);
    client.accepts(Command::DmaMap, &map)?;
    let request = report_payload(40, BASE, 16 * PAGE, PAGE);
    client.refuses(Command::DeviceFeature, &request)?;
    client.is_in_step()
}

fn after_a_stop(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 16)?;
    report(&mut client, BASE, 16 * PAGE, PAGE)?;
    stop_logging(&mut client)?;
    let late = tries_to_report(&mut client, BASE, 16 * PAGE, PAGE)?;
    ensure!(late.is_none(), "there is a report after the stop");
    Ok(())
}

fn quiet_device(target: &Target) -> Verdict {
    for pages in [1, 63, 64, 65, 200] {
        let (mut client, _file) = logging(target, pages)?;
        let written = report(&mut client, BASE, pages * PAGE, PAGE)?;
        ensure!(written.is_empty(), "{pages} pages: {written:?} are dirty");
    }
    Ok(())
}

fn page_size(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 16)?;
    for size in [0, 3, 4095, 4097, 6144, u64::MAX] {
        let request = report_payload(4096, BASE, 16 * PAGE, size);
        client
            .refuses(Command::DeviceFeature, &request)
            .within(&format!("{size:#x}"))?;
    }
    client.is_in_step()
}

fn fits_argsz(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 200)?;
    let needed = report_len(200 * PAGE, PAGE);
    for argsz in [8, 31, 32, needed - 8, needed - 1] {
        let request = report_payload(argsz, BASE, 200 * PAGE, PAGE);
        let command = Command::DeviceFeature as u16;
        match client.connection.ask(command, &request, &[])? {
            Answer::Refused(_) => {}
            Answer::Success(reply) => {
                let len = reply.payload.len();
                ensure!(len <= argsz as usize, "{len} bytes for an argsz of {argsz}");
                ensure!(
                    reply.payload.get(..4) == Some(&needed.to_ne_bytes()[..]),
                    "argsz {argsz}: the reply does not say that it needs {needed}"
                );
            }
            Answer::Closed => return Err(Unmet::fail("the connection was closed")),
        }
    }
    report(&mut client, BASE, 200 * PAGE, PAGE).map(drop)
}

fn no_bytes(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 16)?;
    tries_to_report(&mut client, BASE, 0, PAGE)?;
    client.is_in_step()
}

fn does_not_wrap(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 16)?;
    for (iova, length) in [
        (u64::MAX - PAGE + 1, 2 * PAGE),
        (2 * PAGE, u64::MAX - PAGE + 1),
        (1 << 63, (1 << 63) + PAGE),
        (u64::MAX, u64::MAX),
    ] {
        for argsz in [4096, u32::MAX] {
            let request = report_payload(argsz, iova, length, PAGE);
            client
                .refuses(Command::DeviceFeature, &request)
                .within(&format!("{length:#x} at {iova:#x}"))?;
        }
    }
    client.is_in_step()
}

/// More than one report of 2 TiB has in pages.
const MOST_REPLY: usize = 72 << 20;

fn huge_ranges(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 16)?;
    for (iova, length, page_size) in [
        (0, u64::MAX, PAGE),
        (0, u64::MAX - PAGE + 1, PAGE),
        (0, 1 << 63, 1),
        (0, 1 << 47, PAGE),
        (0, u64::MAX - PAGE + 1, 1 << 40),
        (PAGE, u64::MAX - PAGE, 1 << 63),
        (BASE, 1 << 44, 1 << 10),
    ] {
        for argsz in [4096, u32::MAX] {
            let request = report_payload(argsz, iova, length, page_size);
            let place = format!("{length:#x} at {iova:#x} in {page_size:#x}");
            let command = Command::DeviceFeature as u16;
            if let Answer::Success(reply) = client
                .connection
                .ask(command, &request, &[])
                .within(&place)?
            {
                let len = reply.payload.len();
                ensure!(len <= MOST_REPLY, "{place}: the reply has {len} bytes");
            }
        }
    }
    client.is_in_step()
}

fn not_mapped(target: &Target) -> Verdict {
    let (mut client, _file) = logging(target, 16)?;
    for (iova, pages) in [(BASE + 16 * PAGE, 8), (0, 4), (1 << 40, 64)] {
        let written = tries_to_report(&mut client, iova, pages * PAGE, PAGE)?;
        ensure!(
            written.unwrap_or_default().is_empty(),
            "{pages} pages at {iova:#x} are dirty"
        );
    }
    client.is_in_step()
}

fn without_a_file(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let map = dma(32, BOTH, &[0, BASE, 16 * PAGE]);
    client.accepts(Command::DmaMap, &map)?;
    ensure!(tries_to_log(&mut client, PAGE, &[])?, "start was refused");
    let written = tries_to_report(&mut client, BASE, 16 * PAGE, PAGE)?;
    ensure!(
        written.unwrap_or_default().is_empty(),
        "pages that nobody wrote are dirty"
    );
    client.is_in_step()
}
