//! Which vGPU the card shows, and the registers that make it do so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::host::{HostError, Seat};
use mdev::scanout::{Geometry, PixelFormat};

use super::card::Card;
use crate::bochs::mmio::{BYTE_ORDER, Index, VGA_ATTRIBUTE, dispi};
use crate::bochs::model::PIXEL_BYTES;

/// `VBE_DISPI_ENABLED`, `_LFB_ENABLED`, and `_NOCLEARMEM`: a VGA card would clear what lies first in its
/// memory, which may be another vGPU's.
const ENABLED: u16 = 0x01 | 0x40 | 0x80;

/// Of the attribute controller's index: the screen has the palette, which ends blanking.
const PALETTE_ADDRESS_SOURCE: u8 = 0x20;

/// The screen of a card.
#[derive(Debug)]
pub(super) struct Screen {
    card: Arc<dyn Card>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owner: Option<Owner>,
    /// Turns that there were.
    turns: u64,
    /// What the card was last told to show, by its own memory.
    shown: Option<Geometry>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    seat: Seat,
    turn: u64,
}

impl Screen {
    /// Blanks the screen of a card, whatever is on it.
    pub(super) fn new(card: Arc<dyn Card>) -> Result<Self, HostError> {
        card.set_register(dispi(Index::Enable), &0_u16.to_le_bytes())?;
        // Pictures are seen on a VGA card only since this; the others have no such register.
        card.set_register(VGA_ATTRIBUTE, &[PALETTE_ADDRESS_SOURCE])?;
        Ok(Self {
            card,
            state: Mutex::default(),
        })
    }

    /// Brings a vGPU to the front, whoever was there. Returns the number of its turn, which is higher
    /// than those before.
    pub(super) fn take(&self, seat: Seat, picture: Option<Geometry>) -> u64 {
        let mut state = self.state();
        state.turns += 1;
        let turn = state.turns;
        state.owner = Some(Owner { seat, turn });
        self.program(&mut state, picture);
        turn
    }

    /// Gives the screen to a vGPU that had it in another process, from that turn on, unless another one
    /// had it later.
    pub(super) fn take_again(&self, seat: Seat, turn: u64) {
        let mut state = self.state();
        state.turns = state.turns.max(turn);
        if state.owner.is_none_or(|owner| owner.turn < turn) {
            state.owner = Some(Owner { seat, turn });
            self.program(&mut state, None);
        }
    }

    /// Blanks the screen if it is this vGPU's.
    pub(super) fn give_up(&self, seat: Seat) {
        let mut state = self.state();
        if state.owner.is_some_and(|owner| owner.seat == seat) {
            state.owner = None;
            self.program(&mut state, None);
        }
    }

    /// Shows another picture of a vGPU, or none, if the screen is its own.
    pub(super) fn show(&self, seat: Seat, picture: Option<Geometry>) {
        let mut state = self.state();
        if state.owner.is_some_and(|owner| owner.seat == seat) {
            self.program(&mut state, picture);
        }
    }

    /// Whether the card shows this vGPU.
    pub(super) fn is_of(&self, seat: Seat) -> bool {
        self.state().owner.is_some_and(|owner| owner.seat == seat)
    }

    fn program(&self, state: &mut State, picture: Option<Geometry>) {
        let picture = picture.filter(|picture| self.can_show(*picture));
        if state.shown == picture {
            return;
        }
        let programmed = match (state.shown, picture) {
            (Some(shown), Some(picture)) if is_flip(shown, picture) => {
                self.set(Index::YOffset, offsets(picture).1)
            }
            _ => self.set_mode(picture),
        };
        state.shown = picture;
        if let Err(error) = programmed {
            tracing::error!("the card does not show what it is told to: {error}");
        }
    }

    /// Whether the card shows that picture, and not another vGPU's memory: its registers have 16 bits,
    /// and a VGA card whose last line goes on past its memory begins anew with the first.
    fn can_show(&self, picture: Geometry) -> bool {
        let lines = u64::from(picture.stride) * u64::from(picture.height);
        let end = picture.offset.checked_add(lines);
        offsets(picture).1 <= u16::MAX.into()
            && end.is_some_and(|end| end <= self.card.memory_len())
    }

    fn set_mode(&self, picture: Option<Geometry>) -> Result<(), HostError> {
        self.set(Index::Enable, 0)?;
        let Some(picture) = picture else {
            return Ok(());
        };
        let order: u32 = match picture.format {
            PixelFormat::Bgrx8888 => 0xbebe_bebe,
            _ => 0x1e1e_1e1e,
        };
        self.card.set_register(BYTE_ORDER, &order.to_le_bytes())?;
        let (x, y) = offsets(picture);
        let place = [
            (Index::VirtWidth, picture.stride / PIXEL_BYTES),
            (Index::XOffset, x),
            (Index::YOffset, y),
        ];
        let size = [
            (Index::Bpp, 8 * PIXEL_BYTES),
            (Index::Xres, picture.width),
            (Index::Yres, picture.height),
        ];
        for (register, value) in size.into_iter().chain(place) {
            self.set(register, value)?;
        }
        self.set(Index::Enable, ENABLED.into())?;
        // A VGA card has forgotten these: now it takes them.
        place
            .into_iter()
            .try_for_each(|(register, value)| self.set(register, value))
    }

    /// All values have 16 bits, as those have that they were made of.
    fn set(&self, register: Index, value: u32) -> Result<(), HostError> {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        self.card
            .set_register(dispi(register), &value.to_le_bytes())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.set(Index::Enable, 0);
    }
}

/// Whether one follows the other by a single register: with two, the card would show a third picture in
/// between.
fn is_flip(from: Geometry, to: Geometry) -> bool {
    let moved = Geometry {
        offset: to.offset,
        ..from
    };
    moved == to && offsets(from).0 == offsets(to).0
}

/// Where a picture begins, in pixels and lines.
fn offsets(picture: Geometry) -> (u32, u32) {
    let stride = u64::from(picture.stride).max(1);
    let x = picture.offset % stride / u64::from(PIXEL_BYTES);
    let y = picture.offset / stride;
    (x as u32, u32::try_from(y).unwrap_or(u32::MAX))
}
