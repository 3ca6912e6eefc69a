//! DEVICE_FEATURE: what probes and methods answer.

use vfu::wire::Command;

use super::FEATURE_SECTION;
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    DEVICE_STATE, GET, HAS_STOP_COPY, LOGGING_REPORT, LOGGING_START, LOGGING_STOP, MIGRATION,
    PROBE, RUNNING, SET, STOP, feature, flags, name, probes, state, state_payload,
};
use crate::negotiated::Client;
use crate::payload::words;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: FEATURE_SECTION,
        rule,
        needs: &[Feature::Migration],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "device_feature_probe_is_answered_with_the_probe",
        "The reply payload of a probe is that of the request.",
        probe_is_repeated,
    ),
    check(
        "device_feature_probe_of_a_method_it_lacks_is_refused",
        "A probe succeeds only if all methods that it names are supported.",
        probe_of_lacking_method,
    ),
    check(
        "device_feature_probe_does_nothing",
        "A probe of SET sets nothing.",
        probe_does_nothing,
    ),
    check(
        "device_feature_method_it_lacks_is_refused",
        "MIGRATION and the report cannot be set; start and stop of the log cannot be got.",
        lacking_method,
    ),
    check(
        "device_feature_migration_has_stop_copy",
        "The flags of MIGRATION are 64 bits, of which STOP_COPY is set.",
        has_stop_copy,
    ),
    check(
        "device_feature_reply_fits_argsz",
        "A reply that needs more than argsz is refused, or has its head alone and says what it needs.",
        fits_argsz,
    ),
    check(
        "device_feature_larger_argsz_changes_nothing",
        "argsz in the reply is what the reply has, not what the client allowed.",
        larger_argsz,
    ),
    check(
        "device_feature_set_of_the_state_is_answered_with_the_request",
        "The reply payload of SET is that of the request.",
        set_is_repeated,
    ),
];

fn probe_is_repeated(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for flags in [
        PROBE | MIGRATION,
        PROBE | GET | MIGRATION,
        PROBE | DEVICE_STATE,
        PROBE | GET | DEVICE_STATE,
        PROBE | SET | DEVICE_STATE,
        PROBE | GET | SET | DEVICE_STATE,
    ] {
        let probe = feature(8, flags, &[]);
        let reply = client
            .accepts(Command::DeviceFeature, &probe)
            .within(&format!("flags {flags:#x}"))?;
        ensure!(
            reply.payload == probe,
            "flags {flags:#x}: the reply is {:x?}",
            reply.payload
        );
    }
    Ok(())
}

/// Methods that a feature does not have.
const LACKING: [u32; 4] = [
    SET | MIGRATION,
    GET | LOGGING_START,
    GET | LOGGING_STOP,
    SET | LOGGING_REPORT,
];

fn probe_of_lacking_method(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for flags in LACKING {
        for both in [0, GET | SET] {
            let flags = flags | both;
            ensure!(
                !probes(&mut client, flags)?,
                "flags {flags:#x}: the probe succeeded"
            );
        }
    }
    Ok(())
}

fn probe_does_nothing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut probe = state_payload(STOP);
    if let Some(flags) = probe.get_mut(4..8) {
        flags.copy_from_slice(&(PROBE | SET | DEVICE_STATE).to_ne_bytes());
    }
    let command = Command::DeviceFeature as u16;
    if let Answer::Success(reply) = client.connection.ask(command, &probe, &[])? {
        ensure!(reply.payload == probe, "the reply is {:x?}", reply.payload);
    }
    let now = state(&mut client)?;
    ensure!(now == RUNNING, "the state is {}", name(now));
    Ok(())
}

fn lacking_method(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for flags in LACKING {
        for data in [&[][..], &[0; 8], &[0; 24]] {
            client
                .refuses(Command::DeviceFeature, &feature(64, flags, data))
                .within(&format!("flags {flags:#x}, {} bytes", data.len()))?;
        }
    }
    client.is_in_step()
}

fn has_stop_copy(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let flags = flags(&mut client)?;
    ensure!(flags & HAS_STOP_COPY != 0, "the flags are {flags:#x}");
    ensure!(flags >> 3 == 0, "the flags {flags:#x} have unknown bits");
    Ok(())
}

/// Asks with too little room.
fn too_small(client: &mut Client, argsz: u32, flags: u32, data: &[u8], needed: u32) -> Verdict {
    let request = feature(argsz, flags, data);
    let command = Command::DeviceFeature as u16;
    match client.connection.ask(command, &request, &[])? {
        Answer::Refused(_) => Ok(()),
        Answer::Success(reply) => {
            let len = u32::try_from(reply.payload.len()).unwrap_or(u32::MAX);
            ensure!(len <= argsz, "{len} bytes came for an argsz of {argsz}");
            ensure!(
                reply.payload.get(..4) == Some(&needed.to_ne_bytes()[..]),
                "the reply to an argsz of {argsz} does not say that it needs {needed}"
            );
            Ok(())
        }
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

fn fits_argsz(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [8, 9, 12, 15] {
        let place = format!("argsz {argsz}");
        too_small(&mut client, argsz, GET | MIGRATION, &[], 16).within(&place)?;
        too_small(&mut client, argsz, GET | DEVICE_STATE, &[], 16).within(&place)?;
        let running = words(&[RUNNING, 0]);
        too_small(&mut client, argsz, SET | DEVICE_STATE, &running, 16).within(&place)?;
    }
    let now = state(&mut client)?;
    ensure!(now == RUNNING, "the state is {}", name(now));
    Ok(())
}

fn larger_argsz(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for argsz in [17, 4096, u32::MAX] {
        for flags in [GET | MIGRATION, GET | DEVICE_STATE] {
            let request = feature(argsz, flags, &[]);
            let place = format!("argsz {argsz}, flags {flags:#x}");
            let reply = client
                .accepts(Command::DeviceFeature, &request)
                .within(&place)?;
            ensure!(
                reply.payload.len() == 16 && reply.payload.starts_with(&16_u32.to_ne_bytes()),
                "{place}: the reply is {:x?}",
                reply.payload
            );
        }
    }
    Ok(())
}

fn set_is_repeated(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for to in [STOP, RUNNING] {
        let request = state_payload(to);
        let reply = client.accepts(Command::DeviceFeature, &request)?;
        ensure!(
            reply.payload == request,
            "{}: the reply is {:x?}",
            name(to),
            reply.payload
        );
    }
    Ok(())
}
