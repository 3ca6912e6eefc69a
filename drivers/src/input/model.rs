//! What the types differ in.

use mdev::input::Report;

/// Types of events, and their codes: Linux's `linux/input-event-codes.h`, which virtio takes over.
pub(super) mod event {
    pub(crate) const SYN: u16 = 0x00;
    pub(crate) const KEY: u16 = 0x01;
    pub(crate) const REL: u16 = 0x02;
    pub(crate) const ABS: u16 = 0x03;
    pub(crate) const LED: u16 = 0x11;
    pub(crate) const REP: u16 = 0x14;

    pub(crate) const SYN_REPORT: u16 = 0;
    pub(crate) const REL_HWHEEL: u16 = 0x06;
    pub(crate) const REL_WHEEL: u16 = 0x08;
    pub(crate) const ABS_X: u16 = 0x00;
    pub(crate) const ABS_Y: u16 = 0x01;
}

/// One more than the largest number of a key; `KEY_CNT`.
pub(super) const KEYS: u16 = 0x300;

/// The keys of a keyboard: `KEY_ESC` to `KEY_MICMUTE`, all that such keyboards have ever had.
const KEYBOARD: std::ops::RangeInclusive<u16> = 1..=248;

/// `BTN_LEFT`, `BTN_RIGHT`, `BTN_MIDDLE`, `BTN_SIDE`, `BTN_EXTRA`.
const BUTTONS: std::ops::RangeInclusive<u16> = 0x110..=0x114;

/// One type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// The type's name.
    pub(super) name: &'static str,
    /// What the guest calls it.
    pub(super) product: &'static str,
    /// Its number among ours.
    pub(super) number: u16,
    /// The last byte of its PCI class, below that of input devices.
    pub(super) class: u8,
    pub(super) is_pointer: bool,
}

/// The types.
pub(super) const MODELS: [Model; 2] = [
    Model {
        name: "input-keyboard",
        product: "vgpud keyboard",
        number: 1,
        class: 0x00, // keyboard
        is_pointer: false,
    },
    Model {
        name: "input-tablet",
        product: "vgpud tablet",
        number: 2,
        class: 0x80, // other
        is_pointer: true,
    },
];

impl Model {
    /// Whether it has a key.
    pub(super) fn has_key(&self, code: u16) -> bool {
        match self.is_pointer {
            true => BUTTONS.contains(&code),
            false => KEYBOARD.contains(&code),
        }
    }

    /// Whether it has all that a report is of.
    pub(super) fn knows(&self, report: &Report) -> bool {
        let moves = report.at.is_some() || report.wheel != Default::default();
        let is_inside = report.at.is_none_or(|at| {
            let largest = mdev::input::MAX_COORDINATE;
            at.x <= largest && at.y <= largest
        });
        let mut keys = report.keys.iter();
        (self.is_pointer || !moves) && is_inside && keys.all(|key| self.has_key(key.code))
    }

    /// Which codes of a type of events it has; empty if it has none. Repetition is the driver's: it
    /// has no codes, and is there.
    pub(super) fn codes(&self, kind: u16) -> Vec<u16> {
        match (kind, self.is_pointer) {
            (event::KEY, _) => (0..KEYS).filter(|code| self.has_key(*code)).collect(),
            (event::REL, true) => vec![event::REL_HWHEEL, event::REL_WHEEL],
            (event::ABS, true) => vec![event::ABS_X, event::ABS_Y],
            // NUM, CAPS, SCROLL.
            (event::LED, false) => vec![0, 1, 2],
            _ => Vec::new(),
        }
    }
}
