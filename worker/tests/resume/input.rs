//! Workers are killed and replaced while someone types, and the guest hears each key once.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ::worker::control::Control;
use ::worker::parking::CLIENT;
use mdev::input::{Key, Report};
use virtio::feature;
use virtio::guest::{End, FREE, Guest, WRITE};

use crate::dma::{kill_under, kills};
use crate::host::{DEADLINE, Host};

/// Whoever types, over whatever worker there is.
struct Typist {
    control: PathBuf,
    connection: Option<Control>,
    number: u64,
}

impl Typist {
    fn new(host: &Host) -> Self {
        Self {
            control: host.path("control"),
            connection: None,
            number: 0,
        }
    }

    fn type_key(&mut self, code: u16, down: bool) {
        self.number += 1;
        let report = Report {
            keys: vec![Key { code, down }],
            ..Report::default()
        };
        let begin = Instant::now();
        while !self.give(report.clone()) {
            assert!(begin.elapsed() < DEADLINE, "nobody takes it");
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Whether a worker says that it has it.
    fn give(&mut self, report: Report) -> bool {
        if self.connection.is_none() {
            let reached = Control::connect(&self.control);
            let reached = reached.and_then(|control| control.input(77).map(|()| control));
            self.connection = reached.ok();
        }
        let given = self.connection.as_ref();
        let is_given = given.is_some_and(|control| control.give(self.number, report).is_ok());
        if !is_given {
            self.connection = None;
        }
        is_given
    }
}

/// The next event: type, code, value.
fn event(guest: &mut Guest) -> (u16, u16, u32) {
    guest.describe(0, &[(FREE, 8, WRITE, 0)]);
    guest.kick(0, 0, 1);
    assert_eq!(guest.wait(0), End::Used(8));
    let bytes = guest.look(FREE, 8);
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    (short(0), short(2), u32::from(short(4)))
}

fn check_key(guest: &mut Guest, typist: &mut Typist, code: u16) {
    for down in [true, false] {
        typist.type_key(code, down);
        assert_eq!(event(guest), (1, code, down.into()));
        assert_eq!(event(guest), (0, 0, 0));
    }
}

#[test]
fn no_key_is_lost_or_doubled_by_a_keyboard_whose_worker_is_killed() {
    let mut host = Host::start("input-keyboard");
    let mut guest = Guest::new(host.connect(), feature::EVENT_IDX);
    host.wait_parked(CLIENT);
    let mut typist = Typist::new(&host);
    kill_under(&mut host, kills(), move |turn| {
        if turn % 8 == 0 {
            guest.set_up(feature::EVENT_IDX);
        }
        check_key(&mut guest, &mut typist, 1 + (turn % 100) as u16);
    });
    host.stop();
}

#[test]
fn what_is_held_while_another_worker_takes_over_is_let_go_by_who_held_it() {
    let mut host = Host::start("input-keyboard");
    let mut guest = Guest::new(host.connect(), 0);
    host.wait_parked(CLIENT);
    let mut typist = Typist::new(&host);
    check_key(&mut guest, &mut typist, 30);
    for code in 31..41 {
        typist.type_key(code, true);
        assert_eq!(event(&mut guest), (1, code, 1));
        assert!(host.upgrade().unwrap().exact);
        assert_eq!(event(&mut guest), (0, 0, 0));
        // It comes back, and leaves for good.
        typist.type_key(code, true);
        typist.connection = None;
        assert_eq!(event(&mut guest), (1, code, 0));
        assert_eq!(event(&mut guest), (0, 0, 0));
    }
    host.stop();
}
