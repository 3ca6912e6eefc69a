//! What a client sees of a device: what is to be the same after it was saved and restored.

use vfu::wire::region::RegionFlags;

use crate::check::{Unmet, Verdict};
use crate::ensure;
use crate::negotiated::{CONFIG, Client, SCRATCH};

/// Most bytes of a region that are looked at.
const MOST: u64 = 256 << 10;
/// The beginning is read as registers are.
const REGISTERS: u64 = 256;

/// What a client sees of a device that does nothing: config space, and what can be read of BARs.
pub(super) fn look(client: &mut Client) -> Result<Vec<(u32, Vec<u8>)>, Unmet> {
    let mut seen = Vec::new();
    for region in client.regions()? {
        let index = region.info.index;
        if index > CONFIG || !region.info.flags.contains(RegionFlags::READ) {
            continue;
        }
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < region.info.size.min(MOST) {
            let len = if at < REGISTERS { 4 } else { 4096 };
            let len = len.min(region.info.size - at);
            bytes.extend(client.read(index, at, u32::try_from(len).unwrap_or(4))?);
            at += len;
        }
        seen.push((index, bytes));
    }
    Ok(seen)
}

/// What a device looks like, less what changes by being looked at.
pub(super) struct Look(Vec<(u32, Vec<Option<u8>>)>);

/// Leaves marks that a reset takes away.
pub(super) fn mark(client: &mut Client) -> Verdict {
    client.write(CONFIG, 4, &[6, 0])?;
    client.write(CONFIG, SCRATCH, &[0x5a])
}

/// Leaves marks, and tells what the device looks like then.
pub(super) fn marked(client: &mut Client) -> Result<Look, Unmet> {
    mark(client)?;
    // To read may change a register once; a second time only those that always change.
    look(client)?;
    let (first, second) = (look(client)?, look(client)?);
    let regions = first.into_iter().zip(second);
    let stable = regions.map(|((index, first), (_, second))| {
        let bytes = first.into_iter().zip(second);
        let bytes = bytes.map(|(first, second)| (first == second).then_some(first));
        (index, bytes.collect())
    });
    Ok(Look(stable.collect()))
}

impl Look {
    /// The device looks the same now.
    pub(super) fn is_still(&self, client: &mut Client) -> Verdict {
        let now = look(client)?;
        ensure!(self.0.len() == now.len(), "there are other regions");
        for ((index, before), (_, now)) in self.0.iter().zip(&now) {
            let bytes = before.iter().zip(now);
            let mut changed = bytes.map(|(before, now)| before.is_some_and(|it| it != *now));
            let place = changed.position(|is_changed| is_changed);
            ensure!(
                place.is_none() && before.len() == now.len(),
                "region {index} reads otherwise from {:#x} on",
                place.unwrap_or(0)
            );
        }
        Ok(())
    }
}
