//! Memory of a device's own that a client maps: a sealed memory file.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, SeekFrom};
use rustix::io::{pread, pwrite, retry_on_intr};

use crate::keep::Held;

/// Bytes that are copied at a time from one memory to another.
const COPY_LEN: usize = 64 << 10;

/// The memory of one region, for one client.
///
/// # Invariants
///
/// The file is as long as it was made: it is sealed, so a client can neither shrink it under a
/// reader, nor grow it at our cost.
#[derive(Debug)]
pub struct RegionMemory {
    file: Arc<OwnedFd>,
    len: u64,
    /// While it outlives this process.
    _held: Option<Held>,
}

impl RegionMemory {
    /// `len` bytes of zeros, which take no memory until they are written. `name` is what
    /// `/proc/PID/maps` shows.
    pub fn new(name: &str, len: u64) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&file, len)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self {
            file: Arc::new(file),
            len,
            _held: None,
        })
    }

    /// Memory that another process has made, with what it holds.
    pub(crate) fn open(file: OwnedFd, len: u64) -> io::Result<Self> {
        let is_whole = u64::try_from(rustix::fs::fstat(&file)?.st_size) == Ok(len);
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        if !is_whole || !seals.contains(SealFlags::SHRINK | SealFlags::GROW) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self {
            file: Arc::new(file),
            len,
            _held: None,
        })
    }

    /// The same, for as long as `held` keeps it.
    pub(crate) fn held_by(mut self, held: Held) -> Self {
        self._held = Some(held);
        self
    }

    /// The memory file.
    pub fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a region that there is has a size"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `data` from `offset`.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = place(offset, done)?;
            match retry_on_intr(|| pread(&self.file, &mut *rest, at))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Stores `data` at `offset`.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = place(offset, done)?;
            match retry_on_intr(|| pwrite(&self.file, rest, at))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Makes every byte 0. Whoever maps this memory sees it.
    pub fn clear(&self) -> io::Result<()> {
        self.clear_range(0, self.len)
    }

    /// Makes `len` bytes from `offset` 0, and gives their whole pages back to the kernel.
    pub fn clear_range(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, offset, len)?)
    }

    /// Whether these bytes were never written, or given back since: all of them are 0, and it takes
    /// no reading to know.
    pub(crate) fn is_hole(&self, offset: u64, len: u64) -> io::Result<bool> {
        let data = self.next_data(offset)?;
        Ok(data.is_none_or(|data| data >= offset.saturating_add(len)))
    }

    /// Takes the contents of `other`, which is as long, and which nobody else holds. Whoever maps
    /// this memory sees them.
    pub(crate) fn copy_from(&self, other: &Self) -> io::Result<()> {
        self.clear()?;
        let mut chunk = vec![0; COPY_LEN];
        let mut at = 0;
        while let Some(data) = other.next_data(at)? {
            let end = rustix::fs::seek(&other.file, SeekFrom::Hole(data))?;
            at = data;
            while at < end {
                let len = usize::try_from(end - at).map_or(COPY_LEN, |left| left.min(COPY_LEN));
                other.read(at, &mut chunk[..len])?;
                self.write(at, &chunk[..len])?;
                at += len as u64;
            }
        }
        Ok(())
    }

    /// Where the next bytes are that were ever written.
    fn next_data(&self, at: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => Ok(Some(data)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the rest of an access at `offset` begins.
fn place(offset: u64, done: usize) -> io::Result<u64> {
    u64::try_from(done)
        .ok()
        .and_then(|done| offset.checked_add(done))
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn memory() -> RegionMemory {
        RegionMemory::new("test", SIZE).unwrap()
    }

    #[test]
    fn nobody_changes_the_length_of_the_file() {
        let memory = memory();
        for length in [0, SIZE - 1, SIZE + 1] {
            assert!(
                rustix::fs::ftruncate(memory.file(), length).is_err(),
                "{length}"
            );
        }
        assert!(rustix::fs::fcntl_add_seals(memory.file(), SealFlags::WRITE).is_err());
    }

    #[test]
    fn an_access_past_the_end_fails() {
        let memory = memory();
        for (offset, len, inside) in [
            (0, 8, true),
            (SIZE - 8, 8, true),
            (SIZE - 7, 8, false),
            (SIZE, 1, false),
            (SIZE, 0, true),
            (u64::MAX, 1, false),
            (u64::MAX - 3, 8, false),
        ] {
            let mut data = vec![0; len];
            let read = memory.read(offset, &mut data);
            assert_eq!(read.is_ok(), inside, "{offset:#x}");
            assert_eq!(memory.write(offset, &data).is_ok(), inside, "{offset:#x}");
        }
    }

    #[test]
    fn a_range_that_is_cleared_is_a_hole_and_its_neighbours_stay() {
        let memory = memory();
        memory.write(0x1000, &[0x5a; 0x3000]).unwrap();
        assert!(memory.is_hole(0, 0x1000).unwrap());
        assert!(!memory.is_hole(0, 0x1001).unwrap());
        memory.clear_range(0x2000, 0x1000).unwrap();
        assert!(memory.is_hole(0x2000, 0x1000).unwrap());
        assert!(memory.is_hole(0x4000, SIZE).unwrap());
        let mut data = [0xff; 0x3000];
        memory.read(0x1000, &mut data).unwrap();
        assert!(data[..0x1000].iter().all(|byte| *byte == 0x5a));
        assert!(data[0x1000..0x2000].iter().all(|byte| *byte == 0));
        assert!(data[0x2000..].iter().all(|byte| *byte == 0x5a));
    }

    #[test]
    fn a_copy_is_equal_whatever_was_there() {
        let (to, from) = (memory(), memory());
        to.write(0, &vec![0xaa; SIZE as usize]).unwrap();
        for (at, len) in [
            (0, 1),
            (0x1_fff0, 0x30),
            (0x4_0000, 0x2_1234),
            (SIZE - 1, 1),
        ] {
            from.write(at, &vec![0x55; len]).unwrap();
        }
        to.copy_from(&from).unwrap();
        let (mut copied, mut expected) = (vec![0; SIZE as usize], vec![0; SIZE as usize]);
        to.read(0, &mut copied).unwrap();
        from.read(0, &mut expected).unwrap();
        assert!(copied == expected);
    }
}
