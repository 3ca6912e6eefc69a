//! Part of a device's memory, for another process to map.

#![expect(
    unsafe_code,
    reason = "a lock's description is told to the kernel by a pointer"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::ioctl::device_fd;
use super::{HostDevice, HostError};

/// A file of the device's own for one other process, and the part of it that the process is to map.
///
/// **It opens the whole device** to whoever has it: all memory, registers, configuration space. The
/// kernel knows no file of a part. So it is for processes that are trusted with the device.
///
/// Every window is a file of its own, on which a lock lies that says which part it is for: it goes with
/// the last descriptor and the last mapping of that file, in whatever process. So it is known whether
/// a part may still be reached that way: [`HostDevice::is_window_held`].
#[derive(Clone, Debug)]
pub struct HostWindow {
    file: Arc<OwnedFd>,
    offset: u64,
}

impl HostWindow {
    /// The file.
    pub fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Where the part begins in it, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl HostDevice {
    /// Opens a window on `len` bytes of a region, whole pages that can be mapped.
    pub fn open_window(&self, region: u32, offset: u64, len: u64) -> Result<HostWindow, HostError> {
        let found = self.region(region, offset, 0)?;
        if !found.can_map(offset, len) {
            return Err(HostError::NotMappable {
                region,
                offset,
                len,
            });
        }
        let at = found.file_offset + offset;
        // An address has no byte of zero in it.
        let name = CString::new(self.address().to_string()).unwrap_or_default();
        let file =
            device_fd(self.group(), &name).map_err(HostError::call("open the device once more"))?;
        let mut lock = self.lock(libc::F_RDLCK, at, len);
        control_lock(&file, libc::F_OFD_SETLK, &mut lock)
            .map_err(HostError::call("mark a part of the device as given away"))?;
        Ok(HostWindow {
            file: Arc::new(file),
            offset: at,
        })
    }

    /// Whether any window that reaches into this part of a region is still open, or mapped, anywhere.
    pub fn is_window_held(&self, region: u32, offset: u64, len: u64) -> Result<bool, HostError> {
        let at = self.region(region, offset, 0)?.file_offset + offset;
        let mut lock = self.lock(libc::F_WRLCK, at, len);
        control_lock(&self.file, libc::F_OFD_GETLK, &mut lock)
            .map_err(HostError::call("ask what of the device is given away"))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    /// A lock on part of this device's file. All files that have no inode of their own share one, and
    /// so the locks of all devices lie in one space: the device's place on the bus is part of it.
    fn lock(&self, kind: libc::c_int, at: u64, len: u64) -> libc::flock {
        /// VFIO counts regions from bit 40 of an offset on, and there are few.
        const OFFSET_BITS: u32 = 43;
        let start = self.address().number() << OFFSET_BITS | at;
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            // An offset of a file has 63 bits.
            l_start: (start & (u64::MAX >> 1)).cast_signed(),
            l_len: len.cast_signed(),
            l_pid: 0,
        }
    }
}

fn control_lock(file: &OwnedFd, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the kernel reads and writes one `struct flock`, which is borrowed for that long.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn lock(kind: libc::c_int, start: i64) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: start,
            l_len: 4096,
            l_pid: 0,
        }
    }

    /// What [`HostWindow`] relies on, tried on files of the kind that a device's file is.
    #[test]
    fn a_lock_on_a_file_without_an_inode_goes_with_its_last_descriptor() {
        // Nobody else's locks are there: other processes' would be in the same space.
        let start = i64::from(std::process::id()) << 20;
        let file = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (ours, given) = (file(), file());
        let is_held = |start| {
            let mut asked = lock(libc::F_WRLCK, start);
            control_lock(&ours, libc::F_OFD_GETLK, &mut asked).unwrap();
            i32::from(asked.l_type) != libc::F_UNLCK
        };
        assert!(!is_held(start));
        control_lock(&given, libc::F_OFD_SETLK, &mut lock(libc::F_RDLCK, start)).unwrap();
        assert!(is_held(start) && is_held(start + 4095) && !is_held(start + 4096));
        let duplicate = given.try_clone().unwrap();
        drop(given);
        assert!(is_held(start));
        drop(duplicate);
        assert!(!is_held(start));
    }
}
