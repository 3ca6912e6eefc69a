//! QEMU's `edu`, PCI 1234:11e8: `docs/specs/edu.rst` of QEMU. What ours adds is marked.

use crate::check::{Unmet, Verdict};
use crate::negotiated::{CONFIG, Client};

/// The region of its registers.
pub const BAR: u32 = 0;
/// Reads the inversion of what was written.
pub const LIVENESS: u64 = 0x04;
/// A number is written, and its factorial read once the status says so.
pub const FACTORIAL: u64 = 0x08;
/// Bit 0 is set while a factorial is computed.
pub const STATUS: u64 = 0x20;
/// The causes that are pending.
pub const INTERRUPT_STATUS: u64 = 0x24;
/// A write adds causes, and interrupts.
pub const INTERRUPT_RAISE: u64 = 0x60;
/// A write takes causes away.
pub const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
/// Where a transfer reads; 8 bytes.
pub const DMA_SOURCE: u64 = 0x80;
/// Where a transfer writes; 8 bytes.
pub const DMA_DESTINATION: u64 = 0x88;
/// Bytes of a transfer; 8 bytes.
pub const DMA_COUNT: u64 = 0x90;
/// Starts a transfer; 8 bytes.
pub const DMA_COMMAND: u64 = 0x98;
/// Of the command: starts, and is set until the transfer has ended.
pub const START: u64 = 1;
/// Of the command: from the buffer to guest memory, instead of the other way.
pub const TO_RAM: u64 = 2;
/// Where transfers see the buffer of the device.
pub const BUFFER: u64 = 0x4_0000;
/// Bytes of the buffer.
pub const BUFFER_LEN: u64 = 4096;
/// Ours: a write of any value starts the last commanded transfer again.
pub const DOORBELL: u64 = 0xb0;

/// Whether the device behind `client` is one.
pub fn is_edu(client: &mut Client) -> Result<bool, Unmet> {
    if client.device_info()?.num_regions <= CONFIG {
        return Ok(false);
    }
    Ok(client.read(CONFIG, 0, 4)? == 0x11e8_1234_u32.to_le_bytes())
}

/// Reads a register of 4 bytes.
pub fn read(client: &mut Client, register: u64) -> Result<u32, Unmet> {
    let bytes = client.read(BAR, register, 4)?;
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    Ok(u32::from_le_bytes(bytes))
}

/// Reads a register of 8 bytes.
pub fn read_wide(client: &mut Client, register: u64) -> Result<u64, Unmet> {
    let bytes = client.read(BAR, register, 8)?;
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    Ok(u64::from_le_bytes(bytes))
}

/// Writes a register of 4 bytes.
pub fn write(client: &mut Client, register: u64, value: u32) -> Verdict {
    client.write(BAR, register, &value.to_le_bytes())
}

/// Writes a register of 8 bytes.
pub fn write_wide(client: &mut Client, register: u64, value: u64) -> Verdict {
    client.write(BAR, register, &value.to_le_bytes())
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From guest memory to the buffer: DMA reads.
    FromRam,
    /// From the buffer to guest memory: DMA writes.
    ToRam,
}

/// Starts a transfer between guest memory at `iova` and the buffer from `buffer` on.
pub fn start(client: &mut Client, way: Way, iova: u64, buffer: u64, count: u64) -> Verdict {
    let buffer = BUFFER + buffer;
    let (source, destination, command) = match way {
        Way::FromRam => (iova, buffer, START),
        Way::ToRam => (buffer, iova, START | TO_RAM),
    };
    write_wide(client, DMA_SOURCE, source)?;
    write_wide(client, DMA_DESTINATION, destination)?;
    write_wide(client, DMA_COUNT, count)?;
    write_wide(client, DMA_COMMAND, command)
}

/// Whether a transfer is under way.
pub fn is_transferring(client: &mut Client) -> Result<bool, Unmet> {
    Ok(read_wide(client, DMA_COMMAND)? & START != 0)
}
