//! What a client may send besides bytes: memory, eventfds, and what is neither.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// How many different ones there are.
const KINDS: u8 = 16;

/// What the beginning of each memory file is full of.
pub(super) const GUEST_BYTE: u8 = 0x5a;

/// The name of each memory file.
const NAME: &str = "fuzzed-guest";

const PAGE: u64 = 4096;

/// A client's descriptors. Each is made when it is first sent, and sent again after that: many
/// mappings of one file, one eventfd for many vectors.
#[derive(Debug, Default)]
pub(super) struct Pool(HashMap<u8, OwnedFd>);

impl Pool {
    /// One of them.
    pub(super) fn of(&mut self, choice: u8) -> &OwnedFd {
        let kind = choice % KINDS;
        self.0.entry(kind).or_insert_with(|| new(kind))
    }

    /// Any number of them.
    pub(super) fn all(&mut self, choices: &[u8]) -> Vec<BorrowedFd<'_>> {
        for choice in choices {
            self.of(*choice);
        }
        let made = choices
            .iter()
            .filter_map(|choice| self.0.get(&(choice % KINDS)));
        made.map(AsFd::as_fd).collect()
    }

    /// The memory file with that number, if it was sent.
    pub(super) fn memory(&self, choice: u8) -> Option<&OwnedFd> {
        self.0.get(&(choice % 6))
    }

    /// Makes a file shorter, or longer.
    pub(super) fn truncate(&self, choice: u8, len: u64) {
        if let Some(file) = self.memory(choice) {
            let _ = ftruncate(file, len);
        }
    }

    /// Counts an eventfd up as far as it goes: whoever signals it now would wait. So would this,
    /// for one that waits and was signalled already.
    pub(super) fn fill(&mut self, choice: u8) {
        const WAITING: u8 = 9;
        let kind = WAITING - choice % 2;
        if kind != WAITING || !self.0.contains_key(&WAITING) {
            let _ = rustix::io::write(self.of(kind), &(u64::MAX - 1).to_ne_bytes());
        }
    }
}

fn new(kind: u8) -> OwnedFd {
    match kind {
        0 => memory(PAGE, SealFlags::empty()),
        1 => memory(16 * PAGE, SealFlags::empty()),
        2 => memory(1 << 28, SealFlags::empty()),
        3 => memory(1 << 40, SealFlags::empty()),
        4 => memory(16 * PAGE, SealFlags::SHRINK | SealFlags::GROW),
        5 => memory(16 * PAGE, SealFlags::WRITE),
        6 => {
            let file = memory(16 * PAGE, SealFlags::empty());
            let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            again.expect("it can be opened again").into()
        }
        7 => memory(100, SealFlags::empty()),
        8 | 10 | 11 => {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
        }
        9 => eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
        12 => rustix::pipe::pipe().expect("a pipe").1,
        13 => rustix::pipe::pipe().expect("a pipe").0,
        14 => File::open("/dev/null").expect("it is there").into(),
        _ => UnixStream::pair().expect("a pair of sockets").0.into(),
    }
}

/// Whether any memory file of any client is mapped in this process.
pub(super) fn is_any_mapped() -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is there");
    maps.contains(NAME)
}

fn memory(len: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(NAME, flags).expect("a memory file");
    let beginning = [GUEST_BYTE; PAGE as usize];
    rustix::io::pwrite(&file, &beginning, 0).expect("there is memory");
    ftruncate(&file, len).expect("there is room");
    fcntl_add_seals(&file, seals).expect("it can be sealed");
    file
}
