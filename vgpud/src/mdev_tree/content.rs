//! What files hold.

use std::fmt::Display;

use rustix::io::Errno;

use crate::api::{Instance, WorkerStatus};
use crate::client::Client;
use crate::proc;

use super::Tree;
use super::nodes::{Device, DeviceText, File, Type, TypeText};
use super::refusal::errno_of;

/// What is in `statistics`, in the order of names.
pub(super) const STATISTICS: &[&str] = &[
    "connected",
    "crashes",
    "dma_maps",
    "dma_unmaps",
    "faults",
    "interrupts",
    "mappings",
    "memory",
    "pid",
    "pinned_pages",
    "recoveries",
    "refused_clients",
    "refused_requests",
    "region_read_bytes",
    "region_reads",
    "region_write_bytes",
    "region_writes",
    "requests",
    "resets",
    "sessions",
    "upgrades",
];

impl Tree {
    /// What a file holds. ENODEV if what it tells of is gone.
    pub(super) fn content(&self, client: &Client, file: &File<'_>) -> Result<Vec<u8>, Errno> {
        match file {
            File::Create(_) | File::Remove(_) => Err(Errno::ACCESS),
            File::Policy(parent) => policy(client, parent),
            File::OfType(of, text) => self.type_text(client, of, *text),
            File::OfDevice(of, text) => {
                let instance = self.instance(client, of)?;
                device_text(&instance, *text)
            }
            File::Statistic(of, name) => self.statistic(client, of, name),
            File::Attribute(of, name) => self.attribute(client, of, name),
        }
    }

    fn type_text(&self, client: &Client, of: &Type<'_>, text: TypeText) -> Result<Vec<u8>, Errno> {
        let snapshot = self.snapshots.take(client)?;
        let offered = snapshot.type_of(of.parent, of.name).ok_or(Errno::NODEV)?;
        Ok(match text {
            TypeText::AvailableInstances => line(offered.available_instances),
            TypeText::DeviceApi => line(&offered.device_api),
            TypeText::Name => line(&offered.title),
            TypeText::Description => line(&offered.description),
        })
    }

    /// A number. ENXIO if it is of the worker, and the device does not run.
    fn statistic(&self, client: &Client, of: &Device<'_>, name: &str) -> Result<Vec<u8>, Errno> {
        let instance = self.instance(client, of)?;
        let pid = || instance.pid.ok_or(Errno::NXIO);
        match name {
            "crashes" => return Ok(line(instance.crashes)),
            "recoveries" => return Ok(line(instance.recoveries)),
            "upgrades" => return Ok(line(instance.upgrades)),
            "pid" => return Ok(line(pid()?)),
            "memory" => return memory(pid()?),
            _ => {}
        }
        let status = self.status(client, of)?;
        of_status(&status, name).map(line).ok_or(Errno::NODATA)
    }

    /// The value of an attribute now; of a device that does not run, the one that it was given.
    fn attribute(&self, client: &Client, of: &Device<'_>, name: &str) -> Result<Vec<u8>, Errno> {
        let instance = self.instance(client, of)?;
        let attributes = match self.status(client, of) {
            Ok(status) => status.attributes,
            Err(Errno::NXIO) => instance.attributes,
            Err(error) => return Err(error),
        };
        // The later one wins, if it was given twice.
        let mut attributes = attributes.into_iter().rev();
        let found = attributes.find(|attribute| attribute.name == name);
        found
            .map(|attribute| line(attribute.value))
            .ok_or(Errno::NODEV)
    }
}

/// How the engine of a parent is shared. ENODEV if it has none any more.
fn policy(client: &Client, parent: &str) -> Result<Vec<u8>, Errno> {
    let engine = client.engine(parent).map_err(|error| errno_of(&error))?;
    // A word, as the API has it.
    let policy = serde_json::to_value(engine.policy).map_err(|_| Errno::IO)?;
    Ok(line(policy.as_str().ok_or(Errno::IO)?))
}

fn device_text(instance: &Instance, text: DeviceText) -> Result<Vec<u8>, Errno> {
    Ok(match text {
        DeviceText::Socket => line(&instance.socket),
        DeviceText::Control => line(&instance.control),
        DeviceText::State => {
            // A word, as the API has it.
            let state = serde_json::to_value(instance.state).map_err(|_| Errno::IO)?;
            line(state.as_str().ok_or(Errno::IO)?)
        }
    })
}

fn of_status(status: &WorkerStatus, name: &str) -> Option<u64> {
    match name {
        "connected" => Some(status.connected.into()),
        "mappings" => Some(status.mappings),
        "pinned_pages" => Some(status.pinned_pages),
        _ => status.counters.get(name).copied(),
    }
}

/// Bytes of a worker's memory that lie in RAM.
fn memory(pid: u32) -> Result<Vec<u8>, Errno> {
    match proc::usage(pid) {
        Ok(usage) => Ok(line(usage.resident)),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

fn line(value: impl Display) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_of_a_worker_has_a_file() {
        let counters = serde_json::to_value(worker::protocol::Counters::default()).unwrap();
        for name in counters.as_object().unwrap().keys() {
            assert!(STATISTICS.contains(&name.as_str()), "{name}");
        }
        assert!(STATISTICS.is_sorted());
    }
}
