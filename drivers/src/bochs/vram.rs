//! BAR0: video memory, a memory file that the client maps.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{pread, pwrite, retry_on_intr};

/// Name of the file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-bochs-vram";

/// The memory of one device, for one client.
///
/// # Invariants
///
/// The file is as long as it was made: it is sealed, so a client can neither shrink it under a
/// reader, nor grow it at our cost.
#[derive(Debug)]
pub(super) struct Vram {
    file: Arc<OwnedFd>,
}

impl Vram {
    /// `size` bytes of zeros. They take no memory until they are written.
    pub(super) fn new(size: u32) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(NAME, flags)?;
        rustix::fs::ftruncate(&file, size.into())?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// The memory file.
    pub(super) fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    /// Fills `data` from `offset`.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
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
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
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

    const SIZE: u32 = 1 << 16;

    #[test]
    fn nobody_changes_the_length_of_the_file() {
        let vram = Vram::new(SIZE).unwrap();
        for length in [0, u64::from(SIZE) - 1, u64::from(SIZE) + 1] {
            assert!(
                rustix::fs::ftruncate(vram.file(), length).is_err(),
                "{length}"
            );
        }
        assert!(rustix::fs::fcntl_add_seals(vram.file(), SealFlags::WRITE).is_err());
    }

    #[test]
    fn an_access_past_the_end_fails() {
        let vram = Vram::new(SIZE).unwrap();
        let end = u64::from(SIZE);
        for (offset, len, inside) in [
            (0, 8, true),
            (end - 8, 8, true),
            (end - 7, 8, false),
            (end, 1, false),
            (end, 0, true),
            (u64::MAX, 1, false),
            (u64::MAX - 3, 8, false),
        ] {
            let mut data = vec![0; len];
            assert_eq!(vram.read(offset, &mut data).is_ok(), inside, "{offset:#x}");
            assert_eq!(vram.write(offset, &data).is_ok(), inside, "{offset:#x}");
        }
    }
}
