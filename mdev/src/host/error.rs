//! What can go wrong with a physical device, and what to do about it.

use std::io;
use std::path::PathBuf;

use vfu::Errno;

use super::PciAddress;

/// A physical device is not to be had, or does not do what is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing is at this address.
    #[error("there is no PCI device {0}")]
    NoDevice(PciAddress),
    /// Nothing keeps the device from writing to any memory.
    #[error("{0} is behind no IOMMU")]
    NoIommu(PciAddress),
    /// Its driver is not `vfio-pci`.
    #[error("{address} belongs to {}, not to vfio-pci", .driver.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The device.
        address: PciAddress,
        /// Its driver, if it has one.
        driver: Option<String>,
    },
    /// Other devices of its group are driven by the kernel.
    #[error("other devices of IOMMU group {0} have drivers of the kernel's")]
    NotViable(u32),
    /// Somebody has the group.
    #[error("IOMMU group {0} is in use")]
    InUse(u32),
    /// Interrupts are not remapped: with writes of its own making, the device could raise any.
    #[error("this machine does not remap interrupts")]
    UnsafeInterrupts,
    /// A file of the kernel's cannot be opened, read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refuses a call.
    #[error("VFIO: cannot {what}: {source}")]
    Call {
        /// What was asked of it.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The device has no such region, or an access is not within it.
    #[error("region {region} has nothing at {offset:#x}+{len:#x}")]
    OutOfRegion {
        /// Its index.
        region: u32,
        /// Where the access began.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// A part of a region cannot be mapped, or not by whole pages.
    #[error("region {region} cannot be mapped at {offset:#x}+{len:#x}")]
    NotMappable {
        /// Its index.
        region: u32,
        /// Where the mapping was to begin.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// The device has no interrupts of this kind, or fewer.
    #[error("the device has no such interrupt")]
    NoInterrupt,
    /// All addresses that the device reaches are taken.
    #[error("the device reaches no further address for {0} bytes")]
    NoAddress(u64),
    /// The kernel keeps no more mappings for one container.
    #[error("the device has as much memory mapped as the kernel keeps count of")]
    TooManyMappings,
    /// The process has as much memory pinned as it may.
    #[error("no more memory can be locked for the device")]
    MemoryLock,
}

impl From<HostError> for io::Error {
    /// The words stay; [`HostError::errno_in`] finds the errno.
    fn from(error: HostError) -> Self {
        Self::other(error)
    }
}

impl HostError {
    /// The errno of an error that may have been one of these, the kernel's, or of the kind
    /// [`io::ErrorKind::StorageFull`] with other words.
    pub fn errno_in(error: &io::Error) -> Errno {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        inner
            .map(Self::errno)
            .or_else(|| Errno::from_io_error(error))
            .or_else(|| (error.kind() == io::ErrorKind::StorageFull).then_some(Errno::NOSPC))
            .unwrap_or(Errno::IO)
    }

    /// What whoever runs the machine can do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoDevice(_) => "lspci -D lists what there is",
            Self::NoIommu(_) => {
                "turn on VT-d or AMD-Vi in the firmware's setup; with an Intel processor, boot \
                 with intel_iommu=on"
            }
            Self::NotBound { .. } => "give it to vfio-pci: vgpu bind",
            Self::NotViable(_) => "give all devices of the group to vfio-pci: vgpu bind",
            Self::InUse(_) => "end the program that has /dev/vfio open, a virtual machine for one",
            Self::UnsafeInterrupts => {
                "turn on interrupt remapping in the firmware's setup; or trust the device, and \
                 load vfio_iommu_type1 with allow_unsafe_interrupts=1"
            }
            Self::TooManyMappings => "load vfio_iommu_type1 with a higher dma_entry_limit",
            Self::MemoryLock => "raise the limit on locked memory: LimitMEMLOCK of the service",
            _ => return None,
        })
    }

    /// The errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoDevice(_) | Self::NoIommu(_) | Self::NotBound { .. } => Errno::NODEV,
            Self::NotViable(_) | Self::UnsafeInterrupts => Errno::PERM,
            Self::InUse(_) => Errno::BUSY,
            Self::File { source, .. } | Self::Call { source, .. } => {
                Errno::from_io_error(source).unwrap_or(Errno::IO)
            }
            Self::OutOfRegion { .. } | Self::NotMappable { .. } | Self::NoInterrupt => Errno::INVAL,
            Self::NoAddress(_) | Self::TooManyMappings => Errno::NOSPC,
            Self::MemoryLock => Errno::NOMEM,
        }
    }

    /// For `map_err`: a file of the kernel's.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err`: what was asked of VFIO.
    pub(super) fn call(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Call { what, source }
    }
}
