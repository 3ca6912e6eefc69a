//! The client's memory files. Each is mapped whole, once, when its first slice comes: a VMM
//! sends many slices of one file, and a process may have 65,530 mappings.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::fs::{FileType, OFlags, SealFlags, Stat, fcntl_get_seals, fcntl_getfl, fstat, fstatfs};
use vfu::Errno;
use vfu::wire::dma::DmaFlags;

use super::extent::Extent;
use super::sigbus::Truncation;
use crate::keep::{Held, Keep};

/// Which files are taken as memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilePolicy {
    /// Any regular file. One on a slow or remote file system can hold up the device for ever.
    Any,
    /// Files of tmpfs and hugetlbfs, which are memory.
    #[default]
    Memory,
    /// As `Memory`, and sealed against shrinking, so that no client can take memory back that is
    /// in use. QEMU's memfds are sealed; what `memory-backend-file` makes cannot be.
    Sealed,
}

/// Why a client's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A directory, device or socket. Only memory has a size that can be relied on.
    #[error("the descriptor is not a memory file")]
    NotAFile,
    /// The file does not lie in memory.
    #[error("the file is not in tmpfs or hugetlbfs")]
    NotMemory,
    /// The file can shrink while it is in use.
    #[error("the file is not sealed against shrinking")]
    NotSealed,
    /// The descriptor does not allow what the mapping promises.
    #[error("the file is not open for {0:?}")]
    Access(DmaFlags),
    /// Reading past the end of a file is a bus error.
    #[error("the file has {len} bytes, and the mapping wants {end}")]
    TooShort {
        /// Bytes in the file.
        len: u64,
        /// Where the mapping ends.
        end: u64,
    },
    /// The kernel said no.
    #[error("the file cannot be mapped: {0}")]
    Os(#[from] Errno),
}

impl FileError {
    /// What the client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NotAFile | Self::TooShort { .. } => Errno::INVAL,
            Self::NotMemory | Self::NotSealed => Errno::PERM,
            Self::Access(_) => Errno::ACCESS,
            Self::Os(errno) => *errno,
        }
    }
}

/// Part of a client's file: one mapping's memory.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Keeps the file mapped.
    pub extent: Arc<Extent>,
    /// Where in the extent the slice begins.
    pub position: usize,
}

/// The files of one client, each mapped once for as long as a slice of it is.
#[derive(Debug, Default)]
pub struct Files {
    extents: HashMap<FileId, Vec<Weak<Extent>>>,
    policy: FilePolicy,
    truncation: Arc<Truncation>,
    keep: Keep,
    /// Of the next file, if another process has left it.
    left: Option<Held>,
}

/// A file, whatever descriptor it came with, and whether it was open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    writable: bool,
}

/// A slice that is wanted of a file.
struct Wanted {
    file_len: u64,
    /// The unit of the file's memory: a huge page, or a page.
    unit: u64,
    offset: u64,
    len: u64,
    end: u64,
    writable: bool,
}

impl Files {
    /// The files of a new client.
    pub fn new(policy: FilePolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Has files outlive this process from now on.
    pub(super) fn kept_by(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// The next file that is new here was left by another process, and is held already.
    pub(super) fn expect_left(&mut self, left: Option<Held>) {
        self.left = left;
    }

    /// Tells when the client has truncated one of its files.
    pub fn truncation(&self) -> &Arc<Truncation> {
        &self.truncation
    }

    /// The slice `offset..offset + len` of the file behind `fd`.
    pub fn slice(
        &mut self,
        fd: &OwnedFd,
        offset: u64,
        len: u64,
        flags: DmaFlags,
    ) -> Result<Slice, FileError> {
        let status = fstat(fd)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(FileError::NotAFile);
        }
        let mode = Mode::of(fd, flags)?;
        let mut id = FileId {
            device: status.st_dev,
            inode: status.st_ino,
            writable: mode == Mode::ReadWrite,
        };
        if let Some(slice) = self.find(id, offset, len) {
            return Ok(slice);
        }
        // A file that could be mapped for writing when it was can be still; of another one it is
        // to be seen.
        id.writable = mode.can_be_mapped_for_writing(fd, flags)?;
        let wanted = Wanted::new(&status, offset, len, id.writable)?;
        if let Some(slice) = self.find(id, offset, len) {
            return Ok(slice);
        }
        self.check_policy(fd)?;
        // Whoever sends file after file must not make us remember those that are gone.
        self.extents.retain(|_, extents| {
            extents.retain(|extent| extent.strong_count() > 0);
            !extents.is_empty()
        });
        let extents = self.extents.entry(id).or_default();
        let mut extent = wanted.map(fd, extents.is_empty(), &self.truncation)?;
        let left = self.left.take();
        extent.held_by(left.or_else(|| self.keep.hold(fd.as_fd())));
        let extent = Arc::new(extent);
        extents.push(Arc::downgrade(&extent));
        let position = extent.position(offset, len).ok_or(Errno::OVERFLOW)?;
        Ok(Slice { extent, position })
    }

    /// How many files are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.extents.len()
    }

    /// The slice in what is mapped already.
    fn find(&self, id: FileId, offset: u64, len: u64) -> Option<Slice> {
        let extents = self.extents.get(&id)?.iter();
        extents.filter_map(Weak::upgrade).find_map(|extent| {
            let position = extent.position(offset, len)?;
            Some(Slice { extent, position })
        })
    }

    /// What need not be asked again of a file that is mapped already.
    fn check_policy(&self, fd: &OwnedFd) -> Result<(), FileError> {
        /// `linux/magic.h`.
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
        if self.policy == FilePolicy::Any {
            return Ok(());
        }
        let kind = u64::try_from(fstatfs(fd)?.f_type).unwrap_or(0);
        if !matches!(kind, TMPFS_MAGIC | HUGETLBFS_MAGIC) {
            return Err(FileError::NotMemory);
        }
        let must_be_sealed = self.policy == FilePolicy::Sealed;
        if must_be_sealed && !seals(fd).contains(SealFlags::SHRINK) {
            return Err(FileError::NotSealed);
        }
        Ok(())
    }
}

impl Wanted {
    fn new(status: &Stat, offset: u64, len: u64, writable: bool) -> Result<Self, FileError> {
        let file_len = u64::try_from(status.st_size).unwrap_or(0);
        // No file ends at 2^64, which the sum of the two may just be.
        let end = offset.saturating_add(len);
        if end > file_len {
            return Err(FileError::TooShort { len: file_len, end });
        }
        Ok(Self {
            file_len,
            unit: u64::try_from(status.st_blksize).unwrap_or(1).max(1),
            offset,
            len,
            end,
            writable,
        })
    }

    /// Maps the whole file; or, if it has grown since it was, all from this slice on; or, if
    /// there is no room for that much, the slice alone.
    fn map(
        &self,
        fd: &OwnedFd,
        is_first: bool,
        truncation: &Arc<Truncation>,
    ) -> Result<Extent, Errno> {
        debug_assert!(self.len > 0);
        let from_slice = self.offset - self.offset % self.unit;
        let first = if is_first { 0 } else { from_slice };
        let map = |from, to| Extent::map(fd, from, to - from, self.writable, truncation);
        match map(first, self.file_len) {
            Err(Errno::NOMEM | Errno::OVERFLOW) => {
                let slice_end = self.end.next_multiple_of(self.unit).min(self.file_len);
                map(from_slice, slice_end)
            }
            mapped => mapped,
        }
    }
}

/// How a descriptor was opened. Memory that cannot be read cannot be mapped at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    ReadWrite,
}

impl Mode {
    /// An error if it is not enough for `flags`.
    fn of(fd: &OwnedFd, flags: DmaFlags) -> Result<Self, FileError> {
        let mode = fcntl_getfl(fd)? & OFlags::RWMODE;
        if mode == OFlags::RDWR {
            Ok(Self::ReadWrite)
        } else if mode == OFlags::RDONLY && !flags.contains(DmaFlags::WRITE) {
            Ok(Self::Read)
        } else {
            Err(FileError::Access(flags))
        }
    }

    /// An error if it cannot be, and `flags` need it.
    fn can_be_mapped_for_writing(self, fd: &OwnedFd, flags: DmaFlags) -> Result<bool, FileError> {
        let against_writing = SealFlags::WRITE | SealFlags::FUTURE_WRITE;
        let can_be = self == Self::ReadWrite && !seals(fd).intersects(against_writing);
        if can_be || !flags.contains(DmaFlags::WRITE) {
            Ok(can_be)
        } else {
            Err(FileError::Access(flags))
        }
    }
}

/// What the file is sealed against, for good. A file that is not a memfd has no seals.
fn seals(fd: &OwnedFd) -> SealFlags {
    fcntl_get_seals(fd).unwrap_or(SealFlags::empty())
}
