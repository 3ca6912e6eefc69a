//! The GPU under a driver that knows it, and under one that is out to harm it.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod blobs;
mod cursor;
mod heads;
mod hostile;
mod instance;
mod resets;
mod transport;

use instance::{Instance, ask, ask_on, command};
use mdev::device::AttributeError;
use mdev::scanout::PixelFormat;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
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
const CAPSET: u32 = 0x109;
const EDID: u32 = 0x10a;
const ASSIGN_UUID: u32 = 0x10b;
const CREATE_BLOB: u32 = 0x10c;
const SCANOUT_BLOB: u32 = 0x10d;
const CTX_CREATE: u32 = 0x200;
const CTX_DESTROY: u32 = 0x201;
const CTX_ATTACH: u32 = 0x202;
const CREATE_3D: u32 = 0x204;
const SUBMIT_3D: u32 = 0x207;
const MAP_BLOB: u32 = 0x208;
const UPDATE_CURSOR: u32 = 0x300;
const MOVE_CURSOR: u32 = 0x301;

/// Answers.
const OK: u32 = 0x1100;
const UNSPECIFIED: u32 = 0x1200;
const OUT_OF_MEMORY: u32 = 0x1201;
const NO_SCANOUT: u32 = 0x1202;
const NO_RESOURCE: u32 = 0x1203;
const NO_CONTEXT: u32 = 0x1204;
const BAD_PARAMETER: u32 = 0x1205;

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
        (SCANOUT, &[0, 0, 8, 8, 4, 1], NO_SCANOUT),
        (SCANOUT, &[0, 0, 8, 8, 0, 7], NO_RESOURCE),
        (SCANOUT, &[0, 1, 8, 8, 0, 1], BAD_PARAMETER),
        (SCANOUT, &[0, 0, 8, 8, 0, 1], OK),
        (SCANOUT, &[0, 0, 0, 0, 0, 0], OK),
        (DETACH, &[1, 0], OK),
        (EDID, &[4, 0], BAD_PARAMETER),
        (CAPSET_INFO, &[0, 0], BAD_PARAMETER),
        (CAPSET, &[1, 0], BAD_PARAMETER),
        (CTX_CREATE, &[0; 18], UNSPECIFIED),
        (CTX_DESTROY, &[], NO_CONTEXT),
        (CTX_ATTACH, &[1, 0], NO_CONTEXT),
        (CREATE_3D, &[9; 12], UNSPECIFIED),
        (SUBMIT_3D, &[0, 0], NO_CONTEXT),
        (MAP_BLOB, &[1, 0, 0, 0], UNSPECIFIED),
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
    assert_eq!(guest.config(8), 4, "heads");
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

#[test]
fn a_resource_has_one_uuid_and_no_other_has_it() {
    let instance = Instance::new();
    let mut guest = instance.guest(0);
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK);
    let blob = [2, 1, 2, 0, 0, 0, 512, 0];
    assert_eq!(ask(&mut guest, CREATE_BLOB, &blob), OK);
    let uuid = |guest: &mut Guest, id| {
        let answer = guest.ask(0, &command(ASSIGN_UUID, &[id, 0]), 40);
        assert_eq!(
            (answer.len(), &answer[..4]),
            (40, &0x1105_u32.to_le_bytes()[..])
        );
        <[u8; 16]>::try_from(&answer[24..]).unwrap()
    };
    let (first, second) = (uuid(&mut guest, 1), uuid(&mut guest, 2));
    assert_ne!(first, second);
    for uuid in [first, second] {
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (4, 2), "{uuid:x?}");
    }
    assert_eq!(uuid(&mut guest, 1), first);
    let refused = guest.ask(0, &command(ASSIGN_UUID, &[3, 0]), 40);
    assert_eq!(refused[..4], NO_RESOURCE.to_le_bytes());
    assert_eq!(ask(&mut guest, UNREF, &[1, 0]), OK);
    assert_eq!(ask(&mut guest, CREATE, &[1, 1, 8, 8]), OK);
    assert_ne!(uuid(&mut guest, 1), first);
}
