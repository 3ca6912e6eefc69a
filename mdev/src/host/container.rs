//! The kernel's three files: an address space, the group of devices in it, a device.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use std::os::unix::fs::OpenOptionsExt;
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU, vfio_group_status,
    vfio_iommu_type1_info,
};

use super::ioctl::{Argument, Numbered, Request, ask, device_fd, set_container, tell};
use super::sysfs::{PciBus, VFIO_PCI};
use super::{HostError, HostFiles, PciAddress};

/// Opens a device that `vfio-pci` has.
pub(super) fn open(bus: &PciBus, address: PciAddress) -> Result<HostFiles, HostError> {
    let number = bus.group(address)?;
    let driver = bus.driver(address)?;
    if driver.as_deref() != Some(VFIO_PCI) {
        return Err(HostError::NotBound { address, driver });
    }
    let container = open_file(bus, "/dev/vfio/vfio", number)?;
    check_version(&container)?;
    let group = open_file(bus, &format!("/dev/vfio/{number}"), number)?;
    check_viable(&group, number)?;
    set_container(&group, container.as_fd())
        .map_err(HostError::call("put the group into an address space"))?;
    tell(&container, Numbered::SetIommu, VFIO_TYPE1v2_IOMMU).map_err(|source| {
        match source.kind() {
            io::ErrorKind::PermissionDenied => HostError::UnsafeInterrupts,
            _ => HostError::call("use the IOMMU")(source),
        }
    })?;
    // An address has no byte of zero in it.
    let name = CString::new(address.to_string()).unwrap_or_default();
    let device = device_fd(&group, &name).map_err(HostError::call("open the device"))?;
    Ok(HostFiles {
        container,
        group,
        device,
    })
}

fn open_file(bus: &PciBus, path: &str, group: u32) -> Result<OwnedFd, HostError> {
    let path = bus.path(path);
    let opened = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::CLOEXEC.bits().cast_signed())
        .open(&path);
    match opened {
        Ok(file) => Ok(file.into()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(HostError::InUse(group)),
        Err(error) => Err(HostError::file(path)(error)),
    }
}

fn check_version(container: &OwnedFd) -> Result<(), HostError> {
    const WHAT: &str = "speak this kernel's version of it";
    let version =
        tell(container, Numbered::ApiVersion, 0).map_err(HostError::call("ask its version"))?;
    let has_type1 = tell(container, Numbered::CheckExtension, VFIO_TYPE1v2_IOMMU)
        .map_err(HostError::call("ask for the IOMMU"))?;
    if version == VFIO_API_VERSION.cast_signed() && has_type1 == 1 {
        Ok(())
    } else {
        Err(HostError::call(WHAT)(io::ErrorKind::Unsupported.into()))
    }
}

fn check_viable(group: &OwnedFd, number: u32) -> Result<(), HostError> {
    let mut status = Argument::new(size_of::<vfio_group_status>());
    ask(group, Request::GroupStatus, &mut status).map_err(HostError::call("ask for the group"))?;
    let flags = status.u32(offset_of!(vfio_group_status, flags));
    if flags & VFIO_GROUP_FLAGS_VIABLE != 0 {
        Ok(())
    } else {
        Err(HostError::NotViable(number))
    }
}

/// What the IOMMU says of itself.
pub(super) fn iommu_info(container: &OwnedFd) -> Result<Argument, HostError> {
    let argument = Argument::new(size_of::<vfio_iommu_type1_info>());
    ask_all(container, Request::IommuInfo, argument)
        .map_err(HostError::call("ask what the IOMMU translates"))
}

/// Asks, and asks again with room for the whole answer if the first was too long.
pub(super) fn ask_all(fd: &OwnedFd, request: Request, argument: Argument) -> io::Result<Argument> {
    /// More than the kernel has to say of anything.
    const MOST: u32 = 1 << 20;
    let mut first = argument.clone();
    ask(fd, request, &mut first)?;
    let needed = first.u32(0);
    if needed <= first.len() {
        return Ok(first);
    }
    if needed > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut whole = argument.grown(needed);
    ask(fd, request, &mut whole)?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_device_of_another_driver_is_not_opened_and_told_whose_it_is() {
        let root = tempfile::tempdir().unwrap();
        let bus = PciBus::new(root.path());
        let address: PciAddress = "01:00.0".parse().unwrap();
        let folder = bus.path(&format!("/sys/bus/pci/devices/{address}"));
        fs::create_dir_all(&folder).unwrap();
        let refused = |bus: &PciBus| open(bus, address).unwrap_err();
        assert!(matches!(refused(&bus), HostError::NoIommu(_)));
        symlink("../iommu_groups/3", folder.join("iommu_group")).unwrap();
        let error = refused(&bus);
        assert_eq!(
            error.to_string(),
            "0000:01:00.0 belongs to no driver, not to vfio-pci"
        );
        assert!(error.remedy().unwrap().contains("vgpu bind"));
        symlink("../drivers/vfio-pci", folder.join("driver")).unwrap();
        let error = refused(&bus);
        assert!(error.to_string().contains("dev/vfio/vfio"), "{error}");
    }
}
