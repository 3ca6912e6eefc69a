//! Devices given to user space, and back to the kernel's drivers.
//!
//! A device is refused while something uses it, or while it cannot be told apart from a device that
//! stays with the kernel. Nothing has changed then. What is given lasts until the machine is started
//! again.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::sysfs::{PciBus, VFIO_PCI};
use super::usage::use_of;
use super::{HostError, HostIdentity, PciAddress};

/// A device is not given, or not given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// It is not what it has to be.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The kernel has no driver that gives devices to user space.
    #[error("the kernel has no driver {VFIO_PCI}")]
    NoDriver,
    /// It belongs to the bus.
    #[error("{0} is a bridge")]
    Bridge(PciAddress),
    /// The IOMMU cannot tell it from devices that stay with the kernel.
    #[error("IOMMU group {group} of {address} has other devices: {}", list(.strangers))]
    Strangers {
        /// The device.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// The others.
        strangers: Vec<PciAddress>,
    },
    /// Something uses it.
    #[error("{address} is in use: {how}")]
    InUse {
        /// The device.
        address: PciAddress,
        /// What uses it.
        how: String,
    },
    /// It is not `vfio-pci` that has it.
    #[error("{address} belongs to {}, not to {VFIO_PCI}", .driver.as_deref().unwrap_or("no driver"))]
    NotGiven {
        /// The device.
        address: PciAddress,
        /// Its driver, if it has one.
        driver: Option<String>,
    },
    /// The driver does not take it.
    #[error("{VFIO_PCI} does not take {0}")]
    NotTaken(PciAddress),
}

impl BindError {
    /// What whoever runs the machine can do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Host(HostError::File { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "be root".to_owned()
            }
            Self::Host(error) => return error.remedy().map(str::to_owned),
            Self::NoDriver => format!("modprobe {VFIO_PCI}"),
            Self::Bridge(_) => "give the devices behind it".to_owned(),
            Self::Strangers {
                address, strangers, ..
            } => format!(
                "give them all: vgpu bind {address} {}; or put the device into another slot",
                list(strangers)
            ),
            Self::InUse { .. } => "end what uses it".to_owned(),
            Self::NotGiven { .. } => "there is nothing to give back".to_owned(),
            Self::NotTaken(_) => "the kernel's log says why: dmesg".to_owned(),
        })
    }
}

fn list(addresses: &[PciAddress]) -> String {
    let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// Gives devices to `vfio-pci`, all of them or none; returns the group of each. Those that it has are
/// left as they are.
pub fn bind(bus: &PciBus, addresses: &[PciAddress]) -> Result<Vec<u32>, BindError> {
    Binder { bus, write: &write }.bind(addresses)
}

/// Gives a device back; returns the driver that has it now, if one does.
pub fn unbind(bus: &PciBus, address: PciAddress) -> Result<Option<String>, BindError> {
    Binder { bus, write: &write }.unbind(address)
}

/// How a word is told to the kernel.
type Writer<'a> = dyn Fn(&Path, &str) -> io::Result<()> + 'a;

fn write(path: &Path, word: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)?
        .write_all(word.as_bytes())
}

struct Binder<'a> {
    bus: &'a PciBus,
    write: &'a Writer<'a>,
}

impl Binder<'_> {
    fn bind(&self, addresses: &[PciAddress]) -> Result<Vec<u32>, BindError> {
        let mut groups = Vec::new();
        for &address in addresses {
            groups.push(self.check(address, addresses)?);
        }
        let mut given = Vec::new();
        for &address in addresses {
            if let Err(error) = self.give_one(address, &mut given) {
                for address in given {
                    // The first error is the one to be told.
                    let _ = self.take_back(address);
                }
                return Err(error);
            }
        }
        Ok(groups)
    }

    /// Gives a device that is not given yet, and notes it in `given`.
    fn give_one(&self, address: PciAddress, given: &mut Vec<PciAddress>) -> Result<(), BindError> {
        if self.is_given(address)? {
            return Ok(());
        }
        // Also if it is given by half only.
        given.push(address);
        self.give(address)
    }

    /// Refuses what must stay where it is.
    fn check(&self, address: PciAddress, together: &[PciAddress]) -> Result<u32, BindError> {
        let group = self.bus.group(address)?;
        if !self.bus.path(&driver_folder()).is_dir() {
            return Err(BindError::NoDriver);
        }
        if self.is_bridge(address)? {
            return Err(BindError::Bridge(address));
        }
        let mut strangers = Vec::new();
        for member in self.bus.members(group)? {
            let goes_along = together.contains(&member);
            if !goes_along && !self.is_given(member)? && !self.is_bridge(member)? {
                strangers.push(member);
            }
        }
        if !strangers.is_empty() {
            return Err(BindError::Strangers {
                address,
                group,
                strangers,
            });
        }
        // What is with user space already is used as it should be.
        if !self.is_given(address)? {
            self.check_unused(address)?;
        }
        Ok(group)
    }

    fn check_unused(&self, address: PciAddress) -> Result<(), BindError> {
        match use_of(self.bus, address)? {
            Some(how) => Err(BindError::InUse { address, how }),
            None => Ok(()),
        }
    }

    fn is_given(&self, address: PciAddress) -> Result<bool, HostError> {
        Ok(self.bus.driver(address)?.as_deref() == Some(VFIO_PCI))
    }

    fn is_bridge(&self, address: PciAddress) -> Result<bool, HostError> {
        Ok(HostIdentity::read(self.bus, address)?.is_bridge())
    }

    fn give(&self, address: PciAddress) -> Result<(), BindError> {
        let folder = self.bus.device(address)?;
        self.tell(&folder.join("driver_override"), VFIO_PCI)?;
        if self.bus.driver(address)?.is_some() {
            self.tell(&folder.join("driver/unbind"), &address.to_string())?;
        }
        // A driver that refuses is an error of the write as well; whose it is then, tells.
        let probed = self.probe(address);
        if self.is_given(address)? {
            Ok(())
        } else {
            probed?;
            Err(BindError::NotTaken(address))
        }
    }

    fn unbind(&self, address: PciAddress) -> Result<Option<String>, BindError> {
        let driver = self.bus.driver(address)?;
        if driver.as_deref() != Some(VFIO_PCI) {
            return Err(BindError::NotGiven { address, driver });
        }
        // The kernel would wait for whoever has it, and so would we.
        self.check_unused(address)?;
        self.take_back(address)?;
        Ok(self.bus.driver(address)?)
    }

    fn take_back(&self, address: PciAddress) -> Result<(), BindError> {
        let folder = self.bus.device(address)?;
        // An empty line is no driver.
        self.tell(&folder.join("driver_override"), "\n")?;
        if self.is_given(address)? {
            self.tell(&folder.join("driver/unbind"), &address.to_string())?;
        }
        if self.bus.driver(address)?.is_none() {
            self.probe(address)?;
        }
        Ok(())
    }

    fn probe(&self, address: PciAddress) -> Result<(), HostError> {
        let path = self.bus.path("/sys/bus/pci/drivers_probe");
        self.tell(&path, &address.to_string())
    }

    fn tell(&self, path: &Path, word: &str) -> Result<(), HostError> {
        (self.write)(path, word).map_err(HostError::file(path))
    }
}

fn driver_folder() -> String {
    format!("/sys/bus/pci/drivers/{VFIO_PCI}")
}

#[cfg(test)]
mod tests;
