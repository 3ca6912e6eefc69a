//! QEMU's `edu`, PCI 1234:11e8: `docs/specs/edu.rst` of QEMU. What ours adds is marked.

use crate::check::Unmet;
use crate::negotiated::{CONFIG, Client};

/// The region of its registers.
pub const BAR: u32 = 0;
/// Reads the inversion of what was written.
pub const LIVENESS: u64 = 0x04;
/// Ours: a write of any value starts the last commanded transfer again.
pub const DOORBELL: u64 = 0xb0;

/// Whether the device behind `client` is one.
pub fn is_edu(client: &mut Client) -> Result<bool, Unmet> {
    if client.device_info()?.num_regions <= CONFIG {
        return Ok(false);
    }
    Ok(client.read(CONFIG, 0, 4)? == 0x11e8_1234_u32.to_le_bytes())
}
