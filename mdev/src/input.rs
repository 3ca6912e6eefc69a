//! What people do at a display, on its way into a device: keys, a pointer, wheels.
//!
//! A device that takes input attaches a [`Taker`]. Whoever has input opens a [`Seat`] and gives it
//! [`Report`]s, each taken as a whole. What a seat has pressed is let go when the seat is dropped.
//!
//! Reports are numbered within a stream, and a taker remembers the last numbers, where they outlive
//! its process: so who does not know whether a report was taken, the process being gone, sends it
//! again to the next one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Most keys that one report may change.
pub const MAX_KEYS: usize = 16;

/// The largest coordinate of a pointer, on both axes.
pub const MAX_COORDINATE: u16 = 32767;

/// What happened at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Keys and buttons that were pressed or let go, in this order: at most [`MAX_KEYS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
    /// Where the pointer is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Position>,
    /// How far wheels were turned.
    #[serde(default, skip_serializing_if = "Turn::is_none")]
    pub wheel: Turn,
}

/// A key or a button that was pressed or let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Linux's number of it; `KEY_*` and `BTN_*` in `linux/input-event-codes.h`.
    pub code: u16,
    /// Which of the two.
    pub down: bool,
}

/// Where a pointer is: from 0 to [`MAX_COORDINATE`], whatever the size of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// From the left.
    pub x: u16,
    /// From above.
    pub y: u16,
}

/// How far wheels were turned, in notches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Up, or down if negative.
    #[serde(default)]
    pub vertical: i8,
    /// To the right, or to the left if negative.
    #[serde(default)]
    pub horizontal: i8,
}

impl Turn {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What a device does with input. Called by one thread at a time, which it must not hold up.
pub trait Taker: Send {
    /// Whether it has every key, and the pointer and the wheels if they are used.
    fn knows(&self, report: &Report) -> bool;

    /// Takes a report, unless it is one that was taken: of this stream, with this number or a
    /// higher one. Stream 0 has no numbers.
    fn take(&mut self, stream: u64, number: u64, report: &Report);

    /// Whether reports of a stream were taken, of late.
    fn remembers(&self, stream: u64) -> bool;

    /// What is pressed.
    fn pressed(&self) -> Vec<u16>;
}

/// Why input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The device takes none.
    #[error("this device takes no input")]
    None,
    /// The device has no such key, no pointer or no wheel, or the report is too long.
    #[error("this device has no such key or axis, or there are too many at once")]
    Unknown,
    /// Another process is about to go on with the device, or is still at it.
    #[error("another worker goes on with this device")]
    Elsewhere,
}

/// The way into a device. Clones lead to the same.
#[derive(Clone, Default)]
pub struct InputPort {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    taker: Option<Box<dyn Taker>>,
    is_elsewhere: bool,
    /// What seats have pressed, each with the number of its seat.
    held: BTreeSet<(u64, u16)>,
    seats: u64,
}

impl std::fmt::Debug for InputPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.is_attached() { "taken" } else { "none" };
        write!(f, "InputPort({state})")
    }
}

impl InputPort {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives all input to `taker`.
    pub fn attach(&self, taker: Box<dyn Taker>) {
        self.lock().taker = Some(taker);
    }

    /// Whether the device takes input.
    pub fn is_attached(&self) -> bool {
        self.lock().taker.is_some()
    }

    /// Takes nothing more until [`Self::go_on`]: on return the device's taker is not at work, and
    /// its memory can be another process's.
    pub fn hold(&self) {
        self.lock().is_elsewhere = true;
    }

    /// Takes input again.
    pub fn go_on(&self) {
        self.lock().is_elsewhere = false;
    }

    /// A seat for the reports of a stream. If they went to another process before, what that stream
    /// has pressed is this seat's now.
    pub fn open(&self, stream: u64) -> Result<Seat, InputError> {
        let mut shared = self.lock();
        let taker = shared.taker.as_ref().ok_or(InputError::None)?;
        let mut left = match taker.remembers(stream) {
            true => taker.pressed(),
            false => Vec::new(),
        };
        shared.seats += 1;
        let number = shared.seats;
        left.retain(|code| !shared.is_held(*code));
        shared.held.extend(left.iter().map(|code| (number, *code)));
        Ok(Seat {
            port: self.clone(),
            stream,
            number,
        })
    }

    /// Lets go of what no seat has pressed: it was pressed by one of another process, which did not
    /// come back.
    pub fn release_unheld(&self) {
        let mut shared = self.lock();
        let pressed = shared.taker.as_ref().map(|taker| taker.pressed());
        let mut unheld = pressed.unwrap_or_default();
        unheld.retain(|code| !shared.is_held(*code));
        shared.release(&unheld);
    }
}

impl Shared {
    fn is_held(&self, code: u16) -> bool {
        self.held.iter().any(|(_, held)| *held == code)
    }

    /// Lets keys go, unless another process is at it: it lets them go then.
    fn release(&mut self, codes: &[u16]) {
        let Some(taker) = self.taker.as_mut().filter(|_| !self.is_elsewhere) else {
            return;
        };
        for codes in codes.chunks(MAX_KEYS) {
            let keys = codes.iter().map(|&code| Key { code, down: false });
            let report = Report {
                keys: keys.collect(),
                ..Report::default()
            };
            taker.take(0, 0, &report);
        }
    }
}

/// Where somebody sits. Dropping it lets go of what was pressed there.
#[derive(Debug)]
pub struct Seat {
    port: InputPort,
    stream: u64,
    number: u64,
}

impl Seat {
    /// Takes a report, whose number is higher than those before. One that was taken, by another
    /// process perhaps, is not taken again.
    pub fn take(&self, number: u64, report: &Report) -> Result<(), InputError> {
        let mut shared = self.port.lock();
        let shared = &mut *shared;
        if shared.is_elsewhere {
            return Err(InputError::Elsewhere);
        }
        let taker = shared.taker.as_mut().ok_or(InputError::None)?;
        if report.keys.len() > MAX_KEYS || !taker.knows(report) {
            return Err(InputError::Unknown);
        }
        taker.take(self.stream, number, report);
        for Key { code, down } in &report.keys {
            match down {
                true => shared.held.insert((self.number, *code)),
                false => shared.held.remove(&(self.number, *code)),
            };
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shared = self.port.lock();
        let own = (self.number, 0)..=(self.number, u16::MAX);
        let mut codes: Vec<_> = shared.held.range(own).map(|(_, code)| *code).collect();
        shared.held.retain(|(seat, _)| *seat != self.number);
        codes.retain(|code| !shared.is_held(*code));
        shared.release(&codes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was given.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<Given>>);

    #[derive(Default)]
    struct Given {
        reports: Vec<Report>,
        streams: Vec<u64>,
        pressed: BTreeSet<u16>,
    }

    impl Taker for Fake {
        fn knows(&self, report: &Report) -> bool {
            report.keys.iter().all(|key| key.code < 100)
        }

        fn take(&mut self, stream: u64, _: u64, report: &Report) {
            let mut all = self.0.lock().unwrap();
            all.reports.push(report.clone());
            all.streams.push(stream);
            for key in &report.keys {
                match key.down {
                    true => all.pressed.insert(key.code),
                    false => all.pressed.remove(&key.code),
                };
            }
        }

        fn remembers(&self, stream: u64) -> bool {
            self.0.lock().unwrap().streams.contains(&stream)
        }

        fn pressed(&self) -> Vec<u16> {
            self.0.lock().unwrap().pressed.iter().copied().collect()
        }
    }

    fn press(codes: &[u16]) -> Report {
        let keys = codes.iter().map(|&code| Key { code, down: true });
        Report {
            keys: keys.collect(),
            ..Report::default()
        }
    }

    fn port() -> (InputPort, Fake) {
        let (port, fake) = (InputPort::default(), Fake::default());
        port.attach(Box::new(fake.clone()));
        (port, fake)
    }

    #[test]
    fn what_a_seat_has_pressed_is_let_go_with_it_unless_another_holds_it_too() {
        let (port, fake) = port();
        let (one, two) = (port.open(1).unwrap(), port.open(2).unwrap());
        one.take(1, &press(&[30, 31])).unwrap();
        two.take(1, &press(&[31])).unwrap();
        drop(one);
        assert_eq!(fake.pressed(), [31]);
        drop(two);
        assert!(fake.pressed().is_empty());
    }

    #[test]
    fn what_is_not_known_is_refused_whole() {
        let (port, fake) = port();
        let seat = port.open(1).unwrap();
        let many = [1; MAX_KEYS + 1];
        for report in [press(&[1, 100]), press(&many)] {
            assert_eq!(seat.take(1, &report), Err(InputError::Unknown));
        }
        assert!(fake.pressed().is_empty());
        let none = InputPort::default().open(1);
        assert_eq!(none.unwrap_err(), InputError::None);
    }

    #[test]
    fn nothing_is_written_while_another_process_is_at_it() {
        let (port, fake) = port();
        let seat = port.open(1).unwrap();
        seat.take(1, &press(&[30])).unwrap();
        port.hold();
        assert_eq!(seat.take(2, &press(&[31])), Err(InputError::Elsewhere));
        drop(seat);
        port.release_unheld();
        assert_eq!(fake.pressed(), [30]);
        port.go_on();
        port.release_unheld();
        assert!(fake.pressed().is_empty());
    }

    #[test]
    fn who_comes_back_holds_what_it_held_and_the_rest_is_let_go() {
        let (port, mut fake) = port();
        fake.take(7, 1, &press(&[30]));
        let seat = port.open(7).unwrap();
        fake.take(8, 1, &press(&[40]));
        port.release_unheld();
        assert_eq!(fake.pressed(), [30]);
        drop(seat);
        assert!(fake.pressed().is_empty());
    }

    #[test]
    fn a_report_keeps_its_form() {
        let report = Report {
            keys: press(&[30]).keys,
            at: Some(Position { x: 1, y: 2 }),
            wheel: Turn {
                vertical: -1,
                horizontal: 0,
            },
        };
        let json = r#"{"keys":[{"code":30,"down":true}],"at":{"x":1,"y":2},"wheel":{"vertical":-1,"horizontal":0}}"#;
        assert_eq!(serde_json::to_string(&report).unwrap(), json);
        assert_eq!(serde_json::from_str::<Report>(json).unwrap(), report);
        let none = serde_json::from_str::<Report>("{}").unwrap();
        assert_eq!(none, Report::default());
        assert!(serde_json::from_str::<Report>(r#"{"kyes":[]}"#).is_err());
    }
}
