//! `vgpu bind` and `vgpu unbind`: physical devices, given to user space and back.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use mdev::host::{self, PciAddress, PciBus};
use uuid::Uuid;
use vgpud::api::Fact;
use vgpud::client::ClientError;

use crate::doctor::{bad, good};
use crate::output::print;
use crate::target::Api;

#[derive(clap::Args)]
pub(crate) struct BindArguments {
    #[command(flatten)]
    devices: Devices,
}

#[derive(clap::Args)]
pub(crate) struct UnbindArguments {
    #[command(flatten)]
    devices: Devices,
    #[command(flatten)]
    api: Api,
}

/// vGPUs stand on the device.
#[derive(Debug, thiserror::Error)]
#[error("{address} has vGPUs: {}", list(.vgpus))]
pub(crate) struct HasVgpus {
    address: PciAddress,
    vgpus: Vec<Uuid>,
}

impl HasVgpus {
    pub(crate) fn remedy(&self) -> String {
        format!("end them: vgpu stop {}", list(&self.vgpus))
    }
}

fn list(vgpus: &[Uuid]) -> String {
    let names: Vec<_> = vgpus.iter().map(ToString::to_string).collect();
    names.join(" ")
}

#[derive(clap::Args)]
struct Devices {
    /// Where they are: 0000:01:00.0, or without the domain, as lspci prints it
    #[arg(value_name = "ADDRESS", required = true)]
    addresses: Vec<PciAddress>,
    /// What /sys, /dev and /proc are under
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

pub(crate) fn bind(arguments: &BindArguments) -> anyhow::Result<()> {
    let devices = &arguments.devices;
    let groups = host::bind(&PciBus::new(&devices.root), &devices.addresses)?;
    let mut text = String::new();
    for (address, group) in devices.addresses.iter().zip(groups) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}: vfio-pci has it, /dev/vfio/{group}");
    }
    Ok(print(&text)?)
}

/// Each by itself: the first that is not given back ends it.
pub(crate) fn unbind(arguments: &UnbindArguments) -> anyhow::Result<()> {
    let devices = &arguments.devices;
    let bus = PciBus::new(&devices.root);
    check_unused(arguments)?;
    for &address in &devices.addresses {
        let driver = host::unbind(&bus, address)?;
        let driver = driver.as_deref().unwrap_or("no driver");
        print(&format!("{address}: {driver} has it\n"))?;
    }
    Ok(())
}

/// Refuses if a vGPU stands on one of them, whether it runs or not. One that runs keeps the device
/// from being given back even where no daemon answers.
fn check_unused(arguments: &UnbindArguments) -> anyhow::Result<()> {
    let parents = match arguments.api.client()?.parents() {
        Ok(parents) => parents,
        Err(ClientError::Unreachable { source, .. }) if is_nobody(&source) => return Ok(()),
        // One that is there, and may not be asked, knows all the same.
        Err(error) => return Err(error.into()),
    };
    for &address in &arguments.devices.addresses {
        let mut parents = parents.iter();
        let parent = parents.find(|parent| parent.name == address.to_string());
        let vgpus = parent.map(|parent| parent.children.clone());
        if let Some(vgpus) = vgpus.filter(|vgpus| !vgpus.is_empty()) {
            return Err(HasVgpus { address, vgpus }.into());
        }
    }
    Ok(())
}

/// Whether nobody listens.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// What the doctor says of physical devices.
pub(crate) fn facts() -> [Fact; 2] {
    facts_of(&PciBus::new("/"))
}

fn facts_of(bus: &PciBus) -> [Fact; 2] {
    const IOMMU: &str = "none is needed without a physical GPU to share; turn on VT-d or AMD-Vi in \
                         the firmware's setup, and boot an Intel with intel_iommu=on";
    const DRIVER: &str = "none is needed without a physical GPU to share; modprobe vfio-pci";
    let iommu = match bus.groups() {
        0 => bad("iommu", "no groups of devices".to_owned(), IOMMU),
        count => good("iommu", format!("groups of devices: {count}")),
    };
    let driver = match bus.given() {
        None => bad(
            "vfio-pci",
            "the kernel has no such driver".to_owned(),
            DRIVER,
        ),
        Some(given) if given.is_empty() => good("vfio-pci", "has no device".to_owned()),
        Some(given) => {
            let names: Vec<_> = given.iter().map(ToString::to_string).collect();
            good("vfio-pci", format!("has {}", names.join(" ")))
        }
    };
    [iommu, driver]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: UnbindArguments,
    }

    #[test]
    fn nothing_is_unbound_unless_it_is_known_to_be_unused() {
        let root = tempfile::tempdir().unwrap();
        let api = root.path().join("api.sock");
        let Line { arguments } =
            Line::parse_from(["unbind", "--api", api.to_str().unwrap(), "0000:01:00.0"]);
        check_unused(&arguments).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&api).unwrap();
        let hanging_up = std::thread::spawn(move || drop(listener.accept()));
        let refused = check_unused(&arguments).unwrap_err();
        assert!(refused.to_string().contains("answer"), "{refused}");
        hanging_up.join().unwrap();
        // Of one that was killed the socket is left.
        check_unused(&arguments).unwrap();
    }

    #[test]
    fn the_doctor_tells_of_an_iommu_and_of_devices_that_are_given() {
        let root = tempfile::tempdir().unwrap();
        let bus = PciBus::new(root.path());
        let [iommu, driver] = facts_of(&bus);
        assert!(!iommu.is_good && iommu.remedy.unwrap().contains("intel_iommu=on"));
        assert!(!driver.is_good && driver.remedy.unwrap().contains("modprobe vfio-pci"));
        fs::create_dir_all(bus.path("/sys/kernel/iommu_groups/0")).unwrap();
        fs::create_dir_all(bus.path("/sys/bus/pci/drivers/vfio-pci/0000:01:00.0")).unwrap();
        let [iommu, driver] = facts_of(&bus);
        assert!(iommu.is_good && iommu.found == "groups of devices: 1");
        assert!(driver.is_good && driver.found == "has 0000:01:00.0");
    }
}
