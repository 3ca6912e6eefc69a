//! DEVICE_FEATURE: messages that are refused whatever the server offers.

use vfu::wire::Command;

use super::FEATURE_SECTION;
use crate::check::{Check, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::migration::{
    DEVICE_STATE, GET, LOGGING_REPORT, LOGGING_START, LOGGING_STOP, MIGRATION, PROBE, SET, feature,
    state_payload,
};
use crate::payload::longs;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: FEATURE_SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "device_feature_needs_its_8_bytes",
        "A message that ends before argsz and flags is refused.",
        needs_8_bytes,
    ),
    check(
        "device_feature_argsz_has_room_for_the_head",
        "argsz is the most that the reply may have, which is 8 bytes at least.",
        argsz_has_room,
    ),
    check(
        "device_feature_index_that_is_unknown_is_refused",
        "Features other than the five of the specification are not supported.",
        unknown_index,
    ),
    check(
        "device_feature_flags_that_are_unknown_are_refused",
        "Flags other than GET, SET and PROBE are not known.",
        unknown_flags,
    ),
    check(
        "device_feature_has_a_method",
        "Without GET, SET and PROBE there is nothing to do.",
        has_a_method,
    ),
    check(
        "device_feature_get_and_set_exclude_each_other",
        "GET and SET come together only with PROBE.",
        get_and_set,
    ),
    check(
        "device_feature_without_its_data_is_refused",
        "A head alone, for a feature whose request has data, is refused and nothing past it is read.",
        without_data,
    ),
    check(
        "device_feature_data_that_is_cut_short_is_refused",
        "Data that end before their structure are refused.",
        cut_short,
    ),
    check(
        "device_feature_takes_no_descriptors",
        "Data travel in messages: a descriptor is not needed, and not kept.",
        no_descriptors,
    ),
];

fn needs_8_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let whole = feature(16, GET | MIGRATION, &[]);
    for len in 0..whole.len() {
        let payload = whole.get(..len).unwrap_or_default();
        client
            .refuses(Command::DeviceFeature, payload)
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn argsz_has_room(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [0, 2, 7] {
        for flags in [PROBE | MIGRATION, GET | MIGRATION, PROBE | LOGGING_START] {
            client
                .refuses(Command::DeviceFeature, &feature(argsz, flags, &[]))
                .within(&format!("argsz {argsz}, flags {flags:#x}"))?;
        }
    }
    client.is_in_step()
}

fn unknown_index(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in [0, 13, 100, 0x7fff, 0xffff] {
        for method in [GET, SET, PROBE, PROBE | GET, PROBE | SET] {
            client
                .refuses(
                    Command::DeviceFeature,
                    &feature(64, method | index, &[0; 16]),
                )
                .within(&format!("feature {index}, method {method:#x}"))?;
        }
    }
    client.is_in_step()
}

fn unknown_flags(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for bit in 19..32 {
        for flags in [PROBE | MIGRATION, GET | MIGRATION, GET | DEVICE_STATE] {
            client
                .refuses(Command::DeviceFeature, &feature(64, flags | 1 << bit, &[]))
                .within(&format!("bit {bit}, flags {flags:#x}"))?;
        }
    }
    client.is_in_step()
}

const ALL: [u32; 5] = [
    MIGRATION,
    DEVICE_STATE,
    LOGGING_START,
    LOGGING_STOP,
    LOGGING_REPORT,
];

fn has_a_method(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in ALL {
        client
            .refuses(Command::DeviceFeature, &feature(64, index, &[0; 24]))
            .within(&format!("feature {index}"))?;
    }
    client.is_in_step()
}

fn get_and_set(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for index in ALL {
        client
            .refuses(
                Command::DeviceFeature,
                &feature(64, GET | SET | index, &[0; 24]),
            )
            .within(&format!("feature {index}"))?;
    }
    client.is_in_step()
}

fn without_data(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for flags in [
        GET | LOGGING_REPORT,
        SET | DEVICE_STATE,
        SET | LOGGING_START,
    ] {
        for argsz in [8, 16, 40, 4096, u32::MAX] {
            client
                .refuses(Command::DeviceFeature, &feature(argsz, flags, &[]))
                .within(&format!("flags {flags:#x}, argsz {argsz}"))?;
        }
    }
    client.is_in_step()
}

fn cut_short(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let report = feature(64, GET | LOGGING_REPORT, &longs(&[0, 4096, 4096]));
    let start = feature(24, SET | LOGGING_START, &longs(&[4096, 0]));
    for (what, whole, least) in [
        ("a state", state_payload(1), 12),
        ("a start", start, 24),
        ("a report", report, 32),
    ] {
        for len in 8..least {
            let payload = whole.get(..len).unwrap_or_default();
            client
                .refuses(Command::DeviceFeature, payload)
                .within(&format!("{what} of {len} bytes"))?;
        }
    }
    client.is_in_step()
}

fn no_descriptors(target: &Target) -> Verdict {
    use std::os::fd::AsFd;
    let mut client = target.client()?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let payload = feature(8, PROBE | MIGRATION, &[]);
    let command = Command::DeviceFeature as u16;
    let answer = client
        .connection
        .ask(command, &payload, &[writer.as_fd()])?;
    ensure!(
        !matches!(answer, Answer::Closed),
        "the connection was closed"
    );
    drop(writer);
    let deadline = std::time::Instant::now() + client.connection.patience();
    let events = rustix::event::PollFlags::IN;
    let is_closed = crate::connection::wait(reader.as_fd(), events, deadline)?;
    ensure!(is_closed, "the server keeps the descriptor");
    client.is_in_step()
}
