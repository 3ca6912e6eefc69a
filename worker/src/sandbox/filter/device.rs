//! Which system calls the worker of a physical device makes besides.

use std::os::fd::RawFd;

use libc::{SYS_fcntl, SYS_getsockopt, SYS_ioctl};
use seccompiler::BackendError;

use super::List;

/// The calls of VFIO, by `linux/vfio.h`: `_IO(';', 100 + n)`.
const fn vfio(n: i32) -> i32 {
    ((b';' as i32) << 8) | (100 + n)
}
const VFIO_GROUP_GET_DEVICE_FD: i32 = vfio(6);
const VFIO_DEVICE_GET_IRQ_INFO: i32 = vfio(9);
const VFIO_DEVICE_SET_IRQS: i32 = vfio(10);
const VFIO_DEVICE_RESET: i32 = vfio(11);
const VFIO_IOMMU_MAP_DMA: i32 = vfio(13);
const VFIO_IOMMU_UNMAP_DMA: i32 = vfio(14);

/// The descriptors of a physical device, each under its number.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFds {
    /// Of its address space.
    pub container: RawFd,
    /// Its own.
    pub device: RawFd,
    /// Of its group, if clients may be given files of the device's.
    pub group: Option<RawFd>,
}

/// What a worker makes that has a physical device, each call on the descriptor that it is meant for:
/// the same number means something else on others.
pub fn with_a_device(list: List, fds: DeviceFds) -> Result<List, BackendError> {
    let calls = [
        (fds.container, VFIO_IOMMU_MAP_DMA),
        (fds.container, VFIO_IOMMU_UNMAP_DMA),
        (fds.device, VFIO_DEVICE_GET_IRQ_INFO),
        (fds.device, VFIO_DEVICE_SET_IRQS),
        (fds.device, VFIO_DEVICE_RESET),
    ];
    let mut calls = calls.into_iter();
    let list = calls.try_fold(list, |list, (fd, request)| {
        list.or_with(SYS_ioctl, &[(0, fd), (1, request)])
    })?;
    // Which parts of the device are given away.
    let list = list.or_with(SYS_fcntl, &[(0, fds.device), (1, libc::F_OFD_GETLK)])?;
    match fds.group {
        None => Ok(list),
        Some(group) => list
            .or_with(SYS_ioctl, &[(0, group), (1, VFIO_GROUP_GET_DEVICE_FD)])?
            .or_with(SYS_fcntl, &[(1, libc::F_OFD_SETLK)]),
    }
}

/// Sockets of further vGPUs come while it serves: of what kind they are, and whether they listen.
pub fn with_sockets(list: List) -> Result<List, BackendError> {
    let questions = [libc::SO_TYPE, libc::SO_ACCEPTCONN];
    let mut questions = questions.into_iter();
    questions.try_fold(list, |list, question| {
        list.or_with(SYS_getsockopt, &[(1, libc::SOL_SOCKET), (2, question)])
    })
}
