//! The commands of migration, from a client that may do them wrong: features, states, and the
//! stream.

use vfu::wire::Command;

use crate::check::{Unmet, Verdict};
use crate::connection::{Answer, Message};
use crate::ensure;
use crate::negotiated::Client;
use crate::payload::words;

/// Feature index; section "Device Features".
pub const MIGRATION: u32 = 1;
/// Feature index.
pub const DEVICE_STATE: u32 = 2;
/// Feature index.
pub const LOGGING_START: u32 = 6;
/// Feature index.
pub const LOGGING_STOP: u32 = 7;
/// Feature index.
pub const LOGGING_REPORT: u32 = 8;
/// Flag: the feature's data are asked for.
pub const GET: u32 = 1 << 16;
/// Flag: the feature's data are given.
pub const SET: u32 = 1 << 17;
/// Flag: only whether it could be done.
pub const PROBE: u32 = 1 << 18;

/// Of MIGRATION: the device can be saved while it is stopped.
pub const HAS_STOP_COPY: u64 = 1 << 0;
/// Of MIGRATION: the device can be saved while it runs.
pub const HAS_PRE_COPY: u64 = 1 << 2;

/// State; section "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE".
pub const ERROR: u32 = 0;
/// State.
pub const STOP: u32 = 1;
/// State.
pub const RUNNING: u32 = 2;
/// State.
pub const STOP_COPY: u32 = 3;
/// State.
pub const RESUMING: u32 = 4;
/// State that vfio-user has no use for.
pub const RUNNING_P2P: u32 = 5;
/// State.
pub const PRE_COPY: u32 = 6;
/// State that vfio-user has no use for.
pub const PRE_COPY_P2P: u32 = 7;

/// The states that a device may be taken to.
pub const STATES: [u32; 5] = [STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY];

/// More than any stream of a device under test has: without a bound a server could feed us for
/// ever.
const MAX_STREAM: usize = 256 << 20;

/// The name of a state.
pub fn name(state: u32) -> String {
    match state {
        ERROR => "ERROR".to_owned(),
        STOP => "STOP".to_owned(),
        RUNNING => "RUNNING".to_owned(),
        STOP_COPY => "STOP_COPY".to_owned(),
        RESUMING => "RESUMING".to_owned(),
        RUNNING_P2P => "RUNNING_P2P".to_owned(),
        PRE_COPY => "PRE_COPY".to_owned(),
        PRE_COPY_P2P => "PRE_COPY_P2P".to_owned(),
        other => format!("state {other}"),
    }
}

/// The payload of DEVICE_FEATURE.
pub fn feature(argsz: u32, flags: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = words(&[argsz, flags]);
    payload.extend(data);
    payload
}

/// The payload of SET for the state, which announces as much as it has.
pub fn state_payload(state: u32) -> Vec<u8> {
    feature(16, SET | DEVICE_STATE, &words(&[state, 0]))
}

/// Whether a probe with these flags succeeds.
pub fn probes(client: &mut Client, flags: u32) -> Result<bool, Unmet> {
    let payload = feature(8, PROBE | flags, &[]);
    match ask(client, Command::DeviceFeature, &payload)? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed at a probe")),
    }
}

pub(crate) fn ask(client: &mut Client, command: Command, payload: &[u8]) -> Result<Answer, Unmet> {
    client.connection.ask(command as u16, payload, &[])
}

/// The data of a reply to DEVICE_FEATURE, whose head must be right.
pub fn feature_data(message: &Message, flags: u32) -> Result<&[u8], Unmet> {
    let payload = &message.payload;
    let Some((head, data)) = payload.split_at_checked(8) else {
        return Err(Unmet::fail(format!(
            "a reply to DEVICE_FEATURE of {} bytes",
            payload.len()
        )));
    };
    let expected = words(&[u32::try_from(payload.len()).unwrap_or(u32::MAX), flags]);
    ensure!(
        head == expected,
        "the reply has argsz and flags {head:x?}, they should be {expected:x?}"
    );
    Ok(data)
}

/// GET of MIGRATION.
pub fn flags(client: &mut Client) -> Result<u64, Unmet> {
    let request = feature(16, GET | MIGRATION, &[]);
    let message = client.accepts(Command::DeviceFeature, &request)?;
    let data = feature_data(&message, GET | MIGRATION)?;
    match <[u8; 8]>::try_from(data) {
        Ok(flags) => Ok(u64::from_ne_bytes(flags)),
        Err(_) => Err(Unmet::fail(format!(
            "the flags of MIGRATION have {} bytes",
            data.len()
        ))),
    }
}

/// The states that this device may be taken to.
pub fn states(client: &mut Client) -> Result<Vec<u32>, Unmet> {
    let has_pre_copy = flags(client)? & HAS_PRE_COPY != 0;
    let states = STATES.into_iter();
    Ok(states
        .filter(|state| has_pre_copy || *state != PRE_COPY)
        .collect())
}

/// GET of the state.
pub fn state(client: &mut Client) -> Result<u32, Unmet> {
    let request = feature(16, GET | DEVICE_STATE, &[]);
    let message = client.accepts(Command::DeviceFeature, &request)?;
    let data = feature_data(&message, GET | DEVICE_STATE)?;
    match data {
        [a, b, c, d, _, _, _, _] => Ok(u32::from_ne_bytes([*a, *b, *c, *d])),
        _ => Err(Unmet::fail(format!("a state of {} bytes", data.len()))),
    }
}

/// SET of the state, that may be refused; tells whether it was done.
pub fn tries(client: &mut Client, to: u32) -> Result<bool, Unmet> {
    match ask(client, Command::DeviceFeature, &state_payload(to))? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail(format!(
            "the connection was closed on the way to {}",
            name(to)
        ))),
    }
}

/// SET of the state, which must succeed and lead there.
pub fn go(client: &mut Client, to: u32) -> Verdict {
    ensure!(tries(client, to)?, "{} was refused", name(to));
    let now = state(client)?;
    ensure!(
        now == to,
        "{} was accepted, and the state is {}",
        name(to),
        name(now)
    );
    Ok(())
}

/// The payload of MIG_DATA_READ.
pub fn read_payload(argsz: u32, size: u32) -> Vec<u8> {
    words(&[argsz, size])
}

/// The payload of MIG_DATA_WRITE.
pub fn write_payload(argsz: u32, size: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = words(&[argsz, size]);
    payload.extend(data);
    payload
}

/// MIG_DATA_READ of up to `size` bytes, whose reply must be right.
pub fn read(client: &mut Client, size: u32) -> Result<Vec<u8>, Unmet> {
    let message = client.accepts(
        Command::MigDataRead,
        &read_payload(size.saturating_add(8), size),
    )?;
    let Some((head, data)) = message.payload.split_at_checked(8) else {
        return Err(Unmet::fail("the reply to MIG_DATA_READ has no size"));
    };
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    ensure!(len <= size, "{size} bytes were asked for, and {len} came");
    let expected = words(&[len.saturating_add(8), len]);
    ensure!(
        head == expected,
        "{len} bytes came with argsz and size {head:x?}"
    );
    Ok(data.to_vec())
}

/// The rest of the stream, read so many bytes at a time: to the first that come short.
pub fn read_all(client: &mut Client, size: u32) -> Result<Vec<u8>, Unmet> {
    let mut stream = Vec::new();
    loop {
        let part = read(client, size)?;
        let is_last = u32::try_from(part.len()) != Ok(size);
        stream.extend(part);
        if is_last {
            return Ok(stream);
        }
        ensure!(stream.len() < MAX_STREAM, "the stream does not end");
    }
}

/// MIG_DATA_WRITE that may be refused; tells whether it was taken.
pub fn tries_to_write(client: &mut Client, data: &[u8]) -> Result<bool, Unmet> {
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let payload = write_payload(size.saturating_add(8), size, data);
    match ask(client, Command::MigDataWrite, &payload)? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed at MIG_DATA_WRITE")),
    }
}

/// Writes a stream, so many bytes at a time; tells whether all of it was taken.
pub fn tries_to_write_all(client: &mut Client, stream: &[u8], size: usize) -> Result<bool, Unmet> {
    for part in stream.chunks(size) {
        if !tries_to_write(client, part)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Most bytes of a stream that go in one message.
pub fn chunk(client: &Client) -> u32 {
    let most = client.max_data_xfer_size().min(1 << 20);
    // As QEMU does: the header and the fields count too.
    u32::try_from(most.saturating_sub(24)).unwrap_or(u32::MAX)
}

/// The state of a device that runs, or is stopped: to STOP_COPY, and all of the stream.
pub fn save(client: &mut Client) -> Result<Vec<u8>, Unmet> {
    go(client, STOP_COPY)?;
    let chunk = chunk(client);
    read_all(client, chunk)
}

/// Puts a stream into a device that then stands still; tells whether it was taken.
pub fn tries_to_load(client: &mut Client, stream: &[u8]) -> Result<bool, Unmet> {
    go(client, RESUMING)?;
    let chunk = usize::try_from(chunk(client)).unwrap_or(1);
    Ok(tries_to_write_all(client, stream, chunk)? && tries(client, STOP)?)
}

/// Puts a stream into a device that then stands still.
pub fn load(client: &mut Client, stream: &[u8]) -> Verdict {
    ensure!(
        tries_to_load(client, stream)?,
        "a stream of {} bytes, as the server gave it, was refused",
        stream.len()
    );
    Ok(())
}

/// Brings the device back to RUNNING from wherever it is, by a reset.
pub fn reset(client: &mut Client) -> Verdict {
    client.reset()?;
    let now = state(client)?;
    ensure!(now == RUNNING, "after a reset the state is {}", name(now));
    Ok(())
}
