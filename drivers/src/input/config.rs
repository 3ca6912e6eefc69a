//! The configuration (`struct virtio_input_config`): the driver selects what it wants to know, and
//! reads it.

use mdev::input::MAX_COORDINATE;

use super::model::{Model, event};

/// Bytes before what was selected: the selection, its length, and nothing.
const HEAD: usize = 8;
/// Bytes of what was selected, at most.
const ROOM: usize = 128;

/// What can be selected; `VIRTIO_INPUT_CFG_*`.
mod select {
    pub(super) const ID_NAME: u8 = 0x01;
    pub(super) const ID_SERIAL: u8 = 0x02;
    pub(super) const ID_DEVIDS: u8 = 0x03;
    pub(super) const PROP_BITS: u8 = 0x10;
    pub(super) const EV_BITS: u8 = 0x11;
    pub(super) const ABS_INFO: u8 = 0x12;
}

/// `BUS_VIRTUAL`.
const BUS: u16 = 0x06;
/// Virtio's number as a vendor.
const VENDOR: u16 = 0x1af4;
const VERSION: u16 = 1;

/// What the driver has selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) what: u8,
    pub(super) which: u8,
}

impl Selection {
    /// The whole configuration of a device of which this is selected.
    pub(super) fn config(self, model: &Model) -> Vec<u8> {
        let selected = self.selected(model);
        let mut config = vec![self.what, self.which, selected.len() as u8];
        config.resize(HEAD, 0);
        config.extend(selected);
        config.resize(HEAD + ROOM, 0);
        config
    }

    /// The driver writes to the configuration.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            match at {
                0 => self.what = *byte,
                1 => self.which = *byte,
                _ => {}
            }
        }
    }

    /// At most [`ROOM`] bytes; none if there is no such thing.
    fn selected(self, model: &Model) -> Vec<u8> {
        match (self.what, self.which) {
            (select::ID_NAME, 0) => model.product.as_bytes().to_vec(),
            // Every instance has one of each: there is nothing to tell them by.
            (select::ID_SERIAL, 0) => b"0".to_vec(),
            (select::ID_DEVIDS, 0) => {
                let ids = [BUS, VENDOR, model.number, VERSION];
                ids.map(u16::to_le_bytes).concat()
            }
            // None of them fits: it is neither a screen nor a pad.
            (select::PROP_BITS, 0) => Vec::new(),
            (select::EV_BITS, kind) => bits(model, kind.into()),
            (select::ABS_INFO, axis) if model.codes(event::ABS).contains(&axis.into()) => {
                // Smallest, largest, fuzz, flat, resolution.
                let info = [0, u32::from(MAX_COORDINATE), 0, 0, 0];
                info.map(u32::to_le_bytes).concat()
            }
            _ => Vec::new(),
        }
    }
}

/// The codes of a type of events, a bit each.
fn bits(model: &Model, kind: u16) -> Vec<u8> {
    if kind == event::REP && !model.is_pointer {
        return vec![0];
    }
    let codes = model.codes(kind);
    let len = codes.last().map_or(0, |last| usize::from(*last) / 8 + 1);
    let mut bits = vec![0; len];
    for code in codes {
        if let Some(byte) = bits.get_mut(usize::from(code) / 8) {
            *byte |= 1 << (code % 8);
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::super::model::MODELS;
    use super::*;

    fn read(model: &Model, what: u8, which: u8) -> Vec<u8> {
        let mut selection = Selection::default();
        selection.write(0, &[what]);
        selection.write(1, &[which]);
        let config = selection.config(model);
        assert_eq!(config.len(), HEAD + ROOM);
        assert_eq!(config[..2], [what, which]);
        assert_eq!(config[3..HEAD], [0; 5]);
        let len = usize::from(config[2]);
        assert!(config[HEAD + len..].iter().all(|byte| *byte == 0));
        config[HEAD..HEAD + len].to_vec()
    }

    #[test]
    fn a_driver_learns_what_each_type_is() {
        let [keyboard, tablet] = MODELS;
        assert_eq!(read(&keyboard, 1, 0), b"vgpud keyboard");
        assert_eq!(read(&tablet, 1, 0), b"vgpud tablet");
        assert_eq!(read(&tablet, 3, 0), [6, 0, 0xf4, 0x1a, 2, 0, 1, 0]);
        // All keys of the first two bytes but the one that does not exist.
        assert_eq!(read(&keyboard, 0x11, 1)[..2], [0xfe, 0xff]);
        assert_eq!(read(&keyboard, 0x11, 0x11), [7]);
        assert_eq!(read(&keyboard, 0x11, 0x14), [0]);
        assert_eq!(read(&tablet, 0x11, 1)[0x110 / 8..], [0x1f]);
        assert_eq!(read(&tablet, 0x11, 2), [0x40, 1]);
        assert_eq!(read(&tablet, 0x11, 3), [3]);
        let info = [0, 32767, 0, 0, 0].map(u32::to_le_bytes).concat();
        assert_eq!(read(&tablet, 0x12, 0), info);
        assert_eq!(read(&tablet, 0x12, 1), info);
    }

    #[test]
    fn whatever_else_is_selected_is_empty() {
        let known = [0x01, 0x02, 0x03, 0x11, 0x12];
        for model in MODELS {
            for what in 0..=u8::MAX {
                for which in 0..=u8::MAX {
                    let found = read(&model, what, which);
                    assert!(found.is_empty() || known.contains(&what), "{what}, {which}");
                }
            }
            for (what, which) in [(0x01, 1), (0x11, 0), (0x11, 4), (0x12, 2), (0x10, 0)] {
                assert!(read(&model, what, which).is_empty());
            }
        }
        assert!(read(&MODELS[0], 0x12, 0).is_empty());
        assert!(read(&MODELS[1], 0x11, 0x14).is_empty());
    }
}
