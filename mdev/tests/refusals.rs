//! Well-formed messages that ask for what there is not: each is refused, the stream stays in
//! step, and nothing comes of it.

mod support;

use std::os::fd::OwnedFd;

use mdev::fake::FakeDevice;
use support::raw::{Outcome, access, dma, words};
use support::{Instance, borrow, memfd};
use vfu::Errno;
use vfu::wire::Command;

const PAGE: u64 = 4096;

fn refused(errno: Errno) -> Outcome {
    Outcome::Refused(errno)
}

/// Asks all of them on one connection, and after each whether it is in step.
fn refuses(command: Command, fds: &[OwnedFd], cases: &[(&str, Vec<u8>, Errno)]) {
    let instance = Instance::new();
    let mut raw = instance.raw();
    for (what, payload, errno) in cases {
        let outcome = raw.ask(command as u16, payload, &borrow(fds));
        assert_eq!(outcome, refused(*errno), "{command:?} {what}");
        assert!(raw.is_in_step(), "{command:?} {what}");
    }
    let refused = cases.len() as u64;
    assert_eq!(instance.metrics.refused_requests.value(), refused);
}

#[test]
fn a_region_access_outside_of_its_region_is_refused() {
    let bar0 = u64::from(FakeDevice::REGISTERS);
    let accesses = [
        ("past the end", access(bar0, 0, 1, &[])),
        ("across the end", access(bar0 - 1, 0, 2, &[])),
        ("that wraps", access(u64::MAX, 0, 2, &[])),
        ("to an absent region", access(0, 3, 1, &[])),
        ("to the VGA region", access(0, 8, 1, &[])),
        ("past the last region", access(0, 9, 1, &[])),
        ("to the largest region", access(0, u32::MAX, 1, &[])),
        ("past configuration space", access(4096, 7, 1, &[])),
    ];
    let reads = accesses.map(|(what, payload)| (what, payload, Errno::INVAL));
    let writes = reads.clone().map(|(what, mut payload, errno)| {
        let count = payload[12];
        payload.extend(vec![0; count.into()]);
        (what, payload, errno)
    });
    refuses(Command::RegionRead, &[], &reads);
    refuses(Command::RegionWrite, &[], &writes);
}

#[test]
fn a_region_access_must_have_the_length_that_it_says() {
    let inval = Errno::INVAL;
    refuses(
        Command::RegionRead,
        &[],
        &[
            ("with data", access(0, 7, 1, &[0]), inval),
            (
                "of more than was agreed on",
                access(0, 1, (1 << 20) + 1, &[]),
                inval,
            ),
            ("of 4 GiB", access(0, 1, u32::MAX, &[]), inval),
        ],
    );
    refuses(
        Command::RegionWrite,
        &[],
        &[
            ("without data", access(0, 0, 1, &[]), inval),
            ("with too little", access(0, 0, 4, &[0; 3]), inval),
            ("with too much", access(0, 0, 4, &[0; 5]), inval),
            ("of 4 GiB", access(0, 0, u32::MAX, &[0; 8]), inval),
        ],
    );
}

/// A REGION_WRITE_MULTI that announces `count` entries.
fn multi(count: u64, entries: &[(u64, u32, u32)]) -> Vec<u8> {
    let mut payload = count.to_ne_bytes().to_vec();
    for (offset, region, len) in entries {
        payload.extend(access(*offset, *region, *len, &[0x11; 8]));
    }
    payload
}

#[test]
fn of_many_writes_all_are_done_or_none() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    let good = (8, 0, 4);
    let mut cut = multi(1, &[good]);
    cut.pop();
    for (what, payload) in [
        ("the last is outside", multi(2, &[good, (32, 0, 1)])),
        ("the first is outside", multi(2, &[(0, 3, 1), good])),
        ("one is longer than 8", multi(2, &[good, (8, 0, 9)])),
        ("one wraps", multi(2, &[good, (u64::MAX, 0, 2)])),
        ("fewer than announced", multi(3, &[good, good])),
        ("more than announced", multi(1, &[good, good])),
        ("the largest count", multi(u64::MAX, &[good])),
        ("a cut one", cut),
    ] {
        let outcome = raw.ask(Command::RegionWriteMulti as u16, &payload, &[]);
        assert_eq!(outcome, refused(Errno::INVAL), "{what}");
        assert!(raw.is_in_step(), "{what}");
        assert_eq!(instance.log.take(), [], "{what}");
    }
    let done = raw.ask(15, &multi(2, &[good, (12, 0, 1)]), &[]);
    assert_eq!(done, Outcome::Success(2_u64.to_ne_bytes().to_vec()));
    assert_eq!(instance.log.take().len(), 2);
}

#[test]
fn a_dma_map_that_type1_would_refuse_is_refused() {
    let map = |flags, longs: [u64; 3]| dma(32, flags, &longs);
    let top = u64::MAX - PAGE + 1;
    let mut long = map(3, [0, 0, PAGE]);
    long.push(0);
    let inval = Errno::INVAL;
    let cases = [
        ("argsz too small", dma(31, 3, &[0, 0, PAGE]), inval),
        ("an unknown flag", map(4 | 3, [0, 0, PAGE]), inval),
        ("no flag", map(0, [0, 0, PAGE]), inval),
        ("size 0", map(3, [0, 0, 0]), inval),
        ("part of a page", map(3, [0, 0, 1]), inval),
        ("between pages", map(3, [0, 1, PAGE]), inval),
        ("a wrap", map(3, [0, top, 2 * PAGE]), Errno::OVERFLOW),
        ("a byte too many", long, inval),
    ];
    refuses(Command::DmaMap, &[], &cases);
    refuses(Command::DmaMap, &[memfd(4 * PAGE)], &cases);
    let of_file = [
        ("past the end", map(3, [4 * PAGE, 0, PAGE]), inval),
        ("across the end", map(3, [3 * PAGE, 0, 2 * PAGE]), inval),
        (
            "a wrap in the file",
            map(3, [top, 0, 2 * PAGE]),
            Errno::OVERFLOW,
        ),
        ("an unaligned offset", map(3, [8, 0, PAGE]), inval),
    ];
    refuses(Command::DmaMap, &[memfd(4 * PAGE)], &of_file);
    let good = map(3, [0, 0, PAGE]);
    let two = [memfd(PAGE), memfd(PAGE)];
    refuses(Command::DmaMap, &two, &[("two files", good.clone(), inval)]);
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    refuses(Command::DmaMap, &[pipe], &[("a pipe", good, inval)]);
}

#[test]
fn a_dma_unmap_must_name_a_mapping_exactly() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    let map = dma(32, 3, &[0, 2 * PAGE, 2 * PAGE]);
    assert_eq!(raw.ask(2, &map, &[]), Outcome::Success(vec![]));
    assert_eq!(raw.ask(2, &map, &[]), refused(Errno::EXIST));
    let mut long = dma(24, 0, &[2 * PAGE, 2 * PAGE]);
    long.push(0);
    for (what, payload, errno) in [
        (
            "the first half",
            dma(24, 0, &[2 * PAGE, PAGE]),
            Errno::NOENT,
        ),
        (
            "the second half",
            dma(24, 0, &[3 * PAGE, PAGE]),
            Errno::NOENT,
        ),
        ("more", dma(24, 0, &[2 * PAGE, 3 * PAGE]), Errno::NOENT),
        ("elsewhere", dma(24, 0, &[0, PAGE]), Errno::NOENT),
        ("size 0", dma(24, 0, &[2 * PAGE, 0]), Errno::INVAL),
        ("a wrap", dma(24, 0, &[2 * PAGE, u64::MAX]), Errno::OVERFLOW),
        (
            "argsz too small",
            dma(23, 0, &[2 * PAGE, 2 * PAGE]),
            Errno::INVAL,
        ),
        (
            "a dirty bitmap",
            dma(24, 1, &[2 * PAGE, 2 * PAGE]),
            Errno::INVAL,
        ),
        (
            "all, and one",
            dma(24, 2, &[2 * PAGE, 2 * PAGE]),
            Errno::INVAL,
        ),
        ("a byte too many", long, Errno::INVAL),
    ] {
        assert_eq!(raw.ask(3, &payload, &[]), refused(errno), "{what}");
        assert!(raw.is_in_step(), "{what}");
    }
    let right = dma(24, 0, &[2 * PAGE, 2 * PAGE]);
    assert_eq!(raw.ask(3, &right, &[]), Outcome::Success(right));
}

#[test]
fn interrupts_that_there_are_not_are_refused() {
    let eventfds: Vec<_> = (0..3).map(|_| support::new_eventfd()).collect();
    let inval = Errno::INVAL;
    let set = |flags, index, start, count| words(&[20, flags, index, start, count]);
    let without_fds = [
        ("argsz too small", words(&[19, 0x21, 0, 0, 1]), inval),
        ("no action", set(0x01, 0, 0, 1), inval),
        ("two actions", set(0x31, 0, 0, 1), inval),
        ("no data", set(0x20, 0, 0, 1), inval),
        ("two kinds of data", set(0x23, 0, 0, 1), inval),
        ("an unknown flag", set(0x61, 0, 0, 1), inval),
        ("an unknown group", set(0x21, 5, 0, 1), inval),
        ("past the last vector", set(0x21, 2, 32, 1), inval),
        ("a wrap", set(0x21, 2, u32::MAX, 1), inval),
        ("more than there can be", set(0x21, 2, 0, 2049), inval),
        ("the largest count", set(0x24, 2, 0, u32::MAX), inval),
        ("bools that are not there", set(0x22, 2, 0, 4), inval),
        ("MSI-X masked", set(0x09, 2, 0, 1), Errno::NOTTY),
    ];
    refuses(Command::DeviceSetIrqs, &[], &without_fds);
    let with_fds = [
        ("fewer vectors than eventfds", set(0x24, 2, 0, 2), inval),
        ("more vectors than eventfds", set(0x24, 2, 0, 4), inval),
        ("eventfds without the flag", set(0x21, 2, 0, 3), inval),
        ("eventfds for no vector", set(0x24, 2, 0, 0), inval),
    ];
    refuses(Command::DeviceSetIrqs, &eventfds, &with_fds);
    let files: Vec<_> = (0..3).map(|_| memfd(8)).collect();
    let not_eventfds = [("files", set(0x24, 2, 0, 3), Errno::BADF)];
    refuses(Command::DeviceSetIrqs, &files, &not_eventfds);
}

#[test]
fn a_question_about_what_there_is_not_is_refused() {
    let info = |argsz, index| [words(&[argsz, 0, index, 0]), vec![0; 16]].concat();
    let inval = Errno::INVAL;
    let cases = [
        ("the tenth", info(32, 9), inval),
        ("argsz too small", info(31, 0), inval),
    ];
    refuses(Command::DeviceGetRegionInfo, &[], &cases);
    let cases = [
        ("the sixth", words(&[16, 0, 5, 0]), inval),
        ("argsz too small", words(&[15, 0, 0, 0]), inval),
    ];
    refuses(Command::DeviceGetIrqInfo, &[], &cases);
    let small = ("argsz too small", words(&[15, 0, 0, 0]), inval);
    refuses(Command::DeviceGetInfo, &[], &[small]);
}
