//! DEVICE_GET_REGION_IO_FDS: what is asked, and the sub-regions that are answered.

mod parts;
mod requests;

use std::os::fd::OwnedFd;

use vfu::wire::Command;

use crate::check::{Check, Unmet, Verdict, Within};
use crate::ensure;
use crate::feature::io_fd_regions;
use crate::negotiated::Client;
use crate::payload::words;
use crate::target::Target;

/// The group.
pub(super) fn all() -> impl Iterator<Item = Check> {
    [requests::CHECKS, parts::CHECKS]
        .into_iter()
        .flatten()
        .copied()
}

/// A sub-region.
struct Part {
    offset: u64,
    size: u64,
    fd_index: u32,
    kind: u32,
}

/// The answer for one region.
struct Parts {
    payload: Vec<u8>,
    parts: Vec<Part>,
    fds: Vec<OwnedFd>,
}

/// The word at `at`.
fn word(bytes: &[u8], at: usize) -> Result<u32, Unmet> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
    word.map(|word| u32::from_ne_bytes(*word))
        .ok_or_else(|| Unmet::fail(format!("the reply has {} bytes", bytes.len())))
}

fn long(bytes: &[u8], at: usize) -> Result<u64, Unmet> {
    let long = bytes.get(at..).and_then(<[u8]>::first_chunk);
    long.map(|long| u64::from_ne_bytes(*long))
        .ok_or_else(|| Unmet::fail("a sub-region is cut"))
}

/// Asks for the whole of it.
fn parts(client: &mut Client, index: u32, argsz: u32) -> Result<Parts, Unmet> {
    let request = words(&[argsz, 0, index, 0]);
    let reply = client.accepts(Command::DeviceGetRegionIoFds, &request)?;
    let payload = reply.payload;
    let count = usize::try_from(word(&payload, 12)?).unwrap_or(usize::MAX);
    let rest = payload.get(16..).unwrap_or_default();
    // The specification has the client work out how far apart they are.
    let stride = rest.len().checked_div(count).unwrap_or(0);
    ensure!(
        count == 0 || rest.is_empty() || stride >= 40,
        "{count} sub-regions have {} bytes",
        rest.len()
    );
    let mut parts = Vec::new();
    if !rest.is_empty() {
        for entry in rest.chunks_exact(stride.max(1)).take(count) {
            parts.push(Part {
                offset: long(entry, 0)?,
                size: long(entry, 8)?,
                fd_index: word(entry, 16)?,
                kind: word(entry, 20)?,
            });
        }
    }
    Ok(Parts {
        payload,
        parts,
        fds: reply.fds,
    })
}

/// Calls `look` with each region that has some, its size, and the whole answer.
fn each(target: &Target, mut look: impl FnMut(&mut Client, u32, &Parts) -> Verdict) -> Verdict {
    let mut client = target.client()?;
    for index in io_fd_regions(&mut client)? {
        let whole = parts(&mut client, index, 1 << 16)?;
        look(&mut client, index, &whole).within(&format!("region {index}"))?;
    }
    client.is_in_step()
}
