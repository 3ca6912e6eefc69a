//! The files that a client may send as memory, good and bad.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfu::Errno;
use vfu::wire::dma::DmaFlags;

/// Bytes of each file: more pages than a word of the log of writes has bits.
pub(super) const FILE_LEN: usize = 72 * 4096;

/// What a sealed file is full of.
pub(super) const SEALED_BYTE: u8 = 0xa5;

/// A descriptor that comes with DMA_MAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The guest's memory.
    Memory,
    /// The same file, open for reading only.
    ReadOnly,
    /// Another file, sealed against writing.
    Sealed,
    /// No file at all.
    NoFile,
}

impl Kind {
    /// The errno that a mapping of it is refused with, whatever of it is wanted.
    pub(super) fn refusal(self, flags: DmaFlags) -> Option<Errno> {
        let is_written = flags.contains(DmaFlags::WRITE);
        match self {
            Self::NoFile => Some(Errno::INVAL),
            Self::ReadOnly | Self::Sealed if is_written => Some(Errno::ACCESS),
            Self::Memory | Self::ReadOnly | Self::Sealed => None,
        }
    }
}

pub(super) struct Files {
    memory: OwnedFd,
    read_only: OwnedFd,
    no_file: OwnedFd,
}

impl Files {
    pub(super) fn new() -> Self {
        let memory = new_file();
        let read_only = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        Self {
            memory,
            read_only: read_only.expect("it can be opened again").into(),
            no_file: eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
        }
    }

    pub(super) fn choose(&self, choice: u8) -> Option<Kind> {
        Some(match choice % 8 {
            0..=2 => Kind::Memory,
            3 => Kind::ReadOnly,
            4 => Kind::Sealed,
            5 => Kind::NoFile,
            _ => return None,
        })
    }

    /// A descriptor of that kind, for the table to keep or close.
    pub(super) fn open(&self, kind: Option<Kind>) -> Option<OwnedFd> {
        let fd = match kind? {
            Kind::Memory => &self.memory,
            Kind::ReadOnly => &self.read_only,
            Kind::Sealed => sealed(),
            Kind::NoFile => &self.no_file,
        };
        Some(fd.try_clone().expect("there are descriptors"))
    }

    /// What the guest sees of its memory.
    pub(super) fn read(&self, out: &mut [u8]) {
        let read = rustix::io::pread(&self.memory, &mut *out, 0);
        assert_eq!(read, Ok(out.len()));
    }
}

/// The sealed file, which is the same for every input: nobody can change it.
pub(super) fn sealed() -> &'static OwnedFd {
    static SEALED: OnceLock<OwnedFd> = OnceLock::new();
    SEALED.get_or_init(|| {
        let file = new_file();
        rustix::io::pwrite(&file, &[SEALED_BYTE; FILE_LEN], 0).expect("there is memory");
        fcntl_add_seals(&file, SealFlags::WRITE).expect("it can be sealed");
        file
    })
}

fn new_file() -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("guest", flags).expect("a memory file");
    ftruncate(&file, FILE_LEN as u64).expect("there is room");
    file
}
