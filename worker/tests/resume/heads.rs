//! Workers are killed, and taken over from, while a guest draws on two heads of its GPU: a picture in
//! video memory, a blob in its own, and a cursor.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use ::worker::control::Control;
use ::worker::parking::CLIENT;
use rustix::process::Signal;
use virtio::feature;
use virtio::guest::{FREE, Guest};

use crate::dma::{kill_under, kills};
use crate::host::Host;

const OK: u32 = 0x1100;
const CREATE: u32 = 0x101;
const UNREF: u32 = 0x102;
const SCANOUT: u32 = 0x103;
const FLUSH: u32 = 0x104;
const TRANSFER: u32 = 0x105;
const ATTACH: u32 = 0x106;
const DISPLAY_INFO: u32 = 0x100;
const ASSIGN_UUID: u32 = 0x10b;
const CREATE_BLOB: u32 = 0x10c;
const SCANOUT_BLOB: u32 = 0x10d;
const UPDATE_CURSOR: u32 = 0x300;
const MOVE_CURSOR: u32 = 0x301;

/// Of each picture, and of the cursor.
const SIDE: u32 = 64;
const BYTES: usize = (SIDE * SIDE * 4) as usize;

/// Where the pixels lie of the picture, of the blob and of the cursor.
const PICTURE: u64 = FREE;
const BLOB: u64 = FREE + 0x10_0000;
const IMAGE: u64 = FREE + 0x20_0000;

/// So many sets of numbers are used in turn.
const SETS: u64 = 500;

fn command(number: u32, words: &[u32]) -> Vec<u8> {
    let header = [number, 0, 0, 0, 0, 0];
    let all = header.iter().chain(words);
    all.flat_map(|word| word.to_le_bytes()).collect()
}

fn ask(guest: &mut Guest, queue: u16, number: u32, words: &[u32]) {
    let answer = guest.ask(queue, &command(number, words), 24);
    let kind = u32::from_le_bytes(answer[..4].try_into().unwrap());
    assert_eq!(kind, OK, "{number:#x} {words:x?}");
}

/// What a resource is called elsewhere.
fn uuid(guest: &mut Guest, id: u32) -> Vec<u8> {
    let answer = guest.ask(0, &command(ASSIGN_UUID, &[id, 0]), 40);
    assert_eq!(answer[..4], 0x1105_u32.to_le_bytes());
    answer[24..].to_vec()
}

fn pixels(seed: u64) -> Vec<u8> {
    let words = (0..BYTES as u64 / 8).map(|at| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at);
    words.flat_map(u64::to_le_bytes).collect()
}

/// The numbers of the resources of a turn: picture, blob, cursor.
fn ids(turn: u64) -> [u32; 3] {
    let first = 1 + 3 * (turn % SETS) as u32;
    [first, first + 1, first + 2]
}

/// Shows new resources on both heads and as the cursor, and lets the last ones go, if there are any.
fn draw(guest: &mut Guest, turn: u64, has_last: bool) {
    let [picture, blob, cursor] = ids(turn);
    for (kind, at) in (0..).zip([PICTURE, BLOB, IMAGE]) {
        guest.put(at, &pixels(3 * turn + kind));
    }
    let whole = [0, 0, SIDE, SIDE];
    let backed = |id, at: u64| [id, 1, at as u32, 0, BYTES as u32, 0];
    let all = |id| [&whole[..], &[0, 0, id, 0]].concat();
    let [bytes, at] = [BYTES as u32, BLOB as u32];
    let fields = [blob, 1, 2, 1, 0, 0, bytes, 0, at, 0, bytes, 0];
    let lies = [SIDE, SIDE, 1, 0, SIDE * 4, 0, 0, 0, 0, 0, 0, 0];
    for (number, words) in [
        (CREATE, vec![picture, 1, SIDE, SIDE]),
        (ATTACH, backed(picture, PICTURE).to_vec()),
        (TRANSFER, all(picture)),
        (SCANOUT, [&whole[..], &[0, picture]].concat()),
        (CREATE_BLOB, fields.to_vec()),
        (SCANOUT_BLOB, [&whole[..], &[1, blob], &lies].concat()),
        (FLUSH, [&whole[..], &[blob, 0]].concat()),
        (CREATE, vec![cursor, 2, SIDE, SIDE]),
        (ATTACH, backed(cursor, IMAGE).to_vec()),
        (TRANSFER, all(cursor)),
    ] {
        ask(guest, 0, number, &words);
    }
    let place = [1, turn as u32 % 1000, 7, 0];
    ask(
        guest,
        1,
        UPDATE_CURSOR,
        &[&place[..], &[cursor, 5, 6, 0]].concat(),
    );
    ask(
        guest,
        1,
        MOVE_CURSOR,
        &[1, turn as u32 % 1000 + 1, 8, 0, 0, 0, 0, 0],
    );
    let name = uuid(guest, blob);
    if has_last {
        for id in ids(turn.wrapping_sub(1)) {
            ask(guest, 0, UNREF, &[id, 0]);
        }
    }
    assert_eq!(uuid(guest, blob), name);
}

fn read(memory: &OwnedFd, at: u64) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    assert_eq!(rustix::io::pread(memory, &mut bytes, at), Ok(BYTES));
    bytes
}

/// Both heads and the cursor are as a turn has left them.
fn check_pictures(control: &Control, turn: u64) {
    for (kind, head) in [(0, 0), (1, 1)] {
        let picture = control.scanout(head).unwrap();
        let shown = read(&picture.memory, picture.geometry.offset);
        assert!(shown == pixels(3 * turn + kind), "head {head} in {turn}");
    }
}

fn check_cursor(control: &Control, turn: u64) {
    let pointer = control.cursor(1).unwrap();
    assert_eq!(
        (pointer.x, pointer.y),
        (turn as i32 % 1000 + 1, 8),
        "{turn}"
    );
    let (image, memory) = pointer.image.unwrap();
    assert_eq!((image.hot_x, image.hot_y), (5, 6));
    let shown = read(&memory, image.geometry.offset);
    assert!(shown == pixels(3 * turn + 2), "the cursor in {turn}");
    assert!(control.cursor(0).unwrap().image.is_none());
}

#[test]
fn no_picture_blob_or_cursor_is_lost_by_a_gpu_whose_worker_is_killed() {
    let mut host = Host::start_with("gpu-2d-hd", &["-o", "heads=2"]);
    let guest = Guest::new(host.connect(), feature::EVENT_IDX);
    host.wait_parked(CLIENT);
    let (told, heard) = std::sync::mpsc::channel();
    let guest = Arc::new(Mutex::new(guest));
    let drawing = Arc::clone(&guest);
    kill_under(&mut host, kills(), move |turn| {
        let mut guest = drawing.lock().unwrap();
        let is_anew = turn % 8 == 0;
        if is_anew {
            guest.set_up(feature::EVENT_IDX);
        }
        draw(&mut guest, turn, !is_anew);
        let _ = told.send(turn);
    });
    let turn = heard.try_iter().last().unwrap();
    check_pictures(&host.control(), turn);
    check_cursor(&host.control(), turn);
    drop(guest);
    host.stop();
}

#[test]
fn a_blob_that_nobody_had_looked_at_before_a_worker_was_killed_is_shown_by_the_next() {
    let mut host = Host::start_with("gpu-2d-hd", &["-o", "heads=2"]);
    let mut guest = Guest::new(host.connect(), 0);
    host.wait_parked(CLIENT);
    for turn in 0..3 {
        draw(&mut guest, turn, turn > 0);
    }
    host.kill(Signal::KILL);
    host.recover().unwrap();
    host.wait_for_control();
    check_pictures(&host.control(), 2);
    drop(guest);
    host.stop();
}

#[test]
fn heads_cursor_and_a_viewers_wish_go_on_in_a_worker_that_takes_over() {
    let mut host = Host::start_with("gpu-2d-hd", &["-o", "heads=2", "-o", "mode=800x600"]);
    let mut guest = Guest::new(host.connect(), 0);
    host.wait_parked(CLIENT);
    host.control().set_attribute("heads", "3").unwrap();
    host.control().resize(2, 1001, 701).unwrap();
    for turn in 0..5 {
        draw(&mut guest, turn, turn > 0);
        assert!(host.upgrade().unwrap().exact);
        check_pictures(&host.control(), turn);
        check_cursor(&host.control(), turn);
    }
    let info = guest.ask(0, &command(DISPLAY_INFO, &[]), 408);
    let words: Vec<_> = info[24..]
        .chunks(4)
        .map(|it| u32::from_le_bytes(it.try_into().unwrap()))
        .collect();
    assert_eq!(words[12..18], [1600, 0, 1001, 701, 1, 0]);
    assert_eq!(words[18..24], [0; 6]);
    // What a head shows, and the cursor, is forgotten at a reset, and stays so.
    guest.set_up(0);
    assert!(host.upgrade().unwrap().exact);
    assert!(host.control().scanout(1).is_err(), "nothing is shown");
    assert!(host.control().cursor(1).unwrap().image.is_none());
    host.stop();
}

#[test]
fn a_saved_state_has_heads_blobs_and_cursor_in_it() {
    let host = Host::start_with("gpu-2d-hd", &["-o", "heads=2"]);
    let mut guest = Guest::new(host.connect(), 0);
    draw(&mut guest, 1, false);
    let state = host.control().save().unwrap();
    draw(&mut guest, 2, true);
    check_cursor(&host.control(), 2);
    host.control().restore(&state).unwrap();
    check_pictures(&host.control(), 1);
    check_cursor(&host.control(), 1);
    drop(guest);
    host.stop();
}
