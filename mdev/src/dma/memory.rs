//! The client's memory files. Each is mapped whole, once, when its first slice comes: a VMM
//! sends many slices of one file, and a process may have 65,530 mappings.

#![expect(
    unsafe_code,
    reason = "client memory is a raw mapping, and is reached only here"
)]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use rustix::fs::{FileType, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vfu::Errno;
use vfu::wire::dma::DmaFlags;

/// Why a client's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A directory, device or socket. Only memory has a size that can be relied on.
    #[error("the descriptor is not a memory file")]
    NotAFile,
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
            Self::Access(_) => Errno::ACCESS,
            Self::Os(errno) => *errno,
        }
    }
}

/// A shared mapping of part of a client's file.
///
/// # Invariants
///
/// `base..base + len` stays mapped until drop: readable, and writable if `writable`.
#[derive(Debug)]
pub struct Extent {
    base: NonNull<u8>,
    len: usize,
    /// Where in the file it begins.
    offset: u64,
    writable: bool,
}

// SAFETY: the mapping belongs to the process and not to a thread, and is unmapped only by `drop`,
// which has it alone. No reference into it is ever formed.
unsafe impl Send for Extent {}
// SAFETY: as above; all access is volatile, and whoever else writes at the same time (the guest
// does too) can only change the bytes that are read.
unsafe impl Sync for Extent {}

impl Extent {
    fn map(fd: &OwnedFd, offset: u64, len: u64, writable: bool) -> Result<Self, FileError> {
        let len = usize::try_from(len).map_err(|_| Errno::OVERFLOW)?;
        let mut protection = ProtFlags::READ;
        if writable {
            protection |= ProtFlags::WRITE;
        }
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?,
            len,
            offset,
            writable,
        })
    }

    /// Where `offset..offset + len` of the file lies in this extent, if all of it does.
    fn position(&self, offset: u64, len: u64) -> Option<usize> {
        let position = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let len = usize::try_from(len).ok()?;
        (position.checked_add(len)? <= self.len).then_some(position)
    }

    /// Copies out of the mapping from `position`; `None` if that is not within it.
    pub fn read(&self, position: usize, out: &mut [u8]) -> Option<()> {
        if position.checked_add(out.len())? > self.len {
            return None;
        }
        for (i, byte) in out.iter_mut().enumerate() {
            // SAFETY: `position + i < len`, so the byte is mapped, by the type's invariant. The
            // client may write it at any time; a volatile read of a byte assumes nothing of it.
            *byte = unsafe { self.base.add(position + i).read_volatile() };
        }
        Some(())
    }

    /// Copies into the mapping at `position`; `None` if that is not within it, or read-only.
    pub fn write(&self, position: usize, data: &[u8]) -> Option<()> {
        if !self.writable || position.checked_add(data.len())? > self.len {
            return None;
        }
        for (i, byte) in data.iter().enumerate() {
            // SAFETY: `position + i < len`, so the byte is mapped, and writable, by the type's
            // invariant. No reference to it exists.
            unsafe { self.base.add(position + i).write_volatile(*byte) };
        }
        Some(())
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `map` mapped, and nobody else has the extent any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
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
}

/// A file, whatever descriptor it came with, and whether it was open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    writable: bool,
}

impl Files {
    /// The slice `offset..offset + len` of the file behind `fd`, which is closed on return.
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
        let writable = is_writable(fd, flags)?;
        let file_len = u64::try_from(status.st_size).unwrap_or(0);
        let end = offset.checked_add(len).ok_or(Errno::OVERFLOW)?;
        if end > file_len {
            return Err(FileError::TooShort { len: file_len, end });
        }
        let id = FileId {
            device: status.st_dev,
            inode: status.st_ino,
            writable,
        };
        if let Some(slice) = self.find(id, offset, len) {
            return Ok(slice);
        }
        // Whoever sends file after file must not make us remember those that are gone.
        self.extents.retain(|_, extents| {
            extents.retain(|extent| extent.strong_count() > 0);
            !extents.is_empty()
        });
        let extents = self.extents.entry(id).or_default();
        let unit = u64::try_from(status.st_blksize).unwrap_or(1).max(1);
        let from_slice = offset - offset % unit;
        // The whole file; or, if it has grown since, all from this slice on; or, if there is no
        // room for that much, the slice alone.
        let first = if extents.is_empty() { 0 } else { from_slice };
        let extent = match Extent::map(fd, first, file_len - first, writable) {
            Err(FileError::Os(Errno::NOMEM | Errno::OVERFLOW)) => {
                let slice_end = end.next_multiple_of(unit).min(file_len);
                Extent::map(fd, from_slice, slice_end - from_slice, writable)
            }
            mapped => mapped,
        };
        let extent = Arc::new(extent?);
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
}

/// Whether the file can be mapped for writing; an error if it cannot be for what `flags` ask.
fn is_writable(fd: &OwnedFd, flags: DmaFlags) -> Result<bool, FileError> {
    let mode = fcntl_getfl(fd)? & OFlags::RWMODE;
    let writable = mode == OFlags::RDWR && !is_sealed(fd);
    // Memory that cannot be read cannot be mapped at all.
    let readable = matches!(mode, OFlags::RDONLY | OFlags::RDWR);
    if readable && (writable || !flags.contains(DmaFlags::WRITE)) {
        Ok(writable)
    } else {
        Err(FileError::Access(flags))
    }
}

/// Whether the file is sealed against writing, for good.
fn is_sealed(fd: &OwnedFd) -> bool {
    // A file that is not a memfd has no seals.
    fcntl_get_seals(fd)
        .is_ok_and(|seals| seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE))
}
