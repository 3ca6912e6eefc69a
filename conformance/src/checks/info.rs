//! DEVICE_GET_INFO.

use vfu::wire::Command;

use crate::check::{Check, Verdict};
use crate::ensure;
use crate::payload::words;
use crate::target::Target;

const SECTION: &str = "VFIO_USER_DEVICE_GET_INFO";

/// The group.
pub(super) const CHECKS: &[Check] = &[Check {
    name: "device_info_has_16_bytes",
    section: SECTION,
    rule: "the reply to DEVICE_GET_INFO has a payload of 16 bytes, and its argsz says so",
    needs: &[],
    run: has_16_bytes,
}];

fn has_16_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let reply = client.accepts(Command::DeviceGetInfo, &words(&[16, 0, 0, 0]))?;
    ensure!(
        reply.payload.len() == 16,
        "the payload has {} bytes",
        reply.payload.len()
    );
    ensure!(
        reply.payload.starts_with(&16_u32.to_ne_bytes()),
        "argsz is not 16"
    );
    Ok(())
}
