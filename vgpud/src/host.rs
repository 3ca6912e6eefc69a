//! What this host can do.

use crate::api::HostFacts;
use crate::catalogue::total_memory;
use crate::manager::Manager;

/// Looks at this host.
pub async fn look(_manager: &Manager) -> HostFacts {
    let system = rustix::system::uname();
    HostFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        kernel: system.release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
        memory: total_memory(),
        facts: Vec::new(),
    }
}
