//! DMA_LOGGING_START and _STOP.

use vfu::wire::Command;

use crate::check::{Check, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{GET, LOGGING_START, LOGGING_STOP, PROBE, SET, feature, probes};
use crate::target::Target;
use crate::write_log::{start_payload, stop_logging, tries_to_log, tries_to_report};

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_DEVICE_FEATURE_DMA_LOGGING_START",
        rule,
        needs: &[Feature::DmaLogging],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_logging_can_be_probed",
        "Start, stop and report are there together, and each only with its own method.",
        can_be_probed,
    ),
    check(
        "dma_logging_start_is_answered_with_the_request",
        "The reply repeats the request; a page size that was not wanted is replaced by one that is.",
        start_is_repeated,
    ),
    check(
        "dma_logging_start_page_size_is_a_power_of_two",
        "0, and what is between the powers of two, is no page size.",
        page_size,
    ),
    check(
        "dma_logging_start_has_as_many_ranges_as_it_says",
        "num_ranges counts the ranges that come: more and fewer are refused, however many.",
        ranges_are_there,
    ),
    check(
        "dma_logging_start_range_does_not_wrap",
        "A range that goes past the last address is none.",
        range_does_not_wrap,
    ),
    check(
        "dma_logging_start_takes_ranges_of_any_size",
        "Ranges need not be mapped, and large ones cost nothing: they are answered at once.",
        any_size,
    ),
    check(
        "dma_logging_starts_twice_or_refuses",
        "A second start is answered, and the log works after it.",
        starts_twice,
    ),
    check(
        "dma_logging_starts_again_after_a_stop",
        "Start and stop may be repeated.",
        starts_again,
    ),
    check(
        "dma_logging_stop_without_a_start_is_answered",
        "To stop what was not started changes nothing, refused or not.",
        stop_without_start,
    ),
    check(
        "dma_logging_ends_with_its_client",
        "The next client has no log that it did not start.",
        ends_with_client,
    ),
];

const PAGE: u64 = 4096;

fn can_be_probed(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (flags, is_there) in [
        (LOGGING_START, true),
        (SET | LOGGING_START, true),
        (GET | LOGGING_START, false),
        (LOGGING_STOP, true),
        (SET | LOGGING_STOP, true),
        (GET | LOGGING_STOP, false),
        (crate::migration::LOGGING_REPORT, true),
        (GET | crate::migration::LOGGING_REPORT, true),
        (SET | crate::migration::LOGGING_REPORT, false),
    ] {
        ensure!(
            probes(&mut client, flags)? == is_there,
            "the probe of {:#x} {}",
            PROBE | flags,
            if is_there { "is refused" } else { "succeeds" }
        );
    }
    // None of them has started anything.
    let report = tries_to_report(&mut client, 0, PAGE, PAGE)?;
    ensure!(report.is_none(), "a probe has started the log");
    Ok(())
}

fn start_is_repeated(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (page_size, ranges) in [
        (PAGE, &[][..]),
        (PAGE, &[(0, 1 << 20)]),
        (PAGE, &[(0, PAGE), (1 << 30, 1 << 20)]),
        (1 << 21, &[(0, 1 << 21)]),
    ] {
        let announced = u32::try_from(ranges.len()).unwrap_or(0);
        let request = start_payload(page_size, announced, ranges);
        let place = format!("{announced} ranges, pages of {page_size:#x}");
        let reply = client
            .accepts(Command::DeviceFeature, &request)
            .within(&place)?;
        ensure!(
            reply.payload.len() == request.len(),
            "{place}: the reply has {} bytes",
            reply.payload.len()
        );
        let without_size = |payload: &[u8]| {
            let head = payload.get(..8).map(<[u8]>::to_vec);
            (head, payload.get(16..).map(<[u8]>::to_vec))
        };
        ensure!(
            without_size(&reply.payload) == without_size(&request),
            "{place}: the reply differs in more than the page size"
        );
        let chosen = reply.payload.get(8..16).and_then(<[u8]>::first_chunk);
        let chosen = chosen.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        ensure!(
            chosen.is_power_of_two(),
            "{place}: the page size chosen is {chosen:#x}"
        );
        stop_logging(&mut client)?;
    }
    Ok(())
}

fn page_size(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for size in [0, 3, 4095, 4097, 6144, (1 << 21) + 1, u64::MAX] {
        let is_done = tries_to_log(&mut client, size, &[(0, 1 << 20)])?;
        ensure!(!is_done, "{size:#x} was taken");
    }
    let report = tries_to_report(&mut client, 0, PAGE, PAGE)?;
    ensure!(report.is_none(), "a refused start has started the log");
    Ok(())
}

fn ranges_are_there(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let two = [(0, PAGE), (1 << 20, PAGE)];
    for announced in [0, 1, 3, 1000, 1 << 28, u32::MAX] {
        let payload = start_payload(PAGE, announced, &two);
        // More than were announced might be overlooked.
        if announced >= 2 {
            client
                .refuses(Command::DeviceFeature, &payload)
                .within(&format!("2 ranges, {announced} announced"))?;
        } else {
            let command = Command::DeviceFeature as u16;
            let answer = client.connection.ask(command, &payload, &[])?;
            ensure!(
                !matches!(answer, Answer::Closed),
                "the connection was closed"
            );
        }
    }
    let mut part = start_payload(PAGE, 1, &[(0, PAGE)]);
    for _ in 0..15 {
        part.pop();
        client
            .refuses(Command::DeviceFeature, &part)
            .within("part of a range")?;
    }
    client.is_in_step()
}

fn range_does_not_wrap(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (iova, length) in [
        (u64::MAX - PAGE + 1, 2 * PAGE),
        (2 * PAGE, u64::MAX - PAGE + 1),
        (1 << 63, (1 << 63) + PAGE),
    ] {
        let is_done = tries_to_log(&mut client, PAGE, &[(iova, length)])?;
        ensure!(!is_done, "{length:#x} at {iova:#x} was taken");
    }
    client.is_in_step()
}

fn any_size(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (iova, length) in [
        (0, 1 << 40),
        (0, 1 << 63),
        (PAGE, u64::MAX - PAGE),
        (1 << 52, 1 << 50),
    ] {
        // To refuse is a choice; to take long, or all memory, is not.
        if tries_to_log(&mut client, PAGE, &[(iova, length)])? {
            stop_logging(&mut client).within(&format!("{length:#x} at {iova:#x}"))?;
        }
    }
    let many: Vec<_> = (0..1000).map(|n| (n * 2 * PAGE, PAGE)).collect();
    if tries_to_log(&mut client, PAGE, &many)? {
        stop_logging(&mut client).within("1000 ranges")?;
    }
    client.is_in_step()
}

fn starts_twice(target: &Target) -> Verdict {
    let mut client = target.client()?;
    ensure!(tries_to_log(&mut client, PAGE, &[])?, "it was refused");
    tries_to_log(&mut client, PAGE, &[])?;
    stop_logging(&mut client)?;
    ensure!(
        tries_to_log(&mut client, PAGE, &[])?,
        "after both and a stop it was refused"
    );
    stop_logging(&mut client)
}

fn starts_again(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for round in 0..20 {
        let is_done = tries_to_log(&mut client, PAGE, &[(0, 1 << 30)])?;
        ensure!(is_done, "start {round} was refused");
        stop_logging(&mut client).within(&format!("stop {round}"))?;
    }
    Ok(())
}

fn stop_without_start(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let payload = feature(8, SET | LOGGING_STOP, &[]);
    let command = Command::DeviceFeature as u16;
    for _ in 0..2 {
        let answer = client.connection.ask(command, &payload, &[])?;
        ensure!(
            !matches!(answer, Answer::Closed),
            "the connection was closed"
        );
    }
    ensure!(
        tries_to_log(&mut client, PAGE, &[])?,
        "then start is refused"
    );
    stop_logging(&mut client)
}

fn ends_with_client(target: &Target) -> Verdict {
    let mut first = target.client()?;
    ensure!(tries_to_log(&mut first, PAGE, &[])?, "it was refused");
    drop(first);
    let mut next = target.client()?;
    let report = tries_to_report(&mut next, 0, PAGE, PAGE)?;
    ensure!(report.is_none(), "the next client has a log");
    Ok(())
}
