use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketFlags, accept_with};
use worker::protocol::{Answer, Envelope, InputRecord, Request};
use worker::seqpacket;

use super::*;
use crate::errand::{input_pair, run_input};

/// Two lanes that nobody carries.
fn typing() -> (Typing, Arc<Lane>, Arc<Lane>) {
    let lane = || {
        let (asking, _running) = input_pair().unwrap();
        Lane::new(InputErrands::new(asking)).unwrap().0
    };
    let (keyboard, tablet) = (lane(), lane());
    let typing = Typing {
        keyboard: Some(Arc::clone(&keyboard)),
        tablet: Some(Arc::clone(&tablet)),
    };
    (typing, keyboard, tablet)
}

fn key(is_down: bool, symbol: u32) -> Input {
    Input::Key {
        is_down,
        symbol,
        code: None,
    }
}

fn pointer(x: u16, buttons: u8) -> Input {
    Input::Pointer {
        x,
        y: 0,
        buttons,
        size: (100, 100),
    }
}

fn keys_of(lane: &Lane) -> Vec<(u16, bool)> {
    let mut waiting = lane.waiting();
    let reports = waiting.reports.drain(..);
    let keys = reports.flat_map(|report| report.keys);
    keys.map(|key| (key.code, key.down)).collect()
}

#[test]
fn a_key_is_pressed_by_the_first_viewer_and_let_go_by_the_last() {
    let (typing, keyboard, _) = typing();
    let (mut one, mut two) = (typing.sit(), typing.sit());
    one.take(key(true, 0x61));
    // It repeats: the guest does that itself.
    one.take(key(true, 0x61));
    two.take(key(true, 0x61));
    two.take(key(true, 0xffe1));
    one.take(key(false, 0x61));
    one.take(key(false, 0x61));
    assert_eq!(keys_of(&keyboard), [(30, true), (42, true)]);
    drop(one);
    drop(two);
    assert_eq!(keys_of(&keyboard), [(30, false), (42, false)]);
    assert!(keyboard.waiting().holders.is_empty());
}

#[test]
fn a_key_is_let_go_though_shift_was_first() {
    let (typing, keyboard, _) = typing();
    let mut seat = typing.sit();
    for input in [
        key(true, 0xffe1),
        key(true, 0x41),
        key(false, 0xffe1),
        key(false, 0x61),
        // No key has it.
        key(true, 0x20ac),
    ] {
        seat.take(input);
    }
    let keys = [(42, true), (30, true), (42, false), (30, false)];
    assert_eq!(keys_of(&keyboard), keys);
}

#[test]
fn buttons_are_pressed_where_the_pointer_is_and_wheels_turn_once() {
    let (typing, _, tablet) = typing();
    let mut seat = typing.sit();
    for (x, buttons) in [
        (0, 0),
        (50, 0),
        (99, 1),
        (99, 1 | 8),
        (99, 1),
        (99, 0x70),
        (99, 0x86),
    ] {
        seat.take(pointer(x, buttons));
    }
    let at = |x| Some(Position { x, y: 0 });
    let keys = |keys: &[(u16, bool)]| {
        let keys = keys.iter();
        keys.map(|&(code, down)| Key { code, down }).collect()
    };
    let report = |keys, x, wheel| Report {
        keys,
        at: at(x),
        wheel,
    };
    let last = [(0x112, true), (0x111, true), (0x113, true)];
    let expected = [
        // The first place was of no use any more.
        report(vec![], scaled(50, 100), turn(0, 0)),
        report(keys(&[(0x110, true)]), 32767, turn(0, 0)),
        report(vec![], 32767, turn(1, 0)),
        report(vec![], 32767, turn(0, 0)),
        report(keys(&[(0x110, false)]), 32767, turn(-1, 0)),
        report(keys(&last), 32767, turn(0, 0)),
    ];
    assert_eq!(tablet.waiting().reports, expected);
}

#[test]
fn a_pixel_is_that_pixel_again_for_a_guest_that_rounds_down() {
    for count in [1, 2, 3, 64, 640, 1080, 1920, 4095] {
        for at in 0..count {
            let scaled = u32::from(scaled(at, count));
            assert!(scaled <= u32::from(MAX_COORDINATE));
            let again = scaled * u32::from(count) / (u32::from(MAX_COORDINATE) + 1);
            assert_eq!(again, u32::from(at), "of {count}");
        }
    }
    assert_eq!((scaled(9, 5), scaled(0, 0)), (MAX_COORDINATE, 0));
}

#[test]
fn who_types_more_than_is_taken_is_held_to_a_bound_and_every_key_is_let_go() {
    let (typing, keyboard, tablet) = typing();
    let mut seat = typing.sit();
    for round in 0..5000_u32 {
        let symbol = 0x61 + round % 26;
        seat.take(key(true, symbol));
        seat.take(key(false, symbol));
        let (x, buttons) = ((round % 90) as u16, (round % 256) as u8);
        seat.take(pointer(x, buttons));
    }
    drop(seat);
    for lane in [keyboard, tablet] {
        let count = lane.waiting().reports.len();
        assert!((MANY..2 * MANY).contains(&count), "{count}");
        let mut down = BTreeSet::new();
        for (code, is_down) in keys_of(&lane) {
            assert!(if is_down {
                down.insert(code)
            } else {
                down.remove(&code)
            });
        }
        assert!(down.is_empty());
    }
}

#[test]
fn what_no_worker_took_is_forgotten_but_every_key_is_let_go() {
    let (asking, _running) = input_pair().unwrap();
    let (lane, mut carrier) = Lane::new(InputErrands::new(asking)).unwrap();
    carrier.patience = Duration::ZERO;
    let typing = Typing {
        keyboard: Some(Arc::clone(&lane)),
        tablet: None,
    };
    let mut seat = typing.sit();
    for symbol in [0x61, 0x62, 0x63] {
        seat.take(key(true, symbol));
    }
    let next = || lane.waiting().reports.pop_front().unwrap();
    // Those were given to a worker, which is gone.
    (0..3).for_each(|_| drop(next()));
    for (is_down, symbol) in [
        (false, 0x61),
        (false, 0x62),
        (true, 0x62),
        (true, 0x64),
        (false, 0x63),
        (true, 0x65),
        (false, 0x65),
    ] {
        seat.take(key(is_down, symbol));
    }
    // However often it is given up, and no more than one report is left.
    for _ in 0..3 {
        carrier.carry(&next()).unwrap();
        assert_eq!(lane.waiting().reports.len(), 1);
    }
    assert_eq!(keys_of(&lane), [(18, false), (30, false), (46, false)]);
    // The second key was pressed again, and its hand is still on it, as on the fourth.
    seat.take(key(false, 0x62));
    drop(seat);
    assert_eq!(keys_of(&lane), [(48, false), (32, false)]);
}

/// A worker that takes input, or ends before it has answered the report of this number.
struct Worker {
    path: PathBuf,
    thread: JoinHandle<Vec<InputRecord>>,
}

impl Worker {
    fn start(folder: &Path, dies_at: u64) -> Self {
        let path = folder.join("control");
        let listener = seqpacket::listen_at(&path).unwrap();
        let thread = thread::spawn(move || serve(&listener, dies_at));
        Self { path, thread }
    }

    /// What it was given, once it has ended.
    fn end(self) -> Vec<InputRecord> {
        let given = self.thread.join().unwrap();
        std::fs::remove_file(self.path).unwrap();
        given
    }
}

fn serve(listener: &OwnedFd, dies_at: u64) -> Vec<InputRecord> {
    // A test fails after this rather than hang.
    let patience = Some(Duration::from_secs(20));
    set_socket_timeout(listener, Timeout::Recv, patience).unwrap();
    let asker = accept_with(listener, SocketFlags::CLOEXEC).unwrap();
    set_socket_timeout(&asker, Timeout::Recv, patience).unwrap();
    let answer = |answer| {
        let document = serde_json::to_vec(&answer).unwrap();
        seqpacket::send(&asker, &document, None).unwrap();
    };
    let (document, _) = seqpacket::receive(&asker).unwrap().unwrap();
    let envelope: Envelope = serde_json::from_slice(&document).unwrap();
    assert!(matches!(envelope.request, Request::Input { .. }));
    answer(Answer::Done);
    let mut given = Vec::new();
    loop {
        let (document, _) = seqpacket::receive(&asker).unwrap().unwrap();
        let record: InputRecord = serde_json::from_slice(&document).unwrap();
        given.push(record);
        if given.last().unwrap().number == dies_at {
            return given;
        }
        answer(Answer::Done);
    }
}

#[test]
fn what_a_worker_did_not_answer_is_given_to_the_next_under_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let (asking, running) = input_pair().unwrap();
    let control = folder.path().join("control");
    // Both threads end with the process.
    thread::spawn(move || run_input(&running, &control));
    let (lane, carrier) = Lane::new(InputErrands::new(asking)).unwrap();
    thread::spawn(move || carrier.run());
    let typing = Typing {
        keyboard: Some(Arc::clone(&lane)),
        tablet: None,
    };
    let first = Worker::start(folder.path(), 2);
    let mut seat = typing.sit();
    seat.take(key(true, 0x61));
    seat.take(key(false, 0x61));
    let numbers = |given: Vec<InputRecord>| {
        let given = given.into_iter();
        given.map(|record| record.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(first.end()), [1, 2]);
    let second = Worker::start(folder.path(), 3);
    seat.take(key(true, 0x62));
    assert_eq!(numbers(second.end()), [2, 3]);
    // It holds a key still: so it comes back by itself, and gives what was not answered.
    let third = Worker::start(folder.path(), 4);
    drop(seat);
    assert_eq!(numbers(third.end()), [3, 4]);
}
