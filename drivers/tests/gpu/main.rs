//! The GPU under a driver that knows it, and under one that is out to harm it.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use mdev::instance::{self, Clients};
use mdev::mailbox::{Mail, MailSender, Mailbox};
use mdev::scanout::{PixelFormat, ScanoutPublisher};
use mdev::session::Surroundings;
use mdev::{Attributes, Services};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use vfu::Errno;
use virtio::feature;
use virtio::guest::{Descriptor, End, FREE, Guest, INDIRECT, NEEDS_RESET, NEXT, RAM, WRITE};

/// Commands.
const DISPLAY_INFO: u32 = 0x100;
const CREATE: u32 = 0x101;
const UNREF: u32 = 0x102;
const SCANOUT: u32 = 0x103;
const FLUSH: u32 = 0x104;
const TRANSFER: u32 = 0x105;
const ATTACH: u32 = 0x106;
const DETACH: u32 = 0x107;
const CAPSET_INFO: u32 = 0x108;
const EDID: u32 = 0x10a;
const SUBMIT_3D: u32 = 0x207;
const UPDATE_CURSOR: u32 = 0x300;
const MOVE_CURSOR: u32 = 0x301;

/// Answers.
const OK: u32 = 0x1100;
const UNSPECIFIED: u32 = 0x1200;
const OUT_OF_MEMORY: u32 = 0x1201;
const NO_SCANOUT: u32 = 0x1202;
const NO_RESOURCE: u32 = 0x1203;
const BAD_PARAMETER: u32 = 0x1205;

/// A GPU in its own thread.
struct Instance {
    mail: MailSender,
    scanout: ScanoutPublisher,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Instance {
    fn new() -> Self {
        let (driver, spec) = drivers::find_type("gpu-2d-hd").unwrap();
        let services = Services::default();
        let scanout = services.scanout.clone();
        let around = Surroundings::new(&services);
        let device = driver.build(&spec, &Attributes::default(), services);
        let device = device.unwrap();
        let (mailbox, mail) = Mailbox::new().unwrap();
        let serve = move || instance::run(device, &mailbox, &around, Clients::Any, None);
        Self {
            mail,
            scanout,
            thread: Some(thread::spawn(serve)),
        }
    }

    fn guest(&self, features: u64) -> Guest {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.mail.send(Mail::Client(theirs.into())).unwrap();
        Guest::new(ours, features)
    }

    /// The pixels that are shown.
    fn shown(&self) -> Option<Vec<u8>> {
        let picture = self.scanout.current()?;
        let geometry = picture.geometry;
        let mut pixels = Vec::new();
        for y in 0..u64::from(geometry.height) {
            let mut line = vec![0; geometry.width as usize * 4];
            let at = geometry.offset + y * u64::from(geometry.stride);
            let read = rustix::io::pread(&picture.memory, &mut line, at);
            assert_eq!(read, Ok(line.len()));
            pixels.extend(line);
        }
        Some(pixels)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.mail.send(Mail::Stop);
        let end = self.thread.take().unwrap().join();
        assert!(thread::panicking() || end.is_ok(), "the instance panicked");
    }
}

fn command(number: u32, words: &[u32]) -> Vec<u8> {
    let header = [number, 0, 0, 0, 0, 0];
    let all = header.iter().chain(words);
    all.flat_map(|word| word.to_le_bytes()).collect()
}

/// What a command on a queue is answered.
fn ask_on(guest: &mut Guest, queue: u16, number: u32, words: &[u32]) -> u32 {
    let answer = guest.ask(queue, &command(number, words), 24);
    assert_eq!(answer.len(), 24);
    u32::from_le_bytes(answer[..4].try_into().unwrap())
}

fn ask(guest: &mut Guest, number: u32, words: &[u32]) -> u32 {
    ask_on(guest, 0, number, words)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table, each case a line or two")]
fn each_command_is_answered_as_the_specification_says() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let ram = FREE as u32;
    let far = u32::MAX;
    for (number, words, answer) in [
        (CREATE, &[0, 1, 8, 8][..], NO_RESOURCE),
        (CREATE, &[1, 5, 8, 8], BAD_PARAMETER),
        (CREATE, &[1, 1, 0, 8], BAD_PARAMETER),
        (CREATE, &[1, 1, 8, 16385], BAD_PARAMETER),
        (CREATE, &[1, 1, far, far], BAD_PARAMETER),
        (CREATE, &[1, 1, 4097, 4096], OUT_OF_MEMORY),
        (CREATE, &[1, 1, 8], UNSPECIFIED),
        (CREATE, &[1, 1, 8, 8], OK),
        (CREATE, &[1, 1, 8, 8], NO_RESOURCE),
        (CREATE, &[far, 134, 4096, 4095], OK),
        (CREATE, &[2, 1, 4096, 1], OUT_OF_MEMORY),
        (UNREF, &[far, 0], OK),
        (UNREF, &[far, 0], NO_RESOURCE),
        (TRANSFER, &[0, 0, 8, 8, 0, 0, 1, 0], UNSPECIFIED),
        (DETACH, &[1, 0], UNSPECIFIED),
        (ATTACH, &[3, 0], NO_RESOURCE),
        (ATTACH, &[1, 16385], UNSPECIFIED),
        (ATTACH, &[1, 2, ram, 0, 128, 0], UNSPECIFIED),
        (ATTACH, &[1, 2, ram, 0, 128, 0, ram + 128, 0, 128, 0], OK),
        (ATTACH, &[1, 1, ram, 0, 256, 0], UNSPECIFIED),
        (TRANSFER, &[0, 0, 8, 8, 0, 0, 1, 0], OK),
        (TRANSFER, &[0, 0, 8, 8, 1, 0, 1, 0], BAD_PARAMETER),
        (TRANSFER, &[0, 0, 8, 8, far, far, 1, 0], BAD_PARAMETER),
        (TRANSFER, &[1, 0, 8, 8, 0, 0, 1, 0], BAD_PARAMETER),
        (TRANSFER, &[far, 0, 8, 8, 0, 0, 1, 0], BAD_PARAMETER),
        (TRANSFER, &[0, 0, 0, 8, 0, 0, 1, 0], BAD_PARAMETER),
        (TRANSFER, &[0, 0, 8, 8, 0, 0, 9, 0], NO_RESOURCE),
        (FLUSH, &[0, 0, 8, 8, 1, 0], OK),
        (FLUSH, &[0, 0, 8, 9, 1, 0], BAD_PARAMETER),
        (FLUSH, &[0, 0, 8, 8, 7, 0], NO_RESOURCE),
        (SCANOUT, &[0, 0, 8, 8, 1, 1], NO_SCANOUT),
        (SCANOUT, &[0, 0, 8, 8, 0, 7], NO_RESOURCE),
        (SCANOUT, &[0, 1, 8, 8, 0, 1], BAD_PARAMETER),
        (SCANOUT, &[0, 0, 8, 8, 0, 1], OK),
        (SCANOUT, &[0, 0, 0, 0, 0, 0], OK),
        (DETACH, &[1, 0], OK),
        (EDID, &[1, 0], BAD_PARAMETER),
        (CAPSET_INFO, &[0, 0], UNSPECIFIED),
        (SUBMIT_3D, &[0, 0], UNSPECIFIED),
        (UPDATE_CURSOR, &[0; 8], UNSPECIFIED),
        (0, &[], UNSPECIFIED),
        (far, &[], UNSPECIFIED),
    ] {
        assert_eq!(
            ask(&mut guest, number, words),
            answer,
            "{number:#x} {words:x?}"
        );
    }
    for (number, answer) in [
        (UPDATE_CURSOR, OK),
        (MOVE_CURSOR, OK),
        (CREATE, UNSPECIFIED),
    ] {
        assert_eq!(
            ask_on(&mut guest, 1, number, &[0; 8]),
            answer,
            "{number:#x}"
        );
    }
}

#[test]
fn the_answers_about_the_display_are_whole_and_fences_come_back() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    assert_eq!(guest.config(8), 1, "heads");
    assert_eq!(guest.config(12), 0, "capability sets");
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    let words: Vec<_> = info
        .chunks(4)
        .map(|it| u32::from_le_bytes(it.try_into().unwrap()))
        .collect();
    assert_eq!(words.len(), 102);
    assert_eq!(words[0], 0x1101);
    assert_eq!(words[6..12], [0, 0, 1920, 1080, 1, 0]);
    assert!(words[12..].iter().all(|word| *word == 0));
    let edid = guest.ask(0, &command(EDID, &[0, 0]), 1056);
    assert_eq!(edid.len(), 1056);
    assert_eq!(edid[..4], 0x1104_u32.to_le_bytes());
    assert_eq!(edid[24..32], [128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(edid[32..40], [0, 255, 255, 255, 255, 255, 255, 0]);
    // Flags, fence and context come back; without the flag they do not.
    for (flags, fence, context) in [(1, 0x1234_5678_9abc_u64, 7_u32), (0, 0, 0)] {
        let mut request = command(FLUSH, &[0; 6]);
        request[4..8].copy_from_slice(&u32::to_le_bytes(flags));
        request[8..16].copy_from_slice(&0x1234_5678_9abc_u64.to_le_bytes());
        request[16] = 7;
        let answer = guest.ask(0, &request, 24);
        assert_eq!(answer[4..8], u32::to_le_bytes(flags));
        assert_eq!(answer[8..16], fence.to_le_bytes());
        assert_eq!(answer[16..20], context.to_le_bytes());
    }
}

#[test]
fn what_is_transferred_is_shown_in_its_format_and_gone_with_its_resource() {
    let instance = Instance::new();
    let mut guest = instance.guest(feature::EVENT_IDX | feature::INDIRECT_DESC);
    let pixels: Vec<_> = (0..16 * 8 * 4).map(|at| (at * 7 % 251) as u8).collect();
    // Its second half lies before its first.
    guest.put(FREE + 256, &pixels[..256]);
    guest.put(FREE, &pixels[256..]);
    let ram = FREE as u32;
    for (id, (format, shown)) in (1..).zip([
        (1, PixelFormat::Xrgb8888),
        (2, PixelFormat::Xrgb8888),
        (3, PixelFormat::Bgrx8888),
        (4, PixelFormat::Bgrx8888),
        (67, PixelFormat::Xbgr8888),
        (68, PixelFormat::Rgbx8888),
        (121, PixelFormat::Rgbx8888),
        (134, PixelFormat::Xbgr8888),
    ]) {
        let backing = [id, 2, ram + 256, 0, 256, 0, ram, 0, 256, 0];
        assert_eq!(ask(&mut guest, CREATE, &[id, format, 16, 8]), OK);
        assert_eq!(ask(&mut guest, ATTACH, &backing), OK);
        assert_eq!(ask(&mut guest, SCANOUT, &[0, 0, 16, 8, 0, id]), OK);
        assert_eq!(instance.shown().unwrap(), vec![0; pixels.len()]);
        let whole = [0, 0, 16, 8, 0, 0, id, 0];
        assert_eq!(ask(&mut guest, TRANSFER, &whole), OK);
        assert!(instance.shown().unwrap() == pixels, "{format}");
        let picture = instance.scanout.current().unwrap();
        assert_eq!(picture.geometry.format, shown, "{format}");
        assert_eq!(ask(&mut guest, UNREF, &[id, 0]), OK);
        assert!(instance.shown().is_none(), "{format}");
    }
    // A part of the picture, from a part of the backing.
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 16, 8]), OK);
    assert_eq!(ask(&mut guest, ATTACH, &[1, 1, ram, 0, 512, 0]), OK);
    assert_eq!(ask(&mut guest, SCANOUT, &[2, 1, 4, 2, 0, 1]), OK);
    let offset = 64 + 2 * 4;
    let part = [2, 1, 4, 2, offset, 0, 1, 0];
    assert_eq!(ask(&mut guest, TRANSFER, &part), OK);
    let there = guest.look(FREE, 512);
    let lines = [&there[72..88], &there[136..152]].concat();
    assert_eq!(instance.shown().unwrap(), lines);
}

#[test]
fn memory_that_is_not_there_fails_the_command_and_no_more() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 64, 64]), OK);
    let end = RAM as u32;
    // The second half of it lies past the end, or all of it past any.
    for (low, high) in [(end - 8192, 0), (0, u32::MAX), (u32::MAX - 100, u32::MAX)] {
        assert_eq!(ask(&mut guest, ATTACH, &[1, 1, low, high, 16384, 0]), OK);
        let whole = [0, 0, 64, 64, 0, 0, 1, 0];
        assert_eq!(ask(&mut guest, TRANSFER, &whole), UNSPECIFIED, "{low:#x}");
        assert_eq!(ask(&mut guest, DETACH, &[1, 0]), OK);
    }
    assert_eq!(guest.status() & NEEDS_RESET, 0);
}

/// Where a test's request and answer lie.
const REQUEST: u64 = FREE;
const ANSWER: u64 = FREE + 0x1000;
const TABLE: u64 = FREE + 0x2000;

/// Chains, and what becomes of each. All begin with the first descriptor.
#[expect(clippy::too_many_lines, reason = "a table, each case a line or two")]
fn hostile() -> Vec<(&'static str, Vec<Descriptor>, End)> {
    let request = |next| (REQUEST, 24, NEXT, next);
    let answer = (ANSWER, 24, WRITE, 0);
    vec![
        ("a good one", vec![request(1), answer], End::Used(24)),
        ("no room at all", vec![(REQUEST, 24, 0, 0)], End::Used(0)),
        (
            "little room",
            vec![request(1), (ANSWER, 23, WRITE, 0)],
            End::Used(0),
        ),
        ("nothing", vec![(0, 0, 0, 0)], End::Used(0)),
        ("nothing said", vec![answer], End::Used(24)),
        (
            "half a header",
            vec![(REQUEST, 12, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "a request past memory",
            vec![(RAM, 24, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "a request past the end",
            vec![(RAM - 8, 24, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "a request that wraps",
            vec![(u64::MAX - 3, 24, NEXT, 1), answer],
            End::Used(24),
        ),
        (
            "an answer past memory",
            vec![request(1), (1 << 60, 24, WRITE, 0)],
            End::Used(0),
        ),
        ("a loop", vec![request(1), request(0)], End::NeedsReset),
        ("a loop of one", vec![request(0)], End::NeedsReset),
        ("no such descriptor", vec![request(256)], End::NeedsReset),
        (
            "a wrong order",
            vec![(ANSWER, 24, WRITE | NEXT, 1), (REQUEST, 24, 0, 0)],
            End::NeedsReset,
        ),
        (
            "more than 4 GiB",
            vec![(0, u32::MAX, NEXT, 1), (0, u32::MAX, 0, 0)],
            End::NeedsReset,
        ),
        ("a table", vec![(TABLE, 32, INDIRECT, 0)], End::Used(24)),
        (
            "a table of nothing",
            vec![(TABLE, 0, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table and a half",
            vec![(TABLE, 24, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table too short",
            vec![(TABLE, 16, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table and more",
            vec![(TABLE, 32, INDIRECT | NEXT, 1)],
            End::NeedsReset,
        ),
        (
            "a table past memory",
            vec![(u64::MAX - 15, 32, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a table in a table",
            vec![(TABLE + 0x100, 16, INDIRECT, 0)],
            End::NeedsReset,
        ),
        (
            "a very long table",
            vec![(TABLE, !15, INDIRECT, 0)],
            End::NeedsReset,
        ),
    ]
}

#[test]
fn a_chain_that_is_wrong_costs_the_driver_its_device_until_it_resets_it() {
    let instance = Instance::new();
    let features = feature::INDIRECT_DESC | feature::EVENT_IDX;
    let mut guest = instance.guest(features);
    let before = [0x5a; 0x1000];
    for (what, descriptors, end) in hostile() {
        guest.put(REQUEST, &command(0, &[]));
        guest.put(ANSWER, &before);
        let table = [(REQUEST, 24, NEXT, 1), (ANSWER, 24, WRITE, 0)];
        guest.describe_at(TABLE, &table);
        guest.describe_at(TABLE + 0x100, &[(TABLE, 32, INDIRECT, 0)]);
        guest.describe(0, &descriptors);
        guest.kick(0, 0, 1);
        assert_eq!(guest.wait(0), end, "{what}");
        let written = match end {
            End::Used(len) => len as usize,
            End::NeedsReset => 0,
        };
        assert!(
            guest.look(ANSWER + written as u64, 64) == before[..64],
            "{what}"
        );
        if end == End::NeedsReset {
            // Nothing more is done before that.
            guest.kick(1, 0, 1);
            assert_eq!(guest.wait(1), End::NeedsReset, "{what}");
            guest.set_up(features);
        }
        assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK, "after {what}");
        assert_eq!(ask(&mut guest, UNREF, &[1, 0]), OK, "after {what}");
    }
    // More than the ring has, and a first descriptor that there is not.
    for (head, count) in [(0, 257), (256, 1), (u16::MAX, 1)] {
        guest.kick(0, head, count);
        assert_eq!(guest.wait(0), End::NeedsReset, "{head} {count}");
        guest.set_up(features);
    }
    // Without the feature a table is none.
    guest.set_up(0);
    guest.describe(0, &[(TABLE, 32, INDIRECT, 0)]);
    guest.kick(0, 0, 1);
    assert_eq!(guest.wait(0), End::NeedsReset);
}

/// Waits until the device has told of what it did last: it tells of it after it has done it.
fn settle(guest: &mut Guest) {
    // The thread of the queues does one thing after the other.
    ask_on(guest, 1, MOVE_CURSOR, &[0; 8]);
}

#[test]
fn the_driver_is_interrupted_when_it_wants_to_be() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    for (wanted, fired) in [(true, 1), (false, 0), (true, 1)] {
        guest.want_interrupts(0, wanted);
        assert_eq!(ask(&mut guest, CREATE, &[0; 4]), NO_RESOURCE);
        settle(&mut guest);
        assert_eq!(guest.fired(0), fired, "{wanted}");
    }
    guest.set_up(feature::EVENT_IDX);
    for (position, at, fired) in [(0, 0, 1), (1, 7, 0), (2, 7, 0), (3, 3, 1), (4, 3, 0)] {
        guest.want_interrupt_at(0, at);
        assert_eq!(ask(&mut guest, CREATE, &[0; 4]), NO_RESOURCE);
        settle(&mut guest);
        assert_eq!(guest.fired(0), fired, "{position} {at}");
    }
}

#[test]
fn a_change_of_mode_is_told_of_until_the_driver_has_heard() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    let set = |mode: &'static str| {
        let set = move |device: &mut dyn mdev::MediatedDevice| device.set_attribute("mode", mode);
        instance.mail.call(set).unwrap()
    };
    guest.write(0x10, &[2, 0]);
    let [generation] = guest.read(0x15);
    set("800x600").unwrap();
    assert_eq!(guest.fired(2), 1);
    assert_ne!(guest.read(0x15), [generation]);
    assert_eq!(guest.config(0), 1);
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    assert_eq!(info[32..40], [0x20, 3, 0, 0, 0x58, 2, 0, 0]);
    guest.write(0x2004, &[1, 0, 0, 0]);
    assert_eq!(guest.config(0), 0);
    // The same once more is no change, and what cannot be changes nothing.
    set("800x600").unwrap();
    set("4000x4000").unwrap_err();
    assert_eq!((guest.fired(2), guest.config(0)), (0, 0));
    // A reset is not one of the operator's words.
    guest.set_up(0);
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    assert_eq!(info[32..40], [0x20, 3, 0, 0, 0x58, 2, 0, 0]);
}

#[test]
fn the_device_is_set_up_as_the_specification_says_or_not_at_all() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    // Features that are not offered, and a device without VERSION_1, are not accepted.
    for (low, high) in [(1_u32, 1_u32), (0, 2), (0, 0)] {
        guest.write(0x14, &[0]);
        guest.write(0x14, &[3]);
        for (select, half) in [(0_u32, low), (1, high)] {
            guest.write(8, &select.to_le_bytes());
            guest.write(0xc, &half.to_le_bytes());
        }
        guest.write(0x14, &[11]);
        assert_eq!(guest.status(), 3, "{low:#x} {high:#x}");
    }
    // Only what is sound is enabled.
    guest.write(0x14, &[0]);
    for (register, value, enabled) in [
        (0x20, 8_u64, 0),
        (0x28, 1, 0),
        (0x30, 2, 0),
        (0x20, !15, 0),
        (0x30, !3, 0),
        (0x20, 0x1000, 1),
    ] {
        guest.write(0x14, &[0]);
        guest.write(register, &value.to_le_bytes());
        guest.write(0x1c, &[1, 0]);
        assert_eq!(
            guest.read::<2>(0x1c),
            [enabled, 0],
            "{register:#x} {value:#x}"
        );
    }
    // It stays as it is then; sizes are powers of two, and no vector is made up.
    guest.write(0x20, &[0; 8]);
    assert_eq!(guest.read::<8>(0x20), 0x1000_u64.to_le_bytes());
    guest.write(0x14, &[0]);
    for (size, then) in [(300_u16, 256), (100, 256), (0, 256), (128, 128), (1, 1)] {
        guest.write(0x18, &size.to_le_bytes());
        assert_eq!(guest.read::<2>(0x18), u16::to_le_bytes(then), "{size}");
    }
    for (vector, then) in [(2_u16, 2), (3, 0xffff), (0xffff, 0xffff)] {
        guest.write(0x1a, &vector.to_le_bytes());
        assert_eq!(guest.read::<2>(0x1a), u16::to_le_bytes(then), "{vector}");
    }
    // There is no third queue.
    guest.write(0x16, &[2, 0]);
    assert_eq!(guest.read::<2>(0x18), [0, 0]);
    guest.set_up(0);
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK);
}

/// A command that has something of a real one.
fn commands() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![8 => 0x100..0x110_u32, 1 => any::<u32>()];
    let word = prop_oneof![4 => 0..5_u32, 2 => 0..5000_u32, 1 => any::<u32>()];
    (number, prop::collection::vec(word, 0..24), 0..4_usize).prop_map(|(number, words, cut)| {
        let mut bytes = command(number, &words);
        bytes.truncate(bytes.len() - cut);
        bytes
    })
}

#[test]
fn whatever_a_driver_says_is_answered_and_the_device_works_on() {
    let instance = Instance::new();
    let mut guest = instance.guest(feature::EVENT_IDX);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..2000 {
        let request = commands().new_tree(&mut runner).unwrap().current();
        let answer = guest.ask(0, &request, 1056);
        let kind = u32::from_le_bytes(answer[..4].try_into().unwrap());
        assert!((0x1100..0x1300).contains(&kind), "{request:x?}");
    }
    guest.set_up(0);
    assert_eq!(
        ask(&mut guest, CREATE, &[1, 1, 4096, 4096]),
        OK,
        "all is given back"
    );
}
