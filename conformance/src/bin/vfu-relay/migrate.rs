//! The state of the device, from one server to another, as a VMM takes it there.

use anyhow::{Context, bail};
use vfu::wire::Command;
use vfu::wire::feature::{Feature, FeatureFlags, FeatureHead};
use vfu::wire::migration::{MigDataRead, MigDataWrite, MigState, MigrationFlags};

use super::end::End;

/// Bytes of the stream in one message: what every server takes.
const PIECE: u32 = 512 << 10;

/// A stream, and how much of it came while the device still ran.
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pre_copied: usize,
}

/// Reads the state of the device, and leaves it in STOP_COPY.
pub(crate) fn save(server: &mut End) -> anyhow::Result<Stream> {
    let mut bytes = Vec::new();
    if flags(server)?.contains(MigrationFlags::PRE_COPY) {
        set_state(server, MigState::PreCopy)?;
        read_all(server, &mut bytes)?;
    }
    let pre_copied = bytes.len();
    set_state(server, MigState::StopCopy)?;
    read_all(server, &mut bytes)?;
    Ok(Stream { bytes, pre_copied })
}

/// Puts a state into the device, and leaves it in STOP.
pub(crate) fn load(server: &mut End, bytes: &[u8]) -> anyhow::Result<()> {
    set_state(server, MigState::Resuming)?;
    for data in bytes.chunks(PIECE as usize) {
        let mut payload = Vec::new();
        MigDataWrite { data }.emit(&mut payload);
        server.call(Command::MigDataWrite, Vec::new(), payload)?;
    }
    set_state(server, MigState::Stop)
}

/// Reads the state of a device that is stopped, and leaves it in STOP.
pub(crate) fn save_again(server: &mut End) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    set_state(server, MigState::StopCopy)?;
    read_all(server, &mut bytes)?;
    set_state(server, MigState::Stop)?;
    Ok(bytes)
}

fn read_all(server: &mut End, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    loop {
        let mut payload = Vec::new();
        MigDataRead { size: PIECE }.emit(&mut payload);
        let reply = server.call(Command::MigDataRead, Vec::new(), payload)?;
        let data = MigDataRead::parse_reply(&reply)?;
        bytes.extend(data);
        if data.len() < PIECE as usize {
            return Ok(());
        }
    }
}

fn flags(server: &mut End) -> anyhow::Result<MigrationFlags> {
    let reply = feature(server, Feature::Migration, FeatureFlags::GET, &[])?;
    let (_, data) = FeatureHead::parse(&reply)?;
    let Some(bits) = data.first_chunk() else {
        bail!("the server's migration flags are cut off");
    };
    Ok(MigrationFlags::from_bits_retain(u64::from_ne_bytes(*bits)))
}

pub(crate) fn set_state(server: &mut End, state: MigState) -> anyhow::Result<()> {
    let mut data = Vec::new();
    state.emit(&mut data);
    feature(server, Feature::MigDeviceState, FeatureFlags::SET, &data)
        .with_context(|| format!("the device does not go to {state:?}"))?;
    Ok(())
}

fn feature(
    server: &mut End,
    feature: Feature,
    flags: FeatureFlags,
    data: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let head = FeatureHead {
        argsz: 16,
        feature,
        flags,
    };
    let mut payload = Vec::new();
    head.emit(&mut payload);
    payload.extend(data);
    server.call(Command::DeviceFeature, Vec::new(), payload)
}
