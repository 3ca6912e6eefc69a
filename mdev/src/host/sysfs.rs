//! What the kernel says of PCI devices, in sysfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HostError, PciAddress};

/// The driver that gives devices to user space.
pub const VFIO_PCI: &str = "vfio-pci";

/// The PCI devices of this machine.
#[derive(Clone, Debug)]
pub struct PciBus {
    root: PathBuf,
}

impl PciBus {
    /// Those of the machine whose `/sys` and `/dev` are under `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What this machine has at an absolute path.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// A device's folder in sysfs.
    pub fn device(&self, address: PciAddress) -> Result<PathBuf, HostError> {
        let folder = self.path(&format!("/sys/bus/pci/devices/{address}"));
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(HostError::NoDevice(address))
        }
    }

    /// The driver that has a device.
    pub fn driver(&self, address: PciAddress) -> Result<Option<String>, HostError> {
        name_behind(&self.device(address)?.join("driver"))
    }

    /// The group of devices that the IOMMU cannot tell from this one: its number.
    pub fn group(&self, address: PciAddress) -> Result<u32, HostError> {
        let link = self.device(address)?.join("iommu_group");
        name_behind(&link)?
            .and_then(|name| name.parse().ok())
            .ok_or(HostError::NoIommu(address))
    }

    /// All devices of a group, this one among them, in the order of their addresses.
    pub fn members(&self, group: u32) -> Result<Vec<PciAddress>, HostError> {
        // Other busses have groups too, and their names are no addresses.
        self.addresses_in(&format!("/sys/kernel/iommu_groups/{group}/devices"))
    }

    /// How many groups of devices there are that an IOMMU tells apart.
    pub fn groups(&self) -> usize {
        let groups = fs::read_dir(self.path("/sys/kernel/iommu_groups"));
        groups.map_or(0, Iterator::count)
    }

    /// The devices that [`VFIO_PCI`] has; none if there is no such driver.
    pub fn given(&self) -> Option<Vec<PciAddress>> {
        self.addresses_in(&format!("/sys/bus/pci/drivers/{VFIO_PCI}"))
            .ok()
    }

    fn addresses_in(&self, folder: &str) -> Result<Vec<PciAddress>, HostError> {
        let folder = self.path(folder);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(HostError::file(&folder))? {
            let name = entry.map_err(HostError::file(&folder))?.file_name();
            found.extend(
                name.to_str()
                    .and_then(|name| name.parse::<PciAddress>().ok()),
            );
        }
        found.sort();
        Ok(found)
    }
}

/// The name of what a link leads to; none if there is no link.
fn name_behind(link: &Path) -> Result<Option<String>, HostError> {
    match fs::read_link(link) {
        Ok(target) => Ok(target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostError::file(link)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_device_is_known_by_its_folder_its_driver_and_its_group() {
        let root = tempfile::tempdir().unwrap();
        let bus = PciBus::new(root.path());
        let (gpu, sound, lone): (PciAddress, PciAddress, PciAddress) = (
            "01:00.0".parse().unwrap(),
            "01:00.1".parse().unwrap(),
            "02:00.0".parse().unwrap(),
        );
        let devices = bus.path("/sys/bus/pci/devices");
        let members = bus.path("/sys/kernel/iommu_groups/7/devices");
        fs::create_dir_all(&members).unwrap();
        fs::create_dir_all(devices.join(lone.to_string())).unwrap();
        for member in [sound, gpu] {
            let folder = devices.join(member.to_string());
            fs::create_dir_all(&folder).unwrap();
            symlink("../../../kernel/iommu_groups/7", folder.join("iommu_group")).unwrap();
            symlink(&folder, members.join(member.to_string())).unwrap();
        }
        symlink(&devices, members.join("INTC1001:00")).unwrap();
        symlink(
            "../../bus/pci/drivers/i915",
            devices.join(gpu.to_string()).join("driver"),
        )
        .unwrap();

        assert_eq!(bus.driver(gpu).unwrap().as_deref(), Some("i915"));
        assert_eq!(bus.driver(sound).unwrap(), None);
        assert_eq!(bus.group(sound).unwrap(), 7);
        assert_eq!(bus.members(7).unwrap(), [gpu, sound]);
        assert!(matches!(bus.group(lone), Err(HostError::NoIommu(_))));
        let absent = "03:00.0".parse().unwrap();
        assert!(matches!(bus.driver(absent), Err(HostError::NoDevice(_))));

        assert_eq!((bus.groups(), bus.given()), (1, None));
        let driver = bus.path("/sys/bus/pci/drivers/vfio-pci");
        fs::create_dir_all(&driver).unwrap();
        fs::write(driver.join("new_id"), "").unwrap();
        symlink(
            devices.join(lone.to_string()),
            driver.join(lone.to_string()),
        )
        .unwrap();
        assert_eq!(bus.given(), Some(vec![lone]));
    }
}
