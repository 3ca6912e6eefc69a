//! What vGPUs take of the host, as the kernel says.

use crate::api::InstanceUsage;
use crate::blocking::blocking;
use crate::manager::Manager;
use crate::proc::{self, TICKS_PER_SECOND};

/// Nanoseconds of a clock tick.
const TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;

/// The usage of each vGPU that runs. One that is just gone is left out.
pub(crate) async fn look(manager: &Manager) -> Vec<InstanceUsage> {
    let instances = manager.instances().await;
    blocking(move || {
        let instances = instances.iter();
        let told = instances.filter_map(|instance| {
            let usage = proc::usage(instance.pid?).ok()?;
            Some(InstanceUsage {
                uuid: instance.uuid,
                cpu_ns: usage.cpu_ticks.saturating_mul(TICK),
                resident_bytes: usage.resident,
            })
        });
        told.collect()
    })
    .await
}
