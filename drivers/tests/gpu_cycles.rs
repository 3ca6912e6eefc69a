//! Resources of a GPU that come and go, for long: nothing is left of them.
//!
//! A program of its own: what it has in use is what this test has.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

#[path = "gpu/instance.rs"]
mod instance;

use std::fs;

use instance::{Instance, ask};
use virtio::feature;
use virtio::guest::{FREE, Guest};

/// What may come to be in use, in KiB, of allocations that are kept for the next ones.
const SLACK: u64 = 1024;

const OK: u32 = 0x1100;
const CREATE: u32 = 0x101;
const UNREF: u32 = 0x102;
const SCANOUT: u32 = 0x103;
const FLUSH: u32 = 0x104;
const TRANSFER: u32 = 0x105;
const ATTACH: u32 = 0x106;
const CREATE_BLOB: u32 = 0x10c;
const SCANOUT_BLOB: u32 = 0x10d;

/// How often; all of it takes a minute without optimization.
fn cycles() -> u32 {
    match std::env::var_os("VGPUD_TEST_ALL") {
        Some(_) => 100_000,
        None => 4000,
    }
}

/// Memory of this process in use, in KiB: its own and that of memory files that it has mapped.
fn in_use() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    field("RssAnon:") + field("RssShmem:")
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Creates, fills, shows and destroys on two heads: a picture in video memory on the first, a blob on
/// the second. Sizes change, so that places in video memory do.
fn cycle(guest: &mut Guest, instance: &Instance, turn: u32) {
    let (width, height) = (32 + turn % 61, 16 + turn % 17);
    let bytes = width * height * 4;
    let ram = FREE as u32;
    let word = turn.wrapping_mul(0x9e37_79b9);
    guest.put(FREE, &word.to_le_bytes().repeat(bytes as usize / 4));
    let (first, second) = (1 + turn % 1000, 2000 + turn % 999);
    let blob = [second, 1, 2, 1, 0, 0, bytes, 0, ram, 0, bytes, 0];
    let lies = [width, height, 1, 0, width * 4, 0, 0, 0, 0, 0, 0, 0];
    let shown = [&[0, 0, width, height, 1, second][..], &lies].concat();
    for (number, words) in [
        (CREATE, &[first, 1, width, height][..]),
        (ATTACH, &[first, 1, ram, 0, bytes, 0]),
        (TRANSFER, &[0, 0, width, height, 0, 0, first, 0]),
        (SCANOUT, &[0, 0, width, height, 0, first]),
        (FLUSH, &[0, 0, width, height, first, 0]),
        (CREATE_BLOB, &blob),
        (SCANOUT_BLOB, &shown),
        (FLUSH, &[0, 0, width, height, second, 0]),
    ] {
        assert_eq!(ask(guest, number, words), OK, "{number:#x} in {turn}");
    }
    if turn.is_multiple_of(101) {
        let expected = word.to_le_bytes().repeat(bytes as usize / 4);
        for head in 0..2 {
            assert!(
                instance.shown_on(head).unwrap() == expected,
                "{turn} {head}"
            );
        }
    }
    for id in [first, second] {
        assert_eq!(ask(guest, UNREF, &[id, 0]), OK, "{id} in {turn}");
    }
}

#[test]
fn nothing_is_left_of_resources_that_have_come_and_gone_on_two_heads() {
    let instance = Instance::with(&[("heads", "2")]);
    let mut guest = instance.guest(feature::EVENT_IDX);
    let tenth = cycles() / 10;
    (0..tenth).for_each(|turn| cycle(&mut guest, &instance, turn));
    let before = (in_use(), descriptors());
    (tenth..cycles()).for_each(|turn| cycle(&mut guest, &instance, turn));
    let after = (in_use(), descriptors());
    println!("{} cycles: {before:?}, then {after:?}", cycles());
    assert!(after.0 <= before.0 + SLACK, "{before:?} {after:?}");
    assert_eq!(after.1, before.1, "descriptors");
    assert!(instance.shown_on(0).is_none() && instance.shown_on(1).is_none());
    assert_eq!(
        ask(&mut guest, CREATE, &[1, 1, 4096, 4096]),
        OK,
        "all is given back"
    );
}
