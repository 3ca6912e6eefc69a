//! Which mappings are taken, and that each file is mapped once: the kernel is asked.

mod model;

use rustix::fs::{MemfdFlags, OFlags, fcntl_add_seals, ftruncate, memfd_create};

use vfu::wire::dma::DmaFlags;

use super::*;

const PAGE: u64 = DmaTable::PAGE_SIZE;

fn memfd(len: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, len).unwrap();
    fd
}

/// Another descriptor of the file, opened in this mode.
fn reopen(fd: &OwnedFd, mode: OFlags) -> OwnedFd {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, mode | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap()
}

fn both() -> DmaFlags {
    DmaFlags::READ | DmaFlags::WRITE
}

fn request(iova: u64, size: u64, offset: u64) -> DmaMap {
    DmaMap {
        flags: both(),
        offset,
        iova,
        size,
    }
}

fn map(table: &mut DmaTable, map: DmaMap, fd: Option<&OwnedFd>) -> Result<(), Errno> {
    let fd = fd.map(|fd| fd.try_clone().unwrap());
    table.map(&map, fd).map_err(|error| error.errno())
}

/// How many mappings of this process show the file.
fn kernel_mappings(fd: &OwnedFd) -> usize {
    let inode = format!(" {} ", rustix::fs::fstat(fd).unwrap().st_ino);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let of_file = |line: &&str| line.contains(&inode) && line.contains("memfd:guest");
    maps.lines().filter(of_file).count()
}

#[test]
fn a_mapping_is_of_whole_pages_in_the_address_space_and_the_file() {
    let top = u64::MAX - PAGE + 1;
    let fd = memfd(4 * PAGE);
    for (iova, size, offset, expected) in [
        (0, PAGE, 0, Ok(())),
        (top, PAGE, 0, Ok(())),
        (PAGE, 4 * PAGE, 0, Ok(())),
        (0, PAGE, 3 * PAGE, Ok(())),
        (0, 0, 0, Err(Errno::INVAL)),
        (0, PAGE + 1, 0, Err(Errno::INVAL)),
        (1, PAGE, 0, Err(Errno::INVAL)),
        (0, PAGE, 1, Err(Errno::INVAL)),
        (top, 2 * PAGE, 0, Err(Errno::OVERFLOW)),
        (PAGE, u64::MAX, 0, Err(Errno::OVERFLOW)),
        (0, 2 * PAGE, top, Err(Errno::OVERFLOW)),
        // The whole address space but the last page, of a file that is not as long.
        (0, top, 0, Err(Errno::INVAL)),
        (0, PAGE, 4 * PAGE, Err(Errno::INVAL)),
        // It would end where addresses do, which no file is long enough for either.
        (0, PAGE, top, Err(Errno::INVAL)),
        (0, 2 * PAGE, 3 * PAGE, Err(Errno::INVAL)),
    ] {
        let mut table = DmaTable::default();
        let result = map(&mut table, request(iova, size, offset), Some(&fd));
        assert_eq!(result, expected, "{iova:#x}+{size:#x} at {offset:#x}");
        assert_eq!(table.len(), usize::from(result.is_ok()));
    }
}

#[test]
fn without_a_file_its_offset_says_nothing_and_any_range_will_do() {
    let top = u64::MAX - PAGE + 1;
    for (iova, size, offset) in [(0, PAGE, 1), (0, top, u64::MAX), (top, PAGE, 3)] {
        let mut table = DmaTable::default();
        assert_eq!(map(&mut table, request(iova, size, offset), None), Ok(()));
        let range = IovaRange::new(Iova(iova), size).unwrap();
        assert!(table.lookup(range).unwrap().memory.is_none());
    }
}

#[test]
fn what_is_mapped_for_nothing_is_refused() {
    let nothing = DmaMap {
        flags: DmaFlags::empty(),
        ..request(0, PAGE, 0)
    };
    for fd in [None, Some(&memfd(PAGE))] {
        let result = map(&mut DmaTable::default(), nothing, fd);
        assert_eq!(result, Err(Errno::INVAL));
    }
}

#[test]
fn a_descriptor_must_allow_what_the_mapping_promises() {
    let memory = memfd(PAGE);
    let sealed = memfd(PAGE);
    fcntl_add_seals(&sealed, rustix::fs::SealFlags::WRITE).unwrap();
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
    let directory = rustix::fs::open("/", OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let zero = rustix::fs::open("/dev/zero", OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
    let inval = Err(Errno::INVAL);
    let access = Err(Errno::ACCESS);
    for (fd, to_read, to_write) in [
        (reopen(&memory, OFlags::RDWR), Ok(()), Ok(())),
        (reopen(&memory, OFlags::RDONLY), Ok(()), access),
        (reopen(&memory, OFlags::WRONLY), access, access),
        (sealed, Ok(()), access),
        (pipe, inval, inval),
        (null, inval, inval),
        (zero, inval, inval),
        (directory, inval, inval),
    ] {
        for (flags, expected) in [(DmaFlags::READ, to_read), (both(), to_write)] {
            let mapping = DmaMap {
                flags,
                ..request(0, PAGE, 0)
            };
            let result = map(&mut DmaTable::default(), mapping, Some(&fd));
            assert_eq!(result, expected, "{fd:?} {flags:?}");
        }
    }
}

#[test]
fn there_is_an_end_to_the_mappings_of_one_client() {
    let mut table = DmaTable::new(DmaLimits {
        max_mappings: 3,
        ..DmaLimits::default()
    });
    for page in 0..3 {
        assert_eq!(map(&mut table, request(page * PAGE, PAGE, 0), None), Ok(()));
    }
    let fourth = request(3 * PAGE, PAGE, 0);
    assert_eq!(map(&mut table, fourth, None), Err(Errno::NOSPC));
    let first = DmaUnmap::One {
        iova: 0,
        size: PAGE,
    };
    table.unmap(&first).unwrap();
    assert_eq!(map(&mut table, fourth, None), Ok(()));
}

#[test]
fn a_file_is_mapped_once_however_many_slices_of_it_there_are() {
    let mut table = DmaTable::default();
    let fd = memfd(1000 * PAGE);
    for slice in 0..1000 {
        // Each with a hole after it, in another order than in the file.
        let mapping = request(slice * 2 * PAGE, PAGE, (999 - slice) * PAGE);
        assert_eq!(map(&mut table, mapping, Some(&fd)), Ok(()));
    }
    assert_eq!(kernel_mappings(&fd), 1);
    for slice in 0..1000 {
        let range = IovaRange::new(Iova(slice * 2 * PAGE + 8), 8).unwrap();
        let mapping = table.lookup(range).unwrap();
        let memory = mapping.memory.as_ref().unwrap();
        let at = memory.position + 8;
        memory
            .extent
            .slice(at, 8)
            .unwrap()
            .copy_from(&slice.to_le_bytes());
        let mut seen = [0; 8];
        rustix::io::pread(&fd, &mut seen, (999 - slice) * PAGE + 8).unwrap();
        assert_eq!(u64::from_le_bytes(seen), slice);
        rustix::io::pwrite(&fd, &(!slice).to_le_bytes(), (999 - slice) * PAGE + 8).unwrap();
        memory.extent.slice(at, 8).unwrap().copy_to(&mut seen);
        assert_eq!(u64::from_le_bytes(seen), !slice);
    }
    // As long as one slice is mapped, the file is.
    for slice in 0..1000 {
        assert_eq!(kernel_mappings(&fd), 1, "{slice}");
        let (iova, size) = (slice * 2 * PAGE, PAGE);
        table.unmap(&DmaUnmap::One { iova, size }).unwrap();
    }
    assert_eq!(kernel_mappings(&fd), 0);
}

#[test]
fn a_slice_that_is_held_keeps_its_file_mapped() {
    let mut table = DmaTable::default();
    let fd = memfd(PAGE);
    map(&mut table, request(0, PAGE, 0), Some(&fd)).unwrap();
    let range = IovaRange::new(Iova(0), PAGE).unwrap();
    let held = table.lookup(range).unwrap().memory.clone().unwrap();
    table.unmap(&DmaUnmap::All).unwrap();
    assert!(table.lookup(range).is_none());
    assert_eq!(kernel_mappings(&fd), 1);
    held.extent
        .slice(held.position, 1)
        .unwrap()
        .copy_from(&[7_u8]);
    drop(held);
    assert_eq!(kernel_mappings(&fd), 0);
}

#[test]
fn a_file_that_grew_gets_one_more_mapping_and_a_second_way_to_open_it_another() {
    let mut table = DmaTable::default();
    let fd = memfd(2 * PAGE);
    map(&mut table, request(0, PAGE, 0), Some(&fd)).unwrap();
    ftruncate(&fd, 8 * PAGE).unwrap();
    for (page, mappings) in [(1, 1), (5, 2), (6, 2), (7, 2)] {
        let mapping = request(page * PAGE, PAGE, page * PAGE);
        map(&mut table, mapping, Some(&fd)).unwrap();
        assert_eq!(kernel_mappings(&fd), mappings, "{page}");
    }
    let read_only = reopen(&fd, OFlags::RDONLY);
    for page in [2, 3] {
        let mapping = DmaMap {
            flags: DmaFlags::READ,
            ..request(page * PAGE, PAGE, page * PAGE)
        };
        map(&mut table, mapping, Some(&read_only)).unwrap();
        let range = IovaRange::new(Iova(page * PAGE), PAGE).unwrap();
        let memory = table.lookup(range).unwrap().memory.clone().unwrap();
        assert!(!memory.extent.is_writable());
    }
    assert_eq!(kernel_mappings(&fd), 3);
}

#[test]
fn of_a_file_too_large_to_map_the_slice_is() {
    let mut table = DmaTable::default();
    // More than the 2^47 bytes that a process has.
    let fd = memfd(1 << 50);
    for (page, mappings) in [(0, 1), (1 << 30, 2), (1 << 30, 2)] {
        let offset = page * PAGE;
        let mapping = request(offset + table.len() as u64 * PAGE, PAGE, offset);
        assert_eq!(map(&mut table, mapping, Some(&fd)), Ok(()));
        assert_eq!(kernel_mappings(&fd), mappings, "{page:#x}");
    }
    let everything = request(1 << 51, 1 << 50, 0);
    assert_eq!(map(&mut table, everything, Some(&fd)), Err(Errno::NOMEM));
}

#[test]
fn nothing_is_kept_of_a_file_that_is_not_mapped_any_more() {
    let mut table = DmaTable::default();
    for _ in 0..100 {
        map(&mut table, request(0, PAGE, 0), Some(&memfd(PAGE))).unwrap();
        table.unmap(&DmaUnmap::All).unwrap();
        let refused = map(&mut table, request(0, 2 * PAGE, 0), Some(&memfd(PAGE)));
        assert_eq!(refused, Err(Errno::INVAL));
    }
    assert!(table.files.len() <= 1);
}
