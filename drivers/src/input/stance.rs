//! What is pressed and where the pointer is, and the events that lead from one to another.

use mdev::input::{Key, Position, Report};
use mdev::state::{Fields, StateError};

use super::model::{KEYS, Model, event};

/// One event, as the driver gets it (`struct virtio_input_event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: u16,
    pub(super) code: u16,
    pub(super) value: u32,
}

/// Bytes of an event.
pub(super) const EVENT: usize = 8;

impl Event {
    const fn new(kind: u16, code: u16, value: u32) -> Self {
        Self { kind, code, value }
    }

    /// The end of a report.
    const REPORT: Self = Self::new(event::SYN, event::SYN_REPORT, 0);

    pub(super) fn emit(self) -> [u8; EVENT] {
        let [a, b] = self.kind.to_le_bytes();
        let [c, d] = self.code.to_le_bytes();
        let [e, f, g, h] = self.value.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    pub(super) fn parse(bytes: [u8; EVENT]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            kind: u16::from_le_bytes([a, b]),
            code: u16::from_le_bytes([c, d]),
            value: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// Words of [`Stance::pressed`].
const WORDS: usize = KEYS as usize / 64;

/// Bytes of a stance.
pub(super) const STANCE: usize = WORDS * 8 + 5;

/// What is pressed, and where the pointer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stance {
    /// A bit for each key.
    pressed: [u64; WORDS],
    /// `None` until it was moved.
    at: Option<Position>,
}

impl Stance {
    fn is_pressed(&self, code: u16) -> bool {
        let word = self.pressed.get(usize::from(code / 64));
        word.is_some_and(|word| word & (1 << (code % 64)) != 0)
    }

    /// Whether the key was not so before.
    fn set(&mut self, key: Key) -> bool {
        let had = self.is_pressed(key.code);
        if let Some(word) = self.pressed.get_mut(usize::from(key.code / 64)) {
            let bit = 1 << (key.code % 64);
            *word = if key.down { *word | bit } else { *word & !bit };
        }
        had != key.down
    }

    /// The keys that are down.
    pub(super) fn pressed(&self) -> Vec<u16> {
        (0..KEYS).filter(|code| self.is_pressed(*code)).collect()
    }

    /// Takes part of it from another: the pointer's events come first, so that a button is pressed
    /// where the pointer is by then.
    fn move_to(&mut self, at: Option<Position>, events: &mut Vec<Event>) {
        let Some(at) = at else {
            return;
        };
        let before = self.at.replace(at);
        if before.is_none_or(|before| before.x != at.x) {
            events.push(Event::new(event::ABS, event::ABS_X, at.x.into()));
        }
        if before.is_none_or(|before| before.y != at.y) {
            events.push(Event::new(event::ABS, event::ABS_Y, at.y.into()));
        }
    }

    fn press(&mut self, key: Key, events: &mut Vec<Event>) {
        if self.set(key) {
            events.push(Event::new(event::KEY, key.code, key.down.into()));
        }
    }

    /// Does what a report says; the events of that, none if nothing changes.
    pub(super) fn follow(&mut self, report: &Report) -> Vec<Event> {
        let mut events = Vec::new();
        self.move_to(report.at, &mut events);
        for key in &report.keys {
            self.press(*key, &mut events);
        }
        for (code, notches) in [
            (event::REL_WHEEL, report.wheel.vertical),
            (event::REL_HWHEEL, report.wheel.horizontal),
        ] {
            if notches != 0 {
                let value = i32::from(notches).cast_unsigned();
                events.push(Event::new(event::REL, code, value));
            }
        }
        ended(events)
    }

    /// Becomes another; the events of that. What is let go comes first.
    pub(super) fn become_as(&mut self, other: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        self.move_to(other.at, &mut events);
        for down in [false, true] {
            for code in (0..KEYS).filter(|code| other.is_pressed(*code) == down) {
                self.press(Key { code, down }, &mut events);
            }
        }
        ended(events)
    }

    /// Events after which a driver knows all of it, whatever it knew before.
    pub(super) fn in_full(&self, model: &Model) -> Vec<Event> {
        let mut events = Vec::new();
        Self::default().move_to(self.at, &mut events);
        for down in [false, true] {
            for code in (0..KEYS).filter(|code| model.has_key(*code)) {
                if self.is_pressed(code) == down {
                    events.push(Event::new(event::KEY, code, down.into()));
                }
            }
        }
        ended(events)
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        for word in self.pressed {
            out.extend(word.to_le_bytes());
        }
        out.push(self.at.is_some().into());
        let at = self.at.unwrap_or(Position { x: 0, y: 0 });
        out.extend(at.x.to_le_bytes());
        out.extend(at.y.to_le_bytes());
    }

    pub(super) fn parse(saved: &mut Fields<'_>) -> Result<Self, StateError> {
        let mut stance = Self::default();
        for word in &mut stance.pressed {
            *word = saved.u64()?;
        }
        let is_known = saved.bool()?;
        let at = Position {
            x: saved.u16()?,
            y: saved.u16()?,
        };
        stance.at = is_known.then_some(at);
        Ok(stance)
    }

    /// Whether a device of this model can be so.
    pub(super) fn is_of(&self, model: &Model) -> bool {
        let report = Report {
            at: self.at,
            ..Report::default()
        };
        let mut pressed = self.pressed().into_iter();
        model.knows(&report) && pressed.all(|code| model.has_key(code))
    }
}

fn ended(mut events: Vec<Event>) -> Vec<Event> {
    if !events.is_empty() {
        events.push(Event::REPORT);
    }
    events
}

#[cfg(test)]
mod tests {
    use mdev::input::Turn;
    use proptest::prelude::*;

    use super::super::model::MODELS;
    use super::*;

    fn key(code: u16, down: bool) -> Key {
        Key { code, down }
    }

    fn shown(events: &[Event]) -> Vec<(u16, u16, u32)> {
        let shown = events.iter();
        shown
            .map(|event| (event.kind, event.code, event.value))
            .collect()
    }

    #[test]
    fn a_report_is_the_pointer_then_keys_then_wheels_and_its_end() {
        let mut stance = Stance::default();
        let report = Report {
            keys: vec![key(0x110, true)],
            at: Some(Position { x: 5, y: 7 }),
            wheel: Turn {
                vertical: -1,
                horizontal: 2,
            },
        };
        let turns = [(2, 8, u32::MAX), (2, 6, 2), (0, 0, 0)];
        let first = [(3, 0, 5), (3, 1, 7), (1, 0x110, 1)];
        let all = [&first[..], &turns].concat();
        assert_eq!(shown(&stance.follow(&report)), all);
        // What is so already is not told again; wheels have no state.
        assert_eq!(shown(&stance.follow(&report)), turns);
    }

    #[test]
    fn nothing_new_is_no_report() {
        let mut stance = Stance::default();
        assert!(stance.follow(&Report::default()).is_empty());
        let release = Report {
            keys: vec![key(30, false)],
            ..Report::default()
        };
        assert!(stance.follow(&release).is_empty());
    }

    #[test]
    fn what_was_missed_is_made_up_for_with_releases_first() {
        let mut known = Stance::default();
        known.set(key(30, true));
        let mut now = Stance::default();
        now.set(key(29, true));
        now.at = Some(Position { x: 1, y: 2 });
        let events = known.become_as(&now);
        let all = [(3, 0, 1), (3, 1, 2), (1, 30, 0), (1, 29, 1), (0, 0, 0)];
        assert_eq!(shown(&events), all);
        assert_eq!(known, now);
        assert!(known.become_as(&now).is_empty());
    }

    proptest! {
        #[test]
        fn a_stance_comes_back_as_it_was(codes in prop::collection::vec(0..KEYS, 0..20), at: Option<(u16, u16)>) {
            let mut stance = Stance::default();
            for code in codes {
                stance.set(key(code, true));
            }
            stance.at = at.map(|(x, y)| Position { x, y });
            let mut bytes = Vec::new();
            stance.emit(&mut bytes);
            prop_assert_eq!(bytes.len(), STANCE);
            prop_assert_eq!(Stance::parse(&mut Fields::of_registers(&bytes)).unwrap(), stance);
        }
    }

    #[test]
    fn a_stance_of_another_model_is_told() {
        let [keyboard, tablet] = MODELS;
        let mut stance = Stance::default();
        assert!(stance.is_of(&keyboard) && stance.is_of(&tablet));
        stance.set(key(30, true));
        assert!(stance.is_of(&keyboard) && !stance.is_of(&tablet));
        stance.at = Some(Position { x: 0, y: 0 });
        assert!(!stance.is_of(&keyboard));
        stance.set(key(30, false));
        assert!(stance.is_of(&tablet));
        stance.at = Some(Position { x: 32768, y: 0 });
        assert!(!stance.is_of(&tablet));
    }
}
