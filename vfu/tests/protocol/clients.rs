//! What each real client sends oddly, and what it cannot take. A test names the client.

use std::os::fd::OwnedFd;

use vfu::Errno;
use vfu::wire::access::WriteMulti;
use vfu::wire::dma::DmaUnmap;
use vfu::wire::irq::{IrqData, SetIrqs};
use vfu::wire::region::{RegionFlags, RegionInfo};
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Command, Header, Malformed, Request};

use crate::peer::{emitted, file, identity};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn request(command: Command, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Request<'_>, Malformed> {
    Request::parse(&Header::command(0, command, payload.len()), payload, fds)
}

fn files(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| file()).collect()
}

/// `flags, index, start, count`, and the data after it.
fn set_irqs(set: [u32; 4], data: &[u8]) -> Vec<u8> {
    let argsz = u32::try_from(20 + data.len()).unwrap();
    [words(&[argsz]), words(&set), data.to_vec()].concat()
}

const EVENTFD: u32 = 4;
const TRIGGER: u32 = 32;

/// Which vectors get an eventfd, and that they get them in order.
fn assigned(payload: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<bool>, Malformed> {
    let sent: Vec<_> = fds.iter().map(identity).collect();
    let SetIrqs { data, .. } = SetIrqs::parse(payload, fds)?;
    let IrqData::Eventfd(fds) = data else {
        panic!("{data:?}");
    };
    let kept: Vec<_> = fds.iter().flatten().map(identity).collect();
    assert_eq!(kept, sent, "in order, and none is lost");
    Ok(fds.iter().map(Option::is_some).collect())
}

#[test]
fn each_client_gets_only_keys_that_it_offered() {
    let able = Capabilities {
        max_msg_fds: Some(16),
        max_data_xfer_size: Some(1 << 20),
        max_dma_maps: Some(65_535),
        pgsizes: Some(4096),
        write_multiple: Some(true),
        twin_socket: None,
    };
    for (client, minor, offer, expected) in [
        (
            "QEMU 11.1.3",
            0,
            r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#,
            r#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535,"pgsizes":4096,"write_multiple":true}}"#,
        ),
        (
            "vfio_user 0.1.7, so Cloud Hypervisor",
            1,
            r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#,
            r#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576}}"#,
        ),
        (
            "Alioth",
            2,
            r#"{"capabilities":{"max_fds":32,"max_data_xfer_size":1048576}}"#,
            r#"{"capabilities":{"max_data_xfer_size":1048576}}"#,
        ),
    ] {
        let minor = u16::to_ne_bytes(minor);
        let hello = [&[0, 0], &minor[..], offer.as_bytes(), &[0]].concat();
        let answer = Version::parse(&hello).unwrap().answer(&able).unwrap();
        let answer = emitted(|out| answer.emit(out));
        let expected = [&[0, 0], &minor[..], expected.as_bytes(), &[0]].concat();
        assert_eq!(answer, expected, "{client}");
        assert!(answer.len() <= hello.len(), "{client} has no more room");
    }
}

/// It panics on an answer without the key, even when it offered nothing.
#[test]
fn cloud_hypervisor_finds_capabilities_in_every_answer() {
    let bare = Version::parse(&[0; 4]).unwrap();
    let answer = bare.answer(&Capabilities::default()).unwrap();
    assert_eq!(
        &emitted(|out| answer.emit(out))[4..],
        b"{\"capabilities\":{}}\0"
    );
}

/// It counts the header into `argsz` of DEVICE_GET_INFO.
#[test]
fn cloud_hypervisor_may_announce_32_bytes_for_device_info() {
    for (argsz, expected) in [
        (16, true),
        (32, true),
        (u32::MAX, true),
        (15, false),
        (0, false),
    ] {
        let payload = words(&[argsz, 0, 0, 0]);
        let parsed = request(Command::DeviceGetInfo, &payload, Vec::new());
        assert_eq!(parsed.is_ok(), expected, "{argsz}");
    }
}

/// It gives up if `cap_offset` is 0 while CAPS is set, and takes no more than it has room for.
#[test]
fn qemu_sees_where_capabilities_will_be_before_it_asks_for_them() {
    let flags = RegionFlags::READ | RegionFlags::MMAP;
    let info = RegionInfo {
        flags,
        index: 2,
        size: 0x3000,
        offset: 0,
        sparse: vec![0..0x1000, 0x2000..0x3000],
    };
    for (argsz, len) in [(32, 32), (33, 32), (79, 32), (80, 80), (u32::MAX, 80)] {
        let reply = emitted(|out| info.emit(argsz, out));
        assert_eq!(reply.len(), len, "argsz {argsz}");
        assert_eq!(reply[..16], words(&[80, 0b1101, 2, 32]), "argsz {argsz}");
    }
}

/// It asserts that the reply is as long as its `argsz` says.
#[test]
fn cloud_hypervisor_finds_the_length_of_region_info_in_argsz() {
    let sparse = vec![0..0x1000; 7];
    let info = RegionInfo {
        flags: RegionFlags::MMAP,
        index: 0,
        size: 0x1000,
        offset: 0,
        sparse,
    };
    let reply = emitted(|out| info.emit(info.argsz(), out));
    assert_eq!(u32::try_from(reply.len()), Ok(info.argsz()));
    assert_eq!(reply[..4], info.argsz().to_ne_bytes());
}

/// It says -1 for a vector without an eventfd, in an array that the specification has not.
#[test]
fn alioth_may_leave_holes_among_eventfds() {
    let mismatch = |fds| Malformed::Fds(fds, "one for each vector, or none");
    for (places, fds, expected) in [
        (vec![0, 1, 2], 3, Ok(vec![true, true, true])),
        (vec![0, -1, 1], 2, Ok(vec![true, false, true])),
        (vec![-1, 0], 1, Ok(vec![false, true])),
        (vec![-1, -1], 0, Ok(vec![false, false])),
        (vec![0, 1, 2], 2, Err(mismatch(2))),
        (vec![0, -1], 2, Err(mismatch(2))),
        (vec![0, 1], 0, Err(mismatch(0))),
    ] {
        let count = u32::try_from(places.len()).unwrap();
        let array: Vec<u8> = places
            .iter()
            .flat_map(|place: &i32| place.to_ne_bytes())
            .collect();
        let payload = set_irqs([EVENTFD | TRIGGER, 2, 0, count], &array);
        assert_eq!(assigned(&payload, files(fds)), expected, "{places:?} {fds}");
        if count > 1 {
            let cut = payload.len() - 1;
            assert_eq!(
                assigned(&payload[..cut], files(fds)),
                Err(if fds == 0 && places[0] == 0 {
                    mismatch(0)
                } else {
                    Malformed::Short
                }),
                "{places:?} cut"
            );
        }
    }
}

/// It sends no eventfd to take eventfds away, and Cloud Hypervisor sends 16 whatever our limit.
#[test]
fn qemu_sends_an_eventfd_for_every_vector_or_none() {
    for (count, fds, expected) in [
        (1, 1, true),
        (1, 0, true),
        (16, 16, true),
        (2048, 0, true),
        (0, 0, true),
        (2, 1, false),
        (1, 2, false),
        (0, 1, false),
        (2049, 0, false),
        (u32::MAX, 0, false),
    ] {
        let payload = set_irqs([EVENTFD | TRIGGER, 2, 0, count], &[]);
        let assigned = assigned(&payload, files(fds));
        assert_eq!(
            assigned.is_ok(),
            expected,
            "{count} vectors, {fds} eventfds"
        );
        if let Ok(assigned) = assigned {
            assert_eq!(assigned.len(), usize::try_from(count).unwrap());
        }
    }
}

#[test]
fn bytes_after_what_set_irqs_needs_are_skipped() {
    for (flags, data, expected) in [
        (0x21, &b""[..], "None"),
        (0x21, b"rest", "None"),
        (0x22, b"\0\x01", "Bool([0, 1])"),
        (0x22, b"\0\x01rest", "Bool([0, 1])"),
    ] {
        let payload = set_irqs([flags, 0, 0, 2], data);
        let set = SetIrqs::parse(&payload, Vec::new()).unwrap();
        assert_eq!(format!("{:?}", set.data), expected);
    }
}

/// `unmap_all` of its listener: bit 1, and neither address nor size.
#[test]
fn qemu_unmaps_everything_with_one_flag() {
    for (flags, iova, size, expected) in [
        (2, 0, 0, Ok(DmaUnmap::All)),
        (2, 0x1000, 0, Err(Malformed::Range)),
        (2, 0, 0x1000, Err(Malformed::Range)),
        (
            0,
            0x1000,
            0x1000,
            Ok(DmaUnmap::One {
                iova: 0x1000,
                size: 0x1000,
            }),
        ),
        (1, 0x1000, 0x1000, Err(Malformed::Flags(1))),
        (3, 0, 0, Err(Malformed::Flags(3))),
        (4, 0, 0, Err(Malformed::Flags(4))),
    ] {
        let payload = words(&[24, flags, iova, 0, size, 0]);
        assert_eq!(
            DmaUnmap::parse(&payload),
            expected,
            "{flags} {iova:#x} {size:#x}"
        );
    }
}

/// 200 writes, 4824 bytes with the header.
#[test]
fn qemu_gathers_200_writes_in_one_message() {
    let mut payload = 200_u64.to_ne_bytes().to_vec();
    for n in 0..200 {
        payload.extend(words(&[n * 8, 0, 1, if n % 2 == 0 { 4 } else { 8 }, n, n]));
    }
    assert_eq!(Header::LEN + payload.len(), 4824);
    let multi = WriteMulti::parse(&payload).unwrap();
    for (n, (access, data)) in (0..).zip(multi.writes()) {
        assert_eq!((access.offset, access.region), (n * 8, 1));
        assert_eq!(u64::from(access.count), if n % 2 == 0 { 4 } else { 8 });
        assert_eq!(data.len(), usize::try_from(access.count).unwrap());
    }
    assert_eq!(multi.writes().count(), 200);
}

/// Its errno is read from the header; nothing may follow.
#[test]
fn a_refusal_is_a_header_and_no_more() {
    let header = Header::command(0x1234, Command::DmaMap, 32);
    let refusal = header.without_reply().error_reply(Errno::EXIST);
    let expected = [0x34, 0x12, 2, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 17, 0, 0, 0];
    assert_eq!(refusal.to_bytes(), expected);
    assert_eq!(header.without_reply().reply(0), header.reply(0));
}

/// The specification lets the errno be 0, and libvfio-user and others differ in it.
#[test]
fn an_error_without_a_sound_errno_is_still_an_error() {
    for (errno, expected) in [
        (0, Errno::IO),
        (22, Errno::INVAL),
        (4096, Errno::IO),
        (u32::MAX, Errno::IO),
    ] {
        let refusal = Header {
            errno,
            ..Header::command(0, Command::DmaMap, 0).error_reply(Errno::IO)
        };
        assert_eq!(refusal.error(), Some(expected), "{errno}");
    }
    assert_eq!(
        Header::command(0, Command::DmaMap, 0).reply(0).error(),
        None
    );
}
