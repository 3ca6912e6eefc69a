//! Messages that are no messages: each ends in an error reply or a closed connection, the stream
//! stays in step, and the next client is served.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::raw::{Outcome, Raw, access, dma, header, message, words};
use support::{Instance, borrow, memfd};
use vfu::Errno;
use vfu::wire::Command;

const PAGE: u64 = 4096;
const NO_REPLY: u32 = 1 << 4;
/// The longest frame that a session takes.
const MAX_FRAME: u32 = (1 << 20) + 32;

fn refused(errno: Errno) -> Outcome {
    Outcome::Refused(errno)
}

/// A REGION_WRITE_MULTI of one write.
fn multi() -> Vec<u8> {
    [&1_u64.to_ne_bytes()[..], &access(4, 0, 4, &[0; 8])].concat()
}

#[test]
fn a_command_that_is_not_supported_is_refused() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    for command in [0, 1, 6, 11, 12, 14, 16, 17, 18, 19, 0x7fff, 0xffff] {
        for payload in [vec![], vec![0; 8], vec![0xff; 1000]] {
            assert_eq!(
                raw.ask(command, &payload, &[]),
                refused(Errno::INVAL),
                "{command}"
            );
            assert!(raw.is_in_step(), "{command}");
        }
    }
}

/// One good payload of each command that has one.
fn good() -> Vec<(Command, Vec<u8>)> {
    vec![
        (Command::DmaMap, dma(32, 3, &[0, 0, PAGE])),
        (Command::DmaUnmap, dma(24, 0, &[0, PAGE])),
        (Command::DeviceGetInfo, words(&[16, 0, 0, 0])),
        (
            Command::DeviceGetRegionInfo,
            words(&[32, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (Command::DeviceGetIrqInfo, words(&[16, 0, 0, 0])),
        (Command::DeviceSetIrqs, words(&[20, 0x21, 0, 0, 0])),
        (Command::RegionRead, access(0, 7, 4, &[])),
        (Command::RegionWrite, access(4, 0, 4, &[0; 4])),
        (Command::RegionWriteMulti, multi()),
        (Command::DeviceReset, vec![]),
    ]
}

#[test]
fn a_message_cut_anywhere_is_refused_and_nothing_comes_of_it() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    for (command, payload) in good() {
        for len in 0..payload.len() {
            let outcome = raw.ask(command as u16, &payload[..len], &[]);
            assert_eq!(outcome, refused(Errno::INVAL), "{command:?}, {len} bytes");
        }
        assert!(raw.is_in_step(), "{command:?}");
    }
    assert_eq!(instance.log.take(), []);
    for (command, payload) in good() {
        let outcome = raw.ask(command as u16, &payload, &[]);
        assert!(matches!(outcome, Outcome::Success(_)), "{command:?}");
    }
}

#[test]
fn a_descriptor_that_no_message_takes_is_refused_with_it() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    for (command, payload) in good() {
        if command == Command::DmaMap {
            continue;
        }
        for count in [1, 17, 253] {
            let fds: Vec<_> = (0..count).map(|_| memfd(PAGE)).collect();
            let outcome = raw.ask(command as u16, &payload, &borrow(&fds));
            assert_eq!(outcome, refused(Errno::INVAL), "{command:?}, {count}");
            assert!(raw.is_in_step(), "{command:?}, {count}");
        }
    }
}

#[test]
fn a_size_that_no_frame_has_is_refused_and_ends_the_session() {
    let instance = Instance::new();
    for size in [0, 1, 15, MAX_FRAME + 1, 1 << 31, u32::MAX] {
        for flags in [0, NO_REPLY] {
            let mut raw = instance.raw();
            raw.send(&header(7, 9, size, flags), &[]);
            if flags == 0 {
                assert_eq!(raw.receive().1, refused(Errno::INVAL), "{size:#x}");
            }
            assert_eq!(raw.receive().1, Outcome::Closed, "{size:#x}");
        }
    }
    assert!(instance.raw().is_in_step());
}

#[test]
fn a_type_that_is_not_known_is_refused_and_a_reply_to_nothing_is_not_answered() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    for flags in [2, 15] {
        raw.send(&header(7, 13, 16, flags), &[]);
        assert_eq!(raw.receive().1, refused(Errno::INVAL), "{flags}");
    }
    for flags in [1, 1 | 1 << 5, 1 | NO_REPLY] {
        raw.send(&header(7, 13, 16, flags), &[]);
        // Its answer, were there one, would come before this one's.
        assert!(raw.is_in_step(), "{flags:#x}");
    }
    assert_eq!(instance.log.take(), []);
}

#[test]
fn who_wants_no_reply_gets_none_not_even_an_error() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    for (command, payload) in good() {
        for payload in [payload, vec![0xff; 3]] {
            let mut bytes = message(7, command as u16, &payload);
            bytes[8..12].copy_from_slice(&NO_REPLY.to_ne_bytes());
            raw.send(&bytes, &[]);
            assert!(raw.is_in_step(), "{command:?}");
        }
    }
}

#[test]
fn a_message_may_come_byte_by_byte_or_many_at_once() {
    let instance = Instance::new();
    let mut raw = Raw::new(instance.connect());
    for byte in message(0, 1, &[0, 0, 0, 0]) {
        raw.send(&[byte], &[]);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(matches!(raw.receive().1, Outcome::Success(_)));
    for byte in message(7, 9, &access(0, 7, 2, &[])) {
        raw.send(&[byte], &[]);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(matches!(raw.receive().1, Outcome::Success(_)));
    let many: Vec<u8> = (0..500)
        .flat_map(|id| message(id, 9, &access(0, 7, 2, &[])))
        .collect();
    raw.send(&many, &[]);
    for id in 0..500 {
        assert_eq!(raw.receive().0.unwrap().id, id);
    }
}

#[test]
fn without_a_version_that_fits_nobody_is_served() {
    let instance = Instance::new();
    let json = |json: &[u8]| [&[0; 4][..], json].concat();
    let inval = Errno::INVAL;
    for (what, command, payload, errno) in [
        ("another command first", 13, vec![], inval),
        ("a reply first", 1 << 15, vec![], inval),
        ("no version", 1, vec![], inval),
        ("half a version", 1, vec![0, 0], inval),
        ("major 1", 1, vec![1, 0, 0, 0], Errno::NOTSUP),
        ("no NUL", 1, json(b"{}"), inval),
        ("only a NUL", 1, json(b"\0"), inval),
        ("no JSON", 1, json(b"hello\0"), inval),
        ("an array", 1, json(b"[]\0"), inval),
        (
            "capabilities that are none",
            1,
            json(b"{\"capabilities\":3}\0"),
            inval,
        ),
        (
            "a string",
            1,
            json(b"{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0"),
            inval,
        ),
        (
            "a negative number",
            1,
            json(b"{\"capabilities\":{\"max_msg_fds\":-1}}\0"),
            inval,
        ),
        ("deep JSON", 1, json(&[b'['; 4000]), inval),
        ("endless JSON", 1, json(&[b' '; 100_000]), inval),
    ] {
        let mut raw = Raw::new(instance.connect());
        assert_eq!(raw.ask(command, &payload, &[]), refused(errno), "{what}");
        assert_eq!(raw.receive().1, Outcome::Closed, "{what}");
    }
    let mut raw = Raw::new(instance.connect());
    let outcome = raw.ask(1, &[0; 4], &borrow(&[memfd(8)]));
    assert_eq!(outcome, refused(inval));
    assert!(instance.raw().is_in_step());
}

/// A message made of numbers that are often wrong, and of too many or too few of them.
fn any_message() -> impl Strategy<Value = (u16, Vec<u8>, usize)> {
    let number = prop_oneof![
        4 => 0_u32..40,
        1 => Just(4096),
        1 => Just(u32::MAX),
        1 => any::<u32>(),
    ];
    let numbers = proptest::collection::vec(number, 0..12);
    (0_u16..20, numbers, 0_usize..3)
        .prop_map(|(command, numbers, fds)| (command, words(&numbers), fds))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sent_each_message_has_one_answer(
        messages in proptest::collection::vec(any_message(), 0..100),
    ) {
        let instance = Instance::new();
        let mut raw = instance.raw();
        let (file, eventfd) = (memfd(8 * PAGE), support::new_eventfd());
        for (command, payload, fds) in messages {
            let fds: Vec<_> = [&file, &eventfd][..fds]
                .iter()
                .map(|fd| fd.try_clone().unwrap())
                .collect();
            let outcome = raw.ask(command, &payload, &borrow(&fds));
            prop_assert_ne!(outcome, Outcome::Closed, "{} {:?}", command, payload);
        }
        prop_assert!(raw.is_in_step());
    }
}
