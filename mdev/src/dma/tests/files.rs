//! Which files are taken as memory.

use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, fstatfs};

use super::*;
use crate::dma::files::FilePolicy;

/// This program: a file on a disk, wherever that is not in memory too.
fn on_disk() -> Option<OwnedFd> {
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6]; // tmpfs, ramfs
    let program = std::env::current_exe().unwrap();
    let fd = rustix::fs::open(program, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    if IN_MEMORY.contains(&fstatfs(&fd).unwrap().f_type) {
        eprintln!("not checked: files on a disk. This program lies in memory");
        return None;
    }
    Some(fd)
}

fn sealed(seals: SealFlags) -> OwnedFd {
    let fd = memfd(1);
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

#[test]
fn the_policy_says_which_files_are_memory() {
    let perm = Err(Errno::PERM);
    for (fd, any, memory, only_sealed) in [
        (Some(memfd(1)), Ok(()), Ok(()), perm),
        (Some(sealed(SealFlags::SHRINK)), Ok(()), Ok(()), Ok(())),
        (Some(sealed(SealFlags::GROW)), Ok(()), Ok(()), perm),
        (on_disk(), Ok(()), perm, perm),
    ] {
        let Some(fd) = fd else {
            continue;
        };
        for (policy, expected) in [
            (FilePolicy::Any, any),
            (FilePolicy::Memory, memory),
            (FilePolicy::Sealed, only_sealed),
        ] {
            let memory = connected(DmaLimits {
                files: policy,
                ..DmaLimits::default()
            });
            let result = map(&memory, 0..1, DmaFlags::READ, Some((&fd, 0)));
            assert_eq!(result, expected, "{policy:?} {fd:?}");
        }
    }
}

#[test]
fn huge_pages_are_mapped_whole_and_used_in_parts() {
    const HUGE: u64 = 2 << 20;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let memory = connected(DmaLimits::default());
    let file = memfd_create("guest", flags).and_then(|fd| {
        ftruncate(&fd, 2 * HUGE)?;
        // The second half of the file, in two parts.
        map(&memory, 0..3, BOTH, Some((&fd, 512)))?;
        map(&memory, 3..500, DmaFlags::READ, Some((&fd, 515)))?;
        Ok(fd)
    });
    let Ok(fd) = file else {
        eprintln!("not checked: huge pages. This machine has none to give");
        return;
    };
    memory.write(Iova(2 * PAGE - 1), b"ab").unwrap();
    let mut seen = [0; 2];
    memory.read(Iova(2 * PAGE - 1), &mut seen).unwrap();
    assert_eq!(&seen, b"ab");
    rustix::io::pread(&fd, &mut seen, HUGE + 2 * PAGE - 1).unwrap();
    assert_eq!(&seen, b"ab");
    memory.disconnect();
}
