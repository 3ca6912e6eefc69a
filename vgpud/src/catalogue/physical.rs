//! PCI devices that `vfio-pci` has: each is a parent, called by its address.
//!
//! They come and go while the daemon runs (`vgpu bind`, `vgpu unbind`). One that nothing can be
//! created on is a parent all the same, whose description says why.

use mdev::ParentDriver;
use mdev::host::sysfs::VFIO_PCI;
use mdev::host::{HostError, HostIdentity, PciAddress, PciBus};

use crate::api::Attribute;
use crate::config::{Bytes, Config, ConfigError, ParentConfig};
use crate::pool::Limits;

use super::{EngineSpec, OfferedType, ParentSpec, apply, senseless};

/// Most vGPUs on a device, unless the configuration says so. All are in one process.
const MAX_SEATS: u64 = 64;

/// The setting of a parent that lets VMMs have the device's own memory.
const DIRECT: &str = "direct";

/// A physical device that a parent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostParent {
    /// Where it is.
    pub address: PciAddress,
    /// How many bits its own addresses have.
    pub address_bits: u32,
    /// Most bytes of guests' memory that may be locked for it; as the daemon itself if `None`.
    pub lock_limit: Option<u64>,
    /// What the administrator has set, for its driver.
    pub settings: Vec<Attribute>,
}

/// A device, and whether what the configuration says of it makes sense.
pub struct Found {
    spec: ParentSpec,
    wrong: Option<ConfigError>,
}

impl Found {
    /// Its parent, if all said of it makes sense.
    pub fn sound(self) -> Result<ParentSpec, ConfigError> {
        match self.wrong {
            None => Ok(self.spec),
            Some(wrong) => Err(wrong),
        }
    }

    /// Its parent, which offers nothing if what is said of it makes no sense.
    pub fn anyhow(self) -> ParentSpec {
        match self.wrong {
            None => self.spec,
            Some(wrong) => {
                let ParentSpec {
                    name, description, ..
                } = self.spec;
                ParentSpec::barren(name, offers_nothing(&description, &wrong.to_string()))
            }
        }
    }
}

/// Finds the devices that `vfio-pci` has, in the order of their addresses. Which driver shares what
/// kind of device, `driver_of` knows.
pub fn find(
    config: &Config,
    bus: &PciBus,
    driver_of: impl Fn(&HostIdentity) -> Option<&'static dyn ParentDriver>,
) -> Vec<Found> {
    let given = bus.given().unwrap_or_default();
    let described = given.iter().map(|&address| {
        let identity = HostIdentity::read(bus, address);
        let (description, shared) = match &identity {
            Err(error) => ("PCI device".to_owned(), Err(error.to_string())),
            Ok(identity) => (
                format!("PCI device {:04x}:{:04x}", identity.vendor, identity.device),
                share(bus, address, &given, identity, &driver_of),
            ),
        };
        let name = address.to_string();
        let mut spec = match shared {
            Err(why) => ParentSpec::barren(name, offers_nothing(&description, &why)),
            Ok(spec) => ParentSpec {
                description,
                name,
                ..spec
            },
        };
        let driver = identity.ok().and_then(|identity| driver_of(&identity));
        let taken = driver.map_or(&[][..], ParentDriver::settings);
        let wrong = configure(config, address, taken, &mut spec).err();
        Found { spec, wrong }
    });
    described.collect()
}

/// A device that was given back though it has vGPUs.
pub fn gone(name: &str) -> ParentSpec {
    let why = format!("{VFIO_PCI} does not have it: vgpu bind {name}");
    ParentSpec::barren(name.to_owned(), offers_nothing("PCI device", &why))
}

fn offers_nothing(description: &str, why: &str) -> String {
    format!("{description}; it offers no types: {why}")
}

/// What can be created on a device, or why nothing can.
fn share(
    bus: &PciBus,
    address: PciAddress,
    given: &[PciAddress],
    identity: &HostIdentity,
    driver_of: &impl Fn(&HostIdentity) -> Option<&'static dyn ParentDriver>,
) -> Result<ParentSpec, String> {
    let driver = driver_of(identity).ok_or("no driver here shares it yet")?;
    let words = |error: HostError| error.to_string();
    let group = bus.group(address).map_err(words)?;
    for member in bus.members(group).map_err(words)? {
        if member == address {
            continue;
        }
        let other = HostIdentity::read(bus, member).map_err(words)?;
        if other.is_bridge() {
            continue;
        }
        if !given.contains(&member) {
            return Err(format!(
                "{member} is in the same IOMMU group, and not with {VFIO_PCI}: vgpu bind {member}"
            ));
        }
        // A group is opened once, and is in one address space.
        if member < address && driver_of(&other).is_some() {
            return Err(format!(
                "{member} is in the same IOMMU group, and is shared: one of them can be"
            ));
        }
    }
    let types = driver.types(identity).into_iter().map(|spec| {
        let uses_engine = driver.uses_engine(&spec);
        OfferedType::of(spec, uses_engine)
    });
    let types: Vec<_> = types.collect();
    let has_engine = types.iter().any(|offered| offered.uses_engine);
    Ok(ParentSpec {
        limits: Limits {
            instances: MAX_SEATS,
            video_memory: driver.video_memory(identity),
        },
        engine: has_engine.then_some(EngineSpec::USUAL),
        types,
        host: Some(HostParent {
            address,
            address_bits: driver.address_bits(identity),
            lock_limit: None,
            settings: Vec::new(),
        }),
        ..ParentSpec::barren(String::new(), String::new())
    })
}

/// Limits a device as the configuration says, whatever form its address has there. Its driver takes the
/// settings `taken`.
fn configure(
    config: &Config,
    address: PciAddress,
    taken: &[&str],
    spec: &mut ParentSpec,
) -> Result<(), ConfigError> {
    let mut said = config.parents.iter();
    let Some((_, settings)) = said.find(|(name, _)| name.parse() == Ok(address)) else {
        return Ok(());
    };
    let Some(host) = &mut spec.host else {
        // There is nothing to limit, and why is told.
        return Ok(());
    };
    host.lock_limit = settings.lock_limit.map(|Bytes(bytes)| bytes);
    if settings.direct == Some(true) {
        if !taken.contains(&DIRECT) {
            return Err(senseless(format!(
                "parents.{address}.{DIRECT}: the device's driver has no such setting"
            )));
        }
        host.settings.push(Attribute {
            name: DIRECT.to_owned(),
            value: "on".to_owned(),
        });
    }
    apply(spec, settings)
}

/// Whether a parent of that name is a physical device.
pub(crate) fn is_device(parent: &str) -> bool {
    parent.parse::<PciAddress>().is_ok()
}

/// Whether a name is of a PCI device, which may be given to `vfio-pci` at any time.
pub(super) fn is_said(name: &str, settings: &ParentConfig) -> Result<bool, ConfigError> {
    let is_address = is_device(name);
    if is_address && settings.device.is_some() {
        return Err(senseless(format!(
            "parents.\"{name}\".device: it is found without"
        )));
    }
    Ok(is_address)
}

#[cfg(test)]
mod tests;
