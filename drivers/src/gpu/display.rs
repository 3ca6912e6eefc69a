//! The monitors, as the operator has set them and whoever looks at them wishes them to be; and what the
//! driver is told of them.

use mdev::device::ResizeError;
use mdev::state::{Fields, StateError};

use super::model::{MAX_HEADS, Model};
use super::protocol::{EDID_ROOM, EVENT_DISPLAY, MAX_SCANOUTS};
use crate::monitor::{Mode, edid};

/// How a saved state begins in which there can be several heads. One without begins with the width of
/// a mode, which this is none of.
const SEVERAL_HEADS: u16 = 0;

/// What the monitors are, for both threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Display {
    /// How many are on, from the first.
    pub(super) heads: usize,
    /// The modes that the operator has them prefer, those that are off too.
    pub(super) modes: [Mode; MAX_HEADS],
    /// What someone who looks at one wishes.
    pub(super) wishes: [Option<Mode>; MAX_HEADS],
    /// What the driver has not heard of.
    pub(super) events: u32,
}

impl Display {
    /// One monitor, of the largest mode.
    pub(super) fn new(model: &Model) -> Self {
        Self {
            heads: 1,
            modes: [model.largest; MAX_HEADS],
            wishes: [None; MAX_HEADS],
            events: 0,
        }
    }

    /// The mode that a head prefers now.
    pub(super) fn mode(&self, head: usize) -> Option<Mode> {
        let wish = self.wishes.get(head)?;
        wish.or_else(|| self.modes.get(head).copied())
    }

    /// The modes of the operator's, in the form of the attribute.
    pub(super) fn modes(&self, model: &Model) -> String {
        let modes = self.modes.get(..model.heads).unwrap_or(&self.modes);
        let last = modes.last();
        // The last one counts for those after it.
        let same = modes.iter().rev().take_while(|mode| Some(*mode) == last);
        let told = modes.iter().take(modes.len() + 1 - same.count());
        let told: Vec<_> = told.map(Mode::to_string).collect();
        told.join(",")
    }

    /// Sets the modes; what anyone has wished is over. Whether the driver is to be told.
    pub(super) fn set_modes(&mut self, modes: [Mode; MAX_HEADS]) -> bool {
        self.change(|display| {
            display.modes = modes;
            display.wishes = [None; MAX_HEADS];
        })
    }

    /// Turns heads on or off. Whether the driver is to be told.
    pub(super) fn set_heads(&mut self, heads: usize) -> bool {
        self.change(|display| display.heads = heads)
    }

    /// Has a head prefer another mode. Whether the driver is to be told.
    pub(super) fn wish(
        &mut self,
        model: &Model,
        head: u32,
        width: u32,
        height: u32,
    ) -> Result<bool, ResizeError> {
        let index = head as usize;
        if index >= self.heads {
            return Err(ResizeError::NoHead(head));
        }
        let side = |side: u32| u16::try_from(side).ok();
        let mode = side(width).zip(side(height));
        let mode = mode
            .map(|(width, height)| Mode::new(width, height))
            .filter(|mode| model.takes(*mode))
            .ok_or_else(|| ResizeError::Invalid {
                width,
                height,
                reason: format!("its sides are {}", model.sizes()),
            })?;
        Ok(self.change(|display| {
            if let Some(wish) = display.wishes.get_mut(index) {
                *wish = Some(mode);
            }
        }))
    }

    /// Changes something. Whether that changes what the driver sees, of which there is an event then.
    fn change(&mut self, change: impl FnOnce(&mut Self)) -> bool {
        let seen = |display: &Self| -> Vec<_> {
            let heads = 0..display.heads;
            heads.map(|head| display.mode(head)).collect()
        };
        let before = seen(self);
        change(self);
        let has_changed = seen(self) != before;
        if has_changed {
            self.events |= EVENT_DISPLAY;
        }
        has_changed
    }

    /// What follows the header of `struct virtio_gpu_resp_display_info`: the monitors stand side by
    /// side, the first at the left.
    pub(super) fn info(&self) -> Vec<u8> {
        const ENABLED: u32 = 1;
        let mut x = 0;
        let mut body = Vec::with_capacity(24 * MAX_SCANOUTS);
        for head in 0..MAX_SCANOUTS {
            let words = match self.mode(head).filter(|_| head < self.heads) {
                Some(mode) => [x, 0, mode.width.into(), mode.height.into(), ENABLED, 0],
                None => [0; 6],
            };
            x += words[2];
            words
                .iter()
                .for_each(|word| body.extend(word.to_le_bytes()));
        }
        body
    }

    /// What follows the header of `struct virtio_gpu_resp_edid`, of a head that may be off.
    pub(super) fn edid(&self, model: &Model, head: u32) -> Option<Vec<u8>> {
        let mode = self.mode(head as usize)?;
        // Some compositors tell monitors apart by it. That of the only one is none.
        let block = edid::numbered_block(mode, model.largest, head);
        let mut body = (block.len() as u32).to_le_bytes().to_vec();
        body.extend([0; 4]);
        body.extend(&block);
        body.resize(8 + EDID_ROOM, 0);
        Some(body)
    }

    /// Appends it, as it is saved.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.extend(SEVERAL_HEADS.to_le_bytes());
        out.push(self.heads as u8);
        let none = Mode::new(0, 0);
        let wishes = self.wishes.iter().map(|wish| wish.unwrap_or(none));
        for mode in self.modes.into_iter().chain(wishes) {
            out.extend(mode.width.to_le_bytes());
            out.extend(mode.height.to_le_bytes());
        }
        out.extend(self.events.to_le_bytes());
    }

    /// Takes what [`Self::save`] has written, or a build for which there was one head. The modes come
    /// along, as the guest has read them in the EDIDs.
    pub(super) fn load(model: &Model, saved: &mut Fields<'_>) -> Result<Self, StateError> {
        let mut display = Self::new(model);
        match saved.u16()? {
            SEVERAL_HEADS => {
                display.heads = saved.u8()?.into();
                for mode in &mut display.modes {
                    *mode = Mode::new(saved.u16()?, saved.u16()?);
                }
                for wish in &mut display.wishes {
                    let mode = Mode::new(saved.u16()?, saved.u16()?);
                    *wish = (mode != Mode::new(0, 0)).then_some(mode);
                }
            }
            width => display.modes = [Mode::new(width, saved.u16()?); MAX_HEADS],
        }
        display.events = saved.u32()?;
        let wishes = display.wishes.into_iter().flatten();
        let mut modes = display.modes.into_iter().chain(wishes);
        let is_possible = (1..=model.heads).contains(&display.heads)
            && modes.all(|mode| model.takes(mode))
            && display.events & !EVENT_DISPLAY == 0;
        match is_possible {
            true => Ok(display),
            false => Err(StateError::registers("the display cannot be like that")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::MODELS;
    use super::*;

    const MODEL: Model = MODELS[0];

    fn words(body: &[u8]) -> Vec<u32> {
        let words = body.chunks(4);
        words
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn monitors_stand_side_by_side_and_those_that_are_off_nowhere() {
        let mut display = Display::new(&MODEL);
        assert!(display.set_modes(MODEL.parse_modes("800x600,640x480").unwrap()));
        assert!(display.set_heads(3));
        let info = words(&display.info());
        assert_eq!(info.len(), 6 * MAX_SCANOUTS);
        assert_eq!(info[..6], [0, 0, 800, 600, 1, 0]);
        assert_eq!(info[6..12], [800, 0, 640, 480, 1, 0]);
        assert_eq!(info[12..18], [1440, 0, 640, 480, 1, 0]);
        assert!(info[18..].iter().all(|word| *word == 0));
        assert_eq!(display.modes(&MODEL), "800x600,640x480");
    }

    #[test]
    fn the_driver_is_told_of_what_it_can_see_and_of_no_more() {
        let mut display = Display::new(&MODEL);
        let modes = |text| MODEL.parse_modes(text).unwrap();
        for (text, is_told) in [
            ("1920x1080", false),
            ("1920x1080,640x480", false),
            ("800x600,640x480", true),
        ] {
            display.events = 0;
            assert_eq!(display.set_modes(modes(text)), is_told, "{text}");
            assert_eq!(display.events, u32::from(is_told), "{text}");
        }
        for (heads, is_told) in [(1, false), (2, true), (2, false), (1, true)] {
            assert_eq!(display.set_heads(heads), is_told, "{heads}");
        }
    }

    #[test]
    fn a_wish_holds_until_the_operator_says_something() {
        let mut display = Display::new(&MODEL);
        assert_eq!(display.wish(&MODEL, 0, 801, 602), Ok(true));
        assert_eq!(display.wish(&MODEL, 0, 801, 602), Ok(false));
        assert_eq!(display.mode(0), Some(Mode::new(801, 602)));
        assert_eq!(display.modes(&MODEL), "1920x1080");
        assert_eq!(
            display.wish(&MODEL, 1, 801, 602),
            Err(ResizeError::NoHead(1))
        );
        for (width, height) in [(63, 64), (4096, 64), (1921, 1080), (u32::MAX, 1 << 16 | 64)] {
            assert!(display.wish(&MODEL, 0, width, height).is_err());
        }
        assert!(display.set_modes([MODEL.largest; MAX_HEADS]));
        assert_eq!(display.mode(0), Some(MODEL.largest));
    }

    #[test]
    fn what_is_saved_is_loaded_and_so_is_what_was_saved_of_one_head() {
        let mut display = Display::new(&MODEL);
        display.set_modes(MODEL.parse_modes("800x600,640x480").unwrap());
        display.set_heads(2);
        display.wish(&MODEL, 1, 333, 444).unwrap();
        let mut bytes = Vec::new();
        display.save(&mut bytes);
        let load = |bytes: &[u8]| Display::load(&MODEL, &mut Fields::of_registers(bytes));
        assert_eq!(load(&bytes).unwrap(), display);
        for len in 0..bytes.len() {
            assert!(load(&bytes[..len]).is_err(), "{len}");
        }
        for (at, byte) in [(2, 0), (2, 5), (4, 0x20), (bytes.len() - 1, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            assert!(load(&bytes).is_err(), "{at}");
        }
        let loaded = load(&[0x20, 3, 0x58, 2, 1, 0, 0, 0]).unwrap();
        let mut one = Display::new(&MODEL);
        one.set_modes([Mode::new(800, 600); MAX_HEADS]);
        assert_eq!(loaded, one);
    }
}
